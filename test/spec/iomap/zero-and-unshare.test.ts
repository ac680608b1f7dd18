/**
 * Cases I61 to I73: zeroing, the ends of what is truncated or punched out, and shared blocks.
 * Blocks of 1024 bytes, folios of 16384.
 */
import { expect, test } from "vitest";
import { truncateInodePagesRange } from "../../../src/cache/truncate.ts";
import { EIO } from "../../../src/lib/errno.ts";
import { IOMAP_F_SHARED, IOMAP_MAPPED } from "../../../src/mapping/iomap/iomap.ts";
import { iomapSeekData } from "../../../src/mapping/iomap/seek.ts";
import { iomapFileUnshare } from "../../../src/mapping/iomap/unshare.ts";
import { iomapTruncatePage } from "../../../src/mapping/iomap/zero-range.ts";
import { extentsOf } from "../../support/iomap-calls.ts";
import { H, M, range, SCRIPT_ADDR, scriptMapping, U } from "../../support/script-fs.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

test("I61 a file cut inside a block has the rest of that zeroed", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const requests = await fs.requestsOf(() => fs.truncate(5000));
  expect(requests).toEqual(["R[4096,5120)"]);
  expect(fs.calls[0]).toBe("begin(5000,120)");
  expect(fs.folio().bytes.subarray(5000, 5120)).toEqual(new Uint8Array(120));
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,5120)"]);
});

test("I61 a file cut between blocks asks for nothing", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  expect(iomapTruncatePage(fs.mapping, 4096, fs)).toBe(false);
  expect([fs.calls, fs.requests]).toEqual([[], []]);
});

test("I62 a file that grows reads as zeros behind its old end, which is safe before its size", async () => {
  const fs = new WrittenScriptFs([M(0, 5120)], { sizeBytes: 5000 });
  const requests = await fs.requestsOf(async () => {
    expect(await fs.zero(5000, 4000)).toBe(true);
    await fs.flush(4096, 5120);
    fs.inode.size = 9000;
  });
  expect(requests).toEqual(["R[4096,5120)", "W[4096,5120)"]);
  expect(fs.calls).toEqual([
    "begin(5000,4000)",
    "end(5000,120,120)",
    "begin(5120,3880)",
    "end(5120,3880,3880)",
  ]);
  expect(await fs.read(5000, 4000)).toEqual(new Uint8Array(4000));
});

test("I63 a punched range loses its whole blocks, and is zeroed at its ends", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const expected = fs.expected(0, 16384).fill(0, 1500, 4500);
  fs.clear(2048, 4096);
  expect(await fs.requestsOf(() => fs.zero(1500, 3000))).toEqual(["R[1024,2048)", "R[4096,5120)"]);
  expect(fs.calls).toEqual([
    "begin(1500,3000)",
    "end(1500,548,548)",
    "begin(2048,2452)",
    "end(2048,2048,2048)",
    "begin(4096,404)",
    "end(4096,404,404)",
  ]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[1024,2048)", "W[4096,5120)"]);
  fs.evict();
  expect(await fs.read(0, 16384)).toEqual(expected);
});

test.each([
  ["hole", H(0, 16384)],
  ["unwritten extent", U(0, 16384)],
])("I64 a clean %s needs no zeroing", async (_, mapping) => {
  const fs = new WrittenScriptFs([mapping], { sizeBytes: 16384 });
  expect(fs.zero(100, 10000)).toBe(false);
  expect([fs.requests, fs.mapping.nrpages]).toEqual([[], 0]);
});

/** An unwritten file whose blocks 1 to 3 were written and are dirty. */
async function dirtyUnwritten(): Promise<WrittenScriptFs> {
  const fs = new WrittenScriptFs([U(0, 16384)], { sizeBytes: 16384 });
  await fs.fillFile(1024, 3072);
  fs.calls.length = 0;
  return fs;
}

