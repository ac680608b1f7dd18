/** How much of power cuts there is to every run of the tests. */
import { expect, test } from "vitest";
import {
  MANY_OPERATIONS,
  ONE_OPERATION,
  OTHER_FORMS,
  TWO_OPERATIONS,
} from "./support/crash-plan.ts";
import { allPhrases, OPERATIONS, SYNCS } from "./support/crash-scripts.ts";

const STATES = 20_000;

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
