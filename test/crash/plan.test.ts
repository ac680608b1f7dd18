/** How much of power cuts there is to every run of the tests. */
import { describe, expect, test } from "vitest";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import {
  MANY_OPERATIONS,
  ONE_OPERATION,
  OTHER_FORMS,
  TWO_OPERATIONS,
} from "./support/crash-plan.ts";
import { record } from "./support/crash-run.ts";
import { allPhrases, OPERATIONS, SYNCS, scriptOf } from "./support/crash-scripts.ts";
import { baseOf } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("debugfs");
const scratch = scratchDirectory("crash-plan");
const STATES = 20_000;
/** It changes nothing that can be seen. */
const UNSEEN = "fallocate-keep";

test("20,000 states and more are tried with every run", () => {
  const suites = [ONE_OPERATION, OTHER_FORMS, TWO_OPERATIONS, MANY_OPERATIONS].flat();
  const least = suites.reduce((sum, planned) => sum + planned.least, 0);
  expect(least).toBeGreaterThanOrEqual(STATES);
});

test("every operation is tried with every kind of sync", () => {
  const extents = allPhrases("ext4-1k");
  expect(extents.length).toBe(Object.keys(OPERATIONS).length * SYNCS.length);
  expect(extents.length).toBeGreaterThan(200);
  // A block map can be punched, and not preallocated, zeroed, collapsed or shifted.
  expect(extents.length - allPhrases("ext3-1k").length).toBe(5 * SYNCS.length);
});

describe.skipIf(!hasTools).each<ConfigName>(["ext4-1k", "ext3-4k"])("on %s", (name) => {
  const phrases = allPhrases(name);
  const alone = phrases.filter(([, sync]) => sync === "none").map(([operation]) => operation);

  test.each(alone)("%s is done, and seen", async (operation) => {
    const script = scriptOf([[operation, "none"]], 1);
    const { model, steps } = await record(await baseOf(name, scratch), script, 1);
    expect(steps.length).toBe(1);
    // One tree is empty, and one is what there is to begin with.
    const isRenamed = model.trees.length > 2;
    const isWritten = [...model.tree.nodes.values()].some(({ contents }) => contents.length > 1);
    expect(isRenamed || isWritten).toBe(operation !== UNSEEN);
  });
});
