/**
 * Group descriptors: where the bitmaps and the inode table of each group are, and how much is free.
 *
 *     group g --> descriptor block g / dpb --> descriptor g % dpb --> bitmaps, inode table
 *
 *  1. Descriptors are read when they are asked for; nothing is allocated by the number of groups.
 *  2. A descriptor is handed out only after its checksum (`EBADMSG`) and its inode table were
 *     checked.
 *  3. Flags and `itableUnused` are 0 unless a checksum says that they are good, and in a copy of
 *     the table: copies are written by tools only, so what they call unused may be in use by now.
 *
 * After `fs/ext4/super.c` (`descriptor_loc`, `ext4_check_descriptors`,
 * `ext4_group_desc_csum_verify`).
 */
import { le16, le32, putLe16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { descriptorChecksum, descriptorCrc16 } from "./checksum.ts";
import { COMPAT_SPARSE_SUPER2, INCOMPAT_META_BG, RO_COMPAT_SPARSE_SUPER } from "./features.ts";
import { DESCRIPTOR_BYTES, GD, SB, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import type { Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** One group's descriptor, decoded. Block numbers are absolute. */
export interface GroupDescriptor {
  readonly group: number;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  /** In clusters. */
  readonly freeClusterCount: number;
  readonly freeInodeCount: number;
  readonly usedDirCount: number;
  /** `BG_INODE_UNINIT` .. */
  readonly flags: number;
  /** Inodes at the end of the table that were never used. */
  readonly itableUnused: number;
  /** As stored: 32 bits, or the low 16 of them in a short descriptor. */
  readonly blockBitmapCsum: number;
  readonly inodeBitmapCsum: number;
}

/** True if a descriptor has room for the upper halves of the checksums of bitmaps. */
export function hasWideBitmapCsum(sb: Superblock): boolean {
  return sb.descriptorBytes >= GD.bg_inode_bitmap_csum_hi + 2;
}

/** Where descriptors come from: the table on disk, or a writer's memory. */
export interface DescriptorSource {
  /** The descriptor of `group`, which exists. Restartable; throws as `GroupTable.descriptor`. */
  descriptor(group: number): GroupDescriptor;
}

/** True if `base` to some power from 1 on is `value`. */
function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** True if `group` holds a copy of the superblock (`ext4_bg_has_super`). */
export function hasSuperblockCopy(sb: Superblock, group: number): boolean {
  if (group === 0) return true;
  if (sb.hasCompat(COMPAT_SPARSE_SUPER2)) {
    return group === le32(sb.raw, SB.s_backup_bgs) || group === le32(sb.raw, SB.s_backup_bgs + 4);
  }
  if (!sb.hasRoCompat(RO_COMPAT_SPARSE_SUPER)) return true;
  if (group === 1) return true;
  return isPowerOf(group, 3) || isPowerOf(group, 5) || isPowerOf(group, 7);
}

/** Blocks of descriptors in `group` (`ext4_bg_num_gdb`). */
export function descriptorBlocksIn(sb: Superblock, group: number): number {
  const perBlock = sb.descriptorsPerBlock;
  const hasMetaBg = sb.hasIncompat(INCOMPAT_META_BG);
  if (hasMetaBg && group >= sb.firstMetaBg * perBlock) {
    // The first, the second and the last of each meta group hold its one block of descriptors.
    const index = group % perBlock;
    return index <= 1 || index === perBlock - 1 ? 1 : 0;
  }
  if (!hasSuperblockCopy(sb, group)) return 0;
  return hasMetaBg ? sb.firstMetaBg : sb.descriptorBlockCount;
}

/**
 * Blocks at the start of `group` that the copies of superblock and descriptors take, with those
 * reserved for more descriptors (`ext4_num_base_meta_clusters`).
 */
export function copyBlocksIn(sb: Superblock, group: number): number {
  const hasCopy = hasSuperblockCopy(sb, group);
  const isMeta =
    sb.hasIncompat(INCOMPAT_META_BG) && group >= sb.firstMetaBg * sb.descriptorsPerBlock;
  const reserved = hasCopy && !isMeta ? le16(sb.raw, SB.s_reserved_gdt_blocks) : 0;
  return (hasCopy ? 1 : 0) + descriptorBlocksIn(sb, group) + reserved;
}

/** The block with the superblock that is in use, 0 or 1 for the primary one. */
export function primarySuperblockBlock(sb: Superblock): number {
  return Math.floor(SUPERBLOCK_OFFSET_BYTES / sb.blockBytes);
}

/** Decodes descriptors on demand. See the head of the file. */
export class GroupTable implements DescriptorSource {
  readonly #sb: Superblock;
  readonly #metadata: Metadata;
  readonly #superblockBlock: number;
  readonly #isSalvage: boolean;

  /**
   * `superblockBlock` is the block of the copy in use: its table of descriptors is the one that
   * is read.
   */
  constructor(sb: Superblock, metadata: Metadata, superblockBlock: number, isSalvage: boolean) {
    this.#sb = sb;
    this.#metadata = metadata;
    this.#superblockBlock = superblockBlock;
    this.#isSalvage = isSalvage;
  }

  /** The block that holds descriptor block `index` of the table (`descriptor_loc`). */
  descriptorBlock(index: number): number {
    const sb = this.#sb;
    if (this.#isInTable(index)) return this.#superblockBlock + 1 + index;
    const group = index * sb.descriptorsPerBlock;
    const first = sb.firstBlockOf(group) + (hasSuperblockCopy(sb, group) ? 1 : 0);
    // With blocks of 1 KiB in clusters group 0 begins at block 0, and its superblock is block 1.
    const isShifted = group === 0 && sb.firstDataBlock === 0 && primarySuperblockBlock(sb) === 1;
    return isShifted ? first + 1 : first;
  }

  /**
   * The descriptor of `group`, which exists. Restartable.
   *
   * @throws {FsError} `EBADMSG` for a wrong checksum, `EUCLEAN` for an inode table outside the
   * file system
   */
  descriptor(group: number): GroupDescriptor {
    const sb = this.#sb;
    const perBlock = sb.descriptorsPerBlock;
    const index = Math.floor(group / perBlock);
    const block = this.#descriptorData(index);
    const at = (group % perBlock) * sb.descriptorBytes;
    const raw = block.subarray(at, at + sb.descriptorBytes);
    const isGood = this.#isChecksumGood(group, raw);
    if (!isGood && !this.#isSalvage) {
      throw new FsError("EBADMSG", {
        detail: `descriptor of group ${group}: bg_checksum does not match`,
      });
    }
    return this.#decode(group, raw, isGood && sb.hasDescriptorCsum && !this.#isOldCopy(index));
  }

  #isInTable(index: number): boolean {
    return !this.#sb.hasIncompat(INCOMPAT_META_BG) || index < this.#sb.firstMetaBg;
  }

  /** True if descriptor block `index` is read from a copy, since the superblock is one. */
  #isOldCopy(index: number): boolean {
    return this.#isInTable(index) && this.#superblockBlock !== primarySuperblockBlock(this.#sb);
  }

  /**
   * Descriptor block `index`; on a miss those behind it come along, as far as they lie in one
   * piece.
   */
  #descriptorData(index: number): Uint8Array {
    const sb = this.#sb;
    const blocknr = this.descriptorBlock(index);
    if (!this.#isInTable(index)) return this.#metadata.block(blocknr);
    const end = sb.hasIncompat(INCOMPAT_META_BG) ? sb.firstMetaBg : sb.descriptorBlockCount;
    const window = MIB / sb.blockBytes;
    const from = index - (index % window);
    const count = Math.min(window, end - from);
    return this.#metadata.blockWithin(blocknr, this.descriptorBlock(from), count);
  }

  #isChecksumGood(group: number, raw: Uint8Array): boolean {
    const sb = this.#sb;
    if (!sb.hasDescriptorCsum) return true;
    return descriptorSum(sb, group, raw) === le16(raw, GD.bg_checksum);
  }

  #decode(group: number, raw: Uint8Array, hasFlags: boolean): GroupDescriptor {
    const sb = this.#sb;
    const isWide = raw.length > DESCRIPTOR_BYTES;
    const wide32 = (lo: number, hi: number): number =>
      le32(raw, lo) + (isWide ? le32(raw, hi) * 0x1_0000_0000 : 0);
    const wide16 = (lo: number, hi: number): number =>
      le16(raw, lo) + (isWide ? le16(raw, hi) * 0x1_0000 : 0);
    const inodeTable = wide32(GD.bg_inode_table_lo, GD.bg_inode_table_hi);
    if (inodeTable <= sb.firstDataBlock || inodeTable + sb.inodeTableBlockCount > sb.blockCount) {
      throw new FsError("EUCLEAN", {
        detail: `descriptor of group ${group}: bg_inode_table is block ${inodeTable}, outside`,
      });
    }
    const itableUnused = hasFlags ? wide16(GD.bg_itable_unused_lo, GD.bg_itable_unused_hi) : 0;
    if (itableUnused > sb.inodesPerGroup) {
      throw new FsError("EUCLEAN", {
        detail: `descriptor of group ${group}: bg_itable_unused is ${itableUnused}`,
      });
    }
    return {
      group,
      blockBitmap: wide32(GD.bg_block_bitmap_lo, GD.bg_block_bitmap_hi),
      inodeBitmap: wide32(GD.bg_inode_bitmap_lo, GD.bg_inode_bitmap_hi),
      inodeTable,
      freeClusterCount: wide16(GD.bg_free_blocks_count_lo, GD.bg_free_blocks_count_hi),
      freeInodeCount: wide16(GD.bg_free_inodes_count_lo, GD.bg_free_inodes_count_hi),
      usedDirCount: wide16(GD.bg_used_dirs_count_lo, GD.bg_used_dirs_count_hi),
      flags: hasFlags ? le16(raw, GD.bg_flags) : 0,
      itableUnused,
      blockBitmapCsum: wide16(GD.bg_block_bitmap_csum_lo, GD.bg_block_bitmap_csum_hi),
      inodeBitmapCsum: wide16(GD.bg_inode_bitmap_csum_lo, GD.bg_inode_bitmap_csum_hi),
    };
  }
}

