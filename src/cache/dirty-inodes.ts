/**
 * DirtyInodes: the lists on which the inodes of one device wait to be written.
 *
 *     clean --add--> [ dirty ] --queueIo--> [ io ] --written--> clean
 *                       ^  ^                 |  |
 *                       |  +-- dirty again --+  +-- its slice is used up --> [ moreIo ] --> [ io ]
 *                       |
 *                    [ failed ] a write has failed, and its pages are dirty still: until its time
 *     [ dirtyTime ]  only time stamps: for half a day
 *
 *  1. An inode with a dirty state is on a list, or has `I_SYNC`, or `I_FREEING`.
 *  2. `dirty` is ordered by `dirtiedWhenMs` and by `dirtiedRank`. Being dirtied again does not move
 *     an inode; being put back does not make it younger, unless there is a younger one already.
 *  3. What is on `io` or `moreIo` has `I_SYNC_QUEUED`: who dirties it leaves it there.
 *  4. Ranks tell which inodes were dirty when a work began: it takes no later ones, so it ends.
 *
 * After `fs/fs-writeback.c` of Linux. `failed` is ours: the kernel forgets what it could not write.
 */
import type { Clock } from "../lib/clock.ts";
import { MARK_DIRTY } from "../lib/xarray.ts";
import {
  I_DIRTY,
  I_DIRTY_PAGES,
  I_DIRTY_TIME,
  I_FREEING,
  I_SYNC,
  I_SYNC_QUEUED,
  type Superblock,
  type WbInode,
} from "./superblock.ts";
import { InodeList } from "./wb-list.ts";
import { WB_SYNC_ALL, type WritebackControl } from "./writeback-control.ts";

const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 30_000;

/** Which inodes a work takes: those that were dirty before. */
export interface QueueCut {
  /** Dirty at this time or earlier. */
  readonly dirtiedBeforeMs: number;
  /** The same for those of which only the time stamps are. */
  readonly timeBeforeMs: number;
  /** With this rank or a smaller one. */
  readonly rank: number;
  /** Those too whose next attempt is not due yet. */
  readonly takesFailed: boolean;
}

/** See the head of the file. */
export class DirtyInodes {
  /** Dirty, waiting for their age (`b_dirty`). */
  readonly dirty: InodeList = new InodeList();
  /** Being worked through (`b_io`). */
  readonly io: InodeList = new InodeList();
  /** Again later in this work (`b_more_io`). */
  readonly moreIo: InodeList = new InodeList();
  readonly dirtyTime: InodeList = new InodeList();
  readonly failed: InodeList = new InodeList();
  /** The newest rank. */
  rank = 0;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Inodes that are to be written soon: all but those with nothing but time stamps. */
  get count(): number {
    return this.dirty.count + this.io.count + this.moreIo.count + this.failed.count;
  }

  /** Takes an inode in that became dirty, or dirty in a way that matters more. */
  add(wb: WbInode, wasDirty: number): void {
    if ((wb.state & I_DIRTY) === 0) {
      if (wasDirty === 0) wb.dirtiedTimeWhenMs = this.#clock.nowMs();
      this.dirtyTime.moveToHead(wb);
      return;
    }
    this.#setDirtiedNow(wb);
    this.#moveToDirty(wb);
  }

  /** Puts back an inode that is dirty still or again (`redirty_tail`). */
  redirtyTail(wb: WbInode): void {
    const newest = this.dirty.head;
    if (newest !== null && newest.dirtiedRank > wb.dirtiedRank) this.#setDirtiedNow(wb);
    this.#moveToDirty(wb);
  }

  /** Has its turn again after the others of this work (`requeue_io`). */
  requeueIo(wb: WbInode): void {
    this.moreIo.moveToHead(wb);
  }

  /** Takes `wb` off its list, if it is on one. */
  remove(wb: WbInode): void {
    wb.state &= ~I_SYNC_QUEUED;
    wb.list?.remove(wb);
  }

  /** Fills `io` with what waits there for another turn, then with what `cut` says (`queue_io`). */
  queueIo(cut: QueueCut): void {
    this.io.takeAll(this.moreIo);
    const taken: WbInode[] = [];
    for (const wb of this.dirty.eldestFirst()) {
      if (wb.dirtiedWhenMs > cut.dirtiedBeforeMs || wb.dirtiedRank > cut.rank) break;
      taken.push(wb);
    }
    for (const wb of this.dirtyTime.eldestFirst()) {
      if (wb.dirtiedTimeWhenMs <= cut.timeBeforeMs) taken.push(wb);
    }
    const nowMs = this.#clock.nowMs();
    for (const wb of this.failed.eldestFirst()) {
      const isDue = cut.takesFailed || wb.retryAtMs <= nowMs;
      if (isDue && wb.dirtiedRank <= cut.rank) taken.push(wb);
    }
    for (const wb of groupedBySuperblock(taken)) {
      wb.state |= I_SYNC_QUEUED;
      this.io.moveToHead(wb);
    }
  }

