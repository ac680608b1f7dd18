/**
 * Buffered reads against a model: random mappings, block and folio sizes, parts that are uptodate
 * already, requests that complete in any order and fail. The model is an array of bytes.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runs as runCount } from "../../../test/support/runs.ts";
import { ScriptFs, type ScriptMapping, scriptMapping } from "../../../test/support/script-fs.ts";
import { openCacheFile } from "../../cache/cache-file.ts";
import { filemapRead } from "../../cache/filemap.ts";
import type { Folio } from "../../cache/folio.ts";
import { ReadaheadControl } from "../../cache/readahead.ts";
import { invalidateMappingPages } from "../../cache/truncate.ts";
import { EIO } from "../../lib/errno.ts";
import { MIB, pageOfByte, roundUp } from "../../lib/units.ts";
import { INDEX_MAX } from "../../lib/xarray.ts";
import { iomapReadahead, iomapReadFolio } from "./buffered-read.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  type IomapType,
} from "./iomap.ts";

const FOLIO_COUNT = 4;

/** A run of blocks: what it is, how long, and how far behind the last one it lies on the device. */
interface Run {
  readonly type: IomapType;
  readonly isNew: boolean;
  readonly blockCount: number;
  readonly gapBlocks: number;
}

type Step =
  | { readonly kind: "fill"; readonly folio: number; readonly blocks: readonly number[] }
  | { readonly kind: "read"; readonly folio: number }
  | { readonly kind: "readahead"; readonly folio: number; readonly count: number }
  | { readonly kind: "complete"; readonly pick: number; readonly fails: boolean }
  | { readonly kind: "evict" };

const runs = fc.array(
  fc.record({
    type: fc.constantFrom<IomapType>(
      IOMAP_MAPPED,
      IOMAP_MAPPED,
      IOMAP_HOLE,
      IOMAP_UNWRITTEN,
      IOMAP_DELALLOC,
    ),
    isNew: fc.nat(9).map((dice) => dice === 0),
    blockCount: fc.integer({ min: 1, max: 20 }),
    gapBlocks: fc.constantFrom(0, 0, 0, 1, 100),
  }),
  { maxLength: 12, size: "max" },
);

const folioNumber = fc.nat(FOLIO_COUNT - 1);
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant("fill" as const),
      folio: folioNumber,
      blocks: fc.array(fc.nat(40), { maxLength: 6, size: "max" }),
    }),
    fc.record({ kind: fc.constant("read" as const), folio: folioNumber }),
    fc.record({
      kind: fc.constant("readahead" as const),
      folio: folioNumber,
      count: fc.integer({ min: 1, max: FOLIO_COUNT }),
    }),
    fc.record({
      kind: fc.constant("complete" as const),
      pick: fc.nat(20),
      fails: fc.nat(4).map((dice) => dice === 0),
    }),
    fc.record({ kind: fc.constant("evict" as const) }),
  ),
  { minLength: 5, maxLength: 30, size: "max" },
);

const worlds = fc.record({
  blockShift: fc.integer({ min: 9, max: 16 }),
  extraOrder: fc.nat(2),
  sizeShare: fc.double({ min: 0, max: 1, noNaN: true }),
  isLate: fc.boolean(),
  runs,
  steps,
});

function mappingsOf(runsOfFile: readonly Run[], blockBytes: number): ScriptMapping[] {
  const mappings: ScriptMapping[] = [];
  let block = 0;
  let addrBytes = MIB;
  for (const { type, isNew, blockCount, gapBlocks } of runsOfFile) {
    const start = block * blockBytes;
    block += blockCount;
    addrBytes += gapBlocks * blockBytes;
    const hasAddr = type === IOMAP_MAPPED || type === IOMAP_UNWRITTEN;
    const options = { flags: isNew ? IOMAP_F_NEW : 0, ...(hasAddr ? { addrBytes } : {}) };
    mappings.push(scriptMapping(type, start, block * blockBytes, options));
    if (hasAddr) addrBytes += blockCount * blockBytes;
  }
  return mappings;
}

