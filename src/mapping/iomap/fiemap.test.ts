import { expect, test } from "vitest";
import { inlineMapping, M, ScriptFs, scriptMapping, U } from "../../../test/support/script-fs.ts";
import { AssertionError } from "../../lib/assert.ts";
import { FsError } from "../../lib/errno.ts";
import { FILE_BYTES_MAX } from "../../lib/units.ts";
import { FIEMAP_FLAG_SYNC, iomapBmap, iomapFiemap } from "./fiemap.ts";
import { IOMAP_F_MERGED, IOMAP_F_SHARED, IOMAP_MAPPED } from "./iomap.ts";

const ALL = { startBytes: 0, lengthBytes: Number.POSITIVE_INFINITY, maxExtents: 100, flags: 0 };

test("inline, merged and shared mappings are marked as such", async () => {
  const inline = new ScriptFs([inlineMapping(new Uint8Array(60))], { sizeBytes: 60 });
  inline.onBegin = ({ posBytes }) => {
    if (posBytes >= 60) throw new FsError("ENOENT"); // As ext4 does behind inline data.
  };
  expect(iomapFiemap(inline.inode, inline.mapping, ALL, inline)).toEqual({
    count: 1,
    extents: [{ logicalBytes: 0, physicalBytes: 0, lengthBytes: 60, flags: 0x301 }],
  });

  const flags = IOMAP_F_MERGED | IOMAP_F_SHARED;
  const fs = new ScriptFs([scriptMapping(IOMAP_MAPPED, 0, 4096, { flags })], { sizeBytes: 4096 });
  fs.onBegin = () => Promise.resolve();
  const result = await iomapFiemap(fs.inode, fs.mapping, { ...ALL, flags: FIEMAP_FLAG_SYNC }, fs);
  expect(result.extents.map((extent) => extent.flags)).toEqual([0x3001]);
});

test("neighbours are not joined, and a full table stops the walk", async () => {
  const fs = new ScriptFs([M(0, 4096), M(4096, 8192), U(8192, 12288), M(12288, 16384)], {
    sizeBytes: 16384,
  });
  const request = { ...ALL, maxExtents: 2 };
  const { extents, count } = await iomapFiemap(fs.inode, fs.mapping, request, fs);
  expect(extents.map(({ logicalBytes, flags }) => [logicalBytes, flags])).toEqual([
    [0, 0],
    [4096, 0],
  ]);
  expect(count).toBe(2);
  expect(fs.calls.at(-1)).toContain("end(8192"); // One further, to know whether it is the last.
});

test("a table with room for exactly all extents marks the last one", async () => {
  const fs = new ScriptFs([M(0, 4096), M(8192, 12288)], { sizeBytes: 16384 });
  const { extents } = await iomapFiemap(fs.inode, fs.mapping, { ...ALL, maxExtents: 2 }, fs);
  expect(extents.map(({ flags }) => flags)).toEqual([0, 1]);
});

test("errors of the file system are told, wherever they come", async () => {
  const fs = new ScriptFs([M(0, 4096), M(4096, 8192)], { sizeBytes: 8192 });
  fs.onBegin = ({ posBytes }) => {
    if (posBytes === 4096) throw new FsError("EUCLEAN");
  };
  expect(() => iomapFiemap(fs.inode, fs.mapping, ALL, fs)).toThrow("EUCLEAN");
  fs.onBegin = () => Promise.reject(new FsError("EUCLEAN"));
  await expect(iomapFiemap(fs.inode, fs.mapping, ALL, fs)).rejects.toThrow("EUCLEAN");
  expect(await iomapBmap(fs.inode, fs.mapping, 0, fs)).toBe(0);
  const outside = { ...ALL, startBytes: FILE_BYTES_MAX + 1 };
  expect(() => iomapFiemap(fs.inode, fs.mapping, outside, fs)).toThrow("EFBIG");
});

test("bmap does not hide a failed assertion", () => {
  const fs = new ScriptFs([M(0, 4096)], { sizeBytes: 4096 });
  fs.onBegin = () => {
    throw new AssertionError("a bug");
  };
  expect(() => iomapBmap(fs.inode, fs.mapping, 0, fs)).toThrow("a bug");
});
