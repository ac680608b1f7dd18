/** Replay as a whole: repeated, broken off, not asked for, and its cost: cases J62 to J69. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Bio, REQ_OP_WRITE } from "../../../src/block/bio.ts";
import { readDevice } from "../../../src/block/block-device.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { le16, le32, putLe16 } from "../../../src/lib/bytes.ts";
import { EROFS } from "../../../src/lib/errno.ts";
import {
  type Crafted,
  copyBlock,
  expectBlocks,
  HOME_BLOCKS,
  homeBlock,
  JournalBuilder,
  replayCrafted,
} from "../../support/journal-builder.ts";

/** Four transactions over eight blocks, with a revoke. */
function busyLog(): JournalBuilder {
  return new JournalBuilder()
    .D(2, 25, 26, 27, 28)
    .C(2)
    .D(3, 26, 29, 30)
    .R(3, 27)
    .C(3)
    .D(4, 31)
    .C(4)
    .D(5, 25, 32)
    .C(5);
}

/** What all home blocks hold, in one value. */
async function homesOf({ device }: Crafted): Promise<string> {
  const bytes = await readDevice(device, 0, HOME_BLOCKS * 4096);
  return createHash("sha256").update(bytes).digest("hex");
}

/** The same image with some of the home writes of a recovery already done. */
async function seenAfterPartialRecovery(written: readonly number[]): Promise<string> {
  const whole = await replayCrafted(busyLog());
  const done = new Map<number, Uint8Array>();
  for (const block of written) done.set(block, await whole.read(block));
  const partial = await replayCrafted(busyLog(), { homeBlocks: done });
  return homesOf(partial);
}

const REPLAYED = [25, 26, 28, 29, 30, 31, 32];

describe("recovery procedure", () => {
  test("J62 (overlay half) a recovery broken off after any home write reads the same", async () => {
    const wanted = await homesOf(await replayCrafted(busyLog()));
    for (let count = 0; count <= REPLAYED.length; count++) {
      expect(await seenAfterPartialRecovery(REPLAYED.slice(0, count))).toEqual(wanted);
    }
  });

  test("J63 (overlay half) whichever home writes were lost, it reads the same", async () => {
    const wanted = await homesOf(await replayCrafted(busyLog()));
    for (let subset = 0; subset < 2 ** REPLAYED.length; subset += 5) {
      const written = REPLAYED.filter((_, index) => ((subset >> index) & 1) === 1);
      expect(await seenAfterPartialRecovery(written)).toEqual(wanted);
    }
  });

  test("J64 (overlay half) RECOVER over an empty log replays nothing and reads as clear", async () => {
    const log = new JournalBuilder({ sequence: 7, start: 0 }).D(2, 25).C(2);
    const crafted = await replayCrafted(log);
    await expectBlocks(crafted, { 25: "home" });
    expect(le32(await crafted.read(0), 1024 + SB.s_feature_incompat) & 4).toBe(0);
    expect(crafted.replay.journal).toMatchObject({ transactionCount: 0, nextTid: 8 });
  });

  test("J65 (reading half) a log without RECOVER is ignored with a warning", async () => {
    const crafted = await replayCrafted(busyLog(), { needsRecovery: false });
    await expectBlocks(crafted, { 25: "home", 26: "home" });
    expect(crafted.device).toBe(crafted.base);
    expect(crafted.warnings.join()).toMatch(/not needed: ignored/);
    expect(crafted.replay.journal?.isDirty).toBe(false);
  });

  test("J65 without RECOVER a damaged journal is a warning only", async () => {
    const log = busyLog();
    log.block(0)[3] = 0;
    const crafted = await replayCrafted(log, { needsRecovery: false });
    expect(crafted.warnings.join()).toMatch(/magic/);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
  });

  test("J66 (overlay half) nothing is written, and a write to the overlay fails", async () => {
    const crafted = await replayCrafted(busyLog());
    await homesOf(crafted);
    const status = await new Promise<number>((resolve) => {
      const bio = new Bio(REQ_OP_WRITE, 0, 25 * 4096, (ended) => resolve(ended.status));
      bio.addVector(new Uint8Array(4096));
      crafted.device.submitBio(bio);
    });
    expect(status).toBe(-EROFS);
    expect(crafted.device.isReadOnly).toBe(true);
    expect(crafted.store.writes).toBe(0);
    expect(Buffer.compare(crafted.bytes, crafted.before)).toBe(0);
  });

  test("J67 (overlay half) an aborted journal is replayed, and the state shows the error", async () => {
    const log = new JournalBuilder({ errno: -5 }).D(2, 25).C(2);
    const editSuperblock = (sb: Uint8Array): void => putLe16(sb, SB.s_state, 1);
    const crafted = await replayCrafted(log, { editSuperblock });
    await expectBlocks(crafted, { 25: 2 });
    expect(crafted.replay.journal?.errno).toBe(-5);
    expect(crafted.warnings.join()).toMatch(/aborted with EIO/);
    expect(le16(await crafted.read(0), 1024 + SB.s_state)).toBe(3);
  });

  test("J68 noload shows the home blocks, with a warning and without a look at the journal", async () => {
    const log = busyLog();
    log.block(0).fill(0);
    const crafted = await replayCrafted(log, { noload: true });
    await expectBlocks(crafted, { 25: "home", 32: "home" });
    expect(le32(await crafted.read(0), 1024 + SB.s_feature_incompat) & 4).toBe(4);
    expect(crafted.warnings.join()).toMatch(/not replayed/);
  });

  test("J69 the overlay of 100,000 tags keeps what their distinct blocks need", async () => {
    const blockCount = 110_000;
    const log = new JournalBuilder({ blockBytes: 1024, blockCount, checksum: 0, is64Bit: false });
    const tagsOfOne = Array.from({ length: 100 }, (_, index) => 20 + index);
    for (let tid = 2; tid < 1002; tid++) log.D(tid, ...tagsOfOne).C(tid);
    const before = process.memoryUsage();
    const crafted = await replayCrafted(log);
    const { journal } = crafted.replay;
    expect(journal).toMatchObject({ transactionCount: 1000, replayedBlockCount: 100 });
    // 100 MB of copies went by; of them only references to the last ones are kept.
    crafted.store.reset();
    await expectBlocks(crafted, { 20: 1001, 119: 1001, 120: "home" }, 1024);
    expect(crafted.store.reads).toBe(3);
    expect(process.memoryUsage().heapUsed - before.heapUsed).toBeLessThan(40e6);
  });

  test("reads that touch no replayed block go on as one, others in as few pieces as can be", async () => {
    const log = new JournalBuilder().D(2, 50, 51, 52, 53).C(2);
    const crafted = await replayCrafted(log);
    const requests: number[] = [];
    crafted.base.log = ({ lengthBytes }) => requests.push(lengthBytes / 4096);
    await readDevice(crafted.device, 60 * 4096, 100 * 4096);
    expect(requests.splice(0)).toEqual([100]);
    const bytes = await readDevice(crafted.device, 40 * 4096, 20 * 4096);
    expect(requests.splice(0).sort((a, b) => a - b)).toEqual([4, 6, 10]);
    for (let block = 40; block < 60; block++) {
      const wanted = block >= 50 && block < 54 ? copyBlock(2, block) : homeBlock(block);
      const found = bytes.subarray((block - 40) * 4096, (block - 39) * 4096);
      expect(Buffer.compare(found, wanted)).toBe(0);
    }
  });
});
