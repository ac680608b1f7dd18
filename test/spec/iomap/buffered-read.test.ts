/**
 * Cases I11 to I20, I91, I130 and I131: folios filled from scripted mappings. Blocks of 1024 bytes,
 * folios of 16384, unless a case says otherwise.
 */
import { expect, test, vi } from "vitest";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import { filemapRead } from "../../../src/cache/filemap.ts";
import type { Folio } from "../../../src/cache/folio.ts";
import { forcePageCacheRa } from "../../../src/cache/readahead.ts";
import { EIO, EUCLEAN, FsError } from "../../../src/lib/errno.ts";
import { iomapReadFolio } from "../../../src/mapping/iomap/buffered-read.ts";
import { iomapIsPartiallyUptodate } from "../../../src/mapping/iomap/callbacks.ts";
import { iomapFinishFolioRead } from "../../../src/mapping/iomap/finish-read.ts";
import type { IomapReadOps } from "../../../src/mapping/iomap/read-ops.ts";
import {
  H,
  inlineMapping,
  M,
  range,
  ScriptFs,
  type ScriptFsOptions,
  type ScriptMapping,
  U,
} from "../../support/script-fs.ts";

const ALL_BLOCKS = range(0, 15);

/**
 * A folio of the script that was handed to `iomapReadFolio`, with the device's completions held.
 */
function beginRead(fs: ScriptFs, folio: Folio = fs.addFolio(0)): Folio {
  fs.device.isHeld = true;
  expect(iomapReadFolio(folio, fs)).toBe(0);
  return folio;
}

async function readFile(fs: ScriptFs, posBytes: number, lengthBytes: number): Promise<Uint8Array> {
  const into = new Uint8Array(lengthBytes);
  const file = openCacheFile(fs.mapping);
  const count = await filemapRead({ file, posBytes, flags: 0 }, into);
  if (count < 0) throw FsError.of(count);
  return into.subarray(0, count);
}

test("I11 a mapped folio is one request, and is unlocked once when that completes", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const folio = beginRead(fs);
  const unlock = vi.spyOn(folio, "unlock");
  expect(fs.requests).toEqual(["R[0,16384)"]);
  expect(folio.blockState?.readPendingBytes).toBe(16384);
  expect(folio.isLocked).toBe(true);
  fs.device.completeAll();
  expect(fs.uptodateBlocks(folio)).toEqual(ALL_BLOCKS);
  expect([folio.isUptodate, folio.isLocked]).toEqual([true, false]);
  expect(unlock).toHaveBeenCalledTimes(1);
  expect(folio.bytes).toEqual(fs.expected(0, 16384));
});

/** The folio of case 12: mapped, hole, unwritten, mapped. */
const MIXED = [M(0, 4096), H(4096, 8192), U(8192, 12288), M(12288, 16384)];
const MIXED_APART = [M(0, 4096, 8192), H(4096, 8192), U(8192, 12288), M(12288, 16384, 65536)];

test.each([
  ["in line on the device", MIXED],
  ["apart on the device", MIXED_APART],
])(
  "I12 holes and unwritten ranges are zeros at once, the rest two requests (%s)",
  (_, mappings) => {
    const fs = new ScriptFs(mappings, { sizeBytes: 16384 });
    const folio = fs.addFolio(0);
    folio.bytes.fill(0xaa);
    beginRead(fs, folio);
    expect(fs.requests).toEqual(["R[0,4096)", "R[12288,16384)"]);
    expect(folio.blockState?.readPendingBytes).toBe(8192);
    expect(fs.uptodateBlocks(folio)).toEqual(range(4, 11));
    expect(folio.bytes.subarray(4096, 12288)).toEqual(new Uint8Array(8192));

    fs.device.complete(fs.device.requests[1]!);
    expect([folio.isUptodate, folio.isLocked]).toEqual([false, true]);
    fs.device.complete(fs.device.requests[0]!);
    expect([folio.isUptodate, folio.isLocked]).toEqual([true, false]);
    expect(folio.bytes).toEqual(fs.expected(0, 16384));
  },
);

