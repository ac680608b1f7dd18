/**
 * One folio of a write, from the lock to the unlock; the part that writing, zeroing and unsharing
 * have in common.
 *
 *     iomapWriteBegin   locked --> mapping still valid? --> missing parts read or zeroed --+
 *                                        `-- no: IOMAP_F_STALE, given back                 |
 *     caller            copies, or zeroes                                   <--------------+
 *     iomapWriteEnd     valid and dirty, block by block
 *     iomapPutFolio     unlocked
 *
 *  1. Between lock and check of the mapping nothing is awaited: write-out, which holds neither the
 *     inode's lock nor that of the mapping, may have changed the file up to the lock, and acting on
 *     an old mapping would zero what was written.
 *  2. Bytes that were copied count only if all blocks that the write touches are valid then: what
 *     is half filled is nobody's data.
 *
 * After `iomap_write_begin` and `iomap_write_end` in `fs/iomap/buffered-io.c` of Linux. Rule 2 is
 * the kernel's for whole folios; here it is for the blocks.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import { IOCB_NOWAIT } from "../../cache/kiocb.ts";
import { filemapWriteFolio } from "../../cache/mapping-folio.ts";
import { I_DIRTY_INODE, markInodeDirty } from "../../cache/superblock.ts";
import { EAGAIN, type Errno, FsError } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { roundDown, roundUp } from "../../lib/units.ts";
import { isOneBlock } from "./finish-read.ts";
import { iomapReadInlineData, iomapWriteInlineData } from "./inline.ts";
import { IOMAP_F_STALE, IOMAP_INLINE } from "./iomap.ts";
import { type IomapIter, iomapIterSrcmap } from "./iter.ts";
import { prepareWrite } from "./prepare-write.ts";
import type { IomapWriteOps } from "./write-ops.ts";

/** What stays the same from folio to folio of one operation. */
export interface IomapWriteContext {
  readonly mapping: AddressSpace;
  readonly writeOps: IomapWriteOps | undefined;
  /** Never wait: `-EAGAIN` instead. */
  readonly isNowait: boolean;
  readonly signal: AbortSignal | undefined;
}

/**
 * The folio for `iter.posBytes`, ready for a write of at most `lengthBytes` bytes, as far as it
 * reaches: locked and referenced (`iomap_write_begin`). Returns 0 instead if the mapping is stale,
 * which is noted in it, and `-EAGAIN` if the operation may not wait.
 *
 * @throws {FsError} `EINTR` once the signal is aborted; `ENOMEM`; what the hooks or a read fail
 * with
 */
export function iomapWriteBegin(
  iter: IomapIter,
  context: IomapWriteContext,
  lengthBytes: number,
): MaybeAsync<Folio | Errno> {
  const { mapping, writeOps, isNowait, signal } = context;
  if (signal?.aborted) throw new FsError("EINTR");
  const nowaitFlag = isNowait ? IOCB_NOWAIT : 0;
  const folio =
    writeOps?.getFolio === undefined
      ? filemapWriteFolio(mapping, iter.posBytes, lengthBytes, nowaitFlag, signal)
      : writeOps.getFolio(iter, iter.posBytes, lengthBytes);
  return isPromise(folio)
    ? folio.then((had) => useFolio(iter, context, lengthBytes, had))
    : useFolio(iter, context, lengthBytes, folio);
}

