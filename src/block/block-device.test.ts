/**
 * Order of the tests: what a device does with what it is given, then when (JS-3), then what if it
 * fails (JS-8), flushes, and at the end a device against an array of bytes.
 */
import { describe, expect, test } from "vitest";
import { GatedStore } from "../../test/support/gated-store.ts";
import { AssertionError } from "../lib/assert.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { EBADF, EIO, ENOSPC, EROFS, FsError } from "../lib/errno.ts";
import { MemoryStore } from "../store/memory-store.ts";
import type { StoreCapabilities } from "../store/store.ts";
import {
  Bio,
  REQ_FUA,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
  REQ_PREFLUSH,
  REQ_RAHEAD,
  REQ_SYNC,
  type RequestOp,
} from "./bio.ts";
import { type LoggedRequest, readDevice, StoreBlockDevice } from "./block-device.ts";
import { Plug } from "./plug.ts";

const SIZE = 64 * 1024;
const clock = realClock;

interface Rig {
  readonly store: GatedStore;
  readonly device: StoreBlockDevice;
  /** Names of bios in the order of their ends, with the errno of those that failed. */
  readonly ends: string[];
  submit(name: string, op: RequestOp, offset: number, length: number, more?: More): Bio;
}
interface More {
  readonly flags?: number;
  readonly plug?: Plug;
  readonly fill?: number;
}
interface RigOptions {
  readonly capabilities?: Partial<StoreCapabilities>;
  readonly queueDepth?: number;
  readonly maxRequestBytes?: number;
}

function rigOf({ capabilities, ...options }: RigOptions = {}): Rig {
  const store = new GatedStore(SIZE, capabilities);
  const device = new StoreBlockDevice(store, { clock, ...options });
  const ends: string[] = [];
  const submit: Rig["submit"] = (name, op, offset, length, { flags = 0, plug, fill = 0 } = {}) => {
    const bio = new Bio(op, flags, offset, ({ status }) =>
      ends.push(status === 0 ? name : `${name}:${status}`),
    );
    if (op === REQ_OP_READ || op === REQ_OP_WRITE) {
      if (length > 0) bio.addVector(new Uint8Array(length).fill(fill));
    } else {
      bio.lengthBytes = length;
    }
    device.submitBio(bio, plug);
    return bio;
  };
  return { store, device, ends, submit };
}

/** Lets everything that can go on without the store go on. */
const turn = (): Promise<void> => realClock.turn();

async function releaseAll({ store }: Rig): Promise<void> {
  await turn();
  while (store.pending.length > 0) {
    store.release();
    await turn();
  }
}

