import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { type OpenWriter, openWriter } from "../../../test/support/ext-writer.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { FsError } from "../../lib/errno.ts";
import { groupOfInode } from "./block-goal.ts";
import type { ExtInode } from "./inode.ts";
import { allocInode, freeInode, type InodeRequest } from "./inode-alloc.ts";
import {
  BG_INODE_UNINIT,
  EXT_ROOT_INO,
  EXTENTS_FL,
  PROJINHERIT_FL,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
} from "./layout.ts";

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("inode-alloc");
const FILE: InodeRequest = { mode: S_IFREG | 0o640, uid: 1000, gid: 100_000 };
const DIRECTORY: InodeRequest = { mode: S_IFDIR | 0o755, uid: 0, gid: 0 };

const make = (name: string, ...args: string[]): string =>
  makeImage(scratch, name, ["-t", "ext4", "-b", "1024", "-N", "4096", ...args], {
    sizeText: "128M",
  });

const rootOf = (open: OpenWriter): Promise<ExtInode> =>
  Promise.resolve(open.core.metadata.run(() => open.core.inode(EXT_ROOT_INO)));

const take = (open: OpenWriter, parent: ExtInode, request: InodeRequest): Promise<ExtInode> =>
  open.run((handle) => allocInode(open.writer, handle, parent, request));

describe.skipIf(!hasMke2fs)("handing out inodes", () => {
  test("a new inode is what was asked for, on disk too", async () => {
    const open = await openWriter(make("plain"));
    const inode = await take(open, await rootOf(open), FILE);
    expect(inode.ino).toBe(12);
    await open.commit();
    const again = await openWriter(open.bytes);
    const read = await again.core.metadata.run(() => again.core.inode(12));
    expect(read).toMatchObject({
      mode: S_IFREG | 0o640,
      uid: 1000,
      gid: 100_000,
      linksCount: 1,
      size: 0,
      flags: EXTENTS_FL,
      extraIsize: 32,
      generation: inode.generation,
    });
    const { atime, birthtime, ctime } = read.attributes();
    expect([birthtime, ctime]).toEqual([atime, atime]);
    expect(read.raw).toEqual(inode.raw);
    await open.close();
    await again.close();
  });

  test("files go to the group of their directory, directories of the root to groups apart", async () => {
    const open = await openWriter(make("orlov", "-O", "^flex_bg"));
    const root = await rootOf(open);
    const groups = new Set<number>();
    for (let count = 0; count < 12; count++) {
      const directory = await take(open, root, DIRECTORY);
      const group = groupOfInode(open.writer.sb, directory.ino);
      groups.add(group);
      const file = await take(open, directory, FILE);
      expect(groupOfInode(open.writer.sb, file.ino)).toBe(group);
      const below = await take(open, directory, DIRECTORY);
      expect(groupOfInode(open.writer.sb, below.ino)).toBe(group);
    }
    expect(groups.size).toBeGreaterThanOrEqual(10);
    await open.close();
  });

  test("all inodes can be had, then it is ENOSPC; the table is read where it is in use only", async () => {
    const open = await openWriter(make("full"));
    const root = await rootOf(open);
    const { groups, sb } = open.writer;
    const free = groups.totals.freeInodeCount;
    open.store.reset();
    const seen = new Set<number>();
    for (let count = 0; count < free; count++) {
      const inode = await take(open, root, FILE);
      expect(inode.ino).toBeGreaterThanOrEqual(sb.firstIno);
      seen.add(inode.ino);
    }
    expect(seen.size).toBe(free);
    expect(open.store.reads).toBeLessThan(8);
    await expect(take(open, root, FILE)).rejects.toMatchObject({ code: "ENOSPC" });
    expect([...groups.flags].some((flags) => (flags & BG_INODE_UNINIT) !== 0)).toBe(false);
    expect([...groups.itableUnused].every((unused) => unused === 0)).toBe(true);
    await open.close();
  });

  test("a number comes again after the commit that freed it, as another inode", async () => {
    const open = await openWriter(make("again"));
    const root = await rootOf(open);
    const first = await take(open, root, FILE);
    await open.run((handle) => freeInode(open.writer, handle, first));
    expect(first.isDeleted).toBe(true);
    const second = await take(open, root, FILE);
    expect(second.ino).not.toBe(first.ino);
    await open.commit();
    const third = await take(open, root, FILE);
    expect(third.ino).toBe(first.ino);
    expect(third).not.toBe(first);
    expect(await open.core.metadata.run(() => open.core.inode(third.ino))).toBe(third);
    await open.close();
  });

  test("what a new inode has from its directory", async () => {
    const open = await openWriter(make("inherit", "-O", "project", "-E", "quotatype=prjquota"));
    const root = await rootOf(open);
    await open.run((handle) => {
      open.writer.editInode(handle, root);
      root.flags = (root.flags | 0x80 | 0x40 | 0x1_0000 | 0x10 | PROJINHERIT_FL) >>> 0;
      root.projectId = 77;
      root.mode |= 0o2000;
      root.gid = 9;
    });
    const directory = await take(open, root, DIRECTORY);
    const file = await take(open, root, FILE);
    const device = await take(open, root, { ...FILE, mode: S_IFCHR | 0o600 });
    const link = await take(open, root, { ...FILE, mode: S_IFLNK | 0o777 });
    expect(directory.flags).toBe(EXTENTS_FL | 0x1_00c0 | PROJINHERIT_FL);
    expect(file.flags).toBe(EXTENTS_FL | 0xc0);
    expect(device.flags).toBe(0xc0);
    expect(link.flags).toBe(EXTENTS_FL | 0xc0);
    expect(directory).toMatchObject({ projectId: 77, gid: 9, mode: S_IFDIR | 0o2755 });
    expect(file).toMatchObject({ projectId: 77, gid: 9, mode: S_IFREG | 0o640 });
    await open.close();
  });

  test("an operation that fails has taken nothing", async () => {
    const open = await openWriter(make("undone"));
    const root = await rootOf(open);
    const before = { ...open.writer.groups.totals };
    const failing = open.run((handle) => {
      allocInode(open.writer, handle, root, DIRECTORY);
      allocInode(open.writer, handle, root, FILE);
      throw new FsError("EINTR");
    });
    await expect(failing).rejects.toMatchObject({ code: "EINTR" });
    expect(open.writer.groups.totals).toEqual(before);
    expect(open.core.inodes.get(12)).toBeUndefined();
    expect((await take(open, root, FILE)).ino).toBe(12);
    await open.close();
  });
});
