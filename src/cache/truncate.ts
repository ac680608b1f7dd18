/**
 * Taking folios out of a file: those behind its new end or in a hole, all of them when it is
 * closed, the idle ones when somebody says so, and those that a direct write makes stale.
 *
 *     truncateInodePagesRange     |  zero  |xxxxxxxxxx|xxxxxxxxxx|  zero   |
 *                                 ^ start                           last ^
 *     removed whole: dirty or not; waited for while locked or in flight
 *     partly inside: the bytes inside are zero, the folio stays
 *
 *  1. Dirty data of a folio that is removed is never written; what is in flight is waited for under
 *     the lock, so that when the call returns nobody touches the blocks behind it.
 *  2. Who calls the truncating ones has set the new size before, holds `rwsem` and `invalidateLock`
 *     for writing, and frees blocks afterwards.
 *
 * After `mm/truncate.c` of Linux. Left out: the splitting of large folios at the ends of a range:
 * they stay whole, with zeros in them.
 */
import { EBUSY, type Errno, errnoOf } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { FILE_BYTES_MAX, pageOfByte, pagesOfBytes, roundUp } from "../lib/units.ts";
import { INDEX_MAX } from "../lib/xarray.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Folio } from "./folio.ts";
import { evict, filemapReleaseFolio } from "./reclaim.ts";

/** Work of the first pass before the loop gets a turn (rule JS-5). */
const WORK_MS_PER_TURN = 5;

/**
 * Drops the clean folios that lie wholly in the pages `first..last`, both included, and that
 * nobody locks, keeps or writes (`invalidate_mapping_pages`). Returns the number of pages
 * dropped, those of shadows included. Never waits.
 */
export function invalidateMappingPages(mapping: AddressSpace, first: number, last: number): number {
  let droppedPages = 0;
  for (let index = mapping.pages.find(first, last); index !== -1; ) {
    const entry = mapping.pages.load(index)!;
    const pageCount = 1 << mapping.pages.orderOf(index);
    const start = index - (index % pageCount);
    const isInside = start >= first && start + pageCount - 1 <= last;
    if (typeof entry === "number") {
      mapping.eraseShadow(index);
      droppedPages += pageCount;
    } else if (isInside && evict(entry)) {
      droppedPages += pageCount;
    }
    index = mapping.pages.find(start + pageCount, last);
  }
  return droppedPages;
}

/**
 * Drops every folio and shadow of `mapping`, whatever state they are in; what is dirty is lost
 * (`truncate_inode_pages_final`). Waits for folios that are locked or in flight, and gives the loop
 * a turn now and then where there is much to drop.
 */
export function truncateInodePagesFinal(mapping: AddressSpace): MaybeAsync<void> {
  return truncatePages(mapping, 0, INDEX_MAX);
}

/** Drops what lies behind byte `fromBytes`: see `truncateInodePagesRange`. */
export function truncateInodePages(mapping: AddressSpace, fromBytes: number): MaybeAsync<void> {
  return truncateInodePagesRange(mapping, fromBytes, Infinity);
}

/**
 * Drops the folios that lie in the bytes `startBytes..lastBytes`, the last one or `Infinity`
 * included, and zeroes what others hold of that range (`truncate_inode_pages_range`). Waits as
 * `truncateInodePagesFinal`.
 */
