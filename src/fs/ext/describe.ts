/**
 * What an image is, as data for `quire info`: JSON-ready, keys in reading order. Block and inode
 * counts come from the group descriptors, everything else from the superblock (`dumpe2fs -h`).
 */
import { hexOf, le16, le32 } from "../../lib/bytes.ts";
import {
  COMPAT_HAS_JOURNAL,
  COMPAT_ORPHAN_FILE,
  COMPAT_SPARSE_SUPER2,
  featureNames,
  INCOMPAT_CASEFOLD,
  INCOMPAT_ENCRYPT,
  INCOMPAT_META_BG,
  INCOMPAT_RECOVER,
  RO_COMPAT_BIGALLOC,
  RO_COMPAT_METADATA_CSUM,
  RO_COMPAT_PROJECT,
  RO_COMPAT_QUOTA,
  RO_COMPAT_READONLY,
  unknownRoCompat,
} from "./features.ts";
import { SB } from "./layout.ts";
import type { MmpState } from "./mmp.ts";
import type { JournalInfo } from "./recovery.ts";
import type { Superblock } from "./superblock.ts";
import { type GroupSums, usageOf } from "./usage.ts";

type Description = Record<string, unknown>;

const EXT3_INCOMPAT = 0x2 | INCOMPAT_RECOVER | INCOMPAT_META_BG;
const EXT3_RO_COMPAT = 0x7;
const HASH_NAMES = ["legacy", "half_md4", "tea"];
const OS_NAMES = ["Linux", "Hurd", "Masix", "FreeBSD", "Lites"];
const ERROR_BEHAVIOURS = ["unknown", "continue", "remount read-only", "panic"];
const STATE_CLEAN = 1;
const STATE_ERRORS = 2;
const STATE_ORPHANS = 4;
const STATE_FAST_COMMITS = 0x20;
const FLAG_SIGNED_HASH = 1;
const FLAG_UNSIGNED_HASH = 2;
const FLAG_TEST = 4;
const ENCODING_STRICT = 1;
/** The revision that Linux writes to; it only reads later ones. */
const REVISION_MAX = 1;
/** Bits of `s_default_mount_opts` (`EXT4_DEFM_*`). */
const MOUNT_OPTION_NAMES: readonly (readonly [bit: number, name: string])[] = [
  [0x1, "debug"],
  [0x2, "bsdgroups"],
  [0x4, "user_xattr"],
  [0x8, "acl"],
  [0x10, "uid16"],
  [0x100, "nobarrier"],
  [0x200, "block_validity"],
  [0x400, "discard"],
  [0x800, "nodelalloc"],
];
const JOURNAL_MODE_SHIFT = 5;
const JOURNAL_MODE_NAMES = ["", "journal_data", "journal_data_ordered", "journal_data_writeback"];
/** What an error record says went wrong (`EXT4_ERR_*`), by number. */
const ERROR_NAMES = [
  "",
  "unknown",
  "EIO",
  "ENOMEM",
  "bad checksum",
  "structure damaged",
  "ENOSPC",
  "ENOKEY",
  "EROFS",
  "EFBIG",
  "EEXIST",
  "ERANGE",
  "EOVERFLOW",
  "EBUSY",
  "ENOTDIR",
  "ENOTEMPTY",
  "shut down",
  "EFAULT",
];

/** "ext2", "ext3" or "ext4", by what its features need. */
export function typeNameOf(sb: Superblock): "ext2" | "ext3" | "ext4" {
  const { incompat, roCompat } = sb.features;
  if ((incompat & ~EXT3_INCOMPAT) !== 0 || (roCompat & ~EXT3_RO_COMPAT) !== 0) return "ext4";
  return sb.hasCompat(COMPAT_HAS_JOURNAL) ? "ext3" : "ext2";
}

function uuidText(bytes: Uint8Array): string {
  const hex = hexOf(bytes);
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join("-");
}

/** ISO text of a superblock time, null for one that was never set. */
function timeText(sb: Superblock, lo: number, hi: number): string | null {
  const sec = sb.time(lo, hi);
  return sec === 0 ? null : new Date(sec * 1000).toISOString();
}

