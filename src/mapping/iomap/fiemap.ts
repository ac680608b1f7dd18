/**
 * FIEMAP and bmap: where a file lies on its device, for those who want to look.
 *
 *     mappings   M[0,4096)  H[4096,8192)  U[8192,12288)
 *     extents    {0, 4096, flags 0}       {8192, 4096, UNWRITTEN|LAST}
 *
 * Extents are the mappings as the file system gives them for the range: holes left out, neighbours
 * not joined, nothing clipped to the bytes asked for. LAST stands on the last extent *of the
 * range*, also if the file goes on: so does the kernel.
 *
 * After `fs/iomap/fiemap.c` and `fs/ioctl.c` of Linux, `Documentation/filesystems/fiemap.rst`.
 * Left out: `FIEMAP_FLAG_XATTR` and `FIEMAP_FLAG_CACHE`, which iomap refuses too.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import { filemapWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import type { Inode } from "../../cache/inode.ts";
import { AssertionError } from "../../lib/assert.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { byteOfBlock, FILE_BYTES_MAX } from "../../lib/units.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_MERGED,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_REPORT,
  IOMAP_UNWRITTEN,
  type Iomap,
  type IomapOps,
  iomapAddrOf,
} from "./iomap.ts";
import {
  createIomapIter,
  type IomapIter,
  iomapIterAdvance,
  iomapIterate,
  iomapLength,
} from "./iter.ts";

/** Write dirty data out first, so that reserved space has become real. */
export const FIEMAP_FLAG_SYNC = 0x1;

/** The last extent of the range. */
export const FIEMAP_EXTENT_LAST = 0x1;
/** Where the data lies is not known. */
export const FIEMAP_EXTENT_UNKNOWN = 0x2;
/** Space is reserved, not allocated; always with UNKNOWN. */
export const FIEMAP_EXTENT_DELALLOC = 0x4;
/** The data does not begin at a block of the device. */
export const FIEMAP_EXTENT_NOT_ALIGNED = 0x100;
/** The data lies among metadata, as in the inode; always with NOT_ALIGNED. */
export const FIEMAP_EXTENT_DATA_INLINE = 0x200;
/** Allocated, and reads as zeros. */
export const FIEMAP_EXTENT_UNWRITTEN = 0x800;
/** Several extents are reported as one. */
export const FIEMAP_EXTENT_MERGED = 0x1000;
/** The space has other owners too. */
export const FIEMAP_EXTENT_SHARED = 0x2000;

/** One extent (`struct fiemap_extent`). */
export interface FiemapExtent {
  readonly logicalBytes: number;
  /** Byte on the device; 0 where there is none (UNKNOWN, DATA_INLINE). */
  readonly physicalBytes: number;
  readonly lengthBytes: number;
  /** `FIEMAP_EXTENT_*`. */
  readonly flags: number;
}

/** What is asked for (`struct fiemap`). */
export interface FiemapRequest {
  readonly startBytes: number;
  /** May reach beyond the end of the file; `Infinity` is all. */
  readonly lengthBytes: number;
  /** Room for this many extents; 0 only counts them. */
  readonly maxExtents: number;
  /** `FIEMAP_FLAG_*`. */
  readonly flags: number;
}

export interface FiemapResult {
  readonly extents: readonly FiemapExtent[];
  /** Number of `extents`, or how many there would be if `maxExtents` was 0. */
  readonly count: number;
}

/** Extents of the range, at most `maxExtents`; stops when there is room for no more. */
class FiemapFill {
  readonly extents: FiemapExtent[] = [];
  count = 0;
  readonly #maxExtents: number;

  constructor(maxExtents: number) {
    this.#maxExtents = maxExtents;
  }

  get isFull(): boolean {
    return this.#maxExtents > 0 && this.count >= this.#maxExtents;
  }

