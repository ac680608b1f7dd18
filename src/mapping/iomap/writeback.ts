/**
 * Write-out: dirty blocks of folios become ioends.
 *
 *     folio      | clean | dirty     | clean | dirty | dirty, but a hole |  behind EOF  |
 *                          range               range   range: nothing      zeroed if dirty
 *
 *     locked, cleaned --> in flight --> run by run to `ops.range` --> unlocked     done by ioends
 *
 *  1. A folio is under writeback before the first of its blocks is handed over, since a completion
 *     may come at once, and `writePendingBytes` begins at its size: it ends when the last block
 *     handed over has, and all of them are.
 *  2. Blocks go from dirty to in flight as they are handed over. What is left is not dirty any
 *     more: holes that truncate has made, and what lies behind the end of the file.
 *  3. After an error nothing more of the folio is handed over. With `onWriteError` "drop" the rest
 *     is given up, with "keep" it stays dirty.
 *  4. What is collected is submitted before anything is waited for.
 *
 * After `iomap_writepages` and `iomap_writeback_folio` in `fs/iomap/buffered-io.c` of Linux. Left
 * out: the refusal to be called from reclaim, which never writes here.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import { attachBlockState, type FolioBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { writeCachePages } from "../../cache/page-writeback.ts";
import type { WritebackControl } from "../../cache/writeback-control.ts";
import { assert } from "../../lib/assert.ts";
import { type Errno, FsError } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { roundUp } from "../../lib/units.ts";
import { toFsError } from "./finish-ioend.ts";
import { isOneBlock } from "./finish-read.ts";
import type { IomapIoend } from "./ioend.ts";
import { createIomap, IOMAP_HOLE, type Iomap } from "./iomap.ts";
import type { IomapWritebackOps, IomapWritepageCtx } from "./writeback-ops.ts";

/**
 * Writes the dirty folios of `mapping` that `wbc` asks for (`iomap_writepages`), the usual
 * `writepages` of a file that is mapped by extents. All is submitted on return; waiting for it is a
 * separate step. Returns 0 or the first error that ended the walk or, with `WB_SYNC_ALL`, did not;
 * it is noted in the mapping, as are those of the device later.
 */
export function iomapWritepages(
  mapping: AddressSpace,
  wbc: WritebackControl,
  ops: IomapWritebackOps,
): MaybeAsync<Errno> {
  const walk = new WritebackWalk(mapping, wbc, ops);
  const { beforeWait } = wbc;
  wbc.beforeWait = () => {
    beforeWait?.();
    walk.submit(null);
    wbc.batch?.plug?.flush();
  };
  return andThen(writeCachePages(mapping, wbc, writeFolio, walk), (status) => {
    wbc.beforeWait = beforeWait;
    walk.submit(status === 0 ? null : (walk.failure ?? FsError.of(status)));
    return status;
  });
}

function writeFolio(folio: Folio, _wbc: WritebackControl, walk: WritebackWalk): MaybeAsync<Errno> {
  return walk.writeFolio(folio);
}

/** One call of `iomapWritepages`: the folio in hand and how far it is written. */
class WritebackWalk implements IomapWritepageCtx {
  readonly mapping: AddressSpace;
  readonly inode: Inode;
  readonly wbc: WritebackControl;
  readonly ops: IomapWritebackOps;
  readonly iomap: Iomap = createIomap();
  nrFolios = 0;
  pending: IomapIoend | null = null;
  /** The first error of a folio. */
  failure: FsError | null = null;
  // The folio in hand, and its state if it has several blocks. Offsets are bytes in it.
  #folio: Folio | null = null;
  #state: FolioBlockState | null = null;
  /** Of the file: the end of the folio or of the file. */
  #endPosBytes = 0;
  /** Behind the last block that has bytes of the file. */
  #lastBytes = 0;
  /** What is left of the run of dirty blocks in hand. */
  #atBytes = 0;
  #runEndBytes = 0;
  #submittedBytes = 0;

  constructor(mapping: AddressSpace, wbc: WritebackControl, ops: IomapWritebackOps) {
    this.mapping = mapping;
    this.inode = mapping.host;
    this.wbc = wbc;
    this.ops = ops;
  }

  /** Submits what was collected, or fails it. */
  submit(error: FsError | null): void {
    if (this.pending !== null) this.ops.submit(this, error);
  }

  /**
   * Writes `folio`, which is locked and was cleaned for it, and unlocks it
   * (`iomap_writeback_folio`).
   */
  writeFolio(folio: Folio): MaybeAsync<Errno> {
    assert(this.#folio === null, "one folio at a time is written");
    if (!this.#begin(folio)) {
      folio.unlock();
      return 0;
    }
    return this.#writeRuns();
  }

  /** False if the folio lies behind the end of the file, where truncate will meet it. */
  #begin(folio: Folio): boolean {
    const { inode } = this;
    const { posBytes, sizeBytes } = folio;
    const { trace } = this.mapping.cache;
    if (trace.isOn) {
      trace.emit({ name: "iomap_writeback_folio", ino: inode.ino, posBytes, sizeBytes });
    }
    this.#endPosBytes = posBytes + sizeBytes;
    if (this.#endPosBytes > inode.size) {
      if (posBytes >= inode.size) {
        folio.blockState?.clearDirty(0, sizeBytes);
        return false;
      }
      // A memory mapping may have put anything there.
      folio.bytes.fill(0, inode.size - posBytes);
      this.#endPosBytes = inode.size;
    }
    this.#folio = folio;
    this.#lastBytes = roundUp(this.#endPosBytes - posBytes, inode.blockBytes);
    this.#atBytes = 0;
    this.#runEndBytes = 0;
    this.#submittedBytes = 0;
    this.#attachState(folio);
    folio.startWriteback();
    return true;
  }

