/**
 * As `one-operation.test.ts`, for long workloads at random, in which syncs overlap with other work
 * and files are deleted while they are open.
 */
import { test } from "vitest";
import { runs, seeds } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { checkCounts, MANY_OPERATIONS } from "./support/crash-plan.ts";
import { longScripts } from "./support/crash-scripts.ts";
import { exploreAll } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-long");
const TIME_MS = runs(1_200_000);
const OPERATIONS = 200;

test.skipIf(!hasTools).each(MANY_OPERATIONS.map((planned) => [planned.name, planned] as const))(
  "%s keeps what it promised through 200 operations",
  async (name, planned) => {
    const { states, checkEvery } = planned;
    const scripts = longScripts(seeds(planned.workloads, 1), OPERATIONS);
    checkCounts(planned, await exploreAll(name, scripts, { scratch, states, checkEvery }));
  },
  TIME_MS,
);
