import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { ScriptedFile } from "../../test/support/scripted-file.ts";
import { withExactArenas } from "../../test/support/small-arena.ts";
import { VirtualClock } from "../lib/clock.ts";
import { EINTR, EIO } from "../lib/errno.ts";
import { KIB, MIB, PAGE_BYTES } from "../lib/units.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Folio } from "./folio.ts";
import { filemapGetFolio, filemapGrabFolio, readMappingFolio } from "./mapping-folio.ts";
import { PageCache } from "./page-cache.ts";

test("windows and folios stay small beside a small arena", () => {
  withExactArenas(); // And beside a large one they are not.
  const clock = new VirtualClock();
  const large = new PageCache({ clock });
  expect([large.raPages, large.maxOrder, large.arena.frameCount]).toEqual([256, 8, 65536]);
  const small = new PageCache({ clock, arenaBytes: 4 * MIB });
  expect([small.raPages, small.maxOrder]).toEqual([256, 4]);
  const tiny = new PageCache({ clock, arenaBytes: 64 * KIB });
  expect([tiny.raPages, tiny.maxOrder]).toEqual([4, 0]);
});

test("files larger than memory are cached as far as it goes, the last pages of them", async () => {
  const fixture = new CachedFile({ sizeBytes: 4 * MIB, arenaBytes: MIB });
  for (let page = 0; page < 1024; page++) await fixture.readPages(page);
  const { cachedPages, freeFrames, evictedPages } = fixture.cache.stats();
  expect(cachedPages + freeFrames).toBe(256);
  expect(evictedPages).toBe(1024 - cachedPages);
  expect(fixture.mapping.folioAt(1023)).toBeDefined();
  expect(fixture.mapping.folioAt(0)).toBeUndefined();
  fixture.cache.verify();
});

test("pages used twice survive a stream of pages used once", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * MIB, arenaBytes: MIB, raPages: 0 });
  for (const page of [0, 1, 2, 3, 0, 1, 2, 3]) await fixture.readPages(page);
  for (let page = 100; page < 600; page++) await fixture.readPages(page);
  const before = fixture.script.reads.length;
  for (const page of [0, 1, 2, 3]) await fixture.readPages(page);
  expect(fixture.script.reads.length).toBe(before);
});

test("the longer list gives way: pages once active go when others are used more", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * MIB, arenaBytes: MIB, raPages: 0 });
  for (let round = 0; round < 3; round++) {
    for (let page = 0; page < 200; page++) await fixture.readPages(page);
  }
  for (let page = 1000; page < 1400; page++) await fixture.readPages(page);
  const { activePages, inactivePages } = fixture.cache.stats();
  expect(activePages).toBeLessThanOrEqual(inactivePages + 1);
  fixture.cache.verify();
});

test("shadows are bounded: those too old to tell anything are dropped", async () => {
  const fixture = new CachedFile({ sizeBytes: 8 * MIB, arenaBytes: 256 * KIB });
  for (let page = 0; page < 2048; page++) {
    await fixture.readPages(page);
    expect(fixture.cache.shadowCount).toBeLessThan(2 * 64 + 64);
  }
  fixture.cache.verify();
});

test("a small folio in the place of a large one that was evicted knows its shadow", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB, arenaBytes: MIB, minOrder: 0, maxOrder: 2 });
  const { cache, mapping } = fixture;
  const large = cache.allocFolio(2)!;
  expect(mapping.addFolio(large, 4)).toBe(0);
  mapping.removeFolio(large, cache.lru.eviction(large));
  large.unlock();
  large.put();
  large.put();
  await fixture.readPages(5);
  expect(cache.stats()).toMatchObject({ refaultedPages: 1, evictedPages: 4 });
  expect([mapping.shadowCount, mapping.pages.find(4)]).toEqual([3, 4]);
  cache.verify();
});

test("folios larger than what is free in one run are had by evicting more", async () => {
  const fixture = new CachedFile({ sizeBytes: 4 * MIB, arenaBytes: MIB, raPages: 0 });
  const kept: Folio[] = [];
  for (let page = 0; page < 240; page++) await fixture.readPages(page);
  for (let page = 0; page < 240; page += 48) {
    kept.push(fixture.folio(page));
    fixture.folio(page).get();
  }
  const folio = fixture.cache.allocFolio(4);
  expect(folio?.order).toBe(4);
  expect(fixture.cache.allocFolio(9)).toBeNull();
  for (const one of kept) one.put();
  fixture.cache.verify();
});

test("a waiter for memory that is aborted leaves no timer behind", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB, arenaBytes: 64 * KIB, raPages: 0 });
  fixture.script.isGated = true;
  const readers = Array.from({ length: 15 }, (_, page) => fixture.readPages(page));
  const abort = new AbortController();
  const waiting = fixture.read(MIB / 2, 1, { signal: abort.signal });
  await fixture.clock.turn();
  expect(fixture.clock.pendingTimers).toBe(1);
  abort.abort();
  expect(await waiting).toBe(-EINTR);
  expect(fixture.clock.pendingTimers).toBe(0);
  fixture.script.release();
  await Promise.all(readers);
});

test("many more readers than frames all get their page", async () => {
  const fixture = new CachedFile({ sizeBytes: 4 * MIB, arenaBytes: 64 * KIB });
  const readers = Array.from({ length: 400 }, (_, n) => fixture.readPages((n * 7) % 1000));
  expect(await Promise.all(readers)).toEqual(readers.map(() => PAGE_BYTES));
  fixture.cache.verify();
});

