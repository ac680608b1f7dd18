/**
 * Examples of each rule of the head comment, then one property: what is left after a crash is,
 * sector by sector, among what a list of all writes allows.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { VirtualClock } from "../lib/clock.ts";
import { Random } from "../lib/random.ts";
import { SECTOR_BYTES } from "../lib/units.ts";
import { SimDisk, type SimDiskOptions } from "./sim-disk.ts";
import type { FaultPlan } from "./sim-faults.ts";

const ALWAYS = { probability: 1, budget: 1 };

function diskOf(sectors: number, options: Partial<SimDiskOptions> = {}) {
  const clock = new VirtualClock();
  const disk = new SimDisk(sectors * SECTOR_BYTES, {
    clock,
    random: new Random(1),
    latencyMs: () => 1,
    ...options,
  });
  return { clock, disk };
}

function sectorOf(value: number, count = 1): Uint8Array {
  return new Uint8Array(count * SECTOR_BYTES).fill(value);
}

/** Runs `call` while time passes. */
async function settle<T>(clock: VirtualClock, call: Promise<T>): Promise<T> {
  const done = call.then(
    (value) => () => value,
    (error: unknown) => () => {
      throw error;
    },
  );
  await clock.advance(100_000);
  return (await done)();
}

/** First byte of each sector of what is durable. */
function durableOf(disk: SimDisk): number[] {
  const image = disk.durableImage();
  return Array.from({ length: image.length / SECTOR_BYTES }, (_, at) => image[at * SECTOR_BYTES]!);
}

const everyNewest = (_sector: number, writes: readonly number[]) => writes.length;
const nothingNew = () => 0;

