/**
 * An inode of ext2/3/4, decoded from the 128 or more bytes of its slot in the inode table.
 *
 *     0         40       100            128   128 + i_extra_isize    s_inode_size
 *     | classic | i_block | classic ..   | extra fields | xattrs in the inode |
 *
 *  1. A field behind byte 128 exists when `128 + i_extra_isize` reaches its end; else it is
 *     absent, not 0. Times exist in an inode of more than 128 bytes whose `i_extra_isize` is 0
 *     too, as in Linux.
 *  2. Upper halves exist by feature: `i_blocks_high` with huge_file, `i_file_acl_high` with 64bit,
 *     `i_size_high` of what is no regular file with large_dir.
 *  3. `raw` is a copy: it stays when the buffer of the table block goes.
 *
 *  4. Fields that change are members of the object; times, i_block, xattrs and the rest change in
 *     `raw`. Whoever changes any of them has called `ExtWriter.editInode` before, in the same
 *     operation, and the members are put into `raw` at its end (`inode-write.ts`).
 *
 * After `fs/ext4/inode.c` (`__ext4_iget`).
 */

import type { AddressSpace } from "../../cache/address-space.ts";
import type { WbInode } from "../../cache/superblock.ts";
import { ByteSlab } from "../../lib/byte-slab.ts";
import { isZero, joinHiLo, le16, le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { AsyncRwLock } from "../../lib/locks.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import type { FileType, InodeAttributes, Timespec, VfsInode } from "../vfs.ts";
import { inodeChecksum, inodeSeed } from "./checksum.ts";
import type { DelallocRanges } from "./delalloc.ts";
import {
  INCOMPAT_64BIT,
  INCOMPAT_CASEFOLD,
  INCOMPAT_LARGE_DIR,
  RO_COMPAT_PROJECT,
} from "./features.ts";
import type { Handle } from "./handle.ts";
import {
  CASEFOLD_FL,
  EA_INODE_FL,
  ENCRYPT_FL,
  EXTENTS_FL,
  FLAGS_USER_VISIBLE,
  GOOD_OLD_INODE_BYTES,
  HUGE_FILE_FL,
  I_BLOCK_BYTES,
  INDEX_FL,
  INLINE_DATA_FL,
  INODE,
  JOURNAL_DATA_FL,
  PROJINHERIT_FL,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  VERITY_FL,
} from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** `s_creator_os` of a volume that Linux made. */
export const CREATOR_LINUX = 0;
const NSEC_MAX = 999_999_999;
/** Seconds of the first and the last moment that an inode can hold, with an epoch and without. */
const TIME_SEC_MIN = -0x8000_0000;
const TIME_SEC_MAX = 0x3_7fff_ffff;
const TIME_SEC_MAX_NARROW = 0x7fff_ffff;

/** Bytes behind byte 128 that hold times where `i_extra_isize` is 0. */
const UNTOLD_EXTRA_BYTES = 32;

const TYPE_OF_MODE: ReadonlyMap<number, FileType> = new Map([
  [S_IFREG, "file"],
  [S_IFDIR, "directory"],
  [S_IFLNK, "symlink"],
  [S_IFCHR, "character"],
  [S_IFBLK, "block"],
  [S_IFIFO, "fifo"],
  [S_IFSOCK, "socket"],
]);

/** The type that the upper bits of `mode` tell. */
export function fileTypeOfMode(mode: number): FileType {
  return TYPE_OF_MODE.get(mode & S_IFMT) ?? "unknown";
}

/** True if `i_size_high` belongs to the size of an inode of this type. */
export function hasHighSize(type: FileType, sb: Superblock): boolean {
  return type === "file" || sb.hasIncompat(INCOMPAT_LARGE_DIR);
}

/** Which of the four times of an inode. */
export type TimeName = "atime" | "mtime" | "ctime" | "birthtime";

const TIME_FIELDS: Readonly<Record<TimeName, readonly [low: number, extra: number]>> = {
  atime: [INODE.i_atime, INODE.i_atime_extra],
  mtime: [INODE.i_mtime, INODE.i_mtime_extra],
  ctime: [INODE.i_ctime, INODE.i_ctime_extra],
  birthtime: [INODE.i_crtime, INODE.i_crtime_extra],
};

/** See the head of the file. Made by `readInode`. */
export class ExtInode implements VfsInode {
  readonly ino: number;
  /** The stored inode, `s_inode_size` bytes. */
  readonly raw: Uint8Array;
  readonly blockBytes: number;
  readonly generation: number;
  /** The upper four bits, the type, stay as they are. */
  mode: number;
  readonly type: FileType;
  uid: number;
  gid: number;
  linksCount: number;
  /** Bytes, as everybody sees them. May be ahead of `diskSize` while data is on its way. */
  size: number;
  /** Bytes that the inode on disk has (`i_disksize`). */
  diskSize: number;
  /** Bytes of a symlink's target as users see it, where that is not `size`: encrypted targets. */
  targetBytes: number | undefined = undefined;
  /** In units of 512 bytes. */
  sectorCount: number;
  /** As stored; `attributes().flags` are those that users see. */
  flags: number;
  /** Block of extended attributes, 0 for none. */
  fileAclBlock: number;
  /** The 60 bytes of `i_block`, a view of `raw`. */
  readonly iBlock: Uint8Array;
  /** Start of the checksums of this inode's blocks. */
  readonly checksumSeed: number;
  /** Bytes of the extra fields, 0 in inodes of 128 bytes. */
  extraIsize: number;
  projectId: number;
  readonly rwsem: AsyncRwLock = new AsyncRwLock();
  /** Counts changes of the block map (`i_es_seq`): a mapping is fresh while it is the same. */
  mapSeq = 0;
  /** The file's cache, made when it is first opened. */
  mapping: AddressSpace | undefined = undefined;
  /** State of its write-back, where the mount may be written; set before `mapping`. */
  wb: WbInode | null = null;
  /** Blocks without a place that dirty folios were promised; undefined while there are none. */
  delalloc: DelallocRanges | undefined = undefined;
  /** Open files, which keep an inode without names (`i_count`, of those that matter). */
  openCount = 0;
  /** The last transaction that changed it (`i_sync_tid`), 0 for none of this mount. */
  syncTid = 0;
  /** The last one that changed what is needed to read its data (`i_datasync_tid`). */
  datasyncTid = 0;
  /** It was freed: the number may belong to another inode soon. */
  isDeleted = false;
  /** The operation that changes it now: `ExtWriter.editInode` has been called in it. */
  editedBy: Handle | undefined = undefined;
  /** The words of the time of change that `attributes` told last; -1 for none. */
  #seenLow = -1;
  #seenExtra = -1;

  constructor(ino: number, raw: Uint8Array, sb: Superblock) {
    this.ino = ino;
    this.raw = raw;
    this.blockBytes = sb.blockBytes;
    this.generation = le32(raw, INODE.i_generation);
    this.mode = le16(raw, INODE.i_mode);
    this.type = fileTypeOfMode(this.mode);
    this.uid = this.#id(INODE.i_uid, INODE.i_uid_high);
    this.gid = this.#id(INODE.i_gid, INODE.i_gid_high);
    this.linksCount = le16(raw, INODE.i_links_count);
    this.flags = le32(raw, INODE.i_flags);
    const sizeHigh = hasHighSize(this.type, sb) ? le32(raw, INODE.i_size_high) : 0;
    this.size = joinHiLo(sizeHigh, le32(raw, INODE.i_size_lo), `inode ${ino}: i_size`);
    this.diskSize = this.size;
    this.sectorCount = this.#sectors(sb);
    const aclHigh = sb.hasIncompat(INCOMPAT_64BIT) ? le16(raw, INODE.i_file_acl_high) : 0;
    this.fileAclBlock = joinHiLo(
      aclHigh,
      le32(raw, INODE.i_file_acl_lo),
      `inode ${ino}: i_file_acl`,
    );
    this.iBlock = raw.subarray(INODE.i_block, INODE.i_block + I_BLOCK_BYTES);
    this.checksumSeed = inodeSeed(sb.seed, ino, this.generation);
    this.extraIsize = raw.length > GOOD_OLD_INODE_BYTES ? le16(raw, INODE.i_extra_isize) : 0;
    this.projectId =
      sb.hasRoCompat(RO_COMPAT_PROJECT) && this.hasField(INODE.i_projid)
        ? le32(raw, INODE.i_projid)
        : 0;
  }

  #id(lo: number, hi: number): number {
    return le16(this.raw, lo) + le16(this.raw, hi) * 0x1_0000;
  }

  #sectors(sb: Superblock): number {
    const low = le32(this.raw, INODE.i_blocks_lo);
    if (!sb.hasHugeFile) return low;
    const blocks = low + le16(this.raw, INODE.i_blocks_high) * 0x1_0000_0000;
    return this.#has(HUGE_FILE_FL) ? blocks * (sb.blockBytes / SECTOR_BYTES) : blocks;
  }

  #has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  /** True if the 32-bit field at `at`, behind byte 128, exists in this inode. */
  hasField(at: number): boolean {
    return this.extraIsize > 0 && GOOD_OLD_INODE_BYTES + this.extraIsize >= at + 4;
  }

  /** Its blocks are found by an extent tree, else by indirect blocks. */
  get hasExtents(): boolean {
    return this.#has(EXTENTS_FL);
  }

  /** Its data lies in the inode. */
  get isInline(): boolean {
    return this.#has(INLINE_DATA_FL);
  }

  get isHashedDir(): boolean {
    return this.type === "directory" && this.#has(INDEX_FL);
  }

  get isEncrypted(): boolean {
    return this.#has(ENCRYPT_FL);
  }

  get isCasefolded(): boolean {
    return this.#has(CASEFOLD_FL);
  }

  get isVerity(): boolean {
    return this.#has(VERITY_FL);
  }

  /** Its data goes through the journal, by its own flag. */
  get hasJournaledData(): boolean {
    return this.#has(JOURNAL_DATA_FL);
  }

  /** It holds the value of an extended attribute and has no name. */
  get isEaInode(): boolean {
    return this.#has(EA_INODE_FL);
  }

  #hasTime(at: number): boolean {
    if (this.extraIsize > 0) return this.hasField(at);
    return this.raw.length >= GOOD_OLD_INODE_BYTES + UNTOLD_EXTRA_BYTES;
  }

  #time(at: number, extraAt: number): Timespec {
    const extra = this.#hasTime(extraAt) ? le32(this.raw, extraAt) : 0;
    return decodeTime(le32(this.raw, at), extra);
  }

  /**
   * Sets a time, cut to what the inode can hold (`EXT4_INODE_SET_XTIME`). A time of birth that it
   * has no room for is left out.
   */
  setTime(name: TimeName, time: Timespec): void {
    const [at, extraAt] = TIME_FIELDS[name];
    if (name === "birthtime" && !this.hasField(at)) return;
    const hasExtra = this.hasField(extraAt);
    const { low, extra } = encodeTime(time, hasExtra);
    putLe32(this.raw, at, low);
    if (hasExtra) putLe32(this.raw, extraAt, extra);
  }

  /** True if `setTime` would change nothing. */
  holdsTime(name: TimeName, time: Timespec): boolean {
    const [at, extraAt] = TIME_FIELDS[name];
    const hasExtra = this.hasField(extraAt);
    const { low, extra } = encodeTime(time, hasExtra);
    return le32(this.raw, at) === low && (!hasExtra || le32(this.raw, extraAt) === extra);
  }

  /** Somebody has been told its present times: a change has to show (`I_CTIME_QUERIED`). */
  get isTimeSeen(): boolean {
    return this.#seenLow === this.#ctimeLow && this.#seenExtra === this.#ctimeExtra;
  }

  get #ctimeLow(): number {
    return le32(this.raw, INODE.i_ctime);
  }

  get #ctimeExtra(): number {
    return this.hasField(INODE.i_ctime_extra) ? le32(this.raw, INODE.i_ctime_extra) : 0;
  }

  /** Time of deletion, or the next inode of the list of orphans (`i_dtime`, `NEXT_ORPHAN`). */
  get dtime(): number {
    return le32(this.raw, INODE.i_dtime);
  }

  set dtime(value: number) {
    putLe32(this.raw, INODE.i_dtime, value);
  }

  attributes(): InodeAttributes {
    this.#seenLow = this.#ctimeLow;
    this.#seenExtra = this.#ctimeExtra;
    const rdev =
      this.type === "character" || this.type === "block" ? decodeDevice(this.iBlock) : NO_DEVICE;
    const hidden = this.type === "file" ? PROJINHERIT_FL : 0;
    // As Linux does, so that tools do not take an inline file for one that is all hole.
    const inlineSectors =
      this.isInline && this.type === "file" ? Math.ceil(this.size / SECTOR_BYTES) : 0;
    return {
      ino: this.ino,
      generation: this.generation,
      mode: this.mode,
      nlink: this.linksCount,
      uid: this.uid,
      gid: this.gid,
      rdevMajor: rdev.major,
      rdevMinor: rdev.minor,
      sizeBytes: this.targetBytes ?? this.size,
      sectorCount: this.sectorCount + inlineSectors,
      blockBytes: this.blockBytes,
      atime: this.#time(INODE.i_atime, INODE.i_atime_extra),
      mtime: this.#time(INODE.i_mtime, INODE.i_mtime_extra),
      ctime: this.#time(INODE.i_ctime, INODE.i_ctime_extra),
      birthtime: this.#hasTime(INODE.i_crtime)
        ? this.#time(INODE.i_crtime, INODE.i_crtime_extra)
        : undefined,
      flags: (this.flags & FLAGS_USER_VISIBLE & ~hidden) >>> 0,
      projectId: this.projectId,
    };
  }
}

