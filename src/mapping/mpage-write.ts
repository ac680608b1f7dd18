/**
 * mpage, the write half: dirty folios of a block-mapped file, many to a bio.
 *
 *     folios     [ 0 ][ 1 ][ 2 ]  [ 4 ][ 5 ]           one vector per folio
 *     device       10   11   12     13   30
 *     bios       |----- W[10-13] -----| |W[30]|
 *
 * A folio is simple if its blocks below the end of the file are all dirty and lie side by side on
 * one device. Every other one is *confused* and goes through its buffers, block by block
 * (`write-full-folio.ts`). `GetBlock` is asked with `create`, under the lock of the folio.
 *
 *  1. `#bio` holds folios under writeback, unlocked, that are adjacent on `#bioDevice`. It is
 *     submitted before anything is waited for (rule JS-4), and never later than one of a later
 *     folio.
 *  2. Every folio given to `write` is unlocked exactly once, and what `GetBlock` has given along
 *     with it (`onWritten`) is called once, when its write has ended or it was given up.
 *  3. A failed bio fails all its folios. What becomes of them: `folio-write.ts`.
 *
 * After `mpage_writepages` and `mpage_write_folio` in fs/mpage.c of Linux, and the manual page of
 * the former. Left out: failing to allocate a bio.
 */
import { Bio, REQ_OP_WRITE } from "../block/bio.ts";
import type { BlockDevice } from "../block/block-device.ts";
import { Plug } from "../block/plug.ts";
import type { AddressSpace } from "../cache/address-space.ts";
import type { Folio } from "../cache/folio.ts";
import { genericWritepages, WritebackIter } from "../cache/page-writeback.ts";
import type { WritebackControl } from "../cache/writeback-control.ts";
import { assert } from "../lib/assert.ts";
import type { Errno } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, byteOfBlock } from "../lib/units.ts";
import { type BufferHead, buffersOf } from "./buffer.ts";
import { completionsOf } from "./completion.ts";
import { callAll, endFolioPart, plugOfBatch, zeroBehindEof } from "./folio-write.ts";
import {
  askBlock,
  type BlockMap,
  type BlockQuestion,
  createBlockMap,
  type DeviceBuffers,
  type GetBlock,
} from "./get-block.ts";
import { blockWriteFullFolio, dirtyStateOf, writeFlagsOf } from "./write-full-folio.ts";

/**
 * Writes the dirty folios of `mapping` that `wbc` asks for (`mpage_writepages`): with `getBlock` by
 * bios of adjacent folios, with `null` by `ops.writepage`, folio by folio.
 *
 * Everything is submitted when it returns or resolves; what it was is under writeback. Returns 0 or
 * the first error, by the rules of `WritebackIter`. `deviceBuffers` are the cached blocks of the
 * device, which must not fight with those of the file: new blocks are forgotten there, and an
 * indirect block that lies behind its data is written with it.
 */
export function mpageWritepages(
  mapping: AddressSpace,
  wbc: WritebackControl,
  getBlock: GetBlock | null,
  deviceBuffers?: DeviceBuffers,
): MaybeAsync<Errno> {
  if (getBlock === null) return genericWritepages(mapping, wbc);
  const writer = new MpageWriter(mapping, wbc, getBlock, deviceBuffers);
  const outerBeforeWait = wbc.beforeWait;
  wbc.beforeWait = () => {
    outerBeforeWait?.();
    writer.flush();
  };
  const iter = new WritebackIter(mapping, wbc);
  const finish = (): Errno => {
    writer.end();
    wbc.beforeWait = outerBeforeWait;
    return iter.error;
  };
  const walk = (): MaybeAsync<Errno> => {
    for (;;) {
      const next = iter.next();
      if (isPromise(next)) return next.then((folio) => writeOne(folio));
      const written = next === null ? null : writer.write(next);
      if (isPromise(written)) return written.then(noteAndGoOn);
      if (written === null) return finish();
      iter.error = written;
    }
  };
  const noteAndGoOn = (errno: Errno): MaybeAsync<Errno> => {
    iter.error = errno;
    return walk();
  };
  const writeOne = (folio: Folio | null): MaybeAsync<Errno> =>
    folio === null ? finish() : andThen(writer.write(folio), noteAndGoOn);
  return walk();
}

/** What a bio of this file has to tell at its end. */
interface MpageWrite {
  readonly folios: Folio[];
  /** Bytes of the last folio that are in the bio; of the others all are. */
  lastBytes: number;
  readonly onWritten: (() => void)[];
}