/** The real thing and the model side by side. */
class World {
  readonly fs: ScriptFs;
  readonly folioBytes: number;
  /** What each valid block must hold: the file's content, or the mark that the test put there. */
  readonly #model: Uint8Array;
  readonly #content: Uint8Array;

  constructor(fs: ScriptFs) {
    this.fs = fs;
    this.folioBytes = 4096 << fs.order;
    fs.device.isHeld = true;
    this.#content = fs.expected(0, FOLIO_COUNT * this.folioBytes);
    this.#model = this.#content.slice();
  }

  async take(step: Step): Promise<void> {
    const { fs } = this;
    if (step.kind === "fill") this.#fill(step.folio, step.blocks);
    else if (step.kind === "read") await this.#read(step.folio);
    else if (step.kind === "readahead") await this.#readahead(step.folio, step.count);
    else if (step.kind === "complete") {
      const { inFlight } = fs.device;
      const request = inFlight[step.pick % Math.max(inFlight.length, 1)];
      if (request !== undefined) fs.device.complete(request, step.fails ? -EIO : 0);
    } else this.#evict();
    this.check();
  }

  /** Compares every valid block, and the invariants of the block state. */
  check(): void {
    const { fs } = this;
    const { blockBytes } = fs.inode;
    fs.cache.verify();
    for (let at = 0; at < FOLIO_COUNT; at++) {
      const folio = this.#cached(at);
      if (folio === undefined) continue;
      const validBlocks = fs.uptodateBlocks(folio);
      for (const block of validBlocks) {
        const offset = block * blockBytes;
        const seen = folio.bytes.subarray(offset, offset + blockBytes);
        const start = at * this.folioBytes + offset;
        const isEqual = Buffer.compare(seen, this.#model.subarray(start, start + blockBytes)) === 0;
        expect(isEqual, `folio ${at}, block ${block}`).toBe(true);
      }
      const pendingBytes = folio.blockState?.readPendingBytes ?? 0;
      if (!folio.isLocked) expect(pendingBytes).toBe(0);
      if (folio.blockState !== null) expect(pendingBytes).toBe(this.#inFlightBytes(folio));
    }
  }

  /** Nothing fails any more: what is read is the file. */
  async finish(): Promise<void> {
    const { fs } = this;
    fs.device.isHeld = false;
    fs.device.completeAll();
    const into = new Uint8Array(fs.inode.size);
    const iocb = { file: openCacheFile(fs.mapping), posBytes: 0, flags: 0 };
    expect(await filemapRead(iocb, into)).toBe(fs.inode.size);
    expect(Buffer.compare(into, this.#model.subarray(0, fs.inode.size))).toBe(0);
    this.check();
    expect(fs.cache.lockedCount).toBe(0);
  }

  #cached(at: number): Folio | undefined {
    return this.fs.mapping.folioAt(pageOfByte(at * this.folioBytes));
  }

  /** The folio, locked by us and not uptodate; nothing if it is busy or has all. */
  #lockToFill(at: number): Folio | undefined {
    const cached = this.#cached(at);
    if (cached === undefined) return this.fs.addFolio(at * this.folioBytes);
    return !cached.isUptodate && cached.tryLock() ? cached : undefined;
  }

  #fill(at: number, blocks: readonly number[]): void {
    const { fs } = this;
    const folio = this.#lockToFill(at);
    if (folio === undefined) return;
    const { blockBytes } = fs.inode;
    const blockCount = this.folioBytes / blockBytes;
    if (blockCount > 1) {
      const valid = fs.uptodateBlocks(folio);
      const chosen = blocks.filter((block) => block < blockCount && !valid.includes(block));
      fs.fillBlocks(folio, chosen, 0xa5);
      for (const block of chosen) {
        const start = at * this.folioBytes + block * blockBytes;
        this.#model.fill(0xa5, start, start + blockBytes);
      }
    }
    folio.unlock();
  }

  async #read(at: number): Promise<void> {
    const folio = this.#lockToFill(at);
    if (folio === undefined) return;
    const missing = this.#missingBlocks([at]);
    const from = this.fs.device.requests.length;
    expect(await iomapReadFolio(folio, this.fs)).toBe(0);
    this.#checkRequests(from, missing);
  }

