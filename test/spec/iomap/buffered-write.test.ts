/**
 * Cases I4, I10, I21 to I42, I130 and I137: bytes written into folios, and what of it reaches the
 * device. Blocks of 1024 bytes, folios of 16384, unless a case says otherwise.
 */
import { expect, test } from "vitest";
import { IOCB_NOWAIT } from "../../../src/cache/kiocb.ts";
import { I_DIRTY_INODE } from "../../../src/cache/superblock.ts";
import { equalBytes } from "../../../src/lib/bytes.ts";
import { EAGAIN, EIO, FsError } from "../../../src/lib/errno.ts";
import { isPromise } from "../../../src/lib/maybe.ts";
import { IOMAP_WRITE } from "../../../src/mapping/iomap/iomap.ts";
import type { IomapWriteSource } from "../../../src/mapping/iomap/write-ops.ts";
import { codeOf, extentsOf, shortSource } from "../../support/iomap-calls.ts";
import {
  H,
  inlineMapping,
  M,
  range,
  type ScriptFsOptions,
  type ScriptMapping,
  U,
} from "../../support/script-fs.ts";
import { withExactArenas } from "../../support/small-arena.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

const ALL_BLOCKS = range(0, 15);

function fsOf(
  mappings: readonly ScriptMapping[],
  options: Partial<ScriptFsOptions> = {},
): WrittenScriptFs {
  return new WrittenScriptFs(mappings, { sizeBytes: 16384, ...options });
}

test("I4 an error after progress is not told by a buffered write, and told by a zeroing", async () => {
  const fs = fsOf([M(0, 1024), M(1024, 16384)]);
  fs.onBegin = ({ posBytes }) => {
    if (posBytes >= 1024) throw new FsError("EIO");
  };
  expect(await fs.fillFile(0, 3000)).toBe(1024);
  expect(await codeOf(() => fs.zero(0, 3000))).toBe("EIO");
});

test("I10 an error of the second mapping leaves the bytes of the first", async () => {
  const fs = fsOf([M(0, 4096), M(4096, 8192), M(8192, 16384)]);
  fs.onBegin = ({ posBytes }) => {
    if (posBytes === 4096) throw new FsError("EIO");
  };
  expect(await fs.fillFile(0, 16384)).toBe(4096);
  expect(fs.calls).toEqual(["begin(0,16384)", "end(0,4096,4096)", "begin(4096,12288)"]);
});

test("I21 a cold write reads its block, and only that is written", async () => {
  const fs = fsOf([M(0, 16384)]);
  let flags = 0;
  fs.onBegin = (call) => {
    flags = call.flags;
  };
  expect(await fs.requestsOf(() => fs.fillFile(5000, 100))).toEqual(["R[4096,5120)"]);
  expect([fs.calls[0], flags]).toEqual(["begin(5000,100)", IOMAP_WRITE]);
  const folio = fs.folio();
  expect(fs.uptodateBlocks(folio)).toEqual([4]);
  expect(fs.dirtyBlocks(folio)).toEqual([4]);
  expect([folio.isDirty, folio.isUptodate, folio.isLocked]).toEqual([true, false, false]);

  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,5120)"]);
  expect(fs.dirtyBlocks(folio)).toEqual([]);
  expect([fs.inode.size, fs.diskSize, fs.diskSizes.length]).toEqual([16384, 16384, 0]);
  const expected = fs.expected(4096, 5120);
  expect(expected.subarray(904, 1004)).toEqual(new Uint8Array(100).fill(0x77));
  expect(folio.bytes.subarray(4096, 5120)).toEqual(expected);
});

