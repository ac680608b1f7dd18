/**
 * What a new file system is to be like: the options of `makeExt`, and the numbers that follow from
 * them and from the size of the device, as mke2fs would choose them.
 *
 *     type ext2, ext3, ext4     which features
 *     usage, or the size        floppy < 3 MiB, small < 512 MiB, default, big from 4 TiB, huge from
 *                               16 TiB: size of a block, bytes for each inode
 *     options                   whatever is said outright
 *
 * After mke2fs(8) and mke2fs.conf(5) of e2fsprogs 1.47.0, with the configuration of Debian. Left
 * out: quota and project files, external journals, populating.
 */
import type { Clock } from "../../../lib/clock.ts";
import { FsError } from "../../../lib/errno.ts";
import type { Random } from "../../../lib/random.ts";
import { GIB, KIB, MIB, PAGE_BYTES, roundDown } from "../../../lib/units.ts";
import {
  type Features,
  INCOMPAT_64BIT,
  INCOMPAT_FLEX_BG,
  INCOMPAT_INLINE_DATA,
  RO_COMPAT_BIGALLOC,
} from "../features.ts";
import { GOOD_OLD_INODE_BYTES } from "../layout.ts";
import { type ExtType, featuresFor } from "./choose-features.ts";

/** What the files will be like; sets the bytes for each inode, and the size of a block. */
export type MkfsUsage =
  | "floppy"
  | "small"
  | "default"
  | "big"
  | "huge"
  | "news"
  | "largefile"
  | "largefile4";

/** What Linux does when it meets damage: `s_errors`. */
export type OnErrors = "continue" | "remount-ro" | "panic";

/** See the head of the file. All but `clock` and `random` may be left out. */
export interface MkfsOptions {
  readonly clock: Clock;
  /** UUID and hash seed are drawn from it where they are not given. */
  readonly random: Random;
  /** "ext4" if left out. */
  readonly type?: ExtType | undefined;
  /** By the size of the file system if left out. */
  readonly usage?: MkfsUsage | undefined;
  /** Size of the file system; the device, in whole pages, if left out. */
  readonly sizeBytes?: number | undefined;
  /** A power of two, 1 KiB to 64 KiB. */
  readonly blockBytes?: number | undefined;
  /** With the feature `bigalloc`: a power of two from two blocks on; 16 blocks if left out. */
  readonly clusterBytes?: number | undefined;
  /** A power of two, 128 to a block; 256 if left out. */
  readonly inodeBytes?: number | undefined;
  /** Inodes at least; by `bytesPerInode` if left out. */
  readonly inodeCount?: number | undefined;
  readonly bytesPerInode?: number | undefined;
  /** Names to add, as "orphan_file", or with "^" to leave away; "none" for none before it. */
  readonly features?: readonly string[] | undefined;
  /** 0 for the format of before 1995, without features; 1 if left out. */
  readonly revision?: 0 | 1 | undefined;
  /** At most 16 bytes of UTF-8. */
  readonly label?: string | undefined;
  /** Where it will be mounted; at most 64 bytes. */
  readonly lastMountedOn?: string | undefined;
  /** 16 bytes each. */
  readonly uuid?: Uint8Array | undefined;
  readonly hashSeed?: Uint8Array | undefined;
  /** Share of the blocks that is kept for root, 0 to 50; 5 if left out. */
  readonly reservedPercent?: number | undefined;
  /** Size of the journal, where there is one. */
  readonly journalBytes?: number | undefined;
  /** Blocks of a group, a multiple of 8. */
  readonly blocksPerGroup?: number | undefined;
  /** Groups whose tables lie together: a power of two; 16 if left out. */
  readonly groupsPerFlex?: number | undefined;
  /** Blocks on one disk of an array before the next is used, and on all of them. */
  readonly strideBlocks?: number | undefined;
  readonly stripeBlocks?: number | undefined;
  readonly rootUid?: number | undefined;
  readonly rootGid?: number | undefined;
  /** "continue" if left out. */
  readonly onErrors?: OnErrors | undefined;
  /** Names are hashed as unsigned bytes, as machines do whose `char` is unsigned. */
  readonly isUnsignedHash?: boolean | undefined;
  /** Leave inode tables that are not used yet to the kernel; true if left out. */
  readonly isLazyTable?: boolean | undefined;
  /** Write only the first block of the journal; false if left out. */
  readonly isLazyJournal?: boolean | undefined;
  /** The device reads as zeros: nothing has to be cleared. False if left out. */
  readonly isZeroed?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((doneGroups: number, groupCount: number) => void) | undefined;
}

/** Options with every default filled in. */
export interface MkfsParameters {
  readonly features: Features;
  readonly revision: number;
  readonly blockBytes: number;
  readonly clusterRatio: number;
  /** Blocks asked for; the file system may get fewer. */
  readonly blockCount: number;
  /** Blocks for root, of all that were asked for. */
  readonly reservedBlockCount: number;
  readonly inodeBytes: number;
  readonly wantedInodes: number;
  readonly blocksPerGroup: number;
  /** `s_log_groups_per_flex`, 0 without flex_bg. */
  readonly logGroupsPerFlex: number;
  readonly journalBytes: number | undefined;
  readonly strideBlocks: number;
  readonly stripeBlocks: number;
}

