import * as fs from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { quire } from "../../../test/support/run-cli.ts";
import {
  asRoot,
  requireRoot,
  requireTool,
  runTool,
  scratchDirectory,
} from "../../../test/support/tools.ts";
import type { VfsInode } from "../../fs/vfs.ts";
import { makeSpecial } from "./get-metadata.ts";

const hasMke2fs = requireTool("mke2fs");
const hasXattrs = requireTool("setfattr") && requireTool("getfattr");
const isRoot = requireRoot("owners, devices and trusted attributes");
const scratch = scratchDirectory("get");
const source = join(scratch, "source");
const image = join(scratch, "disk.img");
let targets = 0;

/** A place where nothing is yet. */
const fresh = (): string => join(scratch, `target-${targets++}`);

beforeAll(() => {
  if (!hasMke2fs) return;
  const at = (name: string): string => join(source, name);
  fs.mkdirSync(at("dir/sub"), { recursive: true });
  fs.writeFileSync(at("file"), "content");
  fs.writeFileSync(at("dir/script"), "#!/bin/sh\n", { mode: 0o755 });
  fs.writeFileSync(at("dir/suid"), "x");
  fs.chmodSync(at("dir/suid"), 0o6755);
  fs.linkSync(at("file"), at("dir/hard"));
  fs.symlinkSync("script", at("dir/inside"));
  fs.symlinkSync("../../out", at("dir/outside"));
  fs.symlinkSync("/etc/passwd", at("dir/absolute"));
  const hole = fs.openSync(at("dir/sparse"), "w");
  fs.writeSync(hole, "head", 0);
  fs.writeSync(hole, "tail", 8 * 2 ** 20);
  fs.ftruncateSync(hole, 16 * 2 ** 20);
  fs.closeSync(hole);
  runTool("mkfifo", [at("dir/fifo")]);
  if (hasXattrs) runTool("setfattr", ["-n", "user.note", "-v", "hello", at("file")]);
  if (asRoot()) {
    runTool("mknod", [at("dir/null"), "c", "1", "3"]);
    fs.chownSync(at("file"), 1234, 2345);
  }
  fs.chmodSync(at("dir/sub"), 0o500);
  for (const name of ["dir/script", "file", "dir/sub", "dir"]) fs.utimesSync(at(name), 1e9, 1.1e9);
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-d", source, image, "16M"]);
});

describe.skipIf(!hasMke2fs)("where the copy goes", () => {
  test("SOURCE becomes DESTINATION where that does not exist", async () => {
    const [file, dir] = [fresh(), fresh()];
    expect((await quire(["get", image, "/file", file])).exitCode).toBe(0);
    expect(fs.readFileSync(file, "utf8")).toBe("content");
    expect((await quire(["get", image, "/dir/sub", `${dir}/`])).exitCode).toBe(0);
    expect(fs.statSync(dir).isDirectory()).toBe(true);
  });

  test("it goes into a DESTINATION that is a directory, also through a link", async () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    fs.symlinkSync(dir, `${dir}-link`);
    expect((await quire(["get", image, "/file", dir])).exitCode).toBe(0);
    expect((await quire(["get", image, "/dir/./sub/.", `${dir}-link`])).exitCode).toBe(0);
    expect(fs.readdirSync(dir).sort()).toEqual(["file", "sub"]);
  });

  test("nothing that is there is touched", async () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    fs.writeFileSync(join(dir, "file"), "mine");
    for (const destination of [dir, join(dir, "file")]) {
      const { exitCode, stderr } = await quire(["get", image, "/file", destination]);
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(/^quire: EEXIST: .*the destination must be new\n$/);
    }
    expect(fs.readFileSync(join(dir, "file"), "utf8")).toBe("mine");
  });

  test("a SOURCE that ends in `..` has no name to go by", async () => {
    const dir = fresh();
    fs.mkdirSync(dir);
    const { exitCode, stderr } = await quire(["get", image, "/dir/..", dir]);
    expect([exitCode, stderr]).toEqual([
      1,
      "quire: EINVAL: invalid argument: the name '..' is not a name\n",
    ]);
    expect(fs.readdirSync(dir)).toEqual([]);
  });
});

