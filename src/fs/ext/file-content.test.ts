import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type ContentVolume,
  contentByDebugfs,
  expectClean,
  type OpenContent,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { filemapFlush } from "../../cache/filemap-flush.ts";
import { IOCB_APPEND, IOCB_DSYNC, IOCB_NOWAIT } from "../../cache/kiocb.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { EAGAIN } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../lib/units.ts";
import { iomapFiemap } from "../../mapping/iomap/fiemap.ts";
import { iomapSeekData, iomapSeekHole } from "../../mapping/iomap/seek.ts";
import { FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_KEEP_SIZE } from "../vfs-write.ts";
import { APPEND_FL, IMMUTABLE_FL, INLINE_DATA_FL } from "./layout.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("file-content");

const EXT4: readonly string[] = ["-t", "ext4", "-b", "4096"];
const EXT3: readonly string[] = ["-t", "ext3", "-b", "1024"];
const INLINE: readonly string[] = ["-t", "ext4", "-b", "4096", "-I", "256", "-O", "inline_data"];
const KINDS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["ext4, 4 KiB", EXT4],
  ["ext4, 1 KiB", ["-t", "ext4", "-b", "1024"]],
  ["ext4 without a journal", [...EXT4, "-O", "^has_journal"]],
  ["ext4, inline data", INLINE],
  ["ext3, 4 KiB", ["-t", "ext3", "-b", "4096"]],
  ["ext3, 1 KiB", EXT3],
  ["ext2, 1 KiB", ["-t", "ext2", "-b", "1024"]],
];
const BOTH_MAPS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["extents", EXT4],
  ["block map", EXT3],
];

let imageCount = 0;

function imageOf(args: readonly string[], sizeText = "32M"): string {
  return makeImage(scratch, `image-${imageCount++}`, args, { sizeText });
}

/** What e2fsck and debugfs find of `name` after a crash right now: the journal is replayed. */
function afterCrash(volume: ContentVolume, name: string): Uint8Array {
  const path = join(scratch, "crashed.img");
  volume.save(path);
  runTool("e2fsck", ["-fy", path], { okCodes: [0, 1] });
  expectClean(path);
  return contentByDebugfs(path, scratch, name);
}

async function extentsOf(volume: ContentVolume, { inode, file }: OpenContent) {
  const request = { startBytes: 0, lengthBytes: 64 * MIB, maxExtents: 10_000, flags: 0 };
  const { iomapOps } = volume.content.mappings;
  return (await iomapFiemap(inode, file.mapping, request, iomapOps)).extents;
}

