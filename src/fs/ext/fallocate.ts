/**
 * Space for a file in advance, holes in it, and parts of it moved up or down.
 *
 *     0             blocks for holes, unwritten             [data][        ]  ->  [data][uuuuuuuu]
 *     PUNCH_HOLE    blocks freed, ragged ends zeroed        [data|data|data]  ->  [data|0000|data]
 *     ZERO_RANGE    zeros, and blocks for holes             as both
 *     COLLAPSE      a part goes, the rest moves down        [aaaa|bbbb|cccc]  ->  [aaaa|cccc]
 *     INSERT        the rest moves up, a hole comes         [aaaa|cccc]       ->  [aaaa|0000|cccc]
 *
 * After `fs/ext4/extents.c` (`ext4_fallocate`, `ext4_collapse_range`, `ext4_insert_range`) and
 * `ext4_punch_hole` in `fs/ext4/inode.c` of Linux. As there, a block-mapped file can be punched
 * only. Long work is several transactions, so a crash may leave a part of it done.
 */
import { filemapWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import {
  pagecacheIsizeExtended,
  truncateInodePages,
  truncateInodePagesRange,
} from "../../cache/truncate.ts";
import { FsError } from "../../lib/errno.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, PAGE_BYTES, roundDown, roundUp } from "../../lib/units.ts";
import { iomapZeroRange } from "../../mapping/iomap/zero-range.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../vfs-write.ts";
import { releaseBlocks, settlePromises, takePromised } from "./delalloc.ts";
import { extMapForWrite, shiftExtents } from "./extents-write.ts";
import {
  checkChangeable,
  exclusively,
  type FileWriting,
  maxFileBytes,
  stamp,
  withoutFills,
  zeroBehindEnd,
  zeroInBlock,
} from "./file-writing.ts";
import type { Handle } from "./handle.ts";
import { convertInline } from "./inline-write.ts";
import type { ExtInode } from "./inode.ts";
import { extWriteHooks } from "./iomap-write.ts";
import { freeBehindEnd } from "./set-size.ts";
import { removeBlocks } from "./truncate-blocks.ts";

/** What is asked for. */
interface Request {
  readonly mode: number;
  readonly startBytes: number;
  readonly endBytes: number;
}

/** Each mode with what may stand beside it. */
const MODES: readonly (readonly [mode: number, others: number])[] = [
  [FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0],
  [FALLOC_FL_COLLAPSE_RANGE, 0],
  [FALLOC_FL_INSERT_RANGE, 0],
  [FALLOC_FL_ZERO_RANGE, FALLOC_FL_KEEP_SIZE],
  [0, FALLOC_FL_KEEP_SIZE],
];

function checkMode(mode: number): void {
  const known = MODES.some(([needed, others]) => (mode & ~others) === needed);
  if (!known) throw new FsError("EOPNOTSUPP", { detail: `mode ${mode} of fallocate` });
}

/**
 * Does to the bytes `offsetBytes` .. + `lengthBytes` of a regular file what `mode` says
 * (`fallocate(2)`).
 *
 * @throws {FsError} `EINVAL` for an empty or negative range, or one that is not of whole blocks
 *   where it has to be; `EOPNOTSUPP` for a mode that there is not, or that a block map cannot;
 *   `EFBIG`, `ENOSPC`, `EPERM`, `EIO`
 * @throws the reason of `signal`, while it waits for its turn
 */
export function fallocateFile(
  files: FileWriting,
  inode: ExtInode,
  mode: number,
  offsetBytes: number,
  lengthBytes: number,
  signal?: AbortSignal,
): MaybeAsync<void> {
  return exclusively(inode, signal, async () => {
    if (!(offsetBytes >= 0) || !(lengthBytes > 0)) throw new FsError("EINVAL");
    checkMode(mode);
    const isAppend = (mode & ~FALLOC_FL_KEEP_SIZE) === 0;
    checkChangeable(inode, isAppend);
    const endBytes = offsetBytes + lengthBytes;
    if (endBytes > maxFileBytes(files.ctx, inode)) throw new FsError("EFBIG");
    const isPunch = (mode & FALLOC_FL_PUNCH_HOLE) !== 0;
    if (inode.isInline) await convertInline(files, inode);
    if (!inode.hasExtents && !isPunch) {
      throw new FsError("EOPNOTSUPP", { detail: "the file has a block map" });
    }
    await perform(files, inode, { mode, startBytes: offsetBytes, endBytes });
  });
}

function perform(files: FileWriting, inode: ExtInode, request: Request): Promise<void> {
  const { mode } = request;
  if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) return punch(files, inode, request);
  if ((mode & FALLOC_FL_COLLAPSE_RANGE) !== 0) return collapse(files, inode, request);
  if ((mode & FALLOC_FL_INSERT_RANGE) !== 0) return insert(files, inode, request);
  return allocate(files, inode, request);
}

