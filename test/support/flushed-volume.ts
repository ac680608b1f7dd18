/**
 * FlushedVolume: several files on one slow or failing device, with the cache and the flusher over
 * them: the fixture for what is written though nobody asks for it.
 *
 *     const volume = new FlushedVolume();
 *     const a = volume.openFile("a");
 *     a.dirty(0, 3);
 *     await volume.clock.advance(30_000);
 *     volume.log                       ["a 0-1"]: runs of pages, one for each call of `writepages`
 *
 * A write ends in a microtask; with `latencyMs` one after the other, each after so long; while
 * `isGated`, when the test says so.
 */
import type { AddressSpace, AddressSpaceOperations } from "../../src/cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { genericPerformWrite } from "../../src/cache/filemap-write.ts";
import { BdiWriteback, type FlusherOptions } from "../../src/cache/flusher.ts";
import type { Folio } from "../../src/cache/folio.ts";
import type { Inode } from "../../src/cache/inode.ts";
import type { Kiocb } from "../../src/cache/kiocb.ts";
import { filemapWriteFolio } from "../../src/cache/mapping-folio.ts";
import { PageCache, type PageCacheOptions } from "../../src/cache/page-cache.ts";
import { folioEndWriteback, writeCachePages } from "../../src/cache/page-writeback.ts";
import { type Superblock, WbInode } from "../../src/cache/superblock.ts";
import type { WritebackControl } from "../../src/cache/writeback-control.ts";
import { assert } from "../../src/lib/assert.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import type { Errno } from "../../src/lib/errno.ts";
import { Errseq } from "../../src/lib/errseq.ts";
import { AsyncRwLock } from "../../src/lib/locks.ts";
import { andThen, type MaybeAsync } from "../../src/lib/maybe.ts";
import { MIB, PAGE_BYTES } from "../../src/lib/units.ts";

export interface FlushedVolumeOptions
  extends Omit<FlusherOptions, "cache">,
    Omit<PageCacheOptions, "clock"> {
  readonly onWriteError?: "drop" | "keep";
  /** A cache that another volume uses too. */
  readonly cache?: PageCache;
}

/** See the head of the file. */
export class FlushedVolume implements Superblock {
  readonly clock: VirtualClock;
  readonly cache: PageCache;
  readonly bdi: BdiWriteback;
  readonly wbErr: Errseq = new Errseq();
  readonly inodesUnderWriteback: Set<WbInode> = new Set();
  readonly onWriteError: "drop" | "keep";
  /** "a 0-9": pages written in one call; "inode a"; "sync", "sync and wait"; as they come. */
  readonly log: string[] = [];
  latencyMs = 0;
  isGated = false;
  /** What a write of a page ends with. */
  statusOf: (file: FlushedFile, page: number) => Errno = () => 0;
  readonly #held: (() => void)[] = [];
  #lastEndMs = 0;

  constructor(options: FlushedVolumeOptions = {}) {
    this.cache = options.cache ?? new PageCache({ ...options, clock: new VirtualClock() });
    assert(this.cache.clock instanceof VirtualClock, "tests own the time");
    this.clock = this.cache.clock;
    this.onWriteError = options.onWriteError ?? "drop";
    this.bdi = new BdiWriteback({ ...options, cache: this.cache });
  }

  openFile(name: string, sizePages = 100_000): FlushedFile {
    return new FlushedFile(this, name, sizePages * PAGE_BYTES);
  }

  /** The part of the log since the last call. */
  takeLog(): string[] {
    return this.log.splice(0);
  }

  writeInode(inode: Inode): Errno {
    assert(inode instanceof FlushedFile, "all inodes are files of the fixture");
    this.log.push(`inode ${inode.name}`);
    return 0;
  }

  syncFs(isWaiting: boolean): Errno {
    this.log.push(isWaiting ? "sync and wait" : "sync");
    return 0;
  }

