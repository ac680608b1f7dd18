/**
 * The superblock of ext2/3/4: 1024 bytes that say where everything else is, and the arithmetic that
 * follows from them. Whoever has a `Superblock` has one whose numbers were all checked.
 *
 *     device  | 1024 | super | .. group 0 .. | group 1 | ... | group n-1 |  blocks behind: not ours
 *                      ^ also, at the start of the first block of some groups, copies
 *
 *  1. `readSuperblock` verifies magic, checksum and every number that others compute with, against
 *     each other and the size of the device, before it hands the object out.
 *  2. High halves of 64-bit counts are looked at only with the `64bit` feature.
 *  3. Revision 0 has no fields from 0x54 on: all features are 0, inodes have 128 bytes.
 *
 * After `fs/ext4/super.c` (`ext4_fill_super`, `ext4_block_group_meta_init`), `fs/ext4/ext4.h`.
 */
import { isZero, joinHiLo, le16, le32, le64 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { superblockChecksum, volumeSeed } from "./checksum.ts";
import type { Features } from "./features.ts";
import {
  checkReadable,
  INCOMPAT_64BIT,
  INCOMPAT_CSUM_SEED,
  RO_COMPAT_BIGALLOC,
  RO_COMPAT_GDT_CSUM,
  RO_COMPAT_HUGE_FILE,
  RO_COMPAT_METADATA_CSUM,
} from "./features.ts";
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_BYTES_64BIT,
  GOOD_OLD_FIRST_INO,
  GOOD_OLD_INODE_BYTES,
  SB,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_MAGIC,
} from "./layout.ts";

const LOG_BLOCK_SIZE_MAX = 6; // 64 KiB
const LOG_CLUSTER_SIZE_MAX = 20; // 1 GiB
const DESCRIPTOR_BYTES_MAX = 1024;
const GROUPS_MAX = 0xffff_ffff;
const CHECKSUM_CRC32C = 1;

/** Throws `EUCLEAN` naming the field unless `isGood`. */
function require(isGood: boolean, field: string, value: number, rule: string): void {
  if (!isGood) {
    throw new FsError("EUCLEAN", { detail: `superblock: ${field} is ${value}, ${rule}` });
  }
}

/** Decoded superblock. Counts are plain numbers; 64-bit ones from 2^53 on are refused. */
export class Superblock {
  /** The 1024 bytes as stored, a copy. */
  readonly raw: Uint8Array;
  /** 0: there are no features. A writer may raise it (`superblock-write.ts`). */
  revision: number;
  /** A writer may set some (`superblock-write.ts`). */
  features: Features;
  readonly inodeCount: number;
  readonly blockCount: number;
  readonly reservedBlockCount: number;
  readonly firstDataBlock: number;
  readonly blockBytes: number;
  /** Blocks of one cluster, 1 without bigalloc. */
  readonly clusterRatio: number;
  readonly blocksPerGroup: number;
  readonly clustersPerGroup: number;
  readonly inodesPerGroup: number;
  readonly firstIno: number;
  readonly inodeBytes: number;
  /** Bytes of a group descriptor. */
  readonly descriptorBytes: number;
  readonly firstMetaBg: number;
  readonly groupCount: number;
  readonly uuid: Uint8Array;
  /** Four words, all zero for the built-in constants. */
  readonly hashSeed: Uint32Array;
  readonly hashVersion: number;
  /** 1: names are hashed as signed bytes; 2: as unsigned ones (`s_flags`). */
  readonly flags: number;
  readonly creatorOs: number;
  readonly journalIno: number;
  readonly journalDevice: number;
  readonly journalUuid: Uint8Array;
  /** Head of the list of orphans, 0 for none. A writer sets it. */
  lastOrphan: number;
  readonly orphanFileIno: number;
  readonly mmpBlock: number;
  /** Checksum of the volume that every other starts from (`s_csum_seed`). */
  readonly seed: number;

