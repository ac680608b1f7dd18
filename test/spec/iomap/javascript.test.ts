/**
 * Cases I132 to I134 and I136: what JavaScript adds. No promise where none is needed, no burst of
 * completions that keeps the loop from turning, no rejection that nobody hears.
 */
import { createHook } from "node:async_hooks";
import { expect, test } from "vitest";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import { filemapRead, IOCB_NOIO, IOCB_NOWAIT } from "../../../src/cache/filemap.ts";
import { realClock, VirtualClock } from "../../../src/lib/clock.ts";
import { EAGAIN, EIO } from "../../../src/lib/errno.ts";
import { CompletionQueue, FOLIOS_PER_TURN } from "../../../src/mapping/completion.ts";
import { iomapReadFolio } from "../../../src/mapping/iomap/buffered-read.ts";
import { iomapFileBufferedWrite } from "../../../src/mapping/iomap/buffered-write.ts";
import { IOMAP_MAPPED } from "../../../src/mapping/iomap/iomap.ts";
import { iomapSeekData } from "../../../src/mapping/iomap/seek.ts";
import { iomapAddToIoend } from "../../../src/mapping/iomap/submit-ioend.ts";
import type { IomapWriteSource } from "../../../src/mapping/iomap/write-ops.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { H, M, range, ScriptFs, U } from "../../support/script-fs.ts";
import { withExactArenas } from "../../support/small-arena.ts";
import { WrittenScriptFs } from "../../support/written-script-fs.ts";

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
  withExactArenas(); // So many folios at a time do not fit into a small one.
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

test("I132 a source may read the file that it is written to", async () => {
  const fs = new WrittenScriptFs([M(0, 32768)], { sizeBytes: 32768 });
  const expected = fs.expected(16384, 32768);
  // A stream of what the file has farther on, pulled piece by piece.
  const stream = (async function* () {
    for (let posBytes = 16384; posBytes < 32768; posBytes += 1000) {
      // Byte 0 lies in the folio that is about to be written.
      await fs.read(0, 10);
      yield await fs.read(posBytes, Math.min(1000, 32768 - posBytes));
    }
  })();
  const bytes: number[] = [];
  const source: IomapWriteSource = {
    lengthBytes: 16384,
    async prepare(fromBytes, wantedBytes) {
      while (bytes.length < fromBytes + wantedBytes) {
        const next = await stream.next();
        if (next.done === true) break;
        bytes.push(...next.value);
      }
      return bytes.length - fromBytes;
    },
    copy(fromBytes, into) {
      const ready = bytes.slice(fromBytes, fromBytes + into.length);
      into.set(ready);
      return ready.length;
    },
  };
  expect(await fs.write(0, source)).toBe(16384);
  expect(await fs.read(0, 16384)).toEqual(expected);
});

test("I133 overwriting what is cached makes no promise, and nothing per folio but a view", async () => {
  const sizeBytes = 64 * 4096;
  const fs = new WrittenScriptFs([M(0, sizeBytes)], { sizeBytes, order: 0 });
  await fs.read(0, sizeBytes);
  const bytes = new Uint8Array(sizeBytes - 200).fill(5);
  const iocb = { file: fs.file, posBytes: 100, flags: 0 };
  let result: unknown;
  const write = (): void => {
    iocb.posBytes = 100;
    result = iomapFileBufferedWrite(iocb, bytes, fs, fs.writeOps);
  };
  expect(promisesOf(write)).toBe(0);
  expect(result).toBe(bytes.length);
  expect(iocb.posBytes).toBe(sizeBytes - 100);
});

test("I136 a completion that throws is noted in the file, and no rejection goes unhandled", async () => {
  const fs = new WrittenScriptFs([U(0, 16384)], { sizeBytes: 16384 });
  const unhandled: unknown[] = [];
  const onUnhandled = (reason: unknown): number => unhandled.push(reason);
  process.on("unhandledRejection", onUnhandled);
  fs.onConvert = () => {
    throw new TypeError("the completion has a bug");
  };
  await fs.fillFile(0, 1024);
  expect(await fs.fsync()).toBe(-EIO);
  expect(await fs.fsync()).toBe(0);
  await fs.settle();
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled).toEqual([]);
  expect(fs.mapping.writeFailure).toMatchObject({ cause: expect.any(TypeError) });
});

test("I136 a store that throws in the middle of a write is EIO for fsync", async () => {
  const clock = new VirtualClock();
  const store = new MemoryStore(1048576);
  store.write = () => {
    throw new TypeError("no store");
  };
  const device = new StoreBlockDevice(store, { clock });
  const fs = new WrittenScriptFs([M(0, 16384, 0)], { sizeBytes: 16384 });
  fs.onRange = ({ wpc, folio, posBytes, lengthBytes }) => {
    Object.assign(wpc.iomap, {
      type: IOMAP_MAPPED,
      lengthBytes: 16384,
      addrBytes: 0,
      bdev: device,
    });
    return iomapAddToIoend(wpc, folio, posBytes, 16384, lengthBytes);
  };
  await fs.fillFile(0, 16384);
  expect(await fs.fsync()).toBe(-EIO);
  expect(await fs.fsync()).toBe(0);
});
