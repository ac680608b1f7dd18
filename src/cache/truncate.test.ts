import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { WrittenFile } from "../../test/support/written-file.ts";
import { EBADF, EINVAL } from "../lib/errno.ts";
import { MIB, PAGE_BYTES } from "../lib/units.ts";
import { MARK_DIRTY, MARK_TOWRITE, MARK_WRITEBACK } from "../lib/xarray.ts";
import { attachBlockState } from "./block-state.ts";
import { fadvise, POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE } from "./fadvise.ts";
import type { ReadaheadControl } from "./readahead.ts";
import { evict } from "./reclaim.ts";
import {
  invalidateMappingPages,
  truncateInodePages,
  truncateInodePagesFinal,
  truncateInodePagesRange,
  truncateSetsize,
} from "./truncate.ts";

async function filled(pages: number, sizeBytes = pages * PAGE_BYTES): Promise<CachedFile> {
  const fixture = new CachedFile({ sizeBytes });
  await fixture.read(0, sizeBytes);
  return fixture;
}

function cachedPages({ mapping }: CachedFile, pages: number): number[] {
  return Array.from({ length: pages }, (_, page) => page).filter((page) => mapping.folioAt(page));
}

test("a folio that somebody keeps stays", async () => {
  const fixture = await filled(4);
  fixture.folio(1).get();
  expect(invalidateMappingPages(fixture.mapping, 0, 2)).toBe(2);
  expect(cachedPages(fixture, 4)).toEqual([1, 3]);
});

test("a large folio is dropped only if the range holds all of it; shadows count", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES, minOrder: 2 });
  await fixture.readPages(0, 16);
  expect(invalidateMappingPages(fixture.mapping, 1, 10)).toBe(4);
  evict(fixture.folio(0), fixture.cache.lru);
  expect(fixture.mapping.shadowCount).toBe(1);
  expect(invalidateMappingPages(fixture.mapping, 0, 3)).toBe(4);
  expect(fixture.mapping.shadowCount).toBe(0);
  fixture.cache.verify();
});

test("a folio whose file system does not release it stays", async () => {
  const fixture = await filled(3);
  for (const page of [0, 1, 2]) attachBlockState(fixture.folio(page), 1024);
  Object.assign(fixture.script, {
    releaseFolio: ({ index }: { index: number }) => {
      if (index === 0) return false;
      if (index === 1) throw new Error("cannot say");
      return true;
    },
  });
  expect(invalidateMappingPages(fixture.mapping, 0, 2)).toBe(1);
  expect(cachedPages(fixture, 3)).toEqual([0, 1]);
  expect(fixture.cache.lockedCount).toBe(0);
});

test("closing drops everything, dirty folios and shadows too, and tells the file system", async () => {
  const fixture = await filled(4);
  fixture.folio(1).markDirty();
  attachBlockState(fixture.folio(2), 1024);
  evict(fixture.folio(3), fixture.cache.lru);
  const told: number[] = [];
  Object.assign(fixture.script, {
    invalidateFolio: ({ index }: { index: number }) => told.push(index),
  });
  expect(truncateInodePagesFinal(fixture.mapping)).toBeUndefined();
  expect([fixture.mapping.nrpages, fixture.mapping.shadowCount, told]).toEqual([0, 0, [2]]);
  fixture.cache.verify();
});

test("closing waits for reads in flight; a reader who starts over then gets EBADF", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * PAGE_BYTES });
  const { script, cache, mapping } = fixture;
  script.isGated = true;
  const reading = fixture.readPages(0);
  let isClosed = false;
  const closing = Promise.resolve(cache.closeMapping(mapping)).then(() => {
    isClosed = true;
  });
  await fixture.clock.turn();
  expect(isClosed).toBe(false);
  script.isGated = false;
  script.release();
  await closing;
  expect(await reading).toBe(-EBADF);
  expect(await fixture.readPages(0)).toBe(-EBADF);
  expect([script.log, mapping.nrpages, cache.lockedCount]).toEqual([["0-3 m1"], 0, 0]);
  expect(cache.arena.freeFrames).toBe(cache.arena.frameCount);
  cache.verify();
});

test("DONTNEED drops whole pages, and the last one if the range reaches the end of the file", async () => {
  const fixture = await filled(4, 3 * PAGE_BYTES + 100);
  const drop = (offset: number, length: number) => {
    expect(fadvise(fixture.file, offset, length, POSIX_FADV_DONTNEED)).toBe(0);
    return cachedPages(fixture, 4);
  };
  expect(drop(1, PAGE_BYTES)).toEqual([0, 1, 2, 3]);
  expect(drop(1, 2 * PAGE_BYTES - 1)).toEqual([0, 2, 3]);
  expect(drop(3 * PAGE_BYTES, 99)).toEqual([0, 2, 3]);
  expect(drop(3 * PAGE_BYTES, 100)).toEqual([0, 2]);
  expect(drop(0, 0)).toEqual([]);
});

