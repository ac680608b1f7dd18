/**
 * A file that is written, read, flushed, cut, extended and dropped at random, beside an array of
 * bytes; writes in flight end in any order, some of them badly, and are kept then.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { WrittenFile } from "../../test/support/written-file.ts";
import { EIO } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { Random } from "../lib/random.ts";
import { PAGE_BYTES } from "../lib/units.ts";
import { MARK_DIRTY } from "../lib/xarray.ts";
import { filemapRead } from "./filemap.ts";
import {
  invalidateInodePages2Range,
  invalidateMappingPages,
  truncateInodePagesRange,
  truncateSetsize,
} from "./truncate.ts";
import { WB_SYNC_ALL, WB_SYNC_NONE } from "./writeback-control.ts";

const SIZE_MAX = 40 * PAGE_BYTES;

class Run {
  readonly random: Random;
  readonly file: WrittenFile;
  readonly model = new Uint8Array(SIZE_MAX);
  readonly #background: Promise<unknown>[] = [];

  constructor(seed: number, maxOrder: number, stableWrites: boolean) {
    this.random = new Random(seed);
    this.file = new WrittenFile({ pages: 0, maxOrder, stableWrites, onWriteError: "keep" });
    this.file.script.isNew = true;
    this.file.script.gated = () => this.random.below(3) > 0;
  }

  /** Waits for an operation while writes end at random. */
  async until<T>(operation: MaybeAsync<T>): Promise<T> {
    let isOver = !isPromise(operation);
    const settled = Promise.resolve(operation).finally(() => {
      isOver = true;
    });
    while (!isOver) {
      await this.file.clock.turn();
      this.releaseSome();
    }
    return settled;
  }

  releaseSome(): void {
    const { script } = this.file;
    const { held } = script;
    if (held.length === 0) return;
    const { index } = held[this.random.below(held.length)]!;
    if (this.random.below(8) === 0) script.writeStatuses.set(index, [-EIO]);
    script.releaseWrites(index);
  }

  async step(): Promise<void> {
    const { random, file, model } = this;
    const { script, mapping } = file;
    const pos = random.below(SIZE_MAX - 1);
    const length = 1 + random.below(Math.min(SIZE_MAX - pos, 9 * PAGE_BYTES));
    const [first, last] = [Math.floor(pos / PAGE_BYTES), Math.floor((pos + length) / PAGE_BYTES)];
    switch (random.below(10)) {
      case 0:
      case 1:
      case 2: {
        const bytes = random.bytes(length);
        expect(await this.until(file.write(pos, bytes))).toBe(length);
        model.set(bytes, pos);
        break;
      }
      case 3:
      case 4: {
        const into = new Uint8Array(length);
        const iocb = { file: file.file, posBytes: pos, flags: 0 };
        const count = await this.until(filemapRead(iocb, into));
        expect(count).toBe(Math.max(0, Math.min(length, script.size - pos)));
        expect(Buffer.compare(into.subarray(0, count), model.subarray(pos, pos + count))).toBe(0);
        break;
      }
      case 5:
        await this.until(truncateSetsize(mapping, pos));
        model.fill(0, pos);
        this.cutStored(pos, SIZE_MAX);
        break;
      case 6:
        await this.until(truncateInodePagesRange(mapping, pos, pos + length - 1));
        model.fill(0, pos, pos + length);
        this.cutStored(pos, pos + length);
        break;
      case 7:
        invalidateMappingPages(mapping, first, last);
        await this.until(invalidateInodePages2Range(mapping, first, last));
        break;
      default: {
        const syncMode = random.below(2) === 0 ? WB_SYNC_NONE : WB_SYNC_ALL;
        const rangeCyclic = random.below(2) === 0;
        const options = { nrToWrite: 1 + random.below(10), rangeCyclic };
        const walk = Promise.resolve(file.writePages(syncMode, options));
        if (random.below(2) === 0) this.#background.push(walk);
        else await this.until(walk);
      }
    }
    if (random.below(4) === 0) this.releaseSome();
  }

  /** What a file system does with the blocks of a hole, whose ends it zeroes. */
  cutStored(from: number, end: number): void {
    for (const [page, bytes] of this.file.script.stored) {
      const start = page * PAGE_BYTES;
      bytes.fill(0, Math.min(PAGE_BYTES, Math.max(0, from - start)), Math.max(0, end - start));
    }
  }

  /** Everything is written in the end, as the model has it. */
  async finish(): Promise<void> {
    const { file, model } = this;
    file.script.gated = () => false;
    file.script.releaseWrites();
    await Promise.all(this.#background);
    file.script.writeStatuses.clear();
    await file.settle();
    while (file.mapping.pages.marked(MARK_DIRTY)) await file.fsync();
    const { size, stored } = file.script;
    for (let start = 0; start < size; start += PAGE_BYTES) {
      const bytes = stored.get(start / PAGE_BYTES) ?? new Uint8Array(PAGE_BYTES);
      const count = Math.min(PAGE_BYTES, size - start);
      expect(Buffer.compare(bytes.subarray(0, count), model.subarray(start, start + count))).toBe(
        0,
      );
    }
    file.expectAtRest();
  }
}

for (const maxOrder of [0, 3]) {
  for (const stableWrites of [false, true]) {
    test(`behaves as an array; folios up to order ${maxOrder}, stable: ${stableWrites}`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat(), async (seed) => {
          const run = new Run(seed, maxOrder, stableWrites);
          for (let step = 0; step < 60; step++) {
            await run.step();
            if (step % 10 === 0) run.file.cache.verify();
          }
          await run.finish();
        }),
        { numRuns: runs(15) },
      );
    });
  }
}
