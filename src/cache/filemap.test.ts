import fc from "fast-check";
import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { runs } from "../../test/support/runs.ts";
import { withExactArenas } from "../../test/support/small-arena.ts";
import { EAGAIN, EINTR, EINVAL, EIO } from "../lib/errno.ts";
import { Random } from "../lib/random.ts";
import type { TraceEvent } from "../lib/trace.ts";
import { FILE_BYTES_MAX, KIB, MIB, PAGE_BYTES } from "../lib/units.ts";
import { attachBlockState } from "./block-state.ts";
import { openCacheFile } from "./cache-file.ts";
import { fadvise, POSIX_FADV_DONTNEED } from "./fadvise.ts";
import { filemapRead, IOCB_NOIO, IOCB_NOWAIT } from "./filemap.ts";

test("a read moves the position on, and ends at the end of the file", async () => {
  const { file } = new CachedFile({ sizeBytes: 10_000 });
  const iocb = { file, posBytes: 4000, flags: 0 };
  const into = new Uint8Array(5000);
  expect(await filemapRead(iocb, into)).toBe(5000);
  expect(await filemapRead(iocb, into)).toBe(1000);
  expect(await filemapRead(iocb, into)).toBe(0);
  expect(iocb.posBytes).toBe(10_000);
});

test("a negative position is EINVAL, an empty read 0, and what was read before is added", async () => {
  const { file } = new CachedFile({ sizeBytes: 100 });
  expect(filemapRead({ file, posBytes: -1, flags: 0 }, new Uint8Array(1))).toBe(-EINVAL);
  expect(filemapRead({ file, posBytes: 0, flags: 0 }, new Uint8Array(0))).toBe(0);
  expect(await filemapRead({ file, posBytes: 90, flags: 0 }, new Uint8Array(20), 7)).toBe(17);
  expect(filemapRead({ file, posBytes: -1, flags: 0 }, new Uint8Array(1), 7)).toBe(7);
});

test("with NOWAIT a miss is EAGAIN, but starts the reads that make the next try a hit", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  const into = new Uint8Array(PAGE_BYTES);
  const iocb = { file: fixture.file, posBytes: 0, flags: IOCB_NOWAIT };
  expect(filemapRead(iocb, into)).toBe(-EAGAIN);
  await fixture.clock.turn();
  expect(filemapRead(iocb, into)).toBe(PAGE_BYTES);
  expect(fixture.script.log).toEqual(["0-3 m1"]);
});

test("with NOWAIT a read gives what is ready, and neither reads nor waits for a folio itself", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES, raPages: 0 });
  await fixture.readPages(0, 2);
  expect(await fixture.read(0, 4 * PAGE_BYTES, { flags: IOCB_NOWAIT })).toBe(2 * PAGE_BYTES);
  expect(await fixture.read(2 * PAGE_BYTES, 1, { flags: IOCB_NOWAIT })).toBe(-EAGAIN);
  fixture.script.failures.set(2, 1);
  expect(await fixture.readPages(2)).toBe(-EIO);
  expect(await fixture.read(2 * PAGE_BYTES, 1, { flags: IOCB_NOWAIT })).toBe(-EAGAIN);
  expect(fixture.script.log).toEqual(["0", "1", "2"]);
});

test("with NOIO nothing is started: neither at a miss nor at a mark", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  expect(await fixture.read(0, PAGE_BYTES, { flags: IOCB_NOIO })).toBe(-EAGAIN);
  await fixture.readPages(0);
  expect(await fixture.read(0, 2 * PAGE_BYTES, { flags: IOCB_NOIO })).toBe(PAGE_BYTES);
  expect(await fixture.read(PAGE_BYTES, PAGE_BYTES, { flags: IOCB_NOIO })).toBe(-EAGAIN);
  expect(fixture.script.log).toEqual(["0-3 m1"]);
});

test("a read that fails after some bytes returns them; the next one meets the error", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES, raPages: 4 });
  fixture.script.failures.set(2, 3);
  expect(await fixture.readPages(0, 4)).toBe(2 * PAGE_BYTES);
  expect(fixture.file.ra.raPages).toBe(1);
  expect(await fixture.readPages(2)).toBe(-EIO);
  expect(await fixture.readPages(2)).toBe(PAGE_BYTES);
});