test("I65 what is dirty over an unwritten extent is written first, then zeroed as mapped", async () => {
  const fs = await dirtyUnwritten();
  expect(await fs.requestsOf(() => fs.zero(1500, 100))).toEqual(["W[1024,4096)"]);
  expect(fs.conversions).toEqual(["[1024,4096)"]);
  expect(fs.calls).toEqual([
    "begin(1500,100)",
    "end(1500,100,0)",
    "begin(1500,100)",
    "end(1500,100,100)",
  ]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([1]);
  const bytes = fs.folio().bytes.subarray(1024, 4096);
  expect(bytes).toEqual(new Uint8Array(3072).fill(0x77).fill(0, 476, 576));
});

test("I65 an error of that write is the zeroing's", async () => {
  const fs = await dirtyUnwritten();
  fs.device.statusOf = () => -EIO;
  await expect(fs.zero(1500, 100)).rejects.toMatchObject({ code: "EIO" });
});

test("I66 a file system that finds the dirty folios itself has them zeroed as they are", async () => {
  const fs = await dirtyUnwritten();
  fs.usesFolioBatch = true;
  expect(await fs.requestsOf(() => fs.zero(1500, 100))).toEqual([]);
  expect(fs.calls).toEqual(["begin(1500,100)", "end(1500,100,100)"]);
  expect(fs.dirtyBlocks(fs.folio())).toEqual([1, 2, 3]);
  expect(fs.folio().bytes.subarray(1500, 1600)).toEqual(new Uint8Array(100));
});

test("I66 folios between those of the batch are passed over", async () => {
  const fs = new WrittenScriptFs([U(0, 131072)], { sizeBytes: 131072 });
  fs.usesFolioBatch = true;
  await fs.fillFile(16384, 16384);
  await fs.read(32768, 16384);
  await fs.fillFile(65536, 32768);
  expect(await fs.zero(100, 131000)).toBe(true);
  expect(fs.requests).toEqual([]);
  expect(await fs.read(0, 131072)).toEqual(new Uint8Array(131072));
  expect(fs.mapping.folioAt(0)?.isDirty ?? false).toBe(false);
  expect(fs.folio(32768).isDirty).toBe(false);
  expect([fs.folio(16384), fs.folio(65536), fs.folio(81920)].every((each) => each.isDirty)).toBe(
    true,
  );
});

test("I66 a folio of the batch that was evicted meanwhile is zeroed on the device", async () => {
  const fs = await dirtyUnwritten();
  fs.usesFolioBatch = true;
  let isFirst = true;
  fs.onBatch = async () => {
    if (!isFirst) return;
    isFirst = false;
    await fs.flush();
    fs.evict();
  };
  expect(await fs.zero(1500, 100)).toBe(true);
  expect(fs.requests).toEqual(["W[1024,4096)", "R[1024,2048)"]);
  await fs.fsync();
  const expected = new Uint8Array(16384).fill(0x77, 1024, 4096).fill(0, 1500, 1600);
  expect(await fs.read(0, 16384)).toEqual(expected);
});

test("I67 of several unwritten mappings only the first is written out for", async () => {
  const fs = new WrittenScriptFs([U(0, 4096), H(4096, 8192), U(8192, 16384)], {
    sizeBytes: 16384,
  });
  await fs.fillFile(15360, 1024);
  let writes = 0;
  const { ops } = fs.mapping;
  const writepages = ops.writepages!;
  ops.writepages = (mapping, wbc) => {
    writes++;
    return writepages(mapping, wbc);
  };
  expect(await fs.requestsOf(() => fs.zero(0, 16384))).toEqual(["W[15360,16384)"]);
  expect(writes).toBe(1);
  expect(await fs.read(0, 16384)).toEqual(new Uint8Array(16384));
});

test("I68 write-out passes over blocks that were punched out of the middle of a folio", async () => {
  const fs = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  await fs.fillFile(0, 16384);
  await truncateInodePagesRange(fs.mapping, 4096, 8191);
  fs.clear(4096, 8192);
  expect(fs.dirtyBlocks(fs.folio())).toEqual(range(0, 15));
  let error = -1;
  const requests = await fs.requestsOf(async () => {
    error = await fs.fsync();
  });
  expect(requests).toEqual(["W[0,4096)", "W[8192,16384)"]);
  expect([error, fs.dirtyBlocks(fs.folio())]).toEqual([0, []]);
});

/** A file whose 16 blocks belong to another one too. */
function sharedFile(): WrittenScriptFs {
  const shared = scriptMapping(IOMAP_MAPPED, 0, 16384, { flags: IOMAP_F_SHARED });
  return new WrittenScriptFs([shared], { sizeBytes: 16384 });
}

test("I69 a write to shared blocks reads the old ones, and goes to space of its own", async () => {
  const fs = sharedFile();
  const old = fs.expected(0, 16384);
  const expected = old.slice().fill(0x77, 5000, 5100);
  expect(await fs.requestsOf(() => fs.fillFile(5000, 100))).toEqual(["R[4096,5120)"]);
  expect(await fs.requestsOf(() => fs.fsync())).toEqual(["W[4096,5120)"]);
  expect(await extentsOf(fs)).toEqual(["0+4096 8192", "4096+1024 0", "5120+11264 8193"]);
  fs.evict();
  expect(await fs.read(0, 16384)).toEqual(expected);
  const ofTheOther = new Uint8Array(16384);
  fs.device.peek(SCRIPT_ADDR, ofTheOther);
  expect(ofTheOther).toEqual(old);
});

test("I70 until then a report shows the shared extent", async () => {
  const fs = sharedFile();
  await fs.fillFile(5000, 100);
  expect(await extentsOf(fs)).toEqual(["0+16384 8193"]);
  expect(await iomapSeekData(fs.inode, fs.mapping, 0, fs)).toBe(0);
});

const unshare = async (
  fs: WrittenScriptFs,
  posBytes: number,
  lengthBytes: number,
): Promise<void> => {
  await iomapFileUnshare(fs.mapping, posBytes, lengthBytes, fs, fs.writeOps);
};

test("I71 unsharing copies what is still shared", async () => {
  const fs = sharedFile();
  const expected = fs.expected(0, 16384).fill(0x77, 5000, 5100);
  await fs.fillFile(5000, 100);
  await fs.fsync();
  fs.evict();
  const requests = await fs.requestsOf(() => unshare(fs, 0, 16384));
  expect(requests).toEqual(["R[0,4096)", "R[5120,16384)"]);
  await fs.fsync();
  expect((await extentsOf(fs)).every((extent) => !extent.endsWith("8192"))).toBe(true);
  expect(fs.mappings.some(({ flags }) => (flags & IOMAP_F_SHARED) !== 0)).toBe(false);
  fs.evict();
  expect(await fs.read(0, 16384)).toEqual(expected);
});

test("I72 there is nothing to unshare in a file of its own, or behind the end", async () => {
  const own = new WrittenScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  await unshare(own, 0, 16384);
  const shared = sharedFile();
  await unshare(shared, 16384, 1000);
  expect([own.requests, shared.requests, shared.calls]).toEqual([[], [], []]);
});

test("I48 unsharing asks again for a stale mapping", async () => {
  const fs = sharedFile();
  let asked = 0;
  fs.isValid = () => ++asked > 1;
  await unshare(fs, 0, 16384);
  expect(fs.calls.filter((call) => call === "begin(0,16384)").length).toBe(2);
  expect(fs.dirtyBlocks(fs.folio())).toEqual(range(0, 15));
});

test("I73 a copy that cannot be written leaves the shared blocks in place", async () => {
  const fs = sharedFile();
  const old = fs.expected(0, 16384);
  await fs.fillFile(5000, 100);
  fs.device.statusOf = ({ isWrite }) => (isWrite ? -EIO : 0);
  expect(await fs.fsync()).toBe(-EIO);
  expect(await extentsOf(fs)).toEqual(["0+16384 8193"]);
  expect(fs.cow).toEqual([]);
  fs.evict();
  expect(await fs.read(0, 16384)).toEqual(old);
});