  /**
   * Puts `wb`, which a flusher has just written as `wbc` says, where it belongs
   * (`requeue_inode`).
   */
  requeue(wb: WbInode, wbc: WritebackControl, cut: QueueCut): void {
    if ((wb.state & I_FREEING) !== 0) return;
    const isSnapshot = wbc.syncMode === WB_SYNC_ALL || wbc.taggedWritepages;
    // Else a sync would take what is dirtied all the time again and again.
    if (isSnapshot && (wb.state & I_DIRTY) !== 0) this.#setDirtiedNow(wb);
    const isMarked = wb.mapping?.pages.marked(MARK_DIRTY) === true;
    const isSliceUsed = wbc.nrToWrite <= 0 && wb.dirtiedRank <= cut.rank;
    if (wbc.pagesSkipped === 0 && isMarked && isSliceUsed) this.requeueIo(wb);
    else this.#place(wb);
  }

  /** Puts `wb`, which somebody else has written, where it belongs. */
  settle(wb: WbInode): void {
    if ((wb.state & I_FREEING) !== 0) return;
    const isDirty = (wb.state & (I_DIRTY | I_DIRTY_TIME)) !== 0;
    if (!isDirty || (wb.state & I_SYNC_QUEUED) === 0) this.#place(wb);
  }

  /** The last dirty folio of `wb` is clean: it is too, if nothing else is dirty. */
  cleaned(wb: WbInode): void {
    if ((wb.state & (I_SYNC | I_SYNC_QUEUED | I_FREEING)) !== 0) return;
    if ((wb.state & (I_DIRTY | I_DIRTY_TIME)) === 0) return;
    wb.state &= ~I_DIRTY_PAGES;
    this.#place(wb);
  }

  /** Notes that a write of `wb` has failed: what it keeps dirty waits for its next attempt. */
  writeFailed(wb: WbInode): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs < wb.retryAtMs) return; // Of the same attempt as one before.
    const isFirst = wb.failureCount === 0 || nowMs - wb.retryAtMs > RETRY_MAX_MS;
    wb.failureCount = isFirst ? 1 : wb.failureCount + 1;
    wb.retryAtMs = nowMs + Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** (wb.failureCount - 1));
    if (wb.list === this.dirty) this.failed.moveToHead(wb);
  }

  /** When the next attempt after a failure is due; `Infinity` if none is. */
  get nextRetryMs(): number {
    let nextMs = Infinity;
    for (const wb of this.failed.eldestFirst()) nextMs = Math.min(nextMs, wb.retryAtMs);
    return nextMs;
  }

  /** Lets go of all inodes, dirty or not. */
  clear(): void {
    for (const list of [this.dirty, this.io, this.moreIo, this.dirtyTime, this.failed]) {
      while (list.tail !== null) this.remove(list.tail);
    }
  }

  /** Throws `AssertionError` if a list is broken. */
  verify(): void {
    for (const list of [this.dirty, this.io, this.moreIo, this.dirtyTime, this.failed]) {
      list.verify();
    }
  }

  #place(wb: WbInode): void {
    if ((wb.state & I_DIRTY) !== 0) {
      this.redirtyTail(wb);
    } else if ((wb.state & I_DIRTY_TIME) !== 0) {
      wb.state &= ~I_SYNC_QUEUED;
      this.dirtyTime.moveToHead(wb);
    } else {
      this.remove(wb);
    }
  }

  #moveToDirty(wb: WbInode): void {
    wb.state &= ~I_SYNC_QUEUED;
    if (wb.retryAtMs > this.#clock.nowMs()) this.failed.moveToHead(wb);
    else this.dirty.moveToHead(wb);
  }

  #setDirtiedNow(wb: WbInode): void {
    wb.dirtiedWhenMs = this.#clock.nowMs();
    this.rank++;
    wb.dirtiedRank = this.rank;
  }
}

/** The inodes, in their order within each file system, one file system after the other. */
function groupedBySuperblock(inodes: readonly WbInode[]): readonly WbInode[] {
  const groups = new Map<Superblock, WbInode[]>();
  for (const wb of inodes) {
    const group = groups.get(wb.sb);
    if (group === undefined) groups.set(wb.sb, [wb]);
    else group.push(wb);
  }
  return groups.size < 2 ? inodes : [...groups.values()].flat();
}
