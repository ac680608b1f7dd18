/**
 * Changing the block map of ext2 and ext3: pointers set where blocks come, and cleared where they
 * go, with pointer blocks made and freed on the way.
 *
 *     map block 300      i_block[13] -> block P -> block Q -> data      P, Q are made if missing,
 *     (p = 256)                         slot 0     slot 32              in front of the data
 *
 *  1. A pointer block is zeros with the pointers that are set; one without any is freed.
 *  2. After each function all pointers lead to blocks that are in use, and the inode's count of
 *     sectors is right.
 *
 * After `fs/ext4/indirect.c` and `fs/ext2/inode.c` (`ext2_get_blocks`, `ext2_alloc_branch`,
 * `ext4_ind_remove_space`).
 */
import { isZero, le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { inodeGoal } from "./block-goal.ts";
import {
  type AllocatedRun,
  countBlocks,
  hasMetadataBlocks,
  type MapForWriteOptions,
  noteMapChange,
} from "./extents-write.ts";
import type { Handle } from "./handle.ts";
import { mapIndirect, POINTER_BYTES, pointerAt } from "./indirect.ts";
import type { ExtInode } from "./inode.ts";
import { DIRECT_BLOCKS, INDIRECT_LEVELS } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";

/** Behind this block no pointer reaches. */
const BLOCKS_END = 0x1_0000_0000;
/** Groups whose bitmaps one step of a removal changes at most, and blocks beside those. */
const GROUPS_PER_STEP = 4;
const SPARE_BLOCKS = 8;
/** Runs of blocks that one step frees at most. */
const RUNS_PER_STEP = 1024;

/** The way of pointers to a block of a file (`ext2_block_to_path`). */
interface PointerPath {
  /** Slot in `i_block`, then in each pointer block; the last one leads to data. */
  readonly slots: readonly number[];
  /** Slots of the last array from that one on. */
  readonly roomSlots: number;
}

function pathTo(ctx: ExtWriter, inode: ExtInode, fileBlock: number): PointerPath {
  if (fileBlock < DIRECT_BLOCKS) {
    return { slots: [fileBlock], roomSlots: DIRECT_BLOCKS - fileBlock };
  }
  const perBlock = ctx.sb.blockBytes / POINTER_BYTES;
  let offset = fileBlock - DIRECT_BLOCKS;
  for (let level = 1; level <= INDIRECT_LEVELS; level++) {
    const span = perBlock ** level;
    if (offset < span) {
      const slots = [DIRECT_BLOCKS + level - 1];
      for (let unit = span / perBlock; unit >= 1; unit /= perBlock) {
        slots.push(Math.floor(offset / unit));
        offset %= unit;
      }
      return { slots, roomSlots: perBlock - slots[slots.length - 1]! };
    }
    offset -= span;
  }
  throw new FsError("EFBIG", {
    detail: `inode ${inode.ino}: no pointer reaches block ${fileBlock}`,
  });
}

/**
 * Pointer blocks that a block of a file needs at most: with as many more reserved for each delayed
 * block whose pointer is not in the array of the one before, writeback finds room.
 */
export function pointerBlocksFor(ctx: ExtWriter, inode: ExtInode, fileBlock: number): number {
  return pathTo(ctx, inode, fileBlock).slots.length - 1;
}

/** Where a hole at `slot` of `array` is best filled (`ext2_find_near`). */
function goalAt(
  ctx: ExtWriter,
  inode: ExtInode,
  array: Uint8Array,
  arrayBlock: number,
  slot: number,
): { goal: number; isContinuation: boolean } {
  for (let before = slot - 1; before >= 0; before--) {
    const pointer = le32(array, before * POINTER_BYTES);
    if (pointer === 0) continue;
    return { goal: pointer + slot - before, isContinuation: before === slot - 1 };
  }
  if (arrayBlock !== 0) return { goal: arrayBlock + 1, isContinuation: false };
  return { goal: inodeGoal(ctx.sb, inode), isContinuation: false };
}

/** One pointer on the way to a block of a file. */
interface PointerLevel {
  /** The block of the array, 0 for `i_block`. */
  readonly blocknr: number;
  readonly array: Uint8Array;
  readonly slot: number;
}

/** The arrays on the way that exist. Restartable. */
function levelsOf(ctx: ExtWriter, inode: ExtInode, slots: readonly number[]): PointerLevel[] {
  const levels: PointerLevel[] = [{ blocknr: 0, array: inode.iBlock, slot: slots[0]! }];
  for (let depth = 1; depth < slots.length; depth++) {
    const { array, slot } = levels[depth - 1]!;
    const blocknr = pointerAt(ctx, inode, array, slot);
    if (blocknr === 0) break;
    levels.push({ blocknr, array: ctx.metadata.block(blocknr), slot: slots[depth]! });
  }
  return levels;
}

/** The array of `level`, to be changed. */
function editArray(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  level: PointerLevel,
): Uint8Array {
  ctx.editInode(handle, inode);
  return level.blocknr === 0 ? inode.iBlock : handle.write(level.blocknr);
}

/**
 * As `extMapForWrite`, for an inode with a block map: a run does not go on behind the array of
 * pointers that it began in. Restartable.
 *
 * @throws {FsError} `ENOSPC`; `EFBIG` for a block that no pointer reaches
 */
export function indMapForWrite(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
  options: MapForWriteOptions = {},
): AllocatedRun {
  const { slots, roomSlots } = pathTo(ctx, inode, fileBlock);
  const run = mapIndirect(ctx, inode, fileBlock, Math.min(count, roomSlots));
  if (run.physical !== 0) return { ...run, isNew: false };
  const isReserved = options.isReserved === true;
  const { isPrivileged } = ctx;
  const levels = levelsOf(ctx, inode, slots);
  const last = levels[levels.length - 1]!;
  let near = goalAt(ctx, inode, last.array, last.blocknr, last.slot);
  const branch: number[] = [];
  noteMapChange(ctx, handle, inode);
  for (let missing = slots.length - levels.length; missing > 0; missing--) {
    const request = { goal: near.goal, count: 1, isStructure: isReserved, isPrivileged };
    const { first } = ctx.blocks.allocate(handle, { ...request, ...near });
    checkReach(inode, first, 1);
    branch.push(first);
    handle.create(first);
    near = { goal: first + 1, isContinuation: true };
  }
  const wanted = Math.min(run.count, roomSlots, count);
  const data = ctx.blocks.allocate(handle, { ...near, count: wanted, isReserved, isPrivileged });
  checkReach(inode, data.first, data.count);
  link(ctx, handle, inode, last, slots, branch, data);
  countBlocks(ctx, inode, data.count + branch.length);
  const isBoundary = data.count === roomSlots;
  return { physical: data.first, count: data.count, isUnwritten: false, isBoundary, isNew: true };
}

/** Pointers have 32 bits. */
function checkReach(inode: ExtInode, first: number, count: number): void {
  if (first + count <= BLOCKS_END) return;
  throw new FsError("ENOSPC", {
    detail: `inode ${inode.ino}: the free blocks are behind the reach of its block map`,
  });
}

/** Puts the pointers to `data` in place, through the new pointer blocks of `branch`. */
function link(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  last: PointerLevel,
  slots: readonly number[],
  branch: readonly number[],
  data: { readonly first: number; readonly count: number },
): void {
  let array = editArray(ctx, handle, inode, last);
  let depth = slots.length - 1 - branch.length;
  for (const blocknr of branch) {
    putLe32(array, slots[depth]! * POINTER_BYTES, blocknr);
    array = handle.write(blocknr);
    depth++;
  }
  const slot = slots[depth]!;
  for (let at = 0; at < data.count; at++) {
    putLe32(array, (slot + at) * POINTER_BYTES, data.first + at);
  }
}

/** A removal under way. */
interface Removal {
  readonly ctx: ExtWriter;
  readonly handle: Handle;
  readonly inode: ExtInode;
  readonly fromBlock: number;
  readonly endBlock: number;
  /** Groups whose bitmaps it has changed. */
  readonly groups: Set<number>;
  /** Runs that may still be freed in this step, so that no stretch of code is long. */
  runsLeft: number;
  hasChanged: boolean;
}

/** True while the handle has room for another array of pointers. */
function hasRoom(removal: Removal): boolean {
  if (!removal.hasChanged) return true;
  const isWide = removal.groups.size >= GROUPS_PER_STEP;
  if (isWide || removal.runsLeft <= 0) return false;
  return removal.handle.roomBlocks >= GROUPS_PER_STEP + SPARE_BLOCKS;
}

function freeRun(removal: Removal, first: number, count: number, isMetadata: boolean): void {
  const { ctx, handle, inode } = removal;
  ctx.blocks.free(handle, first, count, { isMetadata });
  countBlocks(ctx, inode, -count);
  removal.groups.add(ctx.groups.groupOfBlock(first));
  removal.hasChanged = true;
  removal.runsLeft--;
}

/**
 * Frees the data behind slots `from` .. `end` of `level`, from the last on. Returns false if it was
 * not all, for want of room.
 */
function removeData(removal: Removal, level: PointerLevel, from: number, end: number): boolean {
  const { ctx, handle, inode } = removal;
  const isMetadata = hasMetadataBlocks(ctx, inode);
  for (let slot = end - 1; slot >= from; ) {
    const pointer = pointerAt(ctx, inode, level.array, slot);
    if (pointer === 0) {
      slot--;
      continue;
    }
    if (!hasRoom(removal)) return false;
    let first = slot;
    while (
      first > from &&
      pointerAt(ctx, inode, level.array, first - 1) === pointer - (slot - first + 1)
    ) {
      first--;
    }
    const count = slot - first + 1;
    const array = editArray(ctx, handle, inode, level);
    array.fill(0, first * POINTER_BYTES, (slot + 1) * POINTER_BYTES);
    freeRun(removal, pointer - count + 1, count, isMetadata);
    slot = first - 1;
  }
  return true;
}

/**
 * Removes what is in range behind pointer `slot` of `above`, which leads to a tree of `depth`
 * arrays for the blocks of the file from `treeFrom` on. The tree goes as a whole if it is empty
 * then. Returns false if it was not all.
 */
function removeTree(
  removal: Removal,
  above: PointerLevel,
  slot: number,
  depth: number,
  treeFrom: number,
): boolean {
  const { ctx, handle, inode, fromBlock, endBlock } = removal;
  const blocknr = pointerAt(ctx, inode, above.array, slot);
  if (blocknr === 0) return true;
  const perBlock = ctx.sb.blockBytes / POINTER_BYTES;
  const span = perBlock ** (depth - 1);
  const from = Math.max(0, Math.floor((fromBlock - treeFrom) / span));
  const end = Math.min(perBlock, Math.ceil((endBlock - treeFrom) / span));
  if (from >= end) return true;
  const level: PointerLevel = { blocknr, array: ctx.metadata.block(blocknr), slot: 0 };
  if (depth === 1) {
    if (!removeData(removal, level, from, end)) return false;
  } else {
    for (let child = end - 1; child >= from; child--) {
      if (!removeTree(removal, level, child, depth - 1, treeFrom + child * span)) return false;
    }
  }
  if (!isZero(level.array)) return true;
  if (!hasRoom(removal)) return false;
  putLe32(editArray(ctx, handle, inode, above), slot * POINTER_BYTES, 0);
  freeRun(removal, blocknr, 1, true);
  return true;
}

/**
 * Frees the blocks of the file from `fromBlock` on, and before `endBlock`, from the last one on.
 * Returns true once none is left. Restartable.
 */
export function removeIndirect(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fromBlock: number,
  endBlock: number = Number.MAX_SAFE_INTEGER,
): boolean {
  noteMapChange(ctx, handle, inode);
  const range = { fromBlock, endBlock };
  const state = { groups: new Set<number>(), runsLeft: RUNS_PER_STEP, hasChanged: false };
  const removal: Removal = { ctx, handle, inode, ...range, ...state };
  const root: PointerLevel = { blocknr: 0, array: inode.iBlock, slot: 0 };
  const perBlock = ctx.sb.blockBytes / POINTER_BYTES;
  const starts = [DIRECT_BLOCKS];
  for (let level = 1; level < INDIRECT_LEVELS; level++) {
    starts.push(starts[level - 1]! + perBlock ** level);
  }
  for (let level = INDIRECT_LEVELS; level >= 1; level--) {
    const treeFrom = starts[level - 1]!;
    if (treeFrom >= endBlock) continue;
    if (!removeTree(removal, root, DIRECT_BLOCKS + level - 1, level, treeFrom)) return false;
  }
  return removeData(removal, root, fromBlock, Math.min(endBlock, DIRECT_BLOCKS));
}
