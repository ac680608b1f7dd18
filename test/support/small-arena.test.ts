import { expect, test } from "vitest";
import { PageCache } from "../../src/cache/page-cache.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import { MIB, PAGE_BYTES } from "../../src/lib/units.ts";
import { withExactArenas } from "./small-arena.ts";

const { QUIRE_ARENA_MIB = "Infinity" } = process.env;

test("no cache is larger than QUIRE_ARENA_MIB says, but for a test that has to have it so", () => {
  const clock = new VirtualClock();
  const sizeBytes = (arenaBytes: number): number =>
    new PageCache({ clock, arenaBytes }).arena.frameCount * PAGE_BYTES;
  const mostBytes = Number(QUIRE_ARENA_MIB) * MIB;
  expect(sizeBytes(64 * MIB)).toBe(Math.min(64 * MIB, mostBytes));
  expect(sizeBytes(MIB)).toBe(MIB);
  withExactArenas();
  expect(sizeBytes(64 * MIB)).toBe(64 * MIB);
});
