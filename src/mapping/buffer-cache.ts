/**
 * BufferCache: the blocks of a device, cached one by one in the device's own address space. The
 * metadata of a file system lies here: superblocks, inode tables, directories, extent blocks.
 *
 *     peek(9)      cached?  the buffer, now; else undefined              no promise, no allocation
 *     bread(9)     cached?  the buffer, held; else a promise of it          brelse gives it back
 *     breadahead   8 9 10 11 12 -> 8 is cached, 11 is in flight             R[9-10] R[12]
 *
 * Only blocks that were asked for are read, not the folios they lie in:
 *
 *     blocks of 1 KiB     folio of 4 KiB = 4 buffers
 *     blocks of 4 KiB     folio of 4 KiB = 1 buffer
 *     blocks of 64 KiB    folio of order 4 = 1 buffer
 *
 *  1. A block is read by one bio at a time; who else wants it waits for that one.
 *  2. A held buffer, and one in flight, stays cached: `tryToFreeBuffers` refuses its folio.
 *  3. A failed read leaves the buffer as it was, and the next `bread` tries again. A failed
 *     readahead is no error of anybody: who waited for it reads himself.
 *  4. Blocks from `blockCount` on do not exist, also where the last folio has room for them.
 *
 * Blocks made dirty with `BufferHead.markDirty` are written by the `writepages` of the address
 * space, as those of a file. A journal keeps its own account of what it has changed, and writes
 * that past the cache.
 *
 * After `__bread_gfp`, `__breadahead`, `clean_bdev_aliases` and `block/fops.c` of Linux.
 */
import { Bio, REQ_META, REQ_OP_READ, REQ_RAHEAD } from "../block/bio.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { AddressSpace } from "../cache/address-space.ts";
import type { Folio } from "../cache/folio.ts";
import type { PageCache } from "../cache/page-cache.ts";
import { assert } from "../lib/assert.ts";
import { EINTR, ENOMEM, type Errno, FsError } from "../lib/errno.ts";
import { AsyncRwLock, WaitQueue } from "../lib/locks.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { blockOfByte, byteOfBlock, FILE_BYTES_MAX, KIB, PAGE_BYTES } from "../lib/units.ts";
import {
  type BufferHead,
  blockInvalidateFolio,
  blockIsPartiallyUptodate,
  buffersOf,
  createEmptyBuffers,
  tryToFreeBuffers,
} from "./buffer.ts";
import { cleanAlias, writeBufferIfDirty } from "./buffer-alias.ts";
import { completionsOf } from "./completion.ts";
import type { DeviceBuffers, GetBlock } from "./get-block.ts";
import { mpageWritepages } from "./mpage-write.ts";
import { blockReadFullFolio } from "./read-full-folio.ts";

/** Blocks for which the reserve has room at least: more than one operation looks at. */
const RESERVE_BLOCKS = 16;
/** Largest block of a file system that is read here. */
const BLOCK_BYTES_MAX = 64 * KIB;

/** See the head of the file (`bd_mapping`). */
export class BufferCache implements DeviceBuffers {
  /** The device's address space: page n holds the bytes of the device from 4096 * n on. */
  readonly mapping: AddressSpace;
  readonly blockBytes: number;
  /** Whole blocks that the device has, as far as a cache reaches (2^44 bytes). */
  readonly blockCount: number;
  readonly #device: BlockDevice;
  readonly #order: number;
  readonly #pagesPerFolio: number;
  readonly #blocksPerFolio: number;
  #bioCount = 0; // In flight.
  #isClosed = false;
  readonly #idleWaiters = new WaitQueue();

