import { expect, it } from "vitest";
import { superblockWith } from "../../../test/support/ext-core.ts";
import type { ExtContext } from "./context.ts";
import { FixedBlocks, whyNotOfFile } from "./fixed-blocks.ts";

const SPANS = [
  [100, 10],
  [0, 8],
  [105, 7],
  [50, 1],
  [112, 3],
  [70, 0],
] as const;

it("knows the blocks of spans in any order, which overlap and touch each other", () => {
  const fixed = new FixedBlocks(SPANS);
  const found = [0, 7, 8, 49, 50, 51, 70, 99, 100, 111, 112, 114, 115].filter((block) =>
    fixed.has(block),
  );
  expect(found).toEqual([0, 7, 50, 100, 111, 112, 114]);
});

it("finds a run that has a block of it, be it the first or the last", () => {
  const fixed = new FixedBlocks(SPANS);
  const runs = [
    [8, 42],
    [8, 43],
    [7, 2],
    [51, 49],
    [51, 60],
    [114, 9],
    [115, 9],
  ] as const;
  expect(runs.map(([first, count]) => fixed.overlaps(first, count))).toEqual([
    false,
    true,
    true,
    false,
    true,
    true,
    false,
  ]);
  const pieces: [number, number][] = [];
  fixed.eachIn(4, 104, (first, count) => pieces.push([first, count]));
  expect(pieces).toEqual([
    [4, 4],
    [50, 1],
    [100, 4],
  ]);
});

it("leaves the journal's blocks to the journal alone", () => {
  const sb = superblockWith();
  const ctx = { sb, systemBlocks: new FixedBlocks(SPANS) } as unknown as ExtContext;
  expect(whyNotOfFile(ctx, 12, 90, 11)).toBe("of the file system itself");
  expect(whyNotOfFile(ctx, sb.journalIno, 100, 10)).toBe(
    sb.journalIno === 0 ? "of the file system itself" : undefined,
  );
  expect(whyNotOfFile(ctx, 12, 90, 10)).toBeUndefined();
  expect(whyNotOfFile(ctx, 12, sb.firstDataBlock, 1)).toBe("outside");
  expect(whyNotOfFile(ctx, 12, sb.blockCount - 1, 2)).toBe("outside");
  expect(whyNotOfFile({ ...ctx, systemBlocks: undefined }, 12, 100, 1)).toBeUndefined();
});
