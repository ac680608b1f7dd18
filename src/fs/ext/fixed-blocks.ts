/**
 * Sets of blocks, as runs, and the one that matters most: the blocks of the file system itself.
 *
 *     group 0   | superblock, descriptors, reserve | bitmaps | tables | ..    | copy ..
 *               \------------ no file's -----------------------------/        \-- no file's
 *
 * A map that leads there is damaged or forged: who wrote "to the file" would write over an inode
 * table, and who deleted it would have the table handed out as free space.
 *
 *  1. The journal is in the set, and is the only file that may have blocks of it.
 *  2. The set is known while the file system is open for writing; who only reads does no harm.
 *
 * After `fs/ext4/block_validity.c` of Linux.
 */
import type { ExtContext } from "./context.ts";
import { copyBlocksIn, type DescriptorSource } from "./group.ts";
import type { JournalRun } from "./journal-log.ts";
import type { Superblock } from "./superblock.ts";

/** First block and count. */
export type BlockSpan = readonly [first: number, count: number];

/** See the head of the file. Memory: 16 bytes for each piece. */
export class FixedBlocks {
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;

  /** `spans` may be in any order, and overlap. */
  constructor(spans: readonly BlockSpan[]) {
    const sorted = spans.filter(([, count]) => count > 0).sort(([a], [b]) => a - b);
    const starts: number[] = [];
    const ends: number[] = [];
    for (const [first, count] of sorted) {
      const last = ends.length - 1;
      if (last >= 0 && first <= ends[last]!) ends[last] = Math.max(ends[last]!, first + count);
      else {
        starts.push(first);
        ends.push(first + count);
      }
    }
    this.#starts = Float64Array.from(starts);
    this.#ends = Float64Array.from(ends);
  }

  has(blocknr: number): boolean {
    return this.overlaps(blocknr, 1);
  }

  /** True if one of the blocks `first` .. + `count` is in the set. */
  overlaps(first: number, count: number): boolean {
    const at = this.#firstEndingAfter(first);
    return at < this.#starts.length && this.#starts[at]! < first + count;
  }

  /** Calls `visit` for each piece of the set among the blocks from `first` on, before `end`. */
  eachIn(first: number, end: number, visit: (first: number, count: number) => void): void {
    for (let at = this.#firstEndingAfter(first); at < this.#starts.length; at++) {
      const from = Math.max(first, this.#starts[at]!);
      if (from >= end) break;
      visit(from, Math.min(end, this.#ends[at]!) - from);
    }
  }

  #firstEndingAfter(blocknr: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! <= blocknr) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * The blocks of the file system itself, by the descriptors of `source`, and those of its journal.
 */
export function systemBlocksOf(
  sb: Superblock,
  source: DescriptorSource,
  journal: readonly JournalRun[],
): FixedBlocks {
  const spans: BlockSpan[] = journal.map(({ physical, count }) => [physical, count]);
  for (let group = 0; group < sb.groupCount; group++) {
    const { blockBitmap, inodeBitmap, inodeTable } = source.descriptor(group);
    spans.push([sb.firstBlockOf(group), copyBlocksIn(sb, group)]);
    spans.push([blockBitmap, 1], [inodeBitmap, 1], [inodeTable, sb.inodeTableBlockCount]);
  }
  return new FixedBlocks(spans);
}

/**
 * Why blocks `first` .. + `count` cannot be those of inode `ino`, to go behind "is" or "are";
 * undefined if they can (`ext4_inode_block_valid`).
 */
export function whyNotOfFile(
  ctx: ExtContext,
  ino: number,
  first: number,
  count: number,
): string | undefined {
  const { firstDataBlock, blockCount, journalIno } = ctx.sb;
  if (first <= firstDataBlock || first + count > blockCount) return "outside";
  const isSystem = ino !== journalIno && ctx.systemBlocks?.overlaps(first, count) === true;
  return isSystem ? "of the file system itself" : undefined;
}