/** All folios of the bio were written, or none was (`mpage_write_end_io`). */
function mpageWriteEndIo(bio: Bio): void {
  const { folios, lastBytes, onWritten } = bio.private as MpageWrite;
  const { clock } = folios[0]!.mapping!.cache;
  completionsOf(clock).add(() => {
    for (const folio of folios) {
      const isLast = folio === folios[folios.length - 1];
      endFolioPart(folio, 0, isLast ? lastBytes : folio.sizeBytes, bio);
      folio.endWriteback();
    }
    callAll(onWritten);
  }, folios.length);
}

/** See the head of the file (`struct mpage_data`). One per walk. */
class MpageWriter {
  readonly #mapping: AddressSpace;
  readonly #wbc: WritebackControl;
  readonly #question: BlockQuestion;
  readonly #deviceBuffers: DeviceBuffers | undefined;
  readonly #blockBytes: number;
  readonly #plug: Plug;
  readonly #map: BlockMap = createBlockMap();

  #bio: Bio | null = null;
  #bioDevice: BlockDevice | null = null;
  #bioEndBlock = 0; // The device block that would continue `#bio`.

  // The folio in hand.
  #fileBlock = 0; // Its first block in the file.
  #neededCount = 0; // Its blocks below the end of the file; of these ..
  #knownCount = 0; // .. so many are mapped.
  #device: BlockDevice | null = null;
  #firstBlock = 0; // Where it begins on `#device`.
  #isBoundary = false; // The last mapping is the last of an indirect block.
  #onWritten: (() => void)[] = [];

  constructor(
    mapping: AddressSpace,
    wbc: WritebackControl,
    getBlock: GetBlock,
    deviceBuffers: DeviceBuffers | undefined,
  ) {
    this.#mapping = mapping;
    this.#wbc = wbc;
    this.#plug = plugOfBatch(wbc) ?? new Plug();
    this.#question = { inode: mapping.host, getBlock, create: true };
    this.#deviceBuffers = deviceBuffers;
    this.#blockBytes = mapping.host.blockBytes;
  }

