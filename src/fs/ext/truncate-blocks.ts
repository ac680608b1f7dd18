/**
 * The blocks of a file whatever kind of map it has: taken where a hole is written, freed where the
 * file ends earlier or gets a hole.
 *
 *     while (!(await transactions.run((handle) => truncateStep(ctx, handle, inode, from)))) {}
 *
 * After `fs/ext4/inode.c` (`ext4_map_blocks`, `ext4_truncate`).
 */
import {
  type AllocatedRun,
  extMapForWrite,
  type MapForWriteOptions,
  removeExtents,
} from "./extents-write.ts";
import type { Handle } from "./handle.ts";
import { indMapForWrite, removeIndirect } from "./indirect-write.ts";
import type { ExtInode } from "./inode.ts";
import { isFastSymlink } from "./symlink.ts";
import type { ExtWriter } from "./writer.ts";

/**
 * What is at `fileBlock` and the blocks behind it, at most `count`; a hole gets blocks, as many as
 * there are in one piece, at least one. Restartable.
 *
 * @throws {FsError} `ENOSPC`; `EFBIG` for a block behind the reach of the map
 */
export function mapForWrite(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
  options: MapForWriteOptions = {},
): AllocatedRun {
  const map = inode.hasExtents ? extMapForWrite : indMapForWrite;
  return map(ctx, handle, inode, fileBlock, count, options);
}

/** True for an inode whose `i_block` holds something else than a map. */
function hasNoMap(ctx: ExtWriter, inode: ExtInode): boolean {
  if (inode.isInline) return true;
  if (inode.type === "symlink") return isFastSymlink(ctx, inode);
  return inode.type !== "file" && inode.type !== "directory";
}

/**
 * Frees the blocks of the file from `fromBlock` on and before `endBlock`, or a part of them.
 * Returns true once none is left. Restartable.
 */
export function removeBlocks(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fromBlock: number,
  endBlock: number,
): boolean {
  if (hasNoMap(ctx, inode)) return true;
  const remove = inode.hasExtents ? removeExtents : removeIndirect;
  return remove(ctx, handle, inode, fromBlock, endBlock);
}

/** Frees all blocks of the file from `fromBlock` on, as `removeBlocks` (`ext4_truncate`). */
export function truncateStep(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fromBlock: number,
): boolean {
  return removeBlocks(ctx, handle, inode, fromBlock, Number.MAX_SAFE_INTEGER);
}