describe.skipIf(!hasTools)("writing files on images of mke2fs", () => {
  test.each(KINDS)("%s: what is written is there", async (_name, args) => {
    const path = imageOf(args);
    const volume = await openContent(path);
    const content = new Random(1).bytes(3 * MIB + 123);
    const large = await volume.create("large");
    await volume.write(large, 0, content.subarray(0, MIB));
    await volume.write(large, MIB, content.subarray(MIB));
    const small = await volume.create("small");
    await volume.write(small, 0, content.subarray(0, 77));
    expect(equalBytes(await volume.read(large), content)).toBe(true);
    await volume.close();
    expectClean(path);
    expect(equalBytes(contentByDebugfs(path, scratch, "large"), content)).toBe(true);
    expect(contentByDebugfs(path, scratch, "small")).toEqual(content.slice(0, 77));
  });

  test("a file written in pieces lies in one piece", async () => {
    const volume = await openContent(imageOf(EXT4, "128M"));
    const file = await volume.create("file");
    const piece = new Random(2).bytes(64 * KIB);
    for (let at = 0; at < 48 * MIB; at += piece.length) await volume.write(file, at, piece);
    const before = volume.store.writes;
    await volume.syncAndSave();
    expect((await extentsOf(volume, file)).length).toBeLessThanOrEqual(2);
    expect(volume.store.writes - before).toBeLessThan(80);
    await volume.close();
  });

  test.each(BOTH_MAPS)("%s: nothing is allocated before the write-out", async (_name, args) => {
    const volume = await openContent(imageOf(args));
    const file = await volume.create("file");
    const freeBefore = volume.ctx.groups.totals.freeBlockCount;
    await volume.write(file, 100 * KIB, new Uint8Array(20 * KIB).fill(1));
    expect(volume.ctx.groups.totals.freeBlockCount).toBe(freeBefore);
    expect(volume.ctx.blocks.reservedCount).toBeGreaterThanOrEqual(
      (20 * KIB) / file.inode.blockBytes,
    );
    await volume.content.fsync(file.inode, file.file, false);
    expect(volume.ctx.blocks.reservedCount).toBe(0);
    expect(file.inode.sectorCount * SECTOR_BYTES).toBeGreaterThanOrEqual(20 * KIB);
    expect(file.inode.sectorCount * SECTOR_BYTES).toBeLessThanOrEqual(22 * KIB);
    await volume.close();
  });

  test.each(BOTH_MAPS)("%s: what is promised is data to seek and FIEMAP", async (_name, args) => {
    const volume = await openContent(imageOf(args));
    const file = await volume.create("file");
    await volume.write(file, 64 * KIB, new Uint8Array(8 * KIB).fill(1));
    await volume.content.setSize(file.inode, MIB);
    const { iomapOps } = volume.content.mappings;
    expect(await iomapSeekData(file.inode, file.file.mapping, 0, iomapOps)).toBe(64 * KIB);
    expect(await iomapSeekHole(file.inode, file.file.mapping, 64 * KIB, iomapOps)).toBe(72 * KIB);
    const extents = await extentsOf(volume, file);
    expect(extents.map((extent) => [extent.logicalBytes, extent.lengthBytes])).toEqual([
      [64 * KIB, 8 * KIB],
    ]);
    await volume.close();
  });

  test("appends go to the end, wherever the writer thinks that is", async () => {
    const volume = await openContent(imageOf(EXT4));
    const file = await volume.create("log");
    const lines = Array.from({ length: 200 }, (_, at) => new TextEncoder().encode(`line ${at}\n`));
    await Promise.all(lines.map((line) => volume.write(file, 0, line, IOCB_APPEND)));
    const text = new TextDecoder().decode(await volume.read(file));
    expect(text.split("\n").length).toBe(201);
    expect(new Set(text.split("\n")).size).toBe(201);
    await volume.close();
  });

  test("a write of what is cached needs no promise, and one that may not wait says so", async () => {
    const volume = await openContent(imageOf(EXT4));
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(64 * KIB));
    const iocb = { file: file.file, posBytes: 100, flags: 0 };
    expect(volume.content.write(iocb, new Uint8Array(5000))).toBe(5000);
    expect(iocb.posBytes).toBe(5100);
    await file.inode.rwsem.write();
    const nowait = { file: file.file, posBytes: 0, flags: IOCB_NOWAIT };
    expect(volume.content.write(nowait, new Uint8Array(1))).toBe(-EAGAIN);
    file.inode.rwsem.unlockWrite();
    expect(volume.content.write(nowait, new Uint8Array(1))).toBe(1);
    await volume.close();
  });
});

describe.skipIf(!hasTools)("what survives a crash", () => {
  test.each(KINDS.filter(([name]) => name.startsWith("ext4,") || name.startsWith("ext3")))(
    "%s: what fsync has returned for, and the name",
    async (_name, args) => {
      const volume = await openContent(imageOf(args));
      const file = await volume.create("file");
      const content = new Random(3).bytes(100_000);
      await volume.write(file, 0, content);
      await volume.content.fsync(file.inode, file.file, true);
      expect(equalBytes(afterCrash(volume, "file"), content)).toBe(true);
      await volume.write(file, 50_000, new Uint8Array(1000));
      content.fill(0, 50_000, 51_000);
      await volume.content.fsync(file.inode, file.file, false);
      expect(equalBytes(afterCrash(volume, "file"), content)).toBe(true);
      await volume.close();
    },
  );

  test.each(BOTH_MAPS)("%s: a write with O_DSYNC, when it returns", async (_name, args) => {
    const volume = await openContent(imageOf(args));
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(5000).fill(7), IOCB_DSYNC);
    expect(afterCrash(volume, "file")).toEqual(new Uint8Array(5000).fill(7));
    await volume.close();
  });

  test.each(BOTH_MAPS)(
    "%s: a commit never leads to blocks that were not written",
    async (_name, args) => {
      const volume = await openContent(imageOf(args));
      const old = await volume.create("old");
      await volume.write(old, 0, new Uint8Array(4 * MIB).fill(0xee));
      await volume.content.fsync(old.inode, old.file, false);
      await volume.content.setSize(old.inode, 0);
      await volume.ctx.transactions.commit();
      const file = await volume.create("file");
      await volume.write(file, 0, new Uint8Array(2 * MIB).fill(1));
      void filemapFlush(file.file.mapping);
      await volume.ctx.transactions.commit();
      const found = afterCrash(volume, "file");
      expect(found.every((byte) => byte === 0 || byte === 1)).toBe(true);
      await volume.close();
    },
  );

  test("a small change costs few writes to make durable", async () => {
    const volume = await openContent(imageOf(EXT4));
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(64 * KIB).fill(1));
    await volume.content.fsync(file.inode, file.file, false);
    const writesBefore = volume.store.writes;
    const flushesBefore = volume.store.flushes;
    await volume.write(file, 4096, new Uint8Array(100).fill(2));
    await volume.content.fsync(file.inode, file.file, false);
    expect(volume.store.writes - writesBefore).toBeLessThanOrEqual(4);
    expect(volume.store.flushes - flushesBefore).toBeGreaterThan(0);
    expect(volume.store.flushes - flushesBefore).toBeLessThanOrEqual(2);
    await volume.close();
  });
});