/** `ext4_do_fallocate` and `ext4_zero_range`. */
async function allocate(files: FileWriting, inode: ExtInode, request: Request): Promise<void> {
  const { ctx } = files;
  const { mode, startBytes, endBytes } = request;
  const { blockBytes } = inode;
  const keepsSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  const end = blocksOfBytes(endBytes, blockBytes);
  await checkRoom(files, inode, blockOfByte(startBytes, blockBytes), end);
  if (!keepsSize) await zeroBehindEnd(files, inode, endBytes);
  if ((mode & FALLOC_FL_ZERO_RANGE) !== 0) await zeroCached(files, inode, request);
  let at = blockOfByte(startBytes, blockBytes);
  while (at < end) {
    const from = at;
    at = await ctx.transactions.run((handle) => {
      const next = from + fillHole(files, handle, inode, from, end - from);
      stamp(ctx, handle, inode, "ctime");
      if (!keepsSize) {
        const doneBytes = Math.min(next * blockBytes, endBytes);
        if (doneBytes > inode.size) {
          inode.setTime("mtime", ctx.now());
          inode.size = doneBytes;
        }
        inode.diskSize = Math.max(inode.diskSize, inode.size === doneBytes ? doneBytes : 0);
        inode.datasyncTid = handle.tid;
      }
      return next;
    });
    settlePromises(ctx, inode);
  }
}

/** Gives blocks to what is a hole at `fileBlock`. Returns how many blocks it has dealt with. */
function fillHole(
  files: FileWriting,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
): number {
  const { ctx } = files;
  const promised = inode.delalloc?.next(fileBlock);
  if (promised !== undefined && promised.first <= fileBlock) {
    const taken = Math.min(promised.end - fileBlock, count);
    const options = { isUnwritten: true, isReserved: true };
    const run = extMapForWrite(ctx, handle, inode, fileBlock, taken, options);
    takePromised(handle, inode, fileBlock, run.count);
    return run.count;
  }
  const most = Math.min(count, (promised?.first ?? Infinity) - fileBlock);
  return extMapForWrite(ctx, handle, inode, fileBlock, most, { isUnwritten: true }).count;
}

/** Throws `ENOSPC` if the holes before block `end` are more than what is free: nothing is done. */
async function checkRoom(
  files: FileWriting,
  inode: ExtInode,
  first: number,
  end: number,
): Promise<void> {
  const { ctx } = files;
  const holeCount = await ctx.metadata.run(() => {
    let count = 0;
    for (let at = first; at < end; ) {
      const run = ctx.mapBlocks(inode, at, end - at);
      if (run.physical === 0) count += run.count;
      at += run.count;
    }
    return count;
  });
  const promisedCount = inode.delalloc?.blockCount ?? 0;
  const wanted = holeCount - promisedCount;
  if (wanted > ctx.blocks.availableCount(ctx.isPrivileged) && ctx.blocks.pendingCount > 0) {
    await ctx.transactions.commit();
  }
  if (wanted > ctx.blocks.availableCount(ctx.isPrivileged)) {
    throw new FsError("ENOSPC", { detail: `${wanted} blocks are wanted` });
  }
}

/** Makes the range zeros in the cache, as far as it lies in the file and is no hole. */
function zeroCached(files: FileWriting, inode: ExtInode, request: Request): MaybeAsync<void> {
  const mapping = files.mappings.of(inode);
  const { startBytes } = request;
  const endBytes = Math.min(request.endBytes, inode.size);
  if (startBytes >= endBytes) return;
  return withoutFills(files, inode, async () => {
    const lengthBytes = endBytes - startBytes;
    await iomapZeroRange(mapping, startBytes, lengthBytes, files.iomapOps, extWriteHooks);
  });
}

/** `ext4_punch_hole`. */
async function punch(files: FileWriting, inode: ExtInode, request: Request): Promise<void> {
  const { ctx } = files;
  const { blockBytes } = inode;
  const { startBytes } = request;
  const endBytes = Math.min(request.endBytes, roundUp(inode.size, blockBytes));
  if (startBytes >= endBytes) return;
  const firstWhole = Math.min(roundUp(startBytes, blockBytes), endBytes);
  const endWhole = Math.max(roundDown(endBytes, blockBytes), firstWhole);
  await withoutFills(files, inode, async () => {
    await zeroInBlock(files, inode, startBytes, firstWhole);
    await zeroInBlock(files, inode, endWhole, endBytes);
    await ctx.transactions.run((handle) => {
      // What would have raised the size on disk is punched: what is behind a hole raises it later.
      if (endBytes >= inode.size) setSize(files, handle, inode, inode.size);
      else stamp(ctx, handle, inode, "mtime", "ctime");
    });
    if (endWhole <= firstWhole) return;
    await truncateInodePagesRange(files.mappings.of(inode), firstWhole, endWhole - 1);
    await freeBlocks(files, inode, firstWhole / blockBytes, endWhole / blockBytes);
  });
}

