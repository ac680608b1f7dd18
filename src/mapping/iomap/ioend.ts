/**
 * Ioend: a run of a file on its way to the device, as one unit of completion: its folios leave
 * writeback together, after whatever the file system has to do about the run.
 *
 *     folio 0 | folio 1 | folio 2 |     parts that go on in the file and on the device
 *     |---------- ioend ----------|
 *     |--- bio ---|--- bio ---|...|     of at most BIO_MAX_VECTORS vectors each
 *
 *     submit-ioend.ts     collects parts, makes bios of them
 *     finish-ioend.ts     sorts, merges and ends what was written
 *
 *  1. A part of a folio is in exactly one ioend.
 *  2. `sizeBytes` ends at the end of the file, also where the last block is written as a whole: a
 *     file system takes its size on disk from here.
 *  3. Bios are made at submission, so until then a place may still be chosen (`addrBytes`), and an
 *     ioend be cut in two.
 *
 * After `struct iomap_ioend` in `include/linux/iomap.h` and `fs/iomap/ioend.c` of Linux. An ioend
 * is not one bio here, so the segments that a bio can have do not limit it.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { assert } from "../../lib/assert.ts";
import type { FsError } from "../../lib/errno.ts";
import { roundDown } from "../../lib/units.ts";
import { IOMAP_NULL_ADDR } from "./iomap.ts";

/** The space is a target of copy-on-write: the file is switched to it at the end. */
export const IOMAP_IOEND_SHARED = 0x1;
/** The space is unwritten: it is converted at the end. */
export const IOMAP_IOEND_UNWRITTEN = 0x2;
/** Nothing before it may be merged with it. */
export const IOMAP_IOEND_BOUNDARY = 0x4;
/** Ioends that differ in one of these are never one (`IOMAP_IOEND_NOMERGE_FLAGS`). */
export const IOMAP_IOEND_NOMERGE_FLAGS: number = IOMAP_IOEND_SHARED | IOMAP_IOEND_UNWRITTEN;

/** Part of a folio that is written. */
export interface IoendPart {
  readonly folio: Folio;
  /** In the folio. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** What an ioend begins with. */
export interface IoendPlace {
  /** `IOMAP_IOEND_*`. */
  readonly flags: number;
  readonly offsetBytes: number;
  readonly addrBytes: number;
  readonly bdev: BlockDevice | null;
  /** `REQ_*`. */
  readonly bioFlags: number;
}

/** See the head of the file (`struct iomap_ioend`). Made by `iomapAddToIoend`. */
export class IomapIoend {
  /** `IOMAP_IOEND_*`. */
  flags: number;
  readonly mapping: AddressSpace;
  /** Where it begins in the file. */
  offsetBytes: number;
  /** Bytes of the file in it: rule 2. */
  sizeBytes = 0;
  /** Where it begins on `bdev`; `IOMAP_NULL_ADDR` until a place is chosen. */
  addrBytes: number;
  bdev: BlockDevice | null;
  /** Flags `REQ_*` of its bios. */
  readonly bioFlags: number;
  /** The memory to be written, in order, borrowed from the folios. */
  vectors: Uint8Array[] = [];
  /** Length of `vectors`, which are whole blocks. */
  ioBytes = 0;
  /** What leaves writeback at the end. */
  readonly parts: IoendPart[] = [];
  /**
   * Called once, when all is written or has failed, and then owns the ioend; without it
   * `iomapFinishIoends` is called. Must not throw.
   */
  endIo: ((ioend: IomapIoend) => void) | null = null;
  /** Why the first of its bios failed, or null. */
  error: FsError | null = null;
  /** Pieces that have not ended: itself, and those that `iomapSplitIoend` took off it. */
  remaining = 1;
  /** The one that this was taken off. */
  parent: IomapIoend | null = null;
  /** Those that were merged into this one. */
  readonly chain: IomapIoend[] = [];
  /** The file system's own. */
  private: unknown = undefined;

