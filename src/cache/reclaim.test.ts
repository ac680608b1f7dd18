import { expect, test } from "vitest";
import { CachedFile } from "../../test/support/cached-file.ts";
import { KIB, MIB } from "../lib/units.ts";
import { PG_DROP_BEHIND } from "./folio.ts";
import { evict } from "./reclaim.ts";

test("a folio with something attached goes only if its file system lets go of that", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  await fixture.readPages(0);
  const folio = fixture.folio(0);
  folio.private = "a buffer";
  expect(() => evict(folio)).toThrow("who attaches something to a folio says when it can go");
  folio.unlock();
  const answers = [false, true];
  Object.assign(fixture.mapping.ops, { releaseFolio: () => answers.shift() });
  expect([evict(folio), folio.isLocked, fixture.mapping.folioAt(0)]).toEqual([false, false, folio]);
  expect([evict(folio), fixture.mapping.folioAt(0)]).toEqual([true, undefined]);
});

test("a folio to be dropped once it was used goes when its write has ended", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB });
  await fixture.readPages(0);
  const folio = fixture.folio(0);
  folio.markDirty();
  expect(folio.tryLock()).toBe(true);
  folio.clearDirtyForIo();
  folio.startWriteback();
  folio.unlock();
  folio.setFlags(PG_DROP_BEHIND);
  folio.endWriteback();
  expect(fixture.mapping.folioAt(0)).toBeUndefined();
  fixture.cache.verify();
});

test("dirty folios are passed over and counted, and the clean ones behind them go", async () => {
  const fixture = new CachedFile({ sizeBytes: MIB, arenaBytes: 256 * KIB, raPages: 0 });
  for (let page = 0; page < 60; page++) await fixture.readPages(page);
  for (let page = 0; page < 10; page++) fixture.folio(page).markDirty();
  const { lru } = fixture.cache;
  expect([lru.shrink(5), lru.passedDirtyPages]).toEqual([5, 10]);
  expect(fixture.folio(9).isReclaim).toBe(true);
  fixture.folio(9).markDirty();
  expect(fixture.folio(9).isReclaim).toBe(false);
  fixture.cache.verify();
});