/** Inodes are copied here from their blocks, many to a buffer. */
const slab: ByteSlab = new ByteSlab();

/** A device number as `stat` splits it. */
export interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

const NO_DEVICE: DeviceNumber = { major: 0, minor: 0 };

/** The device number in `i_block`: the old form in word 0, or the new one in word 1. */
export function decodeDevice(iBlock: Uint8Array): DeviceNumber {
  const old = le32(iBlock, 0);
  if (old !== 0) return { major: (old >>> 8) & 0xff, minor: old & 0xff };
  const wide = le32(iBlock, 4);
  return { major: (wide >>> 8) & 0xfff, minor: (wide & 0xff) | ((wide >>> 12) & 0xf_ff00) };
}

/** Puts a device number into `i_block`, in the old form if it fits (`old_valid_dev`). */
export function encodeDevice(iBlock: Uint8Array, { major, minor }: DeviceNumber): void {
  const isOld = major <= 0xff && minor <= 0xff;
  const wide = (minor & 0xff) | (major << 8) | ((minor >>> 8) * 0x10_0000);
  putLe32(iBlock, 0, isOld ? (major << 8) | minor : 0);
  putLe32(iBlock, 4, isOld ? 0 : wide);
}

/**
 * Time of a signed low word and its extra word (0 where it is absent): the two lowest bits of the
 * latter are an epoch of 2^32 seconds, the others nanoseconds.
 */
