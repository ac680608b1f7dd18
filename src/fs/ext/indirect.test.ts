import { beforeEach, describe, expect, it } from "vitest";
import {
  fileWith,
  makeTestCore,
  superblockWith,
  type TestCore,
} from "../../../test/support/ext-core.ts";
import { putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import type { MappedRun } from "./context.ts";
import { indirectReachBytes, mapIndirect } from "./indirect.ts";
import type { ExtInode } from "./inode.ts";
import { SB } from "./layout.ts";

/** Blocks of 1 KiB, 256 pointers each; no checksums, no extents. */
const EXT2 = superblockWith([SB.s_feature_ro_compat, 3], [SB.s_feature_incompat, 2]);

function put(array: Uint8Array, pointers: Readonly<Record<number, number>>): void {
  for (const [slot, pointer] of Object.entries(pointers)) putLe32(array, Number(slot) * 4, pointer);
}

function fileWithMap(pointers: Readonly<Record<number, number>>): ExtInode {
  const iBlock = new Uint8Array(60);
  put(iBlock, pointers);
  return fileWith(EXT2, iBlock, false);
}

let test: TestCore;
beforeEach(() => {
  test = makeTestCore(EXT2);
});

async function map(inode: ExtInode, fileBlock: number, maxCount = 1000): Promise<MappedRun> {
  return test.core.metadata.run(() => mapIndirect(test.core, inode, fileBlock, maxCount));
}

describe("the sparse file of an ext2 image", () => {
  const inode = fileWithMap({ 0: 767, 11: 1537, 12: 1279, 13: 1280, 14: 1283 });
  beforeEach(() => {
    put(test.block(1279), { 0: 1538, 255: 2316 });
    put(test.block(1280), { 0: 1281, 255: 1282 });
    put(test.block(1281), { 0: 2317 });
    put(test.block(1282), { 255: 4364 });
    put(test.block(1283), { 0: 1284 });
    put(test.block(1284), { 0: 1285 });
    put(test.block(1285), { 0: 5000, 1: 5001 });
  });

  it.each([
    [0, 767, 1, false],
    [11, 1537, 1, true],
    [12, 1538, 1, false],
    [267, 2316, 1, true],
    [268, 2317, 1, false],
    [65803, 4364, 1, true],
    [65804, 5000, 2, false],
    [65805, 5001, 1, false],
  ])("block %d", async (fileBlock, physical, count, isBoundary) => {
    expect(await map(inode, fileBlock)).toEqual({
      physical,
      count,
      isUnwritten: false,
      isBoundary,
    });
  });

  it.each([
    [1, 10],
    [13, 254],
    [269, 255],
    [524, 1000],
    [65548, 255],
    [65806, 254],
    [66060, 1000],
  ])("has a hole at %d, merged as far as one look reaches", async (fileBlock, count) => {
    expect(await map(inode, fileBlock)).toMatchObject({ physical: 0, count, isBoundary: false });
  });
});

describe("boundaries", () => {
  const direct = Object.fromEntries(Array.from({ length: 12 }, (_, slot) => [slot, 100 + slot]));

  it("16 blocks wanted from a contiguous file: 12, and a boundary", async () => {
    const inode = fileWithMap({ ...direct, 12: 50 });
    expect(await map(inode, 0, 16)).toMatchObject({ physical: 100, count: 12, isBoundary: true });
    expect(test.store.reads).toBe(0);
  });

  it("8 blocks wanted: 8, and none", async () => {
    const inode = fileWithMap({ ...direct, 12: 50 });
    expect(await map(inode, 0, 8)).toMatchObject({ count: 8, isBoundary: false });
    expect(await map(inode, 4, 8)).toMatchObject({ count: 8, isBoundary: true });
  });

  it("a run ends where the next block lies elsewhere", async () => {
    const inode = fileWithMap({ ...direct, 5: 900 });
    expect(await map(inode, 0)).toMatchObject({ physical: 100, count: 5, isBoundary: false });
    expect(await map(inode, 5)).toMatchObject({ physical: 900, count: 1 });
  });
});

describe("damaged maps", () => {
  it.each([1, 16384, 0xffff_ffff])("pointer %d is EUCLEAN", async (pointer) => {
    for (const slot of [0, 12, 13, 14]) {
      const fileBlock = [0, 12, 268, 65804][Math.max(0, slot - 11)]!;
      const attempt = map(fileWithMap({ [slot]: pointer }), fileBlock);
      await expect(attempt).rejects.toMatchObject({ code: "EUCLEAN" });
    }
  });

  it("a run does not pass the end of the file system", async () => {
    const inode = fileWithMap({ 0: 16383, 1: 16384 });
    expect(await map(inode, 0)).toMatchObject({ physical: 16383, count: 1 });
    await expect(map(inode, 1)).rejects.toBeInstanceOf(FsError);
  });

  it("a pointer block that points to itself ends after three steps", async () => {
    const inode = fileWithMap({ 14: 77 });
    put(test.block(77), { 0: 77, 1: 78 });
    expect(await map(inode, 65804)).toMatchObject({ physical: 77, count: 2 });
    expect(test.store.reads).toBe(1);
  });

  it("a file block behind the reach of the map is EUCLEAN", async () => {
    const reach = 12 + 256 + 256 ** 2 + 256 ** 3;
    expect(indirectReachBytes(1024)).toBe(reach * 1024);
    const inode = fileWithMap({});
    expect(await map(inode, reach - 1)).toMatchObject({ physical: 0, count: 1 });
    await expect(map(inode, reach)).rejects.toMatchObject({ code: "EUCLEAN" });
  });
});
