/**
 * WrittenFile: a file without a file system that is written as well as read, and the cache over it:
 * the fixture for what the cache does with dirty folios.
 *
 *     const file = new WrittenFile({ pages: 10 });
 *     file.dirty(0, 1, 2);
 *     await file.writePages(WB_SYNC_ALL);
 *     file.written                     [0, 1, 2]: one write each, as submitted
 *
 * What is written ends in a microtask or, while `gated` says so of its page, when the test wants.
 * `stored` is what a power cut would leave: the bytes of a folio as they are when its write ends,
 * as those of a store that reads them late.
 */
import type { AddressSpace, MappingOptions } from "../../src/cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { fileWriteAndWaitRange } from "../../src/cache/filemap-flush.ts";
import { genericPerformWrite } from "../../src/cache/filemap-write.ts";
import type { Folio } from "../../src/cache/folio.ts";
import type { Kiocb } from "../../src/cache/kiocb.ts";
import { filemapWriteFolio } from "../../src/cache/mapping-folio.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import {
  doWritepages,
  folioEndWriteback,
  writeCachePages,
} from "../../src/cache/page-writeback.ts";
import { filemapReadFolio } from "../../src/cache/read-folio.ts";
import type { ReadaheadControl } from "../../src/cache/readahead.ts";
import { type BackingDevice, type Superblock, WbInode } from "../../src/cache/superblock.ts";
import {
  type SyncMode,
  WritebackControl,
  type WritebackOptions,
} from "../../src/cache/writeback-control.ts";
import { assert } from "../../src/lib/assert.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import type { Errno } from "../../src/lib/errno.ts";
import { Errseq } from "../../src/lib/errseq.ts";
import { andThen, isPromise, type MaybeAsync } from "../../src/lib/maybe.ts";
import { MIB, PAGE_BYTES } from "../../src/lib/units.ts";
import { MARK_DIRTY, MARK_TOWRITE, MARK_WRITEBACK, type Mark } from "../../src/lib/xarray.ts";
import { fillPage, ScriptedFile } from "./scripted-file.ts";

/** Answers for a folio before it is written: an errno, or what `writepage` may return. */
export type OnWritepage = (folio: Folio, wbc: WritebackControl) => MaybeAsync<Errno | undefined>;

/** The file: reads as `ScriptedFile`, save for what was written. */
class ScriptedWrites extends ScriptedFile {
  readonly sb: Superblock;
  readonly wb: WbInode;
  /** Pages in the order in which they were submitted; of a large folio the first. */
  readonly written: number[] = [];
  readonly writepagesCalls: WritebackControl[] = [];
  /** What a power cut would leave, by pages. */
  readonly stored: Map<number, Uint8Array> = new Map();
  /** A new file: pages that were never stored hold zeros, else what `ScriptedFile` says. */
  isNew = false;
  /** True for pages whose writes the test ends. */
  gated: (page: number) => boolean = () => false;
  /** Statuses with which writes of a page end, one after the other. */
  readonly writeStatuses: Map<number, Errno[]> = new Map();
  readonly held: Folio[] = [];
  onWritepage: OnWritepage = () => undefined;
  onWriteBegin: (posBytes: number) => MaybeAsync<Errno> = () => 0;

  constructor(sizeBytes: number, bdi: BackingDevice | null) {
    super(sizeBytes);
    this.sb = { wbErr: new Errseq(), inodesUnderWriteback: new Set(), bdi };
    this.wb = new WbInode(this, this.sb);
  }

  override readFolio(file: CacheFile | null, folio: Folio): MaybeAsync<Errno> {
    const pages = Array.from({ length: folio.pageCount }, (_, at) => folio.index + at);
    if (!this.isNew && !pages.some((page) => this.stored.has(page))) {
      return super.readFolio(file, folio);
    }
    for (const [at, page] of pages.entries()) {
      const into = folio.bytes.subarray(at * PAGE_BYTES, (at + 1) * PAGE_BYTES);
      if (this.isNew) into.fill(0);
      else fillPage(page, into);
      into.set(this.stored.get(page) ?? []);
    }
    void Promise.resolve().then(() => folio.endRead(true));
    return 0;
  }

