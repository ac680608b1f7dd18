/**
 * Readahead: reads what will be asked for next, in windows that grow while the guess is right.
 *
 *     |<----- window, ra.size ----->|<----- next window ----->|
 *     ra.start          [mark]      |
 *        reader ->         when the reader meets the mark, the next window is submitted, so that it
 *                          is there when the reader arrives
 *
 * A miss starts a window (`pageCacheSyncRa`): at the start of a file, behind the last read, or
 * where the pages before it are cached, which shows a stream that nobody remembers. Any other
 * miss is a random read, and reads exactly what was asked for. A mark starts the next window
 * (`pageCacheAsyncRa`), of larger folios each time.
 *
 *  1. Folios are added locked, in ascending order, and handed to the file system in runs without
 *     gaps.
 *  2. What the file system does not take is removed again. Errors end here: whoever needs a page
 *     that is not uptodate reads it by itself, and reports what goes wrong then.
 *  3. Readahead never waits for memory: it reads as much as there is room for. A window is at most
 *     a quarter of the memory that is not dirty.
 *
 * After `mm/readahead.c` of Linux 6.16. Left out: congestion, memory cgroups.
 */
import { assert } from "../lib/assert.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { MIB, PAGE_BYTES, pageOfByte, roundDown, roundUp } from "../lib/units.ts";
import { INDEX_MAX } from "../lib/xarray.ts";
import type { AddressSpace } from "./address-space.ts";
import type { CacheFile, FileRaState } from "./cache-file.ts";
import { type Folio, PG_PREFETCHED, PG_READAHEAD } from "./folio.ts";
import { failRead, startReadFolio } from "./read-folio.ts";

/** Forced readahead comes in pieces of this size, so that the first is in flight early. */
const FORCED_CHUNK_PAGES: number = (2 * MIB) / PAGE_BYTES;
const NO_MARK = -1;

/**
 * A run of locked folios on its way to the file system (`struct readahead_control`). `index` and
 * `nrPages` tell what has not been taken yet.
 */
export class ReadaheadControl {
  readonly mapping: AddressSpace;
  readonly file: CacheFile | null;
  /** First page of the folio that `next` returns. */
  index: number;
  /** Pages that `next` has still to return, in all. */
  nrPages: number;
  /** Owned by the file system for the time of the call: the plug under which it submits. */
  plug: unknown = null;
  #lastTaken: Folio | null = null;
  #lastSequence = 0;

  constructor(mapping: AddressSpace, file: CacheFile | null, index: number, nrPages: number) {
    this.mapping = mapping;
    this.file = file;
    this.index = index;
    this.nrPages = nrPages;
  }

  /** Position of the first byte that was not taken yet (`readahead_pos`). */
  get posBytes(): number {
    return this.index * PAGE_BYTES;
  }

  /** Bytes that were not taken yet (`readahead_length`). */
  get lengthBytes(): number {
    return this.nrPages * PAGE_BYTES;
  }

  /**
   * Takes the next folio, locked and not uptodate, in ascending order (`readahead_folio`); `null`
   * when all were taken. Whoever takes it ends its read.
   */
  next(): Folio | null {
    if (this.nrPages === 0) return null;
    const folio = this.mapping.folioAt(this.index);
    assert(folio?.isLocked === true, "the folios of a run are locked until they are read");
    this.index += folio.pageCount;
    this.nrPages -= folio.pageCount;
    this.#lastTaken = folio;
    this.#lastSequence = folio.lockSequence;
    return folio;
  }

  /** Removes the folios that were not taken. */
  dropUntaken(): void {
    for (let folio = this.next(); folio !== null; folio = this.next()) {
      this.mapping.removeFolio(folio);
      folio.unlock();
      folio.put();
    }
  }

