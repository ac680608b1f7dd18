/** Acceptance cases of sections 12.2 and 12.3: which pages are written, cursor and counters. */
import { expect, test } from "vitest";
import { attachBlockState } from "../../../src/cache/block-state.ts";
import { filemapFdatawrite, filemapFdatawriteRange } from "../../../src/cache/filemap-flush.ts";
import type { Folio } from "../../../src/cache/folio.ts";
import { truncateInodePagesRange } from "../../../src/cache/truncate.ts";
import { WB_SYNC_ALL, WB_SYNC_NONE } from "../../../src/cache/writeback-control.ts";
import { EIO, type Errno } from "../../../src/lib/errno.ts";
import { PAGE_BYTES } from "../../../src/lib/units.ts";
import { MARK_DIRTY, MARK_TOWRITE } from "../../../src/lib/xarray.ts";
import { now, WrittenFile } from "../../support/written-file.ts";

const TEN = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] as const;

/** A file with these pages dirty. */
function dirtyFile(...pages: readonly number[]): WrittenFile {
  const file = new WrittenFile();
  file.dirty(...pages);
  return file;
}

/** Holds the walk in the callback of page `page` until the returned function is called. */
function suspendIn(file: WrittenFile, page: number): () => void {
  let resume = (): void => {};
  const suspended = new Promise<undefined>((resolve) => {
    resume = () => resolve(undefined);
  });
  file.script.onWritepage = (folio) => (folio.index === page ? suspended : undefined);
  return () => {
    file.script.onWritepage = () => undefined;
    resume();
  };
}

test("W10 what is dirtied after the walk began is left for the next one", async () => {
  const file = dirtyFile(0, 1, 2);
  file.script.onWritepage = (folio) => {
    if (folio.index === 0) file.dirty(3, 50);
    return undefined;
  };
  expect(now(file.writePages(WB_SYNC_ALL, { nrToWrite: 100 }))).toBe(0);
  expect(file.written).toEqual([0, 1, 2]);
  expect([file.marked(MARK_DIRTY), file.marked(MARK_TOWRITE)]).toEqual([[3, 50], []]);
  expect(file.wbc.nrToWrite).toBe(97);
  await file.settle();
  file.expectAtRest();
});

test("W11 without integrity the walk may take what comes later, and ends all the same", async () => {
  const file = dirtyFile(0, 1, 2);
  file.script.onWritepage = (folio) => {
    if (folio.index === 0) file.dirty(3, 50);
    return undefined;
  };
  expect(now(file.writePages(WB_SYNC_NONE, { nrToWrite: 100 }))).toBe(0);
  expect(file.written.slice(0, 3)).toEqual([0, 1, 2]);
  expect(file.written.length).toBeLessThanOrEqual(5);
  await file.settle();
  file.expectAtRest();
});

test("W12 fsync ends although each write has somebody dirty the next page", async () => {
  const file = dirtyFile(0);
  file.script.onWritepage = (folio) => {
    file.dirty(folio.index + 1);
    return undefined;
  };
  expect(await file.fsync()).toBe(0);
  expect(file.written).toEqual([0]);
});

test("W13 without integrity a page in flight is skipped even if it is dirty", () => {
  const file = dirtyFile(0, 1, 2);
  file.startWrite(1).markDirty();
  expect(now(file.writePages(WB_SYNC_NONE, { nrToWrite: 10 }))).toBe(0);
  expect(file.written).toEqual([0, 2]);
  expect([file.folio(1).isDirty, file.folio(1).isLocked]).toEqual([true, false]);
  expect([file.wbc.nrToWrite, file.wbc.pagesSkipped]).toEqual([8, 0]);
});

test("W14 with integrity the write in flight is waited for, then the page is written again", async () => {
  const file = dirtyFile(0, 1, 2);
  file.startWrite(1).markDirty();
  const walk = file.writePages(WB_SYNC_ALL);
  await file.settle();
  expect(file.written).toEqual([0]);
  file.script.releaseWrites();
  expect(file.folio(1).isWriteback).toBe(false);
  expect(await walk).toBe(0);
  expect(file.written).toEqual([0, 1, 2]);
});