function stateText(sb: Superblock): string {
  const state = le16(sb.raw, SB.s_state);
  const words = [(state & STATE_CLEAN) !== 0 ? "clean" : "not clean"];
  if ((state & STATE_ERRORS) !== 0) words.push("with errors");
  if ((state & STATE_ORPHANS) !== 0) words.push("orphans being recovered");
  if ((state & STATE_FAST_COMMITS) !== 0) words.push("fast commits being replayed");
  if (sb.hasIncompat(INCOMPAT_RECOVER)) words.push("needs recovery");
  return words.join(", ");
}

function describeLayout(sb: Superblock): Description {
  const layout = new Map<string, unknown>(
    Object.entries({
      blockBytes: sb.blockBytes,
      blockCount: sb.blockCount,
      sizeBytes: sb.blockCount * sb.blockBytes,
      firstDataBlock: sb.firstDataBlock,
      groupCount: sb.groupCount,
      blocksPerGroup: sb.blocksPerGroup,
      inodesPerGroup: sb.inodesPerGroup,
      inodeBytes: sb.inodeBytes,
      firstInode: sb.firstIno,
      extraInodeBytes: {
        least: sb.revision > 0 ? le16(sb.raw, SB.s_min_extra_isize) : 0,
        wanted: sb.revision > 0 ? le16(sb.raw, SB.s_want_extra_isize) : 0,
      },
      descriptorBytes: sb.descriptorBytes,
      descriptorBlocks: sb.descriptorBlockCount,
      reservedDescriptorBlocks: le16(sb.raw, SB.s_reserved_gdt_blocks),
    }),
  );
  if (sb.hasRoCompat(RO_COMPAT_BIGALLOC)) {
    layout.set("clusterBytes", sb.clusterRatio * sb.blockBytes);
    layout.set("clustersPerGroup", sb.clustersPerGroup);
  }
  if (sb.raw[SB.s_log_groups_per_flex]! > 0) {
    layout.set("groupsPerFlexGroup", 2 ** Math.min(sb.raw[SB.s_log_groups_per_flex]!, 31));
  }
  if (sb.hasIncompat(INCOMPAT_META_BG)) layout.set("firstMetaGroup", sb.firstMetaBg);
  if (sb.hasCompat(COMPAT_SPARSE_SUPER2)) {
    layout.set(
      "backupGroups",
      [0, 4].map((at) => le32(sb.raw, SB.s_backup_bgs + at)),
    );
  }
  return Object.fromEntries(layout);
}

function wideId(sb: Superblock, lo: number, hi: number): number {
  return le16(sb.raw, lo) + (sb.revision > 0 ? le16(sb.raw, hi) * 0x1_0000 : 0);
}

function describeUsage(sb: Superblock, sums: GroupSums): Description {
  const usage = usageOf(sb, sums);
  return {
    freeBlocks: usage.freeBlockCount,
    availableBlocks: usage.availableBlockCount,
    reservedBlocks: sb.reservedBlockCount,
    reservedForUid: wideId(sb, SB.s_def_resuid, SB.s_def_resuid_hi),
    reservedForGid: wideId(sb, SB.s_def_resgid, SB.s_def_resgid_hi),
    overheadBlocks: sums.overheadBlockCount,
    inodes: usage.inodeCount,
    freeInodes: usage.freeInodeCount,
    directories: sums.directoryCount,
  };
}

/** Mounts after which a check is due, null for no limit: 0, or negative as 16 signed bits. */
function checkAfterMounts(sb: Superblock): number | null {
  const count = (le16(sb.raw, SB.s_max_mnt_count) << 16) >> 16;
  return count > 0 ? count : null;
}

function describeTimes(sb: Superblock): Description {
  return {
    created: sb.revision > 0 ? timeText(sb, SB.s_mkfs_time, SB.s_mkfs_time_hi) : null,
    lastMounted: timeText(sb, SB.s_mtime, SB.s_mtime_hi),
    lastWritten: timeText(sb, SB.s_wtime, SB.s_wtime_hi),
    lastChecked: timeText(sb, SB.s_lastcheck, SB.s_lastcheck_hi),
    mountCount: le16(sb.raw, SB.s_mnt_count),
    checkAfterMounts: checkAfterMounts(sb),
    checkIntervalSec: le32(sb.raw, SB.s_checkinterval),
  };
}

