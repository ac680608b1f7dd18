/**
 * Where a name stands in its directory: what looking it up, taking it away and pointing it
 * elsewhere have in common.
 *
 *     inline       `.` and `..` made up | 56 bytes of records in i_block | records in an attribute
 *     linear       block 0: `.` `..` name .. | block 1: name .. | ..
 *     indexed      the same blocks, those of the index among them, which hold no names (`htree.ts`)
 *
 *  1. A directory has no more blocks than the file system: its size bounds every walk.
 *  2. A hole is taken for an empty block, with a warning.
 *  3. A search that goes on after a wait begins anew if the directory has changed meanwhile.
 *
 * After fs/ext4/namei.c and inline.c of Linux (`ext4_find_entry`, `ext4_find_inline_entry`).
 */
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import type { ExtContext } from "./context.ts";
import { type DirShape, DirWalk, dirShapeOf, isIndexBlock, verifyDirBlock } from "./dir-block.ts";
import { type DirNames, type DirState, knownDirState, MANY } from "./dir-state.ts";
import { htreeFind, INDEX_UNUSABLE, verifyIndexBlock } from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { I_BLOCK_BYTES } from "./layout.ts";
import { type WantedName, walkTo } from "./wanted-name.ts";
import { inlineTailOf } from "./xattr.ts";

/**
 * Blocks of a directory are wanted one after the other: what is read on a miss, if it lies in one
 * run.
 */
const AHEAD_BYTES = MIB;
/** An inline directory begins with the number of its parent. */
export const INLINE_PARENT_BYTES = 4;
/** The file block of records that lie in the inode. */
export const INLINE = -1;

/**
 * How far a search without an index has come: one object for all attempts of one lookup, so that
 * each block is looked at once, and need not stay cached until the last one has been found.
 */
export interface LinearSearch {
  /** Blocks before this one do not hold the name. 0 at the start. */
  fileBlock: number;
  /** Version of the directory that this is said of; 0 at the start. */
  version?: number;
}

/** Where a name stands. Valid until the directory changes or the caller's function ends. */
export interface DirSlot {
  /** At the record. */
  readonly walk: DirWalk;
  /** The file block, `INLINE` in the inode. */
  readonly fileBlock: number;
  /** Where that lies on the device; 0 in the inode. */
  readonly blocknr: number;
}

/** What is wrong with the directory `dir`. */
export function damagedDir(dir: ExtInode, what: string): FsError {
  return new FsError("EUCLEAN", { detail: `directory ${dir.ino}: ${what}` });
}

/**
 * Where `wanted` stands in `dir`, undefined if it is not there. `.` and `..` are found in
 * directories without index only.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for what is damaged on the way to the name
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function dirFind(
  ctx: ExtContext,
  dir: ExtInode,
  wanted: WantedName,
  search: LinearSearch = { fileBlock: 0 },
): DirSlot | undefined {
  const shape = dirShapeOf(ctx, dir);
  if (dir.isInline) return findInline(ctx, dir, shape, wanted);
  const blockCount = dirBlockCount(ctx, dir);
  if (shape.isIndexed && blockCount > 0) {
    const found = htreeFind(ctx, dir, shape, blockCount, wanted);
    if (found !== INDEX_UNUSABLE) return found;
  }
  return findLinear(ctx, dir, shape, wanted, search);
}

function findInline(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  wanted: WantedName,
): DirSlot | undefined {
  for (const walk of inlineWalks(ctx, dir, shape)) {
    if (walkTo(walk, wanted)) return { walk, fileBlock: INLINE, blocknr: 0 };
  }
  return undefined;
}

function findLinear(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  wanted: WantedName,
  search: LinearSearch,
): DirSlot | undefined {
  const state = knownDirState(dir);
  const names = state?.names;
  if (names !== undefined && wanted.stored !== undefined) {
    const known = names.blockOf(wanted.stored);
    if (known === undefined) return findUnknown(ctx, dir, shape, wanted, names);
    if (known !== MANY) return findInBlock(ctx, dir, shape, wanted, known).slot;
  }
  restartIfChanged(search, state);
  const blockCount = dirBlockCount(ctx, dir);
  while (search.fileBlock < blockCount) {
    const { slot, count } = findInBlock(ctx, dir, shape, wanted, search.fileBlock);
    if (slot !== undefined) return slot;
    search.fileBlock += count;
  }
  return undefined;
}

function restartIfChanged(search: LinearSearch, state: DirState | undefined): void {
  const version = state?.version ?? 0;
  if (search.version !== undefined && search.version !== version) search.fileBlock = 0;
  search.version = version;
}

/** Searches the blocks that `names` does not know, and lets it know them. */
function findUnknown(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  wanted: WantedName,
  names: DirNames,
): DirSlot | undefined {
  const blockCount = dirBlockCount(ctx, dir);
  let fileBlock = names.scanned;
  while (fileBlock < blockCount) {
    const { slot, count } = findInBlock(ctx, dir, shape, wanted, fileBlock);
    if (fileBlock === names.scanned && names.hasRoom) {
      noteNames(ctx, dir, shape, names);
      names.scanned += count;
    }
    if (slot !== undefined) return slot;
    fileBlock += count;
  }
  return undefined;
}

