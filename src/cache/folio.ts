/**
 * Folio: one cached stretch of a file, 2^order pages in one run of frames, with its state and its
 * lock.
 *
 *     allocated --add--> locked, in the index --endRead(true)--> uptodate, unlocked --> freed
 *      refs 1             refs 2, then 1            \                refs 1
 *                                              endRead(false): unlocked, not uptodate: read again
 *
 *  1. `refs` counts the index (one, while `mapping` is set) and everybody who keeps the folio over
 *     an `await` or longer. At 0 the frames go back to the arena, and `bytes` must not be touched
 *     any more.
 *  2. The lock is held through a read and whenever the folio enters or leaves the index. It is
 *     handed to the first waiter by `unlock`; `tryLock` never overtakes one (rule JS-2).
 *  3. `isUptodate` is set once and stays. The bytes of an uptodate folio are read without the
 *     lock, in one synchronous stretch, for which no reference is needed: nothing can run in
 *     between.
 *  4. With a `blockState`, uptodate means that all units are valid: see block-state.ts.
 *  5. A folio that differs from the store has `isDirty`; who takes that away writes it. The mark
 *     DIRTY in the index is set with it, and stays when `clearDirtyForIo` takes the flag, until
 *     `startWriteback`: in between the folio is locked, and a walk that finds it waits.
 *  6. `isWriteback` and the mark WRITEBACK are one. Whoever started the write ends it, once.
 *
 *     clean --markDirty--> dirty --startWriteback--> in flight --endWriteback--> clean
 *                            ^                         |
 *                            +-------- markDirty ------+ (in flight and dirty)
 *
 * The flags are one small integer, since a cached read tests three of them at once. After `struct
 * folio` and `mm/filemap.c` of Linux. Left out: mapping counts and compound page heads.
 */
import { assert } from "../lib/assert.ts";
import { WaitQueue } from "../lib/locks.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import { byteOfPage, PAGE_BYTES } from "../lib/units.ts";
import { MARK_DIRTY, MARK_TOWRITE, MARK_WRITEBACK } from "../lib/xarray.ts";
import type { AddressSpace } from "./address-space.ts";
import type { FolioBlockState } from "./block-state.ts";
import type { WritebackControl } from "./writeback-control.ts";

/** Locked: somebody fills, changes or removes it (`PG_locked`). */
export const PG_LOCKED: number = 1 << 0;
/** All bytes are what the file holds (`PG_uptodate`). */
export const PG_UPTODATE: number = 1 << 1;
/** Whoever meets it starts the next readahead (`PG_readahead`). */
export const PG_READAHEAD: number = 1 << 2;
/** Was used since it came or moved to the active list (`PG_referenced`). */
export const PG_REFERENCED: number = 1 << 3;
/** Is on the active list (`PG_active`). */
export const PG_ACTIVE: number = 1 << 4;
/** Differs from the store (`PG_dirty`). */
export const PG_DIRTY: number = 1 << 5;
/** Is being written (`PG_writeback`). */
export const PG_WRITEBACK: number = 1 << 6;
/** To be reclaimed as soon as its write ends (`PG_reclaim`). */
export const PG_RECLAIM: number = 1 << 7;
/** Belongs to the working set: it came back soon after its eviction (`PG_workingset`). */
export const PG_WORKINGSET: number = 1 << 8;
/** All its blocks lie on the device, none is a hole (`PG_mappedtodisk`). */
export const PG_MAPPED_TO_DISK: number = 1 << 9;
/** To be dropped once it was used (`PG_dropbehind`). */
export const PG_DROP_BEHIND: number = 1 << 10;
/** Is on one of the lists of reclaim (`PG_lru`). */
export const PG_LRU: number = 1 << 11;
/** Came by readahead, and nobody has asked for it yet: counts readahead that paid. */
export const PG_PREFETCHED: number = 1 << 12;

/** What a folio tells the cache that it came from. */
export interface FolioOwner {
  /** Locked folios now: as long as there are any, memory may come free. */
  lockedCount: number;
  /** Tasks that wait for memory. */
  readonly memoryWaiterCount: number;
  /** A folio was unlocked or let go: those who wait for memory try again. */
  memoryProgress(): void;
  /** The last reference is gone: takes the frames back. */
  releaseFrames(folio: Folio): void;
}