function describeJournal(sb: Superblock, journal: JournalInfo | undefined): Description | null {
  if (!sb.hasCompat(COMPAT_HAS_JOURNAL)) return null;
  const place =
    sb.journalIno !== 0
      ? { kind: "internal", inode: sb.journalIno }
      : { kind: "external", uuid: uuidText(sb.journalUuid) };
  const needsRecovery = sb.hasIncompat(INCOMPAT_RECOVER);
  return journal === undefined ? { ...place, needsRecovery } : { ...place, ...journal };
}

/** Fields of the first or of the last recorded error; their order differs on disk. */
interface ErrorFields {
  readonly time: number;
  readonly timeHi: number;
  readonly func: number;
  readonly line: number;
  readonly ino: number;
  readonly block: number;
  readonly code: number;
}

const FIRST_ERROR: ErrorFields = {
  time: SB.s_first_error_time,
  timeHi: SB.s_first_error_time_hi,
  func: SB.s_first_error_func,
  line: SB.s_first_error_line,
  ino: SB.s_first_error_ino,
  block: SB.s_first_error_block,
  code: SB.s_first_error_errcode,
};
const LAST_ERROR: ErrorFields = {
  time: SB.s_last_error_time,
  timeHi: SB.s_last_error_time_hi,
  func: SB.s_last_error_func,
  line: SB.s_last_error_line,
  ino: SB.s_last_error_ino,
  block: SB.s_last_error_block,
  code: SB.s_last_error_errcode,
};

function describeError(sb: Superblock, at: ErrorFields): Description {
  const { raw } = sb;
  const code = raw[at.code]!;
  return {
    time: timeText(sb, at.time, at.timeHi),
    error: ERROR_NAMES[code] ?? `unknown (${code})`,
    function: sb.text(at.func, 32),
    line: le32(raw, at.line),
    inode: le32(raw, at.ino),
    block: le32(raw, at.block) + le32(raw, at.block + 4) * 0x1_0000_0000,
  };
}

function describeErrors(sb: Superblock): Description | null {
  const count = sb.revision > 0 ? le32(sb.raw, SB.s_error_count) : 0;
  if (count === 0) return null;
  return { count, first: describeError(sb, FIRST_ERROR), last: describeError(sb, LAST_ERROR) };
}

/** Names of the options that a mount gets unasked. */
function defaultMountOptions(sb: Superblock): readonly string[] {
  if (sb.revision === 0) return [];
  const bits = le32(sb.raw, SB.s_default_mount_opts);
  const names = MOUNT_OPTION_NAMES.filter(([bit]) => (bits & bit) !== 0).map(([, name]) => name);
  const text = sb.text(SB.s_mount_opts, 64);
  const mode = JOURNAL_MODE_NAMES[(bits >>> JOURNAL_MODE_SHIFT) & 3]!;
  return [...names, mode, ...text.split(",")].filter((name) => name !== "");
}

