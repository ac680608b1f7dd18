/**
 * AddressSpace: the cached pages of one file or device, and the operations that fill and write
 * them.
 *
 *     pages    index -> folio    (one entry for all pages of a large folio)
 *              index -> shadow   (a small integer, where a folio was evicted)
 *
 *  1. A folio stands in the index at the pages `index .. index + pageCount` exactly while its
 *     `mapping` is this one. It enters and leaves locked.
 *  2. `nrpages` is the number of pages of folios here; `shadowCount` the number of shadows.
 *  3. Folios have an order from `minOrder` to `maxOrder` and begin at a multiple of their size.
 *  4. A dirty folio has the mark DIRTY. A folio with the mark is dirty, or locked by whoever writes
 *     it, or lies behind the end of the file, about to be removed.
 *  5. A folio has the mark WRITEBACK while it is in flight. TOWRITE goes when its write begins or
 *     it is removed, by nobody else: it belongs to the walk that has set it.
 *
 * After `struct address_space`, `__filemap_add_folio` and `mapping_set_error` in `mm/filemap.c` and
 * `filemap_dirty_folio` in `mm/page-writeback.c` of Linux.
 */
import { assert } from "../lib/assert.ts";
import { EBADF, EEXIST, EFBIG, ENOSPC, type Errno, type FsError } from "../lib/errno.ts";
import { Errseq } from "../lib/errseq.ts";
import { AsyncRwLock, WaitQueue } from "../lib/locks.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import { INDEX_MAX, MARK_DIRTY, MARK_TOWRITE, MARK_WRITEBACK, XArray } from "../lib/xarray.ts";
import type { CacheFile } from "./cache-file.ts";
import { type Folio, PG_DIRTY } from "./folio.ts";
import type { Inode } from "./inode.ts";
import type { Kiocb } from "./kiocb.ts";
import type { PageCache } from "./page-cache.ts";
import type { ReadaheadControl } from "./readahead.ts";
import type { Shadow } from "./reclaim.ts";
import { I_DIRTY_PAGES, markInodeDirty, type WbInode } from "./superblock.ts";
import type { WritebackControl } from "./writeback-control.ts";

/**
 * What a file system does for the cache (`struct address_space_operations`). Any of these may
 * throw or reject: the cache takes the error's number, and unlocks what was being filled as not
 * uptodate.
 */
export interface AddressSpaceOperations {
  /**
   * Fills the locked `folio` and ends with `folio.endRead`, now or at the completion of the I/O
   * (`read_folio`). Returns 0, or the errno for which nothing was submitted.
   */
  readFolio(file: CacheFile | null, folio: Folio): MaybeAsync<Errno>;
  /**
   * Takes locked folios with `rac.next()` and starts to fill them, in few large requests. It owns
   * what it took, and ends each with `folio.endRead`. What it leaves is dropped from the cache.
   * If it throws, the folio taken last counts as failed; so it must not have submitted that one.
   */
  readahead?(rac: ReadaheadControl): MaybeAsync<void>;
  /** True if these bytes of a folio that is not uptodate are valid (`is_partially_uptodate`). */
  isPartiallyUptodate?(folio: Folio, fromBytes: number, countBytes: number): boolean;
  /**
   * Detaches what it attached to a clean locked folio; false if that is still needed
   * (`release_folio`).
   */
  releaseFolio?(folio: Folio): boolean;
  /** The bytes of a locked folio are being given up, whatever their state (`invalidate_folio`). */
  invalidateFolio?(folio: Folio, offsetBytes: number, lengthBytes: number): void;
  /**
   * All bytes of the folio may differ from the store (`dirty_folio`): notes so in its parts, and
   * calls `filemapDirtyFolio`, whose result it returns. Must not wait or throw. By default the
   * valid units of its block state become dirty.
   */
  dirtyFolio?(mapping: AddressSpace, folio: Folio): boolean;
  /**
   * Writes the dirty folios that `wbc` asks for (`writepages`): takes them from a `WritebackIter`,
   * has submitted everything when it returns, and returns the iterator's error.
   */
  writepages?(mapping: AddressSpace, wbc: WritebackControl): MaybeAsync<Errno>;
  /**
   * Writes one locked folio that was cleaned for that (`writepage`): starts writeback, unlocks it
   * and submits. Returns 0, an errno, or `AOP_WRITEPAGE_ACTIVATE` after it has redirtied the folio
   * and left it locked.
   */
  writepage?(folio: Folio, wbc: WritebackControl): MaybeAsync<Errno>;
  /** Writes a dirty locked folio that has to leave the cache, and waits (`launder_folio`). */
  launderFolio?(folio: Folio): MaybeAsync<Errno>;
  /**
   * Prepares a write of the bytes (`write_begin`): returns the folio of the first one, locked and
   * with a reference, as `filemapWriteFolio` gets it. Room is reserved, and what will not be
   * overwritten of the blocks touched is valid. The folio may end before the bytes do. Or returns
   * an errno, `-EAGAIN` where `iocb` forbids to wait, and nothing is held.
   */
  writeBegin?(
    iocb: Kiocb,
    mapping: AddressSpace,
    posBytes: number,
    lengthBytes: number,
  ): MaybeAsync<Folio | Errno>;
  /**
   * Ends it, `copiedBytes` of `lengthBytes` having been written to the folio (`write_end`): dirties
   * these, raises `host.size` while the folio is locked, unlocks it and puts it. Returns the number
   * of bytes accepted, or an errno.
   */
  writeEnd?(
    iocb: Kiocb,
    mapping: AddressSpace,
    posBytes: number,
    lengthBytes: number,
    copiedBytes: number,
    folio: Folio,
  ): MaybeAsync<number>;
}

