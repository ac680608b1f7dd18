/**
 * SEEK_HOLE and SEEK_DATA: where the next hole or the next data of a file is.
 *
 *     file      |- mapped -|- hole -|----- unwritten -----|- delalloc -|
 *     data?     yes         no       if the cache has it    yes
 *
 * An unwritten extent reads as zeros, so it is a hole; but what was written to it and is not
 * converted yet stands in the cache. There the cache decides, block by block, and so a block that
 * was merely read counts as data until it is evicted, as in the kernel. Callers must not depend on
 * that.
 *
 * After `fs/iomap/seek.c` and `mapping_seek_hole_data` in `mm/filemap.c` of Linux. Left out: shadow
 * entries of evicted folios, which the kernel takes for data.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { FsError } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { pageOfByte, roundDown } from "../../lib/units.ts";
import { IOMAP_HOLE, IOMAP_REPORT, IOMAP_UNWRITTEN, type IomapOps } from "./iomap.ts";
import {
  createIomapIter,
  type IomapIter,
  iomapIterAdvance,
  iomapIterate,
  iomapLength,
} from "./iter.ts";

/** What is looked for. */
export type SeekWhence = "hole" | "data";
/** Nothing was found: no byte of a file. */
const NOT_FOUND = -1;

/**
 * Position of the first hole at or behind `posBytes`; the end of the file counts as one
 * (`iomap_seek_hole`). Waits for `ops`, and for the lock of a folio that is being read.
 *
 * @throws {FsError} `ENXIO` if `posBytes` is not inside the file; what `ops.begin` throws
 */
export function iomapSeekHole<I extends Inode>(
  inode: I,
  mapping: AddressSpace,
  posBytes: number,
  ops: IomapOps<I>,
): MaybeAsync<number> {
  const sizeBytes = checkedSize(inode, posBytes);
  return andThen(seek("hole", { inode, mapping, posBytes, sizeBytes }, ops), (found) =>
    found === NOT_FOUND ? sizeBytes : found,
  );
}

/**
 * Position of the first data at or behind `posBytes` (`iomap_seek_data`). Waits as `iomapSeekHole`
 * does.
 *
 * @throws {FsError} `ENXIO` if there is none, or if `posBytes` is not inside the file; what
 *   `ops.begin` throws
 */
export function iomapSeekData<I extends Inode>(
  inode: I,
  mapping: AddressSpace,
  posBytes: number,
  ops: IomapOps<I>,
): MaybeAsync<number> {
  const sizeBytes = checkedSize(inode, posBytes);
  return andThen(seek("data", { inode, mapping, posBytes, sizeBytes }, ops), (found) => {
    if (found === NOT_FOUND) throw new FsError("ENXIO", { syscall: "lseek" });
    return found;
  });
}

function checkedSize(inode: Inode, posBytes: number): number {
  const sizeBytes = inode.size;
  if (posBytes >= 0 && posBytes < sizeBytes) return sizeBytes;
  throw new FsError("ENXIO", { syscall: "lseek" });
}

interface SeekRange<I extends Inode> {
  readonly inode: I;
  readonly mapping: AddressSpace;
  readonly posBytes: number;
  readonly sizeBytes: number;
}

function seek<I extends Inode>(
  whence: SeekWhence,
  { inode, mapping, posBytes, sizeBytes }: SeekRange<I>,
  ops: IomapOps<I>,
): MaybeAsync<number> {
  let found = NOT_FOUND;
  const lengthBytes = sizeBytes - posBytes;
  const { trace } = mapping.cache;
  const iter = createIomapIter({ inode, posBytes, lengthBytes, flags: IOMAP_REPORT, trace });
  const settle = (at: number): void => {
    if (at === NOT_FOUND) iomapIterAdvance(iter, iomapLength(iter));
    else found = at; // Nothing is advanced, which ends the iteration.
  };
  const done = iomapIterate(iter, ops, () => {
    const at = seekInMapping(whence, iter, mapping);
    return isPromise(at) ? at.then(settle) : settle(at);
  });
  return andThen(done, () => found);
}

/** Where the mapping at hand has what is looked for, from the position on. */
function seekInMapping(
  whence: SeekWhence,
  iter: IomapIter,
  mapping: AddressSpace,
): MaybeAsync<number> {
  const { type } = iter.iomap;
  if (type === IOMAP_UNWRITTEN) {
    return mappingSeekHoleData(whence, mapping, iter.posBytes, iter.posBytes + iomapLength(iter));
  }
  const isHole = type === IOMAP_HOLE;
  return isHole === (whence === "hole") ? iter.posBytes : NOT_FOUND;
}

/**
 * The first hole or data in `startBytes..endBytes` as the cache sees it (`mapping_seek_hole_data`),
 * -1 if there is none: what is not cached, or not uptodate, is a hole. Folios that are being read
 * are waited for.
 */
export function mappingSeekHoleData(
  whence: SeekWhence,
  mapping: AddressSpace,
  startBytes: number,
  endBytes: number,
): MaybeAsync<number> {
  let posBytes = startBytes;
  while (posBytes < endBytes) {
    const folio = nextFolio(mapping, posBytes, endBytes);
    if (folio === undefined) return whence === "hole" ? posBytes : NOT_FOUND;
    if (folio.posBytes > posBytes && whence === "hole") return posBytes;
    posBytes = Math.max(posBytes, folio.posBytes);
    if (folio.isLocked && !folio.isUptodate) {
      const fromBytes = posBytes;
      return andThen(folio.waitLocked(), () =>
        mappingSeekHoleData(whence, mapping, fromBytes, endBytes),
      );
    }
    const folioEndBytes = Math.min(folio.posBytes + folio.sizeBytes, endBytes);
    posBytes = seekInFolio(whence, folio, posBytes, folioEndBytes);
    if (posBytes < folioEndBytes) return posBytes;
  }
  return NOT_FOUND;
}

/** The folio at `posBytes`, or else the first one behind it that begins before `endBytes`. */
function nextFolio(mapping: AddressSpace, posBytes: number, endBytes: number): Folio | undefined {
  const index = mapping.nextFolioIndex(pageOfByte(posBytes), pageOfByte(endBytes - 1));
  return index === -1 ? undefined : mapping.folioAt(index);
}

/**
 * First byte in `fromBytes..endBytes`, all inside `folio`, that is what is looked for, or
 * `endBytes`.
 */
function seekInFolio(
  whence: SeekWhence,
  folio: Folio,
  fromBytes: number,
  endBytes: number,
): number {
  if (folio.isUptodate) return whence === "data" ? fromBytes : endBytes;
  const { ops, host } = folio.mapping!;
  const { blockBytes } = host;
  for (let atBytes = fromBytes; atBytes < endBytes; ) {
    const block = roundDown(atBytes, blockBytes);
    const offsetBytes = block - folio.posBytes;
    const isData = ops.isPartiallyUptodate?.(folio, offsetBytes, blockBytes) ?? false;
    if (isData === (whence === "data")) return atBytes;
    atBytes = block + blockBytes;
  }
  return endBytes;
}
