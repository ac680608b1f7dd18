/** Reads a stream of bytes piece by piece, whatever pieces it comes in. */
import { FsError } from "../../lib/errno.ts";

/** See the head of the file. */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Up to `most` bytes that are there, lent until the next call; empty at the end. */
  async some(most: number): Promise<Uint8Array> {
    while (this.#at === this.#piece.length) {
      const next = await this.#source.next();
      if (next.done === true) return new Uint8Array(0);
      this.#piece = next.value;
      this.#at = 0;
    }
    const part = this.#piece.subarray(this.#at, this.#at + most);
    this.#at += part.length;
    return part;
  }

  /**
   * Exactly `count` bytes; undefined if the stream ends before the first. Throws `EINVAL` if it
   * ends after that.
   */
  async exactly(count: number): Promise<Uint8Array | undefined> {
    const all = new Uint8Array(count);
    let done = 0;
    while (done < count) {
      const part = await this.some(count - done);
      if (part.length === 0) {
        if (done === 0) return undefined;
        throw ended();
      }
      all.set(part, done);
      done += part.length;
    }
    return all;
  }

  /** As `exactly`, where there must be something. */
  async needed(count: number): Promise<Uint8Array> {
    const all = count === 0 ? new Uint8Array(0) : await this.exactly(count);
    if (all === undefined) throw ended();
    return all;
  }

  /** Passes over `count` bytes. */
  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) {
      const part = await this.some(left);
      if (part.length === 0) throw ended();
      left -= part.length;
    }
  }

  /** Lets the source go. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

function ended(): FsError {
  return new FsError("EINVAL", { syscall: "read", detail: "the tar stream ends too early" });
}
