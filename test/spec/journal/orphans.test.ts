/**
 * Inodes that lost their last name or were being cut: how they are entered, and what the next mount
 * makes of them. Cases J98, J99, J101 to J103; e2fsck judges the images in the end.
 */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { RO_COMPAT_ORPHAN_PRESENT } from "../../../src/fs/ext/features.ts";
import type { ExtInode } from "../../../src/fs/ext/inode.ts";
import { EXT_ROOT_INO, S_IFREG, SB } from "../../../src/fs/ext/layout.ts";
import { extCreate, extLink, extTmpfile, extUnlink } from "../../../src/fs/ext/namespace.ts";
import { readOrphans } from "../../../src/fs/ext/orphan.ts";
import { processOrphans } from "../../../src/fs/ext/orphan-cleanup.ts";
import { orphanAdd, orphanDel, settleOrphanFile } from "../../../src/fs/ext/orphan-write.ts";
import { mapForWrite } from "../../../src/fs/ext/truncate-blocks.ts";
import { le16, putLe32 } from "../../../src/lib/bytes.ts";
import { Random } from "../../../src/lib/random.ts";
import { makeImage } from "../../support/ext-images.ts";
import { ascii } from "../../support/ext-names.ts";
import { type OpenWriter, openWriter } from "../../support/ext-writer.ts";
import { newInode } from "../../support/name-model.ts";
import { requireTool, runTool, scratchDirectory } from "../../support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("orphans");
const FILE = newInode(S_IFREG | 0o644);
const LIST = ["-t", "ext4", "-b", "1024", "-O", "has_journal,^orphan_file"];
const IN_FILE = ["-t", "ext4", "-b", "1024", "-O", "has_journal,orphan_file"];

function image(name: string, args: readonly string[]): string {
  return makeImage(scratch, name, args, { sizeText: "16M" });
}

function rootOf(open: OpenWriter): Promise<ExtInode> {
  return open.core.metadata.run(() => open.core.inode(EXT_ROOT_INO)) as Promise<ExtInode>;
}

async function make(open: OpenWriter, name: string): Promise<ExtInode> {
  const root = await rootOf(open);
  return open.run((handle) => extCreate(open.writer, handle, root, ascii(name), FILE));
}

async function unlink(open: OpenWriter, name: string): Promise<void> {
  const root = await rootOf(open);
  await open.run((handle) => {
    extUnlink(open.writer, handle, root, ascii(name));
  });
}

/** Gives `inode` blocks, and a size that may be less. */
async function fill(
  open: OpenWriter,
  inode: ExtInode,
  blocks: number,
  size: number,
): Promise<void> {
  await open.run((handle) => {
    open.writer.editInode(handle, inode);
    mapForWrite(open.writer, handle, inode, 0, blocks);
    inode.size = size;
    inode.diskSize = size;
  });
}

async function orphansOf(open: OpenWriter): Promise<readonly number[]> {
  return open.core.metadata.run(() => readOrphans(open.core));
}

function freeOf(open: OpenWriter): readonly number[] {
  const { freeBlockCount, freeInodeCount } = open.writer.groups.totals;
  return [freeBlockCount, freeInodeCount];
}

/** Commits, cuts the power, and opens what the disk has. */
async function crash(open: OpenWriter): Promise<OpenWriter> {
  await open.commit();
  const bytes = open.bytes.slice();
  await open.close();
  return openWriter(bytes);
}

async function judge(open: OpenWriter, name: string): Promise<void> {
  await open.close();
  const path = join(scratch, `${name}-after.img`);
  open.save(path);
  runTool("e2fsck", ["-fn", path]);
}