  /** After the file system has thrown: ends what it was at, removes the rest. */
  abandon(): void {
    if (this.#lastTaken !== null) failRead(this.#lastTaken, this.#lastSequence);
    this.dropUntaken();
  }
}

/** What to read: pages `start .. start + size`, with the mark `asyncSize` pages before the end. */
interface WindowRequest {
  readonly start: number;
  readonly size: number;
  readonly asyncSize: number;
  readonly order: number;
  /** Pages from here on were not asked for by anybody yet. */
  readonly demandEnd: number;
}

/** A window that is being filled, run by run. */
class Window {
  readonly #mapping: AddressSpace;
  readonly #file: CacheFile;
  readonly #order: number;
  readonly #markIndex: number;
  readonly #demandEnd: number;
  #index: number;
  #last: number;

  constructor(file: CacheFile, request: WindowRequest) {
    const { mapping } = file;
    const lastPage = Math.min(INDEX_MAX, pageOfByte(mapping.host.size - 1));
    const size = Math.min(request.size, lastPage + 1 - request.start);
    const { asyncSize } = request;
    const blockPages = 1 << mapping.minOrder;
    this.#mapping = mapping;
    this.#file = file;
    this.#order = request.order;
    const hasMark = asyncSize > 0 && asyncSize <= size;
    this.#markIndex = hasMark ? request.start + size - asyncSize : NO_MARK;
    this.#demandEnd = request.demandEnd;
    this.#index = roundDown(request.start, blockPages);
    this.#last = size <= 0 ? -1 : roundUp(request.start + size, blockPages) - 1;
  }

  /** Fills it under the shared invalidate lock. Never rejects. */
  submit(): MaybeAsync<void> {
    const locked = this.#mapping.invalidateLock.read();
    return isPromise(locked) ? locked.then(() => this.#fillLocked()) : this.#fillLocked();
  }

  #fillLocked(): MaybeAsync<void> {
    const filled = this.#fill();
    const { invalidateLock } = this.#mapping;
    if (isPromise(filled)) return filled.finally(() => invalidateLock.unlockRead());
    invalidateLock.unlockRead();
  }

  #fill(): MaybeAsync<void> {
    for (let run = this.#nextRun(); run !== null; run = this.#nextRun()) {
      const started = readPages(run);
      if (isPromise(started)) return started.then(() => this.#fill());
    }
  }

