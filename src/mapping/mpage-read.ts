/**
 * `MpageReader`: turns folios, handed to it in ascending order, into as few bios as their blocks
 * allow.
 *
 *     folios     [ 0 ][ 1 ][ 2 ]  hole  [ 4 ][ 5 ]      one vector per folio
 *     device       10   11   12           13   30
 *     bios       |----- R[10-13] -------------| |R[30]|
 *
 * A folio is simple if its blocks lie side by side on one device, with holes only behind them.
 * Every other folio is *confused* and goes through its buffers, block by block
 * (`read-full-folio.ts`). It serves one walk: `mpageReadahead` and the others in `mpage.ts`.
 *
 * The walk is synchronous while `GetBlock` is: then no promise is made. Where `GetBlock` has to
 * wait, the state of the folio in hand stays in fields and the walk goes on from there.
 *
 *  1. `#bio` holds folios that are adjacent on `#bioDevice`, and is not submitted while it may
 *     grow.
 *  2. A bio is never submitted later than one of a later folio: confused submits it first.
 *  3. Before a wait for `GetBlock` the *submitted* bios leave the plug, the one under construction
 *     stays: metadata lies in another mapping and cannot depend on it (rule JS-4). That is why the
 *     boundary flag matters: it makes the bio leave before the metadata read does.
 *  4. Every folio given to `read` is unlocked exactly once: by its bio, at once, or by its buffers.
 *
 * After `do_mpage_readpage` in fs/mpage.c of Linux. Left out: failing to allocate a bio.
 */
import { Bio, REQ_OP_READ } from "../block/bio.ts";
import type { BlockDevice } from "../block/block-device.ts";
import type { Plug } from "../block/plug.ts";
import type { AddressSpace } from "../cache/address-space.ts";
import type { Folio } from "../cache/folio.ts";
import { assert } from "../lib/assert.ts";
import type { Errno } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { blockOfByte, blocksOfBytes, byteOfBlock, byteOfPage } from "../lib/units.ts";
import { createEmptyBuffers } from "./buffer.ts";
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
import { FullFolioRead } from "./read-full-folio.ts";

/** Every folio of the bio was read, or none was (`mpage_read_end_io`). */
function mpageReadEndIo(bio: Bio): void {
  const folios = bio.private as Folio[];
  const { clock } = folios[0]!.mapping!.cache;
  noteBioFailure(folios[0], bio);
  completionsOf(clock).add(() => {
    for (const folio of folios) folio.endRead(bio.status === 0);
  }, folios.length);
}

/** See the head of the file (`struct mpage_readpage_args`). */
export class MpageReader {
  readonly #question: BlockQuestion;
  readonly #blockBytes: number;
  readonly #flags: number;
  readonly #plug: Plug | undefined;

  // The last answer of `GetBlock`, from file block `#runFirst` on.
  readonly #map: BlockMap = createBlockMap();
  #runFirst = 0;

  #bio: Bio | null = null;
  #bioDevice: BlockDevice | null = null;
  #bioEndBlock = 0; // The device block that would continue `#bio`.

  // The folio in hand.
  #folio: Folio | null = null;
  #fileBlock = 0; // Its first block in the file.
  #fileEndBlock = 0; // The walk and the file end here, whichever comes first.
  #blockCount = 0; // Blocks in the folio; of these ..
  #knownCount = 0; // .. so many are mapped or known to be holes, ..
  #firstHole = 0; // .. and all from this one on are holes; `#blockCount` if there is none.
  #device: BlockDevice | null = null;
  #firstBlock = 0; // Where the folio begins on `#device`.

  constructor(
    mapping: AddressSpace,
    getBlock: GetBlock,
    options: { readonly flags: number; readonly plug: Plug | undefined },
  ) {
    this.#question = { inode: mapping.host, getBlock };
    this.#blockBytes = mapping.host.blockBytes;
    this.#flags = options.flags;
    this.#plug = options.plug;
  }

