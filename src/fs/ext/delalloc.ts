/**
 * Delayed allocation: which blocks of a file have been promised room on the device, and lie nowhere
 * yet.
 *
 *     write      reserve 40..48            no room: the write fails, not the write-out
 *     write-out  allocate 40..48, take     the promise is kept, in one run if there is one
 *     truncate   release 44..48            the promise is given back
 *
 *  1. A block is in `inode.delalloc` exactly while one block is reserved for it with the allocator.
 *  2. What the pointer blocks of a block map may need is reserved with it, for all of the inode
 *     together, and given back when it has no promise left. Extents have a pool for theirs.
 *  3. A promised block is a hole in the map of the inode.
 *
 * After `ext4_da_map_blocks` in `fs/ext4/inode.c` and `fs/ext4/extents_status.c` of Linux.
 */
import { assert } from "../../lib/assert.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { DIRECT_BLOCKS, INDIRECT_LEVELS } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";

const POINTER_BYTES = 4;
const NO_RANGES: readonly BlockRange[] = [];

/** Blocks `first..end` of a file, the last one excluded. */
export interface BlockRange {
  readonly first: number;
  readonly end: number;
}

/** Sorted ranges of blocks that neither overlap nor touch, and what is reserved beside them. */
export class DelallocRanges {
  #ranges: BlockRange[] = [];
  blockCount = 0;
  /** Reserved for pointer blocks: see rule 2. */
  structureCount = 0;
  /** Pointer blocks that `structureCount` stands for, by level and number. */
  readonly structure: Set<number> = new Set();

  get ranges(): readonly BlockRange[] {
    return this.#ranges;
  }

  /** The range that holds `block`, or the first behind it; undefined if there is none. */
  next(block: number): BlockRange | undefined {
    return this.#ranges[this.#indexOf(block)];
  }

  /** The range that holds `block`. */
  at(block: number): BlockRange | undefined {
    const range = this.next(block);
    return range !== undefined && range.first <= block ? range : undefined;
  }

  /** What is there of `first..end`. */
  within(first: number, end: number): readonly BlockRange[] {
    let found: BlockRange[] | undefined;
    for (let index = this.#indexOf(first); index < this.#ranges.length; index++) {
      const range = this.#ranges[index]!;
      if (range.first >= end) break;
      found ??= [];
      found.push({ first: Math.max(range.first, first), end: Math.min(range.end, end) });
    }
    return found ?? NO_RANGES;
  }

