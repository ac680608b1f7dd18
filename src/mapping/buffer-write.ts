/**
 * Writes into the cache of a block-mapped file: what a folio needs before bytes are copied into it,
 * and what follows.
 *
 *     folio       [ block 8 | block 9 | block 10 | block 11 ]
 *     write                  ####################----------      in the file up to here: ----
 *     before      -          place    place       zeroed, if the file ends before it
 *                            and read, since only a part of it is overwritten
 *     after       -          dirty    dirty       -
 *
 *  1. Whoever writes has asked `GetBlock`, with `create`, for every block that he makes dirty: it
 *     has a place, or is promised one. So a disk that is full says so here, not in the write-out.
 *  2. Bytes of a block that are not overwritten are those of the file before it becomes dirty.
 *  3. No buffers are attached: the state of the blocks is enough, until a folio is confused.
 *
 * After `__block_write_begin`, `generic_write_end` and `block_truncate_page` in fs/buffer.c of
 * Linux.
 */
import { Bio, REQ_OP_READ, REQ_SYNC } from "../block/bio.ts";
import type { AddressSpace } from "../cache/address-space.ts";
import { attachBlockState } from "../cache/block-state.ts";
import type { Folio } from "../cache/folio.ts";
import { IOCB_NOWAIT, type Kiocb } from "../cache/kiocb.ts";
import { filemapWriteFolio } from "../cache/mapping-folio.ts";
import { I_DIRTY_INODE, markInodeDirty } from "../cache/superblock.ts";
import { EAGAIN, EIO, type Errno } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { blockOfByte, byteOfBlock, roundDown, roundUp } from "../lib/units.ts";
import { buffersOf } from "./buffer.ts";
import {
  askBlock,
  type BlockMap,
  type BlockQuestion,
  createBlockMap,
  type DeviceBuffers,
  type GetBlock,
} from "./get-block.ts";
import { noteBioFailure } from "./read-failure.ts";

/**
 * Prepares a write of `lengthBytes` from `posBytes` on (`block_write_begin`): the `writeBegin` of
 * block-mapped files. Returns the locked folio of the first byte, which may end before the write
 * does; or an errno, with nothing held: of `getBlock`, `-EIO` for a block that cannot be read, of
 * getting the folio. With `IOCB_NOWAIT` `-EAGAIN` takes the place of a read.
 */
export function blockWriteBegin(
  iocb: Kiocb,
  mapping: AddressSpace,
  posBytes: number,
  lengthBytes: number,
  getBlock: GetBlock,
  deviceBuffers?: DeviceBuffers,
): MaybeAsync<Folio | Errno> {
  const { flags, signal } = iocb;
  return andThen(filemapWriteFolio(mapping, posBytes, lengthBytes, flags, signal), (folio) => {
    if (typeof folio === "number") return folio;
    const from = posBytes - folio.posBytes;
    const end = Math.min(from + lengthBytes, folio.sizeBytes);
    const question: BlockQuestion = { inode: mapping.host, getBlock, create: true };
    const preparation = new FolioPreparation(folio, question, deviceBuffers);
    const mustWait = (flags & IOCB_NOWAIT) !== 0 && preparation.mayRead(from, end);
    const prepared = mustWait ? -EAGAIN : preparation.run(from, end);
    return andThen(prepared, (errno) => {
      if (errno === 0) return folio;
      folio.unlock();
      folio.put();
      return errno;
    });
  });
}

/**
 * Ends it (`generic_write_end`): the bytes that were copied are dirty, the file is at least as long
 * as they reach, and the folio is unlocked and put. Returns the bytes accepted: none if fewer were
 * copied than announced, and the folio has blocks that are not valid. Whoever writes behind the end
 * of the file has called `pagecacheIsizeExtended` before.
 */
export function blockWriteEnd(
  mapping: AddressSpace,
  posBytes: number,
  lengthBytes: number,
  copiedBytes: number,
  folio: Folio,
): number {
  const { host } = mapping;
  const isWhole = copiedBytes >= lengthBytes || folio.isUptodate;
  const acceptedBytes = isWhole ? copiedBytes : 0;
  const oldSize = host.size;
  if (acceptedBytes > 0) {
    const from = posBytes - folio.posBytes;
    dirtyBlocks(folio, from, from + acceptedBytes, host.blockBytes);
    if (posBytes + acceptedBytes > oldSize) {
      host.size = posBytes + acceptedBytes;
      unmapBuffers(folio, from, from + acceptedBytes);
    }
  }
  folio.unlock();
  folio.put();
  if (host.size > oldSize) markInodeDirty(host, I_DIRTY_INODE);
  return acceptedBytes;
}

/**
 * A file system may have to do something about a file that got longer before its data is written,
 * so `GetBlock` is asked for these blocks though it was before.
 */
