/**
 * What lies in a jbd2 log: the headers of its control blocks, the tags of a descriptor in all their
 * layouts, revoke entries, the commit record, and the arithmetic of transaction ids.
 *
 *     log block   | descriptor t | copy | copy | .. | revoke t | commit t | descriptor t+1 | ..
 *     descriptor  | header 12 | tag | uuid 16 | tag | tag | .. | tag LAST | .. | tail 4 (v2, v3) |
 *
 * Everything here is big-endian. A copy has no header and is never interpreted: only its descriptor
 * says what it is. The layout of a tag follows from the features, and the sizes of v2 (10 and 14)
 * are what is on disk, odd as they look.
 *
 *  1. Decoders are total: they return a value for any bytes, so that a torn block of a transaction
 *     that never committed cannot fail an open. The walk judges what committed.
 *  2. Transaction ids are compared modulo 2^32, and 0 is an id like others.
 *
 * After `include/linux/jbd2.h`. Left out: the superblock, which is in `jbd2-superblock.ts`.
 */
import { be16, be32 } from "../../lib/bytes.ts";

/** First word of every control block (`JBD2_MAGIC_NUMBER`). */
export const JBD2_MAGIC = 0xc03b_3998;
/** Values of `h_blocktype`. */
export const JBD2_DESCRIPTOR_BLOCK = 1;
export const JBD2_COMMIT_BLOCK = 2;
export const JBD2_SUPERBLOCK_V1 = 3;
export const JBD2_SUPERBLOCK_V2 = 4;
export const JBD2_REVOKE_BLOCK = 5;

/** Tag flags (`JBD2_FLAG_*`). DELETED (4) was never written by anybody and is ignored. */
export const JBD2_FLAG_ESCAPE = 1;
export const JBD2_FLAG_SAME_UUID = 2;
export const JBD2_FLAG_LAST_TAG = 8;

/** Where fields of control blocks lie. */
export const JBD2 = {
  h_magic: 0,
  h_blocktype: 4,
  h_sequence: 8,
  /** Revoke blocks. */
  r_count: 12,
  /** Commit blocks. */
  h_chksum_type: 12,
  h_chksum_size: 13,
  h_chksum: 16,
  h_commit_sec: 48,
  h_commit_nsec: 56,
} as const;
/** Bytes of the header: the first tag of a descriptor begins here. */
export const JBD2_HEADER_BYTES = 12;
/** Bytes of a revoke block's header, which `r_count` counts too. */
export const JBD2_REVOKE_HEADER_BYTES = 16;
/** Bytes of the commit record; the rest of its block is zero and may be torn. */
export const JBD2_COMMIT_RECORD_BYTES = 64;
/** Bytes of the UUID behind a tag without SAME_UUID. */
const UUID_BYTES = 16;
const TAIL_BYTES = 4;
const WORD = 0x1_0000_0000;

/** First bytes of a control block (`journal_header_t`). */
export interface BlockHeader {
  readonly type: number;
  readonly tid: number;
}

/** The header of `block`, or undefined if its first word is not the magic number. */
export function decodeHeader(block: Uint8Array): BlockHeader | undefined {
  if (be32(block, JBD2.h_magic) !== JBD2_MAGIC) return undefined;
  return { type: be32(block, JBD2.h_blocktype), tid: be32(block, JBD2.h_sequence) };
}

/** The id after `tid`. */
export function nextTid(tid: number): number {
  return (tid + 1) >>> 0;
}

