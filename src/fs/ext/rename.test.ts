import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { ascii } from "../../../test/support/ext-names.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { newInode } from "../../../test/support/name-model.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { equalBytes, le32 } from "../../lib/bytes.ts";
import type { ErrnoCode } from "../../lib/errno.ts";
import { type NewInode, RENAME_EXCHANGE, RENAME_NOREPLACE } from "../vfs-write.ts";
import { dirLookup } from "./dir.ts";
import { dirInit } from "./dir-write.ts";
import { evictInode } from "./evict.ts";
import type { ExtInode } from "./inode.ts";
import {
  APPEND_FL,
  CASEFOLD_FL,
  ENCRYPT_FL,
  EXT_ROOT_INO,
  IMMUTABLE_FL,
  INODE,
  PROJINHERIT_FL,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_IFSOCK,
} from "./layout.ts";
import { LINK_MAX } from "./link-count.ts";
import { extCreate, extLink, extRmdir, extTmpfile, extUnlink } from "./namespace.ts";
import { extRename } from "./rename.ts";
import { readSymlink } from "./symlink.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("names");
const ORDINARY = ["-t", "ext4", "-b", "1024"];
const FILE = S_IFREG | 0o644;
const DIRECTORY = S_IFDIR | 0o755;

/** Names in an image, with short words for what the tests do. */
class Names {
  readonly open: OpenWriter;
  readonly root: ExtInode;

  constructor(open: OpenWriter, root: ExtInode) {
    this.open = open;
    this.root = root;
  }

  make(
    name: string,
    mode = FILE,
    dir?: ExtInode,
    changes: Partial<NewInode> = {},
  ): Promise<ExtInode> {
    const what = newInode(mode, changes);
    return this.open.run((handle) =>
      extCreate(this.open.writer, handle, dir ?? this.root, ascii(name), what),
    );
  }

  link(inode: ExtInode, name: string, dir?: ExtInode): Promise<void> {
    return this.open.run((handle) =>
      extLink(this.open.writer, handle, inode, dir ?? this.root, ascii(name)),
    );
  }

  unlink(name: string, dir?: ExtInode): Promise<ExtInode> {
    return this.open.run((handle) =>
      extUnlink(this.open.writer, handle, dir ?? this.root, ascii(name)),
    );
  }

  rmdir(name: string, dir?: ExtInode): Promise<ExtInode> {
    return this.open.run((handle) =>
      extRmdir(this.open.writer, handle, dir ?? this.root, ascii(name)),
    );
  }

  rename(
    from: string,
    to: string,
    flags = 0,
    dirs: { from?: ExtInode; to?: ExtInode } = {},
  ): Promise<ExtInode | undefined> {
    return this.open.run((handle) =>
      extRename(
        this.open.writer,
        handle,
        { dir: dirs.from ?? this.root, name: ascii(from) },
        { dir: dirs.to ?? this.root, name: ascii(to) },
        flags,
      ),
    );
  }

  async lookup(name: string, dir?: ExtInode): Promise<number> {
    const { core } = this.open;
    return core.metadata.run(() => dirLookup(core, dir ?? this.root, ascii(name)));
  }

  /** Changes an inode past all checks. */
  change(inode: ExtInode, change: (inode: ExtInode) => void): Promise<void> {
    return this.open.run((handle) => {
      this.open.writer.editInode(handle, inode);
      change(inode);
    });
  }

  setFlag(inode: ExtInode, flag: number): Promise<void> {
    return this.change(inode, (changed) => {
      changed.flags = (changed.flags | flag) >>> 0;
    });
  }

  async judge(name: string): Promise<string> {
    await this.open.close();
    const path = join(scratch, `${name}-after.img`);
    this.open.save(path);
    runTool("e2fsck", ["-fn", path]);
    return path;
  }
}

async function openNames(name: string, args: readonly string[] = ORDINARY): Promise<Names> {
  const open = await openWriter(makeImage(scratch, name, args, { sizeText: "16M" }));
  const root = await open.core.metadata.run(() => open.core.inode(EXT_ROOT_INO));
  return new Names(open, root);
}

async function refused(attempt: Promise<unknown>, code: ErrnoCode): Promise<void> {
  await expect(attempt).rejects.toMatchObject({ code });
}

