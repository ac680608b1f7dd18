/**
 * As `one-operation.test.ts`, for pairs of operations, each with its kind of sync: a choice of them
 * with every run of the tests, all of them in a long simulation.
 */
import { test } from "vitest";
import { runs, seeds } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { checkCounts, TWO_OPERATIONS } from "./support/crash-plan.ts";
import { pairScripts } from "./support/crash-scripts.ts";
import { exploreAll } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-two");
const TIME_MS = runs(1_200_000);

test.skipIf(!hasTools).each(TWO_OPERATIONS.map((planned) => [planned.name, planned] as const))(
  "%s keeps what it promised through two operations",
  async (name, planned) => {
    const { states, checkEvery } = planned;
    const [seed = 1] = seeds(1, 1);
    const scripts = pairScripts(name, runs(1) > 1 ? Infinity : planned.workloads, seed);
    checkCounts(planned, await exploreAll(name, scripts, { scratch, states, checkEvery }));
  },
  TIME_MS,
);
