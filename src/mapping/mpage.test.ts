import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockMappedFile, HOLE } from "../../test/support/block-mapped-file.ts";
import { runs } from "../../test/support/runs.ts";
import { forcePageCacheRa } from "../cache/readahead.ts";
import { assert } from "../lib/assert.ts";
import { equalBytes } from "../lib/bytes.ts";
import { realClock } from "../lib/clock.ts";
import { EIO, ENOSPC, EUCLEAN, FsError } from "../lib/errno.ts";
import { isPromise } from "../lib/maybe.ts";
import { buffersOf } from "./buffer.ts";
import { askBlock, type BlockMap, createBlockMap, type GetBlock } from "./get-block.ts";
import { mpageReadFolio, mpageReadpages } from "./mpage.ts";
import { blockReadFullFolio } from "./read-full-folio.ts";

describe("GetBlock", () => {
  const nonsense: Record<string, (map: BlockMap, file: BlockMappedFile) => void> = {
    "no device": (map) => Object.assign(map, { isMapped: true, blocknr: 5 }),
    "no length": (map, { device }) =>
      Object.assign(map, { isMapped: true, bdev: device, blocknr: 5, sizeBytes: 0 }),
    "half a block": (map, { device }) =>
      Object.assign(map, { isMapped: true, bdev: device, blocknr: 5, sizeBytes: 512 }),
    "more than was wanted": (map, { device }) =>
      Object.assign(map, { isMapped: true, bdev: device, blocknr: 5, sizeBytes: 1 << 20 }),
    "a negative block": (map, { device }) =>
      Object.assign(map, { isMapped: true, bdev: device, blocknr: -1 }),
    "a block between two": (map, { device }) =>
      Object.assign(map, { isMapped: true, bdev: device, blocknr: 1.5 }),
  };
  test.each(Object.entries(nonsense))("that answers %s is an EIO", async (_name, answer) => {
    const file = new BlockMappedFile({ blocks: [10, 11] });
    file.getBlockHook = (_inode, _fileBlock, map) => {
      answer(map, file);
      return 0;
    };
    expect(await file.read(0, 8192)).toBe(-EIO);
    expect(file.device.bios).toEqual([]);
    expect(file.cache.lockedCount).toBe(0);
  });

  test("that maps a block behind the end of the device fails those pages only", async () => {
    const file = new BlockMappedFile({ blocks: [62, 63, 64, 10], deviceBlocks: 64 });
    expect(await file.read(0, 4096)).toEqual(file.content(0, 4096));
    expect(await file.read(4096, 4096)).toEqual(file.content(4096, 4096));
    expect(await file.read(8192, 4096)).toBe(-EIO);
    expect(await file.read(12288, 4096)).toEqual(file.content(12288, 4096));
    expect(file.cache.lockedCount).toBe(0);
  });

  test("is asked for what the walk and the file still need, and no more", async () => {
    const file = new BlockMappedFile({ blocks: [10, 11, 12, 13, 14, 15], isize: 5 * 4096 + 1 });
    const wanted: number[] = [];
    file.getBlockHook = (_inode, fileBlock, map) => {
      wanted.push(map.sizeBytes / 4096);
      return file.mapBlock(fileBlock, map);
    };
    await file.readahead(0, 3);
    await file.readahead(3, 32);
    expect(wanted).toEqual([3, 3]);
    file.lockedFolio(8).unlock();
    file.cache.lru.shrink(100);
    expect(await file.read(8192, 1)).toEqual(file.content(8192, 1));
    expect(wanted).toEqual([3, 3, 1]);
  });

  test("is heard through askBlock, which never rejects", async () => {
    const file = new BlockMappedFile({ blocks: [10] });
    const map = createBlockMap();
    const ask = (getBlock: GetBlock) => askBlock({ inode: file.inode, getBlock }, 0, 4096, map);
    expect(ask(() => 7)).toBe(-EIO);
    expect(ask(() => -ENOSPC)).toBe(-ENOSPC);
    expect(ask(() => Promise.resolve(-ENOSPC))).toBeInstanceOf(Promise);
    expect(await ask(() => Promise.reject(new FsError("EUCLEAN")))).toBe(-EUCLEAN);
    const failAfterAnswer: GetBlock = (_inode, _fileBlock, answer) => {
      Object.assign(answer, { isMapped: true, bdev: file.device });
      throw new FsError("EUCLEAN");
    };
    expect(ask(failAfterAnswer)).toBe(-EUCLEAN);
    expect(map.isMapped).toBe(false);
  });

  test("that never waits makes mpage wait for nothing", () => {
    const file = new BlockMappedFile({
      blockBytes: 1024,
      blocks: [50, 51, 60, 61, 70, 71, 72, 73],
    });
    const folios = [file.cache.allocFolio(0)!, file.cache.allocFolio(0)!];
    folios[1]!.index = 0;
    folios[0]!.index = 1;
    expect(isPromise(mpageReadpages(file.mapping, folios, 2, file.getBlock))).toBe(false);
    expect(file.device.bios).toEqual(["R[50]", "R[51]", "R[60]", "R[61]", "R[70-73]"]);
  });

  test("is asked for as many pages of a list as were wanted; others stay on it", async () => {
    const file = new BlockMappedFile({ blocks: [10, 11, 12, 13] });
    const pages = [3, 2, 1, 0].map((index) => {
      const folio = file.cache.allocFolio(0)!;
      folio.index = index;
      return folio;
    });
    expect(mpageReadpages(file.mapping, pages, 2, file.getBlock)).toBe(0);
    expect(pages.map((folio) => folio.index)).toEqual([3, 2]);
    await file.clock.turn();
    expect(file.device.bios).toEqual(["R[10-11]"]);
  });

  test("that waits is asked again where the walk stopped, with more folios behind it", async () => {
    const blocks = [10, 11, HOLE, 30, 31, 20];
    const file = new BlockMappedFile({ blocks });
    file.getBlockHook = async (_inode, fileBlock, map) => {
      await file.clock.turn();
      return file.mapBlock(fileBlock, map);
    };
    await file.readahead(0, 6);
    expect(file.device.bios).toEqual(["R[10-11]A", "R[30-31]A", "R[20]A"]);
    expect(file.getBlockCalls).toEqual([0, 2, 3, 5]);
    expect(await file.read(0, 6 * 4096)).toEqual(file.content());
  });

  test("that waits in a confused folio keeps it locked until its last block is read", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 52, HOLE, 54] });
    const folio = file.lockedFolio(0);
    let wasLocked = true;
    file.getBlockHook = async (_inode, fileBlock, map) => {
      await file.settle(); // All that was submitted so far has ended.
      wasLocked &&= folio.isLocked && !folio.isUptodate;
      return file.mapBlock(fileBlock, map);
    };
    await blockReadFullFolio(folio, file.getBlock);
    await file.settle();
    expect(wasLocked).toBe(true);
    expect(folio.isLocked).toBe(false);
    expect(folio.bytes).toEqual(file.content());
  });
});

