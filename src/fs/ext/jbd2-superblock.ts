/**
 * The journal superblock: where the log lies, where it begins, and in which form it is written.
 *
 *     block 0            first                                   last                    maxlen
 *     | superblock | log proper, a ring: .. tail=start .. head .. | unused | fast commits |
 *
 * `first <= start < last`; start 0 means an empty log. Without fast commits `last` is `maxlen`.
 * A reader that wraps elsewhere than at `last` loses committed transactions.
 *
 * After `journal_superblock_t` of `include/linux/jbd2.h` and `jbd2_journal_load` of Linux. Left
 * out: writing it, and the list of users of an external journal.
 */
import { be32 } from "../../lib/bytes.ts";
import type { ErrnoCode } from "../../lib/errno.ts";
import { FsError } from "../../lib/errno.ts";
import { journalSeed, journalSuperblockChecksum } from "./jbd2-checksum.ts";
import {
  decodeHeader,
  JBD2_SUPERBLOCK_V1,
  JBD2_SUPERBLOCK_V2,
  type LogFormat,
  nextTid,
} from "./jbd2-format.ts";

/** Field offsets (`journal_superblock_t`). */
export const JSB = {
  s_blocksize: 0x0c,
  s_maxlen: 0x10,
  s_first: 0x14,
  s_sequence: 0x18,
  s_start: 0x1c,
  s_errno: 0x20,
  s_feature_compat: 0x24,
  s_feature_incompat: 0x28,
  s_feature_ro_compat: 0x2c,
  s_uuid: 0x30,
  s_checksum_type: 0x50,
  s_num_fc_blks: 0x54,
  s_head: 0x58,
  s_checksum: 0xfc,
} as const;
/** Bytes of the structure; the rest of its block is zero. */
export const JSB_BYTES = 1024;

/** Journal features (`JBD2_FEATURE_*`). */
export const JBD2_COMPAT_CHECKSUM = 0x1;
export const JBD2_INCOMPAT_REVOKE = 0x1;
export const JBD2_INCOMPAT_64BIT = 0x2;
export const JBD2_INCOMPAT_ASYNC_COMMIT = 0x4;
export const JBD2_INCOMPAT_CSUM_V2 = 0x8;
export const JBD2_INCOMPAT_CSUM_V3 = 0x10;
export const JBD2_INCOMPAT_FAST_COMMIT = 0x20;
const INCOMPAT_KNOWN = 0x3f;
const CHECKSUM_TYPE_CRC32C = 4;
/** Blocks that the log proper has at least (`JBD2_MIN_JOURNAL_BLOCKS`). */
export const JOURNAL_BLOCKS_MIN = 1024;
/** Fast-commit blocks where `s_num_fc_blks` is 0 (`JBD2_DEFAULT_FAST_COMMIT_BLOCKS`). */
export const FAST_COMMIT_BLOCKS_DEFAULT = 256;

const FEATURE_NAMES: readonly (readonly [string, number, string])[] = [
  ["compat", JBD2_COMPAT_CHECKSUM, "checksum_v1"],
  ["incompat", JBD2_INCOMPAT_REVOKE, "revoke"],
  ["incompat", JBD2_INCOMPAT_64BIT, "64bit"],
  ["incompat", JBD2_INCOMPAT_ASYNC_COMMIT, "async_commit"],
  ["incompat", JBD2_INCOMPAT_CSUM_V2, "checksum_v2"],
  ["incompat", JBD2_INCOMPAT_CSUM_V3, "checksum_v3"],
  ["incompat", JBD2_INCOMPAT_FAST_COMMIT, "fast_commit"],
];

/** What the walk over a log needs to know of its superblock; all checked. */
export interface JournalSuperblock extends LogFormat {
  readonly version: 1 | 2;
  readonly blockCount: number;
  readonly first: number;
  /** First block behind the log proper, where it wraps to `first`. */
  readonly last: number;
  /** 0: nothing to recover. */
  readonly start: number;
  /** Id of the transaction at `start`. */
  readonly sequence: number;
  /** 0, or the negative errno with which an earlier mount gave up. */
  readonly errno: number;
  readonly features: { readonly compat: number; readonly incompat: number };
  readonly hasChecksumV1: boolean;
  readonly isAsyncCommit: boolean;
  readonly isFastCommit: boolean;
  readonly uuid: Uint8Array;
  /** From which the v2 and v3 checksums start. */
  readonly seed: number;
}

/** Words for the features, as `dumpe2fs` orders them. */
export function journalFeatureNames(features: JournalSuperblock["features"]): string[] {
  return FEATURE_NAMES.filter(([set, bit]) => {
    return ((set === "compat" ? features.compat : features.incompat) & bit) !== 0;
  }).map(([, , name]) => name);
}

/** Id of the first transaction that a writer may use if nothing is recovered. */
export function firstFreeTid(sb: JournalSuperblock): number {
  return nextTid(sb.sequence);
}

function refuse(code: ErrnoCode, what: string): never {
  throw new FsError(code, { detail: `journal superblock: ${what}` });
}

