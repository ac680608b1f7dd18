/**
 * Cases I44 to I60: mappings that change before their folio is locked, reservations that are not
 * used, and stores through a memory mapping. Blocks of 1024 bytes, folios of 16384, unless a case
 * says otherwise.
 */
import { expect, test } from "vitest";
import { attachBlockState } from "../../../src/cache/block-state.ts";
import type { Folio } from "../../../src/cache/folio.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { iomapReadFolio } from "../../../src/mapping/iomap/buffered-read.ts";
import { iomapEndDelalloc } from "../../../src/mapping/iomap/delalloc.ts";
import {
  createIomap,
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_FAULT,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_WRITE,
  type IomapType,
} from "../../../src/mapping/iomap/iomap.ts";
import { iomapPageMkwrite } from "../../../src/mapping/iomap/page-mkwrite.ts";
import { codeOf, extentsOf, shortSource } from "../../support/iomap-calls.ts";
import { D, H, M, range, SCRIPT_ADDR, scriptMapping, U } from "../../support/script-fs.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

test("I44 what was converted while the folio was awaited is read, not zeroed", async () => {
  const fs = new WrittenScriptFs([U(0, 65536)], { sizeBytes: 65536 });
  const busy = fs.addFolio(0);
  fs.cookie = 7;
  const written = Promise.resolve(fs.fillFile(5000, 100, 9));
  await fs.settle();
  expect(fs.calls).toEqual(["begin(5000,100)"]);
  fs.device.poke(SCRIPT_ADDR + 4096, new Uint8Array(1024).fill(88));
  fs.mappings = [U(0, 4096), M(4096, 5120), U(5120, 65536)];
  fs.cookie = 8;
  fs.mapping.removeFolio(busy);
  busy.put();
  busy.unlock();
  expect(await written).toBe(100);
  expect(fs.calls).toEqual([
    "begin(5000,100)",
    "end(5000,100,0)",
    "begin(5000,100)",
    "end(5000,100,100)",
  ]);
  expect(fs.requests).toEqual(["R[4096,5120)"]);
  const expected = new Uint8Array(1024).fill(88).fill(9, 904, 1004);
  expect(fs.folio().bytes.subarray(4096, 5120)).toEqual(expected);
});

test("I45 a change after the first folio keeps that one, and asks again for the second", async () => {
  const fs = new WrittenScriptFs([U(0, 65536)], { sizeBytes: 65536 });
  const source = shortSource(20000, 20000);
  const written = fs.write(0, {
    ...source,
    copy(fromBytes, into) {
      if (fromBytes === 0) fs.cookie++;
      return source.copy(fromBytes, into);
    },
  });
  expect(await written).toBe(20000);
  expect(fs.calls).toEqual([
    "begin(0,20000)",
    "end(0,20000,16384)",
    "begin(16384,3616)",
    "end(16384,3616,3616)",
  ]);
});

test("I46 a mapping is asked for until it holds", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  let answers = 0;
  fs.isValid = () => ++answers > 3;
  expect(await fs.fillFile(5000, 100)).toBe(100);
  expect(fs.calls.filter((call) => call === "begin(5000,100)").length).toBe(4);
  expect(fs.calls.filter((call) => call.startsWith("end")).length).toBe(4);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([4]);
});

test("I46 one that never holds is EIO in the end, and the loop turns in between", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  fs.isValid = () => false;
  const turnsBefore = fs.clock.turnCount;
  expect(await codeOf(() => fs.fillFile(5000, 100))).toBe("EIO");
  expect(fs.clock.turnCount - turnsBefore).toBe(999);
  expect(fs.folio().isLocked).toBe(false);
});

test("I47 to zero a hole locks no folio, so nobody asks whether it still is one", async () => {
  const fs = new WrittenScriptFs([H(0, 65536)], { sizeBytes: 65536 });
  let asked = 0;
  fs.isValid = () => ++asked < 0;
  fs.onBegin = () => {
    fs.cookie++;
  };
  expect(fs.zero(100, 1000)).toBe(false);
  expect([asked, fs.mapping.nrpages]).toEqual([0, 0]);
});

