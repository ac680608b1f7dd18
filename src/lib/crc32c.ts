/**
 * CRC-32C (Castagnoli), the checksum of ext4's metadata and of jbd2 journals from version 2 on.
 *
 *     reflected polynomial 0x82f63b78, least significant bit first
 *     no initial value and no final inversion: the running value goes in as `seed` and comes out
 *
 * So checksums chain, `crc32c(crc32c(seed, a), b)` is that of `a` followed by `b`, and
 * `crc32c(0xffff_ffff, "123456789")` is 0x1cf96d7c, the complement of the textbook's 0xe3069283.
 *
 * Eight bytes a step with eight tables ("slice-by-8") that lie one after the other in one array:
 * flat, it takes 18 ns for 32 bytes and 2.2 us for 4 KiB, against 28 ns and 2.6 us with eight
 * arrays.
 *
 * After `lib/crc/crc32-main.c` of Linux. Left out: WebAssembly and the processor's own instruction.
 */

const POLYNOMIAL = 0x82f6_3b78;
const SLICES = 8;

/** Entry `k * 256 + byte`: what `byte` contributes when `k` more bytes follow it in its step. */
const TABLE = makeTable();

function makeTable(): Int32Array {
  const table = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * POLYNOMIAL);
    table[byte] = crc;
  }
  for (let at = 256; at < table.length; at++) {
    const before = table[at - 256]!;
    table[at] = (before >>> 8) ^ table[before & 0xff]!;
  }
  return table;
}

/**
 * Goes on from `seed` over `bytes[from..to)` and returns the new running value, a uint32
 * (`crc32c` of the kernel, `ext4_chksum`). The first seed of most recipes is 0xffff_ffff.
 */
export function crc32c(
  seed: number,
  bytes: Uint8Array,
  from = 0,
  to: number = bytes.length,
): number {
  const table = TABLE;
  let crc = seed | 0;
  let at = from;
  for (const stop = to - 7; at < stop; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      table[0x700 | (crc & 0xff)]! ^
      table[0x600 | ((crc >>> 8) & 0xff)]! ^
      table[0x500 | ((crc >>> 16) & 0xff)]! ^
      table[0x400 | (crc >>> 24)]! ^
      table[0x300 | bytes[at + 4]!]! ^
      table[0x200 | bytes[at + 5]!]! ^
      table[0x100 | bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!;
  }
  for (; at < to; at++) crc = (crc >>> 8) ^ table[(crc ^ bytes[at]!) & 0xff]!;
  return crc >>> 0;
}

/**
 * Sets the four bytes at `at` so that the checksum of `bytes[0..to)` from `seed` is `wanted`. Each
 * value can be had: four bytes are as much as the checksum holds.
 */
export function crc32cForce(
  seed: number,
  bytes: Uint8Array,
  at: number,
  to: number,
  wanted: number,
): void {
  let crc = wanted | 0;
  for (let index = to - 1; index >= at; index--) {
    // Back over one byte; the four to be set count as zeros.
    for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? ((crc ^ POLYNOMIAL) << 1) | 1 : crc << 1;
    if (index >= at + 4) crc ^= bytes[index]!;
  }
  const word = crc ^ crc32c(seed, bytes, 0, at);
  for (let byte = 0; byte < 4; byte++) bytes[at + byte] = word >>> (8 * byte);
}
