import { expect, test } from "vitest";
import { GatedStore } from "../../test/support/gated-store.ts";
import { AssertionError } from "../lib/assert.ts";
import { realClock } from "../lib/clock.ts";
import { MemoryStore } from "../store/memory-store.ts";
import { Bio, REQ_OP_FLUSH, REQ_OP_READ } from "./bio.ts";
import { readDevice, StoreBlockDevice } from "./block-device.ts";
import { PartitionDevice } from "./partition-device.ts";
import { Plug } from "./plug.ts";

const clock = realClock;
const RANGE = { offsetBytes: 1024, lengthBytes: 2048 };

function baseOf(): StoreBlockDevice {
  const bytes = Uint8Array.from({ length: 4096 }, (_, at) => Math.floor(at / 512));
  return new StoreBlockDevice(new MemoryStore(bytes, { name: "disk", canWrite: false }), { clock });
}

test("byte 0 of a partition is its first byte on the disk, and its end is the end", async () => {
  const device = new PartitionDevice(baseOf(), RANGE, { clock });
  expect(device.sizeBytes).toBe(2048);
  const bytes = await readDevice(device, 0, 2048);
  expect([bytes[0], bytes[512], bytes[2047]]).toEqual([2, 3, 5]);
  for (const [offset, length] of [
    [2048, 1],
    [0, 2049],
    [-512, 512],
  ] as const) {
    await expect(readDevice(device, offset, length)).rejects.toMatchObject({ code: "EIO" });
  }
});

test("a refused bio ends after submitBio, not inside", async () => {
  const device = new PartitionDevice(baseOf(), RANGE, { clock });
  let status = 0;
  const bio = new Bio(REQ_OP_READ, 0, 4096, (ended) => {
    status = ended.status;
  });
  bio.addVector(new Uint8Array(512));
  device.submitBio(bio);
  expect(status).toBe(0);
  await Promise.resolve();
  expect(status).toBe(-5);
});

test("bios of two partitions merge on the disk, and a plug holds them", async () => {
  const store = new GatedStore(4096);
  const base = new StoreBlockDevice(store, { clock });
  const first = new PartitionDevice(base, { offsetBytes: 0, lengthBytes: 1024 }, { clock });
  const second = new PartitionDevice(base, RANGE, { clock });
  const plug = new Plug();
  const ends: string[] = [];
  for (const [name, device, offset] of [
    ["b", second, 0],
    ["a", first, 512],
  ] as const) {
    const bio = new Bio(REQ_OP_READ, 0, offset, () => ends.push(name));
    bio.addVector(new Uint8Array(512));
    device.submitBio(bio, plug);
  }
  expect(plug.length).toBe(2);
  plug.flush();
  await clock.turn();
  expect(store.log).toEqual(["R 512+1024"]);
  store.release();
  await base.drain();
  expect(ends).toEqual(["a", "b"]);
});

test("a flush of a partition is a flush of the disk", async () => {
  const store = new GatedStore(4096);
  const device = new PartitionDevice(new StoreBlockDevice(store, { clock }), RANGE, { clock });
  device.submitBio(new Bio(REQ_OP_FLUSH, 0, 0, () => {}));
  await clock.turn();
  expect(store.log).toEqual(["F"]);
  store.release();
});

test("tells the disk's properties, counts and hook on", async () => {
  const base = baseOf();
  const device = new PartitionDevice(base, RANGE, { clock, name: "disk, partition 1" });
  expect([device.name, device.isReadOnly, device.ioPages]).toEqual([
    "disk, partition 1",
    true,
    256,
  ]);
  expect([device.stableWrites, device.logicalBlockBytes]).toEqual([false, 512]);
  const offsets: number[] = [];
  device.log = (request) => offsets.push(request.offsetBytes);
  await readDevice(device, 512, 512);
  expect(offsets).toEqual([1536]);
  expect(device.log).toBe(base.log);
  expect(device.stats).toBe(base.stats);
});

test("a partition that leaves its disk is a bug of its maker", () => {
  const make = (offsetBytes: number, lengthBytes: number) => () =>
    new PartitionDevice(baseOf(), { offsetBytes, lengthBytes }, { clock });
  expect(make(0, 4097)).toThrow(AssertionError);
  expect(make(4096, 1)).toThrow(AssertionError);
  expect(make(-1, 1)).toThrow(AssertionError);
  expect(make(4096, 0)).not.toThrow();
});
