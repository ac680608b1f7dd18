/** Fast commits, replayed into memory: cases J70 to J80. */
import { describe, expect, test } from "vitest";
import type { MappedRun } from "../../../src/fs/ext/context.ts";
import type { FastCommitOverlay } from "../../../src/fs/ext/fast-commit.ts";
import type { DirectoryBatch, DirectoryEntry } from "../../../src/fs/vfs.ts";
import { le16, le32, putLe16 } from "../../../src/lib/bytes.ts";
import {
  addRange,
  creat,
  delRange,
  FastCommitBuilder,
  inode,
  link,
  record,
  unlink,
} from "../../support/fast-commit-builder.ts";
import {
  type CraftOptions,
  expectBlocks,
  JournalBuilder,
  replayCrafted,
} from "../../support/journal-builder.ts";

const DIRECTORY = 12;
const EXTENTS_FL = 0x8_0000;
const HOLE: MappedRun = { physical: 0, count: 1, isUnwritten: false, isBoundary: false };

function logOf(tid: number): JournalBuilder {
  const log = new JournalBuilder({ blockCount: 1040, fastCommitBlocks: 16, sequence: tid });
  return log.D(tid, 25).C(tid);
}

/** What is seen after a full commit of 6 and the fast commits of `area`. */
async function overlayOf(
  area: FastCommitBuilder,
  options: CraftOptions = {},
): Promise<FastCommitOverlay | undefined> {
  const crafted = await replayCrafted(area.writeTo(logOf(6)), options);
  await expectBlocks(crafted, { 25: 6 });
  return crafted.replay.fastCommits;
}

const encode = (name: string): Uint8Array => Buffer.from(name, "latin1");

/** Names of `ino` with their inodes, over a home directory of `home`. */
function namesOf(
  overlay: FastCommitOverlay | undefined,
  ino: number,
  home: Readonly<Record<string, number>> = {},
): Record<string, number> {
  const entries: DirectoryEntry[] = Object.entries(home).map(([name, child]) => ({
    name: encode(name),
    ino: child,
    type: "unknown",
  }));
  const batch: DirectoryBatch = { entries, nextCookie: -1 };
  const read = overlay?.directoryOf(ino)?.read(0, () => batch) ?? batch;
  const names = read.entries.map(({ name, ino: child }) => [
    Buffer.from(name).toString("latin1"),
    child,
  ]);
  expect(new Set(names.map(([name]) => name)).size).toBe(names.length);
  return Object.fromEntries(names);
}

/** Device block behind each of the first `count` file blocks; negative for unwritten ones. */
function mapOf(overlay: FastCommitOverlay | undefined, ino: number, count: number): number[] {
  const patch = overlay?.mapOf(ino);
  return Array.from({ length: count }, (_, block) => {
    const run = patch?.map(block, 1, () => ({ ...HOLE, physical: 1000 + block })) ?? HOLE;
    return run.isUnwritten ? -run.physical : run.physical;
  });
}

function slotOf(overlay: FastCommitOverlay | undefined, ino: number, links = 0): Uint8Array {
  const home = new Uint8Array(256);
  putLe16(home, 0x1a, links);
  if (overlay === undefined) return home;
  return overlay.inodeSlot(ino, () => home);
}

function sizeOf(slot: Uint8Array): number {
  return le32(slot, 4);
}

function linksOf(slot: Uint8Array): number {
  return le16(slot, 0x1a);
}

/**
 * The five steps of section 3.6: create and write, another file, link, unlink, extend, truncate.
 */
function fiveCommits(tid: number): FastCommitBuilder {
  return new FastCommitBuilder(tid)
    .add(inode(16), addRange(16, 0, 2, 100), creat(DIRECTORY, 16, "fcA"), inode(16, { size: 8192 }))
    .commit()
    .add(inode(17), addRange(17, 0, 1, 103), creat(DIRECTORY, 17, "fcB"), inode(17, { size: 9 }))
    .commit()
    .add(link(DIRECTORY, 16, "fcA2"), unlink(DIRECTORY, 17, "fcB"))
    .add(
      addRange(16, 2, 1, 102),
      delRange(16, 3, 0x7fff_ffff),
      delRange(16, 0x8000_0002, 0x7fff_fffd),
    )
    .add(inode(16, { size: 8292, links: 2, blocks: 24 }))
    .commit();
}

