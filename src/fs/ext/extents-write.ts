/**
 * What files ask of their extent trees: blocks for a hole, unwritten blocks that were written,
 * blocks that go, and blocks that move up or down the file.
 *
 *  1. Each function leaves the tree whole, and the inode's count of sectors right.
 *  2. What takes long does a part of it and says whether that was all: the caller goes on in a
 *     handle of its own. A part is done at least, so a caller that goes on comes to an end.
 *
 * After `fs/ext4/extents.c` (`ext4_ext_map_blocks`, `ext4_ext_convert_to_initialized`,
 * `ext4_ext_remove_space`, `ext4_ext_shift_extents`). Left out: writing zeros instead of a split.
 */
import { SECTOR_BYTES } from "../../lib/units.ts";
import { inodeGoal } from "./block-goal.ts";
import type { MappedRun } from "./context.ts";
import { shouldJournalData } from "./data-mode.ts";
import { type Extent, ExtentTree, extentAt, extentCountMax } from "./extent-tree.ts";
import {
  type ExtentLevel,
  entryCount,
  extentPath,
  FILE_BLOCKS_END,
  keyOf,
  mapExtents,
} from "./extents.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import type { ExtWriter } from "./writer.ts";

/** Groups whose bitmaps one step of a removal changes at most. */
const GROUPS_PER_STEP = 4;
/** Extents that one step looks at, so that no stretch of code is long. */
const EXTENTS_PER_STEP = 1024;
/** Blocks that a step changes beside nodes and bitmaps: the table block of the inode, and a few. */
const SPARE_BLOCKS = 4;

/** How blocks for a hole are wanted. */
export interface MapForWriteOptions {
  /** They read as zeros until `convertExtents`; block maps know no such blocks. */
  readonly isUnwritten?: boolean | undefined;
  /** They were promised by `BlockAllocator.reserve`. */
  readonly isReserved?: boolean | undefined;
}

/** What is at a block of a file after `mapForWrite`. */
export interface AllocatedRun extends MappedRun {
  /** The blocks were allocated by this call: what they hold is another's. */
  readonly isNew: boolean;
}

/** True if the blocks of `inode` go through the transactions, which then have to forget them. */
export function hasMetadataBlocks(ctx: ExtWriter, inode: ExtInode): boolean {
  return inode.type !== "file" || inode.isEaInode || shouldJournalData(ctx, inode);
}

/** Notes that blocks of `inode` came, went or moved. */
export function noteMapChange(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  ctx.editInode(handle, inode);
  inode.mapSeq++;
  inode.datasyncTid = handle.tid;
}

/** Adds `blocks`, which may be negative, to what `inode` takes. */
export function countBlocks(ctx: ExtWriter, inode: ExtInode, blocks: number): void {
  inode.sectorCount += blocks * (ctx.sb.blockBytes / SECTOR_BYTES);
}

/** Where a hole at `fileBlock` is best filled (`ext4_ext_find_goal`). */
function goalAt(
  ctx: ExtWriter,
  inode: ExtInode,
  fileBlock: number,
): { goal: number; isContinuation: boolean } {
  const path = extentPath(ctx, inode, fileBlock);
  const { node, index } = path[path.length - 1]!;
  if (index >= 0) {
    const { key, count, start } = extentAt(node, index);
    return { goal: start + fileBlock - key, isContinuation: key + count === fileBlock };
  }
  if (entryCount(node) > 0) {
    const { key, start } = extentAt(node, 0);
    return { goal: start - (key - fileBlock), isContinuation: false };
  }
  return { goal: inodeGoal(ctx.sb, inode), isContinuation: false };
}

/**
 * What is at `fileBlock` and the blocks behind it, at most `count`; a hole gets blocks, as many as
 * there are in one piece (`ext4_ext_map_blocks` with `CREATE`). Restartable.
 *
 * @throws {FsError} `ENOSPC`; `EFBIG` for a tree that is full
 */
