/** Acceptance cases of section 12.9 on the flusher and on sync. */
import { expect, test } from "vitest";
import { fileFdatawaitRange, fileWriteAndWaitRange } from "../../../src/cache/filemap-flush.ts";
import { I_DIRTY_SYNC, I_SYNC, markInodeDirty } from "../../../src/cache/superblock.ts";
import { syncFilesystem, syncInodesSb } from "../../../src/cache/sync.ts";
import { syncInodeMetadata, writeInodeNow } from "../../../src/cache/write-inode.ts";
import { WB_SYNC_ALL } from "../../../src/cache/writeback-control.ts";
import { MIB, PAGE_BYTES } from "../../../src/lib/units.ts";
import { FlushedVolume } from "../../support/flushed-volume.ts";
import { withExactArenas } from "../../support/small-arena.ts";

const SECOND_MS = 1000;

test("W104 a file is written when it was dirty for 30 seconds, however often it was dirtied", async () => {
  const volume = new FlushedVolume();
  const f = volume.openFile("f");
  f.dirty(0);
  for (const pause of [10, 10, 9]) {
    await volume.clock.advance(pause * SECOND_MS);
    f.dirty(0, 1);
    expect(volume.log).toEqual([]);
  }
  expect(f.wb.dirtiedWhenMs).toBe(0);
  await volume.clock.advance(SECOND_MS - 1);
  expect(volume.log).toEqual([]);
  await volume.clock.advance(1);
  expect(volume.log).toEqual(["f 0-1"]);
  volume.expectIdle();
});

test("W105 with interval 0 nothing is written for its age; fsync and background still work", async () => {
  const volume = new FlushedVolume({ dirtyWritebackIntervalMs: 0, arenaBytes: 4 * MIB });
  const f = volume.openFile("f");
  f.dirty(0);
  expect(volume.clock.pendingTimers).toBe(0);
  await volume.clock.advance(100 * SECOND_MS);
  expect(volume.log).toEqual([]);
  expect(await fileWriteAndWaitRange(f.file, 0, Infinity)).toBe(0);
  expect(volume.takeLog()).toEqual(["f 0"]);
  expect(f.write(0, 110)).toBe(110 * PAGE_BYTES);
  await volume.settle();
  expect(volume.takeLog()).toEqual(["f 0-109"]);
  expect(volume.cache.nrDirty).toBe(0);
});

test("W106 the eldest is written first, and what is younger than 30 seconds is not", async () => {
  const volume = new FlushedVolume({ dirtyWritebackIntervalMs: 35 * SECOND_MS });
  const [a, b, c] = ["a", "b", "c"].map((name) => volume.openFile(name));
  a!.dirty(0);
  await volume.clock.advance(SECOND_MS);
  b!.dirty(0);
  await volume.clock.advance(19 * SECOND_MS);
  c!.dirty(0);
  await volume.clock.advance(15 * SECOND_MS);
  expect(volume.log).toEqual(["a 0", "b 0"]);
});

test("W107 a large file is written in slices, so that it does not starve a small one", async () => {
  withExactArenas(); // For 5000 dirty pages at a time.
  const volume = new FlushedVolume({ arenaBytes: 64 * MIB, pagesPerSecond: 0 });
  const big = volume.openFile("b");
  const small = volume.openFile("s");
  big.dirtyRun(0, 5000);
  small.dirtyRun(0, 10);
  volume.bdi.startBackground();
  await volume.settle(30);
  expect(volume.log).toEqual(["b 0-1023", "s 0-9", "b 1024-2047", "b 2048-3071", "b 3072-4095"]);
  volume.verify();
});

test("W108 a sync does not write what is dirtied after it began", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  const b = volume.openFile("b");
  a.dirty(0);
  volume.isGated = true;
  let isDone = false;
  const synced = syncInodesSb(volume).then(() => {
    isDone = true;
  });
  await volume.settle();
  b.dirty(0);
  await volume.settle();
  expect([volume.log, isDone]).toEqual([["a 0"], false]);
  volume.release();
  await synced;
  expect(volume.log).toEqual(["a 0"]);
  expect(b.clean(0).isDirty).toBe(true);
});

test("W109 data is down before the inode that leads to it is written", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  a.dirty(0, 1);
  markInodeDirty(a, I_DIRTY_SYNC);
  volume.isGated = true;
  const written = writeInodeNow(a.wb, true);
  await volume.settle();
  expect(volume.log).toEqual(["a 0-1"]);
  volume.release(1);
  await volume.settle();
  expect(volume.log).toEqual(["a 0-1"]);
  volume.release();
  expect(await written).toBe(0);
  expect(volume.takeLog()).toEqual(["a 0-1", "inode a"]);
});

test("W109 a sync writes inodes before their data is down, but ends after it", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  a.dirty(0);
  markInodeDirty(a, I_DIRTY_SYNC);
  volume.isGated = true;
  let isDone = false;
  const synced = syncInodesSb(volume).then(() => {
    isDone = true;
  });
  await volume.settle();
  expect([volume.log, isDone]).toEqual([["a 0", "inode a"], false]);
  volume.release();
  await synced;
  volume.expectIdle();
});

