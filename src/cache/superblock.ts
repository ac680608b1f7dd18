/**
 * What the cache knows of a file system and of the state of its inodes: declared here, so that
 * folios can tell of themselves; the flusher, `sync` and the file systems fill it with life.
 *
 *     folio --dirtied--> markInodeDirty --> sb.dirtyInode     the journal hears of a changed inode
 *                              |
 *                        WbInode.state --> bdi.inodeDirtied   the flusher puts it on its list
 *
 *  1. `state` has `I_DIRTY_PAGES` whenever the mapping may have dirty folios that no list knows.
 *  2. `dirtiedWhenMs` is the time of the first dirtying since the inode was clean: later ones do
 *     not make it younger.
 *  3. An inode is in `inodesUnderWriteback` exactly while its mapping has a folio in flight.
 *
 * A mapping whose host has no `wb` is written on demand only, by `fsync` and its kin.
 *
 * After `include/linux/fs.h` and `__mark_inode_dirty` in `fs/fs-writeback.c` of Linux.
 */
import type { Errno } from "../lib/errno.ts";
import type { Errseq } from "../lib/errseq.ts";
import { WaitQueue } from "../lib/locks.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Inode } from "./inode.ts";
import type { SyncMode, WritebackControl } from "./writeback-control.ts";

/** The inode has changed in a way that reading its data back does not depend on. */
export const I_DIRTY_SYNC: number = 1 << 0;
/** The inode has changed in a way that its data cannot be reached without: `fdatasync` too. */
export const I_DIRTY_DATASYNC: number = 1 << 1;
/** Its mapping has dirty folios. */
export const I_DIRTY_PAGES: number = 1 << 2;
/** Is being made. */
export const I_NEW: number = 1 << 3;
/** Is being taken apart. */
export const I_FREEING: number = 1 << 5;
/** Somebody writes it back: at most one at a time. */
export const I_SYNC: number = 1 << 7;
/** Only its time stamps have changed, which may wait for long. */
export const I_DIRTY_TIME: number = 1 << 11;
/** On the list that the flusher works through: who dirties it leaves its place alone. */
export const I_SYNC_QUEUED: number = 1 << 17;
/** The inode itself has changed (`I_DIRTY_INODE`). */
export const I_DIRTY_INODE: number = I_DIRTY_SYNC | I_DIRTY_DATASYNC;
/** Anything but time stamps has changed (`I_DIRTY`). */
export const I_DIRTY: number = I_DIRTY_INODE | I_DIRTY_PAGES;

/** Who writes back what nobody has asked for (`struct bdi_writeback`): see flusher.ts. */
export interface BackingDevice {
  /** Pages of its files that are dirty, that are in flight, and that were dirtied so far. */
  nrDirty: number;
  nrWriteback: number;
  nrDirtied: number;
  /** True while it writes, or is about to. */
  readonly isBusy: boolean;
  /** Holds up those who dirty more than it can write. */
  readonly throttle: {
    balance(signal: AbortSignal | undefined, isNowait: boolean): MaybeAsync<Errno>;
  };
  /**
   * The inode `wb` became dirty, and no flusher has it queued: put it on a list. `wasDirty` holds
   * the `I_DIRTY_*` that it had before.
   */
  inodeDirtied(wb: WbInode, wasDirty: number): void;
  /** The content of `wb` has no folio left that is dirty or in flight. */
  inodeCleaned(wb: WbInode): void;
  /** Somebody else has written `wb`, under `I_SYNC`: it goes where it belongs now. */
  inodeWritten(wb: WbInode): void;
  /** A write of `wb` has failed with the negative errno `err`. */
  writeFailed(wb: WbInode, err: Errno): void;
  /** `pageCount` pages of its files have been written. */
  pagesWritten(pageCount: number): void;
  /** Memory is short: write all there is (`wakeup_flusher_threads`). */
  startAll(): void;
  /** Has what `work` asks for written, and resolves when that was submitted. */
  queueWork(work: WorkRequest): Promise<void>;
}

