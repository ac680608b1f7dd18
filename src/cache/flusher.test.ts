import { expect, test } from "vitest";
import { ARENA_BYTES_MIN, FlushedVolume } from "../../test/support/flushed-volume.ts";
import { EIO, EROFS, FsError } from "../lib/errno.ts";
import { isPromise } from "../lib/maybe.ts";
import { KIB, MIB, PAGE_BYTES } from "../lib/units.ts";
import { fileWriteAndWaitRange } from "./filemap-flush.ts";
import { I_DIRTY_SYNC, I_DIRTY_TIME, markInodeDirty, type WbInode } from "./superblock.ts";
import { syncAll, syncFilesystem, syncfs, syncInodesSb, writebackInodesSb } from "./sync.ts";
import { detachInode, writeInodeNow } from "./write-inode.ts";

/** Moves the time on, in small steps, until `done` is settled. */
async function advanceUntil(volume: FlushedVolume, done: Promise<unknown>): Promise<void> {
  let isDone = false;
  const note = (): void => {
    isDone = true;
  };
  done.then(note, note);
  for (let step = 0; step < 20_000 && !isDone; step++) await volume.clock.advance(10);
  expect(isDone).toBe(true);
}

test("a flusher holds a timer only while something is dirty", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  expect(volume.clock.pendingTimers).toBe(0);
  f.dirty(0);
  expect(volume.clock.pendingTimers).toBe(1);
  expect(await fileWriteAndWaitRange(f.file, 0, Infinity)).toBe(0);
  expect(f.wb.state).toBe(0);
  volume.expectIdle();
});

test("an inode that is dirty itself stays so when its last page is clean", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  f.dirty(0);
  markInodeDirty(f, I_DIRTY_SYNC);
  expect(await fileWriteAndWaitRange(f.file, 0, Infinity)).toBe(0);
  expect([f.wb.state, volume.bdi.inodes.count]).toEqual([I_DIRTY_SYNC, 1]);
  await volume.clock.advance(30_000);
  expect(volume.log).toEqual(["f 0", "inode f"]);
  volume.expectIdle();
});

test("time stamps alone are written after half a day, or with the first sync", async () => {
  const volume = new FlushedVolume();
  const [a, b] = [volume.openFile("a"), volume.openFile("b")];
  markInodeDirty(a, I_DIRTY_TIME);
  expect(volume.bdi.inodes.count).toBe(0);
  await volume.clock.advance(60_000);
  expect(volume.log).toEqual([]);
  await volume.clock.advance(12 * 60 * 60 * 1000);
  expect(volume.takeLog()).toEqual(["inode a"]);
  markInodeDirty(b, I_DIRTY_TIME);
  await syncInodesSb(volume);
  expect(volume.log).toEqual(["inode b"]);
  volume.expectIdle();
});

test("eight writers on a slow device and the smallest arena all get through", async () => {
  const volume = new FlushedVolume({ arenaBytes: ARENA_BYTES_MIN });
  volume.latencyMs = 1;
  const files = Array.from("abcdefgh", (name) => volume.openFile(name));
  let mostDirty = 0;
  const writers = files.map(async (file) => {
    for (let page = 0; page < 300; page += 3) {
      expect(await file.write(page, 3)).toBe(3 * PAGE_BYTES);
      mostDirty = Math.max(mostDirty, volume.cache.nrDirty + volume.cache.nrWriteback);
    }
  });
  await advanceUntil(volume, Promise.all(writers));
  const limit = volume.cache.dirtyLimits.limitPages(1024);
  expect(mostDirty).toBeGreaterThan(limit / 2);
  expect(mostDirty).toBeLessThan(limit + 8 * 3);
  const closed = volume.bdi.close();
  await advanceUntil(volume, closed);
  expect(await closed).toBe(0);
  volume.expectIdle();
});

test("an arena full of dirty pages empties itself for eight readers and writers", async () => {
  const volume = new FlushedVolume({ arenaBytes: ARENA_BYTES_MIN });
  volume.latencyMs = 1;
  const full = volume.openFile("f");
  full.dirtyRun(0, 960);
  expect(volume.cache.arena.freeFrames).toBe(volume.cache.arena.reserveFrames);
  const files = Array.from("abcdefgh", (name) => volume.openFile(name));
  const writers = files.map(async (file) => {
    for (let page = 0; page < 50; page++) expect(await file.write(page)).toBe(PAGE_BYTES);
  });
  await advanceUntil(volume, Promise.all(writers));
  await advanceUntil(volume, volume.bdi.close());
  volume.expectIdle();
});

