/** Which copies a revoke suppresses: cases J38 to J47. */
import { describe, expect, test } from "vitest";
import { putBe32 } from "../../../src/lib/bytes.ts";
import {
  copyBlock,
  expectBlocks,
  homeBlock,
  JournalBuilder,
  replayCrafted,
} from "../../support/journal-builder.ts";

const R_COUNT = 12;

/** A log of one copy of 100 at 2 and one revoke block at 3 whose `r_count` is `count`. */
function withCount(count: number, is64Bit: boolean): JournalBuilder {
  const log = new JournalBuilder({ is64Bit }).D(2, 100).C(2);
  const at = log.position;
  log.R(3, 100).C(3);
  putBe32(log.block(at), R_COUNT, count);
  return log.reseal(at);
}

describe("revoke", () => {
  test("J38 a revoke suppresses the copies of earlier transactions", async () => {
    const log = new JournalBuilder().D(2, 100, 101).C(2).R(3, 100).C(3);
    await expectBlocks(await replayCrafted(log), { 100: "home", 101: 2 });
  });

  test("J39 a copy of a later transaction counts", async () => {
    const log = new JournalBuilder().D(2, 100).C(2).R(3, 100).C(3).D(4, 100).C(4);
    await expectBlocks(await replayCrafted(log), { 100: 4 });
  });

  test("J40 a revoke wins over a copy of its own transaction, before or behind it", async () => {
    const before = new JournalBuilder({ sequence: 3 }).R(3, 100).D(3, 100).C(3);
    await expectBlocks(await replayCrafted(before), { 100: "home" });
    const behind = new JournalBuilder({ sequence: 3 }).D(3, 100).R(3, 100).C(3);
    await expectBlocks(await replayCrafted(behind), { 100: "home" });
  });

  test("J41 a revoke of a transaction that did not commit is ignored", async () => {
    const log = new JournalBuilder().D(2, 100).C(2).R(3, 100);
    await expectBlocks(await replayCrafted(log), { 100: 2 });
  });

  test("J42 the later of two revokes counts, also where transaction ids wrap", async () => {
    const build = (tids: readonly number[], copyAt: number): JournalBuilder => {
      const log = new JournalBuilder({ sequence: tids[0]! });
      for (const [index, tid] of tids.entries()) {
        if (index === 1 || index === 3) log.R(tid, 100);
        if (index === copyAt) log.D(tid, 100);
        log.C(tid);
      }
      return log;
    };
    const plain = [2, 3, 4, 7 - 2, 6];
    await expectBlocks(await replayCrafted(build(plain, 2)), { 100: "home" });
    await expectBlocks(await replayCrafted(build(plain, 4)), { 100: 6 });
    const wrapping = [0xffff_fffe, 0xffff_ffff, 0, 1, 2];
    await expectBlocks(await replayCrafted(build(wrapping, 2)), { 100: "home" });
    await expectBlocks(await replayCrafted(build(wrapping, 4)), { 100: 2 });
  });

  test("J42 copies at 2^32 - 2 and 1, revokes at 2^32 - 1 and 0: that at 1 counts", async () => {
    const log = new JournalBuilder({ sequence: 0xffff_fffe })
      .D(0xffff_fffe, 100, 101)
      .C(0xffff_fffe)
      .R(0xffff_ffff, 100, 101)
      .C(0xffff_ffff)
      .R(0, 100)
      .C(0)
      .D(1, 100)
      .C(1);
    await expectBlocks(await replayCrafted(log), { 100: 1, 101: "home" });
  });

  test.each([true, false])("J43 entries have 8 bytes with 64BIT (%s), else 4", async (is64Bit) => {
    const log = new JournalBuilder({ is64Bit }).D(2, 100, 101, 102, 103).C(2);
    const at = log.position;
    log.R(3, 100, 101, 102).C(3);
    expect(log.block(at)[R_COUNT + 3]).toBe(is64Bit ? 40 : 28);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 100: "home", 101: "home", 102: "home", 103: 2 });
  });

  test("J44 an r_count larger than the block is refused, a small one has no entries", async () => {
    await expect(replayCrafted(withCount(4093, true))).rejects.toMatchObject({ code: "EUCLEAN" });
    await expectBlocks(await replayCrafted(withCount(8, true)), { 100: 2 });
    await expectBlocks(await replayCrafted(withCount(19, false)), { 100: 2 });
    await expectBlocks(await replayCrafted(withCount(20, false)), { 100: "home" });
    const uncommitted = new JournalBuilder().D(2, 100).C(2).R(3, 100);
    putBe32(uncommitted.block(uncommitted.position - 1), R_COUNT, 0xffff_ffff);
    await expectBlocks(await replayCrafted(uncommitted), { 100: 2 });
  });

  test("J45 revoke blocks are honoured without the REVOKE feature", async () => {
    const log = new JournalBuilder({ checksum: 0, is64Bit: false }).D(2, 100).C(2).R(3, 100).C(3);
    const crafted = await replayCrafted(log);
    expect(crafted.replay.journal?.features).not.toContain("revoke");
    await expectBlocks(crafted, { 100: "home" });
  });

  test("J46 a directory's blocks that became file data keep the data", async () => {
    const directory = [100, 101, 102, 103, 104];
    const log = new JournalBuilder()
      .D(2, 60, ...directory)
      .C(2)
      .D(3, 60, ...directory)
      .C(3);
    log
      .R(4, ...directory)
      .D(4, 60)
      .C(4);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 60: 4, 100: "home", 102: "home", 104: "home" });
    expect(crafted.replay.journal?.revokedBlockCount).toBe(5);
  });

  test("J47 (reading half) a block freed and journaled again in one transaction", async () => {
    const reused = new JournalBuilder().D(2, 100).C(2).D(3, 100).C(3);
    const crafted = await replayCrafted(reused);
    expect(await crafted.read(100)).toEqual(copyBlock(3, 100));
    // A writer that forgets to cancel loses the new content: this is what must not be in a log.
    const forgotten = new JournalBuilder().D(2, 100).C(2).R(3, 100).D(3, 100).C(3);
    expect(await (await replayCrafted(forgotten)).read(100)).toEqual(homeBlock(100));
  });
});