test("a folio with the wanted bytes valid is read from without I/O, and no further", async () => {
  const fixture = new CachedFile({ sizeBytes: 2 * PAGE_BYTES, raPages: 0 });
  fixture.script.failures.set(0, 1);
  expect(await fixture.readPages(0)).toBe(-EIO);
  const state = attachBlockState(fixture.folio(0), KIB);
  state.setValid(KIB, KIB);
  const { script } = fixture;
  Object.assign(script, {
    isPartiallyUptodate: (_folio: unknown, from: number, count: number) =>
      state.isValid(from, count),
  });
  const before = script.reads.length;
  expect(await fixture.read(1500, 500)).toBe(500);
  expect(script.reads.length).toBe(before);
  expect(await fixture.read(1500, 600)).toBe(600);
  expect(script.reads.length).toBe(before + 1);
});

test("a file system that completes inside its call is read from without a promise", () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  fixture.script.isImmediate = true;
  const into = new Uint8Array(64 * PAGE_BYTES);
  expect(filemapRead({ file: fixture.file, posBytes: 0, flags: 0 }, into)).toBe(into.length);
});

test("a read waits while content is being taken away, then starts over", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES });
  const { invalidateLock } = fixture.mapping;
  expect(invalidateLock.tryWrite()).toBe(true);
  const reading = fixture.readPages(0);
  expect(await fixture.read(0, 1, { flags: IOCB_NOWAIT })).toBe(-EAGAIN);
  await fixture.clock.turn();
  expect(fixture.script.reads).toEqual([]);
  invalidateLock.unlockWrite();
  expect(await reading).toBe(PAGE_BYTES);
  expect(invalidateLock.tryWrite()).toBe(true);
});

test("an abort while the read is kept from starting is EINTR too", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES, raPages: 0 });
  const abort = new AbortController();
  fixture.mapping.invalidateLock.tryWrite();
  const reading = fixture.read(0, 1, { signal: abort.signal });
  abort.abort();
  await fixture.clock.turn();
  fixture.mapping.invalidateLock.unlockWrite();
  expect(await reading).toBe(-EINTR);
});

test("hits, misses and what readahead brought in time are counted", async () => {
  const fixture = new CachedFile({ sizeBytes: 1000 * PAGE_BYTES });
  for (let page = 0; page < 5; page++) await fixture.readPages(page);
  expect(fixture.cache.stats()).toMatchObject({
    requests: 5,
    bytes: 5 * PAGE_BYTES,
    hits: 4,
    misses: 1,
    addedPages: 28,
    readaheadHits: 4,
    cachedPages: 28,
  });
});

test("tracing tells of each folio added, read, hit and removed, and of nothing while off", async () => {
  const fixture = new CachedFile({ sizeBytes: PAGE_BYTES, raPages: 0 });
  const events: TraceEvent[] = [];
  const stop = fixture.cache.trace.on((event) => events.push(event));
  await fixture.readPages(0);
  await fixture.readPages(0);
  expect(fadvise(fixture.file, 0, 0, POSIX_FADV_DONTNEED)).toBe(0);
  stop();
  await fixture.readPages(0);
  expect(events.map(({ name }) => name)).toEqual([
    "mm_filemap_add_to_page_cache",
    "read_folio",
    "filemap_hit",
    "mm_filemap_delete_from_page_cache",
  ]);
  expect(events[0]).toMatchObject({ ino: 1, index: 0, order: 0 });
});

test("a cold random read of one page costs one read of just that page", async () => {
  const fixture = new CachedFile({ sizeBytes: 256 * MIB, maxOrder: 8, raPages: 256 });
  const random = new Random(7);
  const pages = new Set<number>();
  while (pages.size < 300) pages.add(8 * (1 + random.below(8000)));
  for (const page of pages) await fixture.readPages(page);
  expect(fixture.script.log).toEqual([...pages].map(String));
});

