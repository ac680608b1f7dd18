/** What recovery writes on a writable open, and in what order: cases J1 to J10, J62 to J67. */
import { describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { JSB } from "../../../src/fs/ext/jbd2-superblock.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { recoverJournal } from "../../../src/fs/ext/recover.ts";
import { be32, le16, le32, putLe16 } from "../../../src/lib/bytes.ts";
import { realClock } from "../../../src/lib/clock.ts";
import { Random } from "../../../src/lib/random.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import {
  type CraftOptions,
  copyBlock,
  craftContext,
  craftImage,
  HOME_BLOCKS,
  homeBlock,
  JournalBuilder,
  runsOf,
} from "../../support/crafted-log.ts";
import { type RecoveredImage, recoverImage } from "../../support/recover-crafted.ts";

const BLOCK = 4096;
const LOG_BYTES = HOME_BLOCKS * BLOCK;

function imageOf(log: JournalBuilder, options: CraftOptions = {}): Uint8Array {
  return craftImage(log, options, runsOf(log, options));
}

function recover(log: JournalBuilder, options: CraftOptions = {}): Promise<RecoveredImage> {
  return recoverImage(imageOf(log, options), log, options);
}

/** `s_sequence` and `s_start` as they are on disk now. */
function tailOf(image: Uint8Array): number[] {
  const sb = image.subarray(LOG_BYTES);
  return [be32(sb, JSB.s_sequence), be32(sb, JSB.s_start)];
}

/** Which transaction's copy a home block is: 0 for none. */
function lifeOf(image: Uint8Array, blocknr: number): number {
  const block = image.subarray(blocknr * BLOCK, (blocknr + 1) * BLOCK);
  if (Buffer.compare(block, homeBlock(blocknr)) === 0) return 0;
  for (let tid = 1; tid < 9; tid++) {
    if (Buffer.compare(block, copyBlock(tid, blocknr)) === 0) return tid;
  }
  return -1;
}

/** Four transactions over eight blocks, with a revoke. */
function busyLog(): JournalBuilder {
  const log = new JournalBuilder().D(2, 25, 26, 27, 28).C(2).D(3, 26, 29, 30).R(3, 27).C(3);
  return log.D(4, 31).C(4).D(5, 25, 32).C(5);
}

describe("what is written", () => {
  test("J1 nothing, if the log is empty", async () => {
    const { writes, image } = await recover(new JournalBuilder({ sequence: 1, start: 0 }));
    expect(writes).toEqual([]);
    expect(tailOf(image)).toEqual([1, 0]);
  });

  test("J2 homes in order, a flush, then the superblock with the id after the unused one", async () => {
    const { steps, image } = await recover(new JournalBuilder().D(2, 25, 7).C(2));
    expect(steps).toEqual([7 * BLOCK, 25 * BLOCK, "flush", LOG_BYTES]);
    expect(tailOf(image)).toEqual([4, 0]);
    expect([lifeOf(image, 25), lifeOf(image, 7), lifeOf(image, 8)]).toEqual([2, 2, 0]);
  });

  test("J3 the superblock alone, if the first transaction was not committed", async () => {
    const { image, writes } = await recover(new JournalBuilder());
    expect(writes.map(({ offsetBytes }) => offsetBytes)).toEqual([LOG_BYTES]);
    expect(tailOf(image)).toEqual([3, 0]);
  });

  test("J10 what is left of a transaction that was not committed never counts again", async () => {
    const torn = new JournalBuilder().D(2, 25).C(2).D(3, 26);
    const first = await recover(torn);
    expect(tailOf(first.image)).toEqual([4, 0]);
    // The next writer begins with the id after that, where the first one began.
    const next = new JournalBuilder({ sequence: 5, start: 1 }).D(5, 30).C(5);
    const image = first.image.slice();
    for (const [journalBlock, bytes] of next.blocks)
      image.set(bytes, LOG_BYTES + journalBlock * BLOCK);
    const second = await recoverImage(image, next);
    expect([25, 26, 30].map((block) => lifeOf(second.image, block))).toEqual([2, 0, 5]);
    expect(tailOf(second.image)).toEqual([7, 0]);
  });

  test("J19 the id after the last one wraps too", async () => {
    const log = new JournalBuilder({ sequence: 0xffff_fffe });
    for (const tid of [0xffff_fffe, 0xffff_ffff, 0, 1, 2]) log.D(tid, 25).C(tid);
    expect(tailOf((await recover(log)).image)).toEqual([4, 0]);
  });
});

