/**
 * Data that goes through the journal: when it is where, what a power cut leaves of it, and that
 * nothing of it comes back over what follows it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type ContentOptions,
  type ContentVolume,
  contentByDebugfs,
  expectClean,
  type OpenContent,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { invalidateMappingPages } from "../../cache/truncate.ts";
import { openImage } from "../../front/open-image.ts";
import { Random } from "../../lib/random.ts";
import { KIB, MIB } from "../../lib/units.ts";
import { INDEX_MAX } from "../../lib/xarray.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../vfs-write.ts";
import { changeAttributes } from "./change-attributes.ts";
import { isDataSwitched } from "./data-switch.ts";
import { dirLookup } from "./dir.ts";
import { EXT_ROOT_INO, JOURNAL_DATA_FL } from "./layout.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("journal-writeback");

const FORMS = [
  ["ext4, 4 KiB", "-t ext4 -b 4096"],
  ["ext4, 1 KiB", "-t ext4 -b 1024"],
  ["ext3, 4 KiB", "-t ext3 -b 4096"],
  ["ext3, 1 KiB", "-t ext3 -b 1024"],
] as const;
const EXT4 = "-t ext4 -b 4096";
const EXT3 = "-t ext3 -b 1024";

async function openForm(
  args: string,
  options: ContentOptions = {},
  sizeText = "24M",
): Promise<{ volume: ContentVolume; path: string }> {
  const path = makeImage(scratch, "image", args.split(" "), { sizeText });
  return { volume: await openContent(path, { data: "journal", ...options }), path };
}

/** Bytes of which each block begins as a block of the log does. */
function magicBytes(seed: number, count: number): Uint8Array {
  const bytes = new Random(seed).bytes(count);
  for (let at = 0; at + 4 <= count; at += KIB) bytes.set([0xc0, 0x3b, 0x39, 0x98], at);
  return bytes;
}

/** What the disk has at the places of the first blocks of `file`, however new that is. */
function homeOf(volume: ContentVolume, { inode }: OpenContent, blockCount: number): Uint8Array {
  const { blockBytes } = volume.core.sb;
  const path = join(scratch, "home.img");
  volume.save(path);
  const disk = readFileSync(path);
  const found = new Uint8Array(blockCount * blockBytes);
  for (let block = 0; block < blockCount; block++) {
    const at = volume.ctx.mapBlocks(inode, block, 1).physical * blockBytes;
    found.set(disk.subarray(at, at + blockBytes), block * blockBytes);
  }
  return found;
}

/** The image as a power cut now would leave it, recovered by e2fsck, which finds no fault. */
function cutAndRecovered(volume: ContentVolume): string {
  const path = join(scratch, "cut.img");
  volume.save(path);
  runTool("e2fsck", ["-p", path]);
  expectClean(path);
  return path;
}

function expectSame(is: Uint8Array, wanted: Uint8Array): void {
  expect(is.length).toBe(wanted.length);
  expect(Buffer.compare(is, wanted)).toBe(0);
}

/** Turns the mark of `file` on or off, as the writer of a volume does it. */
async function setMark(
  volume: ContentVolume,
  { inode }: OpenContent,
  isOn: boolean,
): Promise<void> {
  const { ctx, content } = volume;
  const { flags: old } = inode.attributes();
  const flags = isOn ? old | JOURNAL_DATA_FL : old & ~JOURNAL_DATA_FL;
  const change = (): unknown =>
    ctx.transactions.run((handle) => changeAttributes(ctx, handle, inode, { flags }));
  expect(isDataSwitched(ctx, inode, flags)).toBe(true);
  await content.switchData(inode, async () => void (await change()));
}