/** The second half of `iomapWriteBegin`: checks the mapping and prepares the folio. */
function useFolio(
  iter: IomapIter,
  context: IomapWriteContext,
  lengthBytes: number,
  folio: Folio | Errno,
): MaybeAsync<Folio | Errno> {
  if (typeof folio === "number") {
    if (folio === -EAGAIN) return folio;
    throw FsError.of(folio);
  }
  const { inode, iomap } = iter;
  const { writeOps } = context;
  if (writeOps?.valid !== undefined && !writeOps.valid(inode, iomap)) {
    iomap.flags |= IOMAP_F_STALE;
    iomapPutFolio(iter, context, 0, folio);
    return 0;
  }
  let prepared: MaybeAsync<Errno>;
  try {
    const countBytes = Math.min(lengthBytes, folio.posBytes + folio.sizeBytes - iter.posBytes);
    prepared =
      iomapIterSrcmap(iter).type === IOMAP_INLINE
        ? prepareInline(iter, folio)
        : prepareWrite(iter, folio, countBytes, writeOps, context.isNowait);
  } catch (thrown) {
    iomapPutFolio(iter, context, 0, folio);
    throw thrown;
  }
  if (!isPromise(prepared)) return endPrepare(iter, context, folio, prepared);
  return prepared.then(
    (status) => endPrepare(iter, context, folio, status),
    (thrown: unknown) => {
      iomapPutFolio(iter, context, 0, folio);
      throw thrown;
    },
  );
}

function endPrepare(
  iter: IomapIter,
  context: IomapWriteContext,
  folio: Folio,
  status: Errno,
): Folio | Errno {
  if (status === 0) return folio;
  iomapPutFolio(iter, context, 0, folio);
  return status;
}

/** `iomap_write_begin_inline`. */
function prepareInline(iter: IomapIter, folio: Folio): Errno {
  if (iter.iomap.offsetBytes !== 0) {
    const place = `inline data of inode ${iter.inode.ino}`;
    throw new FsError("EIO", { detail: `${place} begins at byte ${iter.iomap.offsetBytes}` });
  }
  if (!folio.isUptodate) {
    iomapReadInlineData(iter, folio);
    folio.markUptodate();
  }
  return 0;
}

/**
 * Notes that `copiedBytes` of a write of `lengthBytes` at `iter.posBytes` are in `folio`
 * (`iomap_write_end`): valid, and dirty. Returns how many count: `copiedBytes`, or 0 if blocks were
 * left half filled, of which nothing is noted then. Inline data is written back to its inode, which
 * becomes dirty in place of the folio.
 *
 * @throws {FsError} `EIO` for inline data that has no room
 */
export function iomapWriteEnd(
  iter: IomapIter,
  folio: Folio,
  lengthBytes: number,
  copiedBytes: number,
): number {
  const { inode } = iter;
  const fromBytes = iter.posBytes - folio.posBytes;
  if (iomapIterSrcmap(iter).type === IOMAP_INLINE) {
    iomapWriteInlineData(iter, folio, copiedBytes);
    markInodeDirty(inode, I_DIRTY_INODE);
    return copiedBytes;
  }
  if (!folio.isUptodate) {
    const state = folio.blockState;
    const isShort = copiedBytes < lengthBytes;
    if (state === null || isOneBlock(inode, folio)) {
      if (isShort) return 0;
      folio.markUptodate();
    } else if (isShort) {
      if (!state.isValid(fromBytes, lengthBytes)) return 0;
    } else {
      const startBytes = roundDown(fromBytes, inode.blockBytes);
      state.setValid(startBytes, roundUp(fromBytes + lengthBytes, inode.blockBytes) - startBytes);
    }
  }
  if (copiedBytes > 0) dirtyBlocks(iter, folio, fromBytes, copiedBytes);
  return copiedBytes;
}

/** Whole blocks: with units below a block a part of one would be dirty otherwise. */
function dirtyBlocks(iter: IomapIter, folio: Folio, fromBytes: number, countBytes: number): void {
  const { blockBytes } = iter.inode;
  const startBytes = roundDown(fromBytes, blockBytes);
  folio.markDirtyRange(startBytes, roundUp(fromBytes + countBytes, blockBytes) - startBytes);
}

/** Gives a folio of `iomapWriteBegin` back, unlocked, after `copiedBytes` were written. */
export function iomapPutFolio(
  iter: IomapIter,
  context: IomapWriteContext,
  copiedBytes: number,
  folio: Folio,
): void {
  const { writeOps } = context;
  if (writeOps?.putFolio !== undefined) {
    writeOps.putFolio(iter.inode, iter.posBytes, copiedBytes, folio);
    return;
  }
  folio.unlock();
  folio.put();
}
