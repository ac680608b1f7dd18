/**
 * Writing one inode back: its data, then itself.
 *
 *     take I_SYNC -- doWritepages -- wait, if data must be safe -- clear the state, look again --
 *                                        -- writeInode -- give I_SYNC back
 *
 *  1. One writer at a time for each inode: `I_SYNC`. It is taken without any folio lock held.
 *  2. Data goes before the inode that leads to it, unless a sync waits for all data at the end.
 *  3. The state is cleared and compared with the marks in one step: whatever is dirtied after it
 *     counts as new, whatever was before is on its way.
 *
 * The errors of `writepages` and of the file system are numbers when they leave here; what it
 * throws becomes one. After `writeback_single_inode` in `fs/fs-writeback.c` of Linux.
 */
import { type Errno, errnoOf } from "../lib/errno.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import { MARK_DIRTY, MARK_WRITEBACK } from "../lib/xarray.ts";
import { filemapFdatawaitRange } from "./filemap-flush.ts";
import { doWritepages } from "./page-writeback.ts";
import {
  I_DIRTY,
  I_DIRTY_INODE,
  I_DIRTY_PAGES,
  I_DIRTY_SYNC,
  I_DIRTY_TIME,
  I_FREEING,
  I_SYNC,
  markInodeDirty,
  type WbInode,
} from "./superblock.ts";
import { WB_SYNC_ALL, WB_SYNC_NONE, WritebackControl } from "./writeback-control.ts";

/** Time stamps alone are written after half a day (`dirtytime_expire_interval`). */
export const DIRTYTIME_EXPIRE_MS: number = 12 * 60 * 60 * 1000;

/** Waits until nobody writes `wb` (`inode_sleep_on_writeback`). */
export async function waitForInodeSync(wb: WbInode): Promise<void> {
  while ((wb.state & I_SYNC) !== 0) await wb.syncWaiters.wait();
}

/** Gives `I_SYNC` back and wakes those who wait for it (`inode_sync_complete`). */
export function inodeSyncComplete(wb: WbInode): void {
  wb.state &= ~I_SYNC;
  wb.syncWaiters.wakeAll();
}

/**
 * Writes the data of `wb` as `wbc` says, and the inode itself if it is dirty
 * (`__writeback_single_inode`). The caller has taken `I_SYNC`. Returns the first error. Never
 * rejects.
 */
export async function writeInodeLocked(wb: WbInode, wbc: WritebackControl): Promise<Errno> {
  const { mapping, inode, sb } = wb;
  let err: Errno = 0;
  if (mapping !== null) {
    err = await doWritepages(mapping, wbc);
    if (err < 0 && mapping.pages.marked(MARK_DIRTY)) sb.bdi?.writeFailed(wb, err);
    if (wbc.syncMode === WB_SYNC_ALL && !wbc.forSync) {
      wbc.batch?.plug?.flush();
      const waited = await filemapFdatawaitRange(mapping, 0, Infinity);
      if (err === 0) err = waited;
    }
  }
  if ((wb.state & I_DIRTY_TIME) !== 0 && (wbc.syncMode === WB_SYNC_ALL || isTimeExpired(wb))) {
    const status = await callHook(() => {
      markInodeDirty(inode, I_DIRTY_SYNC);
      return 0;
    });
    if (err === 0) err = status;
  }
  const dirty = wb.state & I_DIRTY;
  wb.state &= ~I_DIRTY;
  if (mapping?.pages.marked(MARK_DIRTY)) wb.state |= I_DIRTY_PAGES;
  if ((dirty & I_DIRTY_INODE) === 0 || sb.writeInode === undefined) return err;
  const status = await callHook(() => sb.writeInode?.(inode, wbc));
  if (status !== 0 && mapping?.onWriteError === "keep") {
    wb.state |= dirty & I_DIRTY_INODE;
    sb.bdi?.writeFailed(wb, status);
  }
  return err === 0 ? status : err;
}

function isTimeExpired(wb: WbInode): boolean {
  const clock = wb.mapping?.cache.clock;
  return clock === undefined || clock.nowMs() - wb.dirtiedTimeWhenMs >= DIRTYTIME_EXPIRE_MS;
}

/** Calls a hook of the file system: what it throws becomes an errno, what is not there is 0. */
export async function callHook(hook: () => MaybeAsync<Errno> | undefined): Promise<Errno> {
  try {
    return (await hook()) ?? 0;
  } catch (thrown) {
    return errnoOf(thrown);
  }
}

/**
 * Writes one inode because somebody asks for it (`writeback_single_inode`). While somebody else
 * does, `WB_SYNC_NONE` returns 0 at once, and `WB_SYNC_ALL` waits and writes what is left. Returns
 * the first error. Never rejects.
 */
export async function writebackSingleInode(wb: WbInode, wbc: WritebackControl): Promise<Errno> {
  const isIntegrity = wbc.syncMode === WB_SYNC_ALL;
  if ((wb.state & I_SYNC) !== 0) {
    if (!isIntegrity) return 0;
    await waitForInodeSync(wb);
  }
  const isInFlight = wb.mapping?.pages.marked(MARK_WRITEBACK) === true;
  if ((wb.state & (I_DIRTY | I_DIRTY_TIME)) === 0 && !(isIntegrity && isInFlight)) return 0;
  wb.state |= I_SYNC;
  try {
    return await writeInodeLocked(wb, wbc);
  } finally {
    wb.sb.bdi?.inodeWritten(wb);
    inodeSyncComplete(wb);
  }
}

/**
 * Writes all of one inode, data first; with `isWaiting` all of it is safe on return
 * (`write_inode_now`).
 */
export function writeInodeNow(wb: WbInode, isWaiting: boolean): Promise<Errno> {
  const syncMode = isWaiting ? WB_SYNC_ALL : WB_SYNC_NONE;
  return writebackSingleInode(wb, new WritebackControl({ syncMode }));
}

/**
 * Writes the inode itself and no data; with `isWaiting` it is safe on return
 * (`sync_inode_metadata`).
 */
export function syncInodeMetadata(wb: WbInode, isWaiting: boolean): Promise<Errno> {
  const syncMode = isWaiting ? WB_SYNC_ALL : WB_SYNC_NONE;
  return writebackSingleInode(wb, new WritebackControl({ syncMode, nrToWrite: 0 }));
}

/**
 * Takes `wb` away from the flusher for good, before the inode is taken apart: waits for whoever
 * writes it (`inode_wait_for_writeback`, `inode_io_list_del`). What is dirty then is forgotten.
 */
export async function detachInode(wb: WbInode): Promise<void> {
  wb.state |= I_FREEING;
  await waitForInodeSync(wb);
  wb.list?.remove(wb);
  wb.state &= ~(I_DIRTY | I_DIRTY_TIME);
  wb.sb.bdi?.inodeWritten(wb);
}
