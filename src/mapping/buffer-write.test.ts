import { describe, expect, test } from "vitest";
import { BlockMappedFile, HOLE } from "../../test/support/block-mapped-file.ts";
import { genericPerformWrite } from "../cache/filemap-write.ts";
import type { Folio } from "../cache/folio.ts";
import { WB_SYNC_NONE, WritebackControl } from "../cache/writeback-control.ts";
import { equalBytes } from "../lib/bytes.ts";
import { EIO, ENOSPC } from "../lib/errno.ts";
import { Random } from "../lib/random.ts";
import { KIB } from "../lib/units.ts";
import { buffersOf } from "./buffer.ts";
import { blockTruncatePage, blockWriteBegin, blockWriteEnd } from "./buffer-write.ts";
import type { GetBlock } from "./get-block.ts";
import { mpageWritepages } from "./mpage-write.ts";

/** A file of blocks of 1 KiB, each where `blocks` say. */
function fileOf(blocks: readonly number[], isize?: number): BlockMappedFile {
  return new BlockMappedFile({
    blockBytes: KIB,
    blocks,
    deviceBlocks: 200,
    ...(isize === undefined ? {} : { isize }),
  });
}

/** Lets each hole have a new block from 100 on, once it is written. */
function allocating(file: BlockMappedFile, isDelay = false): Map<number, number> {
  const placed = new Map<number, number>();
  const place: GetBlock = (_inode, fileBlock, map, create) => {
    const answer = file.mapBlock(fileBlock, map);
    if (map.isMapped) {
      map.sizeBytes = KIB;
      return answer;
    }
    const known = placed.get(fileBlock);
    if (known === undefined && !create) return 0;
    if (known === undefined && isDelay && map.folio?.isWriteback === false && isPreparing) {
      map.isDelay = true;
      map.sizeBytes = KIB;
      return 0;
    }
    map.isMapped = true;
    map.isNew = known === undefined;
    map.bdev = file.device;
    map.blocknr = known ?? 100 + placed.size;
    map.sizeBytes = KIB;
    placed.set(fileBlock, map.blocknr);
    return 0;
  };
  let isPreparing = true;
  file.getBlockHook = place;
  Object.assign(file.mapping.ops, {
    writepages: (mapping: BlockMappedFile["mapping"], wbc: WritebackControl) => {
      isPreparing = false;
      const written = mpageWritepages(mapping, wbc, file.getBlock, file.buffers);
      isPreparing = true;
      return written;
    },
  });
  return placed;
}

async function write(file: BlockMappedFile, posBytes: number, bytes: Uint8Array): Promise<number> {
  return genericPerformWrite({ file: file.file, posBytes, flags: 0 }, bytes);
}

