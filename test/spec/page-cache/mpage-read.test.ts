/**
 * Acceptance cases W53-W70 of the page cache: mpage reads; with the halves of W119 and W124 that
 * concern it. Cases 53 and 54 run here on a scripted map of blocks, answering as ext2 does.
 */
import { describe, expect, test } from "vitest";
import type { Folio } from "../../../src/cache/folio.ts";
import { equalBytes } from "../../../src/lib/bytes.ts";
import { EIO } from "../../../src/lib/errno.ts";
import { buffersOf, createEmptyBuffers } from "../../../src/mapping/buffer.ts";
import { mpageReadFolio, mpageReadpages } from "../../../src/mapping/mpage.ts";
import { BlockMappedFile, HOLE } from "../../support/block-mapped-file.ts";

/** Numbers `first..last`, both included. */
function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

/**
 * The file of the manual page: blocks 0-11 on device 0-11, its indirect block on 12, the rest
 * behind.
 */
function manualPageFile(isBoundarySet: boolean, blockBytes = 4096): BlockMappedFile {
  return new BlockMappedFile({
    blockBytes,
    blocks: [...range(0, 11), ...range(13, 16)],
    indirect: { from: 12, block: 12 },
    ...(isBoundarySet ? { boundaries: [11] } : {}),
  });
}

/** A file of `count` blocks of 4 KiB, block i on device block 100 + i. */
function plainFile(count: number, raPages = 32): BlockMappedFile {
  return new BlockMappedFile({ blocks: range(100, 99 + count), ioPages: 512, raPages });
}

function expectReadable(file: BlockMappedFile): void {
  for (let index = 0; index * 4096 < file.inode.size; ) {
    const folio = file.folioAt(index);
    expect(folio.isLocked).toBe(false);
    expect(folio.isUptodate).toBe(true);
    const content = file.content(folio.posBytes, folio.sizeBytes);
    expect(equalBytes(folio.bytes.subarray(0, content.length), content)).toBe(true);
    index += folio.pageCount;
  }
  file.cache.verify();
}

describe("mpage read: the boundary", () => {
  test("W53 without a boundary flag the indirect block is read before the data", async () => {
    const file = manualPageFile(false);
    await file.readahead(0, 16);
    expect(file.device.bios).toEqual(["R[12]M", "R[0-11]A", "R[13-16]A"]);
    expect(file.getBlockCalls).toEqual([0, 12]);
    expectReadable(file);
  });

  test("W54 with the boundary flag on block 11 the data leaves before the indirect block", async () => {
    const file = manualPageFile(true);
    await file.readahead(0, 16);
    expect(file.device.bios).toEqual(["R[0-11]A", "R[12]M", "R[13-16]A"]);
    expect(file.getBlockCalls).toEqual([0, 12]);
    expectReadable(file);
  });

  test("W55 the queue may merge data and indirect block, but never turns their order", async () => {
    const withFlag = manualPageFile(true);
    await withFlag.readahead(0, 16);
    const [first, second] = withFlag.device.requests;
    if (first !== "R[0-12]M") expect([first, second]).toEqual(["R[0-11]A", "R[12]M"]);
    expect(withFlag.device.requests.at(-1)).toBe("R[13-16]A");

    const without = manualPageFile(false);
    await without.readahead(0, 16);
    expect(without.device.requests[0]).toBe("R[12]M");
  });

  test.each([false, true])(
    "W56 the same with blocks of 1 KiB, boundary flag: %s",
    async (isSet) => {
      const file = manualPageFile(isSet, 1024);
      await file.readahead(0, 4);
      const expected = isSet
        ? ["R[0-11]A", "R[12]M", "R[13-16]A"]
        : ["R[12]M", "R[0-11]A", "R[13-16]A"];
      expect(file.device.bios).toEqual(expected);
      expectReadable(file);
    },
  );

  test("W57 a boundary inside a large folio makes it confused: each block is read by itself", async () => {
    const file = manualPageFile(true);
    const folio = file.lockedFolio(0, 4);
    await mpageReadFolio(folio, file.getBlock);
    await file.settle();
    const blocks = [...range(0, 11), ...range(13, 16)];
    expect(file.device.bios).toEqual(["R[12]M", ...blocks.map((block) => `R[${block}]`)]);
    expectReadable(file);
  });
});

