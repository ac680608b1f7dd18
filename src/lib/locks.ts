/**
 * Locks for waiting: queues of promises that are served in the order they came.
 *
 * One thread owns all state, so nothing here guards a few instructions: what stays between two of
 * them without an `await` is atomic anyway. These are for what is held *over* an `await`: a folio
 * while it is read, an inode while it is written.
 *
 *     unlock -- ownership --> first waiter    its promise is resolved, it runs microtasks later;
 *                             second waiter   the lock is never free in between: nobody overtakes
 *
 *  1. First come, first served. A `try..` fails while anybody waits, even if the lock could be had.
 *  2. Ownership passes inside `unlock`. What a waiter was given it has, also when its signal is
 *     aborted before it runs.
 *  3. An aborted waiter leaves the queue at once, whoever stands behind it moves up, and its
 *     promise is rejected with the signal's own reason. The lock is not touched.
 *  4. Free and no queue: a lock is taken without a promise, and the signal is not looked at.
 *
 * After `folio_wait_bit_common` in `mm/filemap.c` and `kernel/locking/rwsem.c` of Linux. Left out:
 * spinning, owners and recursion: whoever locks twice waits for ever.
 */
import { assert } from "./assert.ts";
import type { MaybeAsync } from "./maybe.ts";

const READ = 0;
const WRITE = 1;
type WaiterKind = typeof READ | typeof WRITE;

interface Waiter {
  readonly kind: WaiterKind;
  readonly wake: () => void;
  before: Waiter | undefined;
  after: Waiter | undefined;
}

/** The queue itself: a doubly linked list, as a waiter may leave from the middle. */
class WaiterList {
  first: Waiter | undefined;
  #last: Waiter | undefined;
  length = 0;

  /** Queues a waiter; `onAbort` runs after it has left because of `signal`. */
  wait(kind: WaiterKind, signal: AbortSignal | undefined, onAbort?: () => void): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#remove(waiter);
        reject(signal?.reason);
        onAbort?.();
      };
      const wake = () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      };
      const waiter: Waiter = { kind, wake, before: this.#last, after: undefined };
      if (this.#last === undefined) this.first = waiter;
      else this.#last.after = waiter;
      this.#last = waiter;
      this.length++;
      signal?.addEventListener("abort", abort);
    });
  }

  /** Takes the first waiter out and resolves its promise; false if there is none. */
  wakeFirst(): boolean {
    const waiter = this.first;
    if (waiter === undefined) return false;
    this.#remove(waiter);
    waiter.wake();
    return true;
  }

  #remove(waiter: Waiter): void {
    if (waiter.before === undefined) this.first = waiter.after;
    else waiter.before.after = waiter.after;
    if (waiter.after === undefined) this.#last = waiter.before;
    else waiter.after.before = waiter.before;
    this.length--;
  }
}

/** The queue of all where nobody has ever waited: nearly every lock of nearly every file. */
const NOBODY = new WaiterList();

/** Waiters for an event that somebody else announces (`wait_queue_head_t`). */
export class WaitQueue {
  #waiters = NOBODY;

  /** Number of waiters. */
  get length(): number {
    return this.#waiters.length;
  }

  /**
   * Resolves when it is this waiter's turn. Rejects with the reason of `signal` once that is
   * aborted.
   */
  wait(signal?: AbortSignal): Promise<void> {
    return this.#queue.wait(READ, signal);
  }

  /** Wakes the one that has waited longest; false if nobody waits. */
  wakeOne(): boolean {
    return this.#waiters.wakeFirst();
  }

  /** Wakes all who wait now, in the order they came. */
  wakeAll(): void {
    while (this.#waiters.wakeFirst());
  }

  get #queue(): WaiterList {
    if (this.#waiters === NOBODY) this.#waiters = new WaiterList();
    return this.#waiters;
  }
}

/** A lock with one owner. See the head of the file. */
export class AsyncMutex {
  #waiters = NOBODY;
  #isLocked = false;

  get isLocked(): boolean {
    return this.#isLocked;
  }

  /** Number of waiters. */
  get waiterCount(): number {
    return this.#waiters.length;
  }

  /** Takes the lock if it is free; false if not. While it is free nobody waits (rule 2). */
  tryLock(): boolean {
    if (this.#isLocked) return false;
    this.#isLocked = true;
    return true;
  }

  /**
   * Takes the lock, now or when its turn comes. Rejects with the reason of `signal`: then not
   * owned.
   */
  lock(signal?: AbortSignal): MaybeAsync<void> {
    if (!this.tryLock()) return this.#queue.wait(WRITE, signal);
  }

  /** Gives the lock to the first waiter, or frees it. */
  unlock(): void {
    assert(this.#isLocked, "only a taken lock is given back");
    this.#isLocked = this.#waiters.wakeFirst();
  }

  get #queue(): WaiterList {
    if (this.#waiters === NOBODY) this.#waiters = new WaiterList();
    return this.#waiters;
  }
}

/**
 * A lock that many readers or one writer own (`rw_semaphore`). A reader that comes after a waiting
 * writer waits too, so that neither side starves.
 */
export class AsyncRwLock {
  #waiters = NOBODY;
  #readerCount = 0;
  #isWriteLocked = false;

  /** Number of readers that own it. */
  get readerCount(): number {
    return this.#readerCount;
  }

  /** True while a writer owns it. */
  get isWriteLocked(): boolean {
    return this.#isWriteLocked;
  }

  /** Number of waiters, readers and writers. */
  get waiterCount(): number {
    return this.#waiters.length;
  }

  /** Takes it for reading if that needs no wait (`down_read_trylock`). */
  tryRead(): boolean {
    if (this.#isWriteLocked || this.#waiters.length > 0) return false;
    this.#readerCount++;
    return true;
  }

  /** Takes it for reading (`down_read`). Rejects with the reason of `signal`: then not owned. */
  read(signal?: AbortSignal): MaybeAsync<void> {
    if (!this.tryRead()) return this.#queue.wait(READ, signal, () => this.#grant());
  }

  unlockRead(): void {
    assert(this.#readerCount > 0, "only a reader gives up reading");
    this.#readerCount--;
    this.#grant();
  }

  /** Takes it for writing if that needs no wait (`down_write_trylock`). */
  tryWrite(): boolean {
    if (this.#isWriteLocked || this.#readerCount > 0) return false; // Not held: then nobody waits.
    this.#isWriteLocked = true;
    return true;
  }

  /** Takes it for writing (`down_write`). Rejects with the reason of `signal`: then not owned. */
  write(signal?: AbortSignal): MaybeAsync<void> {
    if (!this.tryWrite()) return this.#queue.wait(WRITE, signal, () => this.#grant());
  }

  unlockWrite(): void {
    assert(this.#isWriteLocked, "only the writer gives up writing");
    this.#isWriteLocked = false;
    this.#grant();
  }

  get #queue(): WaiterList {
    if (this.#waiters === NOBODY) this.#waiters = new WaiterList();
    return this.#waiters;
  }

  /** Gives the lock to those at the head of the queue who can have it together. */
  #grant(): void {
    let waiter = this.#waiters.first;
    for (; waiter?.kind === READ && !this.#isWriteLocked; waiter = this.#waiters.first) {
      this.#readerCount++;
      this.#waiters.wakeFirst();
    }
    if (waiter?.kind === WRITE && !this.#isWriteLocked && this.#readerCount === 0) {
      this.#isWriteLocked = true;
      this.#waiters.wakeFirst();
    }
  }
}