describe("StoreBlockDevice: what reaches the store", () => {
  test("bios of one stretch of code are merged and sorted by address", async () => {
    const rig = rigOf();
    for (const block of [9, 2, 8, 0, 1]) rig.submit(`${block}`, REQ_OP_READ, block * 512, 512);
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["R 0+1536", "R 4096+1024"]);
    expect(rig.ends).toEqual(["0", "1", "2", "8", "9"]);
    expect(rig.device.stats.read).toEqual({
      bios: 5,
      merges: 3,
      requests: 2,
      bytes: 2560,
      errors: 0,
    });
  });

  test("reads go straight into the bios' memory", async () => {
    const rig = rigOf();
    rig.store.bytes.fill(7, 0, 512).fill(8, 512, 1024);
    const first = rig.submit("a", REQ_OP_READ, 0, 512);
    const second = rig.submit("b", REQ_OP_READ, 512, 512);
    await turn();
    expect(rig.store.pending[0]!.buffers).toEqual([first.vectors[0], second.vectors[0]]);
    expect(rig.store.pending[0]!.buffers[0]).toBe(first.vectors[0]);
    await releaseAll(rig);
    expect([first.vectors[0]![511], second.vectors[0]![0]]).toEqual([7, 8]);
  });

  test("no more than queueDepth requests are in flight, and what waits is merged", async () => {
    const rig = rigOf({ queueDepth: 2 });
    for (const block of [0, 10, 20]) rig.submit(`${block}`, REQ_OP_READ, block * 512, 512);
    await turn();
    expect(rig.store.log).toEqual(["R 0+512", "R 5120+512"]);
    rig.submit("21", REQ_OP_READ, 21 * 512, 512);
    await turn();
    rig.store.release(1);
    await turn();
    expect(rig.store.log[2]).toBe("R 10240+1024");
    await releaseAll(rig);
    expect(rig.ends).toEqual(["10", "0", "20", "21"]);
  });

  test("a bio larger than a request goes in parts and ends once", async () => {
    const rig = rigOf({ maxRequestBytes: 4096 });
    rig.store.bytes.set(Uint8Array.from({ length: 10_000 }, (_, at) => at % 251));
    const bio = rig.submit("big", REQ_OP_READ, 0, 10_000);
    await turn();
    expect(rig.store.log).toEqual(["R 0+4096", "R 4096+4096", "R 8192+1808"]);
    while (rig.store.pending.length > 0) rig.store.release(rig.store.pending.length - 1);
    await rig.device.drain();
    expect(rig.ends).toEqual(["big"]);
    expect(Buffer.from(bio.vectors[0]!).equals(rig.store.bytes.subarray(0, 10_000))).toBe(true);
  });

  test("a plug holds its bios until it is flushed; flushes pass by it", async () => {
    const rig = rigOf();
    const plug = new Plug();
    rig.submit("b", REQ_OP_READ, 512, 512, { plug });
    rig.submit("f", REQ_OP_FLUSH, 0, 0, { plug });
    rig.submit("a", REQ_OP_READ, 0, 512, { plug });
    await Promise.resolve();
    await Promise.resolve();
    expect([plug.length, rig.store.log]).toEqual([2, ["F"]]);
    plug.flush();
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["F", "R 0+1024"]);
  });

  test("a plug that is never flushed delays its bios by a turn of the loop and loses none", async () => {
    const rig = rigOf();
    const plug = new Plug();
    rig.submit("a", REQ_OP_READ, 0, 512, { plug });
    await turn();
    await turn();
    expect(rig.store.log).toEqual(["R 0+512"]);
    await releaseAll(rig);
    expect(rig.ends).toEqual(["a"]);
  });

  test("the log hook sees each request when it is dispatched", async () => {
    const rig = rigOf();
    const log: LoggedRequest[] = [];
    rig.device.log = (request) => log.push(request);
    rig.submit("a", REQ_OP_READ, 0, 512, { flags: REQ_RAHEAD });
    rig.submit("b", REQ_OP_READ, 512, 512, { flags: REQ_SYNC });
    rig.submit("f", REQ_OP_FLUSH, 0, 0);
    await releaseAll(rig);
    expect(log).toEqual([
      { op: REQ_OP_READ, flags: REQ_SYNC, offsetBytes: 0, lengthBytes: 1024 },
      { op: REQ_OP_FLUSH, flags: 0, offsetBytes: 0, lengthBytes: 0 },
    ]);
  });

  test("discards and zeroes reach the store as ranges", async () => {
    const rig = rigOf();
    rig.store.bytes.fill(1);
    rig.submit("d", REQ_OP_DISCARD, 0, 8192);
    rig.submit("z", REQ_OP_WRITE_ZEROES, 8192, 4096);
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["D 0+8192", "Z 8192+4096"]);
    expect([rig.store.bytes[8192], rig.store.bytes[12_288]]).toEqual([0, 1]);
    expect(rig.device.stats.writeZeroes.bytes).toBe(4096);
  });

  test("tells the store's properties on", () => {
    const { device } = rigOf({ capabilities: { canWrite: false, stableWrites: true } });
    expect([device.isReadOnly, device.stableWrites, device.ioPages]).toEqual([true, true, 256]);
    expect([device.name, device.sizeBytes, device.logicalBlockBytes]).toEqual(["gated", SIZE, 512]);
  });
});

