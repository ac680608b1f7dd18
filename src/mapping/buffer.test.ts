import { describe, expect, test } from "vitest";
import { BlockMappedFile } from "../../test/support/block-mapped-file.ts";
import {
  blockInvalidateFolio,
  blockIsPartiallyUptodate,
  buffersOf,
  createEmptyBuffers,
  tryToFreeBuffers,
} from "./buffer.ts";
import { blockReadFullFolio } from "./read-full-folio.ts";

/** A file of one page of four blocks, and its page, locked and not read. */
function onePage() {
  const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 52, 54, 56] });
  return { file, folio: file.lockedFolio(0) };
}

describe("buffers of a page", () => {
  test("are views of its bytes, made once", () => {
    const { folio } = onePage();
    expect(buffersOf(folio)).toBe(null);
    const buffers = createEmptyBuffers(folio, 1024);
    expect(buffers.map((buffer) => buffer.offsetBytes)).toEqual([0, 1024, 2048, 3072]);
    expect(createEmptyBuffers(folio, 1024)).toBe(buffers);
    expect(buffersOf(folio)).toBe(buffers);
    buffers[2]!.data.fill(7);
    expect(folio.bytes.subarray(2048, 3072)).toEqual(new Uint8Array(1024).fill(7));
    expect(buffers.every((buffer) => !buffer.isMapped && !buffer.isUptodate)).toBe(true);
  });

  test("are uptodate where the page is, and the last one makes it so", () => {
    const { folio } = onePage();
    const buffers = createEmptyBuffers(folio, 1024);
    for (const at of [3, 1, 0]) buffers[at]!.markUptodate();
    expect(buffers.map((buffer) => buffer.isUptodate)).toEqual([true, true, false, true]);
    expect(folio.isUptodate).toBe(false);
    buffers[2]!.markUptodate();
    expect(folio.isUptodate).toBe(true);
  });

  test("of one block share the flag of the page", () => {
    const file = new BlockMappedFile({ blocks: [50] });
    const folio = file.lockedFolio(0);
    const [buffer] = createEmptyBuffers(folio, 4096);
    expect(buffer!.isUptodate).toBe(false);
    buffer!.markUptodate();
    expect(folio.isUptodate && buffer!.isUptodate).toBe(true);
  });

  test("answer for the bytes of a page that is valid in part", () => {
    const { folio } = onePage();
    expect(blockIsPartiallyUptodate(folio, 0, 1)).toBe(false);
    const buffers = createEmptyBuffers(folio, 1024);
    buffers[1]!.markUptodate();
    buffers[2]!.markUptodate();
    expect(blockIsPartiallyUptodate(folio, 1024, 2048)).toBe(true);
    expect(blockIsPartiallyUptodate(folio, 1023, 2)).toBe(false);
    expect(blockIsPartiallyUptodate(folio, 3071, 2)).toBe(false);
    buffers[3]!.markUptodate();
    expect(blockIsPartiallyUptodate(folio, 3000, 100_000)).toBe(true);
  });
});

describe("tryToFreeBuffers", () => {
  test("refuses while one is held or locked", () => {
    const { folio } = onePage();
    const buffers = createEmptyBuffers(folio, 1024);
    buffers[1]!.hold();
    expect(tryToFreeBuffers(folio)).toBe(false);
    buffers[1]!.release();
    buffers[3]!.lock();
    expect(tryToFreeBuffers(folio)).toBe(false);
    buffers[3]!.unlock();
    expect(buffersOf(folio)).toBe(buffers);
    expect(tryToFreeBuffers(folio)).toBe(true);
    expect(buffersOf(folio)).toBe(null);
    expect(tryToFreeBuffers(folio)).toBe(true);
  });

  test("leaves a page that can be read as a whole again", async () => {
    const { file, folio } = onePage();
    createEmptyBuffers(folio, 1024)[0]!.markUptodate();
    expect(tryToFreeBuffers(folio)).toBe(true);
    folio.endRead(true);
    file.cache.verify();
  });
});

describe("blockInvalidateFolio", () => {
  test("forgets the blocks that lie wholly in the range, and with the whole page its buffers", async () => {
    const { file, folio } = onePage();
    blockInvalidateFolio(folio, 0, 4096);
    await blockReadFullFolio(folio, file.getBlock);
    await file.settle();
    const buffers = buffersOf(folio)!;
    const mapped = () => buffers.map((buffer) => buffer.isMapped);
    blockInvalidateFolio(folio, 1025, 2047);
    expect(mapped()).toEqual([true, true, false, true]);
    blockInvalidateFolio(folio, 3072, 1024);
    expect(mapped()).toEqual([true, true, false, false]);
    expect(buffersOf(folio)).toBe(buffers);
    blockInvalidateFolio(folio, 0, 4096);
    expect(mapped()).toEqual([false, false, false, false]);
    expect(buffersOf(folio)).toBe(null);
  });
});

describe("blockReadFullFolio", () => {
  test("asks for one block at a time, and takes data that getBlock has at hand", async () => {
    const { file, folio } = onePage();
    file.getBlockHook = (_inode, fileBlock, map) => {
      expect(map.sizeBytes).toBe(1024);
      const errno = file.mapBlock(fileBlock, map);
      map.isBoundary = fileBlock === 0;
      map.isUptodate = fileBlock === 2;
      if (map.isUptodate) map.folio!.bytes.set(file.content(2048, 1024), 2048);
      return errno;
    };
    expect(blockReadFullFolio(folio, file.getBlock)).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["R[50]", "R[52]", "R[56]"]);
    expect(folio.bytes).toEqual(file.content());
    expect(buffersOf(folio)!.map((buffer) => buffer.isBoundary)).toEqual([
      true,
      false,
      false,
      false,
    ]);
  });

  test("waits for a block that others read, and reads it itself if that failed", async () => {
    const { file, folio } = onePage();
    const buffer = createEmptyBuffers(folio, 1024)[1]!;
    buffer.lock();
    const reading = blockReadFullFolio(folio, file.getBlock);
    expect(file.device.bios).toEqual([]);
    buffer.unlock();
    expect(await reading).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["R[50]", "R[52]", "R[54]", "R[56]"]);
    expect(folio.bytes).toEqual(file.content());
  });

  test("zeroes what lies behind the end of the file without asking for it", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 52, 54, 56], isize: 1025 });
    const folio = file.lockedFolio(0);
    await blockReadFullFolio(folio, file.getBlock);
    await file.settle();
    expect(file.getBlockCalls).toEqual([0, 1]);
    expect(folio.isUptodate).toBe(true);
    expect(folio.bytes.subarray(2048)).toEqual(new Uint8Array(2048));
  });
});
