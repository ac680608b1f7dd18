import { beforeEach, describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import { FsError } from "../../lib/errno.ts";
import { BlockMiss, type BlockVerifier, NEEDS_IO } from "./metadata.ts";

const SB_1K = superblockWith();
let test: TestCore;
beforeEach(() => {
  test = makeTestCore(SB_1K);
  for (let block = 0; block < 64; block++) test.block(100 + block).fill(block);
});

/** Sums the first bytes of these blocks, asking for one after the other. */
function sumOf(blocks: readonly number[]): () => number {
  return () => blocks.reduce((sum, block) => sum + test.core.metadata.block(block)[0]!, 0);
}

describe("run", () => {
  it("reads what is missing, once, and then needs no promise", async () => {
    const { metadata } = test.core;
    const blocks = [101, 140, 103, 140];
    const first = metadata.run(sumOf(blocks));
    expect(first).toBeInstanceOf(Promise);
    expect(await first).toBe(1 + 40 + 3 + 40);
    expect(test.store.reads).toBe(3);
    expect(metadata.run(sumOf(blocks))).toBe(84);
  });

  it("passes on what the function throws", async () => {
    const { metadata } = test.core;
    const fail = (): never => {
      metadata.block(105);
      throw new FsError("EUCLEAN");
    };
    await expect(Promise.resolve(metadata.run(fail))).rejects.toMatchObject({ code: "EUCLEAN" });
    expect(() => metadata.run(fail)).toThrow(/EUCLEAN/);
  });

  it("refuses blocks outside the file system before anything is read", () => {
    const { metadata } = test.core;
    for (const block of [-1, 16384, 2 ** 40, Number.NaN]) {
      expect(() => metadata.run(() => metadata.block(block))).toThrow(/EUCLEAN.*outside/);
    }
    expect(test.store.reads).toBe(0);
  });

  it("stops when the signal is aborted", async () => {
    const controller = new AbortController();
    const running = Promise.resolve(test.core.metadata.run(sumOf([110, 111]), controller.signal));
    controller.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
  });

  it("goes on where many at once want more than there is memory for", async () => {
    const { metadata } = test.core;
    const blocksOf = (run: number): number[] =>
      Array.from({ length: 30 }, (_, at) => (run * 30 + at) * 4 + 1);
    for (let run = 0; run < 80; run++)
      for (const block of blocksOf(run)) test.block(block)[0] = run;
    const runs = Array.from({ length: 80 }, (_, run) => metadata.run(sumOf(blocksOf(run))));
    expect(await Promise.all(runs)).toEqual(runs.map((_, run) => run * 30));
    expect(test.cache.lockedCount).toBe(0);
    await metadata.buffers.close();
    expect(test.cache.stats().freeFrames).toBe(test.cache.stats().frameCount);
  });

  it("holds no block while it waits for memory that others hold, who wait too", async () => {
    const { metadata } = test.core;
    const blocksOf = (run: number): number[] =>
      Array.from({ length: 30 }, (_, at) => (run * 30 + at) * 4 + 1);
    // Of some file, from a store that takes its time: so there is hope for memory all the while.
    test.cache.readStarted();
    const runs = Array.from({ length: 80 }, (_, run) => metadata.run(sumOf(blocksOf(run))));
    await Promise.all(runs);
    test.cache.readEnded();
    expect(test.cache.memoryWaiterCount).toBe(0);
  }, 5000);

  it("ends when a function asks for blocks without end", async () => {
    const { metadata } = test.core;
    let asked = 0;
    const endless = (): never => {
      throw new BlockMiss(100 + (asked++ % 64), 100, 1);
    };
    await expect(Promise.resolve(metadata.run(endless))).rejects.toThrow(/EUCLEAN.*endless/);
  });

  it("walks more blocks than it may hold at a time", async () => {
    const blocks = Array.from({ length: 400 }, (_, at) => 1000 + at);
    expect(await test.core.metadata.run(sumOf(blocks))).toBe(0);
    test.cache.verify();
  });
});

describe("trySync", () => {
  it("says that it would have to read, and reads nothing", async () => {
    const { metadata } = test.core;
    expect(metadata.trySync(sumOf([107]))).toBe(NEEDS_IO);
    expect(test.store.reads).toBe(0);
    await metadata.run(sumOf([107]));
    expect(metadata.trySync(sumOf([107]))).toBe(7);
  });
});

describe("verified", () => {
  it("judges a block once, and again for another verifier", async () => {
    const { metadata } = test.core;
    const judged: string[] = [];
    const one: BlockVerifier<string> = (_data, blocknr, arg) =>
      judged.push(`one ${blocknr} ${arg}`);
    const two: BlockVerifier<string> = (_data, blocknr, arg) =>
      judged.push(`two ${blocknr} ${arg}`);
    for (const arg of ["a", "b"]) await metadata.run(() => metadata.verified(120, one, arg));
    metadata.verified(120, two, "c");
    expect(judged).toEqual(["one 120 a", "two 120 c"]);
  });

  it("hands no block out that was refused", async () => {
    const { metadata } = test.core;
    const refuse = (): never => {
      throw new FsError("EBADMSG");
    };
    const read = (): Uint8Array => metadata.verified(121, refuse, undefined);
    await expect(Promise.resolve(metadata.run(read))).rejects.toMatchObject({ code: "EBADMSG" });
    expect(read).toThrow(/EBADMSG/);
  });

  it("reads the blocks that will be wanted next in the same request", async () => {
    const { metadata } = test.core;
    const accept = (): void => {};
    await metadata.run(() => metadata.verified(130, accept, undefined, 8, 128));
    expect(test.store.reads).toBe(1);
    expect(test.store.readBytes).toBe(8 * 1024);
    await metadata.run(sumOf([128, 129, 135]));
    expect(test.store.reads).toBe(1);
  });
});
