/** What a wrong checksum means, block by block and feature by feature: cases J48 to J61. */
import { describe, expect, test } from "vitest";
import { copyChecksum } from "../../../src/fs/ext/jbd2-checksum.ts";
import { JSB } from "../../../src/fs/ext/jbd2-superblock.ts";
import { putBe32 } from "../../../src/lib/bytes.ts";
import {
  copyBlock,
  expectBlocks,
  JournalBuilder,
  type LogOptions,
  replayCrafted,
} from "../../support/journal-builder.ts";

const H_CHKSUM = 16;

/**
 * Three transactions with one block each: 25, 26, 27. D at 1, 4, 7; copies at 2, 5, 8; C at 3, 6,
 * 9.
 */
function three(
  options: LogOptions = {},
  secs: readonly number[] = [100, 200, 300],
): JournalBuilder {
  const log = new JournalBuilder(options);
  for (const [index, sec] of secs.entries()) log.D(2 + index, 25 + index).C(2 + index, sec);
  return log;
}

function flip(log: JournalBuilder, journalBlock: number, at: number): JournalBuilder {
  log.block(journalBlock)[at]! ^= 0x01;
  return log;
}

describe("checksums", () => {
  test.each([2, 3] as const)(
    "J48 a journal superblock of v%s with a wrong checksum is refused",
    async (checksum) => {
      const log = flip(three({ checksum }), 0, JSB.s_head);
      await expect(replayCrafted(log)).rejects.toThrow(/EBADMSG.*journal superblock/);
      const unchecked = flip(three({ checksum: 0 }), 0, JSB.s_head);
      await expectBlocks(await replayCrafted(unchecked), { 27: 4 });
    },
  );

  test("J49 a wrong commit block at the end refuses the log; salvage takes what precedes it", async () => {
    const log = flip(three(), 9, H_CHKSUM);
    await expect(replayCrafted(log)).rejects.toThrow(/EUCLEAN.*transaction 4.*commit block/);
    const crafted = await replayCrafted(log, { salvage: true });
    await expectBlocks(crafted, { 25: 2, 26: 3, 27: "home" });
    expect(crafted.warnings.join()).toMatch(/transaction 4.*ends before/);
  });

  test("J50 a wrong commit block in the middle does the same", async () => {
    const log = flip(three(), 6, H_CHKSUM);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
    const crafted = await replayCrafted(log, { salvage: true });
    await expectBlocks(crafted, { 25: 2, 26: "home", 27: "home" });
  });

  test.each([6, 9])(
    "J51 commit block %s torn behind its record is accepted, with a notice",
    async (at) => {
      const log = three();
      log.block(at).fill(0xa5, 64);
      const crafted = await replayCrafted(log);
      await expectBlocks(crafted, { 25: 2, 26: 3, 27: 4 });
      expect(crafted.warnings.join()).toMatch(/torn behind its record/);
      log.block(at)[63] = 1;
      await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
    },
  );

  test("J52 a damaged copy in the last transaction refuses the log before anything is used", async () => {
    const log = flip(three(), 8, 1000);
    await expect(replayCrafted(log)).rejects.toThrow(/EBADMSG.*journal block 8.*block 27/);
    const crafted = await replayCrafted(log, { salvage: true });
    await expectBlocks(crafted, { 25: 2, 26: 3, 27: "home" });
  });

  test("J53 a damaged copy in the middle does the same; salvage leaves out that copy alone", async () => {
    const log = flip(three(), 5, 1000);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EBADMSG" });
    const crafted = await replayCrafted(log, { salvage: true });
    await expectBlocks(crafted, { 25: 2, 26: "home", 27: 4 });
    expect(crafted.warnings.join()).toMatch(/block 26.*left out/);
  });

  test("J53 (salvage) an earlier copy stands in for a damaged one, as in the kernel", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).D(3, 25, 26).C(3);
    const crafted = await replayCrafted(flip(log, 5, 9), { salvage: true });
    await expectBlocks(crafted, { 25: 2, 26: 3 });
  });

  test.each([1, 4, 7])(
    "J54 damaged descriptor %s with its commit present refuses all",
    async (at) => {
      const log = flip(three(), at, 3000);
      await expect(replayCrafted(log)).rejects.toThrow(/EBADMSG.*descriptor/);
      const crafted = await replayCrafted(log, { salvage: true });
      await expectBlocks(crafted, { 25: at > 1 ? 2 : "home", 26: at > 4 ? 3 : "home", 27: "home" });
    },
  );

  test("J55 a damaged revoke block with its commit present refuses all", async () => {
    const log = new JournalBuilder().D(2, 25).C(2).R(3, 25).C(3);
    await expect(replayCrafted(flip(log, 4, 3000))).rejects.toThrow(/EBADMSG.*revoke block/);
    await expectBlocks(await replayCrafted(log, { salvage: true }), { 25: 2 });
  });

  test.each([
    ["descriptor", 4, 3000],
    ["commit block", 6, H_CHKSUM],
  ])(
    "J56 a wrong %s with a time before the previous commit's is a leftover",
    async (_what, block, at) => {
      const stale = flip(three({}, [500, 200, 300]), block, at);
      const crafted = await replayCrafted(stale);
      await expectBlocks(crafted, { 25: 2, 26: "home", 27: "home" });
      expect(crafted.warnings.join()).not.toMatch(/ends before/);
    },
  );

  test("J56 a wrong revoke block with an older time is a leftover, too", async () => {
    const log = new JournalBuilder().D(2, 25).C(2, 500).R(3, 25).C(3, 200);
    await expectBlocks(await replayCrafted(flip(log, 4, 3000)), { 25: 2 });
  });

  test("J56 a right checksum with an older time counts, an equal time is not older", async () => {
    const older = three({}, [500, 200, 300]);
    await expectBlocks(await replayCrafted(older), { 25: 2, 26: 3, 27: 4 });
    const equal = flip(three({}, [500, 500, 500]), 6, H_CHKSUM);
    await expect(replayCrafted(equal)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J57 v2 compares 16 bits: damage that keeps them passes", async () => {
    const seen = copyBlock(3, 26);
    const log = three({ checksum: 2 });
    await expect(replayCrafted(flip(log, 5, 77))).rejects.toMatchObject({ code: "EBADMSG" });
    const wanted = copyChecksum(log.seed, 3, seen) & 0xffff;
    const other = seen.slice();
    let salt = 1000;
    do putBe32(other, 4092, ++salt);
    while ((copyChecksum(log.seed, 3, other) & 0xffff) !== wanted);
    expect(other).not.toEqual(seen);
    log.block(5).set(other);
    expect(await (await replayCrafted(log)).read(26)).toEqual(other);
  });

  test("J58 with async commits a wrong commit block ends the log, last or in the middle", async () => {
    const last = flip(three({ isAsync: true }), 9, H_CHKSUM);
    await expectBlocks(await replayCrafted(last), { 25: 2, 26: 3, 27: "home" });
    const middle = flip(three({ isAsync: true }), 6, H_CHKSUM);
    const crafted = await replayCrafted(middle);
    await expectBlocks(crafted, { 25: 2, 26: "home", 27: "home" });
    expect(crafted.replay.journal?.nextTid).toBe(4);
  });

  test("J59 v1: damage refuses; with async commits only if the transaction is not the last", async () => {
    const damage = (block: number, isAsync: boolean): JournalBuilder =>
      flip(three({ checksum: 1, isAsync, is64Bit: false }), block, 1000);
    const whole = three({ checksum: 1, is64Bit: false });
    await expectBlocks(await replayCrafted(whole), { 25: 2, 26: 3, 27: 4 });
    for (const block of [4, 5, 7, 8]) {
      await expect(replayCrafted(damage(block, false))).rejects.toMatchObject({ code: "EUCLEAN" });
    }
    const last = await replayCrafted(damage(8, true));
    await expectBlocks(last, { 25: 2, 26: 3, 27: "home" });
    expect(last.replay.journal?.nextTid).toBe(5);
    await expect(replayCrafted(damage(5, true))).rejects.toMatchObject({ code: "EUCLEAN" });
    const salvaged = await replayCrafted(damage(5, true), { salvage: true });
    await expectBlocks(salvaged, { 25: 2, 26: "home", 27: "home" });
  });

  test("J59 v1: a commit block that claims no checksum is accepted", async () => {
    const log = flip(three({ checksum: 1, is64Bit: false }), 8, 1000);
    log.block(9).fill(0, 12, 20);
    await replayCrafted(log);
    log.block(9)[12] = 1;
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J59 v1: revoke blocks are not part of the sum", async () => {
    const log = new JournalBuilder({ checksum: 1, is64Bit: false });
    log.R(2, 77).D(2, 25).R(2, 78).D(2, 26).C(2);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: 2 });
  });

  test("J60 without checksums damage is replayed as it is, and commits may have any tail", async () => {
    const log = flip(three({ checksum: 0 }), 5, 1000);
    log.block(9).fill(0xa5, 12);
    const crafted = await replayCrafted(log);
    const wanted = copyBlock(3, 26);
    wanted[1000]! ^= 1;
    expect(await crafted.read(26)).toEqual(wanted);
    await expectBlocks(crafted, { 27: 4 });
  });

  test.each([
    ["v2 with v3", { incompat: 0x18 }, "EUCLEAN"],
    ["v1 with v3", { compat: 1 }, "EUCLEAN"],
    ["an unknown incompat bit", { incompat: 0x50 }, "EOPNOTSUPP"],
    ["an unknown ro_compat bit", { roCompat: 1 }, "EOPNOTSUPP"],
    ["a checksum type that is not CRC32C", { type: 1 }, "EUCLEAN"],
    ["blocks of another size", { blockSize: 1024 }, "EUCLEAN"],
    ["first block 0", { first: 0 }, "EUCLEAN"],
  ] as const)("J61 a journal superblock with %s is refused", async (_what, edit, code) => {
    const log = three();
    const sb = log.block(0);
    if ("incompat" in edit) putBe32(sb, JSB.s_feature_incompat, edit.incompat);
    if ("compat" in edit) putBe32(sb, JSB.s_feature_compat, edit.compat);
    if ("roCompat" in edit) putBe32(sb, JSB.s_feature_ro_compat, edit.roCompat);
    if ("type" in edit) sb[JSB.s_checksum_type] = edit.type;
    if ("blockSize" in edit) putBe32(sb, JSB.s_blocksize, edit.blockSize);
    if ("first" in edit) putBe32(sb, JSB.s_first, edit.first);
    log.resealed(sb);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code });
  });
});
