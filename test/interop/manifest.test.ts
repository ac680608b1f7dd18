/**
 * `quire manifest` against the kernel, over the features that mke2fs can set: the same lines, byte
 * for byte, for a tree with files of every kind.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeExtImage, runDebugfs } from "../support/kernel-image.ts";
import {
  COMMON_PARTS,
  expectKernelManifest,
  fillImage,
  mayCompareWithKernel,
} from "../support/manifest.ts";
import { runTool, scratchDirectory } from "../support/tools.ts";

const mayRun = mayCompareWithKernel();
const scratch = scratchDirectory("manifest");

/** How an image is made, and what is in it. */
interface Row {
  /** Options of mke2fs. */
  readonly args: string;
  readonly size?: string;
  /** Parts beside the common ones. */
  readonly more?: readonly string[];
  /** Only these parts. */
  readonly parts?: readonly string[];
  readonly mount?: string;
  /** Options of tune2fs before the image is filled. */
  readonly tuneBefore?: string;
  /** Options of tune2fs for the filled image, for what this kernel cannot write or is slow to. */
  readonly tune?: string;
  /** Commands of debugfs before the image is filled. */
  readonly debugfs?: readonly string[];
}

const ROWS: readonly Row[] = [
  { args: "-t ext2 -b 1024" },
  { args: "-t ext2 -b 2048" },
  { args: "-t ext2 -b 4096 -I 128" },
  {
    args: "-t ext2 -r 0 -b 1024",
    parts: ["sizes", "names", "owners", "times", "directories"],
  },
  { args: "-t ext2 -O ^filetype" },
  { args: "-t ext2 -b 1024 -O ^sparse_super,^resize_inode,^dir_index" },
  { args: "-t ext3 -b 1024 -I 128", mount: "rw,data=journal" },
  { args: "-t ext3 -b 4096", mount: "rw,data=writeback" },
  { args: "-t ext4 -b 1024 -I 128" },
  { args: "-t ext4 -b 1024 -I 512" },
  { args: "-t ext4 -b 2048 -I 1024" },
  { args: "-t ext4 -b 4096 -I 4096 -N 4000" },
  { args: "-t ext4 -b 4096", mount: "rw,data=journal" },
  { args: "-t ext4 -O ^has_journal" },
  { args: "-t ext4 -b 1024 -O ^64bit" },
  { args: "-t ext4 -b 1024 -g 1024 -N 3000 -O ^flex_bg" },
  { args: "-t ext4 -b 1024 -g 2048 -O meta_bg,^resize_inode", size: "200M" },
  { args: "-t ext4 -b 1024 -g 512 -O meta_bg,^resize_inode,^64bit,^flex_bg" },
  { args: "-t ext4 -b 1024 -O sparse_super2" },
  { args: "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg" },
  { args: "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg,^64bit,^flex_bg" },
  { args: "-t ext4 -O ^metadata_csum,^uninit_bg" },
  {
    args: "-t ext4 -O metadata_csum_seed -U 0f0e0d0c-0b0a-0908-0706-050403020100",
    tune: "-U random",
  },
  { args: "-t ext4 -b 1024 -O ^extents,^64bit" },
  { args: "-t ext4 -O ^huge_file,^dir_nlink,^extra_isize" },
  { args: "-t ext4 -O ^filetype,^dir_index" },
  { args: "-t ext4 -b 1024 -O large_dir,orphan_file,fast_commit" },
  { args: "-t ext4 -b 1024 -O inline_data", more: ["inline"] },
  { args: "-t ext4 -b 1024 -I 1024 -O inline_data,ea_inode", more: ["inline", "ea_inode"] },
  { args: "-t ext4 -b 4096 -I 512 -O inline_data,^metadata_csum", more: ["inline"] },
  { args: "-t ext4 -b 1024 -O ea_inode", more: ["ea_inode"] },
  { args: "-t ext4 -b 4096 -O ea_inode,^metadata_csum", more: ["ea_inode"] },
  { args: "-t ext4 -b 1024 -O bigalloc", size: "96M" },
  { args: "-t ext4 -b 4096 -O bigalloc -C 8192", size: "128M" },
  { args: "-t ext4 -b 4096 -O bigalloc,inline_data -C 65536", size: "256M", more: ["inline"] },
  { args: "-t ext4 -b 1024 -O bigalloc,meta_bg,^resize_inode", size: "96M" },
  { args: "-t ext2 -o hurd" },
  { args: "-t ext4 -b 1024 -o FreeBSD -O inline_data,ea_inode", more: ["inline", "ea_inode"] },
  { args: "-t ext4", tune: "-O mmp" },
  { args: "-t ext4 -I 256", tune: "-O project,quota -Q usrquota,grpquota,prjquota" },
  { args: "-t ext4 -O verity,encrypt,stable_inodes" },
  { args: "-t ext4 -b 1024", tuneBefore: "-E hash_alg=legacy" },
  { args: "-t ext4 -b 1024", tuneBefore: "-E hash_alg=tea" },
  { args: "-t ext3 -b 1024", tuneBefore: "-E hash_alg=half_md4", debugfs: ["ssv flags 1"] },
  { args: "-t ext3 -b 1024", tuneBefore: "-E hash_alg=legacy", debugfs: ["ssv flags 2"] },
  { args: "-t ext3 -b 1024", tuneBefore: "-E hash_alg=tea", debugfs: ["ssv flags 2"] },
];

function titleOf(row: Row): string {
  const { args, tuneBefore, debugfs, mount, tune } = row;
  const steps = [tuneBefore, ...(debugfs ?? []), mount, tune].filter((step) => step !== undefined);
  return [args, ...steps].join("; ");
}

function makeImage(row: Row): string {
  const image = makeExtImage(join(scratch, "x.img"), row.size ?? "64M", row.args.split(" "));
  if (row.tuneBefore !== undefined) runTool("tune2fs", [...row.tuneBefore.split(" "), image]);
  if (row.debugfs !== undefined) runDebugfs(image, row.debugfs);
  const parts = row.parts ?? [...COMMON_PARTS, ...(row.more ?? [])];
  if (parts.length > 0) fillImage(image, parts, row.mount);
  if (row.tune !== undefined) runTool("tune2fs", [...row.tune.split(" "), image]);
  return image;
}

describe.skipIf(!mayRun)("the manifest of an image is that of the kernel's mount", () => {
  test.each(ROWS.map((row) => ({ row, title: titleOf(row) })))("$title", async ({ row }) => {
    const image = makeImage(row);
    try {
      const lines = await expectKernelManifest(image);
      const directories = lines.filter(({ type }) => type === "d");
      expect(directories.length).toBeGreaterThan(1);
    } finally {
      rmSync(image);
    }
  });
});
