import { describe, expect, test } from "vitest";
import { FlushedVolume } from "../../test/support/flushed-volume.ts";
import { VirtualClock } from "../lib/clock.ts";
import { Errseq } from "../lib/errseq.ts";
import { AsyncRwLock } from "../lib/locks.ts";
import { Random } from "../lib/random.ts";
import { PAGE_BYTES } from "../lib/units.ts";
import { DirtyInodes, type QueueCut } from "./dirty-inodes.ts";
import {
  I_DIRTY_PAGES,
  I_DIRTY_SYNC,
  I_SYNC_QUEUED,
  type Superblock,
  WbInode,
} from "./superblock.ts";
import { InodeList } from "./wb-list.ts";
import { WB_SYNC_NONE, WritebackControl } from "./writeback-control.ts";

function newSuperblock(): Superblock {
  return { wbErr: new Errseq(), inodesUnderWriteback: new Set() };
}

function newInode(ino: number, sb: Superblock = newSuperblock()): WbInode {
  const inode = { ino, size: 0, blockBytes: PAGE_BYTES, rwsem: new AsyncRwLock() };
  return new WbInode(inode, sb);
}

const inosOf = (list: InodeList): number[] => [...list.eldestFirst()].map(({ inode }) => inode.ino);
const ALL: QueueCut = {
  dirtiedBeforeMs: Infinity,
  timeBeforeMs: Infinity,
  rank: Infinity,
  takesFailed: true,
};

describe("a list", () => {
  test("keeps its order when others are added behind it, and counts", () => {
    const [one, two] = [new InodeList(), new InodeList()];
    for (const ino of [1, 2]) one.moveToHead(newInode(ino));
    for (const ino of [3, 4, 5]) two.moveToHead(newInode(ino));
    one.takeAll(two);
    expect([inosOf(one), one.count, two.count, two.tail]).toEqual([[1, 2, 3, 4, 5], 5, 0, null]);
    one.verify();
    one.count++;
    expect(() => one.verify()).toThrow("invariant 2");
  });

  test("takes an inode off the list that it was on", () => {
    const [one, two] = [new InodeList(), new InodeList()];
    const inode = newInode(1);
    one.moveToHead(inode);
    two.moveToHead(inode);
    expect([one.count, two.count]).toEqual([0, 1]);
    expect(() => one.remove(inode)).toThrow("invariant 1");
  });
});

/** Lists with inodes 1, 2 and 3, dirtied a second apart. */
function threeDirty(): { clock: VirtualClock; inodes: DirtyInodes; all: WbInode[] } {
  const clock = new VirtualClock();
  const inodes = new DirtyInodes(clock);
  const all = [1, 2, 3].map((ino) => newInode(ino));
  for (const wb of all) {
    wb.state = I_DIRTY_SYNC;
    inodes.add(wb, 0);
    clock.spend(1000);
  }
  return { clock, inodes, all };
}

test("an inode that is put back stays old, unless there is a younger one", () => {
  const { inodes, all } = threeDirty();
  inodes.queueIo(ALL);
  expect(inosOf(inodes.io)).toEqual([1, 2, 3]);
  inodes.redirtyTail(all[0]!);
  expect([all[0]!.dirtiedWhenMs, all[0]!.state & I_SYNC_QUEUED]).toEqual([0, 0]);
  inodes.redirtyTail(all[2]!);
  inodes.redirtyTail(all[1]!);
  expect([all[1]!.dirtiedWhenMs, all[2]!.dirtiedWhenMs]).toEqual([3000, 2000]);
  expect(inosOf(inodes.dirty)).toEqual([1, 3, 2]);
  inodes.verify();
});

test("a work takes those that were dirty when it began, behind what it has to do again", () => {
  const { inodes, all } = threeDirty();
  const cut = { ...ALL, rank: 2 };
  inodes.queueIo(cut);
  expect([inosOf(inodes.io), inosOf(inodes.dirty)]).toEqual([[1, 2], [3]]);
  inodes.requeueIo(all[0]!);
  inodes.requeueIo(all[1]!);
  inodes.queueIo({ ...ALL, dirtiedBeforeMs: 2000 });
  expect(inosOf(inodes.io)).toEqual([1, 2, 3]);
});

test("inodes of one file system are written together", () => {
  const inodes = new DirtyInodes(new VirtualClock());
  const [one, two] = [newSuperblock(), newSuperblock()];
  for (const ino of [1, 2, 3, 4]) {
    const wb = newInode(ino, ino % 2 === 0 ? two : one);
    wb.state = I_DIRTY_SYNC;
    inodes.add(wb, 0);
  }
  inodes.queueIo(ALL);
  expect(inosOf(inodes.io)).toEqual([1, 3, 2, 4]);
});

test("a slice that is used up is gone on with later, one that skipped pages is not", () => {
  const volume = new FlushedVolume();
  const { inodes } = volume.bdi;
  const f = volume.openFile("f");
  f.dirty(0);
  for (const pagesSkipped of [0, 1]) {
    inodes.queueIo(ALL);
    const wbc = new WritebackControl({ syncMode: WB_SYNC_NONE, nrToWrite: 0 });
    wbc.pagesSkipped = pagesSkipped;
    inodes.requeue(f.wb, wbc, ALL);
    expect(f.wb.list).toBe(pagesSkipped === 0 ? inodes.moreIo : inodes.dirty);
  }
  expect(f.wb.state).toBe(I_DIRTY_PAGES);
});

test("failures of one attempt count once, and an old one is forgotten", () => {
  const { clock, inodes, all } = threeDirty();
  const wb = all[0]!;
  const startMs = clock.nowMs();
  inodes.writeFailed(wb);
  inodes.writeFailed(wb);
  expect([wb.failureCount, wb.retryAtMs - startMs]).toEqual([1, 1000]);
  expect([wb.list === inodes.failed, inodes.nextRetryMs]).toEqual([true, wb.retryAtMs]);
  clock.spend(1000);
  inodes.writeFailed(wb);
  expect([wb.failureCount, wb.retryAtMs - clock.nowMs()]).toEqual([2, 2000]);
  clock.spend(60_000);
  inodes.writeFailed(wb);
  expect([wb.failureCount, wb.retryAtMs - clock.nowMs()]).toEqual([1, 1000]);
  inodes.clear();
  expect([inodes.count, wb.list]).toEqual([0, null]);
});

test("random writers, failures and syncs leave the lists whole, and end with nothing dirty", async () => {
  const seed = 20261121;
  const random = new Random(seed);
  const volume = new FlushedVolume({ arenaBytes: 1 << 20, onWriteError: "keep" });
  let isBroken = true;
  volume.statusOf = () => (isBroken && random.below(3) === 0 ? -5 : 0);
  const files = Array.from("abcd", (name) => volume.openFile(name));
  for (let step = 0; step < 400; step++) {
    const file = files[random.below(4)]!;
    const page = random.below(20);
    if (file.mapping.folioAt(page)?.isLocked !== true) file.dirty(page);
    if (random.below(4) === 0) await volume.clock.advance(random.below(3000));
    if (random.below(20) === 0) void volume.bdi.queueWork({ sb: volume, syncMode: 1 });
    volume.verify();
    expect(volume.cache.nrDirty, `seed ${seed}, step ${step}`).toBe(volume.bdi.nrDirty);
  }
  isBroken = false;
  expect(await volume.bdi.close(), `seed ${seed}`).toBe(0);
  volume.expectIdle();
});