/** Frees the blocks `first..end`, of which nothing is cached. */
async function freeBlocks(
  files: FileWriting,
  inode: ExtInode,
  first: number,
  end: number,
): Promise<void> {
  const { ctx } = files;
  releaseBlocks(ctx, inode, first, end);
  let isDone = false;
  while (!isDone) {
    isDone = await ctx.transactions.run((handle) => removeBlocks(ctx, handle, inode, first, end));
  }
}

function checkWholeBlocks(inode: ExtInode, { startBytes, endBytes }: Request): void {
  const { blockBytes } = inode;
  if (startBytes % blockBytes === 0 && endBytes % blockBytes === 0) return;
  throw new FsError("EINVAL", {
    detail: `the range is not of whole blocks of ${blockBytes} bytes`,
  });
}

/** Writes the file from `fromBytes` on, and drops that part of the cache. */
async function flushAndDrop(files: FileWriting, inode: ExtInode, fromBytes: number): Promise<void> {
  const mapping = files.mappings.of(inode);
  const errno = await filemapWriteAndWaitRange(mapping, fromBytes, Infinity);
  if (errno !== 0) throw FsError.of(errno, { cause: mapping.writeFailure });
  await truncateInodePages(mapping, fromBytes);
}

/**
 * Moves the extents from block `from` on by `delta` blocks, in as many operations as it takes;
 * `begin` is part of the first of them.
 */
async function shift(
  files: FileWriting,
  inode: ExtInode,
  from: number,
  delta: number,
  begin?: (handle: Handle) => void,
): Promise<void> {
  const { ctx } = files;
  let at = -1;
  do {
    const last = at;
    at = await ctx.transactions.run((handle) => {
      if (last === -1) begin?.(handle);
      return shiftExtents(ctx, handle, inode, from, delta, last);
    });
  } while (at !== -1);
}

function setSize(files: FileWriting, handle: Handle, inode: ExtInode, sizeBytes: number): void {
  stamp(files.ctx, handle, inode, "mtime", "ctime");
  inode.size = sizeBytes;
  inode.diskSize = sizeBytes;
  inode.datasyncTid = handle.tid;
}

/** `ext4_collapse_range`. */
async function collapse(files: FileWriting, inode: ExtInode, request: Request): Promise<void> {
  checkWholeBlocks(inode, request);
  const { ctx } = files;
  const { startBytes, endBytes } = request;
  if (endBytes >= inode.size) {
    throw new FsError("EINVAL", { detail: "what reaches to the end of the file is truncated" });
  }
  const first = startBytes / inode.blockBytes;
  const end = endBytes / inode.blockBytes;
  await withoutFills(files, inode, async () => {
    await flushAndDrop(files, inode, roundDown(startBytes, pageOfFolios(files, inode)));
    await freeBlocks(files, inode, first, end);
    await shift(files, inode, end, first - end);
    const newSize = inode.size - (endBytes - startBytes);
    await ctx.transactions.run((handle) => setSize(files, handle, inode, newSize));
    await freeBehindEnd(ctx, inode);
  });
}

/** `ext4_insert_range`. */
async function insert(files: FileWriting, inode: ExtInode, request: Request): Promise<void> {
  checkWholeBlocks(inode, request);
  const { ctx } = files;
  const { startBytes, endBytes } = request;
  if (startBytes >= inode.size) {
    throw new FsError("EINVAL", { detail: "behind the end of the file" });
  }
  const newSize = inode.size + endBytes - startBytes;
  if (newSize > maxFileBytes(ctx, inode)) throw new FsError("EFBIG");
  const first = startBytes / inode.blockBytes;
  const count = (endBytes - startBytes) / inode.blockBytes;
  await withoutFills(files, inode, async () => {
    const mapping = files.mappings.of(inode);
    await pagecacheIsizeExtended(mapping, inode.size, newSize);
    await flushAndDrop(files, inode, roundDown(startBytes, pageOfFolios(files, inode)));
    // With the first extents that move: there may be no room for the one that is cut in two.
    const grow = (handle: Handle): void => setSize(files, handle, inode, newSize);
    await shift(files, inode, first, count, grow);
  });
}

/** Bytes of the largest folio of the file: what is dropped of the cache begins at one. */
function pageOfFolios(files: FileWriting, inode: ExtInode): number {
  return PAGE_BYTES * 2 ** files.mappings.of(inode).maxOrder;
}