export function decodeTime(low: number, extra: number): Timespec {
  const sec = (low | 0) + (extra & 3) * 0x1_0000_0000;
  return { sec, nsec: Math.min(extra >>> 2, NSEC_MAX) };
}

/**
 * Low and extra word of a time; seconds outside of what they hold become the nearest that they do,
 * without nanoseconds, as Linux does at both ends (`timestamp_truncate`).
 */
export function encodeTime(time: Timespec, hasExtra: boolean): { low: number; extra: number } {
  const secMax = hasExtra ? TIME_SEC_MAX : TIME_SEC_MAX_NARROW;
  const sec = Math.min(Math.max(time.sec, TIME_SEC_MIN), secMax);
  const isEdge = sec === TIME_SEC_MIN || sec === secMax;
  const low = sec | 0;
  const epoch = Math.round((sec - low) / 0x1_0000_0000) & 3;
  return { low: low >>> 0, extra: (((isEdge ? 0 : time.nsec) << 2) | epoch) >>> 0 };
}

function damaged(ino: number, what: string): FsError {
  return new FsError("EUCLEAN", { detail: `inode ${ino}: ${what}` });
}

/**
 * Checks `i_extra_isize`, then the checksum, of an inode that is not all zero. Linux neither writes
 * nor verifies the checksums of inodes on a volume that another system made.
 */
