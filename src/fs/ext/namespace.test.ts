import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { NameModel, type NameWeights } from "../../../test/support/name-model.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("namespace");

/** e2fsck and debugfs see the image as the model says it is. */
async function judge(open: OpenWriter, model: NameModel, name: string): Promise<void> {
  await model.check();
  await open.commit();
  await open.close();
  const path = join(scratch, `${name}-after.img`);
  open.save(path);
  runTool("e2fsck", ["-fn", path]);
}

const FORMATS: readonly (readonly [string, readonly string[]])[] = [
  ["ext2, blocks of 1 KiB, linear", ["-t", "ext2", "-b", "1024", "-O", "^dir_index"]],
  ["ext4, blocks of 1 KiB", ["-t", "ext4", "-b", "1024", "-O", "^has_journal"]],
  ["ext4, blocks of 4 KiB", ["-t", "ext4", "-b", "4096", "-O", "^has_journal"]],
  [
    "ext4 without checksums",
    ["-t", "ext4", "-b", "1024", "-O", "^has_journal,^metadata_csum,uninit_bg"],
  ],
  ["ext4 with data in inodes", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,inline_data"]],
  ["ext4 with large directories", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,large_dir"]],
];

/** One directory that fills up. */
const FILLING: NameWeights = {
  create: 60,
  mkdir: 0,
  link: 10,
  unlink: 12,
  rmdir: 0,
  rename: 12,
  exchange: 2,
};

describe.skipIf(!hasTools)("random changes of names", () => {
  for (const [index, [what, args]] of FORMATS.entries()) {
    test(`in a tree of directories: ${what}`, async () => {
      const name = `tree-${index}`;
      const open = await openWriter(
        makeImage(scratch, name, [...args, "-N", "8000"], { sizeText: "24M" }),
      );
      const model = new NameModel(open, 100 + index);
      await model.begin();
      await model.steps(1500);
      await judge(open, model, name);
    });

    test(`in one large directory: ${what}`, async () => {
      const name = `large-${index}`;
      const open = await openWriter(
        makeImage(scratch, name, [...args, "-N", "8000"], { sizeText: "24M" }),
      );
      const model = new NameModel(open, 200 + index, { weights: FILLING, nameBytesMax: 120 });
      await model.begin();
      await model.steps(3000);
      expect(model.dirs[0]!.names.size).toBeGreaterThan(1000);
      await judge(open, model, name);
    });
  }
});
