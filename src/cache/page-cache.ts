/**
 * PageCache: the memory of all cached files, bounded, and what it takes to keep it within its
 * bounds.
 *
 *     PageCache --- arena        frames
 *         |   \---- lru          active and inactive folios
 *         |
 *         +-- AddressSpace       index -> folio, one for each open file and device
 *
 * Who asks for memory, and what it may cost (rule JS-10):
 *
 *     readahead      `allocForReadahead`  evicts clean folios, else fails at once; keeps as much
 *                                         free as the reserve has
 *     one folio      `allocFolioWait`     evicts, else waits for reads and writes in flight, and
 *                                         has the flushers write what is dirty
 *     write-out      `allocFolioForWriteback`  evicts, else takes from the reserve; never waits
 *
 * So whoever writes back never waits for memory, and who waits holds nothing that a writer needs:
 * a cache full of dirty pages empties itself. Where there is no hope, or nothing comes free for ten
 * seconds, the waiters get `-ENOMEM`.
 *
 * After `mm/filemap.c` and `mm/page_alloc.c` of Linux. Left out: NUMA, memory cgroups, a thread
 * that reclaims in the background: reclaim of clean folios is synchronous and cheap here.
 */
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { EINTR, ENOMEM, type Errno } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import { andThen, type MaybeAsync } from "../lib/maybe.ts";
import { Tracer } from "../lib/trace.ts";
import { MIB } from "../lib/units.ts";
import { MARK_DIRTY, MARK_WRITEBACK } from "../lib/xarray.ts";
import { AddressSpace, type AddressSpaceOperations, type MappingOptions } from "./address-space.ts";
import { Arena } from "./arena.ts";
import { type DirtyLimitOptions, DirtyLimits } from "./dirty-limits.ts";
import { Folio, type FolioOwner } from "./folio.ts";
import type { Inode } from "./inode.ts";
import { MemoryWaiters } from "./memory-waiters.ts";
import { evict, Lruvec, type ReclaimCounters, type Shadow } from "./reclaim.ts";
import type { BackingDevice } from "./superblock.ts";
import { truncateInodePagesFinal } from "./truncate.ts";

const ARENA_BYTES_DEFAULT: number = 256 * MIB;
const RA_PAGES_DEFAULT = 256;
/** A window of the default size in one folio; larger ones would only make reclaim coarser. */
const MAX_ORDER_DEFAULT = 8;
/** One folio takes at most this share of the arena. */
const FOLIO_SHARE = 64;
/** One readahead window takes at most this share of the arena. */
const WINDOW_SHARE = 4;
/** Shadows per frame, from which on those are dropped that are too old to tell anything. */
const SHADOWS_PER_FRAME = 2;
/**
 * Files of which only shadows are left, at most this share of the frames: they keep their inodes.
 */
const SHADOWED_SHARE = 8;

export interface PageCacheOptions {
  readonly clock: Clock;
  /** Memory for cached pages in bytes; 256 MiB by default. */
  readonly arenaBytes?: number;
  /** Largest readahead window in pages, 256 by default; at most a quarter of the arena. */
  readonly raPages?: number;
  /** Largest order of folios, 8 by default; at most a 64th of the arena. 0: single pages only. */
  readonly maxOrder?: number;
  /** How much of the memory may be dirty: 20 %, written from 10 % on. */
  readonly dirtyLimits?: DirtyLimitOptions;
}

/** What the cache has done so far, and holds now. */
export interface CacheStats extends Readonly<ReclaimCounters> {
  /** Calls of `filemapRead`. */
  readonly requests: number;
  /** Bytes that these copied. */
  readonly bytes: number;
  /** Folios that a read found ready. */
  readonly hits: number;
  /** Folios that a read had to wait for or to start a read of. */
  readonly misses: number;
  /** Times that a block of metadata was wanted and cached. */
  readonly metadataHits: number;
  /** Blocks of metadata that somebody had to wait for. */
  readonly metadataMisses: number;
  /** Pages added to files. */
  readonly addedPages: number;
  readonly cachedPages: number;
  readonly activePages: number;
  readonly inactivePages: number;
  readonly freeFrames: number;
  readonly frameCount: number;
  readonly dirtyPages: number;
  readonly writebackPages: number;
  /** Pages dirtied and pages written so far. */
  readonly dirtiedPages: number;
  readonly writtenPages: number;
}

