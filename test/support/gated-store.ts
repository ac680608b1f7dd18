/**
 * GatedStore: a store in memory whose calls end only when the test says so, in the order it says.
 *
 *     const store = new GatedStore(4096);
 *     device.submitBio(bio);                 // after a turn: store.pending[0].text === "R 0+512"
 *     store.release(0);                      // or store.fail(0, new Error("cable"))
 *
 * It keeps two images: `bytes`, what a read sees, and `durable`, what a power cut would leave. A
 * write reaches `bytes` when it is released and `durable` with `fua`, or by a flush that *began*
 * after its release.
 */
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { Store, StoreCapabilities, StoreWriteOptions } from "../../src/store/store.ts";
import { transferBytes } from "../../src/store/store.ts";

/** A call that has not ended. */
export interface GatedCall {
  /** "R 0+512", "W 0+512", "W 0+512 fua", "F", "D 0+512", "Z 0+512". */
  readonly text: string;
  /** The arrays of a transfer, as the store got them. */
  readonly buffers: readonly Uint8Array[];
  readonly perform: () => void;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

type Buffers = Uint8Array | readonly Uint8Array[];

export class GatedStore implements Store {
  readonly name = "gated";
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;
  readonly bytes: Uint8Array;
  durable: Uint8Array;
  readonly pending: GatedCall[] = [];
  /** Texts of all calls, in the order in which they came. */
  readonly log: string[] = [];
  /** What the flushes in flight will make durable. */
  readonly #flushing = new Set<Uint8Array>();

  constructor(sizeBytes: number, capabilities: Partial<StoreCapabilities> = {}) {
    this.sizeBytes = sizeBytes;
    this.bytes = new Uint8Array(sizeBytes);
    this.durable = new Uint8Array(sizeBytes);
    const memory = new MemoryStore(0).capabilities;
    this.capabilities = { ...memory, canWrite: true, hasVolatileCache: true, ...capabilities };
  }

  read(offsetBytes: number, into: Buffers): Promise<void> {
    const buffers = into instanceof Uint8Array ? [into] : into;
    return this.#gate(`R ${offsetBytes}+${transferBytes(into)}`, buffers, () => {
      let from = offsetBytes;
      for (const buffer of buffers) {
        buffer.set(this.bytes.subarray(from, from + buffer.length));
        from += buffer.length;
      }
    });
  }

  write(offsetBytes: number, from: Buffers, options: StoreWriteOptions = {}): Promise<void> {
    const buffers = from instanceof Uint8Array ? [from] : from;
    const isFua = options.fua === true;
    const text = `W ${offsetBytes}+${transferBytes(from)}${isFua ? " fua" : ""}`;
    return this.#gate(text, buffers, () => {
      let to = offsetBytes;
      for (const buffer of buffers) {
        this.bytes.set(buffer, to);
        if (isFua) for (const image of [this.durable, ...this.#flushing]) image.set(buffer, to);
        to += buffer.length;
      }
    });
  }

  flush(): Promise<void> {
    const completed = this.bytes.slice();
    this.#flushing.add(completed);
    return this.#gate("F", [], () => {
      this.#flushing.delete(completed);
      this.durable = completed;
    });
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#gate(`D ${offsetBytes}+${lengthBytes}`, [], () => {});
  }

  writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#gate(`Z ${offsetBytes}+${lengthBytes}`, [], () => {
      this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Lets the pending call at `index` do its work and succeed. */
  release(index = 0): void {
    const [call] = this.pending.splice(index, 1);
    call?.perform();
    call?.resolve();
  }

  /** Makes the pending call at `index` reject with `reason`, without having done anything. */
  fail(index: number, reason: unknown): void {
    const [call] = this.pending.splice(index, 1);
    call?.reject(reason);
  }

  #gate(text: string, buffers: readonly Uint8Array[], perform: () => void): Promise<void> {
    this.log.push(text);
    return new Promise((resolve, reject) => {
      this.pending.push({ text, buffers, perform, resolve, reject });
    });
  }
}
