import { expect, test } from "vitest";
import { ScriptDevice } from "../../../test/support/script-device.ts";
import {
  M,
  SCRIPT_ADDR,
  ScriptFs,
  type ScriptFsOptions,
  type ScriptMapping,
} from "../../../test/support/script-fs.ts";
import { BIO_MAX_VECTORS } from "../../block/bio.ts";
import { openCacheFile } from "../../cache/cache-file.ts";
import { forcePageCacheRa } from "../../cache/readahead.ts";
import { EIO } from "../../lib/errno.ts";
import { pagesOfBytes } from "../../lib/units.ts";
import { iomapReadFolio } from "./buffered-read.ts";
import { IOMAP_F_BOUNDARY, IOMAP_NULL_ADDR } from "./iomap.ts";

/** A script whose whole file was submitted for readahead, with the completions held. */
function readAll(
  mappings: readonly ScriptMapping[],
  sizeBytes: number,
  options: Partial<ScriptFsOptions> = {},
): ScriptFs {
  const pages = pagesOfBytes(sizeBytes);
  const fs = new ScriptFs(mappings, { sizeBytes, raPages: pages, ...options });
  fs.device.isHeld = true;
  void forcePageCacheRa(openCacheFile(fs.mapping), 0, pages);
  return fs;
}

test("a run of the device is one bio, across folios", () => {
  const fs = readAll([M(0, 131072)], 131072);
  expect(fs.requests).toEqual(["RA[0,131072)"]);
  expect(fs.device.requests[0]!.bio.vectors.length).toBe(8);
  fs.device.completeAll();
  for (let index = 0; index < 32; index += 4) {
    const folio = fs.mapping.folioAt(index)!;
    expect(folio.bytes).toEqual(fs.expected(index * 4096, index * 4096 + 16384));
    expect([folio.isUptodate, folio.isLocked]).toEqual([true, false]);
  }
});

test("mappings that go on on the device share a bio, others do not", () => {
  const mappings = [
    M(0, 5120),
    M(5120, 20480), // Goes on.
    M(20480, 24576, SCRIPT_ADDR + 65536), // Elsewhere.
    M(24576, 32768, SCRIPT_ADDR), // Back.
  ];
  expect(readAll(mappings, 32768).requests).toEqual([
    "RA[0,20480)",
    "RA[20480,24576)",
    "RA[0,8192)", // Of the device: the last mapping lies where the first does.
  ]);
});

test("a hole in the file does not end a run of the device", () => {
  const fs = readAll([M(0, 4096), M(12288, 16384, SCRIPT_ADDR + 4096)], 16384);
  expect(fs.device.requests.map(({ lengthBytes }) => lengthBytes)).toEqual([8192]);
  fs.device.completeAll();
  expect(fs.mapping.folioAt(0)!.bytes).toEqual(fs.expected(0, 16384));
});

test("a boundary begins a new bio, though the device goes on", () => {
  const mappings = [M(0, 16384), { ...M(16384, 49152), flags: IOMAP_F_BOUNDARY }];
  expect(readAll(mappings, 49152).requests).toEqual(["RA[0,16384)", "RA[16384,49152)"]);
});

test("another device begins a new bio, though the address goes on", () => {
  const fs = new ScriptFs([M(0, 8192), M(8192, 16384)], { sizeBytes: 16384 });
  const other = new ScriptDevice(fs.clock, 2 ** 40);
  fs.onBegin = ({ iomap, posBytes }) => {
    if (posBytes >= 8192) iomap.bdev = other;
  };
  void iomapReadFolio(fs.addFolio(0), fs);
  expect(fs.requests).toEqual(["R[0,8192)"]);
  expect(other.requests.map(({ offsetBytes }) => offsetBytes)).toEqual([SCRIPT_ADDR + 8192]);
});

test("a bio holds as many ranges as it has vectors", () => {
  const sizeBytes = (BIO_MAX_VECTORS + 1) * 4096;
  const fs = readAll([M(0, sizeBytes)], sizeBytes, { order: 0 });
  const full = BIO_MAX_VECTORS * 4096;
  expect(fs.requests).toEqual([`RA[0,${full})`, `RA[${full},${sizeBytes})`]);
});

test("where the device ends inside a block, the rest of the block is zero", () => {
  const deviceBytes = SCRIPT_ADDR + 5000;
  const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 5000, deviceBytes });
  const folio = fs.addFolio(0);
  folio.bytes.fill(0xaa);
  fs.device.isHeld = true;
  void iomapReadFolio(folio, fs);
  expect(fs.requests).toEqual(["R[0,5000)"]);
  fs.device.completeAll();
  expect(folio.isUptodate).toBe(true);
  expect(folio.bytes.subarray(0, 5000)).toEqual(fs.expected(0, 5000));
  expect(folio.bytes.subarray(5000)).toEqual(new Uint8Array(16384 - 5000));
});

test.each([5000, 5120])("blocks behind the end of the device fail alone (byte %i)", (end) => {
  const deviceBytes = SCRIPT_ADDR + end;
  const fs = new ScriptFs([M(0, 16384), M(16384, 32768)], { sizeBytes: 32768, deviceBytes });
  const folio = fs.addFolio(0);
  fs.device.isHeld = true;
  expect(iomapReadFolio(folio, fs)).toBe(0);
  expect(fs.requests).toEqual([`R[0,${end})`, "R[5120,16384)"]);
  fs.device.completeAll();
  expect(fs.uptodateBlocks(folio)).toEqual([0, 1, 2, 3, 4]);
  expect([folio.isUptodate, folio.isLocked]).toEqual([false, false]);
});

test("a mapping without a device or an address is EIO", () => {
  for (const spoiled of [{ bdev: null }, { addrBytes: IOMAP_NULL_ADDR }]) {
    const fs = new ScriptFs([M(0, 16384)], { sizeBytes: 16384 });
    fs.onBegin = ({ iomap }) => void Object.assign(iomap, spoiled);
    const folio = fs.addFolio(0);
    expect(iomapReadFolio(folio, fs)).toBe(-EIO);
    expect([folio.isUptodate, folio.isLocked]).toEqual([false, false]);
  }
});
