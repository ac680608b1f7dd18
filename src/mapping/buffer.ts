/**
 * Buffer heads: the blocks of a folio one by one, where each lies on a device and what state it
 * is in.
 *
 *     folio 4096      [    block 8   |   block 9    |   block 10   |   block 11   ]
 *     folio.private     BufferHead     BufferHead     BufferHead     BufferHead
 *       maps to         device 50      device 51      (hole)         device 90
 *     folio.blockState  valid          valid, dirty   -              valid, in flight
 *
 * Two users: files of which a folio is *confused* (mpage), and the device's own address space
 * (`buffer-cache.ts`), where the metadata of a file system lies. A folio has buffers or is iomap's.
 *
 *  1. A buffer is uptodate exactly if its bytes are valid in the folio's block state, or, where
 *     the folio is one block, if the folio is: there is one truth for each byte (spec/README.md
 *     section 3). The same holds for dirty.
 *  2. `isLocked` spans a read or a write of the block; whoever locked it unlocks it, from
 *     completion.
 *  3. Each hold of a buffer is a reference to its folio. A folio with a held or locked buffer
 *     keeps its buffers, so it is not reclaimed.
 *  4. A buffer whose write failed stays uptodate: its bytes are the newest there are.
 *
 * After fs/buffer.c of Linux and `struct buffer_head`. What writes buffers: `buffer-write.ts`.
 */
import type { Bio } from "../block/bio.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { attachBlockState } from "../cache/block-state.ts";
import type { Folio } from "../cache/folio.ts";
import { assert } from "../lib/assert.ts";
import { WaitQueue } from "../lib/locks.ts";
import { roundDown, roundUp } from "../lib/units.ts";

/** One block of a folio (`struct buffer_head`). See the head of the file. */
export class BufferHead {
  readonly folio: Folio;
  /** Where the block begins in the folio. */
  readonly offsetBytes: number;
  /**
   * The block's bytes in the arena. Valid while the folio is cached, so at least while it is
   * held.
   */
  readonly data: Uint8Array;
  #device: BlockDevice | null = null;
  #blocknr = 0;
  #isLocked = false;
  #holdCount = 0;
  #waiters: WaitQueue | null = null; // Made for the first waiter, as most blocks never have one.
  /** The last mapping said so (`buffer_boundary`). */
  isBoundary = false;
  /** It was allocated just now: what the device holds there is not the file's (`buffer_new`). */
  isNew = false;
  /** Not mapped, but its write-out will find room (`buffer_delay`). */
  isDelay = false;
  /** It is being written as a part of its folio (`buffer_async_write`). */
  isAsyncWrite = false;
  /** Its last write failed (`buffer_write_io_error`). */
  hasWriteError = false;
  /** The bio with which its last read failed; `null` after readahead, for which nobody waited. */
  readFailure: Bio | null = null;
  /**
   * For the owner of the data: its checksum or structure was found good. Lasts as long as the
   * data.
   */
  isVerified = false;

  constructor(folio: Folio, offsetBytes: number, blockBytes: number) {
    const isWhole = blockBytes === folio.sizeBytes;
    this.folio = folio;
    this.offsetBytes = offsetBytes;
    this.data = isWhole ? folio.bytes : folio.bytes.subarray(offsetBytes, offsetBytes + blockBytes);
  }

  /** True once it is known where the block lies (`buffer_mapped`). */
  get isMapped(): boolean {
    return this.#device !== null;
  }

  /** The device it lies on, `null` while it is not mapped. */
  get bdev(): BlockDevice | null {
    return this.#device;
  }

  /** Its block on the device, in blocks of its own length; meaningless while it is not mapped. */
  get blocknr(): number {
    return this.#blocknr;
  }

  /** True while a read or a write of it is queued or in flight (`buffer_locked`). */
  get isLocked(): boolean {
    return this.#isLocked;
  }

  /** True while somebody holds it or I/O of it is not done (`buffer_busy`). */
  get isBusy(): boolean {
    return this.#holdCount > 0 || this.#isLocked;
  }

  /** True if `data` is what the device holds, or newer (`buffer_uptodate`). */
  get isUptodate(): boolean {
    const folio = this.folio;
    if (folio.isUptodate) return true;
    return folio.blockState?.isValid(this.offsetBytes, this.data.length) ?? false;
  }

  /** True if `data` is newer than what the device holds (`buffer_dirty`). */
  get isDirty(): boolean {
    const { folio } = this;
    return folio.blockState?.isDirty(this.offsetBytes, this.data.length) ?? folio.isDirty;
  }

  /** Sets where it lies (`map_bh`). */
  map(device: BlockDevice, blocknr: number): void {
    this.#device = device;
    this.#blocknr = blocknr;
    this.isDelay = false;
  }

  /** Forgets where it lies, so that its next write asks again. What is in flight goes on. */
  unmap(): void {
    this.#device = null;
    this.isBoundary = false;
  }

  /** Forgets where it lies, and that it is dirty, as after a truncate (`discard_buffer`). */
  discard(): void {
    this.unmap();
    this.isNew = false;
    this.isDelay = false;
    this.clearDirty();
  }