const BLOCK_BYTES_MAX = 64 * KIB;
const INODE_BYTES_DEFAULT = 256;
const BYTES_PER_INODE_MAX = 4 * GIB;
const RESERVED_PERCENT_DEFAULT = 5;
const RESERVED_PERCENT_MAX = 50;
const CLUSTER_BLOCKS_DEFAULT = 16;
const CLUSTER_BYTES_MAX = GIB / 2;
/** Blocks of a group that 16-bit counts of free blocks can tell. */
const GROUP_CLUSTERS_MAX = 65_528;
const GROUP_CLUSTERS_MIN = 256;
const GROUPS_PER_FLEX_DEFAULT = 16;
const BLOCKS_MAX_32BIT = 0x1_0000_0000;
const FLOPPY_BYTES = 3 * MIB;
const SMALL_BYTES = GIB / 2;
const BIG_BYTES = 4 * 1024 * GIB;
const HUGE_BYTES = 16 * 1024 * GIB;

interface UsageRow {
  readonly blockBytes: number;
  readonly bytesPerInode: number;
}

const PAGE = PAGE_BYTES;
const USAGES: Readonly<Record<MkfsUsage, UsageRow>> = {
  floppy: { blockBytes: KIB, bytesPerInode: 8 * KIB },
  small: { blockBytes: KIB, bytesPerInode: 4 * KIB },
  default: { blockBytes: PAGE, bytesPerInode: 16 * KIB },
  big: { blockBytes: PAGE, bytesPerInode: 32 * KIB },
  huge: { blockBytes: PAGE, bytesPerInode: 64 * KIB },
  news: { blockBytes: PAGE, bytesPerInode: 4 * KIB },
  largefile: { blockBytes: PAGE, bytesPerInode: MIB },
  largefile4: { blockBytes: PAGE, bytesPerInode: 4 * MIB },
};

/** An option that cannot be met. */
export function invalid(detail: string): FsError {
  return new FsError("EINVAL", { syscall: "mkfs", detail });
}