function noteNames(ctx: ExtContext, dir: ExtInode, shape: DirShape, names: DirNames): void {
  const { data } = readDirBlock(ctx, dir, shape, names.scanned);
  if (data === undefined) return;
  const walk = new DirWalk(data, shape, names.scanned);
  while (walk.next()) names.note(walk);
}

function findInBlock(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  wanted: WantedName,
  fileBlock: number,
): { readonly slot: DirSlot | undefined; readonly count: number } {
  const { data, count, blocknr } = readDirBlock(ctx, dir, shape, fileBlock);
  if (data === undefined) return { slot: undefined, count };
  const walk = new DirWalk(data, shape, fileBlock);
  const slot = walkTo(walk, wanted) ? { walk, fileBlock, blocknr } : undefined;
  return { slot, count };
}

/** Blocks of a directory that is not inline. Throws `EUCLEAN` for a size that cannot be. */
export function dirBlockCount(ctx: ExtContext, dir: ExtInode): number {
  const blockCount = dir.size / ctx.sb.blockBytes;
  if (!Number.isInteger(blockCount)) {
    throw damagedDir(dir, `i_size is ${dir.size}, no multiple of ${ctx.sb.blockBytes}`);
  }
  if (blockCount > ctx.sb.blockCount) {
    throw damagedDir(dir, `i_size is ${dir.size}, more than the file system`);
  }
  return blockCount;
}

/** A verified block of a directory, or the hole from there on. */
export interface DirBlock {
  /** Undefined for a hole. */
  readonly data: Uint8Array | undefined;
  /** File blocks that this is: 1, or the part of the hole that was looked at. */
  readonly count: number;
  /** Where it lies on the device; 0 for a hole. */
  readonly blocknr: number;
}

/** The block `fileBlock` of `dir`, which has it. */
export function readDirBlock(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  fileBlock: number,
): DirBlock {
  const aheadCount = Math.max(1, Math.floor(AHEAD_BYTES / shape.blockBytes));
  const restCount = dirBlockCount(ctx, dir) - fileBlock;
  const run = ctx.mapBlocks(dir, fileBlock, Math.min(restCount, aheadCount));
  if (run.physical === 0 || run.isUnwritten) {
    ctx.warn(`directory ${dir.ino}: there is a hole at file block ${fileBlock}`);
    return { data: undefined, count: run.count, blocknr: 0 };
  }
  // Which checksum a block has can only be told from its content, so it is read first.
  const blocknr = run.physical;
  const data = ctx.metadata.blockWithin(blocknr, blocknr, run.count);
  const verifier = isIndexBlock(data, fileBlock, shape) ? verifyIndexBlock : verifyDirBlock;
  return { data: ctx.metadata.verified(blocknr, verifier, shape), count: 1, blocknr };
}

/** Number of the parent of an inline directory. Throws `EUCLEAN` for one that is no inode. */
export function inlineParentOf(ctx: ExtContext, dir: ExtInode): number {
  const parent = le32(dir.iBlock, 0);
  if (parent === 0 || parent > ctx.sb.inodeCount)
    throw damagedDir(dir, `parent is inode ${parent}`);
  return parent;
}

/** The walks over both areas of an inline directory. */
export function inlineWalks(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
): readonly [head: DirWalk, tail: DirWalk] {
  const tail = inlineTailOf(ctx, dir);
  const head = new DirWalk(dir.iBlock, shape, "i_block", INLINE_PARENT_BYTES, I_BLOCK_BYTES);
  return [head, new DirWalk(tail, shape, "inline data")];
}
