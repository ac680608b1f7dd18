/**
 * Single folios of a mapping, for those who read metadata, fill pages by themselves, or write.
 *
 * After `filemap_get_folio`, `__filemap_get_folio` and `do_read_cache_folio` in `mm/filemap.c` of
 * Linux.
 */
import { EAGAIN, EEXIST, EINTR, type Errno } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { PAGE_BYTES, pageOfByte, roundDown } from "../lib/units.ts";
import type { AddressSpace } from "./address-space.ts";
import type { CacheFile } from "./cache-file.ts";
import type { Folio } from "./folio.ts";
import { IOCB_NOWAIT } from "./kiocb.ts";
import { filemapReadFolio } from "./read-folio.ts";

/**
 * The folio that holds page `index`, whatever its state, or `undefined` (`filemap_get_folio`). No
 * reference is taken: it is good until the caller gives the thread away; to keep it, `get` it.
 */
export function filemapGetFolio(mapping: AddressSpace, index: number): Folio | undefined {
  return mapping.folioAt(index);
}

/**
 * The folio that holds page `index`, added if there is none, locked, with a reference
 * (`filemap_grab_folio`). A new one is of the mapping's smallest order and not uptodate. The
 * caller holds no other folio lock. Returns `-ENOMEM` if there is no memory and no hope for some,
 * `-EFBIG` behind the last page, `-EINTR` once `signal` is aborted.
 */
export function filemapGrabFolio(
  mapping: AddressSpace,
  index: number,
  signal?: AbortSignal,
): MaybeAsync<Folio | Errno> {
  const cached = mapping.folioAt(index);
  if (cached !== undefined) {
    cached.get();
    return cached.tryLock() ? cached : lockCached(mapping, cached, index, signal);
  }
  return andThen(mapping.cache.allocFolioWait(mapping.minOrder, signal), (folio) => {
    if (typeof folio === "number") return folio;
    const status = mapping.addFolio(folio, roundDown(index, folio.pageCount));
    if (status === 0) return folio;
    folio.put();
    return status === -EEXIST ? filemapGrabFolio(mapping, index, signal) : status;
  });
}

async function lockCached(
  mapping: AddressSpace,
  folio: Folio,
  index: number,
  signal: AbortSignal | undefined,
): Promise<Folio | Errno> {
  try {
    await folio.lock(signal);
  } catch {
    folio.put();
    return -EINTR;
  }
  if (folio.mapping === mapping) return folio;
  folio.unlock();
  folio.put();
  return filemapGrabFolio(mapping, index, signal);
}

/**
 * The folio that holds page `index`, uptodate, with a reference (`read_mapping_folio`). Reads it
 * by itself if need be, without readahead. Synchronous if it is cached. Returns the errno of the
 * read, or those of `filemapGrabFolio`.
 */
export function readMappingFolio(
  mapping: AddressSpace,
  index: number,
  file: CacheFile | null = null,
  signal?: AbortSignal,
): MaybeAsync<Folio | Errno> {
  const cached = mapping.folioAt(index);
  if (cached?.isUptodate) {
    cached.get();
    return cached;
  }
  const grabbed = filemapGrabFolio(mapping, index, signal);
  if (isPromise(grabbed)) return grabbed.then((folio) => readGrabbed(mapping, file, folio, signal));
  return readGrabbed(mapping, file, grabbed, signal);
}

function readGrabbed(
  mapping: AddressSpace,
  file: CacheFile | null,
  folio: Folio | Errno,
  signal: AbortSignal | undefined,
): MaybeAsync<Folio | Errno> {
  if (typeof folio === "number") return folio;
  if (folio.isUptodate) {
    folio.unlock();
    return folio;
  }
  return andThen(filemapReadFolio(mapping, file, folio, signal), (status) => {
    if (status === 0) return folio;
    folio.put();
    return status;
  });
}

/**
 * The folio for a write of `lengthBytes` at `posBytes`: cached or added, locked, with a reference,
 * and, where the store needs that, not in flight (`__filemap_get_folio` with `FGP_WRITEBEGIN`). A
 * new one is as large as the write, the mapping and its place allow, and not uptodate; it does not
 * count as coming back after an eviction. Synchronous if the folio is cached and free, or memory
 * is. Returns `-EAGAIN` where `flags` has `IOCB_NOWAIT` and it would wait; else the errors of
 * `filemapGrabFolio`. The caller holds no other folio lock.
 */
export function filemapWriteFolio(
  mapping: AddressSpace,
  posBytes: number,
  lengthBytes: number,
  flags = 0,
  signal?: AbortSignal,
): MaybeAsync<Folio | Errno> {
  const index = pageOfByte(posBytes);
  const cached = mapping.folioAt(index);
  if (cached !== undefined) return cachedForWrite(mapping, cached, index, flags, signal);
  const added = addForWrite(mapping, index, lengthBytes);
  if (added !== null) return added;
  if ((flags & IOCB_NOWAIT) !== 0) return -EAGAIN;
  return andThen(filemapGrabFolio(mapping, index, signal), (folio) => whenStable(folio, signal));
}

function cachedForWrite(
  mapping: AddressSpace,
  folio: Folio,
  index: number,
  flags: number,
  signal: AbortSignal | undefined,
): MaybeAsync<Folio | Errno> {
  folio.get();
  if (!folio.tryLock()) {
    if ((flags & IOCB_NOWAIT) === 0) {
      return lockCached(mapping, folio, index, signal).then((locked) => whenStable(locked, signal));
    }
    folio.put();
    return -EAGAIN;
  }
  if (!mapping.stableWrites || !folio.isWriteback) return folio;
  if ((flags & IOCB_NOWAIT) === 0) return whenStable(folio, signal);
  folio.unlock();
  folio.put();
  return -EAGAIN;
}

/** A locked folio, once its bytes may change; gives it back where the wait is aborted. */
function whenStable(
  folio: Folio | Errno,
  signal: AbortSignal | undefined,
): MaybeAsync<Folio | Errno> {
  if (typeof folio === "number") return folio;
  const waiting = folio.waitStable(signal);
  if (!isPromise(waiting)) return folio;
  return waiting.then(
    () => folio,
    () => {
      folio.unlock();
      folio.put();
      return -EINTR;
    },
  );
}

/** Adds a locked folio of the largest order that fits; `null` if memory is short. */
function addForWrite(
  mapping: AddressSpace,
  index: number,
  lengthBytes: number,
): Folio | Errno | null {
  for (let order = orderForWrite(mapping, index, lengthBytes); ; ) {
    const folio = mapping.cache.allocFolio(order, mapping.minOrder);
    if (folio === null) return null;
    const status = mapping.addFolio(folio, roundDown(index, folio.pageCount), true);
    if (status === 0) return folio;
    folio.put();
    if (status !== -EEXIST || folio.order === mapping.minOrder) return status;
    order = folio.order - 1; // A page behind this one is cached.
  }
}

/** At most as large as the write, and beginning at page `index` if it can. */
function orderForWrite(mapping: AddressSpace, index: number, lengthBytes: number): number {
  const wanted = 31 - Math.clz32(Math.max(1, Math.floor(lengthBytes / PAGE_BYTES)));
  const aligned = index === 0 ? wanted : 31 - Math.clz32(index & -index);
  return Math.max(mapping.minOrder, Math.min(wanted, aligned, mapping.maxOrder));
}
