/**
 * What a file system becomes when it grows: the superblock that it will have, and the reasons for
 * which it cannot.
 *
 *     | .. group n-1, short |                          |
 *     | .. group n-1, whole | group n | .. | group m-1 |   m = groups after it
 *
 *  1. Nothing is read but the superblock, nothing is written.
 *  2. The end is cut off if the last group had too few blocks for its own structure, as in mke2fs.
 *  3. Descriptors of new groups go to blocks reserved for them, or with `meta_bg` into the groups.
 *
 * After section "Block and inode allocation" of the kernel's ext4 documentation, and the manual of
 * resize2fs. Left out: moving what is in the way, so descriptors end where the reserved blocks do.
 */
import { le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import {
  COMPAT_HAS_JOURNAL,
  COMPAT_RESIZE_INODE,
  INCOMPAT_64BIT,
  INCOMPAT_META_BG,
  INCOMPAT_RECOVER,
} from "./features.ts";
import { copyBlocksIn } from "./group.ts";
import { SB } from "./layout.ts";
import { Superblock } from "./superblock.ts";
import { STATE_ERROR, STATE_VALID } from "./superblock-write.ts";
import { writeRefusal } from "./write-support.ts";

type ErrorCode = ConstructorParameters<typeof FsError>[0];

const WORD = 0x1_0000_0000;
const COUNT_32_MAX = WORD - 1;
/** A last group of fewer blocks than these beside its structure is not worth it, says mke2fs. */
const LAST_GROUP_SPARE_BLOCKS = 50;
const BITMAP_BLOCKS = 2;

/** A file system before and after. */
export interface Growth {
  readonly from: Superblock;
  /** The same with its new counts; those of free blocks and inodes are the old ones. */
  readonly to: Superblock;
  /** Reserved blocks that become descriptors. */
  readonly usedReserveBlocks: number;
}

/** Blocks that `group` needs for its own structure, with nothing else in it. */
export function structureBlocksIn(sb: Superblock, group: number): number {
  return copyBlocksIn(sb, group) + BITMAP_BLOCKS + sb.inodeTableBlockCount;
}

/** Blocks reserved for descriptors behind each copy of these. */
export function reservedGdtBlocks(sb: Superblock): number {
  return le16(sb.raw, SB.s_reserved_gdt_blocks);
}

function refuse(code: ErrorCode, why: string): FsError {
  return new FsError(code, { syscall: "resize", detail: why });
}

/**
 * Judges a file system that nobody has mounted: may it grow at all?
 *
 * @throws {FsError} `EROFS` for one that may not be written, `EUCLEAN` for one that has to be
 *   checked first, `EOPNOTSUPP`
 */
export function checkGrowable(sb: Superblock): void {
  const why = writeRefusal(sb);
  if (why !== undefined) throw refuse("EROFS", `the image may only be read: ${why}`);
  const state = le16(sb.raw, SB.s_state);
  const isLogged = sb.hasCompat(COMPAT_HAS_JOURNAL) && sb.hasIncompat(INCOMPAT_RECOVER);
  if ((state & STATE_ERROR) !== 0 || ((state & STATE_VALID) === 0 && !isLogged)) {
    throw refuse("EUCLEAN", "the image is not clean: run e2fsck on it first");
  }
  if (sb.hasIncompat(INCOMPAT_META_BG) && reservedGdtBlocks(sb) > 0) {
    throw refuse("EOPNOTSUPP", "it has both meta_bg and blocks reserved for descriptors");
  }
}

/** The superblock of `sb` with `blockCount` blocks, and the groups for that. */
function withBlocks(sb: Superblock, blockCount: number): Superblock {
  const raw = sb.raw.slice();
  const putCount = (lo: number, hi: number, value: number): void => {
    putLe32(raw, lo, value % WORD);
    if (sb.hasIncompat(INCOMPAT_64BIT)) putLe32(raw, hi, Math.floor(value / WORD));
  };
  putCount(SB.s_blocks_count_lo, SB.s_blocks_count_hi, blockCount);
  const kept = Math.floor((sb.reservedBlockCount / sb.blockCount) * blockCount);
  putCount(SB.s_r_blocks_count_lo, SB.s_r_blocks_count_hi, kept);
  const groupCount = Math.ceil((blockCount - sb.firstDataBlock) / sb.blocksPerGroup);
  putLe32(raw, SB.s_inodes_count, Math.min(groupCount * sb.inodesPerGroup, COUNT_32_MAX));
  return new Superblock(raw);
}

/** `blockCount` without a last group that has no room for its own structure. */
function withoutStump(sb: Superblock, blockCount: number): number {
  const to = withBlocks(sb, blockCount);
  const last = to.groupCount - 1;
  if (last < sb.groupCount) return blockCount;
  const first = to.firstBlockOf(last);
  // What descriptors take is taken from the reserve, so the sum is as it was.
  const needed = structureBlocksIn(sb, last) + LAST_GROUP_SPARE_BLOCKS;
  return blockCount - first < needed ? first : blockCount;
}

/** Throws where counts or numbers of blocks would not fit into their fields. */
function checkLimits(from: Superblock, to: Superblock): void {
  if (to.groupCount * to.inodesPerGroup > COUNT_32_MAX) {
    const groups = Math.floor(COUNT_32_MAX / to.inodesPerGroup);
    const most = from.firstBlockOf(groups);
    throw refuse("EFBIG", `it can have ${most} blocks at most, for its inodes are counted to 2^32`);
  }
  const hasNarrowFile = from.hasCompat(COMPAT_RESIZE_INODE) && reservedGdtBlocks(from) > 0;
  if (to.blockCount <= COUNT_32_MAX || (to.hasIncompat(INCOMPAT_64BIT) && !hasNarrowFile)) return;
  const why = hasNarrowFile ? "with resize_inode" : "without 64bit";
  throw refuse("EFBIG", `${why} it can have ${COUNT_32_MAX} blocks at most`);
}

/** Blocks of descriptors that `to` needs from the reserve of `from`. */
function takenReserve(from: Superblock, to: Superblock): number {
  if (to.hasIncompat(INCOMPAT_META_BG)) return 0;
  const wanted = to.descriptorBlockCount - from.descriptorBlockCount;
  const reserved = from.hasCompat(COMPAT_RESIZE_INODE) ? reservedGdtBlocks(from) : 0;
  if (wanted <= reserved) return wanted;
  const groups = (from.descriptorBlockCount + reserved) * from.descriptorsPerBlock;
  const most = from.firstBlockOf(groups);
  const detail = `${reserved} blocks are reserved for more descriptors, and it has no meta_bg`;
  throw refuse("EOPNOTSUPP", `it can grow to ${most} blocks, not to ${to.blockCount}: ${detail}`);
}

/**
 * What `sb` becomes with `sizeBytes`; undefined if it stays as it is.
 *
 * @throws {FsError} `EINVAL` for a size below the one that it has, `EFBIG` past what its fields
 *   hold, `EOPNOTSUPP` for one that has no room for more descriptors
 */
export function planGrowth(sb: Superblock, sizeBytes: number): Growth | undefined {
  const wanted = Math.floor(sizeBytes / sb.blockBytes);
  if (wanted < sb.blockCount) {
    const detail = `it has ${sb.blockCount} blocks, ${wanted} are fewer`;
    throw refuse("EINVAL", `a file system can only grow here: ${detail}`);
  }
  checkLimits(sb, withBlocks(sb, wanted));
  const blockCount = withoutStump(sb, wanted);
  if (blockCount <= sb.blockCount) return undefined;
  const to = withBlocks(sb, blockCount);
  const usedReserveBlocks = takenReserve(sb, to);
  const { raw } = to;
  putLe16(raw, SB.s_reserved_gdt_blocks, reservedGdtBlocks(sb) - usedReserveBlocks);
  const overhead = le32(raw, SB.s_overhead_clusters);
  if (overhead !== 0) {
    let more = 0;
    for (let group = sb.groupCount; group < to.groupCount; group++) {
      more += structureBlocksIn(to, group);
    }
    putLe32(raw, SB.s_overhead_clusters, Math.min(overhead + more, COUNT_32_MAX));
  }
  return { from: new Superblock(sb.raw), to, usedReserveBlocks };
}
