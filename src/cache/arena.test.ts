import fc from "fast-check";
import { expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { withExactArenas } from "../../test/support/small-arena.ts";
import { AssertionError } from "../lib/assert.ts";
import { KIB, MIB, PAGE_BYTES } from "../lib/units.ts";
import { Arena } from "./arena.ts";

test("alloc begins a run at a multiple of its size and never hands a frame out twice", () => {
  const arena = Arena.create({ sizeBytes: 4 * MIB });
  const runs = [3, 0, 9, 1, 0].map((order) => ({ order, pfn: arena.alloc(order) }));
  for (const { order, pfn } of runs) expect(pfn % (1 << order)).toBe(0);
  arena.verify();
  expect(arena.freeFrames).toBe(1024 - 8 - 1 - 512 - 2 - 1);
});

test("freed buddies join, so that a run of the largest order can be had again", () => {
  const arena = Arena.create({ sizeBytes: 4 * MIB });
  const frames = Array.from({ length: 960 }, () => arena.alloc(0));
  expect(arena.alloc(0)).toBe(-1);
  for (const pfn of frames.reverse()) arena.free(pfn, 0);
  arena.verify();
  expect(arena.alloc(9)).not.toBe(-1);
});

test("the reserve is 64 frames, or a 16th of a small arena, and is kept for who asks for it", () => {
  expect(Arena.create({ sizeBytes: 256 * MIB }).reserveFrames).toBe(64);
  const arena = Arena.create({ sizeBytes: 256 * KIB });
  expect([arena.frameCount, arena.reserveFrames, arena.pinLimitFrames]).toEqual([64, 4, 32]);
  for (let taken = 0; taken < 60; taken++) expect(arena.alloc(0)).not.toBe(-1);
  expect(arena.alloc(0)).toBe(-1);
  for (let taken = 0; taken < 4; taken++) expect(arena.alloc(0, true)).not.toBe(-1);
  expect(arena.alloc(0, true)).toBe(-1);
  arena.verify();
});

test("a reserve can be made larger, up to a quarter of the arena", () => {
  const arena = Arena.create({ sizeBytes: 4 * MIB });
  arena.reserveAtLeast(16);
  expect(arena.reserveFrames).toBe(64);
  arena.reserveAtLeast(100);
  expect(arena.reserveFrames).toBe(100);
  arena.reserveAtLeast(1000);
  expect(arena.reserveFrames).toBe(256);
  for (let count = 0; count < 1024 - 256; count++) expect(arena.alloc(0)).not.toBe(-1);
  expect(arena.alloc(0)).toBe(-1);
  expect(arena.alloc(0, true)).not.toBe(-1);
});

test("blocks of the chain are made one after the other, and each run lies in one", () => {
  withExactArenas(); // It has more than two blocks.
  const arena = Arena.create({ sizeBytes: 5 * MIB, blockBytes: 2 * MIB });
  const buffers = new Set<ArrayBufferLike>();
  for (let run = 0; run < 4; run++) {
    const pfn = arena.alloc(8);
    const bytes = arena.bytes(pfn, 8);
    expect(bytes.length).toBe(MIB);
    buffers.add(bytes.buffer);
    expect(buffers.size).toBe(1 + Math.floor(run / 2));
  }
  expect(arena.alloc(8)).toBe(-1); // The last block holds 256 frames, of which 64 are the reserve.
  arena.verify();
});

test("a size that is no multiple of the largest run is used to its last frame", () => {
  const arena = Arena.create({ sizeBytes: 2 * MIB + 3 * PAGE_BYTES });
  expect(arena.frameCount).toBe(515);
  let taken = 0;
  while (arena.alloc(0, true) !== -1) taken++;
  expect(taken).toBe(515);
});

test("a run freed twice, or with another order, is a bug", () => {
  const arena = Arena.create({ sizeBytes: 4 * MIB });
  const pfn = arena.alloc(2);
  expect(() => arena.free(pfn, 1)).toThrow(AssertionError);
  arena.free(pfn, 2);
  expect(() => arena.free(pfn, 2)).toThrow(AssertionError);
});

test("behaves as a set of disjoint runs", () => {
  const command = fc.record({ isFree: fc.boolean(), order: fc.nat(9), pick: fc.nat() });
  fc.assert(
    fc.property(fc.array(command, { size: "max", maxLength: 400 }), (commands) => {
      const arena = Arena.create({ sizeBytes: 5 * MIB, blockBytes: 2 * MIB });
      const taken: { pfn: number; order: number }[] = [];
      const owner = new Array<boolean>(arena.frameCount).fill(false);
      for (const { isFree, order, pick } of commands) {
        const run = isFree ? taken.splice(pick % (taken.length || 1), 1)[0] : undefined;
        if (run !== undefined) {
          arena.free(run.pfn, run.order);
          owner.fill(false, run.pfn, run.pfn + (1 << run.order));
        } else {
          const pfn = arena.alloc(order);
          if (pfn === -1) continue;
          expect(owner.slice(pfn, pfn + (1 << order)).includes(true)).toBe(false);
          owner.fill(true, pfn, pfn + (1 << order));
          taken.push({ pfn, order });
        }
      }
      arena.verify();
      expect(arena.freeFrames).toBe(owner.filter((isTaken) => !isTaken).length);
    }),
    { numRuns: runs(60) },
  );
});