describe.skipIf(!hasTools)("names are made", () => {
  test("for all kinds of files, which debugfs finds", async () => {
    const names = await openNames("kinds");
    await names.make("file");
    await names.make("directory", DIRECTORY);
    await names.make("fifo", S_IFIFO | 0o600);
    await names.make("socket", S_IFSOCK | 0o600);
    await names.make("tty", S_IFCHR | 0o600, undefined, { rdevMajor: 5, rdevMinor: 1 });
    await names.make("disk", S_IFBLK | 0o600, undefined, { rdevMajor: 259, rdevMinor: 0x1_2345 });
    const path = await names.judge("kinds");
    const stat = (name: string): string => runTool("debugfs", ["-R", `stat ${name}`, path]);
    expect(stat("file")).toContain("Type: regular");
    expect(stat("directory")).toContain("Type: directory");
    expect(stat("fifo")).toContain("Type: FIFO");
    expect(stat("socket")).toContain("Type: socket");
    expect(stat("tty")).toContain("Device major/minor number: 05:01");
    expect(stat("disk")).toMatch(/major\/minor number: 259:74565/);
  });

  for (const format of ["", ",inline_data"]) {
    for (const length of [1, 59, 60, 128, 129, 1023]) {
      test(`for symlinks of ${length} bytes${format}`, async () => {
        const image = `link-${length}${format.length}`;
        const names = await openNames(image, [
          "-t",
          "ext4",
          "-b",
          "1024",
          "-O",
          `has_journal${format}`,
        ]);
        const target = ascii("t".repeat(length));
        const link = await names.make("l", S_IFLNK | 0o777, undefined, { target });
        const { core } = names.open;
        const read = await core.metadata.run(() => readSymlink(core, link));
        expect(read).toEqual(target);
        const path = await names.judge(image);
        const said = runTool("debugfs", ["-R", "stat l", path]);
        expect(said).toContain(`Size: ${length}`);
        if (length < 60) expect(said).toContain(`link dest: "${"t".repeat(length)}"`);
      });
    }
  }

  test("with mode, owner and group, of which the directory may decide", async () => {
    const names = await openNames("owner");
    const file = await names.make("f", S_IFREG | 0o666, undefined, {
      umask: 0o027,
      uid: 70_000,
      gid: 7,
    });
    expect([file.mode, file.uid, file.gid]).toEqual([S_IFREG | 0o640, 70_000, 7]);
    const shared = await names.make("shared", S_IFDIR | 0o2775, undefined, { gid: 100 });
    const inside = await names.make("inside", DIRECTORY, shared, { gid: 7 });
    expect([inside.gid, inside.mode & 0o2000]).toEqual([100, 0o2000]);
    await names.judge("owner");
  });

  test("and change the times and the version of their directory", async () => {
    const names = await openNames("times");
    const dir = await names.make("d", DIRECTORY);
    await names.change(dir, (changed) => changed.setTime("mtime", { sec: 1, nsec: 0 }));
    const before = le32(dir.raw, INODE.i_version);
    await names.make("f", FILE, dir);
    expect(dir.attributes().mtime.sec).toBeGreaterThan(1_000_000);
    expect(le32(dir.raw, INODE.i_version)).toBe(before + 1);
    await names.judge("times");
  });

  test("or refused for a reason that Linux gives", async () => {
    const names = await openNames("refused");
    const { root } = names;
    await names.make("f");
    const dir = await names.make("d", DIRECTORY);
    await refused(names.make("f"), "EEXIST");
    await refused(names.make("."), "EEXIST");
    await refused(names.make(""), "ENOENT");
    await refused(names.make("n".repeat(256)), "ENAMETOOLONG");
    await refused(names.make("a/b"), "EINVAL");
    await refused(names.make("x", 0o644), "EINVAL");
    const link = S_IFLNK | 0o777;
    await refused(names.make("l", link, root, { target: ascii("t".repeat(1024)) }), "ENAMETOOLONG");
    await refused(names.make("l", link, root, { target: ascii("") }), "ENOENT");
    await names.rmdir("d");
    await refused(names.make("x", FILE, dir), "ENOENT");
    await evictInode(names.open.writer, dir);
    const file = names.open.core.inode(await names.lookup("f"));
    await refused(names.make("x", FILE, file), "ENOTDIR");
    await names.setFlag(root, IMMUTABLE_FL);
    await refused(names.make("x"), "EPERM");
    await names.judge("refused");
  });

  test("not in an encrypted directory", async () => {
    const names = await openNames("encrypted");
    const dir = await names.make("d", DIRECTORY);
    await names.setFlag(dir, ENCRYPT_FL);
    await refused(names.make("x", FILE, dir), "ENOKEY");
    await names.open.close();
  });

  test("nor any more subdirectories than can be counted", async () => {
    const names = await openNames("emlink");
    await names.change(names.root, (root) => {
      root.linksCount = LINK_MAX;
    });
    await refused(names.make("d", DIRECTORY), "EMLINK");
    const file = await names.make("f");
    await names.change(file, (changed) => {
      changed.linksCount = LINK_MAX;
    });
    await refused(names.link(file, "g"), "EMLINK");
    await names.open.close();
  });

  test("in a directory that ignores case once for all spellings", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-O", "casefold", "-E", "encoding=utf8"];
    const names = await openNames("casefold", args);
    const dir = await names.make("d", DIRECTORY);
    await names.setFlag(dir, CASEFOLD_FL);
    for (let at = 0; at < 200; at++) await names.make(`Name-${at}-${"X".repeat(20)}`, FILE, dir);
    await refused(names.make(`NAME-7-${"x".repeat(20)}`, FILE, dir), "EEXIST");
    expect(await names.lookup(`name-199-${"x".repeat(20)}`, dir)).toBeGreaterThan(0);
    for (let at = 0; at < 200; at += 2) {
      const inode = await names.unlink(`NAME-${at}-${"x".repeat(20)}`, dir);
      await evictInode(names.open.writer, inode);
    }
    for (let at = 0; at < 200; at += 2) await names.make(`nAME-${at}-${"X".repeat(20)}`, FILE, dir);
    await names.judge("casefold");
  });
});