  /** Decodes without judging; throws `EUCLEAN` only for counts that cannot be numbers. */
  constructor(bytes: Uint8Array) {
    const raw = bytes.slice(0, SUPERBLOCK_BYTES);
    this.raw = raw;
    this.revision = le32(raw, SB.s_rev_level);
    const isDynamic = this.revision > 0;
    this.features = {
      compat: isDynamic ? le32(raw, SB.s_feature_compat) : 0,
      incompat: isDynamic ? le32(raw, SB.s_feature_incompat) : 0,
      roCompat: isDynamic ? le32(raw, SB.s_feature_ro_compat) : 0,
    };
    this.inodeCount = le32(raw, SB.s_inodes_count);
    this.blockCount = this.#count64(SB.s_blocks_count_lo, SB.s_blocks_count_hi, "s_blocks_count");
    this.reservedBlockCount = this.#count64(
      SB.s_r_blocks_count_lo,
      SB.s_r_blocks_count_hi,
      "s_r_blocks_count",
    );
    this.firstDataBlock = le32(raw, SB.s_first_data_block);
    const logBlock = le32(raw, SB.s_log_block_size);
    require(logBlock <= LOG_BLOCK_SIZE_MAX, "s_log_block_size", logBlock, "more than 6");
    this.blockBytes = SUPERBLOCK_BYTES * 2 ** logBlock;
    this.blocksPerGroup = le32(raw, SB.s_blocks_per_group);
    if (this.hasRoCompat(RO_COMPAT_BIGALLOC)) {
      const logCluster = le32(raw, SB.s_log_cluster_size);
      const isGood = logCluster >= logBlock && logCluster <= LOG_CLUSTER_SIZE_MAX;
      require(isGood, "s_log_cluster_size", logCluster, `not ${logBlock}..${LOG_CLUSTER_SIZE_MAX}`);
      this.clusterRatio = 2 ** (logCluster - logBlock);
      this.clustersPerGroup = le32(raw, SB.s_clusters_per_group);
    } else {
      this.clusterRatio = 1;
      this.clustersPerGroup = this.blocksPerGroup;
    }
    this.inodesPerGroup = le32(raw, SB.s_inodes_per_group);
    this.firstIno = isDynamic ? le32(raw, SB.s_first_ino) : GOOD_OLD_FIRST_INO;
    this.inodeBytes = isDynamic ? le16(raw, SB.s_inode_size) : GOOD_OLD_INODE_BYTES;
    this.descriptorBytes = this.hasIncompat(INCOMPAT_64BIT)
      ? le16(raw, SB.s_desc_size)
      : DESCRIPTOR_BYTES;
    this.firstMetaBg = le32(raw, SB.s_first_meta_bg);
    this.groupCount = Math.ceil((this.blockCount - this.firstDataBlock) / this.blocksPerGroup);
    this.uuid = raw.subarray(SB.s_uuid, SB.s_uuid + 16);
    this.hashSeed = Uint32Array.from([0, 4, 8, 12], (at) => le32(raw, SB.s_hash_seed + at));
    this.hashVersion = raw[SB.s_def_hash_version]!;
    this.flags = le32(raw, SB.s_flags);
    this.creatorOs = le32(raw, SB.s_creator_os);
    this.journalIno = le32(raw, SB.s_journal_inum);
    this.journalDevice = le32(raw, SB.s_journal_dev);
    this.journalUuid = raw.subarray(SB.s_journal_uuid, SB.s_journal_uuid + 16);
    this.lastOrphan = le32(raw, SB.s_last_orphan);
    this.orphanFileIno = le32(raw, SB.s_orphan_file_inum);
    this.mmpBlock = le64(raw, SB.s_mmp_block, "s_mmp_block");
    this.seed = this.hasIncompat(INCOMPAT_CSUM_SEED)
      ? le32(raw, SB.s_checksum_seed)
      : volumeSeed(this.uuid);
  }

  #count64(lo: number, hi: number, field: string): number {
    const high = this.hasIncompat(INCOMPAT_64BIT) ? le32(this.raw, hi) : 0;
    return joinHiLo(high, le32(this.raw, lo), `superblock: ${field}`);
  }

  hasCompat(bit: number): boolean {
    return (this.features.compat & bit) !== 0;
  }

  hasIncompat(bit: number): boolean {
    return (this.features.incompat & bit) !== 0;
  }

  hasRoCompat(bit: number): boolean {
    return (this.features.roCompat & bit) !== 0;
  }

  get hasMetadataCsum(): boolean {
    return this.hasRoCompat(RO_COMPAT_METADATA_CSUM);
  }

  /** Descriptors carry a checksum, so that their flags and `itable_unused` mean something. */
  get hasDescriptorCsum(): boolean {
    return this.hasMetadataCsum || this.hasRoCompat(RO_COMPAT_GDT_CSUM);
  }

  get hasHugeFile(): boolean {
    return this.hasRoCompat(RO_COMPAT_HUGE_FILE);
  }

  /** Descriptors that fit into one block. */
  get descriptorsPerBlock(): number {
    return Math.floor(this.blockBytes / this.descriptorBytes);
  }

  /** Blocks of one copy of the whole descriptor table. */
  get descriptorBlockCount(): number {
    return Math.ceil(this.groupCount / this.descriptorsPerBlock);
  }

  get inodesPerBlock(): number {
    return Math.floor(this.blockBytes / this.inodeBytes);
  }

  /** Blocks of one group's inode table. */
  get inodeTableBlockCount(): number {
    return Math.ceil((this.inodesPerGroup * this.inodeBytes) / this.blockBytes);
  }

  /** First block of `group`. */
  firstBlockOf(group: number): number {
    return this.firstDataBlock + group * this.blocksPerGroup;
  }

  /** Seconds since 1970 of a superblock time: unsigned, with eight more bits at `hi`. */
  time(lo: number, hi: number): number {
    return le32(this.raw, lo) + (this.revision > 0 ? this.raw[hi]! : 0) * 0x1_0000_0000;
  }

  /** Text of a NUL padded field of `lengthBytes`; bytes that are not UTF-8 become U+FFFD. */
  text(at: number, lengthBytes: number): string {
    const field = this.raw.subarray(at, at + lengthBytes);
    const end = field.indexOf(0);
    return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  }
}

