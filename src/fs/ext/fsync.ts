/**
 * Making one file durable: its data, then the transactions that its inode and its map are in.
 *
 *     data written and waited for --> blocks converted, size on disk (before writeback ends)
 *                                 --> commit up to the inode's transaction, with a flush
 *                                 --> or, if that has been, only the flush
 *
 * After `ext4_sync_file` and `ext4_fsync_journal` in `fs/ext4/fsync.c` of Linux.
 */
import { flushDevice } from "../../block/write-device.ts";
import type { CacheFile } from "../../cache/cache-file.ts";
import { filemapWriteAndWaitRange, fileWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import { FsError } from "../../lib/errno.ts";
import { andThen, type MaybeAsync } from "../../lib/maybe.ts";
import type { ExtInode } from "./inode.ts";
import { isLaterTid } from "./jbd2-format.ts";
import type { ExtWriter } from "./writer.ts";

/** Writes the data of `inode`, all or the bytes up to `lastBytes`, and waits for it. */
function syncData(
  inode: ExtInode,
  file: CacheFile | null,
  startBytes: number,
  lastBytes: number,
): MaybeAsync<void> {
  const { mapping } = inode;
  if (mapping === undefined) return;
  const written =
    file === null
      ? filemapWriteAndWaitRange(mapping, startBytes, lastBytes)
      : fileWriteAndWaitRange(file, startBytes, lastBytes);
  return andThen(written, (errno) => {
    if (errno === 0) return;
    throw FsError.of(errno, { syscall: "fsync", cause: mapping.writeFailure });
  });
}

/** Commits what `inode` needs, and flushes the device if no commit has done that since. */
function syncMetadata(ctx: ExtWriter, inode: ExtInode, isDataOnly: boolean): MaybeAsync<void> {
  const { transactions } = ctx;
  // What is in a directory is told by the inodes in it, too.
  const isFile = inode.type === "file";
  const ownTid = isDataOnly ? inode.datasyncTid : inode.syncTid;
  const tid = isFile ? ownTid : transactions.runningTid;
  if (transactions.failure !== undefined) throw new FsError("EIO", { cause: transactions.failure });
  if (tid === 0 || !isLaterTid(tid, transactions.committedTid)) return flushDevice(ctx.core.bdev);
  // A commit that is under way may have flushed before our data was written.
  const coversData = tid === transactions.runningTid;
  return andThen(transactions.commit(tid), () =>
    coversData ? undefined : flushDevice(ctx.core.bdev),
  );
}

/**
 * Makes `inode` durable (`fsync`), or with `isDataOnly` what is needed to read its data back
 * (`fdatasync`); of the data only the bytes `startBytes..lastBytes` if these are given. Errors of
 * earlier write-back are told to `file`, once; it is null for what has no content.
 *
 * @throws {FsError} `EIO`, `ENOSPC`: data or metadata could not be written, with the first cause
 */
export function fsyncFile(
  ctx: ExtWriter,
  inode: ExtInode,
  file: CacheFile | null,
  isDataOnly: boolean,
  startBytes = 0,
  lastBytes: number = Infinity,
): MaybeAsync<void> {
  return andThen(syncData(inode, file, startBytes, lastBytes), () =>
    syncMetadata(ctx, inode, isDataOnly),
  );
}
