/**
 * What all changes of the content of a file share: who does them, what a file allows, how its ends
 * are zeroed, when it was changed.
 *
 *     write, truncate .. --> inode.rwsem --> mapping.invalidateLock --> folios --> operation
 *
 * After `fs/ext4/file.c` and `fs/ext4/inode.c` of Linux.
 */
import { filemapFdatawriteRange } from "../../cache/filemap-flush.ts";
import { pagecacheIsizeExtended } from "../../cache/truncate.ts";
import { type Errno, FsError } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { roundUp } from "../../lib/units.ts";
import { blockTruncatePage } from "../../mapping/buffer-write.ts";
import type { GetBlock } from "../../mapping/get-block.ts";
import type { IomapOps } from "../../mapping/iomap/iomap.ts";
import { iomapZeroRange } from "../../mapping/iomap/zero-range.ts";
import { shouldJournalData } from "./data-mode.ts";
import { fileBytesMax } from "./file-limits.ts";
import type { FileMappings } from "./file-ops.ts";
import { extGetBlock } from "./get-block.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode, TimeName } from "./inode.ts";
import { extIomapWriteOps, extWriteHooks } from "./iomap-write.ts";
import { APPEND_FL, IMMUTABLE_FL } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";

/** What functions that change content work with. */
export interface FileWriting {
  readonly ctx: ExtWriter;
  readonly mappings: FileMappings;
  /** For writes and zeroing of files with extents. */
  readonly iomapOps: IomapOps<ExtInode>;
  /** Where blocks of block-mapped files lie. */
  readonly getBlock: GetBlock;
}

/** The means of a mount whose files `mappings` caches, made for writing with the same `ctx`. */
export function fileWriting(ctx: ExtWriter, mappings: FileMappings): FileWriting {
  const getBlock = extGetBlock(ctx.core);
  return { ctx, mappings, iomapOps: extIomapWriteOps(ctx), getBlock };
}

/** Bytes of the longest file of the kind that `inode` is (`s_maxbytes`, `s_bitmap_maxbytes`). */
export function maxFileBytes(ctx: ExtWriter, inode: ExtInode): number {
  return fileBytesMax(ctx.sb, inode.hasExtents || inode.isInline);
}

/**
 * Throws unless `inode` is a regular file that may be changed: `EISDIR`, `EINVAL`; `EPERM` for one
 * that is immutable, has verity, or may only be appended to; `ENOKEY` for encrypted content.
 */
export function checkChangeable(inode: ExtInode, isAppend: boolean): void {
  if (inode.type === "directory") throw new FsError("EISDIR");
  if (inode.type !== "file") throw new FsError("EINVAL", { detail: "no regular file" });
  if ((inode.flags & IMMUTABLE_FL) !== 0) throw new FsError("EPERM", { detail: "immutable" });
  if ((inode.flags & APPEND_FL) !== 0 && !isAppend) {
    throw new FsError("EPERM", { detail: "it may only be appended to" });
  }
  if (inode.isVerity) throw new FsError("EPERM", { detail: "it can only be read (verity)" });
  if (inode.isEncrypted) throw new FsError("ENOKEY", { detail: "its content is encrypted" });
}

/** Does `task`, then `last`, whatever came of it. */
export function withFinally<T>(task: () => MaybeAsync<T>, last: () => void): MaybeAsync<T> {
  let done: MaybeAsync<T>;
  try {
    done = task();
  } catch (thrown) {
    last();
    throw thrown;
  }
  if (isPromise(done)) return done.finally(last);
  last();
  return done;
}

/** Does `task` while nobody else changes `inode`. */
export function exclusively<T>(
  inode: ExtInode,
  signal: AbortSignal | undefined,
  task: () => MaybeAsync<T>,
): MaybeAsync<T> {
  return andThen(inode.rwsem.write(signal), () =>
    withFinally(task, () => inode.rwsem.unlockWrite()),
  );
}

/** Does `task` while nobody fills the cache of `inode`, whose `rwsem` is held for writing. */
export function withoutFills<T>(
  files: FileWriting,
  inode: ExtInode,
  task: () => MaybeAsync<T>,
): MaybeAsync<T> {
  const { invalidateLock } = files.mappings.of(inode);
  return andThen(invalidateLock.write(), () =>
    withFinally(task, () => invalidateLock.unlockWrite()),
  );
}

/**
 * Zeroes the bytes `fromBytes..endBytes`, which lie in one block, in the cache, unless they are a
 * hole. Both locks are held (`ext4_block_zero_page_range`). Where data goes through the journal the
 * zeros are in it on return: no size that comes later leads to what was there before.
 */
export function zeroInBlock(
  files: FileWriting,
  inode: ExtInode,
  fromBytes: number,
  endBytes: number,
): MaybeAsync<void> {
  if (fromBytes >= endBytes || inode.isInline) return;
  const mapping = files.mappings.of(inode);
  const throwIfFailed = (errno: Errno): void => {
    if (errno !== 0) throw FsError.of(errno, { cause: mapping.writeFailure });
  };
  const zero = (): MaybeAsync<unknown> => {
    const lengthBytes = endBytes - fromBytes;
    if (inode.hasExtents) {
      return iomapZeroRange(mapping, fromBytes, lengthBytes, files.iomapOps, extWriteHooks);
    }
    const done = blockTruncatePage(mapping, fromBytes, files.getBlock, endBytes);
    return andThen(done, throwIfFailed);
  };
  return andThen(zero(), () => {
    if (!shouldJournalData(files.ctx, inode)) return;
    return andThen(filemapFdatawriteRange(mapping, fromBytes, endBytes - 1), throwIfFailed);
  });
}

/**
 * The file is about to grow to `newSizeBytes`: what its last block and its last folio hold behind
 * the end becomes zeros. `rwsem` is held, `invalidateLock` is not.
 */
export function zeroBehindEnd(
  files: FileWriting,
  inode: ExtInode,
  newSizeBytes: number,
): MaybeAsync<void> {
  const { size, blockBytes } = inode;
  if (newSizeBytes <= size || size % blockBytes === 0) return;
  const endBytes = Math.min(roundUp(size, blockBytes), newSizeBytes);
  return withoutFills(files, inode, () =>
    andThen(zeroInBlock(files, inode, size, endBytes), () =>
      pagecacheIsizeExtended(files.mappings.of(inode), size, newSizeBytes),
    ),
  );
}

/** Stamps `names` of `inode` with the time of now, in the operation of `handle`. */
export function stamp(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  ...names: readonly TimeName[]
): void {
  ctx.editInode(handle, inode);
  const now = ctx.now();
  for (const name of names) inode.setTime(name, now);
}

/** Notes that the content is being changed now (`file_update_time`). */
export function noteChange(ctx: ExtWriter, inode: ExtInode): MaybeAsync<void> {
  const time = ctx.stamps.forChange(inode);
  if (inode.holdsTime("mtime", time) && inode.holdsTime("ctime", time)) return;
  return ctx.transactions.run((handle) => {
    ctx.editInode(handle, inode);
    inode.setTime("mtime", time);
    inode.setTime("ctime", time);
  });
}