  /** Adds `first..end`, of which nothing is there. */
  add(first: number, end: number): void {
    const index = this.#indexOf(first);
    assert((this.#ranges[index]?.first ?? end) >= end, "a block is promised once");
    this.blockCount += end - first;
    const before = this.#ranges[index - 1];
    const behind = this.#ranges[index];
    const joinsBefore = before?.end === first;
    const joinsBehind = behind?.first === end;
    const joined = {
      first: joinsBefore ? before.first : first,
      end: joinsBehind ? behind.end : end,
    };
    const from = joinsBefore ? index - 1 : index;
    this.#ranges.splice(from, Number(joinsBefore) + Number(joinsBehind), joined);
  }

  /** Takes out what is there of `first..end`, and returns it. */
  remove(first: number, end: number): BlockRange[] {
    const removed: BlockRange[] = [];
    let index = this.#indexOf(first);
    while (index < this.#ranges.length && this.#ranges[index]!.first < end) {
      const range = this.#ranges[index]!;
      const cut = { first: Math.max(range.first, first), end: Math.min(range.end, end) };
      const rest = [
        { first: range.first, end: cut.first },
        { first: cut.end, end: range.end },
      ].filter((part) => part.end > part.first);
      this.#ranges.splice(index, 1, ...rest);
      removed.push(cut);
      this.blockCount -= cut.end - cut.first;
      index += rest.length;
    }
    return removed;
  }

  /** Index of the first range that ends behind `block`. */
  #indexOf(block: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.end <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * Pointer blocks on the way to file block `fileBlock`, each as a number of its own: its level, and
 * which it is of that level in the file.
 */
function pointerBlocksOf(fileBlock: number, perBlock: number): number[] {
  const numbers: number[] = [];
  let index = fileBlock - DIRECT_BLOCKS;
  for (let level = 1; index >= 0; level++) {
    index = Math.floor(index / perBlock);
    numbers.push(index * (INDIRECT_LEVELS + 1) + level);
    index--; // The first of each level has no other above it.
  }
  return numbers;
}

/** The pointer blocks of `first..end` that nothing is reserved for yet. */
function newStructure(ctx: ExtWriter, known: ReadonlySet<number>, range: BlockRange): Set<number> {
  const pointers = ctx.sb.blockBytes / POINTER_BYTES;
  const added = new Set<number>();
  for (let block = Math.max(range.first, DIRECT_BLOCKS); block < range.end; ) {
    for (const number of pointerBlocksOf(block, pointers)) {
      if (!known.has(number)) added.add(number);
    }
    block += pointers - ((block - DIRECT_BLOCKS) % pointers); // To the next block of pointers.
  }
  return added;
}

/**
 * Promises room for `count` blocks of `inode` from `fileBlock` on, all holes that nothing is
 * promised for (`ext4_insert_delayed_block`). False if there is not so much.
 */
export function reserveBlocks(
  ctx: ExtWriter,
  inode: ExtInode,
  fileBlock: number,
  count: number,
): boolean {
  const ranges = inode.delalloc ?? new DelallocRanges();
  const range = { first: fileBlock, end: fileBlock + count };
  const isBlockMap = !inode.hasExtents && !inode.isInline;
  const added = isBlockMap ? newStructure(ctx, ranges.structure, range) : new Set<number>();
  if (!ctx.blocks.reserve(count + added.size, ctx.isPrivileged)) return false;
  for (const number of added) ranges.structure.add(number);
  ranges.structureCount += added.size;
  ranges.add(range.first, range.end);
  inode.delalloc = ranges;
  return true;
}

/** Gives back what was promised to blocks in `first..end` of `inode` (`ext4_es_remove_extent`). */
export function releaseBlocks(ctx: ExtWriter, inode: ExtInode, first: number, end: number): void {
  const ranges = inode.delalloc;
  if (ranges === undefined) return;
  const countBefore = ranges.blockCount;
  ranges.remove(first, end);
  ctx.blocks.unreserve(countBefore - ranges.blockCount);
  settlePromises(ctx, inode);
}

/** What `inode` has been promised of the blocks `first..end`. */
export function promisesOf(inode: ExtInode, first: number, end: number): readonly BlockRange[] {
  return inode.delalloc?.within(first, end) ?? NO_RANGES;
}

/** As `releaseBlocks`, but what `kept` has, which is in order, stays promised. */
export function releaseOthers(
  ctx: ExtWriter,
  inode: ExtInode,
  first: number,
  end: number,
  kept: readonly BlockRange[],
): void {
  let from = first;
  for (const range of kept) {
    releaseBlocks(ctx, inode, from, range.first);
    from = range.end;
  }
  releaseBlocks(ctx, inode, from, end);
}

/**
 * Notes that `count` blocks from `fileBlock` on, all promised, have been allocated by the operation
 * of `handle`, which took them off what is reserved. After the operation: `settlePromises`.
 */
export function takePromised(
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
): void {
  const ranges = inode.delalloc;
  assert(ranges !== undefined, "what is taken was promised");
  const removed = ranges.remove(fileBlock, fileBlock + count);
  handle.undo(() => {
    for (const { first, end } of removed) ranges.add(first, end);
  });
}

/** Gives back what is reserved for the structure of `inode`, if nothing is promised any more. */
export function settlePromises(ctx: ExtWriter, inode: ExtInode): void {
  const ranges = inode.delalloc;
  if (ranges === undefined || ranges.blockCount > 0) return;
  ctx.blocks.unreserve(ranges.structureCount);
  inode.delalloc = undefined;
}
