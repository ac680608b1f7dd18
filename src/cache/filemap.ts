/**
 * filemap: reading a file through its cache.
 *
 *     filemapRead --> copyReady          folios that are uptodate: copied at once, nothing is made
 *         ^               | one is not
 *         |           filemapGetPages    not cached: readahead, then one folio by itself
 *         |               |              marked: the next readahead
 *         +---------------+              being read: wait; not uptodate: read it
 *
 *  1. A read whose folios are all uptodate returns its count synchronously, whatever its length.
 *  2. What is ready is copied before anything is waited for, and the size of the file is read again
 *     before each copy: a reader sees neither bytes behind a new end nor misses ones before it.
 *  3. No folio is locked while it is copied, and none needs to be kept: nothing runs in between.
 *  4. A reader that waits for a folio keeps it until it has copied: else others who wait for
 *     memory could evict it between the end of the read and the reader's turn, for ever.
 *  5. Readahead never reports an error. Only the read of one folio, on behalf of this reader, does.
 *
 * Single folios for those who are not readers of a file are in mapping-folio.ts. After
 * `filemap_read` and `filemap_get_pages` in `mm/filemap.c` of Linux. A batch is one folio here,
 * as collecting several before copying saves nothing without locks.
 */
import { EAGAIN, EEXIST, EINTR, EINVAL, type Errno } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { FILE_BYTES_MAX, PAGE_BYTES, pageOfByte, pagesOfBytes, roundDown } from "../lib/units.ts";
import type { AddressSpace } from "./address-space.ts";
import { type Folio, PG_ACTIVE, PG_READAHEAD, PG_REFERENCED, PG_UPTODATE } from "./folio.ts";
import { IOCB_NOIO, IOCB_NOWAIT, type Kiocb } from "./kiocb.ts";
import { filemapReadFolio } from "./read-folio.ts";
import { pageCacheAsyncRa, pageCacheSyncRa } from "./readahead.ts";

export { IOCB_NOIO, IOCB_NOWAIT, type Kiocb } from "./kiocb.ts";
export {
  filemapGetFolio,
  filemapGrabFolio,
  filemapWriteFolio,
  readMappingFolio,
} from "./mapping-folio.ts";

const READY: number = PG_UPTODATE;
const READY_MASK: number = PG_UPTODATE | PG_READAHEAD;
const USED_MASK: number = PG_REFERENCED | PG_ACTIVE;

/**
 * Fills `into` with the bytes of the file at `iocb.posBytes` (`filemap_read`).
 *
 * Returns the number of bytes read, which is less than `into` holds only at the end of the file
 * or after an error, plus `already`, which the caller has read before. An error is returned only
 * if nothing was read: `-EAGAIN` where the flags forbid what was needed, `-EINTR` after an abort,
 * `-ENOMEM`, `-EINVAL` for a negative position, and whatever the file system gave for the folio
 * that failed, `-EIO` at least. Synchronous if everything is cached. `into` is written until the
 * result is there.
 */
export function filemapRead(iocb: Kiocb, into: Uint8Array, already = 0): MaybeAsync<number> {
  const { file } = iocb;
  const { mapping } = file;
  mapping.cache.counters.requests++;
  if (iocb.posBytes < 0) return already > 0 ? already : -EINVAL;
  const reachBytes = FILE_BYTES_MAX - iocb.posBytes;
  if (reachBytes <= 0) return already;
  return read(iocb, into.length > reachBytes ? into.subarray(0, reachBytes) : into, already);
}

/** The body of `filemapRead`, for bytes that all have a page index. */
function read(iocb: Kiocb, into: Uint8Array, already: number): MaybeAsync<number> {
  const { mapping } = iocb.file;
  let done = copyReady(iocb, into, 0);
  while (done < into.length && iocb.posBytes < mapping.host.size) {
    const folio = filemapGetPages(iocb, into.length - done);
    if (isPromise(folio)) return filemapReadAsync(iocb, into, already, done, folio);
    if (typeof folio === "number") return already + done > 0 ? already + done : folio;
    done = copyFrom(iocb, into, done, folio);
    folio.put();
    done = copyReady(iocb, into, done);
  }
  return already + done;
}

/** The rest of a read that has met something to wait for. */
async function filemapReadAsync(
  iocb: Kiocb,
  into: Uint8Array,
  already: number,
  doneBefore: number,
  waiting: Promise<Folio | Errno>,
): Promise<number> {
  const { host } = iocb.file.mapping;
  let done = doneBefore;
  for (let pending: MaybeAsync<Folio | Errno> = waiting; ; ) {
    const folio = isPromise(pending) ? await pending : pending;
    if (typeof folio === "number") return already + done > 0 ? already + done : folio;
    done = copyFrom(iocb, into, done, folio);
    folio.put();
    done = copyReady(iocb, into, done);
    if (done === into.length || iocb.posBytes >= host.size) return already + done;
    pending = filemapGetPages(iocb, into.length - done);
  }
}