test("advice that is unknown or about a negative range is EINVAL; NOREUSE does nothing", () => {
  const { file } = new CachedFile({ sizeBytes: MIB });
  expect(fadvise(file, 0, 0, 6)).toBe(-EINVAL);
  expect(fadvise(file, 0, -1, POSIX_FADV_DONTNEED)).toBe(-EINVAL);
  expect(fadvise(file, -1, 1, POSIX_FADV_DONTNEED)).toBe(-EINVAL);
  expect(fadvise(file, 0, 0, POSIX_FADV_NOREUSE)).toBe(0);
});

test("closing waits for a readahead call that goes on after its folios were read", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  await fixture.readPages(0);
  let goOn = () => {};
  Object.assign(fixture.script, {
    readahead(rac: ReadaheadControl) {
      for (let folio = rac.next(); folio !== null; folio = rac.next()) folio.endRead(true);
      return new Promise<void>((resolve) => {
        goOn = resolve;
      });
    },
  });
  await fixture.readPages(1);
  let isClosed = false;
  const closing = Promise.resolve(fixture.cache.closeMapping(fixture.mapping)).then(() => {
    isClosed = true;
  });
  await fixture.clock.turn();
  expect(isClosed).toBe(false);
  goOn();
  await closing;
});

test("a folio that is evicted takes its marks with it, and its shadow has none", async () => {
  const fixture = await filled(2);
  const { pages } = fixture.mapping;
  const marks = [MARK_DIRTY, MARK_WRITEBACK, MARK_TOWRITE] as const;
  for (const mark of marks) pages.setMark(1, mark);
  expect(evict(fixture.folio(1), fixture.cache.lru)).toBe(true);
  expect(typeof pages.load(1)).toBe("number");
  expect(marks.map((mark) => pages.marked(mark))).toEqual([false, false, false]);
});

test("closing gives the loop a turn after five milliseconds of work", async () => {
  const fixture = await filled(64);
  const { clock, mapping, cache } = fixture;
  for (let page = 0; page < 64; page++) attachBlockState(fixture.folio(page), 1024);
  Object.assign(fixture.script, { invalidateFolio: () => clock.spend(1) });
  const before = clock.turnCount;
  await cache.closeMapping(mapping);
  expect([mapping.nrpages, cache.lockedCount]).toEqual([0, 0]);
  expect(clock.turnCount - before).toBe(Math.floor(64 / 5));
});

test("a hole in a large folio is zero and its units are clean; the folio stays", async () => {
  const file = new WrittenFile({ maxOrder: 2 });
  const folio = file.clean(4, 2);
  const state = attachBlockState(folio, 1024);
  folio.markDirty();
  const before = folio.bytes.slice();
  const told: number[][] = [];
  Object.assign(file.script, {
    invalidateFolio: (_folio: unknown, from: number, length: number) => told.push([from, length]),
  });
  const start = folio.posBytes + 1500;
  await truncateInodePagesRange(file.mapping, start, start + 8192 - 1);
  expect(file.mapping.folioAt(5)).toBe(folio);
  before.fill(0, 1500, 1500 + 8192);
  expect(folio.bytes).toEqual(before);
  expect(told).toEqual([[1500, 8192]]);
  expect([state.nextClean(0, 16384), state.nextDirty(2048, 16384)]).toEqual([2048, 9216]);
  expect(folio.isDirty).toBe(true);
  file.expectAtRest();
});

test("large folios at both ends of a range stay, what is between goes", async () => {
  const file = new WrittenFile({ maxOrder: 2 });
  for (const page of [0, 4, 8]) file.clean(page, 2).markDirty();
  await truncateInodePagesRange(file.mapping, 2 * PAGE_BYTES, 10 * PAGE_BYTES - 1);
  const isCached = [0, 4, 8].map((page) => file.mapping.folioAt(page) !== undefined);
  expect(isCached).toEqual([true, false, true]);
  const zeros = (page: number) =>
    file
      .folio(page)
      .bytes.subarray((page % 4) * PAGE_BYTES, ((page % 4) + 1) * PAGE_BYTES)
      .every((byte) => byte === 0);
  expect([1, 2, 3, 8, 9, 10].map(zeros)).toEqual([false, true, true, true, true, false]);
  expect(file.cache.nrDirty).toBe(8);
  file.expectAtRest();
});

test("a file that grows shows zeros where its last page held anything", async () => {
  const file = new WrittenFile({ sizeBytes: 100 });
  const folio = file.clean(0);
  folio.bytes.fill(0xff, 100);
  await truncateSetsize(file.mapping, 3000);
  expect([file.script.size, folio.bytes[99], folio.isDirty]).toEqual([3000, 11, true]);
  expect(folio.bytes.subarray(100).every((byte) => byte === 0)).toBe(true);
});

test("truncating gives up what the file system cannot let go of in peace", async () => {
  const file = new WrittenFile();
  file.clean(0).private = "buffers";
  Object.assign(file.script, {
    invalidateFolio: () => {
      throw new Error("cannot");
    },
  });
  await truncateInodePages(file.mapping, 0);
  expect(file.mapping.nrpages).toBe(0);
  file.expectAtRest();
});
