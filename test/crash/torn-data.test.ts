/**
 * Data that is overwritten may be torn by a power cut where it is written to its place, and never
 * where it goes through the journal: the judge sees the difference.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { DataMode } from "../../src/fs/ext/data-mode.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { CrashExplorer, record } from "./support/crash-run.ts";
import { baseOf } from "./support/crash-suite.ts";
import { Fsck } from "./support/fsck.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-torn");
const STEPS = ["write a/x 0 9000", "fsync a/x", "write a/x 1000 5000", "sync"];
const STATES = 300;

test.skipIf(!hasTools).each<[ConfigName, DataMode, RegExp]>([
  ["ext4-4k-journal", "ordered", /the block at \d+ is of two contents/],
  ["ext3-4k-journal", "ordered", /the block at \d+ is of two contents/],
  ["ext4-4k-journal", "journal", /^$/],
  ["ext3-4k-journal", "journal", /^$/],
])("on %s, written with data=%s", async (name, data, complaint) => {
  const base = await baseOf(name, scratch);
  const fsck = new Fsck(join(scratch, "fsck.img"), base.bytes);
  const explorer = new CrashExplorer(base, fsck, { checkEvery: 10 });
  for (let seed = 1; seed <= 4; seed++) {
    await explorer.explore(await record({ ...base, data }, STEPS, seed), { states: STATES });
  }
  expect(explorer.violations[0]?.complaint ?? "").toMatch(complaint);
});