describe.skipIf(!hasTools)("data in the journal", () => {
  test.each(FORMS)("%s: is in the log after fsync, at its place later", async (_name, args) => {
    const { volume, path } = await openForm(args);
    const file = await volume.create("file");
    const bytes = magicBytes(1, 20_000);
    await volume.write(file, 0, bytes);
    await volume.content.fsync(file.inode, file.file, false);
    const whole = homeOf(volume, file, Math.floor(bytes.length / volume.core.sb.blockBytes));
    expect(whole.every((byte) => byte === 0)).toBe(true);
    expectSame(contentByDebugfs(cutAndRecovered(volume), scratch, "file"), bytes);
    await volume.ctx.transactions.flush();
    expectSame(
      homeOf(volume, file, whole.length / volume.core.sb.blockBytes),
      bytes.subarray(0, whole.length),
    );
    await volume.close();
    expectClean(path);
    expectSame(contentByDebugfs(path, scratch, "file"), bytes);
  });

  test.each(FORMS)("%s: is read back when the cache has dropped it", async (_name, args) => {
    const { volume } = await openForm(args);
    const file = await volume.create("file");
    const bytes = magicBytes(2, 50_000);
    const reread = async (): Promise<void> => {
      invalidateMappingPages(file.file.mapping, 0, INDEX_MAX);
      expect(file.file.mapping.nrpages).toBe(0);
      expectSame(await volume.read(file), bytes);
    };
    await volume.write(file, 0, bytes);
    await volume.content.sync();
    await reread(); // Of a transaction that runs,
    await volume.ctx.transactions.commit();
    await reread(); // of one that is committed,
    bytes.set(magicBytes(3, 9000), 11_111);
    await volume.write(file, 11_111, bytes.subarray(11_111, 20_111));
    await volume.content.sync();
    await reread(); // of both,
    await volume.ctx.transactions.flush();
    await reread(); // and from its place.
    await volume.close();
  });

  test.each(FORMS)("%s: an overwrite is there as a whole or not at all", async (_name, args) => {
    const { volume } = await openForm(args);
    const file = await volume.create("file");
    const old = magicBytes(4, 30_000);
    await volume.write(file, 0, old);
    await volume.content.fsync(file.inode, file.file, false);
    await volume.write(file, 0, magicBytes(5, 30_000));
    await volume.content.sync();
    await volume.ctx.transactions.commit();
    await volume.write(file, 0, magicBytes(6, 30_000));
    await volume.content.sync(); // Logged, and not committed.
    expectSame(contentByDebugfs(cutAndRecovered(volume), scratch, "file"), magicBytes(5, 30_000));
    await volume.close();
  });

  test.each([EXT4, EXT3])("fdatasync commits what it has logged just now: %s", async (args) => {
    const { volume } = await openForm(args);
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(9000).fill(1));
    await volume.content.fsync(file.inode, file.file, false);
    await volume.write(file, 0, new Uint8Array(9000).fill(2));
    await volume.ctx.transactions.commit(); // The time of the write, without its data.
    await volume.content.fsync(file.inode, file.file, true);
    const left = contentByDebugfs(cutAndRecovered(volume), scratch, "file");
    expectSame(left, new Uint8Array(9000).fill(2));
    await volume.close();
  });

  test("a folio that no operation has room for is cut into several", async () => {
    const { volume } = await openForm("-t ext4 -b 1024", { arenaBytes: 4 * MIB });
    const file = await volume.create("file");
    const bytes = new Random(3).bytes(MIB);
    await volume.write(file, 0, bytes);
    const { sizeBytes } = file.file.mapping.folioAt(0)!;
    const roomBlocks = await volume.ctx.transactions.run((handle) => handle.roomBlocks);
    expect(sizeBytes / KIB).toBeGreaterThan(roomBlocks);
    await volume.content.fsync(file.inode, file.file, false);
    expectSame(contentByDebugfs(cutAndRecovered(volume), scratch, "file"), bytes);
    await volume.close();
  });

  test("what is behind the end of the file is logged as zeros", async () => {
    const { volume } = await openForm(EXT4);
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(6000).fill(7));
    const folio = file.file.mapping.folioAt(1)!;
    folio.bytes.fill(9, 6000 - folio.posBytes); // As a memory mapping might.
    await volume.content.fsync(file.inode, file.file, false);
    await volume.ctx.transactions.flush();
    expect(
      homeOf(volume, file, 2)
        .subarray(6000)
        .every((byte) => byte === 0),
    ).toBe(true);
    await volume.close();
  });

  test.each([EXT4, EXT3])("a part that was cut off never shows again: %s", async (args) => {
    const { volume } = await openForm(args);
    const file = await volume.create("file");
    await volume.write(file, 0, new Uint8Array(9000).fill(7));
    await volume.content.fsync(file.inode, file.file, false);
    await volume.content.setSize(file.inode, 8500);
    await volume.content.setSize(file.inode, 8900);
    await volume.ctx.transactions.commit(); // No data was written since.
    const left = contentByDebugfs(cutAndRecovered(volume), scratch, "file");
    const wanted = new Uint8Array(8900).fill(7, 0, 8500);
    expectSame(left, wanted);
    await volume.close();
  });

  test("a file larger than the log goes through it in many operations", async () => {
    const { volume, path } = await openForm(`${EXT4} -J size=4`, { arenaBytes: 16 * MIB });
    const file = await volume.create("file");
    const bytes = new Random(8).bytes(9 * MIB);
    await volume.write(file, 0, bytes);
    await volume.content.fsync(file.inode, file.file, false);
    expect(volume.ctx.transactions.committedTid).toBeGreaterThan(5);
    expectSame(contentByDebugfs(cutAndRecovered(volume), scratch, "file"), bytes);
    await volume.close();
    expectClean(path);
  });

  test.each([EXT4, EXT3])(
    "many writers, a small log and a small cache come to an end: %s",
    async (args) => {
      const form = args === EXT4 ? `${args} -J size=4` : `${args} -J size=1`;
      const { volume, path } = await openForm(form, { arenaBytes: 4 * MIB });
      const files = await Promise.all(["a", "b", "c", "d"].map((name) => volume.create(name)));
      const contents = files.map((_, index) => new Random(10 + index).bytes(2 * MIB));
      const writeOne = async (file: OpenContent, bytes: Uint8Array): Promise<void> => {
        for (let at = 0; at < bytes.length; at += 100_000) {
          await volume.write(file, at, bytes.subarray(at, at + 100_000));
          if (at % 500_000 === 0) await volume.content.fsync(file.inode, file.file, true);
        }
      };
      await Promise.all(files.map((file, index) => writeOne(file, contents[index]!)));
      for (const [index, file] of files.entries())
        expectSame(await volume.read(file), contents[index]!);
      await volume.close();
      expectClean(path);
      for (const [index, name] of ["a", "b", "c", "d"].entries()) {
        expectSame(contentByDebugfs(path, scratch, name), contents[index]!);
      }
    },
  );

  test("blocks that were freed are revoked before others have them", async () => {
    const { volume, path } = await openForm(`${EXT4} -J size=4`, { data: "ordered" }, "12M");
    const marked = await volume.create("marked");
    await setMark(volume, marked, true);
    await volume.write(marked, 0, new Uint8Array(MIB).fill(1));
    await volume.content.fsync(marked.inode, marked.file, false);
    await volume.content.fallocate(
      marked.inode,
      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
      0,
      300 * KIB,
    );
    await volume.content.setSize(marked.inode, 600 * KIB);
    await volume.ctx.transactions.commit();
    // All that is free, and with it what was the other's, past the log.
    const other = await volume.create("other");
    const freeBytes = volume.ctx.blocks.availableCount(true) * volume.core.sb.blockBytes;
    const bytes = new Uint8Array(freeBytes).fill(2);
    await volume.write(other, 0, bytes);
    await volume.content.fsync(other.inode, other.file, false);
    const cut = cutAndRecovered(volume);
    expectSame(contentByDebugfs(cut, scratch, "other"), bytes);
    const left = new Uint8Array(600 * KIB).fill(1, 300 * KIB);
    expectSame(contentByDebugfs(cut, scratch, "marked"), left);
    await volume.close();
    expectClean(path);
  });

  test("without room a write says so, not the write-out", async () => {
    const { volume, path } = await openForm(EXT3, {}, "8M");
    const file = await volume.create("file");
    const chunk = new Uint8Array(100 * KIB).fill(3);
    let sizeBytes = 0;
    const fill = async (): Promise<void> => {
      for (;;) {
        await volume.write(file, sizeBytes, chunk);
        sizeBytes += chunk.length;
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: "ENOSPC" });
    await volume.content.fsync(file.inode, file.file, false);
    expect(file.inode.size).toBeGreaterThan(4 * MIB);
    await volume.close();
    expectClean(path);
    expect(contentByDebugfs(path, scratch, "file").every((byte) => byte === 3)).toBe(true);
  });

  test("a block that was allocated in advance is written by the operation of its data", async () => {
    const { volume } = await openForm(EXT4);
    const file = await volume.create("file");
    await volume.content.fallocate(file.inode, 0, 0, 100_000);
    await volume.write(file, 40_000, new Uint8Array(10_000).fill(4));
    await volume.content.fsync(file.inode, file.file, false);
    const wanted = new Uint8Array(100_000).fill(4, 40_000, 50_000);
    expectSame(contentByDebugfs(cutAndRecovered(volume), scratch, "file"), wanted);
    expect(volume.ctx.mapBlocks(file.inode, 9, 100)).toMatchObject({
      isUnwritten: false,
      count: 4,
    });
    await volume.close();
  });

  test("content that leaves the inode is logged", async () => {
    const args = "-t ext4 -b 1024 -I 256 -O inline_data".split(" ");
    const path = makeImage(scratch, "inline", args, { sizeText: "8M" });
    const bytes = new Random(5).bytes(50);
    writeFileSync(join(scratch, "content"), bytes);
    runTool("debugfs", ["-w", "-R", `write ${join(scratch, "content")} file`, path]);
    const volume = await openContent(path, { data: "journal" });
    const { core } = volume;
    const name = new TextEncoder().encode("file");
    const ino = await core.metadata.run(() => dirLookup(core, core.inode(EXT_ROOT_INO), name));
    const file = volume.open(await volume.inode(ino));
    expect(file.inode.isInline).toBe(true);
    const { writes } = volume.store;
    await volume.content.fallocate(file.inode, FALLOC_FL_KEEP_SIZE, 0, 1);
    expect(file.inode.isInline).toBe(false);
    expect(volume.store.writes).toBe(writes);
    expectSame(await volume.read(file), bytes);
    await volume.ctx.transactions.commit();
    expectSame(contentByDebugfs(cutAndRecovered(volume), scratch, "file"), bytes);
    await volume.close();
  });

  test.each(["keep", "drop"] as const)(
    "a failure is told, where data that cannot be written is to %s",
    async (policy) => {
      const { volume, path } = await openForm(EXT4, { onWriteError: policy });
      const file = await volume.create("file");
      await volume.content.fsync(file.inode, file.file, false);
      const bytes = magicBytes(6, 4000);
      await volume.write(file, 0, bytes);
      const { run } = volume.ctx.transactions;
      volume.ctx.transactions.run = () => {
        volume.ctx.transactions.run = run;
        throw new Error("for once");
      };
      const synced = async (): Promise<void> => volume.content.fsync(file.inode, file.file, false);
      await expect(synced()).rejects.toMatchObject({ code: "EIO" });
      await synced();
      const left = contentByDebugfs(cutAndRecovered(volume), scratch, "file");
      expectSame(left, policy === "keep" ? bytes : new Uint8Array(0));
      await volume.close(); // Which finds that nothing is promised any more.
      expectClean(path);
    },
  );
});