  async #readahead(first: number, count: number): Promise<void> {
    const { fs } = this;
    const added: number[] = [];
    for (let at = first; at < Math.min(first + count, FOLIO_COUNT); at++) {
      if (this.#cached(at) !== undefined) break;
      fs.addFolio(at * this.folioBytes);
      added.push(at);
    }
    if (added.length === 0) return;
    const pageCount = this.folioBytes / 4096;
    const index = first * pageCount;
    const rac = new ReadaheadControl(fs.mapping, null, index, added.length * pageCount);
    const missing = this.#missingBlocks(added);
    const from = fs.device.requests.length;
    await iomapReadahead(rac, fs);
    expect(rac.nrPages).toBe(0);
    this.#checkRequests(from, missing);
  }

  /** Blocks of the file that are to be read from the device for these folios. */
  #missingBlocks(folios: readonly number[]): Set<number> {
    const { fs } = this;
    const { blockBytes, size } = fs.inode;
    const blocksPerFolio = this.folioBytes / blockBytes;
    const missing = new Set<number>();
    for (const at of folios) {
      const valid = fs.uptodateBlocks(this.#cached(at)!);
      for (let block = 0; block < blocksPerFolio; block++) {
        const fileBlock = at * blocksPerFolio + block;
        if (valid.includes(block) || fileBlock * blockBytes >= size) continue;
        const { type, flags } = fs.mappingAt(fileBlock * blockBytes);
        if (type === IOMAP_MAPPED && flags === 0) missing.add(fileBlock);
      }
    }
    return missing;
  }

  /**
   * Every missing block is asked for once, nothing else is, and no two requests lie side by side.
   */
  #checkRequests(from: number, missing: Set<number>): void {
    const { fs } = this;
    const requests = fs.device.requests.slice(from);
    const { blockBytes } = fs.inode;
    const addresses: number[] = [];
    for (const block of missing) {
      const { addrBytes, offsetBytes } = fs.mappingAt(block * blockBytes);
      addresses.push(addrBytes + block * blockBytes - offsetBytes);
    }
    const asked: number[] = [];
    let endBytes = -1;
    for (const { offsetBytes, lengthBytes } of requests) {
      expect(offsetBytes).not.toBe(endBytes);
      endBytes = offsetBytes + lengthBytes;
      for (let at = offsetBytes; at < endBytes; at += blockBytes) asked.push(at);
    }
    expect(asked).toEqual(addresses);
  }

  #inFlightBytes(folio: Folio): number {
    let count = 0;
    for (const { bio } of this.fs.device.inFlight) {
      for (const { buffer, byteOffset, length } of bio.vectors) {
        const offset = byteOffset - folio.bytes.byteOffset;
        const isHere = offset >= 0 && offset < folio.sizeBytes;
        if (isHere && buffer === folio.bytes.buffer) count += length;
      }
    }
    return count;
  }

  #evict(): void {
    invalidateMappingPages(this.fs.mapping, 0, INDEX_MAX);
    for (let at = 0; at < FOLIO_COUNT; at++) {
      if (this.#cached(at) !== undefined) continue;
      const start = at * this.folioBytes;
      const end = start + this.folioBytes;
      this.#model.set(this.#content.subarray(start, end), start);
    }
  }
}

test("reads behave as an array of bytes, whatever is mapped, valid already, or fails", async () => {
  await fc.assert(
    fc.asyncProperty(worlds, async (world) => {
      const blockBytes = 2 ** world.blockShift;
      const order = Math.max(world.blockShift - 12, 0) + world.extraOrder;
      const fileBytes = FOLIO_COUNT * (4096 << order);
      const fs = new ScriptFs(mappingsOf(world.runs, blockBytes), {
        sizeBytes: Math.max(Math.floor(fileBytes * world.sizeShare), 1),
        blockBytes,
        order,
        arenaBytes: roundUp(fileBytes * 64, MIB),
      });
      if (world.isLate) fs.onBegin = () => Promise.resolve();
      const sides = new World(fs);
      for (const step of world.steps) await sides.take(step);
      await sides.finish();
    }),
    { numRuns: runCount(150) },
  );
});