/** True if `bytes` hold a superblock at their start, judged by the magic number alone. */
export function hasSuperblockMagic(bytes: Uint8Array): boolean {
  return bytes.length >= SUPERBLOCK_BYTES && le16(bytes, SB.s_magic) === SUPERBLOCK_MAGIC;
}

/** Checks what concerns blocks, clusters and groups. */
function checkGroups(sb: Superblock): void {
  const { blockBytes, blocksPerGroup, clustersPerGroup, firstDataBlock, blockCount } = sb;
  const bitsPerBlock = 8 * blockBytes;
  const isGroupGood =
    clustersPerGroup > 0 &&
    clustersPerGroup <= bitsPerBlock &&
    clustersPerGroup % 8 === 0 &&
    blocksPerGroup === clustersPerGroup * sb.clusterRatio;
  require(isGroupGood, "s_blocks_per_group", blocksPerGroup, "which no bitmap block describes");
  const isFirstGood =
    firstDataBlock < blockCount &&
    firstDataBlock <= 1 &&
    (firstDataBlock === 1
      ? blockBytes === SUPERBLOCK_BYTES
      : blockBytes > SUPERBLOCK_BYTES || sb.clusterRatio > 1);
  require(isFirstGood, "s_first_data_block", firstDataBlock, `wrong for blocks of ${blockBytes}`);
  require(sb.groupCount <= GROUPS_MAX, "s_blocks_count", blockCount, "too many groups");
}