test("I13 a failed request costs its own blocks only, and only they are read again", async () => {
  const fs = new ScriptFs(MIXED, { sizeBytes: 16384 });
  const folio = beginRead(fs);
  fs.device.complete(fs.device.requests[0]!);
  fs.device.complete(fs.device.requests[1]!, -EIO);
  expect(fs.uptodateBlocks(folio)).toEqual(range(0, 11));
  expect([folio.isUptodate, folio.isLocked]).toEqual([false, false]);

  expect(await readFile(fs, 4096, 4096)).toEqual(fs.expected(4096, 8192));
  expect(fs.requests.length).toBe(2);
  fs.device.isHeld = false;
  expect(await readFile(fs, 12288, 100)).toEqual(fs.expected(12288, 12388));
  expect(fs.requests.slice(2)).toEqual(["R[12288,16384)"]);
  expect(folio.isUptodate).toBe(true);
});

test("I14 blocks that are uptodate are neither read nor touched", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const folio = fs.addFolio(0);
  fs.fillBlocks(folio, [4], 0x55);
  beginRead(fs, folio);
  expect(fs.requests).toEqual(["R[0,4096)", "R[5120,16384)"]);
  fs.device.completeAll();
  expect(folio.isUptodate).toBe(true);
  expect(folio.bytes.subarray(4096, 5120)).toEqual(new Uint8Array(1024).fill(0x55));
  expect(folio.bytes.subarray(5120)).toEqual(fs.expected(5120, 16384));
});

test("I15 of a page whose first block is uptodate the other three are read", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384, order: 0 });
  const folio = fs.addFolio(4096);
  fs.fillBlocks(folio, [0], 0x55);
  beginRead(fs, folio);
  expect(fs.requests).toEqual(["R[5120,8192)"]);
});

test("I16 blocks behind the end of the file are zeroed, though there is space for them", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 5000 });
  const folio = fs.addFolio(0);
  folio.bytes.fill(0xaa);
  beginRead(fs, folio);
  expect(fs.requests).toEqual(["R[0,5120)"]);
  fs.device.completeAll();
  expect(folio.bytes.subarray(5120)).toEqual(new Uint8Array(11264));
  expect(folio.isUptodate).toBe(true);
});

/** The file of case 17. */
const MIXED_FILE: ScriptMapping[] = [
  M(0, 8192),
  H(8192, 16384),
  U(16384, 24576),
  H(24576, 32768),
  M(32768, 40960),
  H(40960, 65536),
];

test("I17 a readahead of 64 KiB is two requests, one for each mapped range", async () => {
  const fs = new ScriptFs(MIXED_FILE, { sizeBytes: 65536, raPages: 32 });
  const bytes = await readFile(fs, 0, 65536);
  expect(fs.requests).toEqual(["RA[0,8192)", "RA[32768,40960)"]);
  expect(bytes).toEqual(fs.expected(0, 65536));
  expect(bytes.length).toBe(65536);
});

test("I18 completions inside the hook end the read only after the last range", () => {
  const locked: boolean[] = [];
  const readOps: IomapReadOps = {
    readFolioRange(iter, ctx, lengthBytes) {
      const folio = ctx.folio!;
      folio.bytes.fill(7, iter.posBytes, iter.posBytes + lengthBytes);
      iomapFinishFolioRead(folio, iter.posBytes, lengthBytes, 0);
      locked.push(folio.isLocked);
    },
  };
  const fs = new ScriptFs([M(0, 8192, 0), M(8192, 16384, 65536)], { sizeBytes: 16384, readOps });
  const folio = fs.addFolio(0);
  const unlock = vi.spyOn(folio, "unlock");
  expect(iomapReadFolio(folio, fs, readOps)).toBe(0);
  expect(locked).toEqual([true, false]);
  expect(unlock).toHaveBeenCalledTimes(1);
  expect(folio.isUptodate).toBe(true);
});

test("I18 the same with a hole behind the last range: the read ends after the hole", () => {
  const locked: boolean[] = [];
  const readOps: IomapReadOps = {
    readFolioRange(iter, ctx, lengthBytes) {
      iomapFinishFolioRead(ctx.folio!, iter.posBytes, lengthBytes, 0);
      locked.push(ctx.folio!.isLocked);
    },
  };
  const fs = new ScriptFs([M(0, 8192), H(8192, 16384)], { sizeBytes: 16384 });
  const folio = fs.addFolio(0);
  const unlock = vi.spyOn(folio, "unlock");
  expect(iomapReadFolio(folio, fs, readOps)).toBe(0);
  expect(locked).toEqual([true]);
  expect(unlock).toHaveBeenCalledTimes(1);
  expect(folio.isUptodate).toBe(true);
});

