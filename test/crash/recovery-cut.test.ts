/**
 * The power is cut while a mount recovers what another power cut has left, at every moment of it;
 * and again while the next mount recovers that. Others recover it to the same: e2fsck, the kernel.
 */
import { expect, test } from "vitest";
import { runs, seeds } from "../support/runs.ts";
import { requireRoot, requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { longScripts } from "./support/crash-scripts.ts";
import { exploreAll } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const mayMount = requireRoot("mounting an image");
const scratch = scratchDirectory("crash-recovery");
const TIME_MS = runs(1_200_000);
const OPERATIONS = 25;

/** Deletes what is open, a directory and many blocks: recovery has all of its work to do. */
const STEPS = [
  "mkdir a/y",
  "append b/x 9000",
  "sync",
  "rmdir a/y",
  "unlink-open b/x",
  "create a/y",
  "append a/y 9000",
  "fsync a/y",
  "truncate a/x 100",
  "setxattr a/x 500",
  "fsyncdir a",
];

const FORMS: readonly ConfigName[] = ["ext4-1k", "ext3-1k", "ext4-orphan-file"];

test.skipIf(!hasTools).each(FORMS)(
  "%s is recovered wherever its recovery is cut, and cut again",
  async (name) => {
    const budget = { recoveryShare: 1, recoveryStates: Infinity, recoveryDepth: 2 };
    const scripts = [{ seed: 1, script: STEPS }];
    const states = runs(6);
    const counts = await exploreAll(name, scripts, { scratch, states, checkEvery: 20, ...budget });
    expect(counts.states).toBeGreaterThan(states * 80);
  },
  TIME_MS,
);

test.skipIf(!hasTools).each<ConfigName>(["ext4-1k", "ext4-4k", "ext3-1k"])(
  "%s is recovered however often its recovery is cut, after work at random",
  async (name) => {
    const budget = { states: 8, recoveryShare: 1, recoveryStates: 4, recoveryDepth: 2 };
    const counts = await exploreAll(name, longScripts(seeds(5, 1), OPERATIONS), {
      scratch,
      checkEvery: 20,
      ...budget,
    });
    expect(counts.states).toBeGreaterThan(runs(5) * 8 * 15);
  },
  TIME_MS,
);

test
  .skipIf(!hasTools || !mayMount)
  .each<ConfigName>([
    "ext4-1k",
    "ext4-4k",
    "ext3-1k",
    "ext4-inline",
    "ext4-orphan-file",
    "ext4-fast-commit",
  ])(
  "%s is recovered by e2fsck and by the kernel to what was promised",
  async (name) => {
    const options = { scratch, states: 10, checkEvery: 20, foreignEvery: 1 };
    const counts = await exploreAll(name, longScripts(seeds(3, 1), OPERATIONS), options);
    expect(counts.foreign).toBeGreaterThanOrEqual(runs(3) * 10);
  },
  TIME_MS,
);
