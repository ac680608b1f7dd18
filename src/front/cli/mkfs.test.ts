import * as fs from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  expectSameLines,
  fillTree,
  kernelManifest,
  mayCompareWithKernel,
  quireManifest,
} from "../../../test/support/manifest.ts";
import { quire } from "../../../test/support/run-cli.ts";
import { withExactArenas } from "../../../test/support/small-arena.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasTools = ["mke2fs", "e2fsck", "dumpe2fs", "tar"].every(requireTool);
const mayCompare = mayCompareWithKernel();
const scratch = scratchDirectory("mkfs");
const source = join(scratch, "source");
const tar = join(scratch, "source.tar");
let images = 0;

const fresh = (): string => join(scratch, `new-${images++}.img`);
const check = (image: string): string => runTool("e2fsck", ["-fn", image]);

async function* pieces(path: string, bytes: number): AsyncGenerator<Uint8Array> {
  const all = fs.readFileSync(path);
  for (let at = 0; at < all.length; at += bytes) yield all.subarray(at, at + bytes);
}

/** Manifest lines that two makers of images agree on. */
async function comparable(image: string): Promise<string[]> {
  return (await quireManifest(image)).map((text) => {
    const { ino, blocks, atime_ns, flags, ...line } = JSON.parse(text) as Record<string, unknown>;
    const isRoot = line["path"] === "." || line["path"] === "lost+found";
    return JSON.stringify(isRoot ? { path: line["path"] } : line);
  });
}

beforeAll(() => {
  if (!hasTools) return;
  fs.mkdirSync(join(source, "many"), { recursive: true });
  for (let file = 0; file < 700; file++) {
    fs.writeFileSync(
      join(source, "many", `file-${file}`),
      Buffer.alloc(file * 13, 1 + (file % 255)),
    );
  }
  fs.writeFileSync(join(source, "big"), Buffer.alloc(9 * 2 ** 20, "quire"));
  fs.symlinkSync("many/file-1", join(source, "link"));
  fs.linkSync(join(source, "big"), join(source, "zz-hard"));
  const hole = fs.openSync(join(source, "sparse"), "w");
  fs.writeSync(hole, "data", 2 ** 26);
  fs.closeSync(hole);
  runTool("tar", ["--sparse", "--format=posix", "--sort=name", "-C", source, "-cf", tar, "."]);
});

describe.skipIf(!hasTools)("an empty image", () => {
  test.each([
    ["ext2", "8M", []],
    ["ext3", "64M", ["--block-size", "4096"]],
    ["ext4", "1G", ["--inode-size", "512", "--inodes", "5000"]],
    ["ext4", "64M", ["--features", "^has_journal,^64bit", "--reserved", "0"]],
    ["ext4", "256M", ["--journal-size", "8M", "--features", "orphan_file"]],
  ] as const)("%s of %s, %j", async (type, size, args) => {
    const image = fresh();
    const uuid = "01234567-89ab-cdef-0123-456789abcdef";
    const named = ["--label", "quire", "--uuid", uuid];
    const made = await quire(["mkfs", image, "--type", type, "--size", size, ...named, ...args]);
    expect([made.exitCode, made.stderr]).toEqual([0, ""]);
    expect(made.text).toMatch(new RegExp(`^made ${type} file system .*\\d+ inodes\n$`));
    check(image);
    const told = runTool("dumpe2fs", ["-h", image]);
    expect(told).toMatch(/volume name: +quire/);
    expect(told).toContain(uuid);
    const { size: bytes, blocks } = fs.statSync(image);
    expect(blocks * 512).toBeLessThan(bytes / 4);
    expect((await quire(["check", image])).exitCode).toBe(0);
  });

  test("what is there stays, unless it is to be replaced", async () => {
    const image = fresh();
    fs.writeFileSync(image, "mine");
    const refused = await quire(["mkfs", image, "--size", "8M"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      `quire: EEXIST: file already exists, mkfs '${image}': --force makes a new image in its place\n`,
    ]);
    expect(fs.readFileSync(image, "utf8")).toBe("mine");
    expect((await quire(["mkfs", image, "--size", "8M", "--force"])).exitCode).toBe(0);
    check(image);
  });

  test.each([
    [["--size", "1k"], 1, "ENOSPC|EINVAL"],
    [["--type", "xfs", "--size", "8M"], 2, "--type must be ext2, ext3 or ext4"],
    [["--size", "8M", "--features", "nonsense"], 1, "there is no feature nonsense"],
    [["--size", "8M", "--uuid", "12"], 2, "--uuid must be a UUID"],
    [[], 2, "mkfs needs --size"],
    [["--size", "auto"], 2, "--size auto needs --from"],
    [["--size", "8M", "--from", "/nowhere/at/all"], 1, "ENOENT"],
  ] as const)("%j leaves no file behind", async (args, exitCode, sentence) => {
    const image = fresh();
    const before = fs.readdirSync(scratch);
    const result = await quire(["mkfs", image, ...args]);
    expect(result.stderr).toMatch(new RegExp(sentence));
    expect([result.exitCode, result.text]).toEqual([exitCode, ""]);
    expect(fs.readdirSync(scratch)).toEqual(before);
  });
});