function unmapBuffers(folio: Folio, from: number, end: number): void {
  for (const buffer of buffersOf(folio) ?? []) {
    const isTouched = buffer.offsetBytes < end && buffer.offsetBytes + buffer.data.length > from;
    if (isTouched) buffer.unmap();
  }
}

/** Makes the blocks that the range touches valid and dirty. The folio is locked. */
function dirtyBlocks(folio: Folio, from: number, end: number, blockBytes: number): void {
  const firstBytes = roundDown(from, blockBytes);
  const lengthBytes = roundUp(end, blockBytes) - firstBytes;
  const isPart = lengthBytes < folio.sizeBytes;
  if (isPart && !folio.isDirty) attachBlockState(folio, blockBytes);
  const state = folio.blockState;
  if (state !== null) state.setValid(firstBytes, lengthBytes);
  else folio.markUptodate();
  folio.markDirtyRange(firstBytes, lengthBytes);
}

/**
 * Zeroes the file from `fromBytes` to the end of that block, or to `endBytes` in it
 * (`block_truncate_page`), if the block has a place or one is promised; a hole is zero already. The
 * block becomes dirty. Returns 0 or an errno. Its caller holds the lock of the inode.
 */
export function blockTruncatePage(
  mapping: AddressSpace,
  fromBytes: number,
  getBlock: GetBlock,
  endBytes: number = roundUp(fromBytes, mapping.host.blockBytes),
): MaybeAsync<Errno> {
  const { host } = mapping;
  const { blockBytes } = host;
  const lengthBytes = endBytes - fromBytes;
  if (lengthBytes === 0) return 0;
  const map = createBlockMap();
  const question: BlockQuestion = { inode: host, getBlock };
  const asked = askBlock(question, blockOfByte(fromBytes, blockBytes), blockBytes, map);
  return andThen(asked, (errno) => {
    if (errno !== 0 || (!map.isMapped && !map.isDelay)) return errno;
    return andThen(filemapWriteFolio(mapping, fromBytes, lengthBytes), (folio) => {
      if (typeof folio === "number") return folio;
      const from = fromBytes - folio.posBytes;
      const end = from + lengthBytes;
      const prepared = new FolioPreparation(folio, question, undefined).run(from, end);
      return andThen(prepared, (failed) => {
        if (failed === 0) {
          folio.bytes.fill(0, from, end);
          dirtyBlocks(folio, from, end, blockBytes);
        }
        folio.unlock();
        folio.put();
        return failed;
      });
    });
  });
}

/** Makes a locked folio ready for a write; its state outlives the waits. */
class FolioPreparation {
  readonly #folio: Folio;
  readonly #question: BlockQuestion;
  readonly #deviceBuffers: DeviceBuffers | undefined;
  readonly #blockBytes: number;
  readonly #map: BlockMap = createBlockMap();
  #from = 0; // What is to be written of the folio.
  #end = 0;
  #next = 0; // The byte whose block is to be looked at.

  constructor(folio: Folio, question: BlockQuestion, deviceBuffers: DeviceBuffers | undefined) {
    this.#folio = folio;
    this.#question = question;
    this.#deviceBuffers = deviceBuffers;
    this.#blockBytes = question.inode.blockBytes;
  }

