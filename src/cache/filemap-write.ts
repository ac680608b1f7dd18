/**
 * filemap-write: writing a file through its cache, and around it.
 *
 *     for each folio   throttle      may wait for dirty folios to be written; no lock is held
 *                      writeBegin    room is reserved, the folio locked, its old bytes valid
 *                      copy          synchronous
 *                      writeEnd      dirty, `size` raised, and only then unlocked
 *
 *  1. A write into folios that are cached and free is synchronous, and makes no promise and nothing
 *     else but the view to copy from.
 *  2. The caller holds `host.rwsem` for writing; appending and `IOCB_DSYNC` are its business.
 *  3. What was written before an error counts: the error is returned only by a write that has
 *     done nothing. The next one meets it again.
 *  4. Bytes between the old end of the file and a write behind it are zero before the file grows.
 *
 * After `generic_perform_write` and `generic_file_direct_write` in `mm/filemap.c` of Linux. Left
 * out: sources that may fail in the middle of a copy, as the memory of a process does.
 */
import {
  EAGAIN,
  EBUSY,
  EFAULT,
  EFBIG,
  EINTR,
  EINVAL,
  EIO,
  type Errno,
  errnoOf,
} from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { FILE_BYTES_MAX, PAGE_BYTES, pageOfByte } from "../lib/units.ts";
import { filemapRangeHasWriteback, filemapWriteAndWaitRange } from "./filemap-flush.ts";
import type { Folio } from "./folio.ts";
import { IOCB_NOWAIT, type Kiocb } from "./kiocb.ts";
import { balanceDirtyPagesRatelimited } from "./throttle.ts";
import { invalidateInodePages2Range, pagecacheIsizeExtended } from "./truncate.ts";

/**
 * Writes `bytes` to the file at `iocb.posBytes`, which moves on by what was written
 * (`generic_perform_write`), through `ops.writeBegin` and `ops.writeEnd`.
 *
 * Returns the number of bytes written: all of them, or fewer after an error. An error is returned
 * only if there are none: `-EFBIG` behind the largest file, `-EINVAL` for a negative position,
 * `-EAGAIN` where `IOCB_NOWAIT` forbids what was needed, `-EINTR` after an abort, and whatever the
 * file system gave, `-ENOSPC` first of all. `bytes` is read until the result is there.
 */
export function genericPerformWrite(iocb: Kiocb, bytes: Uint8Array): MaybeAsync<number> {
  const { mapping } = iocb.file;
  const { posBytes } = iocb;
  if (posBytes < 0) return -EINVAL;
  if (bytes.length === 0) return 0;
  const reachBytes = FILE_BYTES_MAX - posBytes;
  if (reachBytes <= 0) return -EFBIG;
  const from = bytes.length > reachBytes ? bytes.subarray(0, reachBytes) : bytes;
  if (posBytes <= mapping.host.size) return perform(iocb, from);
  const extended = pagecacheIsizeExtended(mapping, mapping.host.size, posBytes);
  return andThen(extended, () => perform(iocb, from));
}

function perform(iocb: Kiocb, bytes: Uint8Array): MaybeAsync<number> {
  for (let done = 0; done < bytes.length; ) {
    const accepted = writeChunk(iocb, bytes, done);
    if (isPromise(accepted)) return performAsync(iocb, bytes, done, accepted);
    if (accepted < 0) return done > 0 ? done : accepted;
    done += accepted;
  }
  return bytes.length;
}

/** The rest of a write that has met something to wait for. */
async function performAsync(
  iocb: Kiocb,
  bytes: Uint8Array,
  doneBefore: number,
  waiting: Promise<number>,
): Promise<number> {
  let done = doneBefore;
  for (let pending: MaybeAsync<number> = waiting; ; ) {
    const accepted = isPromise(pending) ? await pending : pending;
    if (accepted < 0) return done > 0 ? done : accepted;
    done += accepted;
    if (done === bytes.length) return done;
    pending = writeChunk(iocb, bytes, done);
  }
}

/** Writes what the next folio takes of `bytes` from `done` on; its length or an errno. */
function writeChunk(iocb: Kiocb, bytes: Uint8Array, done: number): MaybeAsync<number> {
  const { mapping } = iocb.file;
  const chunkBytes = PAGE_BYTES * 2 ** mapping.maxOrder;
  const roomBytes = chunkBytes - (iocb.posBytes % chunkBytes);
  const lengthBytes = Math.min(roomBytes, bytes.length - done);
  const isNowait = (iocb.flags & IOCB_NOWAIT) !== 0;
  const throttled = balanceDirtyPagesRatelimited(mapping, iocb.signal, isNowait);
  if (isPromise(throttled)) {
    return throttled.then((err) => (err < 0 ? err : beginChunk(iocb, bytes, done, lengthBytes)));
  }
  return throttled < 0 ? throttled : beginChunk(iocb, bytes, done, lengthBytes);
}

