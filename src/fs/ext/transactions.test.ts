import { beforeEach, describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import { VirtualClock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import { DirectLog } from "./direct-log.ts";
import { FixedBlocks } from "./fixed-blocks.ts";
import type { Handle } from "./handle.ts";
import type { BlockTable } from "./transaction.ts";
import { ExtTransactions } from "./transactions.ts";

const SB_1K = superblockWith();
let test: TestCore;
let clock: VirtualClock;
let transactions: ExtTransactions;
beforeEach(() => {
  test = makeTestCore(SB_1K);
  clock = new VirtualClock();
  for (let block = 0; block < 64; block++) test.block(100 + block).fill(block);
  const { metadata, bdev } = test.core;
  const fixed = async (): Promise<FixedBlocks> => new FixedBlocks([[0, 110]]);
  const makeLog = (table: BlockTable): DirectLog => new DirectLog(bdev, table, 1024, fixed);
  transactions = new ExtTransactions({ metadata, clock, makeLog });
});

/** Adds one to the first byte of each of the blocks. */
function count(...blocks: readonly number[]): (handle: Handle) => number {
  return (handle) => {
    for (const block of blocks) handle.write(block)[0]!++;
    return blocks.length;
  };
}

describe("run", () => {
  it("runs again with the block that was missing, and counts once", async () => {
    const running = transactions.run(count(101, 102, 103));
    expect(running).toBeInstanceOf(Promise);
    expect(await running).toBe(3);
    const { metadata } = test.core;
    expect([101, 102, 103].map((block) => metadata.block(block)[0])).toEqual([2, 3, 4]);
    expect(transactions.run(count(101, 102))).toBe(2);
    expect(test.block(101)[0]).toBe(1);
    await transactions.commit();
    expect([101, 102, 103].map((block) => test.block(block)[0])).toEqual([3, 4, 4]);
  });

  it("takes an operation that fails back, in blocks and in memory", async () => {
    await transactions.run(count(101, 102));
    let inMemory = 7;
    const failing = (handle: Handle): void => {
      count(101, 102)(handle);
      inMemory = 8;
      handle.undo(() => (inMemory = 7));
      handle.create(110).fill(9);
      handle.forget(102, 1);
      throw new FsError("ENOSPC");
    };
    await expect(async () => transactions.run(failing)).rejects.toMatchObject({ code: "ENOSPC" });
    expect(inMemory).toBe(7);
    expect(test.core.metadata.block(101)[0]).toBe(2);
    await transactions.commit();
    expect([101, 102, 110].map((block) => test.block(block)[0])).toEqual([2, 3, 10]);
  });

  it("takes back as well what was done when a block is missed at the end", async () => {
    const restored: string[] = [];
    await transactions.run((handle) => {
      handle.write(101)[0]!++;
      handle.undo(() => restored.push("first"));
      handle.undo(() => restored.push("second"));
      handle.atEnd(() => void handle.write(140)[0]!++);
    });
    // Once for block 101 nothing had been done yet, once for 140 all had.
    expect(restored).toEqual(["second", "first"]);
    await transactions.commit();
    expect([test.block(101)[0], test.block(140)[0]]).toEqual([2, 41]);
  });

  it("refuses to change a block that it has freed: only a damaged image leads there", () => {
    const twice = (handle: Handle): void => {
      handle.forget(100, 8);
      handle.write(103);
    };
    expect(() => transactions.run(twice)).toThrow(/EUCLEAN.*103/);
  });

  it("refuses a block outside the file system", () => {
    expect(() => transactions.run((handle) => handle.write(2 ** 40))).toThrow(/EUCLEAN/);
    expect(() => transactions.run((handle) => handle.create(-1))).toThrow(/EUCLEAN/);
  });
});

describe("commit", () => {
  it("seals what changed, in the cache and on disk, once", async () => {
    let sealed = 0;
    const seal = (block: Uint8Array, blocknr: number): void => {
      sealed++;
      block[1023] = blocknr;
    };
    await transactions.run((handle) => void handle.write(101, seal)[0]!++);
    await transactions.run((handle) => void handle.write(101)[0]!++);
    await transactions.commit();
    expect(sealed).toBe(1);
    expect(test.block(101)[1023]).toBe(101);
    expect(test.core.metadata.block(101)[1023]).toBe(101);
  });

  it("calls back what waits for it, never what was taken back", async () => {
    const told: string[] = [];
    await transactions.run((handle) => {
      handle.write(101);
      handle.onCommit(() => told.push("done"));
    });
    const fail = (handle: Handle): never => {
      handle.onCommit(() => told.push("never"));
      throw new FsError("ENOSPC");
    };
    expect(() => transactions.run(fail)).toThrow(/ENOSPC/);
    expect(told).toEqual([]);
    await transactions.commit();
    expect(told).toEqual(["done"]);
  });

  it("waits for ordered data before anything is written", async () => {
    let end = (): void => undefined;
    await transactions.run((handle) => {
      handle.write(101)[0] = 77;
      end = handle.orderIo();
    });
    const committing = transactions.commit();
    for (let turns = 0; turns < 5; turns++) await clock.turn();
    expect(test.block(101)[0]).toBe(1);
    end();
    await committing;
    expect(test.block(101)[0]).toBe(77);
  });

  it("is shared by all who ask for it at once", async () => {
    await transactions.run(count(101));
    await Promise.all(Array.from({ length: 20 }, () => transactions.commit()));
    expect(transactions.committedTid).toBe(1);
    expect(transactions.runningTid).toBe(2);
    expect(transactions.commit()).toBeUndefined();
  });

  it("leaves out no operation that came before the call", async () => {
    await transactions.run(count(101));
    const first = transactions.commit();
    await clock.turn();
    await transactions.run(count(101));
    await transactions.commit();
    expect(test.block(101)[0]).toBe(3);
    await first;
  });

  it("lets summaries be written first, as part of the transaction", async () => {
    transactions.beforeCommit((handle) => void handle.write(150).fill(5));
    await transactions.run(count(101));
    await transactions.commit();
    expect(test.block(150)[0]).toBe(5);
  });

  it("comes by itself after five seconds, and there is no timer when nothing runs", async () => {
    expect(clock.pendingTimers).toBe(0);
    await transactions.run(count(101));
    expect(clock.pendingTimers).toBe(1);
    await clock.advance(4999);
    expect(transactions.committedTid).toBe(0);
    await clock.advance(1);
    while (transactions.committedTid === 0) await clock.turn();
    expect(test.block(101)[0]).toBe(2);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe("close", () => {
  it("commits and gives all blocks back", async () => {
    await transactions.run(count(101, 102));
    await transactions.close();
    expect(test.block(102)[0]).toBe(3);
    await test.core.close();
    expect(test.cache.stats().cachedPages).toBe(0);
  });
});