/** Checksum of a descriptor by the feature that the volume has (`ext4_group_desc_csum`). */
function descriptorSum(sb: Superblock, group: number, raw: Uint8Array): number {
  return sb.hasMetadataCsum
    ? descriptorChecksum(sb.seed, group, raw)
    : descriptorCrc16(sb.uuid, group, raw);
}

/**
 * Puts what changes of a descriptor, and its checksum, into `raw`, its bytes in the table
 * (`ext4_group_desc_csum_set`). Fields that the volume's features do not have stay as they are.
 */
export function encodeDescriptor(sb: Superblock, row: GroupDescriptor, raw: Uint8Array): void {
  const isWide = raw.length > DESCRIPTOR_BYTES;
  const put = (lo: number, hi: number, value: number): void => {
    putLe16(raw, lo, value);
    if (isWide) putLe16(raw, hi, value >>> 16);
  };
  put(GD.bg_free_blocks_count_lo, GD.bg_free_blocks_count_hi, row.freeClusterCount);
  put(GD.bg_free_inodes_count_lo, GD.bg_free_inodes_count_hi, row.freeInodeCount);
  put(GD.bg_used_dirs_count_lo, GD.bg_used_dirs_count_hi, row.usedDirCount);
  if (!sb.hasDescriptorCsum) return;
  putLe16(raw, GD.bg_flags, row.flags);
  put(GD.bg_itable_unused_lo, GD.bg_itable_unused_hi, row.itableUnused);
  if (sb.hasMetadataCsum) {
    put(GD.bg_block_bitmap_csum_lo, GD.bg_block_bitmap_csum_hi, row.blockBitmapCsum);
    put(GD.bg_inode_bitmap_csum_lo, GD.bg_inode_bitmap_csum_hi, row.inodeBitmapCsum);
  }
  putLe16(raw, GD.bg_checksum, descriptorSum(sb, row.group, raw));
}