function beginChunk(
  iocb: Kiocb,
  bytes: Uint8Array,
  done: number,
  lengthBytes: number,
): MaybeAsync<number> {
  const { mapping } = iocb.file;
  if (iocb.signal?.aborted) return -EINTR;
  try {
    const begun = mapping.ops.writeBegin?.(iocb, mapping, iocb.posBytes, lengthBytes) ?? -EINVAL;
    if (!isPromise(begun)) return copyChunk(iocb, bytes, done, lengthBytes, begun);
    return begun.then(
      (folio) => copyChunk(iocb, bytes, done, lengthBytes, folio),
      (thrown) => errnoOf(thrown, iocb.signal),
    );
  } catch (thrown) {
    return errnoOf(thrown, iocb.signal);
  }
}

/** Copies into the folio that `writeBegin` has returned, and ends that. */
function copyChunk(
  iocb: Kiocb,
  bytes: Uint8Array,
  done: number,
  wantedBytes: number,
  folio: Folio | Errno,
): MaybeAsync<number> {
  if (typeof folio === "number") return folio;
  const { mapping } = iocb.file;
  const { posBytes } = iocb;
  const from = posBytes - folio.posBytes;
  const lengthBytes = Math.min(wantedBytes, folio.sizeBytes - from);
  if (lengthBytes === bytes.length) folio.bytes.set(bytes, from);
  else folio.bytes.set(bytes.subarray(done, done + lengthBytes), from);
  const { lockSequence } = folio;
  try {
    const ended = mapping.ops.writeEnd!(iocb, mapping, posBytes, lengthBytes, lengthBytes, folio);
    if (!isPromise(ended)) return endChunk(iocb, bytes, done, lengthBytes, ended);
    return ended.then(
      (accepted) => endChunk(iocb, bytes, done, lengthBytes, accepted),
      (thrown) => endThrew(folio, lockSequence, thrown),
    );
  } catch (thrown) {
    return endThrew(folio, lockSequence, thrown);
  }
}

/** Moves on, or tries with less where nothing was accepted. */
function endChunk(
  iocb: Kiocb,
  bytes: Uint8Array,
  done: number,
  lengthBytes: number,
  accepted: number,
): MaybeAsync<number> {
  if (accepted > 0) iocb.posBytes += accepted;
  if (accepted !== 0) return accepted;
  if (lengthBytes <= PAGE_BYTES) return -EFAULT;
  return beginChunk(iocb, bytes, done, Math.floor(lengthBytes / 2));
}

/** Whatever `writeEnd` throws, the folio ends unlocked (rule JS-8). */
function endThrew(folio: Folio, lockSequence: number, thrown: unknown): Errno {
  if (folio.isLocked && folio.lockSequence === lockSequence) {
    folio.unlock();
    folio.put();
  }
  return errnoOf(thrown);
}

/**
 * Writes `lengthBytes` at `iocb.posBytes` around the cache (`generic_file_direct_write`): what is
 * dirty there is written first, then the range leaves the cache, `write` is called, and what others
 * have read meanwhile leaves it too. Returns what `write` returns, the number of bytes written or
 * an errno, and moves `iocb` on; 0 if the range could not be dropped: then the caller writes
 * through the cache. The caller holds `host.rwsem` for writing.
 */
export function genericFileDirectWrite(
  iocb: Kiocb,
  lengthBytes: number,
  write: () => MaybeAsync<number>,
): MaybeAsync<number> {
  const { mapping } = iocb.file;
  const { posBytes } = iocb;
  const lastBytes = posBytes + lengthBytes - 1;
  const [first, last] = [pageOfByte(posBytes), pageOfByte(lastBytes)];
  if ((iocb.flags & IOCB_NOWAIT) !== 0 && filemapRangeHasWriteback(mapping, posBytes, lastBytes)) {
    return -EAGAIN;
  }
  const written = andThen(filemapWriteAndWaitRange(mapping, posBytes, lastBytes), (err) => {
    if (err !== 0) return err;
    return andThen(invalidateInodePages2Range(mapping, first, last), (status) => {
      if (status !== 0) return status === -EBUSY ? 0 : status;
      return write();
    });
  });
  return andThen(written, (count) => {
    if (count <= 0) return count;
    iocb.posBytes += count;
    return andThen(invalidateInodePages2Range(mapping, first, last), (status) => {
      // The data is safe, but who reads through the cache may see what was there before.
      if (status !== 0) mapping.wbErr.set(-EIO);
      return count;
    });
  });
}
