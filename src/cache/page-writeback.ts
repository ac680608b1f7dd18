/**
 * The write loop: finds the dirty folios of a mapping one after the other, in ascending order, and
 * hands each to its file system, locked and cleaned.
 *
 *     tagPagesForWriteback   DIRTY . D . D D      what is dirty now; what comes later is not
 *                            TOWRITE T . T T      this walk's business, else it might never end
 *     WritebackIter.next     find a mark, lock; still here, dirty, not in flight? clearDirtyForIo
 *     the file system        startWriteback, unlock, submit | redirtyForWritepage, unlock | fail
 *
 *  1. A folio is looked at again after each wait: it may have left the file, been written by
 *     somebody else, or be in flight.
 *  2. Folios are locked in ascending order, and no walk begins anew at 0: two walks that wait for
 *     each other's folios would never end. For the same reason `wbc.beforeWait` is called before
 *     the walk really waits: what its writer holds back is in flight (rule JS-4).
 *  3. With `WB_SYNC_ALL` nothing ends the walk early, and the first error is returned at the end.
 *  4. Every folio that was handed out counts against `nrToWrite`, whatever became of it.
 *  5. Whatever a callback throws, its folio ends unlocked and not in flight (rule JS-8).
 *
 * After `mm/page-writeback.c` of Linux: `writeback_iter` of 6.8 and later. Left out: batches, since
 * a search from an index is cheap here.
 */
import { ENOMEM, type Errno, errnoOf } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { mutants } from "../lib/mutants.ts";
import { pageOfByte } from "../lib/units.ts";
import { INDEX_MAX, MARK_DIRTY, MARK_TOWRITE, type Mark } from "../lib/xarray.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Folio } from "./folio.ts";
import { AOP_WRITEPAGE_ACTIVATE, WB_SYNC_ALL, type WritebackControl } from "./writeback-control.ts";

/** Work before the loop gets a turn (rule JS-5); with the last folio's it stays below 5 ms. */
const WORK_MS_PER_TURN = 4;

/** Attempts to write when memory has got better, though it was not enough for the first one. */
const ATTEMPTS_MAX = 2;

/**
 * Makes `folio` dirty in `mapping`, without asking the file system (`filemap_dirty_folio`): flag,
 * mark, counters, and the inode. False if it was dirty. Its block state is left alone. Never waits.
 */
export function filemapDirtyFolio(mapping: AddressSpace, folio: Folio): boolean {
  return mapping.dirtyFolio(folio);
}

/** The page of the last byte of a range, `Infinity` for the end of the file. */
export function pageOfLast(lastBytes: number): number {
  return Math.min(pageOfByte(lastBytes), INDEX_MAX);
}

/**
 * Marks every folio that is marked DIRTY in the pages `first..last`, both included, with TOWRITE
 * (`tag_pages_for_writeback`). One synchronous step: an exact picture of the moment.
 */
export function tagPagesForWriteback(mapping: AddressSpace, first: number, last: number): void {
  const { pages } = mapping;
  for (let index = pages.find(first, last, MARK_DIRTY); index !== -1; ) {
    const folio = pages.load(index) as Folio;
    const isLeftOut = mutants.inFlightNotTagged && folio.isWriteback;
    if (!isLeftOut) pages.setMark(index, MARK_TOWRITE);
    index = pages.find(folio.index + folio.pageCount, last, MARK_DIRTY);
  }
}

/**
 * One walk over the dirty folios that a `WritebackControl` asks for (`writeback_iter`).
 *
 *     const iter = new WritebackIter(mapping, wbc);
 *     for (let folio = await iter.next(); folio !== null; folio = await iter.next())
 *       iter.error = await writeOne(folio);
 *     return iter.error;
 *
 * The walk is not left before `next` has returned `null`; only then `error` is its result. What
 * the writer does with a folio: see the head of the file; and it has unlocked it.
 */
export class WritebackIter {
  readonly mapping: AddressSpace;
  readonly wbc: WritebackControl;
  /** What became of the folio handed out last, set by the writer; in the end of the whole walk. */
  error: Errno = 0;
  readonly #mark: Mark;
  readonly #last: number;
  #index: number;
  #savedError: Errno = 0;
  /** Pages of the folio that was handed out last; 0 before the first. */
  #handedPages = 0;
  #isOver = false;
  #turnAtMs: number;

