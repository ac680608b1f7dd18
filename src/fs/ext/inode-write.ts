/**
 * Encoding inodes: from the members of an `ExtInode` into its 128 or more bytes, and those into the
 * inode table.
 *
 *     editInode --> copy of the inode, for undo
 *     ..            members and `raw` are changed
 *     end       --> members into `raw`, checksum, `raw` into its slot of the table block
 *
 *  1. The slot of the table is written by nobody else.
 *  2. A block of the table in which no inode is in use is made anew and not read: what an
 *     uninitialised table holds never comes into an inode.
 *
 * After `fs/ext4/inode.c` (`ext4_do_update_inode`, `ext4_fill_raw_inode`).
 */
import { le16, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import { inodeChecksum } from "./checksum.ts";
import {
  INCOMPAT_64BIT,
  RO_COMPAT_EXTRA_ISIZE,
  RO_COMPAT_LARGE_FILE,
  RO_COMPAT_PROJECT,
} from "./features.ts";
import type { Handle } from "./handle.ts";
import { CREATOR_LINUX, type ExtInode, hasHighSize } from "./inode.ts";
import { GOOD_OLD_INODE_BYTES, HUGE_FILE_FL, INODE, SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";
import type { ExtWriter } from "./writer.ts";

/** The longest file without the feature large_file. */
const SMALL_FILE_BYTES_MAX = 0x7fff_ffff;
/** Members of an inode that are kept as numbers. */
const KEPT_NUMBERS = 13;
/** Bytes of the extra fields that Linux knows, which it takes where an inode has none. */
const EXTRA_ISIZE = 32;

/** Puts `sectorCount` into the inode, in whichever unit it fits (`ext4_inode_blocks_set`). */
function encodeSectors(inode: ExtInode, sb: Superblock): void {
  const { raw, sectorCount } = inode;
  let stored = sectorCount;
  inode.flags = (inode.flags & ~HUGE_FILE_FL) >>> 0;
  if (sectorCount > 0xffff_ffff) {
    if (!sb.hasHugeFile) {
      throw new FsError("EFBIG", { detail: `inode ${inode.ino}: i_blocks is ${sectorCount}` });
    }
    if (sectorCount > 0xffff_ffff_ffff) {
      inode.flags = (inode.flags | HUGE_FILE_FL) >>> 0;
      stored = sectorCount / (sb.blockBytes / SECTOR_BYTES);
    }
  }
  putLe32(raw, INODE.i_blocks_lo, stored % 0x1_0000_0000);
  if (sb.hasHugeFile) putLe16(raw, INODE.i_blocks_high, Math.floor(stored / 0x1_0000_0000));
}

/** Puts the members of `inode` and the checksum into `inode.raw`. */
export function encodeInode(inode: ExtInode, sb: Superblock): void {
  const { raw } = inode;
  encodeSectors(inode, sb);
  putLe16(raw, INODE.i_mode, inode.mode);
  putLe16(raw, INODE.i_uid, inode.uid);
  putLe16(raw, INODE.i_uid_high, inode.uid >>> 16);
  putLe16(raw, INODE.i_gid, inode.gid);
  putLe16(raw, INODE.i_gid_high, inode.gid >>> 16);
  putLe16(raw, INODE.i_links_count, inode.linksCount);
  putLe32(raw, INODE.i_flags, inode.flags);
  putLe32(raw, INODE.i_size_lo, inode.diskSize % 0x1_0000_0000);
  if (hasHighSize(inode.type, sb)) {
    putLe32(raw, INODE.i_size_high, Math.floor(inode.diskSize / 0x1_0000_0000));
  }
  putLe32(raw, INODE.i_file_acl_lo, inode.fileAclBlock % 0x1_0000_0000);
  if (sb.hasIncompat(INCOMPAT_64BIT)) {
    putLe16(raw, INODE.i_file_acl_high, Math.floor(inode.fileAclBlock / 0x1_0000_0000));
  }
  if (sb.hasRoCompat(RO_COMPAT_PROJECT) && inode.hasField(INODE.i_projid)) {
    putLe32(raw, INODE.i_projid, inode.projectId);
  }
  if (!sb.hasMetadataCsum || sb.creatorOs !== CREATOR_LINUX) return;
  const hasHigh = inode.extraIsize >= 4;
  const sum = inodeChecksum(inode.checksumSeed, raw, hasHigh);
  putLe16(raw, INODE.i_checksum_lo, sum);
  if (hasHigh) putLe16(raw, INODE.i_checksum_hi, sum >>> 16);
}

/**
 * An inode that was made when there were no extra fields gets them, as in Linux. What lies behind
 * them could look like attributes, and goes.
 */
function claimExtraFields(inode: ExtInode): void {
  const { raw } = inode;
  if (inode.extraIsize !== 0 || raw.length < GOOD_OLD_INODE_BYTES + EXTRA_ISIZE) return;
  raw.fill(0, GOOD_OLD_INODE_BYTES + EXTRA_ISIZE);
  putLe16(raw, INODE.i_extra_isize, EXTRA_ISIZE);
  inode.extraIsize = EXTRA_ISIZE;
}

/** What an inode was before an operation changed it. Used again and again: they are many. */
class KeptInode {
  readonly #raw: Uint8Array;
  readonly #numbers: Float64Array = new Float64Array(KEPT_NUMBERS);
  #isDeleted = false;
  #targetBytes: number | undefined = undefined;

  constructor(inodeBytes: number) {
    this.#raw = new Uint8Array(inodeBytes);
  }

  save(inode: ExtInode): void {
    const numbers = this.#numbers;
    this.#raw.set(inode.raw);
    numbers[0] = inode.mode;
    numbers[1] = inode.uid;
    numbers[2] = inode.gid;
    numbers[3] = inode.linksCount;
    numbers[4] = inode.size;
    numbers[5] = inode.diskSize;
    numbers[6] = inode.sectorCount;
    numbers[7] = inode.flags;
    numbers[8] = inode.fileAclBlock;
    numbers[9] = inode.extraIsize;
    numbers[10] = inode.projectId;
    numbers[11] = inode.syncTid;
    numbers[12] = inode.datasyncTid;
    this.#isDeleted = inode.isDeleted;
    this.#targetBytes = inode.targetBytes;
  }

  restore(inode: ExtInode): void {
    const numbers = this.#numbers;
    inode.raw.set(this.#raw);
    inode.mode = numbers[0]!;
    inode.uid = numbers[1]!;
    inode.gid = numbers[2]!;
    inode.linksCount = numbers[3]!;
    inode.size = numbers[4]!;
    inode.diskSize = numbers[5]!;
    inode.sectorCount = numbers[6]!;
    inode.flags = numbers[7]!;
    inode.fileAclBlock = numbers[8]!;
    inode.extraIsize = numbers[9]!;
    inode.projectId = numbers[10]!;
    inode.syncTid = numbers[11]!;
    inode.datasyncTid = numbers[12]!;
    inode.isDeleted = this.#isDeleted;
    inode.targetBytes = this.#targetBytes;
    inode.mapSeq++;
  }
}

/** The edits of inodes by operations. One for each writer. */
export class InodeEdits {
  readonly #ctx: ExtWriter;
  readonly #kept: KeptInode[] = [];
  /** How many of those the attempt `#serial` has in use. */
  #usedCount = 0;
  #serial = -1;

  constructor(ctx: ExtWriter) {
    this.#ctx = ctx;
  }

  #nextKept(serial: number): KeptInode {
    if (serial !== this.#serial) {
      this.#serial = serial;
      this.#usedCount = 0;
    }
    const at = this.#usedCount++;
    this.#kept[at] ??= new KeptInode(this.#ctx.sb.inodeBytes);
    return this.#kept[at];
  }

  /** See `ExtWriter.editInode`. */
  begin(handle: Handle, inode: ExtInode): void {
    if (inode.editedBy === handle) return;
    // Whoever has found it before it went: its slot of the table may be another inode's.
    if (inode.isDeleted) throw new FsError("ENOENT", { detail: `inode ${inode.ino} was removed` });
    const kept = this.#nextKept(handle.serial);
    kept.save(inode);
    handle.undo(() => {
      kept.restore(inode);
      inode.editedBy = undefined;
    });
    claimExtraFields(inode);
    inode.editedBy = handle;
    inode.syncTid = handle.tid;
    handle.atEnd(() => {
      inode.editedBy = undefined;
      storeInode(this.#ctx, handle, inode);
    });
  }
}

/** Encodes `inode` and puts it into its slot of the inode table. Restartable. */
function storeInode(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  const { sb } = ctx;
  if (inode.type === "file" && inode.diskSize > SMALL_FILE_BYTES_MAX) {
    ctx.superblock.setFeature(handle, "roCompat", RO_COMPAT_LARGE_FILE);
  }
  encodeInode(inode, sb);
  const block = handle.write(inodeBlockOf(ctx, inode.ino));
  block.set(inode.raw, (((inode.ino - 1) % sb.inodesPerGroup) % sb.inodesPerBlock) * sb.inodeBytes);
}

/** Number of the table block of inode `ino`. */
export function inodeBlockOf(ctx: ExtWriter, ino: number): number {
  const { sb, groups } = ctx;
  const group = Math.floor((ino - 1) / sb.inodesPerGroup);
  const index = Math.floor(((ino - 1) % sb.inodesPerGroup) / sb.inodesPerBlock);
  return groups.descriptor(group).inodeTable + index;
}

/** `i_extra_isize` of new inodes (`s_want_extra_isize`). */
export function wantedExtraIsize(sb: Superblock): number {
  if (sb.inodeBytes < GOOD_OLD_INODE_BYTES + EXTRA_ISIZE) return 0;
  if (!sb.hasRoCompat(RO_COMPAT_EXTRA_ISIZE)) return EXTRA_ISIZE;
  const wanted = Math.max(le16(sb.raw, SB.s_want_extra_isize), le16(sb.raw, SB.s_min_extra_isize));
  const fits = wanted % 4 === 0 && GOOD_OLD_INODE_BYTES + wanted <= sb.inodeBytes;
  return fits ? Math.max(wanted, EXTRA_ISIZE) : EXTRA_ISIZE;
}
