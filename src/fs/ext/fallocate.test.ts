import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { expectClean, openContent } from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { filemapWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import { invalidateMappingPages } from "../../cache/truncate.ts";
import { openImage } from "../../front/open-image.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { Random } from "../../lib/random.ts";
import { KIB, PAGE_BYTES } from "../../lib/units.ts";
import { INDEX_MAX } from "../../lib/xarray.ts";
import { FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../vfs-write.ts";
import type { Handle } from "./handle.ts";
import { ENCRYPT_FL, EXTENTS_FL, VERITY_FL } from "./layout.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("fallocate");
const BLOCK_BYTES = 4 * KIB;

describe.skipIf(!hasTools)("a range that is inserted", () => {
  test("leaves the file as it was where there is no room for it", async () => {
    const args = ["-t", "ext4", "-b", `${BLOCK_BYTES}`];
    const path = makeImage(scratch, "insert", args, { sizeText: "8M" });
    const volume = await openContent(path);
    const file = await volume.create("file");
    const random = new Random(9);
    // As many extents as there is room for in the inode: cutting one takes a block.
    for (const block of [0, 2, 4]) {
      await volume.write(file, block * BLOCK_BYTES, random.bytes(BLOCK_BYTES));
    }
    await volume.write(file, 6 * BLOCK_BYTES, random.bytes(4 * BLOCK_BYTES));
    await volume.content.sync();
    const content = (await volume.read(file)).slice();
    const { blocks } = volume.ctx;
    const takenCount = blocks.availableCount(true);
    expect(blocks.reserve(takenCount, true)).toBe(true);
    const insert = async (): Promise<void> =>
      volume.content.fallocate(
        file.inode,
        FALLOC_FL_INSERT_RANGE,
        8 * BLOCK_BYTES,
        2 * BLOCK_BYTES,
      );
    await expect(insert()).rejects.toMatchObject({ code: "ENOSPC" });
    expect(file.inode.size).toBe(content.length);
    expect(await volume.read(file)).toEqual(content);
    blocks.unreserve(takenCount);
    await insert();
    expect(file.inode.size).toBe(content.length + 2 * BLOCK_BYTES);
    expect((await volume.read(file)).subarray(10 * BLOCK_BYTES)).toEqual(
      content.subarray(8 * BLOCK_BYTES),
    );
    await volume.close();
    expectClean(path);
  });
});

describe.skipIf(!hasTools)("a hole that is punched", () => {
  test("is not written any more, though the rest of its folio is", async () => {
    const args = ["-t", "ext4", "-b", `${BLOCK_BYTES}`];
    const path = makeImage(scratch, "punch", args, { sizeText: "8M" });
    const volume = await openContent(path);
    const file = await volume.create("file");
    const { mapping } = file.file;
    const old = new Random(1).bytes(PAGE_BYTES * 2 ** mapping.maxOrder);
    await volume.write(file, 0, old);
    await volume.content.sync();
    const { physical } = volume.core.mapBlocks(file.inode, 0, 1);
    // Dirty as a whole: nothing is known of its blocks.
    invalidateMappingPages(mapping, 0, INDEX_MAX);
    await volume.write(file, 0, new Random(2).bytes(old.length));
    const { transactions } = volume.ctx;
    const { run } = transactions;
    let calls = 0;
    // What frees the blocks waits for a bitmap, say, while the flusher writes.
    transactions.run = async <T>(operation: (handle: Handle) => T): Promise<T> => {
      if (++calls === 2) {
        transactions.run = run;
        expect(await filemapWriteAndWaitRange(mapping, 0, Infinity)).toBe(0);
      }
      return run.call(transactions, operation) as T;
    };
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    await volume.content.fallocate(file.inode, mode, 2 * BLOCK_BYTES, BLOCK_BYTES);
    expect(calls).toBe(2);
    volume.save(path);
    const image = new Uint8Array(readFileSync(path));
    const onDisk = (block: number): Uint8Array =>
      image.slice((physical + block) * BLOCK_BYTES, (physical + block + 1) * BLOCK_BYTES);
    const isOld = (block: number): boolean =>
      equalBytes(onDisk(block), old.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
    expect([1, 2, 3].map(isOld)).toEqual([false, true, false]);
    await volume.close();
    expectClean(path);
  });
});

describe.skipIf(!hasTools || !requireTool("debugfs"))("a file whose content cannot be made", () => {
  test.each([
    ["verity", VERITY_FL, "EPERM"],
    ["encrypt", ENCRYPT_FL, "ENOKEY"],
  ])("is not changed: %s", async (feature, flag, code) => {
    const args = ["-t", "ext4", "-b", `${BLOCK_BYTES}`, "-O", feature];
    const path = makeImage(scratch, feature, args, { sizeText: "8M" });
    const source = join(scratch, "source");
    writeFileSync(source, new Uint8Array(3 * BLOCK_BYTES).fill(7));
    const flags = `0x${(flag | EXTENTS_FL).toString(16)}`;
    const input = `write ${source} file\nsif file flags ${flags}\n`;
    runTool("debugfs", ["-w", "-f", "-", path], { input });
    const volume = await openImage(path, { writable: true });
    const { fs } = volume;
    const inode = await fs.inode("/file");
    const fallocate = async (mode: number): Promise<void> =>
      volume.fileSystem.writer!.fallocate(inode, mode, KIB, KIB);
    for (const change of [
      () => fs.writeFile("/file", "x", { flag: "r+" }),
      () => fs.appendFile("/file", "x"),
      () => fs.open("/file", "w"),
      () => fs.truncate("/file", 5),
      () => fs.truncate("/file", 50_000),
      () => fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
      () => fallocate(FALLOC_FL_KEEP_SIZE),
    ]) {
      await expect(change(), change.toString()).rejects.toMatchObject({ code });
    }
    await fs.chmod("/file", 0o600);
    expect(inode.size).toBe(3 * BLOCK_BYTES);
    await fs.unlink("/file");
    await volume.close();
    expectClean(path);
  });
});
