/**
 * Names that we wrote, read by the kernel through its own index, and changed further by it.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../support/ext-images.ts";
import { openWriter } from "../support/ext-writer.ts";
import { NameModel } from "../support/name-model.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const canRun =
  requireTool("mke2fs") &&
  requireTool("e2fsck") &&
  requireTool("mount") &&
  requireTool("python3") &&
  requireRoot("mounting an image");
const scratch = scratchDirectory("names-kernel");

/** Looks every name up, lists its directory, then takes half of the names away and makes others. */
const PROGRAM = `
import json, os, sys
root, listing = sys.argv[1], json.load(open(sys.argv[2]))
for path, names in listing:
    here = root + path
    assert sorted(os.listdir(here)) == sorted(names), "listing of " + path
    for name, ino in names.items():
        assert os.lstat(here + "/" + name).st_ino == ino, path + "/" + name
    for at, name in enumerate(sorted(names)):
        full = here + "/" + name
        if at % 2 == 0 and not os.path.isdir(full): os.unlink(full)
    for at in range(50):
        open("%s/kernel-%d" % (here, at), "w").close()
print("good")
`;

const FORMATS: readonly (readonly [string, readonly string[]])[] = [
  ["ext4, blocks of 1 KiB", ["-t", "ext4", "-b", "1024", "-O", "^has_journal"]],
  ["ext4, blocks of 4 KiB", ["-t", "ext4", "-b", "4096", "-O", "^has_journal"]],
  ["ext4 with data in inodes", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,inline_data"]],
  ["ext4 with large directories", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,large_dir"]],
  ["ext2 without indexes", ["-t", "ext2", "-b", "1024", "-O", "^dir_index"]],
];

describe.skipIf(!canRun)("the kernel", () => {
  for (const [index, [what, args]] of FORMATS.entries()) {
    test(`finds all names that we wrote, and works on with them: ${what}`, async () => {
      const path = makeImage(scratch, `image-${index}`, [...args, "-N", "8000"], {
        sizeText: "24M",
      });
      const open = await openWriter(path);
      const model = new NameModel(open, 400 + index);
      await model.begin();
      const large = await model.mkdir(model.dirs[0]!);
      for (let at = 0; at < 1500; at++) await model.create(large);
      await model.steps(1000);
      await open.close();
      open.save(path);
      const listing = join(scratch, `listing-${index}.json`);
      writeFileSync(listing, JSON.stringify(listingOf(model)));
      const mountPoint = join(scratch, `mnt-${index}`);
      mkdirSync(mountPoint);
      runTool("mount", ["-o", "loop", path, mountPoint]);
      try {
        const args = ["-c", PROGRAM, mountPoint, listing];
        expect(execFileSync("python3", args, { encoding: "utf8" })).toBe("good\n");
      } finally {
        runTool("umount", [mountPoint]);
      }
      runTool("e2fsck", ["-fn", path]);
    });
  }
});

/** Every directory of the model: its path, and the names in it. */
function listingOf(model: NameModel): readonly (readonly [string, Record<string, number>])[] {
  return model.dirs.map((dir) => {
    let path = "";
    for (let at = dir; at.parent !== at; at = at.parent) {
      const name = [...at.parent.names].find(([, ino]) => ino === at.ino)![0];
      path = `/${name}${path}`;
    }
    return [path, Object.fromEntries(dir.names)] as const;
  });
}
