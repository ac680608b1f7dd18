/**
 * The iterator: asks a file system for one mapping after the other and has each worked on by the
 * same body. Every operation of iomap is this loop with a body of its own.
 *
 *     begin(pos, length) --> Iomap --> body(iter), which advances --> end(.., advanced) --+
 *       ^                                                                                 |
 *       +---- range left, and the body advanced or the mapping was stale -----------------+
 *
 *  1. `end` follows every `begin` that did not throw, also when the answer was unusable, the body
 *     threw or nothing was advanced.
 *  2. The position moves only in `iomapIterAdvance`, and never beyond the mapping.
 *  3. What the body throws ends the iteration after `end`. What `end` throws counts only if the
 *     mapping was not used at all, and then before the body's error: with progress, the next
 *     `begin` meets it.
 *  4. A body that neither advances nor throws ends the iteration: no step repeats for ever, save
 *     that of a stale mapping, and that at most `STALE_TRIES_MAX` times, each in a turn of its own.
 *  5. As long as `begin`, body and `end` return at once, and no mapping is stale, there is no
 *     promise and no microtask.
 *
 * After `fs/iomap/iter.c` of Linux. Left out: the `status` of the iterator, since bodies throw.
 */
import type { Inode } from "../../cache/inode.ts";
import type { Clock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import type { Tracer } from "../../lib/trace.ts";
import {
  createIomap,
  IOMAP_F_NEW,
  IOMAP_F_STALE,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  type Iomap,
  type IomapOps,
  iomapContractBreach,
  iomapEndBytes,
  resetIomap,
} from "./iomap.ts";

/** Stale answers in a row, without progress, after which a file system is taken to be broken. */
const STALE_TRIES_MAX = 1000;

/**
 * Where an operation is: what is left of its range, and the mapping at hand (`struct iomap_iter`).
 */
export interface IomapIter<I extends Inode = Inode> {
  readonly inode: I;
  /** Next byte to work on. */
  posBytes: number;
  /** Bytes left, from `posBytes` on. */
  lengthBytes: number;
  /** Where the mapping at hand was begun. */
  iterStartPosBytes: number;
  /** `IOMAP_WRITE` .. of the operation. */
  readonly flags: number;
  readonly iomap: Iomap;
  /** Where old data comes from if not from `iomap`; a hole otherwise. */
  readonly srcmap: Iomap;
  readonly trace: Tracer | null;
  readonly clock: Clock | null;
  /** Stale answers since the last progress. */
  staleCount: number;
}

/** Works on the mapping in `iter.iomap` and calls `iomapIterAdvance` for what it has done. */
export type IomapBody<I extends Inode = Inode> = (iter: IomapIter<I>) => MaybeAsync<void>;

/** What an iteration is about. */
export interface IomapRange<I extends Inode = Inode> {
  readonly inode: I;
  readonly posBytes: number;
  readonly lengthBytes: number;
  /** `IOMAP_WRITE` .. ; 0 is a read. */
  readonly flags: number;
  readonly trace?: Tracer | null;
  /** For an operation whose mappings may become stale: where it takes its turns. */
  readonly clock?: Clock;
}

/** An iterator at the start of `range`, for one call of `iomapIterate`. */
export function createIomapIter<I extends Inode>(range: IomapRange<I>): IomapIter<I> {
  return {
    inode: range.inode,
    posBytes: range.posBytes,
    lengthBytes: range.lengthBytes,
    iterStartPosBytes: range.posBytes,
    flags: range.flags,
    iomap: createIomap(),
    srcmap: createIomap(),
    trace: range.trace ?? null,
    clock: range.clock ?? null,
    staleCount: 0,
  };
}

/**
 * Bytes from the position to the end of the range or of the mapping, whichever is first
 * (`iomap_length`). A source mapping ends it too: behind it the old data lies elsewhere.
 */
export function iomapLength(iter: IomapIter): number {
  return trimmedLength(iter, iter.posBytes, iter.lengthBytes);
}

/** The mapping that old data is read from (`iomap_iter_srcmap`). */
export function iomapIterSrcmap(iter: IomapIter): Iomap {
  return iter.srcmap.type === IOMAP_HOLE ? iter.iomap : iter.srcmap;
}

/**
 * Whether the block at `posBytes`, which the mapping at hand covers, reads as zeros
 * (`iomap_block_needs_zeroing`).
 */
export function needsZeroing(iter: IomapIter, posBytes: number): boolean {
  const srcmap = iomapIterSrcmap(iter);
  const isOnDevice = srcmap.type === IOMAP_MAPPED && (srcmap.flags & IOMAP_F_NEW) === 0;
  return !isOnDevice || posBytes >= iter.inode.size;
}

/**
 * Moves the position on by `countBytes`, which were worked on (`iomap_iter_advance`).
 *
 * @throws {FsError} `EIO` if that leads out of the mapping; the position stays
 */
export function iomapIterAdvance(iter: IomapIter, countBytes: number): void {
  if (countBytes > iomapLength(iter)) {
    throw new FsError("EIO", { detail: `${placeOf(iter)}: an advance beyond the mapping` });
  }
  iter.posBytes += countBytes;
  iter.lengthBytes -= countBytes;
}

/**
 * Works through the range of `iter`: `body` is called with one mapping of `ops` after the other
 * until nothing is left or nothing moves (`iomap_iter`). See the head of the file for who wins when
 * both the body and `end` fail. On a throw, `iter.posBytes` tells how far it came.
 *
 * Returns at once, without a promise, as long as everything it calls does.
 *
 * @throws what `begin`, `body` or `end` throw; `FsError` `EIO` for a mapping that breaks the
 *   contract of `IomapOps`, or that is stale again and again
 */
export function iomapIterate<I extends Inode>(
  iter: IomapIter<I>,
  ops: IomapOps<I>,
  body: IomapBody<I>,
): MaybeAsync<void> {
  while (iter.lengthBytes > 0) {
    const step = takeStep(iter, ops, body);
    if (isPromise(step)) return goOnAsync(step, iter, ops, body);
    if (!step) return;
  }
}

/** The loop of `iomapIterate` once a step had to wait. */
async function goOnAsync<I extends Inode>(
  firstStep: Promise<boolean>,
  iter: IomapIter<I>,
  ops: IomapOps<I>,
  body: IomapBody<I>,
): Promise<void> {
  let goesOn = await firstStep;
  while (goesOn && iter.lengthBytes > 0) {
    const step = takeStep(iter, ops, body);
    goesOn = isPromise(step) ? await step : step;
  }
}

/** One mapping, from `begin` to `end`. Tells whether there is reason for another. */
function takeStep<I extends Inode>(
  iter: IomapIter<I>,
  ops: IomapOps<I>,
  body: IomapBody<I>,
): MaybeAsync<boolean> {
  const { inode, posBytes, lengthBytes, flags, iomap, srcmap } = iter;
  resetIomap(iomap);
  resetIomap(srcmap);
  const begun = ops.begin(inode, posBytes, lengthBytes, flags, iomap, srcmap);
  return isPromise(begun)
    ? begun.then(() => workOnMapping(iter, ops, body))
    : workOnMapping(iter, ops, body);
}

/** An error that waits for `end`; wrapped, since anything may be thrown. */
interface Failure {
  readonly thrown: unknown;
}

function workOnMapping<I extends Inode>(
  iter: IomapIter<I>,
  ops: IomapOps<I>,
  body: IomapBody<I>,
): MaybeAsync<boolean> {
  iter.iterStartPosBytes = iter.posBytes;
  if (iter.trace?.isOn) traceMapping(iter, iter.trace);
  let worked: MaybeAsync<void>;
  try {
    checkContract(iter);
    worked = body(iter);
  } catch (thrown) {
    return endMapping(iter, ops, { thrown });
  }
  if (!isPromise(worked)) return endMapping(iter, ops, null);
  return worked.then(
    () => endMapping(iter, ops, null),
    (thrown: unknown) => endMapping(iter, ops, { thrown }),
  );
}

function endMapping<I extends Inode>(
  iter: IomapIter<I>,
  ops: IomapOps<I>,
  failure: Failure | null,
): MaybeAsync<boolean> {
  if (ops.end === undefined) return settleStep(iter, failure);
  const { inode, flags, iomap, iterStartPosBytes: startBytes } = iter;
  const advancedBytes = iter.posBytes - startBytes;
  const lengthBytes = trimmedLength(iter, startBytes, iter.lengthBytes + advancedBytes);
  const failed = (thrown: unknown) => settleStep(iter, advancedBytes === 0 ? { thrown } : failure);
  let ended: MaybeAsync<void>;
  try {
    ended = ops.end(inode, startBytes, lengthBytes, advancedBytes, flags, iomap);
  } catch (thrown) {
    return failed(thrown);
  }
  return isPromise(ended)
    ? ended.then(() => settleStep(iter, failure), failed)
    : settleStep(iter, failure);
}

/** Throws the failure, or says whether another mapping is to be asked for. */
function settleStep(iter: IomapIter, failure: Failure | null): MaybeAsync<boolean> {
  if (failure !== null) throw failure.thrown;
  if (iter.posBytes > iter.iterStartPosBytes) {
    iter.staleCount = 0;
    return true;
  }
  if ((iter.iomap.flags & IOMAP_F_STALE) === 0) return false;
  if (++iter.staleCount < STALE_TRIES_MAX) {
    // Whoever changes the file meanwhile needs the loop as well.
    return iter.clock === null ? true : iter.clock.turn().then(() => true);
  }
  throw new FsError("EIO", { detail: `${placeOf(iter)}: the mapping is stale again and again` });
}

function trimmedLength(iter: IomapIter, posBytes: number, lengthBytes: number): number {
  let endBytes = Math.min(posBytes + lengthBytes, iomapEndBytes(iter.iomap));
  if (iter.srcmap.type !== IOMAP_HOLE) endBytes = Math.min(endBytes, iomapEndBytes(iter.srcmap));
  return Math.max(endBytes - posBytes, 0); // Below 0 only for an answer that is refused.
}

function checkContract(iter: IomapIter): void {
  const { posBytes, inode, iomap, srcmap } = iter;
  let breach = iomapContractBreach(iomap, posBytes, inode.blockBytes);
  if (breach === null && srcmap.type !== IOMAP_HOLE) {
    breach = iomapContractBreach(srcmap, posBytes, inode.blockBytes);
  }
  if (breach !== null) throw new FsError("EIO", { detail: `${placeOf(iter)}: ${breach}` });
}

/** For messages: which mapping of which file. */
function placeOf(iter: IomapIter): string {
  return `mapping of inode ${iter.inode.ino} at byte ${iter.posBytes}`;
}

function traceMapping(iter: IomapIter, trace: Tracer): void {
  const { inode, posBytes, lengthBytes, flags, iomap, srcmap } = iter;
  trace.emit({ name: "iomap_iter", ino: inode.ino, posBytes, lengthBytes, flags });
  trace.emit({ name: "iomap_iter_dstmap", ino: inode.ino, ...fieldsOf(iomap) });
  if (srcmap.type !== IOMAP_HOLE) {
    trace.emit({ name: "iomap_iter_srcmap", ino: inode.ino, ...fieldsOf(srcmap) });
  }
}

function fieldsOf(iomap: Iomap): Record<string, number> {
  const { type, flags, offsetBytes, lengthBytes, addrBytes } = iomap;
  return { type, flags, offsetBytes, lengthBytes, addrBytes };
}
