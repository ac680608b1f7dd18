/**
 * Buffered reads: fills locked folios from the mappings of a file, in as few requests as there are
 * runs.
 *
 *     folio      | uptodate | mapped      | hole        | mapped   |  behind EOF  |
 *     done by      skipped    a request     zeros now     a request   zeros now
 *
 * A folio of several blocks keeps what it has in its `FolioBlockState`, so nothing is read twice
 * and a failed request costs its own blocks only. A folio of one block needs its flags alone.
 *
 *  1. Every folio taken is unlocked exactly once, through `folio.endRead`: by the last completion,
 *     or here if all of it was settled without one.
 *  2. `readPendingBytes` begins at the size of the folio, before the first range is handed over,
 *     and what was not handed over is subtracted when the last range was considered. A completion
 *     inside the hook therefore never ends the read early.
 *  3. Once all bytes of a folio are handed over it is not touched here any more: it may be gone.
 *  4. Blocks that are valid are never written to, not even with what should be the same bytes.
 *
 * After `fs/iomap/buffered-io.c` of Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import { attachBlockState, type FolioBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import type { ReadaheadControl } from "../../cache/readahead.ts";
import { AssertionError, assert } from "../../lib/assert.ts";
import { type Errno, errnoOf } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { roundUp } from "../../lib/units.ts";
import { iomapBioReadOps } from "./bio-read.ts";
import { endPendingRead, isOneBlock } from "./finish-read.ts";
import { iomapReadInlineData } from "./inline.ts";
import { IOMAP_INLINE, type IomapOps } from "./iomap.ts";
import {
  createIomapIter,
  type IomapIter,
  iomapIterAdvance,
  iomapIterate,
  iomapIterSrcmap,
  iomapLength,
  needsZeroing,
} from "./iter.ts";
import type { IomapReadFolioCtx, IomapReadOps } from "./read-ops.ts";

/**
 * Reads `folio`, which is locked, in its mapping and not uptodate (`iomap_read_folio`).
 *
 * What is valid in it stays, what is missing is read or zeroed. The folio is unlocked, and uptodate
 * if all went well, when the last request has completed, which may be long after the return. This
 * returns when all requests are submitted: at once if `ops` and `readOps` do.
 *
 * Returns 0, or the negative errno with which `begin` or a hook failed. A failed request is not
 * told here: its blocks stay invalid, so the folio is unlocked without being uptodate.
 */
export function iomapReadFolio<I extends Inode>(
  folio: Folio,
  ops: IomapOps<I>,
  readOps: IomapReadOps = iomapBioReadOps,
): MaybeAsync<Errno> {
  const mapping = folio.mapping!;
  assert(folio.isLocked && !folio.isUptodate, "a folio to read is locked and not uptodate");
  const { trace } = mapping.cache;
  if (trace.isOn) {
    trace.emit({ name: "iomap_read_folio", ino: mapping.host.ino, posBytes: folio.posBytes });
  }
  const read = new FolioRead(readOps, null);
  read.begin(folio);
  return read.run(mapping, folio.posBytes, folio.sizeBytes, ops);
}

/**
 * Reads the folios of `rac`, all of them new and locked (`iomap_readahead`): as `iomapReadFolio`
 * does, but the file system is asked about the whole window, and requests go across folios.
 *
 * Errors end it and are told to nobody: whoever needs a folio that is missing then reads it
 * himself. A folio that was begun is unlocked, those that were not are left in `rac`.
 */
export function iomapReadahead<I extends Inode>(
  rac: ReadaheadControl,
  ops: IomapOps<I>,
  readOps: IomapReadOps = iomapBioReadOps,
): MaybeAsync<void> {
  const { mapping, nrPages } = rac;
  const { trace } = mapping.cache;
  if (trace.isOn) trace.emit({ name: "iomap_readahead", ino: mapping.host.ino, nrPages });
  const read = new FolioRead(readOps, rac);
  const done = read.run(mapping, rac.posBytes, rac.lengthBytes, ops);
  if (isPromise(done)) return done.then(() => {});
}