describe.skipIf(!hasTools)("names are taken away", () => {
  test("and refused where Linux refuses", async () => {
    const names = await openNames("unlink");
    const file = await names.make("f");
    const dir = await names.make("d", DIRECTORY);
    await names.make("inside", FILE, dir);
    await refused(names.unlink("absent"), "ENOENT");
    await refused(names.unlink("d"), "EISDIR");
    await refused(names.unlink(".."), "EISDIR");
    await refused(names.rmdir("f"), "ENOTDIR");
    await refused(names.rmdir("d"), "ENOTEMPTY");
    await refused(names.rmdir("."), "EINVAL");
    await refused(names.rmdir(".."), "ENOTEMPTY");
    await names.setFlag(file, IMMUTABLE_FL);
    await refused(names.unlink("f"), "EPERM");
    await refused(names.link(file, "g"), "EPERM");
    await refused(names.link(dir, "g"), "EPERM");
    await names.setFlag(names.root, APPEND_FL);
    await names.make("added");
    await refused(names.unlink("added"), "EPERM");
    await names.judge("unlink");
  });

  test("a file without a name can get one, once", async () => {
    const names = await openNames("tmpfile");
    const { writer } = names.open;
    const make = (): Promise<ExtInode> =>
      names.open.run((handle) => extTmpfile(writer, handle, names.root, newInode(FILE)));
    const file = await make();
    const lost = await make();
    expect(file.linksCount).toBe(0);
    await names.link(file, "named");
    expect(file.linksCount).toBe(1);
    await names.unlink("named");
    await refused(names.link(file, "again"), "ENOENT");
    await evictInode(writer, file);
    await evictInode(writer, lost);
    await names.judge("tmpfile");
  });
});