/** See the head of the file. Made by `PageCache.allocFolio`. */
export class Folio {
  /** Flags `PG_*`; read them through the getters, save on a hot path. */
  flags = 0;
  /** First page of the file that it holds. */
  index = 0;
  readonly order: number;
  readonly pageCount: number;
  readonly sizeBytes: number;
  /** Its frames, for as long as a reference is held. */
  readonly bytes: Uint8Array;
  /**
   * The address space in whose index it stands; `null` before it is added and after it is
   * removed.
   */
  mapping: AddressSpace | null = null;
  refs = 1;
  /** Number of its first frame in the arena. */
  readonly pfn: number;
  /** State of its parts; `null` while all-or-nothing does. */
  blockState: FolioBlockState | null = null;
  /** Owned by the mapping layer: buffers. `null` when there is nothing. */
  private: unknown = null;
  /**
   * Counts the times it was locked: who remembers the value sees whether a lock is still the
   * same.
   */
  lockSequence = 0;
  /** Neighbours in the list of reclaim. */
  lruNext: Folio | null = null;
  lruBefore: Folio | null = null;
  readonly #owner: FolioOwner;
  #lockWaiters: WaitQueue | null = null;
  #unlockWaiters: WaitQueue | null = null;
  #writebackWaiters: WaitQueue | null = null;

  constructor(owner: FolioOwner, pfn: number, order: number, bytes: Uint8Array) {
    this.#owner = owner;
    this.pfn = pfn;
    this.order = order;
    this.pageCount = 1 << order;
    this.sizeBytes = PAGE_BYTES << order;
    this.bytes = bytes;
  }

  get isLocked(): boolean {
    return (this.flags & PG_LOCKED) !== 0;
  }

  get isUptodate(): boolean {
    return (this.flags & PG_UPTODATE) !== 0;
  }

  get isReadahead(): boolean {
    return (this.flags & PG_READAHEAD) !== 0;
  }

  get isReferenced(): boolean {
    return (this.flags & PG_REFERENCED) !== 0;
  }

  get isActive(): boolean {
    return (this.flags & PG_ACTIVE) !== 0;
  }

  get isDirty(): boolean {
    return (this.flags & PG_DIRTY) !== 0;
  }

  get isWriteback(): boolean {
    return (this.flags & PG_WRITEBACK) !== 0;
  }

  get isReclaim(): boolean {
    return (this.flags & PG_RECLAIM) !== 0;
  }

  get isWorkingset(): boolean {
    return (this.flags & PG_WORKINGSET) !== 0;
  }

  get isMappedToDisk(): boolean {
    return (this.flags & PG_MAPPED_TO_DISK) !== 0;
  }

  get isDropBehind(): boolean {
    return (this.flags & PG_DROP_BEHIND) !== 0;
  }

  /** Position of its first byte in the file (`folio_pos`). */
  get posBytes(): number {
    return byteOfPage(this.index);
  }

  /** Sets the flags of `mask`: for what has no method of its own. */
  setFlags(mask: number): void {
    this.flags |= mask;
  }

  /** Clears the flags of `mask`. */
  clearFlags(mask: number): void {
    this.flags &= ~mask;
  }

  /**
   * Notes that all bytes are what the file holds (`folio_mark_uptodate`). The lock must be held.
   */
  markUptodate(): void {
    this.flags |= PG_UPTODATE;
    this.blockState?.setAllValid();
  }

  /** Notes that all blocks lie on the device (`folio_set_mappedtodisk`). */
  markMappedToDisk(): void {
    this.flags |= PG_MAPPED_TO_DISK;
  }

  /** Locks it if that needs no wait (`folio_trylock`). Fails while others wait. */
  tryLock(): boolean {
    if ((this.flags & PG_LOCKED) !== 0) return false;
    this.flags |= PG_LOCKED;
    this.lockSequence++;
    this.#owner.lockedCount++;
    return true;
  }

