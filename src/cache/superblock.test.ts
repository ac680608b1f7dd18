import { expect, test } from "vitest";
import { Errseq } from "../lib/errseq.ts";
import { AsyncRwLock } from "../lib/locks.ts";
import type { Inode } from "./inode.ts";
import {
  type BackingDevice,
  I_DIRTY_DATASYNC,
  I_DIRTY_PAGES,
  I_DIRTY_SYNC,
  I_DIRTY_TIME,
  I_SYNC_QUEUED,
  markInodeDirty,
  type Superblock,
  WbInode,
} from "./superblock.ts";

/** An inode whose file system and flusher write down what they are told. */
function makeInode(): { inode: Inode; wb: WbInode; log: string[] } {
  const log: string[] = [];
  const bdi: BackingDevice = {
    nrDirty: 0,
    nrWriteback: 0,
    nrDirtied: 0,
    isBusy: false,
    throttle: { balance: () => 0 },
    inodeDirtied: (_wb, wasDirty) => log.push(`listed ${wasDirty}`),
    inodeCleaned: () => {},
    inodeWritten: () => {},
    writeFailed: () => {},
    pagesWritten: () => {},
    startAll: () => {},
    queueWork: () => Promise.resolve(),
  };
  const sb: Superblock = {
    wbErr: new Errseq(),
    inodesUnderWriteback: new Set(),
    bdi,
    dirtyInode: (_inode, flags) => log.push(`journal ${flags}`),
  };
  const inode: { -readonly [K in keyof Inode]: Inode[K] } = {
    ino: 12,
    size: 0,
    blockBytes: 1024,
    rwsem: new AsyncRwLock(),
  };
  const wb = new WbInode(inode, sb);
  inode.wb = wb;
  return { inode, wb, log };
}

test("the journal hears of a changed inode, the flusher of the first change since it was clean", () => {
  const { inode, wb, log } = makeInode();
  markInodeDirty(inode, I_DIRTY_PAGES);
  markInodeDirty(inode, I_DIRTY_PAGES);
  expect(log).toEqual(["listed 0"]);
  markInodeDirty(inode, I_DIRTY_SYNC | I_DIRTY_DATASYNC);
  markInodeDirty(inode, I_DIRTY_SYNC);
  expect(log).toEqual(["listed 0", `journal ${I_DIRTY_SYNC | I_DIRTY_DATASYNC}`]);
  expect(wb.state).toBe(I_DIRTY_PAGES | I_DIRTY_SYNC | I_DIRTY_DATASYNC);
});

test("an inode that the flusher has queued keeps its place, whatever becomes dirty", () => {
  const { inode, wb, log } = makeInode();
  wb.state = I_SYNC_QUEUED;
  markInodeDirty(inode, I_DIRTY_PAGES);
  expect([log, wb.state]).toEqual([[], I_SYNC_QUEUED | I_DIRTY_PAGES]);
});

test("time stamps go along with an inode that is dirty for more", () => {
  const { inode, wb } = makeInode();
  markInodeDirty(inode, I_DIRTY_TIME);
  expect(wb.state).toBe(I_DIRTY_TIME);
  markInodeDirty(inode, I_DIRTY_SYNC);
  expect(wb.state).toBe(I_DIRTY_SYNC);
  markInodeDirty(inode, I_DIRTY_TIME);
  expect(wb.state).toBe(I_DIRTY_SYNC);
});

test("an inode that nobody writes back is left alone", () => {
  const { inode } = makeInode();
  expect(() => markInodeDirty({ ...inode, wb: null }, I_DIRTY_PAGES)).not.toThrow();
});
