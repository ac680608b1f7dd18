/**
 * The blocks of a transaction as they lie in the log: revoke blocks, descriptors, copies, and the
 * commit block that makes it real.
 *
 *     image     | revoke .. | descriptor | copy | copy | .. | descriptor | copy | ..     one array
 *     then      | commit |                                          written when that is durable
 *
 *  1. Bytes are copied once, into the image, and changed only there: a copy that begins with the
 *     magic number is escaped, checksums are over what lies in the log.
 *  2. The first tag of a descriptor is followed by a UUID of zeros, as the kernel writes it, and
 *     the others say that theirs is the same.
 *
 * After `jbd2_journal_commit_transaction` and `jbd2_journal_write_revoke_records` of Linux.
 */
import { assert } from "../../lib/assert.ts";
import { be32, putBe16, putBe32 } from "../../lib/bytes.ts";
import { mutants } from "../../lib/mutants.ts";
import {
  addToV1Sum,
  commitBlockChecksum,
  controlBlockChecksum,
  copyChecksum,
  V1_SUM_START,
} from "./jbd2-checksum.ts";
import {
  JBD2,
  JBD2_COMMIT_BLOCK,
  JBD2_DESCRIPTOR_BLOCK,
  JBD2_FLAG_ESCAPE,
  JBD2_FLAG_LAST_TAG,
  JBD2_FLAG_SAME_UUID,
  JBD2_HEADER_BYTES,
  JBD2_MAGIC,
  JBD2_REVOKE_BLOCK,
  JBD2_REVOKE_HEADER_BYTES,
  type JournalTag,
  type LogFormat,
  tagBytesOf,
  tailBytesOf,
} from "./jbd2-format.ts";

const UUID_BYTES = 16;
const WORD = 0x1_0000_0000;
const NS_PER_MS = 1_000_000;
const MS_PER_SECOND = 1000;
/** `h_chksum_type` and `h_chksum_size` of the sum over a transaction. */
const CHKSUM_CRC32 = 1;
const CHKSUM_BYTES = 4;

/** How the blocks of a log are to be written. */
export interface LogWriteFormat extends LogFormat {
  readonly hasChecksumV1: boolean;
  /** From which the v2 and v3 checksums start. */
  readonly seed: number;
}

/** A home block with the bytes that its transaction gives it. */
export interface LoggedBlock {
  readonly blocknr: number;
  readonly data: Uint8Array;
}

/** Tags that one descriptor takes: the kernel's rule, which leaves room for one more UUID. */
export function tagsPerDescriptor(format: LogFormat): number {
  const tagBytes = tagBytesOf(format);
  const keptBytes = tagBytes + UUID_BYTES + tailBytesOf(format);
  const spaceBytes = format.blockBytes - JBD2_HEADER_BYTES - UUID_BYTES;
  return Math.floor((spaceBytes - keptBytes) / tagBytes) + 1;
}

/** Entries that one revoke block takes. */
export function revokesPerBlock(format: LogFormat): number {
  const spaceBytes = format.blockBytes - JBD2_REVOKE_HEADER_BYTES - tailBytesOf(format);
  return Math.floor(spaceBytes / (format.is64Bit ? 8 : 4));
}

/** Log blocks of a transaction with so many copies and revokes, its commit block included. */
export function logBlocksOf(format: LogFormat, copyCount: number, revokeCount: number): number {
  const descriptors = Math.ceil(copyCount / tagsPerDescriptor(format));
  return copyCount + descriptors + Math.ceil(revokeCount / revokesPerBlock(format)) + 1;
}

function putHeader(block: Uint8Array, type: number, tid: number): void {
  putBe32(block, JBD2.h_magic, JBD2_MAGIC);
  putBe32(block, JBD2.h_blocktype, type);
  putBe32(block, JBD2.h_sequence, tid);
}

function sealControlBlock(block: Uint8Array, format: LogWriteFormat): void {
  if (format.checksumVersion === 0) return;
  putBe32(block, block.length - 4, controlBlockChecksum(format.seed, block));
}

function putTag(
  block: Uint8Array,
  at: number,
  tag: JournalTag,
  flags: number,
  format: LogFormat,
): void {
  const high = Math.floor(tag.blocknr / WORD);
  assert(high === 0 || format.is64Bit, "block numbers fit the journal");
  putBe32(block, at, tag.blocknr % WORD);
  if (format.checksumVersion === 3) {
    putBe32(block, at + 4, flags);
    putBe32(block, at + 8, high);
    putBe32(block, at + 12, tag.checksum);
    return;
  }
  putBe16(block, at + 4, format.checksumVersion === 2 ? tag.checksum & 0xffff : 0);
  putBe16(block, at + 6, flags);
  if (format.is64Bit) putBe32(block, at + 8, high);
}

