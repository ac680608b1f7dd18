/**
 * SpaceMap: which blocks of a file system in the making are taken, as runs and not as bits, so that
 * 16 TiB cost as much memory as they have pieces.
 *
 *     [1, 700) [8193, 8452) [24577, 24836) ..      sorted, no two touch
 */
import { assert } from "../../../lib/assert.ts";
import { roundDown, roundUp } from "../../../lib/units.ts";

/** Blocks `start` .. `end - 1`. */
export interface SpaceRun {
  readonly start: number;
  readonly end: number;
}

/** See the head of the file. Blocks are 0 .. `blockCount - 1`. */
export class SpaceMap {
  readonly blockCount: number;
  #starts: number[] = [];
  #ends: number[] = [];

  constructor(blockCount: number) {
    this.blockCount = blockCount;
  }

  /** Index of the first run that ends behind `block`. */
  #runAt(block: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Takes blocks, of which some may be taken already. */
  take(start: number, count: number): void {
    assert(start >= 0 && start + count <= this.blockCount, "only blocks that exist are taken");
    if (count === 0) return;
    let from = start;
    let to = start + count;
    // Runs that touch the new one melt into it: from the one that ends at `start` on.
    const first = this.#runAt(start - 1);
    let last = first;
    while (last < this.#starts.length && this.#starts[last]! <= to) {
      from = Math.min(from, this.#starts[last]!);
      to = Math.max(to, this.#ends[last]!);
      last++;
    }
    this.#starts.splice(first, last - first, from);
    this.#ends.splice(first, last - first, to);
  }

  /** True if blocks `start` .. + `count` exist and are free. */
  isFree(start: number, count: number): boolean {
    if (start + count > this.blockCount) return false;
    const at = this.#runAt(start);
    return at === this.#starts.length || this.#starts[at]! >= start + count;
  }

  /** The first block of `count` free ones in a row in `from` .. `end - 1`, or -1. */
  findFree(from: number, end: number, count: number): number {
    let block = from;
    const limit = Math.min(end, this.blockCount);
    for (let at = this.#runAt(from); ; at++) {
      const next = at < this.#starts.length ? this.#starts[at]! : this.blockCount;
      if (block + count > limit) return -1;
      if (block + count <= next) return block;
      if (at === this.#starts.length) return -1;
      block = Math.max(block, this.#ends[at]!);
    }
  }

  /** The longest free run that begins at or behind `from`, at most `count` blocks; or undefined. */
  nextFreeRun(from: number, count: number): SpaceRun | undefined {
    const start = this.findFree(from, this.blockCount, 1);
    if (start < 0) return undefined;
    const at = this.#runAt(start);
    const end = at < this.#starts.length ? this.#starts[at]! : this.blockCount;
    return { start, end: Math.min(end, start + count) };
  }

  /** The taken runs within `start` .. `end - 1`, cut to that. */
  *takenIn(start: number, end: number): Generator<SpaceRun> {
    for (let at = this.#runAt(start); at < this.#starts.length; at++) {
      const from = Math.max(this.#starts[at]!, start);
      if (from >= end) return;
      yield { start: from, end: Math.min(this.#ends[at]!, end) };
    }
  }

  /** How many of the blocks `start` .. `end - 1` are taken. */
  countTaken(start: number, end: number): number {
    let count = 0;
    for (const run of this.takenIn(start, end)) count += run.end - run.start;
    return count;
  }

  /** Takes each cluster of `ratio` blocks whole of which a block is taken. */
  roundToClusters(ratio: number): void {
    const starts = this.#starts;
    const ends = this.#ends;
    this.#starts = [];
    this.#ends = [];
    for (let at = 0; at < starts.length; at++) {
      const from = roundDown(starts[at]!, ratio);
      const to = Math.min(roundUp(ends[at]!, ratio), this.blockCount);
      const last = this.#ends.length - 1;
      if (last >= 0 && from <= this.#ends[last]!)
        this.#ends[last] = Math.max(to, this.#ends[last]!);
      else {
        this.#starts.push(from);
        this.#ends.push(to);
      }
    }
  }
}
