/**
 * Where bytes rest: the one interface that every place an image can lie in has to offer.
 *
 * It is small on purpose, so that another library's source of bytes adapts in ten lines. What it
 * leaves out is done above (caching, merging, readahead: block and cache) or by decorators of the
 * same interface (counting, retrying, faults, overlays). A store that passes `storeConformance`
 * (`quirefs/store/conformance`) works under everything in quire.
 */

/** What a store can do, fixed while it is open. */
export interface StoreCapabilities {
  /** False: `write`, `discard`, `writeZeroes` fail with `EROFS` and change nothing. */
  readonly canWrite: boolean;
  /** `discard` gives the space back; else it does nothing. */
  readonly canDiscard: boolean;
  /** `write` with `fua` is durable when it resolves, without a `flush`. */
  readonly hasFua: boolean;
  /**
   * The store looks at written bytes more than once (hash, signature, resend): they must not
   * change.
   */
  readonly stableWrites: boolean;
  /** Writes are durable only after `flush`. */
  readonly hasVolatileCache: boolean;
  /** Smallest unit that it reads and writes without more work; a power of two from 512 on. */
  readonly blockBytes: number;
  /**
   * The first write to a place makes it, which the next `flush` has to wait for: a sparse file.
   * False if left out.
   */
  readonly allocatesOnWrite?: boolean;
}

/** How a write is to be done. */
export interface StoreWriteOptions {
  /** Durable when it resolves; a store without `hasFua` flushes for it. */
  readonly fua?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface Store {
  /** What it is, for messages: a path, a URL. Never holds a secret. */
  readonly name: string;
  /** Size in bytes. Does not change while the store is open. Need not be a multiple of anything. */
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;

  /**
   * Fills `into` with the bytes from `offsetBytes` on; of several arrays, one after the other.
   *
   * The range must lie inside the store. There are no short reads: `into` is full on success and
   * has undefined content on failure. The store may write to `into` until the promise settles, and
   * must not keep it after. Calls may overlap and complete in any order. Not retried here.
   *
   * @throws {FsError} `EIO` for a failed transfer (with `cause`), `EINVAL` for a range outside the
   *   store, `ESTALE` if what lies behind changed since it was opened, `EBADF` after `close`
   * @throws the reason of `signal`, as soon as it is aborted
   */
  read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void>;

  /**
   * Writes `from` at `offsetBytes`, the mirror of `read`. The bytes are borrowed until the promise
   * settles. Durable after the next `flush` that begins once this has resolved, or at once with
   * `fua`.
   *
   * @throws {FsError} `EROFS` if `canWrite` is false, `ENOSPC`, and the errors of `read`
   */
  write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options?: StoreWriteOptions,
  ): Promise<void>;

  /**
   * Makes every write that resolved before this call durable. Does nothing on a read-only store.
   */
  flush(signal?: AbortSignal): Promise<void>;

  /** Gives the range up: it reads as anything until written again. A hint; it may do nothing. */
  discard(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void>;

  /** Makes the range read as zeros, by the cheapest means. */
  writeZeroes(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void>;

  /** Waits for calls in flight and gives the resources back. A second call does nothing. */
  close(): Promise<void>;
}

/** Total length of the array or arrays of a transfer, in bytes. */
export function transferBytes(buffers: Uint8Array | readonly Uint8Array[]): number {
  if (buffers instanceof Uint8Array) return buffers.length;
  let total = 0;
  for (const buffer of buffers) total += buffer.length;
  return total;
}
