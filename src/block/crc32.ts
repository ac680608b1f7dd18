/**
 * CRC-32 as in Ethernet, zip and GPT: polynomial 0x04C11DB7 reflected, all ones before and after.
 *
 * One table: GPT needs it for some kilobytes at mount. The checksums of ext and jbd2 are
 * `lib/crc32c.ts` and `lib/crc32be.ts`, made for speed.
 *
 * After UEFI 2.10, section 5.3.2.
 */

const POLYNOMIAL_REFLECTED = 0xedb8_8320;

const TABLE: Uint32Array = new Uint32Array(256);
for (let byte = 0; byte < TABLE.length; byte++) {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) {
    rest = (rest & 1) === 0 ? rest >>> 1 : (rest >>> 1) ^ POLYNOMIAL_REFLECTED;
  }
  TABLE[byte] = rest;
}

/** The checksum of `bytes`, a uint32 (`crc32_le` with its inversions). */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffff_ffff) >>> 0;
}