describe("a write into the cache of a block-mapped file", () => {
  test("of whole blocks reads nothing, and only these are dirty", async () => {
    const file = fileOf([50, 51, 52, 53]);
    expect(await write(file, KIB, new Uint8Array(2 * KIB).fill(7))).toBe(2 * KIB);
    expect(file.device.bios).toEqual([]);
    const folio = file.folioAt(0);
    expect([folio.isDirty, folio.isUptodate, folio.isLocked]).toEqual([true, false, false]);
    expect(buffersOf(folio)).toBeNull();
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[51]S", "W[52]S"]);
    expect(file.onDevice(51, 2)).toEqual(new Uint8Array(2 * KIB).fill(7));
  });

  test("of a part of blocks reads just these blocks first", async () => {
    const file = fileOf([50, 51, 52, 53]);
    const old = file.content();
    expect(await write(file, 100, new Uint8Array(3000).fill(7))).toBe(3000);
    expect(file.device.bios).toEqual(["R[50]S", "R[53]S"]);
    old.fill(7, 100, 3100);
    expect(await file.read(0, 4 * KIB)).toEqual(old);
    expect(await file.writeOut()).toBe(0);
    expect(file.content()).toEqual(old);
  });

  test("a read of the rest keeps what was written", async () => {
    const file = fileOf([50, 51, 52, 53]);
    const expected = file.content();
    await write(file, 2 * KIB, new Uint8Array(KIB).fill(9));
    expected.fill(9, 2 * KIB, 3 * KIB);
    expect(await file.read(0, 4 * KIB)).toEqual(expected);
    expect(file.folioAt(0).isDirty).toBe(true);
  });

  test("into a new block makes the rest of it zeros", async () => {
    const file = fileOf([50, HOLE, 52, 53]);
    allocating(file);
    const expected = file.content();
    await write(file, KIB + 10, new Uint8Array(20).fill(1));
    expected.fill(1, KIB + 10, KIB + 30);
    expect(await file.writeOut()).toBe(0);
    expect(file.onDevice(100)).toEqual(expected.slice(KIB, 2 * KIB));
    expect(await file.read(0, 4 * KIB)).toEqual(expected);
  });

  test("behind the end makes the page complete without a read", async () => {
    const file = fileOf([], 0);
    const placed = allocating(file);
    await write(file, 0, new Uint8Array(100).fill(1));
    expect(file.folioAt(0).isUptodate).toBe(true);
    await write(file, 100, new Uint8Array(1500).fill(2));
    expect(file.inode.size).toBe(1600);
    expect(file.device.bios).toEqual([]);
    await file.writeOut();
    expect([...placed.values()]).toEqual([100, 101]);
    expect(file.device.bios).toEqual(["W[100-101]S"]);
    expect(
      file
        .onDevice(101)
        .subarray(576)
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  test("promised room gets its place in the write-out", async () => {
    const file = fileOf([], 0);
    const placed = allocating(file, true);
    await write(file, 0, new Uint8Array(8 * KIB).fill(3));
    expect(placed.size).toBe(0);
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[100-107]S"]);
    expect(file.onDevice(100, 8)).toEqual(new Uint8Array(8 * KIB).fill(3));
  });

  test("that finds no room says so, and leaves no page locked", async () => {
    const file = fileOf([50, HOLE, HOLE, HOLE]);
    file.getBlockHook = (_inode, fileBlock, map) =>
      fileBlock >= 1 ? -ENOSPC : file.mapBlock(fileBlock, map);
    expect(await write(file, KIB, new Uint8Array(10))).toBe(-ENOSPC);
    expect(await write(file, 0, new Uint8Array(KIB))).toBe(KIB);
    expect(file.cache.lockedCount).toBe(0);
  });

  test("that cannot read a block it needs is an EIO, and changes nothing", async () => {
    const file = fileOf([50, 51, 52, 53]);
    file.store.inject({ op: "read" });
    expect(await write(file, 100, new Uint8Array(10))).toBe(-EIO);
    expect(file.cache.lockedCount).toBe(0);
    expect(file.folioAt(0).isDirty).toBe(false);
    expect(await file.read(0, 4 * KIB)).toEqual(file.content());
  });

  test("a short copy into blocks that are not valid counts as none", async () => {
    const file = fileOf([50, 51, 52, 53]);
    const iocb = { file: file.file, posBytes: 0, flags: 0 };
    const begin = (): unknown =>
      blockWriteBegin(iocb, file.mapping, 0, 2 * KIB, file.getBlock, file.buffers);
    const folio = (await begin()) as Folio;
    expect(blockWriteEnd(file.mapping, 0, 2 * KIB, KIB, folio)).toBe(0);
    expect([folio.isDirty, folio.isLocked]).toEqual([false, false]);
    const again = (await begin()) as Folio;
    expect(blockWriteEnd(file.mapping, 0, 2 * KIB, 2 * KIB, again)).toBe(2 * KIB);
    expect(again.isDirty).toBe(true);
  });
});

describe("blockTruncatePage", () => {
  test("zeroes to the end of the block, and leaves a hole alone", async () => {
    const file = fileOf([50, HOLE, 52, 53]);
    const expected = file.content();
    expect(await blockTruncatePage(file.mapping, 2 * KIB + 100, file.getBlock)).toBe(0);
    expect(await blockTruncatePage(file.mapping, KIB + 100, file.getBlock)).toBe(0);
    expect(await blockTruncatePage(file.mapping, 3 * KIB, file.getBlock)).toBe(0);
    expect(file.device.bios).toEqual(["R[52]S"]);
    expected.fill(0, 2 * KIB + 100, 3 * KIB);
    expect(await file.writeOut()).toBe(0);
    expect(file.content()).toEqual(expected);
  });
});

describe("a write-out that fails", () => {
  test("keeps what failed dirty where that is asked for, and writes it later", async () => {
    const file = new BlockMappedFile({
      blockBytes: KIB,
      blocks: [50, 51, 90, 91, 60, 61, 62, 63],
      deviceBlocks: 200,
      onWriteError: "keep",
    });
    file.dirty(0, 1);
    // Twice: as a part of the request for 90 and 91, and alone.
    file.store.inject({ op: "write", startBytes: 90 * KIB, endBytes: 91 * KIB, calls: 2 });
    expect(await file.writeOut()).toBe(0);
    expect(file.mapping.wbErr.check(0)).toBe(-EIO);
    const folio = file.folioAt(0);
    expect([folio.isDirty, file.folioAt(1).isDirty]).toEqual([true, false]);
    expect(buffersOf(folio)!.map((buffer) => buffer.isDirty)).toEqual([false, false, true, false]);
    expect(buffersOf(folio)!.every((buffer) => buffer.isUptodate)).toBe(true);
    file.device.events.length = 0;
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[90]S"]);
    expect(folio.isDirty).toBe(false);
    file.cache.verify();
  });

  test("keeps a block without a place dirty, and writes the others", async () => {
    const file = new BlockMappedFile({
      blockBytes: KIB,
      blocks: [50, 51, HOLE, 53],
      deviceBlocks: 200,
      onWriteError: "keep",
    });
    file.getBlockHook = (_inode, fileBlock, map) =>
      fileBlock === 2 ? -ENOSPC : file.mapBlock(fileBlock, map);
    file.dirty(0, 0);
    const wbc = new WritebackControl({ syncMode: WB_SYNC_NONE });
    expect(await mpageWritepages(file.mapping, wbc, file.getBlock)).toBe(-ENOSPC);
    await file.settle();
    expect(file.device.bios).toEqual(["W[50]", "W[51]"]);
    const dirty = buffersOf(file.folioAt(0))!.map((buffer) => buffer.isDirty);
    expect(dirty).toEqual([false, false, true, true]);
    expect(file.folioAt(0).isDirty).toBe(true);
    file.cache.verify();
  });

  test("calls what getBlock has given along once, whatever became of the page", async () => {
    const file = fileOf([50, 51, 90, 91, 60, 61, 62, 63]);
    let given = 0;
    let called = 0;
    file.getBlockHook = (_inode, fileBlock, map) => {
      const errno = file.mapBlock(fileBlock, map);
      map.sizeBytes = KIB;
      given++;
      map.onWritten = () => called++;
      return errno;
    };
    file.dirty(0, 1);
    file.store.inject({ op: "write", calls: Infinity });
    await file.writeOut();
    expect(given).toBeGreaterThan(7);
    expect(called).toBe(given);
  });
});

test("writes in any order are what a reader finds, before and after the write-out", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new Random(seed);
    const file = fileOf([50, HOLE, 52, 53, HOLE, HOLE, 60, 61, 62], 8 * KIB + 100);
    allocating(file, seed % 2 === 0);
    let model = file.content();
    for (let step = 0; step < 30; step++) {
      const posBytes = random.below(model.length + 1);
      const bytes = random.bytes(1 + random.below(3000));
      expect(await write(file, posBytes, bytes)).toBe(bytes.length);
      const next = new Uint8Array(Math.max(model.length, posBytes + bytes.length));
      next.set(model);
      next.set(bytes, posBytes);
      model = next;
      if (random.below(3) === 0) expect(await file.writeOut()).toBe(0);
      const found = (await file.read(0, model.length)) as Uint8Array;
      expect(equalBytes(found, model), `seed ${seed}, step ${step}`).toBe(true);
    }
    await file.writeOut();
    expect(file.cache.nrDirty).toBe(0);
    file.cache.verify();
  }
});
