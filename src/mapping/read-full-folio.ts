/**
 * Reads a folio block by block through its buffers: the way for folios that mpage finds confused.
 *
 *     blocks      uptodate     hole          mapped          mapped
 *     action      skip         zero, valid   one bio         one bio
 *
 *  1. The folio is unlocked once: by the last of its bios, or at once if none was needed.
 *  2. A bio is handed down only when the next block that needs one is known, and the last one at
 *     the end. So `readPendingBytes` cannot reach 0 while blocks are still to come, also when
 *     `GetBlock` waits in between.
 *  3. A block that could not be mapped stays invalid, so the folio does; the others are read all
 *     the same, which makes them usable (`blockIsPartiallyUptodate`).
 *
 * After `block_read_full_folio` in fs/buffer.c of Linux.
 */
import { Bio, REQ_OP_READ } from "../block/bio.ts";
import type { Plug } from "../block/plug.ts";
import type { Folio } from "../cache/folio.ts";
import { assert } from "../lib/assert.ts";
import type { Errno } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, byteOfBlock } from "../lib/units.ts";
import { type BufferHead, createEmptyBuffers } from "./buffer.ts";
import { completionsOf } from "./completion.ts";
import {
  askBlock,
  type BlockMap,
  type BlockQuestion,
  clearBlockMap,
  createBlockMap,
  type GetBlock,
} from "./get-block.ts";
import { noteBioFailure } from "./read-failure.ts";

/**
 * Reads a locked folio of a block-mapped mapping through buffers, which it attaches
 * (`block_read_full_folio`). Blocks that are valid already are not read again, holes and blocks
 * behind the end of the file become zeros. The folio is unlocked when all is done, uptodate if
 * all went well. Returns 0 always; a promise only if `getBlock`, or a read of one of the blocks
 * by others, has to be waited for.
 */
export function blockReadFullFolio(folio: Folio, getBlock: GetBlock): MaybeAsync<Errno> {
  assert(folio.isLocked && folio.mapping !== null, "readFolio gets a locked folio of a mapping");
  const question = { inode: folio.mapping.host, getBlock };
  const started = new FullFolioRead(folio, question, undefined).run();
  return isPromise(started) ? started.then(() => 0) : 0;
}

/** The end of a block's bio. */
function endBufferRead(bio: Bio): void {
  const buffer = bio.private as BufferHead;
  const { clock } = buffer.folio.mapping!.cache;
  noteBioFailure(buffer.folio, bio);
  completionsOf(clock).add(() => finishBuffer(buffer, bio), 1);
}

/**
 * One block was read, or not; the last one ends the read of the folio (`end_buffer_async_read`).
 */
function finishBuffer(buffer: BufferHead, bio: Bio): void {
  const { folio } = buffer;
  const state = folio.blockState;
  const isOk = bio.status === 0;
  if (state === null) {
    buffer.unlock();
    folio.endRead(isOk);
    return;
  }
  if (isOk) buffer.markUptodate();
  buffer.unlock();
  state.readPendingBytes -= buffer.data.length;
  if (state.readPendingBytes === 0) folio.endRead(state.isAllValid);
}

/** One read of that kind, whose state outlives the waits for `GetBlock`. */
export class FullFolioRead {
  readonly #folio: Folio;
  readonly #question: BlockQuestion;
  readonly #plug: Plug | undefined;
  readonly #blockBytes: number;
  readonly #buffers: readonly BufferHead[];
  readonly #firstFileBlock: number;
  readonly #map: BlockMap = createBlockMap();
  #next = 0; // The buffer to look at.
  #delayed: BufferHead | null = null; // Locked, its bio not yet handed down.
  #hasFailed = false;

  constructor(folio: Folio, question: BlockQuestion, plug: Plug | undefined) {
    this.#folio = folio;
    this.#question = question;
    this.#plug = plug;
    this.#blockBytes = question.inode.blockBytes;
    this.#buffers = createEmptyBuffers(folio, this.#blockBytes);
    this.#firstFileBlock = blockOfByte(folio.posBytes, this.#blockBytes);
    this.#map.folio = folio;
  }

  /**
   * Goes on with the buffer at `#next`. False if the folio failed without any I/O. Never throws.
   */
  run(): MaybeAsync<boolean> {
    for (; this.#next < this.#buffers.length; this.#next++) {
      const buffer = this.#buffers[this.#next]!;
      if (buffer.isLocked) {
        this.#plug?.flush();
        return buffer.waitUnlocked().then(() => this.run()); // Then it is looked at anew.
      }
      if (buffer.isUptodate) continue;
      if (buffer.isMapped) {
        this.#queue(buffer);
        continue;
      }
      const errno = this.#ask();
      if (isPromise(errno)) {
        this.#plug?.flush();
        return errno.then((late) => {
          this.#take(buffer, late);
          this.#next++;
          return this.run();
        });
      }
      this.#take(buffer, errno);
    }
    return this.#finish();
  }

  /** Asks where the buffer at `#next` lies; behind the end of the file is a hole. */
  #ask(): MaybeAsync<Errno> {
    const fileBlock = this.#firstFileBlock + this.#next;
    const endBlock = blocksOfBytes(this.#question.inode.size, this.#blockBytes);
    if (fileBlock < endBlock) {
      return askBlock(this.#question, fileBlock, this.#blockBytes, this.#map);
    }
    clearBlockMap(this.#map);
    return 0;
  }

  #take(buffer: BufferHead, errno: Errno): void {
    const map = this.#map;
    if (errno !== 0) this.#hasFailed = true;
    if (!map.isMapped) {
      buffer.data.fill(0);
      if (errno === 0) buffer.markUptodate();
      return;
    }
    buffer.map(map.bdev!, map.blocknr);
    buffer.isBoundary = map.isBoundary;
    if (map.isUptodate) buffer.markUptodate();
    else this.#queue(buffer);
  }

  /** Counts the buffer as being read, and hands the one before it down. */
  #queue(buffer: BufferHead): void {
    buffer.lock();
    if (this.#folio.blockState !== null) {
      this.#folio.blockState.readPendingBytes += this.#blockBytes;
    }
    this.#submitDelayed();
    this.#delayed = buffer;
  }

  #submitDelayed(): void {
    const buffer = this.#delayed;
    if (buffer === null) return;
    this.#delayed = null;
    const offsetBytes = byteOfBlock(buffer.blocknr, this.#blockBytes);
    const bio = new Bio(REQ_OP_READ, 0, offsetBytes, endBufferRead);
    bio.private = buffer;
    bio.addVector(buffer.data);
    buffer.bdev!.submitBio(bio, this.#plug);
  }

  #finish(): boolean {
    if (this.#delayed === null) {
      this.#folio.endRead(!this.#hasFailed);
      return !this.#hasFailed;
    }
    this.#submitDelayed();
    return true;
  }
}
