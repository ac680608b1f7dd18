/**
 * MemoryStore: an image that lies in memory, for tests, for browsers and for small images.
 *
 * It copies within the call, so nothing is ever in flight, and what is written is as durable as it
 * gets.
 */
import { SECTOR_BYTES } from "../lib/units.ts";
import { StoreGuard } from "./guard.ts";
import {
  type Store,
  type StoreCapabilities,
  type StoreWriteOptions,
  transferBytes,
} from "./store.ts";

export interface MemoryStoreOptions {
  /** For messages; "memory" if left out. */
  readonly name?: string;
  /** True if left out. */
  readonly canWrite?: boolean;
}

export class MemoryStore implements Store {
  /** The content itself, not a copy: what is changed here is changed in the store. */
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;
  readonly #guard: StoreGuard;

  /** `bytes` is borrowed for good; a number makes a store of that many zero bytes. */
  constructor(bytes: Uint8Array | number, options: MemoryStoreOptions = {}) {
    this.bytes = typeof bytes === "number" ? new Uint8Array(bytes) : bytes;
    this.name = options.name ?? "memory";
    this.sizeBytes = this.bytes.length;
    this.capabilities = {
      canWrite: options.canWrite ?? true,
      canDiscard: false,
      hasFua: true,
      stableWrites: false,
      hasVolatileCache: false,
      blockBytes: SECTOR_BYTES,
    };
    this.#guard = new StoreGuard(this.name, this.sizeBytes, this.capabilities.canWrite);
  }

  async read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    this.#guard.check("read", offsetBytes, transferBytes(into), signal);
    copyOut(this.bytes, offsetBytes, into);
  }

  async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options: StoreWriteOptions = {},
  ): Promise<void> {
    this.#guard.check("write", offsetBytes, transferBytes(from), options.signal);
    copyIn(this.bytes, offsetBytes, from);
  }

  async flush(signal?: AbortSignal): Promise<void> {
    this.#guard.check("flush", 0, 0, signal);
  }

  /** Does nothing: the bytes stay. */
  async discard(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#guard.check("discard", offsetBytes, lengthBytes, signal);
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#guard.check("writeZeroes", offsetBytes, lengthBytes, signal);
    this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }

  close(): Promise<void> {
    return this.#guard.close(() => {});
  }
}

/** Copies from `bytes` at `offsetBytes` into one array, or into several one after the other. */
export function copyOut(
  bytes: Uint8Array,
  offsetBytes: number,
  into: Uint8Array | readonly Uint8Array[],
): void {
  let at = offsetBytes;
  for (const buffer of into instanceof Uint8Array ? [into] : into) {
    buffer.set(bytes.subarray(at, at + buffer.length));
    at += buffer.length;
  }
}

/** Copies one array, or several one after the other, into `bytes` at `offsetBytes`. */
export function copyIn(
  bytes: Uint8Array,
  offsetBytes: number,
  from: Uint8Array | readonly Uint8Array[],
): void {
  let at = offsetBytes;
  for (const buffer of from instanceof Uint8Array ? [from] : from) {
    bytes.set(buffer, at);
    at += buffer.length;
  }
}