/**
 * One call of `iomapReadFolio` or `iomapReadahead`: the folio in hand and how much of it is under
 * way.
 */
class FolioRead implements IomapReadFolioCtx {
  readonly ops: IomapReadOps;
  readonly rac: ReadaheadControl | null;
  folio: Folio | null = null;
  pending: unknown = null;
  #state: FolioBlockState | null = null; // Of `folio`, if that has several blocks.
  #folioEndBytes = 0; // In the file.
  #submittedBytes = 0; // Of `folio`, handed over to the hook.

  constructor(ops: IomapReadOps, rac: ReadaheadControl | null) {
    this.ops = ops;
    this.rac = rac;
  }

  /** Takes `folio` in hand. */
  begin(folio: Folio): void {
    const inode = folio.mapping!.host;
    this.folio = folio;
    this.#state = isOneBlock(inode, folio) ? null : attachBlockState(folio, inode.blockBytes);
    this.#folioEndBytes = folio.posBytes + folio.sizeBytes;
    this.#submittedBytes = 0;
  }

  /** Reads the range, mapping by mapping. Returns 0 or what went wrong on the way to the device. */
  run<I extends Inode>(
    mapping: AddressSpace,
    posBytes: number,
    lengthBytes: number,
    ops: IomapOps<I>,
  ): MaybeAsync<Errno> {
    const inode = mapping.host as I; // `ops` are those of the mapping's own file system.
    const iter = createIomapIter({
      inode,
      posBytes,
      lengthBytes,
      flags: 0,
      trace: mapping.cache.trace,
    });
    let done: MaybeAsync<void>;
    try {
      done = iomapIterate(iter, ops, (at) => this.#readMapping(at));
    } catch (thrown) {
      return this.#finish(iter, thrown);
    }
    if (!isPromise(done)) return this.#finish(iter, null);
    return done.then(
      () => this.#finish(iter, null),
      (thrown: unknown) => this.#finish(iter, thrown),
    );
  }

  /** Submits what was collected, lets go of the folio in hand, and translates the error. */
  #finish(iter: IomapIter, thrown: unknown): Errno {
    this.ops.submitRead?.(iter, this);
    this.#endFolio();
    if (thrown instanceof AssertionError) throw thrown;
    return thrown === null ? 0 : errnoOf(thrown);
  }

