/**
 * CountingStore: passes everything on to another store and counts it.
 *
 * Counts of store calls are quire's first benchmark, as they carry no noise. A call is counted when
 * it is made, whether it succeeds or not.
 */
import type { StoreOp } from "./guard.ts";
import {
  type Store,
  type StoreCapabilities,
  type StoreWriteOptions,
  transferBytes,
} from "./store.ts";

/** One call, as the log keeps it. A flush has the range 0, 0. */
export interface StoreCall {
  readonly op: StoreOp;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** True for a write that had to be durable when it resolved. */
  readonly isFua: boolean;
}

export class CountingStore implements Store {
  readonly name: string;
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;
  reads = 0;
  readBytes = 0;
  writes = 0;
  writtenBytes = 0;
  flushes = 0;
  discards = 0;
  zeroWrites = 0;
  /** Every call in order, while it is set: `counting.log = []`. Off at first, as it only grows. */
  log: StoreCall[] | undefined;
  readonly #inner: Store;

  constructor(inner: Store) {
    this.name = inner.name;
    this.sizeBytes = inner.sizeBytes;
    this.capabilities = inner.capabilities;
    this.#inner = inner;
  }

  /** Sets all counts to 0 and empties the log, if there is one. */
  reset(): void {
    this.reads = 0;
    this.readBytes = 0;
    this.writes = 0;
    this.writtenBytes = 0;
    this.flushes = 0;
    this.discards = 0;
    this.zeroWrites = 0;
    if (this.log !== undefined) this.log = [];
  }

  read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    const lengthBytes = transferBytes(into);
    this.reads++;
    this.readBytes += lengthBytes;
    this.log?.push({ op: "read", offsetBytes, lengthBytes, isFua: false });
    return this.#inner.read(offsetBytes, into, signal);
  }

  write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options?: StoreWriteOptions,
  ): Promise<void> {
    const lengthBytes = transferBytes(from);
    this.writes++;
    this.writtenBytes += lengthBytes;
    this.log?.push({ op: "write", offsetBytes, lengthBytes, isFua: options?.fua ?? false });
    return this.#inner.write(offsetBytes, from, options);
  }

  flush(signal?: AbortSignal): Promise<void> {
    this.flushes++;
    this.log?.push({ op: "flush", offsetBytes: 0, lengthBytes: 0, isFua: false });
    return this.#inner.flush(signal);
  }

  discard(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.discards++;
    this.log?.push({ op: "discard", offsetBytes, lengthBytes, isFua: false });
    return this.#inner.discard(offsetBytes, lengthBytes, signal);
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.zeroWrites++;
    this.log?.push({ op: "writeZeroes", offsetBytes, lengthBytes, isFua: false });
    return this.#inner.writeZeroes(offsetBytes, lengthBytes, signal);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}
