/**
 * Zeroing a range of a file through the cache: the ragged ends of what is truncated or punched out,
 * and the gap before a write behind the end of the file. Blocks are not freed here.
 *
 *     mapping      what is done
 *     hole         nothing: it reads as zeros
 *     unwritten    nothing, if the cache has nothing newer; else that is written first, and the
 *                  mapping asked for again: it is mapped then
 *     others       the range is zeroed in folios, which become dirty
 *
 * A file system that looks up the dirty folios of an unwritten mapping in `begin`, by
 * `iomapFillDirtyFolios`, saves the write: then just these are zeroed.
 *
 * After `iomap_zero_range` and `iomap_truncate_page` in `fs/iomap/buffered-io.c` of Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import { filemapRangeHasWriteback, filemapWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { type Errno, FsError } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { byteOfPage, pageOfByte } from "../../lib/units.ts";
import {
  IOMAP_F_FOLIO_BATCH,
  IOMAP_F_STALE,
  IOMAP_HOLE,
  IOMAP_UNWRITTEN,
  IOMAP_ZERO,
  type Iomap,
  type IomapOps,
} from "./iomap.ts";
import {
  createIomapIter,
  type IomapIter,
  iomapIterAdvance,
  iomapIterate,
  iomapIterSrcmap,
  iomapLength,
} from "./iter.ts";
import {
  type IomapWriteContext,
  iomapPutFolio,
  iomapWriteBegin,
  iomapWriteEnd,
} from "./write-begin.ts";
import type { IomapWriteOps } from "./write-ops.ts";

/** Folios of one batch at most. */
const BATCH_FOLIOS_MAX = 1024;

/**
 * Makes `lengthBytes` bytes from `posBytes` on read as zeros (`iomap_zero_range`); true if anything
 * had to be zeroed for that, which is dirty now. The size of the file stays. The caller holds the
 * inode's `rwsem` and the mapping's `invalidateLock`, both for writing.
 *
 * @throws {FsError} what `ops` and `writeOps` throw, `ENOMEM`, `EIO` for a block that cannot be
 * read,
 *   the error of a write that had to come first
 */
export function iomapZeroRange<I extends Inode>(
  mapping: AddressSpace,
  posBytes: number,
  lengthBytes: number,
  ops: IomapOps<I>,
  writeOps?: IomapWriteOps,
): MaybeAsync<boolean> {
  const { cache } = mapping;
  const zeroing = new Zeroing(mapping, posBytes, lengthBytes, writeOps);
  const iter = createIomapIter({
    inode: mapping.host as I, // `ops` are those of the mapping's own file system.
    posBytes,
    lengthBytes,
    flags: IOMAP_ZERO,
    trace: cache.trace,
    clock: cache.clock,
  });
  return andThen(
    iomapIterate(iter, ops, (at) => zeroing.zeroMapping(at)),
    () => zeroing.didZero,
  );
}

/**
 * Zeroes from `newSizeBytes` to the end of its block (`iomap_truncate_page`), so that nothing old
 * comes back when the file grows again; true if there was anything to zero. Locks and errors are
 * those of `iomapZeroRange`.
 */
export function iomapTruncatePage<I extends Inode>(
  mapping: AddressSpace,
  newSizeBytes: number,
  ops: IomapOps<I>,
  writeOps?: IomapWriteOps,
): MaybeAsync<boolean> {
  const { blockBytes } = mapping.host;
  const usedBytes = newSizeBytes % blockBytes;
  if (usedBytes === 0) return false;
  return iomapZeroRange(mapping, newSizeBytes, blockBytes - usedBytes, ops, writeOps);
}

/**
 * For `begin` of a zeroing over an unwritten range: notes in `iomap` which folios of
 * `startBytes..endBytes` are dirty or in flight (`iomap_fill_dirty_folios`). Returns how far it
 * came: the mapping must end there, at the latest.
 */
export function iomapFillDirtyFolios(
  mapping: AddressSpace,
  iomap: Iomap,
  startBytes: number,
  endBytes: number,
): number {
  const batch: number[] = [];
  iomap.folioBatch = batch;
  iomap.flags |= IOMAP_F_FOLIO_BATCH;
  const last = pageOfByte(endBytes - 1);
  let index = mapping.nextFolioIndex(pageOfByte(startBytes), last);
  while (index !== -1) {
    const folio = mapping.folioAt(index)!;
    if (batch.length === BATCH_FOLIOS_MAX) return Math.max(folio.posBytes, startBytes);
    if (folio.isDirty || folio.isWriteback || folio.isLocked) batch.push(folio.index);
    index = mapping.nextFolioIndex(folio.index + folio.pageCount, last);
  }
  return endBytes;
}