  /** Adds locked folios up to the next page that is cached; `null` at the end of the window. */
  #nextRun(): ReadaheadControl | null {
    const mapping = this.#mapping;
    while (this.#index <= this.#last) {
      const cached = mapping.folioAt(this.#index);
      if (cached === undefined) break;
      this.#index = cached.index + cached.pageCount;
    }
    const start = this.#index;
    while (this.#index <= this.#last && mapping.folioAt(this.#index) === undefined) {
      if (!this.#addFolio()) this.#last = -1;
    }
    const nrPages = this.#index - start;
    return nrPages > 0 ? new ReadaheadControl(mapping, this.#file, start, nrPages) : null;
  }

  #addFolio(): boolean {
    const mapping = this.#mapping;
    const index = this.#index;
    const folio = mapping.cache.allocForReadahead(this.#orderAt(index), mapping.minOrder);
    if (folio === null) return false;
    const end = index + folio.pageCount;
    const status = mapping.addFolio(folio, index);
    if (status === 0) {
      if (this.#markIndex >= index && this.#markIndex < end) folio.setFlags(PG_READAHEAD);
      if (index >= this.#demandEnd) folio.setFlags(PG_PREFETCHED);
      this.#index = end;
    }
    folio.put(); // The index has its own reference, and nobody evicts what is locked.
    return status === 0;
  }

  /** The largest order that fits: aligned, inside the window, and over no cached folio. */
  #orderAt(index: number): number {
    const mapping = this.#mapping;
    let order = Math.max(this.#order, mapping.minOrder);
    for (; order > mapping.minOrder; order--) {
      const end = index + (1 << order);
      if (index % (1 << order) !== 0 || end - 1 > this.#last) continue;
      if (mapping.nextFolioIndex(index, end - 1) === -1) break;
    }
    return order;
  }
}

/** Hands one run to the file system and cleans up behind it (`read_pages`). Never rejects. */
function readPages(rac: ReadaheadControl): MaybeAsync<void> {
  const { ops } = rac.mapping;
  if (ops.readahead === undefined) return readSingly(rac);
  try {
    const started = ops.readahead(rac);
    if (!isPromise(started)) return rac.dropUntaken();
    return started.then(
      () => rac.dropUntaken(),
      () => rac.abandon(),
    );
  } catch {
    rac.abandon();
  }
}

/** For a file system that reads folio by folio. */
function readSingly(rac: ReadaheadControl): MaybeAsync<void> {
  for (let folio = rac.next(); folio !== null; folio = rac.next()) {
    const started = startReadFolio(rac.mapping, rac.file, folio);
    if (isPromise(started)) return started.then(() => readSingly(rac));
  }
}

/** First window for a read of `reqPages` at most (`get_init_ra_size`). */
function initSize(reqPages: number, maxPages: number): number {
  const size = 2 ** Math.ceil(Math.log2(reqPages));
  if (size <= Math.floor(maxPages / 32)) return size * 4;
  if (size <= Math.floor(maxPages / 4)) return size * 2;
  return maxPages;
}

/** The window after one of `size` pages (`get_next_ra_size`). */
function nextSize(size: number, maxPages: number): number {
  if (size < Math.floor(maxPages / 16)) return size * 4;
  if (size <= Math.floor(maxPages / 2)) return size * 2;
  return maxPages;
}

/**
 * Largest window for a read of `reqPages` (`ra_submit`'s `max_pages`); smaller where dirty pages
 * take the memory.
 */
function windowMax(file: CacheFile, reqPages: number): number {
  const { raPages } = file.ra;
  const { ioPages, cache } = file.mapping;
  const isLarge = reqPages > raPages && ioPages > raPages;
  return Math.min(isLarge ? Math.min(reqPages, ioPages) : raPages, cache.windowMaxPages);
}

/** Submits the window of `ra`, in folios of its order or less (`page_cache_ra_order`). */
function submitWindow(file: CacheFile, ra: FileRaState, demandEnd: number): MaybeAsync<void> {
  const { minOrder, maxOrder } = file.mapping;
  const sizeOrder = 31 - Math.clz32(ra.size);
  ra.order = Math.max(minOrder, Math.min(ra.order, maxOrder, sizeOrder));
  return new Window(file, { ...ra, demandEnd }).submit();
}

/**
 * Reads because page `index` is not cached and `reqPages` pages from there are wanted
 * (`page_cache_sync_ra`). Resolves when the reads are submitted, not when they are done. Never
 * rejects.
 */
export function pageCacheSyncRa(
  file: CacheFile,
  index: number,
  reqPages: number,
): MaybeAsync<void> {
  const { ra, mapping } = file;
  const demandEnd = index + reqPages;
  if (ra.raPages === 0) return forceReadahead(file, index, 1, demandEnd);
  if (file.isRandom) return forceReadahead(file, index, reqPages, demandEnd);
  const maxPages = windowMax(file, reqPages);
  const prevIndex = Math.floor(ra.prevPos / PAGE_BYTES);
  const isNext = index - prevIndex === 0 || index - prevIndex === 1;
  if (index === 0 || reqPages > maxPages || isNext) {
    ra.start = index;
    ra.size = initSize(reqPages, maxPages);
    ra.asyncSize = ra.size > reqPages ? ra.size - reqPages : Math.floor(ra.size / 2);
  } else {
    const miss = prevMiss(mapping, index - 1, maxPages);
    let contigPages = index - miss - 1;
    if (contigPages <= reqPages) {
      const request = { start: index, size: reqPages, asyncSize: 0, order: 0, demandEnd };
      return new Window(file, request).submit();
    }
    if (miss === -1) contigPages *= 2; // Cached from the start of the file on: a long stream.
    ra.start = index;
    ra.size = Math.min(contigPages + reqPages, maxPages);
    ra.asyncSize = 1;
  }
  ra.order = 0;
  return submitWindow(file, ra, demandEnd);
}

/**
 * Reads the next window because `folio`, which carries the mark, was met by a read that wants
 * `reqPages` pages from it on (`page_cache_async_ra`). Nobody waits for it; the mapping keeps
 * account of it.
 */
export function pageCacheAsyncRa(file: CacheFile, folio: Folio, reqPages: number): void {
  const { ra, mapping } = file;
  if (ra.raPages === 0 || folio.isWriteback) return;
  folio.clearFlags(PG_READAHEAD);
  const maxPages = windowMax(file, reqPages);
  const { index } = folio;
  const expected = ra.start + ra.size - ra.asyncSize;
  if (index === roundDown(expected, folio.pageCount)) {
    ra.start += ra.size;
    ra.size = Math.max(ra.size, nextSize(ra.size, maxPages));
  } else {
    // The mark is another stream's: take it up behind what is cached.
    const gap = nextMiss(mapping, index, maxPages);
    if (gap === -1) return;
    ra.start = gap;
    ra.size = nextSize(gap - index + reqPages, maxPages);
  }
  ra.order += 2;
  const alignPages = Math.min(2 ** ra.order, maxPages & -maxPages);
  const end = ra.start + ra.size;
  const alignedEnd = roundDown(end, alignPages);
  if (alignedEnd > ra.start) ra.size = alignedEnd - ra.start;
  ra.asyncSize = ra.size;
  const started = submitWindow(file, ra, ra.start);
  if (isPromise(started)) mapping.trackReadahead(started);
}

/**
 * Reads up to `nrPages` pages from `index` on that are not cached, at most as many as one device
 * request or window takes, without touching the window (`force_page_cache_ra`). Resolves when the
 * reads are submitted. Never rejects.
 */
export function forcePageCacheRa(
  file: CacheFile,
  index: number,
  nrPages: number,
): MaybeAsync<void> {
  return forceReadahead(file, index, nrPages, index);
}

function forceReadahead(
  file: CacheFile,
  index: number,
  nrPages: number,
  demandEnd: number,
): MaybeAsync<void> {
  const limitPages = Math.max(file.mapping.ioPages, file.ra.raPages);
  const end = index + Math.min(nrPages, limitPages);
  for (let start = index; start < end; start += FORCED_CHUNK_PAGES) {
    const size = Math.min(FORCED_CHUNK_PAGES, end - start);
    const window = new Window(file, { start, size, asyncSize: 0, order: 0, demandEnd });
    const started = window.submit();
    if (!isPromise(started)) continue;
    const next = start + size;
    return started.then(() => forceReadahead(file, next, end - next, demandEnd));
  }
}

/**
 * Highest page up to `last` that is not cached; looks at `maxPages` pages. -1 if all from 0 on
 * are.
 */
function prevMiss(mapping: AddressSpace, last: number, maxPages: number): number {
  let index = last;
  while (index >= 0 && last - index < maxPages) {
    const folio = mapping.folioAt(index);
    if (folio === undefined) return index;
    index = folio.index - 1;
  }
  return Math.max(index, last - maxPages);
}

/** Lowest page behind `index`, at most `maxPages` on, that is not cached; -1 if there is none. */
function nextMiss(mapping: AddressSpace, index: number, maxPages: number): number {
  let next = index + 1;
  while (next - index <= maxPages && next <= INDEX_MAX) {
    const folio = mapping.folioAt(next);
    if (folio === undefined) return next;
    next = folio.index + folio.pageCount;
  }
  return -1;
}
