/**
 * Single folios of a mapping, for those who read metadata or fill pages by themselves.
 *
 * After `filemap_get_folio`, `__filemap_get_folio` and `do_read_cache_folio` in `mm/filemap.c` of
 * Linux.
 */
import { EEXIST, EINTR, type Errno } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { roundDown } from "../lib/units.ts";
import type { AddressSpace } from "./address-space.ts";
import type { CacheFile } from "./cache-file.ts";
import type { Folio } from "./folio.ts";
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
