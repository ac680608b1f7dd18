/**
 * Writing to a file: into the cache, in whichever way its inode finds its data.
 *
 *     rwsem --> times --> zeros behind the old end --> inline | iomap | buffers --> O_SYNC
 *
 *  1. One writer at a time has the file. The lock is given back before `fsync`.
 *  2. `ENOSPC` while freed blocks wait for a commit is no answer: the commit is made, and the write
 *     goes on.
 *  3. What was written counts, whatever came after it.
 *  4. With `IOCB_NOWAIT` a write is done at once, in part, or not at all: nothing of it goes on.
 *
 * After `ext4_buffered_write_iter` in `fs/ext4/file.c` of Linux.
 */
import { genericPerformWrite } from "../../cache/filemap-write.ts";
import { IOCB_APPEND, IOCB_DSYNC, IOCB_NOWAIT, IOCB_SYNC, type Kiocb } from "../../cache/kiocb.ts";
import { EAGAIN, FsError, hasErrnoCode } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { iomapFileBufferedWrite } from "../../mapping/iomap/buffered-write.ts";
import {
  checkChangeable,
  type FileWriting,
  maxFileBytes,
  noteChange,
  withFinally,
  zeroBehindEnd,
} from "./file-writing.ts";
import { withFreedRoom } from "./freed-room.ts";
import { fsyncFile } from "./fsync.ts";
import { convertInline, fitsInline, writeInline } from "./inline-write.ts";
import type { ExtInode } from "./inode.ts";
import { extWriteHooks } from "./iomap-write.ts";
import { finishCut } from "./set-size.ts";

/**
 * Writes `bytes` to the file at `iocb.posBytes`, with `IOCB_APPEND` at its end, and moves
 * `posBytes` on. With `IOCB_DSYNC` what was written is durable on return. Memory is borrowed until
 * then.
 *
 * Returns the bytes written, fewer only after an error, which the next call meets again; `-EAGAIN`
 * with `IOCB_NOWAIT` if nothing can be written at once.
 *
 * @throws {FsError} if nothing was written: `ENOSPC`, `EFBIG`, `EPERM`, `EINVAL` for a negative
 *   position, `EIO`
 * @throws the reason of the signal
 */
export function writeFile(files: FileWriting, iocb: Kiocb, bytes: Uint8Array): MaybeAsync<number> {
  const inode = iocb.file.mapping.host as ExtInode;
  const isNowait = (iocb.flags & IOCB_NOWAIT) !== 0;
  if (isNowait && !inode.rwsem.tryWrite()) return -EAGAIN;
  const locked = isNowait ? undefined : inode.rwsem.write(iocb.signal);
  const written = andThen(locked, () =>
    withFinally(
      () => writeLocked(files, iocb, inode, bytes),
      () => inode.rwsem.unlockWrite(),
    ),
  );
  if ((iocb.flags & IOCB_DSYNC) === 0) return written;
  return andThen(written, (countBytes) => {
    if (countBytes <= 0) return countBytes;
    const startBytes = iocb.posBytes - countBytes;
    const isDataOnly = (iocb.flags & IOCB_SYNC) === 0;
    const lastBytes = iocb.posBytes - 1;
    const synced = fsyncFile(files.ctx, inode, iocb.file, isDataOnly, startBytes, lastBytes);
    return andThen(synced, () => countBytes);
  });
}

function writeLocked(
  files: FileWriting,
  iocb: Kiocb,
  inode: ExtInode,
  bytes: Uint8Array,
): MaybeAsync<number> {
  const isAppend = (iocb.flags & IOCB_APPEND) !== 0;
  checkChangeable(inode, isAppend);
  if (isAppend) iocb.posBytes = inode.size;
  const { posBytes } = iocb;
  if (posBytes < 0) throw new FsError("EINVAL", { detail: "a position before the file" });
  if (bytes.length === 0) return 0;
  const roomBytes = maxFileBytes(files.ctx, inode) - posBytes;
  if (roomBytes <= 0) throw new FsError("EFBIG");
  const taken = bytes.length > roomBytes ? bytes.subarray(0, roomBytes) : bytes;
  if ((iocb.flags & IOCB_NOWAIT) !== 0) return performNow(files, iocb, inode, taken);
  const noted = andThen(finishCut(files.ctx, inode), () => noteChange(files.ctx, inode));
  const ready = andThen(noted, () => zeroBehindEnd(files, inode, posBytes));
  const perform = (): MaybeAsync<number> => performOnce(files, iocb, inode, taken);
  return andThen(ready, () => withFreedRoom(files.ctx, perform));
}

/** Rule 4: `-EAGAIN` before anything has begun that might wait. */
function performNow(
  files: FileWriting,
  iocb: Kiocb,
  inode: ExtInode,
  bytes: Uint8Array,
): MaybeAsync<number> {
  if (inode.isInline || iocb.posBytes > inode.size) return -EAGAIN;
  const noted = noteChange(files.ctx, inode);
  if (isPromise(noted)) {
    noted.catch(() => undefined); // A time alone; the next write meets what was in its way.
    return -EAGAIN;
  }
  try {
    return performOnce(files, iocb, inode, bytes);
  } catch (thrown) {
    const isFull = hasErrnoCode(thrown) && thrown.code === "ENOSPC";
    if (isFull && files.ctx.blocks.pendingCount > 0) return -EAGAIN;
    throw thrown;
  }
}

function performOnce(
  files: FileWriting,
  iocb: Kiocb,
  inode: ExtInode,
  bytes: Uint8Array,
): MaybeAsync<number> {
  if (inode.isInline) {
    const endBytes = iocb.posBytes + bytes.length;
    return andThen(fitsInline(files.ctx, inode, endBytes), (fits) => {
      if (fits) return writeInline(files, iocb, inode, bytes);
      return andThen(convertInline(files, inode), () => performOnce(files, iocb, inode, bytes));
    });
  }
  if (inode.hasExtents) return iomapFileBufferedWrite(iocb, bytes, files.iomapOps, extWriteHooks);
  return andThen(genericPerformWrite(iocb, bytes), (count) => {
    if (count >= 0 || count === -EAGAIN) return count;
    iocb.signal?.throwIfAborted();
    throw FsError.of(count);
  });
}