describe.skipIf(!hasTools)("a full disk", () => {
  test.each(KINDS)(
    "%s: is told to the write, and can be emptied and filled again",
    async (_name, args) => {
      const path = imageOf(args, "8M");
      const volume = await openContent(path);
      const file = await volume.create("file");
      const piece = new Random(4).bytes(100_000);
      const sizes: number[] = [];
      for (let round = 0; round < 4; round++) {
        const fill = async (): Promise<void> => {
          for (let at = 0; ; at += piece.length) await volume.write(file, at, piece);
        };
        await expect(fill()).rejects.toMatchObject({ code: "ENOSPC" });
        sizes.push(file.inode.size);
        await volume.content.fsync(file.inode, file.file, false);
        const last = file.inode.size - (file.inode.size % piece.length);
        expect(equalBytes(await volume.read(file, 0, piece.length), piece)).toBe(true);
        expect(last).toBeGreaterThan(2 * MIB);
        await volume.content.setSize(file.inode, 0);
      }
      expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThan(200_000);
      await volume.close();
      expectClean(path);
    },
  );

  test("fallocate of more than there is changes nothing", async () => {
    const path = imageOf(EXT4, "8M");
    const volume = await openContent(path);
    const file = await volume.create("file");
    const free = volume.ctx.groups.totals.freeBlockCount;
    const asked = async () => volume.content.fallocate(file.inode, 0, 0, 64 * MIB);
    await expect(asked()).rejects.toMatchObject({ code: "ENOSPC" });
    expect([file.inode.size, volume.ctx.groups.totals.freeBlockCount]).toEqual([0, free]);
    await volume.close();
    expectClean(path);
  });
});

describe.skipIf(!hasTools)("writes that fail", () => {
  test.each(BOTH_MAPS)(
    "%s: fsync tells once, and kept data is written later",
    async (_name, args) => {
      const path = imageOf(args);
      const volume = await openContent(path, { onWriteError: "keep" });
      const file = await volume.create("file");
      await volume.content.fsync(file.inode, file.file, false);
      const content = new Random(5).bytes(200_000);
      await volume.write(file, 0, content);
      volume.faulty.inject({ op: "write", calls: Infinity, startBytes: 4 * MIB });
      const syncing = async () => volume.content.fsync(file.inode, file.file, false);
      await expect(syncing()).rejects.toMatchObject({ code: "EIO", syscall: "fsync" });
      volume.faulty.heal();
      expect(equalBytes(await volume.read(file), content)).toBe(true);
      if (volume.ctx.transactions.failure === undefined) {
        await volume.content.fsync(file.inode, file.file, false);
        await volume.close();
        expectClean(path);
        expect(equalBytes(contentByDebugfs(path, scratch, "file"), content)).toBe(true);
      }
    },
  );
});

