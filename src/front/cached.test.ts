import { describe, expect, test } from "vitest";
import { Random } from "../lib/random.ts";
import { CountingStore } from "../store/counting-store.ts";
import { MemoryStore } from "../store/memory-store.ts";
import { cached } from "./cached.ts";

const content = new Random(5).bytes(1_000_003);

function openCounted(): { store: CountingStore; open: ReturnType<typeof cached> } {
  const store = new CountingStore(new MemoryStore(content.slice(), { canWrite: false }));
  return { store, open: cached(store, { cache: "4MiB" }) };
}

describe("a cached store", () => {
  test("gives its bytes, fewer at the end, none behind it", async () => {
    const file = await openCounted().open;
    expect(file.sizeBytes).toBe(content.length);
    expect(Buffer.compare(await file.read(12_345, 70_000), content.subarray(12_345, 82_345))).toBe(
      0,
    );
    expect(Buffer.compare(await file.read(1_000_000, 100), content.subarray(1_000_000))).toBe(0);
    expect((await file.read(content.length, 5)).length).toBe(0);
    expect((await file.read(2 ** 45, 5)).length).toBe(0);
    expect((await file.read(5n, 3)).length).toBe(3);
    await file.close();
  });

  test("asks the store once for what is read twice", async () => {
    const { store, open } = openCounted();
    const file = await open;
    await file.read(0, content.length);
    const { reads } = store;
    await file.read(0, content.length);
    expect(store.reads).toBe(reads);
    expect(file.stats().cache.hits).toBeGreaterThan(0);
    await file.close();
  });

  test("readSync says EAGAIN for what is not cached, and asks for nothing", async () => {
    const { store, open } = openCounted();
    const file = await open;
    const into = new Uint8Array(10);
    expect([file.readSync(0, into), store.reads]).toEqual([-11, 0]);
    await file.read(0, 1);
    expect(file.readSync(0, into)).toBe(10);
    expect(Buffer.compare(into, content.subarray(0, 10))).toBe(0);
    await file.close();
  });

  test("advice drops a range, or fetches it", async () => {
    const { store, open } = openCounted();
    const file = await open;
    await file.advise("willneed", 0, 65_536);
    await file.read(0, 65_536);
    expect(store.reads).toBe(1);
    await file.advise("dontneed");
    expect(file.readSync(0, new Uint8Array(10))).toBe(-11);
    await file.close();
  });

  test("refuses offsets that are none", async () => {
    const file = await openCounted().open;
    for (const offset of [-1, 0.5, 2 ** 53, 2n ** 53n, -1n, 2n ** 64n, "1" as never]) {
      await expect(file.read(offset, 1)).rejects.toThrow(/"offset"/);
    }
    await file.close();
  });

  test("closes once, and refuses reads from then on", async () => {
    const file = await openCounted().open;
    const reading = file.read(0, 100);
    await Promise.all([file.close(), file.close()]);
    expect((await reading).length).toBe(100);
    await expect(file.read(0, 1)).rejects.toThrow("EBADF");
  });

  test("says what the store said when that fails", async () => {
    const store = new MemoryStore(content.slice(), { canWrite: false });
    const file = await cached(store, { cache: "4MiB" });
    const cable = new Error("the cable is out");
    store.read = () => Promise.reject(cable);
    const failed = file.read(0, 1);
    await expect(failed).rejects.toMatchObject({ code: "EIO", cause: cable });
    await file.close();
  });

  test("needs a cache of 4 MiB", async () => {
    const store = new MemoryStore(content.slice());
    await expect(cached(store, { cache: "1MiB" })).rejects.toThrow("at least 4.0 MiB, not 1.0 MiB");
  });
});
