import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { superblockWith } from "../../../test/support/ext-core.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { bytesOfDump, SUPERBLOCK_B } from "../../../test/support/ext-vectors.ts";
import { openWriter } from "../../../test/support/ext-writer.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { equalBytes, le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { superblockChecksum } from "./checksum.ts";
import { INCOMPAT_RECOVER, RO_COMPAT_LARGE_FILE } from "./features.ts";
import { SB } from "./layout.ts";
import { readSuperblock } from "./superblock.ts";
import {
  patchClosed,
  patchError,
  patchOpened,
  STATE_ERROR,
  STATE_VALID,
} from "./superblock-write.ts";
import { mayUseReserve, writeRefusal } from "./write-support.ts";

const hasTools = ["mke2fs", "dumpe2fs", "e2fsck"].every(requireTool);
const scratch = scratchDirectory("superblock-write");
const NOW = { sec: 0x1_0000_0007, nsec: 0 };
const FIRST = {
  code: 5,
  ino: 12,
  block: 2 ** 33 + 1,
  where: "a name that is longer than 32 bytes",
};

describe("patches of the superblock", () => {
  test("with a journal it needs recovery while it is open, and stays valid", () => {
    const raw = bytesOfDump(SUPERBLOCK_B, 1024);
    patchOpened(raw, true, NOW);
    expect(le32(raw, SB.s_feature_incompat) & INCOMPAT_RECOVER).not.toBe(0);
    expect(le16(raw, SB.s_state)).toBe(STATE_VALID);
    expect([le32(raw, SB.s_mtime), raw[SB.s_mtime_hi], le16(raw, SB.s_mnt_count)]).toEqual([
      7, 1, 1,
    ]);
    patchClosed(raw, true);
    expect(le32(raw, SB.s_feature_incompat) & INCOMPAT_RECOVER).toBe(0);
  });

  test("without one it is not valid while it is open, and afterwards if it was before", () => {
    for (const wasValid of [true, false]) {
      const raw = bytesOfDump(SUPERBLOCK_B, 1024);
      patchOpened(raw, false, NOW);
      expect(le16(raw, SB.s_state)).toBe(0);
      patchClosed(raw, wasValid);
      expect(le16(raw, SB.s_state)).toBe(wasValid ? STATE_VALID : 0);
    }
  });

  test("of two errors the first and the last are kept", () => {
    const raw = bytesOfDump(SUPERBLOCK_B, 1024);
    patchError(raw, FIRST, NOW);
    patchError(raw, { code: 2, ino: 0, block: 9, where: "read" }, { sec: 1000, nsec: 0 });
    expect(le16(raw, SB.s_state)).toBe(STATE_VALID | STATE_ERROR);
    expect(le32(raw, SB.s_error_count)).toBe(2);
    expect([le32(raw, SB.s_first_error_block), le32(raw, SB.s_first_error_block + 4)]).toEqual([
      1, 2,
    ]);
    expect([raw[SB.s_first_error_errcode], raw[SB.s_last_error_errcode]]).toEqual([5, 2]);
    expect(le32(raw, SB.s_last_error_block)).toBe(9);
  });
});

