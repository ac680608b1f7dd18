/**
 * What fast commits changed in the block map of one inode: runs that are mapped elsewhere than at
 * home, or are holes now.
 *
 *     home     [ 0 .. 7 -> 500 ]                [ 20 .. 29 -> 700 ]
 *     patch              [ 6 .. 9 -> 900 ]         [ 22 .. hole .. )
 *     result   [ 0..5 ]  [ 6 .. 9 -> 900 ]      [20,21]
 *
 * A later record covers an earlier one. Nothing of the home map is read until somebody asks for it,
 * so the patch of a large file costs as much as its records.
 *
 *  1. Ranges are in order and do not overlap.
 */
import { assert } from "../../lib/assert.ts";
import type { MappedRun } from "./context.ts";

/** File blocks are 32-bit numbers. */
const FILE_BLOCKS_END = 0x1_0000_0000;

/** File blocks `first .. end` and where they lie. */
export interface PatchRange {
  readonly first: number;
  readonly end: number;
  /** 0 for a hole. */
  readonly physical: number;
  readonly isUnwritten: boolean;
}

/** `range` cut to `first .. end`. */
function cut(range: PatchRange, first: number, end: number): PatchRange {
  const physical = range.physical === 0 ? 0 : range.physical + (first - range.first);
  return { first, end, physical, isUnwritten: range.isUnwritten };
}

/** See the head of the file. */
export class ExtentPatch {
  #ranges: PatchRange[] = [];

  /** In order, without overlaps. */
  get ranges(): readonly PatchRange[] {
    return this.#ranges;
  }

  /** Maps `count` blocks from `first` on to `physical`, or makes them a hole with 0. */
  set(first: number, count: number, physical: number, isUnwritten = false): void {
    const end = Math.min(first + count, FILE_BLOCKS_END);
    if (first >= end) return;
    const from = this.#firstEndingAfter(first);
    let to = from;
    while (to < this.#ranges.length && this.#ranges[to]!.first < end) to++;
    const pieces: PatchRange[] = [];
    if (from < to) {
      const lowest = this.#ranges[from]!;
      const highest = this.#ranges[to - 1]!;
      if (lowest.first < first) pieces.push(cut(lowest, lowest.first, first));
      pieces.push({ first, end, physical, isUnwritten });
      if (highest.end > end) pieces.push(cut(highest, end, highest.end));
    } else {
      pieces.push({ first, end, physical, isUnwritten });
    }
    this.#ranges.splice(from, to - from, ...pieces);
  }

  /**
   * Where the file blocks from `fileBlock` on lie, at most `maxCount`. Where the patch does not
   * say, `home` is asked for that many blocks from `fileBlock` on.
   */
  map(fileBlock: number, maxCount: number, home: (count: number) => MappedRun): MappedRun {
    const range = this.#ranges[this.#firstEndingAfter(fileBlock)];
    if (range === undefined) return home(maxCount);
    if (fileBlock < range.first) return home(Math.min(maxCount, range.first - fileBlock));
    const { physical, isUnwritten } = cut(range, fileBlock, range.end);
    const count = Math.min(maxCount, range.end - fileBlock);
    return { physical, count, isUnwritten, isBoundary: false };
  }

  /** Index of the first range that ends behind `fileBlock`. */
  #firstEndingAfter(fileBlock: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.end <= fileBlock) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Checks invariant 1; for tests. */
  verify(): void {
    let end = 0;
    for (const range of this.#ranges) {
      assert(range.first >= end && range.first < range.end, "ranges are in order and not empty");
      end = range.end;
    }
  }
}
