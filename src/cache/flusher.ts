/**
 * BdiWriteback: the flusher of one device. It writes what is old, what is too much, and what `sync`
 * asks for.
 *
 *     inode dirty --> timer, 5 s --+
 *     too much dirty --------------+--> run: queued works, in order     sync, syncfs
 *     memory short ----------------+         all there is               memory is short
 *     sync ------------------------+         what is 30 s old           every 5 s
 *                                            until few pages are dirty  background
 *
 *  1. One run at a time, which goes on as long as somebody has woken it meanwhile.
 *  2. A run writes inodes in slices, the eldest first: a large one does not starve the others.
 *  3. Periodic and background works end as soon as another work is queued.
 *  4. A work takes what was dirty when it began; each pass over the lists that gets nothing done
 *     ends it. So it ends, whoever dirties and whatever fails meanwhile.
 *  5. There is a timer only while something is dirty. It keeps the process alive, for the data's
 *     sake, unless there is nothing but time stamps.
 *
 * After `wb_workfn` and `wb_writeback` in `fs/fs-writeback.c` of Linux. Left out: cgroups, inodes
 * that change their device, laptop mode.
 */
import { assert } from "../lib/assert.ts";
import type { Timer } from "../lib/clock.ts";
import { EIO, type Errno } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import { MIB, PAGE_BYTES } from "../lib/units.ts";
import { DirtyInodes, type QueueCut } from "./dirty-inodes.ts";
import type { PageCache } from "./page-cache.ts";
import {
  type BackingDevice,
  I_DIRTY,
  I_DIRTY_TIME,
  I_FREEING,
  I_NEW,
  I_SYNC,
  type WbInode,
  type WorkRequest,
} from "./superblock.ts";
import { WriteRate, WriterThrottle } from "./throttle.ts";
import {
  DIRTYTIME_EXPIRE_MS,
  inodeSyncComplete,
  waitForInodeSync,
  writeInodeLocked,
} from "./write-inode.ts";
import {
  WB_SYNC_ALL,
  WB_SYNC_NONE,
  type WritebackBatch,
  WritebackControl,
} from "./writeback-control.ts";

const WRITEBACK_INTERVAL_MS = 5_000;
const EXPIRE_INTERVAL_MS = 30_000;
/** A slice is a multiple of this. */
const SLICE_PAGES: number = (4 * MIB) / PAGE_BYTES;
const SLICE_LIMIT_SHARE = 8;
/** After so long a work looks whether it is still wanted. */
const RECHECK_MS = 100;
/** Work before the loop gets a turn (rule JS-5). */
const WORK_MS_PER_TURN = 5;
/** As many pages as there may be, in a count that arithmetic works on. */
const ALL_PAGES: number = Number.MAX_SAFE_INTEGER;

/** Names and defaults are those of `/proc/sys/vm`. */
export interface FlusherOptions {
  readonly cache: PageCache;
  /** Time between two looks for what is old, 5 s by default; 0: never. */
  readonly dirtyWritebackIntervalMs?: number;
  /** Age from which on data is old, 30 s by default. */
  readonly dirtyExpireIntervalMs?: number;
  /** What the device is taken to write, instead of what is measured. */
  readonly pagesPerSecond?: number;
}

interface Work extends WorkRequest {
  nrPages: number;
  readonly forKupdate: boolean;
  readonly forBackground: boolean;
  readonly rangeCyclic: boolean;
}

interface QueuedWork {
  readonly work: Work;
  readonly done: () => void;
}

/** See the head of the file. */
export class BdiWriteback implements BackingDevice {
  nrDirty = 0;
  nrWriteback = 0;
  nrDirtied = 0;
  readonly inodes: DirtyInodes;
  readonly rate: WriteRate;
  readonly throttle: WriterThrottle;
  readonly #cache: PageCache;
  readonly #intervalMs: number;
  readonly #expireMs: number;
  readonly #works: QueuedWork[] = [];
  readonly #idleWaiters = new WaitQueue();
  #timer: Timer | null = null;
  #isTimerBackground = false;
  #isTickDue = false;
  #isStartAll = false;
  #isWoken = false;
  #isRunning = false;
  #isClosed = false;
  #lastError: Errno = 0;

  constructor(options: FlusherOptions) {
    const { cache } = options;
    this.#cache = cache;
    this.#intervalMs = options.dirtyWritebackIntervalMs ?? WRITEBACK_INTERVAL_MS;
    this.#expireMs = options.dirtyExpireIntervalMs ?? EXPIRE_INTERVAL_MS;
    this.inodes = new DirtyInodes(cache.clock);
    this.rate = new WriteRate(cache.clock, options.pagesPerSecond);
    this.throttle = new WriterThrottle(cache, this, this.rate);
    cache.flushers.add(this);
  }

  get isBusy(): boolean {
    return this.#isRunning;
  }

  /** The error of the last failed write, while some inode could not be written because of one. */
  get failure(): Errno {
    return this.inodes.failed.count > 0 ? this.#lastError : 0;
  }

