/**
 * Reads of folios by bios: the usual `IomapReadOps`, for mappings that lie on a block device.
 *
 *     folios      | folio 0      | folio 1      | folio 2      |
 *     ranges      |--------------|------|       |--------------|
 *     device      a .............. b            c ..............   one bio for a..b, one for c..
 *
 * A range is appended to the bio under construction while the device goes on where that ends,
 * across folios and across mappings, so a file that lies in one piece is read by one bio per 256
 * ranges.
 *
 * Where the device ends inside a block, what is there is read and the rest of the block is zero, as
 * `guard_bio_eod` does; a device need not be a multiple of anything. Blocks wholly behind its end
 * are asked for in a bio of their own, which fails without harm to the others.
 *
 * After `fs/iomap/bio.c` of Linux.
 */
import { Bio, REQ_OP_READ, REQ_RAHEAD } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import type { Folio } from "../../cache/folio.ts";
import { FsError } from "../../lib/errno.ts";
import { roundUp } from "../../lib/units.ts";
import { completionsOf } from "../completion.ts";
import { noteBioFailure } from "../read-failure.ts";
import { iomapFinishFolioRead } from "./finish-read.ts";
import { IOMAP_F_BOUNDARY, IOMAP_NULL_ADDR, iomapAddrOf } from "./iomap.ts";
import { type IomapIter, iomapIterSrcmap } from "./iter.ts";
import type { IomapReadFolioCtx, IomapReadOps } from "./read-ops.ts";

/** A part of a folio, and where it comes from. */
interface FolioRange {
  readonly folio: Folio;
  /** In the folio. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** The usual way to read: by bios from the mapping's device (`iomap_bio_read_ops`). */
export const iomapBioReadOps: IomapReadOps = {
  readFolioRange(iter: IomapIter, ctx: IomapReadFolioCtx, lengthBytes: number): void {
    const srcmap = iomapIterSrcmap(iter);
    const { bdev } = srcmap;
    if (bdev === null || srcmap.addrBytes === IOMAP_NULL_ADDR) {
      const detail = `mapping of inode ${iter.inode.ino} at byte ${iter.posBytes}: it is nowhere`;
      throw new FsError("EIO", { detail });
    }
    const folio = ctx.folio!;
    const offsetBytes = iter.posBytes - folio.posBytes;
    const addrBytes = iomapAddrOf(srcmap, iter.posBytes);
    const isBoundary =
      (srcmap.flags & IOMAP_F_BOUNDARY) !== 0 && iter.posBytes === srcmap.offsetBytes;
    if (isBoundary) submit(ctx);
    // Almost always all of it. Less where the device ends, see the head of the file.
    const insideBytes = roundUp(Math.max(bdev.sizeBytes - addrBytes, 0), iter.inode.blockBytes);
    const soundBytes = Math.min(lengthBytes, insideBytes);
    if (soundBytes > 0) {
      append(ctx, bdev, addrBytes, { folio, offsetBytes, lengthBytes: soundBytes });
    }
    if (soundBytes === lengthBytes) return;
    submit(ctx);
    append(ctx, bdev, addrBytes + soundBytes, {
      folio,
      offsetBytes: offsetBytes + soundBytes,
      lengthBytes: lengthBytes - soundBytes,
    });
  },

  submitRead(_iter: IomapIter, ctx: IomapReadFolioCtx): void {
    submit(ctx);
  },
};

function submit(ctx: IomapReadFolioCtx): void {
  (ctx.pending as FolioBio | null)?.submit();
  ctx.pending = null;
}

/**
 * Puts `range` into the bio under construction, or into a new one (`iomap_bio_read_folio_range`).
 */
function append(
  ctx: IomapReadFolioCtx,
  bdev: BlockDevice,
  addrBytes: number,
  range: FolioRange,
): void {
  const read = ctx.pending as FolioBio | null;
  if (read?.tryAdd(bdev, addrBytes, range) === true) return;
  submit(ctx);
  const next = new FolioBio(bdev, addrBytes, ctx.rac === null ? 0 : REQ_RAHEAD);
  next.tryAdd(bdev, addrBytes, range);
  ctx.pending = next;
}

/** A bio, and what its vectors belong to: vector i is for `ranges[i]`. */
class FolioBio {
  readonly #bio: Bio;
  readonly #bdev: BlockDevice;
  readonly #ranges: FolioRange[] = [];

  constructor(bdev: BlockDevice, offsetBytes: number, flags: number) {
    this.#bdev = bdev;
    this.#bio = new Bio(REQ_OP_READ, flags, offsetBytes, () => this.#endIo());
  }

  /** False if `range`, which lies at `addrBytes` of `bdev`, does not go on where the bio ends. */
  tryAdd(bdev: BlockDevice, addrBytes: number, range: FolioRange): boolean {
    if (this.#bdev !== bdev || this.#bio.endBytes !== addrBytes) return false;
    const { folio, offsetBytes, lengthBytes } = range;
    const endBytes = offsetBytes + lengthBytes;
    const behindBytes = addrBytes + lengthBytes - bdev.sizeBytes;
    const readEndBytes =
      behindBytes > 0 && behindBytes < lengthBytes ? endBytes - behindBytes : endBytes;
    if (!this.#bio.addVector(folio.bytes.subarray(offsetBytes, readEndBytes))) return false;
    folio.bytes.fill(0, readEndBytes, endBytes);
    this.#ranges.push(range);
    return true;
  }

  submit(): void {
    this.#bdev.submitBio(this.#bio);
  }

  /** `iomap_read_end_io`. */
  #endIo(): void {
    const { clock } = this.#ranges[0]!.folio.mapping!.cache;
    completionsOf(clock).add(() => this.#finishFolios(), this.#ranges.length);
  }

  #finishFolios(): void {
    const { status } = this.#bio;
    noteBioFailure(this.#ranges[0]!.folio, this.#bio);
    for (const { folio, offsetBytes, lengthBytes } of this.#ranges) {
      iomapFinishFolioRead(folio, offsetBytes, lengthBytes, status);
    }
  }
}
