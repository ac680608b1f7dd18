/**
 * As `one-operation.test.ts`, for long workloads at random, in which syncs overlap with other work
 * and files are deleted while they are open; and recovery that is cut off itself.
 */
import { expect, test } from "vitest";
import { runs, seeds } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { randomScript } from "./support/crash-scripts.ts";
import { exploreAll, type SeededScript } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-long");
const TIME_MS = runs(1_200_000);
const OPERATIONS = 200;
const SHORT = 25;

function* workloads(count: number, operations: number): Generator<SeededScript> {
  for (const seed of seeds(count, 1)) yield { seed, script: randomScript(seed, operations) };
}

test.skipIf(!hasTools).each<[ConfigName, number, number, number]>([
  ["ext4-1k", 3, 500, 20],
  ["ext4-4k", 3, 500, 20],
  ["ext3-1k", 3, 500, 20],
  ["ext2", 2, 100, 1],
])(
  "%s keeps what it promised through 200 operations",
  async (name, count, states, checkEvery) => {
    const scripts = workloads(count, OPERATIONS);
    const counts = await exploreAll(name, scripts, { scratch, states, checkEvery });
    expect(counts.states).toBeGreaterThan(runs(count) * states * 0.8);
  },
  TIME_MS,
);

test.skipIf(!hasTools).each<ConfigName>(["ext4-1k", "ext4-4k", "ext3-1k"])(
  "%s is recovered however often its recovery is cut off",
  async (name) => {
    const budget = { states: 12, recoveryShare: 1, recoveryStates: 8 };
    const scripts = workloads(10, SHORT);
    const counts = await exploreAll(name, scripts, { scratch, checkEvery: 20, ...budget });
    expect(counts.states).toBeGreaterThan(runs(10) * 12 * 7);
  },
  TIME_MS,
);