describe.skipIf(!hasTools)("files that are marked", () => {
  test.each([EXT4, EXT3])("only their data is logged: %s", async (args) => {
    const { volume } = await openForm(args, { data: "ordered" });
    const plain = await volume.create("plain");
    const marked = await volume.create("marked");
    await setMark(volume, marked, true);
    const bytes = new Random(7).bytes(8192);
    for (const file of [plain, marked]) {
      await volume.write(file, 0, bytes);
      await volume.content.fsync(file.inode, file.file, false);
    }
    const count = bytes.length / volume.core.sb.blockBytes;
    expectSame(homeOf(volume, plain, count), bytes);
    expect(homeOf(volume, marked, count).every((byte) => byte === 0)).toBe(true);
    const cut = cutAndRecovered(volume);
    for (const name of ["plain", "marked"]) expectSame(contentByDebugfs(cut, scratch, name), bytes);
    await volume.close();
  });

  test.each([EXT4, EXT3])(
    "the log keeps nothing of one that is marked no more: %s",
    async (args) => {
      const { volume } = await openForm(args, { data: "ordered" });
      const file = await volume.create("file");
      await setMark(volume, file, true);
      await volume.write(file, 0, new Uint8Array(20_000).fill(1));
      await volume.content.fsync(file.inode, file.file, false);
      await volume.write(file, 0, new Uint8Array(20_000).fill(2)); // Dirty when the mark goes.
      await setMark(volume, file, false);
      await volume.write(file, 0, new Uint8Array(20_000).fill(3));
      await volume.content.fsync(file.inode, file.file, false);
      expect(homeOf(volume, file, 4).every((byte) => byte === 3)).toBe(true);
      const left = contentByDebugfs(cutAndRecovered(volume), scratch, "file");
      expect(left.every((byte) => byte === 3)).toBe(true);
      await volume.close();
    },
  );

  test("what is dirty when the mark comes is written past the log", async () => {
    const { volume } = await openForm(EXT4, { data: "ordered" });
    const file = await volume.create("file");
    const bytes = new Random(9).bytes(8192);
    await volume.write(file, 0, bytes);
    await setMark(volume, file, true);
    expectSame(homeOf(volume, file, 2), bytes);
    await volume.close();
  });

  test("a new mount knows them by their mark", async () => {
    const { volume, path } = await openForm(EXT4, { data: "ordered" });
    const file = await volume.create("file");
    await setMark(volume, file, true);
    await volume.close();
    const image = await openImage(new Uint8Array(readFileSync(path)), { writable: true });
    const { ino } = await image.fs.stat("/file");
    expect((await image.fileSystem.inode(ino)).attributes().flags & JOURNAL_DATA_FL).not.toBe(0);
    await image.close();
    expect(runTool("debugfs", ["-R", "stat file", path])).toMatch(/Flags: 0x[0-9a-f]*4[0-9a-f]{3}/);
  });

  test("without a journal there are none", async () => {
    const { volume } = await openForm("-t ext2 -b 1024", { data: undefined });
    const file = await volume.create("file");
    const { ctx } = volume;
    const flags = file.inode.attributes().flags | JOURNAL_DATA_FL;
    const change = (): unknown =>
      ctx.transactions.run((handle) => changeAttributes(ctx, handle, file.inode, { flags }));
    expect(change).toThrow(/EOPNOTSUPP/);
    await volume.close();
  });
});
