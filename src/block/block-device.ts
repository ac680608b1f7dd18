/**
 * BlockDevice: what bios are submitted to; and `StoreBlockDevice`, the one that ends at a store.
 *
 *     submitBio --(plug)--> split --> queue: merged, sorted --> queueDepth in flight --> store
 *              \--> flush, PREFLUSH, FUA: flush machine, with the data through the queue
 *
 * Bios are dispatched in a microtask, so what one stretch of code submits is sorted by address
 * and merged before the first byte moves. Order is promised only by completion: two bios in
 * flight at once over the same bytes are the submitter's mistake, as they are in the kernel.
 *
 * Invariants:
 *
 *  1. No `endIo` runs inside `submitBio` (rule JS-3); each runs once, whatever the store or
 *     another `endIo` throws (rule JS-8). No rejection goes unhandled.
 *  2. Reads and writes go straight between the store and the bios' memory.
 *  3. A FLUSH or PREFLUSH covers the writes that had ended when it was submitted; a bio with FUA
 *     has ended only when it is durable. Stores without a volatile cache need neither.
 *  4. A bad block fails those who wait for it, not those who were merged with them: a failed read
 *     or write of several bios is tried once more for each, save for readahead.
 *
 * After `block/blk-core.c`, `block/blk-mq.c` and
 * `Documentation/block/writeback_cache_control.rst` of Linux. Left out: several hardware queues,
 * polling, throttling, timeouts (a store's own business).
 */
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { EBADF, EIO, EROFS, type Errno, errnoOf, FsError } from "../lib/errno.ts";
import { mutants } from "../lib/mutants.ts";
import { MIB, PAGE_BYTES, SECTOR_BYTES } from "../lib/units.ts";
import type { Store } from "../store/store.ts";
import {
  Bio,
  cloneBio,
  endBio,
  REQ_FUA,
  REQ_META,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_PREFLUSH,
  REQ_RAHEAD,
  REQ_SYNC,
  type RequestOp,
} from "./bio.ts";
import { type BlockStats, statsOf, zeroBlockStats } from "./block-stats.ts";
import { FlushMachine } from "./flush.ts";
import { splitBio } from "./merge.ts";
import type { Plug, PlugTarget } from "./plug.ts";
import { BlockRequest } from "./request.ts";
import { RequestQueue } from "./request-queue.ts";

/** A request as the test hook `log` sees it when it is dispatched. */
export interface LoggedRequest {
  readonly op: RequestOp;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** An array of bytes that takes bios (`struct block_device`). */
export interface BlockDevice {
  /** For messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** The sector in which partition tables on it count: 512 or 4096. */
  readonly logicalBlockBytes: number;
  readonly isReadOnly: boolean;
  /** Pages of the largest request; readahead may grow a single large read to it (`io_pages`). */
  readonly ioPages: number;
  /** Memory of a write must not change until the bio ends (`BLK_FEAT_STABLE_WRITES`). */
  readonly stableWrites: boolean;
  /** The first write to a place makes it, which costs; see `StoreCapabilities`. */
  readonly allocatesOnWrite?: boolean;
  readonly stats: BlockStats;
  /** Test hook: called with each request at its dispatch. */
  log?: ((request: LoggedRequest) => void) | undefined;

