/**
 * The power is cut at every moment of every workload of one operation, with every kind of sync
 * behind it: what is left after recovery is what was promised, and never anything else.
 */
import { expect, test } from "vitest";
import { runs } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { allPhrases, scriptOf } from "./support/crash-scripts.ts";
import { exploreAll } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-one");
const TIME_MS = runs(600_000);

/** One of each. Seeds choose the paths, and the times that writes take. */
function* workloads(): Generator<{ seed: number; script: ReturnType<typeof scriptOf> }> {
  for (const [seed, phrase] of allPhrases().entries()) {
    yield { seed, script: scriptOf([phrase], seed) };
  }
}

test.skipIf(!hasTools).each<[ConfigName, number, number]>([
  ["ext4-1k", 40, 3],
  ["ext4-4k", 40, 3],
  ["ext3-1k", 40, 3],
  ["ext2", 8, 1],
])(
  "%s keeps what it promised through one operation",
  async (name, states, checkEvery) => {
    const budget = { states: runs(states), checkEvery };
    const counts = await exploreAll(name, workloads(), { scratch, ...budget });
    expect(counts.workloads).toBe(allPhrases().length);
    expect(counts.states).toBeGreaterThan(counts.workloads * states * 0.9);
  },
  TIME_MS,
);
