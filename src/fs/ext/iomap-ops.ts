/**
 * `IomapOps` of ext2/3/4: where a range of a file lies, in one mapping per extent.
 *
 *     extents     IOMAP_MAPPED, IOMAP_UNWRITTEN, IOMAP_HOLE           read and report
 *     inline      IOMAP_INLINE for the data, IOMAP_HOLE behind it     read; report: ENOENT at EOF
 *     block map   IOMAP_MAPPED with IOMAP_F_MERGED, IOMAP_HOLE        report only: mpage reads them
 *     promised    IOMAP_DELALLOC, whatever the map                    see `delalloc.ts`
 *
 * Holes are as long as one look at the metadata shows them to be: a missing pointer block, or the
 * way to the next extent. Two sets of operations, since only a report cares where the request
 * ends. For writes: `iomap-write.ts`.
 *
 * After `fs/ext4/inode.c` (`ext4_iomap_begin`, `ext4_iomap_begin_report`, `ext4_set_iomap`) and
 * `fs/ext4/inline.c` (`ext4_inline_data_iomap`). Left out: the address of inline data on the
 * device.
 */
import { FsError } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, roundDown, roundUp } from "../../lib/units.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_MERGED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_REPORT,
  IOMAP_UNWRITTEN,
  type Iomap,
  type IomapOps,
} from "../../mapping/iomap/iomap.ts";
import type { MappedRun } from "./context.ts";
import type { ExtCore } from "./core.ts";
import type { ExtInode } from "./inode.ts";
import { noteFailure } from "./read-failure.ts";
import { inlineDataOf } from "./xattr.ts";

/** Longest mapping, in blocks: what one extent of the largest kind holds, many times over. */
const RUN_BLOCKS_MAX = 2 ** 24;

/**
 * Fills `iomap` with `run`, which begins at `fileBlock`; of a hole with what of it is promised
 * room, or with what lies before that.
 */
export function setRun(
  core: ExtCore,
  inode: ExtInode,
  fileBlock: number,
  run: MappedRun,
  iomap: Iomap,
): void {
  const { blockBytes } = core.sb;
  iomap.offsetBytes = fileBlock * blockBytes;
  iomap.lengthBytes = run.count * blockBytes;
  iomap.validityCookie = inode.mapSeq;
  if (run.physical === 0) {
    const promised = inode.delalloc?.next(fileBlock);
    const isPromised = promised !== undefined && promised.first <= fileBlock;
    iomap.type = isPromised ? IOMAP_DELALLOC : IOMAP_HOLE;
    const end = (isPromised ? promised.end : promised?.first) ?? Infinity;
    iomap.lengthBytes = Math.min(run.count, end - fileBlock) * blockBytes;
    return;
  }
  iomap.type = run.isUnwritten ? IOMAP_UNWRITTEN : IOMAP_MAPPED;
  iomap.addrBytes = run.physical * blockBytes;
  iomap.bdev = core.dataDevice;
  if (!inode.hasExtents) iomap.flags |= IOMAP_F_MERGED;
}

/**
 * A file may be longer than its inline data, as mke2fs makes files that begin with a hole: the rest
 * reads as zeros.
 */
function setInline(
  inode: ExtInode,
  data: Uint8Array,
  posBytes: number,
  lengthBytes: number,
  flags: number,
  iomap: Iomap,
): void {
  const dataBytes = Math.min(inode.size, data.length);
  iomap.validityCookie = inode.mapSeq;
  if (posBytes < dataBytes) {
    iomap.type = IOMAP_INLINE;
    iomap.offsetBytes = 0;
    iomap.lengthBytes = dataBytes;
    iomap.inlineData = data.subarray(0, dataBytes);
    return;
  }
  if ((flags & IOMAP_REPORT) !== 0 && posBytes >= inode.size) {
    throw new FsError("ENOENT", { detail: "behind the inline data of the file" });
  }
  // The hole is of whole blocks, though the data reaches into the first one.
  iomap.type = IOMAP_HOLE;
  iomap.offsetBytes = roundDown(posBytes, inode.blockBytes);
  iomap.lengthBytes = roundUp(posBytes + lengthBytes, inode.blockBytes) - iomap.offsetBytes;
}

/**
 * The operations of the files of `core`: for reads (flags 0) and for reports (`IOMAP_REPORT`).
 *
 * They throw `EUCLEAN`/`EBADMSG` for a damaged map, `EIO` for metadata that cannot be read, and
 * wait only for metadata that is not cached.
 */
export function extIomapOps(core: ExtCore): IomapOps<ExtInode> {
  const beginInline = (
    inode: ExtInode,
    posBytes: number,
    lengthBytes: number,
    flags: number,
    iomap: Iomap,
  ): MaybeAsync<void> => {
    const data = noteFailure(inode, () => core.metadata.run(() => inlineDataOf(core, inode)));
    return isPromise(data)
      ? data.then((bytes) => setInline(inode, bytes, posBytes, lengthBytes, flags, iomap))
      : setInline(inode, data, posBytes, lengthBytes, flags, iomap);
  };
  return {
    begin(inode, posBytes, lengthBytes, flags, iomap) {
      if (inode.isInline) return beginInline(inode, posBytes, lengthBytes, flags, iomap);
      const { blockBytes } = core.sb;
      const fileBlock = blockOfByte(posBytes, blockBytes);
      const wanted = blocksOfBytes(posBytes + lengthBytes, blockBytes) - fileBlock;
      const isReport = (flags & IOMAP_REPORT) !== 0;
      const maxCount = isReport ? Math.min(wanted, RUN_BLOCKS_MAX) : RUN_BLOCKS_MAX;
      const run = noteFailure(inode, () =>
        core.metadata.run(() => core.mapBlocks(inode, fileBlock, maxCount)),
      );
      if (isPromise(run)) {
        return run.then((mapped) => setRun(core, inode, fileBlock, mapped, iomap));
      }
      return setRun(core, inode, fileBlock, run, iomap);
    },
  };
}
