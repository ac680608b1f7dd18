/**
 * Names against the kernel and e2fsprogs: directories of every size and kind, as they were made by
 * them.
 */
import {
  closeSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { foldName } from "../../src/fs/ext/casefold.ts";
import { hashName } from "../../src/fs/ext/dir-hash.ts";
import type { ExtFileSystem } from "../../src/fs/ext/ext-fs.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { readOrphans } from "../../src/fs/ext/orphan.ts";
import { inlineDataOf } from "../../src/fs/ext/xattr.ts";
import { Random } from "../../src/lib/random.ts";
import {
  entriesOf,
  inodeAt,
  makeExtImage,
  openExtImage,
  runDebugfs,
  withKernelMount,
} from "../support/kernel-image.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

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

describe.skipIf(!mayRun)("inline data", () => {
  test("directories of 0 to 12 names, in the inode and just out of it", async () => {
    const image = makeExtImage(join(scratch, "inline.img"), "16M", [
      ...["-t", "ext4", "-O", "inline_data"],
    ]);
    const expected = withKernelMount(image, (root) =>
      Array.from({ length: 13 }, (_, count) => {
        const directory = join(root, `d${count}`);
        mkdirSync(directory);
        for (let at = 0; at < count; at++) writeFileSync(join(directory, `n${10 + at}`), "");
        if (count > 2) rmSync(join(directory, "n11"));
        return kernelNames(directory);
      }),
    );
    const { fs, close } = await openExtImage(image);
    for (const [count, names] of expected.entries()) {
      const dir = await inodeAt(fs, `d${count}`);
      expect(dir.isInline, `${count} names`).toBe(count < 10);
      await checkDirectory(fs, dir, names, [Buffer.from("n11").fill("x")]);
      expect(await fs.lookup(dir, Buffer.from(".."))).toBe(fs.rootIno);
    }
    await close();
  });

  test("files of every length around the limits of inode and attribute", async () => {
    const image = makeExtImage(join(scratch, "inline-files.img"), "16M", [
      ...["-t", "ext4", "-O", "inline_data", "-I", "256"],
    ]);
    const contentOf = (length: number): Buffer =>
      Buffer.from(Array.from({ length }, (_, at) => (at * 7) & 0xff));
    withKernelMount(image, (root) => {
      for (let length = 0; length <= 130; length++) {
        writeFileSync(join(root, `f${length}`), contentOf(length));
      }
    });
    const { fs, close } = await openExtImage(image);
    let inlineCount = 0;
    for (let length = 0; length <= 130; length++) {
      const inode = await inodeAt(fs, `f${length}`);
      if (!inode.isInline) continue;
      inlineCount++;
      const data = await fs.core.metadata.run(() => inlineDataOf(fs.core, inode));
      expect(Buffer.from(data)).toEqual(contentOf(length));
    }
    expect(inlineCount).toBeGreaterThanOrEqual(128);
    await close();
  });
});

describe.skipIf(!mayRun)("symlinks", () => {
  for (const features of ["^metadata_csum", "ea_inode", "inline_data", "inline_data,ea_inode"]) {
    test(`of every length keep their target, with ${features}`, async () => {
      const image = makeExtImage(join(scratch, "links.img"), "32M", [
        ...["-t", "ext4", "-b", "4096", "-O", features],
      ]);
      const lengths = [1, 2, 58, 59, 60, 61, 100, 127, 128, 129, 200, 255, 1000, 4095];
      withKernelMount(image, (root) => {
        for (const length of lengths) {
          symlinkSync("t".repeat(length), join(root, `l${length}`));
          symlinkSync("t".repeat(length), join(root, `a${length}`));
          const args = ["-h", "-n", "trusted.x", "-v", "0x".padEnd(600, "41"), `a${length}`];
          runTool("setfattr", args, { cwd: root });
        }
      });
      const { fs, close } = await openExtImage(image);
      for (const length of lengths) {
        for (const letter of ["l", "a"]) {
          const target = await fs.readlink(await inodeAt(fs, `${letter}${length}`));
          expect(Buffer.from(target).toString()).toBe("t".repeat(length));
        }
      }
      await close();
    });
  }
});

/** The hashes that debugfs gives to `names`, folded, as "major/minor" in hexadecimal digits. */
function toolHashes(names: readonly string[]): string[] {
  const commands = names.map((name) => `dx_hash -h half_md4 -c -e utf8 "${name}"`);
  const printed = runTool("debugfs", [], { input: `${commands.join("\n")}\n` });
  const found = printed.matchAll(/ is 0x([0-9a-f]+) \(minor 0x([0-9a-f]+)\)/g);
  return Array.from(found, ([, major, minor]) => `${major}/${minor}`);
}

/** The same by our own fold and hash. */
function ourHash(name: string): string {
  const bytes = Buffer.from(name);
  const { major, minor } = hashName(1, foldName(bytes) ?? bytes, new Uint32Array(4));
  return `${major.toString(16)}/${minor.toString(16)}`;
}

describe.skipIf(!requireTool("debugfs"))("the fold of a name", () => {
  test("is that of e2fsprogs for code points of all planes", () => {
    const names: string[] = [];
    for (let codePoint = 0x80; codePoint < 0x11_0000; codePoint += codePoint < 0x3000 ? 1 : 97) {
      if (codePoint >= 0xd800 && codePoint < 0xe000) continue;
      names.push(`A${String.fromCodePoint(codePoint)}Z`);
    }
    expect(names.map(ourHash)).toEqual(toolHashes(names));
  });

  test("is that of e2fsprogs for letters and marks in any order", () => {
    const random = new Random(12);
    const parts = [
      ...[..."Az\u0301\u0323\u0345\u0327\u05b0\u05b4\u1ab0\u1df9", ..."\u1f80\u1f84ﬁßİıΣς"],
      ...[..."\u2065\u00ad\u200d\u034f\u{e0100}", ..."\u0378\u{11938}\u{1e08f}\ua7cb"],
      ...[..."가각\u1100\u1161\u11a8\ufb2c\u212b\uf900", ..."\u13f8\uab70\u1c90\u{1e921}"],
    ];
    const names = Array.from({ length: 5000 }, () =>
      Array.from({ length: 1 + random.below(9) }, () => random.pick(parts)).join(""),
    );
    expect(names.map(ourHash)).toEqual(toolHashes(names));
  });
});

describe.skipIf(!mayRun)("a directory that ignores case", () => {
  /** Names of many scripts, with spellings that must lead to the same file. */
  const NAMES: readonly (readonly [stored: string, ...others: string[]])[] = [
    ["Grüße", "GRÜSSE", "grüße", "gru\u0308sse"],
    ["ABC", "abc", "aBc"],
    ["Café", "CAFE\u0301", "cafe\u0301"],
    ["ΣΊΣΥΦΟΣ", "σίσυφος", "σίσυφοσ"],
    ["ﬁle", "FILE", "file"],
    ["İstanbul", "i\u0307stanbul"],
    ["soft\u00adhyphen", "SoftHyphen"],
    ["Ა", "ა"],
    ["ꭰ", "Ꭰ"],
    ["가", "\u1100\u1161"],
  ];

  for (const [size, blockBytes] of [
    [0, 4096],
    [2000, 1024],
  ] as const) {
    test(`finds any spelling, beside ${size} more names`, async () => {
      const image = makeExtImage(join(scratch, "fold.img"), "32M", [
        ...["-t", "ext4", "-b", `${blockBytes}`, "-N", "4000"],
        ...["-O", "casefold", "-E", "encoding=utf8"],
      ]);
      const fill = Array.from({ length: size }, (_, at) => `Mixed Case NAME é${at}`);
      const stored = [...NAMES.map(([name]) => name), ...fill];
      // This kernel may lack Unicode: debugfs makes the flag, e2fsck the index over folded names.
      runDebugfs(image, ["mkdir d", "set_inode_field d flags 0x40080000"]);
      const source = join(scratch, "empty");
      writeFileSync(source, "x");
      runDebugfs(image, ["cd d", ...stored.map((name) => `write ${source} "${name}"`)]);
      runTool("e2fsck", ["-f", "-y", "-D", image], { okCodes: [1] });
      const { fs, close } = await openExtImage(image);
      const dir = await inodeAt(fs, "d");
      expect(dir.isCasefolded).toBe(true);
      expect(dir.isHashedDir).toBe(size > 0);
      const names = await ourNames(fs, dir);
      for (const [name, ...others] of NAMES) {
        const ino = names.get(Buffer.from(name).toString("hex"));
        expect(ino, name).toBeGreaterThan(0);
        for (const other of [name, ...others]) {
          expect(await fs.lookup(dir, Buffer.from(other)), other).toBe(ino);
        }
      }
      for (const name of fill) {
        const ino = names.get(Buffer.from(name).toString("hex"));
        expect(await fs.lookup(dir, Buffer.from(name.toUpperCase()))).toBe(ino);
      }
      expect(await fs.lookup(dir, Buffer.from("absent"))).toBe(0);
      expect(await fs.lookup(dir, Buffer.from([0xff, 0x41]))).toBe(0);
      // The root has no such flag.
      expect(await fs.lookup(await fs.inode(fs.rootIno), Buffer.from("D"))).toBe(0);
      expect(fs.warnings).toEqual([]);
      await close();
    });
  }

  test("refuses names that are not UTF-8 on a strict volume", async () => {
    const image = makeExtImage(join(scratch, "strict.img"), "8M", [
      ...["-t", "ext4", "-O", "casefold", "-E", "encoding=utf8,encoding_flags=strict"],
    ]);
    runDebugfs(image, ["mkdir d", "set_inode_field d flags 0x40080000"]);
    const { fs, close } = await openExtImage(image);
    const dir = await inodeAt(fs, "d");
    const looking = async () => fs.lookup(dir, Buffer.from([0xff]));
    await expect(looking()).rejects.toMatchObject({ code: "EINVAL" });
    expect(await fs.lookup(dir, Buffer.from("é"))).toBe(0);
    await close();
  });
});

describe.skipIf(!mayRun)("orphans", () => {
  for (const features of ["orphan_file", "^orphan_file"]) {
    test(`are found in a volume that was not unmounted, with ${features}`, async () => {
      const image = makeExtImage(join(scratch, "orphans.img"), "32M", [
        ...["-t", "ext4", "-O", features],
      ]);
      const copy = join(scratch, "orphans-copy.img");
      const inos = withKernelMount(image, (root) => {
        const files = Array.from({ length: 40 }, (_, at) => {
          const path = join(root, `f${at}`);
          const file = openSync(path, "w");
          writeSync(file, "x".repeat(100));
          return { path, file, ino: statSync(path).ino };
        });
        for (const { path } of files) rmSync(path);
        runTool("sync", ["-f", root]);
        copyFileSync(image, copy);
        for (const { file } of files) closeSync(file);
        return files.map(({ ino }) => ino);
      });
      const { fs, close } = await openExtImage(copy);
      const orphans = await fs.core.metadata.run(() => readOrphans(fs.core));
      expect([...orphans].sort((a, b) => a - b)).toEqual(inos.sort((a, b) => a - b));
      await close();
      const clean = await openExtImage(image);
      expect(await clean.fs.core.metadata.run(() => readOrphans(clean.fs.core))).toEqual([]);
      await clean.close();
    });
  }
});

test.skipIf(!mayRun)("a directory that lies in one piece costs one read", async () => {
  const source = join(scratch, "tree");
  mkdirSync(join(source, "d"), { recursive: true });
  for (let at = 0; at < 2000; at++) writeFileSync(join(source, "d", `name of file ${at}`), "");
  const image = makeExtImage(join(scratch, "reads.img"), "64M", [
    ...["-t", "ext4", "-b", "4096", "-d", source],
  ]);
  const { fs, store, close } = await openExtImage(image);
  const dir = await inodeAt(fs, "d");
  const [run] = await fs.extents(dir);
  const before = store.reads;
  expect(await entriesOf(fs, dir)).toHaveLength(2002);
  expect(dir.size / dir.blockBytes).toBeGreaterThan(10);
  expect(run?.lengthBytes).toBe(dir.size);
  expect(store.reads - before).toBe(1);
  await close();
});
