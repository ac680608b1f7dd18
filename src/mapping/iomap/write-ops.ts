/**
 * What buffered writes are supplied with: hooks of the file system, and where the new bytes come
 * from.
 *
 *     source --prepare--> memory --copy, at once--> folio, locked
 *
 * A source may have to wait for its bytes: a stream, a read of the same file. That happens in
 * `prepare`, while no folio is locked; `copy` is synchronous. So a source that reads the folio that
 * is about to be written cannot wait for itself.
 *
 * After `struct iomap_write_ops` in `include/linux/iomap.h` and `struct iov_iter` of Linux.
 */
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import type { Iomap } from "./iomap.ts";
import type { IomapIter } from "./iter.ts";

/** Hooks of the file system for writes through the cache (`struct iomap_write_ops`). */
export interface IomapWriteOps {
  /**
   * The folio for `iter.posBytes`, locked and referenced, instead of the one that the cache has or
   * makes (`get_folio`). Throws what went wrong.
   */
  getFolio?(iter: IomapIter, posBytes: number, lengthBytes: number): MaybeAsync<Folio>;
  /**
   * Unlocks the folio of `getFolio` and gives its reference back, after `copiedBytes` were copied
   * (`put_folio`). Called once for each that was had.
   */
  putFolio?(inode: Inode, posBytes: number, copiedBytes: number, folio: Folio): void;
  /**
   * Whether `iomap` still says where the file lies (`iomap_valid`). Asked as soon as a folio is
   * locked; without it mappings hold until `end`.
   */
  valid?(inode: Inode, iomap: Iomap): boolean;
  /**
   * Reads `lengthBytes` bytes at `posBytes`, whole blocks inside the locked `folio`, into it, for a
   * write that leaves some of them as they are (`read_folio_range`). Throws what went wrong.
   */
  readFolioRange?(
    iter: IomapIter,
    folio: Folio,
    posBytes: number,
    lengthBytes: number,
  ): MaybeAsync<void>;
}

/** Bytes to be written, if they are not simply in memory. */
export interface IomapWriteSource {
  readonly lengthBytes: number;
  /**
   * Gets bytes from `fromBytes` on into memory, best `wantedBytes` of them
   * (`fault_in_iov_iter_readable`). Returns how many there are now; 0 ends the write with `EFAULT`.
   */
  prepare(fromBytes: number, wantedBytes: number): MaybeAsync<number>;
  /**
   * Fills `into` with the bytes from `fromBytes` on, as far as they are in memory, and returns
   * their number. The same bytes may be wanted again.
   */
  copy(fromBytes: number, into: Uint8Array): number;
}