describe("StoreBlockDevice: completion", () => {
  test("no endIo runs inside submitBio, whatever the bio (JS-3)", async () => {
    const store = new MemoryStore(SIZE, { canWrite: false });
    const device = new StoreBlockDevice(store, { clock });
    let isSubmitting = false;
    let ended = 0;
    const submit = (op: RequestOp, flags: number, offset: number, length: number): void => {
      const bio = new Bio(op, flags, offset, () => {
        expect(isSubmitting).toBe(false);
        ended++;
      });
      bio.lengthBytes = length;
      if (op === REQ_OP_READ && length > 0) bio.vectors.push(new Uint8Array(length));
      isSubmitting = true;
      device.submitBio(bio);
      isSubmitting = false;
    };
    submit(REQ_OP_READ, 0, 0, 512);
    submit(REQ_OP_READ, 0, 0, 0);
    submit(REQ_OP_READ, 0, SIZE, 512);
    submit(REQ_OP_WRITE, REQ_FUA, 0, 0);
    submit(REQ_OP_WRITE, 0, 0, 512);
    submit(REQ_OP_FLUSH, 0, 0, 0);
    await device.close();
    submit(REQ_OP_READ, 0, 0, 512);
    await device.drain();
    expect(ended).toBe(7);
  });

  test("an empty write with FUA on a store with a cache ends later, too", async () => {
    const rig = rigOf();
    rig.submit("empty", REQ_OP_WRITE, 0, 0, { flags: REQ_FUA });
    expect(rig.ends).toEqual([]);
    await turn();
    expect([rig.ends, rig.store.log]).toEqual([["empty"], []]);
  });

  test("a range that leaves the device fails with EIO and does not reach the store", async () => {
    const store = new MemoryStore(1000);
    const device = new StoreBlockDevice(store, { clock });
    expect((await readDevice(device, 512, 488)).length).toBe(488);
    for (const [offset, length] of [
      [512, 489],
      [1000, 1],
      [-1, 1],
      [4096, 512],
    ] as const) {
      await expect(readDevice(device, offset, length)).rejects.toMatchObject({ code: "EIO" });
    }
    expect(device.stats.read.requests).toBe(1);
  });

  test("a read-only device changes nothing: EROFS", async () => {
    const rig = rigOf({ capabilities: { canWrite: false } });
    rig.submit("w", REQ_OP_WRITE, 0, 512);
    rig.submit("d", REQ_OP_DISCARD, 0, 512);
    rig.submit("z", REQ_OP_WRITE_ZEROES, 0, 512);
    await turn();
    expect(rig.ends).toEqual([`w:${-EROFS}`, `d:${-EROFS}`, `z:${-EROFS}`]);
    expect(rig.store.log).toEqual([]);
  });

  test("close waits for what was taken, and refuses what comes after with EBADF", async () => {
    const rig = rigOf();
    rig.submit("before", REQ_OP_READ, 0, 512);
    const order: string[] = [];
    const closed = rig.device.close().then(() => order.push("closed"));
    rig.submit("after", REQ_OP_READ, 512, 512);
    await turn();
    expect([order, rig.ends]).toEqual([[], [`after:${-EBADF}`]]);
    rig.store.release();
    await closed;
    expect(rig.ends[1]).toBe("before");
    await rig.device.close();
  });

  test("drain resolves at once when there is nothing, else after the last end", async () => {
    const rig = rigOf({ queueDepth: 1 });
    await rig.device.drain();
    for (const block of [1, 3, 5]) rig.submit(`${block}`, REQ_OP_READ, block * 512, 512);
    const drained = rig.device.drain().then(() => rig.ends.push("drained"));
    await releaseAll(rig);
    await drained;
    expect(rig.ends).toEqual(["1", "3", "5", "drained"]);
  });

  test("submitting a bio again after its end is a bug", async () => {
    const rig = rigOf();
    const bio = rig.submit("a", REQ_OP_READ, 0, 512);
    await releaseAll(rig);
    expect(() => rig.device.submitBio(bio)).toThrow(AssertionError);
  });
});

