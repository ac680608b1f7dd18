import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RecordingDevice } from "../../test/support/recording-device.ts";
import { runs } from "../../test/support/runs.ts";
import { withExactArenas } from "../../test/support/small-arena.ts";
import { StoreBlockDevice } from "../block/block-device.ts";
import { openCacheFile } from "../cache/cache-file.ts";
import { filemapRead } from "../cache/filemap.ts";
import type { Folio } from "../cache/folio.ts";
import { PageCache } from "../cache/page-cache.ts";
import { invalidateMappingPages } from "../cache/truncate.ts";
import { assert } from "../lib/assert.ts";
import { equalBytes } from "../lib/bytes.ts";
import { realClock, VirtualClock } from "../lib/clock.ts";
import { isPromise } from "../lib/maybe.ts";
import { Random } from "../lib/random.ts";
import { KIB, MIB } from "../lib/units.ts";
import { INDEX_MAX } from "../lib/xarray.ts";
import { FaultyStore } from "../store/faulty-store.ts";
import { MemoryStore } from "../store/memory-store.ts";
import type { BufferHead } from "./buffer.ts";
import { BufferCache } from "./buffer-cache.ts";

interface RigOptions {
  readonly blockBytes?: number;
  readonly deviceBytes?: number;
  readonly arenaBytes?: number;
}

/** A device of random bytes with its buffers. */
function rig(options: RigOptions = {}) {
  const { blockBytes = KIB, deviceBytes = MIB, arenaBytes = 4 * MIB } = options;
  const clock = new VirtualClock();
  const memory = new MemoryStore(new Random(7).bytes(deviceBytes));
  const store = new FaultyStore(memory, { clock });
  const inner = new StoreBlockDevice(store, { clock });
  const device = new RecordingDevice(inner, blockBytes);
  const cache = new PageCache({ clock, arenaBytes });
  const buffers = new BufferCache(cache, device, blockBytes);
  const dropAll = () => invalidateMappingPages(buffers.mapping, 0, INDEX_MAX);
  const content = (blocknr: number) =>
    memory.bytes.subarray(blocknr * blockBytes, (blocknr + 1) * blockBytes);
  return { clock, memory, store, inner, device, cache, buffers, dropAll, content };
}

