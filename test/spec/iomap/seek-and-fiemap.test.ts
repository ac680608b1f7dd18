/**
 * Cases I120 to I125 and I137 (holes and data) and I126 to I128 (FIEMAP, bmap).
 */
import { expect, test } from "vitest";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import { filemapRead } from "../../../src/cache/filemap.ts";
import { invalidateMappingPages } from "../../../src/cache/truncate.ts";
import { EIO, FsError } from "../../../src/lib/errno.ts";
import { roundDown, roundUp } from "../../../src/lib/units.ts";
import { INDEX_MAX } from "../../../src/lib/xarray.ts";
import {
  FIEMAP_FLAG_SYNC,
  type FiemapRequest,
  type FiemapResult,
  iomapBmap,
  iomapFiemap,
} from "../../../src/mapping/iomap/fiemap.ts";
import { iomapSeekData, iomapSeekHole } from "../../../src/mapping/iomap/seek.ts";
import { extentsOf } from "../../support/iomap-calls.ts";
import { D, H, M, SCRIPT_ADDR, ScriptFs, U } from "../../support/script-fs.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

/** What the call gives, synchronously; the code of what it throws. */
function resultOf<T>(call: () => T): T | string {
  try {
    return call();
  } catch (thrown) {
    return (thrown as FsError).code;
  }
}

function data(fs: ScriptFs, posBytes: number): unknown {
  return resultOf(() => iomapSeekData(fs.inode, fs.mapping, posBytes, fs));
}

function hole(fs: ScriptFs, posBytes: number): unknown {
  return resultOf(() => iomapSeekHole(fs.inode, fs.mapping, posBytes, fs));
}

async function read(fs: ScriptFs, posBytes: number, lengthBytes: number): Promise<void> {
  const iocb = { file: openCacheFile(fs.mapping), posBytes, flags: 0 };
  expect(await filemapRead(iocb, new Uint8Array(lengthBytes))).toBe(lengthBytes);
}

test("I120 an unwritten extent that is not cached is one hole", () => {
  const fs = new ScriptFs([U(0, 65536)], { sizeBytes: 65536 });
  expect(data(fs, 0)).toBe("ENXIO");
  expect(hole(fs, 0)).toBe(0);
  expect(hole(fs, 65535)).toBe(65535);
  expect(data(fs, 65536)).toBe("ENXIO");
  expect(hole(fs, 65536)).toBe("ENXIO");
  expect(hole(fs, -1)).toBe("ENXIO");
});

test.each([
  [0, "from 0"],
  [2 ** 40, "from 2^40"],
])(
  "I121 a dirty block of an unwritten extent is data, block by block, as it is after fsync (%i)",
  async (base) => {
    const sizeBytes = base + 65536;
    const fs = new WrittenScriptFs([U(base, sizeBytes)], { sizeBytes });
    await fs.fillFile(base + 5000, 100);
    for (const isSynced of [false, true]) {
      if (isSynced) expect(await fs.fsync()).toBe(0);
      expect(await data(fs, base)).toBe(base + 4096);
      expect(await hole(fs, base)).toBe(base);
      expect(await data(fs, base + 5000)).toBe(base + 5000);
      expect(await hole(fs, base + 4096)).toBe(base + 5120);
      expect(data(fs, base + 5120)).toBe("ENXIO");
    }
    expect(fs.conversions).toEqual([`[${base + 4096},${base + 5120})`]);
  },
);

test.each([
  [0, 36864],
  [2, 49152],
])("I122 unwritten blocks that were read are data until evicted (order %i)", async (order, end) => {
  const fs = new ScriptFs([U(0, 65536)], { sizeBytes: 65536, order });
  await read(fs, 32768, 4096);
  expect(data(fs, 8192)).toBe(32768);
  expect(hole(fs, 32768)).toBe(end);
  expect(invalidateMappingPages(fs.mapping, 0, INDEX_MAX)).toBe(2 ** order);
  expect(data(fs, 8192)).toBe("ENXIO");
  expect(hole(fs, 32768)).toBe(32768);
});