describe("StoreBlockDevice: failures (JS-8)", () => {
  test("a failed request fails all its bios, with the store's errno and cause", async () => {
    const rig = rigOf();
    const bios = [
      rig.submit("a", REQ_OP_DISCARD, 0, 512),
      rig.submit("b", REQ_OP_DISCARD, 512, 512),
      rig.submit("c", REQ_OP_DISCARD, 4096, 512),
    ];
    await turn();
    const cause = new FsError("ENOSPC");
    rig.store.fail(0, cause);
    await releaseAll(rig);
    expect(rig.ends).toEqual([`a:${-ENOSPC}`, `b:${-ENOSPC}`, "c"]);
    expect(bios.map((bio) => bio.cause)).toEqual([cause, cause, undefined]);
    expect(rig.device.stats.discard.errors).toBe(1);
    expect(rig.store.log.length).toBe(2);
  });

  test("a failed write of several bios is tried once more for each of them alone", async () => {
    const rig = rigOf();
    const bios = [
      rig.submit("a", REQ_OP_WRITE, 0, 512, { fill: 1 }),
      rig.submit("b", REQ_OP_WRITE, 512, 512, { fill: 2 }),
      rig.submit("c", REQ_OP_WRITE, 1024, 512, { fill: 3 }),
    ];
    await turn();
    expect(rig.store.log).toEqual(["W 0+1536"]);
    rig.store.fail(0, new FsError("EIO"));
    await turn();
    rig.store.release();
    await turn();
    const full = new FsError("ENOSPC");
    rig.store.fail(0, full);
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["W 0+1536", "W 0+512", "W 512+512", "W 1024+512"]);
    expect(rig.ends).toEqual(["a", `b:${-ENOSPC}`, "c"]);
    expect(bios.map((bio) => bio.cause)).toEqual([undefined, full, undefined]);
    expect([rig.store.bytes[0], rig.store.bytes[512], rig.store.bytes[1024]]).toEqual([1, 0, 3]);
    expect([rig.device.stats.write.requests, rig.device.stats.write.errors]).toEqual([4, 2]);
    await rig.device.close();
  });

  test("a failed read of several bios is tried once more for each of them alone", async () => {
    const rig = rigOf();
    const bios = [
      rig.submit("a", REQ_OP_READ, 0, 512),
      rig.submit("b", REQ_OP_READ, 512, 512),
      rig.submit("ahead", REQ_OP_READ, 1024, 512, { flags: REQ_RAHEAD }),
      rig.submit("c", REQ_OP_READ, 1536, 512),
    ];
    await turn();
    expect(rig.store.log).toEqual(["R 0+2048"]);
    const cause = new FsError("EIO");
    rig.store.fail(0, cause);
    await turn();
    rig.store.release();
    await turn();
    const cable = new Error("cable");
    rig.store.fail(0, cable);
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["R 0+2048", "R 0+512", "R 512+512", "R 1536+512"]);
    expect(rig.ends).toEqual(["a", `b:${-EIO}`, `ahead:${-EIO}`, "c"]);
    expect(bios.map((bio) => bio.cause)).toEqual([undefined, cable, cause, undefined]);
    expect([rig.device.stats.read.requests, rig.device.stats.read.errors]).toEqual([4, 2]);
    await rig.device.close();
  });

  test.each([
    [
      "throws instead of rejecting",
      () => {
        throw new TypeError("bug");
      },
      -EIO,
    ],
    ["rejects with nothing", () => Promise.reject(undefined), -EIO],
    ["rejects with a string", () => Promise.reject("no"), -EIO],
    ["rejects with an errno of its own", () => Promise.reject(new FsError("ESTALE")), -116],
  ])("a store that %s fails the bio", async (_, read, errno) => {
    const store = new MemoryStore(SIZE);
    store.read = read as typeof store.read;
    const device = new StoreBlockDevice(store, { clock });
    await expect(readDevice(device, 0, 512)).rejects.toMatchObject({ errno });
    await device.drain();
  });

  test("a failed part fails the split bio as a whole, after all parts have ended", async () => {
    const rig = rigOf({ maxRequestBytes: 4096 });
    const bio = rig.submit("big", REQ_OP_READ, 0, 12_288);
    await turn();
    const cause = new Error("cable");
    rig.store.fail(1, cause);
    await turn();
    expect(rig.ends).toEqual([]);
    await releaseAll(rig);
    expect([rig.ends, bio.cause]).toEqual([[`big:${-EIO}`], cause]);
  });

  test("an endIo that throws costs no other bio its completion", async () => {
    const thrown: unknown[] = [];
    const catching: Clock = {
      ...realClock,
      microtask: (task) =>
        realClock.microtask(() => {
          try {
            task();
          } catch (error) {
            thrown.push(error);
          }
        }),
    };
    const device = new StoreBlockDevice(new MemoryStore(SIZE), { clock: catching, queueDepth: 1 });
    const bug = new AssertionError("bug");
    const ended: number[] = [];
    for (const block of [0, 1, 2, 50]) {
      const bio = new Bio(REQ_OP_READ, 0, block * 512, () => {
        ended.push(block);
        if (block === 0) throw bug;
      });
      bio.addVector(new Uint8Array(512));
      device.submitBio(bio);
    }
    await device.drain();
    expect(ended).toEqual([0, 1, 2, 50]);
    expect(thrown).toEqual([bug]);
  });
});