describe("a confused folio", () => {
  test("with a block that cannot be mapped fails, but its other blocks can be read", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 52, 54, HOLE] });
    file.getBlockHook = (_inode, fileBlock, map) =>
      fileBlock === 1 ? -EIO : file.mapBlock(fileBlock, map);
    await file.readahead(0, 1);
    expect(file.device.bios).toEqual(["R[50]", "R[54]"]);
    expect(file.folioAt(0).isUptodate).toBe(false);
    expect(await file.read(0, 1024)).toEqual(file.content(0, 1024));
    expect(await file.read(2048, 2048)).toEqual(file.content(2048, 2048));
    expect(file.device.bios.length).toBe(2);
    expect(await file.read(1000, 100)).toBe(-EIO);
    expect(file.cache.lockedCount).toBe(0);
    file.cache.verify();
  });

  test("with a bad block fails, and a second read asks for that block only", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 52, 54, 56] });
    file.store.inject({ op: "read", startBytes: 52 * 1024, endBytes: 53 * 1024 });
    await file.readahead(0, 1);
    expect(file.folioAt(0).isUptodate).toBe(false);
    expect(await file.read(0, 4096)).toEqual(file.content());
    expect(file.device.bios).toEqual(["R[50]", "R[52]", "R[54]", "R[56]", "R[52]"]);
  });

  test("of which nothing can be mapped ends the readahead", async () => {
    const file = new BlockMappedFile({ blockBytes: 4096, blocks: [50, 51, 52] });
    file.getBlockHook = () => Promise.resolve(-EIO);
    await file.readahead(0, 3);
    expect(file.folioAt(0).isLocked).toBe(false);
    expect(file.mapping.folioAt(1)).toBeUndefined();
    expect(file.device.bios).toEqual([]);
  });

  test("is reclaimed with its buffers, and read anew as a folio without any", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 52, 54, 56] });
    await file.readahead(0, 1);
    expect(buffersOf(file.folioAt(0))?.map((buffer) => buffer.blocknr)).toEqual([50, 52, 54, 56]);
    file.cache.lru.shrink(1);
    expect(file.mapping.folioAt(0)).toBeUndefined();
    const folio = file.lockedFolio(0);
    expect(buffersOf(folio)).toBe(null);
    await mpageReadFolio(folio, file.getBlock);
    await file.settle();
    expect(folio.bytes).toEqual(file.content());
  });

  test("takes the block that getBlock has filled and reads the others", async () => {
    const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51, 52, 53] });
    file.getBlockHook = (_inode, fileBlock, map) => {
      map.sizeBytes = Math.min(map.sizeBytes, 2048);
      const errno = file.mapBlock(fileBlock, map);
      if (fileBlock === 2) {
        map.folio!.bytes.set(file.content(2048, 1024), 2048);
        map.isUptodate = true;
      }
      return errno;
    };
    await file.readahead(0, 1);
    expect(file.device.bios).toEqual(["R[50]", "R[51]", "R[53]"]);
    expect(file.folioAt(0).bytes).toEqual(file.content());
  });
});

/**
 * A file as a model sees it: pieces of hole or of device, each where the last ended or somewhere
 * else.
 */
