import { describe, expect, test } from "vitest";
import { EINVAL } from "../lib/errno.ts";
import { PAGE_BYTES } from "../lib/units.ts";
import { DirtyLimits } from "./dirty-limits.ts";

describe("limits", () => {
  test("are shares of what can be dirty, rounded down", () => {
    const limits = new DirtyLimits();
    expect([limits.limitPages(1024), limits.backgroundPages(1024)]).toEqual([204, 102]);
    expect(limits.freerunPages(1024)).toBe(153);
  });

  test("let two pages be dirty in the smallest memory", () => {
    const limits = new DirtyLimits();
    expect([limits.limitPages(4), limits.backgroundPages(4)]).toEqual([2, 0]);
  });

  test("in bytes are whole pages, rounded up, and put an end to percents", () => {
    const limits = new DirtyLimits({ dirtyBytes: 10 * PAGE_BYTES + 1 });
    expect(limits.limitPages(1_000_000)).toBe(11);
    limits.setRatio(50);
    expect(limits.limitPages(1000)).toBe(500);
    limits.setBackgroundBytes(30 * PAGE_BYTES);
    expect(limits.backgroundPages(1000)).toBe(30);
    limits.setBackgroundRatio(20);
    expect(limits.backgroundPages(1000)).toBe(200);
  });

  test("that contradict each other have the flusher begin at half of the limit", () => {
    const limits = new DirtyLimits({ dirtyRatio: 5, dirtyBackgroundRatio: 10 });
    expect([limits.limitPages(1000), limits.backgroundPages(1000)]).toEqual([50, 25]);
  });

  test("that make no sense are refused, and the old ones stay", () => {
    const limits = new DirtyLimits();
    expect(limits.setRatio(101)).toBe(-EINVAL);
    expect(limits.setRatio(Number.NaN)).toBe(-EINVAL);
    expect(limits.setBytes(PAGE_BYTES)).toBe(-EINVAL);
    expect(limits.setBackgroundRatio(-1)).toBe(-EINVAL);
    expect(limits.setBackgroundBytes(-1)).toBe(-EINVAL);
    expect(limits.limitPages(1000)).toBe(200);
  });
});