describe.skipIf(!hasTools)("renaming", () => {
  test("moves directories with their parent, and counts links", async () => {
    const names = await openNames("move");
    const a = await names.make("a", DIRECTORY);
    const b = await names.make("b", DIRECTORY);
    const inner = await names.make("inner", DIRECTORY, a);
    await names.rename("inner", "moved", 0, { from: a, to: b });
    expect([a.linksCount, b.linksCount]).toEqual([2, 3]);
    expect(await names.lookup("..", inner)).toBe(b.ino);
    expect(await names.lookup("inner", a)).toBe(0);
    const lost = await names.rename("a", "moved", 0, { to: b });
    expect(lost).toBe(inner);
    expect([inner.linksCount, b.linksCount, names.root.linksCount]).toEqual([0, 3, 4]);
    await evictInode(names.open.writer, inner);
    await names.judge("move");
  });

  test("exchanges a directory and a file", async () => {
    const names = await openNames("exchange");
    const a = await names.make("a", DIRECTORY);
    const inner = await names.make("inner", DIRECTORY, a);
    const file = await names.make("f");
    await names.rename("inner", "f", RENAME_EXCHANGE, { from: a });
    expect(await names.lookup("inner", a)).toBe(file.ino);
    expect(await names.lookup("f")).toBe(inner.ino);
    expect(await names.lookup("..", inner)).toBe(EXT_ROOT_INO);
    expect([a.linksCount, names.root.linksCount]).toEqual([2, 5]);
    await names.judge("exchange");
  });

  test("is refused where Linux refuses", async () => {
    const names = await openNames("rename");
    const a = await names.make("a", DIRECTORY);
    const full = await names.make("full", DIRECTORY);
    await names.make("inside", FILE, full);
    const file = await names.make("f");
    await names.link(file, "second");
    await refused(names.rename("absent", "x"), "ENOENT");
    await refused(names.rename("f", "absent", RENAME_EXCHANGE), "ENOENT");
    await refused(names.rename("f", "second", RENAME_NOREPLACE), "EEXIST");
    await refused(names.rename("f", "x", RENAME_NOREPLACE | RENAME_EXCHANGE), "EINVAL");
    await refused(names.rename("f", "x", 4), "EINVAL");
    await refused(names.rename("f", "."), "EBUSY");
    await refused(names.rename("..", "x"), "EBUSY");
    await refused(names.rename("f", "a"), "EISDIR");
    await refused(names.rename("a", "f"), "ENOTDIR");
    await refused(names.rename("a", "full"), "ENOTEMPTY");
    await refused(names.rename("a", "x", 0, { to: a }), "EINVAL");
    await refused(names.rename("inside", "full", 0, { from: full }), "ENOTEMPTY");
    await refused(names.rename("f", "n".repeat(256)), "ENAMETOOLONG");
    expect(await names.rename("f", "second")).toBeUndefined();
    expect(await names.lookup("f")).toBe(file.ino);
    await names.judge("rename");
  });

  test("does not carry files out of their project", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-O", "project"];
    const names = await openNames("project", args);
    const dir = await names.make("d", DIRECTORY);
    await names.change(dir, (changed) => {
      changed.projectId = 5;
      changed.flags = (changed.flags | PROJINHERIT_FL) >>> 0;
    });
    const inside = await names.make("inside", FILE, dir);
    expect(inside.projectId).toBe(5);
    const outside = await names.make("outside");
    await refused(names.rename("outside", "x", 0, { to: dir }), "EXDEV");
    await refused(names.link(outside, "x", dir), "EXDEV");
    await refused(names.rename("inside", "outside", RENAME_EXCHANGE, { from: dir }), "EXDEV");
    await names.rename("inside", "out", 0, { from: dir });
    await names.judge("project");
  });

  test("that fails has changed nothing", async () => {
    const names = await openNames("undone");
    const dir = await names.make("d", DIRECTORY);
    await names.make("f");
    await names.open.commit();
    const before = names.open.bytes.slice();
    const attempt = names.open.run((handle) => {
      extRename(
        names.open.writer,
        handle,
        { dir: names.root, name: ascii("f") },
        { dir, name: ascii("g") },
        0,
      );
      const made = extCreate(names.open.writer, handle, dir, ascii("e"), newInode(DIRECTORY));
      dirInit(names.open.writer, handle, made, dir.ino);
      throw new RangeError("on purpose");
    });
    await expect(attempt).rejects.toThrow("on purpose");
    expect(await names.lookup("f")).toBeGreaterThan(0);
    expect([await names.lookup("g", dir), await names.lookup("e", dir)]).toEqual([0, 0]);
    await names.open.commit();
    const from = names.open.core.sb.blockBytes * 2; // Behind the superblock and its time.
    expect(equalBytes(names.open.bytes.subarray(from), before.subarray(from))).toBe(true);
    await names.judge("undone");
  });
});