function checkInode(ino: number, raw: Uint8Array, sb: Superblock): void {
  let hasHigh = false;
  if (raw.length > GOOD_OLD_INODE_BYTES) {
    const extra = le16(raw, INODE.i_extra_isize);
    if (extra % 4 !== 0 || GOOD_OLD_INODE_BYTES + extra > raw.length) {
      throw damaged(ino, `i_extra_isize is ${extra} in an inode of ${raw.length} bytes`);
    }
    hasHigh = extra >= 4;
  }
  if (!sb.hasMetadataCsum || sb.creatorOs !== CREATOR_LINUX) return;
  const iseed = inodeSeed(sb.seed, ino, le32(raw, INODE.i_generation));
  const computed = inodeChecksum(iseed, raw, hasHigh);
  const low = le16(raw, INODE.i_checksum_lo);
  const stored = hasHigh ? low + le16(raw, INODE.i_checksum_hi) * 0x1_0000 : low;
  if (stored !== (hasHigh ? computed : computed & 0xffff)) {
    throw new FsError("EBADMSG", { detail: `inode ${ino}: i_checksum does not match` });
  }
}

/**
 * Decodes inode `ino` from its slot `stored` of the inode table, which is copied.
 *
 * @throws {FsError} `ESTALE` for a slot that is all zero, so never used; `EBADMSG` for a wrong
 *   checksum; `EUCLEAN` for fields that contradict each other
 */
export function readInode(ino: number, stored: Uint8Array, sb: Superblock): ExtInode {
  if (isZero(stored, 0, GOOD_OLD_INODE_BYTES)) {
    throw new FsError("ESTALE", { detail: `inode ${ino} is not in use` });
  }
  checkInode(ino, stored, sb);
  const inode = new ExtInode(ino, slab.copy(stored), sb);
  if (inode.isCasefolded && !sb.hasIncompat(INCOMPAT_CASEFOLD)) {
    throw damaged(ino, "i_flags has casefold, which the superblock does not");
  }
  if (inode.isInline && inode.hasExtents) {
    throw damaged(ino, "i_flags has both inline data and extents");
  }
  return inode;
}