/** One call of `iomapZeroRange`. */
class Zeroing implements IomapWriteContext {
  readonly mapping: AddressSpace;
  readonly writeOps: IomapWriteOps | undefined;
  readonly isNowait = false;
  readonly signal: AbortSignal | undefined = undefined;
  didZero = false;
  /** What was dirty when it began is written at most once: nobody dirties the range meanwhile. */
  #isRangeDirty: boolean;

  constructor(
    mapping: AddressSpace,
    posBytes: number,
    lengthBytes: number,
    writeOps: IomapWriteOps | undefined,
  ) {
    this.mapping = mapping;
    this.writeOps = writeOps;
    this.#isRangeDirty = filemapRangeHasWriteback(mapping, posBytes, posBytes + lengthBytes - 1);
  }

  zeroMapping(iter: IomapIter): MaybeAsync<void> {
    const { type } = iomapIterSrcmap(iter);
    if ((iter.iomap.flags & IOMAP_F_FOLIO_BATCH) !== 0) return this.#zeroBatch(iter, 0);
    if (type === IOMAP_UNWRITTEN && this.#isRangeDirty) return this.#flush(iter);
    if (type !== IOMAP_HOLE && type !== IOMAP_UNWRITTEN) {
      return this.#zeroTo(iter, iter.posBytes + iomapLength(iter));
    }
    iomapIterAdvance(iter, iomapLength(iter));
  }

  /** Has written what the cache has newer; the mapping is another one then. */
  #flush(iter: IomapIter): MaybeAsync<void> {
    this.#isRangeDirty = false;
    const { posBytes, lengthBytes, iomap } = iter;
    const written = filemapWriteAndWaitRange(this.mapping, posBytes, posBytes + lengthBytes - 1);
    return andThen(written, (status) => {
      if (status !== 0) throw FsError.of(status);
      iomap.flags |= IOMAP_F_STALE;
    });
  }

  /** Zeroes the folios of the batch from the `first` on, and advances over the others. */
  #zeroBatch(iter: IomapIter, first: number): MaybeAsync<void> {
    const { iomap } = iter;
    const batch = iomap.folioBatch!;
    const endBytes = iter.posBytes + iomapLength(iter);
    for (let at = first; at < batch.length; at++) {
      const folio = this.mapping.folioAt(batch[at]!);
      const atBytes = byteOfPage(batch[at]!);
      if (folio === undefined || folio.index !== batch[at]) {
        iomap.flags |= IOMAP_F_STALE; // It was written and is gone: the mapping is another one.
        return;
      }
      const stopBytes = Math.min(atBytes + folio.sizeBytes, endBytes);
      if (stopBytes <= iter.posBytes) continue;
      if (atBytes > iter.posBytes) iomapIterAdvance(iter, atBytes - iter.posBytes);
      const zeroed = this.#zeroTo(iter, stopBytes);
      if (isPromise(zeroed)) {
        return zeroed.then(() => {
          if ((iomap.flags & IOMAP_F_STALE) === 0) return this.#zeroBatch(iter, at + 1);
        });
      }
      if ((iomap.flags & IOMAP_F_STALE) !== 0) return;
    }
    iomapIterAdvance(iter, iomapLength(iter));
  }

  /** Zeroes up to byte `endBytes`, folio by folio, or until the mapping is stale. */
  #zeroTo(iter: IomapIter, endBytes: number): MaybeAsync<void> {
    while (iter.posBytes < endBytes) {
      const folio = iomapWriteBegin(iter, this, endBytes - iter.posBytes);
      if (isPromise(folio)) {
        return folio.then((had) => {
          if (this.#zeroFolio(iter, endBytes, had)) return this.#zeroTo(iter, endBytes);
        });
      }
      if (!this.#zeroFolio(iter, endBytes, folio)) return;
    }
  }

  /** False if there is no folio, as the mapping is stale. */
  #zeroFolio(iter: IomapIter, endBytes: number, folio: Folio | Errno): boolean {
    if (typeof folio === "number") return false;
    const fromBytes = iter.posBytes - folio.posBytes;
    const countBytes = Math.min(endBytes - iter.posBytes, folio.sizeBytes - fromBytes);
    try {
      folio.bytes.fill(0, fromBytes, fromBytes + countBytes);
      iomapWriteEnd(iter, folio, countBytes, countBytes);
    } finally {
      iomapPutFolio(iter, this, countBytes, folio);
    }
    this.didZero = true;
    iomapIterAdvance(iter, countBytes);
    return true;
  }
}