/** Counters that the paths of the cache raise; a class, so that all see one shape. */
class CacheCounters implements ReclaimCounters {
  requests = 0;
  bytes = 0;
  hits = 0;
  misses = 0;
  metadataHits = 0;
  metadataMisses = 0;
  addedPages = 0;
  evictedPages = 0;
  refaultedPages = 0;
  activatedPages = 0;
  readaheadHits = 0;
  readaheadWasted = 0;
}

/** See the head of the file. */
export class PageCache implements FolioOwner {
  readonly arena: Arena;
  readonly lru: Lruvec;
  readonly clock: Clock;
  /** Tells of every folio added, removed, read and hit, while somebody listens. */
  readonly trace: Tracer = new Tracer();
  readonly counters: CacheCounters = new CacheCounters();
  readonly raPages: number;
  readonly maxOrder: number;
  /** Shadows in all address spaces. */
  shadowCount = 0;
  /** Locked folios, and reads that fill folios without their lock. */
  lockedCount = 0;
  /** Pages of dirty folios now (`NR_FILE_DIRTY`). */
  nrDirty = 0;
  /** Pages of folios in flight now (`NR_WRITEBACK`). */
  nrWriteback = 0;
  /** Pages dirtied so far (`NR_DIRTIED`). */
  nrDirtied = 0;
  /** Pages written so far (`NR_WRITTEN`). */
  nrWritten = 0;
  readonly dirtyLimits: DirtyLimits;
  /** Told of each folio whose write has ended. */
  readonly writebackWaiters: WaitQueue = new WaitQueue();
  /** Writers that were told to pause; woken when a write ends. */
  readonly throttleWaiters: WaitQueue = new WaitQueue();
  /** Those who write back the files of this cache. */
  readonly flushers: Set<BackingDevice> = new Set();
  /** The address spaces that hold pages. Those without are kept by their openers alone. */
  readonly #populated = new Set<AddressSpace>();
  /** Those of which only shadows are left; in front the one that lost its pages first. */
  readonly #shadowed = new Set<AddressSpace>();
  readonly #memoryWaiters: MemoryWaiters;

  constructor(options: PageCacheOptions) {
    this.clock = options.clock;
    this.#memoryWaiters = new MemoryWaiters(options.clock);
    this.arena = Arena.create({ sizeBytes: options.arenaBytes ?? ARENA_BYTES_DEFAULT });
    this.lru = new Lruvec(this.counters);
    this.dirtyLimits = new DirtyLimits(options.dirtyLimits);
    const { frameCount } = this.arena;
    const windowMax = Math.floor(frameCount / WINDOW_SHARE);
    this.raPages = Math.min(options.raPages ?? RA_PAGES_DEFAULT, windowMax);
    const orderMax = Math.max(0, 31 - Math.clz32(frameCount / FOLIO_SHARE));
    this.maxOrder = Math.min(options.maxOrder ?? MAX_ORDER_DEFAULT, orderMax);
  }

  get memoryWaiterCount(): number {
    return this.#memoryWaiters.length;
  }

  /** Pages that hold files or are free: those that can be dirty (`global_dirtyable_memory`). */
  get dirtyablePages(): number {
    return this.arena.freeFrames + this.lru.active.pageCount + this.lru.inactive.pageCount;
  }

  /**
   * Largest readahead window in pages now: as memory fills with dirty pages, a quarter of what
   * these leave.
   */
  get windowMaxPages(): number {
    const unevictablePages = this.nrDirty + this.nrWriteback;
    if (unevictablePages === 0) return Infinity;
    return Math.max(1, Math.floor((this.dirtyablePages - unevictablePages) / WINDOW_SHARE));
  }

  /** Makes an empty address space for `host`, whose folios `ops` fills. */
  openMapping(
    host: Inode,
    ops: AddressSpaceOperations,
    options: MappingOptions = {},
  ): AddressSpace {
    return new AddressSpace(this, host, ops, options);
  }

