/**
 * The write-out of files with extents: dirty blocks get their place when they are written, and
 * count as written when they have been.
 *
 *     promised run --allocate, unwritten--> bios --> ioend: written, size on disk up to here
 *         one operation for the run                    one operation, before writeback ends
 *
 *  1. What was allocated reads as zeros until its data is on the device, and the size on disk never
 *     leads to data that is not there: no commit has to wait for data.
 *  2. Writeback of a folio ends after that operation: who has waited for it finds in the inode's
 *     `datasyncTid` what to commit.
 *
 * After `ext4_writepages`, `mpage_map_one_extent` and `fs/ext4/page-io.c` of Linux.
 */
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { mutants } from "../../lib/mutants.ts";
import { blockOfByte, blocksOfBytes } from "../../lib/units.ts";
import { IomapIoendQueue } from "../../mapping/iomap/finish-ioend.ts";
import { IOMAP_IOEND_UNWRITTEN, type IomapIoend } from "../../mapping/iomap/ioend.ts";
import { IOMAP_HOLE, iomapEndBytes, resetIomap } from "../../mapping/iomap/iomap.ts";
import { iomapAddToIoend, iomapIoendSubmit } from "../../mapping/iomap/submit-ioend.ts";
import type { IomapWritebackOps, IomapWritepageCtx } from "../../mapping/iomap/writeback-ops.ts";
import type { MappedRun } from "./context.ts";
import { releaseBlocks, settlePromises, takePromised } from "./delalloc.ts";
import { convertExtents, extMapForWrite } from "./extents-write.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { setRun } from "./iomap-ops.ts";
import type { ExtWriter } from "./writer.ts";

/** Blocks that are looked up at once. */
const RUN_BLOCKS_MAX = 2 ** 24;

/** Ioends of one inode that wait for their operation. */
const queues = new WeakMap<ExtInode, IomapIoendQueue>();

/** What of the promise at `fileBlock` gets a place by one operation (`mpage_map_one_extent`). */
function allocatePromised(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
): MappedRun {
  const options = { isUnwritten: true, isReserved: true };
  const run = extMapForWrite(ctx, handle, inode, fileBlock, count, options);
  takePromised(handle, inode, fileBlock, run.count);
  if (mutants.sizeBeforeData) inode.diskSize = inode.size;
  return run;
}

/** Where `fileBlock` lies; if it was promised a place, it and what follows get one. */
function mapForWriteback(
  ctx: ExtWriter,
  inode: ExtInode,
  fileBlock: number,
): MaybeAsync<MappedRun> {
  let mapSeq = 0;
  const lookUp = (): MappedRun => {
    mapSeq = inode.mapSeq;
    return ctx.mapBlocks(inode, fileBlock, RUN_BLOCKS_MAX);
  };
  const allocate = (handle: Handle): MappedRun => {
    const now = inode.delalloc?.at(fileBlock);
    if (now === undefined) return lookUp();
    const run = allocatePromised(ctx, handle, inode, fileBlock, now.end - fileBlock);
    mapSeq = inode.mapSeq;
    return run;
  };
  const isPromised = inode.delalloc?.at(fileBlock) !== undefined;
  const mapped = isPromised ? ctx.transactions.run(allocate) : ctx.metadata.run(lookUp);
  return andThen(mapped, (run) => {
    settlePromises(ctx, inode);
    // Others have changed the map while the answer was on its way: a part of it may be free.
    return mapSeq === inode.mapSeq ? run : mapForWriteback(ctx, inode, fileBlock);
  });
}

/** True if the mapping of the last range covers `posBytes`, and the map did not change since. */
function holds(wpc: IomapWritepageCtx, inode: ExtInode, posBytes: number): boolean {
  const { iomap } = wpc;
  return (
    iomap.validityCookie === inode.mapSeq &&
    posBytes >= iomap.offsetBytes &&
    posBytes < iomapEndBytes(iomap) &&
    iomap.type !== IOMAP_HOLE
  );
}

/**
 * Does what is due once the blocks of `ioend` have been written: they become written extents, and
 * the file on disk reaches up to them (`ext4_end_io_end`).
 */
async function finishWritten(ctx: ExtWriter, ioend: IomapIoend): Promise<void> {
  if (ioend.error !== null) return; // Unwritten they read as zeros, which is all there is.
  const inode = ioend.inode as ExtInode;
  const { blockBytes } = ctx.sb;
  const isUnwritten = (ioend.flags & IOMAP_IOEND_UNWRITTEN) !== 0;
  const end = blocksOfBytes(ioend.endBytes, blockBytes);
  let at = isUnwritten ? blockOfByte(ioend.offsetBytes, blockBytes) : end;
  do {
    const from = at;
    at = await ctx.transactions.run((handle) => {
      handle.orderIo()(); // Without a journal nobody else would see to it that it is durable first.
      const done = from < end ? from + convertExtents(ctx, handle, inode, from, end - from) : end;
      const writtenBytes = Math.min(ioend.endBytes, done * blockBytes, inode.size);
      if (writtenBytes > inode.diskSize) {
        ctx.editInode(handle, inode);
        inode.diskSize = writtenBytes;
        inode.datasyncTid = handle.tid;
      }
      return done;
    });
  } while (at < end);
}

function queueOf(ctx: ExtWriter, inode: ExtInode): IomapIoendQueue {
  let queue = queues.get(inode);
  if (queue === undefined) {
    queue = new IomapIoendQueue(ctx.clock, (ioend) => finishWritten(ctx, ioend));
    queues.set(inode, queue);
  }
  return queue;
}

/** The write-out of files with extents: see the head of the file. */
export function extWritebackOps(ctx: ExtWriter): IomapWritebackOps {
  return {
    range(wpc, folio, posBytes, lengthBytes, endPosBytes) {
      const inode = wpc.inode as ExtInode;
      if (holds(wpc, inode, posBytes)) {
        return iomapAddToIoend(wpc, folio, posBytes, endPosBytes, lengthBytes);
      }
      const fileBlock = blockOfByte(posBytes, ctx.sb.blockBytes);
      const add = (run: MappedRun): number => {
        resetIomap(wpc.iomap);
        setRun(ctx.core, inode, fileBlock, run, wpc.iomap);
        return iomapAddToIoend(wpc, folio, posBytes, endPosBytes, lengthBytes);
      };
      const drop = (thrown: unknown): never => {
        if (wpc.mapping.onWriteError === "drop") {
          const end = blocksOfBytes(folio.posBytes + folio.sizeBytes, ctx.sb.blockBytes);
          releaseBlocks(ctx, inode, fileBlock, end);
        }
        throw thrown;
      };
      try {
        const added = andThen(mapForWriteback(ctx, inode, fileBlock), add);
        return isPromise(added) ? added.catch(drop) : added;
      } catch (thrown) {
        return drop(thrown);
      }
    },
    submit(wpc, error) {
      const ioend = wpc.pending;
      if (ioend !== null) {
        if (mutants.convertBeforeData) void finishWritten(ctx, ioend);
        const inode = wpc.inode as ExtInode;
        const isUnwritten = (ioend.flags & IOMAP_IOEND_UNWRITTEN) !== 0;
        if (isUnwritten || ioend.endBytes > inode.diskSize) {
          ioend.endIo = (ended) => queueOf(ctx, inode).add(ended);
        }
      }
      iomapIoendSubmit(wpc, error);
    },
  };
}
