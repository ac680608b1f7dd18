/**
 * Handing out inodes: files beside their directory, directories apart from each other.
 *
 *     directory in the root     a group with many free inodes and blocks and few directories,
 *                               from a random one on: trees that have nothing to do with each other
 *     directory elsewhere       the parent's group, unless that is fuller than the average
 *     all others                the parent's group, its flex group, any group
 *
 *  1. A new inode is all new: its slot of the table is written whole, whatever was there.
 *  2. An inode that was freed is handed out after the commit of that, not before.
 *  3. `itable_unused` is never more than what was never used: taking an inode lowers it.
 *
 * After `fs/ext4/ialloc.c` (`__ext4_new_inode`, `find_group_orlov`, `find_group_other`,
 * `ext4_free_inode`) and section "Orlov allocator" of the kernel's ext4 documentation.
 */
import { assert } from "../../lib/assert.ts";
import { ByteSlab } from "../../lib/byte-slab.ts";
import { putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { KIB } from "../../lib/units.ts";
import { areBitsClear, clearBits, nextZeroBit, setBits, testBit } from "./bitmap.ts";
import { groupOfInode, groupsPerFlex } from "./block-goal.ts";
import { BusyBits } from "./busy-bits.ts";
import { INCOMPAT_EXTENTS, RO_COMPAT_PROJECT } from "./features.ts";
import type { GroupState } from "./group-state.ts";
import type { Handle } from "./handle.ts";
import { ExtInode } from "./inode.ts";
import { wantedExtraIsize } from "./inode-write.ts";
import {
  CASEFOLD_FL,
  EH,
  EXT_ROOT_INO,
  EXTENT_MAGIC,
  EXTENTS_FL,
  GOOD_OLD_INODE_BYTES,
  INODE,
  NOATIME_FL,
  PROJINHERIT_FL,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "./layout.ts";
import type { Superblock } from "./superblock.ts";
import type { ExtWriter } from "./writer.ts";

const S_ISGID = 0o2000;
/** Inode flags that matter here alone. */
const TOPDIR_FL = 0x2_0000;
const NODUMP_FL = 0x40;
const DIRSYNC_FL = 0x1_0000;
/** What a new inode has from its directory (`EXT4_FL_INHERITED`). */
const INHERITED_FLAGS =
  0x1 | 0x2 | 0x4 | 0x8 | NODUMP_FL | NOATIME_FL | 0x400 | 0x4000 | 0x8000 | DIRSYNC_FL;
const INHERITED_BY_DIRECTORIES = INHERITED_FLAGS | PROJINHERIT_FL | CASEFOLD_FL | 0x200_0000;
const INHERITED_BY_FILES = (INHERITED_FLAGS & ~DIRSYNC_FL) | 0x200_0000;
const INHERITED_BY_OTHERS = NODUMP_FL | NOATIME_FL;
/** Entries of the extent root in an inode. */
const ROOT_ENTRIES_MAX = 4;

/** Largest inode that there is: a block. */
const NO_INODE = new Uint8Array(64 * KIB);
/** New inodes are cut from few buffers. */
const slab: ByteSlab = new ByteSlab();

/** What a new inode is to be. */
export interface InodeRequest {
  /** Type and permission bits. */
  readonly mode: number;
  readonly uid: number;
  /** A directory with the setgid bit gives its own instead. */
  readonly gid: number;
  /** Flags beside those that the directory gives, as stored. */
  readonly flags?: number | undefined;
}

/** Finds and frees inodes in the bitmaps of the groups. One for each writer. */
export class InodeBits {
  readonly #sb: Superblock;
  readonly #groups: GroupState;
  readonly #busy: BusyBits;
  readonly #firstFree: Uint32Array;
  readonly #damaged = new Set<number>();
  readonly #warn: (text: string) => void;

  constructor(sb: Superblock, groups: GroupState, warn: (text: string) => void) {
    this.#warn = warn;
    this.#sb = sb;
    this.#groups = groups;
    this.#busy = new BusyBits((group, from) => this.#lower(group, from));
    this.#firstFree = new Uint32Array(sb.groupCount);
  }

  /** Free inodes that can be had after the next commits only. */
  get pendingCount(): number {
    return this.#busy.pendingCount;
  }

  /** Inodes of `group` that can be had now. */
  freeIn(group: number): number {
    return this.#groups.freeInodes[group]! - this.#busy.pendingIn(group);
  }

  #lower(group: number, from: number): void {
    this.#firstFree[group] = Math.min(this.#firstFree[group]!, from);
  }

  /** The bits of `group` to search; undefined if they are damaged, which is told. Restartable. */
  #bits(group: number): Uint32Array | undefined {
    if (this.#damaged.has(group)) return undefined;
    try {
      return this.#busy.bitsOf(group, this.#groups.bitmap("inodes", group));
    } catch (thrown) {
      if (!(thrown instanceof FsError)) throw thrown;
      this.#damaged.add(group);
      this.#warn(thrown.message);
      return undefined;
    }
  }

  /** Takes the first free inode of `group`; undefined if it has none. Restartable. */
  take(handle: Handle, group: number, isDirectory: boolean): number | undefined {
    if (this.freeIn(group) <= 0) return undefined;
    const { inodesPerGroup, firstIno } = this.#sb;
    const bits = this.#bits(group);
    if (bits === undefined) return undefined;
    const reserved = Math.max(0, firstIno - 1 - group * inodesPerGroup);
    const start = Math.max(this.#firstFree[group]!, Math.min(reserved, inodesPerGroup));
    const index = nextZeroBit(bits, start, inodesPerGroup);
    this.#firstFree[group] = index;
    if (index === inodesPerGroup) return undefined;
    this.#prepareSlot(handle, group, index, bits);
    const words = this.#groups.editBitmap(handle, "inodes", group);
    setBits(words, index, 1);
    this.#noteUsed(group, index);
    this.#busy.taken(handle, group, index, 1);
    this.#groups.addFreeInodes(group, -1);
    if (isDirectory) this.#groups.addUsedDirs(group, 1);
    handle.undo(() => this.#lower(group, index));
    this.#firstFree[group] = index + 1;
    return index;
  }

  /**
   * Marks inode `index` of `group` as used if it is not: for who knows from elsewhere whose it is.
   * Restartable.
   */
  claim(handle: Handle, group: number, index: number, isDirectory: boolean): void {
    const bits = this.#groups.bitmap("inodes", group);
    if (testBit(bits, index)) return;
    this.#prepareSlot(handle, group, index, bits);
    setBits(this.#groups.editBitmap(handle, "inodes", group), index, 1);
    this.#noteUsed(group, index);
    this.#busy.taken(handle, group, index, 1);
    this.#groups.addFreeInodes(group, -1);
    if (isDirectory) this.#groups.addUsedDirs(group, 1);
  }

  /**
   * A block of the table without inodes in use is not read: it begins as zeros, and holds nothing
   * of what an uninitialised table has.
   */
  #prepareSlot(handle: Handle, group: number, index: number, bits: Uint32Array): void {
    const { inodesPerBlock, inodesPerGroup } = this.#sb;
    const first = index - (index % inodesPerBlock);
    const end = Math.min(first + inodesPerBlock, inodesPerGroup);
    const isNew = !this.#groups.isSlotUsed(group, first) || areBitsClear(bits, first, end - first);
    if (isNew) handle.create(this.#groups.descriptor(group).inodeTable + first / inodesPerBlock);
  }

  /** After `editBitmap`, which has taken care of a group without a bitmap. */
  #noteUsed(group: number, index: number): void {
    if (!this.#sb.hasDescriptorCsum) return;
    const unused = this.#sb.inodesPerGroup - index - 1;
    const { itableUnused } = this.#groups;
    itableUnused[group] = Math.min(itableUnused[group]!, unused);
  }

  /** Frees inode `index` of `group`. Throws `EUCLEAN` if it is free already. */
  free(handle: Handle, group: number, index: number, isDirectory: boolean): void {
    const words = this.#groups.editBitmap(handle, "inodes", group);
    if (!testBit(words, index)) {
      throw new FsError("EUCLEAN", {
        detail: `inode bitmap of group ${group}: inode ${index} of it, which is freed, is free`,
      });
    }
    this.#busy.freed(handle, group, words, index, 1);
    clearBits(words, index, 1);
    this.#groups.addFreeInodes(group, 1);
    if (isDirectory && this.#groups.usedDirs[group]! > 0) this.#groups.addUsedDirs(group, -1);
  }
}

/** A number below which a directory goes elsewhere, and the groups that it is tried with. */
interface Average {
  readonly freeInodes: number;
  readonly freeBlocks: number;
  readonly directories: number;
}

function averageOf(ctx: ExtWriter): Average {
  const { groupCount } = ctx.sb;
  const { freeInodeCount, freeBlockCount, directoryCount } = ctx.groups.totals;
  return {
    freeInodes: Math.floor(freeInodeCount / groupCount),
    freeBlocks: Math.floor(freeBlockCount / groupCount),
    directories: Math.floor(directoryCount / groupCount),
  };
}

/** The group of flex group `flex` in which a directory is to be: the first that has an inode. */
function firstWithInode(ctx: ExtWriter, flex: number, perFlex: number): number | undefined {
  const end = Math.min(ctx.sb.groupCount, (flex + 1) * perFlex);
  for (let group = flex * perFlex; group < end; group++) {
    if (ctx.inodeBits.freeIn(group) > 0) return group;
  }
  return undefined;
}

/** A number in 0..1 that looks random (Fibonacci hashing). */
function hashFraction(value: number): number {
  return (Math.imul(value, 0x9e37_79b1) >>> 0) / 0x1_0000_0000;
}

interface FlexSums {
  readonly freeInodes: number;
  readonly freeBlocks: number;
  readonly usedDirs: number;
  readonly groupCount: number;
}

function sumsOf(ctx: ExtWriter, flex: number, perFlex: number): FlexSums {
  const from = flex * perFlex;
  const end = Math.min(ctx.sb.groupCount, from + perFlex);
  let freeInodes = 0;
  let freeBlocks = 0;
  let usedDirs = 0;
  for (let group = from; group < end; group++) {
    freeInodes += ctx.inodeBits.freeIn(group);
    freeBlocks += ctx.groups.freeBlocks[group]!;
    usedDirs += ctx.groups.usedDirs[group]!;
  }
  return { freeInodes, freeBlocks, usedDirs, groupCount: end - from };
}

/** A group for a directory of the root (`find_group_orlov`, first case). */
function groupForTopDirectory(
  ctx: ExtWriter,
  average: Average,
  perFlex: number,
): number | undefined {
  const flexCount = Math.ceil(ctx.sb.groupCount / perFlex);
  // The same in each attempt of an operation, so that these wait for one bitmap and not for many.
  const start = Math.floor(hashFraction(ctx.groups.totals.directoryCount + ctx.salt) * flexCount);
  let best: number | undefined;
  let leastDirs = Number.POSITIVE_INFINITY;
  for (let step = 0; step < flexCount; step++) {
    const flex = (start + step) % flexCount;
    const sums = sumsOf(ctx, flex, perFlex);
    if (sums.freeInodes === 0 || sums.usedDirs >= leastDirs) continue;
    if (sums.freeInodes < average.freeInodes * sums.groupCount) continue;
    if (sums.freeBlocks < average.freeBlocks * sums.groupCount) continue;
    best = flex;
    leastDirs = sums.usedDirs;
    if (leastDirs === 0) break;
  }
  return best === undefined ? undefined : firstWithInode(ctx, best, perFlex);
}

/** A group for a directory near its parent (`find_group_orlov`, second case). */
function groupForDirectory(
  ctx: ExtWriter,
  parentGroup: number,
  average: Average,
  perFlex: number,
): number | undefined {
  const { sb } = ctx;
  const flexCount = Math.ceil(sb.groupCount / perFlex);
  const parentFlex = Math.floor(parentGroup / perFlex);
  for (let step = 0; step < flexCount; step++) {
    const flex = (parentFlex + step) % flexCount;
    const sums = sumsOf(ctx, flex, perFlex);
    const part = sums.groupCount;
    if (sums.usedDirs >= (average.directories + sb.inodesPerGroup / 16) * part) continue;
    if (sums.freeInodes < Math.max(1, (average.freeInodes - sb.inodesPerGroup / 4) * part))
      continue;
    if (sums.freeBlocks < (average.freeBlocks - sb.blocksPerGroup / 4) * part) continue;
    const isParents = flex === parentFlex && ctx.inodeBits.freeIn(parentGroup) > 0;
    const group = isParents ? parentGroup : firstWithInode(ctx, flex, perFlex);
    if (group !== undefined) return group;
  }
  return undefined;
}

/** Groups to try for a new inode, the best first, in the end all. */
function* groupsFor(ctx: ExtWriter, parent: ExtInode, isDirectory: boolean): Generator<number> {
  const { sb } = ctx;
  const parentGroup = groupOfInode(sb, parent.ino);
  const perFlex = groupsPerFlex(sb);
  if (isDirectory) {
    const isTop = parent.ino === EXT_ROOT_INO || (parent.flags & TOPDIR_FL) !== 0;
    const average = averageOf(ctx);
    const top = isTop ? groupForTopDirectory(ctx, average, perFlex) : undefined;
    const group = top ?? groupForDirectory(ctx, parentGroup, average, perFlex);
    if (group !== undefined) yield group;
  }
  if (ctx.groups.freeBlocks[parentGroup]! > 0 || perFlex > 1) yield parentGroup;
  const flexStart = parentGroup - (parentGroup % perFlex);
  for (let step = 0; step < perFlex && flexStart + step < sb.groupCount; step++) {
    yield flexStart + step;
  }
  // So that the files of two directories in one full group do not end up in one group again.
  const offset = parentGroup + parent.ino;
  for (let step = 1; step < sb.groupCount; step *= 2) {
    const group = (offset + step) % sb.groupCount;
    if (ctx.groups.freeBlocks[group]! > 0) yield group;
  }
  for (let step = 0; step < sb.groupCount; step++) yield (parentGroup + step) % sb.groupCount;
}

function inheritedFlags(parent: ExtInode, mode: number): number {
  const type = mode & S_IFMT;
  if (type === S_IFDIR) return parent.flags & INHERITED_BY_DIRECTORIES;
  return parent.flags & (type === S_IFREG ? INHERITED_BY_FILES : INHERITED_BY_OTHERS);
}

/** The bytes of a new inode: what its members do not hold. */
function newRaw(ctx: ExtWriter, parent: ExtInode, request: InodeRequest): Uint8Array {
  const { sb } = ctx;
  const raw = slab.copy(NO_INODE.subarray(0, sb.inodeBytes));
  const type = request.mode & S_IFMT;
  let { gid, mode } = request;
  if ((parent.mode & S_ISGID) !== 0) {
    gid = parent.gid;
    if (type === S_IFDIR) mode |= S_ISGID;
  }
  let flags = inheritedFlags(parent, mode) | (request.flags ?? 0);
  const mayHaveExtents = type === S_IFDIR || type === S_IFREG || type === S_IFLNK;
  if (mayHaveExtents && sb.hasIncompat(INCOMPAT_EXTENTS)) {
    flags |= EXTENTS_FL;
    putLe16(raw, INODE.i_block + EH.eh_magic, EXTENT_MAGIC);
    putLe16(raw, INODE.i_block + EH.eh_max, ROOT_ENTRIES_MAX);
  }
  putLe16(raw, INODE.i_mode, mode);
  putLe16(raw, INODE.i_uid, request.uid);
  putLe16(raw, INODE.i_uid_high, request.uid >>> 16);
  putLe16(raw, INODE.i_gid, gid);
  putLe16(raw, INODE.i_gid_high, gid >>> 16);
  putLe16(raw, INODE.i_links_count, 1);
  putLe32(raw, INODE.i_flags, flags);
  putLe32(raw, INODE.i_version, 1);
  putLe32(raw, INODE.i_generation, ctx.random.uint32());
  if (sb.inodeBytes > GOOD_OLD_INODE_BYTES) {
    putLe16(raw, INODE.i_extra_isize, wantedExtraIsize(sb));
  }
  return raw;
}

/**
 * Takes a free inode near `parent`, and makes it what `request` says: with one link, of no length,
 * all times now, flags and project as `parent` gives them, an empty extent root where the volume
 * has extents (also in a symlink: one that keeps its target in the inode clears the flag). It is in
 * the cache of inodes, and edited (`ExtWriter.editInode`). Restartable.
 *
 * @throws {FsError} `ENOSPC` if there is no free inode
 */
export function allocInode(
  ctx: ExtWriter,
  handle: Handle,
  parent: ExtInode,
  request: InodeRequest,
): ExtInode {
  const { sb } = ctx;
  const isDirectory = (request.mode & S_IFMT) === S_IFDIR;
  let ino = 0;
  for (const group of groupsFor(ctx, parent, isDirectory)) {
    const index = ctx.inodeBits.take(handle, group, isDirectory);
    if (index === undefined) continue;
    ino = group * sb.inodesPerGroup + index + 1;
    break;
  }
  if (ino === 0) throw new FsError("ENOSPC", { detail: "there is no free inode" });
  const raw = newRaw(ctx, parent, request);
  const inode = new ExtInode(ino, raw, sb);
  const now = ctx.now();
  for (const name of ["atime", "mtime", "ctime", "birthtime"] as const) inode.setTime(name, now);
  if (sb.hasRoCompat(RO_COMPAT_PROJECT) && (parent.flags & PROJINHERIT_FL) !== 0) {
    inode.projectId = parent.projectId;
  }
  const stale = ctx.core.inodes.get(ino);
  if (stale !== undefined) ctx.core.inodes.delete(stale);
  ctx.core.inodes.add(inode);
  handle.undo(() => ctx.core.inodes.delete(inode));
  ctx.editInode(handle, inode);
  inode.datasyncTid = handle.tid; // Its data is read by its name.
  return inode;
}

/**
 * Gives `inode` back, which has no links, blocks or attributes and is on no list of orphans any
 * more: its time of deletion is set, and its number is free after the commit.
 */
export function freeInode(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  assert(!inode.isDeleted, "an inode is freed once");
  const { sb } = ctx;
  ctx.editInode(handle, inode);
  inode.linksCount = 0;
  inode.dtime = ctx.now().sec;
  inode.isDeleted = true;
  const group = groupOfInode(sb, inode.ino);
  const index = (inode.ino - 1) % sb.inodesPerGroup;
  ctx.inodeBits.free(handle, group, index, inode.type === "directory");
  ctx.core.inodes.delete(inode);
  handle.undo(() => ctx.core.inodes.add(inode));
}