describe.skipIf(!hasTools)("what a file allows", () => {
  test("immutable files are not changed, others only appended to", async () => {
    const volume = await openContent(imageOf(EXT4));
    const file = await volume.create("file");
    await volume.write(file, 0, Uint8Array.of(1, 2, 3));
    const { inode } = file;
    const { content } = volume;
    const calls = {
      write: async () => volume.write(file, 0, Uint8Array.of(9)),
      truncate: async () => content.setSize(inode, 1),
      collapse: async () => content.fallocate(inode, FALLOC_FL_COLLAPSE_RANGE, 0, 4096),
    };
    inode.flags |= APPEND_FL;
    for (const call of Object.values(calls)) {
      await expect(call()).rejects.toMatchObject({ code: "EPERM" });
    }
    await volume.write(file, 0, Uint8Array.of(4), IOCB_APPEND);
    inode.flags = (inode.flags & ~APPEND_FL) | IMMUTABLE_FL;
    const append = async () => volume.write(file, 0, Uint8Array.of(5), IOCB_APPEND);
    for (const call of [append, ...Object.values(calls)]) {
      await expect(call()).rejects.toMatchObject({ code: "EPERM" });
    }
    inode.flags &= ~IMMUTABLE_FL;
    expect(await volume.read(file)).toEqual(Uint8Array.of(1, 2, 3, 4));
    await volume.close();
  });

  test("a block map ends where its pointers do", async () => {
    const volume = await openContent(imageOf(EXT3));
    const file = await volume.create("file");
    const reach = (12 + 256 + 256 ** 2 + 256 ** 3) * 1024;
    await volume.write(file, reach - 3, Uint8Array.of(1, 2, 3));
    const behind = async () => volume.write(file, reach, Uint8Array.of(4));
    await expect(behind()).rejects.toMatchObject({ code: "EFBIG" });
    const cut = async () => volume.content.setSize(file.inode, reach + 1);
    await expect(cut()).rejects.toMatchObject({ code: "EFBIG" });
    expect(await volume.read(file, reach - 3, 3)).toEqual(Uint8Array.of(1, 2, 3));
    await volume.close();
  });

  test("reading and changing is noted in its times", async () => {
    const volume = await openContent(imageOf(EXT4));
    const file = await volume.create("file");
    const { inode } = file;
    const long = { sec: 1000, nsec: 5 };
    const reset = (): Promise<void> | void =>
      volume.ctx.transactions.run((handle) => {
        volume.ctx.editInode(handle, inode);
        for (const name of ["atime", "mtime", "ctime"] as const) inode.setTime(name, long);
      });
    await reset();
    await volume.write(file, 0, Uint8Array.of(1));
    expect(inode.attributes().mtime.sec).toBeGreaterThan(1000);
    expect(inode.attributes().ctime.sec).toBeGreaterThan(1000);
    expect(inode.attributes().atime).toEqual(long);
    await volume.content.noteAccess(inode);
    const { atime } = inode.attributes();
    expect(atime.sec).toBeGreaterThan(1000);
    const late = { sec: 9_000_000_000, nsec: 0 }; // Of a clock that went wrong.
    await volume.ctx.transactions.run((handle) => {
      volume.ctx.editInode(handle, inode);
      for (const name of ["atime", "mtime"] as const) inode.setTime(name, late);
    });
    await volume.content.noteAccess(inode);
    expect(inode.attributes().atime.sec).toBeLessThan(late.sec);
    await volume.ctx.transactions.run((handle) => {
      volume.ctx.editInode(handle, inode);
      inode.setTime("atime", long);
      inode.flags |= 0x80; // chattr +A
    });
    await volume.content.noteAccess(inode);
    expect(inode.attributes().atime).toEqual(long);
    await volume.close();
  });
});

describe.skipIf(!hasTools)("space in advance", () => {
  test("is unwritten until data comes, reads as zeros and stays behind the end", async () => {
    const path = imageOf(EXT4);
    const volume = await openContent(path);
    const file = await volume.create("file");
    await volume.content.fallocate(file.inode, FALLOC_FL_KEEP_SIZE, 0, 64 * 4096);
    expect(file.inode.size).toBe(0);
    await volume.write(file, 4 * 4096, new Uint8Array(8 * 4096).fill(9));
    await volume.content.fsync(file.inode, file.file, false);
    const found = (await extentsOf(volume, file)).map(({ lengthBytes, flags }) => [
      lengthBytes / 4096,
      (flags & 0x800) !== 0,
    ]);
    expect(found).toEqual([
      [4, true],
      [8, false],
      [52, true],
    ]);
    const content = new Uint8Array(12 * 4096);
    content.fill(9, 4 * 4096);
    expect(await volume.read(file)).toEqual(content);
    await volume.close();
    expectClean(path);
    expect(contentByDebugfs(path, scratch, "file")).toEqual(content);
  });

  test("is no business of a block map", async () => {
    const volume = await openContent(imageOf(EXT3));
    const file = await volume.create("file");
    const asked = async () => volume.content.fallocate(file.inode, 0, 0, 4096);
    await expect(asked()).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    await volume.close();
  });

  test.each([
    ["an empty range", 0, 0, 0, "EINVAL"],
    ["a negative one", 0, -1, 10, "EINVAL"],
    ["a mode that there is not", 0x80, 0, 10, "EOPNOTSUPP"],
    ["a hole that moves the end", 0x02, 0, 10, "EOPNOTSUPP"],
    ["half a block to take out", FALLOC_FL_COLLAPSE_RANGE, 0, 100, "EINVAL"],
  ])("%s is refused", async (_what, mode, offset, length, code) => {
    const volume = await openContent(imageOf(EXT4));
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(10_000));
    const asked = async () => volume.content.fallocate(file.inode, mode, offset, length);
    await expect(asked()).rejects.toMatchObject({ code });
    await volume.close();
  });
});

