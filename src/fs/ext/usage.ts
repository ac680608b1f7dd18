/**
 * How full the file system is: sums over the group descriptors, since the superblock's own counts
 * are brought up to date at unmount only (`ext4_statfs`, `ext4_count_free_clusters`).
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise } from "../../lib/maybe.ts";
import type { FileSystemUsage } from "../vfs.ts";
import type { ExtCore } from "./core.ts";
import { COMPAT_HAS_JOURNAL, INCOMPAT_EXTENTS, INCOMPAT_META_BG } from "./features.ts";
import { hasSuperblockCopy } from "./group.ts";
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

/** The counts of the superblock, for an image with more groups than are worth a sum. */
function superblockSums(sb: Superblock): GroupSums {
  return {
    freeBlockCount: le32(sb.raw, SB.s_free_blocks_count_lo),
    freeInodeCount: le32(sb.raw, SB.s_free_inodes_count),
    directoryCount: 0,
    overheadBlockCount: sb.firstDataBlock,
  };
}

/** Blocks of `group` taken by copies of superblock and descriptors, bitmaps and inode table. */
function groupOverhead(sb: Superblock, group: number, reservedGdtBlocks: number): number {
  const superBlocks = hasSuperblockCopy(sb, group) ? 1 : 0;
  const blocks = superBlocks + 2 + sb.inodeTableBlockCount;
  const perBlock = sb.descriptorsPerBlock;
  const hasMetaBg = sb.hasIncompat(INCOMPAT_META_BG);
  if (hasMetaBg && group >= sb.firstMetaBg * perBlock) {
    // The first, the second and the last of each meta group hold its one block of descriptors.
    const index = group % perBlock;
    return index <= 1 || index === perBlock - 1 ? blocks + 1 : blocks;
  }
  const tableBlocks = hasMetaBg ? sb.firstMetaBg : sb.descriptorBlockCount;
  return blocks + superBlocks * (tableBlocks + reservedGdtBlocks);
}

/** Blocks of the journal inside the file system, 0 if it has none that can be looked up. */
async function journalBlockCount(core: ExtCore, signal?: AbortSignal): Promise<number> {
  const { sb } = core;
  if (!sb.hasCompat(COMPAT_HAS_JOURNAL) || sb.journalIno === 0) return 0;
  try {
    const inode = await core.metadata.run(() => core.inode(sb.journalIno), signal);
    return Math.floor(inode.size / sb.blockBytes);
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
  const reservedGdtBlocks = le16(sb.raw, SB.s_reserved_gdt_blocks);
  let freeClusters = 0;
  let freeInodes = 0;
  let directories = 0;
  let overhead = sb.firstDataBlock + (await journalBlockCount(core, signal));
  for (let group = 0; group < sb.groupCount; group++) {
    overhead += groupOverhead(sb, group, reservedGdtBlocks);
    try {
      const reading = core.metadata.run(() => core.groups.descriptor(group), signal);
      const descriptor = isPromise(reading) ? await reading : reading;
      freeClusters += descriptor.freeClusterCount;
      freeInodes += descriptor.freeInodeCount;
      directories += descriptor.usedDirCount;
    } catch (thrown) {
      if (!(thrown instanceof FsError) || thrown.code === "EIO") throw thrown;
      core.warn(thrown.message);
    }
  }
  return {
    freeBlockCount: freeClusters * sb.clusterRatio,
    freeInodeCount: freeInodes,
    directoryCount: directories,
    overheadBlockCount: overhead,
  };
}

/** What `statfs` shows, from the sums of the descriptors. */
export function usageOf(sb: Superblock, sums: GroupSums): FileSystemUsage {
  const storedOverhead = le32(sb.raw, SB.s_overhead_clusters) * sb.clusterRatio;
  const overhead = storedOverhead > 0 ? storedOverhead : sums.overheadBlockCount;
  const clusters = Math.floor(sb.blockCount / sb.clusterRatio);
  const ownClusters = sb.hasIncompat(INCOMPAT_EXTENTS)
    ? Math.min(Math.floor(clusters / RESERVED_PART), RESERVED_CLUSTERS_MAX)
    : 0;
  const reserved = sb.reservedBlockCount + ownClusters * sb.clusterRatio;
  return {
    typeMagic: SUPERBLOCK_MAGIC,
    blockBytes: sb.blockBytes,
    blockCount: Math.max(0, sb.blockCount - overhead),
    freeBlockCount: sums.freeBlockCount,
    availableBlockCount: Math.max(0, sums.freeBlockCount - reserved),
    inodeCount: sb.inodeCount,
    freeInodeCount: sums.freeInodeCount,
    nameBytesMax: NAME_BYTES_MAX,
  };
}