  /** Number of address spaces that the cache keeps alive, since they hold pages or shadows. */
  get mappingCount(): number {
    return this.#populated.size + this.#shadowed.size;
  }

  /**
   * Drops all folios of `mapping`, dirty or not, for good. Waits for reads in flight. Who still
   * waits for one of its folios gets that folio or `-EBADF`.
   */
  closeMapping(mapping: AddressSpace): MaybeAsync<void> {
    mapping.isClosed = true;
    return andThen(mapping.waitReadaheads(), () => truncateInodePagesFinal(mapping));
  }

  /**
   * A folio of `order`, with one reference, in no file yet and with any bytes in it
   * (`filemap_alloc_folio`); with `minOrder` a smaller one if there is no run of that size.
   * Evicts clean folios. `null` if memory is short. Never waits.
   */
  allocFolio(order: number, minOrder: number = order): Folio | null {
    return this.#allocOrFlush(order, minOrder);
  }

  /** As `allocFolio`, but leaves frames to those who cannot do without (`readahead_gfp_mask`). */
  allocForReadahead(order: number, minOrder: number): Folio | null {
    return this.#alloc(order, minOrder, this.arena.reserveFrames);
  }

  /**
   * As `allocFolio`, for those without whom nothing is written: write-out, the journal, metadata
   * that they need. Takes from the reserve what cannot be evicted, but leaves `keepFrames` of it.
   * `null` if that is not enough. Never waits.
   */
  allocFolioForWriteback(order: number, keepFrames = 0): Folio | null {
    const folio = this.#alloc(order, order, 0);
    if (folio !== null) return folio;
    if (this.arena.freeFrames - (1 << order) < keepFrames) return null;
    const pfn = this.arena.alloc(order, true);
    return pfn === -1 ? null : new Folio(this, pfn, order, this.arena.bytes(pfn, order));
  }

  /**
   * As `allocFolio`, but has the flushers write what is dirty, and waits for memory while reads or
   * writes are in flight that will set some free. The caller holds no folio lock. Returns
   * `-ENOMEM` if there is no hope, or when none has come free for ten seconds; `-EINTR` once
   * `signal` is aborted.
   */
  allocFolioWait(order: number, signal?: AbortSignal): MaybeAsync<Folio | Errno> {
    return this.#allocOrFlush(order, order) ?? this.#allocSlow(order, signal);
  }

  /**
   * Notes a read that fills memory under another lock than a folio's. Until `readEnded` those who
   * want memory wait: what it fills will be clean.
   */
  readStarted(): void {
    this.lockedCount++;
  }