/** Writes the descriptor of `tags`, at most `tagsPerDescriptor`, into `block`, which is zero. */
export function encodeDescriptor(
  block: Uint8Array,
  tid: number,
  tags: readonly JournalTag[],
  format: LogWriteFormat,
): void {
  putHeader(block, JBD2_DESCRIPTOR_BLOCK, tid);
  let at = JBD2_HEADER_BYTES;
  for (const [index, tag] of tags.entries()) {
    let flags = tag.isEscaped ? JBD2_FLAG_ESCAPE : 0;
    if (index > 0) flags |= JBD2_FLAG_SAME_UUID;
    if (index === tags.length - 1) flags |= JBD2_FLAG_LAST_TAG;
    putTag(block, at, tag, flags, format);
    at += tagBytesOf(format) + (index === 0 ? UUID_BYTES : 0);
  }
  sealControlBlock(block, format);
}

/** Writes a revoke block of at most `revokesPerBlock` numbers into `block`, which is zero. */
export function encodeRevokes(
  block: Uint8Array,
  tid: number,
  blocknrs: readonly number[],
  format: LogWriteFormat,
): void {
  putHeader(block, JBD2_REVOKE_BLOCK, tid);
  let at = JBD2_REVOKE_HEADER_BYTES;
  for (const blocknr of blocknrs) {
    if (format.is64Bit) {
      putBe32(block, at, Math.floor(blocknr / WORD));
      at += 4;
    }
    putBe32(block, at, blocknr % WORD);
    at += 4;
  }
  putBe32(block, JBD2.r_count, at);
  sealControlBlock(block, format);
}

/** The commit block of `tid`; `v1Sum` is that of its image, for a journal with such sums. */
export function encodeCommit(
  tid: number,
  wallMs: number,
  v1Sum: number,
  format: LogWriteFormat,
): Uint8Array {
  const block = new Uint8Array(format.blockBytes);
  putHeader(block, JBD2_COMMIT_BLOCK, tid);
  const seconds = Math.floor(wallMs / MS_PER_SECOND);
  putBe32(block, JBD2.h_commit_sec, Math.floor(seconds / WORD));
  putBe32(block, JBD2.h_commit_sec + 4, seconds % WORD);
  const restNs = Math.floor((wallMs - seconds * MS_PER_SECOND) * NS_PER_MS);
  putBe32(block, JBD2.h_commit_nsec, restNs);
  if (format.hasChecksumV1) {
    block[JBD2.h_chksum_type] = CHKSUM_CRC32;
    block[JBD2.h_chksum_size] = CHKSUM_BYTES;
    putBe32(block, JBD2.h_chksum, v1Sum);
  } else if (format.checksumVersion !== 0 && !mutants.commitWithoutChecksum) {
    putBe32(block, JBD2.h_chksum, commitBlockChecksum(format.seed, block));
  }
  return block;
}

/** All of a transaction but its commit block. */
export interface TransactionImage {
  /** Whole blocks in the order of the log. */
  readonly bytes: Uint8Array;
  readonly v1Sum: number;
}

/** Copies `blocks` and lays `tid` out as it is to lie in the log. Keeps no reference to them. */
export function encodeTransaction(
  tid: number,
  blocks: readonly LoggedBlock[],
  revokes: readonly number[],
  format: LogWriteFormat,
): TransactionImage {
  const { blockBytes } = format;
  const count = logBlocksOf(format, blocks.length, revokes.length) - 1;
  const bytes = new Uint8Array(count * blockBytes);
  let used = 0;
  const next = (): Uint8Array => {
    used++;
    return bytes.subarray((used - 1) * blockBytes, used * blockBytes);
  };
  for (let at = 0; at < revokes.length; at += revokesPerBlock(format)) {
    encodeRevokes(next(), tid, revokes.slice(at, at + revokesPerBlock(format)), format);
  }
  let v1Sum = V1_SUM_START;
  const perDescriptor = tagsPerDescriptor(format);
  for (let at = 0; at < blocks.length; at += perDescriptor) {
    const descriptor = next();
    const tags: JournalTag[] = [];
    const firstCopy = used;
    for (const { blocknr, data } of blocks.slice(at, at + perDescriptor)) {
      tags.push(putCopy(next(), tid, blocknr, data, format));
    }
    encodeDescriptor(descriptor, tid, tags, format);
    if (!format.hasChecksumV1) continue;
    v1Sum = addToV1Sum(v1Sum, descriptor);
    v1Sum = addToV1Sum(v1Sum, bytes.subarray(firstCopy * blockBytes, used * blockBytes));
  }
  assert(used === count, "a transaction has as many log blocks as were counted");
  return { bytes, v1Sum };
}

/** Puts the log copy of a block into `copy`, and returns its tag. */
function putCopy(
  copy: Uint8Array,
  tid: number,
  blocknr: number,
  data: Uint8Array,
  format: LogWriteFormat,
): JournalTag {
  copy.set(data);
  const isEscaped = be32(copy, 0) === JBD2_MAGIC;
  if (isEscaped) putBe32(copy, 0, 0);
  const checksum = format.checksumVersion === 0 ? 0 : copyChecksum(format.seed, tid, copy);
  return { blocknr, isEscaped, checksum };
}