test("I122 shadows of evicted folios are not data", async () => {
  const sizeBytes = 4 * 1024 * 1024;
  const fs = new ScriptFs([U(0, sizeBytes)], { sizeBytes, order: 0, arenaBytes: 1024 * 1024 });
  for (let posBytes = 0; posBytes < sizeBytes; posBytes += 4096) await read(fs, posBytes, 4096);
  expect(fs.mapping.shadowCount).toBeGreaterThan(0);
  const cachedFrom = fs.mapping.nextFolioIndex(0, INDEX_MAX) * 4096;
  expect(cachedFrom).toBeGreaterThan(0);
  expect(data(fs, 0)).toBe(cachedFrom);
  expect(hole(fs, 0)).toBe(0);
});

test("I123 a readahead over an unwritten range makes it data", async () => {
  const mappings = [M(0, 8192), H(8192, 16384), U(16384, 24576), H(24576, 32768), M(32768, 40960)];
  const fs = new ScriptFs(mappings, { sizeBytes: 65536, raPages: 32, order: 0 });
  expect(data(fs, 8192)).toBe(32768);
  await read(fs, 0, 65536);
  expect(data(fs, 8192)).toBe(16384);
  expect(hole(fs, 16384)).toBe(24576);
});

/** The file of case 124. */
function sparseFile(): ScriptFs {
  const mappings = [M(4096, 8192), U(16384, 20480), D(32768, 34816)];
  return new ScriptFs(mappings, { sizeBytes: 65536 });
}

test("I124 mapped and reserved ranges are data, all else is holes", () => {
  const fs = sparseFile();
  expect(data(fs, 0)).toBe(4096);
  expect(data(fs, 5000)).toBe(5000);
  expect(hole(fs, 4096)).toBe(8192);
  expect(data(fs, 8192)).toBe(32768);
  expect(hole(fs, 32768)).toBe(34816);
  expect(data(fs, 34816)).toBe("ENXIO");
  expect(hole(fs, 34816)).toBe(34816);
});

test("I125 the end of a fully mapped file is its only hole", () => {
  const fs = new ScriptFs([M(0, 20480)], { sizeBytes: 20000 });
  expect(hole(fs, 0)).toBe(20000);
  expect(data(fs, 19999)).toBe(19999);
});

function fiemap(fs: ScriptFs, request: Partial<FiemapRequest> = {}): FiemapResult | string {
  const all = { startBytes: 0, lengthBytes: Number.POSITIVE_INFINITY, maxExtents: 100, flags: 0 };
  return resultOf(() => iomapFiemap(fs.inode, fs.mapping, { ...all, ...request }, fs)) as
    | FiemapResult
    | string;
}

test("I126 FIEMAP gives the extents with their states, the last one marked", () => {
  expect(fiemap(sparseFile())).toEqual({
    count: 3,
    extents: [
      { logicalBytes: 4096, physicalBytes: SCRIPT_ADDR + 4096, lengthBytes: 4096, flags: 0 },
      { logicalBytes: 16384, physicalBytes: SCRIPT_ADDR + 16384, lengthBytes: 4096, flags: 0x800 },
      { logicalBytes: 32768, physicalBytes: 0, lengthBytes: 2048, flags: 0x7 },
    ],
  });
});

test("I127 FIEMAP counts, stops when full, and takes mappings as they are given", () => {
  const fs = sparseFile();
  expect(fiemap(fs, { maxExtents: 0 })).toEqual({ count: 3, extents: [] });
  const first = { logicalBytes: 4096, physicalBytes: SCRIPT_ADDR + 4096, lengthBytes: 4096 };
  expect(fiemap(fs, { maxExtents: 1 })).toEqual({ count: 1, extents: [{ ...first, flags: 0 }] });

  // As XFS does, which gives no more than was asked for, in whole blocks.
  fs.onBegin = ({ posBytes, lengthBytes, iomap }) => {
    const start = Math.max(iomap.offsetBytes, roundDown(posBytes, 1024));
    const end = iomap.offsetBytes + iomap.lengthBytes;
    iomap.addrBytes += start - iomap.offsetBytes;
    iomap.lengthBytes = Math.min(end, roundUp(posBytes + lengthBytes, 1024)) - start;
    iomap.offsetBytes = start;
  };
  expect(fiemap(fs, { startBytes: 5000, lengthBytes: 10 })).toEqual({
    count: 1,
    extents: [{ ...first, lengthBytes: 1024, flags: 1 }],
  });
  expect(fiemap(fs, { startBytes: 40000 })).toEqual({ count: 0, extents: [] });
  expect(fiemap(fs, { lengthBytes: 0 })).toBe("EINVAL");
  expect(fiemap(fs, { flags: 0x10 })).toBe("EBADR");
});

