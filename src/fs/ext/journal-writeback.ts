/**
 * The write-out of files whose data goes through the journal (`data=journal`): dirty blocks get
 * their place and become part of a transaction, and from there on they are as good as written.
 *
 *     folio        [ clean | dirty | dirty | promised | behind EOF ]   locked, cleaned
 *     operation              copies of the three into the transaction
 *                            a place for the promised one
 *                            size on disk up to its end                all of it, or nothing
 *     folio        [ clean | clean | clean |  clean   |            ]   unlocked: no I/O of its own
 *
 *  1. Blocks, map and size on disk are of one operation: no map leads to what was there before, no
 *     size to data that is not logged. So nothing is allocated unwritten, and no commit waits.
 *  2. Only whole blocks are logged; behind the end of the file they are zeros.
 *  3. A folio that is too large for what an operation has room for is cut into several, the first
 *     blocks first.
 *  4. While an operation waits for room in the log the folio is locked. That room comes from
 *     commits, and from blocks that go home: neither looks at folios of files.
 *  5. Who reads a block that the cache has dropped gets it from the transactions, until it is home:
 *     `journaled-data.ts`.
 *
 * After `ext4_journalled_writepages` and `ext4_journalled_write_end` in `fs/ext4/inode.c` of Linux,
 * which logs at the end of each write. Left out: writes past the cache.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { FolioBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import { writeCachePages } from "../../cache/page-writeback.ts";
import type { WritebackControl } from "../../cache/writeback-control.ts";
import type { Errno } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, roundUp } from "../../lib/units.ts";
import { zeroBehindEof } from "../../mapping/folio-write.ts";
import { dirtyStateOf } from "../../mapping/write-full-folio.ts";
import type { MappedRun } from "./context.ts";
import { releaseBlocks, settlePromises, takePromised } from "./delalloc.ts";
import { convertExtents } from "./extents-write.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { journalData } from "./journaled-data.ts";
import { mapForWrite } from "./truncate-blocks.ts";
import type { ExtWriter } from "./writer.ts";

/** Blocks that one run changes at most beside its data: bitmaps, map, inode. */
const MAP_BLOCKS_MAX = 12;

/**
 * Logs the dirty folios of `mapping` that `wbc` asks for. What was logged is neither dirty nor in
 * flight when it returns or resolves; it is durable with the commit of the inode's `datasyncTid`.
 * Returns 0 or the first error, by the rules of `WritebackIter`.
 */
export function journalWritepages(
  ctx: ExtWriter,
  mapping: AddressSpace,
  wbc: WritebackControl,
): MaybeAsync<Errno> {
  return writeCachePages(mapping, wbc, logFolio, ctx);
}

function logFolio(folio: Folio, wbc: WritebackControl, ctx: ExtWriter): MaybeAsync<Errno> {
  return new FolioLogging(ctx, folio, wbc).run();
}

/** Where `fileBlock` lies and what of `count` blocks is behind it; what has no place gets one. */
function placeFor(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  count: number,
): MappedRun {
  const promised = inode.delalloc?.next(fileBlock);
  if (promised !== undefined && promised.first <= fileBlock) {
    const most = Math.min(count, promised.end - fileBlock);
    const run = mapForWrite(ctx, handle, inode, fileBlock, most, { isReserved: true });
    takePromised(handle, inode, fileBlock, run.count);
    return run;
  }
  const most = Math.min(count, (promised?.first ?? Infinity) - fileBlock);
  const run = mapForWrite(ctx, handle, inode, fileBlock, most);
  if (!run.isUnwritten) return run;
  const converted = convertExtents(ctx, handle, inode, fileBlock, Math.min(run.count, most));
  return { ...run, count: converted };
}

/** The logging of one folio; its state outlives the waits. Offsets are bytes in the folio. */
class FolioLogging {
  readonly #ctx: ExtWriter;
  readonly #folio: Folio;
  readonly #wbc: WritebackControl;
  readonly #inode: ExtInode;
  readonly #blockBytes: number;
  /** Which blocks are dirty; without it, the one that there is. */
  readonly #state: FolioBlockState | null;
  /** Up to here all is logged. */
  #at = 0;

  constructor(ctx: ExtWriter, folio: Folio, wbc: WritebackControl) {
    this.#ctx = ctx;
    this.#folio = folio;
    this.#wbc = wbc;
    this.#inode = folio.mapping!.host as ExtInode;
    this.#blockBytes = ctx.sb.blockBytes;
    this.#state = folio.sizeBytes > this.#blockBytes ? dirtyStateOf(folio, this.#blockBytes) : null;
  }

