/**
 * Cases I133 and I134: what JavaScript adds. No promise where none is needed, and no burst of
 * completions that keeps the loop from turning.
 */
import { createHook } from "node:async_hooks";
import { expect, test } from "vitest";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import { filemapRead, IOCB_NOIO, IOCB_NOWAIT } from "../../../src/cache/filemap.ts";
import { realClock, VirtualClock } from "../../../src/lib/clock.ts";
import { EAGAIN } from "../../../src/lib/errno.ts";
import { CompletionQueue, FOLIOS_PER_TURN } from "../../../src/mapping/completion.ts";
import { iomapReadFolio } from "../../../src/mapping/iomap/buffered-read.ts";
import { iomapSeekData } from "../../../src/mapping/iomap/seek.ts";
import { H, M, range, ScriptFs, U } from "../../support/script-fs.ts";

/** Number of promises made while `run` runs, which is synchronous. */
function promisesOf(run: () => void): number {
  let count = 0;
  const hook = createHook({
    init: (_id, type) => {
      if (type === "PROMISE") count++;
    },
  });
  hook.enable();
  run();
  hook.disable();
  return count;
}

test("I133 counting promises counts them", () => {
  expect(promisesOf(() => void Promise.resolve(1).then(() => {}))).toBe(2);
});

test("I133 a cached range is read at once and without a promise, a missing block is EAGAIN", () => {
  const fs = new ScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  for (const posBytes of [0, 16384]) {
    const folio = fs.addFolio(posBytes);
    fs.fillBlocks(folio, range(0, 15), 0x55);
    folio.unlock();
  }
  const flags = IOCB_NOWAIT | IOCB_NOIO;
  const iocb = { file: openCacheFile(fs.mapping), posBytes: 100, flags };
  const into = new Uint8Array(30000);
  let result: unknown;
  expect(promisesOf(() => (result = filemapRead(iocb, into)))).toBe(0);
  expect(result).toBe(30000);

  const holey = new ScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  const folio = holey.addFolio(0);
  holey.fillBlocks(folio, range(0, 14), 0x55);
  folio.unlock();
  const other = { file: openCacheFile(holey.mapping), posBytes: 100, flags };
  expect(promisesOf(() => (result = filemapRead(other, into)))).toBe(0);
  expect(result).toBe(-EAGAIN);
  expect(holey.requests).toEqual([]);
});

test("I133 begin that answers at once costs no promise, in a read and in a seek", () => {
  const fs = new ScriptFs([M(0, 4096), H(4096, 8192), U(8192, 12288), M(12288, 16384)], {
    sizeBytes: 16384,
  });
  const folio = fs.addFolio(0);
  expect(promisesOf(() => void iomapReadFolio(folio, fs))).toBe(0);
  expect(promisesOf(() => void iomapSeekData(fs.inode, fs.mapping, 0, fs))).toBe(0);
  expect(fs.requests.length).toBe(2);
});

test("I134 of 100 000 completions at once at most 4096 are done in one turn", async () => {
  const clock = new VirtualClock();
  const queue = new CompletionQueue(clock);
  let doneInTurn = 0;
  let maxInTurn = 0;
  let turn = 0;
  const order: number[] = [];
  for (let at = 0; at < 100_000; at++) {
    queue.add(() => {
      if (turn !== clock.turnCount) doneInTurn = 0;
      turn = clock.turnCount;
      maxInTurn = Math.max(maxInTurn, ++doneInTurn);
      order.push(at);
    }, 1);
  }
  while (order.length < 100_000) await realClock.turn();
  expect(order.length).toBe(100_000);
  expect(order.every((value, at) => value === at)).toBe(true);
  expect(maxInTurn).toBeLessThanOrEqual(4096);
  expect(clock.turnCount).toBe(Math.floor(100_000 / 4096));
});

test("I134 completions that take time yield every 5 ms of it", async () => {
  const clock = new VirtualClock();
  const queue = new CompletionQueue(clock);
  let done = 0;
  for (let at = 0; at < 100; at++) {
    queue.add(() => {
      clock.spend(1);
      done++;
    }, 1);
  }
  expect(done).toBe(5);
  while (done < 100) await realClock.turn();
  expect(done).toBe(100);
  expect(clock.turnCount).toBe(20);
});

test("I134 reads of more folios than a turn takes are completed over several turns", async () => {
  const folioCount = 2 * FOLIOS_PER_TURN;
  const sizeBytes = folioCount * 4096;
  const fs = new ScriptFs([M(0, sizeBytes)], {
    sizeBytes,
    order: 0,
    arenaBytes: sizeBytes + 1024 * 1024,
  });
  fs.device.isHeld = true;
  const folios = range(0, folioCount - 1).map((index) => fs.addFolio(index * 4096));
  for (const folio of folios) void iomapReadFolio(folio, fs);
  const turnsBefore = fs.clock.turnCount;
  fs.device.completeAll();
  expect(folios.filter((folio) => folio.isUptodate).length).toBe(FOLIOS_PER_TURN);
  while (fs.cache.lockedCount > 0) await realClock.turn();
  expect(folios.every((folio) => folio.isUptodate)).toBe(true);
  expect(fs.clock.turnCount - turnsBefore).toBe(2);
});
