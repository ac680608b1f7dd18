/**
 * Writing the dirty folios of a range, waiting for them, and hearing whether it went well.
 *
 *     fsync   fileWriteAndWaitRange = filemapFdatawriteRange + fdatawaitRange + the file's cursor
 *
 *                   starts     waits     error from
 *     ..Fdatawrite  ALL        no        the walk
 *     ..Flush       NONE       no        the walk
 *     ..Fdatawait   no         yes       the older flags, cleared; `..KeepErrors` leaves them
 *     file..        as above             the cursor of the open file, which has been told then
 *
 * All ranges are of bytes, and the last byte, `Infinity` for the end of the file, is part of them.
 * Waiting never fails: what went wrong is in the mapping, for everybody who has to know. After
 * `mm/filemap.c` and, for `genericBuffersFsync`, `fs/buffer.c` of Linux.
 */
import { assert } from "../lib/assert.ts";
import { EIO, ENOSPC, type Errno, errnoOf } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { pageOfByte } from "../lib/units.ts";
import { MARK_DIRTY, MARK_WRITEBACK } from "../lib/xarray.ts";
import type { AddressSpace } from "./address-space.ts";
import { type CacheFile, fileCheckAndAdvanceWbErr } from "./cache-file.ts";
import type { Folio } from "./folio.ts";
import { callWritepage, doWritepages, pageOfLast } from "./page-writeback.ts";
import { type SyncMode, WB_SYNC_ALL, WB_SYNC_NONE, WritebackControl } from "./writeback-control.ts";

/** How many pages may be written; brought up to date by who writes them. */
export interface WriteBudget {
  nrToWrite: number;
}

/**
 * Starts writing the dirty folios of a range (`filemap_writeback`), at most those of `budget`,
 * from which it takes what was written if all went well. Returns the error of the walk.
 */
export function filemapWriteback(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
  syncMode: SyncMode,
  budget?: WriteBudget,
): MaybeAsync<Errno> {
  if (!mapping.canWriteback || !mapping.pages.marked(MARK_DIRTY)) return 0;
  const nrToWrite = budget?.nrToWrite ?? Infinity;
  const wbc = new WritebackControl({
    syncMode,
    nrToWrite,
    rangeStartBytes: startBytes,
    rangeLastBytes: lastBytes,
  });
  return andThen(doWritepages(mapping, wbc), (status) => {
    if (status === 0 && budget !== undefined) budget.nrToWrite = wbc.nrToWrite;
    return status;
  });
}

/** Starts writing all of a range that is dirty now (`filemap_fdatawrite_range`). */
export function filemapFdatawriteRange(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  return filemapWriteback(mapping, startBytes, lastBytes, WB_SYNC_ALL);
}

/** Starts writing all that is dirty now (`filemap_fdatawrite`). */
export function filemapFdatawrite(mapping: AddressSpace): MaybeAsync<Errno> {
  return filemapFdatawriteRange(mapping, 0, Infinity);
}

/** Starts writing a range without waiting for what is in flight (`filemap_flush_range`). */
export function filemapFlushRange(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  return filemapWriteback(mapping, startBytes, lastBytes, WB_SYNC_NONE);
}

/** Starts writing without waiting for what is in flight (`filemap_flush`). */
export function filemapFlush(mapping: AddressSpace): MaybeAsync<Errno> {
  return filemapFlushRange(mapping, 0, Infinity);
}