describe.skipIf(!hasTools)("orphans", () => {
  for (const [what, args] of [
    ["list", LIST],
    ["file", IN_FILE],
  ] as const) {
    test(`J98 unlinked files and one without a name are deleted by the next mount: ${what}`, async () => {
      const open = await openWriter(image(`j98-${what}`, args));
      await make(open, "stays");
      const before = freeOf(open);
      const inodes: number[] = [];
      for (const name of ["a", "b", "c"]) {
        const inode = await make(open, name);
        await fill(open, inode, 30, 30_000);
        inodes.push(inode.ino);
      }
      for (const name of ["a", "b", "c"]) await unlink(open, name);
      const root = await rootOf(open);
      const last = await open.run((handle) => extTmpfile(open.writer, handle, root, FILE));
      inodes.push(last.ino);
      await open.commit();
      expect([...(await orphansOf(open))].sort()).toEqual([...inodes].sort());
      if (what === "list") expect(open.core.sb.lastOrphan).toBe(last.ino);

      const next = await crash(open);
      expect(await processOrphans(next.writer)).toMatchObject({
        deletedCount: 4,
        truncatedCount: 0,
      });
      expect(await orphansOf(next)).toEqual([]);
      await next.commit();
      expect(freeOf(next)).toEqual(before);
      await next.run((handle) => settleOrphanFile(next.writer, handle));
      expect(next.core.sb.hasRoCompat(RO_COMPAT_ORPHAN_PRESENT)).toBe(false);
      await judge(next, `j98-${what}`);
    });

    test(`J99 a file with more blocks than its size says is cut to it: ${what}`, async () => {
      const open = await openWriter(image(`j99-${what}`, args));
      const inode = await make(open, "f");
      await fill(open, inode, 49, 3000);
      await open.run((handle) => orphanAdd(open.writer, handle, inode));
      const next = await crash(open);
      expect(await processOrphans(next.writer)).toMatchObject({
        deletedCount: 0,
        truncatedCount: 1,
      });
      const found = await next.core.metadata.run(() => next.core.inode(inode.ino));
      expect([found.size, found.sectorCount, found.linksCount]).toEqual([3000, 6, 1]);
      expect(await orphansOf(next)).toEqual([]);
      await next.run((handle) => settleOrphanFile(next.writer, handle));
      await judge(next, `j99-${what}`);
    });

    test(`J101 a file without a name that got one is no orphan: ${what}`, async () => {
      const open = await openWriter(image(`j101-${what}`, args));
      const root = await rootOf(open);
      const file = await open.run((handle) => extTmpfile(open.writer, handle, root, FILE));
      await open.run((handle) => extLink(open.writer, handle, file, root, ascii("named")));
      const next = await crash(open);
      expect(await processOrphans(next.writer)).toMatchObject({
        deletedCount: 0,
        truncatedCount: 0,
      });
      expect((await next.core.metadata.run(() => next.core.inode(file.ino))).linksCount).toBe(1);
      await next.run((handle) => settleOrphanFile(next.writer, handle));
      await judge(next, `j101-${what}`);
    });

    test(`come and go in any order: ${what}`, async () => {
      const open = await openWriter(image(`order-${what}`, args));
      const random = new Random(11);
      const files: ExtInode[] = [];
      for (let at = 0; at < 40; at++) files.push(await make(open, `f${at}`));
      const model = new Set<number>();
      for (let step = 0; step < 600; step++) {
        const inode = random.pick(files);
        const isIn = model.has(inode.ino);
        await open.run((handle) => (isIn ? orphanDel : orphanAdd)(open.writer, handle, inode));
        if (isIn) model.delete(inode.ino);
        else model.add(inode.ino);
        if (step % 50 === 0) expect(new Set(await orphansOf(open))).toEqual(model);
        const failing = open.run((handle) => {
          const other = random.pick(files);
          orphanAdd(open.writer, handle, other);
          orphanDel(open.writer, handle, other);
          orphanDel(open.writer, handle, inode);
          throw new RangeError("on purpose");
        });
        await expect(failing).rejects.toThrow("on purpose");
      }
      expect(new Set(await orphansOf(open))).toEqual(model);
      for (const inode of files) {
        await open.run((handle) => orphanDel(open.writer, handle, inode));
      }
      expect(open.core.sb.lastOrphan).toBe(0);
      await open.run((handle) => settleOrphanFile(open.writer, handle));
      await judge(open, `order-${what}`);
    });
  }

  test("J102 a full orphan file falls back to the list", async () => {
    const args = ["-t", "ext4", "-b", "1024", "-O", "has_journal,orphan_file,^metadata_csum"];
    const open = await openWriter(image("j102", args));
    const { sb } = open.core;
    const file = await open.core.metadata.run(() => open.core.inode(sb.orphanFileIno));
    await open.run((handle) => {
      for (let at = 0; at < file.size / sb.blockBytes; at++) {
        const { physical } = open.core.mapBlocks(file, at, 1);
        const data = handle.write(physical);
        for (let word = 0; word < (sb.blockBytes - 8) / 4; word++) putLe32(data, 4 * word, 1);
      }
    });
    const inode = await make(open, "f");
    await open.run((handle) => orphanAdd(open.writer, handle, inode));
    expect(sb.lastOrphan).toBe(inode.ino);
    await open.run((handle) => orphanDel(open.writer, handle, inode));
    expect(sb.lastOrphan).toBe(0);
    await open.close();
  });

  test("J102 a block with a wrong checksum is left alone, the others are not", async () => {
    const open = await openWriter(image("j102-sum", IN_FILE));
    const inode = await make(open, "f");
    await unlink(open, "f");
    await open.commit();
    const { sb } = open.core;
    const file = await open.core.metadata.run(() => open.core.inode(sb.orphanFileIno));
    const { physical } = open.core.mapBlocks(file, 1, 1);
    const bytes = open.bytes.slice();
    await open.close();
    bytes[physical * sb.blockBytes]! ^= 1;
    const next = await openWriter(bytes);
    expect(await processOrphans(next.writer)).toMatchObject({ deletedCount: 1 });
    expect(next.warnings.join()).toMatch(/block 1 of the orphan file is damaged.*ob_checksum/);
    expect(le16(next.core.sb.raw, SB.s_state) & 2).toBe(2);
    await expect(
      (async () => next.core.metadata.run(() => next.core.inode(inode.ino)))(),
    ).resolves.toMatchObject({ linksCount: 0 });
    await next.close();
  });

  for (const [what, damage] of [
    ["comes back to itself", (ino: number): number => ino],
    ["leads to a reserved inode", (): number => 8],
    ["leads out of the volume", (): number => 1_700_000_000],
    ["leads to a free inode", (): number => 900],
  ] as const) {
    test(`J103 a list that ${what} ends there, and is cleared`, async () => {
      const open = await openWriter(image("j103", LIST));
      const first = await make(open, "a");
      const second = await make(open, "b");
      for (const inode of [first, second]) {
        await open.run((handle) => orphanAdd(open.writer, handle, inode));
      }
      await open.run((handle) => {
        open.writer.editInode(handle, second);
        second.dtime = damage(second.ino);
      });
      const next = await crash(open);
      expect(await processOrphans(next.writer)).toMatchObject({ truncatedCount: 1 });
      expect(next.core.sb.lastOrphan).toBe(0);
      expect(next.warnings.join()).toContain("the list of orphans is damaged");
      await next.commit();
      expect(le16(next.core.sb.raw, SB.s_state) & 2).toBe(2);
      await next.close();
    });
  }

  test("of a volume with known errors are not touched, the list is cleared", async () => {
    const open = await openWriter(image("errors", LIST));
    const inode = await make(open, "a");
    await unlink(open, "a");
    await open.run((handle) => {
      open.writer.superblock.edit(handle)[SB.s_state]! |= 2;
    });
    const next = await crash(open);
    expect(await processOrphans(next.writer)).toMatchObject({ deletedCount: 0 });
    expect(next.core.sb.lastOrphan).toBe(0);
    expect((await next.core.metadata.run(() => next.core.inode(inode.ino))).linksCount).toBe(0);
    await next.close();
  });

  test("are none without a journal", async () => {
    const open = await openWriter(image("none", ["-t", "ext2", "-b", "1024"]));
    await make(open, "a");
    await unlink(open, "a");
    expect(await orphansOf(open)).toEqual([]);
    await open.close();
  });
});
