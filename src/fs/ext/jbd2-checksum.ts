/**
 * The checksums of a jbd2 journal, one function for each kind of block.
 *
 *     v1      one CRC32, most significant bit first, over descriptors and copies of a transaction
 *     v2, v3  CRC32C of each control block and, in its tag, of each copy; v2 keeps 16 bits of that
 *
 * All v2 and v3 sums but the superblock's start from `journalSeed`, which comes from the journal's
 * own UUID and not from the file system's seed. None is inverted at the end. Sums are over what
 * lies in the log: an escaped copy counts with its first word zeroed.
 *
 * After `fs/jbd2/recovery.c`, `commit.c` and `journal.c` of Linux.
 */
import { be32, putBe32 } from "../../lib/bytes.ts";
import { crc32be } from "../../lib/crc32be.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { JBD2, JBD2_COMMIT_RECORD_BYTES } from "./jbd2-format.ts";

const ONES = 0xffff_ffff;
const SUPERBLOCK_BYTES = 1024;
const SUPERBLOCK_CHECKSUM = 0xfc;
const WORD_BYTES = 4;
const ZERO_WORD: Uint8Array = new Uint8Array(WORD_BYTES);

/** `j_csum_seed`: CRC32C of the journal's UUID. */
export function journalSeed(uuid: Uint8Array): number {
  return crc32c(ONES, uuid);
}

/** CRC32C of `block[0..endBytes)` with the word at `hole` taken as zero. */
function withHole(seed: number, block: Uint8Array, hole: number, endBytes: number): number {
  const before = crc32c(seed, block, 0, hole);
  return crc32c(crc32c(before, ZERO_WORD), block, hole + WORD_BYTES, endBytes);
}

/** Checksum of a journal superblock, which starts from all ones and not from the seed. */
export function journalSuperblockChecksum(block: Uint8Array): number {
  return withHole(ONES, block, SUPERBLOCK_CHECKSUM, SUPERBLOCK_BYTES);
}

/**
 * Checksum of a descriptor or revoke block, which lies in its last word
 * (`jbd2_descriptor_block_csum`).
 */
export function controlBlockChecksum(seed: number, block: Uint8Array): number {
  return withHole(seed, block, block.length - WORD_BYTES, block.length);
}

/** True if the last word of a descriptor or revoke block is its checksum. */
export function isControlBlockGood(seed: number, block: Uint8Array): boolean {
  return controlBlockChecksum(seed, block) === be32(block, block.length - WORD_BYTES);
}

/** Checksum of a commit block, which lies in `h_chksum[0]`. */
export function commitBlockChecksum(seed: number, block: Uint8Array): number {
  return withHole(seed, block, JBD2.h_chksum, block.length);
}

/**
 * Checksum of a commit block whose record is taken as it is and the rest as zeros: right for a
 * block of which only the part without meaning was torn (`jbd2_commit_block_csum_verify_partial`).
 */
export function commitRecordChecksum(seed: number, block: Uint8Array): number {
  const whole = new Uint8Array(block.length);
  whole.set(block.subarray(0, JBD2_COMMIT_RECORD_BYTES));
  return commitBlockChecksum(seed, whole);
}

/**
 * CRC32C of the copy `block` of transaction `tid`: in the tag in full with v3, its low 16 bits with
 * v2.
 */
export function copyChecksum(seed: number, tid: number, block: Uint8Array): number {
  const sequence = new Uint8Array(WORD_BYTES);
  putBe32(sequence, 0, tid);
  return crc32c(crc32c(seed, sequence), block);
}

/** Start of the v1 sum of a transaction. */
export const V1_SUM_START: number = ONES;

/** The v1 sum `sum` after one more descriptor or copy; revoke blocks do not count. */
export function addToV1Sum(sum: number, block: Uint8Array): number {
  return crc32be(sum, block);
}
