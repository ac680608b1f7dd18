/**
 * `cached(store)`: any store behind the page cache, as one file without a file system.
 *
 * For code that reads a large object by ranges: reads are answered from a cache with a bound in
 * bytes, neighbouring misses become one large request, and a sequential reader is read ahead of.
 *
 *     const file = await cached(store, { cache: "64MiB" });
 *     const bytes = await file.read(offset, length, { signal });
 */
import { StoreBlockDevice } from "../block/block-device.ts";
import type { CacheFile } from "../cache/cache-file.ts";
import {
  fadvise,
  POSIX_FADV_DONTNEED,
  POSIX_FADV_NOREUSE,
  POSIX_FADV_NORMAL,
  POSIX_FADV_RANDOM,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
} from "../cache/fadvise.ts";
import { filemapRead, IOCB_NOIO, type Kiocb } from "../cache/filemap.ts";
import type { PageCache } from "../cache/page-cache.ts";
import { RawVolume } from "../fs/raw/raw-volume.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { EAGAIN, EBADF, FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import type { Store } from "../store/store.ts";
import { checkInteger, outOfRange } from "./arguments.ts";
import { makeCache } from "./make-cache.ts";
import { readErrorOf } from "./read-error.ts";
import { newBytes } from "./text.ts";
import type { VolumeStats } from "./volume.ts";

/** How a range is going to be read: the words of `posix_fadvise`. */
export type Advice = "normal" | "random" | "sequential" | "willneed" | "dontneed" | "noreuse";

const ADVICE: Readonly<Record<Advice, number>> = {
  normal: POSIX_FADV_NORMAL,
  random: POSIX_FADV_RANDOM,
  sequential: POSIX_FADV_SEQUENTIAL,
  willneed: POSIX_FADV_WILLNEED,
  dontneed: POSIX_FADV_DONTNEED,
  noreuse: POSIX_FADV_NOREUSE,
};

/** How a plain store is to be cached. */
export interface CachedOptions {
  /** Bytes of the page cache, or text such as "64MiB". Default 256 MiB, least 4 MiB. */
  readonly cache?: number | string | undefined;
  readonly clock?: Clock | undefined;
}

export class CachedFile {
  readonly sizeBytes: number;
  readonly #store: Store;
  readonly #device: StoreBlockDevice;
  readonly #cache: PageCache;
  readonly #volume: RawVolume;
  readonly #file: CacheFile;
  readonly #now: Kiocb;
  /** Reads that wait. */
  #userCount = 0;
  readonly #idleWaiters = new WaitQueue();
  #closing: Promise<void> | undefined;

  /** For `cached` alone. */
  constructor(store: Store, cache: PageCache, clock: Clock) {
    this.#store = store;
    this.#device = new StoreBlockDevice(store, { clock });
    this.#cache = cache;
    this.#volume = new RawVolume(cache, this.#device);
    this.sizeBytes = this.#volume.sizeBytes;
    this.#file = this.#volume.open();
    this.#now = { file: this.#file, posBytes: 0, flags: IOCB_NOIO, signal: undefined };
  }

  /** The bytes from `offsetBytes` on: `lengthBytes` of them, or fewer where the store ends. */
  async read(
    offsetBytes: number | bigint,
    lengthBytes: number,
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<Uint8Array> {
    const from = checkOffset(offsetBytes);
    const wanted = checkInteger(lengthBytes, "length");
    const into = newBytes(Math.max(Math.min(wanted, this.sizeBytes - from), 0));
    const got = await this.readInto(from, into, options);
    return got === into.length ? into : into.subarray(0, got);
  }

  /**
   * Fills `into` from `offsetBytes` on; returns how many bytes there were, a promise only on a
   * miss.
   */
  readInto(
    offsetBytes: number | bigint,
    into: Uint8Array,
    options?: { readonly signal?: AbortSignal | undefined },
  ): MaybeAsync<number> {
    const posBytes = checkOffset(offsetBytes);
    this.#checkOpen();
    const signal = options?.signal;
    signal?.throwIfAborted();
    if (into.length === 0) return 0;
    const got = this.#fill({ file: this.#file, posBytes, flags: 0, signal }, into, 0);
    return isPromise(got) ? this.#inUse(got) : got;
  }

  /**
   * Fills `into` with what is cached, now: the count, or `EAGAIN` (-11) if a page of it is missing.
   * Starts no request.
   */
  readSync(offsetBytes: number | bigint, into: Uint8Array): number {
    this.#checkOpen();
    if (into.length === 0) return 0;
    this.#now.posBytes = checkOffset(offsetBytes);
    const got = filemapRead(this.#now, into);
    if (isPromise(got)) throw new FsError("EIO", { syscall: "read", detail: "a NOIO read waited" });
    if (got >= 0 || got === -EAGAIN) return got;
    throw readErrorOf(this.#file, got, this.#now.posBytes, this.#store.name);
  }

  /**
   * Tells how the range will be read, as `posix_fadvise`: it changes the readahead, or drops the
   * range.
   */
  async advise(advice: Advice, offsetBytes = 0, lengthBytes = 0): Promise<void> {
    this.#checkOpen();
    const result = await fadvise(this.#file, offsetBytes, lengthBytes, ADVICE[advice]);
    if (result < 0) throw FsError.of(result, { syscall: "fadvise" });
  }

  /** Counters of the store's requests and of the cache. */
  stats(): VolumeStats {
    return { block: this.#device.stats, cache: this.#cache.stats() };
  }

  /** Waits for reads in flight and closes the store. A second call waits for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    while (this.#userCount > 0) await this.#idleWaiters.wait();
    await this.#volume.close();
    await this.#device.close();
    await this.#store.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #inUse(reading: Promise<number>): Promise<number> {
    this.#userCount++;
    try {
      return await reading;
    } finally {
      this.#userCount--;
      if (this.#userCount === 0) this.#idleWaiters.wakeAll();
    }
  }

  #fill(iocb: Kiocb, into: Uint8Array, filled: number): MaybeAsync<number> {
    const got = filemapRead(iocb, filled === 0 ? into : into.subarray(filled));
    if (isPromise(got)) return got.then((count) => this.#filled(iocb, into, filled, count));
    return this.#filled(iocb, into, filled, got);
  }

  #filled(iocb: Kiocb, into: Uint8Array, filled: number, got: number): MaybeAsync<number> {
    if (got < 0) {
      iocb.signal?.throwIfAborted();
      throw readErrorOf(this.#file, got, iocb.posBytes, this.#store.name);
    }
    const total = filled + got;
    if (got === 0 || total === into.length) return total;
    return this.#fill(iocb, into, total);
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw FsError.of(-EBADF, { syscall: "read" });
  }
}

/** Opens `store`, which the file owns from now on, behind a page cache of its own. */
export async function cached(store: Store, options: CachedOptions = {}): Promise<CachedFile> {
  const clock = options.clock ?? realClock;
  return new CachedFile(store, makeCache(options.cache, clock), clock);
}

function checkOffset(offset: number | bigint): number {
  const isExact = typeof offset === "bigint" && BigInt.asUintN(53, offset) === offset;
  if (typeof offset === "bigint" && !isExact) {
    throw outOfRange("offset", `>= 0 && <= ${Number.MAX_SAFE_INTEGER}`, offset);
  }
  return checkInteger(typeof offset === "bigint" ? Number(offset) : offset, "offset");
}
