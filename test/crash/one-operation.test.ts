/**
 * The power is cut at moments of every workload of one operation, with every kind of sync behind
 * it: what is left after recovery is what was promised, and never anything else. A choice of the
 * moments with every run of the tests; all of them in a long simulation.
 */
import { expect, test } from "vitest";
import { runs } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { checkCounts, ONE_OPERATION } from "./support/crash-plan.ts";
import { allPhrases, singleScripts } from "./support/crash-scripts.ts";
import { exploreAll } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-one");
const TIME_MS = runs(600_000);

test.skipIf(!hasTools).each(ONE_OPERATION.map((planned) => [planned.name, planned] as const))(
  "%s keeps what it promised through one operation",
  async (name, planned) => {
    const options = { scratch, states: runs(planned.states), checkEvery: planned.checkEvery };
    const counts = await exploreAll(name, singleScripts(name, planned.workloads), options);
    expect(counts.workloads).toBe(allPhrases(name).length);
    checkCounts(planned, counts);
  },
  TIME_MS,
);
