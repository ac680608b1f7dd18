/**
 * Manifests of what is large, against the kernel: directories of 100,000 entries and of three
 * levels of index, extent trees of depth 3, files of many TiB.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { entriesOf, inodeAt, makeExtImage, openExtImage } from "../support/kernel-image.ts";
import { expectKernelManifest, fillImage, mayCompareWithKernel } from "../support/manifest.ts";
import { runTool, scratchDirectory } from "../support/tools.ts";

const mayRun = mayCompareWithKernel();
const scratch = scratchDirectory("manifest-large");

function filledImage(size: string, args: string, part: string): string {
  const image = makeExtImage(join(scratch, "large.img"), size, args.split(" "));
  fillImage(image, [part]);
  return image;
}

/** Looks some names up, present and absent ones, through the index of the directory. */
async function expectLookups(image: string, directory: string, step: number): Promise<void> {
  const { fs, close } = await openExtImage(image);
  const dir: ExtInode = await inodeAt(fs, directory);
  const entries = await entriesOf(fs, dir);
  for (let at = 0; at < entries.length; at += step) {
    const { name, ino } = entries[at]!;
    expect(await fs.lookup(dir, name)).toBe(ino);
    expect(await fs.lookup(dir, Buffer.concat([name, Buffer.from("x")]))).toBe(0);
  }
  await close();
}

describe.skipIf(!mayRun)("the manifest is that of the kernel's mount", () => {
  test("of a directory of 100,000 entries", async () => {
    const image = filledImage("128M", "-t ext4 -b 1024 -N 102000", "hundred_thousand");
    const lines = await expectKernelManifest(image);
    expect(lines.length).toBe(100_003);
    await expectLookups(image, "hundred_thousand", 97);
    rmSync(image);
  }, 300_000);

  test("of a directory whose index has three levels", async () => {
    const image = filledImage("128M", "-t ext4 -b 1024 -O large_dir", "long_names");
    const dump = runTool("debugfs", ["-R", "htree_dump /long_names", image]);
    expect(dump).toMatch(/Indirect levels: 2/);
    const lines = await expectKernelManifest(image);
    expect(lines.length).toBe(50_003);
    await expectLookups(image, "long_names", 101);
    rmSync(image);
  }, 300_000);

  test("of an extent tree of depth 3", async () => {
    const image = filledImage("128M", "-t ext4 -b 1024", "depth_three");
    const path = "depth_three/every-other-block";
    const dump = runTool("debugfs", ["-R", `dump_extents ${path}`, image]);
    expect(dump.split("\n")[1]).toMatch(/^ *0\/ 3 /);
    const file = (await expectKernelManifest(image)).find((line) => line.path === path);
    expect(file?.data?.length).toBe(31_000);
    rmSync(image);
  });

  test.each([
    ["-t ext4 -b 4096", "enormous", 3 * 2 ** 40],
    ["-t ext4 -b 4096 -O bigalloc -C 65536", "enormous", 3 * 2 ** 40],
    ["-t ext2 -b 4096", "enormous_block_mapped", 2 ** 41 - 2 ** 33],
    ["-t ext4 -b 4096 -O ^extents,^64bit", "enormous_block_mapped", 2 ** 41 - 2 ** 33],
  ])("of a sparse file of many TiB: %s", async (args, part, sizeBytes) => {
    const image = filledImage("128M", args, part);
    const lines = await expectKernelManifest(image);
    const file = lines.find(({ path }) => path === `${part}/enormous`);
    expect(file?.size).toBe(sizeBytes);
    expect(file?.data?.length).toBeGreaterThanOrEqual(9);
    rmSync(image);
  });

  test.each([
    ["-b 4096 -O sparse_super2,^resize_inode -E num_backup_sb=0 -J size=4", 4096, 2 ** 31],
    ["-b 1024 -O bigalloc,^resize_inode -J size=4", 1024, 2 ** 32],
  ])("of an image of 12 TiB with far blocks: %s", async (layout, blockBytes, farBlock) => {
    const image = filledImage("12T", `-t ext4 -N 80000 ${layout}`, "far_apart");
    await expectKernelManifest(image);
    const { fs, close } = await openExtImage(image);
    const dir = await inodeAt(fs, "far_apart");
    let farthest = 0;
    for (const { ino } of await entriesOf(fs, dir)) {
      const [extent] = await fs.extents(await fs.inode(ino));
      farthest = Math.max(farthest, extent!.physicalBytes / blockBytes);
    }
    expect(farthest).toBeGreaterThan(farBlock);
    await close();
    rmSync(image);
  });
});
