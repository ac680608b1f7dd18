/**
 * Fixed-width integers in byte arrays, without a `DataView` per access and without `bigint`.
 *
 * Both byte orders: ext2/3/4 is little-endian, the jbd2 journal big-endian. Reads past the end are
 * a bug of the caller, who has checked the size of the structure before, so they are asserted.
 */
import { assert } from "./assert.ts";
import { FsError } from "./errno.ts";

/** Unsigned 16 bits, little-endian. */
export function le16(bytes: Uint8Array, at: number): number {
  assert(at + 2 <= bytes.length, "le16 inside the array");
  return bytes[at]! | (bytes[at + 1]! << 8);
}

/** Unsigned 32 bits, little-endian. */
export function le32(bytes: Uint8Array, at: number): number {
  assert(at + 4 <= bytes.length, "le32 inside the array");
  return (
    (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
  );
}

/** Unsigned 64 bits, little-endian; `what` names the field in the error for values from 2^53 on. */
export function le64(bytes: Uint8Array, at: number, what: string): number {
  return joinHiLo(le32(bytes, at + 4), le32(bytes, at), what);
}

/** Unsigned 16 bits, big-endian. */
export function be16(bytes: Uint8Array, at: number): number {
  assert(at + 2 <= bytes.length, "be16 inside the array");
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** Unsigned 32 bits, big-endian. */
export function be32(bytes: Uint8Array, at: number): number {
  assert(at + 4 <= bytes.length, "be32 inside the array");
  return (
    ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
  );
}

/** Unsigned 64 bits, big-endian; `what` names the field in the error for values from 2^53 on. */
export function be64(bytes: Uint8Array, at: number, what: string): number {
  return joinHiLo(be32(bytes, at), be32(bytes, at + 4), what);
}

/** `hi * 2^32 + lo`. Throws `EUCLEAN` naming `what` if that is 2^53 or more. */
export function joinHiLo(hi: number, lo: number, what: string): number {
  if (hi >= 0x20_0000) throw new FsError("EUCLEAN", { detail: `${what} is 2^53 or more` });
  return hi * 0x1_0000_0000 + lo;
}

export function putLe16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export function putLe32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

export function putLe64(bytes: Uint8Array, at: number, value: number): void {
  putLe32(bytes, at, value % 0x1_0000_0000);
  putLe32(bytes, at + 4, Math.floor(value / 0x1_0000_0000));
}

export function putBe16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function putBe32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** True if every byte of `bytes[from..to)` is zero. */
export function isZero(bytes: Uint8Array, from = 0, to: number = bytes.length): boolean {
  for (let at = from; at < to; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** True if both hold the same bytes. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** Lower-case hexadecimal digits of `bytes`. */
export function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
