/** Acceptance cases of section 12.7 of the page-cache specification: readahead. */
import { expect, test } from "vitest";
import {
  fadvise,
  POSIX_FADV_NORMAL,
  POSIX_FADV_RANDOM,
  POSIX_FADV_WILLNEED,
} from "../../../src/cache/fadvise.ts";
import { PG_READAHEAD, PG_WRITEBACK } from "../../../src/cache/folio.ts";
import { MIB, PAGE_BYTES } from "../../../src/lib/units.ts";
import { CachedFile } from "../../support/cached-file.ts";

const PAGES_1000 = { sizeBytes: 1000 * PAGE_BYTES };

test("W83 sequential 4 KiB reads open windows of 4, 8, 16 and 32 pages, each at the mark", async () => {
  const fixture = new CachedFile(PAGES_1000);
  const startedAt: Record<number, string[]> = {};
  for (let page = 0; page < 60; page++) {
    const log = await fixture.logOf(() => fixture.readPages(page));
    if (log.length > 0) startedAt[page] = log;
  }
  expect(startedAt).toEqual({
    0: ["0-3 m1"],
    1: ["4-11 m4"],
    4: ["12-27 m12"],
    12: ["28-59 m28"],
    28: ["60-91 m60"],
  });
});

test("W84 reads of 64 and 128 KiB start with the largest window and stay one window ahead", async () => {
  const fixture = new CachedFile(PAGES_1000);
  for (let page = 0; page < 80; page += 16) await fixture.readPages(page, 16);
  expect(fixture.script.log).toEqual(["0-31 m16", "32-63 m32", "64-95 m64", "96-127 m96"]);

  const larger = new CachedFile(PAGES_1000);
  const first = await larger.logOf(() => larger.readPages(0, 32));
  expect(first).toEqual(["0-31 m16", "32-63 m32"]);
  expect(await larger.logOf(() => larger.readPages(32, 32))).toEqual(["64-95 m64"]);
});

test("W85 a random read reads exactly its pages and leaves the window alone", async () => {
  const fixture = new CachedFile(PAGES_1000);
  await fixture.readPages(100, 4);
  await fixture.readPages(500);
  expect(fixture.script.log).toEqual(["100-103", "500"]);
  expect(fixture.file.ra).toMatchObject({ start: 0, size: 0, asyncSize: 0 });
});

test("W86 a miss behind cached pages takes up the stream that they show", async () => {
  const fixture = new CachedFile(PAGES_1000);
  await fixture.readPages(100, 4);
  await fixture.readPages(500);
  await fixture.readPages(101);
  expect(await fixture.logOf(() => fixture.readPages(104))).toEqual(["104-108 m108"]);
  expect(fixture.file.ra).toMatchObject({ start: 104, size: 5, asyncSize: 1 });
});

test("W87 nothing is read behind the end of a file, and no mark is set there", async () => {
  const fixture = new CachedFile({ sizeBytes: 10 * PAGE_BYTES });
  for (let page = 0; page < 10; page++) await fixture.readPages(page);
  expect(fixture.script.log).toEqual(["0-3 m1", "4-9"]);

  const tiny = new CachedFile({ sizeBytes: 3 });
  expect(await tiny.read(0, PAGE_BYTES)).toBe(3);
  expect(tiny.script.log).toEqual(["0"]);

  const empty = new CachedFile({ sizeBytes: 0 });
  expect(await empty.read(0, PAGE_BYTES)).toBe(0);
  expect(empty.script.log).toEqual([]);
});

test("W88 a read larger than the window is read window by window", async () => {
  const fixture = new CachedFile(PAGES_1000);
  await fixture.readPages(200, 64);
  expect(fixture.script.log).toEqual(["200-231 m216", "232-263 m232", "264-295 m264"]);
});

test("W89 two streams on one handle both keep their windows", async () => {
  const fixture = new CachedFile({ sizeBytes: 3000 * PAGE_BYTES });
  for (const page of [0, 1, 2000, 2001, 2, 3]) await fixture.readPages(page);
  expect(await fixture.logOf(() => fixture.readPages(4))).toEqual(["12-27 m12"]);
  expect(await fixture.logOf(() => fixture.readPages(2002))).toEqual(["2005-2011 m2005"]);
});

test("W90 RANDOM reads only what is asked for; without a window pages come one by one", async () => {
  const random = new CachedFile(PAGES_1000);
  expect(fadvise(random.file, 0, 0, POSIX_FADV_RANDOM)).toBe(0);
  await random.readPages(0, 5);
  expect(random.script.log).toEqual(["0-4"]);

  const none = new CachedFile({ ...PAGES_1000, raPages: 0 });
  await none.readPages(0, 3);
  expect(none.script.log).toEqual(["0", "1", "2"]);
  expect(fadvise(none.file, 0, 0, POSIX_FADV_NORMAL)).toBe(0);
});

test("W90 WILLNEED reads one window, or one device request if that is larger", async () => {
  const small = new CachedFile(PAGES_1000);
  expect(await fadvise(small.file, 0, MIB, POSIX_FADV_WILLNEED)).toBe(0);
  expect(small.script.log).toEqual(["0-31"]);

  const large = new CachedFile({ ...PAGES_1000, ioPages: 256 });
  expect(await fadvise(large.file, 0, MIB, POSIX_FADV_WILLNEED)).toBe(0);
  expect(large.script.log).toEqual(["0-255"]);
});

test("W91 a marked page that is being written starts no readahead", async () => {
  const fixture = new CachedFile(PAGES_1000);
  await fixture.readPages(0);
  const marked = fixture.folio(1);
  expect(marked.isReadahead).toBe(true);
  marked.setFlags(PG_WRITEBACK);
  expect(await fixture.logOf(() => fixture.readPages(1))).toEqual([]);
  marked.clearFlags(PG_WRITEBACK);
  marked.setFlags(PG_READAHEAD);
  expect(await fixture.logOf(() => fixture.readPages(1))).toEqual(["4-11 m4"]);
});

test("W92 a cached page splits a window into two runs", async () => {
  const fixture = new CachedFile(PAGES_1000);
  await fixture.readPages(6);
  await fixture.readPages(0);
  expect(await fixture.logOf(() => fixture.readPages(1))).toEqual(["4-5 m4", "7-11"]);
});
