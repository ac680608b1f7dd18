import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage, makeSourceTree } from "../../../test/support/ext-images.ts";
import { withKernelMount } from "../../../test/support/kernel-image.ts";
import { quireManifest } from "../../../test/support/manifest.ts";
import {
  requireRoot,
  requireTool,
  runTool,
  scratchDirectory,
} from "../../../test/support/tools.ts";
import { StoreBlockDevice } from "../../block/block-device.ts";
import { PageCache } from "../../cache/page-cache.ts";
import { openImage } from "../../front/open-image.ts";
import { realClock } from "../../lib/clock.ts";
import { Random } from "../../lib/random.ts";
import { KIB, MIB } from "../../lib/units.ts";
import { openFileStore } from "../../store/file-store.ts";
import { checkExt } from "./check/index.ts";
import { type GrowResult, growExt, previewGrowth } from "./resize.ts";

const hasTools = ["mke2fs", "e2fsck", "debugfs", "dumpe2fs", "resize2fs"].every(requireTool);
const mayMount = requireRoot("mounting an image") && requireTool("mount");
const scratch = scratchDirectory("resize");
const source = makeSourceTree(join(scratch, "source"));
let imageCount = 0;

function freshImage(args: readonly string[], sizeText: string): string {
  return makeImage(scratch, `image-${imageCount++}`, args, { sizeText, sourceDir: source });
}

/** Makes the file `path` as long as that, and the file system in it. */
async function grow(path: string, sizeBytes: number, cacheBytes = 64 * MIB): Promise<GrowResult> {
  truncateSync(path, sizeBytes);
  const store = await openFileStore(path, { writable: true });
  const bdev = new StoreBlockDevice(store, { clock: realClock });
  const cache = new PageCache({ arenaBytes: cacheBytes, clock: realClock });
  const warn = (text: string): void => expect(text).toBe("");
  try {
    return await growExt(bdev, cache, { clock: realClock, random: new Random(1), warn });
  } finally {
    await bdev.close();
    await store.close();
  }
}

/** e2fsck and our own check find nothing, with the primary superblock and with a copy. */
async function expectClean(path: string, { blockBytes, blockCount, groupCount }: GrowResult) {
  runTool("e2fsck", ["-fn", path]);
  const store = await openFileStore(path);
  const bdev = new StoreBlockDevice(store, { clock: realClock });
  const cache = new PageCache({ arenaBytes: 16 * MIB, clock: realClock });
  const { findings, isClean } = await checkExt(bdev, cache, { clock: realClock });
  await bdev.close();
  await store.close();
  expect([findings, isClean]).toEqual([[], true]);
  const all = readFileSync(path);
  const blocks = (from: number, count: number): Buffer =>
    all.subarray(from * blockBytes, (from + count) * blockBytes);
  const primary = blockBytes === KIB ? 2 : 1;
  const told = runTool("dumpe2fs", [path]);
  expect(told.match(/^Group \d+:/gm)).toHaveLength(groupCount);
  const copies = /Backup superblock at (\d+), Group descriptors at (\d+)-(\d+)/g;
  for (const [, ...numbers] of told.matchAll(copies)) {
    const [superblock, first, last] = numbers.map(Number) as [number, number, number];
    const at = ["-h", "-o", `superblock=${superblock}`, "-o", `blocksize=${blockBytes}`];
    expect(runTool("dumpe2fs", [...at, path])).toMatch(
      new RegExp(`^Block count: +${blockCount}$`, "m"),
    );
    if (told.includes("meta_bg")) continue;
    const count = last - first + 1;
    expect(blocks(first, count).equals(blocks(primary, count))).toBe(true);
  }
}

interface Shape {
  readonly name: string;
  readonly args: readonly string[];
  readonly from?: string;
  readonly sizes?: readonly number[];
}

const SHAPES: readonly Shape[] = [
  { name: "ext2, 1 KiB", args: ["-t", "ext2", "-b", "1024"] },
  { name: "ext2, 4 KiB", args: ["-t", "ext2", "-b", "4096"] },
  { name: "ext2 of revision 0", args: ["-t", "ext2", "-r", "0", "-b", "1024"] },
  { name: "ext3, 1 KiB", args: ["-t", "ext3", "-b", "1024"] },
  { name: "ext3, 4 KiB", args: ["-t", "ext3", "-b", "4096"] },
  { name: "ext4, 1 KiB", args: ["-t", "ext4", "-b", "1024"] },
  { name: "ext4, 4 KiB", args: ["-t", "ext4", "-b", "4096"], sizes: [200, 600] },
  { name: "ext4 without a journal", args: ["-t", "ext4", "-b", "1024", "-O", "^has_journal"] },
  {
    name: "ext4, short descriptors",
    args: ["-t", "ext4", "-b", "1024", "-O", "^64bit,^metadata_csum"],
  },
  {
    name: "ext4 with CRC-16",
    args: ["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"],
  },
  { name: "ext4 with meta_bg", args: ["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"] },
  { name: "ext4 with sparse_super2", args: ["-t", "ext4", "-b", "1024", "-O", "sparse_super2"] },
  {
    name: "ext4 with orphan_file",
    args: ["-t", "ext4", "-b", "1024", "-O", "orphan_file,metadata_csum_seed"],
  },
  // Its reserve has more blocks than one of its transactions.
  { name: "ext4 with a short journal", args: ["-t", "ext4", "-b", "1024"], from: "32767K" },
];

