/**
 * What a file system does for write-out: says where a dirty range of a folio goes, and submits what
 * was collected.
 *
 *     iomapWritepages --range--> maps, allocates what was reserved --> iomapAddToIoend
 *                     --submit--> chooses how the ioend ends       --> iomapIoendSubmit
 *
 * After `struct iomap_writeback_ops` and `struct iomap_writepage_ctx` in `include/linux/iomap.h` of
 * Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import type { WritebackControl } from "../../cache/writeback-control.ts";
import type { FsError } from "../../lib/errno.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import type { IomapIoend } from "./ioend.ts";
import type { Iomap } from "./iomap.ts";

/** One walk of write-out (`struct iomap_writepage_ctx`). */
export interface IomapWritepageCtx {
  readonly mapping: AddressSpace;
  readonly inode: Inode;
  readonly wbc: WritebackControl;
  readonly ops: IomapWritebackOps;
  /**
   * The mapping of the last range, kept from folio to folio: `range` uses it again while it holds,
   * and fills it otherwise. A hole of no length at the start.
   */
  readonly iomap: Iomap;
  /** Folios of which anything was handed over. */
  nrFolios: number;
  /** What was collected and not submitted yet. */
  pending: IomapIoend | null;
}

/** See the head of the file (`struct iomap_writeback_ops`). */
export interface IomapWritebackOps {
  /**
   * Maps `lengthBytes` bytes, whole dirty blocks of `folio` from `posBytes` of the file on, in
   * `wpc.iomap`, and hands them over, as a rule to `iomapAddToIoend` (`writeback_range`). Returns
   * how many it has dealt with, at least 1; for a hole, which truncate has left behind, nothing is
   * handed over. `endPosBytes` is the end of the folio or of the file.
   *
   * The folio is locked and under writeback. Each range handed over is given back once, with
   * `iomapFinishFolioWrite` or in an ioend. If it throws it has handed nothing over; then
   * reservations from `posBytes` to the end of the folio are its to drop, if the mapping's
   * `onWriteError` is "drop".
   */
  range(
    wpc: IomapWritepageCtx,
    folio: Folio,
    posBytes: number,
    lengthBytes: number,
    endPosBytes: number,
  ): MaybeAsync<number>;
  /**
   * Takes `wpc.pending` out of it and submits it, or ends it with `error` and without I/O if that
   * is not null (`writeback_submit`). Must not throw. `iomapIoendSubmit` does it, after the file
   * system has set `endIo` of the ioend if it has to do something at its end.
   */
  submit(wpc: IomapWritepageCtx, error: FsError | null): void;
}
