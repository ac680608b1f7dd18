/**
 * Writes a folio block by block through its buffers: the way for folios that mpage finds confused,
 * and for those of which only some blocks are dirty.
 *
 *     blocks      clean     dirty, mapped     dirty, unmapped     behind the end of the file
 *     action      none      one bio           mapped, one bio     forgotten
 *
 *  1. First every dirty block is mapped, then the buffers are locked, then the bios leave. So the
 *     folio is under writeback from before its first bio until after its last, and ends it once.
 *  2. If a block cannot be mapped, those that are mapped are written all the same: they may have
 *     been allocated for this, and must not show what the device holds there. The others are
 *     given up, or stay dirty where failed writes are kept.
 *
 * After `__block_write_full_folio` and `block_write_full_folio` in fs/buffer.c of Linux.
 */
import { Bio, REQ_BACKGROUND, REQ_OP_WRITE, REQ_SYNC } from "../block/bio.ts";
import type { Plug } from "../block/plug.ts";
import { attachBlockState, type FolioBlockState } from "../cache/block-state.ts";
import type { Folio } from "../cache/folio.ts";
import { WB_SYNC_ALL, type WritebackControl } from "../cache/writeback-control.ts";
import { assert } from "../lib/assert.ts";
import { EIO, type Errno } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, byteOfBlock } from "../lib/units.ts";
import { type BufferHead, createEmptyBuffers } from "./buffer.ts";
import { completionsOf } from "./completion.ts";
import { callAll, endFolioPart, zeroBehindEof } from "./folio-write.ts";
import {
  askBlock,
  type BlockMap,
  type BlockQuestion,
  createBlockMap,
  type DeviceBuffers,
  type GetBlock,
} from "./get-block.ts";

/** What a write of a folio may be given by a walk that it is part of. */
export interface FolioWriteContext {
  readonly plug?: Plug | undefined;
  readonly deviceBuffers?: DeviceBuffers | undefined;
  /** Called when the write has ended, with what `GetBlock` adds. */
  readonly onWritten?: readonly (() => void)[];
}

/** The flags of bios on behalf of `wbc` (`wbc_to_write_flags`). */
export function writeFlagsOf(wbc: WritebackControl): number {
  if (wbc.syncMode === WB_SYNC_ALL) return REQ_SYNC;
  return wbc.forKupdate || wbc.forBackground ? REQ_BACKGROUND : 0;
}

/**
 * Writes the dirty blocks of a locked folio that `clearDirtyForIo` was called for, through buffers,
 * which it attaches (`block_write_full_folio`). The folio is unlocked when it returns, and under
 * writeback until all is written. A folio behind the end of the file is unlocked only.
 *
 * Returns 0, or the errno of a block that could not be mapped, which is noted on the file too. A
 * promise only if `getBlock`, or I/O of one of the blocks by others, has to be waited for: then
 * what `wbc.beforeWait` and the plug hold has been submitted.
 */
export function blockWriteFullFolio(
  folio: Folio,
  wbc: WritebackControl,
  getBlock: GetBlock,
  context: FolioWriteContext = {},
): MaybeAsync<Errno> {
  assert(folio.isLocked && folio.mapping !== null, "a locked folio of a file is written");
  const { host } = folio.mapping;
  if (folio.posBytes >= host.size) {
    folio.blockState?.clearDirty(0, folio.sizeBytes);
    folio.unlock(); // A truncate is about to drop it.
    callAll(context.onWritten ?? []);
    return 0;
  }
  zeroBehindEof(folio, host.size);
  return new FullFolioWrite(folio, wbc, getBlock, context).run();
}

/**
 * The state of the blocks of `folio`, which was dirty until `clearDirtyForIo`; without one, all of
 * them were.
 */
export function dirtyStateOf(folio: Folio, blockBytes: number): FolioBlockState {
  if (folio.blockState !== null) return folio.blockState;
  const state = attachBlockState(folio, blockBytes);
  if (folio.isUptodate) state.setDirty(0, folio.sizeBytes);
  return state;
}

/** One write of that kind, whose state outlives the waits. */
class FullFolioWrite {
  readonly #folio: Folio;
  readonly #wbc: WritebackControl;
  readonly #question: BlockQuestion;
  readonly #context: FolioWriteContext;
  readonly #blockBytes: number;
  readonly #state: FolioBlockState;
  readonly #buffers: readonly BufferHead[];
  /** Buffers below the end of the file. */
  readonly #count: number;
  readonly #firstFileBlock: number;
  readonly #map: BlockMap = createBlockMap();
  readonly #onWritten: (() => void)[];
  readonly #locked: BufferHead[] = [];
  #next = 0; // The buffer to look at.
  #errno: Errno = 0;
  #isRedirtied = false;

