/**
 * The page cache of a file: which operations fill and write it, by how the inode finds its data.
 *
 *     block map (ext2, ext3)     mpage over `get-block.ts`, with buffers where a page is confused
 *     extents, inline data       iomap over `iomap-ops.ts`, `iomap-write.ts`, `writeback.ts`
 *     data in the journal        as the others, but for the write-out: `journal-writeback.ts`
 *
 * Inline data is written into the inode at once, so nothing of it is ever dirty here
 * (`inline-write.ts`). An inline inode may become one of the others: its cache is dropped first,
 * and asks at each call what the inode is now.
 */
import type { AddressSpace, AddressSpaceOperations } from "../../cache/address-space.ts";
import { attachBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { IOCB_NOWAIT } from "../../cache/kiocb.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { type Superblock as CacheSuperblock, WbInode } from "../../cache/superblock.ts";
import { EAGAIN, EIO, type Errno } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, KIB, PAGE_BYTES } from "../../lib/units.ts";
import {
  blockInvalidateFolio,
  blockIsPartiallyUptodate,
  tryToFreeBuffers,
} from "../../mapping/buffer.ts";
import { blockWriteBegin, blockWriteEnd } from "../../mapping/buffer-write.ts";
import { iomapReadahead, iomapReadFolio } from "../../mapping/iomap/buffered-read.ts";
import {
  iomapDirtyFolio,
  iomapInvalidateFolio,
  iomapIsPartiallyUptodate,
  iomapReleaseFolio,
} from "../../mapping/iomap/callbacks.ts";
import type { IomapOps } from "../../mapping/iomap/iomap.ts";
import { iomapWritepages } from "../../mapping/iomap/writeback.ts";
import { mpageReadahead, mpageReadFolio } from "../../mapping/mpage.ts";
import { mpageWritepages } from "../../mapping/mpage-write.ts";
import type { ExtCore } from "./core.ts";
import { shouldJournalData } from "./data-mode.ts";
import { promisesOf, releaseBlocks, releaseOthers } from "./delalloc.ts";
import { INCOMPAT_EXTENTS } from "./features.ts";
import { extAllocateBlock, extGetBlock, extReserveBlock } from "./get-block.ts";
import type { ExtInode } from "./inode.ts";
import { extIomapOps } from "./iomap-ops.ts";
import { journalWritepages } from "./journal-writeback.ts";
import { noteFailure } from "./read-failure.ts";
import { extWritebackOps } from "./writeback.ts";
import type { ExtWriter } from "./writer.ts";
import { inlineDataOf } from "./xattr.ts";

/** As large as folios of block-mapped files become, whatever their blocks. */
const BLOCK_MAP_ORDER_MAX = 4;

/** What the files of a mount need that may be written. */
export interface FileWriteOptions {
  readonly ctx: ExtWriter;
  /** The file system, as the flusher knows it. */
  readonly sb: CacheSuperblock;
  /** What becomes of data that cannot be written. */
  readonly onWriteError: "drop" | "keep";
}

type Writepages = NonNullable<AddressSpaceOperations["writepages"]>;

/** The write-out of files whose data goes past the journal is `direct`, that of others logs it. */
function writepagesOf(ctx: ExtWriter, direct: Writepages): Writepages {
  return (mapping, wbc) =>
    shouldJournalData(ctx, mapping.host as ExtInode)
      ? journalWritepages(ctx, mapping, wbc)
      : direct(mapping, wbc);
}

/** True if where the range lies is known without a read; else the read has begun. */
function isMapCached(
  core: ExtCore,
  inode: ExtInode,
  posBytes: number,
  lengthBytes: number,
): boolean {
  const { blockBytes } = core.sb;
  const end = blocksOfBytes(posBytes + lengthBytes, blockBytes);
  for (let block = blockOfByte(posBytes, blockBytes); block < end; ) {
    const run = core.metadata.run(() => core.mapBlocks(inode, block, end - block));
    if (isPromise(run)) {
      run.catch(() => undefined); // Who may wait for it meets its failure.
      return false;
    }
    block += run.count;
  }
  return true;
}

