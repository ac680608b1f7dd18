import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { withExactArenas } from "../../test/support/small-arena.ts";
import { AssertionError } from "../lib/assert.ts";
import { KIB, MIB, PAGE_BYTES } from "../lib/units.ts";
import { openCacheFile } from "./cache-file.ts";
import { fadvise, POSIX_FADV_SEQUENTIAL, POSIX_FADV_WILLNEED } from "./fadvise.ts";
import { filemapRead } from "./filemap.ts";
import { forcePageCacheRa, type ReadaheadControl } from "./readahead.ts";

const LARGE = { sizeBytes: 64 * MIB, arenaBytes: 64 * MIB, maxOrder: 8, raPages: 256 };

test("each window of a stream comes in larger folios, up to one of 1 MiB", async () => {
  withExactArenas(); // How large folios are depends on the size of the arena.
  const fixture = new CachedFile(LARGE);
  for (let pos = 0; pos < 8 * MIB; pos += MIB) await fixture.read(pos, MIB);
  const orders = fixture.script.reads.map(({ folios }) => folios.map(({ order }) => order));
  expect(orders.map((list) => [list.length, list[0]])).toEqual([
    [256, 0],
    [64, 2],
    [16, 4],
    [4, 6],
    [1, 8],
    [1, 8],
    [1, 8],
    [1, 8],
    [1, 8],
  ]);
  fixture.cache.verify();
});

test("where no large run of frames is free, smaller folios make up the window", async () => {
  withExactArenas(); // How large folios are depends on the size of the arena.
  const fixture = new CachedFile({ ...LARGE, arenaBytes: 16 * MIB });
  const { cache, script, file } = fixture;
  // Seven of eight frames are free, and 64 in the reserve: no run of 128.
  const frames = Array.from({ length: 4032 }, () => cache.allocFolio(0)!);
  for (let at = 0; at < frames.length; at++) if (at % 8 !== 0) frames[at]!.put();
  for (let pos = 0; pos < 12 * MIB; pos += MIB) expect(await fixture.read(pos, MIB)).toBe(MIB);
  expect(file.ra.order).toBe(8);
  for (const { first, last, folios } of script.reads) {
    expect(last - first + 1).toBe(256);
    expect(Math.max(...folios.map(({ order }) => order))).toBeLessThan(7);
  }
  cache.verify();
});

test("a large folio ends where the file ends, and lies around a cached page", async () => {
  const fixture = new CachedFile({ ...LARGE, sizeBytes: 21 * PAGE_BYTES });
  await fixture.readPages(9);
  fixture.file.ra.order = 2;
  await fixture.readPages(0);
  await fixture.readPages(1);
  const orders = fixture.script.reads.map(({ folios }) => folios.map(({ order }) => order));
  expect(fixture.script.log).toEqual(["9", "0-3 m1", "4-8 m4", "10-19"]);
  expect(orders.slice(2)).toEqual([
    [2, 0],
    [1, 2, 2],
  ]);
});

test("blocks larger than a page come in folios that hold whole ones", async () => {
  const fixture = new CachedFile({ sizeBytes: 37 * PAGE_BYTES, minOrder: 2, raPages: 32 });
  expect(await fixture.readPages(5)).toBe(PAGE_BYTES);
  expect(fixture.script.log).toEqual(["4-7"]);
  expect(await fixture.readPages(30, 7)).toBe(7 * PAGE_BYTES);
  expect(fixture.script.log.slice(1)).toEqual(["28-39"]);
  expect(fixture.folio(36).order).toBe(2);
  fixture.cache.verify();
});

test("folios that the file system does not take are removed again", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  let taken: [number, number] | undefined;
  Object.assign(fixture.script, {
    readahead(rac: ReadaheadControl) {
      const folio = rac.next()!;
      taken = [rac.index, rac.nrPages];
      folio.endRead(true);
    },
  });
  const into = new Uint8Array(1);
  expect(filemapRead({ file: fixture.file, posBytes: 0, flags: 0 }, into)).toBe(1);
  expect(taken).toEqual([1, 3]);
  expect(fixture.mapping.nrpages).toBe(1);
  fixture.cache.verify();
});

test("without a readahead operation folios are read one by one", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  Object.assign(fixture.script, { readahead: undefined });
  await fixture.readPages(0);
  expect(fixture.script.log).toEqual(["0", "1 m1", "2", "3"]);
});

