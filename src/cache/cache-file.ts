/**
 * CacheFile: one open file description as the cache sees it: where it reads ahead, and which write
 * errors it has been told of. Handles that share it (`dup`) share both.
 *
 * After `struct file` and `struct file_ra_state` of Linux.
 */
import type { Errno } from "../lib/errno.ts";
import type { ErrseqCursor } from "../lib/errseq.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Folio } from "./folio.ts";

/**
 * The readahead window of one open file, in pages (`struct file_ra_state`).
 *
 *     |<------------ size ------------>|
 *     start          |<-- asyncSize -->|       the folio where asyncSize begins carries the mark
 */
export class FileRaState {
  start = 0;
  size = 0;
  asyncSize = 0;
  /** Order of the folios that the last window asked for. */
  order = 0;
  /** Largest window; 0 switches readahead off. */
  raPages: number;
  /** End of the last read in bytes, -1 before the first. */
  prevPos = -1;

  constructor(raPages: number) {
    this.raPages = raPages;
  }
}

/** See the head of the file. Made by `openCacheFile`. */
export class CacheFile {
  readonly mapping: AddressSpace;
  readonly ra: FileRaState;
  /** Advised to be read at random: no readahead (`FMODE_RANDOM`). */
  isRandom = false;
  /** Up to where write errors were reported to this file. */
  readonly wbErrSince: ErrseqCursor;
  /** The same for the errors of the whole file system, of which `syncfs` tells. */
  readonly sbErrSince: ErrseqCursor;
  /**
   * The folio read last: a reader of small pieces finds it without a walk. May have left the
   * file.
   */
  lastFolio: Folio | null = null;

  constructor(mapping: AddressSpace) {
    this.mapping = mapping;
    this.ra = new FileRaState(mapping.raPages);
    this.wbErrSince = { since: mapping.wbErr.sample() };
    this.sbErrSince = { since: mapping.wbInode?.sb.wbErr.sample() ?? 0 };
  }
}

/**
 * Opens the content of `mapping`: readahead begins anew, and old write errors are old
 * (`do_dentry_open`).
 */
export function openCacheFile(mapping: AddressSpace): CacheFile {
  return new CacheFile(mapping);
}

/**
 * The write error that `file` has not been told of, or 0; from now on it has
 * (`file_check_and_advance_wb_err`). Clears the two older flags too.
 */
export function fileCheckAndAdvanceWbErr(file: CacheFile): Errno {
  const { mapping } = file;
  const err = mapping.wbErr.checkAndAdvance(file.wbErrSince);
  mapping.flagEIO = false;
  mapping.flagENOSPC = false;
  return err;
}
