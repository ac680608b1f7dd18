/**
 * FaultyStore: another store with failures written into it, for tests of whoever must survive them.
 *
 *     const store = new FaultyStore(inner, { clock });
 *     store.inject({ op: "read", skipCalls: 2 });                             the third read: EIO
 *     store.inject({ startBytes: 8192, endBytes: 9216, calls: Infinity });    a bad spot
 *     store.inject({ op: "write", transferredBytes: 100, code: "ENOSPC" });   stops short
 *     store.inject({ delayMs: 60_000 });                                      a slow call
 *
 * A call meets each fault that fits it, in the order they were injected: all their delays, then the
 * first failure. For failures drawn at random, and for what a power cut does, see `SimDisk`.
 */
import type { Clock } from "../lib/clock.ts";
import { type ErrnoCode, FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import { StoreGuard, type StoreOp } from "./guard.ts";
import { sleep } from "./sleep.ts";
import {
  type Store,
  type StoreCapabilities,
  type StoreWriteOptions,
  transferBytes,
} from "./store.ts";

/** Which calls fail, and how. What is left out does not narrow or does not happen. */
export interface Fault {
  readonly op?: StoreOp;
  /** Only calls that touch a byte of `startBytes..endBytes`; a flush touches none. */
  readonly startBytes?: number;
  readonly endBytes?: number;
  /** Calls that fit and are let through first; 0 if left out. */
  readonly skipCalls?: number;
  /** Calls that then meet the fault; 1 if left out, `Infinity` for a permanent one. */
  readonly calls?: number;
  /** Milliseconds before anything is done. */
  readonly delayMs?: number;
  /** Nothing is done before `heal` is called; then the call goes on without this fault. */
  readonly isHanging?: boolean;
  /**
   * What the call fails with; `EIO` if left out and neither a delay, a hang nor a flip is asked
   * for.
   */
  readonly code?: ErrnoCode;
  /** Bytes that are still read or written by a call that fails; 0 if left out. */
  readonly transferredBytes?: number;
  /**
   * Inverts this bit of what is read, counted from the first byte of the store, if the call reads
   * it.
   */
  readonly flippedBit?: number;
}

interface ArmedFault {
  readonly fault: Fault;
  skipsLeft: number;
  callsLeft: number;
}

/** What one call is about to do. */
interface Call {
  readonly op: StoreOp;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly signal: AbortSignal | undefined;
}

export class FaultyStore implements Store {
  readonly name: string;
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;
  readonly #inner: Store;
  readonly #clock: Clock;
  readonly #guard: StoreGuard;
  readonly #hung = new WaitQueue();
  #faults: ArmedFault[] = [];

  constructor(inner: Store, options: { readonly clock: Clock }) {
    this.name = inner.name;
    this.sizeBytes = inner.sizeBytes;
    this.capabilities = inner.capabilities;
    this.#inner = inner;
    this.#clock = options.clock;
    this.#guard = new StoreGuard(inner.name, inner.sizeBytes, inner.capabilities.canWrite);
  }

  /** Number of faults that still wait for calls. */
  get faultCount(): number {
    return this.#faults.length;
  }

  /** Number of calls that hang. */
  get hungCount(): number {
    return this.#hung.length;
  }

  /** Adds a fault. The returned function takes it back. */
  inject(fault: Fault): () => void {
    const armed = { fault, skipsLeft: fault.skipCalls ?? 0, callsLeft: fault.calls ?? 1 };
    this.#faults.push(armed);
    return () => this.#remove(armed);
  }

  /** Takes back all faults and lets hanging calls go on. */
  heal(): void {
    this.#faults = [];
    this.#hung.wakeAll();
  }

  read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    const call = { op: "read", offsetBytes, lengthBytes: transferBytes(into), signal } as const;
    return this.#run(call, async (allowedBytes, flippedBits) => {
      await this.#inner.read(offsetBytes, firstBytes(into, allowedBytes), signal);
      for (const bit of flippedBits) flipBit(into, bit - offsetBytes * 8);
    });
  }

  write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options: StoreWriteOptions = {},
  ): Promise<void> {
    const { signal } = options;
    const call = { op: "write", offsetBytes, lengthBytes: transferBytes(from), signal } as const;
    return this.#run(call, (allowedBytes) =>
      this.#inner.write(offsetBytes, firstBytes(from, allowedBytes), options),
    );
  }

  flush(signal?: AbortSignal): Promise<void> {
    const call = { op: "flush", offsetBytes: 0, lengthBytes: 0, signal } as const;
    return this.#run(call, () => this.#inner.flush(signal));
  }

  discard(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    const call = { op: "discard", offsetBytes, lengthBytes, signal } as const;
    return this.#run(call, (allowedBytes) =>
      this.#inner.discard(offsetBytes, allowedBytes, signal),
    );
  }

  writeZeroes(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    const call = { op: "writeZeroes", offsetBytes, lengthBytes, signal } as const;
    return this.#run(call, (allowedBytes) =>
      this.#inner.writeZeroes(offsetBytes, allowedBytes, signal),
    );
  }

  close(): Promise<void> {
    return this.#guard.close(() => this.#inner.close());
  }

  /** Makes `call` meet its faults; `transfer` does as much of it as it is allowed to. */
  async #run(
    call: Call,
    transfer: (allowedBytes: number, flippedBits: readonly number[]) => Promise<void>,
  ): Promise<void> {
    this.#guard.check(call.op, call.offsetBytes, call.lengthBytes, call.signal);
    return this.#guard.track(async () => {
      const faults = this.#take(call);
      for (const { delayMs, isHanging } of faults) {
        if (delayMs !== undefined) await sleep(this.#clock, delayMs, call.signal);
        if (isHanging) await this.#hung.wait(call.signal);
      }
      const failure = faults.find(isFailure);
      const allowedBytes =
        failure === undefined ? call.lengthBytes : (failure.transferredBytes ?? 0);
      if (failure === undefined || allowedBytes > 0) {
        const flips = faults.flatMap(({ flippedBit }) => flippedBit ?? []);
        await transfer(Math.min(allowedBytes, call.lengthBytes), flips);
      }
      if (failure === undefined) return;
      const detail = `injected, ${call.lengthBytes} bytes at ${call.offsetBytes}`;
      throw new FsError(failure.code ?? "EIO", { syscall: call.op, path: this.name, detail });
    });
  }

  /** The faults that `call` meets now. */
  #take(call: Call): Fault[] {
    const met: Fault[] = [];
    for (const armed of [...this.#faults]) {
      if (!isHit(armed.fault, call)) continue;
      if (armed.skipsLeft > 0) {
        armed.skipsLeft--;
        continue;
      }
      met.push(armed.fault);
      armed.callsLeft--;
      if (armed.callsLeft <= 0) this.#remove(armed);
    }
    return met;
  }

  #remove(armed: ArmedFault): void {
    this.#faults = this.#faults.filter((other) => other !== armed);
  }
}

