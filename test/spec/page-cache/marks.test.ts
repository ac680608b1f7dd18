/** Acceptance cases of section 12.1: flags, marks and counters of a folio that is written. */
import { expect, test } from "vitest";
import { BdiWriteback } from "../../../src/cache/flusher.ts";
import { tagPagesForWriteback } from "../../../src/cache/page-writeback.ts";
import { I_DIRTY_PAGES } from "../../../src/cache/superblock.ts";
import { truncateInodePages } from "../../../src/cache/truncate.ts";
import {
  AOP_WRITEPAGE_ACTIVATE,
  WB_SYNC_ALL,
  WB_SYNC_NONE,
} from "../../../src/cache/writeback-control.ts";
import { AssertionError } from "../../../src/lib/assert.ts";
import { PAGE_BYTES } from "../../../src/lib/units.ts";
import { MARK_DIRTY, MARK_TOWRITE, MARK_WRITEBACK } from "../../../src/lib/xarray.ts";
import { now, WrittenFile } from "../../support/written-file.ts";

/** A file with page 0 dirty, locked and cleaned for its write. */
function cleanedForIo(): WrittenFile {
  const file = new WrittenFile();
  file.dirty(0);
  expect(file.folio(0).tryLock()).toBe(true);
  expect(file.folio(0).clearDirtyForIo()).toBe(true);
  return file;
}

test("W1 a folio becomes dirty once: mark, counters, and the inode on the flusher's list", async () => {
  const file = new WrittenFile({ bdi: (cache) => new BdiWriteback({ cache }) });
  const { wb } = file.script;
  const folio = file.clean(0);
  await file.clock.advance(7);
  expect(file.mapping.dirtyFolio(folio)).toBe(true);
  expect([file.cache.nrDirty, file.cache.nrDirtied]).toEqual([1, 1]);
  expect(file.marksOf(0)).toBe("DIRTY");
  expect(wb.state).toBe(I_DIRTY_PAGES);
  expect([wb.list !== null, wb.dirtiedWhenMs]).toEqual([true, 7]);
  await file.clock.advance(7);
  expect(file.mapping.dirtyFolio(folio)).toBe(false);
  expect([file.cache.nrDirty, file.cache.nrDirtied, wb.dirtiedWhenMs]).toEqual([1, 1, 7]);
});

test("W2 clearDirtyForIo takes the flag and leaves the mark; without the lock it is a bug", () => {
  const file = new WrittenFile();
  file.dirty(0);
  const folio = file.folio(0);
  expect(() => folio.clearDirtyForIo()).toThrow(AssertionError);
  folio.tryLock();
  expect(folio.clearDirtyForIo()).toBe(true);
  expect([folio.isDirty, file.marksOf(0), file.cache.nrDirty]).toEqual([false, "DIRTY", 0]);
  expect(folio.clearDirtyForIo()).toBe(false);
});

test("W3 startWriteback clears DIRTY and TOWRITE; with keepWrite TOWRITE stays", () => {
  for (const keepWrite of [false, true]) {
    const file = cleanedForIo();
    tagPagesForWriteback(file.mapping, 0, 10);
    expect(file.marksOf(0)).toBe("DIRTY TOWRITE");
    file.folio(0).startWriteback(keepWrite);
    expect(file.marksOf(0)).toBe(keepWrite ? "WRITEBACK TOWRITE" : "WRITEBACK");
    expect([file.folio(0).isWriteback, file.cache.nrWriteback]).toEqual([true, 1]);
  }
});

test("W4 a folio dirtied between clearing and starting keeps mark and flag", () => {
  const file = cleanedForIo();
  file.folio(0).markDirty();
  file.folio(0).startWriteback();
  expect([file.marksOf(0), file.folio(0).isDirty]).toEqual(["DIRTY WRITEBACK", true]);
});

test("W5 a folio dirtied in flight stays dirty after its write, and is written again", async () => {
  const file = new WrittenFile();
  const folio = file.startWrite(0);
  expect(folio.markDirty()).toBe(true);
  expect(file.marksOf(0)).toBe("DIRTY WRITEBACK");
  file.script.releaseWrites();
  expect([file.marksOf(0), folio.isDirty, folio.isWriteback]).toEqual(["DIRTY", true, false]);
  expect(now(file.writePages(WB_SYNC_NONE))).toBe(0);
  expect(file.written).toEqual([0]);
  await file.settle();
  file.expectAtRest();
});

test("W6 tagging marks what is dirty in the range, both ends included", () => {
  const file = new WrittenFile();
  file.dirty(0, 2, 5, 9);
  file.clean(3);
  file.startWrite(4);
  tagPagesForWriteback(file.mapping, 2, 5);
  expect(file.marked(MARK_TOWRITE)).toEqual([2, 5]);
});

test("W7 the mapping knows of its marks at once, the file system of files in flight", () => {
  const file = new WrittenFile();
  const { sb, wb } = file.script;
  const has = (): boolean[] => [
    file.mapping.pages.marked(MARK_DIRTY),
    file.mapping.pages.marked(MARK_WRITEBACK),
    sb.inodesUnderWriteback.has(wb),
  ];
  file.dirty(7);
  expect(has()).toEqual([true, false, false]);
  file.startWrite(7);
  expect(has()).toEqual([false, true, true]);
  file.script.releaseWrites();
  expect(has()).toEqual([false, false, false]);
  file.startWrite(7);
  file.startWrite(8);
  file.script.releaseWrites(8);
  expect(has()).toEqual([false, true, true]);
  file.script.releaseWrites(7);
  expect(has()).toEqual([false, false, false]);
});

test("W8 a folio that is removed takes its marks along", () => {
  const file = new WrittenFile();
  file.dirty(3);
  tagPagesForWriteback(file.mapping, 0, 10);
  expect(truncateInodePages(file.mapping, 3 * PAGE_BYTES)).toBeUndefined();
  expect(file.mapping.folioAt(3)).toBeUndefined();
  expect([file.mapping.pages.marked(MARK_DIRTY), file.mapping.pages.marked(MARK_TOWRITE)]).toEqual([
    false,
    false,
  ]);
  expect(file.cache.nrDirty).toBe(0);
  file.clean(3);
  expect(file.marksOf(3)).toBe("");
  file.expectAtRest();
});

test("W9 a redirtied folio counts as skipped, and only once as dirtied", () => {
  const file = new WrittenFile();
  file.dirty(0);
  file.script.onWritepage = (folio, wbc) => {
    folio.redirtyForWritepage(wbc);
    return AOP_WRITEPAGE_ACTIVATE;
  };
  expect(now(file.writePages(WB_SYNC_ALL))).toBe(0);
  expect(file.wbc.pagesSkipped).toBe(1);
  expect([file.cache.nrDirty, file.cache.nrDirtied, file.marksOf(0)]).toEqual([
    1,
    1,
    "DIRTY TOWRITE",
  ]);
  file.expectAtRest();
});
