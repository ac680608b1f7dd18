/**
 * The conformance suite: what every `Store` must do, as tests that any runner can run.
 *
 *     import { describe, test } from "vitest"; // or "node:test"
 *     storeConformance({ describe, test }, (content, access) => new MyStore(content, access));
 *
 * A store that is asked to be writable and cannot be says so in its capabilities; the tests of
 * writing then pass without doing anything. Whether a flush makes anything durable cannot be seen
 * from here.
 */
import { realClock } from "../lib/clock.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import { Random } from "../lib/random.ts";
import { SECTOR_BYTES } from "../lib/units.ts";
import { StoreExpectations as Expect } from "./expectations.ts";
import type { Store } from "./store.ts";

/** What the suite needs of a test runner. */
export interface TestApi {
  describe(title: string, body: () => void): void;
  test(title: string, body: () => Promise<void>): void;
}

/** Makes a fresh store with `content`, which the suite does not use again. The suite closes it. */
export type MakeStore = (
  content: Uint8Array,
  access: { readonly canWrite: boolean },
) => MaybeAsync<Store>;

const CONTENT_SEED = 1;
/** No multiple of a sector, so that the last one is cut. */
const CONTENT_BYTES = 40 * SECTOR_BYTES + 100;
/** More than the vectors that one system call takes. */
const MANY_VECTORS = 2500;

/** Declares the tests. */
export function storeConformance(api: TestApi, makeStore: MakeStore): void {
  const suite: Suite = {
    test(title, canWrite, body) {
      api.test(title, async () => {
        const content = new Random(CONTENT_SEED).bytes(CONTENT_BYTES);
        const store = await makeStore(content.slice(), { canWrite });
        try {
          if (!canWrite || store.capabilities.canWrite) await body(store, content);
        } finally {
          await store.close();
        }
      });
    },
  };
  api.describe("store conformance", () => {
    testReading(suite);
    testWriting(suite);
    testZeroing(suite);
    testRanges(suite);
    testReadOnly(suite);
    testAbort(suite);
    testClose(suite);
  });
}

interface Suite {
  test(
    title: string,
    canWrite: boolean,
    body: (store: Store, content: Uint8Array) => Promise<void>,
  ): void;
}

function testReading({ test }: Suite): void {
  test("says its size, and what it can do", false, async (store) => {
    const { blockBytes, canWrite, hasVolatileCache } = store.capabilities;
    Expect.equal(store.sizeBytes, CONTENT_BYTES, "sizeBytes");
    Expect.isTrue(store.name.length > 0, "a store has a name");
    Expect.isTrue(blockBytes >= SECTOR_BYTES, "blockBytes is at least a sector");
    Expect.equal(Math.log2(blockBytes) % 1, 0, "log2 of blockBytes, without its integer part,");
    Expect.isTrue(canWrite || !hasVolatileCache, "what is never written is never volatile");
  });

  test("reads what there is, all of it or any part", false, async (store, content) => {
    await Expect.content(store, content);
    for (const [from, to] of [
      [0, 1],
      [1, SECTOR_BYTES],
      [SECTOR_BYTES - 1, SECTOR_BYTES + 1],
      [7, 10_000],
      [CONTENT_BYTES - 101, CONTENT_BYTES],
    ] as const) {
      const into = new Uint8Array(to - from);
      await store.read(from, into);
      Expect.bytes(into, content.subarray(from, to), `bytes ${from} to ${to}`);
    }
  });

  test(
    "fills several arrays one after the other, empty ones too",
    false,
    async (store, content) => {
      const into = [0, 1, SECTOR_BYTES, 0, 3000, 5, 0].map((length) => new Uint8Array(length));
      await store.read(100, into);
      let at = 100;
      for (const part of into) {
        Expect.bytes(part, content.subarray(at, at + part.length), `vector at ${at}`);
        at += part.length;
      }
    },
  );

  test("fills more arrays than one system call takes", false, async (store, content) => {
    const into = Array.from(
      { length: MANY_VECTORS },
      (_, index) => new Uint8Array((index % 7) + 1),
    );
    await store.read(3, into);
    const joined = joinOf(into);
    Expect.bytes(joined, content.subarray(3, 3 + joined.length), "all vectors together");
  });

  test("touches nothing around the array it fills", false, async (store, content) => {
    const around = new Uint8Array(3000).fill(0xa5);
    await store.read(1, around.subarray(1000, 2000));
    Expect.bytes(around.subarray(1000, 2000), content.subarray(1, 1001), "the array");
    Expect.bytes(around.subarray(0, 1000), new Uint8Array(1000).fill(0xa5), "what is before it");
    Expect.bytes(around.subarray(2000), new Uint8Array(1000).fill(0xa5), "what is behind it");
  });

  test("answers calls that overlap in time", false, async (store, content) => {
    const reads = Array.from({ length: 64 }, async (_, index) => {
      const into = new Uint8Array(1000);
      await store.read(index * 300, into);
      Expect.bytes(into, content.subarray(index * 300, index * 300 + 1000), `read ${index}`);
    });
    await Promise.all(reads);
  });
}