  /** Leaves what was written to single reads. */
  override readahead(rac: ReadaheadControl): MaybeAsync<void> {
    return this.isNew || this.stored.size > 0 ? undefined : super.readahead(rac);
  }

  /** Submits one folio, which is locked and cleaned; not what lies behind the end of the file. */
  readonly submit = (folio: Folio): Errno => {
    const rest = this.size - folio.posBytes;
    if (rest <= 0) {
      folio.unlock();
      return 0;
    }
    if (rest < folio.sizeBytes) folio.bytes.fill(0, rest);
    folio.startWriteback();
    folio.unlock();
    this.written.push(folio.index);
    if (this.gated(folio.index)) this.held.push(folio);
    else void Promise.resolve().then(() => this.#complete(folio));
    return 0;
  };

  readonly writepage = (folio: Folio, wbc: WritebackControl): MaybeAsync<Errno> =>
    andThen(this.onWritepage(folio, wbc), (status) => status ?? this.submit(folio));

  writepages(mapping: AddressSpace, wbc: WritebackControl): MaybeAsync<Errno> {
    this.writepagesCalls.push(wbc);
    return writeCachePages(mapping, wbc, this.writepage, null);
  }

  /** Ends the writes of `pages` that are held back, by default all. */
  releaseWrites(...pages: readonly number[]): void {
    const isWanted = ({ index }: Folio): boolean => pages.length === 0 || pages.includes(index);
    const wanted = this.held.filter(isWanted);
    const rest = this.held.filter((folio) => !isWanted(folio));
    this.held.splice(0, this.held.length, ...rest);
    for (const folio of wanted) this.#complete(folio);
  }

  #complete(folio: Folio): void {
    const status = this.writeStatuses.get(folio.index)?.shift() ?? 0;
    for (let at = 0; at < folio.pageCount && status === 0; at++) {
      const bytes = folio.bytes.slice(at * PAGE_BYTES, (at + 1) * PAGE_BYTES);
      this.stored.set(folio.index + at, bytes);
    }
    folioEndWriteback(folio, status, status === 0 ? undefined : new Error("the disk is gone"));
  }

  writeBegin(
    iocb: Kiocb,
    mapping: AddressSpace,
    posBytes: number,
    lengthBytes: number,
  ): MaybeAsync<Folio | Errno> {
    return andThen(this.onWriteBegin(posBytes), (status) => {
      if (status !== 0) return status;
      const got = filemapWriteFolio(mapping, posBytes, lengthBytes, iocb.flags, iocb.signal);
      return andThen(got, (folio) => this.#fillAround(mapping, folio, posBytes, lengthBytes));
    });
  }

  /** Makes valid what the write will not: reads it, or zeroes what lies behind the end. */
  #fillAround(
    mapping: AddressSpace,
    folio: Folio | Errno,
    posBytes: number,
    lengthBytes: number,
  ): MaybeAsync<Folio | Errno> {
    if (typeof folio === "number" || folio.isUptodate) return folio;
    const from = posBytes - folio.posBytes;
    if (from === 0 && lengthBytes >= folio.sizeBytes) return folio;
    if (folio.posBytes >= this.size) {
      folio.bytes.fill(0);
      return folio;
    }
    return andThen(filemapReadFolio(mapping, null, folio), async (status) => {
      if (status !== 0) return status;
      await folio.lock();
      return folio;
    });
  }

  writeEnd(
    _iocb: Kiocb,
    _mapping: AddressSpace,
    posBytes: number,
    _lengthBytes: number,
    copiedBytes: number,
    folio: Folio,
  ): number {
    folio.markUptodate();
    folio.markDirty();
    this.size = Math.max(this.size, posBytes + copiedBytes);
    folio.unlock();
    folio.put();
    return copiedBytes;
  }
}

export interface WrittenFileOptions extends MappingOptions {
  /** Length of the file, in pages or in bytes. */
  readonly pages?: number;
  readonly sizeBytes?: number;
  readonly arenaBytes?: number;
  /** Makes what writes the file back by itself; by default nobody does. */
  readonly bdi?: (cache: PageCache) => BackingDevice;
}

