import * as fs from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  expectSameLines,
  fillImage,
  mayCompareWithKernel,
  quireManifest,
} from "../../../test/support/manifest.ts";
import { quire } from "../../../test/support/run-cli.ts";
import { asRoot, requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasTools = ["mke2fs", "e2fsck", "tar"].every(requireTool);
const hasXattrs = requireTool("setfattr") && requireTool("getfattr");
const hasAcls = requireTool("setfacl") && requireTool("getfacl");
const mayCompare = mayCompareWithKernel();
const scratch = scratchDirectory("archive");
const source = join(scratch, "source");
let count = 0;

function freshImage(size = "32M"): string {
  const image = join(scratch, `disk-${count++}.img`);
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", image, size]);
  return image;
}

const check = (image: string): string => runTool("e2fsck", ["-fn", image]);

/** Manifest lines without what a copy cannot have. */
async function comparable(image: string, path = "/"): Promise<string[]> {
  const lines = await quireManifest(image, { args: [path] });
  return lines.flatMap((text) => {
    const { ino, blocks, atime_ns, flags, ...line } = JSON.parse(text) as Record<string, unknown>;
    return line["type"] === "s" || line["path"] === "lost+found" ? [] : [JSON.stringify(line)];
  });
}

async function* pieces(path: string, bytes: number): AsyncGenerator<Uint8Array> {
  const all = fs.readFileSync(path);
  for (let at = 0; at < all.length; at += bytes) yield all.subarray(at, at + bytes);
}

beforeAll(() => {
  const at = (name: string): string => join(source, name);
  const deep = `${"d".repeat(90)}/${"e".repeat(90)}/${"f".repeat(90)}`;
  fs.mkdirSync(at(deep), { recursive: true });
  fs.writeFileSync(at(`${deep}/file`), "deep");
  fs.symlinkSync("x".repeat(200), at("link"));
  fs.writeFileSync(at("file"), Buffer.alloc(100_000, "quire"), { mode: 0o640 });
  fs.linkSync(at("file"), at("zz-hard"));
  fs.writeFileSync(at("empty"), "");
  fs.writeFileSync(Buffer.concat([Buffer.from(`${source}/n`), Buffer.from([0xff])]), "odd");
  const hole = fs.openSync(at("sparse"), "w");
  for (let piece = 0; piece < 30; piece++) fs.writeSync(hole, "data", piece * 2 ** 20);
  fs.ftruncateSync(hole, 40 * 2 ** 20);
  fs.closeSync(hole);
  runTool("mkfifo", [at("fifo")]);
  if (asRoot()) {
    runTool("mknod", [at("device"), "b", "259", "70000"]);
    fs.chownSync(at("file"), 3_000_000, 4_000_000);
  }
  if (hasXattrs) runTool("setfattr", ["-n", "user.bytes", "-v", "0x000aff3d", at("file")]);
});

describe.skipIf(!hasTools)("import", () => {
  test.each([
    ["gnu", ["--format=gnu", "--sparse"]],
    ["pax with sparse files 1.0", ["--format=posix", "--sparse", "--xattrs"]],
    ["pax with sparse files 0.1", ["--format=posix", "--sparse", "--sparse-version=0.1"]],
    ["pax with sparse files 0.0", ["--format=posix", "--sparse", "--sparse-version=0.0"]],
    ["pax without holes", ["--format=posix"]],
  ] as const)("what tar wrote: %s", async (name, args) => {
    const tar = join(scratch, `${count++}.tar`);
    runTool("tar", [...args, "--sort=name", "-C", source, "-cf", tar, "."]);
    const image = freshImage("64M");
    const stdin = pieces(tar, 1000);
    const { exitCode, stderr } = await quire(["import", image, "-", "--at", "/t"], { stdin });
    expect([exitCode, stderr]).toEqual([0, ""]);
    check(image);
    const wanted = freshImage("64M");
    await quire(["put", wanted, source, "/t"]);
    const normal = (lines: string[]): string[] =>
      lines.map((text) => {
        const line = JSON.parse(text) as Record<string, unknown>;
        if (name === "gnu") line["mtime_ns"] = String(line["mtime_ns"]).slice(0, -9);
        if (!args.includes("--xattrs" as never)) line["xattrs"] = {};
        if (!args.includes("--sparse" as never)) line["data"] = null;
        return JSON.stringify(line);
      });
    expectSameLines(normal(await comparable(image, "/t")), normal(await comparable(wanted, "/t")));
  });

  test("what cannot be a tar stream is refused with a sentence", async () => {
    const image = freshImage();
    const cases: [Uint8Array, string][] = [
      [new Uint8Array(2000).fill(7), "the sum of a header is wrong|a number in a header is none"],
      [Uint8Array.of(0x1f, 0x8b, ...new Uint8Array(510)), 'pass it through "gzip -dc" first'],
      [new Uint8Array(100), "the tar stream ends too early"],
    ];
    for (const [bytes, sentence] of cases) {
      const path = join(scratch, `${count++}.bad`);
      fs.writeFileSync(path, bytes);
      const { exitCode, stderr } = await quire(["import", image, path]);
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(new RegExp(sentence));
    }
    expect((await quire(["import", image, join(scratch, "missing")])).stderr).toContain("ENOENT");
    check(image);
  });

  test("the name of an archive is no file, and what lists a directory is one", async () => {
    const image = freshImage();
    const tar = join(scratch, "named.tar");
    const list = join(scratch, "list");
    const args = ["-C", source, "--exclude=sparse", "-V", "its name", "-g", list];
    runTool("tar", [...args, "-cf", tar, "."]);
    const { exitCode, stderr } = await quire(["import", image, tar]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect((await quire(["ls", image])).text).toContain("fifo\nfile\nlink\n");
    check(image);
  });

  test("a directory that comes twice is as it comes last", async () => {
    const image = freshImage();
    const tree = join(scratch, "twice");
    const tar = join(scratch, "twice.tar");
    fs.mkdirSync(join(tree, "dir"), { recursive: true });
    for (const [mode, option] of [
      [0o500, "-cf"],
      [0o750, "-rf"],
    ] as const) {
      fs.chmodSync(join(tree, "dir"), mode);
      runTool("tar", ["-C", tree, option, tar, "dir"]);
    }
    expect((await quire(["import", image, tar])).stderr).toBe("");
    expect((await quire(["ls", image, "-l"])).text).toMatch(/^drwxr-x--- .* dir$/m);
    check(image);
  });

  test("what stands behind the end of a stream is taken too", async () => {
    const tar = join(scratch, "padded.tar");
    runTool("tar", ["-C", source, "-cf", tar, "empty"]);
    fs.appendFileSync(tar, new Uint8Array(100_000));
    let isTaken = false;
    async function* stdin(): AsyncGenerator<Uint8Array> {
      yield* pieces(tar, 1000);
      isTaken = true;
    }
    const { exitCode } = await quire(["import", freshImage(), "-"], { stdin: stdin() });
    expect([exitCode, isTaken]).toEqual([0, true]);
  });

  test.skipIf(!hasAcls)("access control lists as GNU tar and bsdtar write them", async () => {
    const tree = join(scratch, "lists");
    fs.mkdirSync(join(tree, "dir"), { recursive: true });
    fs.writeFileSync(join(tree, "file"), "", { mode: 0o640 });
    runTool("setfacl", ["-m", "u:77:r,g:88:rwx", join(tree, "file")]);
    runTool("setfacl", ["-m", "d:u:99:rwx", join(tree, "dir")]);
    const wanted = freshImage();
    await quire(["put", wanted, tree, "/t"]);
    const lists = await comparable(wanted, "/t");
    expect(lists.join("").match(/system.posix_acl_/g)?.length).toBe(2);
    const writers: [string, string[]][] = [["tar", ["--posix", "--acls", "--numeric-owner"]]];
    if (requireTool("bsdtar")) writers.push(["bsdtar", ["--format=pax", "--acls"]]);
    for (const [program, args] of writers) {
      const tar = join(scratch, `lists-${program}.tar`);
      runTool(program, [...args, "-C", tree, "-cf", tar, "."]);
      const image = freshImage();
      const { exitCode, stderr } = await quire(["import", image, tar, "--at", "/t"]);
      expect([program, exitCode, stderr]).toEqual([program, 0, ""]);
      expectSameLines(await comparable(image, "/t"), lists);
      check(image);
    }
    const tar = join(scratch, "lists-quire.tar");
    expect((await quire(["export", wanted, "/t", "-o", tar])).stderr).toBe("");
    const back = join(scratch, "lists-back");
    fs.mkdirSync(back);
    runTool("tar", ["--acls", "-C", back, "-xpf", tar]);
    const acl = (path: string): string => runTool("getfacl", ["-nc", path]);
    for (const name of ["file", "dir"]) expect(acl(join(back, name))).toBe(acl(join(tree, name)));
  });

  test("nothing is written outside of --at, nor through symlinks", async () => {
    const image = freshImage();
    await quire(["mkdir", image, "/in", "/out"]);
    const tree = join(scratch, "hostile");
    fs.mkdirSync(join(tree, "dir"), { recursive: true });
    fs.writeFileSync(join(tree, "dir/file"), "evil");
    fs.symlinkSync("/out", join(tree, "link"));
    const tar = join(scratch, "hostile.tar");
    const renames = ["--transform=s,^dir/file,link/file,", "--transform=s,^up,../out/up,"];
    fs.writeFileSync(join(tree, "up"), "evil");
    runTool("tar", ["-C", tree, "-cf", tar, "-P", ...renames, "link", "dir/file", "up"]);
    const { exitCode, stderr } = await quire(["import", image, tar, "--at", "/in"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/ENOTDIR: .*'\/in\/link': a symlink is there already/);
    expect(stderr).toMatch(/EINVAL: .*'..\/out\/up': a path with '..' may lead out of the tree/);
    expect((await quire(["find", image, "/out"])).text).toBe("/out\n");
    check(image);
  });

  test("--dry-run lists what would be written and changes no byte", async () => {
    const tar = join(scratch, "small.tar");
    runTool("tar", ["-C", source, "-cf", tar, "--sort=name", "empty", "link"]);
    const image = freshImage();
    const before = fs.readFileSync(image);
    const { text } = await quire(["import", image, tar, "--dry-run"]);
    expect(text).toBe("make regular file /empty, 0 bytes\nmake symlink /link\n");
    expect(fs.readFileSync(image).equals(before)).toBe(true);
  });
});

describe.skipIf(!hasTools)("export", () => {
  test("tar finds no difference to what was put in, and reads the same back", async () => {
    const image = freshImage("64M");
    const put = await quire(["put", image, source, "/t"]);
    expect(put.stderr).toBe("");
    const tar = join(scratch, "out.tar");
    const { exitCode, stderr } = await quire(["export", image, "/t", "-o", tar]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const owners = asRoot() ? [] : ["--no-same-owner"];
    runTool("tar", ["--xattrs", ...owners, "-C", source, "-df", tar]);
    expect(fs.statSync(tar).size).toBeLessThan(2 ** 20);
    const back = freshImage("64M");
    await quire(["import", back, tar, "--at", "/t"]);
    expectSameLines(await comparable(back, "/t"), await comparable(image, "/t"));
    check(back);
  });

  test("one file has its own name in the stream, which goes to stdout", async () => {
    const image = freshImage();
    await quire(["put", image, join(source, "file"), "/file"]);
    const { stdout } = await quire(["export", image, "/file"]);
    const dash = await quire(["export", image, "/file", "-o", "-"]);
    expect(dash.stdout.equals(stdout)).toBe(true);
    expect(stdout.length % 10_240).toBe(0);
    expect(runTool("tar", ["-tf", "-"], { input: stdout })).toBe("file\n");
  });

  test.skipIf(!mayCompare)("all kinds of files make the round trip", async () => {
    const image = freshImage("256M");
    fillImage(image, ["sizes", "names", "links", "specials", "owners", "times", "holes", "acls"]);
    const tar = join(scratch, "kinds.tar");
    const out = await quire(["export", image, "-o", tar]);
    expect(out.stderr).toMatch(
      /^(?:quire: EOPNOTSUPP: .* a socket has no form in a tar stream\n)*$/,
    );
    const back = freshImage("256M");
    expect((await quire(["import", back, tar])).stderr).toBe("");
    check(back);
    const flat = (lines: string[]): string[] =>
      lines.map((text) => {
        const { data, ...line } = JSON.parse(text) as Record<string, unknown>;
        return JSON.stringify(line);
      });
    expectSameLines(flat(await comparable(back)), flat(await comparable(image)));
  });
});