test("I48 zeroing asks again for a stale mapping; a read never asks", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  let asked = 0;
  fs.isValid = () => ++asked > 1;
  await fs.read(0, 16384);
  expect(asked).toBe(0);
  expect(await fs.zero(1000, 100)).toBe(true);
  expect(asked).toBe(2);
  expect(fs.calls.filter((call) => call === "begin(1000,100)").length).toBe(2);
});

test("I49 a source that ends early gives back all that it has no bytes for", async () => {
  const fs = new WrittenScriptFs([], { sizeBytes: 0 });
  fs.freeBytes = 65536;
  expect(await fs.write(0, shortSource(20000, 3000))).toBe(3000);
  expect(fs.punches).toEqual(["[3072,20480)"]);
  expect(await extentsOf(fs)).toEqual(["0+3072 7"]);
  expect([fs.freeBytes, fs.inode.size]).toEqual([65536 - 3072, 3000]);
  await fs.fsync();
  expect(await extentsOf(fs)).toEqual(["0+3072 1"]);
});

test("I50 a source without bytes is EFAULT, and all is given back", async () => {
  const fs = new WrittenScriptFs([], { sizeBytes: 0 });
  fs.freeBytes = 65536;
  expect(await codeOf(() => fs.write(0, shortSource(20000, 0)))).toBe("EFAULT");
  expect(fs.punches).toEqual(["[0,20480)"]);
  expect(await extentsOf(fs)).toEqual([]);
  expect([fs.freeBytes, fs.inode.size]).toEqual([65536, 0]);
});

interface EndOptions {
  readonly sizeBytes?: number;
  readonly endBytes?: number;
  readonly writtenBytes?: number;
  readonly type?: IomapType;
  readonly iomapFlags?: number;
  readonly flags?: number;
  /** Sets the folio up: unlocked on return. */
  readonly prepare: (fs: WrittenScriptFs, folio: Folio) => void;
}

/** What `end` of a write of 1000 bytes at 0 gives back of a new reservation. */
async function punchesOf({
  sizeBytes = 16384,
  endBytes = 16384,
  writtenBytes = 1000,
  type = IOMAP_DELALLOC,
  iomapFlags = IOMAP_F_NEW,
  flags = IOMAP_WRITE,
  prepare,
}: EndOptions): Promise<string[]> {
  const fs = new WrittenScriptFs([D(0, endBytes)], { sizeBytes });
  const folio = fs.addFolio(0);
  prepare(fs, folio);
  folio.unlock();
  const iomap = createIomap();
  iomap.type = type;
  iomap.flags = iomapFlags;
  iomap.lengthBytes = endBytes;
  const call = { posBytes: 0, lengthBytes: endBytes, writtenBytes, flags, iomap };
  await iomapEndDelalloc(fs.mapping, call, (at, count) => fs.punch(at, count));
  expect(folio.isLocked).toBe(false);
  expect(fs.mapping.invalidateLock.isWriteLocked).toBe(false);
  return fs.punches;
}

/** Makes `blocks` uptodate and dirty, as faults would. */
function dirty(fs: WrittenScriptFs, folio: Folio, blocks: readonly number[]): void {
  fs.fillBlocks(folio, blocks, 1);
  for (const block of blocks) folio.markDirtyRange(block * 1024, 1024);
}

test("I51 what somebody else has dirtied behind a short write keeps its space", async () => {
  const prepare: EndOptions["prepare"] = (fs, folio) => dirty(fs, folio, [0, 10]);
  expect(await punchesOf({ prepare })).toEqual(["[1024,10240)", "[11264,16384)"]);
});

test("I52 clean blocks of an uptodate folio lose theirs", async () => {
  const prepare: EndOptions["prepare"] = (fs, folio) => {
    fs.fillBlocks(folio, range(0, 15), 1);
    dirty(fs, folio, [0, 10]);
  };
  expect(await punchesOf({ prepare })).toEqual(["[1024,10240)", "[11264,16384)"]);
});

