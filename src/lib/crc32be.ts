/**
 * CRC-32 with the most significant bit first, the checksum of jbd2's first version
 * (`JBD2_CRC32_CHKSUM`).
 *
 *     polynomial 0x04c11db7, not reflected; no initial value and no final inversion
 *
 * One table, a byte a step: it is read only while an old journal is replayed, once for each log
 * block.
 *
 * After `crc32_be` in `lib/crc/crc32-main.c` of Linux.
 */

const POLYNOMIAL = 0x04c1_1db7;
const TOP_BIT = 0x8000_0000;

const TABLE = makeTable();

function makeTable(): Int32Array {
  const table = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ ((crc & TOP_BIT) === 0 ? 0 : POLYNOMIAL);
    table[byte] = crc;
  }
  return table;
}

/**
 * Goes on from `seed` over `bytes[from..to)` and returns the new running value, a uint32
 * (`crc32_be`). The journal begins with 0xffff_ffff.
 */
export function crc32be(
  seed: number,
  bytes: Uint8Array,
  from = 0,
  to: number = bytes.length,
): number {
  let crc = seed | 0;
  for (let at = from; at < to; at++) crc = (crc << 8) ^ TABLE[(crc >>> 24) ^ bytes[at]!]!;
  return crc >>> 0;
}
