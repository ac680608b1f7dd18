/**
 * MemoryWaiters: tasks of a cache that want memory when there is none.
 *
 *     begin --> no memory --wait--> woken: something was unlocked, written, given back
 *                  ^                  |
 *                  +---- still none --+          nothing comes free for ten seconds: -ENOMEM, all
 *
 *  1. Being woken is no promise: whoever runs first may take it all.
 *  2. Only frames that come free stop the watchdog: folios that are written in vain, over and over,
 *     do not.
 *  3. No timer is left when nobody waits.
 */
import { assert } from "../lib/assert.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { EINTR, ENOMEM, type Errno } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";

/** How long tasks wait for memory while none at all comes free. */
const MEMORY_WAIT_MS = 10_000;

/** See the head of the file. */
export class MemoryWaiters {
  /** Times that frames came free. */
  freedCount = 0;
  readonly #clock: Clock;
  readonly #queue = new WaitQueue();
  #taskCount = 0;
  #watchdog: Timer | null = null;
  /** Times that the watchdog has given up on those who waited. */
  #stallCount = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Tasks that wait now. */
  get length(): number {
    return this.#queue.length;
  }

  /** A task begins to look for memory, whose `wait`s come between this and `end`. */
  begin(): void {
    this.#taskCount++;
  }

  /** The task has what it wants, or has given up. */
  end(): void {
    assert(this.#taskCount > 0, "a task ends once");
    this.#taskCount--;
    if (this.#taskCount === 0) this.#cancelWatchdog();
  }

  /** Memory may have come free: all try again. */
  wake(): void {
    this.#queue.wakeAll();
  }

  /** Frames have come free. */
  freed(): void {
    this.freedCount++;
    if (this.#taskCount === 0) return;
    this.#cancelWatchdog();
    this.wake();
  }

  /**
   * Waits until it is worth a try, and returns 0; `-ENOMEM` after ten seconds in which no frame
   * came free, `-EINTR` once `signal` is aborted.
   */
  async wait(signal: AbortSignal | undefined): Promise<Errno> {
    assert(this.#taskCount > 0, "who waits has begun");
    const stallCount = this.#stallCount;
    this.#watchdog ??= this.#clock.setTimer(MEMORY_WAIT_MS, () => {
      this.#watchdog = null;
      this.#stallCount++;
      this.wake();
    });
    try {
      await this.#queue.wait(signal);
    } catch {
      return -EINTR;
    }
    return this.#stallCount === stallCount ? 0 : -ENOMEM;
  }

  #cancelWatchdog(): void {
    this.#watchdog?.cancel();
    this.#watchdog = null;
  }
}