export interface MappingOptions {
  /** Smallest order: log2 of the file-system block in pages, 0 up to 4 KiB. */
  readonly minOrder?: number;
  /** Largest order; by default the cache's, 0 for single pages only. */
  readonly maxOrder?: number;
  /** Pages of the largest useful device request; 0 if that is not known (`bdi->io_pages`). */
  readonly ioPages?: number;
  /** Folios must not change while they are written. */
  readonly stableWrites?: boolean;
  /** Largest readahead window in pages; by default the cache's. */
  readonly raPages?: number;
  /** What becomes of what could not be written; by default "drop". */
  readonly onWriteError?: "drop" | "keep";
}

/** See the head of the file. Made by `PageCache.openMapping`. */
export class AddressSpace {
  readonly host: Inode;
  readonly ops: AddressSpaceOperations;
  readonly cache: PageCache;
  readonly pages: XArray<Folio | Shadow> = new XArray();
  nrpages = 0;
  shadowCount = 0;
  /** Write errors, once per open file. */
  readonly wbErr: Errseq = new Errseq();
  /** The older form of the same, once in all (`AS_EIO`, `AS_ENOSPC`). */
  flagEIO = false;
  flagENOSPC = false;
  /** Held shared while folios are added and filled, exclusively while content is taken away. */
  readonly invalidateLock: AsyncRwLock = new AsyncRwLock();
  readonly stableWrites: boolean;
  /** Takes no folios any more: else a reader who starts over would keep its closing from ending. */
  isClosed = false;
  /** What becomes of a folio whose write failed: forgotten as in the kernel, or dirty again. */
  onWriteError: "drop" | "keep";
  /** Page at which the next cyclic walk begins (`writeback_index`). */
  writebackIndex = 0;
  /** False for content that is never written back (`mapping_can_writeback`). */
  canWriteback = true;
  readonly minOrder: number;
  readonly maxOrder: number;
  readonly ioPages: number;
  readonly raPages: number;
  /** What the last read that failed has failed with; the errno of a read alone says less. */
  readFailure: FsError | undefined = undefined;
  /** Why writing failed first, of the failures that nobody has been told of when they came. */
  writeFailure: unknown = undefined;
  /** Owned by the mapping layer. */
  private: unknown = null;
  #readaheads = 0;
  readonly #readaheadWaiters = new WaitQueue();

  constructor(cache: PageCache, host: Inode, ops: AddressSpaceOperations, options: MappingOptions) {
    this.cache = cache;
    this.host = host;
    this.ops = ops;
    this.minOrder = options.minOrder ?? 0;
    this.maxOrder = Math.max(this.minOrder, options.maxOrder ?? cache.maxOrder);
    this.ioPages = options.ioPages ?? 0;
    this.raPages = options.raPages ?? cache.raPages;
    this.stableWrites = options.stableWrites ?? false;
    this.onWriteError = options.onWriteError ?? "drop";
    if (this.wbInode !== null) this.wbInode.mapping = this;
  }

  /** State of the write-back of its inode; `null` if that is written on demand only. */
  get wbInode(): WbInode | null {
    return this.host.wb ?? null;
  }