test("I22 a write over three blocks reads the run in one request, and changes its own bytes", async () => {
  const fs = fsOf([M(0, 16384)]);
  const expected = fs.expected(0, 16384).fill(0x77, 4500, 6500);
  expect(await fs.requestsOf(() => fs.fillFile(4500, 2000))).toEqual(["R[4096,7168)"]);
  expect(fs.uptodateBlocks(fs.folio())).toEqual([4, 5, 6]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([4, 5, 6]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,7168)"]);
  expect(fs.expected(0, 16384)).toEqual(expected);
});

test("I22 of a long run only the blocks at its ends are read", async () => {
  const fs = fsOf([M(0, 262144)], { sizeBytes: 262144, order: 5 });
  const expected = fs.expected(0, 262144).fill(0x77, 4500, 104500);
  expect(await fs.requestsOf(() => fs.fillFile(4500, 100000))).toEqual([
    "R[4096,5120)",
    "R[104448,105472)",
  ]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual(range(4, 102));
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,105472)"]);
  expect(equalBytes(fs.expected(0, 262144), expected)).toBe(true);
});

test("I22 blocks behind the end of the file are zeroed, and not read", async () => {
  const fs = fsOf([M(0, 16384)], { sizeBytes: 5000 });
  const expected = fs.expected(0, 5120).fill(0x77, 4500);
  expect(await fs.requestsOf(() => fs.fillFile(4500, 2000))).toEqual(["R[4096,5120)"]);
  expect(fs.folio().bytes.subarray(4096, 5120)).toEqual(expected.subarray(4096));
  expect(fs.folio().bytes.subarray(6500, 7168)).toEqual(new Uint8Array(668));
});

test("I23 whole blocks are written without a read", async () => {
  const fs = fsOf([M(0, 16384)]);
  expect(await fs.requestsOf(() => fs.fillFile(9216, 2048))).toEqual([]);
  expect(fs.uptodateBlocks(fs.folio())).toEqual([9, 10]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([9, 10]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[9216,11264)"]);
});

test("I24 a whole folio needs neither a read nor a state", async () => {
  const fs = fsOf([M(0, 16384)]);
  expect(await fs.requestsOf(() => fs.fillFile(0, 16384))).toEqual([]);
  const folio = fs.folio();
  expect(folio.blockState).toBeNull();
  expect([folio.isUptodate, folio.isDirty]).toEqual([true, true]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,16384)"]);
  expect(fs.dirtyBlocks(folio)).toEqual([]);
  expect([folio.isDirty, folio.isWriteback, folio.blockState?.writePendingBytes]).toEqual([
    false,
    false,
    0,
  ]);
});

test("I25 a write over two folios is written by one request", async () => {
  const fs = fsOf([M(0, 65536)], { sizeBytes: 65536 });
  const expected = fs.expected(0, 65536).fill(0x77, 100, 16484);
  expect(await fs.requestsOf(() => fs.fillFile(100, 16384))).toEqual([
    "R[0,16384)",
    "R[16384,17408)",
  ]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,17408)"]);
  expect(equalBytes(fs.expected(0, 65536), expected)).toBe(true);
});

test("I26 a hole is reserved without a read, and real after fsync", async () => {
  const fs = fsOf([H(0, 65536)], { sizeBytes: 65536 });
  const requests = await fs.requestsOf(async () => {
    fs.addFolio(0).bytes.fill(0xaa);
    fs.folio().unlock();
    await fs.fillFile(5000, 100);
  });
  expect(requests).toEqual([]);
  const folio = fs.folio();
  expect(fs.uptodateBlocks(folio)).toEqual([4]);
  expect(folio.bytes.subarray(4096, 5000)).toEqual(new Uint8Array(904));
  expect(folio.bytes.subarray(5100, 5120)).toEqual(new Uint8Array(20));
  expect(await extentsOf(fs)).toEqual(["4096+1024 7"]); // DELALLOC, UNKNOWN, LAST.
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,5120)"]);
  expect(await extentsOf(fs)).toEqual(["4096+1024 1"]);
});

test("I27 of an unwritten extent exactly the block written is converted", async () => {
  const fs = fsOf([U(0, 65536)], { sizeBytes: 65536 });
  expect(await fs.requestsOf(() => fs.fillFile(5000, 100))).toEqual([]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,5120)"]);
  expect(fs.conversions).toEqual(["[4096,5120)"]);
  expect(await extentsOf(fs)).toEqual(["0+4096 2048", "4096+1024 0", "5120+60416 2049"]);
});

test("I28 a block that is uptodate already is not read again", async () => {
  const fs = fsOf([M(0, 16384)]);
  await fs.fillFile(5000, 100);
  expect(await fs.requestsOf(() => fs.fillFile(5500, 100))).toEqual(["R[5120,6144)"]);
  expect(await fs.requestsOf(() => fs.fillFile(5100, 200))).toEqual([]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,6144)"]);
});

test("I29 two runs of an uptodate folio are two requests, and end its writeback together", async () => {
  const fs = fsOf([M(0, 16384)]);
  await fs.read(0, 16384);
  const folio = fs.folio();
  expect(await fs.requestsOf(() => fs.fillFile(5000, 100))).toEqual([]);
  expect(await fs.requestsOf(() => fs.fillFile(9000, 100))).toEqual([]);
  fs.device.isHeld = true;
  const synced = fs.fsync();
  await fs.settle();
  expect(fs.requests.slice(1)).toEqual(["W[4096,5120)", "W[8192,9216)"]);
  fs.device.complete(fs.device.inFlight[1]!);
  await fs.settle();
  expect([folio.isWriteback, folio.isLocked]).toEqual([true, false]);
  fs.device.completeAll();
  expect(await synced).toBe(0);
  expect(folio.isWriteback).toBe(false);
});

test("I30 a block that cannot be read fails the write, and nothing is dirty", async () => {
  const fs = fsOf([M(0, 16384)]);
  fs.device.statusOf = () => -EIO;
  await expect(fs.fillFile(5000, 100)).rejects.toMatchObject({ code: "EIO" });
  const folio = fs.folio();
  expect([fs.uptodateBlocks(folio), fs.dirtyBlocks(folio)]).toEqual([[], []]);
  expect([folio.isLocked, folio.isDirty]).toEqual([false, false]);
  expect(fs.calls).toEqual(["begin(5000,100)", "end(5000,100,0)"]);
  fs.cache.verify();
});

test("I31 a file that grows over two kinds of space is two ioends, sized to the byte", async () => {
  const fs = fsOf([M(0, 1024)], { sizeBytes: 100 });
  expect(await fs.fillFile(100, 1400)).toBe(1400);
  expect(fs.calls.filter((call) => call.startsWith("begin"))).toEqual([
    "begin(100,1400)",
    "begin(1024,476)",
  ]);
  expect([fs.inode.size, fs.diskSize]).toEqual([1500, 100]);
  expect((await fs.requestsOf(() => fs.fsync())).filter((line) => line.startsWith("W"))).toEqual([
    "W[0,1024)",
    "W[1024,2048)",
  ]);
  expect(fs.ioends).toEqual(["[0,1024)", "[1024,1500)"]);
  expect(fs.diskSizes).toEqual([1024, 1500]);
});

test("I32 a new file of 100 bytes is a block with zeros, and its size is 100", async () => {
  const fs = fsOf([], { sizeBytes: 0 });
  fs.addFolio(0).bytes.fill(0xaa);
  fs.folio().unlock();
  await fs.fillFile(0, 100);
  let sizeAtConversion = -1;
  fs.onConvert = () => {
    sizeAtConversion = fs.diskSize;
  };
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,1024)"]);
  expect(fs.ioends).toEqual(["[0,100)"]);
  expect([sizeAtConversion, fs.diskSize]).toEqual([0, 100]);
  fs.inode.size = 1024;
  const expected = new Uint8Array(1024).fill(0x77, 0, 100);
  expect(fs.expected(0, 1024)).toEqual(expected);
});

test("I33 the gap before a write behind the end is zeroed where there is space", async () => {
  const fs = fsOf([M(0, 1024)], { sizeBytes: 1000 });
  const expected = fs.expected(0, 9010);
  expected.fill(0, 1000).fill(0x77, 9000);
  expect(await fs.requestsOf(() => fs.zero(1000, 8000))).toEqual(["R[0,1024)"]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([0]);
  expect(await fs.requestsOf(() => fs.fillFile(9000, 10))).toEqual([]);
  expect(await extentsOf(fs)).toEqual(["0+1024 0", "8192+1024 7"]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,1024)", "W[8192,9216)"]);
  expect(await extentsOf(fs)).toEqual(["0+1024 0", "8192+1024 1"]);
  expect(fs.inode.size).toBe(9010);
  expect(fs.expected(0, 9010)).toEqual(expected);
});

test("I34 a source that ends early leaves whole blocks, and gives the rest of its space back", async () => {
  const fs = fsOf([H(0, 16384)]);
  fs.addFolio(0).bytes.fill(0xaa);
  fs.folio().unlock();
  expect(await fs.write(100, shortSource(6000, 1500))).toBe(1500);
  const folio = fs.folio();
  expect(fs.uptodateBlocks(folio)).toEqual([0, 1]);
  expect(fs.dirtyBlocks(folio)).toEqual([0, 1]);
  expect(folio.bytes.subarray(1600, 2048)).toEqual(new Uint8Array(448));
  expect(fs.calls).toEqual([
    "begin(100,6000)",
    "end(100,6000,1500)",
    "begin(1600,4500)",
    "end(1600,448,0)",
  ]);
  expect(fs.punches).toEqual(["[2048,6144)"]);
  expect(await extentsOf(fs)).toEqual(["0+2048 7"]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[0,2048)"]);
});

test("I35 a short copy into half a block is nothing, and is repeated for what there is", async () => {
  const fs = fsOf([H(0, 16384)]);
  const seen: unknown[] = [];
  const source = shortSource(6000, 1500);
  const copy: IomapWriteSource["copy"] = (fromBytes, into) => {
    const folio = fs.folio();
    seen.push([into.length, fs.uptodateBlocks(folio), fs.dirtyBlocks(folio)]);
    return source.copy(fromBytes, into);
  };
  expect(await fs.write(100, { ...source, copy })).toBe(1500);
  expect(seen).toEqual([
    [6000, [], []],
    [1500, [], []],
  ]);
});

test("I35 blocks that were zeroed around a copy that failed are not taken for data", async () => {
  const fs = fsOf([H(0, 16384)]);
  fs.addFolio(0).bytes.fill(0xaa);
  fs.folio().unlock();
  const source = shortSource(6000, 0);
  expect(await codeOf(() => fs.write(100, { ...source, prepare: () => 6000 }))).toBe("EFAULT");
  expect(fs.uptodateBlocks(fs.folio())).toEqual([]);
  expect(await fs.read(0, 6144)).toEqual(new Uint8Array(6144));
});

test("I35 a short copy into a folio of one block is nothing too", async () => {
  const fs = fsOf([H(0, 16384)], { blockBytes: 4096, order: 0 });
  fs.addFolio(0).bytes.fill(0xaa);
  fs.folio().unlock();
  const source = shortSource(3000, 0);
  expect(await codeOf(() => fs.write(100, { ...source, prepare: () => 3000 }))).toBe("EFAULT");
  expect([fs.folio().isUptodate, fs.folio().isDirty]).toEqual([false, false]);
});

test("I35 a source that gives nothing of a large piece is asked for a smaller one", async () => {
  const fs = fsOf([H(0, 16384)]);
  const lengths: number[] = [];
  const source = shortSource(16384, 16384);
  const copy: IomapWriteSource["copy"] = (fromBytes, into) => {
    lengths.push(into.length);
    return into.length > 4096 ? 0 : source.copy(fromBytes, into);
  };
  expect(await fs.write(0, { ...source, copy })).toBe(16384);
  expect(lengths).toEqual([16384, 8192, 4096, 4096, 4096, 4096]);
});

test("I35 a write behind the end that comes to nothing leaves no folio there", async () => {
  const fs = fsOf([], { sizeBytes: 0, order: 0 });
  const source = shortSource(20000, 0);
  expect(await codeOf(() => fs.write(0, { ...source, prepare: () => 20000 }))).toBe("EFAULT");
  expect(fs.mapping.nrpages).toBe(0);

  const broken = fsOf([M(0, 16384)], { sizeBytes: 100 });
  broken.device.statusOf = () => -EIO;
  expect(await codeOf(() => broken.fillFile(50, 16000))).toBe("EIO");
  expect(broken.folio().isLocked).toBe(false);
});

test("I36 a short copy into an uptodate folio counts", async () => {
  const fs = fsOf([M(0, 16384)]);
  await fs.read(0, 16384);
  const expected = fs.expected(0, 16384).fill(0x77, 100, 1600);
  const lengths: number[] = [];
  const source = shortSource(6000, 1500);
  const copy: IomapWriteSource["copy"] = (fromBytes, into) => {
    lengths.push(into.length);
    return source.copy(fromBytes, into);
  };
  expect(await fs.write(100, { ...source, copy })).toBe(1500);
  expect(lengths).toEqual([6000]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([0, 1]);
  expect(fs.folio().bytes).toEqual(expected);
});

test("I37 without waiting a cold block is EAGAIN, and a cached one is written at once", async () => {
  const fs = fsOf([M(0, 16384)]);
  expect(fs.write(5000, new Uint8Array(100), { flags: IOCB_NOWAIT })).toBe(-EAGAIN);
  expect(fs.requests).toEqual([]);
  expect(fs.folio().isDirty).toBe(false);
  expect(fs.folio().isLocked).toBe(false);

  await fs.read(0, 16384);
  expect(fs.write(5000, new Uint8Array(100), { flags: IOCB_NOWAIT })).toBe(100);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([4]);
});

test("I37 without waiting a locked folio, and a mapping that is stale, are EAGAIN", async () => {
  const fs = fsOf([M(0, 16384)]);
  await fs.read(0, 16384);
  fs.folio().tryLock();
  expect(fs.write(5000, new Uint8Array(100), { flags: IOCB_NOWAIT })).toBe(-EAGAIN);
  fs.folio().unlock();
  fs.isValid = () => false;
  expect(fs.write(5000, new Uint8Array(100), { flags: IOCB_NOWAIT })).toBe(-EAGAIN);
  expect(fs.folio().isLocked).toBe(false);
});

test("I38 an abort ends a write between folios, with what was written", async () => {
  const fs = fsOf([H(0, 65536)], { sizeBytes: 65536 });
  const abort = new AbortController();
  const source = shortSource(65536, 65536);
  const copy: IomapWriteSource["copy"] = (fromBytes, into) => {
    if (fromBytes === 16384) abort.abort();
    return source.copy(fromBytes, into);
  };
  expect(await fs.write(0, { ...source, copy }, { signal: abort.signal })).toBe(32768);
  expect(await codeOf(() => fs.write(0, source, { signal: abort.signal }))).toBe("EINTR");
});

test("I39 a file system that is full takes what it can, then nothing", async () => {
  withExactArenas(); // Nobody writes here: all of it stays in memory.
  const mib = 1024 * 1024;
  const fs = fsOf([], { sizeBytes: 0, arenaBytes: 32 * mib });
  fs.freeBytes = 4 * mib;
  expect(await fs.fillFile(0, 8 * mib)).toBe(4 * mib);
  expect(fs.inode.size).toBe(4 * mib);
  expect(await extentsOf(fs)).toEqual([`0+${4 * mib} 7`]);
  expect(await codeOf(() => fs.fillFile(4 * mib, 4 * mib))).toBe("ENOSPC");

  const full = fsOf([], { sizeBytes: 0 });
  full.freeBytes = 0;
  expect(await codeOf(() => full.fillFile(0, 8 * mib))).toBe("ENOSPC");
  expect([full.inode.size, full.freeBytes, await extentsOf(full)]).toEqual([0, 0, []]);
});

test("I40 who waits for the folio's lock sees the new size", async () => {
  const fs = fsOf([H(0, 16384)], { sizeBytes: 0 });
  const folio = fs.addFolio(0);
  folio.unlock();
  let seen = -1;
  const source = shortSource(1000, 1000);
  const copy: IomapWriteSource["copy"] = (fromBytes, into) => {
    void Promise.resolve(folio.lock()).then(() => {
      seen = fs.inode.size;
      folio.unlock();
    });
    expect(folio.isLocked).toBe(true);
    return source.copy(fromBytes, into);
  };
  const unlock = folio.unlock.bind(folio);
  let sizeAtUnlock = -1;
  folio.unlock = () => {
    if (sizeAtUnlock === -1) sizeAtUnlock = fs.inode.size;
    unlock();
  };
  await fs.write(0, { ...source, copy });
  await fs.settle();
  expect([seen, sizeAtUnlock]).toEqual([1000, 1000]);
});

test("I41 of two writers that take the inode's lock one has the bytes that both wrote", async () => {
  const fs = fsOf([M(0, 16384)]);
  const writeLocked = async (posBytes: number, value: number): Promise<void> => {
    await fs.inode.rwsem.write();
    await fs.fillFile(posBytes, 100, value);
    fs.inode.rwsem.unlockWrite();
  };
  await Promise.all([writeLocked(0, 1), writeLocked(50, 2)]);
  const bytes = await fs.read(0, 150);
  expect(new Set(bytes.subarray(50, 100)).size).toBe(1);
  expect([bytes[49], bytes[149]]).toEqual([1, 2]);
});

test.each([
  [4096, 0, "[4096,8192)"],
  [16384, 2, "[0,16384)"],
])(
  "I42 a folio of one block is read and written as a whole (%i)",
  async (blockBytes, order, all) => {
    const fs = fsOf([M(0, 16384)], { blockBytes, order });
    expect(await fs.requestsOf(() => fs.fillFile(5000, 100))).toEqual([`R${all}`]);
    const folio = fs.folio(5000);
    expect([folio.isUptodate, folio.isDirty, folio.blockState]).toEqual([true, true, null]);
    expect(await fs.requestsOf(() => fs.fsync())).toEqual([`W${all}`]);
    expect([folio.isDirty, folio.isWriteback]).toEqual([false, false]);
  },
);

test("a write makes folios as large as it is, where the mapping allows them", async () => {
  const fs = fsOf([H(0, 1048576)], { sizeBytes: 0, order: 0, maxOrder: 5, arenaBytes: 16777216 });
  await fs.fillFile(0, 300000);
  const orders: number[] = [];
  for (let index = 0; index * 4096 < 300000; ) {
    const folio = fs.mapping.folioAt(index)!;
    orders.push(folio.order);
    index += folio.pageCount;
  }
  expect(orders).toEqual([5, 5, 3, 0, 0]);
  await fs.fsync();
  expect(fs.requests).toEqual(["W[0,300032)"]);
  const bytes = await fs.read(0, 300000);
  expect(equalBytes(bytes, new Uint8Array(300000).fill(0x77))).toBe(true);
});

test("a write behind the end of a file does not bring back what its last block holds", async () => {
  const fs = fsOf([M(0, 1024)], { sizeBytes: 100 });
  await fs.read(0, 100);
  fs.folio().bytes.fill(0xaa, 100); // As a store through a memory mapping leaves it.
  expect(isPromise(fs.fillFile(500, 10))).toBe(false);
  expect(await fs.read(100, 400)).toEqual(new Uint8Array(400));
});

test("all blocks of a new file are uptodate to its end, and the cache is sound", async () => {
  const fs = fsOf([], { sizeBytes: 0 });
  await fs.fillFile(0, 20000);
  expect(fs.uptodateBlocks(fs.folio())).toEqual(ALL_BLOCKS);
  fs.cache.verify();
  await fs.fsync();
  fs.cache.verify();
  expect(fs.cache.nrDirty).toBe(0);
});

test("I130 a write to inline data goes back to the inode, which is dirty, not the folio", async () => {
  const data = Uint8Array.from(range(1, 60));
  const fs = fsOf([inlineMapping(data)], { sizeBytes: 60 });
  const expected = data.slice().fill(0x77, 20, 30);
  expect(await fs.fillFile(20, 10)).toBe(10);
  expect(data).toEqual(expected);
  expect(fs.inode.wb.state & I_DIRTY_INODE).toBe(I_DIRTY_INODE);
  const folio = fs.folio();
  expect([folio.isDirty, folio.isUptodate, folio.isLocked]).toEqual([false, true, false]);
  expect(await fs.fsync()).toBe(0);
  expect(fs.requests).toEqual([]);
  expect(await fs.read(0, 100)).toEqual(expected);
});

test("I130 inline data grows within its room, and not beyond", async () => {
  const room = new Uint8Array(100);
  const fs = fsOf([inlineMapping(room)], { sizeBytes: 60 });
  expect(await fs.fillFile(60, 20)).toBe(20);
  expect([fs.inode.size, room[79], room[80]]).toEqual([80, 0x77, 0]);
  fs.mappings = [{ ...inlineMapping(room), lengthBytes: 1024 }];
  expect(await codeOf(() => fs.fillFile(80, 100))).toBe("EIO");
  expect([fs.inode.size, fs.folio().isLocked]).toEqual([80, false]);
});

test.each([2 ** 33, 2 ** 40])("I137 I21 and I27 hold behind byte %i too", async (base) => {
  const block = `[${base + 4096},${base + 5120})`;
  const sizeBytes = base + 65536;
  const mapped = fsOf([M(base, sizeBytes)], { sizeBytes });
  expect(await mapped.requestsOf(() => mapped.fillFile(base + 5000, 100))).toEqual([`R${block}`]);
  expect(mapped.dirtyBlocks(mapped.folio(base))).toEqual([4]);
  expect(await mapped.requestsOf(() => mapped.fsync())).toEqual([`W${block}`]);

  const unwritten = fsOf([U(base, sizeBytes)], { sizeBytes });
  expect(await unwritten.requestsOf(() => unwritten.fillFile(base + 5000, 100))).toEqual([]);
  expect(await unwritten.requestsOf(() => unwritten.fsync())).toEqual([`W${block}`]);
  expect(unwritten.conversions).toEqual([block]);
});
