/** File systems made by `makeExt`, against those that mke2fs makes with the same options. */
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { MkfsOptions } from "../../src/fs/ext/mkfs/index.ts";
import { Random } from "../../src/lib/random.ts";
import { GIB, KIB, MIB, PAGE_BYTES } from "../../src/lib/units.ts";
import { whileMounted } from "../support/dirty-image.ts";
import { differences, emptyFile, makeTwin, runMke2fs, saveSparse } from "../support/mkfs-twin.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("python3");
const mayMount = requireTool("mount") && requireRoot("mounting an image");
const scratch = scratchDirectory("mkfs");
const TIB = 1024 * GIB;

/** What mke2fs and `makeExt` are told: the same in two languages. */
interface Case {
  readonly args: string;
  readonly extended?: string[];
  readonly sizeBytes: number;
  readonly options: Partial<MkfsOptions>;
}

const features = (...names: string[]): Partial<MkfsOptions> => ({ features: names });

const CASES: readonly Case[] = [
  { args: "-t ext2", sizeBytes: MIB, options: { type: "ext2" } },
  { args: "-t ext2", sizeBytes: 65 * MIB, options: { type: "ext2" } },
  { args: "-t ext2 -r 0", sizeBytes: 8 * MIB, options: { type: "ext2", revision: 0 } },
  {
    args: "-t ext2 -b 4096 -O ^resize_inode",
    sizeBytes: 300 * MIB,
    options: { type: "ext2", blockBytes: 4 * KIB, ...features("^resize_inode") },
  },
  {
    args: "-t ext2 -O ^sparse_super,^resize_inode",
    sizeBytes: 100 * MIB,
    options: { type: "ext2", ...features("^sparse_super", "^resize_inode") },
  },
  {
    args: "-t ext2 -I 128 -N 5000",
    sizeBytes: 64 * MIB,
    options: { type: "ext2", inodeBytes: 128, inodeCount: 5000 },
  },
  {
    args: "-t ext2 -O ^filetype,^large_file,^dir_index",
    sizeBytes: 20 * MIB,
    options: { type: "ext2", ...features("^filetype", "^large_file", "^dir_index") },
  },
  {
    args: "-t ext2 -b 4096 -i 1024",
    sizeBytes: 40 * MIB,
    options: { type: "ext2", blockBytes: 4 * KIB, bytesPerInode: KIB },
  },
  {
    args: "-t ext4 -b 1024 -O bigalloc",
    sizeBytes: 300 * MIB,
    options: { blockBytes: KIB, ...features("bigalloc") },
  },
  { args: "-t ext3", sizeBytes: 100 * MIB, options: { type: "ext3" } },
  { args: "-t ext3 -b 2048", sizeBytes: 260 * MIB, options: { type: "ext3", blockBytes: 2 * KIB } },
  { args: "-t ext3", sizeBytes: 2 * GIB, options: { type: "ext3" } },
  {
    args: "-t ext3 -b 1024 -O flex_bg",
    sizeBytes: 200 * MIB,
    options: { type: "ext3", blockBytes: KIB, ...features("flex_bg") },
  },
  { args: "-t ext4", sizeBytes: 2 * MIB, options: {} },
  { args: "-t ext4", sizeBytes: MIB + 300 * KIB, options: {} },
  { args: "-t ext4", sizeBytes: 16 * MIB, options: {} },
  { args: "-t ext4", sizeBytes: 100 * MIB, options: {} },
  { args: "-t ext4", sizeBytes: 130 * MIB, options: {} },
  { args: "-t ext4", sizeBytes: 600 * MIB, options: {} },
  { args: "-t ext4", sizeBytes: 5 * GIB, options: {} },
  { args: "-t ext4", sizeBytes: 40 * GIB, options: {} },
  { args: "-t ext4", sizeBytes: 1.5 * TIB, options: {} },
  { args: "-t ext4", sizeBytes: 5 * TIB, options: {} },
  { args: "-t ext4", sizeBytes: 16 * TIB - MIB, options: {} },
  { args: "-t ext4 -b 1024", sizeBytes: GIB, options: { blockBytes: KIB } },
  {
    args: "-t ext4 -b 2048 -m 1.5 -L a-label -M /mnt",
    sizeBytes: 700 * MIB,
    options: { blockBytes: 2 * KIB, reservedPercent: 1.5, label: "a-label", lastMountedOn: "/mnt" },
  },
  { args: "-t ext4 -b 65536", sizeBytes: 128 * MIB, options: { blockBytes: 64 * KIB } },
  { args: "-t ext4 -b 16384", sizeBytes: 3 * GIB, options: { blockBytes: 16 * KIB } },
  { args: "-t ext4 -O ^flex_bg", sizeBytes: GIB, options: features("^flex_bg") },
  {
    args: "-t ext4 -b 4096 -O ^flex_bg",
    sizeBytes: 130 * MIB,
    options: { blockBytes: 4 * KIB, ...features("^flex_bg") },
  },
  {
    args: "-t ext4 -O meta_bg,^resize_inode",
    sizeBytes: 5 * GIB,
    options: features("meta_bg", "^resize_inode"),
  },
  {
    args: "-t ext4 -b 1024 -O meta_bg,^resize_inode",
    sizeBytes: GIB,
    options: { blockBytes: KIB, ...features("meta_bg", "^resize_inode") },
  },
  {
    args: "-t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit",
    sizeBytes: 64 * MIB,
    options: { blockBytes: KIB, ...features("meta_bg", "^resize_inode", "^64bit") },
  },
  {
    args: "-t ext4 -b 4096 -O sparse_super2",
    sizeBytes: GIB,
    options: { blockBytes: 4 * KIB, ...features("sparse_super2") },
  },
  { args: "-t ext4 -O bigalloc", sizeBytes: GIB, options: features("bigalloc") },
  {
    args: "-t ext4 -O bigalloc -C 16384",
    sizeBytes: GIB,
    options: { clusterBytes: 16 * KIB, ...features("bigalloc") },
  },
  {
    args: "-t ext4 -b 1024 -O bigalloc",
    sizeBytes: 64 * MIB,
    options: { blockBytes: KIB, ...features("bigalloc") },
  },
  { args: "-t ext4 -T largefile", sizeBytes: GIB, options: { usage: "largefile" } },
  {
    args: "-t ext4 -i 1024 -b 1024",
    sizeBytes: 50 * MIB,
    options: { bytesPerInode: KIB, blockBytes: KIB },
  },
  {
    args: "-t ext4 -O ^metadata_csum,uninit_bg",
    sizeBytes: 200 * MIB,
    options: features("^metadata_csum", "uninit_bg"),
  },
  { args: "-t ext4 -O ^metadata_csum", sizeBytes: 200 * MIB, options: features("^metadata_csum") },
  {
    args: "-t ext4 -O ^has_journal,^64bit,^huge_file -g 2048",
    sizeBytes: 64 * MIB,
    options: { blocksPerGroup: 2048, ...features("^has_journal", "^64bit", "^huge_file") },
  },
  {
    args: "-t ext4 -O orphan_file,metadata_csum_seed",
    sizeBytes: 300 * MIB,
    options: features("orphan_file", "metadata_csum_seed"),
  },
  {
    args: "-t ext4 -O casefold,encrypt,inline_data,verity,large_dir,ea_inode,stable_inodes,fast_commit,mmp",
    sizeBytes: 64 * MIB,
    options: features(
      "casefold",
      "encrypt",
      "inline_data",
      "verity",
      "large_dir",
      "ea_inode",
      "stable_inodes",
      "fast_commit",
      "mmp",
    ),
  },
  { args: "-t ext4 -G 4 -I 512", sizeBytes: GIB, options: { groupsPerFlex: 4, inodeBytes: 512 } },
  { args: "-t ext4 -J size=20", sizeBytes: GIB, options: { journalBytes: 20 * MIB } },
  {
    args: "-t ext4 -b 1024 -O ^sparse_super,^resize_inode",
    sizeBytes: 12 * GIB,
    options: { blockBytes: KIB, ...features("^sparse_super", "^resize_inode") },
  },
  {
    args: "-t ext3 -b 1024",
    sizeBytes: 64 * MIB,
    options: { type: "ext3", blockBytes: KIB, strideBlocks: 16 },
    extended: ["stride=16"],
  },
  {
    args: "-t ext4",
    sizeBytes: 700 * MIB,
    options: { isLazyTable: false, rootUid: 70000, rootGid: 12 },
    extended: ["lazy_itable_init=0", "root_owner=70000:12"],
  },
  {
    args: "-t ext4",
    sizeBytes: 700 * MIB,
    options: { strideBlocks: 16, stripeBlocks: 64, isLazyJournal: true },
    extended: ["stride=16", "stripe_width=64", "lazy_journal_init=1"],
  },
];