  /**
   * Makes `folio` dirty: flag, mark, counters, inode (`filemap_dirty_folio`); false if it was.
   * Leaves its block state alone. Called through `Folio.markDirty` and `filemapDirtyFolio`.
   */
  dirtyFolio(folio: Folio): boolean {
    if ((folio.flags & PG_DIRTY) !== 0) return false;
    folio.flags |= PG_DIRTY;
    if (folio.mapping === this) {
      this.cache.folioDirtied(this, folio);
      this.pages.setMark(folio.index, MARK_DIRTY);
    }
    markInodeDirty(this.host, I_DIRTY_PAGES);
    return true;
  }

  /** Called by the first folio that is in flight. */
  writebackBegan(): void {
    const { wbInode } = this;
    if (wbInode !== null) wbInode.sb.inodesUnderWriteback.add(wbInode);
  }

  /** Called by the last folio that was in flight. */
  writebackEnded(): void {
    const { wbInode } = this;
    if (wbInode !== null) wbInode.sb.inodesUnderWriteback.delete(wbInode);
  }

  /**
   * Notes that writing has failed with the negative errno `err`, for every open file and for the
   * file system (`mapping_set_error`); `cause` is what was thrown. Anything that is no errno is
   * ignored.
   */
  setError(err: Errno, cause?: unknown): void {
    if (err >= 0) return;
    // A cell that nobody has seen holds an older failure, whose cause is the one to tell.
    const isFirst = this.wbErr.sample() === this.wbErr.value;
    if (isFirst) this.writeFailure = cause;
    this.wbErr.set(err);
    const { wbInode } = this;
    if (wbInode !== null) {
      wbInode.sb.wbErr.set(err);
      wbInode.sb.bdi?.writeFailed(wbInode, err);
    }
    if (err === -ENOSPC) this.flagENOSPC = true;
    else this.flagEIO = true;
  }

  /**
   * The folio that holds page `index`, whatever its state; no reference is taken
   * (`filemap_get_folio`).
   */
  folioAt(index: number): Folio | undefined {
    const entry = this.pages.load(index);
    return typeof entry === "object" ? entry : undefined;
  }

  /** First page in `first..last`, both included, that a folio holds; -1 if there is none. */
  nextFolioIndex(first: number, last: number): number {
    let index = this.pages.find(first, last);
    while (index !== -1 && typeof this.pages.load(index) === "number") {
      const order = this.pages.orderOf(index);
      index = this.pages.find(index - (index % (1 << order)) + (1 << order), last);
    }
    return index;
  }

  /**
   * Locks a folio from `allocFolio` and puts it into the index from page `index` on, a multiple
   * of its size (`filemap_add_folio`). The index takes a reference of its own. Returns 0;
   * `-EEXIST` if a page there is cached, `-EFBIG` behind the last page, `-EBADF` while the
   * mapping is closed: then the folio is as it was. One that is made to be written to,
   * `isForWrite`, does not count as having come back. Never waits.
   */
  addFolio(folio: Folio, index: number, isForWrite = false): Errno {
    assert(folio.mapping === null, "a folio is in one file at most");
    assert(folio.order >= this.minOrder, "a folio holds whole blocks");
    const last = index + folio.pageCount - 1;
    if (this.isClosed) return -EBADF;
    if (last > INDEX_MAX) return -EFBIG;
    if (this.nextFolioIndex(index, last) !== -1) return -EEXIST;
    const isLocked = folio.tryLock();
    assert(isLocked, "nobody else has locked a folio that is in no file");
    const shadow = this.#takeShadows(index, last, folio.order);
    this.pages.store(index, folio, folio.order);
    folio.mapping = this;
    folio.index = index;
    folio.get();
    this.nrpages += folio.pageCount;
    this.cache.folioAdded(this, folio, isForWrite ? undefined : shadow);
    return 0;
  }

  /**
   * Takes a locked folio out of the index, with its marks, and leaves `shadow` there if one is
   * given (`filemap_remove_folio`). The reference of the index passes to the caller, who puts it.
   */
  removeFolio(folio: Folio, shadow?: Shadow): void {
    assert(folio.isLocked && folio.mapping === this, "a folio leaves its file locked");
    assert(!folio.isDirty, "what is dirty is written or cancelled before it leaves");
    assert(!folio.isWriteback, "what is in flight stays in its file");
    this.cache.folioRemoved(this, folio);
    if (shadow === undefined) {
      this.pages.erase(folio.index);
    } else {
      this.pages.store(folio.index, shadow, folio.order);
      this.pages.clearMark(folio.index, MARK_DIRTY);
      this.pages.clearMark(folio.index, MARK_WRITEBACK);
      this.pages.clearMark(folio.index, MARK_TOWRITE);
      this.#countShadows(1);
    }
    folio.mapping = null;
    this.nrpages -= folio.pageCount;
    if (this.nrpages === 0) this.cache.mappingEmptied(this);
  }