  /** Logs what is dirty, and unlocks the folio. If it throws or rejects, the folio is locked. */
  run(): MaybeAsync<Errno> {
    try {
      while (this.#nextDirty(this.#at) < this.#endBytes) {
        const logged = this.#ctx.transactions.run((handle) => this.#log(handle));
        if (isPromise(logged)) {
          this.#wbc.beforeWait?.();
          return logged.then(
            (endBytes) => {
              this.#logged(endBytes);
              return this.run();
            },
            (thrown: unknown) => this.#drop(thrown),
          );
        }
        this.#logged(logged);
      }
    } catch (thrown) {
      return this.#drop(thrown);
    }
    return this.#end();
  }

  /** The end of the last block with bytes of the file, which may get shorter while it waits. */
  get #endBytes(): number {
    const { posBytes, sizeBytes } = this.#folio;
    const endBytes = Math.min(posBytes + sizeBytes, this.#inode.size) - posBytes;
    return Math.max(0, roundUp(endBytes, this.#blockBytes));
  }

  #nextDirty(fromBytes: number): number {
    const endBytes = Math.max(fromBytes, this.#endBytes);
    return this.#state === null ? fromBytes : this.#state.nextDirty(fromBytes, endBytes);
  }

  /**
   * One operation: logs what is dirty from where it stopped, as far as there is room. Returns up to
   * where. Restartable.
   */
  #log(handle: Handle): number {
    const folio = this.#folio;
    const inode = this.#inode;
    const blockBytes = this.#blockBytes;
    const endBytes = this.#endBytes;
    zeroBehindEof(folio, inode.size);
    let at = this.#nextDirty(this.#at);
    for (let isFirst = true; at < endBytes; isFirst = false) {
      const roomBlocks = handle.roomBlocks - MAP_BLOCKS_MAX;
      if (!isFirst && roomBlocks < 1) break;
      const runEndBytes = this.#state?.nextClean(at, endBytes) ?? endBytes;
      const count = Math.min((runEndBytes - at) / blockBytes, Math.max(1, roomBlocks));
      const run = placeFor(
        this.#ctx,
        handle,
        inode,
        blockOfByte(folio.posBytes + at, blockBytes),
        count,
      );
      for (let block = 0; block < Math.min(run.count, count); block++, at += blockBytes) {
        journalData(handle, run.physical + block, folio.bytes.subarray(at, at + blockBytes));
      }
      this.#noteLogged(handle, folio.posBytes + at);
      at = this.#nextDirty(at);
    }
    return Math.max(this.#at, Math.min(at, endBytes));
  }

  /** The file on disk reaches up to what is logged, and is read back by this transaction. */
  #noteLogged(handle: Handle, endPosBytes: number): void {
    const inode = this.#inode;
    const { syncTid, datasyncTid } = inode;
    handle.undo(() => {
      inode.syncTid = syncTid;
      inode.datasyncTid = datasyncTid;
    });
    const loggedBytes = Math.min(endPosBytes, inode.size);
    if (loggedBytes > inode.diskSize) {
      this.#ctx.editInode(handle, inode);
      inode.diskSize = loggedBytes;
    }
    inode.syncTid = handle.tid;
    inode.datasyncTid = handle.tid;
  }

  #logged(endBytes: number): void {
    this.#state?.clearDirty(this.#at, endBytes - this.#at);
    this.#at = endBytes;
    settlePromises(this.#ctx, this.#inode);
  }

  /** What is dirty still is a part of the file no more. */
  #end(): Errno {
    const folio = this.#folio;
    folio.blockState?.clearDirty(0, folio.sizeBytes);
    folio.startWriteback();
    folio.endWriteback();
    folio.unlock();
    return 0;
  }

  /** What could not be logged is given up, where it is, with what it was promised. */
  #drop(thrown: unknown): never {
    const folio = this.#folio;
    if (folio.mapping?.onWriteError === "drop") {
      const { posBytes, sizeBytes } = folio;
      const first = blockOfByte(posBytes + this.#at, this.#blockBytes);
      const end = blocksOfBytes(posBytes + sizeBytes, this.#blockBytes);
      releaseBlocks(this.#ctx, this.#inode, first, end);
    }
    throw thrown;
  }
}
