/**
 * The page cache of a file: which operations fill it, by how the inode finds its data.
 *
 *     block map (ext2, ext3)     mpage over `get-block.ts`, with buffers where a page is confused
 *     extents, inline data       iomap over `iomap-ops.ts`
 */
import type { AddressSpace, AddressSpaceOperations } from "../../cache/address-space.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { PAGE_BYTES } from "../../lib/units.ts";
import {
  blockInvalidateFolio,
  blockIsPartiallyUptodate,
  tryToFreeBuffers,
} from "../../mapping/buffer.ts";
import { iomapReadahead, iomapReadFolio } from "../../mapping/iomap/buffered-read.ts";
import {
  iomapInvalidateFolio,
  iomapIsPartiallyUptodate,
  iomapReleaseFolio,
} from "../../mapping/iomap/callbacks.ts";
import type { IomapOps } from "../../mapping/iomap/iomap.ts";
import { mpageReadahead, mpageReadFolio } from "../../mapping/mpage.ts";
import type { ExtCore } from "./core.ts";
import { extGetBlock } from "./get-block.ts";
import type { ExtInode } from "./inode.ts";
import { extIomapOps } from "./iomap-ops.ts";

function blockMapOperations(core: ExtCore): AddressSpaceOperations {
  const getBlock = extGetBlock(core);
  return {
    readFolio: (_file, folio) => mpageReadFolio(folio, getBlock),
    readahead: (rac) => mpageReadahead(rac, getBlock),
    isPartiallyUptodate: blockIsPartiallyUptodate,
    releaseFolio: tryToFreeBuffers,
    invalidateFolio: blockInvalidateFolio,
  };
}

function iomapOperations(ops: IomapOps<ExtInode>): AddressSpaceOperations {
  return {
    readFolio: (_file, folio) => iomapReadFolio(folio, ops),
    readahead: (rac) => iomapReadahead(rac, ops),
    isPartiallyUptodate: iomapIsPartiallyUptodate,
    releaseFolio: iomapReleaseFolio,
    invalidateFolio: iomapInvalidateFolio,
  };
}

/** Makes and keeps the page caches of the files of one file system. */
export class FileMappings {
  /** For reads, reports and seeks; the same for all files. */
  readonly iomapOps: IomapOps<ExtInode>;
  readonly #core: ExtCore;
  readonly #cache: PageCache;
  readonly #forExtents: AddressSpaceOperations;
  readonly #forBlockMap: AddressSpaceOperations;

  constructor(core: ExtCore, cache: PageCache) {
    this.#core = core;
    this.#cache = cache;
    this.iomapOps = extIomapOps(core);
    this.#forExtents = iomapOperations(this.iomapOps);
    this.#forBlockMap = blockMapOperations(core);
  }

  /** The page cache of `inode`, made on the first call. Reads nothing. */
  of(inode: ExtInode): AddressSpace {
    if (inode.mapping !== undefined) return inode.mapping;
    const isIomap = inode.hasExtents || inode.isInline;
    const { bdev, sb } = this.#core;
    inode.mapping = this.#cache.openMapping(inode, isIomap ? this.#forExtents : this.#forBlockMap, {
      minOrder: Math.max(0, Math.log2(sb.blockBytes / PAGE_BYTES)),
      ioPages: bdev.ioPages,
      stableWrites: bdev.stableWrites,
    });
    return inode.mapping;
  }

  /** Drops the page caches of all files. Waits for reads in flight; nobody may read any more. */
  async close(): Promise<void> {
    for (const inode of this.#core.inodes.inodes()) {
      if (inode.mapping !== undefined) await this.#cache.closeMapping(inode.mapping);
    }
  }
}
