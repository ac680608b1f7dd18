/** What the writer of a journal sends to the disk, and in what order: cases J81 to J97. */
import { beforeEach, describe, expect, test } from "vitest";
import type { StoreBlockDevice } from "../../../src/block/block-device.ts";
import type { Folio } from "../../../src/cache/folio.ts";
import type { Handle } from "../../../src/fs/ext/handle.ts";
import { copyChecksum } from "../../../src/fs/ext/jbd2-checksum.ts";
import { decodeHeader, decodeRevokes, decodeTags } from "../../../src/fs/ext/jbd2-format.ts";
import { JSB } from "../../../src/fs/ext/jbd2-superblock.ts";
import type { Metadata } from "../../../src/fs/ext/metadata.ts";
import type { ExtTransactions } from "../../../src/fs/ext/transactions.ts";
import { be32 } from "../../../src/lib/bytes.ts";
import { VirtualClock } from "../../../src/lib/clock.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import type { StoreCapabilities } from "../../../src/store/store.ts";
import { craftImage, HOME_BLOCKS, JournalBuilder, runsOf } from "../../support/crafted-log.ts";
import { openWorld, recoveredCopy } from "../../support/journal-workload.ts";

const BLOCK = 4096;
const V3 = { blockBytes: BLOCK, is64Bit: true, checksumVersion: 3 } as const;

/** A disk in memory that keeps account, and fails or holds back what it is told to. */
class TracedDisk extends MemoryStore {
  readonly trace: string[] = [];
  /** Called before each write or flush with its name, as in `trace`; it may throw its error. */
  before: (what: string) => Promise<void> | void = () => undefined;

  override readonly capabilities: StoreCapabilities = {
    canWrite: true,
    canDiscard: true,
    hasFua: true,
    stableWrites: false,
    hasVolatileCache: true,
    blockBytes: 512,
  };

  override async write(...args: Parameters<MemoryStore["write"]>): Promise<void> {
    const [offsetBytes, from, options] = args;
    const parts = from instanceof Uint8Array ? [from] : from;
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const first = Math.floor(offsetBytes / BLOCK);
    const place = first < HOME_BLOCKS ? `home ${first}` : `log ${first - HOME_BLOCKS}`;
    const what = `${place} x${Math.ceil(bytes / BLOCK)}${options?.fua === true ? " fua" : ""}`;
    this.trace.push(what);
    await this.before(what);
    await super.write(...args);
  }

  override async flush(): Promise<void> {
    this.trace.push("flush");
    await this.before("flush");
    await super.flush();
  }
}

let clock: VirtualClock;
let log: JournalBuilder;
let image: Uint8Array;
let disk: TracedDisk;
let device: StoreBlockDevice;
let metadata: Metadata;
let transactions: ExtTransactions;
beforeEach(async () => {
  clock = new VirtualClock();
  log = new JournalBuilder({ start: 0, sequence: 1 });
  image = craftImage(log, {}, runsOf(log, {}));
  disk = new TracedDisk(image);
  ({ transactions, device, metadata } = await openWorld(disk, image, log, clock));
});

function set(blocknr: number, value: number): (handle: Handle) => void {
  return (handle) => void handle.write(blocknr).fill(value);
}

function logBlock(journalBlock: number): Uint8Array {
  return image.subarray((HOME_BLOCKS + journalBlock) * BLOCK).subarray(0, BLOCK);
}

function superblockWord(field: number): number {
  return be32(logBlock(0), field);
}

async function settle(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await clock.turn();
}