describe("mpage read: holes and confused folios", () => {
  test("W58 a hole at the end of a page is zeroed, and the bio in front of it leaves at once", async () => {
    const blocks = [50, 51, HOLE, HOLE, 54, 55, 56, 57];
    const file = new BlockMappedFile({ blockBytes: 1024, blocks });
    let wasZero = false;
    file.getBlockHook = (_inode, fileBlock, map) => {
      if (fileBlock === 4)
        wasZero = file
          .folioAt(0)
          .bytes.subarray(2048)
          .every((b) => b === 0);
      return file.mapBlock(fileBlock, map);
    };
    await file.readahead(0, 2);
    expect(file.device.events).toEqual([
      "getBlock(0)",
      "getBlock(2)",
      "getBlock(3)",
      "R[50-51]A",
      "getBlock(4)",
      "R[54-57]A",
    ]);
    expect(wasZero).toBe(true);
    expectReadable(file);
  });

  test("W59 a block behind a hole makes the page confused, and earlier pages leave first", async () => {
    const blocks = [40, 41, 42, 43, 50, HOLE, 52, 53];
    const file = new BlockMappedFile({ blockBytes: 1024, blocks });
    await file.readahead(0, 2);
    expect(file.device.bios).toEqual(["R[40-43]A", "R[50]", "R[52]", "R[53]"]);
    expect(file.folioAt(1).bytes.subarray(1024, 2048)).toEqual(new Uint8Array(1024));
    expectReadable(file);
  });

  test("W60 blocks that are not side by side in a page are read by a bio each", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51, 90, 91] });
    await file.readahead(0, 1);
    expect(file.device.bios).toEqual(["R[50]", "R[51]", "R[90]", "R[91]"]);
    expect(file.device.requests).toEqual(["R[50-51]", "R[90-91]"]);
    expectReadable(file);
  });

  test("W61 a page with buffers is confused, and its uptodate buffers are not read again", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51, 52, 53] });
    const folio = file.lockedFolio(0);
    const second = createEmptyBuffers(folio, 1024)[1]!;
    second.data.fill(0x77);
    second.markUptodate();
    await mpageReadFolio(folio, file.getBlock);
    await file.settle();
    expect(file.device.bios).toEqual(["R[50]", "R[52]", "R[53]"]);
    expect(folio.isUptodate).toBe(true);
    expect(folio.bytes.subarray(1024, 2048)).toEqual(new Uint8Array(1024).fill(0x77));
    expect(folio.bytes.subarray(2048)).toEqual(file.content(2048));
  });

  test("W62 the last page is read up to the end of the last block, and zeroed behind it", async () => {
    const blocks = range(100, 105);
    const file = new BlockMappedFile({ blockBytes: 1024, blocks, isize: 6144 - 100 });
    await file.readahead(0, 2);
    expect(file.device.bios).toEqual(["R[100-105]A"]);
    expect(file.getBlockCalls).toEqual([0]);
    expect(file.folioAt(1).bytes.subarray(2048)).toEqual(new Uint8Array(2048));
    expect(file.folioAt(1).bytes.subarray(1024, 2048)).toEqual(
      file.memory.bytes.subarray(105 * 1024, 106 * 1024),
    );
    expect(await file.read(0, 8192)).toEqual(file.content());
    expectReadable(file);
  });

  test("W63 a page that is all hole is ready at once, and the bio goes on behind it", async () => {
    const file = new BlockMappedFile({ blocks: [10, HOLE, 11] });
    let wasReady = false;
    file.getBlockHook = (_inode, fileBlock, map) => {
      const hole = file.folioAt(1);
      if (fileBlock === 2) wasReady = hole.isUptodate && !hole.isLocked;
      return file.mapBlock(fileBlock, map);
    };
    await file.readahead(0, 3);
    expect(wasReady).toBe(true);
    expect(file.device.bios).toEqual(["R[10-11]A"]);
    expectReadable(file);
  });

  test("W64 a gap on the device ends a bio", async () => {
    const file = new BlockMappedFile({ blocks: [10, 11, 20, 21] });
    await file.readahead(0, 4);
    expect(file.device.bios).toEqual(["R[10-11]A", "R[20-21]A"]);
    expectReadable(file);
  });

  test("W65 a bio takes 256 vectors", async () => {
    const file = plainFile(300);
    await file.readahead(0, 300);
    expect(file.device.bios).toEqual(["R[100-355]A", "R[356-399]A"]);
    expectReadable(file);
  });

  test("W66 a page that getBlock has filled is ready without I/O, behind the pending bio", async () => {
    const file = plainFile(3);
    file.getBlockHook = (_inode, fileBlock, map) => {
      if (fileBlock === 0) map.sizeBytes = 4096;
      const errno = file.mapBlock(fileBlock, map);
      if (fileBlock !== 1) return errno;
      file.device.events.push("filled");
      map.folio!.bytes.set(file.content(4096, 4096));
      map.isUptodate = true;
      return errno;
    };
    await file.readahead(0, 3);
    expect(file.device.events).toEqual([
      "getBlock(0)",
      "getBlock(1)",
      "filled",
      "R[100]A",
      "getBlock(2)",
      "R[102]A",
    ]);
    expectReadable(file);
  });
});

