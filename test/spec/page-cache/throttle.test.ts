/** Acceptance cases of sections 12.9 and 12.10 on limits of dirty pages, reclaim and memory. */
import { expect, test } from "vitest";
import { writeOneFolio } from "../../../src/cache/filemap-flush.ts";
import { readMappingFolio } from "../../../src/cache/mapping-folio.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import { evict } from "../../../src/cache/reclaim.ts";
import { balanceDirtyPagesRatelimited } from "../../../src/cache/throttle.ts";
import { VirtualClock } from "../../../src/lib/clock.ts";
import { EAGAIN, EINTR, EIO, ENOMEM } from "../../../src/lib/errno.ts";
import { isPromise } from "../../../src/lib/maybe.ts";
import { KIB, PAGE_BYTES } from "../../../src/lib/units.ts";
import { type FlushedFile, FlushedVolume } from "../../support/flushed-volume.ts";
import { now, WrittenFile } from "../../support/written-file.ts";

test("W113 limits: 20 and 10 percent, freerun between them; bytes take the place of percents", () => {
  const clock = new VirtualClock();
  const arenaBytes = 1000 * PAGE_BYTES;
  const { dirtyLimits, dirtyablePages } = new PageCache({ clock, arenaBytes });
  expect(dirtyablePages).toBe(1000);
  expect([
    dirtyLimits.limitPages(1000),
    dirtyLimits.backgroundPages(1000),
    dirtyLimits.freerunPages(1000),
  ]).toEqual([200, 100, 150]);
  dirtyLimits.setBytes(204_800);
  expect([dirtyLimits.limitPages(1000), dirtyLimits.backgroundPages(1000)]).toEqual([50, 25]);
  dirtyLimits.setRatio(20);
  expect(dirtyLimits.limitPages(1000)).toBe(200);
});

/** A volume over 1000 pages that writes ten a second, nothing of which has come to an end. */
async function gatedVolume(dirtyPages: number): Promise<{ volume: FlushedVolume; f: FlushedFile }> {
  const volume = new FlushedVolume({ arenaBytes: 1000 * PAGE_BYTES, pagesPerSecond: 10 });
  const f = volume.openFile("f");
  volume.isGated = true;
  f.dirtyRun(0, dirtyPages);
  await volume.settle();
  return { volume, f };
}

test("W113 a writer goes on below freerun; above the background limit the flusher runs", async () => {
  const { volume, f } = await gatedVolume(99);
  expect(balanceDirtyPagesRatelimited(f.mapping)).toBe(0);
  expect(volume.bdi.isBusy).toBe(false);
  f.dirtyRun(99, 2);
  expect(balanceDirtyPagesRatelimited(f.mapping)).toBe(0);
  expect(volume.bdi.isBusy).toBe(true);
  await volume.settle();
  expect(volume.log).toEqual(["f 0-100"]);
  f.dirtyRun(101, 49);
  expect(volume.cache.nrDirty + volume.cache.nrWriteback).toBe(150);
  expect(balanceDirtyPagesRatelimited(f.mapping)).toBe(0);
});

test("W113 above freerun a writer pauses for at most 200 ms, with the flusher running", async () => {
  const { volume, f } = await gatedVolume(150);
  expect(balanceDirtyPagesRatelimited(f.mapping)).toBe(0);
  f.dirty(150);
  const paused = balanceDirtyPagesRatelimited(f.mapping);
  expect([isPromise(paused), volume.bdi.isBusy]).toEqual([true, true]);
  let endedAtMs = -1;
  void Promise.resolve(paused).then(() => {
    endedAtMs = volume.clock.nowMs();
  });
  for (let ms = 0; ms < 300; ms += 10) await volume.clock.advance(10);
  expect(endedAtMs).toBeGreaterThan(0);
  expect(endedAtMs).toBeLessThanOrEqual(200);
  expect(await paused).toBe(0);
  expect(volume.log).toEqual(["f 0-150"]);
});

test("W113 at the limit a writer waits until something was written", async () => {
  const { volume, f } = await gatedVolume(200);
  let isDone = false;
  const waiting = Promise.resolve(balanceDirtyPagesRatelimited(f.mapping)).then((err) => {
    isDone = true;
    return err;
  });
  await volume.clock.advance(60_000);
  expect(isDone).toBe(false);
  volume.release(1);
  expect(await waiting).toBe(0);
});

test("W113 who may not wait gets EAGAIN, and an aborted writer EINTR", async () => {
  const { volume, f } = await gatedVolume(200);
  expect(balanceDirtyPagesRatelimited(f.mapping, undefined, true)).toBe(-EAGAIN);
  const abort = new AbortController();
  const waiting = balanceDirtyPagesRatelimited(f.mapping, abort.signal);
  abort.abort();
  expect(await waiting).toBe(-EINTR);
  volume.isGated = false;
  volume.release();
  await volume.settle();
  volume.expectIdle();
});