  /** Calls `end` when the device has written something. */
  submit(end: () => void): void {
    if (this.isGated) {
      this.#held.push(end);
    } else if (this.latencyMs === 0) {
      this.clock.microtask(end);
    } else {
      this.#lastEndMs = Math.max(this.#lastEndMs, this.clock.nowMs()) + this.latencyMs;
      this.clock.setTimer(this.#lastEndMs - this.clock.nowMs(), end);
    }
  }

  /** Ends the first `count` writes that are held back. */
  release(count: number = this.#held.length): void {
    for (const end of this.#held.splice(0, count)) end();
  }

  /** Lets promises run, some turns of the loop. */
  async settle(turns = 3): Promise<void> {
    for (let turn = 0; turn < turns; turn++) await this.clock.turn();
  }

  /** Nothing is dirty, in flight or locked, nobody waits, and no timer is left. */
  expectIdle(): void {
    const { cache, bdi } = this;
    assert(cache.nrDirty === 0 && bdi.nrDirty === 0, "nothing is dirty");
    assert(cache.nrWriteback === 0 && bdi.nrWriteback === 0, "nothing is in flight");
    assert(cache.lockedCount === 0, "nothing is locked");
    assert(bdi.inodes.count === 0 && !bdi.isBusy, "nothing is to be done");
    assert(this.clock.pendingTimers === 0, "no timer is left");
    this.verify();
  }

  verify(): void {
    this.cache.verify();
    this.bdi.inodes.verify();
  }
}

/** One file of the volume. */
export class FlushedFile implements Inode, AddressSpaceOperations {
  readonly ino: number;
  readonly name: string;
  size: number;
  readonly blockBytes: number = PAGE_BYTES;
  readonly rwsem: AsyncRwLock = new AsyncRwLock();
  readonly wb: WbInode;
  readonly mapping: AddressSpace;
  readonly file: CacheFile;
  /** Called for each folio before it is written; a number is the answer of `writepage`. */
  onWritepage: (folio: Folio, wbc: WritebackControl) => MaybeAsync<Errno | undefined> = () =>
    undefined;
  readonly #volume: FlushedVolume;
  #openRun: { first: number; last: number; at: number } | null = null;

  constructor(volume: FlushedVolume, name: string, sizeBytes: number) {
    this.#volume = volume;
    this.name = name;
    this.ino = name.charCodeAt(0);
    this.size = sizeBytes;
    this.wb = new WbInode(this, volume);
    const { onWriteError } = volume;
    const options = { maxOrder: 0, raPages: 32, onWriteError };
    this.mapping = volume.cache.openMapping(this, this, options);
    this.file = openCacheFile(this.mapping);
  }

  readFolio(_file: CacheFile | null, folio: Folio): Errno {
    folio.bytes.fill(folio.index & 0xff);
    this.#volume.submit(() => folio.endRead(true));
    return 0;
  }

  writepages(mapping: AddressSpace, wbc: WritebackControl): MaybeAsync<Errno> {
    this.#openRun = null;
    return writeCachePages(mapping, wbc, (folio) => this.#writepage(folio, wbc), null);
  }

  #writepage(folio: Folio, wbc: WritebackControl): MaybeAsync<Errno> {
    return andThen(this.onWritepage(folio, wbc), (status) => {
      if (status !== undefined) return status;
      this.#noteWritten(folio.index);
      folio.startWriteback();
      folio.unlock();
      const volume = this.#volume;
      volume.submit(() => folioEndWriteback(folio, volume.statusOf(this, folio.index)));
      return 0;
    });
  }

  #noteWritten(page: number): void {
    const { log } = this.#volume;
    const run = this.#openRun;
    if (run !== null && run.last + 1 === page) {
      run.last = page;
    } else {
      this.#openRun = { first: page, last: page, at: log.length };
    }
    const { first, last, at } = this.#openRun!;
    log[at] = first === last ? `${this.name} ${first}` : `${this.name} ${first}-${last}`;
  }

  writeBegin(
    iocb: Kiocb,
    mapping: AddressSpace,
    posBytes: number,
    lengthBytes: number,
  ): MaybeAsync<Folio | Errno> {
    return filemapWriteFolio(mapping, posBytes, lengthBytes, iocb.flags, iocb.signal);
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

  /** The folio of page `index`, uptodate; memory is there for it. */
  clean(index: number): Folio {
    const cached = this.mapping.folioAt(index);
    if (cached !== undefined) return cached;
    const folio = this.#volume.cache.allocFolio(0);
    assert(folio !== null && this.mapping.addFolio(folio, index) === 0, "a folio can be added");
    folio.endRead(true);
    folio.put();
    return folio;
  }

  /** Makes pages dirty, whatever the limits say. */
  dirty(...pages: readonly number[]): void {
    for (const page of pages) this.clean(page).markDirty();
  }

  /** Makes the pages `first .. first + count` dirty. */
  dirtyRun(first: number, count: number): void {
    for (let page = first; page < first + count; page++) this.clean(page).markDirty();
  }

  /** Writes whole pages as a program does. */
  write(page: number, count = 1, options: Partial<Kiocb> = {}): MaybeAsync<number> {
    const iocb = { file: this.file, posBytes: page * PAGE_BYTES, flags: 0, ...options };
    return genericPerformWrite(iocb, new Uint8Array(count * PAGE_BYTES));
  }
}

/** The smallest arena that is supported. */
export const ARENA_BYTES_MIN: number = 4 * MIB;
