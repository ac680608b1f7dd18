import * as fs from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  expectSameLines,
  fillTree,
  kernelManifest,
  mayCompareWithKernel,
  quireManifest,
  treeManifest,
} from "../../../test/support/manifest.ts";
import { quire } from "../../../test/support/run-cli.ts";
import { asRoot, requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasE2fs = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const hasPerl = requireTool("perl");
const hasXattrs = requireTool("setfattr") && requireTool("getfattr");
const mayCompare = mayCompareWithKernel();
const scratch = scratchDirectory("put");
const source = join(scratch, "source");
let images = 0;

function freshImage(size = "32M", args: readonly string[] = ["-t", "ext4"]): string {
  const image = join(scratch, `disk-${images++}.img`);
  runTool("mke2fs", ["-q", "-F", ...args, image, size]);
  return image;
}

function check(image: string): void {
  runTool("e2fsck", ["-fn", image]);
}

beforeAll(() => {
  const at = (name: string): string => join(source, name);
  fs.mkdirSync(at("dir/sub"), { recursive: true });
  fs.writeFileSync(at("file"), "content");
  fs.writeFileSync(at("dir/script"), "#!/bin/sh\n", { mode: 0o755 });
  fs.linkSync(at("file"), at("dir/hard"));
  fs.symlinkSync("script", at("dir/link"));
  const hole = fs.openSync(at("dir/sparse"), "w");
  fs.writeSync(hole, "head", 0);
  fs.writeSync(hole, "tail", 8 * 2 ** 20);
  fs.ftruncateSync(hole, 16 * 2 ** 20);
  fs.closeSync(hole);
  runTool("mkfifo", [at("dir/fifo")]);
  if (hasXattrs) runTool("setfattr", ["-n", "user.note", "-v", "0x00ff80", at("file")]);
});

describe.skipIf(!hasE2fs)("where the copy goes", () => {
  test("SRC becomes DEST where that does not exist, and goes into a directory that does", async () => {
    const image = freshImage();
    const file = join(source, "file");
    expect(await quire(["put", image, file, "/new"])).toMatchObject({ exitCode: 0, stderr: "" });
    expect((await quire(["put", image, join(source, "dir"), "/copy"])).exitCode).toBe(0);
    expect((await quire(["put", image, file, "/copy"])).exitCode).toBe(0);
    expect((await quire(["cat", image, "/new", "/copy/file"])).text).toBe("contentcontent");
    expect((await quire(["ls", image, "/copy"])).text).toBe(
      "fifo\nfile\nhard\nlink\nscript\nsparse\nsub\n",
    );
    check(image);
  });

  test("slashes at the end of SRC mean nothing, at the end of DEST a directory", async () => {
    const image = freshImage();
    for (const [at, end] of ["", "/", "//", "/."].entries()) {
      const { exitCode, stderr } = await quire(["put", image, `${source}${end}`, `/copy-${at}/`]);
      expect([end, exitCode, stderr]).toEqual([end, 0, ""]);
    }
    const lines = await Promise.all(
      [0, 1, 2, 3].map(async (at) => {
        const all = await quireManifest(image, { args: [`/copy-${at}`] });
        return all.map((line) => line.replace(/"(?:ino|atime_ns)":"?\d+"?,/g, ""));
      }),
    );
    if (hasXattrs) expect(lines[0]!.join("")).toContain('"user.note":"AP+A"');
    for (const at of [1, 2, 3]) expect(lines[at]).toEqual(lines[0]);
    const file = await quire(["put", image, join(source, "file"), "/none/"]);
    expect([file.exitCode, file.stderr]).toEqual([
      1,
      "quire: ENOTDIR: not a directory, put '/none/'\n",
    ]);
    check(image);
  });

  test("the content of SRC/. goes into DEST itself", async () => {
    const image = freshImage();
    await quire(["mkdir", image, "/into"]);
    await quire(["put", image, join(source, "file"), "/into/kept"]);
    for (const end of [".", "./", "dir/..", "dir/sub/../../."]) {
      const put = await quire(["put", image, `${source}/${end}`, "/into"]);
      expect([end, put.exitCode, put.stderr]).toEqual([end, 0, ""]);
    }
    expect((await quire(["ls", image, "/into"])).text).toBe("dir\nfile\nkept\n");
    const file = join(source, "file");
    expect((await quire(["put", image, `${source}/dir/.`, file, "/into"])).stderr).toBe("");
    expect((await quire(["ls", image, "/into"])).text).toContain("hard\nkept\nlink\nscript\n");
    check(image);
  });

  test("names of one file in several SRC stay names of one file", async () => {
    const image = freshImage();
    const [one, two] = [join(scratch, "one"), join(scratch, "two")];
    fs.mkdirSync(one);
    fs.mkdirSync(join(two, "dir"), { recursive: true });
    fs.writeFileSync(join(one, "a"), "content");
    fs.linkSync(join(one, "a"), join(two, "dir/b"));
    fs.linkSync(join(one, "a"), join(two, "c"));
    await quire(["mkdir", image, "/into"]);
    const sources = [join(one, "a"), two, `${two}/.`];
    const { exitCode, stderr } = await quire(["put", image, ...sources, "/into"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const { text } = await quire(["find", image, "/into", "--type", "f", "--json"]);
    const found = text.trimEnd().split("\n");
    const files = found.map((line) => JSON.parse(line) as { path: string; nlink: number });
    expect(files.map(({ path, nlink }) => [path, nlink])).toEqual([
      ["/into/a", 5],
      ["/into/c", 5],
      ["/into/dir/b", 5],
      ["/into/two/c", 5],
      ["/into/two/dir/b", 5],
    ]);
    check(image);
  });

  test.skipIf(!hasPerl)(
    "holes are not read: a file of a TiB takes no longer than its data",
    async () => {
      const image = freshImage("32M", ["-t", "ext4", "-b", "4096"]);
      const huge = join(scratch, "huge");
      const fd = fs.openSync(huge, "w");
      for (const at of [0, 2 ** 30, 2 ** 39 + 4096]) fs.writeSync(fd, "data", at);
      fs.ftruncateSync(fd, 2 ** 40);
      fs.closeSync(fd);
      const before = process.cpuUsage();
      const { exitCode, stderr } = await quire(["put", image, huge, "/huge"]);
      expect([exitCode, stderr]).toEqual([0, ""]);
      const { user, system } = process.cpuUsage(before);
      expect((user + system) / 1e6).toBeLessThan(30);
      const { text } = await quire(["map", image, "/huge", "--json"]);
      const extents = JSON.parse(text) as { logical: number }[];
      expect(extents.map(({ logical }) => logical)).toEqual([0, 2 ** 30, 2 ** 39 + 4096]);
      expect((await quire(["ls", image, "/huge", "-l"])).text).toContain(String(2 ** 40));
      fs.rmSync(huge);
      check(image);
    },
  );

  test("the image is not copied into itself", async () => {
    const folder = join(scratch, "around");
    fs.mkdirSync(join(folder, "dir"), { recursive: true });
    fs.writeFileSync(join(folder, "dir/file"), "content");
    const image = join(folder, "disk.img");
    fs.renameSync(freshImage("8M"), image);
    fs.linkSync(image, join(folder, "dir/name"));
    const all = await quire(["put", image, `${folder}/`, "/"]);
    expect([all.exitCode, all.stderr]).toEqual([
      0,
      `quire: warning: ${folder}/dir/name is the image itself: left out\n` +
        `quire: warning: ${folder}/disk.img is the image itself: left out\n`,
    ]);
    expect((await quire(["find", image, "/around"])).text).toBe(
      "/around\n/around/dir\n/around/dir/file\n",
    );
    const alone = await quire(["put", image, image, "/"]);
    expect(alone.exitCode).toBe(1);
    expect(alone.stderr).toMatch(/^quire: EINVAL: .*: it is the image itself\n$/);
    const tar = await quire(["export", image, "-o", join(folder, "dir/name")]);
    expect([tar.exitCode, tar.stderr.includes("it is the image itself")]).toEqual([1, true]);
    check(image);
  });

  test("a directory that cannot be made is told once, not for each file in it", async () => {
    const image = freshImage();
    const tree = join(scratch, "in-the-way");
    for (const name of ["dir", "end"]) fs.mkdirSync(join(tree, name, "sub"), { recursive: true });
    for (const name of ["dir/a", "dir/sub/b", "dirt"]) fs.writeFileSync(join(tree, name), "");
    await quire(["touch", image, "/new"]);
    const whole = await quire(["put", image, tree, "/new"]);
    expect(whole.stderr).toBe("quire: ENOTDIR: not a directory '/new': a file is there already\n");
    await quire(["mkdir", image, "/tree"]);
    await quire(["touch", image, "/tree/dir"]);
    const part = await quire(["put", image, `${tree}/.`, "/tree"]);
    expect(part.stderr).toBe(
      "quire: ENOTDIR: not a directory '/tree/dir': a file is there already\n",
    );
    expect((await quire(["ls", image, "/tree"])).text).toBe("dir\ndirt\nend\n");
    check(image);
  });

  test("several SRC need a directory", async () => {
    const image = freshImage();
    const sources = [join(source, "file"), join(source, "dir")];
    const refused = await quire(["put", image, ...sources, "/missing"]);
    expect([refused.exitCode, refused.text]).toEqual([1, ""]);
    expect(refused.stderr).toContain("ENOENT");
    expect((await quire(["put", image, ...sources, "/"])).exitCode).toBe(0);
    expect((await quire(["ls", image, "/"])).text).toBe("dir\nfile\nlost+found\n");
    check(image);
  });

  test("a file replaces a file and not what its other names lead to; never a directory", async () => {
    const image = freshImage();
    const file = join(source, "file");
    await quire(["put", image, file, "/a"]);
    await quire(["ln", image, "/a", "/b"]);
    expect((await quire(["put", image, join(source, "dir/script"), "/a"])).exitCode).toBe(0);
    expect((await quire(["cat", image, "/a", "/b"])).text).toBe("#!/bin/sh\ncontent");
    await quire(["mkdir", image, "-p", "/d/file"]);
    const refused = await quire(["put", image, file, "/d"]);
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      "quire: EISDIR: illegal operation on a directory '/d/file': a directory is there already\n",
    ]);
    check(image);
  });

  test("a missing SRC is told of, and the others are copied", async () => {
    const image = freshImage();
    const sources = [join(scratch, "missing"), join(source, "file")];
    const { exitCode, stderr } = await quire(["put", image, ...sources, "/"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^quire: ENOENT: .*missing'\n$/);
    expect((await quire(["cat", image, "/file"])).text).toBe("content");
    check(image);
  });
});

describe.skipIf(!hasE2fs)("what is copied", () => {
  test("modes, times to the nanosecond, hard links, holes, attributes that are no text", async () => {
    const image = freshImage();
    const { exitCode, stdout } = await quire(["put", image, source, "/t", "--json"]);
    expect(exitCode).toBe(0);
    const told = JSON.parse(stdout.toString()) as object;
    expect(told).toMatchObject({ dryRun: false, failed: 0, files: 9 });
    const stat = JSON.parse((await quire(["stat", image, "/t/file", "--json"])).text) as unknown;
    const { mtimeNs } = fs.statSync(join(source, "file"), { bigint: true });
    expect(JSON.stringify(stat)).toContain(`"mtime_ns":"${mtimeNs}"`);
    const lines = await quireManifest(image, { args: ["/t"] });
    const byPath = new Map(
      lines.map((text) => [JSON.parse(text).path as string, JSON.parse(text)]),
    );
    expect(byPath.get("dir/hard").ino).toBe(byPath.get("file").ino);
    expect(byPath.get("dir/sparse").data).toEqual([
      [0, 4096],
      [8 * 2 ** 20, 8 * 2 ** 20 + 4096],
    ]);
    if (hasXattrs) expect(byPath.get("file").xattrs).toEqual({ "user.note": "AP+A" });
    check(image);
  });

  test("owners as asked for: one for all, mapped, or root", async () => {
    const image = freshImage();
    const file = join(source, "file");
    const owner = async (path: string): Promise<unknown> => {
      const [stat] = JSON.parse((await quire(["stat", image, path, "--json"])).text) as {
        uid: number;
        gid: number;
      }[];
      const { uid, gid } = stat!;
      return [uid, gid];
    };
    const { uid, gid } = fs.statSync(file);
    await quire(["put", image, file, "/one", "--owner", "70000:80000"]);
    await quire(["put", image, file, "/root", "--no-owner"]);
    await quire(["put", image, file, "/map", "--uid-map", `${uid}:1000:10`, "--gid-map", "9:9"]);
    expect(await owner("/one")).toEqual([70000, 80000]);
    expect(await owner("/root")).toEqual([0, 0]);
    expect(await owner("/map")).toEqual([1000, gid]);
    const wrong = await quire(["put", image, file, "/x", "--owner", "me"]);
    expect([wrong.exitCode, wrong.stderr]).toEqual([
      2,
      'quire: --owner must be a number of a user or group, not "me"\n',
    ]);
    check(image);
  });

  test.skipIf(!mayCompare)(
    "a tree of all kinds is equal for the kernel, and comes back equal",
    async () => {
      const tree = join(scratch, "kinds");
      fs.mkdirSync(tree);
      fillTree(tree, [
        "sizes",
        "names",
        "links",
        "specials",
        "owners",
        "times",
        "holes",
        "xattrs",
        "acls",
      ]);
      const image = freshImage("256M", ["-t", "ext4", "-b", "4096"]);
      const put = await quire(["put", image, tree, "/t"]);
      expect(put.stderr).toMatch(
        /^quire: EINVAL: .*left out an attribute whose name is not UTF-8\n$/,
      );
      check(image);
      const comparable = (lines: readonly string[]): string[] =>
        lines.map((text) => {
          const { ino, blocks, atime_ns, flags, data, nlink, ...line } = JSON.parse(text);
          for (const name of Object.keys(line.xattrs)) {
            if (name.startsWith("trusted.") && name !== "trusted.b") delete line.xattrs[name];
          }
          return JSON.stringify(line);
        });
      const ours = comparable(await quireManifest(image, { args: ["/t"] }));
      expectSameLines(ours, comparable(treeManifest(tree)));
      expect(kernelManifest(image).length).toBeGreaterThan(ours.length);
      const back = join(scratch, "back");
      await quire(["get", image, "/t", back, "--preserve-privileges", "--allow-external-symlinks"]);
      expectSameLines(comparable(treeManifest(back)), comparable(treeManifest(tree)));
    },
  );
});

describe.skipIf(!hasE2fs)("dry runs and failures", () => {
  test("a dry run says what would be done and changes no byte", async () => {
    const image = freshImage();
    const before = fs.readFileSync(image);
    const { exitCode, text } = await quire(["put", image, join(source, "dir"), "/d", "--dry-run"]);
    expect([exitCode, text.split("\n")]).toEqual([
      0,
      [
        "make directory /d",
        "make FIFO /d/fifo",
        "make regular file /d/hard, 7 bytes",
        "make symlink /d/link",
        "make regular file /d/script, 10 bytes",
        "make regular file /d/sparse, 16777216 bytes",
        "make directory /d/sub",
        "",
      ],
    ]);
    expect(fs.readFileSync(image).equals(before)).toBe(true);
  });

  test("a dry run says the same as a run says with --verbose", async () => {
    const image = freshImage();
    await quire(["put", image, join(source, "dir/script"), "/file"]);
    const args = ["put", image, source, "/"];
    const planned = await quire([...args, "--dry-run"]);
    const done = await quire([...args, "--verbose"]);
    expect(planned.text).toBe(done.text);
    check(image);
  });

  test("a full image: what was done is told, and the image is whole", async () => {
    const image = freshImage("1M", ["-t", "ext2"]);
    const big = join(scratch, "big");
    fs.mkdirSync(big);
    fs.writeFileSync(join(big, "a"), "a");
    fs.writeFileSync(join(big, "b"), Buffer.alloc(2 * 2 ** 20, 1));
    fs.chmodSync(big, 0o755);
    const { exitCode, stderr } = await quire(["put", image, big, "/big"]);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^quire: 2 changes were made and written before this:\nquire: ENOSPC/);
    expect((await quire(["ls", image, "/big"])).text).toBe("a\n");
    expect((await quire(["ls", image, "-l"])).text).toMatch(/^drwxr-xr-x .* big$/m);
    check(image);
  });

  test("who is interrupted leaves a whole image", async () => {
    const image = freshImage();
    const stop = new AbortController();
    const running = quire(["put", image, source, "/t"], { signal: stop.signal });
    stop.abort();
    expect((await running).exitCode).toBe(130);
    check(image);
  });

  test("a second writer gets a sentence", async () => {
    const image = freshImage();
    const { openImage } = await import("../open-image.ts");
    await using _volume = await openImage(image, { writable: true });
    const { exitCode, stderr } = await quire(["rm", image, "/x"]);
    expect([exitCode, stderr]).toEqual([
      1,
      `quire: EBUSY: resource busy or locked, open '${image}': it is open for writing elsewhere, and one at a time may\n`,
    ]);
  });
});

describe.skipIf(!hasE2fs)("cp in the image", () => {
  test("copies files and trees with owners and times, but not into themselves", async () => {
    const image = freshImage();
    await quire(["put", image, source, "/t", "--owner", "5:6"]);
    expect((await quire(["cp", image, "/t", "/u"])).stderr).toContain(
      "a directory is copied with -r",
    );
    expect((await quire(["cp", "-r", image, "/t", "/u"])).exitCode).toBe(0);
    expect((await quire(["cp", image, "/t/file", "/u/dir"])).exitCode).toBe(0);
    const inside = await quire(["cp", "-r", image, "/u", "/u/dir/sub"]);
    expect([inside.exitCode, inside.stderr]).toEqual([
      1,
      "quire: EINVAL: invalid argument, cp: a directory cannot be copied into itself\n",
    ]);
    const same = await quire(["cp", image, "/t/file", "/t/file"]);
    expect(same.stderr).toContain("source and destination are the same");
    const lines = async (path: string): Promise<unknown[]> =>
      (await quireManifest(image, { args: [path] })).map((text) => {
        const { ino, atime_ns, ...line } = JSON.parse(text) as Record<string, unknown>;
        return line;
      });
    await quire(["rm", image, "/u/dir/file"]);
    const [ours, theirs] = [await lines("/u"), await lines("/t")];
    const withoutTime = (list: unknown[]): unknown[] =>
      list.map((line) => ({ ...(line as object), mtime_ns: 0 }));
    expect(withoutTime(ours)).toEqual(withoutTime(theirs));
    check(image);
  });
});

test("root runs compare with the kernel", () => {
  expect(mayCompare || !asRoot() || !hasE2fs).toBe(true);
});
