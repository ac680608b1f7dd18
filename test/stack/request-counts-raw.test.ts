/** How few requests reach the store below a plain cached file: counts, which carry no noise. */
import { describe, expect, test } from "vitest";
import { type CachedFile, cached } from "../../src/front/cached.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB, PAGE_BYTES } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";

const SIZE_BYTES = 200 * MIB;

function countedStore(): CountingStore {
  const bytes = new Uint8Array(SIZE_BYTES);
  const words = new Uint32Array(bytes.buffer);
  for (let at = 0; at < words.length; at += 1024) words[at] = at;
  return new CountingStore(new MemoryStore(bytes, { canWrite: false }));
}

async function readAll(file: CachedFile, callBytes: number): Promise<void> {
  const into = new Uint8Array(callBytes);
  const words = new Uint32Array(into.buffer);
  for (let at = 0; at < SIZE_BYTES; at += callBytes) {
    expect(await file.readInto(at, into)).toBe(callBytes);
    if (words[0] !== at / 4) throw new Error(`wrong bytes at ${at}`);
  }
}

describe("a plain cached file of 200 MiB", () => {
  test.each([MIB, PAGE_BYTES])("is read in calls of %i bytes with few requests", async (call) => {
    const store = countedStore();
    const file = await cached(store);
    await readAll(file, call);
    expect(store.reads).toBeLessThanOrEqual(210);
    expect(store.readBytes).toBe(SIZE_BYTES);
    store.reset();
    await readAll(file, call);
    expect(store.reads).toBe(0);
    await file.close();
  });

  test.each([MIB, PAGE_BYTES])("is read in calls of %i through a cache of 16 MiB", async (call) => {
    const store = countedStore();
    const file = await cached(store, { cache: "16MiB" });
    await readAll(file, call);
    expect(store.reads).toBeLessThanOrEqual(210);
    expect(store.readBytes).toBe(SIZE_BYTES);
    await file.close();
  });

  test("costs one request for each random page that is not cached", async () => {
    const store = countedStore();
    const file = await cached(store);
    const random = new Random(7);
    const pages = new Set<number>();
    const into = new Uint8Array(PAGE_BYTES);
    // Far apart, so that no two look like the beginning of a sequential reader.
    while (pages.size < 500) pages.add(1 + 16 * random.below(SIZE_BYTES / PAGE_BYTES / 16 - 1));
    for (const page of pages) await file.readInto(page * PAGE_BYTES, into);
    expect(store.reads).toBe(pages.size);
    expect(store.readBytes).toBe(pages.size * PAGE_BYTES);
    await file.close();
  });
});