describe("bread", () => {
  test("reads the asked block only, and has it afterwards without a promise", async () => {
    const { buffers, device, content } = rig();
    expect(buffers.peek(5)).toBeUndefined();
    const reading = buffers.bread(5);
    expect(isPromise(reading)).toBe(true);
    const buffer = await reading;
    expect(device.bios).toEqual(["R[5]M"]);
    expect(buffer.blocknr).toBe(5);
    expect(buffer.data).toEqual(content(5));
    expect(buffers.peek(5)).toBe(buffer);
    expect(buffers.peek(4)).toBeUndefined();
    expect(buffers.bread(5)).toBe(buffer);
    expect(device.bios.length).toBe(1);
  });

  test("of one block at the same time reads it once", async () => {
    const { buffers, device } = rig();
    const [first, second] = await Promise.all([buffers.bread(9), buffers.bread(9)]);
    expect(first).toBe(second);
    expect(device.bios).toEqual(["R[9]M"]);
  });

  test("of neighbours at the same time is one request", async () => {
    const { buffers, device } = rig();
    await Promise.all([buffers.bread(11), buffers.bread(9), buffers.bread(10)]);
    expect(device.requests).toEqual(["R[9-11]M"]);
  });

  test("of all blocks of a page makes the page readable without a read", async () => {
    const { buffers, device, content } = rig({ deviceBytes: 16 * KIB });
    for (const blocknr of [4, 5, 6, 7]) await buffers.bread(blocknr);
    expect(buffers.mapping.folioAt(1)?.isUptodate).toBe(true);
    const into = new Uint8Array(KIB);
    const file = openCacheFile(buffers.mapping);
    expect(filemapRead({ file, posBytes: 6 * KIB, flags: 0 }, into)).toBe(KIB);
    expect(into).toEqual(content(6));
    expect(device.bios.length).toBe(4);
  });

  test("that fails names the block, and the next one tries again", async () => {
    const { buffers, store, content } = rig();
    store.inject({ op: "read" });
    const failing = Promise.allSettled([buffers.bread(3), buffers.bread(3)]);
    for (const result of await failing) {
      assert(result.status === "rejected", "both hear of the one failure");
      expect(result.reason).toMatchObject({ code: "EIO" });
      expect(result.reason.message).toContain("block 3 of memory");
      expect(result.reason.cause).toMatchObject({ code: "EIO" });
    }
    expect(buffers.peek(3)).toBeUndefined();
    expect((await buffers.bread(3)).data).toEqual(content(3));
  });

  test("of a good block is not failed by a bad neighbour that was merged with it", async () => {
    const { buffers, device, store, content } = rig();
    store.inject({ startBytes: 10 * KIB, endBytes: 11 * KIB, calls: Infinity });
    const reading = [9, 10, 11].map(async (blocknr) => buffers.bread(blocknr));
    const [before, bad, behind] = await Promise.allSettled(reading);
    expect(device.requests[0]).toBe("R[9-11]M");
    expect(bad).toMatchObject({ status: "rejected", reason: { code: "EIO" } });
    expect(before).toMatchObject({ value: { data: content(9) } });
    expect(behind).toMatchObject({ value: { data: content(11) } });
  });

  test("of a block that the device does not have is an EIO", async () => {
    const { buffers, device } = rig({ blockBytes: 4 * KIB, deviceBytes: 8 * KIB + 512 });
    expect(buffers.blockCount).toBe(2);
    for (const blocknr of [2, -1, 0.5, Number.NaN, 2 ** 52]) {
      expect(buffers.peek(blocknr)).toBeUndefined();
      await expect(async () => buffers.bread(blocknr)).rejects.toMatchObject({ code: "EIO" });
    }
    expect(device.bios).toEqual([]);
  });

  test("reaches the last block of a device that ends within a page", async () => {
    const { buffers, content } = rig({ deviceBytes: 6 * KIB });
    expect(buffers.blockCount).toBe(6);
    expect((await buffers.bread(5)).data).toEqual(content(5));
    await expect(async () => buffers.bread(6)).rejects.toMatchObject({ code: "EIO" });
  });

  test("that is aborted ends with the signal's reason, and the read serves others", async () => {
    const { buffers, device, content } = rig();
    const controller = new AbortController();
    const reason = new Error("enough");
    const aborted = Promise.resolve(buffers.bread(2, controller.signal));
    const other = buffers.bread(2);
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    const buffer = await other;
    expect(buffer.data).toEqual(content(2));
    buffers.brelse(buffer);
    expect(buffer.isBusy).toBe(false);
    expect(device.bios.length).toBe(1);
    await expect(async () => buffers.bread(4, controller.signal)).rejects.toBe(reason);
  });

  test("without memory is an ENOMEM, and works again when buffers are given back", async () => {
    const { buffers } = rig({ blockBytes: 4 * KIB, deviceBytes: 8 * MIB });
    const held: BufferHead[] = [];
    const fill = async () => {
      for (;;) held.push(await buffers.bread(held.length));
    };
    await expect(fill()).rejects.toMatchObject({ code: "ENOMEM" });
    expect(held.length).toBeGreaterThan(500);
    buffers.brelse(held[0]!);
    await buffers.bread(held.length);
  });

  test("waits for memory that reads in flight will set free", async () => {
    const { buffers, cache, clock, store, content } = rig({
      blockBytes: 64 * KIB,
      deviceBytes: 8 * MIB,
    });
    store.inject({ op: "read", isHanging: true, calls: Infinity });
    const read = async (blocknr: number): Promise<boolean> => {
      const buffer = await buffers.bread(blocknr);
      const isEqual = equalBytes(buffer.data, content(blocknr));
      buffers.brelse(buffer);
      return isEqual;
    };
    const readings = Array.from({ length: 100 }, (_, blocknr) => read(blocknr));
    for (let turn = 0; turn < 3; turn++) await clock.turn();
    expect(cache.memoryWaiterCount).toBeGreaterThan(30);
    store.heal();
    expect((await Promise.all(readings)).every((isEqual) => isEqual)).toBe(true);
    expect([cache.lockedCount, clock.pendingTimers]).toEqual([0, 0]);
  });

  test("that waits for memory when the cache is closed ends", async () => {
    const { buffers, cache } = rig({ blockBytes: 4 * KIB, deviceBytes: 8 * MIB });
    const folios: Folio[] = [];
    const takeFolio = () => cache.allocFolioForWriteback(0);
    for (let next = takeFolio(); next !== null; next = takeFolio()) folios.push(next);
    const waiting = Promise.resolve(buffers.bread(1000));
    const closing = buffers.close();
    for (const folio of folios) folio.put();
    await expect(waiting).rejects.toMatchObject({ code: "EBADF" });
    await closing;
  });
});

test("with all memory dirty, bread takes from the reserve, but leaves half of it", async () => {
  const { buffers, cache } = rig({ blockBytes: 4 * KIB, deviceBytes: 8 * MIB });
  for (let next = cache.allocFolio(0); next !== null; next = cache.allocFolio(0));
  const { reserveFrames } = cache.arena;
  for (let blocknr = 0; cache.arena.freeFrames > reserveFrames / 2; blocknr++) {
    const buffer = await buffers.bread(blocknr);
    expect(buffer.isUptodate).toBe(true);
  }
  await expect(async () => buffers.bread(1000)).rejects.toMatchObject({ code: "ENOMEM" });
});

