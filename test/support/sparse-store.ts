/**
 * SparseStore: a store in memory of any size, of which only what was written takes room.
 *
 * For images of many terabytes, and to see which pages of a device something has written.
 */

import { PAGE_BYTES } from "../../src/lib/units.ts";
import type { Store, StoreCapabilities } from "../../src/store/store.ts";

/** See the head of the file. */
export class SparseStore implements Store {
  readonly name = "sparse";
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities = {
    canWrite: true,
    canDiscard: false,
    hasFua: false,
    stableWrites: false,
    hasVolatileCache: false,
    blockBytes: 512,
  };
  /** Pages that were written, by index. */
  readonly pages: Map<number, Uint8Array> = new Map();

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  async read(offsetBytes: number, into: Uint8Array | readonly Uint8Array[]): Promise<void> {
    let at = offsetBytes;
    for (const buffer of into instanceof Uint8Array ? [into] : into) {
      this.#each(at, buffer.length, (page, from, to, done) => {
        const bytes = this.pages.get(page);
        if (bytes === undefined) buffer.fill(0, done, done + to - from);
        else buffer.set(bytes.subarray(from, to), done);
      });
      at += buffer.length;
    }
  }

  async write(offsetBytes: number, from: Uint8Array | readonly Uint8Array[]): Promise<void> {
    let at = offsetBytes;
    for (const buffer of from instanceof Uint8Array ? [from] : from) {
      this.#each(at, buffer.length, (page, start, end, done) => {
        this.#page(page).set(buffer.subarray(done, done + end - start), start);
      });
      at += buffer.length;
    }
  }

  async flush(): Promise<void> {}

  async discard(): Promise<void> {}

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    for (const [page, bytes] of this.pages) {
      const start = page * PAGE_BYTES;
      const from = Math.max(offsetBytes - start, 0);
      const to = Math.min(offsetBytes + lengthBytes - start, PAGE_BYTES);
      if (from === 0 && to === PAGE_BYTES) this.pages.delete(page);
      else if (from < to) bytes.fill(0, from, to);
    }
  }

  async close(): Promise<void> {}

  #page(index: number): Uint8Array {
    let bytes = this.pages.get(index);
    if (bytes === undefined) {
      bytes = new Uint8Array(PAGE_BYTES);
      this.pages.set(index, bytes);
    }
    return bytes;
  }

  #each(
    offsetBytes: number,
    lengthBytes: number,
    use: (page: number, from: number, to: number, done: number) => void,
  ): void {
    let done = 0;
    while (done < lengthBytes) {
      const at = offsetBytes + done;
      const from = at % PAGE_BYTES;
      const to = Math.min(PAGE_BYTES, from + lengthBytes - done);
      use(Math.floor(at / PAGE_BYTES), from, to, done);
      done += to - from;
    }
  }
}
