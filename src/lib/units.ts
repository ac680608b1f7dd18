/**
 * Conversions between the units of the stack, in one place so that no layer repeats a magic number.
 *
 *     byte    offset in a file or on a device, a number below 2^53
 *     sector  512 bytes, the unit of `i_blocks`
 *     block   the file system's, 1 KiB to 64 KiB, so always with its size beside it
 *     page    4096 bytes, the unit of the page cache; an index of one is a uint32
 *
 * Offsets never meet a bit operator, which would cut them to 32 bits: they are divided and
 * multiplied.
 */
import { assert } from "./assert.ts";

/** Bytes of a page frame, and of a folio of order 0. */
export const PAGE_BYTES = 4096;
/** `log2(PAGE_BYTES)`. */
export const PAGE_SHIFT = 12;
/** Bytes of the sector in which Linux counts `i_blocks` and partition tables count. */
export const SECTOR_BYTES = 512;
/** Files end here in the cache: page indices are uint32 (`MAX_LFS_FILESIZE`). */
export const FILE_BYTES_MAX = 0x1000_0000_0000;
export const KIB = 1024;
export const MIB = 1_048_576;
export const GIB = 1_073_741_824;

/** Index of the page that holds byte `offsetBytes`. */
export function pageOfByte(offsetBytes: number): number {
  return Math.floor(offsetBytes / PAGE_BYTES);
}

/** First byte of page `pageIndex`. */
export function byteOfPage(pageIndex: number): number {
  return pageIndex * PAGE_BYTES;
}

/** Number of pages that `lengthBytes` bytes from a page border touch. */
export function pagesOfBytes(lengthBytes: number): number {
  return Math.ceil(lengthBytes / PAGE_BYTES);
}

/** Sector at byte `offsetBytes`, which must lie on a sector border. */
export function sectorOfByte(offsetBytes: number): number {
  assert(offsetBytes % SECTOR_BYTES === 0, "a device offset is a multiple of the sector");
  return offsetBytes / SECTOR_BYTES;
}

/** First byte of sector `sector`. */
export function byteOfSector(sector: number): number {
  return sector * SECTOR_BYTES;
}

/** Block of `blockBytes` that holds byte `offsetBytes`. */
export function blockOfByte(offsetBytes: number, blockBytes: number): number {
  return Math.floor(offsetBytes / blockBytes);
}

/** First byte of block `block`. */
export function byteOfBlock(block: number, blockBytes: number): number {
  return block * blockBytes;
}

/** Number of blocks of `blockBytes` needed for `lengthBytes`. */
export function blocksOfBytes(lengthBytes: number, blockBytes: number): number {
  return Math.ceil(lengthBytes / blockBytes);
}

/** `value` rounded down to a multiple of `unit`. */
export function roundDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** `value` rounded up to a multiple of `unit`. */
export function roundUp(value: number, unit: number): number {
  const over = value % unit;
  return over === 0 ? value : value + (unit - over);
}