/** Copies from folios that are ready, up to the first that is not; returns the new count. */
function copyReady(iocb: Kiocb, into: Uint8Array, doneBefore: number): number {
  const { file } = iocb;
  const { mapping } = file;
  let done = doneBefore;
  while (done < into.length) {
    const index = Math.floor(iocb.posBytes / PAGE_BYTES);
    let folio = file.lastFolio;
    if (
      folio === null ||
      folio.mapping !== mapping ||
      (index - folio.index) >>> 0 >= folio.pageCount
    ) {
      if (iocb.posBytes >= FILE_BYTES_MAX) return done;
      const entry = mapping.pages.load(index);
      if (typeof entry !== "object") return done;
      folio = entry;
    }
    if ((folio.flags & READY_MASK) !== READY) return done;
    const before = done;
    done = copyFrom(iocb, into, done, folio);
    if (done === before) return done; // The file ends here.
    mapping.cache.counters.hits++;
    if (mapping.cache.trace.isOn) mapping.cache.traceFolio("filemap_hit", mapping, folio);
  }
  return done;
}

/** Copies what `folio`, which holds the position, has of the read; returns the new count. */
function copyFrom(iocb: Kiocb, into: Uint8Array, done: number, folio: Folio): number {
  const from = iocb.posBytes - folio.index * PAGE_BYTES;
  const count = noteRead(iocb, folio, into.length - done);
  if (count === 0) return done;
  if (count === folio.sizeBytes) into.set(folio.bytes, done);
  else into.set(folio.bytes.subarray(from, from + count), done);
  return done + count;
}

/**
 * Notes that the reader takes what `folio`, which holds the position, has of the next `wantedBytes`
 * of the file, and moves the position on. Returns how many bytes that are, 0 behind the end.
 */
export function noteRead(iocb: Kiocb, folio: Folio, wantedBytes: number): number {
  const { file } = iocb;
  const { host, cache } = file.mapping;
  const from = iocb.posBytes - folio.index * PAGE_BYTES;
  const count = Math.min(folio.sizeBytes - from, wantedBytes, host.size - iocb.posBytes);
  if (count <= 0) return 0;
  if ((folio.flags & USED_MASK) !== USED_MASK && isOtherFolio(file.ra.prevPos, folio)) {
    cache.lru.markAccessed(folio);
  }
  cache.counters.bytes += count;
  file.lastFolio = folio;
  iocb.posBytes += count;
  file.ra.prevPos = iocb.posBytes;
  return count;
}

/** True if the byte before `prevPos`, the last one read, lies in another folio. */
function isOtherFolio(prevPos: number, folio: Folio): boolean {
  const last = prevPos - 1 - folio.index * PAGE_BYTES;
  return last < 0 || last >= folio.sizeBytes;
}

/**
 * Makes the folio at the position readable, for a read of `wantedBytes` (`filemap_get_pages`).
 * Returns it with a reference, or an errno.
 */
export function filemapGetPages(iocb: Kiocb, wantedBytes: number): MaybeAsync<Folio | Errno> {
  const { file } = iocb;
  const { mapping } = file;
  const index = pageOfByte(iocb.posBytes);
  const endIndex = pagesOfBytes(iocb.posBytes + wantedBytes);
  const cached = mapping.folioAt(index);
  if (cached !== undefined) return filemapUseFolio(iocb, cached, endIndex, wantedBytes);
  if ((iocb.flags & IOCB_NOIO) !== 0) return -EAGAIN;
  const started = pageCacheSyncRa(file, index, endIndex - index);
  if (isPromise(started)) {
    if ((iocb.flags & IOCB_NOWAIT) === 0) {
      return started.then(() => filemapGetAgain(iocb, endIndex, wantedBytes));
    }
    mapping.trackReadahead(started);
    return -EAGAIN;
  }
  return filemapGetAgain(iocb, endIndex, wantedBytes);
}

/** After readahead: takes what it has brought, or reads one folio where it had no room for any. */
function filemapGetAgain(
  iocb: Kiocb,
  endIndex: number,
  wantedBytes: number,
): MaybeAsync<Folio | Errno> {
  const { mapping } = iocb.file;
  const folio = mapping.folioAt(pageOfByte(iocb.posBytes));
  if (folio !== undefined) return filemapUseFolio(iocb, folio, endIndex, wantedBytes);
  if ((iocb.flags & IOCB_NOWAIT) !== 0) return -EAGAIN;
  return filemapCreateFolio(iocb, wantedBytes);
}