function testWriting({ test }: Suite): void {
  test("reads back what it wrote, and leaves the rest alone", true, async (store, content) => {
    const model = content.slice();
    const random = new Random(2);
    for (const [at, length] of [
      [0, 10],
      [SECTOR_BYTES - 1, 2],
      [2 * SECTOR_BYTES, SECTOR_BYTES],
      [5000, 7777],
      [CONTENT_BYTES - 200, 200],
    ] as const) {
      const bytes = random.bytes(length);
      await store.write(at, bytes);
      model.set(bytes, at);
      await Expect.content(store, model);
      for (const start of [at + 1, at + length - 1, Math.max(0, at - 5)])
        await Expect.part(store, start, model.subarray(start, start + length));
    }
  });

  test(
    "writes several arrays one after the other, empty ones too",
    true,
    async (store, content) => {
      const random = new Random(3);
      const few = [0, 9, SECTOR_BYTES, 0, 2000].map((length) => random.bytes(length));
      await store.write(77, few);
      content.set(joinOf(few), 77);
      const many = Array.from({ length: MANY_VECTORS }, (_, index) =>
        random.bytes((index % 5) + 1),
      );
      await store.write(6000, many);
      content.set(joinOf(many), 6000);
      await Expect.content(store, content);
    },
  );

  test("takes writes that must be durable at once, and flushes", true, async (store, content) => {
    const bytes = new Random(4).bytes(1000);
    await store.write(1024, bytes, { fua: true });
    await store.flush();
    content.set(bytes, 1024);
    await Expect.content(store, content);
  });

  test("takes writes that overlap in time, side by side", true, async (store, content) => {
    const random = new Random(5);
    const writes = Array.from({ length: 40 }, (_, index) => {
      const bytes = random.bytes(SECTOR_BYTES - 12);
      content.set(bytes, index * SECTOR_BYTES + 6);
      return store.write(index * SECTOR_BYTES + 6, bytes);
    });
    await Promise.all(writes);
    await Expect.content(store, content);
  });
}

function testZeroing({ test }: Suite): void {
  test("zeroes a range and nothing around it", true, async (store, content) => {
    await store.writeZeroes(777, 9000);
    await store.writeZeroes(777, 9000);
    await store.writeZeroes(20, 0);
    await Expect.content(store, content.fill(0, 777, 9777));
  });

  test("discards a range and nothing around it", true, async (store, content) => {
    const from = 4 * SECTOR_BYTES;
    const to = 8 * SECTOR_BYTES;
    await store.discard(from, to - from);
    await Expect.part(store, 0, content.subarray(0, from));
    await Expect.part(store, to, content.subarray(to));
    await store.write(from, content.subarray(from, to));
    await Expect.content(store, content);
  });
}

function testRanges({ test }: Suite): void {
  test("takes empty ranges up to its end", false, async (store) => {
    await store.read(0, new Uint8Array(0));
    await store.read(CONTENT_BYTES, new Uint8Array(0));
    await store.read(CONTENT_BYTES, []);
  });

  const badRanges: readonly (readonly [number, number])[] = [
    [CONTENT_BYTES, 1],
    [CONTENT_BYTES - 1, 2],
    [CONTENT_BYTES + 1, 0],
    [2 ** 52, 10],
    [-1, 1],
    [0.5, 1],
    [Number.NaN, 1],
    [Number.POSITIVE_INFINITY, 0],
  ];

  test("refuses to read outside its range with EINVAL", false, async (store) => {
    for (const [at, length] of badRanges) {
      await Expect.failure("EINVAL", () => store.read(at, new Uint8Array(length)));
      await Expect.failure("EINVAL", () =>
        store.read(at, [new Uint8Array(0), new Uint8Array(length)]),
      );
    }
  });

  test("refuses to change what is outside its range with EINVAL", true, async (store, content) => {
    for (const [at, length] of badRanges) {
      await Expect.failure("EINVAL", () => store.write(at, new Uint8Array(length)));
      await Expect.failure("EINVAL", () => store.discard(at, length));
      await Expect.failure("EINVAL", () => store.writeZeroes(at, length));
    }
    await Expect.failure("EINVAL", () => store.writeZeroes(10, -5));
    await Expect.content(store, content);
  });
}