describe("commit", () => {
  test("J83 one change costs the log in one write, a flush, and the commit block with FUA", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    // The first one says where the log begins: before the flush, like the copies.
    expect(disk.trace).toEqual(["log 1 x2", "log 0 x1", "flush", "log 3 x1 fua"]);
    disk.trace.length = 0;
    await transactions.run(set(25, 2));
    await transactions.run(set(26, 2));
    await transactions.commit();
    expect(disk.trace).toEqual(["log 4 x3", "flush", "log 7 x1 fua"]);
    expect(image[25 * BLOCK + 8]).not.toBe(2);
  });

  test("J83 ordered data is on its way before the flush, and nothing is told before the end", async () => {
    let end = (): void => undefined;
    const told: string[] = [];
    await transactions.run((handle) => {
      handle.write(25).fill(1);
      end = handle.orderIo();
      handle.onCommit(() => told.push("durable"));
    });
    const committing = Promise.resolve(transactions.commit()).then(() => told.push("acknowledged"));
    await settle();
    expect(disk.trace).not.toContain("flush");
    disk.before = () => void expect(told).toEqual([]);
    end();
    await committing;
    expect(told).toEqual(["durable", "acknowledged"]);
  });

  test("J89 in writeback mode a commit does not wait for data", async () => {
    const recovered = await openWorld(disk, image, log, clock, false);
    await recovered.transactions.run((handle) => {
      handle.write(25).fill(1);
      handle.orderIo();
    });
    await recovered.transactions.commit();
    expect((await recoveredCopy(image, log))[25 * BLOCK]).toBe(1);
  });

  test("J81 a block that changes while it is committed is logged as it was, then as it is", async () => {
    await transactions.run(set(25, 1));
    let release = (): void => undefined;
    disk.before = (what) =>
      what.startsWith("log 1") ? new Promise((resolve) => (release = resolve)) : undefined;
    const first = transactions.commit();
    await settle();
    await transactions.run(set(25, 2));
    disk.before = () => undefined;
    release();
    await first;
    expect(logBlock(2)[100]).toBe(1);
    const [tag] = decodeTags(logBlock(1), V3);
    expect(tag?.checksum).toBe(copyChecksum(log.seed, 2, logBlock(2)));
    await transactions.commit();
    expect(logBlock(5)[100]).toBe(2);
    expect((await recoveredCopy(image, log))[25 * BLOCK]).toBe(2);
  });

  test("J93 twenty callers share one commit, those who come later another", async () => {
    await transactions.run(set(25, 1));
    const calls = Array.from({ length: 20 }, async (_, n) => {
      await transactions.run(set(26, n));
      await transactions.commit();
    });
    await Promise.all(calls);
    expect(disk.trace.filter((what) => what === "flush").length).toBeLessThanOrEqual(2);
    disk.trace.length = 0;
    await transactions.commit();
    expect(disk.trace).toEqual([]);
  });

  test("J47 a block that is freed and taken again in one transaction is not revoked", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    await transactions.run((handle) => handle.forget(25, 1));
    await transactions.run((handle) => void handle.create(25).fill(7));
    await transactions.commit();
    expect(decodeHeader(logBlock(4))).toEqual({ type: 1, tid: 3 });
    await transactions.run((handle) => handle.forget(25, 1));
    await transactions.commit();
    expect(decodeHeader(logBlock(7))).toEqual({ type: 5, tid: 4 });
    expect(decodeRevokes(logBlock(7), V3)).toEqual([25]);
  });

  test("a block is not revoked that was never in the log, nor one that was only changed", async () => {
    await transactions.run(set(25, 1));
    await transactions.run((handle) => handle.forget(25, 3));
    await transactions.run(set(30, 1));
    await transactions.commit();
    expect(decodeTags(logBlock(1), V3).map(({ blocknr }) => blocknr)).toEqual([30]);
    expect(decodeHeader(logBlock(3))).toEqual({ type: 2, tid: 2 });
  });

  test("J90 freed blocks are given back when durably free, not while homes are written", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    let release = (): void => undefined;
    disk.before = (what) =>
      what.startsWith("home 25") ? new Promise((resolve) => (release = resolve)) : undefined;
    const checkpoint = transactions.log.checkpoint();
    await settle();
    expect(disk.trace.at(-1)).toBe("home 25 x1");
    let isFree = false;
    await transactions.run((handle) => {
      handle.forget(25, 1);
      handle.onCommit(() => (isFree = true));
    });
    const committing = transactions.commit();
    await settle();
    expect(disk.trace.at(-1)).toMatch(/^log .* fua$/);
    expect(isFree).toBe(false);
    release();
    await Promise.all([committing, checkpoint]);
    expect(isFree).toBe(true);
  });

  test("J96 an idle transaction is committed after five seconds, and then there is no timer", async () => {
    await transactions.run(set(25, 1));
    await clock.advance(5000);
    await settle();
    expect(transactions.committedTid).toBe(2);
    expect(clock.pendingTimers).toBe(0);
    expect((await recoveredCopy(image, log))[25 * BLOCK]).toBe(1);
  });
});

