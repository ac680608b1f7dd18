/**
 * Cutting a file, or letting it grow with a hole.
 *
 *     cut     operation: sizes, times, orphan --> cache dropped behind the new end
 *             --> operations: blocks freed --> no orphan --> zeros to the end of the last block
 *     grow    zeros behind the old end --> operation: sizes, times
 *
 *  1. Blocks are freed after nothing of them is in the cache or in flight any more.
 *  2. While blocks behind the end are left, the inode is an orphan: whoever mounts the file system
 *     after a crash frees them.
 *  3. Until the first operation of a cut is done, nothing has changed; after it the file is cut,
 *     whatever fails then.
 *  4. A cut that has failed half way is finished before the file grows over what was left, and at
 *     the latest when the file system is closed.
 *
 * After `ext4_setattr` and `ext4_truncate` in `fs/ext4/inode.c` of Linux.
 */
import { truncatePagecache } from "../../cache/truncate.ts";
import { FsError } from "../../lib/errno.ts";
import { andThen, type MaybeAsync } from "../../lib/maybe.ts";
import { blocksOfBytes, roundUp } from "../../lib/units.ts";
import { releaseBlocks } from "./delalloc.ts";
import {
  checkChangeable,
  exclusively,
  type FileWriting,
  maxFileBytes,
  stamp,
  withoutFills,
  zeroBehindEnd,
  zeroInBlock,
} from "./file-writing.ts";
import type { Handle } from "./handle.ts";
import { convertInline, fitsInline, setInlineSize } from "./inline-write.ts";
import type { ExtInode } from "./inode.ts";
import { isOrphan, orphanAdd, orphanDel } from "./orphan-write.ts";
import { truncateStep } from "./truncate-blocks.ts";
import type { ExtWriter } from "./writer.ts";

/**
 * Makes a regular file `sizeBytes` long (`truncate`).
 *
 * @throws {FsError} `EFBIG`, `EINVAL`, `EISDIR`, `EPERM`, `ENOSPC`, `EIO`
 * @throws the reason of `signal`, while it waits for its turn
 */
export function setFileSize(
  files: FileWriting,
  inode: ExtInode,
  sizeBytes: number,
  signal?: AbortSignal,
): MaybeAsync<void> {
  return exclusively(inode, signal, () => {
    checkChangeable(inode, false);
    if (!(sizeBytes >= 0)) throw new FsError("EINVAL", { detail: "a negative size" });
    if (sizeBytes > maxFileBytes(files.ctx, inode)) throw new FsError("EFBIG");
    return changeSize(files, inode, sizeBytes);
  });
}

function changeSize(files: FileWriting, inode: ExtInode, sizeBytes: number): MaybeAsync<void> {
  if (!inode.isInline) {
    if (sizeBytes <= inode.size) return shrink(files, inode, sizeBytes);
    return andThen(finishCut(files.ctx, inode), () => grow(files, inode, sizeBytes));
  }
  return andThen(fitsInline(files.ctx, inode, sizeBytes), (fits) => {
    if (!fits) {
      return andThen(convertInline(files, inode), () => changeSize(files, inode, sizeBytes));
    }
    return andThen(setInlineSize(files, inode, sizeBytes), () =>
      files.ctx.transactions.run((handle) => stamp(files.ctx, handle, inode, "mtime", "ctime")),
    );
  });
}

/**
 * Both sizes, also where data before the end is not on its way yet: a crash makes it a hole. For
 * what is cut off was to raise the size on disk, and will not.
 */
function setSizes(ctx: ExtWriter, handle: Handle, inode: ExtInode, sizeBytes: number): void {
  stamp(ctx, handle, inode, "mtime", "ctime");
  inode.size = sizeBytes;
  inode.diskSize = sizeBytes;
  inode.datasyncTid = handle.tid;
}

function grow(files: FileWriting, inode: ExtInode, sizeBytes: number): MaybeAsync<void> {
  const { ctx } = files;
  return andThen(zeroBehindEnd(files, inode, sizeBytes), () =>
    ctx.transactions.run((handle) => setSizes(ctx, handle, inode, sizeBytes)),
  );
}

function shrink(files: FileWriting, inode: ExtInode, sizeBytes: number): MaybeAsync<void> {
  const { ctx } = files;
  const { blockBytes } = inode;
  const endOfBlock = Math.min(roundUp(sizeBytes, blockBytes), roundUp(inode.size, blockBytes));
  const cutOff = (): MaybeAsync<void> => {
    ctx.unfinished.add(inode);
    return andThen(truncatePagecache(files.mappings.of(inode), sizeBytes), () => {
      releaseBlocks(ctx, inode, blocksOfBytes(sizeBytes, blockBytes), Infinity);
      return freeBehindEnd(ctx, inode);
    });
  };
  return withoutFills(files, inode, () => {
    const cut = ctx.transactions.run((handle) => {
      setSizes(ctx, handle, inode, sizeBytes);
      orphanAdd(ctx, handle, inode);
    });
    const isOff = andThen(cut, cutOff);
    return andThen(isOff, () => zeroInBlock(files, inode, sizeBytes, endOfBlock));
  });
}

/**
 * Frees the blocks behind the end of `inode`, and takes it out of the orphans unless it has no
 * name: the second half of a cut, also of one that a crash has interrupted. Nothing of them is
 * cached.
 */
export function freeBehindEnd(ctx: ExtWriter, inode: ExtInode): MaybeAsync<void> {
  ctx.unfinished.add(inode);
  return andThen(freeInSteps(ctx, inode), () => {
    ctx.unfinished.delete(inode);
  });
}

/** Finishes a cut of `inode` that has failed half way, if there was one; throws as that did. */
export function finishCut(ctx: ExtWriter, inode: ExtInode): MaybeAsync<void> {
  return ctx.unfinished.has(inode) ? freeBehindEnd(ctx, inode) : undefined;
}

function freeInSteps(ctx: ExtWriter, inode: ExtInode): MaybeAsync<void> {
  const done = ctx.transactions.run((handle) => {
    const isDone = truncateStep(ctx, handle, inode, blocksOfBytes(inode.size, inode.blockBytes));
    if (!isDone) orphanAdd(ctx, handle, inode);
    else if (inode.linksCount > 0 && isOrphan(ctx, inode)) orphanDel(ctx, handle, inode);
    return isDone;
  });
  return andThen(done, (isDone) => (isDone ? undefined : freeInSteps(ctx, inode)));
}