  /**
   * Takes `bio` over and ends it later, never before it has returned (`submit_bio`).
   *
   * With a `plug` the bio waits there for `plug.flush()`. Bios with FLUSH, PREFLUSH or FUA pass
   * by the plug. A bio ends with `-EIO` if it reaches past the device's end, with `-EROFS` if it
   * would change a read-only device, with `-EBADF` after `close`, and with the errno of what the
   * store throws, which is then its `cause`. Never throws for what may happen. Memory is borrowed
   * until `endIo`.
   */
  submitBio(bio: Bio, plug?: Plug): void;
}

/** How a `StoreBlockDevice` is to work. */
export interface StoreBlockDeviceOptions {
  readonly clock: Clock;
  /** Requests in flight at most, from 1 on; 16 if left out. */
  readonly queueDepth?: number | undefined;
  /** Largest request in bytes, a multiple of the page; 1 MiB if left out. */
  readonly maxRequestBytes?: number | undefined;
  /** 512 if left out. */
  readonly logicalBlockBytes?: number | undefined;
}

const QUEUE_DEPTH = 16;
/** Vectors of one request: what one `readv` takes on Linux (IOV_MAX). */
const REQUEST_MAX_VECTORS = 1024;

/** See the head of the file. Does not close the store: who opened it does. */
export class StoreBlockDevice implements BlockDevice, PlugTarget {
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly isReadOnly: boolean;
  readonly ioPages: number;
  readonly stableWrites: boolean;
  readonly allocatesOnWrite: boolean;
  readonly stats: BlockStats = zeroBlockStats();
  log?: ((request: LoggedRequest) => void) | undefined;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #queueDepth: number;
  readonly #maxRequestBytes: number;
  readonly #queue: RequestQueue;
  readonly #flushMachine: FlushMachine;
  #inFlight = 0;
  #unfinished = 0; // Bios in the queue or in flight, flush sequences, completions not yet told.
  #isDispatchDue = false;
  #isClosed = false;
  #idleWaiters: (() => void)[] = [];