describe("fast commits", () => {
  test("J70 fast commits of the next transaction are applied: names, links, sizes and maps", async () => {
    const overlay = await overlayOf(fiveCommits(7));
    expect(overlay?.commitCount).toBe(3);
    expect(namesOf(overlay, DIRECTORY, { f1: 13 })).toEqual({ f1: 13, fcA: 16, fcA2: 16 });
    const slot = slotOf(overlay, 16);
    expect([sizeOf(slot), linksOf(slot), le32(slot, 0x1c)]).toEqual([8292, 2, 24]);
    expect(mapOf(overlay, 16, 5)).toEqual([100, 101, 102, 0, 0]);
    expect(overlay?.directoryOf(DIRECTORY)?.lookup(encode("fcB"), () => 17)).toBe(0);
    expect(overlay?.directoryOf(DIRECTORY)?.lookup(encode("f1"), () => 13)).toBe(13);
  });

  test("J71 the same area after the full commit of its transaction is old", async () => {
    const crafted = await replayCrafted(fiveCommits(7).writeTo(logOf(7)));
    await expectBlocks(crafted, { 25: 7 });
    expect(crafted.replay.fastCommits).toBeUndefined();
    expect(crafted.warnings.join()).not.toMatch(/fast/);
  });

  test("J71 an area that does not begin with HEAD holds nothing", async () => {
    expect(await overlayOf(new FastCommitBuilder(7, { head: false }).add(inode(16)).commit())).toBe(
      undefined,
    );
    expect((await replayCrafted(logOf(6))).replay.fastCommits).toBeUndefined();
  });

  test.each([1, 2])(
    "J72 a wrong checksum in fast commit %s (from 0) ends them before it",
    async (bad) => {
      const area = fiveCommits(7);
      area.blocks[bad]![30]! ^= 1;
      const overlay = await overlayOf(area);
      expect(overlay?.commitCount).toBe(bad);
      const wanted = bad === 1 ? { fcA: 16 } : { fcA: 16, fcB: 17 };
      expect(namesOf(overlay, DIRECTORY)).toEqual(wanted);
      expect(sizeOf(slotOf(overlay, 16))).toBe(8192);
    },
  );

  test("J72 fast commits of an older transaction behind good ones do not count", async () => {
    const area = fiveCommits(7)
      .add(unlink(DIRECTORY, 16, "fcA"))
      .commit(5);
    expect((await overlayOf(area))?.commitCount).toBe(3);
  });

  test("J73 a wrong checksum in the first refuses; salvage leaves all of them out", async () => {
    const area = fiveCommits(7);
    area.blocks[0]![30]! ^= 1;
    await expect(overlayOf(area)).rejects.toMatchObject({ code: "EBADMSG" });
    const crafted = await replayCrafted(area.writeTo(logOf(6)), { salvage: true });
    expect(crafted.replay.fastCommits).toBeUndefined();
    expect(crafted.warnings.join()).toMatch(/fast commits were left out/);
    await expectBlocks(crafted, { 25: 6 });
  });

  test("J74 features in HEAD are refused", async () => {
    const area = new FastCommitBuilder(7, { features: 1 }).add(inode(16)).commit();
    await expect(overlayOf(area)).rejects.toMatchObject({ code: "EOPNOTSUPP" });
  });

  test.each([
    ["an unknown tag", record(77, new Uint8Array(8))],
    ["a record of a wrong length", record(2, new Uint8Array(11))],
    ["a record that runs over the block", Uint8Array.of(6, 0, 0xff, 0x7f)],
  ])("J75 %s in the second fast commit ends them before it", async (_what, bytes) => {
    const area = fiveCommits(7);
    area.blocks[1]!.set(bytes);
    expect((await overlayOf(area))?.commitCount).toBe(1);
    const first = fiveCommits(7);
    first.blocks[0]!.set(bytes, 12);
    await expect(overlayOf(first)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J76 records go over block borders behind PAD, names have up to 255 bytes", async () => {
    const long = "x".repeat(255);
    const area = new FastCommitBuilder(7);
    for (let ino = 16; ino < 56; ino++)
      area.add(inode(ino, { size: ino }), creat(DIRECTORY, ino, `n${ino}`));
    area.add(inode(56), creat(DIRECTORY, 56, long)).commit();
    expect(area.blocks.length).toBe(2);
    const overlay = await overlayOf(area);
    expect(Object.keys(namesOf(overlay, DIRECTORY))).toHaveLength(41);
    expect(namesOf(overlay, DIRECTORY)[long]).toBe(56);
    expect(sizeOf(slotOf(overlay, 55))).toBe(55);
  });

  test.each([0, 4, 8, 11, 12, 13])(
    "J76 with %s bytes left in its block the commit is found",
    async (left) => {
      const area = new FastCommitBuilder(7).add(inode(16, { size: 5 }), creat(DIRECTORY, 16, "a"));
      while (area.room > 1200) area.add(inode(16, { size: 5 }));
      area.add(record(7, new Uint8Array(area.room - left - 4)));
      area.commit();
      expect(area.blocks).toHaveLength(left < 12 ? 2 : 1);
      expect(sizeOf(slotOf(await overlayOf(area), 16))).toBe(5);
    },
  );

  test("J77 ranges up to 2^32 - 1 do not overflow, and unwritten ones read as such", async () => {
    const area = new FastCommitBuilder(7)
      .add(delRange(16, 0x8000_0002, 0x7fff_fffd), delRange(16, 5, 0xffff_ffff))
      .add(addRange(16, 0, 0x8002, 100), addRange(16, 0xffff_fffe, 1, 105))
      .commit();
    const overlay = await overlayOf(area);
    expect(mapOf(overlay, 16, 7)).toEqual([-100, -101, 1002, 1003, 1004, 0, 0]);
    const patch = overlay?.mapOf(16);
    const at = (block: number): number => patch!.map(block, 9, () => HOLE).physical;
    expect([at(0xffff_fffd), at(0xffff_fffe), at(0xffff_ffff)]).toEqual([0, 105, 0]);
  });

  test("J77 a range outside the file system is refused", async () => {
    const area = new FastCommitBuilder(7).add(addRange(16, 0, 1, 5000)).commit();
    await expect(overlayOf(area)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J78 a name that is already there after a replay broken off stays one", async () => {
    const overlay = await overlayOf(fiveCommits(7));
    const home = { f1: 13, fcA: 16, fcA2: 16 };
    expect(namesOf(overlay, DIRECTORY, home)).toEqual(home);
    expect(linksOf(slotOf(overlay, 16, 2))).toBe(2);
    const two = new FastCommitBuilder(7)
      .add(inode(16, { links: 1 }), creat(DIRECTORY, 16, "a"), creat(DIRECTORY, 16, "a"))
      .add(link(DIRECTORY, 16, "b"), link(DIRECTORY, 16, "b"))
      .commit();
    expect(linksOf(slotOf(await overlayOf(two), 16, 1))).toBe(2);
  });

  test("J79 (reading half) any number of extents needs no block, and none is taken", async () => {
    const area = new FastCommitBuilder(7).add(inode(16), creat(DIRECTORY, 16, "a"));
    for (let block = 0; block < 90; block++) area.add(addRange(16, 2 * block, 1, 190 - block));
    const overlay = await overlayOf(area.add(inode(16, { size: 180 * 4096 })).commit());
    const map = mapOf(overlay, 16, 180);
    for (let block = 0; block < 90; block++) {
      expect([map[2 * block], map[2 * block + 1]]).toEqual([190 - block, 0]);
    }
    const slot = slotOf(overlay, 16);
    expect([le16(slot, 0x28), le16(slot, 0x2a), le16(slot, 0x2c)]).toEqual([0xf30a, 0, 4]);
  });

  test("J80 (reading half) with bit 0x20 clear the log runs over the area", async () => {
    const log = new JournalBuilder({ blockCount: 1040, sequence: 8, start: 1022 });
    const homes = Array.from({ length: 20 }, (_, index) => 30 + index);
    fiveCommits(7).writeTo(new JournalBuilder({ blockCount: 1040, fastCommitBlocks: 16 }));
    log.D(8, ...homes).C(8);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 30: 8, 49: 8 });
    expect(crafted.replay.fastCommits).toBeUndefined();
  });

  test("J80 (reading half) what an old area still holds is not looked at with bit 0x20 clear", async () => {
    const log = new JournalBuilder({ blockCount: 1040, sequence: 6 }).D(6, 25).C(6);
    for (const [index, block] of fiveCommits(7).blocks.entries())
      log.blocks.set(1025 + index, block);
    expect((await replayCrafted(log)).replay.fastCommits).toBeUndefined();
  });

  test("a directory that was made holds `.`, `..` and what came since, and nothing of home", async () => {
    const directory = { mode: 0o040755, size: 4096, links: 3, blocks: 8 };
    const area = new FastCommitBuilder(7)
      .add(inode(20, directory), creat(DIRECTORY, 20, "sub"))
      .add(inode(21), creat(20, 21, "in"), inode(21, { size: 3 }))
      .commit();
    const overlay = await overlayOf(area);
    expect(namesOf(overlay, 20, { stale: 99 })).toEqual({ ".": 20, "..": DIRECTORY, in: 21 });
    expect(overlay?.directoryOf(20)?.lookup(encode("stale"), () => 99)).toBe(0);
    expect(overlay?.directoryOf(20)?.lookup(encode(".."), () => 99)).toBe(DIRECTORY);
    const slot = slotOf(overlay, 20);
    expect([linksOf(slot), le32(slot, 0x1c)]).toEqual([1, 0]);
  });

  test("a number that is used again forgets the map and links of the file before it", async () => {
    const area = new FastCommitBuilder(7)
      .add(addRange(16, 0, 1, 100), inode(16, { links: 1, size: 4096 }))
      .add(unlink(DIRECTORY, 16, "old"))
      .commit()
      .add(inode(16), addRange(16, 1, 1, 110), creat(DIRECTORY, 16, "new"), inode(16, { size: 9 }))
      .commit();
    const overlay = await overlayOf(area);
    expect(mapOf(overlay, 16, 3)).toEqual([0, 110, 0]);
    expect(namesOf(overlay, DIRECTORY, { old: 16 })).toEqual({ new: 16 });
    expect(linksOf(slotOf(overlay, 16, 1))).toBe(1);
  });

  test("a name given to another file by a rename stays with that", async () => {
    const area = new FastCommitBuilder(7)
      .add(unlink(DIRECTORY, 14, "f2"), link(DIRECTORY, 16, "f2"), unlink(DIRECTORY, 16, "fcA"))
      .commit();
    const overlay = await overlayOf(area);
    expect(namesOf(overlay, DIRECTORY, { f2: 14, fcA: 16 })).toEqual({ f2: 16 });
    expect(linksOf(slotOf(overlay, 16, 1))).toBe(1);
    expect(linksOf(slotOf(overlay, 14, 1))).toBe(0);
  });

  test("an old file's UNLINK behind the LINK that took its name leaves the name", async () => {
    const area = new FastCommitBuilder(7)
      .add(link(DIRECTORY, 16, "f2"), unlink(DIRECTORY, 14, "f2"))
      .commit();
    expect(namesOf(await overlayOf(area), DIRECTORY, { f2: 14 })).toEqual({ f2: 16 });
  });

  test("the home map stays where no record touches it, attributes are not counted", async () => {
    const area = new FastCommitBuilder(7)
      .add(
        addRange(16, 2, 2, 100),
        inode(16, { size: 9, blocks: 32, fileAcl: 77, flags: EXTENTS_FL }),
      )
      .commit();
    const overlay = await overlayOf(area);
    expect(mapOf(overlay, 16, 6)).toEqual([1000, 1001, 100, 101, 1004, 1005]);
    const asked: number[] = [];
    overlay?.mapOf(16)?.map(0, 50, (count) => {
      asked.push(count);
      return HOLE;
    });
    expect(asked).toEqual([2]);
    expect(le32(slotOf(overlay, 16), 0x1c)).toBe(24);
  });
});
