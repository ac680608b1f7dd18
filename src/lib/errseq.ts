/**
 * Errseq: remembers that a write failed until everyone who must know has been told, once each.
 *
 * A write-back error happens when nobody is there to hear of it. It is put into a cell (one per
 * address space, one per file system); each open file keeps a cursor, the cell's value when it last
 * looked:
 *
 *     bit  31 ........ 13   12     11 .... 0
 *          counter          SEEN   errno           cell === cursor: nothing new
 *
 *  1. The counter moves on only if somebody has seen the error before, so errors that come faster
 *     than anybody looks cost no counter values; of these the last one wins.
 *  2. An error that nobody has seen is also reported to those who open the file later: their cursor
 *     begins at 0, which no cell with an error equals.
 *  3. Two cursors never share a report: each sees every new error once.
 *
 * After `lib/errseq.c` of Linux. Left out: atomics, as one thread owns the cell.
 */
import type { Errno } from "./errno.ts";

const ERRNO_MAX = 4095;
const SEEN = 0x1000;
const COUNTER_STEP = 0x2000;

/**
 * How far one open file description has looked. Handles that share it (`dup`) share its reports.
 */
export interface ErrseqCursor {
  since: number;
}

const tellNobody = (): void => {};

/** A cell (`errseq_t`). See the head of the file. */
export class Errseq {
  readonly #warn: (text: string) => void;
  #value = 0;

  /** `warn` hears of numbers that are no errors; by default nobody does. */
  constructor(warn: (text: string) => void = tellNobody) {
    this.#warn = warn;
  }

  /** The raw cell, a uint32: for tests and traces. */
  get value(): number {
    return this.#value;
  }

  /**
   * Records the negative errno `err` and returns the cell's new value (`errseq_set`). Anything
   * outside -4095..-1 is ignored with a warning; so 0 never takes an error back.
   */
  set(err: Errno): number {
    if (!Number.isInteger(err) || err >= 0 || err < -ERRNO_MAX) {
      this.#warn(`errseq: ${err} is not an error number`);
      return this.#value;
    }
    const wasSeen = (this.#value & SEEN) !== 0;
    const counter = (this.#value & ~(ERRNO_MAX | SEEN)) + (wasSeen ? COUNTER_STEP : 0);
    this.#value = (counter | -err) >>> 0;
    return this.#value;
  }

  /**
   * Returns where a new cursor has to begin: 0 while the last error is unseen (`errseq_sample`).
   */
  sample(): number {
    return (this.#value & SEEN) === 0 ? 0 : this.#value;
  }

  /** Returns the error since `since`, or 0, and marks nothing (`errseq_check`). */
  check(since: number): Errno {
    return this.#value === since ? 0 : 0 - (this.#value & ERRNO_MAX);
  }

  /**
   * Returns the error since `cursor` looked last, or 0, and notes it as seen
   * (`errseq_check_and_advance`).
   */
  checkAndAdvance(cursor: ErrseqCursor): Errno {
    if (this.#value === cursor.since) return 0;
    this.#value = (this.#value | SEEN) >>> 0;
    cursor.since = this.#value;
    return 0 - (this.#value & ERRNO_MAX);
  }
}
