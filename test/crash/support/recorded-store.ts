/**
 * A disk with a volatile cache that writes down all that is asked of it, so that a power cut at any
 * moment can be tried later.
 *
 *     events   write 0   write 1   done 1   flush 0   done 0   flushed 0   write 2, FUA   done 2
 *                                     number of events so far: the time at which something was true
 *
 * Calls take a random time each, so they end in an order of their own. A read sees what has ended.
 */
import { FsError } from "../../../src/lib/errno.ts";
import type { Random } from "../../../src/lib/random.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { sleep } from "../../../src/store/sleep.ts";
import {
  type StoreCapabilities,
  type StoreWriteOptions,
  transferBytes,
} from "../../../src/store/store.ts";
import type { CrashClock } from "./crash-clock.ts";
import type { CrashImage } from "./crash-image.ts";

/** A write as it was submitted. */
export interface RecordedWrite {
  readonly kind: "write";
  readonly id: number;
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
  readonly isFua: boolean;
}

/** What has happened at a disk; `id` is that of the write or of the flush. */
export type DiskEvent =
  | RecordedWrite
  | { readonly kind: "done"; readonly id: number }
  /** A write that has failed, and has left nothing. */
  | { readonly kind: "failed"; readonly id: number }
  | { readonly kind: "flush"; readonly id: number }
  | { readonly kind: "flushed"; readonly id: number };

/** What a write takes at most; now and then one takes much longer. */
const LATENCY_MS = 1;
const SLOW_MS = 30;
const SLOW_SHARE = 0.1;

/** Writes that fail, from one on; each is done nevertheless, or not, as chance has it. */
export interface WriteFaults {
  /** How many go well before. */
  readonly from: number;
  readonly count: number;
}

export interface RecordedStoreOptions {
  readonly clock: CrashClock;
  readonly random: Random;
  readonly faults?: WriteFaults | undefined;
}

/** See the head of the file. The image holds what has ended. */
export class RecordedStore extends MemoryStore {
  override readonly capabilities: StoreCapabilities;
  readonly events: DiskEvent[] = [];
  readonly #image: CrashImage;
  readonly #clock: CrashClock;
  readonly #random: Random;
  readonly #faults: WriteFaults;
  #nextId = 0;
  #writeCount = 0;

  constructor(image: CrashImage, { clock, random, faults }: RecordedStoreOptions) {
    super(image.bytes, { name: "recorded" });
    this.#image = image;
    this.#clock = clock;
    this.#random = random;
    this.#faults = faults ?? { from: Infinity, count: 0 };
    const cached = { hasFua: true, hasVolatileCache: true, canDiscard: false };
    this.capabilities = { canWrite: true, stableWrites: false, blockBytes: 512, ...cached };
  }

  override async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options: StoreWriteOptions = {},
  ): Promise<void> {
    const bytes = new Uint8Array(transferBytes(from));
    let at = 0;
    for (const part of from instanceof Uint8Array ? [from] : from) {
      bytes.set(part, at);
      at += part.length;
    }
    await this.#write(offsetBytes, bytes, options.fua === true);
  }

  override writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#write(offsetBytes, new Uint8Array(lengthBytes), false);
  }

  override async flush(): Promise<void> {
    const id = this.#nextId++;
    this.events.push({ kind: "flush", id });
    await this.#wait();
    this.events.push({ kind: "flushed", id });
  }

  async #write(offsetBytes: number, bytes: Uint8Array, isFua: boolean): Promise<void> {
    const id = this.#nextId++;
    this.events.push({ kind: "write", id, offsetBytes, bytes, isFua });
    const { from, count } = this.#faults;
    const number = this.#writeCount++;
    const isFault = number >= from && number < from + count;
    await this.#wait();
    if (isFault && this.#random.chance(0.5)) {
      this.events.push({ kind: "failed", id });
    } else {
      this.#image.put(offsetBytes, bytes);
      this.events.push({ kind: "done", id });
    }
    if (isFault) throw new FsError("EIO", { detail: `write ${number} is to fail` });
  }

  #wait(): Promise<void> {
    const maxMs = this.#random.chance(SLOW_SHARE) ? SLOW_MS : LATENCY_MS;
    return sleep(this.#clock, (maxMs * this.#random.below(1000)) / 1000);
  }
}