  add(extent: FiemapExtent): void {
    if (this.isFull) return;
    this.count++;
    if (this.#maxExtents > 0) this.extents.push(extent);
  }
}

/**
 * The extents of `inode` in the range (`iomap_fiemap`). A file system that throws `ENOENT` from
 * `begin` says that there is no such mapping: the result is empty then. With `FIEMAP_FLAG_SYNC`
 * what is dirty is written first, and waited for.
 *
 * @throws {FsError} `EINVAL` for a length of 0 or a negative start, `EFBIG` for a start behind the
 *   largest file, `EBADR` for an unknown flag; what `ops.begin` throws; the error of the write
 */
export function iomapFiemap<I extends Inode>(
  inode: I,
  mapping: AddressSpace,
  request: FiemapRequest,
  ops: IomapOps<I>,
): MaybeAsync<FiemapResult> {
  const checked = checkedRange(request);
  if ((request.flags & FIEMAP_FLAG_SYNC) === 0) return reportExtents(inode, mapping, checked, ops);
  return andThen(filemapWriteAndWaitRange(mapping, 0, Infinity), (status) => {
    if (status !== 0) throw FsError.of(status, { syscall: "fiemap" });
    return reportExtents(inode, mapping, checked, ops);
  });
}

function reportExtents<I extends Inode>(
  inode: I,
  mapping: AddressSpace,
  request: FiemapRequest,
  ops: IomapOps<I>,
): MaybeAsync<FiemapResult> {
  const { startBytes, lengthBytes } = request;
  const fill = new FiemapFill(request.maxExtents);
  const iter = createIomapIter({
    inode,
    posBytes: startBytes,
    lengthBytes,
    flags: IOMAP_REPORT,
    trace: mapping.cache.trace,
  });
  // Emitted with one mapping of delay, so that the last one is known as such.
  let last: FiemapExtent | null = null;
  const finish = (thrown: unknown): FiemapResult => {
    if (thrown !== null && !(hasErrnoCode(thrown) && thrown.code === "ENOENT")) throw thrown;
    if (last !== null) fill.add({ ...last, flags: last.flags | FIEMAP_EXTENT_LAST });
    return { extents: fill.extents, count: fill.count };
  };
  const body = (at: IomapIter<I>): void => {
    if (at.iomap.type !== IOMAP_HOLE) {
      if (last !== null) fill.add(last);
      last = extentOf(at.iomap);
      if (fill.isFull) return; // Nothing is advanced, which ends the iteration.
    }
    iomapIterAdvance(at, iomapLength(at));
  };
  let done: MaybeAsync<void>;
  try {
    done = iomapIterate(iter, ops, body);
  } catch (thrown) {
    return finish(thrown);
  }
  return isPromise(done) ? done.then(() => finish(null), finish) : finish(null);
}

/** `fiemap_prep`. */
function checkedRange(request: FiemapRequest): FiemapRequest {
  const { startBytes, lengthBytes, flags } = request;
  const syscall = "fiemap";
  if (lengthBytes <= 0 || startBytes < 0) throw new FsError("EINVAL", { syscall });
  if (startBytes > FILE_BYTES_MAX) throw new FsError("EFBIG", { syscall });
  if ((flags & ~FIEMAP_FLAG_SYNC) !== 0) throw new FsError("EBADR", { syscall });
  return { ...request, lengthBytes: Math.min(lengthBytes, FILE_BYTES_MAX - startBytes) };
}

/** `iomap_to_fiemap`. */
function extentOf(iomap: Iomap): FiemapExtent {
  let flags = 0;
  if (iomap.type === IOMAP_DELALLOC) flags |= FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN;
  if (iomap.type === IOMAP_UNWRITTEN) flags |= FIEMAP_EXTENT_UNWRITTEN;
  if (iomap.type === IOMAP_INLINE) flags |= FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_NOT_ALIGNED;
  if ((iomap.flags & IOMAP_F_MERGED) !== 0) flags |= FIEMAP_EXTENT_MERGED;
  if ((iomap.flags & IOMAP_F_SHARED) !== 0) flags |= FIEMAP_EXTENT_SHARED;
  return {
    logicalBytes: iomap.offsetBytes,
    physicalBytes: iomap.addrBytes === IOMAP_NULL_ADDR ? 0 : iomap.addrBytes,
    lengthBytes: iomap.lengthBytes,
    flags,
  };
}

/**
 * The block of the device that holds block `fileBlock` of the file, in the file's block size, after
 * dirty data was written, so that it has a place (`iomap_bmap`); 0 for whatever has none, and for
 * any error, since the call knows no other answer.
 */
export function iomapBmap<I extends Inode>(
  inode: I,
  mapping: AddressSpace,
  fileBlock: number,
  ops: IomapOps<I>,
): MaybeAsync<number> {
  const { blockBytes } = inode;
  const iter = createIomapIter({
    inode,
    posBytes: byteOfBlock(fileBlock, blockBytes),
    lengthBytes: blockBytes,
    flags: IOMAP_REPORT,
    trace: mapping.cache.trace,
  });
  let block = 0;
  const body = ({ iomap, posBytes }: IomapIter<I>): void => {
    if (iomap.type === IOMAP_MAPPED) {
      block = Math.floor(iomapAddrOf(iomap, posBytes) / blockBytes);
    }
  };
  const giveUp = (thrown: unknown): number => {
    if (thrown instanceof AssertionError) throw thrown;
    return 0;
  };
  const lookUp = (): MaybeAsync<number> => andThen(iomapIterate(iter, ops, body), () => block);
  try {
    const written = filemapWriteAndWaitRange(mapping, 0, Infinity);
    const found = isPromise(written) ? written.then(lookUp) : lookUp();
    return isPromise(found) ? found.catch(giveUp) : found;
  } catch (thrown) {
    return giveUp(thrown);
  }
}
