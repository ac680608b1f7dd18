/**
 * CompletionQueue: where finished requests wait for their folios to be unlocked, so that a burst of
 * them does not keep the event loop from everything else. Shared by iomap, mpage and the buffers.
 *
 *     bio.endIo --> add(work, folios) --+-- done at once, while the burst is small
 *                                       `-- queued behind a turn of the loop, once it is not
 *
 * A store in memory can complete a hundred thousand folios without the loop ever turning, since
 * microtasks come before I/O. So after `FOLIOS_PER_TURN` folios or `WORK_MS_PER_TURN` of work a
 * turn is taken. Only time spent in the work counts: requests that come one by one are seldom put
 * off.
 *
 *  1. Work is done in the order it came.
 *  2. While anything is queued, a turn is pending or the queue is being worked off.
 *
 * After `iomap_finish_ioends` and `IOEND_BATCH_SIZE` in `fs/iomap/ioend.c` of Linux.
 */
import type { Clock } from "../lib/clock.ts";

/** Folios completed before the loop gets a turn (`IOEND_BATCH_SIZE`). */
export const FOLIOS_PER_TURN = 4096;
/** Time spent on completions before the loop gets a turn. */
export const WORK_MS_PER_TURN = 5;

interface Entry {
  readonly work: () => void;
  readonly folioCount: number;
}

/** See the head of the file. One per clock, so one per event loop. */
export class CompletionQueue {
  readonly #clock: Clock;
  readonly #entries: Entry[] = [];
  #isTurnPending = false;
  #isWorkingOff = false;
  #folioCount = 0; // Since the last turn.
  #spentMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Does `work`, which completes `folioCount` folios and must not throw: now, or after a turn. */
  add(work: () => void, folioCount: number): void {
    if (this.#isTurnPending || this.#isWorkingOff) this.#entries.push({ work, folioCount });
    else this.#run(work, folioCount);
  }

  #run(work: () => void, folioCount: number): void {
    const startMs = this.#clock.nowMs();
    work();
    this.#spentMs += this.#clock.nowMs() - startMs;
    this.#folioCount += folioCount;
    if (this.#folioCount < FOLIOS_PER_TURN && this.#spentMs < WORK_MS_PER_TURN) return;
    this.#isTurnPending = true;
    void this.#clock.turn().then(() => this.#workOff());
  }

  /** After a turn: does what is queued, until the next turn is due. */
  #workOff(): void {
    this.#isTurnPending = false;
    this.#folioCount = 0;
    this.#spentMs = 0;
    this.#isWorkingOff = true;
    let next = 0;
    try {
      while (next < this.#entries.length && !this.#isTurnPending) {
        const { work, folioCount } = this.#entries[next++]!;
        this.#run(work, folioCount);
      }
    } finally {
      this.#entries.splice(0, next);
      this.#isWorkingOff = false;
    }
  }
}

const QUEUE_OF_CLOCK = new WeakMap<Clock, CompletionQueue>();

/** The queue of the event loop that `clock` stands for. */
export function completionsOf(clock: Clock): CompletionQueue {
  let queue = QUEUE_OF_CLOCK.get(clock);
  if (queue === undefined) {
    queue = new CompletionQueue(clock);
    QUEUE_OF_CLOCK.set(clock, queue);
  }
  return queue;
}