test("I53 with nothing dirty behind the write all behind it goes", async () => {
  const prepare: EndOptions["prepare"] = (fs, folio) => dirty(fs, folio, [0]);
  expect(await punchesOf({ prepare })).toEqual(["[1024,16384)"]);
});

test("I53 a clean folio that is uptodate as a whole keeps nothing", async () => {
  const prepare: EndOptions["prepare"] = (_fs, folio) => folio.markUptodate();
  expect(await punchesOf({ prepare })).toEqual(["[1024,16384)"]);
});

test("I54 behind the end of the file dirty blocks do not count", async () => {
  const prepare: EndOptions["prepare"] = (fs, folio) => dirty(fs, folio, [0, 1, 3]);
  const options = { sizeBytes: 1500, endBytes: 8192, writtenBytes: 1500, prepare };
  expect(await punchesOf(options)).toEqual(["[2048,8192)"]);
});

test("I55 only a new reservation that nobody faulted in is given back", async () => {
  const prepare: EndOptions["prepare"] = (fs, folio) => dirty(fs, folio, [0]);
  expect(await punchesOf({ prepare, iomapFlags: 0 })).toEqual([]);
  expect(await punchesOf({ prepare, type: IOMAP_MAPPED })).toEqual([]);
  expect(await punchesOf({ prepare, flags: IOMAP_WRITE | IOMAP_FAULT })).toEqual([]);
});

test("I56 space that has become real meanwhile stays", async () => {
  const fs = new WrittenScriptFs([D(0, 4096), M(4096, 8192), D(8192, 16384)], {
    sizeBytes: 16384,
  });
  const iomap = createIomap();
  iomap.type = IOMAP_DELALLOC;
  iomap.flags = IOMAP_F_NEW;
  iomap.lengthBytes = 16384;
  const call = { posBytes: 0, lengthBytes: 16384, writtenBytes: 0, flags: IOMAP_WRITE, iomap };
  await iomapEndDelalloc(fs.mapping, call, (at, count) => fs.punch(at, count));
  expect(await extentsOf(fs)).toEqual(["4096+4096 1"]);
});

test("I56 a reservation is found again after the folio that had it was dropped", async () => {
  const fs = new WrittenScriptFs([D(0, 65536)], { sizeBytes: 65536 });
  for (const posBytes of [0, 16384, 32768]) {
    const folio = fs.addFolio(posBytes);
    fs.fillBlocks(folio, range(0, 15), 1);
    if (posBytes === 32768) dirty(fs, folio, [3]);
    folio.unlock();
  }
  const iomap = createIomap();
  iomap.type = IOMAP_DELALLOC;
  iomap.flags = IOMAP_F_NEW;
  iomap.lengthBytes = 65536;
  const call = { posBytes: 0, lengthBytes: 65536, writtenBytes: 0, flags: IOMAP_WRITE, iomap };
  await iomapEndDelalloc(fs.mapping, call, (at, count) => fs.punch(at, count));
  expect(await extentsOf(fs)).toEqual(["35840+1024 7"]);
});

test("a write that may not wait gives back what it did not use at once, locked folios or not", () => {
  const fs = new WrittenScriptFs([D(0, 65536)], { sizeBytes: 65536 });
  const busy = fs.addFolio(16384);
  const iomap = createIomap();
  iomap.type = IOMAP_DELALLOC;
  iomap.flags = IOMAP_F_NEW;
  iomap.lengthBytes = 65536;
  const flags = IOMAP_WRITE | IOMAP_NOWAIT;
  const call = { posBytes: 100, lengthBytes: 65436, writtenBytes: 16284, flags, iomap };
  expect(iomapEndDelalloc(fs.mapping, call, (at, count) => fs.punch(at, count))).toBeUndefined();
  expect(fs.punches).toEqual(["[16384,65536)"]);
  busy.unlock();
});