describe.skipIf(!hasMke2fs)("what is copied", () => {
  test("content, modes without privileges, times, hard links, links inside", async () => {
    const root = fresh();
    const left = ["--no-owner", "--no-special"];
    const { exitCode, stderr } = await quire(["get", image, "/", root, ...left]);
    expect(exitCode).toBe(1);
    const said = stderr
      .trimEnd()
      .split("\n")
      .map((line) => line.replace(`${root}/`, ""))
      .sort();
    expect(said).toEqual(
      [
        "quire: left out dir/absolute -> /etc/passwd, which may lead out: --allow-external-symlinks keeps such links",
        "quire: left out dir/fifo, a FIFO: --special makes such files",
        ...(isRoot
          ? ["quire: left out dir/null, a character device: --special makes such files"]
          : []),
        "quire: left out dir/outside -> ../../out, which may lead out: --allow-external-symlinks keeps such links",
      ].sort(),
    );
    const stat = (name: string): fs.Stats => fs.lstatSync(join(root, name));
    expect(stat("dir/script").mode & 0o7777).toBe(0o755);
    expect(stat("dir/suid").mode & 0o7777).toBe(0o755);
    expect(stat("dir/sub").mode & 0o7777).toBe(0o500);
    for (const name of ["dir/script", "file", "dir/sub", "dir"]) {
      expect([name, stat(name).mtimeMs, stat(name).atimeMs]).toEqual([name, 1.1e12, 1e12]);
    }
    expect(stat("file").ino).toBe(stat("dir/hard").ino);
    expect(fs.readlinkSync(join(root, "dir/inside"))).toBe("script");
    expect(fs.readFileSync(join(root, "dir/hard"), "utf8")).toBe("content");
  });

  test("holes stay holes", async () => {
    const target = fresh();
    await quire(["get", image, "/dir/sparse", target]);
    const { size, blocks } = fs.statSync(target);
    expect(size).toBe(16 * 2 ** 20);
    expect(blocks).toBeLessThan(256);
    const copy = fs.readFileSync(target);
    expect(copy.equals(fs.readFileSync(join(source, "dir/sparse")))).toBe(true);
  });

  test("many small files, with their holes, empty ones too", async () => {
    const tree = join(scratch, "many");
    const many = join(scratch, "many.img");
    for (let at = 0; at < 600; at++) {
      if (at % 200 === 0) fs.mkdirSync(join(tree, `d${at / 200}`), { recursive: true });
      const path = join(tree, `d${Math.floor(at / 200)}`, `f${at}`);
      if (at % 7 !== 6) fs.writeFileSync(path, Buffer.alloc((at % 5) * 5000, at));
      else {
        const fd = fs.openSync(path, "w");
        fs.writeSync(fd, "behind a hole", 40_000);
        fs.ftruncateSync(fd, 60_000);
        fs.closeSync(fd);
      }
    }
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", tree, many, "32M"]);
    const root = fresh();
    const { exitCode, stderr, stdout } = await quire(["get", many, "/", root, "--json"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    // The root, lost+found and the three directories as well.
    expect(JSON.parse(stdout.toString())).toMatchObject({ files: 605, leftOut: 0 });
    for (let at = 0; at < 600; at++) {
      const name = join(`d${Math.floor(at / 200)}`, `f${at}`);
      const copy = fs.readFileSync(join(root, name));
      expect([name, copy.equals(fs.readFileSync(join(tree, name)))]).toEqual([name, true]);
      if (at % 7 === 6) expect(fs.statSync(join(root, name)).blocks).toBeLessThanOrEqual(8);
    }
  });

  test("times to the nanosecond, of files, directories and links", async () => {
    const fine = join(scratch, "fine.img");
    fs.copyFileSync(image, fine);
    for (const name of ["/file", "/dir/sub", "/dir/inside"]) {
      runTool("debugfs", [
        "-w",
        "-R",
        `set_inode_field ${name} mtime_extra ${123_456_789 * 4}`,
        fine,
      ]);
    }
    const root = fresh();
    await quire(["get", fine, "/", root]);
    for (const name of ["file", "dir/sub", "dir/inside"]) {
      const { mtimeNs } = fs.lstatSync(join(root, name), { bigint: true });
      expect([name, mtimeNs % 1_000_000_000n]).toEqual([name, 123_456_789n]);
    }
    expect(fs.statSync(join(root, "dir/sub")).mode & 0o7777).toBe(0o500);
  });

  test("links that lead out are made when asked for", async () => {
    const root = fresh();
    await quire(["get", image, "/dir", root, "--allow-external-symlinks"]);
    expect(fs.readlinkSync(join(root, "absolute"))).toBe("/etc/passwd");
    expect(fs.readlinkSync(join(root, "outside"))).toBe("../../out");
  });

  test("a link asked for by its name is made, wherever it leads; --json tells what was done", async () => {
    const target = fresh();
    const { exitCode, stdout } = await quire(["get", image, "/dir/absolute", target, "--json"]);
    expect(exitCode).toBe(0);
    expect(fs.readlinkSync(target)).toBe("/etc/passwd");
    const told = JSON.parse(stdout.toString()) as object;
    expect(told).toEqual({ source: "/dir/absolute", target, files: 1, bytes: 0, leftOut: 0 });
  });

  test.skipIf(!isRoot)(
    "as root devices, FIFOs and sockets are made without being asked for",
    async () => {
      const root = fresh();
      await quire(["get", image, "/dir", root]);
      expect(fs.lstatSync(join(root, "null")).isCharacterDevice()).toBe(true);
      expect(fs.lstatSync(join(root, "fifo")).isFIFO()).toBe(true);
      const socket = { type: "socket", attributes: () => ({ rdevMajor: 0, rdevMinor: 0 }) };
      makeSpecial(socket as unknown as VfsInode, Buffer.from(join(root, "socket")));
      expect(fs.lstatSync(join(root, "socket")).isSocket()).toBe(true);
    },
  );

  test.skipIf(!isRoot)("devices, FIFOs and privileges are made when asked for", async () => {
    const root = fresh();
    await quire(["get", image, "/dir", root, "--special", "--preserve-privileges"]);
    const device = fs.lstatSync(join(root, "null"));
    expect([device.isCharacterDevice(), device.rdev]).toEqual([true, 0x103]);
    expect(fs.lstatSync(join(root, "fifo")).isFIFO()).toBe(true);
    expect(fs.lstatSync(join(root, "suid")).mode & 0o7777).toBe(0o6755);
  });

  test.skipIf(!isRoot)(
    "owners are the image's also where new files get another group",
    async () => {
      const root = fresh();
      fs.mkdirSync(root);
      fs.chownSync(root, 0, 4321);
      fs.chmodSync(root, 0o2755);
      await quire(["get", image, "/dir", root]);
      for (const name of ["dir", "dir/script", "dir/sub"]) {
        expect([name, fs.statSync(join(root, name)).gid]).toEqual([name, 0]);
      }
      const plain = fresh();
      await quire(["get", image, "/dir", plain, "--no-owner"]);
      expect(fs.statSync(join(plain, "hard")).uid).toBe(0);
    },
  );

  test.skipIf(!isRoot || !hasXattrs)("root gets owners and attributes unless refused", async () => {
    const [all, none] = [fresh(), fresh()];
    expect((await quire(["get", image, "/file", all])).exitCode).toBe(0);
    const { uid, gid } = fs.statSync(all);
    expect([uid, gid]).toEqual([1234, 2345]);
    expect(runTool("getfattr", ["--only-values", "-n", "user.note", all])).toBe("hello");
    expect((await quire(["get", image, "/file", none, "--no-owner", "--no-xattrs"])).exitCode).toBe(
      0,
    );
    expect(fs.statSync(none).uid).toBe(0);
    expect(runTool("getfattr", [none])).toBe("");
  });
});

describe.skipIf(!hasMke2fs)("bounds", () => {
  test("--max-bytes and --max-files end the run", async () => {
    const bytes = await quire(["get", image, "/file", fresh(), "--max-bytes", "3"]);
    expect([bytes.exitCode, bytes.stderr]).toEqual([
      1,
      "quire: more bytes than --max-bytes allows: the rest was left out\n",
    ]);
    const files = await quire(["get", image, "/dir", fresh(), "--max-files", "2"]);
    expect(files.stderr).toContain("more files than --max-files allows: the rest was left out\n");
    expect(files.exitCode).toBe(1);
  });

  test("holes cost nothing of it", async () => {
    const { exitCode } = await quire(["get", image, "/dir/sparse", fresh(), "--max-bytes", "64k"]);
    expect(exitCode).toBe(0);
  });
});
