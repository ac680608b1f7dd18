/**
 * A device against an array of bytes: random bios, ends in a random order, power cuts at random
 * moments.
 *
 * The model knows two things of each block: which values a read may give now, and which values
 * may be found after a power cut. A bio whose block is in use is not submitted, as the page cache
 * would not: two bios over one block at once have no order.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { GatedStore } from "../../test/support/gated-store.ts";
import { runs } from "../../test/support/runs.ts";
import { realClock } from "../lib/clock.ts";
import { Random } from "../lib/random.ts";
import { Bio, REQ_FUA, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE, REQ_PREFLUSH } from "./bio.ts";
import { StoreBlockDevice } from "./block-device.ts";
import { Plug } from "./plug.ts";

const BLOCK = 512;
const BLOCKS = 24;

class Model {
  readonly random: Random;
  readonly store: GatedStore;
  readonly device: StoreBlockDevice;
  readonly plug = new Plug();
  /** Value of each block as of the last write that ended. */
  readonly ended: number[] = new Array(BLOCKS).fill(0);
  /** Values that may be found in each block after a power cut. */
  readonly afterCut: Set<number>[] = Array.from({ length: BLOCKS }, () => new Set([0]));
  readonly busy = new Set<number>();
  submitted = 0;
  ends = 0;
  #value = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.store = new GatedStore(BLOCKS * BLOCK, { hasFua: this.random.below(2) === 0 });
    this.device = new StoreBlockDevice(this.store, {
      clock: realClock,
      queueDepth: 1 + this.random.below(4),
      maxRequestBytes: 4096,
    });
  }

  /** Submits a bio over some free blocks. */
  submit(): void {
    const first = this.random.below(BLOCKS);
    let last = first;
    while (last + 1 < BLOCKS && this.random.below(3) > 0) last++;
    const blocks = Array.from({ length: last - first + 1 }, (_, at) => first + at);
    if (blocks.some((block) => this.busy.has(block))) return;
    for (const block of blocks) this.busy.add(block);
    this.submitted++;
    if (this.random.below(2) === 0) this.#read(blocks);
    else this.#write(blocks);
  }

  #read(blocks: readonly number[]): void {
    const bio = new Bio(REQ_OP_READ, 0, blocks[0]! * BLOCK, () => {
      for (const [at, block] of blocks.entries()) {
        expect([block, bio.vectors[at]![0]]).toEqual([block, this.ended[block]]);
        expect(bio.vectors[at]![BLOCK - 1]).toBe(this.ended[block]);
      }
      this.#end(blocks);
    });
    for (const _ of blocks) bio.addVector(new Uint8Array(BLOCK));
    this.#hand(bio);
  }

  #write(blocks: readonly number[]): void {
    const isFua = this.random.below(4) === 0;
    const isPreflush = this.random.below(4) === 0;
    this.#value = (this.#value % 255) + 1;
    const value = this.#value;
    const before = isPreflush ? this.#endedNow() : undefined;
    for (const block of blocks) this.afterCut[block]!.add(value);
    const flags = (isFua ? REQ_FUA : 0) | (isPreflush ? REQ_PREFLUSH : 0);
    const bio = new Bio(REQ_OP_WRITE, flags, blocks[0]! * BLOCK, () => {
      if (before !== undefined) this.#makeDurable(before);
      for (const block of blocks) {
        this.ended[block] = value;
        if (isFua) this.afterCut[block] = new Set([value]);
      }
      this.#end(blocks);
    });
    for (const _ of blocks) bio.addVector(new Uint8Array(BLOCK).fill(value));
    this.#hand(bio);
  }

  flush(): void {
    this.submitted++;
    const before = this.#endedNow();
    const bio = new Bio(REQ_OP_FLUSH, 0, 0, () => {
      this.#makeDurable(before);
      this.#end([]);
    });
    this.#hand(bio);
  }

  /** The values that had ended when a flush was submitted, for the blocks that nobody writes. */
  #endedNow(): Map<number, number> {
    const values = new Map<number, number>();
    for (let block = 0; block < BLOCKS; block++) {
      if (!this.busy.has(block)) values.set(block, this.ended[block]!);
    }
    return values;
  }

  /** After a flush a block has the value of then, or one written since. */
  #makeDurable(before: ReadonlyMap<number, number>): void {
    for (const [block, value] of before) {
      const values = [...this.afterCut[block]!];
      const from = values.lastIndexOf(value);
      if (from !== -1) this.afterCut[block] = new Set(values.slice(from));
    }
  }

  #end(blocks: readonly number[]): void {
    this.ends++;
    for (const block of blocks) this.busy.delete(block);
  }

  #hand(bio: Bio): void {
    if (this.random.below(3) === 0) this.device.submitBio(bio, this.plug);
    else this.device.submitBio(bio);
  }

  /** Ends a call of the store, whichever. */
  release(): void {
    const { pending } = this.store;
    if (pending.length > 0) this.store.release(this.random.below(pending.length));
  }

  /** What a power cut would leave now is allowed. */
  checkCut(): void {
    for (let block = 0; block < BLOCKS; block++) {
      const found = this.store.durable[block * BLOCK]!;
      expect([...this.afterCut[block]!], `block ${block}`).toContain(found);
    }
  }
}

test("gives what was written, ends every bio once, and keeps what flushes promised", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 }), async (seed) => {
      const model = new Model(seed);
      const { random } = model;
      for (let step = 0; step < 120; step++) {
        const kind = random.below(10);
        if (kind < 4) model.submit();
        else if (kind === 4) model.flush();
        else if (kind === 5) model.plug.flush();
        else if (kind < 9) model.release();
        else await realClock.turn();
        model.checkCut();
      }
      model.plug.flush();
      for (;;) {
        await realClock.turn();
        if (model.store.pending.length === 0) break;
        model.release();
        model.checkCut();
      }
      await model.device.drain();
      model.checkCut();
      expect([model.ends, model.busy.size]).toEqual([model.submitted, 0]);
      const { read, write } = model.device.stats;
      expect(read.bios - read.merges).toBe(read.requests);
      expect(write.bios - write.merges).toBe(write.requests);
    }),
    { numRuns: runs(60) },
  );
});