/** See the head of the file. */
export class WrittenFile {
  readonly clock: VirtualClock = new VirtualClock();
  readonly cache: PageCache;
  readonly script: ScriptedWrites;
  readonly mapping: AddressSpace;
  /** An open file, the first one. */
  readonly file: CacheFile;
  /** The wbc of the last `writePages`. */
  wbc: WritebackControl = new WritebackControl({ syncMode: 0 });

  constructor({ pages = 1000, sizeBytes, arenaBytes, bdi, ...options }: WrittenFileOptions = {}) {
    this.cache = new PageCache({ clock: this.clock, arenaBytes: arenaBytes ?? 16 * MIB });
    this.script = new ScriptedWrites(sizeBytes ?? pages * PAGE_BYTES, bdi?.(this.cache) ?? null);
    this.mapping = this.cache.openMapping(this.script, this.script, {
      maxOrder: 0,
      raPages: 32,
      ...options,
    });
    this.file = openCacheFile(this.mapping);
  }

  get written(): readonly number[] {
    return this.script.written;
  }

  /** Cached pages with `mark`. */
  marked(mark: Mark): number[] {
    const { pages } = this.mapping;
    const found: number[] = [];
    for (
      let at = pages.find(0, undefined, mark);
      at !== -1;
      at = pages.find(at + 1, undefined, mark)
    )
      found.push(at);
    return found;
  }

  /** Marks of page `index`: "DIRTY", "WRITEBACK TOWRITE", "". */
  marksOf(index: number): string {
    const names = ["DIRTY", "WRITEBACK", "TOWRITE"];
    const marks = [MARK_DIRTY, MARK_WRITEBACK, MARK_TOWRITE] as const;
    return marks
      .filter((mark) => this.mapping.pages.getMark(index, mark))
      .map((mark) => names[mark])
      .join(" ");
  }

  folio(index: number): Folio {
    const folio = this.mapping.folioAt(index);
    assert(folio !== undefined, `page ${index} is cached`);
    return folio;
  }

  /** Caches page `index`, uptodate and clean, of a folio of `order`. */
  clean(index: number, order = 0): Folio {
    const cached = this.mapping.folioAt(index);
    if (cached !== undefined) return cached;
    const folio = this.cache.allocFolio(order);
    assert(folio !== null && this.mapping.addFolio(folio, index) === 0, "a folio can be added");
    fillPage(index, folio.bytes);
    folio.endRead(true);
    folio.put();
    return folio;
  }

  /** Caches `pages`, uptodate and dirty. */
  dirty(...pages: readonly number[]): void {
    for (const page of pages) this.clean(page).markDirty();
  }

  /** Puts a cached page in flight, until `releaseWrites`. */
  startWrite(index: number): Folio {
    const folio = this.clean(index);
    assert(folio.tryLock(), "nobody has locked it");
    folio.clearDirtyForIo();
    const { gated } = this.script;
    this.script.gated = () => true;
    this.script.submit(folio);
    this.script.gated = gated;
    this.script.written.pop();
    return folio;
  }

  /** The write part: `doWritepages`. */
  writePages(syncMode: SyncMode, options: Partial<WritebackOptions> = {}): MaybeAsync<Errno> {
    this.wbc = new WritebackControl({ syncMode, ...options });
    return doWritepages(this.mapping, this.wbc);
  }

  /** The data part of fsync. */
  fsync(file: CacheFile = this.file): MaybeAsync<Errno> {
    return fileWriteAndWaitRange(file, 0, Infinity);
  }

  write(posBytes: number, bytes: Uint8Array, options: Partial<Kiocb> = {}): MaybeAsync<number> {
    return genericPerformWrite({ file: this.file, posBytes, flags: 0, ...options }, bytes);
  }

  /** Lets promises and microtasks run. */
  settle(): Promise<void> {
    return this.clock.turn();
  }

  /** Nothing is locked or in flight, and all invariants hold. */
  expectAtRest(): void {
    assert(this.cache.lockedCount === 0, "no folio is locked");
    assert(this.cache.nrWriteback === 0, "no folio is in flight");
    this.cache.verify();
  }
}

/** Fails if `value` is a promise: what is cached must not wait. */
export function now<T>(value: MaybeAsync<T>): T {
  assert(!isPromise(value), "there was nothing to wait for");
  return value;
}