/** A device that is too small for what is asked for. */
export function noSpace(detail: string): FsError {
  return new FsError("ENOSPC", { syscall: "mkfs", detail });
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

function usageOfSize(sizeBytes: number): MkfsUsage {
  if (sizeBytes < FLOPPY_BYTES) return "floppy";
  if (sizeBytes < SMALL_BYTES) return "small";
  if (sizeBytes < BIG_BYTES) return "default";
  return sizeBytes < HUGE_BYTES ? "big" : "huge";
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (!(Number.isFinite(value) && value >= least && value <= most)) {
    throw invalid(`${name} is ${value}, not ${least} to ${most}`);
  }
}

function clusterRatioOf(options: MkfsOptions, blockBytes: number, isBigalloc: boolean): number {
  const { clusterBytes } = options;
  if (!isBigalloc) {
    if (clusterBytes === undefined || clusterBytes === blockBytes) return 1;
    throw invalid("clusterBytes needs the feature bigalloc");
  }
  if (clusterBytes === undefined) return CLUSTER_BLOCKS_DEFAULT;
  if (!isPowerOfTwo(clusterBytes)) throw invalid(`clusterBytes ${clusterBytes}: no power of two`);
  checkRange("clusterBytes", clusterBytes, 2 * blockBytes, CLUSTER_BYTES_MAX);
  return clusterBytes / blockBytes;
}

function inodeBytesOf(options: MkfsOptions, blockBytes: number, features: Features): number {
  const { revision = 1 } = options;
  const inodeBytes =
    options.inodeBytes ?? (revision === 0 ? GOOD_OLD_INODE_BYTES : INODE_BYTES_DEFAULT);
  if (!isPowerOfTwo(inodeBytes)) throw invalid(`inodeBytes ${inodeBytes}: no power of two`);
  checkRange("inodeBytes", inodeBytes, GOOD_OLD_INODE_BYTES, blockBytes);
  if (revision === 0 && inodeBytes !== GOOD_OLD_INODE_BYTES) {
    throw invalid("inodes of revision 0 have 128 bytes");
  }
  if (inodeBytes === GOOD_OLD_INODE_BYTES && (features.incompat & INCOMPAT_INLINE_DATA) !== 0) {
    throw invalid("the feature inline_data needs inodes of more than 128 bytes");
  }
  return inodeBytes;
}

function groupBlocksOf(options: MkfsOptions, blockBytes: number, ratio: number): number {
  const most = Math.min(8 * blockBytes, GROUP_CLUSTERS_MAX) * ratio;
  const { blocksPerGroup } = options;
  if (blocksPerGroup === undefined) return most;
  if (ratio > 1) throw invalid("blocksPerGroup cannot be chosen with bigalloc");
  if (blocksPerGroup % 8 !== 0) throw invalid(`blocksPerGroup ${blocksPerGroup}: no multiple of 8`);
  checkRange("blocksPerGroup", blocksPerGroup, GROUP_CLUSTERS_MIN, most);
  return blocksPerGroup;
}

function flexOf(options: MkfsOptions, features: Features): number {
  const { groupsPerFlex } = options;
  if ((features.incompat & INCOMPAT_FLEX_BG) === 0) {
    if (groupsPerFlex === undefined) return 0;
    throw invalid("groupsPerFlex needs the feature flex_bg");
  }
  if (groupsPerFlex === undefined) return Math.log2(GROUPS_PER_FLEX_DEFAULT);
  if (!isPowerOfTwo(groupsPerFlex)) throw invalid(`groupsPerFlex ${groupsPerFlex}: no power of 2`);
  return Math.log2(groupsPerFlex);
}

function wantedInodesOf(
  options: MkfsOptions,
  ratioDefault: number,
  sizes: { readonly blockBytes: number; readonly clusterBytes: number; readonly blocks: number },
): number {
  const { inodeCount } = options;
  if (inodeCount !== undefined) {
    checkRange("inodeCount", inodeCount, 1, BLOCKS_MAX_32BIT - 1);
    return inodeCount;
  }
  const asked = options.bytesPerInode;
  if (asked !== undefined) checkRange("bytesPerInode", asked, KIB, BYTES_PER_INODE_MAX);
  const least = Math.max(sizes.blockBytes, sizes.clusterBytes);
  const ratio = asked ?? Math.max(ratioDefault, least);
  const bytes = sizes.blocks * sizes.blockBytes;
  const otherwise = Math.min(sizes.blocks, Math.floor(bytes / USAGES.small.bytesPerInode));
  const wanted = Math.floor(bytes / ratio) || otherwise;
  if (wanted >= BLOCKS_MAX_32BIT) {
    throw invalid(`${wanted} inodes are too many: raise bytesPerInode`);
  }
  return wanted;
}

/**
 * All numbers that `options` ask for, for a device of `deviceBytes`.
 *
 * @throws {FsError} `EINVAL` for an option that cannot be met, `EOPNOTSUPP` for a feature that is
 *   not made here, `ENOSPC` for a size beyond the device, `EFBIG` for too many blocks
 */
export function resolveOptions(options: MkfsOptions, deviceBytes: number): MkfsParameters {
  const sizeBytes = options.sizeBytes ?? deviceBytes;
  if (sizeBytes > deviceBytes) {
    throw noSpace(`sizeBytes is ${sizeBytes}, but the device has ${deviceBytes}`);
  }
  const usage = USAGES[options.usage ?? usageOfSize(sizeBytes)];
  if (usage === undefined) throw invalid(`usage ${options.usage} is not known`);
  const blockBytes = options.blockBytes ?? usage.blockBytes;
  if (!isPowerOfTwo(blockBytes)) throw invalid(`blockBytes ${blockBytes}: no power of two`);
  checkRange("blockBytes", blockBytes, KIB, BLOCK_BYTES_MAX);
  const features = featuresFor(options);
  const isBigalloc = (features.roCompat & RO_COMPAT_BIGALLOC) !== 0;
  const clusterRatio = clusterRatioOf(options, blockBytes, isBigalloc);
  const inodeBytes = inodeBytesOf(options, blockBytes, features);
  const usableBytes = options.sizeBytes === undefined ? roundDown(sizeBytes, PAGE) : sizeBytes;
  const blocks = Math.floor(usableBytes / blockBytes);
  if (blocks >= BLOCKS_MAX_32BIT && (features.incompat & INCOMPAT_64BIT) === 0) {
    const detail = `${blocks} blocks need the feature 64bit, or larger blocks`;
    throw new FsError("EFBIG", { syscall: "mkfs", detail });
  }
  const reservedPercent = options.reservedPercent ?? RESERVED_PERCENT_DEFAULT;
  checkRange("reservedPercent", reservedPercent, 0, RESERVED_PERCENT_MAX);
  return {
    features,
    revision: options.revision ?? 1,
    blockBytes,
    clusterRatio,
    blockCount: roundDown(blocks, clusterRatio),
    inodeBytes,
    wantedInodes: wantedInodesOf(options, usage.bytesPerInode, {
      blockBytes,
      clusterBytes: clusterRatio * blockBytes,
      blocks,
    }),
    blocksPerGroup: groupBlocksOf(options, blockBytes, clusterRatio),
    logGroupsPerFlex: flexOf(options, features),
    reservedBlockCount: Math.trunc((reservedPercent * blocks) / 100),
    journalBytes: options.journalBytes,
    strideBlocks: options.strideBlocks ?? 0,
    stripeBlocks: options.stripeBlocks ?? 0,
  };
}