/** Waits for the folios of a range that are in flight, in ascending order (`fdatawait_range`). */
function fdatawaitRange(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<void> {
  if (lastBytes < startBytes || !mapping.pages.marked(MARK_WRITEBACK)) return;
  return fdatawait(mapping, pageOfByte(startBytes), pageOfLast(lastBytes));
}

async function fdatawait(mapping: AddressSpace, first: number, last: number): Promise<void> {
  const { pages } = mapping;
  for (let index = pages.find(first, last, MARK_WRITEBACK); index !== -1; ) {
    const folio = pages.load(index) as Folio;
    const next = folio.index + folio.pageCount;
    await folio.waitWriteback();
    index = pages.find(next, last, MARK_WRITEBACK);
  }
}

/** Waits; returns the error of the older flags and clears them (`filemap_fdatawait_range`). */
export function filemapFdatawaitRange(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  return andThen(fdatawaitRange(mapping, startBytes, lastBytes), () => filemapCheckErrors(mapping));
}

/** Waits, and leaves errors to those who ask for them later (`filemap_fdatawait_keep_errors`). */
export function filemapFdatawaitKeepErrors(mapping: AddressSpace): MaybeAsync<Errno> {
  return andThen(fdatawaitRange(mapping, 0, Infinity), () => {
    if (mapping.flagEIO) return -EIO;
    return mapping.flagENOSPC ? -ENOSPC : 0;
  });
}

/** Waits, and returns the error that `file` has not been told of (`file_fdatawait_range`). */
export function fileFdatawaitRange(
  file: CacheFile,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  const waited = fdatawaitRange(file.mapping, startBytes, lastBytes);
  return andThen(waited, () => fileCheckAndAdvanceWbErr(file));
}

/** The error of the older flags, or 0; both are cleared, and EIO wins (`filemap_check_errors`). */
export function filemapCheckErrors(mapping: AddressSpace): Errno {
  let err: Errno = 0;
  if (mapping.flagENOSPC) err = -ENOSPC;
  if (mapping.flagEIO) err = -EIO;
  mapping.flagENOSPC = false;
  mapping.flagEIO = false;
  return err;
}

/** Writes and waits; the first error (`filemap_write_and_wait_range`). Clears the older flags. */
export function filemapWriteAndWaitRange(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  if (lastBytes < startBytes) return 0;
  return andThen(writeAndWait(mapping, startBytes, lastBytes), (err) => {
    const flagged = filemapCheckErrors(mapping);
    return err === 0 ? flagged : err;
  });
}

/**
 * Writes and waits; the first error (`file_write_and_wait_range`). The data part of `fsync`: the
 * file has been told of its errors, whichever of them is returned.
 */
export function fileWriteAndWaitRange(
  file: CacheFile,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  if (lastBytes < startBytes) return 0;
  return andThen(writeAndWait(file.mapping, startBytes, lastBytes), (err) => {
    const told = fileCheckAndAdvanceWbErr(file);
    return err === 0 ? told : err;
  });
}

/** Waits for what was submitted whatever the walk has met, so that nothing is in flight then. */
function writeAndWait(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<Errno> {
  if (mapping.nrpages === 0) return 0;
  return andThen(filemapFdatawriteRange(mapping, startBytes, lastBytes), (err) =>
    andThen(fdatawaitRange(mapping, startBytes, lastBytes), () => err),
  );
}

/**
 * True if any folio of the range is dirty, locked or in flight (`filemap_range_has_writeback`):
 * a direct read or write would have to wait.
 */
export function filemapRangeHasWriteback(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): boolean {
  if (lastBytes < startBytes) return false;
  const last = pageOfLast(lastBytes);
  let index = mapping.nextFolioIndex(pageOfByte(startBytes), last);
  while (index !== -1) {
    const folio = mapping.folioAt(index)!;
    if (folio.isDirty || folio.isLocked || folio.isWriteback) return true;
    index = mapping.nextFolioIndex(folio.index + folio.pageCount, last);
  }
  return false;
}

/**
 * Writes one folio, locked on entry and unlocked on return, and waits for it (`write_one_page`):
 * for mappings with `writepage`. Returns its error, or that of the older flags, which are cleared.
 */
export async function writeOneFolio(folio: Folio): Promise<Errno> {
  const { mapping } = folio;
  await folio.waitWriteback();
  if (mapping === null || !folio.clearDirtyForIo()) {
    folio.unlock();
    return mapping === null ? 0 : filemapCheckErrors(mapping);
  }
  const wbc = new WritebackControl({ syncMode: WB_SYNC_ALL, nrToWrite: 1 });
  folio.get();
  const status = await callWritepage(folio, wbc, writepageOf, mapping);
  if (status === 0) await folio.waitWriteback();
  folio.put();
  return status === 0 ? filemapCheckErrors(mapping) : status;
}

function writepageOf(
  folio: Folio,
  wbc: WritebackControl,
  { ops }: AddressSpace,
): MaybeAsync<Errno> {
  assert(ops.writepage !== undefined, "one folio is written by `writepage`");
  return ops.writepage(folio, wbc);
}

/**
 * `fsync` of a file on a file system without a journal, save for the flush of the device
 * (`generic_buffers_fsync_noflush`): the data, then what it is reached by. `syncMetadata` writes
 * the blocks of the map and, if it is dirty, the inode, and waits; it is not called once the data
 * has failed. Returns the first error.
 */
export function genericBuffersFsync(
  file: CacheFile,
  startBytes: number,
  lastBytes: number,
  syncMetadata: () => MaybeAsync<Errno>,
): MaybeAsync<Errno> {
  return andThen(fileWriteAndWaitRange(file, startBytes, lastBytes), (err) => {
    if (err !== 0) return err;
    return andThen(callSync(syncMetadata), (status) => {
      const told = fileCheckAndAdvanceWbErr(file);
      return status === 0 ? told : status;
    });
  });
}

function callSync(syncMetadata: () => MaybeAsync<Errno>): MaybeAsync<Errno> {
  try {
    const status = syncMetadata();
    return isPromise(status) ? status.catch((thrown) => errnoOf(thrown)) : status;
  } catch (thrown) {
    return errnoOf(thrown);
  }
}
