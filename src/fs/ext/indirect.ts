/**
 * The block map of ext2 and ext3: direct pointers, then trees of pointer blocks of depth one to
 * three.
 *
 *     i_block [0 .. 11]  [12]       [13]            [14]
 *              data      |          |               |
 *                       block      block           block         p = blockBytes / 4 pointers
 *                        data       block ..        block ..
 *                                    data            block ..
 *                                                     data
 *
 *  1. A pointer is 0, a hole at any level, or a block inside the file system; else it is `EUCLEAN`.
 *  2. A run never leaves the array of pointers that it began in; one that uses the last pointer of
 *     the array is a boundary: to go on, another pointer block has to be read.
 *  3. Depth bounds a walk, so a pointer block that points to itself does no harm.
 *
 * After `fs/ext4/indirect.c` and `fs/ext2/inode.c` (`ext2_block_to_path`, `ext2_get_blocks`).
 * There is no checksum over pointer blocks.
 */
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import type { ExtContext, MappedRun } from "./context.ts";
import { whyNotOfFile } from "./fixed-blocks.ts";
import type { ExtInode } from "./inode.ts";
import { DIRECT_BLOCKS, INDIRECT_LEVELS } from "./layout.ts";

/** Bytes of one pointer. */
export const POINTER_BYTES = 4;

/** Length of the longest file that a map of blocks of `blockBytes` reaches. */
export function indirectReachBytes(blockBytes: number): number {
  const perBlock = blockBytes / POINTER_BYTES;
  let blocks = DIRECT_BLOCKS;
  for (let level = 1; level <= INDIRECT_LEVELS; level++) blocks += perBlock ** level;
  return blocks * blockBytes;
}

/** A pointer from the file's map, checked. */
export function pointerAt(
  ctx: ExtContext,
  inode: ExtInode,
  array: Uint8Array,
  slot: number,
): number {
  const pointer = le32(array, slot * POINTER_BYTES);
  if (pointer === 0) return 0;
  checkPointers(ctx, inode, slot, pointer, 1);
  return pointer;
}

/** Throws `EUCLEAN` unless the blocks that the pointers from `slot` on lead to may be a file's. */
function checkPointers(
  ctx: ExtContext,
  inode: ExtInode,
  slot: number,
  first: number,
  count: number,
): void {
  const why = whyNotOfFile(ctx, inode.ino, first, count);
  if (why === undefined) return;
  const what = count === 1 ? `pointer ${slot} is block ${first}` : `pointers from ${slot} on are`;
  throw new FsError("EUCLEAN", { detail: `inode ${inode.ino}: i_block: ${what}, ${why}` });
}

/** The run that begins at `slot` of `array`, whose pointers `slot` .. `slotEnd` lead to data. */
function runInArray(
  ctx: ExtContext,
  inode: ExtInode,
  array: Uint8Array,
  slot: number,
  slotEnd: number,
  maxCount: number,
): MappedRun {
  const physical = pointerAt(ctx, inode, array, slot);
  const step = physical === 0 ? 0 : 1;
  const countMax = Math.min(maxCount, slotEnd - slot);
  let count = 1;
  while (
    count < countMax &&
    le32(array, (slot + count) * POINTER_BYTES) === physical + step * count &&
    physical + count < ctx.sb.blockCount
  ) {
    count++;
  }
  if (physical !== 0 && count > 1) checkPointers(ctx, inode, slot, physical, count);
  return {
    physical,
    count,
    isUnwritten: false,
    isBoundary: physical !== 0 && slot + count === slotEnd,
  };
}

/**
 * Where the file blocks from `fileBlock` on lie, at most `maxCount` (`ext2_get_blocks`). A missing
 * pointer block is one hole for all that it would map. Restartable.
 *
 * @throws {FsError} `EUCLEAN` for a pointer outside the file system, or a file block that no
 * pointer reaches
 */
export function mapIndirect(
  ctx: ExtContext,
  inode: ExtInode,
  fileBlock: number,
  maxCount: number,
): MappedRun {
  if (fileBlock < DIRECT_BLOCKS) {
    return runInArray(ctx, inode, inode.iBlock, fileBlock, DIRECT_BLOCKS, maxCount);
  }
  const perBlock = ctx.sb.blockBytes / POINTER_BYTES;
  let offset = fileBlock - DIRECT_BLOCKS;
  for (let level = 1; level <= INDIRECT_LEVELS; level++) {
    const span = perBlock ** level;
    if (offset < span) return mapThrough(ctx, inode, level, offset, maxCount);
    offset -= span;
  }
  throw new FsError("EUCLEAN", {
    detail: `inode ${inode.ino}: i_size: block ${fileBlock} of the file is behind the reach of its map`,
  });
}

/** Number of pointers from `slot` on that are 0. */
function zeroPointers(array: Uint8Array, slot: number, slotEnd: number): number {
  let end = slot;
  while (end < slotEnd && le32(array, end * POINTER_BYTES) === 0) end++;
  return end - slot;
}

/** The run at block `offset` of the tree of `level`, counted from the first block that it maps. */
function mapThrough(
  ctx: ExtContext,
  inode: ExtInode,
  level: number,
  offset: number,
  maxCount: number,
): MappedRun {
  const perBlock = ctx.sb.blockBytes / POINTER_BYTES;
  const hole = (blockCount: number): MappedRun => {
    const count = Math.min(blockCount, maxCount);
    return { physical: 0, count, isUnwritten: false, isBoundary: false };
  };
  let pointer = pointerAt(ctx, inode, inode.iBlock, DIRECT_BLOCKS + level - 1);
  let span = perBlock ** level;
  let rest = offset;
  if (pointer === 0) return hole(span - rest);
  for (;;) {
    const array = ctx.metadata.block(pointer);
    span /= perBlock;
    const slot = Math.floor(rest / span);
    if (span === 1) return runInArray(ctx, inode, array, slot, perBlock, maxCount);
    pointer = pointerAt(ctx, inode, array, slot);
    rest %= span;
    if (pointer === 0) return hole(zeroPointers(array, slot, perBlock) * span - rest);
  }
}
