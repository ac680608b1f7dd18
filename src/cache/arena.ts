/**
 * Arena: the memory of the page cache, frames of 4096 bytes handed out in aligned runs of 2^order.
 *
 *     chained blocks   [ ArrayBuffer 0 ][ ArrayBuffer 1 ][ not made yet ]   made when first needed
 *     frames (pfn)      0 1 2 3 4 ...    n n+1 ...
 *     free runs        order 0: 5 -> 17     order 2: 8     order 9: 1024 -> 1536
 *
 * A run of order k begins at a multiple of 2^k. Its buddy is the run beside it with which it
 * forms one of order k + 1; freed runs join their free buddies at once. Metadata lies in typed
 * arrays by pfn, so that an arena of a million frames costs no objects. Invariants, checked by
 * `verify()`:
 *
 *  1. Every frame of a made block is in exactly one run, free or handed out.
 *  2. No free run below the largest order has a free buddy of its own order.
 *  3. `freeFrames` counts the frames of free runs and of the blocks not made yet.
 *
 * A reserve is left to those who need memory in order to free some: `alloc` keeps it unless told.
 * After `mm/page_alloc.c` of Linux. Left out: zones, migration types, per-CPU lists, compaction.
 */
import { assert } from "../lib/assert.ts";
import { MIB, PAGE_BYTES } from "../lib/units.ts";
import { ORDER_MAX } from "../lib/xarray.ts";

/** A pfn has 24 bits. */
const FRAMES_MAX = 0x100_0000;
const RESERVE_FRAMES_MAX = 64;
const RESERVE_SHARE = 16;
const RESERVE_SHARE_MAX = 4;
const RUN_FRAMES_MAX = 1 << ORDER_MAX;
// Small, since V8 collects garbage for every 64 MiB of buffers: most uses never get that far.
const BLOCK_BYTES_DEFAULT: number = 8 * MIB;
const NONE = -1;

/** States of a frame: inside a run, or first of one, with the order of that run added. */
const INSIDE = 0;
const FREE = 0x10;
const TAKEN = 0x20;
const ORDER_MASK = 0xf;

export interface ArenaOptions {
  /** Memory for frames in bytes; rounded down to whole frames, at least one, at most 64 GiB. */
  readonly sizeBytes: number;
  /** Bytes of one `ArrayBuffer` of the chain: a multiple of 2 MiB, the largest run. */
  readonly blockBytes?: number;
}

export class Arena {
  /** Frames in all, made or not. */
  readonly frameCount: number;
  /** Frames that may be pinned at once by those outside the cache. */
  readonly pinLimitFrames: number;
  readonly #blockFrames: number;
  readonly #blocks: ArrayBuffer[] = [];
  readonly #state: Uint8Array;
  readonly #next: Int32Array;
  readonly #before: Int32Array;
  readonly #heads: Int32Array = new Int32Array(ORDER_MAX + 1).fill(NONE);
  #freeFrames: number;
  #reserveFrames: number;

  private constructor(frameCount: number, blockFrames: number) {
    this.frameCount = frameCount;
    this.#reserveFrames = Math.min(RESERVE_FRAMES_MAX, Math.floor(frameCount / RESERVE_SHARE));
    this.pinLimitFrames = Math.floor(frameCount / 2);
    this.#blockFrames = blockFrames;
    this.#state = new Uint8Array(frameCount);
    this.#next = new Int32Array(frameCount);
    this.#before = new Int32Array(frameCount);
    this.#freeFrames = frameCount;
  }

  /** Makes an arena. Memory is taken from the system block by block, as frames are asked for. */
  static create({ sizeBytes, blockBytes = BLOCK_BYTES_DEFAULT }: ArenaOptions): Arena {
    const frameCount = Math.floor(sizeBytes / PAGE_BYTES);
    assert(frameCount > 0 && frameCount <= FRAMES_MAX, "an arena has 1 to 2^24 frames");
    const blockFrames = blockBytes / PAGE_BYTES;
    assert(blockFrames % RUN_FRAMES_MAX === 0, "a block holds whole runs of the largest order");
    return new Arena(frameCount, blockFrames);
  }

  /** Frames that only `alloc(order, true)` touches. */
  get reserveFrames(): number {
    return this.#reserveFrames;
  }

  /** Makes the reserve `frames` large, if it is smaller, but at most a quarter of the arena. */
  reserveAtLeast(frames: number): void {
    const most = Math.floor(this.frameCount / RESERVE_SHARE_MAX);
    this.#reserveFrames = Math.max(this.#reserveFrames, Math.min(frames, most));
  }

  /** Frames that are in nobody's hands, the reserve included. */
  get freeFrames(): number {
    return this.#freeFrames;
  }