test("I128 bmap gives the block on the device, and 0 for everything else", () => {
  const fs = sparseFile();
  const bmap = (fileBlock: number): unknown => iomapBmap(fs.inode, fs.mapping, fileBlock, fs);
  expect(bmap(0)).toBe(0); // A hole.
  expect(bmap(4)).toBe((SCRIPT_ADDR + 4096) / 1024);
  expect(bmap(7)).toBe((SCRIPT_ADDR + 7168) / 1024);
  expect(bmap(16)).toBe(0); // Unwritten.
  fs.onBegin = () => {
    throw new FsError("EIO");
  };
  expect(bmap(4)).toBe(0);
});

test("I137 holes and data above 2^40 are found as those at the start", async () => {
  const base = 2 ** 40;
  const fs = new ScriptFs([U(base, base + 65536)], { sizeBytes: base + 65536, order: 0 });
  expect(data(fs, 0)).toBe("ENXIO");
  expect(data(fs, base)).toBe("ENXIO");
  expect(hole(fs, base)).toBe(base);
  expect(hole(fs, base + 65535)).toBe(base + 65535);
  expect(data(fs, base + 65536)).toBe("ENXIO");
  expect(hole(fs, base + 65536)).toBe("ENXIO");

  // As case 121, with a block that was read in place of one that was written.
  const folio = fs.addFolio(base + 4096);
  fs.fillBlocks(folio, [0], 0x55);
  folio.unlock();
  expect(data(fs, base)).toBe(base + 4096);
  expect(hole(fs, base)).toBe(base);
  expect(data(fs, base + 5000)).toBe(base + 5000);
  expect(hole(fs, base + 4096)).toBe(base + 5120);
  expect(data(fs, base + 5120)).toBe("ENXIO");
});

/** The file of case 124, of which the last extent was only reserved, and is dirty. */
async function mixedAndDirty(): Promise<WrittenScriptFs> {
  const fs = new WrittenScriptFs([M(4096, 8192), U(16384, 20480)], { sizeBytes: 65536 });
  await fs.fillFile(32768, 2048);
  return fs;
}

test("I126 with SYNC what is dirty is written first, and is real then", async () => {
  const fs = await mixedAndDirty();
  expect(await extentsOf(fs)).toEqual(["4096+4096 0", "16384+4096 2048", "32768+2048 7"]);
  expect(await extentsOf(fs, FIEMAP_FLAG_SYNC)).toEqual([
    "4096+4096 0",
    "16384+4096 2048",
    "32768+2048 1",
  ]);
  expect(fs.requests).toEqual(["W[32768,34816)"]);
});

test("I126 an error of that write is the report's", async () => {
  const fs = await mixedAndDirty();
  fs.device.statusOf = () => -EIO;
  await expect(extentsOf(fs, FIEMAP_FLAG_SYNC)).rejects.toMatchObject({ code: "EIO" });
});

test("I127 an unknown flag is refused before anything is written", async () => {
  const fs = await mixedAndDirty();
  await expect(extentsOf(fs, FIEMAP_FLAG_SYNC | 0x10)).rejects.toMatchObject({ code: "EBADR" });
  expect(fs.requests).toEqual([]);
});

test("I128 bmap of reserved space writes it, and tells where it is then", async () => {
  const fs = await mixedAndDirty();
  expect(await iomapBmap(fs.inode, fs.mapping, 32, fs)).toBe((SCRIPT_ADDR + 32768) / 1024);
  expect(fs.requests).toEqual(["W[32768,34816)"]);
  expect(await iomapBmap(fs.inode, fs.mapping, 0, fs)).toBe(0); // A hole.
  expect(await iomapBmap(fs.inode, fs.mapping, 16, fs)).toBe(0); // Unwritten.
});