/** True if transaction `a` is later than `b` (`tid_gt`), also where the counter has wrapped. */
export function isLaterTid(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

/** What the journal's features say about the form of its blocks. */
export interface LogFormat {
  readonly blockBytes: number;
  /** Block numbers have a high word. */
  readonly is64Bit: boolean;
  /** Which checksums control blocks and tags carry: none or the v1 sum (0), v2, v3. */
  readonly checksumVersion: 0 | 2 | 3;
}

/** Bytes of one tag (`journal_tag_bytes`): 8, 12, 10, 14 or 16. */
export function tagBytesOf(format: LogFormat): number {
  if (format.checksumVersion === 3) return 16;
  return 8 + (format.checksumVersion === 2 ? 2 : 0) + (format.is64Bit ? 4 : 0);
}

/** Bytes at the end of a descriptor or revoke block that hold its checksum. */
export function tailBytesOf(format: LogFormat): number {
  return format.checksumVersion === 0 ? 0 : TAIL_BYTES;
}

/** One tag of a descriptor: the copy at its place in the log belongs to home block `blocknr`. */
export interface JournalTag {
  /** Not yet checked; above 2^53 it is not exact, but stays too large for any device. */
  readonly blocknr: number;
  /** The copy's first word was the magic number and is stored as zero. */
  readonly isEscaped: boolean;
  /** 32 bits with v3, 16 with v2, 0 without. */
  readonly checksum: number;
}

function decodeTag(
  block: Uint8Array,
  at: number,
  format: LogFormat,
): JournalTag & { flags: number } {
  const isV3 = format.checksumVersion === 3;
  const flags = isV3 ? be32(block, at + 4) : be16(block, at + 6);
  const high = format.is64Bit ? be32(block, at + 8) : 0;
  let checksum = 0;
  if (isV3) checksum = be32(block, at + 12);
  else if (format.checksumVersion === 2) checksum = be16(block, at + 4);
  const blocknr = high * WORD + be32(block, at);
  return { blocknr, isEscaped: (flags & JBD2_FLAG_ESCAPE) !== 0, checksum, flags };
}

/**
 * The tags of a descriptor, in order: up to the one with LAST_TAG, or until no further tag fits.
 * The n-th belongs to the n-th log block behind the descriptor. UUIDs are skipped without a look,
 * as by all.
 */
export function decodeTags(block: Uint8Array, format: LogFormat): JournalTag[] {
  const tagBytes = tagBytesOf(format);
  const endBytes = format.blockBytes - tailBytesOf(format);
  const tags: JournalTag[] = [];
  let at = JBD2_HEADER_BYTES;
  while (at + tagBytes <= endBytes) {
    const tag = decodeTag(block, at, format);
    tags.push(tag);
    if ((tag.flags & JBD2_FLAG_LAST_TAG) !== 0) break;
    at += tagBytes + ((tag.flags & JBD2_FLAG_SAME_UUID) !== 0 ? 0 : UUID_BYTES);
  }
  return tags;
}

/** Home blocks of a revoke block; undefined if `r_count` claims more than the block holds. */
export function decodeRevokes(block: Uint8Array, format: LogFormat): number[] | undefined {
  const endBytes = be32(block, JBD2.r_count);
  if (endBytes > format.blockBytes - tailBytesOf(format)) return undefined;
  const entryBytes = format.is64Bit ? 8 : 4;
  const blocknrs: number[] = [];
  for (let at = JBD2_REVOKE_HEADER_BYTES; at + entryBytes <= endBytes; at += entryBytes) {
    const low = be32(block, at + entryBytes - 4);
    blocknrs.push(format.is64Bit ? be32(block, at) * WORD + low : low);
  }
  return blocknrs;
}

/** The record that makes a transaction real (`struct commit_header`). */
export interface CommitRecord {
  /** 1 (CRC32) and 4 with the v1 sum, else 0 and 0. */
  readonly checksumType: number;
  readonly checksumSize: number;
  readonly checksum: number;
  /** Two words as they are, since a tool writes them swapped: to be compared, not shown. */
  readonly secHigh: number;
  readonly secLow: number;
}

export function decodeCommit(block: Uint8Array): CommitRecord {
  return {
    checksumType: block[JBD2.h_chksum_type]!,
    checksumSize: block[JBD2.h_chksum_size]!,
    checksum: be32(block, JBD2.h_chksum),
    secHigh: be32(block, JBD2.h_commit_sec),
    secLow: be32(block, JBD2.h_commit_sec + 4),
  };
}

/** True if `a` was committed at an earlier second than `b`; undefined stands for the year 1970. */
export function isOlderCommit(a: CommitRecord, b: CommitRecord | undefined): boolean {
  if (b === undefined) return false;
  return a.secHigh < b.secHigh || (a.secHigh === b.secHigh && a.secLow < b.secLow);
}
