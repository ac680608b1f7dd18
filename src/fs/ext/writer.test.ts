import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { Random } from "../../lib/random.ts";
import type { ExtInode } from "./inode.ts";
import { allocInode, freeInode } from "./inode-alloc.ts";
import { EXT_ROOT_INO, S_IFREG } from "./layout.ts";
import { mapForWrite, removeBlocks, truncateStep } from "./truncate-blocks.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("ext-writer");

interface Shape {
  readonly name: string;
  readonly args: readonly string[];
  readonly sizeText: string;
  readonly isJournaled?: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: "ext2-1k", args: ["-t", "ext2", "-b", "1024"], sizeText: "20M" },
  { name: "ext2-rev0", args: ["-t", "ext2", "-r", "0", "-b", "1024"], sizeText: "9M" },
  { name: "ext3", args: ["-t", "ext3"], sizeText: "40M" },
  { name: "ext4", args: ["-t", "ext4"], sizeText: "64M" },
  { name: "ext4-4k", args: ["-t", "ext4", "-b", "4096"], sizeText: "160M" },
  { name: "ext4-narrow", args: ["-t", "ext4", "-O", "^64bit,^metadata_csum"], sizeText: "40M" },
  { name: "ext4-crc16", args: ["-t", "ext4", "-O", "^metadata_csum,uninit_bg"], sizeText: "40M" },
  { name: "ext4-csum32", args: ["-t", "ext4", "-O", "^64bit", "-I", "128"], sizeText: "40M" },
  { name: "ext4-noflex", args: ["-t", "ext4", "-O", "^flex_bg"], sizeText: "40M" },
  {
    name: "ext4-meta-bg",
    args: ["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"],
    sizeText: "40M",
  },
  { name: "ext3-log", args: ["-t", "ext3"], sizeText: "40M", isJournaled: true },
  { name: "ext4-log", args: ["-t", "ext4"], sizeText: "64M", isJournaled: true },
  { name: "ext4-64k", args: ["-t", "ext4", "-b", "65536"], sizeText: "128M" },
];

function imageOf(shape: Shape): string {
  return makeImage(scratch, shape.name, shape.args, {
    sizeText: shape.sizeText,
  });
}

async function newFile(open: OpenWriter): Promise<ExtInode> {
  return open.run((handle) => {
    const root = open.core.inode(EXT_ROOT_INO);
    return allocInode(open.writer, handle, root, { mode: S_IFREG | 0o644, uid: 70_000, gid: 5 });
  });
}

/** Writes `blocks` blocks to random places of `inode`, and makes its size fit. */
async function fill(
  open: OpenWriter,
  inode: ExtInode,
  random: Random,
  blocks: number,
): Promise<void> {
  const { writer } = open;
  const { blockBytes } = writer.sb;
  for (let count = 0; count < blocks; ) {
    const at = random.below(random.chance(0.3) ? 70_000 : 400);
    const run = await open.run((handle) => {
      const mapped = mapForWrite(writer, handle, inode, at, 1 + random.below(8));
      inode.diskSize = Math.max(inode.diskSize, (at + mapped.count) * blockBytes);
      inode.size = inode.diskSize;
      writer.editInode(handle, inode);
      return mapped;
    });
    count += run.count;
  }
}

async function empty(open: OpenWriter, inode: ExtInode): Promise<void> {
  while (!(await open.run((handle) => truncateStep(open.writer, handle, inode, 0))));
}

/** Throws what e2fsck says unless it finds nothing, after files were given names by debugfs. */
function check(open: OpenWriter, name: string, files: readonly ExtInode[]): void {
  const path = join(scratch, `${name}.check`);
  open.save(path);
  const commands = files.map((inode) => `link <${inode.ino}> f${inode.ino}\n`).join("");
  runTool("debugfs", ["-w", "-f", "-", path], { input: commands });
  runTool("e2fsck", ["-fn", path]);
}

describe.skipIf(!hasTools)("allocation on images of mke2fs", () => {
  test.each(SHAPES)("$name: files come, grow, shrink and go, and e2fsck agrees", async (shape) => {
    const open = await openWriter(imageOf(shape), { isJournaled: shape.isJournaled });
    const { writer } = open;
    const before = { ...writer.groups.totals };
    const random = new Random(7);
    const files: ExtInode[] = [];
    for (let round = 0; round < 12; round++) {
      const inode = await newFile(open);
      await fill(open, inode, random, 1 + random.below(120));
      files.push(inode);
      if (round % 3 === 2) await open.commit();
    }
    for (const inode of files.splice(0, 4)) {
      await empty(open, inode);
      await open.run((handle) => freeInode(writer, handle, inode));
    }
    for (const inode of files.slice(0, 4)) {
      while (!(await open.run((handle) => removeBlocks(writer, handle, inode, 20, 300))));
    }
    await open.transactions.flush();
    check(open, shape.name, files);
    for (const inode of files) {
      await empty(open, inode);
      expect(inode.sectorCount).toBe(0);
      await open.run((handle) => freeInode(writer, handle, inode));
    }
    await open.transactions.flush();
    expect(writer.groups.totals).toEqual(before);
    check(open, `${shape.name}-empty`, []);
    expect(writer.blocks.pendingCount).toBe(0);
    expect(open.warnings).toEqual([]);
    await open.close();
  });
});
