/**
 * Iomap: a run of a file, and where on a device it lies; the word that file systems and the
 * operations of this folder speak to each other.
 *
 *     read, seek, FIEMAP ..    "where is byte pos?"    `begin` of the file system fills an `Iomap`:
 *                                                      the largest it can give, not one block
 *
 *     file     |----- IOMAP_MAPPED -----|-- IOMAP_HOLE --|-- IOMAP_UNWRITTEN --|
 *              offsetBytes .. + lengthBytes
 *     device   addrBytes ..             (none)            addrBytes ..           on `bdev`
 *
 *     type               a read gives           addrBytes
 *     IOMAP_HOLE         zeros, no request      IOMAP_NULL_ADDR
 *     IOMAP_DELALLOC     zeros, no request      IOMAP_NULL_ADDR, space is only reserved
 *     IOMAP_MAPPED       what the device holds  yes
 *     IOMAP_UNWRITTEN    zeros, no request      yes
 *     IOMAP_INLINE       a copy of `inlineData` IOMAP_NULL_ADDR
 *
 * All ranges are bytes, half open, and begin and end at blocks of the file, save an inline one's
 * end.
 *
 * After `include/linux/iomap.h` of Linux. Left out: `dax_dev` and `folio_ops`, which have no user
 * here.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import type { Inode } from "../../cache/inode.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";

export const IOMAP_HOLE = 0;
export const IOMAP_DELALLOC = 1;
export const IOMAP_MAPPED = 2;
export const IOMAP_UNWRITTEN = 3;
export const IOMAP_INLINE = 4;
/** What a mapping is; the table in the head of the file says what that means for a read. */
export type IomapType =
  | typeof IOMAP_HOLE
  | typeof IOMAP_DELALLOC
  | typeof IOMAP_MAPPED
  | typeof IOMAP_UNWRITTEN
  | typeof IOMAP_INLINE;

/** `addrBytes` of a mapping that lies nowhere on a device. */
export const IOMAP_NULL_ADDR = -1;

/**
 * Space just allocated or reserved: what is not written must be zeroed, and it is undone on
 * failure.
 */
export const IOMAP_F_NEW = 0x1;
/** Metadata needed to reach the data is not committed yet. */
export const IOMAP_F_DIRTY = 0x2;
/** The space has other owners too, or the mapping is the target of a copy-on-write. */
export const IOMAP_F_SHARED = 0x4;
/** Several extents are reported as one. */
export const IOMAP_F_MERGED = 0x8;
/** The kernel's mark for buffer heads. Never set here; the value stays reserved. */
export const IOMAP_F_BUFFER_HEAD = 0x10;
/** The range holds extended attributes, not data. */
export const IOMAP_F_XATTR = 0x20;
/** I/O and completions must not merge with what precedes this mapping. */
export const IOMAP_F_BOUNDARY = 0x40;
/** There is no device address yet: it is chosen when the write is submitted. */
export const IOMAP_F_ANON_WRITE = 0x80;
/** The write must go out as exactly one atomic request. */
export const IOMAP_F_ATOMIC_BIO = 0x100;
/** The file system itself handles checksums of the data. */
export const IOMAP_F_INTEGRITY = 0x200;
/** Free for the file system. */
export const IOMAP_F_PRIVATE = 0x1000;
/** Set by `iomapFillDirtyFolios`, never by `begin` itself: the folios to visit are known. */
export const IOMAP_F_FOLIO_BATCH = 0x2000;
/** Set by iomap, never by `begin`: the file has grown while this mapping was used. */
export const IOMAP_F_SIZE_CHANGED = 0x4000;
/** Set by iomap, never by `begin`: the mapping is out of date, ask again. */
export const IOMAP_F_STALE = 0x8000;

export const IOMAP_WRITE = 0x1;
export const IOMAP_ZERO = 0x2;
/** Nothing is transferred: the caller only wants to know (seek, FIEMAP, bmap). */
export const IOMAP_REPORT = 0x4;
export const IOMAP_FAULT = 0x8;
export const IOMAP_DIRECT = 0x10;
export const IOMAP_NOWAIT = 0x20;
export const IOMAP_OVERWRITE_ONLY = 0x40;
export const IOMAP_UNSHARE = 0x80;
export const IOMAP_DAX = 0x100;
export const IOMAP_ATOMIC = 0x200;
export const IOMAP_DONTCACHE = 0x400;

/**
 * One mapping (`struct iomap`). `begin` fills it, the iterator owns it and empties it before the
 * next `begin`, so nobody keeps it longer than `end`.
 */
