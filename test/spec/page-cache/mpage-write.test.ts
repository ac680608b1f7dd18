/**
 * Acceptance cases W71-W82 of the page cache: mpage writes; and W22, the page behind the end of the
 * file.
 */
import { describe, expect, test } from "vitest";
import type { Folio } from "../../../src/cache/folio.ts";
import {
  WB_SYNC_ALL,
  WB_SYNC_NONE,
  WritebackControl,
} from "../../../src/cache/writeback-control.ts";
import { EIO, type Errno } from "../../../src/lib/errno.ts";
import { MARK_DIRTY } from "../../../src/lib/xarray.ts";
import { type BufferHead, createEmptyBuffers } from "../../../src/mapping/buffer.ts";
import { mpageWritepages } from "../../../src/mapping/mpage-write.ts";
import { BlockMappedFile, HOLE } from "../../support/block-mapped-file.ts";

/** Numbers `first..last`, both included. */
function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

/** A file of `count` blocks of 4 KiB, block i on device block 100 + i. */
function plainFile(count: number): BlockMappedFile {
  return new BlockMappedFile({ blocks: range(100, 99 + count), deviceBlocks: 300 });
}

function expectAtRest(file: BlockMappedFile): void {
  expect(file.cache.lockedCount).toBe(0);
  expect(file.cache.nrWriteback).toBe(0);
  file.cache.verify();
}

/** A dirty page 0 of 1 KiB blocks with buffers, each mapped, or dirty, as `blocks` tell. */
interface BufferScript {
  readonly block?: number;
  readonly isDirty: boolean;
}
function withBuffers(file: BlockMappedFile, blocks: readonly BufferScript[]): BufferHead[] {
  file.dirty(0, 0);
  const folio = file.folioAt(0);
  const buffers = [...createEmptyBuffers(folio, 1024)];
  for (const [at, { block, isDirty }] of blocks.entries()) {
    if (block !== undefined) buffers[at]!.map(file.device, block);
    if (!isDirty) buffers[at]!.clearDirty();
  }
  return buffers;
}