test("W15 a clean page in flight is not waited for by the write part, but by the wait part", async () => {
  const file = dirtyFile(0);
  file.script.gated = () => true;
  file.startWrite(1);
  expect(now(file.writePages(WB_SYNC_ALL))).toBe(0);
  expect(file.written).toEqual([0]);
  let isOver = false;
  const fsync = Promise.resolve(file.fsync()).then(() => {
    isOver = true;
  });
  for (const page of [0, 1]) {
    await file.settle();
    expect(isOver).toBe(false);
    file.script.releaseWrites(page);
  }
  await fsync;
  file.expectAtRest();
});

test("W16 a page that is truncated between tag and lock is passed over, its successor too", async () => {
  const file = dirtyFile(0, 1, 2, 3, 4);
  const resume = suspendIn(file, 0);
  const walk = file.writePages(WB_SYNC_ALL);
  expect(truncateInodePagesRange(file.mapping, 3 * PAGE_BYTES, 4 * PAGE_BYTES - 1)).toBeUndefined();
  file.dirty(3);
  resume();
  expect(await walk).toBe(0);
  expect(file.written.filter((page) => page !== 3)).toEqual([0, 1, 2, 4]);
});

test("W16 a page that is truncated while the walk waits for its lock is passed over", async () => {
  const file = dirtyFile(0, 1);
  const folio = file.folio(1);
  folio.tryLock();
  const walk = file.writePages(WB_SYNC_ALL);
  folio.cancelDirty();
  file.mapping.removeFolio(folio);
  folio.put();
  folio.unlock();
  expect(await walk).toBe(0);
  expect(file.written).toEqual([0]);
  await file.settle();
  file.expectAtRest();
});

test("W17 two fsyncs at once write each page once, and both wait for all", async () => {
  const file = dirtyFile(...TEN);
  file.script.gated = () => true;
  const over: string[] = [];
  const syncs = ["A", "B"].map(async (name) => {
    const status = await file.fsync();
    over.push(name);
    return status;
  });
  await file.settle();
  expect(file.written).toEqual([...TEN]);
  for (const page of TEN) {
    expect(over).toEqual([]);
    file.script.releaseWrites(page);
    await file.settle();
  }
  expect(await Promise.all(syncs)).toEqual([0, 0]);
  expect(over.length).toBe(2);
});

test("W18 pages that another walk has started are not written again, but waited for", async () => {
  const file = dirtyFile(...TEN);
  file.script.gated = () => true;
  const resume = suspendIn(file, 0);
  const fsync = file.fsync();
  const range = { rangeStartBytes: 5 * PAGE_BYTES, rangeLastBytes: 10 * PAGE_BYTES - 1 };
  expect(now(file.writePages(WB_SYNC_NONE, range))).toBe(0);
  expect(file.written).toEqual([5, 6, 7, 8, 9]);
  resume();
  await file.settle();
  expect(file.written).toEqual([5, 6, 7, 8, 9, 0, 1, 2, 3, 4]);
  file.script.releaseWrites(0, 1, 2, 3, 4, 5, 6, 7, 8);
  await file.settle();
  let isOver = false;
  void Promise.resolve(fsync).then(() => {
    isOver = true;
  });
  await file.settle();
  expect(isOver).toBe(false);
  file.script.releaseWrites();
  expect(await fsync).toBe(0);
});