test("a window that needs metadata first does not hold up the reader at its mark", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  await fixture.readPages(0);
  let goOn = () => {};
  fixture.script.onReadahead = () =>
    new Promise((resolve) => {
      goOn = resolve;
    });
  const into = new Uint8Array(PAGE_BYTES);
  const iocb = { file: fixture.file, posBytes: PAGE_BYTES, flags: 0 };
  expect(filemapRead(iocb, into)).toBe(PAGE_BYTES);
  let isClosed = false;
  const closing = Promise.resolve(fixture.cache.closeMapping(fixture.mapping)).then(() => {
    isClosed = true;
  });
  await fixture.clock.turn();
  expect(isClosed).toBe(false);
  goOn();
  await closing;
  expect(fixture.script.log).toEqual(["0-3 m1", "4-11 m4"]);
  expect(fixture.cache.stats().cachedPages).toBe(0);
});

test("a reader that misses waits until its window is submitted", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  fixture.script.onReadahead = () => fixture.clock.turn();
  expect(await fixture.readPages(0, 2)).toBe(2 * PAGE_BYTES);
  expect(fixture.script.log[0]).toBe("0-3 m2");
});

test("forced readahead comes in chunks of 2 MiB, and skips what is cached", async () => {
  withExactArenas(); // For 1200 pages at a time.
  const fixture = new CachedFile({ ...LARGE, ioPages: 2048 });
  await forcePageCacheRa(fixture.file, 0, 1200);
  expect(fixture.script.log).toEqual(["0-511", "512-1023", "1024-1199"]);
  expect(fixture.file.ra).toMatchObject({ start: 0, size: 0 });
  expect(await fixture.logOf(() => forcePageCacheRa(fixture.file, 0, 1300))).toEqual(["1200-1299"]);
});

test("forced readahead goes on behind a chunk that had to wait", async () => {
  const fixture = new CachedFile({ ...LARGE, ioPages: 2048 });
  fixture.script.onReadahead = () => fixture.clock.turn();
  await forcePageCacheRa(fixture.file, 0, 1200);
  expect(fixture.script.log).toEqual(["0-511", "512-1023", "1024-1199"]);
});

test("WILLNEED to the end of the largest file reads one window", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  expect(await fadvise(fixture.file, 512 * KIB, 0, POSIX_FADV_WILLNEED)).toBe(0);
  expect(fixture.script.log).toEqual(["128-159"]);
});

test("SEQUENTIAL doubles the window", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  expect(fadvise(fixture.file, 0, 0, POSIX_FADV_SEQUENTIAL)).toBe(0);
  await fixture.readPages(0, 64);
  expect(fixture.script.log[0]).toBe("0-63 m32");
});

test("a folio of a run that is not locked any more is a bug", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  let failure: unknown;
  fixture.script.onReadahead = (rac) => {
    const folio = fixture.folio(rac.index);
    folio.unlock();
    try {
      rac.next();
    } catch (thrown) {
      failure = thrown;
    }
    folio.tryLock();
  };
  await fixture.readPages(0);
  expect(failure).toBeInstanceOf(AssertionError);
});

test("pages cached from the start of the file on count twice as a sign of a stream", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  await fixture.readPages(0);
  const other = openCacheFile(fixture.mapping);
  const read = () => fixture.read(4 * PAGE_BYTES, PAGE_BYTES, { file: other });
  expect(await fixture.logOf(read)).toEqual(["4-12 m12"]);
});

test("readahead that nobody waits for makes room for who waits for memory when it ends", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB, arenaBytes: 64 * KIB });
  fixture.script.isGated = true;
  await forcePageCacheRa(fixture.file, 0, 15);
  expect(fixture.cache.allocFolio(0)).not.toBeNull(); // The frame that readahead has left.
  expect(fixture.cache.allocFolio(0)).toBeNull();
  const reading = fixture.readPages(100);
  await fixture.clock.turn();
  fixture.script.isGated = false;
  fixture.script.release();
  expect(await reading).toBe(PAGE_BYTES);
  expect(fixture.clock.nowMs()).toBe(0);
});

test("windows shrink while dirty pages take the memory", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * MIB, arenaBytes: MIB });
  const { cache, mapping } = fixture;
  for (let page = 1000; page < 1200; page++) {
    const folio = cache.allocFolio(0)!;
    expect(mapping.addFolio(folio, page)).toBe(0);
    folio.endRead(true);
    folio.markDirty();
    folio.put();
  }
  expect(cache.windowMaxPages).toBe(14);
  await fixture.readPages(0, 14);
  expect(fixture.script.reads[0]).toMatchObject({ first: 0, last: 13 });
  expect(cache.nrDirty).toBe(200);
});
