/**
 * The end of inodes that no name leads to: their blocks, attributes and numbers are given back, in
 * as many operations as that takes.
 *
 *     evictAtOnce    all in the operation that takes the last name: small, and in nobody's hands
 *     evictInode     blocks from the end on, step by step | attributes, orphan entry, inode
 *
 * A crash between two steps leaves an orphan, whose deletion is finished at the next mount
 * (`orphan-cleanup.ts`). After `ext4_evict_inode` of Linux.
 */
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { freeInode } from "./inode-alloc.ts";
import { isOrphan, orphanDel } from "./orphan-write.ts";
import { freeBehindEnd } from "./set-size.ts";
import { truncateStep } from "./truncate-blocks.ts";
import type { ExtWriter } from "./writer.ts";
import { freeXattrs } from "./xattr-store.ts";

/**
 * Deletes `inode`, which has just lost its last name, as a part of that operation: it never is an
 * orphan. False if it is open, cached, an orphan, or too large for that; some of its blocks may be
 * gone then. Throws as `evictInode`.
 */
export function evictAtOnce(ctx: ExtWriter, handle: Handle, inode: ExtInode): boolean {
  const { mapping } = inode;
  const isCached = mapping !== undefined && (mapping.nrpages > 0 || inode.wb?.state !== 0);
  if (inode.openCount > 0 || isCached || (inode.delalloc?.blockCount ?? 0) > 0) return false;
  if (isOrphan(ctx, inode)) return false; // A cut of it has failed.
  if (!truncateStep(ctx, handle, inode, 0)) return false;
  freeXattrs(ctx, handle, inode);
  freeInode(ctx, handle, inode);
  return true;
}

/** Frees the blocks of `inode` from file block `fromBlock` on, in steps. */
export async function freeBlocksFrom(
  ctx: ExtWriter,
  inode: ExtInode,
  fromBlock: number,
  signal?: AbortSignal,
): Promise<void> {
  const { transactions } = ctx;
  let isDone = false;
  while (!isDone) {
    isDone = await transactions.run(
      (handle) => truncateStep(ctx, handle, inode, fromBlock),
      signal,
    );
  }
}

/**
 * Deletes `inode`, which has no names and is not in use: its cache is closed. Returns when the last
 * operation has been run; it is on disk after the next commit.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for what is damaged: the rest of it stays, an orphan;
 *   `EIO`, `EROFS`
 */
export async function evictInode(
  ctx: ExtWriter,
  inode: ExtInode,
  signal?: AbortSignal,
): Promise<void> {
  ctx.unfinished.add(inode);
  await freeBlocksFrom(ctx, inode, 0, signal);
  await ctx.transactions.run((handle) => {
    freeXattrs(ctx, handle, inode);
    orphanDel(ctx, handle, inode);
    freeInode(ctx, handle, inode);
  }, signal);
  ctx.unfinished.delete(inode);
}

/**
 * Finishes what has failed half way in this mount: deletions and cuts. The files are written and
 * closed.
 *
 * @throws {FsError} if something fails again: then the image is not clean
 */
export async function finishInodes(ctx: ExtWriter): Promise<void> {
  for (const inode of [...ctx.unfinished]) {
    if (inode.isDeleted) continue;
    if (inode.linksCount === 0) await evictInode(ctx, inode);
    else await freeBehindEnd(ctx, inode);
  }
}
