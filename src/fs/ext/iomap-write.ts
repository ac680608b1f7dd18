/**
 * `IomapOps` of ext4 for writes into the cache, and for zeroing there: files with extents.
 *
 *     mapping found      a write gets                     zeroing gets
 *     written            IOMAP_MAPPED                     the same
 *     unwritten          IOMAP_UNWRITTEN                  the same, with its dirty folios
 *     promised           IOMAP_DELALLOC                   the same
 *     hole               IOMAP_DELALLOC, just promised    IOMAP_HOLE
 *
 * Nothing is allocated: that does the write-out (`writeback.ts`). So a disk that is full says so
 * here.
 *
 * After `ext4_da_map_blocks` in `fs/ext4/inode.c` and `xfs_buffered_write_iomap_begin` of Linux.
 */
import { FsError } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { blockOfByte, blocksOfBytes } from "../../lib/units.ts";
import { iomapEndDelalloc } from "../../mapping/iomap/delalloc.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_NOWAIT,
  IOMAP_UNWRITTEN,
  IOMAP_ZERO,
  type Iomap,
  type IomapOps,
  iomapEndBytes,
} from "../../mapping/iomap/iomap.ts";
import type { IomapWriteOps } from "../../mapping/iomap/write-ops.ts";
import { iomapFillDirtyFolios } from "../../mapping/iomap/zero-range.ts";
import { releaseBlocks, reserveBlocks } from "./delalloc.ts";
import type { ExtInode } from "./inode.ts";
import { setRun } from "./iomap-ops.ts";
import { noteFailure } from "./read-failure.ts";
import type { ExtWriter } from "./writer.ts";

/** Longest mapping, in blocks. */
const RUN_BLOCKS_MAX = 2 ** 24;

/** Says whether a mapping still holds: the map of the inode is as it was. */
export const extWriteHooks: IomapWriteOps = {
  valid: (inode, iomap) => iomap.validityCookie === (inode as ExtInode).mapSeq,
};

/** Makes the hole that `iomap` is a promise, for `wanted` blocks if there is room for so many. */
function promise(ctx: ExtWriter, inode: ExtInode, wanted: number, iomap: Iomap): void {
  const { blockBytes } = ctx.sb;
  const first = iomap.offsetBytes / blockBytes;
  const most = Math.min(wanted, iomap.lengthBytes / blockBytes);
  for (const count of most > 1 ? [most, 1] : [1]) {
    if (!reserveBlocks(ctx, inode, first, count)) continue;
    iomap.type = IOMAP_DELALLOC;
    iomap.flags |= IOMAP_F_NEW;
    iomap.lengthBytes = count * blockBytes;
    return;
  }
  throw new FsError("ENOSPC", { detail: `no room for block ${first} of inode ${inode.ino}` });
}

/**
 * The operations of files with extents for `IOMAP_WRITE`, `IOMAP_ZERO` and `IOMAP_FAULT`. They
 * throw `ENOSPC`, and what reading the map fails with.
 */
export function extIomapWriteOps(ctx: ExtWriter): IomapOps<ExtInode> {
  const { core } = ctx;
  const { blockBytes } = ctx.sb;
  return {
    begin(inode, posBytes, lengthBytes, flags, iomap, srcmap): MaybeAsync<void> {
      const fileBlock = blockOfByte(posBytes, blockBytes);
      let mapSeq = 0;
      const run = noteFailure(inode, () =>
        core.metadata.run(() => {
          mapSeq = inode.mapSeq;
          return core.mapBlocks(inode, fileBlock, RUN_BLOCKS_MAX);
        }),
      );
      if (isPromise(run) && (flags & IOMAP_NOWAIT) !== 0) {
        run.catch(() => undefined); // Who may wait for the map meets its failure.
        throw new FsError("EAGAIN");
      }
      return andThen(run, (mapped) => {
        // Write-out has changed the map while the answer was on its way.
        if (mapSeq !== inode.mapSeq) {
          return this.begin(inode, posBytes, lengthBytes, flags, iomap, srcmap);
        }
        setRun(core, inode, fileBlock, mapped, iomap);
        const isZeroing = (flags & IOMAP_ZERO) !== 0;
        if (iomap.type === IOMAP_HOLE && !isZeroing) {
          const wanted = blocksOfBytes(posBytes + lengthBytes, blockBytes) - fileBlock;
          promise(ctx, inode, wanted, iomap);
        } else if (iomap.type === IOMAP_UNWRITTEN && isZeroing) {
          const endBytes = Math.min(iomapEndBytes(iomap), posBytes + lengthBytes);
          const seenBytes = iomapFillDirtyFolios(inode.mapping!, iomap, posBytes, endBytes);
          const end = blocksOfBytes(seenBytes, blockBytes);
          iomap.lengthBytes = end * blockBytes - iomap.offsetBytes;
        }
      });
    },
    end(inode, posBytes, lengthBytes, writtenBytes, flags, iomap): MaybeAsync<void> {
      const call = { posBytes, lengthBytes, writtenBytes, flags, iomap };
      return iomapEndDelalloc(inode.mapping!, call, (offsetBytes, countBytes) => {
        const first = offsetBytes / blockBytes;
        releaseBlocks(ctx, inode, first, first + countBytes / blockBytes);
      });
    },
  };
}