/** What a flusher is asked to write (`struct wb_writeback_work`). */
export interface WorkRequest {
  /** Only files of this file system; `null`: of all. */
  readonly sb: Superblock | null;
  readonly syncMode: SyncMode;
  /** Pages to write at most; by default no limit. */
  readonly nrPages?: number;
  /** Only what is dirty when its turn comes, even without `WB_SYNC_ALL`. */
  readonly taggedWritepages?: boolean;
  /** The caller waits for the data itself. */
  readonly forSync?: boolean;
}

/** A mounted file system, as far as writing back concerns it (`struct super_block`). */
export interface Superblock {
  /** Write errors of all its files: `syncfs` tells of them. */
  readonly wbErr: Errseq;
  readonly inodesUnderWriteback: Set<WbInode>;
  /** Without one, its files are written on demand only. */
  readonly bdi?: BackingDevice | null;
  /** Called before the inode itself counts as dirty (`dirty_inode`): journals it. Must not wait. */
  dirtyInode?(inode: Inode, flags: number): void;
  /** Writes the inode itself (`write_inode`); with `WB_SYNC_ALL` it is safe on return. */
  writeInode?(inode: Inode, wbc: WritebackControl): MaybeAsync<Errno>;
  /** Writes what else the file system has to write (`sync_fs`). */
  syncFs?(isWaiting: boolean): MaybeAsync<Errno>;
  /** Writes, and waits for if so wished, what the cache of its device holds (`sync_blockdev`). */
  syncBlockdev?(isWaiting: boolean): MaybeAsync<Errno>;
  /** Nothing of it is ever written. */
  readonly isReadOnly?: boolean;
}

/** A list of inodes through the inodes themselves, of the flusher (`struct list_head`). */
export interface WbList {
  remove(wb: WbInode): void;
}

/** State of the write-back of one inode; its `Inode.wb` (`i_state`, `i_io_list`). */
export class WbInode {
  readonly inode: Inode;
  readonly sb: Superblock;
  /** The content; set when its address space is made. */
  mapping: AddressSpace | null = null;
  /** `I_*`. */
  state = 0;
  /** Invariant 2, by the clock of the cache. */
  dirtiedWhenMs = 0;
  /** When its time stamps alone became dirty. */
  dirtiedTimeWhenMs = 0;
  /** Rank of its last entry into the flusher's list of the dirty: tells before from after. */
  dirtiedRank = 0;
  /** After a failed write: when the next attempt is due, and how many have failed in a row. */
  retryAtMs = 0;
  failureCount = 0;
  /** The flusher's list that it is on. */
  list: WbList | null = null;
  next: WbInode | null = null;
  before: WbInode | null = null;
  /** Those who wait for `I_SYNC` to go. */
  readonly syncWaiters: WaitQueue = new WaitQueue();

  constructor(inode: Inode, sb: Superblock) {
    this.inode = inode;
    this.sb = sb;
  }
}

/**
 * Notes that `inode` differs from its copy on the device, as `flags` of `I_DIRTY_*` say
 * (`__mark_inode_dirty`). Does nothing for an inode without `wb`. Never waits.
 */
export function markInodeDirty(inode: Inode, flags: number): void {
  const wb = inode.wb ?? null;
  if (wb === null || (wb.state & flags) === flags) return;
  if ((flags & I_DIRTY_INODE) !== 0) wb.sb.dirtyInode?.(inode, flags);
  const wasDirty = wb.state & (I_DIRTY | I_DIRTY_TIME);
  // What is written because of more than its time stamps takes these along.
  if ((flags & I_DIRTY_INODE) !== 0) wb.state &= ~I_DIRTY_TIME;
  else if (flags === I_DIRTY_TIME && (wb.state & I_DIRTY_INODE) !== 0) return;
  wb.state |= flags;
  if ((wb.state & I_SYNC_QUEUED) === 0 && (wasDirty & I_DIRTY) === 0) {
    wb.sb.bdi?.inodeDirtied(wb, wasDirty);
  }
}