test("W19 TOWRITE survives a refusal, so the walk that has set it writes the page", async () => {
  const file = dirtyFile(...TEN);
  const resume = suspendIn(file, 0);
  const walk = file.writePages(WB_SYNC_ALL);
  const { onWritepage } = file.script;
  file.script.onWritepage = (folio, wbc) => {
    folio.redirtyForWritepage(wbc);
    folio.unlock();
    return 0;
  };
  const page5 = { rangeStartBytes: 5 * PAGE_BYTES, rangeLastBytes: 5 * PAGE_BYTES };
  expect(now(file.writePages(WB_SYNC_NONE, page5))).toBe(0);
  expect([file.written, file.marksOf(5)]).toEqual([[], "DIRTY TOWRITE"]);
  file.script.onWritepage = onWritepage;
  resume();
  expect(await walk).toBe(0);
  expect(file.written).toEqual([...TEN]);
});

test("W20 a page dirtied again behind the walk is not written twice, and stays dirty", async () => {
  const file = dirtyFile(0, 1);
  file.script.onWritepage = (folio) => {
    if (folio.index === 1) {
      file.folio(0).bytes.fill(0xaa);
      file.folio(0).markDirty();
    }
    return undefined;
  };
  expect(await file.fsync()).toBe(0);
  expect(file.written).toEqual([0, 1]);
  expect([file.folio(0).isDirty, file.folio(0).isWriteback]).toEqual([true, false]);
});

test("W21 with keepWrite the walk that wrote half a page finds it again", async () => {
  const file = dirtyFile(0);
  const folio = file.folio(0);
  const state = attachBlockState(folio, 1024);
  file.script.onWritepage = () => {
    state.startInFlight(0, 2048);
    folio.startWriteback(true);
    file.mapping.dirtyFolio(folio);
    folio.unlock();
    file.script.held.push(folio);
    return 0;
  };
  expect(now(file.writePages(WB_SYNC_ALL))).toBe(0);
  expect([file.marksOf(0), state.nextDirty(0, 4096)]).toEqual(["DIRTY WRITEBACK TOWRITE", 2048]);
  expect(file.mapping.pages.find(0, 10, MARK_TOWRITE)).toBe(0);
  state.endInFlight(0, 2048, false);
  file.script.releaseWrites();
  await file.settle();
  file.expectAtRest();
});

test("W23 a cyclic walk goes on where the last one has used up its pages", () => {
  const file = dirtyFile(...TEN);
  const cyclic = (nrToWrite: number): (number | readonly number[])[] => {
    const before = file.written.length;
    expect(now(file.writePages(WB_SYNC_NONE, { nrToWrite, rangeCyclic: true }))).toBe(0);
    return [file.written.slice(before), file.wbc.nrToWrite, file.mapping.writebackIndex];
  };
  expect(cyclic(4)).toEqual([[0, 1, 2, 3], 0, 4]);
  expect(cyclic(4)).toEqual([[4, 5, 6, 7], 0, 8]);
  expect(cyclic(4)).toEqual([[8, 9], 2, 0]);
});

test("W24 a cyclic walk does not begin anew at 0 in the same call", () => {
  const file = dirtyFile(1, 2, 7, 8);
  file.mapping.writebackIndex = 6;
  const options = { nrToWrite: 100, rangeCyclic: true };
  expect(now(file.writePages(WB_SYNC_NONE, options))).toBe(0);
  expect([file.written, file.mapping.writebackIndex]).toEqual([[7, 8], 0]);
  expect(now(file.writePages(WB_SYNC_NONE, options))).toBe(0);
  expect(file.written).toEqual([7, 8, 1, 2]);
});

test("W25 the last byte of a range is part of it", () => {
  for (const [last, pages] of [
    [20479, [2, 3, 4]],
    [20480, [2, 3, 4, 5]],
  ] as const) {
    const file = dirtyFile(...TEN);
    file.mapping.writebackIndex = 7;
    expect(now(filemapFdatawriteRange(file.mapping, 8192, last))).toBe(0);
    expect([file.written, file.mapping.writebackIndex]).toEqual([pages, 7]);
  }
});