  inodeDirtied(wb: WbInode, wasDirty: number): void {
    if (this.#isClosed || (wb.state & I_FREEING) !== 0) return;
    this.inodes.add(wb, wasDirty);
    this.#arm();
  }

  inodeCleaned(wb: WbInode): void {
    this.inodes.cleaned(wb);
    if (this.inodes.count === 0) this.#arm();
  }

  inodeWritten(wb: WbInode): void {
    if (this.#isClosed) this.inodes.remove(wb);
    else this.inodes.settle(wb);
    this.#arm();
  }

  writeFailed(wb: WbInode, err: Errno): void {
    this.#lastError = err;
    if (wb.mapping?.onWriteError === "keep") this.inodes.writeFailed(wb);
  }

  pagesWritten(pageCount: number): void {
    this.rate.written(pageCount);
  }

  startAll(): void {
    this.#isStartAll = true;
    this.#wake();
  }

  /**
   * Has it write until few pages are dirty, if there are many (`wb_start_background_writeback`).
   */
  startBackground(): void {
    this.#wake();
  }

  queueWork(request: WorkRequest): Promise<void> {
    return new Promise((done) => {
      const work = workOf({ ...request });
      if (this.#isClosed) {
        done();
        return;
      }
      this.#works.push({ work, done });
      this.#wake();
    });
  }

  /**
   * Writes all that is dirty and waits for it, then stops for good: no timer is left, and what is
   * dirtied later is written by nobody. Returns 0, or an error if something could not be written,
   * which is forgotten. To be called when the file system is unmounted.
   */
  async close(): Promise<Errno> {
    await this.queueWork({ sb: null, syncMode: WB_SYNC_ALL });
    while (this.nrWriteback > 0) await this.#cache.writebackWaiters.wait();
    this.#isClosed = true;
    while (this.#isRunning) await this.#idleWaiters.wait();
    this.#cancelTimer();
    this.#cache.flushers.delete(this);
    const isAllWritten = this.inodes.count === 0;
    this.inodes.clear();
    if (isAllWritten) return 0;
    return this.#lastError === 0 ? -EIO : this.#lastError;
  }

  #wake(): void {
    this.#isWoken = true;
    if (this.#isRunning || this.#isClosed) return;
    this.#isRunning = true;
    this.#cancelTimer();
    // Whoever wakes it may hold locks: it begins when that one's stretch of code has ended.
    this.#cache.clock.microtask(() => void this.#run());
  }

  async #run(): Promise<void> {
    assert(this.#isRunning, "invariant 1: one run at a time");
    while (this.#isWoken) {
      this.#isWoken = false;
      await this.#doWriteback();
      // Whoever wakes it at once, over and over, must not keep the ends of I/O from coming in.
      if (this.#isWoken) await this.#cache.clock.turn();
    }
    this.#isRunning = false;
    this.#arm();
    this.#idleWaiters.wakeAll();
    this.#cache.memoryProgress();
  }

  /** One look at all there may be to do (`wb_do_writeback`). */
  async #doWriteback(): Promise<void> {
    for (let next = this.#works.shift(); next !== undefined; next = this.#works.shift()) {
      await this.#writeback(next.work);
      next.done();
    }
    if (this.#isStartAll) {
      this.#isStartAll = false;
      const nrPages = this.nrDirty + this.inodes.count;
      const work = workOf({ sb: null, syncMode: WB_SYNC_NONE, nrPages });
      await this.#writeback({ ...work, rangeCyclic: true });
    }
    if (this.#isTickDue) {
      this.#isTickDue = false;
      const work = workOf({ sb: null, syncMode: WB_SYNC_NONE });
      await this.#writeback({ ...work, forKupdate: true, rangeCyclic: true });
    }
    if (this.#isOverBackground) {
      const work = workOf({ sb: null, syncMode: WB_SYNC_NONE });
      await this.#writeback({ ...work, forBackground: true, rangeCyclic: true });
    }
    if (this.#works.length > 0) this.#isWoken = true;
  }

  get #isOverBackground(): boolean {
    const { dirtyLimits, dirtyablePages, nrDirty } = this.#cache;
    return nrDirty > dirtyLimits.backgroundPages(dirtyablePages);
  }

  /** Writes what `work` asks for, pass by pass (`wb_writeback`). */
  async #writeback(work: Work): Promise<void> {
    const { rank } = this.inodes;
    while (work.nrPages > 0) {
      if (this.#mustYield(work)) return;
      if (work.forBackground && !this.#isOverBackground) return;
      const cut = this.#cutOf(work, rank);
      // What an earlier work has left there says nothing of what this one finds.
      const isQueued = this.inodes.io.count === 0;
      if (isQueued) this.inodes.queueIo(cut);
      const isProgress = await this.#writeInodes(work, cut);
      if (isProgress || !isQueued) continue;
      const busy = this.inodes.moreIo.tail;
      if (busy === null) return;
      await waitForInodeSync(busy);
    }
  }

  #cutOf(work: Work, rank: number): QueueCut {
    const nowMs = this.#cache.clock.nowMs();
    const isAll = work.syncMode === WB_SYNC_ALL;
    return {
      dirtiedBeforeMs: work.forKupdate ? nowMs - this.#expireMs : Infinity,
      timeBeforeMs: isAll ? Infinity : nowMs - DIRTYTIME_EXPIRE_MS,
      rank: work.forBackground || work.forKupdate ? Infinity : rank,
      takesFailed: isAll || work.taggedWritepages === true,
    };
  }

  /** One pass over what is queued (`writeback_sb_inodes`): true if anything was written. */
  async #writeInodes(work: Work, cut: QueueCut): Promise<boolean> {
    const batch: WritebackBatch = { plug: null };
    try {
      return await this.#writeBatch(work, cut, batch);
    } finally {
      batch.plug?.flush();
    }
  }

  async #writeBatch(work: Work, cut: QueueCut, batch: WritebackBatch): Promise<boolean> {
    const { clock } = this.#cache;
    const startedMs = clock.nowMs();
    let turnMs = startedMs;
    let isProgress = false;
    for (let wb = this.inodes.io.tail; wb !== null; wb = this.inodes.io.tail) {
      if ((work.sb !== null && wb.sb !== work.sb) || (wb.state & (I_NEW | I_FREEING)) !== 0) {
        this.inodes.redirtyTail(wb);
        continue;
      }
      if ((wb.state & I_SYNC) !== 0) {
        batch.plug?.flush();
        if (work.syncMode === WB_SYNC_ALL) await waitForInodeSync(wb);
        else this.inodes.requeueIo(wb);
        continue;
      }
      if (await this.#writeSlice(wb, work, cut, batch)) isProgress = true;
      const nowMs = clock.nowMs();
      if (nowMs - turnMs >= WORK_MS_PER_TURN) {
        await clock.turn();
        turnMs = clock.nowMs();
      }
      if (isProgress && (work.nrPages <= 0 || nowMs - startedMs >= RECHECK_MS)) break;
      if (this.#mustYield(work)) break;
    }
    return isProgress;
  }

  /** True if `work` is of the kind that gives way, and there is another (invariant 3). */
  #mustYield(work: Work): boolean {
    return (work.forKupdate || work.forBackground) && this.#works.length > 0;
  }

  /** Writes one slice of one inode; true if that made anything clean. */
  async #writeSlice(
    wb: WbInode,
    work: Work,
    cut: QueueCut,
    batch: WritebackBatch,
  ): Promise<boolean> {
    const slicePages = this.#slicePages(work);
    const { forKupdate, forBackground, rangeCyclic } = work;
    const wbc = new WritebackControl({
      syncMode: work.syncMode,
      nrToWrite: slicePages,
      taggedWritepages: work.taggedWritepages === true,
      forSync: work.forSync === true,
      forKupdate,
      forBackground,
      rangeCyclic,
      batch,
    });
    wb.state |= I_SYNC;
    await writeInodeLocked(wb, wbc);
    this.inodes.requeue(wb, wbc, cut);
    inodeSyncComplete(wb);
    const handedPages = slicePages - wbc.nrToWrite;
    work.nrPages -= handedPages;
    const isClean = (wb.state & (I_DIRTY | I_DIRTY_TIME)) === 0;
    return handedPages - wbc.pagesSkipped > 0 || isClean;
  }

  /** Pages of one inode that are written before the next one has its turn. */
  #slicePages(work: Work): number {
    if (work.syncMode === WB_SYNC_ALL || work.taggedWritepages === true) return ALL_PAGES;
    const { dirtyLimits, dirtyablePages } = this.#cache;
    const limitPages = dirtyLimits.limitPages(dirtyablePages) / SLICE_LIMIT_SHARE;
    const pages = Math.min(this.rate.pagesPerSecond / 2, limitPages, work.nrPages);
    return Math.floor((pages + SLICE_PAGES) / SLICE_PAGES) * SLICE_PAGES;
  }

  /** Sets the timer that is needed now, if any. */
  #arm(): void {
    if (this.#isRunning || this.#isClosed || this.#intervalMs === 0) return;
    const isBackground = this.inodes.count === 0;
    if (isBackground && this.inodes.dirtyTime.count === 0) {
      this.#cancelTimer();
      return;
    }
    if (this.#timer !== null && this.#isTimerBackground === isBackground) return;
    this.#cancelTimer();
    const nowMs = this.#cache.clock.nowMs();
    const retryMs = Math.max(0, this.inodes.nextRetryMs - nowMs);
    this.#isTimerBackground = isBackground;
    const fire = (): void => {
      this.#timer = null;
      this.#isTickDue = true;
      this.#wake();
    };
    const delayMs = Math.min(this.#intervalMs, retryMs);
    this.#timer = this.#cache.clock.setTimer(delayMs, fire, isBackground);
  }

  #cancelTimer(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}

function workOf(request: WorkRequest): Work {
  return {
    ...request,
    nrPages: request.nrPages ?? ALL_PAGES,
    forKupdate: false,
    forBackground: false,
    rangeCyclic: false,
  };
}