  constructor(mapping: AddressSpace, wbc: WritebackControl) {
    this.mapping = mapping;
    this.wbc = wbc;
    this.#index = wbc.rangeCyclic ? mapping.writebackIndex : pageOfByte(wbc.rangeStartBytes);
    this.#last = wbc.rangeCyclic ? INDEX_MAX : pageOfLast(wbc.rangeLastBytes);
    const isTagged = wbc.syncMode === WB_SYNC_ALL || wbc.taggedWritepages;
    this.#mark = isTagged ? MARK_TOWRITE : MARK_DIRTY;
    if (isTagged) tagPagesForWriteback(mapping, this.#index, this.#last);
    this.#turnAtMs = mapping.cache.clock.nowMs() + WORK_MS_PER_TURN;
  }

  /**
   * The next folio to write, locked, its flag dirty cleared, its mark still set; `null` at the
   * end. Waits for locks and, with `WB_SYNC_ALL`, for writes in flight. It is in the file as long
   * as it is locked or in flight; no reference is taken.
   */
  next(): MaybeAsync<Folio | null> {
    if (this.#isOver) return null;
    const { wbc } = this;
    wbc.nrToWrite -= this.#handedPages;
    if (wbc.syncMode === WB_SYNC_ALL) {
      if (this.#savedError === 0) this.#savedError = this.error;
    } else if (this.#handedPages > 0 && (this.error !== 0 || wbc.nrToWrite <= 0)) {
      return this.#end(this.#index, this.error);
    }
    this.#handedPages = 0;
    return this.#fetch();
  }

  #fetch(): MaybeAsync<Folio | null> {
    const { pages, cache } = this.mapping;
    for (;;) {
      const index = pages.find(this.#index, this.#last, this.#mark);
      if (index === -1) return this.#end(0, this.#savedError);
      if (cache.clock.nowMs() >= this.#turnAtMs) return this.#fetchAfterTurn();
      const folio = pages.load(index) as Folio;
      this.#index = folio.index + folio.pageCount;
      if (!folio.tryLock()) return this.#fetchAfterWait(folio, false);
      if (this.#mustWait(folio)) return this.#fetchAfterWait(folio, true);
      if (this.#prepare(folio)) return folio;
    }
  }

  async #fetchAfterTurn(): Promise<Folio | null> {
    const { clock } = this.mapping.cache;
    await clock.turn();
    this.#turnAtMs = clock.nowMs() + WORK_MS_PER_TURN;
    return this.#fetch();
  }

  /** Waits for the lock of `folio` if it is not ours, and for its write in flight. */
  async #fetchAfterWait(folio: Folio, isLocked: boolean): Promise<Folio | null> {
    folio.get();
    this.wbc.beforeWait?.();
    if (!isLocked) await folio.lock();
    // While it is locked no other write of it begins.
    if (this.#mustWait(folio)) await folio.waitWriteback();
    const isReady = this.#prepare(folio);
    folio.put();
    return isReady ? folio : this.#fetch();
  }

  /** True for a locked folio that is to be written, once the write in flight has ended. */
  #mustWait(folio: Folio): boolean {
    if (!folio.isWriteback || this.wbc.syncMode !== WB_SYNC_ALL) return false;
    return folio.isDirty && folio.mapping === this.mapping;
  }

  /** Cleans a locked folio for its writer, or unlocks it if there is nothing to write. */
  #prepare(folio: Folio): boolean {
    if (folio.mapping === this.mapping && !folio.isWriteback && folio.clearDirtyForIo()) {
      this.#handedPages = folio.pageCount;
      return true;
    }
    folio.unlock();
    return false;
  }

  #end(nextIndex: number, error: Errno): null {
    this.#isOver = true;
    this.error = error;
    if (this.wbc.rangeCyclic) this.mapping.writebackIndex = nextIndex > INDEX_MAX ? 0 : nextIndex;
    return null;
  }
}

/**
 * Writes one folio of a walk: see `WritebackIter`. Returns 0, an errno, or
 * `AOP_WRITEPAGE_ACTIVATE` for a folio that it has redirtied and left locked.
 */
export type WritepageFn<D> = (folio: Folio, wbc: WritebackControl, data: D) => MaybeAsync<Errno>;

/**
 * Calls `writepage` for every folio that `wbc` asks for (`write_cache_pages`), with `data`
 * unchanged. Returns 0 or the error that ended the walk, with `WB_SYNC_ALL` the first error. What
 * the writer still holds back then is its own business.
 */
export function writeCachePages<D>(
  mapping: AddressSpace,
  wbc: WritebackControl,
  writepage: WritepageFn<D>,
  data: D,
): MaybeAsync<Errno> {
  const iter = new WritebackIter(mapping, wbc);
  for (;;) {
    const folio = iter.next();
    if (isPromise(folio)) return writeCachePagesAsync(iter, writepage, data, folio);
    if (folio === null) return iter.error;
    const status = callWritepage(folio, wbc, writepage, data);
    if (isPromise(status)) return writeCachePagesAsync(iter, writepage, data, status);
    iter.error = status;
  }
}

/** The rest of a walk that has met something to wait for: a folio, or what became of one. */
async function writeCachePagesAsync<D>(
  iter: WritebackIter,
  writepage: WritepageFn<D>,
  data: D,
  waiting: Promise<Folio | null> | Promise<Errno>,
): Promise<Errno> {
  let folio = await waiting;
  for (;;) {
    if (folio === null) return iter.error;
    if (typeof folio === "number") {
      iter.error = folio;
    } else {
      const status = callWritepage(folio, iter.wbc, writepage, data);
      iter.error = isPromise(status) ? await status : status;
    }
    const next = iter.next();
    folio = isPromise(next) ? await next : next;
  }
}

/**
 * Calls `writepage` for one folio: 0 for a refusal, an errno for whatever it throws (invariant 5).
 */
export function callWritepage<D>(
  folio: Folio,
  wbc: WritebackControl,
  writepage: WritepageFn<D>,
  data: D,
): MaybeAsync<Errno> {
  const { lockSequence } = folio;
  try {
    const status = writepage(folio, wbc, data);
    if (!isPromise(status)) return writepageDone(folio, status);
    return status.then(
      (known) => writepageDone(folio, known),
      (thrown) => writepageThrew(folio, lockSequence, wbc, thrown),
    );
  } catch (thrown) {
    return writepageThrew(folio, lockSequence, wbc, thrown);
  }
}

function writepageDone(folio: Folio, status: Errno): Errno {
  if (status !== AOP_WRITEPAGE_ACTIVATE) return status;
  folio.unlock();
  return 0; // Refused, not failed.
}

function writepageThrew(
  folio: Folio,
  lockSequence: number,
  wbc: WritebackControl,
  thrown: unknown,
): Errno {
  const err = errnoOf(thrown);
  // Unlocked: it was submitted, or is in other hands.
  if (folio.isLocked && folio.lockSequence === lockSequence) failWrite(folio, wbc, err, thrown);
  return err;
}

/**
 * Ends the write-out of a locked folio of which nothing is in flight: notes the error, gives its
 * data up or keeps it dirty as `onWriteError` says, and unlocks it. It may be under writeback.
 */
export function failWrite(
  folio: Folio,
  wbc: WritebackControl,
  err: Errno,
  cause: unknown = undefined,
): void {
  const { mapping } = folio;
  if (mapping !== null) {
    mapping.setError(err, cause);
    if (mapping.onWriteError === "keep") {
      folio.redirtyForWritepage(wbc);
    } else {
      folio.blockState?.clearDirty(0, folio.sizeBytes);
      if (!folio.isWriteback) folio.startWriteback();
    }
    if (folio.isWriteback) folio.endWriteback();
  }
  folio.unlock();
}

/**
 * Ends the write of a folio with what became of it, at the completion of the I/O: notes an error
 * with its `cause`, and dirties the folio again where `onWriteError` keeps it. One with a block
 * state has had `endInFlight` for what was in flight.
 */
export function folioEndWriteback(folio: Folio, status: Errno, cause: unknown = undefined): void {
  const { mapping } = folio;
  if (status < 0 && mapping !== null) {
    mapping.setError(status, cause);
    if (mapping.onWriteError === "keep" && folio.blockState === null) mapping.dirtyFolio(folio);
  }
  folio.endWriteback();
}

/**
 * Writes what `wbc` asks for through `ops.writepage`, and notes errors in the mapping
 * (`generic_writepages`). Returns 0 for a mapping without that.
 */
export function genericWritepages(mapping: AddressSpace, wbc: WritebackControl): MaybeAsync<Errno> {
  if (mapping.ops.writepage === undefined) return 0;
  return writeCachePages(mapping, wbc, writepageNoting, mapping);
}

function writepageNoting(
  folio: Folio,
  wbc: WritebackControl,
  mapping: AddressSpace,
): MaybeAsync<Errno> {
  const status = mapping.ops.writepage!(folio, wbc);
  if (isPromise(status)) return status.then((known) => noted(mapping, known));
  return noted(mapping, status);
}

function noted(mapping: AddressSpace, status: Errno): Errno {
  mapping.setError(status);
  return status;
}

/**
 * Has the file system write what `wbc` asks for (`do_writepages`); nothing if `nrToWrite` is not
 * above 0. Returns its error. With `WB_SYNC_ALL`, memory that is short is waited for, as long as
 * writes end or frames come free.
 */
export function doWritepages(mapping: AddressSpace, wbc: WritebackControl): MaybeAsync<Errno> {
  if (wbc.nrToWrite <= 0) return 0;
  const before = memoryOf(mapping);
  const status = callWritepages(mapping, wbc);
  if (isPromise(status)) {
    return status.then((known) => {
      if (known !== -ENOMEM || wbc.syncMode !== WB_SYNC_ALL) return known;
      return repeatWritepages(mapping, wbc, before);
    });
  }
  if (status !== -ENOMEM || wbc.syncMode !== WB_SYNC_ALL) return status;
  return repeatWritepages(mapping, wbc, before);
}

/**
 * Repeats while memory gets better and, when it does not, waits for what is in flight: that others
 * take folios up in vain, as we do, is no reason to go on.
 */
async function repeatWritepages(
  mapping: AddressSpace,
  wbc: WritebackControl,
  before: Memory,
): Promise<Errno> {
  const { cache } = mapping;
  let best = before;
  let attemptsLeft = 0;
  for (;;) {
    const now = memoryOf(mapping);
    if (now.unwrittenPages < best.unwrittenPages || now.freeFrames > best.freeFrames) {
      best = {
        unwrittenPages: Math.min(now.unwrittenPages, best.unwrittenPages),
        freeFrames: Math.max(now.freeFrames, best.freeFrames),
      };
      attemptsLeft = ATTEMPTS_MAX;
    }
    if (attemptsLeft > 0) {
      attemptsLeft--;
      const status = await callWritepages(mapping, wbc);
      if (status !== -ENOMEM) return status;
    } else if (cache.nrWriteback > 0) {
      await cache.writebackWaiters.wait();
    } else {
      return -ENOMEM;
    }
  }
}

/** What there is of memory. A failed attempt that leaves all dirty does not change it. */
interface Memory {
  readonly unwrittenPages: number;
  readonly freeFrames: number;
}

function memoryOf({ cache }: AddressSpace): Memory {
  const unwrittenPages = cache.nrDirty + cache.nrWriteback;
  return { unwrittenPages, freeFrames: cache.arena.freeFrames };
}

function callWritepages(mapping: AddressSpace, wbc: WritebackControl): MaybeAsync<Errno> {
  const { ops } = mapping;
  try {
    if (ops.writepages === undefined) return genericWritepages(mapping, wbc);
    const status = ops.writepages(mapping, wbc);
    return isPromise(status) ? status.catch((thrown) => threw(mapping, thrown)) : status;
  } catch (thrown) {
    return threw(mapping, thrown);
  }
}

function threw(mapping: AddressSpace, thrown: unknown): Errno {
  const err = errnoOf(thrown);
  mapping.setError(err, thrown);
  return err;
}