export function extMapForWrite(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
  options: MapForWriteOptions = {},
): AllocatedRun {
  const run = mapExtents(ctx, inode, fileBlock, count);
  if (run.physical !== 0) return { ...run, isNew: false };
  const isUnwritten = options.isUnwritten === true;
  const isReserved = options.isReserved === true;
  const { goal, isContinuation } = goalAt(ctx, inode, fileBlock);
  const { isPrivileged } = ctx;
  const wanted = Math.min(run.count, extentCountMax(isUnwritten));
  const request = { goal, count: wanted, isContinuation, isReserved, isPrivileged };
  const found = ctx.blocks.allocate(handle, request);
  noteMapChange(ctx, handle, inode);
  countBlocks(ctx, inode, found.count);
  const tree = new ExtentTree(ctx, handle, inode, isReserved);
  tree.insert({ key: fileBlock, count: found.count, start: found.first, isUnwritten });
  const { first: physical } = found;
  return { physical, count: found.count, isUnwritten, isBoundary: false, isNew: true };
}

/**
 * Makes the blocks `fileBlock` .. + `count` of the file written, or with `toUnwritten` unwritten;
 * holes stay holes. Returns how many of them are done, holes included: at least one if there is
 * one (`ext4_convert_unwritten_extents`).
 */
export function convertExtents(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
  toUnwritten = false,
): number {
  const tree = new ExtentTree(ctx, handle, inode, true);
  const end = Math.min(fileBlock + count, FILE_BLOCKS_END);
  let at = fileBlock;
  while (at < end) {
    const run = mapExtents(ctx, inode, at, end - at);
    if (run.physical !== 0 && run.isUnwritten !== toUnwritten) {
      if (at > fileBlock && handle.roomBlocks < 4 * tree.path(at).length + SPARE_BLOCKS) break;
      noteMapChange(ctx, handle, inode);
      at += convertRun(tree, at, Math.min(run.count, extentCountMax(toUnwritten)), toUnwritten);
    } else at += run.count;
  }
  if (at > fileBlock) tree.shrink();
  return at - fileBlock;
}

/** Converts a part of one extent. Returns its blocks. */
function convertRun(tree: ExtentTree, at: number, count: number, isUnwritten: boolean): number {
  const before = tree.path(at);
  const { node, index } = before[before.length - 1]!;
  const whole = extentAt(node, index);
  if (at === whole.key && index > 0 && count < whole.count) {
    const left = extentAt(node, index - 1);
    const isNext = left.key + left.count === at && left.start + left.count === whole.start;
    const fits = left.count + count <= extentCountMax(isUnwritten);
    if (isNext && fits && left.isUnwritten === isUnwritten) {
      moveBorder(tree, before, left, whole, count);
      return count;
    }
  }
  tree.splitAt(at);
  tree.splitAt(at + count);
  const path = tree.path(at);
  const leaf = path[path.length - 1]!;
  tree.replace(path, { ...extentAt(leaf.node, leaf.index), isUnwritten });
  tree.mergeAround(at);
  return count;
}

/** The first `count` blocks of `whole` become the last of `left`: no entry more, none less. */
function moveBorder(
  tree: ExtentTree,
  path: ExtentLevel[],
  left: Extent,
  whole: Extent,
  count: number,
): void {
  const leaf = path[path.length - 1]!;
  tree.replace(path, {
    ...whole,
    key: whole.key + count,
    start: whole.start + count,
    count: whole.count - count,
  });
  leaf.index--;
  tree.replace(path, { ...left, count: left.count + count });
}

/** Where the extents before those of the leaf of `path` end at the latest, 0 if there are none. */
function startOfLeaf(path: readonly ExtentLevel[]): number {
  for (let depth = path.length - 2; depth >= 0; depth--) {
    const { node, index } = path[depth]!;
    if (index > 0) return keyOf(node, index);
  }
  return 0;
}

/**
 * Frees the blocks of the file from `fromBlock` on, and before `endBlock`, from the last one on.
 * Returns true once none is left (`ext4_ext_remove_space`). Restartable.
 */
