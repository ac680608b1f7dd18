/** Acceptance cases of section 12.4: failed writes are told to whom it must be, once. */
import { expect, test } from "vitest";
import { type CacheFile, openCacheFile } from "../../../src/cache/cache-file.ts";
import {
  filemapFdatawaitKeepErrors,
  filemapWriteAndWaitRange,
  fileWriteAndWaitRange,
  genericBuffersFsync,
} from "../../../src/cache/filemap-flush.ts";
import { BdiWriteback } from "../../../src/cache/flusher.ts";
import { writeCachePages } from "../../../src/cache/page-writeback.ts";
import { evict } from "../../../src/cache/reclaim.ts";
import { syncAll, syncfs } from "../../../src/cache/sync.ts";
import {
  AOP_WRITEPAGE_ACTIVATE,
  WB_SYNC_ALL,
  WB_SYNC_NONE,
  WritebackControl,
} from "../../../src/cache/writeback-control.ts";
import { EIO, ENOMEM, ENOSPC, type Errno } from "../../../src/lib/errno.ts";
import type { MaybeAsync } from "../../../src/lib/maybe.ts";
import { PAGE_BYTES } from "../../../src/lib/units.ts";
import { MARK_DIRTY } from "../../../src/lib/xarray.ts";
import { BlockMappedFile } from "../../support/block-mapped-file.ts";
import { now, WrittenFile } from "../../support/written-file.ts";

const TEN = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] as const;

function dirtyFile(...pages: readonly number[]): WrittenFile {
  const file = new WrittenFile();
  file.dirty(...pages);
  return file;
}

/** Pages of which the writer gives the data up, each with an error. */
function failing(file: WrittenFile, errors: Readonly<Record<number, Errno>>): void {
  file.script.onWritepage = (folio) => {
    const err = errors[folio.index];
    if (err === undefined) return undefined;
    folio.startWriteback();
    folio.endWriteback();
    folio.unlock();
    return err;
  };
}

test("W34 of two errors of a walk the first is returned", () => {
  for (const errors of [
    { 2: -EIO, 5: -ENOSPC },
    { 2: -ENOSPC, 5: -EIO },
  ]) {
    const file = dirtyFile(...TEN);
    failing(file, errors);
    expect(now(file.writePages(WB_SYNC_ALL))).toBe(errors[2]);
  }
});