  constructor(store: Store, options: StoreBlockDeviceOptions) {
    const maxRequestBytes = options.maxRequestBytes ?? MIB;
    assert(maxRequestBytes > 0 && maxRequestBytes % PAGE_BYTES === 0, "requests are whole pages");
    this.name = store.name;
    this.sizeBytes = store.sizeBytes;
    this.logicalBlockBytes = options.logicalBlockBytes ?? SECTOR_BYTES;
    this.isReadOnly = !store.capabilities.canWrite;
    this.ioPages = maxRequestBytes / PAGE_BYTES;
    this.stableWrites = store.capabilities.stableWrites;
    this.allocatesOnWrite = store.capabilities.allocatesOnWrite ?? false;
    this.#store = store;
    this.#clock = options.clock;
    this.#queueDepth = options.queueDepth ?? QUEUE_DEPTH;
    assert(this.#queueDepth >= 1, "a device has at least one request in flight");
    this.#maxRequestBytes = maxRequestBytes;
    this.#queue = new RequestQueue({ maxRequestBytes, maxVectors: REQUEST_MAX_VECTORS });
    this.#flushMachine = new FlushMachine(() => this.#flushStore());
  }

  submitBio(bio: Bio, plug?: Plug): void {
    const refusal = this.#refusalOf(bio);
    if (refusal !== 0) {
      this.#endLater(bio, refusal);
      return;
    }
    const flushFlags = this.#flushFlagsOf(bio);
    if (bio.lengthBytes === 0 && (flushFlags & REQ_PREFLUSH) === 0) {
      this.#endLater(bio, 0); // Nothing to write, and FUA is about what is written.
    } else if (flushFlags !== 0) {
      statsOf(this.stats, REQ_OP_FLUSH).bios++;
      this.#unfinished++;
      void this.#runFlushSequence(bio, flushFlags);
    } else if (plug === undefined) {
      this.queueBio(bio);
    } else {
      plug.add(this, bio);
      if (plug.length === 1) this.#watchPlug(plug);
    }
  }

  /** Puts a bio that was checked into the queue: for plugs, and for this class. */
  queueBio(bio: Bio): void {
    const stats = statsOf(this.stats, bio.op);
    for (const part of splitBio(bio, this.#maxRequestBytes, this.#clock)) {
      this.#unfinished++;
      stats.bios++;
      stats.merges += this.#queue.add(part);
    }
    this.#dispatchLater();
  }

  /** Resolves when nothing is queued or in flight. What still waits in a plug does not count. */
  drain(): Promise<void> {
    if (this.#unfinished === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Takes no more bios, and resolves when those taken have ended. A second call waits likewise. */
  close(): Promise<void> {
    this.#isClosed = true;
    return this.drain();
  }

  /** 0, or the negative errno with which `bio` ends unheard (`submit_bio_noacct`). */
  #refusalOf(bio: Bio): Errno {
    assert(!bio.isDone, "a bio is submitted once");
    if (this.#isClosed) return -EBADF;
    if (bio.op === REQ_OP_FLUSH) return 0;
    if (bio.offsetBytes < 0 || bio.endBytes > this.sizeBytes) return -EIO;
    if (bio.op !== REQ_OP_READ && this.isReadOnly) return -EROFS;
    return 0;
  }

  /**
   * What of FLUSH, PREFLUSH and FUA the store leaves to us: `REQ_PREFLUSH`, `REQ_FUA`, both or 0.
   */
  #flushFlagsOf(bio: Bio): number {
    if (bio.op === REQ_OP_READ || !this.#store.capabilities.hasVolatileCache) return 0;
    if (bio.op === REQ_OP_FLUSH) return REQ_PREFLUSH;
    return bio.flags & (REQ_PREFLUSH | REQ_FUA);
  }

  #endLater(bio: Bio, status: Errno): void {
    this.#unfinished++;
    this.#clock.microtask(() => {
      endBio(bio, status, undefined, this.#clock);
      this.#finish(1);
    });
  }

  /** Flush, write, flush, as far as `flushFlags` ask for it (`blk_insert_flush`). */
  async #runFlushSequence(bio: Bio, flushFlags: number): Promise<void> {
    let status = 0;
    let cause: unknown;
    try {
      if ((flushFlags & REQ_PREFLUSH) !== 0) await this.#flushMachine.flush();
      if (bio.lengthBytes > 0) {
        const isFua = (flushFlags & REQ_FUA) !== 0;
        const canFua = bio.op === REQ_OP_WRITE && this.#store.capabilities.hasFua;
        await this.#writeWithin(bio, isFua && canFua ? REQ_FUA : 0);
        if (isFua && !canFua) await this.#flushMachine.flush();
      }
    } catch (thrown) {
      status = errnoOf(thrown);
      cause = thrown;
    }
    endBio(bio, status, cause, this.#clock);
    this.#finish(1);
  }

  /** The write of a flush sequence, through the queue. Rejects with what the store threw. */
  #writeWithin(bio: Bio, addedFlags: number): Promise<void> {
    const flags = (bio.flags & ~(REQ_PREFLUSH | REQ_FUA)) | addedFlags;
    return new Promise((resolve, reject) => {
      const inner = cloneBio(bio, flags, bio.offsetBytes, () => {
        if (inner.status === 0) resolve();
        else reject(inner.cause ?? FsError.of(inner.status));
      });
      this.queueBio(inner);
    });
  }

  #dispatchLater(): void {
    if (this.#isDispatchDue) return;
    this.#isDispatchDue = true;
    this.#clock.microtask(() => this.#dispatch());
  }

  #dispatch(): void {
    this.#isDispatchDue = false;
    while (this.#inFlight < this.#queueDepth) {
      const request = this.#queue.take();
      if (request === undefined) return;
      this.#inFlight++;
      void this.#perform(request);
    }
  }