test("W118 reclaim does not write a dirty page: the flusher does, and then it goes first", async () => {
  const volume = new FlushedVolume({ arenaBytes: 256 * KIB });
  const f = volume.openFile("f");
  f.dirty(7);
  for (let page = 10; page < 69; page++) f.clean(page);
  volume.isGated = true;
  const folio = f.clean(7);
  expect(volume.cache.lru.inactive.tail).toBe(folio);
  expect(volume.cache.allocFolio(0)).not.toBeNull();
  expect([folio.isDirty, folio.isReclaim, volume.log, volume.bdi.isBusy]).toEqual([
    true,
    true,
    [],
    true,
  ]);
  await volume.settle();
  expect([volume.log, folio.isWriteback]).toEqual([["f 7"], true]);
  expect(volume.cache.lru.inactive.tail).not.toBe(folio);
  volume.release();
  expect([folio.isReclaim, volume.cache.lru.inactive.tail === folio]).toEqual([false, true]);
  expect(volume.cache.allocFolio(0)).not.toBeNull();
  expect(f.mapping.folioAt(7)).toBeUndefined();
});

test("W118 a page that is written to again before its write ends stays", async () => {
  const volume = new FlushedVolume({ arenaBytes: 256 * KIB });
  const f = volume.openFile("f");
  f.dirty(7);
  for (let page = 10; page < 69; page++) f.clean(page);
  volume.isGated = true;
  expect(volume.cache.allocFolio(0)).not.toBeNull();
  await volume.settle();
  f.dirty(7);
  volume.release();
  expect(volume.cache.lru.inactive.tail).not.toBe(f.clean(7));
  expect(f.clean(7).isDirty).toBe(true);
});

test("W128 one folio that is in flight and dirty is waited for, written, and waited for", async () => {
  const file = new WrittenFile();
  const folio = file.startWrite(3);
  file.dirty(3);
  now(folio.lock());
  file.script.gated = () => true;
  let isDone = false;
  const written = writeOneFolio(folio).then((err) => {
    isDone = true;
    return err;
  });
  await file.settle();
  expect([file.written, isDone]).toEqual([[], false]);
  file.script.releaseWrites();
  await file.settle();
  expect([file.written, isDone]).toEqual([[3], false]);
  file.script.releaseWrites();
  expect([await written, folio.isLocked, folio.isDirty]).toEqual([0, false, false]);
  file.expectAtRest();
});

test("W128 a clean folio is unlocked without I/O; a failed write is told of once", async () => {
  const file = new WrittenFile();
  const folio = file.clean(3);
  now(folio.lock());
  expect([await writeOneFolio(folio), folio.isLocked, file.written]).toEqual([0, false, []]);
  file.dirty(3);
  file.script.writeStatuses.set(3, [-EIO]);
  now(folio.lock());
  expect(await writeOneFolio(folio)).toBe(-EIO);
  now(folio.lock());
  expect(await writeOneFolio(folio)).toBe(0);
  expect([file.written, folio.isLocked]).toEqual([[3], false]);
});

test("W129 with all memory dirty, the read of a page has it written, and then gets its place", async () => {
  const volume = new FlushedVolume({ arenaBytes: 256 * KIB });
  const f = volume.openFile("f");
  f.dirtyRun(0, 60);
  volume.isGated = true;
  expect(volume.cache.allocForReadahead(0, 0)).toBeNull();
  let isDone = false;
  const reading = Promise.resolve(readMappingFolio(f.mapping, 500)).then((folio) => {
    isDone = true;
    return folio;
  });
  await volume.settle();
  expect([volume.log, isDone]).toEqual([["f 0-59"], false]);
  volume.isGated = false;
  volume.release(1);
  const folio = await reading;
  if (typeof folio === "number") throw new Error(`the page can be read, not ${folio}`);
  expect([folio.isUptodate, folio.index]).toEqual([true, 500]);
  folio.put();
  volume.release();
  await volume.settle();
  volume.expectIdle();
});

test("W129 a store that never ends a write ends the wait for memory with ENOMEM", async () => {
  const volume = new FlushedVolume({ arenaBytes: 256 * KIB });
  const f = volume.openFile("f");
  f.dirtyRun(0, 60);
  volume.isGated = true;
  const reading = readMappingFolio(f.mapping, 500);
  await volume.clock.advance(10_000);
  expect(await reading).toBe(-ENOMEM);
});

test("W129 a store that fails all writes ends it: by dropping, or with ENOMEM", async () => {
  for (const onWriteError of ["drop", "keep"] as const) {
    const volume = new FlushedVolume({ arenaBytes: 256 * KIB, onWriteError });
    volume.statusOf = () => -EIO;
    const f = volume.openFile("f");
    f.dirtyRun(0, 60);
    const got = await readMappingFolio(f.mapping, 500);
    if (onWriteError === "keep") {
      expect([got, volume.cache.nrDirty]).toEqual([-ENOMEM, 60]);
    } else {
      expect(typeof got === "object" && got.isUptodate).toBe(true);
    }
    expect(volume.wbErr.check(0)).toBe(-EIO);
  }
});

test("W129 with pages dirty and kept, the clean ones serve all, and nothing hangs", async () => {
  const volume = new FlushedVolume({ arenaBytes: 256 * KIB });
  const f = volume.openFile("f");
  f.dirtyRun(0, 60);
  for (let page = 0; page < 60; page++) f.clean(page).get();
  expect(await readMappingFolio(f.mapping, 500)).toBe(-ENOMEM);
  expect(volume.cache.nrDirty).toBe(0);
  f.clean(9).put();
  const folio = await readMappingFolio(f.mapping, 500);
  if (typeof folio === "number") throw new Error(`the page can be read, not ${folio}`);
  folio.put();
  expect(evict(folio)).toBe(true);
});