  /** Ends what `readStarted` has begun. */
  readEnded(): void {
    assert(this.lockedCount > 0, "a read ends once");
    this.lockedCount--;
    if (this.#memoryWaiters.length > 0) this.memoryProgress();
  }

  /** Called by whoever may have made memory free: those who want some try again. */
  memoryProgress(): void {
    this.#memoryWaiters.wake();
  }

  releaseFrames(folio: Folio): void {
    assert(folio.mapping === null, "a folio in a file is referenced by it");
    this.arena.free(folio.pfn, folio.order);
    this.#memoryWaiters.freed();
  }

  /** Called by `AddressSpace.addFolio`. */
  folioAdded(mapping: AddressSpace, folio: Folio, shadow: Shadow | undefined): void {
    if (mapping.nrpages === folio.pageCount) {
      this.#populated.add(mapping);
      this.#shadowed.delete(mapping);
    }
    this.lru.add(folio, shadow);
    this.counters.addedPages += folio.pageCount;
    if (this.trace.isOn) this.traceFolio("mm_filemap_add_to_page_cache", mapping, folio);
  }

  /** Called by `AddressSpace.removeFolio`. */
  folioRemoved(mapping: AddressSpace, folio: Folio): void {
    this.lru.remove(folio);
    if (this.trace.isOn) this.traceFolio("mm_filemap_delete_from_page_cache", mapping, folio);
  }

  /** Called by `Folio`: it became dirty (`folio_account_dirtied`). */
  folioDirtied(mapping: AddressSpace, folio: Folio): void {
    const { pageCount } = folio;
    this.nrDirty += pageCount;
    this.nrDirtied += pageCount;
    const bdi = mapping.wbInode?.sb.bdi;
    if (bdi == null) return;
    bdi.nrDirty += pageCount;
    bdi.nrDirtied += pageCount;
  }

  /** Called by `Folio`: it is not dirty any more (`folio_account_cleaned`). */
  folioCleaned(mapping: AddressSpace, folio: Folio): void {
    this.nrDirty -= folio.pageCount;
    const bdi = mapping.wbInode?.sb.bdi;
    if (bdi != null) bdi.nrDirty -= folio.pageCount;
  }

  /**
   * Called by `Folio`: it became dirty again without anybody's having written to it
   * (`folio_account_redirty`).
   */
  folioRedirtied(mapping: AddressSpace, folio: Folio): void {
    this.nrDirtied -= folio.pageCount;
    const bdi = mapping.wbInode?.sb.bdi;
    if (bdi != null) bdi.nrDirtied -= folio.pageCount;
  }

  /** Called by `Folio`: its write begins. */
  folioWritebackStarted(mapping: AddressSpace, folio: Folio): void {
    this.nrWriteback += folio.pageCount;
    const bdi = mapping.wbInode?.sb.bdi;
    if (bdi != null) bdi.nrWriteback += folio.pageCount;
  }

  /** Called by `Folio` when its write has ended; `isReclaim`: memory was waiting for that. */
  folioWritebackEnded(mapping: AddressSpace, folio: Folio, isReclaim: boolean): void {
    this.nrWriteback -= folio.pageCount;
    this.nrWritten += folio.pageCount;
    const { wbInode } = mapping;
    const bdi = wbInode?.sb.bdi;
    if (wbInode !== null && bdi != null) {
      bdi.nrWriteback -= folio.pageCount;
      bdi.pagesWritten(folio.pageCount);
      const { pages } = mapping;
      const isClean = !pages.marked(MARK_DIRTY) && !pages.marked(MARK_WRITEBACK);
      if (isClean) bdi.inodeCleaned(wbInode);
    }
    if (isReclaim) this.lru.rotateReclaimable(folio);
    if (folio.isDropBehind) evict(folio);
    this.writebackWaiters.wakeAll();
    this.throttleWaiters.wakeAll();
    if (this.#memoryWaiters.length > 0) this.memoryProgress();
  }

  /** Called by `AddressSpace` when its last page or, without pages, its last shadow has gone. */
  mappingEmptied(mapping: AddressSpace): void {
    this.#populated.delete(mapping);
    if (mapping.shadowCount === 0) {
      this.#shadowed.delete(mapping);
      return;
    }
    this.#shadowed.add(mapping);
    if (this.#shadowed.size <= Math.floor(this.arena.frameCount / SHADOWED_SHARE)) return;
    for (const oldest of this.#shadowed) {
      oldest.eraseShadows(); // Which takes it out of the set.
      return;
    }
  }

  /** Emits an event about `folio`. Only while `trace.isOn`. */
  traceFolio(name: string, mapping: AddressSpace, folio: Folio): void {
    this.trace.emit({ name, ino: mapping.host.ino, index: folio.index, order: folio.order });
  }

  stats(): CacheStats {
    const { counters, lru, arena } = this;
    return {
      ...counters,
      cachedPages: lru.active.pageCount + lru.inactive.pageCount,
      activePages: lru.active.pageCount,
      inactivePages: lru.inactive.pageCount,
      freeFrames: arena.freeFrames,
      frameCount: arena.frameCount,
      dirtyPages: this.nrDirty,
      writebackPages: this.nrWriteback,
      dirtiedPages: this.nrDirtied,
      writtenPages: this.nrWritten,
    };
  }

  /**
   * Throws `AssertionError` if an invariant does not hold. Walks all: for tests and the
   * simulator.
   */
  verify(): void {
    this.arena.verify();
    this.lru.verify();
    let pages = 0;
    let shadows = 0;
    for (const mapping of [...this.#populated, ...this.#shadowed]) {
      mapping.verify();
      assert(mapping.nrpages > 0 === this.#populated.has(mapping), "who has pages is kept as such");
      pages += mapping.nrpages;
      shadows += mapping.shadowCount;
    }
    const listed = this.lru.active.pageCount + this.lru.inactive.pageCount;
    assert(pages === listed, "every cached folio is on a list of reclaim");
    assert(shadows === this.shadowCount, "shadows are counted");
    assert(pages + this.arena.freeFrames <= this.arena.frameCount, "no frame is used twice");
  }

  /** Has the flushers write if reclaim had to pass over dirty folios. */
  #allocOrFlush(order: number, minOrder: number): Folio | null {
    this.lru.passedDirtyPages = 0;
    const folio = this.#alloc(order, minOrder, 0);
    if (this.lru.passedDirtyPages > 0) this.#startFlushers();
    return folio;
  }

  #alloc(order: number, minOrder: number, spareFrames: number): Folio | null {
    const { arena } = this;
    const keepFrames = arena.reserveFrames + spareFrames;
    const missing = (1 << order) + keepFrames - arena.freeFrames;
    if (missing > 0) this.#shrink(missing);
    for (let at = order; at >= minOrder; at--) {
      if (arena.freeFrames - (1 << at) < keepFrames) continue;
      const pfn = arena.alloc(at);
      if (pfn !== -1) return new Folio(this, pfn, at, arena.bytes(pfn, at));
    }
    // Enough frames, but not in one run: go on until one has come together.
    while (minOrder > 0 && this.#shrink(1 << minOrder) > 0) {
      const pfn = arena.freeFrames - (1 << minOrder) < keepFrames ? -1 : arena.alloc(minOrder);
      if (pfn !== -1) return new Folio(this, pfn, minOrder, arena.bytes(pfn, minOrder));
    }
    return null;
  }

  #shrink(wantedPages: number): number {
    const freedPages = this.lru.shrink(wantedPages);
    if (this.shadowCount > SHADOWS_PER_FRAME * this.arena.frameCount) this.#pruneShadows();
    return freedPages;
  }

  async #allocSlow(order: number, signal: AbortSignal | undefined): Promise<Folio | Errno> {
    this.#memoryWaiters.begin();
    try {
      return await this.#allocPatiently(order, signal);
    } finally {
      this.#memoryWaiters.end();
    }
  }

  async #allocPatiently(order: number, signal: AbortSignal | undefined): Promise<Folio | Errno> {
    let isLastTry = false;
    let flushedAt = -1;
    for (;;) {
      const folio = this.#alloc(order, order, 0);
      if (folio !== null) return folio;
      if (signal?.aborted) return -EINTR;
      // Once for each time that memory came free: a flusher that gets nowhere is no hope.
      if (flushedAt !== this.#memoryWaiters.freedCount) {
        flushedAt = this.#memoryWaiters.freedCount;
        this.#startFlushers();
      }
      if (this.#mayComeFree()) {
        isLastTry = false;
        const status = await this.#memoryWaiters.wait(signal);
        if (status !== 0) return status;
        continue;
      }
      // Nothing is under way. One turn for readers who have their data but did not run yet.
      if (isLastTry) return -ENOMEM;
      isLastTry = true;
      await this.clock.turn();
    }
  }

  /** True while something is under way that will leave clean folios behind. */
  #mayComeFree(): boolean {
    if (this.lockedCount > 0 || this.nrWriteback > 0) return true;
    for (const bdi of this.flushers) if (bdi.isBusy) return true;
    return false;
  }

  #startFlushers(): void {
    for (const bdi of this.flushers) if (bdi.nrDirty > 0) bdi.startAll();
  }

  /** Erases shadows that are too old to tell anything, which is at least half of them. */
  #pruneShadows(): void {
    const { frameCount } = this.arena;
    for (const mapping of [...this.#populated, ...this.#shadowed]) {
      mapping.eraseShadows((shadow) => this.lru.isTooOld(shadow, frameCount));
    }
  }
}