/** Throws for features that we do not know or that exclude each other. */
function checkFeatures(block: Uint8Array, compat: number, incompat: number): void {
  const isV2 = (incompat & JBD2_INCOMPAT_CSUM_V2) !== 0;
  const isV3 = (incompat & JBD2_INCOMPAT_CSUM_V3) !== 0;
  if (isV2 && isV3) refuse("EUCLEAN", "s_feature_incompat has checksum v2 and v3 at once");
  if ((isV2 || isV3) && (compat & JBD2_COMPAT_CHECKSUM) !== 0) {
    refuse("EUCLEAN", "s_feature_compat has checksum v1 beside v2 or v3");
  }
  if (isV2 || isV3) {
    const type = block[JSB.s_checksum_type]!;
    if (type !== CHECKSUM_TYPE_CRC32C) refuse("EUCLEAN", `s_checksum_type is ${type}, not 4`);
    if (journalSuperblockChecksum(block) !== be32(block, JSB.s_checksum)) {
      refuse("EBADMSG", "s_checksum does not match");
    }
  }
  const unknown = (incompat & ~INCOMPAT_KNOWN) >>> 0;
  if (unknown !== 0) refuse("EOPNOTSUPP", `unknown incompat features 0x${unknown.toString(16)}`);
  const roCompat = be32(block, JSB.s_feature_ro_compat);
  if (roCompat !== 0) refuse("EOPNOTSUPP", `unknown ro_compat features 0x${roCompat.toString(16)}`);
}

/** First block behind the log proper. Throws if fast commits leave too little of it. */
function logEnd(block: Uint8Array, blockCount: number, isFastCommit: boolean): number {
  if (!isFastCommit) return blockCount;
  const reserved = be32(block, JSB.s_num_fc_blks) || FAST_COMMIT_BLOCKS_DEFAULT;
  if (blockCount - reserved < JOURNAL_BLOCKS_MIN) {
    refuse("EUCLEAN", `s_num_fc_blks ${reserved} leaves less than ${JOURNAL_BLOCKS_MIN} blocks`);
  }
  return blockCount - reserved;
}

/**
 * Decodes and checks the superblock at the start of `block`, for a journal file (or device) of
 * `fileBlockCount` blocks of `blockBytes`.
 *
 * @throws {FsError} `EUCLEAN` naming the field, `EBADMSG` for the checksum, `EOPNOTSUPP` for a
 *   feature that we do not know
 */
export function decodeJournalSuperblock(
  block: Uint8Array,
  { blockBytes, fileBlockCount }: { readonly blockBytes: number; readonly fileBlockCount: number },
): JournalSuperblock {
  const type = decodeHeader(block)?.type;
  if (type !== JBD2_SUPERBLOCK_V1 && type !== JBD2_SUPERBLOCK_V2) {
    refuse("EUCLEAN", type === undefined ? "the magic number is wrong" : `h_blocktype is ${type}`);
  }
  const blockCount = be32(block, JSB.s_maxlen);
  if (blockCount > fileBlockCount || blockCount < JOURNAL_BLOCKS_MIN) {
    refuse("EUCLEAN", `s_maxlen is ${blockCount}, not ${JOURNAL_BLOCKS_MIN}..${fileBlockCount}`);
  }
  const first = be32(block, JSB.s_first);
  if (first === 0 || first >= blockCount) refuse("EUCLEAN", `s_first ${first} is outside the log`);
  const isV2Super = type === JBD2_SUPERBLOCK_V2;
  const compat = isV2Super ? be32(block, JSB.s_feature_compat) : 0;
  const incompat = isV2Super ? be32(block, JSB.s_feature_incompat) : 0;
  if (isV2Super) checkFeatures(block, compat, incompat);
  const stored = be32(block, JSB.s_blocksize);
  if (stored !== blockBytes) refuse("EUCLEAN", `s_blocksize is ${stored}, not ${blockBytes}`);
  const isFastCommit = (incompat & JBD2_INCOMPAT_FAST_COMMIT) !== 0;
  const last = logEnd(block, blockCount, isFastCommit);
  const start = be32(block, JSB.s_start);
  if (first >= last) refuse("EUCLEAN", `s_first ${first} lies in the fast-commit area`);
  if (start !== 0 && (start < first || start >= last)) {
    refuse("EUCLEAN", `s_start ${start} is outside the log ${first}..${last - 1}`);
  }
  const uuid = block.slice(JSB.s_uuid, JSB.s_uuid + 16);
  let checksumVersion: 0 | 2 | 3 = 0;
  if ((incompat & JBD2_INCOMPAT_CSUM_V2) !== 0) checksumVersion = 2;
  if ((incompat & JBD2_INCOMPAT_CSUM_V3) !== 0) checksumVersion = 3;
  return {
    version: isV2Super ? 2 : 1,
    blockBytes,
    blockCount,
    first,
    last,
    start,
    sequence: be32(block, JSB.s_sequence),
    errno: be32(block, JSB.s_errno) | 0,
    features: { compat, incompat },
    is64Bit: (incompat & JBD2_INCOMPAT_64BIT) !== 0,
    checksumVersion,
    hasChecksumV1: (compat & JBD2_COMPAT_CHECKSUM) !== 0,
    isAsyncCommit: (incompat & JBD2_INCOMPAT_ASYNC_COMMIT) !== 0,
    isFastCommit,
    uuid,
    seed: journalSeed(uuid),
  };
}