  constructor(mapping: AddressSpace, place: IoendPlace) {
    this.mapping = mapping;
    this.flags = place.flags;
    this.offsetBytes = place.offsetBytes;
    this.addrBytes = place.addrBytes;
    this.bdev = place.bdev;
    this.bioFlags = place.bioFlags;
  }

  get inode(): Inode {
    return this.mapping.host;
  }

  /** Byte of the file behind it. */
  get endBytes(): number {
    return this.offsetBytes + this.sizeBytes;
  }

  /** Adds the part of `folio`, which goes on where the ioend ends. */
  add(folio: Folio, offsetBytes: number, lengthBytes: number): void {
    this.parts.push({ folio, offsetBytes, lengthBytes });
    this.vectors.push(folio.bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
    this.ioBytes += lengthBytes;
    this.sizeBytes += lengthBytes;
  }
}

/** Sorts `ioends` by where they begin in the file (`iomap_sort_ioends`). */
export function iomapSortIoends(ioends: IomapIoend[]): void {
  ioends.sort((a, b) => a.offsetBytes - b.offsetBytes);
}

/**
 * Merges into `ioend` those at the front of `rest`, which is sorted, that go on where it ends, and
 * takes them out of `rest` (`iomap_ioend_try_merge`). They end with it, in `iomapFinishIoends`.
 */
export function iomapIoendTryMerge(ioend: IomapIoend, rest: IomapIoend[]): void {
  let ioBytes = ioend.ioBytes;
  let count = 0;
  for (; count < rest.length; count++) {
    const next = rest[count]!;
    if (!canMerge(ioend, next, ioBytes)) break;
    ioend.sizeBytes += next.sizeBytes;
    ioBytes += next.ioBytes;
    ioend.chain.push(next);
  }
  if (count > 0) rest.splice(0, count);
}

/** Whether `next` goes on where `ioend` ends, and ended as that did (`iomap_ioend_can_merge`). */
function canMerge(ioend: IomapIoend, next: IomapIoend, ioBytes: number): boolean {
  if (ioend.error?.code !== next.error?.code) return false;
  if ((next.flags & IOMAP_IOEND_BOUNDARY) !== 0) return false;
  if (((ioend.flags ^ next.flags) & IOMAP_IOEND_NOMERGE_FLAGS) !== 0) return false;
  if (ioend.endBytes !== next.offsetBytes) return false;
  // Sizes on disk are raised in the order of the file, places are a matter of the device.
  if (ioend.addrBytes === IOMAP_NULL_ADDR || ioend.bdev !== next.bdev) return false;
  return ioend.addrBytes + ioBytes === next.addrBytes;
}

/**
 * Cuts `ioend` in two, before it is submitted: returns its front of at most `maxBytes`, down to a
 * block, or null if it is not longer than that (`iomap_split_ioend`).
 *
 * Both are submitted and end by themselves. Their folios leave writeback when both have ended.
 */
export function iomapSplitIoend(ioend: IomapIoend, maxBytes: number): IomapIoend | null {
  const frontBytes = roundDown(maxBytes, ioend.inode.blockBytes);
  assert(frontBytes > 0, "an ioend is cut behind a block");
  if (frontBytes >= ioend.ioBytes) return null;
  const front = new IomapIoend(ioend.mapping, ioend);
  front.parent = ioend;
  front.endIo = ioend.endIo;
  front.private = ioend.private;
  const vectors = ioend.vectors;
  ioend.vectors = [];
  for (const vector of vectors) {
    const countBytes = Math.min(frontBytes - front.ioBytes, vector.length);
    if (countBytes > 0) front.vectors.push(vector.subarray(0, countBytes));
    if (countBytes < vector.length) ioend.vectors.push(vector.subarray(countBytes));
    front.ioBytes += countBytes;
  }
  front.sizeBytes = frontBytes;
  ioend.remaining++;
  ioend.offsetBytes += frontBytes;
  ioend.sizeBytes -= frontBytes;
  ioend.ioBytes -= frontBytes;
  if (ioend.addrBytes !== IOMAP_NULL_ADDR) ioend.addrBytes += frontBytes;
  return front;
}