test("a device that loses every write holds up nobody under drop, and all hear of it", async () => {
  const volume = new FlushedVolume({ arenaBytes: ARENA_BYTES_MIN });
  volume.statusOf = () => -EIO;
  volume.latencyMs = 1;
  const f = volume.openFile("f");
  const writing = (async () => {
    for (let page = 0; page < 1000; page++) expect(await f.write(page)).toBe(PAGE_BYTES);
  })();
  await advanceUntil(volume, writing);
  const synced = fileWriteAndWaitRange(f.file, 0, Infinity);
  await advanceUntil(volume, Promise.resolve(synced));
  expect(await synced).toBe(-EIO);
  const closed = volume.bdi.close();
  await advanceUntil(volume, closed);
  expect(await closed).toBe(0);
  volume.expectIdle();
});

test("a device that fails every write fails its writers under keep, and close says so", async () => {
  const volume = new FlushedVolume({ arenaBytes: ARENA_BYTES_MIN, onWriteError: "keep" });
  volume.statusOf = () => -EIO;
  volume.latencyMs = 1;
  const files = Array.from("abcdefgh", (name) => volume.openFile(name));
  const writers = files.map(async (file) => {
    let page = 0;
    let status = 0;
    for (; status >= 0; page++) status = await file.write(page);
    return status;
  });
  const ended = Promise.all(writers);
  await advanceUntil(volume, ended);
  expect(new Set(await ended)).toEqual(new Set([-EIO]));
  expect(volume.cache.nrDirty).toBeGreaterThan(100);
  volume.verify();
  const closed = volume.bdi.close();
  await advanceUntil(volume, closed);
  expect(await closed).toBe(-EIO);
  expect(volume.clock.pendingTimers).toBe(0);
});

test("what could not be written is tried again, later each time, until it is down", async () => {
  const volume = new FlushedVolume({ onWriteError: "keep" });
  let isBroken = true;
  const attempts: number[] = [];
  volume.statusOf = () => (isBroken ? -EIO : 0);
  const f = volume.openFile("f");
  f.onWritepage = () => {
    attempts.push(volume.clock.nowMs() / 1000);
    return undefined;
  };
  f.dirty(0);
  await volume.clock.advance(100_000);
  expect(attempts.slice(0, 5)).toEqual([30, 31, 33, 37, 45]);
  expect([f.clean(0).isDirty, volume.bdi.failure]).toEqual([true, -EIO]);
  isBroken = false;
  await volume.clock.advance(60_000);
  expect([f.clean(0).isDirty, volume.bdi.failure]).toEqual([false, 0]);
  expect(await fileWriteAndWaitRange(f.file, 0, Infinity)).toBe(-EIO);
  expect(await fileWriteAndWaitRange(f.file, 0, Infinity)).toBe(0);
  volume.expectIdle();
});

test("a file that cannot be written does not keep the others from being", async () => {
  const volume = new FlushedVolume({ arenaBytes: ARENA_BYTES_MIN, onWriteError: "keep" });
  const [bad, good] = [volume.openFile("b"), volume.openFile("g")];
  volume.statusOf = (file) => (file === bad ? -EIO : 0);
  bad.dirtyRun(0, 50);
  const writing = (async () => {
    for (let page = 0; page < 2000; page++) expect(await good.write(page)).toBe(PAGE_BYTES);
  })();
  await advanceUntil(volume, writing);
  await syncInodesSb(volume);
  expect(volume.cache.nrDirty).toBe(50);
});

test("a device whose cache is full of another's dirty pages still gets something written", async () => {
  const dead = new FlushedVolume({ arenaBytes: ARENA_BYTES_MIN });
  const live = new FlushedVolume({ cache: dead.cache });
  dead.isGated = true;
  dead.openFile("d").dirtyRun(0, 300);
  const f = live.openFile("f");
  const writing = (async () => {
    for (let page = 0; page < 20; page++) expect(await f.write(page)).toBe(PAGE_BYTES);
  })();
  await advanceUntil(live, writing);
  await syncInodesSb(live);
  expect(live.bdi.nrDirty).toBe(0);
  dead.release();
});

test("writers that are held up go on as soon as there is room, not when their time is up", async () => {
  const volume = new FlushedVolume({ arenaBytes: 1000 * PAGE_BYTES, pagesPerSecond: 1 });
  const f = volume.openFile("f");
  volume.isGated = true;
  f.dirtyRun(0, 170);
  const writing = f.write(500);
  expect(isPromise(writing)).toBe(true);
  await volume.settle();
  volume.release(30);
  expect(await writing).toBe(PAGE_BYTES);
  expect(volume.clock.nowMs()).toBe(0);
});