describe("SimDisk", () => {
  test("a completed write is read back, and is not durable", async () => {
    const { clock, disk } = diskOf(3);
    await settle(clock, disk.write(SECTOR_BYTES, sectorOf(5)));
    const into = new Uint8Array(3 * SECTOR_BYTES);
    await settle(clock, disk.read(0, into));
    expect([into[0], into[SECTOR_BYTES], into[2 * SECTOR_BYTES]]).toEqual([0, 5, 0]);
    expect(durableOf(disk)).toEqual([0, 0, 0]);
    expect(disk.volatileCount).toBe(1);
  });

  test("a flush makes durable what had completed when it was submitted, and no more", async () => {
    const latencies = [1, 5, 3];
    const { clock, disk } = diskOf(3, { latencyMs: () => latencies.shift() ?? 1 });
    await settle(clock, disk.write(0, sectorOf(1)));
    const late = disk.write(SECTOR_BYTES, sectorOf(2)); // Completes at 5 ms, in vain for the flush,
    const flush = disk.flush(); // which ends at 3 ms.
    const early = disk.write(2 * SECTOR_BYTES, sectorOf(3)); // Completes at 1 ms, but too late too.
    await settle(clock, Promise.all([late, flush, early]));
    expect(durableOf(disk)).toEqual([1, 0, 0]);
    await settle(clock, disk.flush());
    expect(durableOf(disk)).toEqual([1, 2, 3]);
  });

  test("a FUA write is durable at once, without what came before it", async () => {
    const { clock, disk } = diskOf(2);
    await settle(clock, disk.write(0, sectorOf(1)));
    await settle(clock, disk.write(SECTOR_BYTES, sectorOf(2), { fua: true }));
    expect(durableOf(disk)).toEqual([0, 2]);
  });

  test("a crash leaves each sector with a version of its own", async () => {
    const { clock, disk } = diskOf(2);
    await settle(clock, disk.write(0, sectorOf(1, 2)));
    await settle(clock, disk.write(0, sectorOf(2, 2)));
    const seen: unknown[] = [];
    const crashed = disk.crash((sector, writes) => {
      seen.push([sector, writes]);
      return sector === 0 ? 1 : 2;
    });
    expect(seen).toEqual([
      [0, [0, 1]],
      [1, [0, 1]],
    ]);
    expect(durableOf(crashed)).toEqual([1, 2]);
    expect(durableOf(disk.crash(nothingNew))).toEqual([0, 0]);
  });

  test("a crash may keep a write in flight, which a flush does not", async () => {
    const { clock, disk } = diskOf(1, { latencyMs: (op) => (op === "flush" ? 1 : 50) });
    const write = disk.write(0, sectorOf(9));
    const flush = disk.flush();
    await clock.advance(2);
    await flush;
    expect(durableOf(disk)).toEqual([0]);
    expect(durableOf(disk.crash(everyNewest))).toEqual([9]);
    await settle(clock, write);
  });

  test("a crash with writes in flight over completed ones can be tried again", async () => {
    const { clock, disk } = diskOf(1, { latencyMs: () => 5 });
    await settle(clock, disk.write(0, sectorOf(1)));
    const write = disk.write(0, sectorOf(2));
    for (let round = 0; round < 3; round++) {
      const seen: (readonly number[])[] = [];
      const crashed = disk.crash((_sector, writes) => seen.push(writes));
      expect([seen, durableOf(crashed)]).toEqual([[[0, 1]], [1]]);
    }
    const into = sectorOf(0);
    const read = disk.read(0, into, undefined);
    await clock.advance(4);
    await settle(clock, Promise.all([write, read]));
    expect(into[0]).toBe(2);
  });

  test("the crashed disk and the one that goes on do not touch one another", async () => {
    const { clock, disk } = diskOf(2);
    await settle(clock, disk.write(0, sectorOf(1), { fua: true }));
    await settle(clock, disk.write(SECTOR_BYTES, sectorOf(2)));
    const crashed = disk.crash(everyNewest);
    await settle(clock, crashed.write(0, sectorOf(7), { fua: true }));
    await settle(clock, disk.write(SECTOR_BYTES, sectorOf(8), { fua: true }));
    expect([durableOf(crashed), durableOf(disk)]).toEqual([
      [7, 2],
      [1, 8],
    ]);
  });

  test("large sectors are never torn", async () => {
    const { clock, disk } = diskOf(16, { sectorBytes: 8 * SECTOR_BYTES });
    await settle(clock, disk.write(0, sectorOf(1, 16)));
    for (let round = 0; round < 20; round++) {
      const [a, ...rest] = durableOf(disk.crash());
      expect(new Set([a, ...rest.slice(0, 7)]).size).toBe(1);
    }
  });

  test("the caller may reuse its array once the call is made", async () => {
    const { clock, disk } = diskOf(1);
    const from = sectorOf(3);
    const write = disk.write(0, from, { fua: true });
    from.fill(0);
    await settle(clock, write);
    expect(durableOf(disk)).toEqual([3]);
  });

  test("an aborted write lets its caller go and may arrive all the same", async () => {
    const { clock, disk } = diskOf(1);
    const abort = new AbortController();
    const write = disk.write(0, sectorOf(4), { signal: abort.signal, fua: true });
    abort.abort("enough");
    await expect(write).rejects.toBe("enough");
    expect(durableOf(disk)).toEqual([0]);
    await clock.advance(10);
    expect(durableOf(disk)).toEqual([4]);
  });

  test("equal seeds give equal runs, other seeds others", async () => {
    const runOf = async (seed: number) => {
      const clock = new VirtualClock();
      const disk = new SimDisk(64 * SECTOR_BYTES, { clock, random: new Random(seed) });
      const order: number[] = [];
      const writes = Array.from({ length: 64 }, (_, at) =>
        disk.write(at * SECTOR_BYTES, sectorOf(at + 1)).then(() => order.push(at)),
      );
      await clock.advance(5);
      const crashed = durableOf(disk.crash());
      await settle(clock, Promise.all(writes));
      return { order, crashed };
    };
    const [first, again, other] = await Promise.all([runOf(1), runOf(1), runOf(2)]);
    expect(again).toEqual(first);
    expect(other.order).not.toEqual(first?.order);
    expect(other.crashed).not.toEqual(first?.crashed);
    expect(first?.order).not.toEqual([...first!.order].sort((a, b) => a - b));
  });
});

