import { expect, test } from "vitest";
import { WrittenFile } from "../../test/support/written-file.ts";
import { AssertionError } from "../lib/assert.ts";
import { VirtualClock } from "../lib/clock.ts";
import { MIB } from "../lib/units.ts";
import type { Folio } from "./folio.ts";
import { PageCache } from "./page-cache.ts";

function makeFolio(): { folio: Folio; cache: PageCache } {
  const cache = new PageCache({ clock: new VirtualClock(), arenaBytes: 4 * MIB });
  return { cache, folio: cache.allocFolio(0)! };
}

test("unlock hands the lock to the first waiter, so it is never free in between", async () => {
  const { folio, cache } = makeFolio();
  expect(folio.lock()).toBeUndefined();
  const { lockSequence } = folio;
  const first = folio.lock();
  const second = folio.lock();
  folio.unlock();
  expect([folio.isLocked, folio.tryLock(), cache.lockedCount]).toEqual([true, false, 1]);
  expect(folio.lockSequence).toBe(lockSequence + 1);
  await first;
  folio.unlock();
  await second;
  folio.unlock();
  expect([folio.isLocked, cache.lockedCount]).toEqual([false, 0]);
});

test("an aborted waiter leaves the queue; the lock passes to the next", async () => {
  const { folio } = makeFolio();
  folio.tryLock();
  const abort = new AbortController();
  const left = folio.lock(abort.signal);
  const stays = folio.lock();
  abort.abort(new Error("enough"));
  await expect(left).rejects.toThrow("enough");
  folio.unlock();
  await stays;
  expect(folio.isLocked).toBe(true);
});

test("waitLocked waits until the lock is given up, and does not take it", async () => {
  const { folio } = makeFolio();
  expect(folio.waitLocked()).toBeUndefined();
  folio.tryLock();
  const next = folio.lock();
  const waiting = folio.waitLocked();
  folio.unlock();
  await next;
  await waiting;
  expect(folio.isLocked).toBe(true);
  folio.unlock();
  expect(folio.tryLock()).toBe(true);
});

test("endRead sets uptodate and unlocks in one step; a failed read leaves it clear", () => {
  const { folio } = makeFolio();
  expect(() => folio.endRead(true)).toThrow(AssertionError);
  folio.tryLock();
  folio.endRead(false);
  expect([folio.isLocked, folio.isUptodate]).toEqual([false, false]);
  folio.tryLock();
  folio.endRead(true);
  expect([folio.isLocked, folio.isUptodate]).toEqual([false, true]);
});

test("the last put gives the frames back; one more is a bug", () => {
  const { folio, cache } = makeFolio();
  folio.get();
  folio.put();
  expect(cache.arena.freeFrames).toBe(1023);
  folio.put();
  expect(cache.arena.freeFrames).toBe(1024);
  expect(() => folio.put()).toThrow(AssertionError);
  expect(() => folio.get()).toThrow(AssertionError);
});

test("markDirtyLock dirties under the lock, when its turn comes", async () => {
  const file = new WrittenFile();
  const folio = file.clean(0);
  folio.tryLock();
  const dirtied = folio.markDirtyLock();
  expect(folio.isDirty).toBe(false);
  folio.unlock();
  await dirtied;
  expect([folio.isDirty, folio.isLocked, file.marksOf(0)]).toEqual([true, false, "DIRTY"]);
  expect(file.clean(1).markDirtyLock()).toBeUndefined();
  expect(file.folio(1).isDirty).toBe(true);
  file.expectAtRest();
});

test("who waits for a write in flight is woken by its end, and can leave before", async () => {
  const file = new WrittenFile();
  const folio = file.startWrite(0);
  const abort = new AbortController();
  const leaving = folio.waitWriteback(abort.signal);
  const staying = folio.waitWriteback();
  abort.abort(new Error("no time"));
  await expect(leaving).rejects.toThrow("no time");
  expect(folio.isWriteback).toBe(true);
  file.script.releaseWrites();
  await staying;
  expect(folio.waitWriteback()).toBeUndefined();
  expect(() => folio.endWriteback()).toThrow(AssertionError);
});
