/** Acceptance cases of section 12.10 that concern reading: what JavaScript changes. */
import { expect, test } from "vitest";
import { Bio, REQ_OP_READ } from "../../../src/block/bio.ts";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { openCacheFile } from "../../../src/cache/cache-file.ts";
import { filemapRead } from "../../../src/cache/filemap.ts";
import type { Folio } from "../../../src/cache/folio.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import { VirtualClock } from "../../../src/lib/clock.ts";
import { EINTR, EIO, ENOMEM, EUCLEAN, FsError } from "../../../src/lib/errno.ts";
import { AsyncRwLock } from "../../../src/lib/locks.ts";
import { FILE_BYTES_MAX, KIB, PAGE_BYTES } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { CachedFile } from "../../support/cached-file.ts";

test("W119 a read does not end before submitBio has returned", async () => {
  const clock = new VirtualClock();
  const device = new StoreBlockDevice(new MemoryStore(PAGE_BYTES), { clock });
  const host = { ino: 1, size: PAGE_BYTES, blockBytes: PAGE_BYTES, rwsem: new AsyncRwLock() };
  const lockedAfterSubmit: boolean[] = [];
  const cache = new PageCache({ clock });
  const mapping = cache.openMapping(host, {
    readFolio(_file, folio: Folio) {
      const bio = new Bio(REQ_OP_READ, 0, folio.posBytes, ({ status }) =>
        folio.endRead(status === 0),
      );
      bio.addVector(folio.bytes);
      device.submitBio(bio);
      lockedAfterSubmit.push(folio.isLocked);
      return 0;
    },
  });
  const into = new Uint8Array(PAGE_BYTES);
  const count = filemapRead({ file: openCacheFile(mapping), posBytes: 0, flags: 0 }, into);
  expect(count).toBeInstanceOf(Promise);
  expect(await count).toBe(PAGE_BYTES);
  expect(lockedAfterSubmit).toEqual([true]);
});

interface Failure {
  readonly what: string;
  readonly raPages: number;
  readonly script: (fixture: CachedFile) => void;
  readonly errno: number;
}

const failures: Failure[] = [
  {
    what: "readFolio throws",
    raPages: 0,
    script: ({ script }) => {
      script.onReadFolio = () => {
        throw new Error("from a store");
      };
    },
    errno: -EIO,
  },
  {
    what: "readFolio rejects",
    raPages: 0,
    script: ({ script }) => {
      script.onReadFolio = () => Promise.reject(new FsError("EUCLEAN"));
    },
    errno: -EUCLEAN,
  },
  {
    what: "readFolio returns an errno, later",
    raPages: 0,
    script: ({ script }) => {
      script.onReadFolio = () => Promise.resolve(-EUCLEAN);
    },
    errno: -EUCLEAN,
  },
  {
    what: "readahead and the read of the page complete with an error",
    raPages: 4,
    script: ({ script }) => {
      script.failures.set(0, 2);
    },
    errno: -EIO,
  },
];

for (const { what, raPages, script, errno } of failures) {
  test(`W124 ${what}: the read fails, and leaves no folio locked`, async () => {
    const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES, raPages });
    script(fixture);
    expect(await fixture.readPages(0)).toBe(errno);
    expect(fixture.cache.lockedCount).toBe(0);
    fixture.cache.verify();
    fixture.script.onReadFolio = () => 0;
    expect(await fixture.readPages(0)).toBe(PAGE_BYTES);
  });
}

test("W124 readahead throws or rejects: its folios go, and the read is done page by page", async () => {
  for (const isAsync of [false, true]) {
    const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES });
    fixture.script.onReadahead = (rac) => {
      rac.next();
      if (!isAsync) throw new Error("from getBlock");
      return Promise.reject(new Error("from getBlock"));
    };
    expect(await fixture.readPages(0)).toBe(PAGE_BYTES);
    expect(fixture.script.log).toEqual(["0"]);
    expect(fixture.cache.lockedCount).toBe(0);
    fixture.cache.verify();
  }
});

test("W125 the last pages of the largest file are read at their places", async () => {
  const fixture = new CachedFile({ sizeBytes: FILE_BYTES_MAX });
  for (const posBytes of [5 * 2 ** 30, 2 ** 43, FILE_BYTES_MAX - PAGE_BYTES]) {
    expect(await fixture.read(posBytes, PAGE_BYTES)).toBe(PAGE_BYTES);
  }
  expect(fixture.script.log).toEqual(["1310720", "2147483648", "4294967295"]);
  expect(await fixture.read(FILE_BYTES_MAX - 100, PAGE_BYTES)).toBe(100);
  expect(await fixture.read(FILE_BYTES_MAX, PAGE_BYTES)).toBe(0);
  fixture.cache.verify();
});