describe.skipIf(!hasTools)("the bytes of mke2fs", () => {
  test.each(CASES.map((row) => ({ title: `${row.args} ${row.sizeBytes / KIB} KiB`, ...row })))(
    "$title",
    async ({ args, sizeBytes, options, extended = [] }) => {
      const image = emptyFile(scratch, "theirs.img", sizeBytes);
      runMke2fs(image, args.split(" "), extended);
      const { store } = await makeTwin(sizeBytes, options);
      const found = differences(image, store);
      expect(found).toEqual([]);
      // What has the bytes of mke2fs is checked all the same, where that does not take minutes.
      if (sizeBytes < TIB) {
        saveSparse(store, image);
        runTool("e2fsck", ["-fn", image]);
      }
      rmSync(image);
    },
    60_000,
  );
});

describe("what cannot be made is told in a sentence", () => {
  test.each<[title: string, sizeBytes: number, options: Partial<MkfsOptions>, text: RegExp]>([
    ["nothing fits", 16 * KIB, {}, /ENOSPC.*16 blocks are too few/],
    [
      "a block of 3000 bytes",
      MIB,
      { blockBytes: 3000 },
      /EINVAL.*blockBytes 3000: no power of two/,
    ],
    ["a block of 128 KiB", MIB, { blockBytes: 128 * KIB }, /EINVAL.*not 1024 to 65536/],
    ["an inode larger than a block", MIB, { inodeBytes: 2 * KIB }, /EINVAL.*inodeBytes is 2048/],
    ["no such feature", MIB, features("fast"), /EINVAL.*there is no feature fast/],
    ["compression", MIB, features("compression"), /EOPNOTSUPP.*compression is not made here/],
    ["64bit without extents", MIB, features("^extent"), /EINVAL.*64bit needs extent/],
    ["meta_bg and resize_inode", MIB, features("meta_bg"), /EINVAL.*exclude each other/],
    ["more than the device", MIB, { sizeBytes: 2 * MIB }, /ENOSPC.*device has 1048576/],
    [
      "too many blocks",
      5 * TIB,
      { blockBytes: KIB, ...features("^64bit") },
      /EFBIG.*need the feature 64bit/,
    ],
    ["a long label", MIB, { label: "seventeen letters" }, /EINVAL.*label has 17 bytes, at most 16/],
    ["a short UUID", MIB, { uuid: new Uint8Array(3) }, /EINVAL.*uuid has 3 bytes, not 16/],
    ["a tiny journal", 64 * MIB, { blockBytes: 4 * KIB, journalBytes: MIB }, /EINVAL.*1024 to/],
    ["a huge journal", 64 * MIB, { journalBytes: 60 * MIB }, /ENOSPC.*more than half/],
    ["a journal for ext2", MIB, { type: "ext2", journalBytes: MIB }, /EINVAL.*needs the feature/],
    ["inodes beyond all bitmaps", MIB, { inodeCount: 2 ** 31 }, /EINVAL.*too many inodes/],
  ])("%s", async (_, sizeBytes, options, text) => {
    await expect(makeTwin(sizeBytes, options)).rejects.toThrow(text);
  });
});