  #attachState(folio: Folio): void {
    const { inode } = this;
    const isNew = folio.blockState === null;
    this.#state = isOneBlock(inode, folio) ? null : attachBlockState(folio, inode.blockBytes);
    if (this.#state === null) return;
    if (isNew) this.#state.setDirty(0, this.#lastBytes);
    this.#state.writePendingBytes = folio.sizeBytes; // Rule 1.
  }

  /** Hands the dirty runs over, from where it stopped. */
  #writeRuns(): MaybeAsync<Errno> {
    const folio = this.#folio!;
    for (;;) {
      if (this.#atBytes === this.#runEndBytes && !this.#nextRun()) return this.#end(null);
      const posBytes = folio.posBytes + this.#atBytes;
      const lengthBytes = this.#runEndBytes - this.#atBytes;
      let handled: MaybeAsync<number>;
      try {
        handled = this.ops.range(this, folio, posBytes, lengthBytes, this.#endPosBytes);
      } catch (thrown) {
        return this.#end(toFsError(thrown));
      }
      if (isPromise(handled)) {
        this.submit(null); // Rule 4. It has been collected before.
        return handled.then(
          (known) => this.#goOn(known),
          (thrown: unknown) => this.#end(toFsError(thrown)),
        );
      }
      if (!this.#account(handled)) return this.#end(this.#breach(handled));
    }
  }

  #goOn(handledBytes: number): MaybeAsync<Errno> {
    if (!this.#account(handledBytes)) return this.#end(this.#breach(handledBytes));
    return this.#writeRuns();
  }

  /** Finds the next run of dirty blocks, and moves them from dirty to in flight. */
  #nextRun(): boolean {
    const state = this.#state;
    const lastBytes = this.#lastBytes;
    if (state === null) {
      // One block: dirty as a whole, whatever its units say.
      if (this.#runEndBytes === lastBytes) return false;
      this.#runEndBytes = lastBytes;
    } else {
      this.#atBytes = state.nextDirty(this.#runEndBytes, lastBytes);
      if (this.#atBytes === lastBytes) return false;
      this.#runEndBytes = state.nextClean(this.#atBytes, lastBytes);
    }
    this.#folio!.blockState?.startInFlight(this.#atBytes, this.#runEndBytes - this.#atBytes);
    return true;
  }

  /** Notes that `range` has dealt with so many bytes; false if it cannot have. */
  #account(handledBytes: number): boolean {
    if (!(handledBytes >= 1 && handledBytes <= this.#runEndBytes - this.#atBytes)) return false;
    if (this.iomap.type === IOMAP_HOLE) {
      this.#folio!.blockState?.endInFlight(this.#atBytes, handledBytes, false);
    } else {
      this.#submittedBytes += handledBytes;
    }
    this.#atBytes += handledBytes;
    return true;
  }

  #breach(handledBytes: number): FsError {
    const wantedBytes = this.#runEndBytes - this.#atBytes;
    const detail = `${handledBytes} of ${wantedBytes} bytes of inode ${this.inode.ino} were taken`;
    return new FsError("EIO", { detail });
  }

  /** Nothing more of the folio will be handed over. */
  #end(error: FsError | null): Errno {
    const folio = this.#folio!;
    this.#folio = null;
    const { blockState, sizeBytes } = folio;
    if (error !== null) this.#fail(folio, error);
    const isKept = error !== null && this.mapping.onWriteError === "keep";
    const dirtyFromBytes = isKept ? this.#lastBytes : 0;
    blockState?.clearDirty(dirtyFromBytes, sizeBytes - dirtyFromBytes); // Rule 2.
    if (this.#submittedBytes > 0) this.nrFolios++;
    const state = this.#state;
    if (state === null) {
      if (this.#submittedBytes === 0) folio.endWriteback();
    } else {
      state.writePendingBytes -= sizeBytes - this.#submittedBytes;
      if (state.writePendingBytes === 0 && this.#submittedBytes < sizeBytes) folio.endWriteback();
    }
    folio.unlock();
    return error === null ? 0 : error.errno;
  }

  /** Rule 3. */
  #fail(folio: Folio, error: FsError): void {
    this.failure ??= error;
    this.mapping.setError(error.errno, error);
    const isKept = this.mapping.onWriteError === "keep";
    if (isKept) folio.redirtyForWritepage(this.wbc);
    folio.blockState?.endInFlight(this.#atBytes, this.#runEndBytes - this.#atBytes, isKept);
  }
}