test("readMappingFolio reads one folio, keeps it, and is synchronous on a hit", async () => {
  const { mapping, script } = new CachedFile({ sizeBytes: MIB });
  const folio = await readMappingFolio(mapping, 9);
  if (typeof folio === "number") throw new Error(`errno ${folio}`);
  expect([folio.index, folio.isUptodate, folio.refs, script.log]).toEqual([9, true, 2, ["9"]]);
  expect(readMappingFolio(mapping, 9)).toBe(folio);
  expect(filemapGetFolio(mapping, 9)).toBe(folio);
  expect(filemapGetFolio(mapping, 10)).toBeUndefined();
  script.failures.set(3, 1);
  expect(await readMappingFolio(mapping, 3)).toBe(-EIO);
});

test("two who want one folio at once get the same, read once", async () => {
  const { mapping, script, cache } = new CachedFile({ sizeBytes: MIB });
  const [one, two] = await Promise.all([
    readMappingFolio(mapping, 9),
    readMappingFolio(mapping, 9),
  ]);
  expect(one).toBe(two);
  expect(script.log).toEqual(["9"]);
  cache.verify();
});

test("filemapGrabFolio locks what is there or adds it, and waits for its owner", async () => {
  const { mapping } = new CachedFile({ sizeBytes: MIB, minOrder: 1 });
  const folio = filemapGrabFolio(mapping, 5) as Folio;
  expect([folio.index, folio.pageCount, folio.isLocked, folio.isUptodate]).toEqual([
    4,
    2,
    true,
    false,
  ]);
  const again = filemapGrabFolio(mapping, 4);
  const abort = new AbortController();
  const aborted = filemapGrabFolio(mapping, 4, abort.signal);
  abort.abort();
  expect(await aborted).toBe(-EINTR);
  folio.unlock();
  expect(await again).toBe(folio);
  const other = filemapGrabFolio(mapping, 4);
  mapping.removeFolio(folio);
  folio.unlock();
  expect(await other).not.toBe(folio);
});

test("verify finds a folio that is on no list, and a frame used twice", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  await fixture.readPages(0);
  const folio = fixture.folio(0);
  fixture.cache.lru.remove(folio);
  expect(() => fixture.cache.verify()).toThrow("every cached folio is on a list");
  fixture.cache.lru.add(folio, undefined);
  fixture.cache.verify();
  fixture.mapping.nrpages++;
  expect(() => fixture.cache.verify()).toThrow("invariant 2");
});

test("files of one cache share its memory", async () => {
  const cache = new PageCache({ clock: new VirtualClock(), arenaBytes: MIB });
  const scripts = [new ScriptedFile(MIB), new ScriptedFile(MIB)];
  const mappings = scripts.map((script) => cache.openMapping(script, script));
  for (const mapping of mappings) await readMappingFolio(mapping, 0);
  expect(cache.stats().cachedPages).toBe(2);
  await cache.closeMapping(mappings[0]!);
  cache.verify();
  expect(cache.stats().cachedPages).toBe(1);
});

test("a file without pages is kept by nobody but its opener", async () => {
  const clock = new VirtualClock();
  const cache = new PageCache({ clock, arenaBytes: MIB });
  const script = new ScriptedFile(MIB);
  const mappings = Array.from({ length: 100 }, () => cache.openMapping(script, script));
  expect(cache.mappingCount).toBe(0);
  const folio = await readMappingFolio(mappings[7]!, 3);
  if (typeof folio === "number") throw new Error("the page can be read");
  folio.put();
  expect(cache.mappingCount).toBe(1);
  cache.verify();
  await cache.closeMapping(mappings[7]!);
  expect(cache.mappingCount).toBe(0);
});

test("shadows alone keep few files: those that lost their pages first lose them too", async () => {
  const clock = new VirtualClock();
  const cache = new PageCache({ clock, arenaBytes: MIB });
  const script = new ScriptedFile(MIB);
  const read = async (mapping: AddressSpace): Promise<void> => {
    const folio = await readMappingFolio(mapping, 0);
    if (typeof folio === "number") throw new Error("the page can be read");
    folio.put();
  };
  const mappings = Array.from({ length: 600 }, () => cache.openMapping(script, script));
  for (const mapping of mappings) {
    await read(mapping);
    expect(cache.mappingCount).toBeLessThanOrEqual(256 + 256 / 8);
  }
  cache.verify();
  const { refaultedPages } = cache.stats();
  await read(mappings[0]!);
  expect(cache.stats().refaultedPages).toBe(refaultedPages);
  await read(mappings[355]!);
  expect(cache.stats().refaultedPages).toBe(refaultedPages + 1);
  cache.verify();
});

test("clean pages of the active list are had although all inactive ones are kept", async () => {
  const fixture = new CachedFile({ sizeBytes: 4 * MIB, arenaBytes: MIB, raPages: 0 });
  const { cache } = fixture;
  for (let page = 0; page < 160; page++) await fixture.readPages(page % 80);
  for (let page = 100; page < 220; page++) {
    await fixture.readPages(page);
    fixture.folio(page).get();
  }
  expect([cache.lru.active.pageCount, cache.lru.inactive.pageCount]).toEqual([80, 120]);
  const folios = Array.from({ length: 120 }, () => cache.allocFolio(0));
  expect(folios.filter((folio) => folio !== null).length).toBe(120);
  expect(cache.allocFolio(0)).toBeNull();
  cache.lru.verify();
});