  async #perform(request: BlockRequest): Promise<void> {
    const { bios } = request;
    const end = (bio: Bio, failed: Failure | null): void =>
      endBio(bio, failed === null ? 0 : errnoOf(failed.thrown), failed?.thrown, this.#clock);
    const failed = await this.#attempt(request);
    for (const bio of bios) {
      const isRetried = failed !== null && bios.length > 1 && isOwnError(bio);
      end(bio, isRetried ? await this.#attempt(new BlockRequest(bio)) : failed);
    }
    this.#inFlight--;
    if (this.#queue.length > 0) this.#dispatchLater();
    this.#finish(bios.length);
  }

  /** Lets the store do `request`. Returns what it threw, if it did. */
  async #attempt(request: BlockRequest): Promise<Failure | null> {
    try {
      this.#count(request);
      await this.#transfer(request);
      return null;
    } catch (thrown) {
      statsOf(this.stats, request.op).errors++;
      return { thrown };
    }
  }

  #transfer(request: BlockRequest): Promise<void> {
    const { op, offsetBytes, lengthBytes } = request;
    if (op === REQ_OP_READ) return this.#store.read(offsetBytes, buffersOf(request));
    if (op === REQ_OP_WRITE) {
      const { hasVolatileCache } = this.#store.capabilities;
      const fua = (request.flags & REQ_FUA) !== 0 && hasVolatileCache;
      const written = this.#store.write(offsetBytes, buffersOf(request), { fua });
      return fua && mutants.fuaAtSubmission ? Promise.resolve() : written;
    }
    if (op === REQ_OP_DISCARD) return this.#store.discard(offsetBytes, lengthBytes);
    return this.#store.writeZeroes(offsetBytes, lengthBytes);
  }

  async #flushStore(): Promise<void> {
    try {
      this.#count({ op: REQ_OP_FLUSH, flags: 0, offsetBytes: 0, lengthBytes: 0 });
      await this.#store.flush();
    } catch (thrown) {
      statsOf(this.stats, REQ_OP_FLUSH).errors++;
      throw thrown;
    }
  }

  #count({ op, flags, offsetBytes, lengthBytes }: LoggedRequest): void {
    const stats = statsOf(this.stats, op);
    stats.requests++;
    stats.bytes += lengthBytes;
    this.log?.({ op, flags, offsetBytes, lengthBytes });
  }

  /**
   * The net of `plug.ts`: a plug still full after this stretch of code is flushed by the next
   * turn.
   */
  #watchPlug(plug: Plug): void {
    this.#clock.microtask(() => {
      if (plug.length > 0) void this.#clock.turn().then(() => plug.flush());
    });
  }

  #finish(count: number): void {
    this.#unfinished -= count;
    assert(this.#unfinished >= 0, "each bio ends once");
    if (this.#unfinished > 0) return;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const resolve of waiters) resolve();
  }
}

/** What a store threw; wrapped, since that may be anything. */
interface Failure {
  readonly thrown: unknown;
}

/**
 * True if an error must be the bio's own: a read that somebody waits for, or a write, whose owner
 * gives data up. What readahead fails to bring is read when wanted.
 */
function isOwnError(bio: Bio): boolean {
  return bio.op === REQ_OP_WRITE || (bio.op === REQ_OP_READ && (bio.flags & REQ_RAHEAD) === 0);
}

/**
 * The memory of a request as stores take it: bare if it is one array, which they do with less
 * work.
 */
function buffersOf(request: BlockRequest): Uint8Array | readonly Uint8Array[] {
  const vectors = request.gatherVectors();
  return vectors.length === 1 ? vectors[0]! : vectors;
}

/**
 * Reads `lengthBytes` at `offsetBytes` into fresh memory, past every cache: for what is read
 * once, at mount (`sb_bread` without its buffer). `lengthBytes` must not come from an image
 * unchecked.
 *
 * @throws {FsError} `EIO` for a failed read or a range outside the device, with the store's error
 *   as `cause`, or the errno of that error
 * @throws the reason of `signal`, at once; the read itself goes on and its result is dropped
 */
export function readDevice(
  dev: BlockDevice,
  offsetBytes: number,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const bytes = new Uint8Array(lengthBytes);
    const onAbort = (): void => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const bio = new Bio(REQ_OP_READ, REQ_SYNC | REQ_META, offsetBytes, ({ status, cause }) => {
      signal?.removeEventListener("abort", onAbort);
      const detail = `${lengthBytes} bytes at ${offsetBytes} of ${dev.name}`;
      if (status === 0) resolve(bytes);
      else reject(FsError.of(status, { syscall: "read", detail, cause }));
    });
    if (lengthBytes > 0) bio.addVector(bytes);
    dev.submitBio(bio);
  });
}