  /** `blockBytes` is a power of two from 1 KiB to 64 KiB. */
  constructor(cache: PageCache, bdev: BlockDevice, blockBytes: number) {
    assert(
      blockBytes >= KIB && blockBytes <= BLOCK_BYTES_MAX && (blockBytes & (blockBytes - 1)) === 0,
      "a block is a power of two from 1 KiB to 64 KiB",
    );
    const folioBytes = Math.max(PAGE_BYTES, blockBytes);
    const cachedBytes = Math.min(bdev.sizeBytes, FILE_BYTES_MAX);
    this.blockBytes = blockBytes;
    this.blockCount = blockOfByte(cachedBytes, blockBytes);
    this.#device = bdev;
    this.#pagesPerFolio = folioBytes / PAGE_BYTES;
    this.#blocksPerFolio = folioBytes / blockBytes;
    this.#order = Math.log2(this.#pagesPerFolio);
    cache.arena.reserveAtLeast(RESERVE_BLOCKS * this.#pagesPerFolio);
    const size = byteOfBlock(this.blockCount, blockBytes);
    const getBlock = this.#blkdevGetBlock;
    this.mapping = cache.openMapping(
      { ino: 0, size, blockBytes, rwsem: new AsyncRwLock() },
      {
        readFolio: (_file, folio) => blockReadFullFolio(folio, getBlock),
        writepages: (mapping, wbc) => mpageWritepages(mapping, wbc, getBlock),
        isPartiallyUptodate: blockIsPartiallyUptodate,
        releaseFolio: tryToFreeBuffers,
        invalidateFolio: blockInvalidateFolio,
      },
      { minOrder: this.#order, maxOrder: this.#order, stableWrites: bdev.stableWrites },
    );
  }

  /**
   * The buffer of block `blocknr` if its data is cached, else `undefined` (`sb_find_get_block`).
   *
   * It is not held: its data may be used until the caller's stretch of code ends. Never waits,
   * makes no promise and allocates nothing. Counts as a use of the block for reclaim.
   */
  peek(blocknr: number): BufferHead | undefined {
    if (!(blocknr >= 0 && blocknr < this.blockCount)) return undefined;
    const folio = this.mapping.folioAt(this.#indexOf(blocknr));
    if (folio === undefined || folio.private === null) return undefined;
    const buffer = (folio.private as readonly BufferHead[])[blocknr % this.#blocksPerFolio]!;
    if (!buffer.isUptodate) return undefined;
    const { cache } = this.mapping;
    cache.counters.metadataHits++;
    cache.lru.markAccessed(folio);
    return buffer;
  }

  /**
   * The buffer of block `blocknr` with its data, read if it is not cached (`bread`). It is held,
   * so it stays where it is until `brelse`. The reading is submitted when this returns.
   *
   * @throws {FsError} naming the block: `EIO` if it cannot be read or the device has no such
   *   block, or the errno of the device; `ENOMEM` if there is no memory for it; `EBADF` after
   *   `close`
   * @throws the reason of `signal` while it waits; the read goes on and serves others
   */
  bread(blocknr: number, signal?: AbortSignal): MaybeAsync<BufferHead> {
    const buffer = this.peek(blocknr);
    if (buffer === undefined) return this.#breadSlow(blocknr, signal, undefined);
    buffer.hold();
    return buffer;
  }

  /**
   * As `bread`, but never waits for memory: where there is none `ENOMEM` comes at once. It takes
   * the last of the reserve, of which `bread` leaves one half, if `mayUseReserve`.
   */
  breadIfRoom(
    blocknr: number,
    mayUseReserve: boolean,
    signal?: AbortSignal,
  ): MaybeAsync<BufferHead> {
    const buffer = this.peek(blocknr);
    if (buffer === undefined) {
      const keepFrames = mayUseReserve ? 0 : this.mapping.cache.arena.reserveFrames / 2;
      return this.#breadSlow(blocknr, signal, keepFrames);
    }
    buffer.hold();
    return buffer;
  }

  /** Gives back a buffer that `bread` returned (`brelse`). */
  brelse(buffer: BufferHead): void {
    buffer.release();
  }

  /**
   * The buffer of block `blocknr` for somebody who fills it anew: not read, zeros where it was not
   * cached (`sb_getblk`). It is not held. `undefined` while a read of it is under way, where memory
   * is short, and for a block that does not exist. Never waits.
   */
  getblk(blocknr: number): BufferHead | undefined {
    if (!(blocknr >= 0 && blocknr < this.blockCount) || this.#isClosed) return undefined;
    let buffer = this.#find(blocknr);
    if (buffer === undefined) {
      const folio = this.mapping.cache.allocFolio(this.#order);
      if (folio === null) return undefined;
      this.#add(folio, blocknr);
      buffer = this.#find(blocknr)!;
    }
    if (buffer.isLocked) return undefined;
    if (!buffer.isUptodate) {
      buffer.data.fill(0);
      buffer.markUptodate();
    }
    return buffer;
  }

  /**
   * Starts to read the blocks `first .. first + count` that are neither cached nor in flight
   * (`breadahead`): one bio for each run of them. A hint: blocks that do not exist are left out,
   * and it ends early where memory is short. Never waits or fails.
   */
  breadahead(first: number, count: number): void {
    const end = Math.min(first + count, this.blockCount);
    let run: BufferHead[] = [];
    for (let blocknr = Math.max(0, first); blocknr < end && !this.#isClosed; blocknr++) {
      let buffer = this.#find(blocknr);
      if (buffer === undefined) {
        const folio = this.mapping.cache.allocForReadahead(this.#order, this.#order);
        if (folio === null) break;
        this.#add(folio, blocknr);
        buffer = this.#find(blocknr)!;
      }
      if (buffer.isLocked || buffer.isUptodate) {
        this.#submit(run, REQ_META | REQ_RAHEAD);
        run = [];
      } else {
        take(buffer);
        run.push(buffer);
      }
    }
    this.#submit(run, REQ_META | REQ_RAHEAD);
  }

  /** See `DeviceBuffers.cleanAliases`. At once if none of the blocks is dirty or being written. */
  cleanAliases(first: number, count: number): MaybeAsync<void> {
    const end = Math.min(first + count, this.blockCount);
    for (let blocknr = Math.max(0, first); blocknr < end; blocknr++) {
      const folio = this.mapping.folioAt(this.#indexOf(blocknr));
      const buffer = folio && buffersOf(folio)?.[blocknr % this.#blocksPerFolio];
      const cleaned = buffer && cleanAlias(buffer);
      if (cleaned) return cleaned.then(() => this.cleanAliases(blocknr + 1, end - blocknr - 1));
    }
  }

  /** See `DeviceBuffers.writeIfDirty`. */
  writeIfDirty(blocknr: number): void {
    if (!(blocknr >= 0 && blocknr < this.blockCount)) return;
    const folio = this.mapping.folioAt(this.#indexOf(blocknr));
    const buffer = folio && buffersOf(folio)?.[blocknr % this.#blocksPerFolio];
    if (buffer) writeBufferIfDirty(buffer);
  }

  /** Waits for reads in flight and drops all blocks. Nobody may hold a buffer or wait for one. */
  async close(): Promise<void> {
    this.#isClosed = true;
    while (this.#bioCount > 0) await this.#idleWaiters.wait();
    await this.mapping.cache.closeMapping(this.mapping);
  }

  /** With `keepFrames`, which it leaves of the reserve, it does not wait for memory. */
  async #breadSlow(
    blocknr: number,
    signal: AbortSignal | undefined,
    keepFrames: number | undefined,
  ): Promise<BufferHead> {
    if (this.#isClosed) throw this.#error("EBADF", blocknr);
    const isThere = Number.isInteger(blocknr) && blocknr >= 0 && blocknr < this.blockCount;
    if (!isThere) throw this.#error("EIO", blocknr);
    signal?.throwIfAborted();
    this.mapping.cache.counters.metadataMisses++;
    let buffer = this.#find(blocknr);
    while (buffer === undefined) {
      const allocated = this.#allocate(signal, keepFrames);
      const folio = isPromise(allocated) ? await allocated : allocated;
      if (folio === -EINTR) signal?.throwIfAborted();
      if (typeof folio === "number") throw FsError.of(folio, { detail: this.#nameOf(blocknr) });
      if (this.#isClosed) {
        folio.put();
        throw this.#error("EBADF", blocknr);
      }
      this.#add(folio, blocknr);
      buffer = this.#find(blocknr);
    }
    buffer.hold();
    try {
      await this.#load(buffer, signal);
    } catch (thrown) {
      buffer.release();
      throw thrown;
    }
    return buffer;
  }

  #allocate(
    signal: AbortSignal | undefined,
    keepFrames: number | undefined,
  ): MaybeAsync<Folio | Errno> {
    const { cache } = this.mapping;
    // Write-out may need this block in order to make memory free: it must not wait for that.
    const half = cache.arena.reserveFrames / 2;
    const folio = cache.allocFolioForWriteback(this.#order, keepFrames ?? half);
    if (folio !== null) return folio;
    return keepFrames === undefined ? cache.allocFolioWait(this.#order, signal) : -ENOMEM;
  }

  /**
   * Makes `buffer` uptodate: by a read that others have begun, if that goes well, else by its
   * own.
   */
  async #load(buffer: BufferHead, signal: AbortSignal | undefined): Promise<void> {
    while (!buffer.isUptodate) {
      if (!buffer.isLocked) {
        take(buffer);
        this.#submit([buffer], REQ_META);
      }
      await buffer.waitUnlocked(signal);
      const failed = buffer.readFailure;
      if (failed === null) continue; // Read, being read again, or a readahead that failed.
      const detail = this.#nameOf(buffer.blocknr);
      throw FsError.of(failed.status, { syscall: "read", detail, cause: failed.cause });
    }
  }

  /**
   * Reads the buffers of `run`, taken by `take` and adjacent on the device, in one bio if that
   * has room.
   */
  #submit(run: readonly BufferHead[], flags: number): void {
    for (let at = 0; at < run.length; ) at = this.#submitOne(run, at, flags);
  }

  /**
   * Submits a bio for the buffers from `from` on, and returns the index of the first it has no
   * room for.
   */
  #submitOne(run: readonly BufferHead[], from: number, flags: number): number {
    const startBytes = byteOfBlock(run[from]!.blocknr, this.blockBytes);
    const bio = new Bio(REQ_OP_READ, flags, startBytes, this.#endRead);
    let at = from;
    while (at < run.length) {
      const { folio, offsetBytes } = run[at]!;
      let end = at + 1;
      while (end < run.length && run[end]!.folio === folio) end++;
      const endBytes = offsetBytes + byteOfBlock(end - at, this.blockBytes);
      if (!bio.addVector(folio.bytes.subarray(offsetBytes, endBytes))) break;
      at = end;
    }
    bio.private = run.slice(from, at);
    this.#bioCount++;
    this.mapping.cache.readStarted();
    this.#device.submitBio(bio);
    return at;
  }

  readonly #endRead = (bio: Bio): void => {
    const buffers = bio.private as BufferHead[];
    completionsOf(this.mapping.cache.clock).add(() => this.#finish(buffers, bio), buffers.length);
  };

  #finish(buffers: readonly BufferHead[], bio: Bio): void {
    for (const buffer of buffers) {
      if (bio.status === 0) buffer.markUptodate();
      else if ((bio.flags & REQ_RAHEAD) === 0) buffer.readFailure = bio;
      buffer.unlock();
      buffer.release();
    }
    this.#bioCount--;
    if (this.#bioCount === 0) this.#idleWaiters.wakeAll();
    this.mapping.cache.readEnded();
  }

  /** The file is the device itself (`blkdev_get_block`). */
  readonly #blkdevGetBlock: GetBlock = (_inode, fileBlock, map) => {
    map.isMapped = true;
    map.blocknr = fileBlock;
    map.bdev = this.#device;
    return 0;
  };

  #indexOf(blocknr: number): number {
    return Math.floor(blocknr / this.#blocksPerFolio) * this.#pagesPerFolio;
  }

  /** The buffer of `blocknr` in whatever state, if its folio is cached. */
  #find(blocknr: number): BufferHead | undefined {
    const folio = this.mapping.folioAt(this.#indexOf(blocknr));
    return folio && this.#buffersOf(folio)[blocknr % this.#blocksPerFolio];
  }

  /** The buffers of `folio`, mapped as far as the device reaches. */
  #buffersOf(folio: Folio): readonly BufferHead[] {
    const present = buffersOf(folio);
    if (present !== null) return present;
    const buffers = createEmptyBuffers(folio, this.blockBytes);
    const firstBlock = blockOfByte(folio.posBytes, this.blockBytes);
    for (let at = 0; at < buffers.length && firstBlock + at < this.blockCount; at++) {
      buffers[at]!.map(this.#device, firstBlock + at);
    }
    return buffers;
  }

  /** Puts a new folio where `blocknr` belongs, or drops it if another came first. */
  #add(folio: Folio, blocknr: number): void {
    if (this.mapping.addFolio(folio, this.#indexOf(blocknr)) === 0) folio.unlock();
    folio.put();
  }

  #nameOf(blocknr: number): string {
    return `block ${blocknr} of ${this.#device.name}`;
  }

  #error(code: "EIO" | "EBADF", blocknr: number): FsError {
    return new FsError(code, { syscall: "read", detail: this.#nameOf(blocknr) });
  }
}

/** Locks a buffer for a read and keeps it until that ends. */
function take(buffer: BufferHead): void {
  buffer.lock();
  buffer.hold();
}