describe.skipIf(!hasTools)("the superblock of a volume that is written", () => {
  const image = (): string =>
    makeImage(scratch, "plain", ["-t", "ext4", "-b", "1024", "-O", "^has_journal,^large_file"]);

  test("free counts, features and the list of orphans are there after the commit", async () => {
    const open = await openWriter(image());
    const { writer } = open;
    const free = writer.groups.totals.freeBlockCount;
    await open.run((handle) => {
      writer.blocks.allocate(handle, { goal: 5000, count: 77 });
      writer.superblock.setLastOrphan(handle, 15);
      writer.superblock.setFeature(handle, "roCompat", RO_COMPAT_LARGE_FILE);
    });
    expect(writer.sb).toMatchObject({ lastOrphan: 15 });
    await open.commit();
    const sb = readSuperblock(open.bytes.subarray(1024, 2048), open.bytes.length);
    expect(sb.lastOrphan).toBe(15);
    expect(sb.hasRoCompat(RO_COMPAT_LARGE_FILE)).toBe(true);
    expect(le32(sb.raw, SB.s_free_blocks_count_lo)).toBe(free - 77);
    expect(le32(sb.raw, SB.s_wtime)).toBeGreaterThan(1_700_000_000);
    expect(writer.sb.raw.subarray(0, SB.s_wtime)).toEqual(sb.raw.subarray(0, SB.s_wtime));
    await open.close();
  });

  test("an operation that fails leaves what is decoded of it", async () => {
    const open = await openWriter(image());
    const { writer } = open;
    const before = writer.sb.raw.slice();
    const failing = open.run((handle) => {
      writer.superblock.setLastOrphan(handle, 15);
      writer.superblock.setFeature(handle, "roCompat", RO_COMPAT_LARGE_FILE);
      throw new FsError("EINTR");
    });
    await expect(failing).rejects.toMatchObject({ code: "EINTR" });
    expect(writer.sb.lastOrphan).toBe(0);
    expect(writer.sb.hasRoCompat(RO_COMPAT_LARGE_FILE)).toBe(false);
    expect(writer.sb.raw).toEqual(before);
    await open.close();
  });

  test("revision 0 ends with the first feature, unless the operation fails", async () => {
    const path = makeImage(scratch, "old", ["-t", "ext2", "-r", "0", "-b", "1024"]);
    const open = await openWriter(path);
    const { writer } = open;
    const setLarge = (isFailing: boolean): Promise<void> =>
      open.run((handle) => {
        writer.superblock.setFeature(handle, "roCompat", RO_COMPAT_LARGE_FILE);
        expect(writer.sb.revision).toBe(1);
        if (isFailing) throw new FsError("EINTR");
      });
    await expect(setLarge(true)).rejects.toMatchObject({ code: "EINTR" });
    expect(writer.sb.revision).toBe(0);
    expect(writer.sb.features).toEqual({ compat: 0, incompat: 0, roCompat: 0 });
    await setLarge(false);
    await open.commit();
    await open.close();
    open.save(path);
    const told = runTool("dumpe2fs", ["-h", path]);
    expect(told).toMatch(/^Filesystem revision #: +1 /m);
    expect(told).toMatch(/^Filesystem features: +large_file$/m);
    expect(told).toMatch(/^First inode: +11$/m);
    expect(told).toMatch(/^Inode size:\s+128$/m);
    runTool("e2fsck", ["-fn", path]);
  });

  test("what is written past the transactions holds nothing that is not committed", async () => {
    const open = await openWriter(image());
    const { writer } = open;
    await open.run((handle) => writer.superblock.setLastOrphan(handle, 15));
    await writer.superblock.writeNow(open.core.bdev, (raw) => patchError(raw, FIRST, NOW));
    const onDisk = (): Uint8Array => open.bytes.subarray(1024, 2048);
    expect(le32(onDisk(), SB.s_last_orphan)).toBe(0);
    expect(le32(onDisk(), SB.s_error_count)).toBe(1);
    expect(superblockChecksum(onDisk())).toBe(le32(onDisk(), SB.s_checksum));
    await open.commit();
    expect(le32(onDisk(), SB.s_last_orphan)).toBe(15);
    expect(le32(onDisk(), SB.s_error_count)).toBe(1);
    const path = join(scratch, "errors.img");
    writeFileSync(path, open.bytes);
    const told = runTool("dumpe2fs", ["-h", path]);
    expect(told).toMatch(/First error function:\s+a name that is longer than 32 by\n/);
    expect(told).toMatch(/First error block #:\s+8589934593/);
    await open.close();
  });

  test.each([
    ["before", 0],
    ["while", 1],
    ["while", 3],
    ["while", 6],
    ["while", 12],
    ["while", 20],
  ])("a write past a commit, begun %s it, loses nothing: %i turns", async (_, turns) => {
    const open = await openWriter(makeImage(scratch, "race", ["-t", "ext4", "-b", "1024"]));
    const { writer } = open;
    const { superblock } = writer;
    const record = (): Promise<void> =>
      superblock.writeNow(open.core.bdev, (raw) => patchError(raw, FIRST, NOW));
    const free = writer.groups.totals.freeBlockCount;
    await open.run((handle) => void writer.blocks.allocate(handle, { goal: 5000, count: 77 }));
    const first = turns === 0 ? record() : undefined;
    const committing = open.commit();
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    await Promise.all([first ?? record(), committing]);
    await superblock.writeNow(open.core.bdev, (raw) => patchClosed(raw, true));
    const raw = open.bytes.subarray(1024, 2048);
    expect(le32(raw, SB.s_error_count)).toBe(1);
    expect(le16(raw, SB.s_state) & STATE_ERROR).toBe(STATE_ERROR);
    expect(le32(raw, SB.s_free_blocks_count_lo)).toBe(free - 77);
    expect(superblockChecksum(raw)).toBe(le32(raw, SB.s_checksum));
    await open.close();
  });
});

test("each write changes one sector of the superblock, so that none can be torn", async () => {
  const path = makeImage(scratch, "sealed", ["-t", "ext4"]);
  const open = await openWriter(path);
  const { writer } = open;
  const now = { sec: 1_700_000_000, nsec: 0 };
  const seen: Uint8Array[] = [];
  const look = (): void => {
    const bytes = open.bytes.slice(1024, 2048);
    expect(superblockChecksum(bytes)).toBe(le32(bytes, SB.s_checksum));
    seen.push(bytes);
  };
  look();
  await writer.superblock.writeNow(open.core.bdev, (raw) => patchOpened(raw, true, now));
  look();
  await open.run((handle) => writer.superblock.setLastOrphan(handle, 15));
  await open.commit();
  look();
  await open.run((handle) => writer.superblock.setLastOrphan(handle, 0));
  await open.commit();
  await writer.superblock.writeNow(open.core.bdev, (raw) => patchClosed(raw, true));
  look();
  const [first] = seen;
  for (const bytes of seen.slice(1)) {
    expect(bytes.subarray(0, 512)).not.toEqual(first!.subarray(0, 512));
    expect(bytes.subarray(512)).toEqual(first!.subarray(512));
  }
  await open.close();
  writeFileSync(path, open.bytes);
  runTool("e2fsck", ["-fn", path]);
});

test("the record of an error, which is in both sectors, is written in two steps", async () => {
  const path = makeImage(scratch, "record", ["-t", "ext4"]);
  const open = await openWriter(path);
  const { writer, bytes } = open;
  const now = { sec: 1_700_000_000, nsec: 0 };
  const record = { code: 5, ino: 12, block: 99, where: "test" };
  const before = bytes.slice(1024, 2048);
  let steps = 0;
  open.core.bdev.log = () => {
    const raw = bytes.slice(1024, 2048);
    if (equalBytes(raw, before)) return;
    steps++;
    expect(superblockChecksum(raw)).toBe(le32(raw, SB.s_checksum));
    expect(raw.subarray(512)).toEqual(before.subarray(512));
  };
  await writer.superblock.writeNow(open.core.bdev, (raw) => patchError(raw, record, now));
  expect(steps).toBe(1); // Seen when the second write begins.
  const raw = bytes.slice(1024, 2048);
  expect(superblockChecksum(raw)).toBe(le32(raw, SB.s_checksum));
  expect(raw[SB.s_last_error_errcode]).toBe(5);
  await open.close();
});

describe("the blocks that are kept for root", () => {
  test("are for root, and for the user and the group that the superblock names", () => {
    const plain = superblockWith();
    expect(mayUseReserve(plain, 0, [])).toBe(true);
    expect(mayUseReserve(plain, 1000, [0])).toBe(false);
    const named = superblockWith([SB.s_def_resuid, 0x0014_03e8]);
    expect(mayUseReserve(named, 1000, [])).toBe(true);
    expect(mayUseReserve(named, 1001, [7, 20])).toBe(true);
    expect(mayUseReserve(named, 1001, [7])).toBe(false);
  });
});

describe("images that are read only", () => {
  test.each([
    ["bigalloc", 0x200],
    ["quota", 0x100],
    ["read-only", 0x1000],
    ["shared_blocks", 0x4000],
    ["has_snapshot", 0x80],
    ["FEATURE_R25", 0x200_0000],
  ])("%s", (name, bit) => {
    const sb = superblockWith([SB.s_feature_ro_compat, 0x46b | bit]);
    expect(writeRefusal(sb)).toContain(name);
  });

  test("and images that are not", () => {
    expect(writeRefusal(superblockWith())).toBeUndefined();
    expect(writeRefusal(superblockWith([SB.s_creator_os, 1]))).toMatch(/Hurd/);
  });
});