for (const [arenaMib, callBytes, readsMax] of [
  [256, PAGE_BYTES, 208],
  [256, MIB, 200],
  [4, PAGE_BYTES, 208],
  [4, MIB, 200],
] as const) {
  test(`200 MiB in calls of ${callBytes} with ${arenaMib} MiB of memory: ${readsMax} reads`, async () => {
    withExactArenas(); // Counts are those of its size.
    const sizeBytes = 200 * MIB;
    const arenaBytes = arenaMib * MIB;
    const fixture = new CachedFile({ sizeBytes, arenaBytes, maxOrder: 8, raPages: 256 });
    fixture.script.isBlank = true;
    const into = new Uint8Array(callBytes);
    const iocb = { file: fixture.file, posBytes: 0, flags: 0 };
    for (let count = -1; count !== 0; ) {
      const read = filemapRead(iocb, into);
      count = read instanceof Promise ? await read : read;
    }
    expect(iocb.posBytes).toBe(sizeBytes);
    expect(fixture.script.reads.length).toBeLessThanOrEqual(readsMax);
    fixture.cache.verify();
    if (arenaMib === 256) {
      const before = fixture.script.reads.length;
      expect(filemapRead({ ...iocb, posBytes: 0 }, new Uint8Array(sizeBytes))).toBe(sizeBytes);
      expect(fixture.script.reads.length).toBe(before);
    }
  });
}

interface Step {
  readonly page: number;
  readonly count: number;
  readonly what: "read" | "abort" | "fail" | "drop" | "release" | "open" | "settle";
}

const step: fc.Arbitrary<Step> = fc.record({
  page: fc.nat(299),
  count: fc.integer({ min: 1, max: 40 }),
  what: fc.constantFrom(
    "read",
    "read",
    "read",
    "abort",
    "fail",
    "drop",
    "release",
    "open",
    "settle",
  ),
});

/**
 * Runs `steps` over a gated file in little memory, checking bytes, and that everything comes to
 * rest.
 */
async function runSteps(steps: readonly Step[], maxOrder: number): Promise<void> {
  const sizeBytes = 300 * PAGE_BYTES - 1234;
  const fixture = new CachedFile({ sizeBytes, arenaBytes: 512 * KIB, maxOrder, raPages: 32 });
  fixture.script.isGated = true;
  let file = fixture.file;
  const reads: Promise<unknown>[] = [];
  for (const { page, count, what } of steps) {
    const posBytes = page * PAGE_BYTES + (count % 3) * 700;
    const lengthBytes = count * 2500;
    if (what === "read") {
      const full = Math.max(0, Math.min(lengthBytes, sizeBytes - posBytes));
      const reading = fixture.read(posBytes, lengthBytes, { file });
      reads.push(
        reading.then((n) => expect(n === full || n === -EIO || (n > 0 && n < full)).toBe(true)),
      );
    } else if (what === "abort") {
      const abort = new AbortController();
      reads.push(fixture.read(posBytes, lengthBytes, { file, signal: abort.signal }));
      abort.abort();
    } else if (what === "fail") fixture.script.failures.set(page, count % 3);
    else if (what === "drop")
      await fadvise(file, posBytes, count * PAGE_BYTES, POSIX_FADV_DONTNEED);
    else if (what === "release") fixture.script.release(1 + (count % 4));
    else if (what === "open") file = openCacheFile(fixture.mapping);
    else await fixture.clock.turn();
    fixture.cache.verify();
  }
  fixture.script.isGated = false;
  fixture.script.release();
  await Promise.all(reads);
  fixture.cache.verify();
  expect([fixture.cache.lockedCount, fixture.cache.memoryWaiterCount]).toEqual([0, 0]);
  await fixture.cache.closeMapping(fixture.mapping);
  fixture.cache.verify();
  expect(fixture.cache.arena.freeFrames).toBe(fixture.cache.arena.frameCount);
}

for (const maxOrder of [0, 4]) {
  test(`readers, aborts, failures and drops at once, folios up to order ${maxOrder}`, async () => {
    const steps = fc.array(step, { size: "max", maxLength: 60 });
    const property = fc.asyncProperty(steps, (list) => runSteps(list, maxOrder));
    await fc.assert(property, { numRuns: runs(60) });
  });
}

test("of a file that is longer than a cache reaches, what it reaches is read", async () => {
  const fixture = new CachedFile({ sizeBytes: FILE_BYTES_MAX + PAGE_BYTES });
  expect(await fixture.read(FILE_BYTES_MAX - PAGE_BYTES, 2 * PAGE_BYTES)).toBe(PAGE_BYTES);
  expect(await fixture.read(FILE_BYTES_MAX - PAGE_BYTES, 2 * PAGE_BYTES)).toBe(PAGE_BYTES);
  expect(await fixture.read(FILE_BYTES_MAX, PAGE_BYTES)).toBe(0);
});