interface Plan {
  readonly blockBytes: number;
  readonly order: number;
  readonly pieces: readonly { gap: number; count: number; isHole: boolean }[];
  readonly boundaries: readonly number[];
  readonly cutBytes: number;
  readonly isLate: readonly boolean[];
}

function blocksOf(plan: Plan): number[] {
  const blocks: number[] = [];
  let device = 8;
  for (const { gap, count, isHole } of plan.pieces) {
    device += gap;
    for (let i = 0; i < count; i++) blocks.push(isHole ? HOLE : device++);
  }
  return blocks;
}

/** What must be submitted: as few bios as the rules of mpage allow, one per contiguous run. */
function expectedBios(plan: Plan, blocks: readonly number[], isize: number): string[] {
  const bios: string[] = [];
  const perFolio = (4096 << plan.order) / plan.blockBytes;
  const known = blocks.slice(0, Math.ceil(isize / plan.blockBytes));
  const name = (first: number, end: number) =>
    `R[${end - first === 1 ? first : `${first}-${end - 1}`}]`;
  let run: { first: number; end: number } | null = null;
  const submit = () => {
    if (run !== null) bios.push(`${name(run.first, run.end)}A`);
    run = null;
  };
  for (let at = 0; at < known.length; at += perFolio) {
    const folio = Array.from({ length: perFolio }, (_, i) => known[at + i] ?? HOLE);
    const data = folio.filter((block) => block !== HOLE);
    const isFront = data.every((block, i) => block === folio[0]! + i && folio[i] === block);
    if (!isFront) {
      submit();
      for (const block of data) bios.push(name(block, block + 1));
      continue;
    }
    if (data.length === 0) continue;
    const first = data[0]!;
    const open = run as { first: number; end: number } | null;
    if (open === null || open.end !== first) {
      submit();
      run = { first, end: first };
    }
    run!.end += data.length;
    if (data.length < perFolio || plan.boundaries.includes(at + perFolio - 1)) submit();
  }
  submit();
  return bios;
}

const planArbitrary: fc.Arbitrary<Plan> = fc.record({
  blockBytes: fc.constantFrom(1024, 2048, 4096),
  order: fc.constantFrom(0, 0, 1, 2, 4),
  pieces: fc.array(
    fc.record({
      gap: fc.constantFrom(0, 0, 0, 1, 5),
      count: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 40 })),
      isHole: fc.constantFrom(false, false, true),
    }),
    { minLength: 1, maxLength: 12, size: "max" },
  ),
  boundaries: fc.array(fc.integer({ min: 0, max: 120 }), { maxLength: 12, size: "max" }),
  cutBytes: fc.integer({ min: 0, max: 3000 }),
  isLate: fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
});

test("thousands of pages are not unlocked without a turn of the loop", async () => {
  const blocks = Array.from({ length: 4900 }, (_, at) => at % 700);
  const file = new BlockMappedFile({ blocks, raPages: 700, ioPages: 700 });
  for (let index = 0; index < 4900; index += 700) {
    expect(file.clock.turnCount).toBe(index < 4200 ? 0 : 1);
    await forcePageCacheRa(file.file, index, 700);
    while (file.cache.lockedCount > 0) await realClock.turn();
    expect(file.folioAt(index).isUptodate).toBe(true);
  }
});

test("reads any map of blocks as the bytes it stands for, in as few bios as can be", async () => {
  await fc.assert(
    fc.asyncProperty(planArbitrary, async (plan) => {
      const { blockBytes, order, boundaries } = plan;
      const blocks = blocksOf(plan);
      const isize = Math.max(1, blocks.length * blockBytes - plan.cutBytes);
      const options = { minOrder: order, maxOrder: order, raPages: 512, ioPages: 512 };
      const deviceBlocks = Math.max(...blocks, 0) + 40;
      const file = new BlockMappedFile({
        blockBytes,
        blocks,
        isize,
        boundaries,
        deviceBlocks,
        ...options,
      });
      let calls = 0;
      file.getBlockHook = (_inode, fileBlock, map) => {
        if (!plan.isLate[calls++ % plan.isLate.length]) return file.mapBlock(fileBlock, map);
        return Promise.resolve().then(() => file.mapBlock(fileBlock, map));
      };
      await file.readahead(0, Math.ceil(isize / 4096));
      const bytes = await file.read(0, isize);
      assert(typeof bytes !== "number", "the file can be read");
      expect(equalBytes(bytes, file.content())).toBe(true);
      expect(file.readFolioCount).toBe(0);
      expect(file.device.bios).toEqual(expectedBios(plan, blocks, isize));
      const lastPage = file.folioAt(Math.floor((isize - 1) / 4096));
      const lastBlockEnd = Math.ceil(isize / blockBytes) * blockBytes - lastPage.posBytes;
      expect(lastPage.bytes.subarray(lastBlockEnd).every((byte) => byte === 0)).toBe(true);
      expect(file.cache.lockedCount).toBe(0);
      file.cache.verify();
    }),
    { numRuns: runs(150) },
  );
});
