/**
 * The end of write-out: folios leave writeback, and before that the file system may have to do
 * something about the ranges that were written.
 *
 *     ioend 8192.. ioend 0.. ioend 4096..     as the device has finished them
 *             \      |       /
 *           IomapIoendQueue: sorted, merged --> one call for 0..12288 --> all three end
 *
 *  1. The folios of an ioend leave writeback after the file system is done with it: who waits for
 *     the writeback sees the file as it is then.
 *  2. An error is noted on the mapping before the first of these folios leaves writeback.
 *  3. With `onWriteError` "keep" what failed is dirty again before its folio leaves writeback.
 *
 * After `fs/iomap/ioend.c` and `fs/xfs/xfs_aops.c` of Linux.
 */
import type { Folio } from "../../cache/folio.ts";
import { AssertionError, assert } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import { errnoOf, FsError, hasErrnoCode } from "../../lib/errno.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { mutants } from "../../lib/mutants.ts";
import { completionsOf } from "../completion.ts";
import { isOneBlock } from "./finish-read.ts";
import { type IomapIoend, iomapIoendTryMerge, iomapSortIoends } from "./ioend.ts";

/**
 * Notes that the write of `lengthBytes` at `offsetBytes` of `folio`, which `range` has handed over,
 * has ended (`iomap_finish_folio_write`). The last one ends the writeback of the folio. The error
 * of a failed one is noted by the caller, with `mapping.setError`, before.
 */
export function iomapFinishFolioWrite(
  folio: Folio,
  offsetBytes: number,
  lengthBytes: number,
  isFailed: boolean,
): void {
  const mapping = folio.mapping!;
  const isKept = isFailed && mapping.onWriteError === "keep" && !mutants.cleanAfterError;
  const state = folio.blockState;
  if (state !== null) state.endInFlight(offsetBytes, lengthBytes, isKept);
  else if (isKept) folio.markDirty();
  if (isOneBlock(mapping.host, folio)) {
    folio.endWriteback();
    return;
  }
  assert(state !== null && state.writePendingBytes >= lengthBytes, "what ends was begun");
  state.writePendingBytes -= lengthBytes;
  if (state.writePendingBytes === 0) folio.endWriteback();
}

/**
 * Ends `ioend`, and those merged into it, with `error`, or well if that is null
 * (`iomap_finish_ioends`): its folios leave writeback. One that was cut off another ends with it.
 */
export function iomapFinishIoends(ioend: IomapIoend, error: FsError | null): void {
  finishIoend(ioend, error);
  for (const merged of ioend.chain) finishIoend(merged, error);
}

function finishIoend(piece: IomapIoend, error: FsError | null): void {
  const ioend = piece.parent ?? piece;
  ioend.error ??= error;
  assert(ioend.remaining > 0, "an ioend ends once");
  if (--ioend.remaining > 0) return;
  const isFailed = ioend.error !== null;
  if (isFailed) noteWriteError(ioend, ioend.error!);
  for (const { folio, offsetBytes, lengthBytes } of ioend.parts) {
    iomapFinishFolioWrite(folio, offsetBytes, lengthBytes, isFailed);
  }
}

function noteWriteError(ioend: IomapIoend, error: FsError): void {
  const { mapping } = ioend;
  mapping.setError(error.errno, error);
  const { trace } = mapping.cache;
  if (!trace.isOn) return;
  const { offsetBytes: posBytes, sizeBytes: lengthBytes } = ioend;
  const fields = { ino: mapping.host.ino, posBytes, lengthBytes, error: error.errno };
  trace.emit({ name: "iomap_io_error", kind: "bufferedWrite", ...fields });
}

/**
 * What the file system does about an ioend that was written, or has failed with `ioend.error`:
 * converts the range, raises the size on disk; or gives space back. What it throws becomes the
 * error of the range.
 */
export type IoendHandler = (ioend: IomapIoend) => MaybeAsync<void>;

/**
 * Ioends of one inode that wait for their file system: see the head of the file. `add` is for
 * `IomapIoend.endIo`.
 */
export class IomapIoendQueue {
  readonly #clock: Clock;
  readonly #handler: IoendHandler;
  #ioends: IomapIoend[] = [];
  #isRunning = false;

  constructor(clock: Clock, handler: IoendHandler) {
    this.#clock = clock;
    this.#handler = handler;
  }

  /** Takes over `ioend`, which has ended on the device. */
  add(ioend: IomapIoend): void {
    this.#ioends.push(ioend);
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Those whose bios end in the same stretch of work come together.
    this.#clock.microtask(() => void this.#run());
  }

  async #run(): Promise<void> {
    while (this.#ioends.length > 0) {
      const ioends = this.#ioends;
      this.#ioends = [];
      iomapSortIoends(ioends);
      for (let first = ioends.shift(); first !== undefined; first = ioends.shift()) {
        iomapIoendTryMerge(first, ioends);
        await this.#finish(first);
      }
    }
    this.#isRunning = false;
  }

  async #finish(ioend: IomapIoend): Promise<void> {
    let error = ioend.error;
    try {
      await this.#handler(ioend);
    } catch (thrown) {
      error ??= toFsError(thrown);
    }
    let folioCount = ioend.parts.length;
    for (const merged of ioend.chain) folioCount += merged.parts.length;
    completionsOf(this.#clock).add(() => iomapFinishIoends(ioend, error), folioCount);
  }
}

/** `thrown` as the error of an operation; a bug of ours is thrown on. */
export function toFsError(thrown: unknown): FsError {
  if (thrown instanceof AssertionError) throw thrown;
  if (thrown instanceof FsError) return thrown;
  const cause = thrown;
  return hasErrnoCode(thrown)
    ? new FsError(thrown.code, { cause })
    : FsError.of(errnoOf(thrown), { cause });
}