  /**
   * Writes `folio`, which the walk has handed out: locked, its flag dirty taken away. Returns 0 or
   * the errno for which data was given up or kept back. Never throws.
   */
  write(folio: Folio): MaybeAsync<Errno> {
    const { host } = this.#mapping;
    this.#fileBlock = blockOfByte(folio.posBytes, this.#blockBytes);
    this.#neededCount = Math.min(
      folio.sizeBytes / this.#blockBytes,
      Math.max(0, blocksOfBytes(host.size, this.#blockBytes) - this.#fileBlock),
    );
    this.#knownCount = 0;
    this.#isBoundary = false;
    this.#onWritten = [];
    if (this.#neededCount === 0) return this.#confused(folio);
    const buffers = buffersOf(folio);
    if (buffers !== null) return this.#finish(folio, this.#takeBuffers(folio, buffers));
    if (!this.#isAllDirty(folio)) return this.#confused(folio);
    const isSimple = this.#mapBlocks(folio);
    if (isPromise(isSimple)) return isSimple.then((is) => this.#finish(folio, is));
    return this.#finish(folio, isSimple);
  }

  /** Submits what is held back. */
  flush(): void {
    this.#submit();
    this.#plug.flush();
  }

  /** The walk is over; what is held back may wait for that of the next file. */
  end(): void {
    this.#submit();
    if (this.#wbc.batch === null) this.#plug.flush();
  }

  /** Submits the bio under construction, if there is one (`mpage_bio_submit_write`). */
  #submit(): void {
    const bio = this.#bio;
    if (bio === null) return;
    this.#bio = null;
    this.#bioDevice!.submitBio(bio, this.#plug);
  }

  #isAllDirty(folio: Folio): boolean {
    if (!folio.isUptodate) return false;
    const neededBytes = byteOfBlock(this.#neededCount, this.#blockBytes);
    return folio.blockState === null || folio.blockState.nextClean(0, neededBytes) === neededBytes;
  }

  /** Takes over where the buffers lie. False: confused. */
  #takeBuffers(folio: Folio, buffers: readonly BufferHead[]): boolean {
    dirtyStateOf(folio, this.#blockBytes); // From now on, buffers know whether they are dirty.
    let isTail = false;
    for (const buffer of buffers.slice(0, this.#neededCount)) {
      if (buffer.isLocked) return false;
      if (!buffer.isMapped) {
        if (buffer.isDirty) return false;
        isTail = true;
      } else if (isTail || !buffer.isDirty || !buffer.isUptodate) {
        return false;
      } else if (!this.#takeBlock(buffer.bdev!, buffer.blocknr)) {
        return false;
      } else {
        this.#isBoundary = buffer.isBoundary;
      }
    }
    return this.#knownCount > 0;
  }

  /** The next block of the folio lies there. False if it does not continue the ones before. */
  #takeBlock(device: BlockDevice, blocknr: number): boolean {
    if (this.#knownCount === 0) {
      this.#device = device;
      this.#firstBlock = blocknr;
    } else if (this.#device !== device || blocknr !== this.#firstBlock + this.#knownCount) {
      return false;
    }
    this.#knownCount++;
    return true;
  }

  /** Asks for one block after the other. False: confused. */
  #mapBlocks(folio: Folio): MaybeAsync<boolean> {
    while (this.#knownCount < this.#neededCount) {
      this.#map.folio = folio;
      const fileBlock = this.#fileBlock + this.#knownCount;
      const asked = askBlock(this.#question, fileBlock, this.#blockBytes, this.#map);
      if (isPromise(asked)) this.#wbc.beforeWait?.();
      const taken = isPromise(asked) ? asked.then((errno) => this.#take(errno)) : this.#take(asked);
      if (isPromise(taken)) {
        this.#wbc.beforeWait?.();
        return taken.then((isSimple) => isSimple && this.#mapBlocks(folio));
      }
      if (!taken) return false;
    }
    return true;
  }

  /** Fits the answer of `GetBlock` into the folio. False: confused. */
  #take(errno: Errno): MaybeAsync<boolean> {
    const map = this.#map;
    if (map.onWritten) this.#onWritten.push(map.onWritten);
    if (errno !== 0 || !map.isMapped) return false;
    this.#isBoundary = map.isBoundary;
    const isNext = this.#takeBlock(map.bdev!, map.blocknr);
    if (!map.isNew || this.#deviceBuffers === undefined) return isNext;
    const cleaned = this.#deviceBuffers.cleanAliases(map.blocknr, 1);
    return isPromise(cleaned) ? cleaned.then(() => isNext) : isNext;
  }

  #finish(folio: Folio, isSimple: boolean): MaybeAsync<Errno> {
    const { host } = this.#mapping;
    // The file may have got shorter while a mapping was waited for.
    if (!isSimple || folio.posBytes >= host.size) return this.#confused(folio);
    zeroBehindEof(folio, host.size);
    const dataBytes = byteOfBlock(this.#knownCount, this.#blockBytes);
    const isShort = dataBytes < folio.sizeBytes;
    this.#add(folio, isShort ? folio.bytes.subarray(0, dataBytes) : folio.bytes);
    const state = folio.blockState;
    if (state !== null) {
      state.startInFlight(0, dataBytes);
      state.clearDirty(dataBytes, folio.sizeBytes - dataBytes);
    }
    const endBlock = this.#firstBlock + this.#knownCount;
    const isBoundary = this.#isBoundary;
    folio.startWriteback();
    folio.unlock();
    if (isShort || isBoundary) this.#submit();
    else this.#bioEndBlock = endBlock;
    if (isBoundary) this.#deviceBuffers?.writeIfDirty(endBlock);
    return 0;
  }

  #add(folio: Folio, bytes: Uint8Array): void {
    const isNext = this.#bioDevice === this.#device && this.#bioEndBlock === this.#firstBlock;
    if (!isNext) this.#submit();
    if (this.#bio?.addVector(bytes) !== true) {
      this.#submit(); // It was full.
      const offsetBytes = byteOfBlock(this.#firstBlock, this.#blockBytes);
      const flags = writeFlagsOf(this.#wbc);
      const bio = new Bio(REQ_OP_WRITE, flags, offsetBytes, mpageWriteEndIo);
      const hasRoom = bio.addVector(bytes);
      assert(hasRoom, "an empty bio takes a folio");
      bio.private = { folios: [], lastBytes: 0, onWritten: [] } satisfies MpageWrite;
      this.#bio = bio;
      this.#bioDevice = this.#device;
    }
    const write = this.#bio!.private as MpageWrite;
    write.folios.push(folio);
    write.lastBytes = bytes.length;
    for (const call of this.#onWritten) write.onWritten.push(call);
  }

  /** Writes the folio block by block, behind the bio under construction. */
  #confused(folio: Folio): MaybeAsync<Errno> {
    this.#submit();
    return blockWriteFullFolio(folio, this.#wbc, this.#question.getBlock, {
      plug: this.#plug,
      deviceBuffers: this.#deviceBuffers,
      onWritten: this.#onWritten,
    });
  }
}