describe("mpage write", () => {
  test("W22 a page behind the end of the file is not written, nor is a block asked for", async () => {
    const file = plainFile(2);
    file.dirty(0, 1);
    file.inode.size = 4096;
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[100]S"]);
    expect(file.getBlockCalls).toEqual([0]);
    const behind = file.folioAt(1);
    expect([behind.isLocked, behind.isDirty, behind.isWriteback]).toEqual([false, false, false]);
    expectAtRest(file);
  });

  test("W71 ten pages are one bio, after the walk, of pages that are unlocked already", async () => {
    const file = plainFile(10);
    file.dirty(0, 9);
    const asked: [number, number, boolean][] = [];
    file.getBlockHook = (_inode, fileBlock, map, create) => {
      asked.push([fileBlock, map.sizeBytes, create]);
      expect(file.device.bios).toEqual([]);
      return file.mapBlock(fileBlock, map);
    };
    const states: string[] = [];
    const { submitBio } = file.device;
    file.device.submitBio = (bio, plug) => {
      for (const index of range(0, 9)) {
        const { isLocked, isWriteback, isDirty } = file.folioAt(index);
        states.push(`${isLocked} ${isWriteback} ${isDirty}`);
      }
      submitBio.call(file.device, bio, plug);
    };
    const errno = mpageWritepages(
      file.mapping,
      new WritebackControl({ syncMode: WB_SYNC_ALL }),
      file.getBlock,
    );
    expect(errno).toBe(0);
    expect(file.device.bios).toEqual(["W[100-109]S"]);
    expect(states).toEqual(Array.from({ length: 10 }, () => "false true false"));
    expect(asked).toEqual(range(0, 9).map((block) => [block, 4096, true]));
    await file.settle();
    for (const index of range(0, 9)) {
      expect(file.onDevice(100 + index)).toEqual(file.folioAt(index).bytes);
    }
    expect(file.mapping.pages.marked(MARK_DIRTY)).toBe(false);
    expectAtRest(file);
  });

  test("W72 a page across the end of the file is zeroed there, and its bio leaves at once", async () => {
    const blocks = [...range(100, 104), 200, 201, 202];
    const file = new BlockMappedFile({ blockBytes: 1024, blocks, isize: 5000, deviceBlocks: 300 });
    file.dirty(0, 1);
    const untouched = file.onDevice(200, 3);
    expect(await file.writeOut()).toBe(0);
    expect(file.getBlockCalls).toEqual([0, 1, 2, 3, 4]);
    expect(file.device.bios).toEqual(["W[100-104]S"]);
    const page = file.folioAt(1).bytes;
    expect(page.subarray(0, 904).every((byte) => byte === 0x41)).toBe(true);
    expect(page.subarray(904).every((byte) => byte === 0)).toBe(true);
    expect(file.onDevice(104)).toEqual(page.slice(0, 1024));
    expect(file.onDevice(200, 3)).toEqual(untouched);
    expectAtRest(file);
  });

  test.each([true, false])(
    "W73 an indirect block behind its data is written with it if it is dirty: %s",
    async (isDirty) => {
      const file = new BlockMappedFile({
        blocks: [...range(0, 11), ...range(13, 16)],
        indirect: { from: 12, block: 12 },
        boundaries: [11],
      });
      const indirect = await file.buffers.bread(12);
      if (isDirty) indirect.markDirty();
      file.device.events.length = 0;
      file.dirty(0, 15);
      expect(await file.writeOut()).toBe(0);
      const written = isDirty ? ["W[12]M"] : [];
      expect(file.device.bios).toEqual(["W[0-11]S", ...written, "W[13-16]S"]);
      expect(indirect.isDirty).toBe(false);
      expect(indirect.folio.isDirty).toBe(false);
      file.buffers.brelse(indirect);
      expectAtRest(file);
    },
  );

  test("W79 a gap on the device ends a bio", async () => {
    const file = new BlockMappedFile({ blocks: [100, 101, 200], deviceBlocks: 300 });
    file.dirty(0, 2);
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[100-101]S", "W[200]S"]);
    expectAtRest(file);
  });

  test("W80 a new block's dirty alias in the device's cache never overwrites the data", async () => {
    const file = plainFile(2);
    const alias = await file.buffers.bread(100);
    alias.data.fill(0xaa);
    alias.markDirty();
    file.device.events.length = 0;
    file.dirty(0, 1);
    file.getBlockHook = (_inode, fileBlock, map) => {
      const errno = file.mapBlock(fileBlock, map);
      map.isNew = true;
      return errno;
    };
    expect(await file.writeOut()).toBe(0);
    expect([alias.isDirty, alias.folio.isDirty]).toEqual([false, false]);
    file.buffers.brelse(alias);
    const wbc = new WritebackControl({ syncMode: WB_SYNC_ALL });
    expect(await file.buffers.mapping.ops.writepages!(file.buffers.mapping, wbc)).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["W[100-101]S"]);
    expect(file.onDevice(100)).toEqual(file.folioAt(0).bytes);
    expectAtRest(file);
  });

  test("W82 bios tell why they were written", async () => {
    const why = [
      [{ syncMode: WB_SYNC_ALL }, "W[100]S"],
      [{ syncMode: WB_SYNC_NONE }, "W[100]"],
      [{ syncMode: WB_SYNC_NONE, forKupdate: true }, "W[100]B"],
      [{ syncMode: WB_SYNC_NONE, forBackground: true }, "W[100]B"],
    ] as const;
    for (const [options, bio] of why) {
      const file = plainFile(1);
      file.dirty(0, 0);
      await file.writeOut(options);
      expect(file.device.bios).toEqual([bio]);
    }
  });
});

