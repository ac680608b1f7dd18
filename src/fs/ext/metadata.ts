/**
 * Metadata blocks for synchronous code: decoders ask for a block and have it, or are run again.
 *
 * Decoders of ext2/3/4 are plain functions over bytes. A block that is not cached is *thrown*, as a
 * `BlockMiss`; the runner reads it, holds it, and starts the function anew, which now gets further:
 *
 *     run(lookup) --> lookup: block(7) ok, block(9) miss --throw--> runner reads 9, pins it
 *                 --> lookup: block(7) ok, block(9) ok, .. returns  --> value
 *
 * So a lookup whose blocks are cached makes no promise, and `trySync` turns a miss into "not now".
 *
 *  1. A function given to `run` has no side effects before its last block is there.
 *  2. A block that `run` has read stays until `run` ends, until as many later ones came as it may
 *     hold, or until memory is short.
 *  3. `run` reads at most `MISSES_MAX` times: a loop in an image ends as `EUCLEAN`, not never.
 *  4. A run that waits for memory holds no block. Where memory is short one run at a time goes on,
 *     and may take all of the reserve.
 *
 * Left out: writing, which is `attempt.ts`, over the buffers that are handed out here.
 */
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { AsyncMutex } from "../../lib/locks.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { isPromise } from "../../lib/maybe.ts";
import type { BufferHead } from "../../mapping/buffer.ts";
import type { BufferCache } from "../../mapping/buffer-cache.ts";

/** Blocks that one run holds at most, whatever the size of the arena. The earliest goes first. */
const PINNED_MAX = 128;
/** And at least, which is what a walk down a tree looks at again and again. */
const PINNED_MIN = 4;
/** Between these, what one run holds is at most this share of the arena. */
const PINNED_SHARE = 32;
/** Times that a run tries for the memory of one block. */
const SHORT_TRIES_MAX = 4;
/** Misses that one run may have: enough for every block of a directory of a million names. */
const MISSES_MAX = 65_536;

/** Thrown where a block is not cached. Not an error: only `Metadata` catches it. */
export class BlockMiss {
  readonly blocknr: number;
  /** First and number of the blocks that will be wanted with it, to be read in one request. */
  readonly aheadFirst: number;
  readonly count: number;

  constructor(blocknr: number, aheadFirst: number, count: number) {
    this.blocknr = blocknr;
    this.aheadFirst = aheadFirst;
    this.count = count;
  }
}

/**
 * Judges a block once after it was loaded. Throws `FsError` `EBADMSG` or `EUCLEAN`, naming the
 * block. `arg` is what the check needs to know, such as the inode that owns the block.
 */
export type BlockVerifier<A> = (data: Uint8Array, blocknr: number, arg: A) => void;

/** What `trySync` returns where the device would have to be read. */
export const NEEDS_IO: unique symbol = Symbol("needs I/O");

/** What a run under way holds. */
interface Pins {
  readonly buffers: BufferHead[];
  /** It has met a shortage of memory, and the others that do wait for its end. */
  isAlone: boolean;
}

/** The metadata of one file system, over the buffers of its device. */
export class Metadata {
  readonly buffers: BufferCache;
  readonly blockCount: number;
  /** Blocks that one run holds at most. */
  readonly #pinnedMax: number;
  /** Held by the one run that goes on while memory is short. */
  readonly #alone = new AsyncMutex();
  readonly #verifiedBy = new WeakMap<BufferHead, unknown>();
  /** Told of damage that a run has met, before its caller is. */
  onDamage: ((damage: FsError) => void) | undefined;
  /** Told each time that a run finds no memory, and is about to wait for some. */
  onShortage: (() => void) | undefined;
  /** Called before a block is judged: one that was changed gets its checksum. */
  beforeVerify: ((blocknr: number) => void) | undefined;

  constructor(buffers: BufferCache, blockCount: number) {
    this.buffers = buffers;
    this.blockCount = blockCount;
    const { arena } = buffers.mapping.cache;
    const shareFrames = Math.floor(arena.frameCount / PINNED_SHARE);
    const shareBlocks = Math.floor(shareFrames / 2 ** buffers.mapping.minOrder);
    this.#pinnedMax = Math.min(PINNED_MAX, Math.max(PINNED_MIN, shareBlocks));
  }

  /**
   * Bytes of block `blocknr`, valid until the caller's function ends. Borrowed: not to be written.
   *
   * @throws {BlockMiss} if it is not cached: let it pass
   * @throws {FsError} `EUCLEAN` for a block outside the file system
   */
  block(blocknr: number): Uint8Array {
    return this.#buffer(blocknr, blocknr, 1).data;
  }

  /**
   * As `block`, after `verifier` has accepted the content. While the block is cached it is judged
   * once, but anew when another `verifier` comes: a block that a damaged image uses twice, for an
   * extent node and for a directory, passes both. What depends on `arg` beyond a checksum the
   * caller checks itself. On a miss the blocks `aheadFirst` (default: `blocknr`) .. +
   * `aheadCount` are read along with it.
   */
  verified<A>(
    blocknr: number,
    verifier: BlockVerifier<A>,
    arg: A,
    aheadCount = 1,
    aheadFirst: number = blocknr,
  ): Uint8Array {
    const buffer = this.#buffer(blocknr, aheadFirst, aheadCount);
    if (!buffer.isVerified || this.#verifiedBy.get(buffer) !== verifier) {
      this.beforeVerify?.(blocknr);
      verifier(buffer.data, blocknr, arg);
      buffer.isVerified = true;
      this.#verifiedBy.set(buffer, verifier);
    }
    return buffer.data;
  }

