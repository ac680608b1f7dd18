/**
 * How full the file system is: sums over the group descriptors, since the superblock's own counts
 * are brought up to date at unmount only (`ext4_statfs`, `ext4_count_free_clusters`).
 *
 * What the structure takes ("overhead") is counted here as Linux does at each mount
 * (`ext4_calculate_overhead`). With bigalloc, where that means to look at all descriptors, the
 * number in the superblock is believed if there is one.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise } from "../../lib/maybe.ts";
import type { FileSystemUsage } from "../vfs.ts";
import type { ExtCore } from "./core.ts";
import {
  COMPAT_HAS_JOURNAL,
  INCOMPAT_64BIT,
  INCOMPAT_EXTENTS,
  RO_COMPAT_BIGALLOC,
} from "./features.ts";
import { descriptorBlocksIn, type GroupDescriptor, hasSuperblockCopy } from "./group.ts";
import { SB, SUPERBLOCK_MAGIC } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** Groups whose descriptors are summed at most: 32 TiB in groups of the usual size. */
const GROUPS_SUMMED_MAX = 262_144;
/** Part and most of the clusters that ext4 keeps for itself when extents are in use. */
const RESERVED_PART = 50;
const RESERVED_CLUSTERS_MAX = 4096;
const NAME_BYTES_MAX = 255;

/** What the descriptors of all groups say together. */
export interface GroupSums {
  readonly freeBlockCount: number;
  readonly freeInodeCount: number;
  readonly directoryCount: number;
  /** Blocks that hold the structure of the file system and its journal. */
  readonly overheadBlockCount: number;
}

/** Blocks of structure by the superblock's own count, 0 if it has none that can be right. */
function storedOverhead(sb: Superblock): number {
  const clusters = le32(sb.raw, SB.s_overhead_clusters);
  return clusters > sb.blockCount ? 0 : clusters * sb.clusterRatio;
}

/** The counts of the superblock, for an image with more groups than are worth a sum. */
function superblockSums(sb: Superblock): GroupSums {
  const freeHigh = sb.hasIncompat(INCOMPAT_64BIT) ? le32(sb.raw, SB.s_free_blocks_count_hi) : 0;
  return {
    freeBlockCount: freeHigh * 0x1_0000_0000 + le32(sb.raw, SB.s_free_blocks_count_lo),
    freeInodeCount: le32(sb.raw, SB.s_free_inodes_count),
    directoryCount: 0,
    overheadBlockCount: storedOverhead(sb) || sb.firstDataBlock,
  };
}

/** Blocks of `group` taken by copies of superblock and descriptors, bitmaps and inode table. */
function groupOverhead(sb: Superblock, group: number): number {
  const copyBlocks = hasSuperblockCopy(sb, group) ? 1 + le16(sb.raw, SB.s_reserved_gdt_blocks) : 0;
  return copyBlocks + descriptorBlocksIn(sb, group) + 2 + sb.inodeTableBlockCount;
}

/**
 * The clusters that hold structure, each counted once however many of its blocks do. As in Linux,
 * blocks reserved for descriptors do not count, nor does a table that leaves its group.
 */
class StructureClusters {
  readonly #sb: Superblock;
  readonly #runs: (readonly [first: number, last: number])[] = [];

  constructor(sb: Superblock) {
    this.#sb = sb;
  }

  add(descriptor: GroupDescriptor): void {
    const sb = this.#sb;
    const { group, inodeTable } = descriptor;
    const copyBlocks = hasSuperblockCopy(sb, group) ? 1 : 0;
    this.#addRun(sb.firstBlockOf(group), copyBlocks + descriptorBlocksIn(sb, group));
    this.#addRun(descriptor.blockBitmap, 1);
    this.#addRun(descriptor.inodeBitmap, 1);
    const at = (inodeTable - sb.firstDataBlock) % sb.blocksPerGroup;
    const isInOneGroup = at + sb.inodeTableBlockCount < sb.blocksPerGroup;
    if (isInOneGroup) this.#addRun(inodeTable, sb.inodeTableBlockCount);
  }

  /** Blocks of all clusters that were added. */
  blockCount(): number {
    this.#runs.sort((a, b) => a[0] - b[0]);
    let count = 0;
    let next = 0;
    for (const [first, last] of this.#runs) {
      count += Math.max(0, last + 1 - Math.max(first, next));
      next = Math.max(next, last + 1);
    }
    return count * this.#sb.clusterRatio;
  }