  constructor(folio: Folio, wbc: WritebackControl, getBlock: GetBlock, context: FolioWriteContext) {
    const { host } = folio.mapping!;
    this.#folio = folio;
    this.#wbc = wbc;
    this.#question = { inode: host, getBlock, create: true };
    this.#context = context;
    this.#onWritten = [...(context.onWritten ?? [])];
    this.#blockBytes = host.blockBytes;
    this.#state = dirtyStateOf(folio, host.blockBytes);
    this.#buffers = createEmptyBuffers(folio, host.blockBytes);
    this.#firstFileBlock = blockOfByte(folio.posBytes, host.blockBytes);
    const eofBlocks = blocksOfBytes(host.size, host.blockBytes) - this.#firstFileBlock;
    this.#count = Math.min(this.#buffers.length, eofBlocks);
    for (const buffer of this.#buffers.slice(this.#count)) buffer.clearDirty();
    this.#map.folio = folio;
  }

  run(): MaybeAsync<Errno> {
    const mapped = this.#mapBlocks();
    return isPromise(mapped) ? mapped.then(() => this.#write()) : this.#write();
  }

  /** Maps the dirty blocks from `#next` on, until one fails. */
  #mapBlocks(): MaybeAsync<void> {
    for (; this.#next < this.#count && this.#errno === 0; this.#next++) {
      const buffer = this.#buffers[this.#next]!;
      if (!buffer.isDirty || buffer.isMapped) continue;
      const fileBlock = this.#firstFileBlock + this.#next;
      const asked = askBlock(this.#question, fileBlock, this.#blockBytes, this.#map);
      if (isPromise(asked)) this.#beforeWait();
      const taken = isPromise(asked)
        ? asked.then((errno) => this.#take(buffer, errno))
        : this.#take(buffer, asked);
      if (!isPromise(taken)) continue;
      this.#beforeWait();
      this.#next++;
      return taken.then(() => this.#mapBlocks());
    }
  }

  #take(buffer: BufferHead, errno: Errno): MaybeAsync<void> {
    const map = this.#map;
    if (map.onWritten) this.#onWritten.push(map.onWritten);
    if (errno !== 0 || !map.isMapped) {
      this.#errno = errno !== 0 ? errno : -EIO;
      return;
    }
    buffer.map(map.bdev!, map.blocknr);
    buffer.isBoundary = map.isBoundary;
    if (map.isNew) return this.#context.deviceBuffers?.cleanAliases(map.blocknr, 1);
  }

  #beforeWait(): void {
    this.#wbc.beforeWait?.();
    this.#context.plug?.flush();
  }

  /** Locks what is dirty and mapped, and writes it. */
  #write(): MaybeAsync<Errno> {
    const locked = this.#lockBuffers(0);
    return isPromise(locked) ? locked.then(() => this.#submit()) : this.#submit();
  }

  #lockBuffers(from: number): MaybeAsync<void> {
    for (let at = from; at < this.#count; at++) {
      const buffer = this.#buffers[at]!;
      if (!buffer.isDirty || !buffer.isMapped) continue;
      if (!buffer.isLocked) {
        buffer.lock();
        this.#locked.push(buffer);
      } else if (this.#wbc.syncMode === WB_SYNC_ALL) {
        this.#beforeWait();
        return buffer.waitUnlocked().then(() => this.#lockBuffers(at));
      } else {
        this.#isRedirtied = true; // It stays dirty.
      }
    }
  }

  #submit(): Errno {
    const folio = this.#folio;
    const state = this.#state;
    if (this.#errno !== 0) this.#giveUp();
    if (this.#isRedirtied) folio.redirtyForWritepage(this.#wbc);
    for (const buffer of this.#locked) {
      state.startInFlight(buffer.offsetBytes, this.#blockBytes);
      state.writePendingBytes += this.#blockBytes;
      buffer.isAsyncWrite = true;
      buffer.isNew = false;
    }
    folio.startWriteback();
    for (const buffer of this.#locked) this.#submitBuffer(buffer);
    folio.unlock();
    if (this.#locked.length === 0) this.#end();
    return this.#errno;
  }

  /** A block has no place on the device: what of the folio has none is lost, or stays dirty. */
  #giveUp(): void {
    const mapping = this.#folio.mapping!;
    mapping.setError(this.#errno);
    for (const buffer of this.#buffers.slice(0, this.#count)) {
      if (!buffer.isDirty || buffer.isMapped) continue;
      if (mapping.onWriteError === "keep") this.#isRedirtied = true;
      else buffer.clearDirty();
    }
  }

  #submitBuffer(buffer: BufferHead): void {
    const offsetBytes = byteOfBlock(buffer.blocknr, this.#blockBytes);
    const { clock } = this.#folio.mapping!.cache;
    const bio = new Bio(REQ_OP_WRITE, writeFlagsOf(this.#wbc), offsetBytes, () => {
      completionsOf(clock).add(() => this.#finishBuffer(buffer, bio), 1);
    });
    bio.addVector(buffer.data);
    buffer.bdev!.submitBio(bio, this.#context.plug);
  }

  #finishBuffer(buffer: BufferHead, bio: Bio): void {
    endFolioPart(this.#folio, buffer.offsetBytes, this.#blockBytes, bio);
    buffer.hasWriteError = bio.status !== 0;
    buffer.isAsyncWrite = false;
    buffer.unlock();
    this.#state.writePendingBytes -= this.#blockBytes;
    if (this.#state.writePendingBytes === 0) this.#end();
  }

  #end(): void {
    this.#folio.endWriteback();
    callAll(this.#onWritten);
  }
}