function isHit({ op, startBytes, endBytes, flippedBit }: Fault, call: Call): boolean {
  if (op !== undefined && op !== call.op) return false;
  const callEndBytes = call.offsetBytes + call.lengthBytes;
  if (startBytes !== undefined && callEndBytes <= startBytes) return false;
  if (endBytes !== undefined && call.offsetBytes >= endBytes) return false;
  if (startBytes !== undefined || endBytes !== undefined) return call.lengthBytes > 0;
  if (flippedBit === undefined) return true;
  const flippedByte = Math.floor(flippedBit / 8);
  return call.op === "read" && flippedByte >= call.offsetBytes && flippedByte < callEndBytes;
}

function isFailure({ code, delayMs, isHanging, flippedBit, transferredBytes }: Fault): boolean {
  if (code !== undefined || transferredBytes !== undefined) return true;
  return delayMs === undefined && !isHanging && flippedBit === undefined;
}

/** Views of the first `lengthBytes` bytes of `buffers`. */
function firstBytes(
  buffers: Uint8Array | readonly Uint8Array[],
  lengthBytes: number,
): Uint8Array | readonly Uint8Array[] {
  if (buffers instanceof Uint8Array) return buffers.subarray(0, lengthBytes);
  let leftBytes = lengthBytes;
  return buffers.map((buffer) => {
    const part = buffer.subarray(0, leftBytes);
    leftBytes -= part.length;
    return part;
  });
}

/** Inverts bit `bit` of `buffers`, counted through all of them; nothing if it lies outside. */
export function flipBit(buffers: Uint8Array | readonly Uint8Array[], bit: number): void {
  let at = Math.floor(bit / 8);
  for (const buffer of buffers instanceof Uint8Array ? [buffers] : buffers) {
    if (at >= 0 && at < buffer.length) buffer[at]! ^= 1 << (bit % 8);
    at -= buffer.length;
  }
}