test("W126 an aborted reader leaves at once; the read goes on, for another reader", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES });
  fixture.script.isGated = true;
  const abort = new AbortController();
  const aborted = fixture.read(0, PAGE_BYTES, { signal: abort.signal });
  const other = fixture.readPages(0);
  abort.abort();
  expect(await aborted).toBe(-EINTR);
  const folio = fixture.folio(0);
  expect([folio.isLocked, folio.isUptodate]).toEqual([true, false]);
  fixture.script.release();
  expect(await other).toBe(PAGE_BYTES);
  expect([folio.isLocked, folio.isUptodate, folio.refs]).toEqual([false, true, 1]);
  expect(fixture.script.log).toEqual(["0-3 m1"]);
});

test("W127 a folio lock goes to its waiters in the order they came; tryLock overtakes none", async () => {
  const fixture = new CachedFile({ sizeBytes: PAGE_BYTES });
  await fixture.readPages(0);
  const folio = fixture.folio(0);
  expect(folio.tryLock()).toBe(true);
  const order: number[] = [];
  const waiters = Array.from({ length: 1000 }, async (_, number) => {
    await folio.lock();
    order.push(number);
    expect(folio.tryLock()).toBe(false);
    folio.unlock();
  });
  folio.unlock();
  expect(folio.tryLock()).toBe(false);
  await Promise.all(waiters);
  expect(order).toEqual(Array.from({ length: 1000 }, (_, number) => number));
  expect(folio.isLocked).toBe(false);
});

/** An arena of 64 frames, 4 of them in reserve, and reads that are kept back in all the others. */
async function fullArena(): Promise<{ fixture: CachedFile; readers: Promise<number>[] }> {
  const fixture = new CachedFile({
    sizeBytes: 1000 * PAGE_BYTES,
    arenaBytes: 256 * KIB,
    raPages: 0,
  });
  fixture.script.isGated = true;
  const readers = Array.from({ length: 60 }, (_, page) => fixture.readPages(page));
  await fixture.clock.turn();
  expect(fixture.cache.arena.freeFrames).toBe(fixture.cache.arena.reserveFrames);
  return { fixture, readers };
}

test("W129 with all memory locked, readahead gives way and the read of a page waits", async () => {
  const { fixture, readers } = await fullArena();
  const other = openCacheFile(fixture.mapping);
  other.ra.raPages = 32;
  const waiting = fixture.read(500 * PAGE_BYTES, PAGE_BYTES, { file: other });
  await fixture.clock.turn();
  expect(fixture.script.reads.length).toBe(60);
  fixture.script.isGated = false;
  fixture.script.release(1);
  expect(await waiting).toBe(PAGE_BYTES);
  fixture.script.release();
  expect(await Promise.all(readers)).toEqual(readers.map(() => PAGE_BYTES));
  fixture.cache.verify();
});

test("W129 readahead takes what room there is, and reads that", async () => {
  const fixture = new CachedFile({
    sizeBytes: 1000 * PAGE_BYTES,
    arenaBytes: 256 * KIB,
    raPages: 128,
  });
  expect(await fixture.readPages(0, 64)).toBe(64 * PAGE_BYTES);
  expect(fixture.script.log[0]).toBe("0-55");
  fixture.cache.verify();
});

test("W129 a store that never answers ends the wait for memory with ENOMEM", async () => {
  const { fixture, readers } = await fullArena();
  const waiting = fixture.readPages(500);
  await fixture.clock.turn();
  await fixture.clock.advance(10_000);
  expect(await waiting).toBe(-ENOMEM);
  fixture.script.release();
  await Promise.all(readers);
  expect(fixture.clock.pendingTimers).toBe(0);
});

test("W129 a store that fails everything ends it with EIO", async () => {
  const { fixture, readers } = await fullArena();
  for (let page = 0; page < 1000; page++) fixture.script.failures.set(page, Infinity);
  const waiting = fixture.readPages(500);
  await fixture.clock.turn();
  fixture.script.isGated = false;
  fixture.script.release();
  expect(await waiting).toBe(-EIO);
  expect(await Promise.all(readers)).toEqual(readers.map(() => -EIO));
  expect(fixture.cache.lockedCount).toBe(0);
});

test("W129 with every page kept by somebody and nothing in flight, there is no hope", async () => {
  const { fixture, readers } = await fullArena();
  fixture.script.isGated = false;
  fixture.script.release();
  for (let page = 0; page < 60; page++) fixture.folio(page).get();
  await Promise.all(readers);
  expect(await fixture.readPages(500)).toBe(-ENOMEM);
  fixture.folio(7).put();
  expect(await fixture.readPages(500)).toBe(PAGE_BYTES);
});
