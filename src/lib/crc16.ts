/**
 * CRC-16, the checksum of ext4's group descriptors under `gdt_csum` (also called `uninit_bg`).
 *
 *     reflected polynomial 0xa001, least significant bit first; no final inversion
 *
 * After `lib/crc/crc16.c` of Linux.
 */

const POLYNOMIAL = 0xa001;

const TABLE = makeTable();

function makeTable(): Uint16Array {
  const table = new Uint16Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * POLYNOMIAL);
    table[byte] = crc;
  }
  return table;
}

/**
 * Goes on from `seed` over `bytes[from..to)` and returns the new running value, a uint16 (`crc16`).
 * Group descriptors begin with 0xffff.
 */
export function crc16(
  seed: number,
  bytes: Uint8Array,
  from = 0,
  to: number = bytes.length,
): number {
  let crc = seed & 0xffff;
  for (let at = from; at < to; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[at]!) & 0xff]!;
  return crc;
}
