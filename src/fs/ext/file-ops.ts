/**
 * The page cache of a file: which operations fill it, by how the inode finds its data.
 *
 *     block map (ext2, ext3)     mpage over `get-block.ts`, with buffers where a page is confused
 *     extents, inline data       iomap over `iomap-ops.ts`
 */
import type { AddressSpace, AddressSpaceOperations } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import type { Errno } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { KIB, PAGE_BYTES } from "../../lib/units.ts";
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
import { noteFailure } from "./read-failure.ts";
import { inlineDataOf } from "./xattr.ts";

/** As large as folios of block-mapped files become, whatever their blocks. */
const BLOCK_MAP_ORDER_MAX = 4;

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

/** Fills `folio` from the inline data of a file that is longer than that. */
function fillShort(folio: Folio, data: Uint8Array): Errno {
  const from = Math.min(folio.posBytes, data.length);
  const part = data.subarray(from, Math.min(from + folio.sizeBytes, data.length));
  folio.bytes.fill(0);
  folio.bytes.set(part);
  folio.endRead(true);
  return 0;
}

/**
 * As `iomapOperations`; but a file that is longer than its inline data is nothing that iomap
 * knows.
 */
function inlineOperations(core: ExtCore, ops: IomapOps<ExtInode>): AddressSpaceOperations {
  const read = (folio: Folio, inode: ExtInode, data: Uint8Array): MaybeAsync<Errno> =>
    inode.size > data.length ? fillShort(folio, data) : iomapReadFolio(folio, ops);
  return {
    ...iomapOperations(ops),
    readFolio: (_file, folio) => {
      const inode = folio.mapping!.host as ExtInode;
      const data = noteFailure(inode, () => core.metadata.run(() => inlineDataOf(core, inode)));
      return isPromise(data)
        ? data.then((bytes) => read(folio, inode, bytes))
        : read(folio, inode, data);
    },
  };
}

/** Makes and keeps the page caches of the files of one file system. */
export class FileMappings {
  /** For reads, reports and seeks; the same for all files. */
  readonly iomapOps: IomapOps<ExtInode>;
  readonly #core: ExtCore;
  readonly #cache: PageCache;
  readonly #forExtents: AddressSpaceOperations;
  readonly #forInline: AddressSpaceOperations;
  readonly #forBlockMap: AddressSpaceOperations;

  constructor(core: ExtCore, cache: PageCache) {
    this.#core = core;
    this.#cache = cache;
    this.iomapOps = extIomapOps(core);
    this.#forExtents = iomapOperations(this.iomapOps);
    this.#forInline = inlineOperations(core, this.iomapOps);
    this.#forBlockMap = blockMapOperations(core);
  }

  /** The page cache of `inode`, made on the first call. Reads nothing. */
  of(inode: ExtInode): AddressSpace {
    if (inode.mapping !== undefined) return inode.mapping;
    const { bdev, sb } = this.#core;
    const minOrder = Math.max(0, Math.log2(sb.blockBytes / PAGE_BYTES));
    const operations = this.#operationsOf(inode);
    const isBlockMap = operations === this.#forBlockMap;
    inode.mapping = this.#cache.openMapping(inode, operations, {
      minOrder,
      ...(isBlockMap ? { maxOrder: blockMapOrder(sb.blockBytes, minOrder) } : {}),
      ioPages: bdev.ioPages,
      stableWrites: bdev.stableWrites,
    });
    return inode.mapping;
  }

  #operationsOf(inode: ExtInode): AddressSpaceOperations {
    if (inode.isInline) return this.#forInline;
    return inode.hasExtents ? this.#forExtents : this.#forBlockMap;
  }

  /** Drops the page caches of all files. Waits for reads in flight; nobody may read any more. */
  async close(): Promise<void> {
    for (const inode of this.#core.inodes.inodes()) {
      if (inode.mapping !== undefined) await this.#cache.closeMapping(inode.mapping);
    }
  }
}

/**
 * Largest order of the folios of a block-mapped file. Its pointer arrays end 12 blocks after each
 * multiple of a block of pointers, and behind each lies the next indirect block: a folio across
 * such an end would have to be read block by block.
 */
function blockMapOrder(blockBytes: number, minOrder: number): number {
  return Math.max(Math.min(Math.log2(blockBytes / KIB), BLOCK_MAP_ORDER_MAX), minOrder);
}
