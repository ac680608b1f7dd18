import * as fs from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type CliResult, quire } from "../../../test/support/run-cli.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasE2fs = ["mke2fs", "e2fsck", "debugfs"].every(requireTool);
const scratch = scratchDirectory("changes");
const base = join(scratch, "base.img");
let images = 0;

function freshImage(): string {
  const image = join(scratch, `disk-${images++}.img`);
  fs.copyFileSync(base, image, fs.constants.COPYFILE_FICLONE);
  return image;
}

const check = (image: string): string => runTool("e2fsck", ["-fn", image]);
const debugfs = (image: string, command: string): string =>
  runTool("debugfs", ["-R", command, image]);

/** Runs a command twice: dry, which must change no byte, and then for good. */
async function both(image: string, args: readonly string[]): Promise<[CliResult, CliResult]> {
  const before = fs.readFileSync(image);
  const [verb, ...rest] = args;
  const dry = await quire([verb!, image, ...rest, "--dry-run"]);
  expect(fs.readFileSync(image).equals(before)).toBe(true);
  const done = await quire([verb!, image, ...rest, "--verbose"]);
  check(image);
  return [dry, done];
}

beforeAll(() => {
  if (!hasE2fs) return;
  const tree = join(scratch, "tree");
  fs.mkdirSync(join(tree, "dir/sub"), { recursive: true });
  fs.writeFileSync(join(tree, "file"), "content");
  fs.writeFileSync(join(tree, "dir/inner"), "inner");
  fs.symlinkSync("file", join(tree, "link"));
  for (const name of ["file", "dir", "dir/sub", "dir/inner"]) fs.chmodSync(join(tree, name), 0o750);
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-d", tree, base, "16M"]);
});

describe.skipIf(!hasE2fs)("what is said is what is done", () => {
  test.each([
    [["rm", "/file"], "remove regular file /file\n"],
    [
      ["rm", "-r", "/dir"],
      "remove directory /dir/sub\nremove regular file /dir/inner\nremove directory /dir\n",
    ],
    [["mv", "/file", "/dir"], "move /file to /dir/file\n"],
    [["mv", "/file", "/dir/inner"], "move /file to /dir/inner, which replaces a regular file\n"],
    [["mkdir", "/new"], "make directory /new, mode 0755\n"],
    [
      ["mkdir", "-p", "-m", "u=rwx,go=", "/a/b"],
      "make directory /a, mode 0755\nmake directory /a/b, mode 0700\n",
    ],
    [["ln", "/file", "/name"], "link /name to /file\n"],
    [["ln", "-s", "../x", "/sym"], "make symlink /sym -> ../x\n"],
    [["ln", "-sf", "dir", "/link"], "remove symlink /link\nmake symlink /link -> dir\n"],
    [["touch", "-d", "@1.5", "/file"], "times of /file\n"],
    [["touch", "/fresh"], "make regular file /fresh\n"],
    [["truncate", "-s", "+1k", "/file"], "size of /file: 7 to 1031\n"],
    [["chmod", "u=rw,go=r", "/file"], "mode of /file: 0750 to 0644\n"],
    [
      ["chmod", "-R", "go-rx", "/dir"],
      "mode of /dir: 0750 to 0700\nmode of /dir/inner: 0750 to 0700\nmode of /dir/sub: 0750 to 0700\n",
    ],
    [
      ["setfattr", "-n", "user.a", "-v", "0x00ff", "/file"],
      "set attribute user.a of /file, 2 bytes\n",
    ],
    [["fallocate", "-l", "1M", "/big"], "allocate /big: 1048576 bytes at 0\n"],
    [["cp", "/file", "/copy"], "make regular file /copy, 7 bytes\n"],
  ] as const)("%j", async (args, text) => {
    const [dry, done] = await both(freshImage(), args);
    expect([dry.exitCode, dry.stderr, dry.text]).toEqual([0, "", text]);
    expect([done.exitCode, done.stderr, done.text]).toEqual([0, "", text]);
  });
});