  /**
   * Reads `folio`, which is locked and not uptodate, the first of `pageCount` pages still to come.
   * False if it failed without any I/O: it is unlocked, and a readahead ends here. Never throws.
   */
  read(folio: Folio, pageCount: number): MaybeAsync<boolean> {
    const blockBytes = this.#blockBytes;
    const walkEndBytes = folio.posBytes + byteOfPage(pageCount);
    this.#folio = folio;
    this.#fileBlock = blockOfByte(folio.posBytes, blockBytes);
    this.#fileEndBlock = Math.min(
      blockOfByte(walkEndBytes, blockBytes),
      blocksOfBytes(this.#question.inode.size, blockBytes),
    );
    this.#blockCount = folio.sizeBytes / blockBytes;
    this.#knownCount = 0;
    this.#firstHole = this.#blockCount;
    // A state without buffers: some of its blocks are valid, as a write has left them.
    if (folio.private !== null || folio.blockState !== null) return this.#confused(folio);
    if (this.#isInRun(this.#fileBlock)) this.#takeRun();
    const isSimple = this.#mapBlocks();
    if (isPromise(isSimple)) return isSimple.then((is) => this.#finish(folio, is));
    return this.#finish(folio, isSimple);
  }

  /** Submits the bio under construction, if there is one (`mpage_bio_submit_read`). */
  submit(): void {
    const bio = this.#bio;
    if (bio === null) return;
    this.#bio = null;
    this.#bioDevice!.submitBio(bio, this.#plug);
  }

  /** True if the last answer covers `fileBlock` too. */
  #isInRun(fileBlock: number): boolean {
    const runCount = this.#map.sizeBytes / this.#blockBytes;
    return (
      this.#map.isMapped && fileBlock >= this.#runFirst && fileBlock < this.#runFirst + runCount
    );
  }

  /** Asks until every block of the folio is known. False: confused. */
  #mapBlocks(): MaybeAsync<boolean> {
    while (this.#knownCount < this.#blockCount) {
      const fileBlock = this.#fileBlock + this.#knownCount;
      this.#runFirst = fileBlock;
      if (fileBlock >= this.#fileEndBlock) {
        clearBlockMap(this.#map);
        this.#takeHole();
        continue;
      }
      const wantedBytes = byteOfBlock(this.#fileEndBlock - fileBlock, this.#blockBytes);
      this.#map.folio = this.#folio;
      const answer = askBlock(this.#question, fileBlock, wantedBytes, this.#map);
      if (isPromise(answer)) {
        this.#plug?.flush();
        return answer.then((errno) => this.#take(errno) && this.#mapBlocks());
      }
      if (!this.#take(answer)) return false;
    }
    return true;
  }

  /** Fits the answer of `GetBlock` into the folio. False: confused. */
  #take(errno: Errno): boolean {
    if (errno !== 0) return false;
    if (!this.#map.isMapped) {
      this.#takeHole();
      return true;
    }
    if (this.#map.isUptodate) {
      this.#takeData();
      return false;
    }
    return this.#firstHole === this.#blockCount && this.#takeRun();
  }

  #takeHole(): void {
    if (this.#firstHole === this.#blockCount) this.#firstHole = this.#knownCount;
    this.#knownCount++;
  }

  /** Takes what the folio needs of the current run. False if it does not continue the folio. */
  #takeRun(): boolean {
    const map = this.#map;
    const usedCount = this.#fileBlock + this.#knownCount - this.#runFirst;
    const leftCount = map.sizeBytes / this.#blockBytes - usedCount;
    const block = map.blocknr + usedCount;
    if (this.#knownCount === 0) {
      this.#device = map.bdev;
      this.#firstBlock = block;
    } else if (this.#device !== map.bdev || block !== this.#firstBlock + this.#knownCount) {
      return false;
    }
    const neededCount = this.#blockCount - this.#knownCount;
    this.#knownCount += Math.min(leftCount, neededCount);
    return true;
  }

  /** `GetBlock` has filled the block in the folio itself (`map_buffer_to_folio`). */
  #takeData(): void {
    const folio = this.#folio!;
    const buffer = createEmptyBuffers(folio, this.#blockBytes)[this.#knownCount]!;
    buffer.map(this.#map.bdev!, this.#map.blocknr);
    buffer.markUptodate();
    clearBlockMap(this.#map);
  }

  #finish(folio: Folio, isSimple: boolean): MaybeAsync<boolean> {
    if (!isSimple) return this.#confused(folio);
    const dataBytes = byteOfBlock(this.#firstHole, this.#blockBytes);
    const hasHole = this.#firstHole < this.#blockCount;
    if (hasHole) folio.bytes.fill(0, dataBytes);
    else folio.markMappedToDisk();
    if (this.#firstHole === 0) {
      folio.endRead(true);
      return true; // The bio is kept: the next folio may continue it.
    }
    this.#add(folio, hasHole ? folio.bytes.subarray(0, dataBytes) : folio.bytes);
    if (hasHole || this.#isAtBoundary()) this.submit();
    else this.#bioEndBlock = this.#firstBlock + this.#blockCount;
    return true;
  }

  /** True if the folio ends where the run does, and the next mapping costs a metadata read. */
  #isAtBoundary(): boolean {
    const runCount = this.#map.sizeBytes / this.#blockBytes;
    return this.#map.isBoundary && this.#fileBlock + this.#blockCount === this.#runFirst + runCount;
  }

  #add(folio: Folio, bytes: Uint8Array): void {
    const isNext = this.#bioDevice === this.#device && this.#bioEndBlock === this.#firstBlock;
    if (!isNext) this.submit();
    if (this.#bio?.addVector(bytes) === true) {
      (this.#bio.private as Folio[]).push(folio);
      return;
    }
    this.submit(); // It was full.
    const offsetBytes = byteOfBlock(this.#firstBlock, this.#blockBytes);
    const bio = new Bio(REQ_OP_READ, this.#flags, offsetBytes, mpageReadEndIo);
    const hasRoom = bio.addVector(bytes);
    assert(hasRoom, "an empty bio takes a folio");
    bio.private = [folio];
    this.#bio = bio;
    this.#bioDevice = this.#device;
  }

  /** Reads the folio block by block, behind the bio under construction. */
  #confused(folio: Folio): MaybeAsync<boolean> {
    this.submit();
    if (!folio.isUptodate) return new FullFolioRead(folio, this.#question, this.#plug).run();
    folio.unlock();
    return true;
  }
}