describe("StoreBlockDevice: flush, PREFLUSH, FUA", () => {
  test("a flush covers what had ended, and does not wait for what is in flight", async () => {
    const rig = rigOf();
    rig.submit("early", REQ_OP_WRITE, 0, 512, { fill: 1 });
    await releaseAll(rig);
    rig.submit("late", REQ_OP_WRITE, 4096, 512, { fill: 2 });
    rig.submit("flush", REQ_OP_FLUSH, 0, 0);
    await turn();
    rig.store.release(rig.store.pending.findIndex((call) => call.text === "F"));
    await turn();
    expect(rig.ends).toEqual(["early", "flush"]);
    expect([rig.store.durable[0], rig.store.durable[4096]]).toEqual([1, 0]);
    await releaseAll(rig);
  });

  test("PREFLUSH and FUA on a store without FUA: flush, write, flush", async () => {
    const rig = rigOf({ capabilities: { hasFua: false } });
    rig.submit("commit", REQ_OP_WRITE, 0, 512, { flags: REQ_PREFLUSH | REQ_FUA, fill: 3 });
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["F", "W 0+512", "F"]);
    expect([rig.ends, rig.store.durable[0]]).toEqual([["commit"], 3]);
  });

  test("PREFLUSH and FUA on a store with FUA: flush, write with fua", async () => {
    const rig = rigOf({ capabilities: { hasFua: true } });
    rig.submit("commit", REQ_OP_WRITE, 0, 512, { flags: REQ_PREFLUSH | REQ_FUA, fill: 3 });
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["F", "W 0+512 fua"]);
    expect(rig.store.durable[0]).toBe(3);
  });

  test("zeroes with FUA are flushed after, since stores zero without it", async () => {
    const rig = rigOf({ capabilities: { hasFua: true } });
    rig.submit("z", REQ_OP_WRITE_ZEROES, 0, 512, { flags: REQ_FUA });
    await releaseAll(rig);
    expect(rig.store.log).toEqual(["Z 0+512", "F"]);
  });

  test("a store without a volatile cache is never flushed", async () => {
    const rig = rigOf({ capabilities: { hasVolatileCache: false, hasFua: false } });
    rig.submit("f", REQ_OP_FLUSH, 0, 0);
    rig.submit("w", REQ_OP_WRITE, 0, 512, { flags: REQ_PREFLUSH | REQ_FUA });
    await releaseAll(rig);
    expect([rig.store.log, rig.ends]).toEqual([["W 0+512"], ["f", "w"]]);
  });

  test("many commits share their flushes", async () => {
    const rig = rigOf({ capabilities: { hasFua: false } });
    for (const block of [0, 8, 16, 24]) {
      rig.submit(`${block}`, REQ_OP_WRITE, block * 512, 512, { flags: REQ_PREFLUSH | REQ_FUA });
    }
    await releaseAll(rig);
    expect(rig.store.log.filter((text) => text === "F").length).toBeLessThanOrEqual(1 + 4);
    expect(rig.store.log[0]).toBe("F");
    expect(rig.store.log[1]).toBe("W 0+512");
    expect(rig.device.stats.flush.bios).toBe(4);
    expect(rig.ends.length).toBe(4);
  });

  test("a failed preflush fails the bio and its data is not written", async () => {
    const rig = rigOf();
    const bio = rig.submit("commit", REQ_OP_WRITE, 0, 512, { flags: REQ_PREFLUSH });
    await turn();
    const cause = new FsError("EIO");
    rig.store.fail(0, cause);
    await releaseAll(rig);
    expect([rig.ends, rig.store.log]).toEqual([[`commit:${-EIO}`], ["F"]]);
    expect(bio.cause).toBe(cause);
    expect(rig.device.stats.flush.errors).toBe(1);
  });

  test("a failed write, and a failed flush after it, fail a bio with FUA", async () => {
    const rig = rigOf({ capabilities: { hasFua: false } });
    rig.submit("write", REQ_OP_WRITE, 0, 512, { flags: REQ_FUA });
    await turn();
    rig.store.fail(0, new FsError("ENOSPC"));
    await releaseAll(rig);
    rig.submit("flush", REQ_OP_WRITE, 0, 512, { flags: REQ_FUA });
    await turn();
    rig.store.release();
    await turn();
    rig.store.fail(0, new FsError("EIO"));
    await releaseAll(rig);
    expect(rig.ends).toEqual([`write:${-ENOSPC}`, `flush:${-EIO}`]);
  });
});