/** A page that a memory mapping has read. */
async function mappedPage(fs: WrittenScriptFs, posBytes: number): Promise<Folio> {
  const folio = fs.addFolio(posBytes);
  await iomapReadFolio(folio, fs);
  await fs.settle();
  return folio;
}

test("I57 a fault asks for what lies before the end of the file, and dirties the page", async () => {
  const fs = new WrittenScriptFs([M(0, 5120)], { sizeBytes: 5000, order: 0 });
  const folio = await mappedPage(fs, 4096);
  const flags: number[] = [];
  fs.onBegin = (call) => {
    flags.push(call.flags);
  };
  fs.calls.length = 0;
  await iomapPageMkwrite(fs.mapping, folio, fs);
  expect(folio.isLocked).toBe(true);
  folio.bytes.fill(0xcc, 5050 - 4096);
  folio.unlock();
  expect(fs.calls).toEqual(["begin(4096,904)", "end(4096,904,904)"]);
  expect(flags).toEqual([IOMAP_WRITE | IOMAP_FAULT]);
  expect(fs.dirtyBlocks(folio)).toEqual([0, 1, 2, 3]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,5120)"]);
  fs.inode.size = 5120;
  expect(fs.expected(5000, 5120)).toEqual(new Uint8Array(120));
});

test("I58 a store into a hole reserves and writes all blocks of its page", async () => {
  const fs = new WrittenScriptFs([H(0, 16384)], { sizeBytes: 16384, order: 0 });
  const folio = await mappedPage(fs, 4096);
  fs.calls.length = 0;
  await iomapPageMkwrite(fs.mapping, folio, fs);
  folio.bytes[4500 - 4096] = 1;
  folio.unlock();
  expect(fs.calls[0]).toBe("begin(4096,4096)");
  expect(await extentsOf(fs)).toEqual(["4096+4096 7"]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,8192)"]);
  expect(fs.conversions).toEqual(["[4096,8192)"]);
});

test("I59 a page that is cut off before it is locked, or has no space, is not dirtied", async () => {
  const fs = new WrittenScriptFs([H(0, 16384)], { sizeBytes: 16384, order: 0 });
  const folio = await mappedPage(fs, 4096);
  fs.calls.length = 0;
  folio.get();
  await folio.lock();
  const fault = codeOf(() => iomapPageMkwrite(fs.mapping, folio, fs));
  await fs.settle();
  fs.inode.size = 1000;
  folio.unlock();
  expect(await fault).toBe("EFAULT");
  expect(fs.calls).toEqual([]);

  fs.inode.size = 16384;
  fs.freeBytes = 0;
  expect(await codeOf(() => iomapPageMkwrite(fs.mapping, folio, fs))).toBe("ENOSPC");
  expect([folio.isDirty, folio.isLocked]).toEqual([false, false]);
  folio.put();
});

test("I59 an error that comes late unlocks the page too", async () => {
  const fs = new WrittenScriptFs([H(0, 16384)], { sizeBytes: 16384, order: 0 });
  const folio = await mappedPage(fs, 4096);
  fs.onBegin = async () => {
    await fs.clock.turn();
    throw new FsError("EIO");
  };
  expect(await codeOf(() => iomapPageMkwrite(fs.mapping, folio, fs))).toBe("EIO");
  expect([folio.isDirty, folio.isLocked]).toEqual([false, false]);
});

test("I60 a fault that fails after it has reserved gives nothing back", async () => {
  const fs = new WrittenScriptFs([H(0, 16384)], { sizeBytes: 16384, order: 0 });
  const folio = await mappedPage(fs, 4096);
  attachBlockState(folio, 1024);
  folio.markDirtyRange(0, 1024);
  folio.markDirty = () => {
    throw new FsError("EIO");
  };
  expect(await codeOf(() => iomapPageMkwrite(fs.mapping, folio, fs))).toBe("EIO");
  expect(fs.calls.at(-1)).toBe("end(4096,4096,0)");
  expect(fs.punches).toEqual([]);
  expect(fs.mappingAt(4096)).toMatchObject(scriptMapping(IOMAP_DELALLOC, 4096, 8192));
});
