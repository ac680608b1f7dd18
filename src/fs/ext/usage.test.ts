import { expect, it } from "vitest";
import { superblockWith } from "../../../test/support/ext-core.ts";
import type { ExtCore } from "./core.ts";
import { SB } from "./layout.ts";
import { sumGroups, usageOf } from "./usage.ts";

it("more groups than are summed: the superblock's own counts, all 64 bits of them", async () => {
  const sb = superblockWith(
    [SB.s_blocks_count_hi, 2],
    [SB.s_free_blocks_count_hi, 1],
    [SB.s_free_blocks_count_lo, 7],
    [SB.s_overhead_clusters, 1000],
  );
  const warnings: string[] = [];
  const core = { sb, warn: (text: string) => warnings.push(text) } as unknown as ExtCore;
  const sums = await sumGroups(core);
  expect(warnings.join()).toContain("which may be old");
  expect(usageOf(sb, sums)).toMatchObject({
    blockCount: 2 * 2 ** 32 + 16384 - 1000,
    freeBlockCount: 2 ** 32 + 7,
  });
});
