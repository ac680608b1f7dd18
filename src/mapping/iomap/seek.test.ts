import { expect, test } from "vitest";
import { H, M, ScriptFs, U } from "../../../test/support/script-fs.ts";
import { isPromise } from "../../lib/maybe.ts";
import { iomapSeekData, iomapSeekHole } from "./seek.ts";

test("single blocks of a folio that is not uptodate count", () => {
  const fs = new ScriptFs([U(0, 32768)], { sizeBytes: 32768 });
  const folio = fs.addFolio(16384);
  fs.fillBlocks(folio, [0, 1, 5], 0x55);
  folio.unlock();
  const { inode, mapping } = fs;
  expect(iomapSeekData(inode, mapping, 0, fs)).toBe(16384);
  expect(iomapSeekHole(inode, mapping, 16384, fs)).toBe(18432);
  expect(iomapSeekHole(inode, mapping, 16500, fs)).toBe(18432);
  expect(iomapSeekData(inode, mapping, 18432, fs)).toBe(16384 + 5120);
  expect(iomapSeekData(inode, mapping, 22000, fs)).toBe(22000);
  expect(() => iomapSeekData(inode, mapping, 16384 + 6144, fs)).toThrow("ENXIO");
});

test("a cached folio behind the unwritten extent does not count", () => {
  const fs = new ScriptFs([U(0, 16384), H(16384, 49152), M(49152, 65536)], { sizeBytes: 65536 });
  const folio = fs.addFolio(16384);
  folio.endRead(true);
  expect(iomapSeekData(fs.inode, fs.mapping, 0, fs)).toBe(49152);
});

test("blocks of the same folio behind the unwritten extent do not count", () => {
  const fs = new ScriptFs([U(0, 8192), H(8192, 16384)], { sizeBytes: 16384 });
  const folio = fs.addFolio(0);
  fs.fillBlocks(folio, [10], 0x55);
  folio.unlock();
  expect(() => iomapSeekData(fs.inode, fs.mapping, 0, fs)).toThrow("ENXIO");
});

test("a folio that is being read is waited for", async () => {
  const fs = new ScriptFs([U(0, 32768)], { sizeBytes: 32768 });
  const folio = fs.addFolio(16384);
  const found = iomapSeekData(fs.inode, fs.mapping, 0, fs);
  expect(isPromise(found)).toBe(true);
  folio.endRead(true);
  expect(await found).toBe(16384);
});

test("a file system that has to wait makes the seek wait", async () => {
  const fs = new ScriptFs([M(4096, 8192)], { sizeBytes: 65536 });
  fs.onBegin = () => Promise.resolve();
  expect(await iomapSeekData(fs.inode, fs.mapping, 0, fs)).toBe(4096);
  expect(await iomapSeekHole(fs.inode, fs.mapping, 4096, fs)).toBe(8192);
  await expect(iomapSeekData(fs.inode, fs.mapping, 8192, fs)).rejects.toMatchObject({
    code: "ENXIO",
  });
});
