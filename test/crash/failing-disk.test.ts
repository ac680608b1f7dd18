/**
 * A disk of which one write fails, or all from some time on, and then the power: whatever was told
 * to be durable is there once it is recovered, and all else is as after any power cut. The workload
 * goes on until it is told of an error.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { Random } from "../../src/lib/random.ts";
import { runs } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { CrashExplorer, record } from "./support/crash-run.ts";
import { allPhrases, scriptOf } from "./support/crash-scripts.ts";
import { baseOf, throwFirst } from "./support/crash-suite.ts";
import { Fsck } from "./support/fsck.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-failing");
const TIME_MS = runs(600_000);
const WORKLOADS = 40;
const WRITES_MAX = 16;
const STATES = 8;

test.skipIf(!hasTools).each<[ConfigName, string, number]>([
  ["ext4-1k", "one write", 1],
  ["ext4-1k", "all writes", Infinity],
  ["ext3-1k", "one write", 1],
  ["ext2-1k", "all writes", Infinity],
])(
  "%s keeps what it promised where %s of the disk fail",
  async (name, _what, count) => {
    const base = await baseOf(name, scratch);
    const fsck = new Fsck(join(scratch, `${name}-${count}.fsck`), base.bytes);
    const explorer = new CrashExplorer(base, fsck, { checkEvery: 10, isDiskFailing: true });
    const phrases = allPhrases(name);
    const random = new Random(7);
    let told = 0;
    for (let seed = 0; seed < runs(WORKLOADS); seed++) {
      const script = scriptOf([random.pick(phrases), random.pick(phrases)], seed);
      const faults = { from: 1 + random.below(WRITES_MAX), count };
      const recorded = await record(base, script, seed, { faults });
      if (recorded.failure !== undefined) told++;
      await explorer.explore(recorded, { states: STATES });
      throwFirst(explorer, ` with ${faults.count} failures from write ${faults.from} on`);
    }
    expect(told).toBeGreaterThan(WORKLOADS / 4);
  },
  TIME_MS,
);