test("W26 with integrity nrToWrite ends nothing and goes below zero", () => {
  const file = dirtyFile(0, 1, 2, 3, 4);
  expect(now(file.writePages(WB_SYNC_ALL, { nrToWrite: 1 }))).toBe(0);
  expect([file.written, file.wbc.nrToWrite]).toEqual([[0, 1, 2, 3, 4], -4]);
});

test("W27 with nothing to be written nothing is looked up or tagged", () => {
  const file = dirtyFile(0);
  expect(now(file.writePages(WB_SYNC_ALL, { nrToWrite: 0 }))).toBe(0);
  expect([file.script.writepagesCalls, file.marksOf(0)]).toEqual([[], "DIRTY"]);
});

test("W28 a large folio is written whole and counts with all its pages", () => {
  const file = new WrittenFile({ maxOrder: 2 });
  file.clean(8, 2).markDirty();
  file.dirty(12, 13);
  expect(now(file.writePages(WB_SYNC_NONE, { nrToWrite: 2, rangeCyclic: true }))).toBe(0);
  expect([file.written, file.wbc.nrToWrite, file.mapping.writebackIndex]).toEqual([[8], -2, 12]);
});

test("W29 pages that are refused count as handed out", () => {
  const file = dirtyFile(0, 1, 2, 3, 4);
  const handed: number[] = [];
  file.script.onWritepage = (folio, wbc) => {
    handed.push(folio.index);
    folio.redirtyForWritepage(wbc);
    folio.unlock();
    return 0;
  };
  expect(now(file.writePages(WB_SYNC_NONE, { nrToWrite: 3 }))).toBe(0);
  expect([handed, file.wbc.nrToWrite, file.wbc.pagesSkipped]).toEqual([[0, 1, 2], 0, 3]);
  expect(file.marked(MARK_DIRTY)).toEqual([0, 1, 2, 3, 4]);
  expect(file.cache.nrDirty).toBe(5);
});

test("W30 pages that are skipped do not count", () => {
  const file = dirtyFile(3, 4);
  for (const page of [0, 1, 2]) file.startWrite(page).markDirty();
  expect(now(file.writePages(WB_SYNC_NONE, { nrToWrite: 2 }))).toBe(0);
  expect([file.written, file.wbc.nrToWrite]).toEqual([[3, 4], 0]);
});

test("W31 a file without a dirty page is not asked to write", () => {
  const file = new WrittenFile();
  file.clean(0);
  expect(now(filemapFdatawrite(file.mapping))).toBe(0);
  expect(file.script.writepagesCalls).toEqual([]);
});

/** The 3rd of ten pages gives its data up with EIO. */
function thirdOfTenFails(file: WrittenFile, giveUp: (folio: Folio) => Errno): void {
  file.script.onWritepage = (folio) => (folio.index === 2 ? giveUp(folio) : undefined);
}

function giveUp(folio: Folio): Errno {
  folio.startWriteback();
  folio.endWriteback();
  folio.unlock();
  return -EIO;
}

test("W32 without integrity the first error ends the walk behind the page that failed", () => {
  const file = dirtyFile(...TEN);
  thirdOfTenFails(file, giveUp);
  const options = { nrToWrite: 100, rangeCyclic: true };
  expect(now(file.writePages(WB_SYNC_NONE, options))).toBe(-EIO);
  expect(file.written).toEqual([0, 1]);
  expect(file.marked(MARK_DIRTY)).toEqual([3, 4, 5, 6, 7, 8, 9]);
  expect([file.wbc.nrToWrite, file.mapping.writebackIndex]).toEqual([97, 3]);
});

test("W33 with integrity all pages are written whatever fails, and the error is returned", () => {
  const file = dirtyFile(...TEN);
  thirdOfTenFails(file, giveUp);
  expect(now(file.writePages(WB_SYNC_ALL, { nrToWrite: 100 }))).toBe(-EIO);
  expect(file.written).toEqual([0, 1, 3, 4, 5, 6, 7, 8, 9]);
  expect([file.wbc.nrToWrite, file.marked(MARK_TOWRITE)]).toEqual([90, []]);
});