describe("readDevice", () => {
  test("gives the bytes, in memory of their own", async () => {
    const store = new MemoryStore(Uint8Array.from({ length: 2048 }, (_, at) => at));
    const device = new StoreBlockDevice(store, { clock });
    const bytes = await readDevice(device, 1000, 3);
    expect([...bytes]).toEqual([232, 233, 234]);
    expect(bytes.buffer.byteLength).toBe(3);
    expect((await readDevice(device, 0, 0)).length).toBe(0);
  });

  test("names the range in its error, and keeps the cause", async () => {
    const rig = rigOf();
    const read = readDevice(rig.device, 512, 1024);
    await turn();
    const cause = new Error("cable");
    rig.store.fail(0, cause);
    const failure: FsError = await read.then(
      () => expect.fail("read"),
      (thrown) => thrown,
    );
    expect(failure).toMatchObject({ code: "EIO", syscall: "read", cause });
    expect(failure.message).toContain("1024 bytes at 512 of gated");
  });

  test("an abort frees the waiter at once with the signal's reason; the read goes on", async () => {
    const rig = rigOf();
    const controller = new AbortController();
    const reason = new Error("enough");
    const read = readDevice(rig.device, 0, 512, controller.signal);
    await turn();
    controller.abort(reason);
    await expect(read).rejects.toBe(reason);
    expect(rig.store.pending.length).toBe(1);
    await releaseAll(rig);
    await rig.device.drain();
    await expect(readDevice(rig.device, 0, 512, controller.signal)).rejects.toBe(reason);
    expect(rig.store.log.length).toBe(1);
  });
});