describe("a used buffer", () => {
  test("is known to reclaim: the second use makes its page active", async () => {
    const { buffers } = rig();
    buffers.brelse(await buffers.bread(1));
    const folio = buffers.mapping.folioAt(0)!;
    expect(folio.isReferenced).toBe(false);
    buffers.peek(1);
    expect(folio.isReferenced).toBe(true);
    buffers.peek(1);
    expect(folio.isActive).toBe(true);
  });
});

describe("a held buffer", () => {
  test("stays where it is, and goes when it was given back", async () => {
    const { buffers, dropAll, cache } = rig();
    const buffer = await buffers.bread(1);
    const again = await buffers.bread(1);
    expect(dropAll()).toBe(0);
    buffers.brelse(again);
    cache.lru.shrink(1000);
    expect(buffers.peek(1)).toBe(buffer);
    buffers.brelse(buffer);
    expect(dropAll()).toBe(1);
    expect(buffers.peek(1)).toBeUndefined();
    expect(() => buffers.brelse(buffer)).toThrow("as often as it was held");
    cache.verify();
  });

  test("keeps a page whose other blocks nobody holds", async () => {
    const { buffers, dropAll } = rig();
    const held = await buffers.bread(1);
    buffers.brelse(await buffers.bread(2));
    expect(dropAll()).toBe(0);
    expect(buffers.peek(2)).toBeDefined();
    buffers.brelse(held);
  });

  test("that was verified is not so after it was read anew", async () => {
    const { buffers, dropAll } = rig();
    const buffer = await buffers.bread(1);
    buffer.isVerified = true;
    expect(buffers.peek(1)?.isVerified).toBe(true);
    buffers.brelse(buffer);
    dropAll();
    expect((await buffers.bread(1)).isVerified).toBe(false);
  });

  test("in flight cannot be dropped", async () => {
    const { buffers, dropAll, content } = rig();
    buffers.breadahead(0, 8);
    expect(dropAll()).toBe(0);
    expect((await buffers.bread(7)).data).toEqual(content(7));
  });
});

describe("breadahead", () => {
  test("reads a run by one bio, which a bread waits for", async () => {
    const { buffers, device, content } = rig();
    buffers.breadahead(8, 32);
    const buffer = await buffers.bread(20);
    expect(buffer.data).toEqual(content(20));
    expect(device.bios).toEqual(["R[8-39]AM"]);
    for (let blocknr = 8; blocknr < 40; blocknr++) {
      expect(buffers.peek(blocknr)?.data).toEqual(content(blocknr));
      expect(buffers.peek(blocknr)?.isBusy).toBe(blocknr === 20);
    }
  });

  test("leaves out what is cached or in flight, and what the device does not have", async () => {
    const { buffers, device } = rig();
    await buffers.bread(1020);
    const reading = buffers.bread(1017);
    buffers.breadahead(1015, 100);
    expect(device.bios).toEqual([
      "R[1020]M",
      "R[1017]M",
      "R[1015-1016]AM",
      "R[1018-1019]AM",
      "R[1021-1023]AM",
    ]);
    await reading;
    buffers.breadahead(5000, 3);
    buffers.breadahead(-3, 3);
    expect(device.bios.length).toBe(5);
  });

  test("that fails is no error of the bread that waited for it", async () => {
    const { buffers, device, store, content } = rig();
    store.inject({ op: "read" });
    buffers.breadahead(0, 8);
    const [first, second] = await Promise.all([buffers.bread(3), buffers.bread(3)]);
    expect(first?.data).toEqual(content(3));
    expect(second).toBe(first);
    expect(device.bios).toEqual(["R[0-7]AM", "R[3]M"]);
    expect(buffers.peek(4)).toBeUndefined();
  });

  test("that fails after a bread has failed is no error of the next bread", async () => {
    const { buffers, store, content } = rig();
    store.inject({ op: "read", calls: 2 });
    await expect(async () => buffers.bread(3)).rejects.toMatchObject({ code: "EIO" });
    buffers.breadahead(0, 8);
    expect((await buffers.bread(3)).data).toEqual(content(3));
  });

  test("of more than a bio holds takes the next bio", async () => {
    const { buffers, device, clock } = rig({ blockBytes: 2 * KIB, deviceBytes: 2 * MIB });
    buffers.breadahead(1, 700);
    await clock.turn();
    expect(device.bios).toEqual(["R[1-511]AM", "R[512-700]AM"]);
    expect(buffers.peek(700)).toBeDefined();
  });

  test("gives the loop a turn before thousands of blocks are told to be read", async () => {
    withExactArenas(); // All of them are in flight at a time.
    const { buffers, cache, clock } = rig({ deviceBytes: 8 * MIB, arenaBytes: 16 * MIB });
    buffers.breadahead(0, 8 * KIB);
    let turnCount = 0;
    while (buffers.peek(8 * KIB - 1) === undefined) {
      await realClock.turn();
      turnCount++;
      expect(turnCount).toBeLessThan(100);
    }
    expect(clock.turnCount).toBe(2);
    expect(cache.lockedCount).toBe(0);
  });

  test("without memory reads what there is room for", async () => {
    const { buffers, device, clock } = rig({ blockBytes: 4 * KIB, deviceBytes: 16 * MIB });
    buffers.breadahead(0, 4096);
    await clock.turn();
    expect(device.bios[0]).toBe("R[0-255]AM");
    expect(buffers.peek(500)).toBeDefined();
    expect(buffers.peek(1023)).toBeUndefined();
  });
});

