/**
 * Work under a virtual clock that moves on whenever the work waits for it: a run is the same each
 * time, and one that waits for ever is found out.
 *
 *     const time = new VirtualTime();
 *     await time.settle(volume.sync());         // the clock moves only if it has to
 *     await time.pass(40_000);                  // timers of the next 40 s
 */
import { VirtualClock } from "../../src/lib/clock.ts";
import type { Random } from "../../src/lib/random.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { sleep } from "../../src/store/sleep.ts";
import type { StoreWriteOptions } from "../../src/store/store.ts";

/** Times on disk are times after 1970: a time of 0 means "never" there. */
const START_MS = 1_600_000_000_000;
const FREE_MICROTASKS = 20;
const FREE_TURNS = 3;
const STEP_MS = 100;
/** Work that takes longer is not going to end. */
const HANG_MS = 600_000;

/** See the head of the file. */
export class VirtualTime {
  readonly clock: VirtualClock = new VirtualClock();

  constructor() {
    this.clock.spend(START_MS);
  }

  /** Waits for `work`; the clock moves on while it does nothing else. Throws if it never ends. */
  async settle<T>(work: T | Promise<T>): Promise<T> {
    if (!(work instanceof Promise)) return work;
    let isDone = false;
    const ended = work.finally(() => {
      isDone = true;
    });
    ended.catch(() => undefined);
    for (let count = 0; count < FREE_MICROTASKS && !isDone; count++) await undefined;
    for (let count = 0; count < FREE_TURNS && !isDone; count++) await this.clock.turn();
    const since = this.clock.nowMs();
    while (!isDone) {
      if (this.clock.nowMs() - since > HANG_MS) throw new Error("a call does not end");
      await this.clock.advance(STEP_MS);
    }
    return ended;
  }

  /** Lets `lengthMs` pass. */
  async pass(lengthMs: number): Promise<void> {
    await this.clock.advance(lengthMs);
  }
}

/** A store in memory whose calls take some time, each its own: they end in another order. */
export class SlowStore extends MemoryStore {
  readonly #time: VirtualTime;
  readonly #random: Random;
  readonly #latencyMs: number;

  /** Each call takes less than `latencyMs`. */
  constructor(bytes: Uint8Array, time: VirtualTime, random: Random, latencyMs: number) {
    super(bytes);
    this.#time = time;
    this.#random = random;
    this.#latencyMs = latencyMs;
  }

  override async read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#wait();
    await super.read(offsetBytes, into, signal);
  }

  override async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options?: StoreWriteOptions,
  ): Promise<void> {
    await this.#wait();
    await super.write(offsetBytes, from, options);
  }

  override async flush(signal?: AbortSignal): Promise<void> {
    await this.#wait();
    await super.flush(signal);
  }

  #wait(): Promise<void> {
    return sleep(this.#time.clock, this.#random.below(this.#latencyMs));
  }
}