  /**
   * Locks it, after those who came before (`folio_lock`). The caller holds a reference, and looks
   * at `mapping` afterwards: the folio may have left the file. Rejects with the reason of
   * `signal`.
   */
  lock(signal?: AbortSignal): MaybeAsync<void> {
    if (this.tryLock()) return;
    this.#lockWaiters ??= new WaitQueue();
    return this.#lockWaiters.wait(signal);
  }

  /** Gives the lock to its first waiter or up, and wakes those of `waitLocked` (`folio_unlock`). */
  unlock(): void {
    assert((this.flags & PG_LOCKED) !== 0, "only a locked folio is unlocked");
    if (this.#lockWaiters !== null && this.#lockWaiters.length > 0) {
      this.lockSequence++;
      this.#lockWaiters.wakeOne();
    } else {
      this.flags &= ~PG_LOCKED;
      this.#owner.lockedCount--;
    }
    if (this.#unlockWaiters !== null) this.#unlockWaiters.wakeAll();
    if (this.#owner.memoryWaiterCount > 0) this.#owner.memoryProgress();
  }

  /**
   * Waits until whoever has it locked gives it up, without locking it (`folio_wait_locked`). It
   * may be locked again, or have left the file, when the caller runs: waiting for more could take
   * for ever. Rejects with the reason of `signal`; the lock's owner is not disturbed by that.
   */
  waitLocked(signal?: AbortSignal): MaybeAsync<void> {
    if ((this.flags & PG_LOCKED) === 0) return;
    this.#unlockWaiters ??= new WaitQueue();
    return this.#unlockWaiters.wait(signal);
  }

  /** Ends a read in one step: uptodate if `isOk`, then unlocked (`folio_end_read`). */
  endRead(isOk: boolean): void {
    assert((this.flags & PG_LOCKED) !== 0, "a folio is locked while it is read");
    if (isOk) this.markUptodate();
    this.unlock();
  }

  /**
   * Notes that all its bytes may differ from the store (`folio_mark_dirty`). True if it was not
   * dirty before. The caller holds the lock, or keeps the folio in its file in another way. Who
   * has changed only a part says so with `markDirtyRange`. Never waits.
   */
  markDirty(): boolean {
    this.flags &= ~PG_RECLAIM;
    const { mapping } = this;
    if (mapping === null) {
      const wasDirty = (this.flags & PG_DIRTY) !== 0;
      this.flags |= PG_DIRTY;
      return !wasDirty;
    }
    if (mapping.ops.dirtyFolio !== undefined) return mapping.ops.dirtyFolio(mapping, this);
    this.blockState?.setAllDirty();
    return mapping.dirtyFolio(this);
  }

  /**
   * As `markDirty`, for the bytes of a range: only the units of `blockState` that it touches, if
   * there is one (`iomap_set_range_dirty`). These are valid.
   */
  markDirtyRange(fromBytes: number, lengthBytes: number): boolean {
    this.flags &= ~PG_RECLAIM;
    assert(this.mapping !== null, "a range is dirtied within its file");
    this.blockState?.setDirty(fromBytes, lengthBytes);
    return this.mapping.dirtyFolio(this);
  }

  /** Marks it dirty under its lock: for those who hold nothing else (`set_page_dirty_lock`). */
  markDirtyLock(): MaybeAsync<void> {
    const locked = this.lock();
    if (locked instanceof Promise) return locked.then(() => this.#markDirtyUnlock());
    this.#markDirtyUnlock();
  }

  #markDirtyUnlock(): void {
    this.markDirty();
    this.unlock();
  }

  /**
   * Takes the flag dirty away, in order to write the folio; true if it had it
   * (`folio_clear_dirty_for_io`). Locked. The mark stays until `startWriteback`.
   */
  clearDirtyForIo(): boolean {
    assert((this.flags & PG_LOCKED) !== 0, "invariant 5: a folio is cleaned under its lock");
    return this.#clearDirty();
  }

  /**
   * Gives up what is dirty in it, before it leaves the file (`folio_cancel_dirty`). Locked.
   */
  cancelDirty(): void {
    assert((this.flags & PG_LOCKED) !== 0, "a folio is cleaned under its lock");
    this.#clearDirty();
    this.blockState?.clearDirty(0, this.sizeBytes);
  }

  #clearDirty(): boolean {
    if ((this.flags & PG_DIRTY) === 0) return false;
    this.flags &= ~PG_DIRTY;
    this.mapping?.cache.folioCleaned(this.mapping, this);
    return true;
  }

  /**
   * Declines to write it now: dirty again, and counted as skipped
   * (`folio_redirty_for_writepage`). Called instead of `startWriteback`, locked. The dirty units of
   * its `blockState` are as the caller has left them. True if it was clean.
   */
  redirtyForWritepage(wbc: WritebackControl): boolean {
    const { mapping } = this;
    assert(mapping !== null, "a folio is written for a file");
    wbc.pagesSkipped += this.pageCount;
    const isNew = mapping.dirtyFolio(this);
    if (isNew) mapping.cache.folioRedirtied(mapping, this);
    return isNew;
  }

  /**
   * Begins to write it (`folio_start_writeback`). Locked, not in flight; the caller unlocks it and
   * submits, and `endWriteback` follows. Clears the mark DIRTY, unless it is dirty again, and
   * TOWRITE; with `keepWrite` TOWRITE stays, for a writer who has written a part and will be called
   * for the rest in the same walk. Never waits.
   */
  startWriteback(keepWrite = false): void {
    const { mapping } = this;
    assert((this.flags & PG_LOCKED) !== 0, "a folio is locked when its write begins");
    assert((this.flags & PG_WRITEBACK) === 0, "invariant 6: one write at a time");
    assert(mapping !== null, "a folio is written for a file");
    const { pages } = mapping;
    this.flags |= PG_WRITEBACK;
    if (!pages.marked(MARK_WRITEBACK)) mapping.writebackBegan();
    pages.setMark(this.index, MARK_WRITEBACK);
    if ((this.flags & PG_DIRTY) === 0) pages.clearMark(this.index, MARK_DIRTY);
    if (!keepWrite) pages.clearMark(this.index, MARK_TOWRITE);
    mapping.cache.folioWritebackStarted(mapping, this);
  }

  /**
   * Ends a write, whatever came of it (`folio_end_writeback`), and wakes those who wait for that.
   * An error is told to the mapping before. Needs no lock.
   */
  endWriteback(): void {
    const { mapping } = this;
    assert((this.flags & PG_WRITEBACK) !== 0, "invariant 6: a write ends once");
    assert(mapping !== null, "invariant 6: what is in flight stays in its file");
    const isReclaim = (this.flags & PG_RECLAIM) !== 0;
    this.flags &= ~(PG_WRITEBACK | PG_RECLAIM);
    mapping.pages.clearMark(this.index, MARK_WRITEBACK);
    if (!mapping.pages.marked(MARK_WRITEBACK)) mapping.writebackEnded();
    if (this.#writebackWaiters !== null) this.#writebackWaiters.wakeAll();
    mapping.cache.folioWritebackEnded(mapping, this, isReclaim);
  }

  /**
   * Waits until the write in flight has ended (`folio_wait_writeback`). For a caller who has the
   * lock it is not in flight then; for others the next write may have begun. Rejects with the
   * reason of `signal`, never because of the write.
   */
  waitWriteback(signal?: AbortSignal): MaybeAsync<void> {
    if ((this.flags & PG_WRITEBACK) === 0) return;
    this.#writebackWaiters ??= new WaitQueue();
    return this.#writebackWaiters.wait(signal);
  }

  /**
   * Waits for the write in flight if the store needs bytes that do not change meanwhile
   * (`folio_wait_stable`). Locked.
   */
  waitStable(signal?: AbortSignal): MaybeAsync<void> {
    if (this.mapping?.stableWrites === true) return this.waitWriteback(signal);
  }

  /** Keeps the folio's memory until `put` (`folio_get`). It may still be removed from the file. */
  get(): void {
    assert(this.refs > 0, "only who has a folio takes a reference to it");
    this.refs++;
  }

  /** Gives one reference back; with the last one go the frames (`folio_put`). */
  put(): void {
    assert(this.refs > 0, "only references that were taken are given back");
    this.refs--;
    if (this.refs === 0) this.#owner.releaseFrames(this);
    else if (this.refs === 1 && this.#owner.memoryWaiterCount > 0) this.#owner.memoryProgress();
  }
}