function blockMapOperations(core: ExtCore, ctx: ExtWriter | undefined): AddressSpaceOperations {
  const getBlock = extGetBlock(core);
  const operations: AddressSpaceOperations = {
    readFolio: (_file, folio) => mpageReadFolio(folio, getBlock),
    readahead: (rac) => mpageReadahead(rac, getBlock),
    isPartiallyUptodate: blockIsPartiallyUptodate,
    releaseFolio: tryToFreeBuffers,
    invalidateFolio: blockInvalidateFolio,
  };
  if (ctx === undefined) return operations;
  const reserve = extReserveBlock(ctx);
  const allocate = extAllocateBlock(ctx);
  return {
    ...operations,
    writepages: writepagesOf(ctx, (mapping, wbc) => mpageWritepages(mapping, wbc, allocate)),
    writeBegin: (iocb, mapping, posBytes, lengthBytes) => {
      const inode = mapping.host as ExtInode;
      const isNowait = (iocb.flags & IOCB_NOWAIT) !== 0;
      if (isNowait && !isMapCached(core, inode, posBytes, lengthBytes)) return -EAGAIN;
      const first = blockOfByte(posBytes, inode.blockBytes);
      const end = blocksOfBytes(posBytes + lengthBytes, inode.blockBytes);
      const before = promisesOf(inode, first, end);
      const settle = (begun: Folio | Errno): Folio | Errno => {
        // What was promised on the way is of no use to a write that fails.
        if (typeof begun === "number") releaseOthers(ctx, inode, first, end, before);
        return begun;
      };
      const begun = blockWriteBegin(iocb, mapping, posBytes, lengthBytes, reserve);
      return isPromise(begun) ? begun.then(settle) : settle(begun);
    },
    writeEnd: (_iocb, mapping, posBytes, lengthBytes, copiedBytes, folio) =>
      blockWriteEnd(mapping, posBytes, lengthBytes, copiedBytes, folio),
  };
}

function iomapOperations(
  ops: IomapOps<ExtInode>,
  ctx: ExtWriter | undefined,
): AddressSpaceOperations {
  const operations: AddressSpaceOperations = {
    readFolio: (_file, folio) => iomapReadFolio(folio, ops),
    readahead: (rac) => iomapReadahead(rac, ops),
    isPartiallyUptodate: iomapIsPartiallyUptodate,
    releaseFolio: iomapReleaseFolio,
    invalidateFolio: iomapInvalidateFolio,
  };
  if (ctx === undefined) return operations;
  const writeback = extWritebackOps(ctx);
  return {
    ...operations,
    invalidateFolio: invalidateExtents,
    dirtyFolio: iomapDirtyFolio,
    writepages: writepagesOf(ctx, (mapping, wbc) => iomapWritepages(mapping, wbc, writeback)),
  };
}

/**
 * As `iomapInvalidateFolio`; but of a folio that is dirty as a whole only the rest is dirty after a
 * part of it was cut off: the blocks of that part go, and may be another's before a write ends.
 */
function invalidateExtents(folio: Folio, offsetBytes: number, lengthBytes: number): void {
  const { blockBytes } = folio.mapping!.host;
  const isPart = lengthBytes < folio.sizeBytes && blockBytes < folio.sizeBytes;
  // Whoever cuts it off cleans that part of the state.
  if (isPart && folio.isDirty) attachBlockState(folio, blockBytes);
  iomapInvalidateFolio(folio, offsetBytes, lengthBytes);
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
    ...iomapOperations(ops, undefined),
    readFolio: (_file, folio) => {
      const inode = folio.mapping!.host as ExtInode;
      const data = noteFailure(inode, () => core.metadata.run(() => inlineDataOf(core, inode)));
      return isPromise(data)
        ? data.then((bytes) => read(folio, inode, bytes))
        : read(folio, inode, data);
    },
  };
}

