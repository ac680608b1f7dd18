/** Where a log begins, goes round and ends: cases J1 to J26 for the replay into memory. */
import { describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { JSB } from "../../../src/fs/ext/jbd2-superblock.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { be32, le32, putBe32, putLe16, putLe32 } from "../../../src/lib/bytes.ts";
import { realClock } from "../../../src/lib/clock.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import {
  copyBlock,
  expectBlocks,
  HOME_BLOCKS,
  homeBlock,
  JournalBuilder,
  replayCrafted,
} from "../../support/journal-builder.ts";

const REVOKE = 5;

/** Lays old-looking bytes over the second half of a block, as a torn write leaves them. */
function tear(log: JournalBuilder, journalBlock: number): void {
  const block = log.block(journalBlock);
  block.fill(0x5a, block.length / 2);
}

async function seenIncompat(read: (block: number) => Promise<Uint8Array>): Promise<number> {
  return le32(await read(0), 1024 + SB.s_feature_incompat);
}

describe("log walk and end", () => {
  test("J1 an empty log replays nothing, and RECOVER reads as clear", async () => {
    const log = new JournalBuilder({ sequence: 1, start: 0 });
    const crafted = await replayCrafted(log);
    expect(crafted.replay.journal).toMatchObject({ replayedBlockCount: 0, nextTid: 2 });
    expect(await seenIncompat(crafted.read)).toBe(0x40);
    expect(crafted.warnings).toEqual([]);
  });

  test("J2 one transaction is replayed, and the walk ends behind it", async () => {
    const log = new JournalBuilder({ sequence: 2, start: 1 }).D(2, 25, 101).C(2);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 24: "home", 25: 2, 26: "home", 101: 2 });
    expect(crafted.replay.journal).toMatchObject({ transactionCount: 1, nextTid: 4 });
  });

  test("J3 a log whose first block is zero replays nothing and is no error", async () => {
    const crafted = await replayCrafted(new JournalBuilder({ sequence: 2, start: 1 }));
    await expectBlocks(crafted, { 25: "home" });
    expect(crafted.replay.journal).toMatchObject({ transactionCount: 0, nextTid: 3 });
  });

  test("J4 a transaction without its commit block is not replayed", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).D(3, 25, 26);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: "home" });
  });

  test("J5 a copy that was never written raises no error in a transaction without a commit", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).D(3, 25, 26);
    log.block(log.position - 1).fill(0x77);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: "home" });
  });

  test("J6 a last commit block of zeros ends the log before it", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).D(3, 25).C(3);
    log.block(log.position - 1).fill(0);
    await expectBlocks(await replayCrafted(log), { 25: 2 });
  });

  test("J7 a commit block of zeros in the middle ends the log before intact ones", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).D(3, 26).C(3);
    log.block(log.position - 1).fill(0);
    log.D(4, 27).C(4);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 2, 26: "home", 27: "home" });
    expect(crafted.replay.journal?.nextTid).toBe(4);
  });

  test("J8 a torn descriptor without a commit block ends the log quietly", async () => {
    const log = new JournalBuilder().D(2, 25).C(2);
    const torn = log.position;
    log.D(3, 26);
    tear(log, torn);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: "home" });
  });

  test("J9 valid blocks of an older transaction behind the last commit are stale", async () => {
    const log = new JournalBuilder({ sequence: 413 }).D(413, 25).C(413).D(71, 26).C(71);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 413, 26: "home" });
    expect(crafted.replay.journal?.nextTid).toBe(415);
  });

  test("J10 leftovers of a burnt transaction id are not joined to the log that came after", async () => {
    // Recovery of J4 wrote sequence 4; the leftover descriptor of 3 still stands behind the new
    // commit.
    const log = new JournalBuilder({ sequence: 4, start: 1 }).D(4, 25).C(4).D(3, 26).C(3);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 4, 26: "home" });
    expect(crafted.replay.journal).toMatchObject({ transactionCount: 1, nextTid: 6 });
  });

  test("J11 a control block of unknown type ends the log", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).T(9, 3).D(3, 26).C(3);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: "home" });
  });

  test("J12 a superblock inside the log ends it", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).T(4, 3).D(3, 26).C(3);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: "home" });
  });

  test("J13 a copy that looks like a commit block is data, and replayed verbatim", async () => {
    for (const checksum of [0, 3] as const) {
      const trap = new JournalBuilder({ checksum }).C(2).block(1).slice();
      const log = new JournalBuilder({ checksum })
        .D(2, { home: 25, data: trap, without: 1 }, 26)
        .C(2);
      const crafted = await replayCrafted(log);
      expect(await crafted.read(25)).toEqual(trap);
      await expectBlocks(crafted, { 26: 2 });
    }
  });

  test("J14 the log goes on at its first block", async () => {
    const log = new JournalBuilder({ start: 1022 }).D(2, 25).C(2);
    expect([...log.blocks.keys()].sort((a, b) => a - b)).toEqual([0, 1, 1022, 1023]);
    await expectBlocks(await replayCrafted(log.D(3, 26).C(3)), { 25: 2, 26: 3 });
  });

  test.each([
    ["between two copies", 1022, 3],
    ["directly behind the descriptor", 1023, 2],
    ["with the head exactly at the end", 1021, 1],
  ])("J15 the log goes round %s", async (_where, start, copyCount) => {
    const homes = Array.from({ length: copyCount }, (_, index) => 25 + index);
    const log = new JournalBuilder({ start }).D(2, ...homes).C(2);
    const wanted = Object.fromEntries(homes.map((home) => [home, 2]));
    await expectBlocks(await replayCrafted(log), wanted);
  });

  test("J16 a log without an end is refused after one lap", async () => {
    const log = new JournalBuilder();
    for (let block = log.first; block < log.last; block++) log.T(REVOKE, 2);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
    const descriptors = new JournalBuilder();
    const homes = Array.from({ length: 92 }, (_, index) => 20 + index);
    for (let round = 0; round < 11; round++) descriptors.D(2, ...homes); // 11 x 93 = 1023 blocks.
    expect(descriptors.position).toBe(1);
    await expect(replayCrafted(descriptors)).rejects.toThrow(/goes round/);
  });

  test("J17 with fast commits the log ends before their area", async () => {
    const log = new JournalBuilder({
      blockCount: 1040,
      fastCommitBlocks: 16,
      sequence: 646,
      start: 935,
    });
    for (let tid = 646; tid <= 677; tid++) log.D(tid, tid - 600).C(tid);
    expect(log.position).toBe(935 + 96 - 1023);
    const wanted = Object.fromEntries(Array.from({ length: 32 }, (_, i) => [46 + i, 646 + i]));
    await expectBlocks(await replayCrafted(log), wanted);
  });

  test("J17 without the feature the log uses what was the area", async () => {
    const log = new JournalBuilder({ blockCount: 1040, start: 1038 }).D(2, 25).C(2);
    expect(log.position).toBe(2);
    await expectBlocks(await replayCrafted(log), { 25: 2 });
  });

  test("J17 a commit block in the block behind the log does not count", async () => {
    const log = new JournalBuilder({ blockCount: 1040, fastCommitBlocks: 16, start: 1022 }).D(
      2,
      25,
    );
    log.blocks.set(1024, new JournalBuilder().C(2).block(1));
    await expectBlocks(await replayCrafted(log), { 25: "home" });
  });

  test("J18 fast commits without a number reserve 256 blocks, too many for this log", async () => {
    const log = new JournalBuilder({ blockCount: 1040, fastCommitBlocks: 0 }).D(2, 25).C(2);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
    const larger = new JournalBuilder({ blockCount: 1280, fastCommitBlocks: 0, start: 1023 });
    await expectBlocks(await replayCrafted(larger.D(2, 25).C(2)), { 25: 2 });
  });

  test("J19 transaction ids go on behind 2^32 - 1 with 0", async () => {
    const log = new JournalBuilder({ sequence: 0xffff_fffe });
    const tids = [0xffff_fffe, 0xffff_ffff, 0, 1, 2];
    for (const [index, tid] of tids.entries()) log.D(tid, 25, 30 + index).C(tid);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 2, 30: 0xffff_fffe, 31: 0xffff_ffff, 32: 0, 33: 1, 34: 2 });
    expect(crafted.replay.journal).toMatchObject({ transactionCount: 5, nextTid: 4 });
  });

  test.each([
    ["at the end of the log", { start: 1024 }],
    ["behind it", { start: 2000 }],
    ["in the fast-commit area", { start: 1030, blockCount: 1040, fastCommitBlocks: 16 }],
    ["before the first block", { start: 1, first: 5 }],
  ])("J20 a log that starts %s is refused", async (_where, options) => {
    const log = new JournalBuilder(options);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J21 a log may be shorter than its file, but neither longer nor too short", async () => {
    const log = new JournalBuilder({ blockCount: 1030 }).D(2, 25).C(2);
    await expect(replayCrafted(log, { fileBlocks: 1029 })).rejects.toMatchObject({
      code: "EUCLEAN",
    });
    const runs = [{ first: 0, physical: HOME_BLOCKS, count: 1100 }];
    await expectBlocks(await replayCrafted(log, { fileBlocks: 1100, runs }), { 25: 2 });
    const short = new JournalBuilder({ blockCount: 900 });
    await expect(replayCrafted(short)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J21 the log of a longer file goes round at its own end", async () => {
    const log = new JournalBuilder({ blockCount: 1030, start: 1028 }).D(2, 25).C(2);
    const runs = [{ first: 0, physical: HOME_BLOCKS, count: 1100 }];
    await expectBlocks(await replayCrafted(log, { fileBlocks: 1100, runs }), { 25: 2 });
  });

  test("J22 a journal in three pieces is replayed as one in a single piece", async () => {
    const build = (): JournalBuilder =>
      new JournalBuilder({ start: 8 })
        .D(2, 25, 26, 27)
        .C(2)
        .D(3, ...Array.from({ length: 20 }, (_, i) => 30 + i))
        .C(3);
    const runs = [
      { first: 0, physical: HOME_BLOCKS + 900, count: 10 },
      { first: 10, physical: HOME_BLOCKS + 40, count: 15 },
      { first: 25, physical: HOME_BLOCKS + 1000, count: 999 },
    ];
    const pieces = await replayCrafted(build(), { runs });
    const whole = await replayCrafted(build());
    expect(pieces.replay.journal).toMatchObject({ transactionCount: 2, replayedBlockCount: 23 });
    for (let block = 20; block < 60; block++) {
      expect(Buffer.compare(await pieces.read(block), await whole.read(block))).toBe(0);
    }
  });

  test("J23 a hole in the live part of the journal is refused", async () => {
    const runs = [
      { first: 0, physical: HOME_BLOCKS, count: 3 },
      { first: 4, physical: HOME_BLOCKS + 4, count: 1020 },
    ];
    const log = new JournalBuilder().D(2, 25, 26).C(2);
    await expect(replayCrafted(log, { runs })).rejects.toThrow(/EUCLEAN.*journal block 3.*hole/);
    const elsewhere = new JournalBuilder({ start: 4 }).D(2, 25, 26).C(2);
    await expectBlocks(await replayCrafted(elsewhere, { runs }), { 25: 2, 26: 2 });
  });

  test("J24 a superblock of version 1 has no features, whatever its words say", async () => {
    const log = new JournalBuilder({ version: 1, checksum: 0, is64Bit: false }).D(2, 25, 26).C(2);
    log.block(0).fill(0xff, JSB.s_feature_compat);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 2, 26: 2 });
    expect(crafted.replay.journal?.features).toEqual([]);
  });

  describe("external journal", () => {
    /** A journal device of blocks of 4 KiB: its own superblock, that of the journal in block 1. */
    function journalDevice(log: JournalBuilder, uuidByte: number): StoreBlockDevice {
      const bytes = new Uint8Array(log.blockCount * log.blockBytes);
      for (const [block, data] of log.blocks) {
        bytes.set(data, (block === 0 ? 1 : block) * log.blockBytes);
      }
      const own = bytes.subarray(1024, 2048);
      putLe16(own, SB.s_magic, 0xef53);
      putLe32(own, SB.s_rev_level, 1);
      putLe32(own, SB.s_log_block_size, 2);
      putLe32(own, SB.s_blocks_count_lo, log.blockCount);
      putLe32(own, SB.s_feature_incompat, 0x8);
      own.fill(uuidByte, SB.s_uuid, SB.s_uuid + 16);
      return new StoreBlockDevice(new MemoryStore(bytes, { name: "log.img" }), {
        clock: realClock,
      });
    }
    const makeLog = (): JournalBuilder =>
      new JournalBuilder({ first: 2, start: 2 }).D(2, 25, 150).C(2);

    test("J25 an external journal with the right UUID is replayed", async () => {
      const log = makeLog();
      const device = journalDevice(log, 0xee);
      const crafted = await replayCrafted(log, { isExternal: true, journalDevice: device });
      await expectBlocks(crafted, { 25: 2, 26: "home", 150: 2 });
      expect(crafted.replay.journal?.place).toBe("log.img");
    });

    test("J25 one with another UUID is refused, and a missing one is asked for", async () => {
      const log = makeLog();
      const wrong = journalDevice(log, 0xed);
      const options = { isExternal: true, journalDevice: wrong };
      await expect(replayCrafted(log, options)).rejects.toThrow(/EINVAL.*UUID/);
      const none = replayCrafted(log, { isExternal: true });
      await expect(none).rejects.toMatchObject({ code: "EOPNOTSUPP" });
    });
  });

  test("J26 empty transactions and those with revokes only count", async () => {
    const log = new JournalBuilder().D(2, 25, 26).C(2).C(3).R(4, 26).C(4).D(5, 27).C(5);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 2, 26: "home", 27: 5 });
    expect(crafted.replay.journal).toMatchObject({ transactionCount: 4, revokedBlockCount: 1 });
  });

  test("J2 blocks of 1 KiB are replayed as those of 4 KiB", async () => {
    const log = new JournalBuilder({ blockBytes: 1024 }).D(2, 25, 101).C(2);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: 2, 26: "home", 101: 2 }, 1024);
  });

  test("J2 the builder itself: homes, copies and sequence are what they seem", () => {
    expect(homeBlock(3)).not.toEqual(copyBlock(2, 3));
    const log = new JournalBuilder({ sequence: 9 });
    expect(be32(log.block(0), JSB.s_sequence)).toBe(9);
    putBe32(log.block(0), JSB.s_sequence, 10);
    expect(be32(log.superblock(), JSB.s_sequence)).toBe(9);
  });
});