describe.skipIf(!hasTools)("growing", () => {
  test.each(SHAPES)(
    "$name: by a little and by many groups; files stay, e2fsck is content",
    async ({ args, from = "40M", sizes = [41, 300] }) => {
      const isOld = args.includes("0");
      const path = freshImage(args, from);
      const before = await quireManifest(path);
      for (const sizeMib of isOld ? [41, 200] : sizes) {
        const result = await grow(path, sizeMib * MIB);
        expect(result.blockCount).toBeLessThanOrEqual((sizeMib * MIB) / result.blockBytes);
        expect(result.blockCount).toBeGreaterThan(((sizeMib - 2) * MIB) / result.blockBytes);
        await expectClean(path, result);
        const again = await grow(path, sizeMib * MIB);
        expect(again.oldBlockCount).toBe(again.blockCount);
      }
      expect(await quireManifest(path)).toEqual(before);
      runTool("e2fsck", ["-fy", path]);
      const size = statSync(path).size;
      runTool("resize2fs", [path]);
      runTool("e2fsck", ["-fn", path]);
      expect(statSync(path).size).toBe(size);
    },
    60_000,
  );

  test.each([
    ["ext2", "1024"],
    ["ext3", "4096"],
    ["ext4", "1024"],
    ["ext4", "4096"],
  ])("%s, %s: what is new can be filled, by quire and by the kernel", async (type, blockBytes) => {
    const path = freshImage(["-t", type, "-b", blockBytes], "40M");
    await grow(path, 160 * MIB);
    const content = new Random(7).bytes(12 * MIB);
    await using volume = await openImage(path, { writable: true });
    await volume.fs.writeFile("/ours", content);
    for (let at = 0; at < 40; at++) await volume.fs.mkdir(`/dir-${at}`);
    await volume.close();
    runTool("e2fsck", ["-fn", path]);
    if (!mayMount) return;
    withKernelMount(path, (root) => {
      writeFileSync(join(root, "theirs"), content);
      expect(readFileSync(join(root, "ours")).equals(content)).toBe(true);
    });
    runTool("e2fsck", ["-fn", path]);
    await expectClean(path, await grow(path, 300 * MIB));
    withKernelMount(path, (root) => writeFileSync(join(root, "more"), content));
    runTool("e2fsck", ["-fn", path]);
  });

  test("an end too short for a group of its own is left out", async () => {
    const path = freshImage(["-t", "ext4", "-b", "1024"], "40M");
    const stump = await grow(path, 40 * MIB + 100 * KIB);
    expect([stump.oldBlockCount, stump.blockCount]).toEqual([40 * KIB, 40 * KIB + 1]);
    await expectClean(path, stump);
  });

  test.each(["ext2", "ext4"])("%s: in a cache that is too small for one step", async (type) => {
    const path = freshImage(["-t", type, "-b", "1024"], "40M");
    const before = await quireManifest(path);
    const result = await grow(path, 900 * MIB, 4 * MIB);
    expect(result.groupCount).toBe(113);
    await expectClean(path, result);
    expect(await quireManifest(path)).toEqual(before);
  });

  test("the share of blocks that are kept for root stays the same", async () => {
    const path = freshImage(["-t", "ext4", "-b", "1024", "-m", "10"], "40M");
    await grow(path, 80 * MIB);
    expect(runTool("dumpe2fs", ["-h", path])).toMatch(/^Reserved block count: +8192$/m);
  });
});

describe.skipIf(!hasTools)("what cannot grow", () => {
  async function refusal(path: string, sizeBytes: number): Promise<string> {
    const before = readFileSync(path);
    truncateSync(path, Math.max(before.length, sizeBytes));
    const store = await openFileStore(path);
    const bdev = new StoreBlockDevice(store, { clock: realClock });
    const preview = previewGrowth(bdev, sizeBytes).catch((error: Error) => error.message);
    const said = String(await preview);
    await bdev.close();
    await store.close();
    if (sizeBytes >= before.length) await expect(grow(path, sizeBytes)).rejects.toThrow(said);
    expect(readFileSync(path).subarray(0, before.length).equals(before)).toBe(true);
    return said;
  }

  test("a smaller size", async () => {
    const path = freshImage(["-t", "ext4"], "40M");
    expect(await refusal(path, 39 * MIB)).toMatch(/EINVAL.*can only grow here/);
  });

  test("past the blocks that are reserved for descriptors", async () => {
    const path = freshImage(["-t", "ext4", "-b", "1024", "-O", "^resize_inode"], "40M");
    await expectClean(path, await grow(path, 128 * MIB));
    expect(await refusal(path, 200 * MIB)).toMatch(/EOPNOTSUPP.*can grow to 131073 blocks/);
  });

  test("bigalloc, and an image with errors", async () => {
    const clusters = freshImage(["-t", "ext4", "-O", "bigalloc"], "40M");
    expect(await refusal(clusters, 80 * MIB)).toMatch(/EROFS.*bigalloc/);
    const damaged = freshImage(["-t", "ext2"], "40M");
    runTool("debugfs", ["-w", "-R", "ssv state 0", damaged]);
    expect(await refusal(damaged, 80 * MIB)).toMatch(/EUCLEAN.*run e2fsck/);
  });

  test("a resize inode that is not what it should be", async () => {
    const path = freshImage(["-t", "ext4", "-b", "1024"], "40M");
    runTool("debugfs", ["-w", "-R", "sif <7> block[DIND] 3000", path]);
    await expect(grow(path, 400 * MIB)).rejects.toThrow(/resize inode: .*run e2fsck/);
    expect(runTool("dumpe2fs", ["-h", path])).toMatch(/^Block count: +40960$/m);
  });
});
