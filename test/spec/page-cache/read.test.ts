/**
 * Acceptance cases of sections 12.8 and 12.9 that concern reading: hits, truncation, dropping,
 * refaults.
 */
import { expect, test } from "vitest";
import { filemapRead } from "../../../src/cache/filemap.ts";
import { PG_DIRTY, PG_WRITEBACK } from "../../../src/cache/folio.ts";
import { evict } from "../../../src/cache/reclaim.ts";
import { invalidateMappingPages } from "../../../src/cache/truncate.ts";
import { PAGE_BYTES } from "../../../src/lib/units.ts";
import { CachedFile } from "../../support/cached-file.ts";

test("W93 a read whose pages are all cached returns a number, and starts no I/O", async () => {
  const fixture = new CachedFile({ sizeBytes: 64 * PAGE_BYTES });
  await fixture.readPages(0, 64);
  const readCount = fixture.script.reads.length;
  const into = new Uint8Array(64 * PAGE_BYTES);
  expect(filemapRead({ file: fixture.file, posBytes: 0, flags: 0 }, into)).toBe(into.length);
  expect(fixture.script.reads.length).toBe(readCount);
});

test("W94 a read that waits sees a truncation that happened meanwhile", async () => {
  const fixture = new CachedFile({ sizeBytes: 2 * PAGE_BYTES, raPages: 0 });
  await fixture.readPages(0);
  fixture.script.isGated = true;
  const reading = fixture.read(0, 2 * PAGE_BYTES);
  fixture.script.size = 5000;
  fixture.script.release();
  expect(await reading).toBe(5000);
});

test("W100 invalidateMappingPages drops what is clean and idle, and waits for nothing", async () => {
  const fixture = new CachedFile({ sizeBytes: 4 * PAGE_BYTES });
  await fixture.readPages(0, 4);
  fixture.folio(1).setFlags(PG_DIRTY);
  expect(fixture.folio(2).tryLock()).toBe(true);
  fixture.folio(3).setFlags(PG_WRITEBACK);
  expect(invalidateMappingPages(fixture.mapping, 0, 3)).toBe(1);
  expect([0, 1, 2, 3].map((page) => fixture.mapping.folioAt(page) !== undefined)).toEqual([
    false,
    true,
    true,
    true,
  ]);
});

/**
 * Active list of 100 pages, inactive one of 50; page 0 evicted, and `evictions` others after it.
 */
async function refaultAfter(evictions: number): Promise<boolean> {
  const fixture = new CachedFile({ sizeBytes: 400 * PAGE_BYTES, raPages: 0 });
  const { lru } = fixture.cache;
  for (let page = 0; page < 400; page++) await fixture.readPages(page);
  for (let page = 200; page < 300; page++) {
    lru.markAccessed(fixture.folio(page));
    lru.markAccessed(fixture.folio(page));
  }
  expect(evict(fixture.folio(0), lru)).toBe(true);
  for (let page = 1; page <= evictions; page++) evict(fixture.folio(page), lru);
  invalidateMappingPages(fixture.mapping, evictions + 1, 199);
  invalidateMappingPages(fixture.mapping, 350, 399);
  expect([lru.active.pageCount, lru.inactive.pageCount]).toEqual([100, 50]);
  await fixture.readPages(0);
  fixture.cache.verify();
  return fixture.folio(0).isActive;
}

test("W117 a page that comes back soon enough is made active, a later one is not", async () => {
  expect(await refaultAfter(80)).toBe(true);
  expect(await refaultAfter(120)).toBe(false);
});