describe.skipIf(!hasTools)("an image that is filled", () => {
  test("from a directory it is what mke2fs -d makes", async () => {
    const [ours, theirs] = [fresh(), fresh()];
    const size = ["--size", "64M", "--block-size", "4096"];
    const made = await quire(["mkfs", ours, "--from", source, ...size]);
    expect([made.exitCode, made.stderr]).toEqual([0, ""]);
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", source, theirs, "64M"]);
    check(ours);
    // mke2fs drops what is below a second.
    const seconds = (lines: string[]): string[] =>
      lines.map((line) => line.replace(/("mtime_ns":"\d+)\d{9}"/, '$1"'));
    expectSameLines(seconds(await comparable(ours)), seconds(await comparable(theirs)));
    const [a, b] = [fs.statSync(ours).blocks, fs.statSync(theirs).blocks];
    expect(a / b).toBeLessThan(1.1);
  });

  test.each(["ext2", "ext3", "ext4"])("%s: equal input and seed give equal bytes", async (type) => {
    withExactArenas(); // As below.
    const [one, two, three, other] = [fresh(), fresh(), fresh(), fresh()];
    const args = ["--type", type, "--seed", "7"];
    await quire(["mkfs", one, "--from", tar, ...args]);
    await quire(["mkfs", two, "--from", "-", ...args], { stdin: pieces(tar, 777) });
    await quire(["mkfs", three, "--from", tar, ...args]);
    await quire(["mkfs", other, "--from", tar, "--type", type, "--seed", "8"]);
    const bytes = fs.readFileSync(one);
    expect(fs.readFileSync(two).equals(bytes)).toBe(true);
    expect(fs.readFileSync(three).equals(bytes)).toBe(true);
    expect(fs.readFileSync(other).equals(bytes)).toBe(false);
    check(one);
    expectSameLines((await comparable(one)).slice(1, 3), (await comparable(other)).slice(1, 3));
  });

  test("SOURCE_DATE_EPOCH is the time of the image, and makes it repeatable", async () => {
    withExactArenas(); // What is written when depends on the size of the cache.
    const [one, two] = [fresh(), fresh()];
    process.env["SOURCE_DATE_EPOCH"] = "1700000000";
    try {
      await quire(["mkfs", one, "--from", source]);
      // As reading it may do.
      runTool("touch", ["-a", "-d", "@1000000000", join(source, "many/file-9")]);
      await quire(["mkfs", two, "--from", source]);
    } finally {
      delete process.env["SOURCE_DATE_EPOCH"];
    }
    expect(fs.readFileSync(one).equals(fs.readFileSync(two))).toBe(true);
    expect(runTool("dumpe2fs", ["-h", one])).toMatch(/created: +Tue Nov 14 22:13:20 2023/);
    check(one);
  });

  test("--size auto leaves a little room, and holes take none", async () => {
    const image = fresh();
    const { text } = await quire(["mkfs", image, "--from", source, "--json"]);
    const told = JSON.parse(text) as { sizeBytes: number; files: number };
    expect(told.files).toBe(706);
    expect(told.sizeBytes).toBeLessThan(32 * 2 ** 20);
    const free = Number(/Free blocks: +(\d+)/.exec(runTool("dumpe2fs", ["-h", image]))![1]);
    expect((free * 4096) / told.sizeBytes).toBeLessThan(0.25);
    expect(free).toBeGreaterThan(16);
    check(image);
  });

  test("owners are mapped without anybody being root", async () => {
    const image = fresh();
    await quire(["mkfs", image, "--from", tar, "--owner", "0:0"]);
    const lines = await quireManifest(image);
    const owners = new Set(lines.map((text) => `${JSON.parse(text).uid}:${JSON.parse(text).gid}`));
    expect([...owners]).toEqual(["0:0"]);
  });

  test("what has no room is told, and no image is left", async () => {
    const image = fresh();
    const { exitCode, stderr } = await quire(["mkfs", image, "--from", source, "--size", "6M"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("ENOSPC");
    expect(fs.existsSync(image)).toBe(false);
    expect(fs.readdirSync(scratch).filter((name) => name.includes(".quire-"))).toEqual([]);
  });

  test("an image in the directory that it is made from does not hold itself", async () => {
    const tree = join(scratch, "around");
    fs.mkdirSync(tree);
    fs.writeFileSync(join(tree, "file"), "content");
    const image = join(tree, "new.img");
    for (const args of [[], ["--force"], ["--force", "--size", "4M"]]) {
      const { exitCode, stderr } = await quire(["mkfs", image, "--from", tree, ...args]);
      expect([args, exitCode, stderr]).toEqual([args, 0, ""]);
      expect((await quire(["ls", image, "-a"])).text).toBe("file\nlost+found\n");
      check(image);
    }
    const source = join(tree, "source.tar");
    runTool("tar", ["-C", tree, "-cf", source, "file"]);
    const before = fs.readFileSync(source);
    const same = await quire(["mkfs", source, "--from", source, "--force"]);
    expect([same.exitCode, same.stderr.includes("to be made from")]).toEqual([1, true]);
    expect(fs.readFileSync(source).equals(before)).toBe(true);
  });

  test("what is about an image that is there is refused, and that stays", async () => {
    const image = fresh();
    fs.writeFileSync(image, "a disk with a partition 2");
    for (const option of ["--partition=2", "--superblock=backup", "--journal=x", "--noload"]) {
      const args = ["mkfs", image, "--size", "8M", "--force", option];
      const { exitCode, stderr } = await quire(args);
      expect(exitCode).toBe(2);
      expect(stderr).toContain(`${option.replace(/=.*/, "")} is about one that is there`);
    }
    expect(fs.readFileSync(image, "utf8")).toBe("a disk with a partition 2");
  });

  test("--dry-run tells what would be made, and makes nothing", async () => {
    const image = fresh();
    const { exitCode, text } = await quire(["mkfs", image, "--from", source, "--dry-run"]);
    expect(exitCode).toBe(0);
    const lines = text.split("\n");
    expect(lines[0]).toMatch(/^make ext4 file system /);
    expect(lines).toContain("make regular file /many/file-3, 39 bytes");
    expect(lines).toContain("link /zz-hard");
    expect(fs.existsSync(image)).toBe(false);
  });

  test.skipIf(!mayCompare)("the kernel mounts it and sees all kinds of files", async () => {
    const tree = join(scratch, "kinds");
    fs.mkdirSync(tree);
    fillTree(tree, ["sizes", "names", "links", "specials", "owners", "times", "holes", "acls"]);
    const image = fresh();
    const made = await quire([
      "mkfs",
      image,
      "--from",
      tree,
      "--size",
      "128M",
      "--block-size",
      "4096",
    ]);
    expect([made.exitCode, made.stderr]).toEqual([0, ""]);
    check(image);
    expectSameLines(await quireManifest(image), kernelManifest(image));
  });
});