/** Checks what concerns inodes and descriptors. */
function checkInodes(sb: Superblock): void {
  const { inodeBytes, inodesPerGroup, blockBytes, descriptorBytes } = sb;
  const isPower = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  const isInodeGood =
    isPower(inodeBytes) && inodeBytes >= GOOD_OLD_INODE_BYTES && inodeBytes <= blockBytes;
  require(isInodeGood, "s_inode_size", inodeBytes, `not a power of two in 128..${blockBytes}`);
  const isCountGood =
    inodesPerGroup >= sb.inodesPerBlock &&
    inodesPerGroup % 8 === 0 &&
    inodesPerGroup <= 8 * blockBytes;
  require(isCountGood, "s_inodes_per_group", inodesPerGroup, "which no bitmap block describes");
  const expected = inodesPerGroup * sb.groupCount;
  require(sb.inodeCount === expected, "s_inodes_count", sb.inodeCount, `not ${expected}`);
  require(sb.firstIno >= GOOD_OLD_FIRST_INO, "s_first_ino", sb.firstIno, "less than 11");
  if (sb.hasIncompat(INCOMPAT_64BIT)) {
    const isGood =
      isPower(descriptorBytes) &&
      descriptorBytes >= DESCRIPTOR_BYTES_64BIT &&
      descriptorBytes <= DESCRIPTOR_BYTES_MAX;
    require(isGood, "s_desc_size", descriptorBytes, "not a power of two in 64..1024");
  }
  const { firstMetaBg, descriptorBlockCount } = sb;
  const isMetaGood = firstMetaBg <= descriptorBlockCount;
  require(isMetaGood, "s_first_meta_bg", firstMetaBg, `of ${descriptorBlockCount} blocks`);
}

/** Called with what is wrong but can be read past; throws it, or notes it. */
export type DoubtHandler = (doubt: FsError) => void;

function throwDoubt(doubt: FsError): void {
  throw doubt;
}

/** The superblock's own checksum (`ext4_superblock_csum_verify`). */
function checkChecksum(sb: Superblock, onDoubt: DoubtHandler): void {
  if (!sb.hasMetadataCsum) return;
  const type = sb.raw[SB.s_checksum_type]!;
  require(type === CHECKSUM_CRC32C, "s_checksum_type", type, "not 1 (crc32c)");
  if (superblockChecksum(sb.raw) === le32(sb.raw, SB.s_checksum)) return;
  onDoubt(new FsError("EBADMSG", { detail: "superblock: s_checksum does not match" }));
}

function checkDeviceEnd(sb: Superblock, deviceBytes: number, onDoubt: DoubtHandler): void {
  const deviceBlocks = Math.floor(deviceBytes / sb.blockBytes);
  if (sb.blockCount <= deviceBlocks) return;
  const what = `s_blocks_count is ${sb.blockCount}, but the device ends after ${deviceBlocks}`;
  onDoubt(new FsError("EUCLEAN", { detail: `superblock: ${what}` }));
}

/**
 * Decodes and checks the superblock at the start of `bytes`, for a device of `deviceBytes`. A wrong
 * checksum and a device that ends too early go to `onDoubt`, which throws them if it is left out.
 *
 * @throws {FsError} `EUCLEAN` for a number that cannot be, naming the field, `EBADMSG` for a wrong
 *   checksum, `EINVAL` if there is no superblock at all, `EOPNOTSUPP` for features that quire
 *   cannot read. Those come before the numbers, which may mean something else then.
 */
export function readSuperblock(
  bytes: Uint8Array,
  deviceBytes: number,
  onDoubt: DoubtHandler = throwDoubt,
): Superblock {
  if (!hasSuperblockMagic(bytes)) {
    const what = isZero(bytes) ? "it is empty" : "its magic number is wrong";
    throw new FsError("EINVAL", { detail: `no ext2/3/4 superblock here: ${what}` });
  }
  const sb = new Superblock(bytes);
  checkChecksum(sb, onDoubt);
  checkReadable(sb.features);
  checkGroups(sb);
  checkInodes(sb);
  checkDeviceEnd(sb, deviceBytes, onDoubt);
  return sb;
}
