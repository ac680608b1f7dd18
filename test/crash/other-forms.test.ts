/**
 * As `one-operation.test.ts`, on file systems with other features or mounted otherwise: a choice of
 * the workloads with every run of the tests, all of them in a long simulation.
 */
import { test } from "vitest";
import { runs } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { checkCounts, OTHER_FORMS } from "./support/crash-plan.ts";
import { singleScripts } from "./support/crash-scripts.ts";
import { exploreAll } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-other");
const TIME_MS = runs(600_000);

test.skipIf(!hasTools).each(OTHER_FORMS.map((planned) => [planned.name, planned] as const))(
  "%s keeps what it promised through one operation",
  async (name, planned) => {
    const options = { scratch, states: runs(planned.states), checkEvery: planned.checkEvery };
    const scripts = singleScripts(name, runs(planned.workloads));
    checkCounts(planned, await exploreAll(name, scripts, options));
  },
  TIME_MS,
);