describe("without a given identity", () => {
  test("equal random numbers give equal bytes, others another UUID", async () => {
    const make = async (seed: number): Promise<Uint8Array> => {
      const own = { uuid: undefined, hashSeed: undefined, random: new Random(seed) };
      return (await makeTwin(4 * MIB, own)).result.uuid;
    };
    expect(await make(7)).toEqual(await make(7));
    expect(await make(7)).not.toEqual(await make(8));
  });
});

describe.skipIf(!hasTools)("a device that is not empty", () => {
  test.each([["ext2"], ["ext3"], ["ext4"]] as const)("%s is clean on old bytes", async (type) => {
    const image = emptyFile(scratch, "old.img", 24 * MIB);
    const { store } = await makeTwin(24 * MIB, { type, isZeroed: false }, (old) => {
      for (let page = 0; page < old.sizeBytes / PAGE_BYTES; page++) {
        old.pages.set(page, new Uint8Array(PAGE_BYTES).fill(0xa5));
      }
    });
    saveSparse(store, image);
    runTool("e2fsck", ["-fn", image]);
  });
});

describe.skipIf(!hasTools || !mayMount)("Linux mounts what was made", () => {
  test.each<[title: string, options: Partial<MkfsOptions>]>([
    ["ext2", { type: "ext2" }],
    ["ext3", { type: "ext3" }],
    ["ext4", { type: "ext4" }],
    ["ext4 with files of orphans and clusters", features("orphan_file", "bigalloc")],
  ])("%s", async (_, options) => {
    const image = emptyFile(scratch, "mounted.img", 64 * MIB);
    const { store } = await makeTwin(64 * MIB, options);
    saveSparse(store, image);
    whileMounted(scratch, image, "loop", (root) => {
      expect(readdirSync(root)).toEqual(["lost+found"]);
      writeFileSync(join(root, "file"), "content");
    });
    runTool("e2fsck", ["-fn", image]);
  });
});
