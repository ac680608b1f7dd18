/**
 * The numbers of whole images: made anew by mke2fs, read here, and compared with what was
 * measured, with dumpe2fs, and with what the kernel shows for the mounted image.
 */
import { mkdirSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SB } from "../../src/fs/ext/layout.ts";
import { le16, le32 } from "../../src/lib/bytes.ts";
import { makeImage, openImage } from "../support/ext-images.ts";
import { LAYOUTS, type Layout } from "../support/ext-layouts.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasMke2fs = requireTool("mke2fs");
const hasDumpe2fs = requireTool("dumpe2fs");
const mayMount = requireTool("mount") && requireRoot("mounting an image");
const scratch = scratchDirectory("ext-layout");

/** Too many groups to list them all. */
const SIZES_LEFT_OUT = ["1T", "5T"];
const rows = LAYOUTS.map((layout) => ({
  title: `${layout.sizeText} ${layout.args.join(" ")}`,
  layout,
}));
const small = rows.filter(({ layout }) => !SIZES_LEFT_OUT.includes(layout.sizeText));

async function withImage(layout: Layout, look: (image: string) => Promise<void>): Promise<void> {
  const name = `layout-${LAYOUTS.indexOf(layout)}`;
  const image = makeImage(scratch, name, layout.args, { sizeText: layout.sizeText });
  try {
    await look(image);
  } finally {
    rmSync(image);
  }
}

describe.skipIf(!hasMke2fs)("layouts that were measured", () => {
  test.each(rows)("$title", async ({ layout }) => {
    await withImage(layout, async (image) => {
      await using mounted = await openImage(image);
      const { core } = mounted.fs;
      const { groups, sizeText, args, overhead, freeBlockCount, ...counts } = layout;
      const { reservedGdtBlocks, freeInodeCount, ...shape } = counts;
      expect(core.sb).toMatchObject(shape);
      expect(le16(core.sb.raw, SB.s_reserved_gdt_blocks)).toBe(reservedGdtBlocks);
      expect(le32(core.sb.raw, SB.s_overhead_clusters)).toBe(overhead);
      for (const group of groups) {
        const found = await core.metadata.run(() => core.groups.descriptor(group.group));
        expect(found).toMatchObject(group);
      }
      expect(mounted.fs.usage()).toMatchObject({ freeBlockCount, freeInodeCount });
      expect(mounted.fs.warnings).toEqual([]);
    });
  });
});

describe.skipIf(!hasMke2fs || !hasDumpe2fs)("every group is where dumpe2fs finds it", () => {
  test.each(small)("$title", async ({ layout }) => {
    await withImage(layout, async (image) => {
      await using mounted = await openImage(image);
      const { core } = mounted.fs;
      const listed = runTool("dumpe2fs", [image]).matchAll(
        /^Group (\d+): .*?Block bitmap at (\d+).*?Inode bitmap at (\d+).*?Inode table at (\d+)/gms,
      );
      let count = 0;
      for (const [, group, blockBitmap, inodeBitmap, inodeTable] of listed) {
        const found = await core.metadata.run(() => core.groups.descriptor(Number(group)));
        expect([group, found.blockBitmap, found.inodeBitmap, found.inodeTable]).toEqual([
          group,
          Number(blockBitmap),
          Number(inodeBitmap),
          Number(inodeTable),
        ]);
        count++;
      }
      expect(count).toBe(layout.groupCount);
    });
  });
});

describe.skipIf(!hasMke2fs || !mayMount)("usage is what statfs shows for the mounted image", () => {
  test.each([
    ["ext2", "-t ext2"],
    ["ext3", "-t ext3 -b 1024"],
    ["ext4", "-t ext4"],
    ["bigalloc", "-t ext4 -O bigalloc -b 4096"],
    ["ext2-computed", "-t ext2 -b 1024"],
    ["ext4-computed", "-t ext4 -b 1024"],
    ["meta-bg-computed", "-t ext4 -b 1024 -O meta_bg,^resize_inode"],
    ["bigalloc-computed", "-t ext4 -O bigalloc -b 4096"],
    ["bigalloc-1k-computed", "-t ext4 -b 1024 -C 4096 -O bigalloc"],
    ["bigalloc-meta-bg-computed", "-t ext4 -b 1024 -C 2048 -O bigalloc,meta_bg,^resize_inode"],
    ["ext4-stale", "-t ext4 -b 1024"],
    ["bigalloc-wild", "-t ext4 -b 1024 -O bigalloc"],
  ])("%s", async (name, args) => {
    const image = makeImage(scratch, `statfs-${name}`, args.split(" "), { sizeText: "64M" });
    const stored = { computed: 0, stale: 777, wild: 70_000 }[name.split("-").at(-1)!];
    if (stored !== undefined) {
      runTool("debugfs", ["-w", "-R", `set_super_value overhead_clusters ${stored}`, image]);
    }
    const point = join(scratch, `mount-${name}`);
    mkdirSync(point);
    await using mounted = await openImage(image);
    runTool("mount", ["-o", "loop,ro", image, point]);
    try {
      const seen = statfsSync(point);
      expect(mounted.fs.usage()).toEqual({
        typeMagic: seen.type,
        blockBytes: seen.bsize,
        blockCount: seen.blocks,
        freeBlockCount: seen.bfree,
        availableBlockCount: seen.bavail,
        inodeCount: seen.files,
        freeInodeCount: seen.ffree,
        nameBytesMax: 255,
      });
    } finally {
      runTool("umount", [point]);
    }
  });
});

test.skipIf(!hasMke2fs)(
  "every feature that mke2fs knows at once has its bit and its name",
  async () => {
    const wanted =
      "casefold,encrypt,inline_data,verity,large_dir,quota,project,stable_inodes,fast_commit,mmp," +
      "metadata_csum_seed,orphan_file";
    const args = ["-t", "ext4", "-O", wanted];
    const image = makeImage(scratch, "every-feature", args, { sizeText: "64M" });
    await using mounted = await openImage(image);
    const { compat, incompat, roCompat } = mounted.fs.core.sb.features;
    expect([compat, incompat, roCompat]).toEqual([0x1c3c, 0x3e3c2, 0xa56b]);
    expect(mounted.fs.describe()).toMatchObject({
      features: expect.arrayContaining(wanted.split(",")),
      encoding: { name: "utf8-12.1.0", isStrict: false },
      encryptionAlgorithms: [1, 4],
      journal: { blockCount: 4096 + 64 },
    });
    expect(mounted.fs.warnings).toEqual([]);
  },
);

describe.skipIf(!hasMke2fs)("the journal that mke2fs makes", () => {
  test.each([
    ["1536K", 1024, 0],
    ["8M", 1024, 1024],
    ["64M", 4096, 1024],
    ["64M", 1024, 4096],
    ["200M", 4096, 4096],
    ["1536M", 4096, 8192],
    ["2G", 4096, 16_384],
    ["20G", 4096, 32_768],
    ["40G", 4096, 65_536],
    ["100G", 4096, 131_072],
    ["200G", 4096, 262_144],
  ])("for %s in blocks of %i has %i", async (sizeText, blockBytes, blockCount) => {
    const name = `journal-${sizeText}-${blockBytes}`;
    const image = makeImage(scratch, name, ["-t", "ext3", "-b", String(blockBytes)], { sizeText });
    try {
      await using mounted = await openImage(image);
      const { journal } = mounted.fs.describe();
      if (blockCount === 0) expect(journal).toBeNull();
      else expect(journal).toMatchObject({ blockCount, features: [], nextTid: 2, isDirty: false });
    } finally {
      rmSync(image);
    }
  });
});