/** Starts the next readahead at a mark, and makes sure that the cached `folio` is uptodate. */
function filemapUseFolio(
  iocb: Kiocb,
  folio: Folio,
  endIndex: number,
  wantedBytes: number,
): MaybeAsync<Folio | Errno> {
  if (folio.isReadahead && (iocb.flags & IOCB_NOIO) !== 0) return -EAGAIN;
  folio.get(); // Before readahead, which may evict folios to make room.
  if (folio.isReadahead) pageCacheAsyncRa(iocb.file, folio, endIndex - folio.index);
  if (!folio.isUptodate) return filemapUpdateFolio(iocb, folio, wantedBytes);
  iocb.file.mapping.cache.counters.hits++;
  return folio;
}

/**
 * Reads a folio by itself, or waits for whoever has it locked (`filemap_update_page`). Starts
 * over if it left the file meanwhile. Takes the caller's reference over.
 */
function filemapUpdateFolio(
  iocb: Kiocb,
  folio: Folio,
  wantedBytes: number,
): MaybeAsync<Folio | Errno> {
  const { mapping } = iocb.file;
  const mayRead = (iocb.flags & (IOCB_NOWAIT | IOCB_NOIO)) === 0;
  if (!mapping.invalidateLock.tryRead()) {
    folio.put();
    return mayRead ? filemapWaitInvalidate(iocb, wantedBytes) : -EAGAIN;
  }
  if (folio.tryLock()) {
    const isReady = isRangeUptodate(mapping, folio, iocb.posBytes, wantedBytes);
    if (!isReady && mayRead) return filemapReadLocked(iocb, folio);
    folio.unlock();
    mapping.invalidateLock.unlockRead();
    if (isReady) return folio;
  } else {
    mapping.invalidateLock.unlockRead();
    if (mayRead) return filemapWaitFolio(iocb, folio, wantedBytes);
  }
  folio.put();
  return -EAGAIN;
}

/** Waits until nobody takes content away, then starts over. */
async function filemapWaitInvalidate(iocb: Kiocb, wantedBytes: number): Promise<Folio | Errno> {
  const { invalidateLock } = iocb.file.mapping;
  try {
    await invalidateLock.read(iocb.signal);
  } catch {
    return -EINTR;
  }
  invalidateLock.unlockRead();
  return filemapGetPages(iocb, wantedBytes);
}

/** Waits until whoever reads the folio is done. Takes the reference over. */
async function filemapWaitFolio(
  iocb: Kiocb,
  folio: Folio,
  wantedBytes: number,
): Promise<Folio | Errno> {
  iocb.file.mapping.cache.counters.misses++;
  try {
    await folio.waitLocked(iocb.signal);
  } catch {
    folio.put();
    return -EINTR;
  }
  if (folio.isUptodate && folio.mapping === iocb.file.mapping) return folio;
  folio.put();
  return filemapGetPages(iocb, wantedBytes);
}

/** Adds one folio for the position and reads it (`filemap_create_folio`). */
function filemapCreateFolio(iocb: Kiocb, wantedBytes: number): MaybeAsync<Folio | Errno> {
  const { mapping } = iocb.file;
  return andThen(mapping.cache.allocFolioWait(mapping.minOrder, iocb.signal), (folio) => {
    if (typeof folio === "number") return folio;
    if (!mapping.invalidateLock.tryRead()) {
      folio.put();
      return filemapWaitInvalidate(iocb, wantedBytes);
    }
    const index = roundDown(pageOfByte(iocb.posBytes), folio.pageCount);
    const status = mapping.addFolio(folio, index);
    if (status === 0) return filemapReadLocked(iocb, folio);
    mapping.invalidateLock.unlockRead();
    folio.put();
    return status === -EEXIST ? filemapGetPages(iocb, wantedBytes) : status;
  });
}

/**
 * Reads `folio`, locked under the invalidate lock, and gives both back; keeps the reference if it
 * can.
 */
function filemapReadLocked(iocb: Kiocb, folio: Folio): MaybeAsync<Folio | Errno> {
  const { file, signal } = iocb;
  const { mapping } = file;
  mapping.cache.counters.misses++;
  return andThen(filemapReadFolio(mapping, file, folio, signal), (status) => {
    mapping.invalidateLock.unlockRead();
    if (status === 0) return folio;
    folio.put();
    return status;
  });
}

/** True if what is wanted of `folio` is valid already (`filemap_range_uptodate`). */
function isRangeUptodate(
  mapping: AddressSpace,
  folio: Folio,
  posBytes: number,
  wantedBytes: number,
): boolean {
  if (folio.isUptodate) return true;
  const from = posBytes - folio.posBytes;
  const count = Math.min(wantedBytes, folio.sizeBytes - from);
  try {
    return mapping.ops.isPartiallyUptodate?.(folio, from, count) === true;
  } catch {
    return false;
  }
}
