/**
 * sync_file_range: starting and awaiting the write of a range by hand, for programs that know when.
 * No metadata and no flush of the device goes with it: it promises nothing after a crash.
 *
 * After `sync_file_range` in `fs/sync.c` of Linux.
 */
import { EINVAL, type Errno } from "../lib/errno.ts";
import { FILE_BYTES_MAX } from "../lib/units.ts";
import type { CacheFile } from "./cache-file.ts";
import { fileFdatawaitRange, filemapWriteback } from "./filemap-flush.ts";
import { WB_SYNC_ALL, WB_SYNC_NONE } from "./writeback-control.ts";

/** Wait for what is in flight before anything else. */
export const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
/** Start to write what is dirty; what is in flight is passed over, unless all flags are given. */
export const SYNC_FILE_RANGE_WRITE = 2;
/** Wait for what is in flight in the end. */
export const SYNC_FILE_RANGE_WAIT_AFTER = 4;
const ALL_FLAGS: number =
  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

/**
 * Does what `flags` say, in the order of their values, with the bytes from `offsetBytes` on, to the
 * end of the file if `lengthBytes` is 0 (`sync_file_range`). The first error ends it and is
 * returned; `-EINVAL` for other flags and for ranges that there are not.
 */
export async function syncFileRange(
  file: CacheFile,
  offsetBytes: number,
  lengthBytes: number,
  flags: number,
): Promise<Errno> {
  if ((flags & ~ALL_FLAGS) !== 0 || !isRange(offsetBytes, lengthBytes)) return -EINVAL;
  const lastBytes = lengthBytes === 0 ? Infinity : offsetBytes + lengthBytes - 1;
  if ((flags & SYNC_FILE_RANGE_WAIT_BEFORE) !== 0) {
    const err = await fileFdatawaitRange(file, offsetBytes, lastBytes);
    if (err < 0) return err;
  }
  if ((flags & SYNC_FILE_RANGE_WRITE) !== 0) {
    const syncMode = (flags & ALL_FLAGS) === ALL_FLAGS ? WB_SYNC_ALL : WB_SYNC_NONE;
    const err = await filemapWriteback(file.mapping, offsetBytes, lastBytes, syncMode);
    if (err < 0) return err;
  }
  if ((flags & SYNC_FILE_RANGE_WAIT_AFTER) === 0) return 0;
  return fileFdatawaitRange(file, offsetBytes, lastBytes);
}

function isRange(offsetBytes: number, lengthBytes: number): boolean {
  const isWhole = Number.isSafeInteger(offsetBytes) && Number.isSafeInteger(lengthBytes);
  if (!isWhole || offsetBytes < 0 || lengthBytes < 0) return false;
  return offsetBytes < FILE_BYTES_MAX && offsetBytes + lengthBytes <= FILE_BYTES_MAX;
}