describe("mpage write: confused pages", () => {
  const blocks = [50, HOLE, 52, 53];

  test("W74 a hole inside a page makes it confused, and the blocks beside it are written", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks });
    withBuffers(file, [
      { block: 50, isDirty: true },
      { isDirty: false },
      { block: 52, isDirty: true },
      { block: 53, isDirty: false },
    ]);
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[50]S", "W[52]S"]);
    expect(file.getBlockCalls).toEqual([]);
    expect(file.onDevice(52)).toEqual(new Uint8Array(1024).fill(0x40));
    expectAtRest(file);
  });

  test("W75 a dirty block without a place is given one by the fall-back", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 60, 52, 53] });
    const buffers = withBuffers(file, [
      { block: 50, isDirty: true },
      { isDirty: true },
      { block: 52, isDirty: true },
      { block: 53, isDirty: true },
    ]);
    const creates: boolean[] = [];
    file.getBlockHook = (_inode, fileBlock, map, create) => {
      creates.push(create);
      return file.mapBlock(fileBlock, map);
    };
    expect(await file.writeOut()).toBe(0);
    expect(file.getBlockCalls).toEqual([1]);
    expect(creates).toEqual([true]);
    expect(buffers[1]!.blocknr).toBe(60);
    expect(file.device.bios).toEqual(["W[50]S", "W[60]S", "W[52]S", "W[53]S"]);
    expectAtRest(file);
  });

  test("W76 of four blocks with one clean only the dirty three are written", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51, 52, 53] });
    const old = file.onDevice(51);
    withBuffers(
      file,
      [50, 51, 52, 53].map((block) => ({ block, isDirty: block !== 51 })),
    );
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[50]S", "W[52]S", "W[53]S"]);
    expect(file.onDevice(51)).toEqual(old);
    expectAtRest(file);
  });

  test("W77 buffers are clean once they are in a bio, and those behind the end are left", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51], isize: 2048 });
    const buffers = withBuffers(file, [
      { block: 50, isDirty: true },
      { block: 51, isDirty: true },
      { isDirty: false },
      { isDirty: false },
    ]);
    expect(await file.writeOut()).toBe(0);
    expect(file.device.bios).toEqual(["W[50-51]S"]);
    expect(buffers.map((buffer) => buffer.isDirty)).toEqual([false, false, false, false]);
    expect(buffers.every((buffer) => buffer.isUptodate)).toBe(true);
    expectAtRest(file);
  });

  test("W81 without hurry a busy buffer is left dirty, for safety it is waited for", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51], isize: 2048 });
    const [first, second] = withBuffers(file, [
      { block: 50, isDirty: true },
      { block: 51, isDirty: true },
      { isDirty: false },
      { isDirty: false },
    ]);
    first!.lock();
    const wbc = new WritebackControl({ syncMode: WB_SYNC_NONE });
    expect(await mpageWritepages(file.mapping, wbc, file.getBlock)).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["W[51]"]);
    expect(wbc.pagesSkipped).toBe(1);
    expect([file.folioAt(0).isDirty, first!.isDirty, second!.isDirty]).toEqual([true, true, false]);

    const all = new WritebackControl({ syncMode: WB_SYNC_ALL });
    const writing = Promise.resolve(mpageWritepages(file.mapping, all, file.getBlock));
    await file.settle();
    expect(file.device.bios).toEqual(["W[51]"]);
    first!.unlock();
    expect(await writing).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["W[51]", "W[50]S"]);
    expect(file.folioAt(0).isDirty).toBe(false);
    expectAtRest(file);
  });
});

describe("mpage write: without a mapper", () => {
  /** A file whose `writepage` returns what `answers` say, page by page. */
  function pageWise(answers: readonly Errno[]): { file: BlockMappedFile; written: number[] } {
    const file = plainFile(answers.length);
    const written: number[] = [];
    Object.assign(file.mapping.ops, {
      writepage: (folio: Folio): Errno => {
        written.push(folio.index);
        folio.startWriteback();
        folio.unlock();
        folio.endWriteback();
        return answers[folio.index]!;
      },
    });
    file.dirty(0, answers.length - 1);
    return { file, written };
  }

  test("W78 each page goes through writepage, and its errors to the file", async () => {
    const good = pageWise([0, 0, 0]);
    const all = () => new WritebackControl({ syncMode: WB_SYNC_ALL });
    expect(await mpageWritepages(good.file.mapping, all(), null)).toBe(0);
    expect(good.written).toEqual([0, 1, 2]);
    expect(good.file.device.bios).toEqual([]);
    expect(good.file.mapping.wbErr.value).toBe(0);

    const bad = pageWise([0, -EIO, 0]);
    expect(await mpageWritepages(bad.file.mapping, all(), null)).toBe(-EIO);
    expect(bad.written).toEqual([0, 1, 2]);
    expect(bad.file.mapping.wbErr.check(0)).toBe(-EIO);

    const none = plainFile(3);
    none.dirty(0, 2);
    expect(await mpageWritepages(none.mapping, all(), null)).toBe(0);
    expect(none.folioAt(0).isDirty).toBe(true);
  });
});