describe("the device's address space", () => {
  test("read as a file waits for blocks in flight and reads the others", async () => {
    const { buffers, device, memory } = rig({ deviceBytes: 6 * KIB });
    const reading = buffers.bread(5);
    const file = openCacheFile(buffers.mapping);
    const into = new Uint8Array(8 * KIB);
    expect(await filemapRead({ file, posBytes: 4 * KIB, flags: 0 }, into)).toBe(2 * KIB);
    expect(equalBytes(into.subarray(0, 2 * KIB), memory.bytes.subarray(4 * KIB))).toBe(true);
    expect(
      buffers.mapping
        .folioAt(1)
        ?.bytes.subarray(2 * KIB)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(device.bios).toEqual(["R[5]M", "R[4]"]);
    await reading;
  });

  test("is closed when reads in flight have ended, and read no more", async () => {
    const { buffers, cache } = rig();
    buffers.breadahead(0, 16);
    await buffers.close();
    expect(buffers.mapping.nrpages).toBe(0);
    expect(cache.stats().freeFrames).toBe(cache.stats().frameCount);
    expect(buffers.peek(3)).toBeUndefined();
    await expect(async () => buffers.bread(3)).rejects.toMatchObject({ code: "EBADF" });
    buffers.breadahead(0, 16);
    expect(buffers.mapping.nrpages).toBe(0);
    cache.verify();
  });
});

interface Step {
  readonly kind: "bread" | "ahead" | "release" | "drop" | "fault" | "turn";
  readonly at: number;
  readonly count: number;
}

test("gives each block's bytes, whatever is read, dropped and failing meanwhile", async () => {
  const stepArbitrary: fc.Arbitrary<Step> = fc.record({
    kind: fc.constantFrom("bread", "bread", "bread", "ahead", "release", "drop", "fault", "turn"),
    at: fc.integer({ min: 0, max: 70 }),
    count: fc.integer({ min: 1, max: 40 }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
      fc.array(stepArbitrary, { maxLength: 60, size: "max" }),
      async (blockKib, steps) => {
        const blockBytes = blockKib * KIB;
        const { buffers, store, cache, clock, content, dropAll } = rig({
          blockBytes,
          deviceBytes: 64 * blockBytes + 3 * KIB,
          arenaBytes: 4 * MIB,
        });
        const held: BufferHead[] = [];
        const readings: Promise<void>[] = [];
        const check = (buffer: BufferHead, blocknr: number) => {
          expect(buffer.blocknr).toBe(blocknr);
          expect(equalBytes(buffer.data, content(blocknr))).toBe(true);
        };
        const read = async (blocknr: number) => {
          try {
            const buffer = await buffers.bread(blocknr);
            check(buffer, blocknr);
            held.push(buffer);
          } catch (thrown) {
            expect(thrown).toMatchObject({ code: expect.stringMatching(/^(EIO|ENOMEM)$/) });
          }
        };
        for (const { kind, at, count } of steps) {
          if (kind === "bread") readings.push(read(at));
          else if (kind === "ahead") buffers.breadahead(at, count);
          else if (kind === "drop") dropAll();
          else if (kind === "fault") store.inject({ op: "read" });
          else if (kind === "turn") await clock.turn();
          else for (const buffer of held.splice(0, count)) buffers.brelse(buffer);
          const cached = buffers.peek(at);
          if (cached !== undefined) check(cached, at);
        }
        await Promise.all(readings);
        for (const buffer of held) check(buffer, buffer.blocknr);
        for (const buffer of held) buffers.brelse(buffer);
        await clock.turn();
        cache.verify();
        await buffers.close();
        expect(cache.stats().freeFrames).toBe(cache.stats().frameCount);
      },
    ),
    { numRuns: runs(100) },
  );
});