  /**
   * Takes a run of `2 ** order` frames and returns the number of its first (`alloc_pages`); -1 if
   * no run is free or if it would touch the reserve without `useReserve`. Its bytes are anything.
   * Never waits.
   */
  alloc(order: number, useReserve = false): number {
    assert(order >>> 0 === order && order <= ORDER_MAX, "an order is in 0..9");
    const keepFrames = useReserve ? 0 : this.reserveFrames;
    if (this.#freeFrames - (1 << order) < keepFrames) return NONE;
    for (;;) {
      for (let from = order; from <= ORDER_MAX; from++) {
        const pfn = this.#heads[from]!;
        if (pfn === NONE) continue;
        this.#unlink(pfn, from);
        // Give the upper halves back until the run has the size that was asked for.
        for (let half = from - 1; half >= order; half--) this.#link(pfn + (1 << half), half);
        this.#state[pfn] = TAKEN | order;
        this.#freeFrames -= 1 << order;
        return pfn;
      }
      if (!this.#makeBlock()) return NONE;
    }
  }

  /** Gives back the run that `alloc(order)` returned as `pfn` (`__free_pages`). */
  free(pfn: number, order: number): void {
    assert(this.#state[pfn] === (TAKEN | order), "what is freed was handed out, with this order");
    this.#state[pfn] = INSIDE;
    this.#freeFrames += 1 << order;
    let first = pfn;
    let at = order;
    for (; at < ORDER_MAX; at++) {
      const buddy = first ^ (1 << at);
      if (buddy >= this.frameCount || this.#state[buddy] !== (FREE | at)) break;
      this.#unlink(buddy, at);
      first &= ~(1 << at);
    }
    this.#link(first, at);
  }

  /**
   * A view of the run `pfn` of `order`. The caller keeps it as long as it owns the run, not
   * longer.
   */
  bytes(pfn: number, order: number): Uint8Array {
    assert(this.#state[pfn] === (TAKEN | order), "only a run that was handed out is looked at");
    const block = this.#blocks[Math.floor(pfn / this.#blockFrames)]!;
    const offsetBytes = (pfn % this.#blockFrames) * PAGE_BYTES;
    return new Uint8Array(block, offsetBytes, PAGE_BYTES << order);
  }

  /**
   * Throws `AssertionError` if an invariant does not hold. Walks all: for tests and the
   * simulator.
   */
  verify(): void {
    const madeFrames = Math.min(this.#blocks.length * this.#blockFrames, this.frameCount);
    let freeFrames = this.frameCount - madeFrames;
    for (let pfn = 0; pfn < madeFrames; ) {
      const state = this.#state[pfn]!;
      assert(state !== INSIDE, "invariant 1: a run begins where the last one ends");
      const order = state & ORDER_MASK;
      assert(pfn % (1 << order) === 0, "a run begins at a multiple of its size");
      for (let at = pfn + 1; at < pfn + (1 << order); at++) {
        assert(this.#state[at] === INSIDE, "invariant 1: runs do not overlap");
      }
      if ((state & FREE) !== 0) {
        freeFrames += 1 << order;
        const buddy = pfn ^ (1 << order);
        const isLone = order === ORDER_MAX || this.#state[buddy] !== (FREE | order);
        assert(isLone, "invariant 2: free buddies are joined");
      }
      pfn += 1 << order;
    }
    assert(freeFrames === this.#freeFrames, "invariant 3: free frames are counted");
    this.#verifyLists(madeFrames);
  }

  #verifyLists(madeFrames: number): void {
    let listed = 0;
    for (let order = 0; order <= ORDER_MAX; order++) {
      let before = NONE;
      for (let pfn = this.#heads[order]!; pfn !== NONE; pfn = this.#next[pfn]!) {
        assert(this.#state[pfn] === (FREE | order), "a list holds free runs of its order");
        assert(this.#before[pfn] === before, "a list is linked both ways");
        before = pfn;
        listed += 1 << order;
      }
    }
    const unmade = this.frameCount - madeFrames;
    assert(listed + unmade === this.#freeFrames, "every free run is in a list");
  }

  /** Adds the next block of the chain; false if the arena has its full size. */
  #makeBlock(): boolean {
    const first = this.#blocks.length * this.#blockFrames;
    const count = Math.min(this.#blockFrames, this.frameCount - first);
    if (count <= 0) return false;
    this.#blocks.push(new ArrayBuffer(count * PAGE_BYTES));
    // The last run is linked first, so that low frames are handed out first.
    for (let rest = count; rest > 0; ) {
      const order = Math.min(ORDER_MAX, 31 - Math.clz32(rest & -rest));
      rest -= 1 << order;
      this.#link(first + rest, order);
    }
    return true;
  }

  #link(pfn: number, order: number): void {
    const head = this.#heads[order]!;
    this.#state[pfn] = FREE | order;
    this.#next[pfn] = head;
    this.#before[pfn] = NONE;
    if (head !== NONE) this.#before[head] = pfn;
    this.#heads[order] = pfn;
  }

  #unlink(pfn: number, order: number): void {
    const next = this.#next[pfn]!;
    const before = this.#before[pfn]!;
    if (before === NONE) this.#heads[order] = next;
    else this.#next[before] = next;
    if (next !== NONE) this.#before[next] = before;
    this.#state[pfn] = INSIDE;
  }
}
