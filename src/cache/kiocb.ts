/**
 * Kiocb: one request to read or write a file through its cache.
 *
 * After `struct kiocb` in `include/linux/fs.h` of Linux.
 */
import type { CacheFile } from "./cache-file.ts";

/** Never wait: `-EAGAIN` where that would be needed. Readahead may be started (`IOCB_NOWAIT`). */
export const IOCB_NOWAIT = 1;
/** Start no I/O at all: `-EAGAIN` for what is not cached (`IOCB_NOIO`). */
export const IOCB_NOIO = 2;
/** Write at the end of the file, wherever that is. The file system moves `posBytes` there. */
export const IOCB_APPEND = 4;
/** The data is safe when the write returns (`IOCB_DSYNC`). The file system sees to that. */
export const IOCB_DSYNC = 8;
/** With `IOCB_DSYNC`: the inode is safe too (`IOCB_SYNC`). */
export const IOCB_SYNC = 16;

/** See the head of the file. May be used again for the next request. */
export interface Kiocb {
  file: CacheFile;
  /** Where to read or write, in bytes; moves on by what was done. */
  posBytes: number;
  /** `IOCB_*`, or 0. */
  flags: number;
  /** Ends the waiting, not the I/O: the request returns `-EINTR` if nothing was done before. */
  signal?: AbortSignal | undefined;
}
