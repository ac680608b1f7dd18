/**
 * A clock that stands still while there is anything to do, and then jumps to its next timer: the
 * same work takes the same steps in every run, and work that waits for ever is found out.
 *
 *     await clock.run(volume.sync());      // timers fire, in order, until the call has ended
 *     await clock.pass(40_000);            // and here for as long as 40 s
 */
import { type Clock, realClock, type Timer } from "../../../src/lib/clock.ts";

/** Times on disk are times after 1970: a time of 0 means "never" there. */
const START_MS = 1_700_000_000_000;
/** Work that takes longer is not going to end. */
const HANG_MS = 600_000;

interface CrashTimer {
  readonly dueMs: number;
  readonly fire: () => void;
}

/** See the head of the file. */
export class CrashClock implements Clock {
  #nowMs = START_MS;
  /** The next one last. */
  readonly #timers: CrashTimer[] = [];
  #turning = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const timer = { dueMs: this.#nowMs + Math.max(0, delayMs), fire };
    let at = this.#timers.length;
    while (at > 0 && this.#timers[at - 1]!.dueMs <= timer.dueMs) at--;
    this.#timers.splice(at, 0, timer);
    return {
      cancel: () => {
        const index = this.#timers.indexOf(timer);
        if (index >= 0) this.#timers.splice(index, 1);
      },
    };
  }

  microtask(task: () => void): void {
    realClock.microtask(task);
  }

  async turn(): Promise<void> {
    this.#turning++;
    await realClock.turn();
    this.#turning--;
  }

  /** Waits for `work`; time goes on only while nothing else does. */
  async run<T>(work: T | Promise<T>): Promise<T> {
    if (!(work instanceof Promise)) return work;
    let isDone = false;
    const end = (): void => {
      isDone = true;
    };
    work.then(end, end);
    const sinceMs = this.#nowMs;
    for (;;) {
      await this.#settle();
      if (isDone) return work;
      if (!this.#fireNext(sinceMs + HANG_MS)) throw new Error("a call does not end");
    }
  }

  /** Lets `lengthMs` pass. */
  async pass(lengthMs: number): Promise<void> {
    const untilMs = this.#nowMs + lengthMs;
    do await this.#settle();
    while (this.#fireNext(untilMs));
    this.#nowMs = untilMs;
  }

  /** Lets all go on that does not wait for a timer. */
  async #settle(): Promise<void> {
    do await realClock.turn();
    while (this.#turning > 0);
  }

  #fireNext(untilMs: number): boolean {
    const timer = this.#timers.at(-1);
    if (timer === undefined || timer.dueMs > untilMs) return false;
    this.#timers.pop();
    this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
    timer.fire();
    return true;
  }
}
