/**
 * Encrypted directories against the kernel without their key: the names and symlink targets that it
 * makes up are ours too, and lead to the same inodes.
 */
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  entriesOf,
  inodeAt,
  makeExtImage,
  openExtImage,
  withKernelMount,
} from "../support/kernel-image.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const SCRIPT = fileURLToPath(new URL("../support/encrypt_directory.py", import.meta.url));
const hasTools = ["mke2fs", "mount", "umount", "python3"].every(requireTool);
const mayMount = hasTools && requireRoot("mounting an image");
const scratch = scratchDirectory("ext-crypt");

/** True if this kernel encrypts: its configuration decides, not its version. */
function kernelEncrypts(): boolean {
  const image = makeExtImage(join(scratch, "probe.img"), "8M", ["-t", "ext4", "-O", "encrypt"]);
  try {
    withKernelMount(image, (root) => {
      mkdirSync(join(root, "d"));
      runTool("python3", [SCRIPT, root, join(root, "d"), "4"]);
    });
    return true;
  } catch (thrown) {
    console.warn(`skipped: this kernel does not encrypt: ${String(thrown).split("\n")[1]}`);
    return false;
  }
}

const mayRun = mayMount && kernelEncrypts();

/** What the kernel shows of one directory: inode numbers and symlink targets by name. */
function kernelView(directory: string): Map<string, { ino: number; target: string | undefined }> {
  return new Map(
    readdirSync(directory).map((name) => {
      const path = join(directory, name);
      const stat = lstatSync(path);
      const target = stat.isSymbolicLink() ? readlinkSync(path) : undefined;
      if (target !== undefined) expect(stat.size).toBe(target.length);
      return [name, { ino: stat.ino, target }];
    }),
  );
}

describe.skipIf(!mayRun)("an encrypted directory without its key", () => {
  for (const [features, padding] of [
    ["encrypt", 32],
    ["encrypt", 4],
    ["encrypt,^dir_index", 16],
    ["encrypt,^metadata_csum,inline_data", 8],
  ] as const) {
    for (const count of [3, 20, 800]) {
      test(`of ${count} names, padding ${padding}, ${features}, is as the kernel's`, async () => {
        const image = makeExtImage(join(scratch, "crypt.img"), "32M", [
          ...["-t", "ext4", "-b", "4096", "-O", features],
        ]);
        withKernelMount(image, (root) => {
          const directory = join(root, "d");
          mkdirSync(directory);
          runTool("python3", [SCRIPT, root, directory, `${padding}`]);
          for (let at = 0; at < count; at++) {
            const name = `${at}`.padEnd(1 + ((at * 37) % 255), "n");
            if (at % 5 === 0) symlinkSync("t".repeat(1 + ((at * 97) % 900)), join(directory, name));
            else writeFileSync(join(directory, name), name);
          }
        });
        const expected = withKernelMount(image, (root) => kernelView(join(root, "d")), "ro");
        expect(expected.size).toBe(count);
        const { fs, close } = await openExtImage(image);
        const dir = await inodeAt(fs, "d");
        const entries = await entriesOf(fs, dir);
        const names = entries.map(({ name }) => Buffer.from(name).toString());
        expect(names.filter((name) => name !== "." && name !== "..").sort()).toEqual(
          [...expected.keys()].sort(),
        );
        for (const [name, { ino, target }] of expected) {
          expect(await fs.lookup(dir, Buffer.from(name)), name).toBe(ino);
          if (target === undefined) continue;
          const ours = await fs.readlink(await fs.inode(ino));
          expect(Buffer.from(ours).toString()).toBe(target);
        }
        for (const name of ["absent", "A".repeat(43), "-_".repeat(126), "ä"]) {
          expect(await fs.lookup(dir, Buffer.from(name))).toBe(0);
        }
        expect(await fs.lookup(dir, Buffer.from(".."))).toBe(fs.rootIno);
        expect(fs.warnings).toEqual([]);
        await close();
      });
    }
  }

  test("keeps its encryption context out of the attributes", async () => {
    const image = makeExtImage(join(scratch, "context.img"), "8M", ["-t", "ext4", "-O", "encrypt"]);
    withKernelMount(image, (root) => {
      mkdirSync(join(root, "d"));
      runTool("python3", [SCRIPT, root, join(root, "d"), "4"]);
    });
    const { fs, close } = await openExtImage(image);
    const dir = await inodeAt(fs, "d");
    expect(dir.isEncrypted).toBe(true);
    expect([...(await fs.xattrs(dir)).keys()]).toEqual([]);
    await close();
  });
});
