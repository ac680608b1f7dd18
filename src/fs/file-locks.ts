/**
 * Advisory locks on ranges of a file, owned by open files: who asks is kept apart from others who
 * ask, and nobody else is stopped (`F_OFD_SETLK`).
 *
 *     owner A   [ exclusive 0..100 )
 *     owner B             [ shared 50..60 )    waits until A gives 50..60 back
 *
 *  1. Two owners hold overlapping ranges only if both are shared.
 *  2. An owner's own ranges never stand against it: a new lock replaces what it overlaps.
 *  3. Who waits is woken by every release and looks again; first come, first looked at.
 *
 * After `fs/locks.c` of Linux. Left out: deadlock detection, which open-file locks have not either;
 * a wait ends with its signal.
 */
import { FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import type { MaybeAsync } from "../lib/maybe.ts";

/** Bytes `startBytes..endBytes`, the last one excluded; `Infinity` is the end of any file. */
export interface LockRange {
  readonly startBytes: number;
  readonly endBytes: number;
}

/** All of a file, however long it becomes. */
export const WHOLE_FILE: LockRange = { startBytes: 0, endBytes: Number.POSITIVE_INFINITY };

/** What is to be locked, and how. */
export interface LockRequest extends LockRange {
  /** Others may hold shared locks at the same time. */
  readonly isShared: boolean;
}

interface HeldLock extends LockRequest {
  readonly owner: object;
}

/** The locks on one file. */
export class FileLocks {
  #held: HeldLock[] = [];
  readonly #waiters = new WaitQueue();

  /** Number of ranges that are locked. */
  get count(): number {
    return this.#held.length;
  }

  /** Locks the range for `owner` if nobody else's lock stands against it; says whether it did. */
  tryLock(owner: object, request: LockRequest): boolean {
    const isFree = this.#held.every(
      (lock) =>
        lock.owner === owner || !isOverlap(lock, request) || (lock.isShared && request.isShared),
    );
    if (!isFree) return false;
    this.#cut(owner, request);
    this.#held.push({ ...request, owner });
    return true;
  }

  /** As `tryLock`, but waits. Rejects with the reason of `signal`: then nothing was locked. */
  lock(owner: object, request: LockRequest, signal?: AbortSignal): MaybeAsync<void> {
    signal?.throwIfAborted();
    if (!this.tryLock(owner, request)) return this.#lockLater(owner, request, signal);
  }

  /** Gives the range back, as far as `owner` holds it. */
  unlock(owner: object, range: LockRange): void {
    this.#cut(owner, range);
    this.#waiters.wakeAll();
  }

  async #lockLater(owner: object, request: LockRequest, signal?: AbortSignal): Promise<void> {
    do {
      await this.#waiters.wait(signal);
    } while (!this.tryLock(owner, request));
  }

  /** Takes the range out of what `owner` holds; a lock that spans it falls in two. */
  #cut(owner: object, range: LockRange): void {
    this.#held = this.#held.flatMap((lock) => {
      if (lock.owner !== owner || !isOverlap(lock, range)) return [lock];
      const before = { ...lock, endBytes: range.startBytes };
      const behind = { ...lock, startBytes: range.endBytes };
      return [before, behind].filter((part) => part.startBytes < part.endBytes);
    });
  }
}

function isOverlap(a: LockRange, b: LockRange): boolean {
  return a.startBytes < b.endBytes && b.startBytes < a.endBytes;
}

/** The range of a call, checked. Throws `EINVAL` for an empty one or one before the file. */
export function lockRange(startBytes: number, lengthBytes: number): LockRange {
  const isGood = startBytes >= 0 && lengthBytes > 0;
  if (!isGood) throw new FsError("EINVAL", { detail: "a lock is of at least one byte" });
  return { startBytes, endBytes: startBytes + lengthBytes };
}
