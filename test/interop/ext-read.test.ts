/**
 * What is read from images that the real mke2fs made out of a directory: the same as is in the
 * directory, for every block size and set of features.
 */
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  makeImage,
  makeSourceTree,
  openImage,
  readTree,
  type TreeEntry,
} from "../support/ext-images.ts";
import { hostTree } from "../support/host-tree.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("ext-read");

const EVERYTHING =
  "casefold,encrypt,inline_data,verity,large_dir,quota,project,stable_inodes,fast_commit,mmp," +
  "metadata_csum_seed,orphan_file,ea_inode";

/** Name of the image, options of mke2fs, size. */
type Row = readonly [name: string, args: string, sizeText?: string];
const IMAGES: readonly Row[] = [
  ["ext2-1k", "-t ext2 -b 1024"],
  ["ext2-2k", "-t ext2 -b 2048"],
  ["ext2-4k", "-t ext2 -b 4096"],
  ["ext2-64k", "-t ext2 -b 65536", "64M"],
  ["ext2-revision-0", "-t ext2 -r 0"],
  ["ext2-no-filetype", "-t ext2 -O ^filetype"],
  ["ext3-1k", "-t ext3 -b 1024"],
  ["ext3-4k", "-t ext3 -b 4096"],
  ["ext4-1k", "-t ext4 -b 1024"],
  ["ext4-2k", "-t ext4 -b 2048"],
  ["ext4-4k", "-t ext4 -b 4096"],
  ["ext4-8k", "-t ext4 -b 8192", "64M"],
  ["ext4-16k", "-t ext4 -b 16384", "64M"],
  ["ext4-32k", "-t ext4 -b 32768", "64M"],
  ["ext4-64k", "-t ext4 -b 65536", "128M"],
  ["inode-128", "-t ext4 -I 128"],
  ["inode-512", "-t ext4 -I 512"],
  ["inode-1024", "-t ext4 -b 1024 -I 1024"],
  ["inode-4096", "-t ext4 -b 4096 -I 4096 -N 2000", "64M"],
  ["bigalloc-4k", "-t ext4 -b 4096 -O bigalloc", "128M"],
  ["bigalloc-1k", "-t ext4 -b 1024 -O bigalloc", "64M"],
  ["bigalloc-64k-clusters", "-t ext4 -b 4096 -O bigalloc -C 65536", "128M"],
  ["meta-bg-1k", "-t ext4 -b 1024 -O meta_bg,^resize_inode", "200M"],
  ["meta-bg-1k-32-bit", "-t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit", "64M"],
  ["inline", "-t ext4 -O inline_data"],
  ["inline-1k-512", "-t ext4 -b 1024 -I 512 -O inline_data"],
  ["block-map-in-ext4", "-t ext4 -O ^extent,^64bit"],
  ["no-flex", "-t ext4 -b 1024 -O ^flex_bg", "64M"],
  ["small-groups", "-t ext4 -b 1024 -g 1024 -N 2000"],
  ["crc16", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^64bit"],
  ["crc16-64-bit", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,64bit"],
  ["no-checksums", "-t ext4 -O ^metadata_csum"],
  ["no-huge-file", "-t ext4 -O ^huge_file"],
  ["sparse-super2", "-t ext4 -b 1024 -O sparse_super2", "64M"],
  ["no-sparse-super", "-t ext4 -b 1024 -O ^sparse_super,^resize_inode", "64M"],
  ["no-journal", "-t ext4 -O ^has_journal"],
  ["no-dir-index", "-t ext4 -O ^dir_index"],
  ["quota", "-t ext4 -O quota,project"],
  ["mmp", "-t ext4 -O mmp"],
  ["everything", `-t ext4 -O ${EVERYTHING}`, "64M"],
];

describe.skipIf(!hasMke2fs)("an image made from a directory reads like the directory", () => {
  let source = "";
  let wanted: Map<string, TreeEntry>;
  beforeAll(() => {
    source = makeSourceTree(join(scratch, "source"));
    wanted = hostTree(source);
  });

  test.each(IMAGES.map(([name, args, sizeText = "32M"]) => ({ name, args, sizeText })))(
    "$name",
    async ({ name, args, sizeText }) => {
      const image = makeImage(scratch, name, args.split(" "), { sizeText, sourceDir: source });
      await using mounted = await openImage(image);
      expect(mounted.fs.warnings).toEqual([]);
      const tree = await readTree(mounted.fs);
      for (const [path, entry] of wanted) expect([path, tree.get(path)]).toEqual([path, entry]);
      expect([...tree.keys()].sort()).toEqual([...wanted.keys()].sort());
      expect(mounted.store.writes).toBe(0);
      mounted.cache.verify();
    },
  );
});
