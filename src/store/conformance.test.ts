/**
 * Every store and every decorator passes the conformance suite; and the suite fails stores that do
 * not do what they must, which is tested by breaking one in each way.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { realClock } from "../lib/clock.ts";
import { Random } from "../lib/random.ts";
import { type MakeStore, storeConformance, type TestApi } from "./conformance.ts";
import { CountingStore } from "./counting-store.ts";
import { FaultyStore } from "./faulty-store.ts";
import { openFileStore } from "./file-store.ts";
import { MemoryStore } from "./memory-store.ts";
import { SimDisk } from "./sim-disk.ts";
import type { Store } from "./store.ts";

const scratch = mkdtempSync(join(tmpdir(), "quire-conformance-"));
afterAll(() => rmSync(scratch, { recursive: true }));
let fileCount = 0;

const stores: Record<string, MakeStore> = {
  MemoryStore: (content, { canWrite }) => new MemoryStore(content, { canWrite }),
  FileStore: (content, { canWrite }) => {
    const path = join(scratch, `${fileCount++}.img`);
    writeFileSync(path, content);
    return openFileStore(path, { writable: canWrite });
  },
  CountingStore: (content, { canWrite }) =>
    new CountingStore(new MemoryStore(content, { canWrite })),
  FaultyStore: (content, { canWrite }) => {
    const store = new FaultyStore(new MemoryStore(content, { canWrite }), { clock: realClock });
    store.inject({ delayMs: 0, calls: 3 });
    return store;
  },
  SimDisk: (content, { canWrite }) =>
    new SimDisk(content, {
      clock: realClock,
      random: new Random(1),
      canWrite,
      latencyMs: (_op, _lengthBytes, random) => random.below(2),
    }),
  "SimDisk with large sectors": (content, { canWrite }) =>
    new SimDisk(content, {
      clock: realClock,
      random: new Random(2),
      canWrite,
      sectorBytes: 4096,
      latencyMs: () => 0,
    }),
};

for (const [name, makeStore] of Object.entries(stores)) {
  describe(name, () => storeConformance({ describe, test }, makeStore));
}

/** Runs the suite over `makeStore` and returns the titles of the tests that fail. */
async function failuresOf(makeStore: MakeStore): Promise<string[]> {
  const tests: [string, () => Promise<void>][] = [];
  const api: TestApi = {
    describe: (_title, body) => body(),
    test: (title, body) => tests.push([title, body]),
  };
  storeConformance(api, makeStore);
  const failed: string[] = [];
  for (const [title, body] of tests) {
    await body().catch(() => failed.push(title));
  }
  return failed;
}

type Broken = Partial<Store> & ThisType<MemoryStore>;

/** A memory store with some calls replaced. */
function brokenStore(replace: (inner: MemoryStore, content: Uint8Array) => Broken): MakeStore {
  return (content, { canWrite }) => {
    const inner = new MemoryStore(content, { canWrite });
    const store: Store = {
      name: inner.name,
      sizeBytes: inner.sizeBytes,
      capabilities: inner.capabilities,
      read: (...rest) => inner.read(...rest),
      write: (...rest) => inner.write(...rest),
      flush: (...rest) => inner.flush(...rest),
      discard: (...rest) => inner.discard(...rest),
      writeZeroes: (...rest) => inner.writeZeroes(...rest),
      close: () => inner.close(),
    };
    return Object.assign(store, replace(inner, content));
  };
}

describe("the conformance suite", () => {
  test("passes an unbroken store", async () => {
    expect(await failuresOf(brokenStore(() => ({})))).toEqual([]);
  });

  test.each<[string, (inner: MemoryStore, content: Uint8Array) => Broken, string]>([
    [
      "reads only the first of several arrays",
      (inner) => ({
        read: (at, into, signal) =>
          inner.read(at, into instanceof Uint8Array ? into : into.slice(0, 1), signal),
      }),
      "fills several arrays one after the other, empty ones too",
    ],
    [
      "reads short without saying so",
      (inner) => ({
        read: (at, into, signal) =>
          inner.read(at, into instanceof Uint8Array ? into.subarray(0, 1000) : into, signal),
      }),
      "reads what there is, all of it or any part",
    ],
    [
      "throws instead of rejecting",
      (inner) => ({
        read(at, into, signal) {
          if (at > inner.sizeBytes) throw new Error("outside");
          return inner.read(at, into, signal);
        },
      }),
      "refuses to read outside its range with EINVAL",
    ],
    [
      "ignores signals",
      (inner) => ({ read: (at, into) => inner.read(at, into) }),
      "throws the reason of a signal that is aborted already",
    ],
    [
      "goes on filling the array of an aborted read",
      (inner, content) => ({
        async read(at, into, signal) {
          if (signal === undefined || !(into instanceof Uint8Array))
            return inner.read(at, into, signal);
          const late = realClock.turn();
          void late.then(() => into.set(content.subarray(at, at + into.length)));
          throw signal.reason;
        },
      }),
      "lets go of the array once an aborted read has settled",
    ],
    [
      "zeroes too much",
      (inner) => ({
        writeZeroes: (at, length, signal) => inner.writeZeroes(at, length + 1, signal),
      }),
      "zeroes a range and nothing around it",
    ],
    [
      "closes over a read in flight",
      (inner) => ({
        async read(at, into, signal) {
          await realClock.turn();
          await inner.read(at, into, signal);
        },
      }),
      "finishes the calls in flight before it is closed",
    ],
    [
      "writes although it is read-only",
      (_inner, content) => ({
        async write(at, from) {
          if (from instanceof Uint8Array) content.set(from, at);
        },
      }),
      "refuses every change with EROFS when read-only",
    ],
  ])("fails a store that %s", async (_what, replace, title) => {
    expect(await failuresOf(brokenStore(replace))).toContain(title);
  });
});