describe.skipIf(!hasE2fs)("debugfs finds what was done", () => {
  test("names", async () => {
    const image = freshImage();
    await quire(["mv", image, "/file", "/dir/moved"]);
    await quire(["ln", image, "/dir/moved", "/hard"]);
    await quire(["ln", "-s", image, "hard", "/soft"]);
    await quire(["mkdir", image, "-m", "1777", "/tmp"]);
    expect(debugfs(image, "cat /hard")).toBe("content");
    expect(debugfs(image, "stat /hard")).toMatch(/Links: 2/);
    expect(debugfs(image, "stat /soft")).toMatch(/Fast link dest: "hard"/);
    expect(debugfs(image, "stat /tmp")).toMatch(/Mode: {2}01777/);
    check(image);
  });

  test("owners, modes, times, attributes, sizes", async () => {
    const image = freshImage();
    await quire(["chown", "-R", image, "1000:70000", "/dir"]);
    await quire(["chown", image, ":5", "/file"]);
    await quire(["chmod", image, "6755", "/file"]);
    await quire(["touch", image, "-d", "2001-09-09T01:46:40Z", "/file"]);
    await quire(["setfattr", image, "-n", "user.note", "-v", "hello", "/file"]);
    await quire(["truncate", image, "-s", "10000", "/dir/inner"]);
    await quire(["fallocate", image, "/dir/inner", "-o", "64k", "-l", "64k", "--keep-size"]);
    expect(debugfs(image, "stat /dir/sub")).toMatch(/User: {2}1000 +Group: 70000/);
    const file = debugfs(image, "stat /file");
    expect(file).toMatch(/Mode: {2}06755/);
    expect(file).toMatch(/Group: +5/);
    expect(file).toMatch(/mtime: 0x3b9aca00:00000000/);
    expect(debugfs(image, "ea_get /file user.note")).toContain("hello");
    expect(debugfs(image, "stat /dir/inner")).toMatch(/Size: 10000/);
    await quire(["setfattr", image, "-x", "user.note", "/file"]);
    expect(debugfs(image, "ea_list /file")).not.toContain("user.note");
    check(image);
  });
});

