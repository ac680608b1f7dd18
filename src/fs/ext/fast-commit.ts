/**
 * FastCommitOverlay: what an image looks like after its fast commits were replayed, as a layer of
 * answers over the home structures. Nothing is written and no block is made.
 *
 *     records --> inode slots        INODE, and link counts of CREAT, LINK, UNLINK
 *             --> ExtentPatch        ADD_RANGE, DEL_RANGE
 *             --> DirectoryPatch     CREAT, LINK, UNLINK
 *
 * The kernel replays into bitmaps, extent trees and directory blocks. A reader needs none of these:
 * it asks where a block of a file lies, what an inode says, what a name leads to. So the overlay
 * costs memory for the records only, and cannot run out of space.
 *
 *  1. Records are applied in order; a later one covers an earlier one.
 *  2. An inode that CREAT names began its life in these records: what lies in its slot and map at
 *     home belongs to an earlier file.
 *  3. Inode slots that are handed out carry a right checksum.
 *  4. Where the kernel's replay and the state before the crash differ, the kernel's is shown: a
 *     directory that it makes has link count 1 ("too many to count") and `i_blocks` 0, its parent's
 *     count stays, and `i_blocks` of others leaves out the block of attributes. e2fsck puts these
 *     right.
 *
 * After `ext4_fc_replay` in `fs/ext4/fast_commit.c` of Linux. Left out: bitmaps and free counts,
 * which stay those of the last full commit; times of directories, which the kernel sets to the time
 * of its recovery.
 */
