/**
 * How much the suites of power cuts try with every run of the tests, in one place, so that it can
 * be counted: a suite fails that finds fewer states than are planned here, and `plan.test.ts` says
 * what they are together.
 *
 *     workloads x states each = at most   |  least: what has to be found, or the suite has failed
 *
 * Of every image that recovery leaves and that is not known yet, our check looks at the whole;
 * e2fsck looks at one of `checkEvery`, and without a journal it mends each that needs it. In
 * `recovery-cut.test.ts` 30 states of each of six kinds of file systems are recovered by e2fsck and
 * by the kernel, in turns. A long simulation tries all workloads, and more states of each:
 * `npm run sim`.
 */
import type { ConfigName } from "./crash-base.ts";
import type { JudgeCounts } from "./crash-judge.ts";

/** A suite on one kind of file system. */
export interface PlannedSuite {
  readonly name: ConfigName;
  /** Workloads, of those that there are. */
  readonly workloads: number;
  /** States of each, at most. */
  readonly states: number;
  readonly checkEvery: number;
  /** States that there are at least, with every run of the tests. */
  readonly least: number;
}

function suite(
  name: ConfigName,
  workloads: number,
  states: number,
  checkEvery: number,
  least: number,
): PlannedSuite {
  return { name, workloads, states, checkEvery, least };
}

/** The whole of one kind. */
export const ALL: number = Infinity;

/** One operation and the sync behind it: every one of these, on what the issue of writing names. */
export const ONE_OPERATION: readonly PlannedSuite[] = [
  suite("ext4-1k", ALL, 12, 10, 2400),
  suite("ext4-4k", ALL, 12, 10, 2400),
  suite("ext3-1k", ALL, 12, 10, 2000),
  suite("ext3-4k", ALL, 12, 10, 2000),
  suite("ext2-1k", ALL, 4, 10, 650),
  suite("ext2-4k", ALL, 4, 10, 650),
];

/** The same on what has other features, or is mounted otherwise: a choice of them. */
export const OTHER_FORMS: readonly PlannedSuite[] = [
  suite("ext4-bare", 70, 4, 10, 250),
  suite("ext4-writeback", 70, 12, 10, 800),
  suite("ext3-writeback", 70, 12, 10, 800),
  suite("ext4-journal", 70, 12, 10, 800),
  suite("ext4-4k-journal", 70, 12, 10, 800),
  suite("ext3-journal", 70, 12, 10, 800),
  suite("ext3-4k-journal", 70, 12, 10, 800),
  suite("ext4-inline", 100, 12, 10, 1100),
  suite("ext4-orphan-file", 70, 12, 10, 800),
  suite("ext4-fast-commit", 70, 12, 10, 800),
  suite("ext4-plain", 70, 12, 10, 800),
];

/** Two operations, each with a sync behind it: a choice of the pairs. */
export const TWO_OPERATIONS: readonly PlannedSuite[] = [
  suite("ext4-1k", 90, 20, 10, 1700),
  suite("ext4-4k", 60, 20, 10, 1150),
  suite("ext3-1k", 60, 20, 10, 1100),
  suite("ext3-4k", 50, 20, 10, 900),
  suite("ext2-1k", 40, 5, 10, 180),
  suite("ext2-4k", 40, 5, 10, 180),
];

/** 200 operations at random, with pauses and syncs that overlap with other work. */
export const MANY_OPERATIONS: readonly PlannedSuite[] = [
  suite("ext4-1k", 2, 400, 25, 760),
  suite("ext4-4k", 2, 400, 25, 760),
  suite("ext3-1k", 2, 400, 25, 760),
  suite("ext3-4k", 1, 400, 25, 380),
  suite("ext2-1k", 1, 60, 10, 50),
  suite("ext4-journal", 1, 400, 25, 380),
  suite("ext3-4k-journal", 1, 400, 25, 380),
  suite("ext4-inline", 1, 400, 25, 380),
  suite("ext4-orphan-file", 1, 400, 25, 380),
];

/** Throws if fewer states were found than `planned`. */
export function checkCounts(planned: PlannedSuite, counts: JudgeCounts): void {
  if (counts.states >= planned.least) return;
  const text = `${planned.name}: ${counts.states} states, where ${planned.least} are planned`;
  throw new Error(`the workloads make too few power cuts: ${text}`);
}
