/**
 * Names against the kernel and e2fsprogs: directories of every size and kind, as they were made by them.
 */
import { linkSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { ExtFileSystem } from "../../src/fs/ext/ext-fs.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import {
  entriesOf,
  inodeAt,
  makeExtImage,
  openExtImage,
  runDebugfs,
  withKernelMount,
} from "../support/ext-image.ts";
import { requireRoot, requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "mount", "umount"].every(requireTool);
const mayRun = hasTools && requireRoot("mounting an image");
const scratch = scratchDirectory("ext-names");

/** Paths are bytes here: names need not be UTF-8. */
function pathOf(directory: string, name: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), name]);
}

/** What the kernel has under `directory`: numbers by the hexadecimal form of their names. */
function kernelNames(directory: string): Map<string, number> {
  const names = readdirSync(directory, { encoding: "buffer" });
  return new Map(
    names.map((name) => [
      Buffer.from(name).toString("hex"),
      statSync(pathOf(directory, name), { throwIfNoEntry: true }).ino,
    ]),
  );
}

/** The same as our driver lists it. Fails if a name comes twice. */
async function ourNames(fs: ExtFileSystem, dir: ExtInode): Promise<Map<string, number>> {
  const names = new Map<string, number>();
  for (const { name, ino } of await entriesOf(fs, dir)) {
    const text = Buffer.from(name).toString("hex");
    expect(names.has(text), `${text} comes once`).toBe(false);
    names.set(text, ino);
  }
  return names;
}

/** Checks that `dir` lists and finds exactly `expected`, and none of `absent`. */
async function checkDirectory(
  fs: ExtFileSystem,
  dir: ExtInode,
  expected: ReadonlyMap<string, number>,
  absent: readonly Uint8Array[] = [],
): Promise<void> {
  const ours = await ourNames(fs, dir);
  expect(ours.get("2e")).toBe(dir.ino);
  expect(await fs.lookup(dir, Buffer.from("."))).toBe(dir.ino);
  expect(await fs.lookup(dir, Buffer.from(".."))).toBe(ours.get("2e2e"));
  ours.delete("2e");
  ours.delete("2e2e");
  expect(ours).toEqual(expected);
  let wrong = 0;
  for (const [name, ino] of expected) {
    if ((await fs.lookup(dir, Buffer.from(name, "hex"))) !== ino) wrong++;
  }
  for (const name of absent) if ((await fs.lookup(dir, name)) !== 0) wrong++;
  expect(wrong, "lookups that are wrong").toBe(0);
}

describe.skipIf(!mayRun)("a directory filled by the kernel", () => {
  for (const blockBytes of [1024, 4096]) {
    for (const features of [
      "dir_index",
      "^dir_index",
      "^metadata_csum,^filetype",
      "^metadata_csum",
    ]) {
      test(`of 1 to 20,000 names, blocks of ${blockBytes}, ${features}`, async () => {
        const image = makeExtImage(join(scratch, "sizes.img"), "96M", [
          ...["-t", "ext4", "-b", `${blockBytes}`, "-N", "4000", "-O", features],
        ]);
        const counts =
          features === "^dir_index" ? [1, 40, 1000] : [1, 2, 9, 40, 90, 400, 3000, 20_000];
        const absent: Uint8Array[] = [];
        const expected = withKernelMount(image, (root) => {
          writeFileSync(join(root, "target"), "");
          return counts.map((count) => {
            const directory = join(root, `d${count}`);
            mkdirSync(directory);
            const names: string[] = [];
            for (let at = 0; at < count; at++) {
              const name = `${at}`.padStart(1 + ((at * 7) % 40), "n");
              const path = join(directory, `name ${at} ${name}`);
              if (at % 20 === 0 && at < 10_000) writeFileSync(path, "");
              else linkSync(join(root, "target"), path);
              names.push(path);
            }
            for (const path of names.filter((_, at) => at % 3 === 1)) {
              rmSync(path);
              absent.push(Buffer.from(path.slice(directory.length + 1)));
            }
            return [`d${count}`, kernelNames(directory)] as const;
          });
        });
        const { fs, close } = await openExtImage(image);
        for (const [name, names] of expected) {
          const dir = await inodeAt(fs, name);
          if (names.size > 1000) expect(dir.isHashedDir).toBe(features !== "^dir_index");
          await checkDirectory(fs, dir, names, absent.slice(0, 2000));
        }
        expect(fs.warnings).toEqual([]);
        await close();
      });
    }
  }

  for (const [hash, flags] of [
    ["legacy", 1],
    ["half_md4", 1],
    ["tea", 1],
    ["legacy", 2],
    ["half_md4", 2],
    ["tea", 2],
  ] as const) {
    const kind = flags === 1 ? "signed" : "unsigned";
    test(`finds names with high bytes by the hash ${hash} of ${kind} bytes`, async () => {
      const image = makeExtImage(join(scratch, "bytes.img"), "32M", ["-t", "ext4", "-b", "1024"]);
      const version = ["legacy", "half_md4", "tea"].indexOf(hash);
      runDebugfs(image, [`ssv flags ${flags}`, `ssv def_hash_version ${version}`]);
      const names = withKernelMount(image, (root) => {
        writeFileSync(join(root, "target"), "");
        mkdirSync(join(root, "d"));
        for (let at = 0; at < 1500; at++) {
          const name = Buffer.concat([
            Buffer.from([0xc3, 0xa9, 0xff, 0x80 + (at % 100)]),
            Buffer.from(`${at}`),
          ]);
          linkSync(join(root, "target"), pathOf(join(root, "d"), name));
        }
        return kernelNames(join(root, "d"));
      });
      const { fs, close } = await openExtImage(image);
      const dir = await inodeAt(fs, "d");
      expect(dir.isHashedDir).toBe(true);
      await checkDirectory(fs, dir, names, [Buffer.from([0xc3, 0xa9])]);
      expect(fs.warnings).toEqual([]);
      await close();
    });
  }

  test("with three levels of index, as large_dir allows", async () => {
    const image = makeExtImage(join(scratch, "large.img"), "96M", [
      ...["-t", "ext4", "-b", "1024", "-O", "large_dir"],
    ]);
    const names = withKernelMount(image, (root) => {
      writeFileSync(join(root, "target"), "");
      mkdirSync(join(root, "d"));
      for (let at = 0; at < 50_000; at++) {
        linkSync(join(root, "target"), join(root, "d", `${at}`.padEnd(250, "x")));
      }
      return kernelNames(join(root, "d"));
    });
    const opened = await openExtImage(image);
    const dir = await inodeAt(opened.fs, "d");
    expect(runDebugfs(image, ["htree_dump /d"])).toMatch(/Indirect levels: 2/);
    await checkDirectory(opened.fs, dir, names, [Buffer.from("y".repeat(250))]);
    expect(opened.fs.warnings).toEqual([]);
    await opened.close();
  });
});