  /** True if a block may have to be read that a write of `from..end` changes in part. */
  mayRead(from: number, end: number): boolean {
    const eofBytes = this.#question.inode.size - this.#folio.posBytes;
    const isUnknown = (at: number): boolean =>
      roundDown(at, this.#blockBytes) < eofBytes && !this.#isValid(at);
    const isHeadPart = from % this.#blockBytes !== 0;
    const isTailPart = end % this.#blockBytes !== 0;
    return (isHeadPart && isUnknown(from)) || (isTailPart && isUnknown(end - 1));
  }

  /** Prepares the bytes `from..end` of the folio. Returns 0 or an errno. */
  run(from: number, end: number): MaybeAsync<Errno> {
    const folio = this.#folio;
    this.#from = from;
    this.#end = end;
    this.#next = roundDown(from, this.#blockBytes);
    const coversAll = from === 0 && end === folio.sizeBytes;
    if (!folio.isUptodate && !coversAll) this.#zeroBehindEof();
    return this.#prepareBlocks();
  }

  /** Blocks that neither the file nor the write reaches are zeros: so the folio may be complete. */
  #zeroBehindEof(): void {
    const folio = this.#folio;
    if (this.#blockBytes === folio.sizeBytes) return;
    const state = attachBlockState(folio, this.#blockBytes);
    const eofBytes = this.#question.inode.size - folio.posBytes;
    const unitBytes = this.#blockBytes;
    const behind = Math.max(0, roundUp(eofBytes, unitBytes), roundUp(this.#end, unitBytes));
    if (behind < folio.sizeBytes) this.#zero(behind, folio.sizeBytes);
    if (behind < folio.sizeBytes) state.setValid(behind, folio.sizeBytes - behind);
    const firstBytes = roundDown(this.#from, unitBytes);
    const gap = Math.max(0, roundUp(eofBytes, unitBytes));
    if (gap >= firstBytes) return;
    this.#zero(gap, firstBytes);
    state.setValid(gap, firstBytes - gap);
  }

  #prepareBlocks(): MaybeAsync<Errno> {
    while (this.#next < this.#end) {
      const at = this.#next;
      if (this.#isDirty(at)) {
        this.#next += this.#blockBytes; // It has a place, or the promise of one.
        continue;
      }
      const fileBlock = blockOfByte(this.#folio.posBytes + at, this.#blockBytes);
      const wantedBytes = roundUp(this.#end, this.#blockBytes) - at;
      this.#map.folio = this.#folio;
      const asked = askBlock(this.#question, fileBlock, wantedBytes, this.#map);
      const taken = isPromise(asked)
        ? asked.then((errno) => this.#take(at, errno))
        : this.#take(at, asked);
      if (isPromise(taken))
        return taken.then((errno) => (errno === 0 ? this.#prepareBlocks() : errno));
      if (taken !== 0) return taken;
    }
    return 0;
  }

  #isDirty(at: number): boolean {
    const { blockState, isDirty } = this.#folio;
    return blockState === null ? isDirty : isDirty && blockState.isDirty(at, this.#blockBytes);
  }

  /** The run at `at` has a place: fetches or zeroes what of it will not be overwritten. */
  #take(at: number, errno: Errno): MaybeAsync<Errno> {
    const map = this.#map;
    if (errno !== 0) return errno;
    const hasAnswer = map.isMapped || map.isDelay || this.#question.create !== true;
    if (!hasAnswer) return -EIO;
    const runBytes = map.isMapped || map.isDelay ? map.sizeBytes : this.#blockBytes;
    const endBytes = Math.min(at + runBytes, roundUp(this.#end, this.#blockBytes));
    this.#next = endBytes;
    if (map.isMapped && !map.isNew) return this.#readEdges(at, endBytes);
    this.#zeroEdge(at, Math.max(at, Math.min(this.#from, endBytes)));
    this.#zeroEdge(Math.min(Math.max(this.#end, at), endBytes), endBytes);
    if (!map.isNew || this.#deviceBuffers === undefined) return 0;
    const count = (endBytes - at) / this.#blockBytes;
    return andThen(this.#deviceBuffers.cleanAliases(map.blocknr, count), () => 0);
  }

  /** Zeroes `from..end`, part of one block that has no content yet, unless the folio knows some. */
  #zeroEdge(from: number, end: number): void {
    if (from < end && !this.#isValid(from)) this.#zero(from, end);
  }

  #zero(from: number, end: number): void {
    this.#folio.bytes.fill(0, from, end);
  }

  #isValid(at: number): boolean {
    const folio = this.#folio;
    if (folio.isUptodate) return true;
    return folio.blockState?.isValid(roundDown(at, this.#blockBytes), this.#blockBytes) ?? false;
  }

  /** Reads the first and the last block of the run `at..end`, if they are written in part. */
  #readEdges(at: number, end: number): MaybeAsync<Errno> {
    const { blocknr, bdev } = this.#map;
    const readAt = (block: number): MaybeAsync<Errno> => {
      const isWhole = block >= this.#from && block + this.#blockBytes <= this.#end;
      if (isWhole || this.#isValid(block)) return 0;
      return this.#read(bdev!, blocknr + (block - at) / this.#blockBytes, block);
    };
    const last = end - this.#blockBytes;
    const first = readAt(at);
    return andThen(first, (errno) => (errno !== 0 || last === at ? errno : readAt(last)));
  }

  #read(bdev: NonNullable<BlockMap["bdev"]>, blocknr: number, at: number): Promise<Errno> {
    const folio = this.#folio;
    return new Promise((resolve) => {
      const offsetBytes = byteOfBlock(blocknr, this.#blockBytes);
      const bio = new Bio(REQ_OP_READ, REQ_SYNC, offsetBytes, () => {
        noteBioFailure(folio, bio);
        if (bio.status === 0) this.#markValid(at);
        resolve(bio.status);
      });
      bio.addVector(folio.bytes.subarray(at, at + this.#blockBytes));
      bdev.submitBio(bio);
    });
  }

  #markValid(at: number): void {
    const folio = this.#folio;
    if (this.#blockBytes === folio.sizeBytes) folio.markUptodate();
    else attachBlockState(folio, this.#blockBytes).setValid(at, this.#blockBytes);
  }
}
