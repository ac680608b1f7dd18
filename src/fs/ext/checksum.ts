/**
 * The checksum recipe of every structure of ext2/3/4: which bytes, from which start, and which
 * part of the structure is taken as zero or left out. One function per structure; nobody else
 * knows these.
 *
 *     superblock            from ffffffff
 *     volume's structures   from the volume's seed: crc32c(uuid), or a stored word
 *     an inode's structures from its own seed: crc32c(seed, number, generation)
 *
 * The checksum is CRC-32C without initial or final inversion; group descriptors of the older
 * feature `uninit_bg` have CRC-16. All values are uint32 unless said otherwise. Nothing here
 * throws.
 *
 * After section "Checksums" of the kernel's ext4 documentation and the `*_csum_*` functions of
 * `fs/ext4/`.
 */
import { le32, putLe32, putLe64 } from "../../lib/bytes.ts";
import { crc16 } from "../../lib/crc16.ts";
import { crc32c, crc32cForce } from "../../lib/crc32c.ts";
import { GD, GOOD_OLD_INODE_BYTES, INODE, MMP, SB } from "./layout.ts";

const CRC_START = 0xffff_ffff;
const CRC16_START = 0xffff;
const ZEROS = new Uint8Array(16);
const word = new Uint8Array(8); // Scratch: nothing here keeps it across calls.

function crcLe32(seed: number, value: number): number {
  putLe32(word, 0, value);
  return crc32c(seed, word, 0, 4);
}

function crcLe64(seed: number, value: number): number {
  putLe64(word, 0, value);
  return crc32c(seed, word, 0, 8);
}

/** Checksum of the superblock's 1024 bytes, for `s_checksum`. */
export function superblockChecksum(superblock: Uint8Array): number {
  return crc32c(CRC_START, superblock, 0, SB.s_checksum);
}

/**
 * Makes the checksum that the superblock has the right one for what it says now, by way of a word
 * that means nothing without snapshots. `s_checksum` lies in the second sector and the word in the
 * first one, where all is that changes while a volume is in use: so a superblock that is written is
 * the old one or the new one, and not torn, on a disk that writes whole sectors.
 */
export function sealSuperblock(superblock: Uint8Array): void {
  const wanted = le32(superblock, SB.s_checksum);
  crc32cForce(CRC_START, superblock, SB.s_snapshot_list, SB.s_checksum, wanted);
}

/** Seed of a volume without `metadata_csum_seed`. */
export function volumeSeed(uuid: Uint8Array): number {
  return crc32c(CRC_START, uuid);
}

/** Seed of the structures of inode `ino` (`i_csum_seed`). */
export function inodeSeed(seed: number, ino: number, generation: number): number {
  return crcLe32(crcLe32(seed, ino), generation);
}

/**
 * Checksum of a descriptor with `metadata_csum`: 16 bits. `descriptor` has exactly its stored
 * size.
 */
export function descriptorChecksum(seed: number, group: number, descriptor: Uint8Array): number {
  let crc = crc32c(crcLe32(seed, group), descriptor, 0, GD.bg_checksum);
  crc = crc32c(crc, ZEROS, 0, 2);
  return crc32c(crc, descriptor, GD.bg_checksum + 2) & 0xffff;
}

/** Checksum of a descriptor with `uninit_bg` alone: CRC-16, the field itself left out. */
export function descriptorCrc16(uuid: Uint8Array, group: number, descriptor: Uint8Array): number {
  putLe32(word, 0, group);
  const crc = crc16(crc16(crc16(CRC16_START, uuid), word, 0, 4), descriptor, 0, GD.bg_checksum);
  return crc16(crc, descriptor, GD.bg_checksum + 2);
}

/**
 * Checksum of a block or inode bitmap of `bitCount` bits; the padding behind them does not count.
 */
export function bitmapChecksum(seed: number, bitmap: Uint8Array, bitCount: number): number {
  return crc32c(seed, bitmap, 0, bitCount / 8);
}

/** Checksum of an inode of any size. With `hasHigh` false only its low 16 bits are stored. */
export function inodeChecksum(iseed: number, inode: Uint8Array, hasHigh: boolean): number {
  let crc = crc32c(iseed, inode, 0, INODE.i_checksum_lo);
  crc = crc32c(crc, ZEROS, 0, 2);
  crc = crc32c(crc, inode, INODE.i_checksum_lo + 2, GOOD_OLD_INODE_BYTES);
  if (inode.length === GOOD_OLD_INODE_BYTES) return crc;
  if (!hasHigh) return crc32c(crc, inode, GOOD_OLD_INODE_BYTES);
  crc = crc32c(crc, inode, GOOD_OLD_INODE_BYTES, INODE.i_checksum_hi);
  crc = crc32c(crc, ZEROS, 0, 2);
  return crc32c(crc, inode, INODE.i_checksum_hi + 2);
}

/** Checksum of an extent block, over the `tailAt` bytes before the place where it is stored. */
export function extentChecksum(iseed: number, block: Uint8Array, tailAt: number): number {
  return crc32c(iseed, block, 0, tailAt);
}

/** Checksum of a linear directory block, whose last 12 bytes are its tail. */
export function directoryChecksum(iseed: number, block: Uint8Array): number {
  return crc32c(iseed, block, 0, block.length - 12);
}

/**
 * Checksum of an htree block: `usedBytes` from its start, then the tail's first word and a zero
 * word.
 */
export function htreeChecksum(
  iseed: number,
  block: Uint8Array,
  usedBytes: number,
  tailAt: number,
): number {
  const crc = crc32c(crc32c(iseed, block, 0, usedBytes), block, tailAt, tailAt + 4);
  return crc32c(crc, ZEROS, 0, 4);
}

/** Checksum of the xattr block at `blocknr`. */
export function xattrBlockChecksum(seed: number, blocknr: number, block: Uint8Array): number {
  const crc = crc32c(crcLe64(seed, blocknr), block, 0, 0x10);
  return crc32c(crc32c(crc, ZEROS, 0, 4), block, 0x14);
}

/** Content hash of a value that has an inode of its own, for the `i_atime` of that inode. */
export function eaValueHash(seed: number, value: Uint8Array): number {
  return crc32c(seed, value);
}

/** Checksum of the multi-mount protection block. */
export function mmpChecksum(seed: number, block: Uint8Array): number {
  return crc32c(seed, block, 0, MMP.mmp_checksum);
}

/** Checksum of a block of the orphan file, which lies at `blocknr` on the device. */
export function orphanBlockChecksum(iseed: number, blocknr: number, block: Uint8Array): number {
  return crc32c(crcLe64(iseed, blocknr), block, 0, block.length - 8);
}