test("W35 a writer that refuses a page leaves it locked; the walk unlocks it and goes on", () => {
  const file = dirtyFile(...TEN);
  const wbc = new WritebackControl({ syncMode: WB_SYNC_NONE, nrToWrite: 10 });
  const data = { handed: 0 };
  const status = writeCachePages(
    file.mapping,
    wbc,
    (folio, given, seen) => {
      expect(seen).toBe(data);
      seen.handed++;
      if (folio.index !== 1) return file.script.submit(folio);
      folio.redirtyForWritepage(given);
      return AOP_WRITEPAGE_ACTIVATE;
    },
    data,
  );
  expect([status, data.handed, wbc.nrToWrite]).toEqual([0, 10, 0]);
  expect(file.written).toEqual([0, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect([file.folio(1).isDirty, file.folio(1).isLocked]).toEqual([true, false]);
  expect([file.mapping.wbErr.value, file.mapping.flagEIO]).toEqual([0, false]);
});

/** Ten dirty pages on device blocks 100 to 109. */
function tenBlocks(onWriteError: "drop" | "keep" = "drop"): BlockMappedFile {
  const blocks = TEN.map((page) => 100 + page);
  const file = new BlockMappedFile({ blocks, deviceBlocks: 200, onWriteError });
  file.dirty(0, 9);
  return file;
}

function fsync(file: CacheFile): MaybeAsync<Errno> {
  return fileWriteAndWaitRange(file, 0, Infinity);
}

/** No block is found for page 5. */
function noSpaceAtPage5(file: BlockMappedFile): void {
  file.getBlockHook = (_inode, fileBlock, map) =>
    fileBlock === 5 ? -ENOSPC : file.mapBlock(fileBlock, map);
}

test("W36 a page without a block is given up, the others are written; fsync says so once", async () => {
  const file = tenBlocks();
  noSpaceAtPage5(file);
  expect(await fsync(file.file)).toBe(-ENOSPC);
  expect(file.device.bios).toEqual(["W[100-104]S", "W[106-109]S"]);
  const page = file.folioAt(5);
  expect([page.isDirty, page.isWriteback, page.isLocked, page.isUptodate]).toEqual([
    false,
    false,
    false,
    true,
  ]);
  expect(await fsync(file.file)).toBe(0);
  expect(await file.read(5 * PAGE_BYTES, PAGE_BYTES)).toEqual(page.bytes);
  file.cache.verify();
});

test("W37 without integrity the walk ends there, and the next fsync writes the rest", async () => {
  const file = tenBlocks();
  noSpaceAtPage5(file);
  const wbc = new WritebackControl({ syncMode: WB_SYNC_NONE, nrToWrite: 100 });
  expect(await file.mapping.ops.writepages!(file.mapping, wbc)).toBe(-ENOSPC);
  expect(file.device.bios).toEqual(["W[100-104]"]);
  expect(TEN.filter((page) => file.folioAt(page).isDirty)).toEqual([6, 7, 8, 9]);
  expect(wbc.nrToWrite).toBe(94);
  expect(await fsync(file.file)).toBe(-ENOSPC);
  expect(file.device.bios).toEqual(["W[100-104]", "W[106-109]S"]);
  expect(await fsync(file.file)).toBe(0);
});

/** All ten pages were written in one bio that failed, and nobody has been told. */
async function tenFailed(
  onWriteError: "drop" | "keep" = "drop",
): Promise<{ file: BlockMappedFile; a: CacheFile; b: CacheFile }> {
  const file = tenBlocks(onWriteError);
  const b = openCacheFile(file.mapping);
  file.store.inject({ op: "write" });
  expect(await file.writeOut()).toBe(0);
  expect(file.device.bios).toEqual(["W[100-109]S"]);
  return { file, a: file.file, b };
}

test("W38 a bio that fails leaves its pages clean and readable, and fsync says EIO", async () => {
  const { file, a } = await tenFailed();
  for (const page of TEN) {
    const { isDirty, isWriteback, isUptodate } = file.folioAt(page);
    expect([isDirty, isWriteback, isUptodate]).toEqual([false, false, true]);
  }
  expect(await fsync(a)).toBe(-EIO);
  expect(file.mapping.writeFailure).toMatchObject({ code: "EIO" });
  file.cache.verify();
});

test("W39 a second fsync of the same file says nothing, and writes nothing", async () => {
  const { file, a } = await tenFailed();
  expect(await fsync(a)).toBe(-EIO);
  expect(await fsync(a)).toBe(0);
  expect(file.device.bios.length).toBe(1);
});

test("W40 another file that was open is told too, once", async () => {
  const { a, b } = await tenFailed();
  expect([await fsync(a), await fsync(a)]).toEqual([-EIO, 0]);
  expect([await fsync(b), await fsync(b)]).toEqual([-EIO, 0]);
});

test("W41 a file opened after an error that nobody has seen is told of it, as are the others", async () => {
  const { file, a } = await tenFailed();
  const c = openCacheFile(file.mapping);
  expect([await fsync(c), await fsync(a)]).toEqual([-EIO, -EIO]);
  expect([await fsync(c), await fsync(a)]).toEqual([0, 0]);
});

test("W42 a file opened after the error was seen is not told of it", async () => {
  const { file, a, b } = await tenFailed();
  expect(await fsync(a)).toBe(-EIO);
  const d = openCacheFile(file.mapping);
  expect([await fsync(d), await fsync(b)]).toEqual([0, -EIO]);
});

test("W43 two descriptors of one open file share its report", async () => {
  const { a } = await tenFailed();
  const [descriptor, duplicate] = [a, a];
  expect([await fsync(descriptor), await fsync(duplicate)]).toEqual([-EIO, 0]);
});

test("W46 of two errors that nobody has seen the last one is reported, once", async () => {
  const { file, a } = await tenFailed();
  file.dirty(5, 5);
  noSpaceAtPage5(file);
  expect(await file.writeOut()).toBe(-ENOSPC);
  expect([file.mapping.flagEIO, file.mapping.flagENOSPC]).toEqual([true, true]);
  expect([await fsync(a), await fsync(a)]).toEqual([-ENOSPC, 0]);
  expect([file.mapping.flagEIO, file.mapping.flagENOSPC]).toEqual([false, false]);
});

test("W47 an error that the walk returns is reported to each file once, not once more", async () => {
  const file = tenBlocks();
  noSpaceAtPage5(file);
  const b = openCacheFile(file.mapping);
  expect([await fsync(file.file), await fsync(file.file)]).toEqual([-ENOSPC, 0]);
  expect([await fsync(b), await fsync(b)]).toEqual([-ENOSPC, 0]);
});

test("W48 the older flags tell once in all, EIO first, and the cursors of files all the same", async () => {
  const { file, a } = await tenFailed();
  const { mapping } = file;
  expect(await filemapFdatawaitKeepErrors(mapping)).toBe(-EIO);
  expect(await filemapFdatawaitKeepErrors(mapping)).toBe(-EIO);
  expect(await filemapWriteAndWaitRange(mapping, 0, Infinity)).toBe(-EIO);
  expect(await filemapWriteAndWaitRange(mapping, 0, Infinity)).toBe(0);
  expect(await fsync(a)).toBe(-EIO);
  mapping.setError(-EIO);
  mapping.setError(-ENOSPC);
  expect(await filemapWriteAndWaitRange(mapping, 0, Infinity)).toBe(-EIO);
  expect(await filemapWriteAndWaitRange(mapping, 0, Infinity)).toBe(0);
});

test("W49 sync tells of no error and leaves it to fsync; syncfs tells of it once", async () => {
  const file = new WrittenFile({ bdi: (cache) => new BdiWriteback({ cache }) });
  const { sb } = file.script;
  file.dirty(0);
  file.script.writeStatuses.set(0, [-EIO]);
  await syncAll([sb]);
  expect([file.written, file.folio(0).isDirty]).toEqual([[0], false]);
  expect([await file.fsync(), await file.fsync()]).toEqual([-EIO, 0]);
  const { sbErrSince } = file.file;
  expect([await syncfs(sb, sbErrSince), await syncfs(sb, sbErrSince)]).toEqual([-EIO, 0]);
});

/** Answers of `writepages`, one after the other; and another file of the same cache, in flight. */
function shortOfMemory(answers: Errno[], isBusy: boolean): { file: WrittenFile; calls: number[] } {
  const file = dirtyFile(0);
  const calls: number[] = [];
  file.script.writepages = () => {
    calls.push(calls.length);
    return answers.shift() ?? 0;
  };
  if (isBusy) {
    const other = file.cache.openMapping(file.script, file.script);
    const folio = file.cache.allocFolio(0)!;
    other.addFolio(folio, 0);
    folio.startWriteback();
    folio.endRead(true);
    file.script.held.push(folio);
  }
  return { file, calls };
}

test("W50 memory that is short is waited for while writes end, and only with integrity", async () => {
  const busy = shortOfMemory([-ENOMEM, -ENOMEM], true);
  const walk = busy.file.writePages(WB_SYNC_ALL);
  await busy.file.settle();
  expect(busy.calls.length).toBe(1);
  busy.file.script.releaseWrites();
  expect(await walk).toBe(0);
  expect(busy.calls.length).toBe(3);

  const careless = shortOfMemory([-ENOMEM, -ENOMEM], true);
  expect(now(careless.file.writePages(WB_SYNC_NONE))).toBe(-ENOMEM);
  expect(careless.calls.length).toBe(1);

  const idle = shortOfMemory([-ENOMEM, -ENOMEM], false);
  expect(await idle.file.writePages(WB_SYNC_ALL)).toBe(-ENOMEM);
  expect(idle.calls.length).toBe(1);
});

test("W50 attempts that only take a folio up and leave it dirty are no hope for more", async () => {
  const file = dirtyFile(0);
  let calls = 0;
  file.script.writepages = () => {
    calls++;
    const folio = file.folio(0);
    folio.tryLock();
    folio.clearDirtyForIo();
    folio.startWriteback();
    folio.endWriteback();
    folio.markDirty();
    folio.unlock();
    return calls < 100 ? -ENOMEM : 0;
  };
  expect(await file.writePages(WB_SYNC_ALL)).toBe(-ENOMEM);
  expect(calls).toBe(1);
});

test("W51 what was not written is read from the cache, and as it was before after ev", async () => {
  const { file } = await tenFailed();
  const before = file.content(2 * PAGE_BYTES, PAGE_BYTES);
  const after = file.folioAt(2).bytes.slice();
  expect(await file.read(2 * PAGE_BYTES, PAGE_BYTES)).toEqual(after);
  expect(after).not.toEqual(before);
  expect(evict(file.folioAt(2))).toBe(true);
  expect(await file.read(2 * PAGE_BYTES, PAGE_BYTES)).toEqual(before);
});

test("W51 where failed writes are kept, the page is dirty again and written after the repair", async () => {
  const { file, a } = await tenFailed("keep");
  expect([file.folioAt(2).isDirty, file.cache.nrDirty]).toEqual([true, 10]);
  expect(evict(file.folioAt(2))).toBe(false);
  const after = file.folioAt(2).bytes.slice();
  // The attempt of this fsync goes well; the older error is told all the same.
  expect([await fsync(a), await fsync(a)]).toEqual([-EIO, 0]);
  expect(file.onDevice(102)).toEqual(after);
  expect(file.mapping.pages.marked(MARK_DIRTY)).toBe(false);
  file.cache.verify();
});

test("W51 a page that finds no room is kept dirty, and fsync says so until there is some", async () => {
  const file = tenBlocks("keep");
  noSpaceAtPage5(file);
  expect(await fsync(file.file)).toBe(-ENOSPC);
  expect([file.folioAt(5).isDirty, file.folioAt(5).isLocked]).toEqual([true, false]);
  expect(await fsync(file.file)).toBe(-ENOSPC);
  file.getBlockHook = undefined;
  expect(await fsync(file.file)).toBe(0);
  expect(file.onDevice(105)).toEqual(file.folioAt(5).bytes);
});

test("W52 fsync writes metadata behind the data, and tells of the error of either", async () => {
  const file = tenBlocks();
  const synced: boolean[] = [];
  const sync = (status: Errno): MaybeAsync<Errno> =>
    genericBuffersFsync(file.file, 0, Infinity, () => {
      synced.push(file.mapping.pages.marked(MARK_DIRTY) || file.cache.nrWriteback > 0);
      return status;
    });
  expect(await sync(-EIO)).toBe(-EIO);
  expect([synced, TEN.some((page) => file.folioAt(page).isDirty)]).toEqual([[false], false]);
  expect(await sync(0)).toBe(0);
  file.dirty(0, 0);
  file.store.inject({ op: "write" });
  expect(await sync(0)).toBe(-EIO);
  expect(synced.length).toBe(2);
});

test("the first failure that nobody was told of is the one whose cause is told", async () => {
  const file = dirtyFile(0);
  const causes = [new Error("the first"), new Error("the second"), new Error("the third")];
  file.mapping.setError(-EIO, causes[0]);
  file.mapping.setError(-ENOSPC, causes[1]);
  expect(file.mapping.writeFailure).toBe(causes[0]);
  expect(await file.fsync()).toBe(-ENOSPC);
  file.mapping.setError(-EIO, causes[2]);
  expect(file.mapping.writeFailure).toBe(causes[2]);
});