export function truncateInodePagesRange(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<void> {
  if (mapping.nrpages === 0 && mapping.shadowCount === 0) return;
  const first = pagesOfBytes(startBytes);
  const isToEnd = lastBytes + 1 >= FILE_BYTES_MAX;
  const end = isToEnd ? INDEX_MAX + 1 : pageOfByte(lastBytes + 1);
  const removed = end > first ? truncatePages(mapping, first, end - 1) : undefined;
  return andThen(removed, () => truncateEnds(mapping, startBytes, isToEnd ? Infinity : lastBytes));
}

/**
 * The file is cut to, or grows to, `newSizeBytes`, which is its size already
 * (`truncate_pagecache`).
 */
export function truncatePagecache(mapping: AddressSpace, newSizeBytes: number): MaybeAsync<void> {
  return truncateInodePages(mapping, newSizeBytes);
}

/**
 * Sets the size of the file and drops what lies behind it (`truncate_setsize`). Where the file
 * grows, the bytes behind its old end are zero before the new size is seen.
 */
export function truncateSetsize(mapping: AddressSpace, newSizeBytes: number): MaybeAsync<void> {
  const { host } = mapping;
  const extended = pagecacheIsizeExtended(mapping, host.size, newSizeBytes);
  return andThen(extended, () => {
    host.size = newSizeBytes;
    return truncatePagecache(mapping, newSizeBytes);
  });
}

/**
 * The file is about to grow from `fromBytes` to `toBytes`: makes the bytes that the folio of its
 * old end holds behind that end zero (`pagecache_isize_extended`). A mapped page, or a block whose
 * tail the device holds, may have anything there; what was not zero is written. Call it before the
 * new size is seen, and before any of the new bytes is written.
 */
export function pagecacheIsizeExtended(
  mapping: AddressSpace,
  fromBytes: number,
  toBytes: number,
): MaybeAsync<void> {
  if (fromBytes >= toBytes) return;
  const folio = mapping.folioAt(pageOfByte(fromBytes));
  if (folio === undefined || folio.posBytes === fromBytes) return;
  return withStableLock(folio, () => {
    if (folio.mapping === mapping) zeroTail(folio, fromBytes, toBytes);
  });
}

/** Zeroes a locked folio from `fromBytes` of the file on, at most up to `toBytes`. */
function zeroTail(folio: Folio, fromBytes: number, toBytes: number): void {
  const { mapping, posBytes, sizeBytes, bytes } = folio;
  const from = fromBytes - posBytes;
  const end = Math.min(toBytes - posBytes, sizeBytes);
  const blockEnd = Math.min(roundUp(from, mapping!.host.blockBytes), end);
  const tail = bytes.subarray(from, blockEnd);
  // Behind that block the file has no others: what the folio holds there was never written.
  const isStale = tail.some((byte) => byte !== 0);
  bytes.fill(0, from, end);
  const isValid = folio.isUptodate || folio.blockState?.isValid(from, tail.length) === true;
  if (isStale && isValid && !folio.isDirty) folio.markDirtyRange(from, tail.length);
}

/** Runs `change` under the lock of `folio`, while no write in flight needs its bytes unchanged. */
function withStableLock(folio: Folio, change: () => void): MaybeAsync<void> {
  folio.get();
  const locked = folio.lock();
  const ready = isPromise(locked) ? locked.then(() => folio.waitStable()) : folio.waitStable();
  return andThen(ready, () => {
    change();
    folio.unlock();
    folio.put();
  });
}

/**
 * Drops all folios that touch the pages `first..last`, both included, whatever keeps them
 * (`invalidate_inode_pages2_range`): what follows is read from the device. Waits for locks and
 * writes in flight. A dirty folio is laundered if the file system can, else it stays: `-EBUSY`, as
 * for one that the file system does not let go of. Returns the last error; the others are dropped.
 */
export function invalidateInodePages2Range(
  mapping: AddressSpace,
  first: number,
  last: number,
): MaybeAsync<Errno> {
  if (mapping.nextFolioIndex(first, last) === -1) {
    invalidateMappingPages(mapping, first, last); // Shadows tell of content that is no more.
    return 0;
  }
  return invalidatePages(mapping, first, last);
}

/** As `invalidateInodePages2Range`, of the whole file (`invalidate_inode_pages2`). */
export function invalidateInodePages2(mapping: AddressSpace): MaybeAsync<Errno> {
  return invalidateInodePages2Range(mapping, 0, INDEX_MAX);
}

async function invalidatePages(mapping: AddressSpace, first: number, last: number): Promise<Errno> {
  let err: Errno = 0;
  for (let index = mapping.nextFolioIndex(first, last); index !== -1; ) {
    const folio = mapping.folioAt(index)!;
    const next = folio.index + folio.pageCount;
    folio.get();
    if (!folio.tryLock()) await folio.lock();
    const status = await invalidateFolio(mapping, folio);
    if (status !== 0) err = status;
    folio.unlock();
    folio.put();
    index = mapping.nextFolioIndex(next, last);
  }
  invalidateMappingPages(mapping, first, last);
  return err;
}

/** Removes a locked folio, of which the caller has a reference, if it is still of this file. */
async function invalidateFolio(mapping: AddressSpace, folio: Folio): Promise<Errno> {
  if (folio.mapping !== mapping) return 0;
  if (folio.isWriteback) await folio.waitWriteback();
  if (folio.isDirty && mapping.ops.launderFolio !== undefined) {
    try {
      const status = await mapping.ops.launderFolio(folio);
      if (status !== 0) return status;
    } catch (thrown) {
      return errnoOf(thrown);
    }
  }
  if (folio.isDirty || folio.isWriteback || !filemapReleaseFolio(mapping, folio)) return -EBUSY;
  mapping.removeFolio(folio);
  folio.put();
  return 0;
}

/**
 * Drops what lies wholly in the pages `first..last`: at first all that needs no wait, then, until a
 * scan finds nothing, what does.
 */
function truncatePages(mapping: AddressSpace, first: number, last: number): MaybeAsync<void> {
  return andThen(truncateFree(mapping, first, last), () => {
    const busy = nextInside(mapping, first, last);
    return busy === undefined ? undefined : truncateBusy(mapping, first, last, busy);
  });
}

/** The first pass. */
function truncateFree(mapping: AddressSpace, first: number, last: number): MaybeAsync<void> {
  const { clock } = mapping.cache;
  const untilMs = clock.nowMs() + WORK_MS_PER_TURN;
  for (let index = mapping.pages.find(first, last); index !== -1; ) {
    if (clock.nowMs() >= untilMs) {
      const rest = index;
      return clock.turn().then(() => truncateFree(mapping, rest, last));
    }
    const entry = mapping.pages.load(index)!;
    const pageCount = 1 << mapping.pages.orderOf(index);
    const start = index - (index % pageCount);
    if (typeof entry === "number") {
      mapping.eraseShadow(index);
    } else if (start >= first && start + pageCount - 1 <= last) {
      if (!entry.isWriteback && entry.tryLock()) {
        entry.get();
        truncateFolio(mapping, entry);
      }
    }
    index = mapping.pages.find(start + pageCount, last);
  }
}

/** The first folio that lies wholly in the pages `first..last`. */
function nextInside(mapping: AddressSpace, first: number, last: number): Folio | undefined {
  let index = mapping.nextFolioIndex(first, last);
  while (index !== -1) {
    const folio = mapping.folioAt(index)!;
    const end = folio.index + folio.pageCount;
    if (folio.index >= first && end - 1 <= last) return folio;
    index = mapping.nextFolioIndex(end, last);
  }
  return undefined;
}

/** The second pass. */
async function truncateBusy(
  mapping: AddressSpace,
  first: number,
  last: number,
  busy: Folio,
): Promise<void> {
  let folio: Folio | undefined = busy;
  while (folio !== undefined) {
    folio.get();
    if (!folio.tryLock()) await folio.lock();
    // Under the lock, so that no other write of it begins; it may have left the file meanwhile.
    if (folio.isWriteback) await folio.waitWriteback();
    truncateFolio(mapping, folio);
    folio = nextInside(mapping, first, last);
  }
}

/** Removes a folio that the caller has locked and taken a reference to, and gives both back. */
function truncateFolio(mapping: AddressSpace, folio: Folio): void {
  if (folio.mapping === mapping) {
    folioInvalidate(mapping, folio, 0, folio.sizeBytes);
    folio.cancelDirty();
    mapping.removeFolio(folio);
    folio.put();
  }
  folio.unlock();
  folio.put();
}

/** Tells the file system that bytes of a locked folio are given up (`folio_invalidate`). */
function folioInvalidate(
  mapping: AddressSpace,
  folio: Folio,
  fromBytes: number,
  lengthBytes: number,
): void {
  const isDirtyStill = folio.isDirty && lengthBytes < folio.sizeBytes;
  if (folio.private === null && folio.blockState === null && !isDirtyStill) return;
  try {
    mapping.ops.invalidateFolio?.(folio, fromBytes, lengthBytes);
  } catch {
    // It cannot keep the folio: what it failed to let go of goes with it.
  }
}

/** Zeroes the parts of the range in the folios at its ends (`truncate_inode_partial_folio`). */
function truncateEnds(
  mapping: AddressSpace,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<void> {
  if (startBytes >= FILE_BYTES_MAX) return;
  const atStart = mapping.folioAt(pageOfByte(startBytes));
  const zeroed =
    atStart === undefined ? undefined : truncatePartial(mapping, atStart, startBytes, lastBytes);
  if (lastBytes === Infinity) return zeroed;
  return andThen(zeroed, () => {
    const atEnd = mapping.folioAt(pageOfByte(lastBytes));
    if (atEnd === undefined || atEnd === atStart) return;
    return truncatePartial(mapping, atEnd, startBytes, lastBytes);
  });
}

function truncatePartial(
  mapping: AddressSpace,
  folio: Folio,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<void> {
  folio.get();
  const locked = folio.lock();
  const idle = isPromise(locked) ? locked.then(() => folio.waitWriteback()) : folio.waitWriteback();
  return andThen(idle, () => {
    if (folio.mapping === mapping) {
      const { posBytes, sizeBytes } = folio;
      const from = Math.max(startBytes - posBytes, 0);
      const end = Math.min(lastBytes + 1 - posBytes, sizeBytes);
      folio.bytes.fill(0, from, end);
      folioInvalidate(mapping, folio, from, end - from);
      folio.blockState?.clearDirty(from, end - from);
    }
    folio.unlock();
    folio.put();
  });
}