export interface Iomap {
  type: IomapType;
  /** `IOMAP_F_*`. */
  flags: number;
  /** First byte of the file that it covers. */
  offsetBytes: number;
  lengthBytes: number;
  /** Byte on `bdev` where `offsetBytes` lies, or `IOMAP_NULL_ADDR`. */
  addrBytes: number;
  bdev: BlockDevice | null;
  /** Live view of the file's content from `offsetBytes` on, for `IOMAP_INLINE`. */
  inlineData: Uint8Array | null;
  /** Chosen by the file system, to know later whether the mapping still holds. */
  validityCookie: number;
  /**
   * With `IOMAP_F_FOLIO_BATCH`: first pages of the folios that are dirty, in order; the others need
   * no zeroing. Set by `iomapFillDirtyFolios`.
   */
  folioBatch: readonly number[] | null;
  /** The file system's own, handed back to `end`. */
  private: unknown;
}

/**
 * What a file system supplies (`struct iomap_ops`). Both may finish at once, which costs no
 * promise. They throw `FsError` for what may happen; nothing is held when they do.
 */
export interface IomapOps<I extends Inode = Inode> {
  /**
   * Fills `iomap` for at least the byte at `posBytes` (`iomap_begin`), and `srcmap` if old data is
   * to be read from elsewhere (copy-on-write). `lengthBytes` says how much is wanted, which is a
   * hint: the mapping may be longer or shorter. `flags` are `IOMAP_WRITE` .. ; 0 is a read, which
   * must not allocate. Both mappings come empty: a hole of no length.
   */
  begin(
    inode: I,
    posBytes: number,
    lengthBytes: number,
    flags: number,
    iomap: Iomap,
    srcmap: Iomap,
  ): MaybeAsync<void>;
  /**
   * Called once for every `begin` that did not throw (`iomap_end`): `lengthBytes` of the mapping
   * could be used from `posBytes` on, `writtenBytes` were. What it throws counts if nothing was.
   */
  end?(
    inode: I,
    posBytes: number,
    lengthBytes: number,
    writtenBytes: number,
    flags: number,
    iomap: Iomap,
  ): MaybeAsync<void>;
}

/** An empty mapping: a hole of no length. */
export function createIomap(): Iomap {
  return {
    type: IOMAP_HOLE,
    flags: 0,
    offsetBytes: 0,
    lengthBytes: 0,
    addrBytes: IOMAP_NULL_ADDR,
    bdev: null,
    inlineData: null,
    validityCookie: 0,
    folioBatch: null,
    private: undefined,
  };
}

/** Empties `iomap`, as `begin` expects it. */
export function resetIomap(iomap: Iomap): void {
  iomap.type = IOMAP_HOLE;
  iomap.flags = 0;
  iomap.offsetBytes = 0;
  iomap.lengthBytes = 0;
  iomap.addrBytes = IOMAP_NULL_ADDR;
  iomap.bdev = null;
  iomap.inlineData = null;
  iomap.validityCookie = 0;
  iomap.folioBatch = null;
  iomap.private = undefined;
}

/** Byte behind the range of `iomap`. */
export function iomapEndBytes(iomap: Iomap): number {
  return iomap.offsetBytes + iomap.lengthBytes;
}

/**
 * Byte on the device at which byte `posBytes` of the file lies (`iomap_sector`). It must have one.
 */
export function iomapAddrOf(iomap: Iomap, posBytes: number): number {
  return iomap.addrBytes + posBytes - iomap.offsetBytes;
}

/**
 * What is wrong with `iomap` as the answer of `begin` for byte `posBytes` of a file with blocks of
 * `blockBytes`, or `null` if it keeps the contract (`iomap_iter_done`). An image can provoke a
 * wrong answer, so this is no assertion.
 */
export function iomapContractBreach(
  iomap: Iomap,
  posBytes: number,
  blockBytes: number,
): string | null {
  const endBytes = iomapEndBytes(iomap);
  if (iomap.offsetBytes > posBytes) return "it begins behind the position";
  if (iomap.lengthBytes <= 0) return "it is empty";
  if (endBytes <= posBytes) return "it ends before the position";
  if ((iomap.flags & IOMAP_F_STALE) !== 0) return "it is stale from the start";
  if (iomap.offsetBytes % blockBytes !== 0) return "it does not begin at a block";
  if (endBytes % blockBytes !== 0 && iomap.type !== IOMAP_INLINE)
    return "it does not end at a block";
  return null;
}