/** What only some images have: quota, encryption, case folding, orphans, checksums, RAID. */
function describeExtras(sb: Superblock, { mmp, orphanCount }: ImageFindings): Description {
  const { raw } = sb;
  const extras = new Map<string, unknown>();
  if (sb.revision > 0 && le32(raw, SB.s_flags) & FLAG_TEST) extras.set("isTest", true);
  if (sb.hasRoCompat(RO_COMPAT_METADATA_CSUM))
    extras.set("checksumSeed", sb.seed.toString(16).padStart(8, "0"));
  if (sb.hasRoCompat(RO_COMPAT_QUOTA)) {
    extras.set("quotaInodes", {
      user: le32(raw, SB.s_usr_quota_inum),
      group: le32(raw, SB.s_grp_quota_inum),
      project: sb.hasRoCompat(RO_COMPAT_PROJECT) ? le32(raw, SB.s_prj_quota_inum) : 0,
    });
  }
  if (sb.hasIncompat(INCOMPAT_ENCRYPT)) {
    const algorithms = raw.subarray(SB.s_encrypt_algos, SB.s_encrypt_algos + 4);
    extras.set(
      "encryptionAlgorithms",
      [...algorithms].filter((algorithm) => algorithm !== 0),
    );
  }
  if (sb.hasIncompat(INCOMPAT_CASEFOLD)) {
    extras.set("encoding", {
      name:
        le16(raw, SB.s_encoding) === 1 ? "utf8-12.1.0" : `unknown (${le16(raw, SB.s_encoding)})`,
      isStrict: (le16(raw, SB.s_encoding_flags) & ENCODING_STRICT) !== 0,
    });
  }
  if (sb.hasCompat(COMPAT_ORPHAN_FILE)) extras.set("orphanFileInode", sb.orphanFileIno);
  if (sb.lastOrphan !== 0) extras.set("firstOrphanInode", sb.lastOrphan);
  if (orphanCount !== 0) extras.set("orphans", orphanCount ?? "unknown");
  if (sb.revision > 0 && le16(raw, SB.s_raid_stride) > 0) {
    const stripe = le32(raw, SB.s_raid_stripe_width);
    extras.set("raid", { strideBlocks: le16(raw, SB.s_raid_stride), stripeBlocks: stripe });
  }
  if (mmp !== undefined) extras.set("multiMountProtection", { ...mmp });
  return Object.fromEntries(extras);
}

function hashText(sb: Superblock): string {
  const name = HASH_NAMES[sb.hashVersion] ?? `unknown (${sb.hashVersion})`;
  if ((sb.flags & FLAG_UNSIGNED_HASH) !== 0) return `${name}, unsigned bytes`;
  return (sb.flags & FLAG_SIGNED_HASH) !== 0 ? `${name}, signed bytes` : name;
}

/** What is known of an image beside its superblock. */
export interface ImageFindings {
  readonly sums: GroupSums;
  /** Undefined without the feature, or if its block is damaged. */
  readonly mmp: MmpState | undefined;
  /** What is in the journal; undefined without one, and if it was not looked at. */
  readonly journal: JournalInfo | undefined;
  /** Inodes that were deleted, or being truncated, while in use; undefined if not known. */
  readonly orphanCount: number | undefined;
}

/** See the head of the file. */
export function describeImage(sb: Superblock, findings: ImageFindings): Description {
  const { raw } = sb;
  const isDynamic = sb.revision > 0;
  const features = featureNames(sb.features);
  const unknown = unknownRoCompat(sb.features);
  return {
    type: typeNameOf(sb),
    revision: sb.revision,
    uuid: isDynamic ? uuidText(sb.uuid) : null,
    label: isDynamic ? sb.text(SB.s_volume_name, 16) : "",
    lastMountedOn: isDynamic ? sb.text(SB.s_last_mounted, 64) : "",
    state: stateText(sb),
    isWriteForbidden:
      unknown.length > 0 || sb.hasRoCompat(RO_COMPAT_READONLY) || sb.revision > REVISION_MAX,
    onErrors: ERROR_BEHAVIOURS[le16(raw, SB.s_errors)] ?? "unknown",
    creatorOs: OS_NAMES[sb.creatorOs] ?? `unknown (${sb.creatorOs})`,
    features: [...features.compat, ...features.incompat, ...features.roCompat],
    layout: describeLayout(sb),
    usage: describeUsage(sb, findings.sums),
    times: describeTimes(sb),
    kilobytesWritten: isDynamic
      ? le32(raw, SB.s_kbytes_written) + le32(raw, SB.s_kbytes_written + 4) * 0x1_0000_0000
      : 0,
    directoryHash: isDynamic ? hashText(sb) : null,
    directoryHashSeed: isDynamic
      ? uuidText(raw.subarray(SB.s_hash_seed, SB.s_hash_seed + 16))
      : null,
    defaultMountOptions: defaultMountOptions(sb),
    journal: describeJournal(sb, findings.journal),
    errors: describeErrors(sb),
    ...describeExtras(sb, findings),
  };
}