test("W110 what is dirtied while a sync writes it is not taken a second time", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  const b = volume.openFile("b");
  a.dirty(0);
  await volume.clock.advance(2 * SECOND_MS);
  b.dirty(0);
  a.onWritepage = () => {
    a.dirty(1);
    return undefined;
  };
  await volume.clock.advance(SECOND_MS);
  await syncInodesSb(volume);
  expect(volume.log).toEqual(["a 0", "b 0"]);
  expect(a.clean(1).isDirty).toBe(true);
  expect([a.wb.list === volume.bdi.inodes.dirty, a.wb.dirtiedWhenMs]).toEqual([true, 3000]);
});

test("W111 a file whose pages are all refused is tried once a tick", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  let attempts = 0;
  a.onWritepage = (folio, wbc) => {
    if (folio.index === 0) attempts++;
    folio.redirtyForWritepage(wbc);
    folio.unlock();
    return 0;
  };
  a.dirty(0, 1, 2);
  await volume.clock.advance(30 * SECOND_MS);
  expect(attempts).toBe(1);
  await volume.clock.advance(4 * SECOND_MS);
  expect(attempts).toBe(1);
  await volume.clock.advance(SECOND_MS);
  expect(attempts).toBe(2);
  expect(volume.cache.nrDirty).toBe(3);
});

test("W112 background work gives way to a sync after the slice that it is at", async () => {
  withExactArenas(); // For more dirty pages than a slice has.
  const volume = new FlushedVolume({ arenaBytes: 16 * MIB });
  const big = volume.openFile("b");
  const other = volume.openFile("o");
  const synced = volume.openFile("s");
  big.dirtyRun(0, 600);
  other.dirtyRun(0, 600);
  let resume: () => void = () => {};
  const paused = new Promise<undefined>((resolve) => {
    resume = () => resolve(undefined);
  });
  const modes: number[] = [];
  big.onWritepage = (folio) => (folio.index === 100 ? paused : undefined);
  other.onWritepage = (_folio, wbc) => {
    modes.push(wbc.syncMode);
    return undefined;
  };
  volume.bdi.startBackground();
  await volume.settle();
  expect(volume.log).toEqual(["b 0-99"]);
  synced.dirty(0);
  const done = syncInodesSb(volume);
  await volume.settle();
  expect(volume.log).toEqual(["b 0-99"]);
  resume();
  await done;
  expect(volume.log).toEqual(["b 0-599", "o 0-599", "s 0"]);
  expect(new Set(modes)).toEqual(new Set([WB_SYNC_ALL]));
  expect(volume.cache.nrDirty).toBe(0);
});

test("W114 who writes an inode that another writes waits for its turn, or goes if it may not", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  a.dirty(0);
  volume.isGated = true;
  const first = writeInodeNow(a.wb, true);
  await volume.settle();
  expect((a.wb.state & I_SYNC) !== 0).toBe(true);
  a.dirty(5);
  expect(await writeInodeNow(a.wb, false)).toBe(0);
  expect(volume.log).toEqual(["a 0"]);
  const second = writeInodeNow(a.wb, true);
  await volume.settle();
  expect(volume.log).toEqual(["a 0"]);
  volume.release();
  expect(await first).toBe(0);
  await volume.settle();
  expect(volume.log).toEqual(["a 0", "a 5"]);
  volume.release();
  expect(await second).toBe(0);
  volume.expectIdle();
});

test("W114 a sync waits for whoever writes an inode, and writes what is left of it", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  a.dirty(0);
  volume.isGated = true;
  const first = writeInodeNow(a.wb, true);
  await volume.settle();
  a.dirty(5);
  const synced = syncInodesSb(volume);
  await volume.settle();
  expect(volume.log).toEqual(["a 0"]);
  volume.isGated = false;
  volume.release();
  await Promise.all([first, synced]);
  expect(volume.log).toEqual(["a 0", "a 5"]);
  volume.expectIdle();
});

test("W115 the inode alone is written without its data", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  a.dirty(0);
  markInodeDirty(a, I_DIRTY_SYNC);
  expect(await syncInodeMetadata(a.wb, true)).toBe(0);
  expect(volume.takeLog()).toEqual(["inode a"]);
  expect(a.clean(0).isDirty).toBe(true);
  expect(a.wb.list).toBe(volume.bdi.inodes.dirty);
});

test("W116 a sync waits for what is in flight from before, though its inode is clean", async () => {
  const volume = new FlushedVolume();
  const a = volume.openFile("a");
  a.dirty(0);
  volume.isGated = true;
  await writeInodeNow(a.wb, false);
  expect([a.wb.state, volume.inodesUnderWriteback.has(a.wb)]).toEqual([0, true]);
  let isDone = false;
  const synced = syncFilesystem(volume).then((err) => {
    isDone = true;
    return err;
  });
  await volume.settle();
  expect(isDone).toBe(false);
  volume.release();
  expect(await synced).toBe(0);
  expect(await fileFdatawaitRange(a.file, 0, Infinity)).toBe(0);
  expect(volume.log).toEqual(["a 0", "sync", "sync and wait"]);
  volume.expectIdle();
});