  /**
   * As `block`; on a miss the blocks `aheadFirst` .. + `aheadCount`, one of them ours, are read
   * too.
   */
  blockWithin(blocknr: number, aheadFirst: number, aheadCount: number): Uint8Array {
    return this.#buffer(blocknr, aheadFirst, aheadCount).data;
  }

  /** Starts reading `count` blocks from `first` on; a hint, cut to the file system. */
  readahead(first: number, count: number): void {
    const end = Math.min(first + count, this.blockCount);
    if (first >= 0 && end > first) this.buffers.breadahead(first, end - first);
  }

  /**
   * Runs `attempt` until it has all its blocks, and returns its value: at once if they were cached.
   *
   * @throws {FsError} what `attempt` throws; `EIO` naming the block that cannot be read;
   *   `EUCLEAN` if it wants endlessly many blocks
   * @throws the reason of `signal`
   */
  run<T>(attempt: () => T, signal?: AbortSignal): MaybeAsync<T> {
    try {
      return attempt();
    } catch (thrown) {
      if (thrown instanceof BlockMiss) return this.#runAsync(attempt, thrown, signal);
      this.#noteDamage(thrown);
      throw thrown;
    }
  }

  #noteDamage(thrown: unknown): void {
    if (this.onDamage === undefined || !(thrown instanceof FsError)) return;
    if (thrown.code === "EUCLEAN" || thrown.code === "EBADMSG") this.onDamage(thrown);
  }

  /** The value of `attempt`, or `NEEDS_IO` if a block is not cached. Never reads, never waits. */
  trySync<T>(attempt: () => T): T | typeof NEEDS_IO {
    try {
      return attempt();
    } catch (thrown) {
      if (thrown instanceof BlockMiss) return NEEDS_IO;
      throw thrown;
    }
  }

  /** The buffer of block `blocknr`, not held. Throws as `block`. */
  buffer(blocknr: number): BufferHead {
    return this.#buffer(blocknr, blocknr, 1);
  }

  /**
   * As `buffer`, for a block whose content does not matter: it is not read (`sb_getblk`). Throws
   * `BlockMiss` only where it is being read, or memory is short: then it is loaded after all.
   */
  newBuffer(blocknr: number): BufferHead {
    this.#checkRange(blocknr);
    const buffer = this.buffers.getblk(blocknr);
    if (buffer === undefined) throw new BlockMiss(blocknr, blocknr, 1);
    return buffer;
  }

  #checkRange(blocknr: number): void {
    if (blocknr >= 0 && blocknr < this.blockCount) return;
    const detail = `block ${blocknr} is outside the file system of ${this.blockCount} blocks`;
    throw new FsError("EUCLEAN", { detail });
  }

  #buffer(blocknr: number, aheadFirst: number, aheadCount: number): BufferHead {
    this.#checkRange(blocknr);
    const buffer = this.buffers.peek(blocknr);
    if (buffer === undefined) throw new BlockMiss(blocknr, aheadFirst, aheadCount);
    return buffer;
  }

  async #runAsync<T>(attempt: () => T, first: BlockMiss, signal?: AbortSignal): Promise<T> {
    const pins: Pins = { buffers: [], isAlone: false };
    let miss = first;
    try {
      for (let misses = 1; misses <= MISSES_MAX; misses++) {
        signal?.throwIfAborted();
        if (pins.buffers.length === this.#pinnedMax) this.buffers.brelse(pins.buffers.shift()!);
        pins.buffers.push(await this.#loadAmid(pins, miss, signal));
        try {
          return attempt();
        } catch (thrown) {
          if (!(thrown instanceof BlockMiss)) {
            this.#noteDamage(thrown);
            throw thrown;
          }
          miss = thrown;
        }
      }
      throw new FsError("EUCLEAN", {
        detail: "a structure of the image leads through endless blocks",
      });
    } finally {
      this.#unpin(pins);
      if (pins.isAlone) this.#alone.unlock();
    }
  }

  /**
   * Loads a block for a run. Where memory is short, that may be held by runs that all wait for
   * more: so a run that waits gives its own back (invariant 4).
   */
  async #loadAmid(pins: Pins, miss: BlockMiss, signal?: AbortSignal): Promise<BufferHead> {
    if (miss.count > 1) this.readahead(miss.aheadFirst, miss.count);
    const { clock } = this.buffers.mapping.cache;
    for (let tries = 1; ; tries++) {
      try {
        const reading = this.buffers.breadIfRoom(miss.blocknr, pins.isAlone, signal);
        return isPromise(reading) ? await reading : reading;
      } catch (thrown) {
        if (!isShort(thrown) || tries === SHORT_TRIES_MAX) throw thrown;
      }
      this.#unpin(pins);
      this.onShortage?.();
      if (pins.isAlone) await this.#waitForMemory(pins, miss, signal);
      await this.#alone.lock(signal);
      pins.isAlone = true;
      await clock.turn(); // Others may be about to give back theirs.
    }
  }

  /** Waits as others do, and lets another run be the one that goes on meanwhile. */
  async #waitForMemory(pins: Pins, miss: BlockMiss, signal?: AbortSignal): Promise<void> {
    pins.isAlone = false;
    this.#alone.unlock();
    try {
      const reading = this.buffers.bread(miss.blocknr, signal);
      this.buffers.brelse(isPromise(reading) ? await reading : reading);
    } catch (thrown) {
      if (!isShort(thrown)) throw thrown;
    }
  }

  #unpin(pins: Pins): void {
    for (const buffer of pins.buffers.splice(0)) this.buffers.brelse(buffer);
  }
}

function isShort(thrown: unknown): boolean {
  return hasErrnoCode(thrown) && thrown.code === "ENOMEM";
}