describe("homes and the tail", () => {
  test("J96 close writes all home and leaves an empty log, with the next free id", async () => {
    await transactions.run(set(25, 1));
    await transactions.run(set(27, 1));
    await transactions.run(set(26, 1));
    await transactions.close();
    const from = disk.trace.indexOf("home 25 x3");
    expect(disk.trace.slice(from)).toEqual(["home 25 x3", "flush", "log 0 x1 fua"]);
    expect([superblockWord(JSB.s_start), superblockWord(JSB.s_sequence)]).toEqual([0, 3]);
    expect([25, 26, 27].map((block) => image[block * BLOCK])).toEqual([1, 1, 1]);
  });

  test("J96 what is committed while the log is emptied stays in it", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    let committing: Promise<unknown> = Promise.resolve();
    disk.before = async (what) => {
      if (what !== "flush" || disk.trace.at(-2) !== "home 25 x1") return;
      await transactions.run(set(26, 2));
      committing = Promise.resolve(transactions.commit());
      await settle();
    };
    await transactions.flush();
    await committing;
    expect((await recoveredCopy(image, log))[26 * BLOCK]).toBe(2);
    await transactions.flush();
    expect(superblockWord(JSB.s_start)).toBe(0);
    expect([25, 26].map((block) => image[block * BLOCK])).toEqual([1, 2]);
  });

  test("J97 opening writes nothing, and an open without a change leaves the log as it was", async () => {
    const before = image.slice();
    expect(disk.trace).toEqual([]);
    await transactions.close();
    expect(disk.trace).toEqual([]);
    expect(Buffer.compare(before, image)).toBe(0);
  });

  test("J82 a block that has changed since is not written home before it is committed", async () => {
    await transactions.run(set(25, 1));
    await transactions.run(set(26, 1));
    await transactions.commit();
    await transactions.run(set(25, 2));
    await transactions.log.checkpoint();
    expect(disk.trace.filter((what) => what.startsWith("home"))).toEqual(["home 26 x1"]);
    expect(superblockWord(JSB.s_start)).toBe(1);
    await transactions.flush();
    expect(image[25 * BLOCK]).toBe(2);
  });

  test("J92 an operation too large for a transaction changes nothing", async () => {
    const tooLarge = (handle: Handle): void => {
      for (let block = 1; block < HOME_BLOCKS; block++) handle.write(block).fill(9);
    };
    const before = image.slice();
    await expect(async () => transactions.run(tooLarge)).rejects.toMatchObject({ code: "ENOSPC" });
    await transactions.flush();
    expect(
      Buffer.compare(
        before.subarray(0, HOME_BLOCKS * BLOCK),
        image.subarray(0, HOME_BLOCKS * BLOCK),
      ),
    ).toBe(0);
  });

  test("J92 long work in steps uses the room it is told of, over several transactions", async () => {
    let next = 10;
    while (next < HOME_BLOCKS) {
      await transactions.run((handle) => {
        const from = next;
        handle.undo(() => (next = from));
        while (next < HOME_BLOCKS && handle.roomBlocks > 1) handle.write(next++).fill(3);
      });
    }
    expect(transactions.runningTid).toBeGreaterThan(3);
    await transactions.close();
    for (let block = 10; block < HOME_BLOCKS; block++) expect(image[block * BLOCK]).toBe(3);
  });

  test("where an operation finds no memory, blocks that are not home go there", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    await transactions.run(set(40, 1));
    const { cache } = metadata.buffers.mapping;
    const taken: Folio[] = []; // The rest of the memory is in other hands.
    for (let folio: Folio | null = null; ; taken.push(folio)) {
      folio = cache.allocFolioForWriteback(0);
      if (folio === null) break;
    }
    await transactions.run(set(60, 1));
    expect([25, 40].map((block) => image[block * BLOCK])).toEqual([1, 1]);
    for (const folio of taken) folio.put();
    await transactions.close();
    expect(image[60 * BLOCK]).toBe(1);
    expect(cache.lockedCount).toBe(0);
  });

  test("blocks that are not home are at most an eighth of the arena", async () => {
    const { cache } = metadata.buffers.mapping;
    for (let round = 0; round < 40; round++) {
      for (let block = 10; block < 190; block += 6)
        await transactions.run(set(block + (round % 6), round));
      let held = 0;
      for (let block = 0; block < HOME_BLOCKS; block++) {
        if (metadata.buffers.peek(block)?.isBusy === true) held++;
      }
      expect(held).toBeLessThanOrEqual(cache.arena.frameCount / 8);
    }
  });
});