describe("broken off", () => {
  test("J62 after any home write, recovery comes to the same in the end", async () => {
    const log = busyLog();
    const before = imageOf(log);
    const whole = await recoverImage(before, log);
    for (let count = 0; count <= whole.writes.length; count++) {
      const image = before.slice();
      for (const write of whole.writes.slice(0, count)) image.set(write.bytes, write.offsetBytes);
      const again = await recoverImage(image, log);
      expect(Buffer.compare(again.image, whole.image), `after ${count} writes`).toBe(0);
    }
  });

  test("J63 before the flush, with any of the home writes lost or torn", async () => {
    const log = busyLog();
    const before = imageOf(log);
    const whole = await recoverImage(before, log);
    const homes = whole.writes.slice(0, -1);
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(seed);
      const image = before.slice();
      for (const { offsetBytes, bytes } of homes) {
        for (let at = 0; at < bytes.length; at += 512) {
          if (random.chance(0.5)) image.set(bytes.subarray(at, at + 512), offsetBytes + at);
        }
      }
      const again = await recoverImage(image, log);
      expect(Buffer.compare(again.image, whole.image), `seed ${seed}`).toBe(0);
    }
  });

  test("J64 after the superblock of the journal, nothing is left to do", async () => {
    const log = busyLog();
    const { image } = await recover(log);
    const again = await recoverImage(image, log);
    expect(again.writes).toEqual([]);
    expect(le32(again.image, 1024 + SB.s_feature_incompat) & 4).toBe(4);
  });
});

describe("refused and reported", () => {
  test("J65 a log that is not needed is refused as it is, or dropped if that is forced", async () => {
    const log = busyLog();
    const before = imageOf(log, { needsRecovery: false });
    const options = { needsRecovery: false };
    await expect(recoverImage(before, log, options)).rejects.toMatchObject({ code: "EUCLEAN" });
    const { image, writes } = await recoverImage(before, log, { ...options, force: true });
    expect(writes).toHaveLength(1);
    expect(tailOf(image)).toEqual([2, 0]);
    expect(lifeOf(image, 25)).toBe(0);
  });

  test("J67 an error of the journal is in the superblock of the file system, then gone here", async () => {
    const log = new JournalBuilder({ errno: -5 }).D(2, 25).C(2);
    const { steps, image } = await recover(log);
    const wanted = [25 * BLOCK, "flush", LOG_BYTES, 1024, "flush", LOG_BYTES];
    expect(steps).toEqual(wanted);
    expect(le16(image, 1024 + SB.s_state) & 2).toBe(2);
    expect(be32(image.subarray(LOG_BYTES), JSB.s_errno)).toBe(0);
  });

  test("J37 the error record of the home superblock survives the one in the log", async () => {
    const options: CraftOptions = { editSuperblock: (sb) => putLe16(sb, SB.s_error_count, 7) };
    const before = imageOf(new JournalBuilder(), options);
    const data = before.slice(0, BLOCK);
    putLe16(data, 1024 + SB.s_error_count, 0);
    putLe16(data, 1024 + SB.s_mnt_count, 9);
    const log = new JournalBuilder().D(2, { home: 0, data }).C(2);
    const { image } = await recover(log, options);
    expect(le16(image, 1024 + SB.s_error_count)).toBe(7);
    expect(le16(image, 1024 + SB.s_mnt_count)).toBe(9);
  });

  test("a home behind the end of a short device is refused before anything is written", async () => {
    const log = new JournalBuilder().D(2, 25, 199).C(2);
    const options = { runs: [{ first: 0, physical: 30, count: 1024 }], blocksOnDevice: 1054 };
    const before = imageOf(log, options);
    const bytes = before.slice(0, 1053 * BLOCK);
    const device = new StoreBlockDevice(new MemoryStore(bytes), { clock: realClock });
    const ctx = craftContext(before, log, options);
    const outOfRange = new JournalBuilder().D(2, 25, 1053).C(2);
    for (const [at, block] of outOfRange.blocks) bytes.set(block, (30 + at) * BLOCK);
    const asBefore = bytes.slice();
    const recovering = recoverJournal(ctx, device, { clock: realClock });
    await expect(recovering).rejects.toMatchObject({ code: "EUCLEAN" });
    expect(Buffer.compare(bytes, asBefore)).toBe(0);
  });
});