describe.skipIf(!hasTools)("content in the inode", () => {
  test("stays there while it fits, and moves into a block when it does not", async () => {
    const path = imageOf(INLINE);
    const volume = await openContent(path);
    const file = await volume.create("file");
    const isInline = (): boolean => (file.inode.flags & INLINE_DATA_FL) !== 0;
    const content = new Random(6).bytes(9000);
    const wasInline = isInline();
    let at = 0;
    for (const length of [10, 50, 40, 5, 300, 8595]) {
      await volume.write(file, at, content.subarray(at, at + length));
      at += length;
      expect(await volume.read(file)).toEqual(content.slice(0, at));
      if (wasInline && at <= 100) expect(isInline()).toBe(true);
    }
    expect(isInline()).toBe(false);
    await volume.close();
    expectClean(path);
    expect(contentByDebugfs(path, scratch, "file")).toEqual(content);
  });
});

describe.skipIf(!hasTools)("what is cut and written anew", () => {
  test.each(BOTH_MAPS)("%s: it is data before its write-out, not a hole", async (name, args) => {
    const blockBytes = name === "extents" ? 4 * KIB : KIB;
    const volume = await openContent(imageOf(args));
    const file = await volume.create("file");
    const { content } = volume;
    await volume.write(file, 0, new Random(1).bytes(64 * KIB)); // A folio that is dirty as a whole.
    await content.setSize(file.inode, 2 * blockBytes);
    await content.setSize(file.inode, 64 * KIB);
    await volume.write(file, 4 * blockBytes, new Random(2).bytes(blockBytes));
    const { iomapOps } = content.mappings;
    const { inode } = file;
    const { mapping } = file.file;
    expect(await iomapSeekData(inode, mapping, 2 * blockBytes, iomapOps)).toBe(4 * blockBytes);
    expect(await iomapSeekHole(inode, mapping, 4 * blockBytes, iomapOps)).toBe(5 * blockBytes);
    expect(inode.delalloc?.ranges).toEqual([
      { first: 0, end: 2 },
      { first: 4, end: 5 },
    ]);
    await volume.close();
  });

  test.each([...BOTH_MAPS, ["inline", INLINE] as const])(
    "%s: a write that must not wait makes no promise, whatever it meets",
    async (_name, args) => {
      const path = imageOf(args);
      const first = await openContent(path);
      const made = await first.create("file");
      await first.write(made, 0, new Random(1).bytes(600 * KIB + 100));
      await first.write(await first.create("small"), 0, new Random(1).bytes(20));
      await first.close();
      const volume = await openContent(path);
      const small = volume.open(await volume.inode(made.inode.ino + 1));
      const file = volume.open(await volume.inode(made.inode.ino));
      const writeNow = (into: OpenContent, posBytes: number, lengthBytes = 3): unknown => {
        const iocb = { file: into.file, posBytes, flags: IOCB_NOWAIT };
        return volume.content.write(iocb, new Uint8Array(lengthBytes));
      };
      expect(writeNow(file, 500 * KIB + 1)).toBe(-EAGAIN); // The map, or a block, is to be read.
      expect(writeNow(file, 600 * KIB, 200)).toBe(-EAGAIN); // All of the block that the file has.
      expect(writeNow(file, 700 * KIB + 1)).toBe(-EAGAIN); // Zeros before it.
      expect([3, -EAGAIN]).toContain(writeNow(small, 1));
      await volume.read(file);
      expect(writeNow(file, 500 * KIB + 1)).toBe(3);
      expect(writeNow(file, 600 * KIB + 98)).toBe(3);
      await volume.close();
      expectClean(path);
    },
  );
});