/** Operations that are `operationsOf` the inode, which may change. */
function changingOperations(
  operationsOf: (host: Inode) => AddressSpaceOperations,
): AddressSpaceOperations {
  const of = (folio: Folio): AddressSpaceOperations => operationsOf(folio.mapping!.host);
  return {
    readFolio: (file, folio) => of(folio).readFolio(file, folio),
    readahead: (rac) => operationsOf(rac.mapping.host).readahead?.(rac),
    isPartiallyUptodate: (folio, fromBytes, countBytes) =>
      of(folio).isPartiallyUptodate?.(folio, fromBytes, countBytes) ?? false,
    releaseFolio: (folio) => of(folio).releaseFolio?.(folio) ?? true,
    invalidateFolio: (folio, offsetBytes, lengthBytes) =>
      of(folio).invalidateFolio?.(folio, offsetBytes, lengthBytes),
    dirtyFolio: (mapping, folio) => {
      const { dirtyFolio } = operationsOf(mapping.host);
      return dirtyFolio === undefined ? mapping.dirtyFolio(folio) : dirtyFolio(mapping, folio);
    },
    writepages: (mapping, wbc) => operationsOf(mapping.host).writepages?.(mapping, wbc) ?? 0,
    writeBegin: (iocb, mapping, posBytes, lengthBytes) =>
      operationsOf(mapping.host).writeBegin?.(iocb, mapping, posBytes, lengthBytes) ?? -EIO,
    writeEnd: (iocb, mapping, posBytes, lengthBytes, copiedBytes, folio) =>
      operationsOf(mapping.host).writeEnd?.(
        iocb,
        mapping,
        posBytes,
        lengthBytes,
        copiedBytes,
        folio,
      ) ?? -EIO,
  };
}

/** Makes and keeps the page caches of the files of one file system. */
export class FileMappings {
  /** For reads, reports and seeks; the same for all files. */
  readonly iomapOps: IomapOps<ExtInode>;
  readonly #core: ExtCore;
  readonly #cache: PageCache;
  readonly #writing: FileWriteOptions | undefined;
  readonly #forExtents: AddressSpaceOperations;
  readonly #forInline: AddressSpaceOperations;
  readonly #forBlockMap: AddressSpaceOperations;
  readonly #forChanging: AddressSpaceOperations;

  /** Without `writing` nothing can be written. */
  constructor(core: ExtCore, cache: PageCache, writing?: FileWriteOptions) {
    this.#core = core;
    this.#cache = cache;
    this.#writing = writing;
    this.iomapOps = extIomapOps(core);
    this.#forExtents = iomapOperations(this.iomapOps, writing?.ctx);
    this.#forInline = inlineOperations(core, this.iomapOps);
    this.#forBlockMap = blockMapOperations(core, writing?.ctx);
    this.#forChanging = changingOperations((host) => this.#operationsOf(host as ExtInode));
  }

  /** The page cache of `inode`, made on the first call. Reads nothing. */
  of(inode: ExtInode): AddressSpace {
    if (inode.mapping !== undefined) return inode.mapping;
    const { bdev, sb } = this.#core;
    const writing = this.#writing;
    const minOrder = Math.max(0, Math.log2(sb.blockBytes / PAGE_BYTES));
    const mayChange = inode.isInline && writing !== undefined;
    const operations = mayChange ? this.#forChanging : this.#operationsOf(inode);
    const mayHaveBlockMap = mayChange
      ? !sb.hasIncompat(INCOMPAT_EXTENTS)
      : operations === this.#forBlockMap;
    if (writing !== undefined) inode.wb ??= new WbInode(inode, writing.sb);
    inode.mapping = this.#cache.openMapping(inode, operations, {
      minOrder,
      ...(mayHaveBlockMap ? { maxOrder: blockMapOrder(sb.blockBytes, minOrder) } : {}),
      ...(writing !== undefined ? { onWriteError: writing.onWriteError } : {}),
      ioPages: bdev.ioPages,
      stableWrites: bdev.stableWrites,
    });
    return inode.mapping;
  }

  #operationsOf(inode: ExtInode): AddressSpaceOperations {
    if (inode.isInline) return this.#forInline;
    return inode.hasExtents ? this.#forExtents : this.#forBlockMap;
  }

  /**
   * Drops the content of `inode` for good, dirty or not, and what it was promised: its blocks are
   * about to be freed. Waits for I/O in flight (`truncate_inode_pages_final`).
   */
  evict(inode: ExtInode): MaybeAsync<void> {
    const { mapping } = inode;
    const closed = mapping === undefined ? undefined : this.#cache.closeMapping(mapping);
    return andThen(closed, () => {
      inode.mapping = undefined;
      if (this.#writing !== undefined) releaseBlocks(this.#writing.ctx, inode, 0, Infinity);
    });
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
