/**
 * What a volume says to arguments that mean nothing, what it says once it is closed, and what
 * nobody may write.
 */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const canRun = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("volume");
const base = join(scratch, "base.img");
const image = join(scratch, "copy.img");
let opened: Volume | undefined;

beforeAll(() => {
  if (canRun) runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", base, "16M"]);
});
afterEach(async () => {
  await opened?.close();
  if (opened !== undefined) runTool("e2fsck", ["-fn", image]);
  opened = undefined;
});

async function writable(): Promise<Volume> {
  copyFileSync(base, image);
  opened = await openImage(image, { writable: true, cache: "16MiB" });
  return opened;
}

const wrong = (value: unknown): never => value as never;

const OPTIONS: readonly [name: string, value: unknown, code: string][] = [
  ["writable", "yes", "ERR_INVALID_ARG_TYPE"],
  ["writable", 1, "ERR_INVALID_ARG_TYPE"],
  ["noload", null, "ERR_INVALID_ARG_TYPE"],
  ["salvage", 0, "ERR_INVALID_ARG_TYPE"],
  ["unlogged", "no", "ERR_INVALID_ARG_TYPE"],
  ["partition", "1", "ERR_INVALID_ARG_TYPE"],
  ["partition", -1, "ERR_OUT_OF_RANGE"],
  ["superblock", "last", "ERR_INVALID_ARG_VALUE"],
  ["superblock", 1.5, "ERR_OUT_OF_RANGE"],
  ["uid", "root", "ERR_INVALID_ARG_TYPE"],
  ["uid", -1, "ERR_OUT_OF_RANGE"],
  ["gid", 2 ** 32, "ERR_OUT_OF_RANGE"],
  ["groups", 5, "ERR_INVALID_ARG_TYPE"],
  ["groups", ["wheel"], "ERR_INVALID_ARG_TYPE"],
  ["umask", "022", "ERR_INVALID_ARG_TYPE"],
  ["umask", 0o1000, "ERR_OUT_OF_RANGE"],
  ["atime", "never", "ERR_INVALID_ARG_VALUE"],
  ["data", "fast", "ERR_INVALID_ARG_VALUE"],
  ["signal", {}, "ERR_INVALID_ARG_TYPE"],
  ["clock", 5, "ERR_INVALID_ARG_TYPE"],
  ["random", null, "ERR_INVALID_ARG_TYPE"],
  ["cache", "lots", "ERR_INVALID_ARG_VALUE"],
];

describe.skipIf(!canRun)("a volume", () => {
  test.each(OPTIONS)("is not opened with %s %j", async (name, value, code) => {
    await expect(openImage(base, { [name]: value })).rejects.toMatchObject({ code });
  });

  test.each([5, "x", null, []])("is not opened with options %j", async (options) => {
    const code = "ERR_INVALID_ARG_TYPE";
    await expect(openImage(base, wrong(options))).rejects.toMatchObject({ code });
  });

  test("says that it is closed", async () => {
    const { fs, ...volume } = await writable().then((v) => ({
      fs: v.fs,
      sync: () => v.sync(),
      freeze: () => v.freeze(),
      thaw: () => v.thaw(),
      discard: () => v.discard(),
      usedRanges: () => v.usedRanges().next(),
    }));
    await opened!.close();
    for (const call of Object.values(volume)) {
      await expect(call()).rejects.toMatchObject({ code: "EBADF" });
    }
    await expect(fs.stat("/")).rejects.toMatchObject({ code: "EBADF" });
  });

  test("tells of changes from the moment it is watched", async () => {
    const { fs } = await writable();
    await fs.mkdir("/d");
    const next = fs.watch("/d").next();
    await fs.mkdir("/d/first");
    await fs.mkdir("/d/second");
    expect((await next).value).toEqual({ eventType: "rename", filename: "first" });
  });

  test("ends what watches it when it is closed", async () => {
    const { fs } = await writable();
    const events = fs.watch("/");
    const next = events.next();
    await fs.mkdir("/d");
    expect(await next).toMatchObject({ value: { filename: "d" } });
    const last = events.next();
    await opened!.close();
    expect(await last).toMatchObject({ done: true });
  });
});

const [O_EXCL, O_TMPFILE] = [0o200, 0o20200000];
const [IMMUTABLE_FL, APPEND_FL] = [0x10, 0x20];
const [O_WRONLY, O_TRUNC, O_APPEND] = [1, 0o1000, 0o2000];