import { le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import type { FileType } from "../vfs.ts";
import { inodeChecksum, inodeSeed } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { DirectoryPatch } from "./fast-commit-directory.ts";
import {
  type FastCommitRecord,
  FC_ADD_RANGE,
  FC_CREAT,
  FC_DEL_RANGE,
  FC_INODE,
  FC_UNLINK,
  type NameRecord,
} from "./fast-commit-format.ts";
import { ExtentPatch } from "./fast-commit-map.ts";
import { type FastCommits, scanFastCommits } from "./fast-commit-scan.ts";
import { fileTypeOfMode } from "./inode.ts";
import type { JournalSuperblock } from "./jbd2-superblock.ts";
import type { JournalLog } from "./journal-log.ts";
import {
  EH,
  EXTENT_MAGIC,
  EXTENTS_FL,
  GOOD_OLD_INODE_BYTES,
  HUGE_FILE_FL,
  I_BLOCK_BYTES,
  INLINE_DATA_FL,
  INODE,
  S_IFDIR,
  S_IFMT,
} from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** File blocks are 32-bit numbers. */
const FILE_BLOCKS_END = 0x1_0000_0000;
/** Entries of an extent root. */
const ROOT_ENTRIES = 4;
/** Extra fields that reach over the upper half of the checksum. */
const EXTRA_BYTES_WITH_CHECKSUM = 4;
const DOT = 0x2e;
const SLASH = 0x2f;

/** What is known of one inode. */
interface InodePatch {
  /** Value of its last INODE record. */
  raw: Uint8Array | undefined;
  /** Link count that a CREAT set since; undefined: that of `raw`, or of home. */
  linksSet: number | undefined;
  /** Names that came and went since. */
  linksDelta: number;
  /** Its life began in the records. */
  isNew: boolean;
  /** CREAT made it, and it is a directory with blocks. */
  isNewDirectory: boolean;
}

/** What became of an inode, for who writes it. */
export interface InodeFate {
  /** Its life began in the records: what lies under its number at home is another's. */
  readonly isNew: boolean;
  /** It was made, as a directory with blocks. */
  readonly isNewDirectory: boolean;
  /** There is a record of the inode itself. */
  readonly hasRecord: boolean;
  /** Names went that no later record has counted. */
  readonly hasLostName: boolean;
}

function freshPatch(isNew: boolean): InodePatch {
  return { raw: undefined, linksSet: undefined, linksDelta: 0, isNew, isNewDirectory: false };
}

/** See the head of the file. Made by `readFastCommits`. */
export class FastCommitOverlay {
  readonly commitCount: number;
  readonly recordCount: number;
  readonly #sb: Superblock;
  readonly #inodes = new Map<number, InodePatch>();
  readonly #maps = new Map<number, ExtentPatch>();
  readonly #directories = new Map<number, DirectoryPatch>();

  /** @throws {FsError} `EUCLEAN` for a run outside the file system */
  constructor(sb: Superblock, { records, commitCount }: FastCommits) {
    this.#sb = sb;
    this.commitCount = commitCount;
    this.recordCount = records.length;
    const births = birthsOf(records);
    for (const [index, record] of records.entries()) {
      for (const ino of births.get(index) ?? []) this.#begin(ino);
      this.#apply(record);
    }
  }

  /** Inodes that records are about: changed ones, and those whose names came or went. */
  get inos(): readonly number[] {
    return [...this.#inodes.keys()].sort((a, b) => a - b);
  }

  /** Directories in which names came or went, and those that were made. */
  get directories(): ReadonlyMap<number, DirectoryPatch> {
    return this.#directories;
  }

  /** How the life of inode `ino` has gone on. */
  fateOf(ino: number): InodeFate {
    const patch = this.#inodes.get(ino) ?? freshPatch(false);
    return {
      isNew: patch.isNew,
      isNewDirectory: patch.isNewDirectory,
      hasRecord: patch.raw !== undefined,
      hasLostName: patch.linksDelta < 0,
    };
  }

  /** The changes of the map of inode `ino`, undefined if there are none. */
  mapOf(ino: number): ExtentPatch | undefined {
    return this.#maps.get(ino);
  }

  /** The changes of directory `ino`, undefined if there are none. */
  directoryOf(ino: number): DirectoryPatch | undefined {
    return this.#directories.get(ino);
  }

  /**
   * The slot of inode `ino`: what `home` gives, patched in a copy. A slot that home says was never
   * used (`ESTALE`) counts as zeros, since the bitmaps and descriptors do not know of the inode
   * yet.
   */
  inodeSlot(ino: number, home: () => Uint8Array): Uint8Array {
    const patch = this.#inodes.get(ino);
    if (patch === undefined) return home();
    let slot: Uint8Array;
    try {
      slot = home().slice();
    } catch (thrown) {
      if (!hasErrnoCode(thrown) || thrown.code !== "ESTALE") throw thrown;
      slot = new Uint8Array(this.#sb.inodeBytes);
    }
    if (patch.raw !== undefined) overlayRaw(slot, patch.raw, patch.isNew);
    if (patch.raw !== undefined) recountBlocks(slot, patch.isNewDirectory, this.#sb.blockBytes);
    const links = patch.linksSet ?? le16(slot, INODE.i_links_count);
    putLe16(slot, INODE.i_links_count, Math.max(0, links + patch.linksDelta));
    if (this.#sb.hasMetadataCsum) putInodeChecksum(slot, ino, this.#sb.seed);
    return slot;
  }

  #inode(ino: number): InodePatch {
    let patch = this.#inodes.get(ino);
    if (patch === undefined) {
      patch = freshPatch(false);
      this.#inodes.set(ino, patch);
    }
    return patch;
  }

  #map(ino: number): ExtentPatch {
    let patch = this.#maps.get(ino);
    if (patch === undefined) {
      patch = new ExtentPatch();
      this.#maps.set(ino, patch);
    }
    return patch;
  }

  #directory(ino: number): DirectoryPatch {
    let patch = this.#directories.get(ino);
    if (patch === undefined) {
      patch = new DirectoryPatch(ino, (child) => this.#typeOf(child));
      this.#directories.set(ino, patch);
    }
    return patch;
  }

  #typeOf(ino: number): FileType {
    const raw = this.#inodes.get(ino)?.raw;
    return raw === undefined ? "unknown" : fileTypeOfMode(le16(raw, INODE.i_mode));
  }

  /** A new file under an old number: nothing of home is its own. */
  #begin(ino: number): void {
    this.#inodes.set(ino, freshPatch(true));
    this.#directories.delete(ino);
    this.#map(ino).set(0, FILE_BLOCKS_END, 0);
  }

  #apply(record: FastCommitRecord): void {
    switch (record.tag) {
      case FC_INODE: {
        const patch = this.#inode(record.ino);
        patch.raw = record.raw;
        patch.linksSet = undefined;
        patch.linksDelta = 0;
        return;
      }
      case FC_ADD_RANGE: {
        const { ino, fileBlock, count, physical, isUnwritten } = record;
        const isInside =
          count > 0 &&
          physical > this.#sb.firstDataBlock &&
          physical + count <= this.#sb.blockCount;
        if (!isInside) {
          const run = `blocks ${physical}..${physical + count - 1} are outside`;
          throw new FsError("EUCLEAN", { detail: `fast commit of inode ${ino}: ${run}` });
        }
        this.#map(ino).set(fileBlock, count, physical, isUnwritten);
        return;
      }
      case FC_DEL_RANGE:
        this.#map(record.ino).set(record.fileBlock, record.count, 0);
        return;
      default:
        this.#applyName(record);
    }
  }

  #applyName({ tag, parent, ino, name }: NameRecord): void {
    checkName(name, parent);
    const directory = this.#directory(parent);
    const inode = this.#inode(ino);
    if (tag === FC_UNLINK) {
      // A rename may already have given the name to another file: then it stays.
      const known = directory.peek(name);
      if (known === undefined || known === ino) directory.remove(name);
      inode.linksDelta--;
    } else if (tag === FC_CREAT) {
      directory.add(name, ino);
      const mode = inode.raw === undefined ? 0 : le16(inode.raw, INODE.i_mode);
      const isDirectory = (mode & S_IFMT) === S_IFDIR;
      inode.linksSet = 1;
      inode.linksDelta = 0;
      inode.isNewDirectory = isDirectory && !isInline(inode.raw);
      if (inode.isNewDirectory) this.#directory(ino).begin(parent);
    } else if (directory.peek(name) !== ino) {
      directory.add(name, ino);
      inode.linksDelta++;
    }
  }
}