describe("faults of SimDisk", () => {
  const withFaults = (faults: FaultPlan) => diskOf(4, { faults });

  test("a failed read fails once", async () => {
    const { clock, disk } = withFaults({ readError: ALWAYS });
    const read = () => settle(clock, disk.read(0, new Uint8Array(10)));
    await expect(read()).rejects.toMatchObject({ code: "EIO", syscall: "read" });
    await read();
    expect(disk.faults.counts.get("readError")).toBe(1);
  });

  test("a bad sector fails until it is written", async () => {
    const { clock, disk } = withFaults({ badSector: ALWAYS });
    const read = () => settle(clock, disk.read(SECTOR_BYTES, sectorOf(0)));
    await expect(read()).rejects.toMatchObject({ code: "EIO", detail: "sector 1 is bad" });
    await expect(read()).rejects.toMatchObject({ code: "EIO" });
    await settle(clock, disk.read(0, sectorOf(0)));
    await settle(clock, disk.write(SECTOR_BYTES, sectorOf(6)));
    await read();
  });

  test("a flipped bit is one bit, on the way and not on the disk", async () => {
    const { clock, disk } = withFaults({ bitFlip: ALWAYS });
    const onesOf = async () => {
      const into = sectorOf(0, 4);
      await settle(clock, disk.read(0, into));
      return into.reduce((ones, byte) => ones + byte.toString(2).split("1").length - 1, 0);
    };
    expect([await onesOf(), await onesOf()]).toEqual([1, 0]);
  });

  test("a failed write may have written any of its sectors", async () => {
    const { clock, disk } = diskOf(64, { faults: { writeError: ALWAYS } });
    const write = settle(clock, disk.write(0, sectorOf(1, 64)));
    await expect(write).rejects.toMatchObject({ code: "EIO", syscall: "write" });
    await settle(clock, disk.flush());
    const written = durableOf(disk).filter((value) => value === 1).length;
    expect(written).toBeGreaterThan(10);
    expect(written).toBeLessThan(54);
  });

  test("a full disk writes nothing", async () => {
    const { clock, disk } = withFaults({ noSpace: ALWAYS });
    const write = settle(clock, disk.write(0, sectorOf(1)));
    await expect(write).rejects.toMatchObject({ code: "ENOSPC" });
    expect(disk.volatileCount).toBe(0);
  });

  test("a lost write is acknowledged, a misdirected one too", async () => {
    const { clock, disk } = withFaults({ lostWrite: ALWAYS });
    await settle(clock, disk.write(0, sectorOf(1), { fua: true }));
    expect(durableOf(disk)).toEqual([0, 0, 0, 0]);
    const other = diskOf(1000, { faults: { misdirectedWrite: ALWAYS } });
    await settle(other.clock, other.disk.write(0, sectorOf(1), { fua: true }));
    const image = other.disk.durableImage();
    expect(image.reduce((sum, byte) => sum + byte, 0)).toBe(SECTOR_BYTES);
    expect(image[0]).toBe(0);
  });

  test("a failed flush makes nothing durable", async () => {
    const { clock, disk } = withFaults({ flushError: ALWAYS });
    await settle(clock, disk.write(0, sectorOf(1)));
    await expect(settle(clock, disk.flush())).rejects.toMatchObject({ code: "EIO" });
    expect(durableOf(disk)).toEqual([0, 0, 0, 0]);
    await settle(clock, disk.flush());
    expect(durableOf(disk)).toEqual([1, 0, 0, 0]);
  });

  test("a slow call ends within a minute, a hanging one when the disk is healed", async () => {
    const { clock, disk } = withFaults({ slow: ALWAYS, hang: ALWAYS });
    const into = new Uint8Array(1);
    const read = disk.read(0, into);
    await clock.advance(60_001);
    expect([clock.pendingTimers, disk.hungCount]).toEqual([0, 1]);
    disk.heal();
    await read;
  });
});

describe("a crash of SimDisk", () => {
  test("leaves only what the writes, flushes and FUA so far allow", async () => {
    const step = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          kind: fc.constantFrom("write", "write", "fua"),
          first: fc.integer({ min: 0, max: 5 }),
          count: fc.integer({ min: 1, max: 3 }),
        }),
      },
      { weight: 1, arbitrary: fc.constant({ kind: "flush", first: 0, count: 0 }) },
    );
    const sectorCount = 8;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 20, size: "max" }),
        fc.integer({ min: 0, max: 1000 }),
        async (steps, seed) => {
          const { clock, disk } = diskOf(sectorCount, { random: new Random(seed) });
          // allowed[s]: values that sector s may have after a crash, the durable one first.
          const allowed = Array.from({ length: sectorCount }, () => [0]);
          let value = 0;
          for (const { kind, first, count } of steps) {
            if (kind === "flush") {
              await settle(clock, disk.flush());
              for (const values of allowed) values.splice(0, values.length - 1);
              continue;
            }
            value++;
            await settle(
              clock,
              disk.write(first * SECTOR_BYTES, sectorOf(value, count), { fua: kind === "fua" }),
            );
            for (let at = first; at < first + count; at++) {
              if (kind === "fua") allowed[at] = [value];
              else allowed[at]!.push(value);
            }
          }
          expect(durableOf(disk)).toEqual(allowed.map((values) => values[0]));
          expect(durableOf(disk.crash(everyNewest))).toEqual(
            allowed.map((values) => values.at(-1)),
          );
          for (let crash = 0; crash < 10; crash++) {
            durableOf(disk.crash()).forEach((value, at) => {
              expect(allowed[at]).toContain(value);
            });
          }
        },
      ),
      { numRuns: runs(50) },
    );
  });
});
