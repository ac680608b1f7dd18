import fc from "fast-check";
import { expect, test } from "vitest";
import { WrittenFile } from "../../test/support/written-file.ts";
import { AssertionError } from "../lib/assert.ts";
import { attachBlockState, FolioBlockState } from "./block-state.ts";
import { Folio, type FolioOwner, PG_DIRTY, PG_WRITEBACK } from "./folio.ts";

const owner: FolioOwner = {
  lockedCount: 0,
  memoryWaiterCount: 0,
  memoryProgress: () => {},
  releaseFrames: () => {},
};

function makeFolio(order = 0): Folio {
  const folio = new Folio(owner, 0, order, new Uint8Array(4096 << order));
  folio.tryLock();
  return folio;
}

test("attaching takes over the folio's flags", () => {
  const folio = makeFolio();
  folio.markUptodate();
  folio.setFlags(PG_DIRTY);
  const state = attachBlockState(folio, 1024);
  expect([state.isAllValid, state.isAnyDirty, state.isDirty(1024, 1)]).toEqual([true, true, true]);
  expect(attachBlockState(folio, 1024)).toBe(state);
  expect(() => attachBlockState(folio, 512)).toThrow(AssertionError);
});

test("the last valid unit makes the folio uptodate in the same step", () => {
  const folio = makeFolio();
  const state = attachBlockState(folio, 1024);
  state.setValid(1024, 3072);
  expect([folio.isUptodate, state.nextInvalid(0, 4096), state.nextValid(0, 4096)]).toEqual([
    false,
    0,
    1024,
  ]);
  state.setValid(0, 1024);
  expect(folio.isUptodate).toBe(true);
  state.verify();
});

test("while reads are pending only endRead makes the folio uptodate", () => {
  const folio = makeFolio();
  const state = attachBlockState(folio, 1024);
  state.readPendingBytes = 1024;
  state.setValid(0, 4096);
  expect(folio.isUptodate).toBe(false);
  state.readPendingBytes = 0;
  folio.endRead(true);
  expect([folio.isUptodate, folio.isLocked]).toEqual([true, false]);
});

test("a folio read as a whole has all units valid", () => {
  const folio = makeFolio();
  const state = attachBlockState(folio, 512);
  folio.endRead(true);
  expect(state.isAllValid).toBe(true);
  state.verify();
});

test("ranges of part units touch those units; valid ranges are whole ones", () => {
  const state = attachBlockState(makeFolio(), 1024);
  state.setValid(1024, 1024);
  expect(state.isValid(1500, 10)).toBe(true);
  expect(state.isValid(1500, 1000)).toBe(false);
  expect(() => state.setValid(0, 100)).toThrow(AssertionError);
  expect(() => state.isValid(4000, 200)).toThrow(AssertionError);
});

test("verify finds a folio that says more than its units", () => {
  const folio = makeFolio();
  const state = attachBlockState(folio, 1024);
  folio.setFlags(1 << 1);
  expect(() => state.verify()).toThrow(AssertionError);
  folio.clearFlags(1 << 1);
  state.writePendingBytes = 1024;
  expect(() => state.verify()).toThrow(AssertionError);
  folio.setFlags(PG_WRITEBACK);
  state.verify();
});

test("behaves as one boolean per unit", () => {
  const range = fc
    .tuple(fc.nat(127), fc.nat(128))
    .map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
  fc.assert(
    fc.property(fc.array(range, { size: "max", maxLength: 30 }), range, (changes, asked) => {
      const state = new FolioBlockState(makeFolio(4), 512);
      const valid = new Array<boolean>(state.unitCount).fill(false);
      for (const [first = 0, end = 0] of changes) {
        state.setValid(first * 512, (end - first) * 512);
        valid.fill(true, first, end);
      }
      const [first = 0, end = 0] = asked;
      const units = valid.slice(first, end);
      expect(state.isValid(first * 512, (end - first) * 512)).toBe(units.every(Boolean));
      const bad = units.indexOf(false);
      expect(state.nextInvalid(first * 512, end * 512)).toBe(
        (bad === -1 ? end : first + bad) * 512,
      );
      const good = units.indexOf(true);
      expect(state.nextValid(first * 512, end * 512)).toBe(
        (good === -1 ? end : first + good) * 512,
      );
      expect(state.folio.isUptodate).toBe(valid.every(Boolean));
    }),
  );
});

test("units go from dirty to in flight to clean or, where a failure is kept, to dirty", () => {
  const file = new WrittenFile();
  const folio = file.clean(0);
  const state = attachBlockState(folio, 1024);
  expect(folio.markDirtyRange(1000, 100)).toBe(true);
  expect(folio.markDirtyRange(3072, 1)).toBe(false);
  expect([state.nextDirty(0, 4096), state.nextClean(0, 4096)]).toEqual([0, 2048]);
  expect([state.nextDirty(2048, 4096), state.isDirty(2048, 1024)]).toEqual([3072, false]);
  folio.tryLock();
  expect(folio.clearDirtyForIo()).toBe(true);
  state.startInFlight(0, 2048);
  state.clearDirty(3000, 1096);
  folio.startWriteback();
  folio.unlock();
  state.verify();
  expect([state.isInFlight(0, 1), state.isInFlight(2048, 2048)]).toEqual([true, false]);
  expect([state.isAnyDirty, state.isAnyInFlight]).toEqual([false, true]);
  state.endInFlight(0, 1024, false);
  state.endInFlight(1024, 1024, true);
  folio.endWriteback();
  expect([folio.isDirty, file.marksOf(0)]).toEqual([true, "DIRTY"]);
  expect([state.nextDirty(0, 4096), state.nextClean(1024, 4096)]).toEqual([1024, 2048]);
  file.expectAtRest();
});

test("who dirties a whole folio dirties its valid units, and no others", () => {
  const folio = makeFolio();
  const state = attachBlockState(folio, 1024);
  state.setValid(0, 1024);
  state.setValid(2048, 1024);
  expect(() => state.setDirty(1024, 1)).toThrow(AssertionError);
  state.setAllDirty();
  expect([0, 1024, 2048, 3072].map((from) => state.isDirty(from, 1024))).toEqual([
    true,
    false,
    true,
    false,
  ]);
  state.clearDirty(2047, 1024);
  expect(state.isDirty(2048, 1024)).toBe(true);
});
