/**
 * FlushMachine: many wishes to flush, few flushes of the store.
 *
 * A flush makes durable what had completed *before it began*. So a wish cannot join a flush that
 * has begun; but all wishes that come while one runs share the next:
 *
 *     wishes    a   b c d        e
 *     flushes   [--1--][---2---][-3-]     1 serves a, 2 serves b, c and d, 3 serves e
 *
 * Invariants: at most one flush runs and at most one is pending; a wish is served by a flush that
 * began after it, and fails exactly if that one fails.
 *
 * After `block/blk-flush.c` of Linux. Left out: its waiting for writes with data before a shared
 * flush.
 */

/** See the head of the file (`struct blk_flush_queue`). */
export class FlushMachine {
  readonly #issue: () => Promise<void>;
  #running: Promise<void> | undefined;
  #pending: Promise<void> | undefined;

  /** `issue` flushes the store, and rejects if that fails. It is called once at a time. */
  constructor(issue: () => Promise<void>) {
    this.#issue = issue;
  }

  /** Resolves when a flush that began after this call has succeeded; rejects as that flush does. */
  flush(): Promise<void> {
    this.#pending ??= this.#runAfter(this.#running);
    return this.#pending;
  }

  async #runAfter(previous: Promise<void> | undefined): Promise<void> {
    try {
      await previous; // Without one this still lets the wishes of the same stretch of code come in.
    } catch {
      // Those who wished for that flush hear of it; this one is another.
    }
    this.#running = this.#pending;
    this.#pending = undefined;
    await this.#issue();
  }
}
