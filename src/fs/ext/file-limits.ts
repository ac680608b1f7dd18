/**
 * How long a file can be. A longer one is not only of no use: Linux takes it for damage, and does
 * not open it at all.
 *
 *     extents      numbers of file blocks have 32 bits, and the last one stands for the end
 *     block map    what the pointers reach
 *     both         without `huge_file` the file, if it had no holes, is at most 2^32 - 1 sectors
 *                  long, for a block map with the blocks that hold pointers
 *
 * After `ext4_max_size` and `ext4_max_bitmap_size` in `fs/ext4/super.c` of Linux.
 */
import { FILE_BYTES_MAX, SECTOR_BYTES } from "../../lib/units.ts";
import { indirectReachBytes, POINTER_BYTES } from "./indirect.ts";
import { DIRECT_BLOCKS } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** Blocks that an extent tree can name. */
const EXTENT_BLOCKS_MAX = 0xffff_ffff;
/** What `i_blocks` counts without `huge_file`. */
const SECTORS_MAX = 0xffff_ffff;

/** Blocks of pointers that the map of a file of `blockCount` blocks has, if it has no holes. */
function pointerBlocks(blockCount: number, perBlock: number): number {
  const behindFirst = Math.max(0, blockCount - DIRECT_BLOCKS - perBlock);
  const behindSecond = Math.max(0, behindFirst - perBlock ** 2);
  const inSecond = behindFirst - behindSecond;
  let count = blockCount > DIRECT_BLOCKS ? 1 : 0;
  if (inSecond > 0) count += 1 + Math.ceil(inSecond / perBlock);
  if (behindSecond > 0) {
    count += 1 + Math.ceil(behindSecond / perBlock) + Math.ceil(behindSecond / perBlock ** 2);
  }
  return count;
}

/** Bytes of the longest file of `sb` that has extents, or a block map. */
export function fileBytesMax(sb: Superblock, hasExtents: boolean): number {
  const { blockBytes } = sb;
  const counted = Math.floor(SECTORS_MAX / (blockBytes / SECTOR_BYTES));
  const most = sb.hasHugeFile ? Number.POSITIVE_INFINITY : counted;
  if (hasExtents) return Math.min(Math.min(EXTENT_BLOCKS_MAX, most) * blockBytes, FILE_BYTES_MAX);
  const perBlock = blockBytes / POINTER_BYTES;
  const reach = indirectReachBytes(blockBytes) / blockBytes;
  const fits = reach + pointerBlocks(reach, perBlock) <= most;
  const blocks = fits ? reach : most - pointerBlocks(most, perBlock);
  return Math.min(blocks * blockBytes, FILE_BYTES_MAX);
}
