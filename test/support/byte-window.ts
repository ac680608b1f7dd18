/**
 * What a file must hold: a plain array of bytes, with nothing before and nothing behind it.
 *
 *     0 ........ base [=========== bytes ===========] base + capacity
 *       zeros         ^ whatever was written        ^ the file never gets longer
 *
 * What lies behind `size` is zero at all times.
 */
import { expect } from "vitest";

/** See the head of the file. */
export class ByteWindow {
  readonly base: number;
  readonly bytes: Uint8Array;
  /** Of the file, in bytes; 0, or from `base` on. */
  size = 0;

  constructor(base: number, capacity: number) {
    this.base = base;
    this.bytes = new Uint8Array(capacity);
  }

  /** Where the window ends. */
  get end(): number {
    return this.base + this.bytes.length;
  }

  write(posBytes: number, data: Uint8Array): void {
    this.bytes.set(data, posBytes - this.base);
    this.size = Math.max(this.size, posBytes + data.length);
  }

  setSize(sizeBytes: number): void {
    if (sizeBytes < this.size) this.bytes.fill(0, Math.max(0, sizeBytes - this.base));
    this.size = sizeBytes;
  }

  grow(sizeBytes: number): void {
    this.size = Math.max(this.size, sizeBytes);
  }

  zero(from: number, end: number): void {
    this.bytes.fill(0, Math.max(0, from - this.base), Math.max(0, end - this.base));
  }

  collapse(from: number, end: number): void {
    this.bytes.copyWithin(from - this.base, end - this.base);
    this.setSize(this.size - (end - from));
    this.bytes.fill(0, Math.max(0, this.size - this.base));
  }

  insert(at: number, count: number): void {
    this.bytes.copyWithin(at - this.base + count, at - this.base);
    this.bytes.fill(0, at - this.base, at - this.base + count);
    this.size += count;
  }

  /** What a read of `lengthBytes` at `posBytes` must give. */
  slice(posBytes: number, lengthBytes: number): Uint8Array {
    const count = Math.max(0, Math.min(lengthBytes, this.size - posBytes));
    const part = new Uint8Array(count);
    const from = Math.max(posBytes, this.base);
    if (from < posBytes + count) {
      part.set(
        this.bytes.subarray(from - this.base, posBytes + count - this.base),
        from - posBytes,
      );
    }
    return part;
  }

  /** Expects that a read at `posBytes` gave `part`; says where it differs. */
  expectRead(posBytes: number, lengthBytes: number, part: Uint8Array): void {
    const wanted = this.slice(posBytes, lengthBytes);
    if (Buffer.compare(part, wanted) === 0) return;
    expect(part.length, `bytes read at ${posBytes}`).toBe(wanted.length);
    const at = part.findIndex((byte, index) => byte !== wanted[index]);
    let end = part.length;
    while (part[end - 1] === wanted[end - 1]) end--;
    const what = `${part[at]} instead of ${wanted[at]}`;
    throw new Error(
      `at byte ${posBytes + at} is ${what}, the last wrong one is ${posBytes + end - 1}`,
    );
  }

  /** True if any byte in `from..end` is not zero. */
  hasData(from: number, end: number): boolean {
    const first = Math.max(0, from - this.base);
    const last = Math.max(0, Math.min(end - this.base, this.bytes.length));
    for (let at = first; at < last; at++) if (this.bytes[at] !== 0) return true;
    return false;
  }
}