test("what writeInode throws reaches who waits; under keep the inode stays dirty", async () => {
  const volume = new FlushedVolume({ onWriteError: "keep" });
  const f = volume.openFile("f");
  volume.writeInode = () => {
    throw new FsError("EROFS");
  };
  markInodeDirty(f, I_DIRTY_SYNC);
  expect(await writeInodeNow(f.wb, true)).toBe(-EROFS);
  expect([f.wb.state, volume.bdi.inodes.failed.count]).toEqual([I_DIRTY_SYNC, 1]);
});

test("an inode that is taken apart leaves the flusher, after whoever writes it", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  f.dirty(0);
  volume.isGated = true;
  const writing = writeInodeNow(f.wb, true);
  await volume.settle();
  let isDetached = false;
  const detached = detachInode(f.wb).then(() => {
    isDetached = true;
  });
  await volume.settle();
  expect(isDetached).toBe(false);
  volume.release();
  await Promise.all([writing, detached]);
  f.dirty(1);
  expect([volume.bdi.inodes.count, volume.clock.pendingTimers]).toEqual([0, 0]);
});

test("a sync of one file system leaves the files of another on the same device alone", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  f.dirty(0);
  const other = { ...volume, bdi: volume.bdi, inodesUnderWriteback: new Set<WbInode>() };
  await syncInodesSb(other);
  expect([volume.log, f.clean(0).isDirty]).toEqual([[], true]);
  await volume.clock.advance(30_000);
  expect(volume.log).toEqual(["f 0"]);
});

test("what an interrupted work leaves, and cannot be written, does not end the next one", async () => {
  const volume = new FlushedVolume({ arenaBytes: 16 * MIB });
  const [big, refusing, wanted] = ["b", "r", "w"].map((name) => volume.openFile(name));
  big!.dirtyRun(0, 600);
  refusing!.dirtyRun(0, 10);
  let synced: Promise<void> | undefined;
  big!.onWritepage = () => {
    wanted!.dirty(0); // Behind the others: the sync meets first what is left of the background.
    synced ??= syncInodesSb(volume);
    return undefined;
  };
  refusing!.onWritepage = (folio, wbc) => {
    folio.redirtyForWritepage(wbc);
    folio.unlock();
    return 0;
  };
  volume.bdi.startBackground();
  await volume.settle();
  await synced;
  expect(volume.log).toEqual(["b 0-599", "w 0"]);
});

test("syncFilesystem starts all, then waits for all; syncfs tells of errors once", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  const cursor = { since: volume.wbErr.sample() };
  f.dirty(0);
  expect(await syncFilesystem(volume)).toBe(0);
  expect(volume.takeLog()).toEqual(["f 0", "sync", "sync and wait"]);
  volume.statusOf = () => -EIO;
  f.dirty(0);
  expect(await syncfs(volume, cursor)).toBe(-EIO);
  expect(await syncfs(volume, cursor)).toBe(0);
  expect(await syncFilesystem({ ...volume, isReadOnly: true })).toBe(0);
  f.dirty(1);
  await syncAll([volume]);
  expect(volume.cache.nrDirty).toBe(0);
  expect(await fileWriteAndWaitRange(f.file, 0, Infinity)).toBe(-EIO);
});

test("writebackInodesSb submits what is dirty and waits for none of it", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  f.dirty(0, 1);
  volume.isGated = true;
  await writebackInodesSb(volume);
  expect([volume.log, volume.cache.nrWriteback]).toEqual([["f 0-1"], 2]);
  volume.release();
  volume.expectIdle();
});

test("after close nothing is queued, timed or waited for", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  f.dirty(0);
  expect(await volume.bdi.close()).toBe(0);
  f.dirty(1);
  await syncInodesSb(volume);
  expect([volume.log, volume.clock.pendingTimers, volume.cache.flushers.size]).toEqual([
    ["f 0"],
    0,
    0,
  ]);
});

test("memory for write-out comes from the reserve when nothing can be evicted", () => {
  const volume = new FlushedVolume({ arenaBytes: 256 * KIB });
  const { cache } = volume;
  volume.openFile("f").dirtyRun(0, 60);
  expect(cache.allocFolio(0)).toBeNull();
  const folios = Array.from({ length: 5 }, () => cache.allocFolioForWriteback(0));
  expect(folios.map((folio) => folio !== null)).toEqual([true, true, true, true, false]);
});

test("the rate of the device is measured: a slow one makes writers pay more", async () => {
  const volume = new FlushedVolume({ arenaBytes: 16 * MIB });
  volume.latencyMs = 10;
  const f = volume.openFile("f");
  f.dirtyRun(0, 400);
  const before = volume.bdi.rate.pagesPerSecond;
  await advanceUntil(volume, syncInodesSb(volume));
  expect(volume.bdi.rate.pagesPerSecond).toBeLessThan(before / 4);
  expect(volume.bdi.rate.pagesPerSecond).toBeGreaterThan(100);
});
