/**
 * `GetBlock` of ext2/3/4 for mpage: block-mapped inodes, whose map knows runs within one array of
 * pointers and says where the next read of a pointer block is due (`ext4_get_block`).
 *
 *     extGetBlock        reads              where a block lies, or a hole
 *     extReserveBlock    writes             ..., or a promise of room for it
 *     extAllocateBlock   the write-out      ..., or room for it and for the rest of its folio
 *
 *  1. All blocks of a folio that were promised are allocated by one operation, in whose transaction
 *     the size on disk moves up to the data. The commit of it waits until the folio is written
 *     (ordered mode), so neither the map nor the size ever leads to what was there before.
 *  2. A folio is submitted before the next operation can be waited for: so no commit waits for data
 *     that waits for the commit.
 *
 * After `ext4_da_get_block_prep` and `mpage_map_and_submit_extent` in `fs/ext4/inode.c` of Linux.
 */
import type { Folio } from "../../cache/folio.ts";
import { ENOSPC } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { blockOfByte, blocksOfBytes } from "../../lib/units.ts";
import type { BlockMap, GetBlock } from "../../mapping/get-block.ts";
import type { MappedRun } from "./context.ts";
import type { ExtCore } from "./core.ts";
import { reserveBlocks, settlePromises, takePromised } from "./delalloc.ts";
import type { Handle } from "./handle.ts";
import { indMapForWrite } from "./indirect-write.ts";
import type { ExtInode } from "./inode.ts";
import { noteFailure } from "./read-failure.ts";
import type { ExtWriter } from "./writer.ts";

function fill(core: ExtCore, map: BlockMap, run: MappedRun): number {
  if (run.physical === 0) return 0;
  map.isMapped = true;
  map.blocknr = run.physical;
  map.sizeBytes = run.count * core.sb.blockBytes;
  map.isBoundary = run.isBoundary;
  map.bdev = core.dataDevice;
  return 0;
}

/** The run at `fileBlock`, at most what `map` asks for. */
function runOf(
  core: ExtCore,
  inode: ExtInode,
  fileBlock: number,
  map: BlockMap,
): MaybeAsync<MappedRun> {
  const maxCount = Math.max(1, Math.floor(map.sizeBytes / core.sb.blockBytes));
  return noteFailure(inode, () =>
    core.metadata.run(() => core.mapBlocks(inode, fileBlock, maxCount)),
  );
}

/**
 * The mapper of block-mapped inodes of `core`. It waits only for pointer blocks that are not
 * cached. A block that was promised room is `isDelay`.
 */
export function extGetBlock(core: ExtCore): GetBlock {
  return (inode, fileBlock, map) => {
    const file = inode as ExtInode;
    if (isPromised(core, file, fileBlock, map)) return 0;
    const run = runOf(core, file, fileBlock, map);
    return isPromise(run) ? run.then((mapped) => fill(core, map, mapped)) : fill(core, map, run);
  };
}

/** True, with `map` filled, if `fileBlock` was promised room. */
function isPromised(core: ExtCore, inode: ExtInode, fileBlock: number, map: BlockMap): boolean {
  const promised = inode.delalloc?.at(fileBlock);
  if (promised === undefined) return false;
  map.isDelay = true;
  map.sizeBytes = Math.min(map.sizeBytes, (promised.end - fileBlock) * core.sb.blockBytes);
  return true;
}

/**
 * The mapper of writes into the cache: a hole is promised room, as much as is asked for if there
 * is so much, else block by block. `-ENOSPC` if there is none.
 */
export function extReserveBlock(ctx: ExtWriter): GetBlock {
  const { core } = ctx;
  const take = (file: ExtInode, fileBlock: number, map: BlockMap, run: MappedRun): number => {
    if (run.physical !== 0) return fill(core, map, run);
    const next = file.delalloc?.next(fileBlock)?.first ?? Infinity;
    const hole = Math.min(run.count, next - fileBlock);
    for (const count of hole > 1 ? [hole, 1] : [1]) {
      if (!reserveBlocks(ctx, file, fileBlock, count)) continue;
      map.isDelay = true;
      map.sizeBytes = count * core.sb.blockBytes;
      return 0;
    }
    return -ENOSPC;
  };
  return (inode, fileBlock, map) => {
    const file = inode as ExtInode;
    if (isPromised(core, file, fileBlock, map)) return 0;
    return andThen(runOf(core, file, fileBlock, map), (run) => take(file, fileBlock, map, run));
  };
}

/** The mapper of the write-out. `map.folio` is the folio that is written. See the head. */
export function extAllocateBlock(ctx: ExtWriter): GetBlock {
  const { core } = ctx;
  return (inode, fileBlock, map) => {
    const file = inode as ExtInode;
    const folio = map.folio!;
    return andThen(runOf(core, file, fileBlock, map), (run) => {
      const folioEndBytes = Math.min(folio.posBytes + folio.sizeBytes, file.size);
      if (run.physical !== 0 && file.diskSize >= folioEndBytes) return fill(core, map, run);
      return allocate(ctx, file, folio, fileBlock, map, run.physical === 0);
    });
  };
}

function allocate(
  ctx: ExtWriter,
  inode: ExtInode,
  folio: Folio,
  fileBlock: number,
  map: BlockMap,
  isNew: boolean,
): MaybeAsync<number> {
  const ran = ctx.transactions.run((handle) => {
    allocateFolio(ctx, handle, inode, folio, fileBlock);
    return { run: ctx.mapBlocks(inode, fileBlock, 1), onWritten: handle.orderIo() };
  });
  return andThen(ran, ({ run, onWritten }) => {
    settlePromises(ctx, inode);
    map.onWritten = onWritten;
    const errno = fill(ctx.core, map, run);
    map.isNew = isNew;
    return errno;
  });
}

/**
 * Gives a place to what of `folio` was promised one, and to what else is dirty without one, so that
 * no second operation is needed before the folio is submitted; moves the size on disk. `asked` may
 * lie behind the end by now: whoever has cut the file waits for the folio, and frees it then.
 */
function allocateFolio(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  folio: Folio,
  asked: number,
): void {
  const { blockBytes } = ctx.sb;
  const endBytes = Math.min(folio.posBytes + folio.sizeBytes, inode.size);
  const end = Math.max(blocksOfBytes(endBytes, blockBytes), asked + 1);
  ctx.editInode(handle, inode);
  inode.datasyncTid = handle.tid;
  for (let block = blockOfByte(folio.posBytes, blockBytes); block < end; ) {
    const promised = inode.delalloc?.next(block);
    const isPromised = promised !== undefined && promised.first <= block;
    const next = (isPromised ? promised.end : promised?.first) ?? end;
    const count = Math.min(next, end) - block;
    if (isPromised) {
      const run = indMapForWrite(ctx, handle, inode, block, count, { isReserved: true });
      takePromised(handle, inode, block, run.count);
      block += run.count;
    } else {
      block += isDirtyBlock(folio, block * blockBytes - folio.posBytes, blockBytes)
        ? indMapForWrite(ctx, handle, inode, block, 1).count
        : 1;
    }
  }
  inode.mapSeq++;
  inode.diskSize = Math.max(inode.diskSize, endBytes);
}

function isDirtyBlock({ blockState }: Folio, offsetBytes: number, blockBytes: number): boolean {
  return blockState === null || blockState.isDirty(offsetBytes, blockBytes);
}