test("I19 a folio of one block fails as a whole and has no state for parts", () => {
  const fs = new ScriptFs([M(0, 4096)], { sizeBytes: 4096, blockBytes: 4096, order: 0 });
  const folio = beginRead(fs);
  expect(fs.requests).toEqual(["R[0,4096)"]);
  fs.device.complete(fs.device.requests[0]!, -EIO);
  expect([folio.isUptodate, folio.isLocked, folio.blockState]).toEqual([false, false, null]);
  expect(iomapIsPartiallyUptodate(folio, 0, 512)).toBe(false);
});

test.each(["at once", "later"])(
  "I20 an error in a readahead costs the folios behind it, and their readers hear of it (%s)",
  async (when) => {
    const options: ScriptFsOptions = { sizeBytes: 65536, raPages: 32 };
    const fs = new ScriptFs([M(0, 32768), M(32768, 65536)], options);
    let isBroken = true;
    const refuse = (posBytes: number): void => {
      if (isBroken && posBytes >= 32768) throw new FsError("EUCLEAN", { detail: "extent 1" });
    };
    fs.onBegin = ({ posBytes }) => {
      if (when === "at once") return refuse(posBytes);
      return fs.clock.turn().then(() => refuse(posBytes));
    };
    expect(await forcePageCacheRa(openCacheFile(fs.mapping), 0, 16)).toBeUndefined();
    await fs.settle();
    expect(fs.requests).toEqual(["RA[0,32768)"]);
    for (const index of [0, 4]) expect(fs.mapping.folioAt(index)?.isUptodate).toBe(true);
    for (const index of [8, 12]) expect(fs.mapping.folioAt(index)).toBeUndefined();
    expect(fs.cache.lockedCount).toBe(0);

    await expect(readFile(fs, 32768, 4096)).rejects.toMatchObject({ errno: -EUCLEAN });
    isBroken = false;
    expect(await readFile(fs, 32768, 4096)).toEqual(fs.expected(32768, 36864));
    fs.cache.verify();
  },
);

test("I91 a part is uptodate if all blocks that it touches are", () => {
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
  const folio = fs.addFolio(0);
  expect(iomapIsPartiallyUptodate(folio, 4096, 1024)).toBe(false);
  fs.fillBlocks(folio, [4], 0x55);
  expect(iomapIsPartiallyUptodate(folio, 4096, 1024)).toBe(true);
  expect(iomapIsPartiallyUptodate(folio, 4096, 1025)).toBe(false);
  expect(iomapIsPartiallyUptodate(folio, 4500, 100)).toBe(true);
  expect(iomapIsPartiallyUptodate(folio, 16000, 5000)).toBe(false);
  fs.fillBlocks(folio, [15], 0x55);
  expect(iomapIsPartiallyUptodate(folio, 16000, 5000)).toBe(true); // Clipped to block 15.
});

test("I130 inline data is copied without a request, with zeros behind it", async () => {
  const data = Uint8Array.from(range(1, 60));
  const fs = new ScriptFs([inlineMapping(data)], { sizeBytes: 60 });
  expect(await readFile(fs, 0, 512)).toEqual(data);
  expect(fs.requests).toEqual([]);
  const folio = fs.mapping.folioAt(0)!;
  expect(folio.bytes.subarray(60)).toEqual(new Uint8Array(16384 - 60));
  expect([folio.isUptodate, folio.isLocked]).toEqual([true, false]);
});

test("I130 the folio behind inline data is zeroed, whatever was in it", () => {
  const fs = new ScriptFs([inlineMapping(new Uint8Array(60).fill(1))], { sizeBytes: 60 });
  const folio = fs.addFolio(0);
  folio.bytes.fill(0xaa);
  expect(iomapReadFolio(folio, fs)).toBe(0);
  expect(folio.bytes).toEqual(fs.expected(0, 16384));
});

test("I131 an inline mapping shorter than the file is EIO", () => {
  const fs = new ScriptFs([inlineMapping(new Uint8Array(60))], { sizeBytes: 70 });
  const folio = fs.addFolio(0);
  expect(iomapReadFolio(folio, fs)).toBe(-EIO);
  expect([folio.isUptodate, folio.isLocked]).toEqual([false, false]);
});

test("I131 an inline mapping without a buffer, or with a short one, is EIO", () => {
  for (const inlineData of [null, new Uint8Array(59)]) {
    const fs = new ScriptFs([{ ...inlineMapping(new Uint8Array(60)), inlineData }], {
      sizeBytes: 60,
    });
    expect(iomapReadFolio(fs.addFolio(0), fs)).toBe(-EIO);
  }
});
