import { beforeEach, describe, expect, test } from "vitest";
import { VirtualClock } from "../lib/clock.ts";
import { FaultyStore } from "./faulty-store.ts";
import { MemoryStore } from "./memory-store.ts";

let clock: VirtualClock;
let inner: MemoryStore;
let store: FaultyStore;

beforeEach(() => {
  clock = new VirtualClock();
  inner = new MemoryStore(new Uint8Array(1000).fill(7));
  store = new FaultyStore(inner, { clock });
});

async function codesOf(calls: readonly (() => Promise<void>)[]): Promise<string[]> {
  const codes: string[] = [];
  for (const call of calls) {
    codes.push(
      await call().then(
        () => "ok",
        (error: { code: string }) => error.code,
      ),
    );
  }
  return codes;
}

const read = () => store.read(0, new Uint8Array(10));

describe("FaultyStore", () => {
  test("fails the n-th call of a kind, once", async () => {
    store.inject({ op: "read", skipCalls: 2 });
    const write = () => store.write(0, new Uint8Array(1));
    expect(await codesOf([read, write, read, write, read, read])).toEqual([
      "ok",
      "ok",
      "ok",
      "ok",
      "EIO",
      "ok",
    ]);
    expect(store.faultCount).toBe(0);
  });

  test("fails every call that touches a bad spot", async () => {
    store.inject({ startBytes: 100, endBytes: 110, calls: Number.POSITIVE_INFINITY });
    const readAt = (at: number, length: number) => () => store.read(at, new Uint8Array(length));
    const calls = [readAt(90, 10), readAt(90, 11), readAt(109, 1), readAt(110, 5), readAt(0, 1000)];
    expect(await codesOf([...calls, () => store.flush()])).toEqual([
      "ok",
      "EIO",
      "EIO",
      "ok",
      "EIO",
      "ok",
    ]);
  });

  test("fails with the asked code, after transferring the asked bytes", async () => {
    store.inject({ op: "write", code: "ENOSPC", transferredBytes: 5 });
    const write = store.write(10, [new Uint8Array(3), new Uint8Array(3)]);
    await expect(write).rejects.toMatchObject({ code: "ENOSPC", syscall: "write" });
    expect([...inner.bytes.subarray(9, 17)]).toEqual([7, 0, 0, 0, 0, 0, 7, 7]);
  });

  test("flips one bit of what is read, and says nothing", async () => {
    store.inject({ flippedBit: 103 * 8 + 2 });
    const into = [new Uint8Array(2), new Uint8Array(6)];
    await store.read(0, new Uint8Array(103));
    await store.read(100, into);
    expect(into.map((part) => [...part])).toEqual([
      [7, 7],
      [7, 7 ^ 4, 7, 7, 7, 7],
    ]);
    expect(inner.bytes[103]).toBe(7);
  });

  test("delays a call on its clock", async () => {
    store.inject({ delayMs: 60_000 });
    let isDone = false;
    const call = read().then(() => {
      isDone = true;
    });
    await clock.advance(59_999);
    expect(isDone).toBe(false);
    await clock.advance(1);
    await call;
    expect(isDone).toBe(true);
  });

  test("lets an aborted call go at once, and cancels its timer", async () => {
    store.inject({ delayMs: 1000 });
    const abort = new AbortController();
    const call = store.read(0, new Uint8Array(1), abort.signal);
    abort.abort("enough");
    await expect(call).rejects.toBe("enough");
    expect(clock.pendingTimers).toBe(0);
  });

  test("hangs until it is healed, and then does what it was asked", async () => {
    store.inject({ isHanging: true, calls: 2 });
    const into = new Uint8Array(3);
    const calls = [store.read(0, into), store.flush()];
    await clock.advance(1_000_000);
    expect([store.hungCount, [...into]]).toEqual([2, [0, 0, 0]]);
    store.heal();
    await Promise.all(calls);
    expect([...into]).toEqual([7, 7, 7]);
  });

  test("takes a fault back", async () => {
    const takeBack = store.inject({ calls: Number.POSITIVE_INFINITY });
    expect(await codesOf([read])).toEqual(["EIO"]);
    takeBack();
    expect(await codesOf([read])).toEqual(["ok"]);
  });
});