  /** Nothing more of the folio in hand will be handed over (`iomap_read_end`). */
  #endFolio(): void {
    const folio = this.folio;
    if (folio === null) return;
    this.folio = null;
    if (this.#submittedBytes === folio.sizeBytes) return; // Rule 3.
    const state = this.#state;
    if (state !== null && state.readPendingBytes > 0) {
      endPendingRead(state, folio.sizeBytes - this.#submittedBytes);
    } else {
      folio.endRead(folio.isUptodate);
    }
  }

  /** Works through the mapping at hand, folio by folio (`iomap_readahead_iter`). */
  #readMapping(iter: IomapIter): MaybeAsync<void> {
    while (iomapLength(iter) > 0) {
      if (this.folio === null) this.#takeNextFolio();
      if (iomapIterSrcmap(iter).type === IOMAP_INLINE) this.#readInline(iter);
      else {
        const read = this.#readRanges(iter);
        if (isPromise(read)) return read.then(() => this.#goOn(iter));
      }
      if (iter.posBytes === this.#folioEndBytes) this.#endFolio();
    }
  }

  /** The loop of `#readMapping` after a hook had to wait. */
  #goOn(iter: IomapIter): MaybeAsync<void> {
    if (iter.posBytes === this.#folioEndBytes) this.#endFolio();
    return this.#readMapping(iter);
  }

  #takeNextFolio(): void {
    const folio = this.rac?.next() ?? null;
    assert(folio !== null, "the folios of a readahead cover its window");
    this.begin(folio);
  }

  /** Handles what the mapping covers of the folio in hand (`iomap_read_folio_iter`). */
  #readRanges(iter: IomapIter): MaybeAsync<void> {
    for (;;) {
      const partBytes = Math.min(iomapLength(iter), this.#folioEndBytes - iter.posBytes);
      if (partBytes === 0) return;
      const lengthBytes = this.#skipToMissing(iter, partBytes);
      if (lengthBytes === 0) return;
      if (needsZeroing(iter, iter.posBytes)) this.#zero(iter, lengthBytes);
      else {
        const queued = this.#queue(iter, lengthBytes);
        if (isPromise(queued)) return queued.then(() => this.#readRanges(iter));
      }
    }
  }

  /**
   * Advances over valid blocks, at most `partBytes`, and returns the length of the missing range
   * that begins there, 0 if there is none (`iomap_adjust_read_range`). The range ends before the
   * next valid block and behind the last block of the file, since what lies farther is never read.
   */
  #skipToMissing(iter: IomapIter, partBytes: number): number {
    if (this.#state === null) return this.folio!.isUptodate ? skip(iter, partBytes) : partBytes;
    const startBytes = iter.posBytes;
    const folioBytes = this.folio!.posBytes;
    const endBytes = startBytes + partBytes;
    const { blockBytes, size } = iter.inode;
    const missingBytes = this.#state.nextInvalid(startBytes - folioBytes, endBytes - folioBytes);
    skip(iter, missingBytes + folioBytes - startBytes);
    if (iter.posBytes === endBytes) return 0;
    let stopBytes = this.#state.nextValid(missingBytes, endBytes - folioBytes) + folioBytes;
    const eofBytes = roundUp(size, blockBytes);
    if (iter.posBytes < eofBytes) stopBytes = Math.min(stopBytes, eofBytes);
    return stopBytes - iter.posBytes;
  }

  #zero(iter: IomapIter, lengthBytes: number): void {
    const folio = this.folio!;
    const offsetBytes = iter.posBytes - folio.posBytes;
    folio.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
    this.#setValid(offsetBytes, lengthBytes);
    iomapIterAdvance(iter, lengthBytes);
  }

  #setValid(offsetBytes: number, lengthBytes: number): void {
    const folio = this.folio!;
    const state = folio.blockState;
    if (state === null) folio.markUptodate();
    else state.setValid(offsetBytes, lengthBytes);
  }

  /** Hands a range over to the hook. */
  #queue(iter: IomapIter, lengthBytes: number): MaybeAsync<void> {
    const state = this.#state;
    if (state !== null && this.#submittedBytes === 0) {
      state.readPendingBytes = this.folio!.sizeBytes; // Rule 2.
    }
    const queued = this.ops.readFolioRange(iter, this, lengthBytes);
    if (isPromise(queued)) return queued.then(() => this.#account(iter, lengthBytes));
    this.#account(iter, lengthBytes);
  }

  #account(iter: IomapIter, lengthBytes: number): void {
    this.#submittedBytes += lengthBytes;
    iomapIterAdvance(iter, lengthBytes);
  }

  /**
   * Inline data ends the file, and the folio is zeroed behind it: nothing is left to ask for in it.
   */
  #readInline(iter: IomapIter): void {
    const folio = this.folio!;
    if (!folio.isUptodate) {
      const fromBytes = iomapReadInlineData(iter, folio);
      this.#setValid(fromBytes, folio.sizeBytes - fromBytes);
    }
    skip(iter, Math.min(iomapLength(iter), this.#folioEndBytes - iter.posBytes));
    if (iter.posBytes < this.#folioEndBytes) iter.lengthBytes = 0;
  }
}

/** Advances over `countBytes` that need nothing; returns 0. */
function skip(iter: IomapIter, countBytes: number): number {
  iomapIterAdvance(iter, countBytes);
  return 0;
}