  #addRun(firstBlock: number, count: number): void {
    if (count === 0) return;
    const { firstDataBlock, clusterRatio } = this.#sb;
    const clusterOf = (block: number): number =>
      Math.floor((block - firstDataBlock) / clusterRatio);
    this.#runs.push([clusterOf(firstBlock), clusterOf(firstBlock + count - 1)]);
  }
}

/**
 * Blocks of the journal inside the file system, whole clusters; 0 if it has none that can be looked
 * up.
 */
async function journalBlockCount(core: ExtCore, signal?: AbortSignal): Promise<number> {
  const { sb } = core;
  if (!sb.hasCompat(COMPAT_HAS_JOURNAL) || sb.journalIno === 0) return 0;
  try {
    const inode = await core.metadata.run(() => core.inode(sb.journalIno), signal);
    const clusterBytes = sb.blockBytes * sb.clusterRatio;
    return Math.ceil(inode.size / clusterBytes) * sb.clusterRatio;
  } catch (thrown) {
    if (!(thrown instanceof FsError) || thrown.code === "EIO") throw thrown;
    return 0;
  }
}

/**
 * Adds the descriptors of all groups up. A damaged one is left out and told to `core.warn`.
 *
 * @throws {FsError} `EIO` if a descriptor cannot be read
 */
export async function sumGroups(core: ExtCore, signal?: AbortSignal): Promise<GroupSums> {
  const { sb } = core;
  if (sb.groupCount > GROUPS_SUMMED_MAX) {
    core.warn(
      `${sb.groupCount} groups: the usage shown is that of the superblock, which may be old`,
    );
    return superblockSums(sb);
  }
  let freeClusters = 0;
  let freeInodes = 0;
  let directories = 0;
  let overhead = sb.firstDataBlock + (await journalBlockCount(core, signal));
  const isByCluster = sb.hasRoCompat(RO_COMPAT_BIGALLOC);
  const stored = isByCluster ? storedOverhead(sb) : 0;
  const structure = new StructureClusters(sb);
  for (let group = 0; group < sb.groupCount; group++) {
    if (!isByCluster) overhead += groupOverhead(sb, group);
    try {
      const reading = core.metadata.run(() => core.groups.descriptor(group), signal);
      const descriptor = isPromise(reading) ? await reading : reading;
      freeClusters += descriptor.freeClusterCount;
      freeInodes += descriptor.freeInodeCount;
      directories += descriptor.usedDirCount;
      if (isByCluster && stored === 0) structure.add(descriptor);
    } catch (thrown) {
      if (!(thrown instanceof FsError) || thrown.code === "EIO") throw thrown;
      core.warn(thrown.message);
    }
  }
  return {
    freeBlockCount: freeClusters * sb.clusterRatio,
    freeInodeCount: freeInodes,
    directoryCount: directories,
    overheadBlockCount: stored || overhead + structure.blockCount(),
  };
}

/**
 * Blocks that ext4 keeps for its own structure where extents are in use, so that data which was
 * promised room can be written (`s_resv_clusters`).
 */
export function ownBlockCount(sb: Superblock): number {
  if (!sb.hasIncompat(INCOMPAT_EXTENTS)) return 0;
  const clusters = Math.floor(sb.blockCount / sb.clusterRatio);
  return Math.min(Math.floor(clusters / RESERVED_PART), RESERVED_CLUSTERS_MAX) * sb.clusterRatio;
}

/** What `statfs` shows, from the sums of the descriptors. */
export function usageOf(sb: Superblock, sums: GroupSums): FileSystemUsage {
  const reserved = sb.reservedBlockCount + ownBlockCount(sb);
  return {
    typeMagic: SUPERBLOCK_MAGIC,
    blockBytes: sb.blockBytes,
    blockCount: Math.max(0, sb.blockCount - sums.overheadBlockCount),
    freeBlockCount: sums.freeBlockCount,
    availableBlockCount: Math.max(0, sums.freeBlockCount - reserved),
    inodeCount: sb.inodeCount,
    freeInodeCount: sums.freeInodeCount,
    nameBytesMax: NAME_BYTES_MAX,
  };
}
