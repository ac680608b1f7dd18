/** Attributes that we wrote, read by the kernel, and changed further by it. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXT_ROOT_INO, S_IFREG } from "../../src/fs/ext/layout.ts";
import { extCreate } from "../../src/fs/ext/namespace.ts";
import { readXattrs } from "../../src/fs/ext/xattr.ts";
import { setXattr } from "../../src/fs/ext/xattr-write.ts";
import { hexOf } from "../../src/lib/bytes.ts";
import { hasErrnoCode } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { makeImage } from "../support/ext-images.ts";
import { ascii } from "../support/ext-names.ts";
import { openWriter } from "../support/ext-writer.ts";
import { newInode } from "../support/name-model.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const canRun =
  requireTool("mke2fs") &&
  requireTool("e2fsck") &&
  requireTool("mount") &&
  requireTool("python3") &&
  requireRoot("mounting an image");
const scratch = scratchDirectory("xattrs-kernel");

/** Prints the attributes of each file, then sets some and removes others. */
const PROGRAM = `
import json, os, sys
shown = {}
for file in sorted(os.listdir(sys.argv[1])):
    if file == "lost+found": continue
    path = sys.argv[1] + "/" + file
    names = [n for n in os.listxattr(path) if n.split(".")[0] in ("user", "trusted")]
    shown[file] = {n: os.getxattr(path, n).hex() for n in names}
    for at, name in enumerate(sorted(names)):
        if at % 2 == 0: os.removexattr(path, name)
    os.setxattr(path, "user.kernel", b"was here")
print(json.dumps(shown))
`;
const NAMES = ["user.a", "user.bb", "user.c", "trusted.t", "user.a-longer-name", "user.z"];
const SIZES = [0, 1, 5, 40, 90];

const FORMATS: readonly (readonly [string, readonly string[]])[] = [
  ["in inodes and blocks", ["-t", "ext4", "-b", "1024", "-O", "^has_journal"]],
  ["in blocks alone", ["-t", "ext2", "-b", "1024", "-I", "128"]],
  ["in inodes of their own", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,ea_inode"]],
];

describe.skipIf(!canRun)("the kernel", () => {
  for (const [index, [what, args]] of FORMATS.entries()) {
    test(`reads attributes ${what}, and works on with them`, async () => {
      const path = makeImage(scratch, `image-${index}`, args, { sizeText: "16M" });
      const open = await openWriter(path);
      const { writer, core } = open;
      const random = new Random(500 + index);
      const ours: Record<string, Record<string, string>> = {};
      const sizes = what.endsWith("own") ? [...SIZES, 3000] : SIZES;
      for (let at = 0; at < 20; at++) {
        const inode = await open.run((handle) =>
          extCreate(writer, handle, core.inode(EXT_ROOT_INO), ascii(`f${at}`), newInode(S_IFREG)),
        );
        for (let step = 0; step < 12; step++) {
          const name = random.pick(NAMES);
          const value = random.below(4) === 0 ? null : random.bytes(random.pick(sizes));
          const setting = open.run((handle) => setXattr(writer, handle, inode, name, value, 0));
          await setting.catch((thrown: unknown) => {
            if (!hasErrnoCode(thrown) || thrown.code !== "ENODATA") throw thrown;
          });
        }
        const xattrs = await core.metadata.run(() => readXattrs(core, inode));
        ours[`f${at}`] = Object.fromEntries([...xattrs].map(([key, value]) => [key, hexOf(value)]));
      }
      await open.close();
      open.save(path);
      const mountPoint = join(scratch, `mnt-${index}`);
      mkdirSync(mountPoint);
      runTool("mount", ["-o", "loop", path, mountPoint]);
      try {
        const said = execFileSync("python3", ["-c", PROGRAM, mountPoint], { encoding: "utf8" });
        expect(JSON.parse(said)).toEqual(ours);
      } finally {
        runTool("umount", [mountPoint]);
      }
      runTool("e2fsck", ["-fn", path]);
    });
  }
});