  /** Erases the shadow that stands at `index`. */
  eraseShadow(index: number): void {
    assert(typeof this.pages.load(index) === "number", "a shadow is erased as such");
    this.pages.erase(index);
    this.#countShadows(-1);
    if (this.nrpages === 0 && this.shadowCount === 0) this.cache.mappingEmptied(this);
  }

  /** Erases those shadows that `isUnwanted` says, by default all. Walks the whole file. */
  eraseShadows(isUnwanted: (shadow: Shadow) => boolean = () => true): void {
    if (this.shadowCount === 0) return;
    const { pages } = this;
    for (let index = pages.find(0); index !== -1; ) {
      const pageCount = 1 << pages.orderOf(index);
      const entry = pages.load(index);
      if (typeof entry === "number" && isUnwanted(entry)) this.eraseShadow(index);
      index = pages.find(index + pageCount);
    }
  }

  /**
   * Notes a readahead that nobody waits for, until it has submitted its reads. It must not
   * reject.
   */
  trackReadahead(started: Promise<void>): void {
    this.#readaheads++;
    void started.then(() => {
      this.#readaheads--;
      if (this.#readaheads === 0) this.#readaheadWaiters.wakeAll();
    });
  }

  /** Waits until the readaheads of `trackReadahead` have submitted their reads. */
  waitReadaheads(): MaybeAsync<void> {
    if (this.#readaheads > 0) return this.#readaheadWaiters.wait();
  }

  /**
   * Throws `AssertionError` if an invariant does not hold. Walks all: for tests and the
   * simulator.
   */
  verify(): void {
    this.pages.verify();
    let nrpages = 0;
    let shadowCount = 0;
    for (let index = this.pages.find(0); index !== -1; ) {
      const entry = this.pages.load(index)!;
      const pageCount = 1 << this.pages.orderOf(index);
      if (typeof entry === "number") {
        shadowCount++;
      } else {
        assert(entry.mapping === this && entry.index === index, "invariant 1: a folio is in place");
        assert(entry.pageCount === pageCount, "invariant 1: a folio stands at all its pages");
        assert(entry.order >= this.minOrder, "invariant 3: a folio holds whole blocks");
        assert(index % pageCount === 0, "invariant 3: a folio begins at a multiple of its size");
        assert(entry.refs > 0, "a cached folio is referenced by its file");
        entry.blockState?.verify();
        this.#verifyMarks(entry);
        nrpages += pageCount;
      }
      index = index + pageCount > INDEX_MAX ? -1 : this.pages.find(index + pageCount);
    }
    assert(nrpages === this.nrpages, "invariant 2: pages are counted");
    assert(shadowCount === this.shadowCount, "invariant 2: shadows are counted");
  }

  #verifyMarks(folio: Folio): void {
    const { index, isDirty, isLocked } = folio;
    const isMarked = this.pages.getMark(index, MARK_DIRTY);
    assert(!isDirty || isMarked, "invariant 4: a dirty folio is marked");
    const isBehindEnd = folio.posBytes >= this.host.size;
    assert(!isMarked || isDirty || isLocked || isBehindEnd, "invariant 4: a mark finds dirt");
    const isInFlight = this.pages.getMark(index, MARK_WRITEBACK);
    assert(folio.isWriteback === isInFlight, "invariant 5: what is in flight is marked");
  }

  /** Clears the way for a folio, and returns the first shadow that was in it. */
  #takeShadows(first: number, last: number, order: number): Shadow | undefined {
    if (this.shadowCount === 0) return undefined;
    let shadow: Shadow | undefined;
    for (let index = this.pages.find(first, last); index !== -1; ) {
      shadow ??= this.pages.load(index) as Shadow;
      const shadowOrder = this.pages.orderOf(index);
      if (shadowOrder > order) {
        this.pages.split(index, order);
        this.#countShadows((1 << (shadowOrder - order)) - 1);
      }
      this.pages.erase(index);
      this.#countShadows(-1);
      index = this.pages.find(index, last);
    }
    return shadow;
  }

  #countShadows(change: number): void {
    this.shadowCount += change;
    this.cache.shadowCount += change;
  }
}