/**
 * Throws `EUCLEAN` for what no directory can hold; names of encrypted ones are never in records.
 */
function checkName(name: Uint8Array, parent: number): void {
  const isDots = name.length <= 2 && name.every((byte) => byte === DOT);
  if (!isDots && !name.includes(0) && !name.includes(SLASH)) return;
  const detail = `fast commit: a name in directory ${parent} is made of dots, or has NUL or a slash`;
  throw new FsError("EUCLEAN", { detail });
}

function isInline(raw: Uint8Array | undefined): boolean {
  return raw !== undefined && (le32(raw, INODE.i_flags) & INLINE_DATA_FL) !== 0;
}

/**
 * Where in `records` the inodes that CREAT names begin their lives: behind the last UNLINK of an
 * earlier file with that number, or at the start. The inode's own records may stand before its
 * CREAT.
 */
function birthsOf(records: readonly FastCommitRecord[]): Map<number, number[]> {
  const births = new Map<number, number[]>();
  const freeSince = new Map<number, number>();
  for (const [index, record] of records.entries()) {
    if (record.tag === FC_UNLINK) freeSince.set(record.ino, index + 1);
    if (record.tag !== FC_CREAT) continue;
    const at = freeSince.get(record.ino) ?? 0;
    const born = births.get(at);
    if (born === undefined) births.set(at, [record.ino]);
    else born.push(record.ino);
  }
  return births;
}

/** Lays an INODE record over the slot: all of it but the map, which other records tell. */
function overlayRaw(slot: Uint8Array, raw: Uint8Array, isNew: boolean): void {
  const homeMap = slot.slice(INODE.i_block, INODE.i_block + I_BLOCK_BYTES);
  slot.set(raw.subarray(0, Math.min(raw.length, slot.length)));
  const flags = le32(raw, INODE.i_flags);
  if ((flags & INLINE_DATA_FL) !== 0) return;
  if ((flags & EXTENTS_FL) === 0) {
    // A new symlink or device keeps what it is in the record's own map.
    if (!isNew) slot.set(homeMap, INODE.i_block);
    return;
  }
  slot.set(homeMap, INODE.i_block);
  if (!isNew && le16(homeMap, EH.eh_magic) === EXTENT_MAGIC) return;
  slot.fill(0, INODE.i_block, INODE.i_block + I_BLOCK_BYTES);
  putLe16(slot, INODE.i_block + EH.eh_magic, EXTENT_MAGIC);
  putLe16(slot, INODE.i_block + EH.eh_max, ROOT_ENTRIES);
}

/**
 * Puts `i_blocks` as the kernel counts it anew in its replay: without the block of attributes, and
 * with none for a directory that it makes. In all else its count is that of the record.
 */
function recountBlocks(slot: Uint8Array, isNewDirectory: boolean, blockBytes: number): void {
  const counted = le32(slot, INODE.i_blocks_lo);
  const flags = le32(slot, INODE.i_flags);
  if (isNewDirectory) putLe32(slot, INODE.i_blocks_lo, 0);
  if (isNewDirectory || (flags & EXTENTS_FL) === 0) return;
  if (le32(slot, INODE.i_file_acl_lo) === 0 && le16(slot, INODE.i_file_acl_high) === 0) return;
  const unit = (flags & HUGE_FILE_FL) !== 0 ? blockBytes : SECTOR_BYTES;
  putLe32(slot, INODE.i_blocks_lo, Math.max(0, counted - blockBytes / unit));
}

function putInodeChecksum(slot: Uint8Array, ino: number, seed: number): void {
  const hasExtra = slot.length > GOOD_OLD_INODE_BYTES;
  const hasHigh = hasExtra && le16(slot, INODE.i_extra_isize) >= EXTRA_BYTES_WITH_CHECKSUM;
  const iseed = inodeSeed(seed, ino, le32(slot, INODE.i_generation));
  const sum = inodeChecksum(iseed, slot, hasHigh);
  putLe16(slot, INODE.i_checksum_lo, sum);
  if (hasHigh) putLe16(slot, INODE.i_checksum_hi, sum >>> 16);
}

/**
 * Reads the fast commits behind the log of `journal` that follow transaction `tid - 1`. Undefined
 * if there are none. With `salvage` a first one that is damaged is ignored with a warning.
 *
 * @throws {FsError} what `scanFastCommits` and the overlay throw
 */
export async function readFastCommits(
  ctx: ExtContext,
  log: JournalLog,
  journal: JournalSuperblock,
  tid: number,
  salvage: boolean,
): Promise<FastCommitOverlay | undefined> {
  const area = {
    firstBlock: journal.last + 1,
    endBlock: journal.blockCount,
    tid,
    inodeBytes: ctx.sb.inodeBytes,
  };
  try {
    const found = await scanFastCommits(log, area);
    return found.commitCount === 0 ? undefined : new FastCommitOverlay(ctx.sb, found);
  } catch (thrown) {
    if (!salvage || !hasErrnoCode(thrown) || thrown.code === "EIO") throw thrown;
    ctx.warn(`the fast commits were left out: ${thrown.message}`);
    return undefined;
  }
}