function testReadOnly({ test }: Suite): void {
  test("refuses every change with EROFS when read-only", false, async (store, content) => {
    if (store.capabilities.canWrite) return;
    await Expect.failure("EROFS", () => store.write(0, new Uint8Array(10)));
    await Expect.failure("EROFS", () => store.write(0, new Uint8Array(10), { fua: true }));
    await Expect.failure("EROFS", () => store.write(0, []));
    await Expect.failure("EROFS", () => store.discard(0, 10));
    await Expect.failure("EROFS", () => store.writeZeroes(0, 10));
    await store.flush();
    await Expect.content(store, content);
  });
}

function testAbort({ test }: Suite): void {
  test("throws the reason of a signal that is aborted already", false, async (store) => {
    const reason = { because: "of the test" };
    const signal = AbortSignal.abort(reason);
    const into = new Uint8Array(10);
    await Expect.reason(reason, () => store.read(0, into, signal));
    await Expect.reason(reason, () => store.flush(signal));
    Expect.bytes(into, new Uint8Array(10), "the array of the aborted read");
  });

  test("changes nothing when its signal is aborted already", true, async (store, content) => {
    const reason = { because: "of the test" };
    const signal = AbortSignal.abort(reason);
    await Expect.reason(reason, () => store.write(0, new Uint8Array(10), { signal }));
    await Expect.reason(reason, () => store.discard(0, 10, signal));
    await Expect.reason(reason, () => store.writeZeroes(0, 10, signal));
    await Expect.content(store, content);
  });

  test("lets go of the array once an aborted read has settled", false, async (store, content) => {
    const reason = { because: "of the test" };
    const abort = new AbortController();
    const into = new Uint8Array(CONTENT_BYTES);
    const read = store.read(0, into, abort.signal);
    abort.abort(reason);
    const thrown = await Expect.outcome(read);
    if (thrown === undefined) Expect.bytes(into, content, "the array of a read that came first");
    else Expect.equal(thrown.reason, reason, "what an aborted read throws");
    into.fill(0x5a);
    await Expect.content(store, content); // Should take as long as what may still be in flight.
    await realClock.turn();
    Expect.bytes(into, new Uint8Array(CONTENT_BYTES).fill(0x5a), "the array after the read");
  });
}

function testClose({ test }: Suite): void {
  const afterClose: readonly [string, (store: Store) => Promise<void>][] = [
    ["read", (store) => store.read(0, new Uint8Array(10))],
    ["flush", (store) => store.flush()],
    ["write", (store) => store.write(0, new Uint8Array(10))],
    ["discard", (store) => store.discard(0, 10)],
    ["writeZeroes", (store) => store.writeZeroes(0, 10)],
  ];
  for (const [op, call] of afterClose) {
    test(`refuses ${op} with EBADF once closed`, true, async (store) => {
      await store.close();
      await Expect.failure("EBADF", () => call(store));
    });
  }

  test("refuses to read with EBADF once closed, when read-only", false, async (store) => {
    await store.close();
    await Expect.failure("EBADF", () => store.read(0, new Uint8Array(10)));
  });

  test("closes twice as well as once", false, async (store) => {
    await Promise.all([store.close(), store.close()]);
    await store.close();
  });

  test("finishes the calls in flight before it is closed", false, async (store, content) => {
    let isSettled = false;
    const into = new Uint8Array(CONTENT_BYTES);
    const read = Expect.outcome(store.read(0, into)).then((failure) => {
      isSettled = true;
      return failure;
    });
    await store.close();
    await realClock.turn(); // What settled with the call may be heard of a little later.
    Expect.isTrue(isSettled, "the read came to its end first");
    Expect.equal(await read, undefined, "the failure of the read");
    Expect.bytes(into, content, "what was read");
  });
}

function joinOf(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