describe.skipIf(!hasE2fs)("as coreutils do", () => {
  test("rm -r of what it cannot remove empties nothing before it says so", async () => {
    const image = freshImage();
    await quire(["ln", image, "-s", "dir", "/to-dir"]);
    const before = (await quire(["find", image, "/"])).text;
    for (const path of ["/dir/.", "/dir/sub/..", "/dir/..", "/to-dir/"]) {
      expect([path, (await quire(["rm", image, "-rf", path])).exitCode]).toEqual([path, 1]);
    }
    expect((await quire(["find", image, "/"])).text).toBe(before);
  });

  test("mkdir -p goes up and down as the path does", async () => {
    const image = freshImage();
    const { exitCode, stderr } = await quire(["mkdir", image, "-p", "/a/b/../../c/./d//"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect((await quire(["find", image, "/", "--maxdepth", "2"])).text).toMatch(
      /\/a\n\/a\/b\n\/c\n\/c\/d\n/,
    );
    check(image);
  });

  test("ln -f replaces at once: where it fails, the old name is there", async () => {
    const image = freshImage();
    const tooLong = "z".repeat(4095);
    const failed = await quire(["ln", image, "-sf", tooLong, "/link"]);
    expect([failed.exitCode, failed.stderr.slice(0, 20)]).toEqual([1, "quire: ENAMETOOLONG:"]);
    expect(debugfs(image, "stat /link")).toMatch(/Fast link dest: "file"/);
    expect((await quire(["ln", image, "-f", "/file", "/link"])).exitCode).toBe(0);
    expect((await quire(["ln", image, "-f", "/link", "/file", "--verbose"])).text).toBe("");
    expect(debugfs(image, "stat /link")).toMatch(/Links: 2/);
    expect((await quire(["ls", image, "-a"])).text).toBe("dir\nfile\nlink\nlost+found\n");
    check(image);
  });

  test("touch sets one of the times, to the nanosecond, or takes those of another file", async () => {
    const image = freshImage();
    const times = async (path: string): Promise<unknown[]> => {
      const [{ atime_ns, mtime_ns }] = JSON.parse(
        (await quire(["stat", image, path, "--json"])).text,
      );
      return [atime_ns, mtime_ns];
    };
    await quire(["touch", image, "-d", "@-1.5", "/file"]);
    expect(await times("/file")).toEqual(["-500000000", "-500000000"]);
    await quire(["touch", image, "-a", "-d", "2001-09-09T01:46:40.123456789Z", "/file"]);
    expect(await times("/file")).toEqual(["1000000000123456789", "-500000000"]);
    await quire(["touch", image, "-m", "-d", "@7.0000000019", "/file"]);
    expect(await times("/file")).toEqual(["1000000000123456789", "7000000001"]);
    await quire(["touch", image, "-r", "/file", "/dir", "/fresh"]);
    expect(await times("/dir")).toEqual(["1000000000123456789", "7000000001"]);
    expect(await times("/fresh")).toEqual(["1000000000123456789", "7000000001"]);
    await quire(["touch", image, "-h", "-d", "@9", "/link", "/missing"]);
    expect(await times("/link")).toEqual(["9000000000", "9000000000"]);
    expect(await times("/file")).toEqual(["1000000000123456789", "7000000001"]);
    expect((await quire(["ls", image, "/missing"])).exitCode).toBe(1);
    check(image);
  });

  test("-h of setfattr and -R of chown change a symlink itself", async () => {
    const image = freshImage();
    await quire(["setfattr", image, "-h", "-n", "trusted.a", "-v", '"a\\012\\""', "/link"]);
    expect(debugfs(image, "ea_list /file")).not.toContain("trusted.a");
    expect(debugfs(image, "ea_list /link")).toContain("trusted.a");
    const { text } = await quire(["stat", image, "/link", "--json"]);
    expect(JSON.parse(text)[0].xattrs).toEqual({ "trusted.a": btoa('a\n"') });
    await quire(["ln", image, "-s", "dir", "/to-dir"]);
    await quire(["chown", image, "-R", "+7:8", "/to-dir"]);
    expect(debugfs(image, "stat /to-dir")).toMatch(/User: +7 +Group: +8/);
    expect(debugfs(image, "stat /dir")).toMatch(/User: +0 +Group: +0/);
    await quire(["chown", image, "7:8", "/to-dir"]);
    expect(debugfs(image, "stat /dir")).toMatch(/User: +7 +Group: +8/);
    check(image);
  });
});

describe.skipIf(!hasE2fs)("what is refused is told in a sentence", () => {
  test.each([
    [["rm", "/missing"], 1, "quire: ENOENT: no such file or directory, lstat '/missing'\n"],
    [["rm", "-f", "/missing"], 0, ""],
    [["rm", "/dir"], 1, "quire: EISDIR: .*a directory is removed with -r\n"],
    [["rm", "-r", "/"], 1, "quire: EBUSY: .*it is the root\n"],
    [["mv", "/dir", "/dir/sub"], 1, "quire: EINVAL: "],
    [["mv", "/file", "/link"], 0, ""],
    [["mkdir", "/dir"], 1, "quire: EEXIST: file already exists, mkdir '/dir'\n"],
    [["mkdir", "/a/b"], 1, "quire: ENOENT: no such file or directory, mkdir '/a/b'\n"],
    [["mkdir", "-p", "/file/b"], 1, "quire: ENOTDIR: not a directory"],
    [["rm", "-r", "/dir/."], 1, "quire: EINVAL: .* neither . nor .. can be removed\n"],
    [["rm", "-r", "/dir/sub/.."], 1, "quire: EINVAL: .* neither . nor .. can be removed\n"],
    [["mv", "/dir", "/dir/sub/x", "--dry-run"], 1, "quire: EINVAL: .* into itself\n"],
    [["mv", "/file", "/new/", "--dry-run"], 1, "quire: ENOTDIR: "],
    [["cp", "/file", "/new/"], 1, "quire: ENOTDIR: "],
    [["ln", "-f", "/file", "/file"], 1, "quire: EEXIST: .*it is the same file\n"],
    [["setfattr", "-n", "user.a", "-v", "0x0", "/file"], 2, 'quire: --value "0x0" is not'],
    [["setfattr", "-n", "user.a", "-v", "0s!", "/file"], 2, 'quire: --value "0s!" is not'],
    [["touch", "-d", "@1", "-r", "/dir", "/file"], 2, "quire: touch takes one of"],
    [["fallocate", "-l", "0", "/file"], 1, "quire: EINVAL: .*, fallocate '/file'\n"],
    [["fallocate", "-l", "1G", "/file"], 1, "quire: ENOSPC: .*, fallocate '/file': "],
    [["truncate", "-s", "100T", "/file"], 1, "quire: EFBIG: file too large, ftruncate '/file'\n"],
    [["ln", "/dir", "/hard"], 1, "quire: EPERM: .*it is a directory\n"],
    [["ln", "/file", "/link"], 1, "quire: EEXIST: file already exists, ln '/link'\n"],
    [["chmod", "u=q", "/file"], 2, 'quire: "u=q" is no mode\n'],
    [["chown", "root", "/file"], 2, "quire: the owner must be a number"],
    [["setfattr", "-x", "user.no", "/file"], 1, "quire: ENODATA: "],
    [["setfattr", "/file"], 2, "quire: setfattr needs -n NAME"],
    [["touch", "-d", "soon", "/file"], 2, 'quire: "soon" is no time'],
    [["truncate", "-s", "big", "/file"], 2, "quire: --size must be a size"],
    [["truncate", "-s", "1", "/dir"], 1, "quire: EINVAL: "],
    [["fallocate", "-l", "1M", "/no", "--punch-hole"], 1, "quire: ENOENT: "],
    [["rm", "/file", "--noload"], 1, "quire: EINVAL: .*can only be read\n"],
  ] as const)("%j", async (args, exitCode, sentence) => {
    const image = freshImage();
    const [verb, ...rest] = args;
    const result = await quire([verb, image, ...rest]);
    expect(result.stderr).toMatch(new RegExp(`^${sentence}`));
    expect([result.exitCode, result.text]).toEqual([exitCode, ""]);
    check(image);
  });

  test("of several paths the others are done, and the end is told as JSON", async () => {
    const image = freshImage();
    const { exitCode, text } = await quire(["rm", image, "/missing", "/file", "--json"]);
    expect([exitCode, JSON.parse(text)]).toEqual([1, { dryRun: false, done: 1, failed: 1 }]);
    expect((await quire(["find", image, "/", "--name", "file"])).text).toBe("");
    const planned = await quire(["rm", image, "/link", "--json", "--dry-run"]);
    expect(JSON.parse(planned.text)).toEqual({
      dryRun: true,
      done: 1,
      failed: 0,
      actions: ["remove symlink /link"],
    });
  });

  test("every example of what writes runs as it is written", async () => {
    const { text: overview } = await quire(["--help"]);
    const commands = overview.slice(overview.indexOf("Commands:"));
    const reading = "info tree ls find du cat stat map manifest get overview".split(" ");
    const verbs = [...commands.matchAll(/^ {2}(\w+) .*<image>/gm)]
      .map((match) => match[1]!)
      .filter((verb) => !reading.includes(verb));
    expect(verbs.length).toBe(20);
    const host = join(scratch, "host");
    const tree = join(host, "rootfs");
    for (const name of ["bin", "etc", "home/pi", "srv", "var/cache/apt", "var/log"]) {
      fs.mkdirSync(join(tree, name), { recursive: true });
    }
    const files = "bin/busybox etc/motd etc/shadow etc/hostname.new etc/fstab var/log/syslog";
    for (const name of files.split(" ")) fs.writeFileSync(join(tree, name), name);
    fs.writeFileSync(join(tree, "big"), Buffer.alloc(3 * 2 ** 20, 1));
    fs.writeFileSync(join(tree, "swap"), "");
    for (const name of ["a", "b"]) fs.writeFileSync(join(host, name), name);
    fs.mkdirSync(join(host, "etc"));
    runTool("tar", ["-C", tree, "-cf", join(host, "rootfs.tar"), "."]);
    process.env["EDITOR"] = "true";
    for (const verb of verbs) {
      const { text } = await quire([verb, "--help"]);
      const examples = text
        .slice(text.indexOf("Examples:\n"))
        .match(/^ {2}(?:\w+=\S+ )?quire .*/gm);
      expect([verb, examples === null]).toEqual([verb, false]);
      for (const example of examples!) {
        const image = join(scratch, `example-${images++}.img`);
        if (verb !== "mkfs") await quire(["mkfs", image, "--from", tree, "--size", "128M"]);
        const words = example
          .replace(/^.*?quire /, "")
          .replace(/ > \S+$/, "")
          .split(" ");
        const args = words.map((word, at) => {
          if (word === "disk.img" || word === "root.img") return image;
          const isHost = /^(?:\.\/\S+|a|b|rootfs\.tar|all\.tar)$/.test(word);
          return isHost && words[at - 1] !== "-n" ? join(host, word) : word;
        });
        const wanted = { example, exitCode: 0, stderr: "" };
        const { exitCode, stderr } = await quire(args);
        // Setting an attribute comes before removing it.
        const isLater = example.includes("setfattr disk.img -x");
        if (isLater) expect([exitCode, stderr.includes("ENODATA")]).toEqual([1, true]);
        else expect({ example, exitCode, stderr }).toEqual(wanted);
        check(image);
      }
    }
    delete process.env["EDITOR"];
  });
});
