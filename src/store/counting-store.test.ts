import { expect, test } from "vitest";
import { CountingStore } from "./counting-store.ts";
import { MemoryStore } from "./memory-store.ts";

test("counts each call and its bytes, also those that fail", async () => {
  const store = new CountingStore(new MemoryStore(100));
  await store.read(0, new Uint8Array(10));
  await store.read(0, [new Uint8Array(5), new Uint8Array(6)]);
  await expect(store.read(90, new Uint8Array(11))).rejects.toMatchObject({ code: "EINVAL" });
  await store.write(0, new Uint8Array(7));
  await store.discard(0, 1);
  await store.writeZeroes(0, 1);
  await store.flush();
  expect([store.reads, store.readBytes, store.writes, store.writtenBytes]).toEqual([3, 32, 1, 7]);
  expect([store.flushes, store.discards, store.zeroWrites]).toEqual([1, 1, 1]);
});

test("logs calls in order while there is a log, and forgets all at reset", async () => {
  const store = new CountingStore(new MemoryStore(100));
  await store.flush();
  store.log = [];
  await store.write(3, [new Uint8Array(4), new Uint8Array(5)], { fua: true });
  await store.read(1, new Uint8Array(2));
  expect(store.log).toEqual([
    { op: "write", offsetBytes: 3, lengthBytes: 9, isFua: true },
    { op: "read", offsetBytes: 1, lengthBytes: 2, isFua: false },
  ]);
  store.reset();
  expect([store.log, store.reads, store.writtenBytes, store.flushes]).toEqual([[], 0, 0, 0]);
});