describe.skipIf(!canRun)("what nobody may write", () => {
  async function withFlag(flag: number): Promise<Volume["fs"]> {
    const { fs, fileSystem } = await writable();
    await fs.writeFile("/f", "content");
    const inode = await fs.inode("/f");
    await fileSystem.writer!.setAttributes(inode, { flags: inode.attributes().flags | flag });
    return fs;
  }

  test("an immutable file is not opened to be written, and is not writable", async () => {
    const fs = await withFlag(IMMUTABLE_FL);
    for (const flags of ["r+", "w", "a", O_TRUNC]) {
      const open = fs.open("/f", flags);
      await expect(open).rejects.toMatchObject({ code: "EPERM", syscall: "open", path: "/f" });
    }
    await expect(fs.access("/f", 2)).rejects.toMatchObject({ code: "EPERM", syscall: "access" });
    expect(await fs.readFile("/f", "utf8")).toBe("content");
  });

  test("an append-only file is opened to be appended to, and not to be cut", async () => {
    const fs = await withFlag(APPEND_FL);
    for (const flags of ["r+", "w", O_APPEND | O_TRUNC | O_WRONLY]) {
      const open = fs.open("/f", flags);
      await expect(open).rejects.toMatchObject({ code: "EPERM", syscall: "open" });
    }
    await fs.access("/f", 2);
    await fs.appendFile("/f", ", more");
    expect(await fs.readFile("/f", "utf8")).toBe("content, more");
  });
});

/** u::rwx, u:1000:rwx, g::r, m::rw, o::r in the form of users. */
const LIST = Buffer.from(
  "0200000001000700ffffffff02000700e803000004000400ffffffff10000600ffffffff20000400ffffffff",
  "hex",
);

describe.skipIf(!canRun)("attributes and locks", () => {
  test("attributes of the wrong kind are refused, and any bytes taken", async () => {
    const { fs } = await writable();
    await fs.writeFile("/f", "");
    for (const value of ["text", null, 5, undefined, []]) {
      const set = fs.setXattr("/f", "user.a", wrong(value));
      await expect(set).rejects.toMatchObject({ code: "ERR_INVALID_ARG_TYPE" });
    }
    const code = "ERR_INVALID_ARG_TYPE";
    await expect(fs.setXattr("/f", wrong(5), LIST)).rejects.toMatchObject({ code });
    await expect(fs.removeXattr("/f", wrong(5))).rejects.toMatchObject({ code });
    const mode = wrong("both");
    const set = fs.setXattr("/f", "user.a", LIST, { mode });
    await expect(set).rejects.toMatchObject({ code: "ERR_INVALID_ARG_VALUE" });
    await fs.setXattr("/f", "user.view", new DataView(new Uint8Array([0, 7, 8, 0]).buffer, 1, 2));
    expect([...(await fs.xattrs("/f"))]).toEqual([["user.view", new Uint8Array([7, 8])]]);
  });

  test("access lists are set whether they are there or not, and no bytes remove them", async () => {
    const { fs } = await writable();
    await fs.mkdir("/d");
    const names = ["system.posix_acl_access", "system.posix_acl_default"];
    for (const name of names) {
      await fs.setXattr("/d", name, LIST, { mode: "replace" });
      await fs.setXattr("/d", name, LIST, { mode: "create" });
    }
    expect([...(await fs.xattrs("/d")).keys()].sort()).toEqual(names);
    for (const name of names) await fs.setXattr("/d", name, new Uint8Array(0));
    expect((await fs.xattrs("/d")).size).toBe(0);
  });

  test("a handle is linked in its own volume alone, and while it is open", async () => {
    const { fs } = await writable();
    const otherImage = join(scratch, "other.img");
    copyFileSync(base, otherImage);
    await using other = await openImage(otherImage, { writable: true });
    const foreign = await other.fs.open("/f", "w");
    const closed = await fs.open("/f", "w");
    await closed.close();
    const staying = await fs.open("/", O_TMPFILE | O_EXCL | 2);
    const linked = await fs.open("/", O_TMPFILE | 2);
    await expect(fs.link(foreign, "/a")).rejects.toMatchObject({ code: "EXDEV", syscall: "link" });
    await expect(fs.link(closed, "/b")).rejects.toMatchObject({ code: "EBADF" });
    await expect(fs.link(staying, "/c")).rejects.toMatchObject({ code: "ENOENT" });
    await fs.link(linked, "/d");
    expect((await fs.readdir("/")).sort()).toEqual(["d", "f", "lost+found"]);
    for (const handle of [foreign, staying, linked]) await handle.close();
  });

  test("devices of the wrong kind are refused", async () => {
    const { fs } = await writable();
    for (const [mode, major, minor] of [
      ["x", 0, 0],
      [0o20644, -1, 0],
      [0o20644, 4096, 0],
      [0o20644, 0, 2 ** 20],
    ]) {
      const made = fs.mknod("/n", wrong(mode), wrong(major), wrong(minor));
      await expect(made).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) });
    }
    await fs.mknod("/n", 0o20644, 4095, 2 ** 20 - 1);
    expect((await fs.stat("/n")).rdev).toBe(0xffff_ffff);
  });

  test("locks of the wrong kind are refused", async () => {
    const { fs } = await writable();
    const handle = await fs.open("/f", "w");
    const codes = ["ERR_INVALID_ARG_VALUE", "ERR_OUT_OF_RANGE", "ERR_INVALID_ARG_TYPE"];
    const options = [{ mode: "other" }, { start: -1 }, { length: "1" }];
    for (const [at, option] of options.entries()) {
      await expect(handle.lock(wrong(option))).rejects.toMatchObject({ code: codes[at] });
    }
    expect(await handle.lock({ try: true })).toBe(true);
    await handle.close();
  });
});