  /**
   * Makes the block, which is uptodate, dirty, and its folio with it (`mark_buffer_dirty`). The
   * folio is locked, or something else keeps it in its file.
   */
  markDirty(): void {
    this.folio.markDirtyRange(this.offsetBytes, this.data.length);
  }

  /** Forgets that the block is dirty (`clear_buffer_dirty`). The folio's own flag is left alone. */
  clearDirty(): void {
    this.folio.blockState?.clearDirty(this.offsetBytes, this.data.length);
  }

  /**
   * Makes the block valid (`set_buffer_uptodate`); with the last block the folio becomes
   * uptodate.
   */
  markUptodate(): void {
    const state = this.folio.blockState;
    if (state !== null) state.setValid(this.offsetBytes, this.data.length);
    else this.folio.markUptodate();
  }

  /** Takes it for a read or a write (`lock_buffer`, of one that is free). */
  lock(): void {
    assert(!this.#isLocked, "a locked buffer has an owner");
    this.#isLocked = true;
    this.readFailure = null;
  }

  /** Ends the read or write and wakes all who wait for it (`unlock_buffer`). */
  unlock(): void {
    assert(this.#isLocked, "only a locked buffer is unlocked");
    this.#isLocked = false;
    this.#waiters?.wakeAll();
  }

  /**
   * Resolves when it was unlocked; it may be locked again by then (`wait_on_buffer`).
   * @throws the reason of `signal`, as soon as it is aborted
   */
  async waitUnlocked(signal?: AbortSignal): Promise<void> {
    if (!this.#isLocked) return;
    this.#waiters ??= new WaitQueue();
    await this.#waiters.wait(signal);
  }

  /** Keeps it and its folio in memory until `release` (`get_bh`). */
  hold(): void {
    this.#holdCount++;
    this.folio.get();
  }

  /** Gives one hold back (`put_bh`). */
  release(): void {
    assert(this.#holdCount > 0, "a buffer is released as often as it was held");
    this.#holdCount--;
    this.folio.put();
  }
}

/** The buffers of `folio` in the order of its bytes, or `null` if it has none (`folio_buffers`). */
export function buffersOf(folio: Folio): readonly BufferHead[] | null {
  const buffers = folio.private;
  return Array.isArray(buffers) ? buffers : null;
}

/**
 * Gives `folio` a buffer for each block of `blockBytes` and returns them, or the ones it has
 * (`create_empty_buffers`). They are not mapped, and uptodate as far as the folio is valid.
 */
export function createEmptyBuffers(folio: Folio, blockBytes: number): readonly BufferHead[] {
  const present = buffersOf(folio);
  if (present !== null) return present;
  assert(folio.private === null, "a folio has buffers or another owner, not both");
  assert(folio.sizeBytes % blockBytes === 0, "a block does not span folios");
  if (blockBytes < folio.sizeBytes) attachBlockState(folio, blockBytes);
  const buffers: BufferHead[] = [];
  for (let at = 0; at < folio.sizeBytes; at += blockBytes) {
    buffers.push(new BufferHead(folio, at, blockBytes));
  }
  folio.private = buffers;
  return buffers;
}

/**
 * Takes the buffers and the state of the blocks off a locked, clean folio so that it can leave the
 * cache (`try_to_free_buffers`): the `releaseFolio` of block-mapped files and of devices. False if
 * it is not clean, or one of its buffers is busy.
 */
export function tryToFreeBuffers(folio: Folio): boolean {
  if (folio.isDirty || folio.isWriteback) return false;
  for (const buffer of buffersOf(folio) ?? []) if (buffer.isBusy) return false;
  folio.private = null;
  folio.blockState = null;
  return true;
}

/**
 * Forgets the blocks that lie wholly in a range of a locked folio, because the file ends before
 * it or has a hole there now (`block_invalidate_folio`). The whole folio loses its buffers, held
 * or not.
 */
export function blockInvalidateFolio(folio: Folio, offsetBytes: number, lengthBytes: number): void {
  const endBytes = offsetBytes + lengthBytes;
  for (const buffer of buffersOf(folio) ?? []) {
    const bufferEndBytes = buffer.offsetBytes + buffer.data.length;
    if (buffer.offsetBytes >= offsetBytes && bufferEndBytes <= endBytes) buffer.discard();
  }
  if (lengthBytes === folio.sizeBytes) {
    folio.private = null;
    folio.blockState = null;
    return;
  }
  const unitBytes = folio.mapping!.host.blockBytes;
  const first = roundUp(offsetBytes, unitBytes);
  const end = roundDown(endBytes, unitBytes);
  if (end <= first || !folio.isDirty) return;
  // What was dirty as a whole is so only in part now.
  attachBlockState(folio, unitBytes).clearDirty(first, end - first);
}

/**
 * True if all blocks that the range touches are valid, though the folio as a whole is not
 * (`block_is_partially_uptodate`). A range that reaches past the folio is cut at its end.
 */
export function blockIsPartiallyUptodate(
  folio: Folio,
  fromBytes: number,
  countBytes: number,
): boolean {
  const state = folio.blockState;
  if (state === null) return false;
  return state.isValid(fromBytes, Math.min(countBytes, folio.sizeBytes - fromBytes));
}