test("what is abandoned is not written, and leaves the cache", async () => {
  await transactions.run(set(25, 1));
  transactions.abandon();
  expect([disk.trace, clock.pendingTimers]).toEqual([[], 0]);
  expect(metadata.buffers.peek(25)?.isBusy).toBe(false);
  await transactions.close();
  expect(disk.trace).toEqual([]);
});

describe("failure", () => {
  const fail = (part: string) => (what: string) => {
    if (what.includes(part)) throw new FsError("EIO");
  };

  test("J94 a failed write of the log ends all writing; what was committed is recovered", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    disk.before = fail("log 4");
    await transactions.run(set(25, 2));
    await transactions.run(set(26, 2));
    await expect(transactions.commit()).rejects.toMatchObject({ code: "EIO" });
    disk.before = () => undefined;
    expect(transactions.failure).toMatchObject({ code: "EIO" });
    expect(() => transactions.run(set(27, 3))).toThrow(/EROFS/);
    expect(() => transactions.commit(9)).toThrow(/EROFS/);
    expect(metadata.block(25)[0]).toBe(2);
    expect(superblockWord(JSB.s_errno)).toBe(0xffff_fffb);
    disk.trace.length = 0;
    await expect(transactions.close()).rejects.toMatchObject({ code: "EROFS" });
    expect(disk.trace).toEqual([]);
    const recovered = await recoveredCopy(image, log);
    expect([recovered[25 * BLOCK], recovered[26 * BLOCK + 8]]).toEqual([1, image[26 * BLOCK + 8]]);
  });

  test("J94 so does a failed flush, and a failed commit block", async () => {
    disk.before = fail("flush");
    await transactions.run(set(25, 2));
    await expect(transactions.commit()).rejects.toMatchObject({ code: "EIO" });
    expect(disk.trace.filter((what) => what.includes("fua") && !what.startsWith("log 0"))).toEqual(
      [],
    );
  });

  test("J95 a failed home write leaves the tail where it is", async () => {
    await transactions.run(set(25, 1));
    await transactions.commit();
    disk.before = fail("home 25");
    await expect(transactions.flush()).rejects.toMatchObject({ code: "EIO" });
    disk.before = () => undefined;
    expect(superblockWord(JSB.s_start)).toBe(1);
    expect(() => transactions.run(set(27, 3))).toThrow(/EROFS/);
    expect((await recoveredCopy(image, log))[25 * BLOCK]).toBe(1);
  });

  test("what a summary throws fails the commit, and the next one tries again", async () => {
    let isBroken = true;
    transactions.beforeCommit(() => {
      if (isBroken) throw new FsError("EUCLEAN");
    });
    await transactions.run(set(25, 1));
    await expect(transactions.commit()).rejects.toMatchObject({ code: "EUCLEAN" });
    await clock.advance(5000); // In vain, too.
    isBroken = false;
    await clock.advance(5000);
    await settle();
    expect(transactions.committedTid).toBe(2);
    expect((await recoveredCopy(image, log))[25 * BLOCK]).toBe(1);
    expect(device.isReadOnly).toBe(false);
  });
});