export function removeExtents(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fromBlock: number,
  endBlock: number = FILE_BLOCKS_END,
): boolean {
  const tree = new ExtentTree(ctx, handle, inode, true);
  const countMax = GROUPS_PER_STEP * ctx.sb.blocksPerGroup;
  let end = Math.min(endBlock, FILE_BLOCKS_END);
  let hasChanged = false;
  for (let extents = 0; end > fromBlock; extents++) {
    if (extents === EXTENTS_PER_STEP) return false;
    const path = tree.path(end - 1);
    const leaf = path[path.length - 1]!;
    if (leaf.index < 0) {
      end = startOfLeaf(path); // All of this leaf comes later: on with the leaf before.
      continue;
    }
    const extent = extentAt(leaf.node, leaf.index);
    const extentEnd = extent.key + extent.count;
    if (extentEnd <= fromBlock) break;
    if (hasChanged && handle.roomBlocks < 3 * path.length + GROUPS_PER_STEP + SPARE_BLOCKS) {
      return false;
    }
    const cutEnd = Math.min(end, extentEnd);
    const cutFrom = Math.max(fromBlock, extent.key, cutEnd - countMax);
    removePart(ctx, handle, inode, tree, extent, cutFrom, cutEnd);
    hasChanged = true;
    end = cutFrom;
  }
  if (hasChanged) tree.shrink();
  return true;
}

/** Frees the blocks `from` .. `end` of the file, which are all in `extent`. */
function removePart(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  tree: ExtentTree,
  extent: Extent,
  from: number,
  end: number,
): void {
  noteMapChange(ctx, handle, inode);
  if (end < extent.key + extent.count && from > extent.key) tree.splitAt(end);
  const path = tree.path(from);
  if (from > extent.key) tree.replace(path, { ...extent, count: from - extent.key });
  else if (end < extent.key + extent.count) {
    const gone = end - extent.key;
    const { start, count } = extent;
    tree.replace(path, { ...extent, key: end, start: start + gone, count: count - gone });
  } else tree.remove(path);
  const first = extent.start + from - extent.key;
  ctx.blocks.free(handle, first, end - from, { isMetadata: hasMetadataBlocks(ctx, inode) });
  countBlocks(ctx, inode, from - end);
}

/**
 * Moves the extents of the file from block `fromBlock` on by `delta` blocks: down, where there must
 * be a hole in front of them, or up, where an extent over `fromBlock` is cut in two. `at` is -1 for
 * the first call, then what the call before returned, until that is -1 again
 * (`ext4_ext_shift_extents`). Restartable.
 */
export function shiftExtents(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fromBlock: number,
  delta: number,
  at = -1,
): number {
  const tree = new ExtentTree(ctx, handle, inode, false);
  if (at < 0 && delta > 0) {
    noteMapChange(ctx, handle, inode);
    tree.splitAt(fromBlock);
  }
  let next = at;
  for (let isFirst = true; ; isFirst = false) {
    if (!isFirst && handle.roomBlocks < 6 + SPARE_BLOCKS) return next;
    noteMapChange(ctx, handle, inode);
    next =
      delta < 0
        ? shiftDown(tree, next < 0 ? fromBlock : next, delta)
        : shiftUp(tree, next < 0 ? FILE_BLOCKS_END : next, fromBlock, delta);
    if (next < 0) return -1;
  }
}

/** Moves the extents of one leaf from `from` on down. Returns where the next ones begin, or -1. */
function shiftDown(tree: ExtentTree, from: number, delta: number): number {
  const path = tree.path(from);
  const leaf = path[path.length - 1]!;
  const count = entryCount(leaf.node);
  let first = leaf.index;
  if (first < 0 || keyOf(leaf.node, first) < from) first++;
  const next = endOfLeaf(path);
  if (first < count) {
    const key = keyOf(leaf.node, first) + delta;
    tree.shiftLeaf(path, first, delta);
    tree.mergeAround(key);
  }
  return next;
}

/** Where the part of the file behind the leaf of `path` begins, -1 if there is none. */
function endOfLeaf(path: readonly ExtentLevel[]): number {
  for (let depth = path.length - 2; depth >= 0; depth--) {
    const { node, index } = path[depth]!;
    if (index + 1 < entryCount(node)) return keyOf(node, index + 1);
  }
  return -1;
}

/** Moves the extents of one leaf before `end` up. Returns where those before end, or -1. */
function shiftUp(tree: ExtentTree, end: number, fromBlock: number, delta: number): number {
  const path = tree.path(end - 1);
  const leaf = path[path.length - 1]!;
  const rest = startOfLeaf(path);
  let first = leaf.index + 1;
  while (first > 0 && keyOf(leaf.node, first - 1) >= fromBlock) first--;
  if (first < entryCount(leaf.node)) tree.shiftLeaf(path, first, delta);
  return rest > fromBlock ? rest : -1;
}