describe("mpage read: errors", () => {
  test("W67 an error of getBlock ends the readahead there, and only that page fails", async () => {
    const file = plainFile(8);
    file.getBlockHook = (_inode, fileBlock, map) => {
      if (fileBlock === 3) return -EIO;
      const errno = file.mapBlock(fileBlock, map);
      if (fileBlock < 3) map.sizeBytes = (3 - fileBlock) * 4096;
      return errno;
    };
    await file.readahead(0, 8);
    expect(file.device.bios).toEqual(["R[100-102]A"]);
    expect(file.folioAt(3).isLocked).toBe(false);
    expect(file.folioAt(3).isUptodate).toBe(false);
    for (const index of range(4, 7)) expect(file.mapping.folioAt(index)).toBeUndefined();
    expect(file.cache.lockedCount).toBe(0);

    expect(await file.read(3 * 4096, 4096)).toBe(-EIO);
    expect(file.readFolioCount).toBe(1);
    expect(file.file.ra.raPages).toBe(8);
    expect(await file.read(4 * 4096, 4096)).toEqual(file.content(4 * 4096, 4096));
  });

  test("W68 a failed bio fails all its pages, and a read of one of them tries again alone", async () => {
    const file = plainFile(4);
    file.store.inject({ op: "read" });
    await file.readahead(0, 4);
    expect(file.device.bios).toEqual(["R[100-103]A"]);
    for (const index of range(0, 3)) {
      expect(file.folioAt(index).isLocked).toBe(false);
      expect(file.folioAt(index).isUptodate).toBe(false);
    }
    expect(file.mapping.wbErr.value).toBe(0);
    expect(file.mapping.flagEIO).toBe(false);

    expect(await file.read(0, 4096)).toEqual(file.content(0, 4096));
    expect(file.device.bios).toEqual(["R[100-103]A", "R[100]"]);
  });
});

describe("mpage read: the historical forms", () => {
  test("W69 mpageReadpages takes its list from the tail and skips what is cached", async () => {
    const file = plainFile(8);
    file.lockedFolio(5).unlock();
    const pages: Folio[] = [7, 6, 5, 4].map((index) => {
      const folio = file.cache.allocFolio(0)!;
      folio.index = index;
      return folio;
    });
    const skipped = pages[2]!;
    expect(mpageReadpages(file.mapping, pages, 4, file.getBlock)).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["R[104]", "R[106-107]"]);
    expect(pages).toEqual([]);
    expect(skipped.refs).toBe(0);
    for (const index of [4, 6, 7]) {
      expect(file.folioAt(index).isUptodate).toBe(true);
      expect(file.folioAt(index).refs).toBe(1);
      expect(file.folioAt(index).bytes).toEqual(file.content(index * 4096, 4096));
    }
  });

  test("W70 mpageReadFolio reads one page by one bio that is no readahead", async () => {
    const file = plainFile(3);
    const folio = file.lockedFolio(1);
    expect(mpageReadFolio(folio, file.getBlock)).toBe(0);
    await file.settle();
    expect(file.device.bios).toEqual(["R[101]"]);
    expect(folio.bytes).toEqual(file.content(4096, 4096));
    expect(folio.isMappedToDisk).toBe(true);
  });
});

describe("mpage read in JavaScript", () => {
  test("W119 no page is unlocked before the submission has returned, however fast the store", async () => {
    const file = new BlockMappedFile({
      blockBytes: 1024,
      blocks: [50, 51, 90, 91, 60, 61, 62, 63],
    });
    const confused = file.lockedFolio(0);
    const simple = file.lockedFolio(1);
    expect(mpageReadFolio(confused, file.getBlock)).toBe(0);
    expect(mpageReadFolio(simple, file.getBlock)).toBe(0);
    expect(file.device.bios.length).toBe(5);
    expect(confused.isLocked && simple.isLocked).toBe(true);
    expect(confused.isUptodate || simple.isUptodate).toBe(false);
    await file.settle();
    expectReadable(file);
  });

  const failures = {
    throws: () => {
      throw new Error("a bug of the file system");
    },
    rejects: () => Promise.reject(new Error("a bug of the file system")),
    "answers nonsense": () => 1,
  };
  test.each(Object.entries(failures))("W124 a getBlock that %s is an EIO", async (_name, fail) => {
    const file = plainFile(8);
    file.getBlockHook = (_inode, fileBlock, map) => {
      if (fileBlock === 2) return fail();
      const errno = file.mapBlock(fileBlock, map);
      if (fileBlock < 2) map.sizeBytes = (2 - fileBlock) * 4096;
      return errno;
    };
    await file.readahead(0, 8);
    expect(file.device.bios).toEqual(["R[100-101]A"]);
    expect(file.cache.lockedCount).toBe(0);
    expect(await file.read(2 * 4096, 4096)).toBe(-EIO);
    expect(await file.read(0, 8192)).toEqual(file.content(0, 8192));
    expect(file.cache.lockedCount).toBe(0);
    file.cache.verify();
  });

  test("W124 a store that throws or rejects leaves no page locked and no buffer either", async () => {
    const file = new BlockMappedFile({
      blockBytes: 1024,
      blocks: [50, 51, 90, 91, 60, 61, 62, 63],
    });
    file.store.inject({ op: "read", calls: Number.POSITIVE_INFINITY });
    await file.readahead(0, 2);
    expect(file.inner.stats.read.errors).toBeGreaterThan(0);
    expect(file.cache.lockedCount).toBe(0);
    for (const index of [0, 1]) {
      const folio = file.folioAt(index);
      expect(folio.isUptodate).toBe(false);
      for (const buffer of buffersOf(folio) ?? []) expect(buffer.isBusy).toBe(false);
    }
    expect(await file.read(0, 8192)).toBe(-EIO);
    expect(file.cache.lockedCount).toBe(0);
  });
});
