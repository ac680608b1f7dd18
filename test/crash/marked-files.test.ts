/**
 * Power cuts where files are marked, so that their data goes through the journal, and where the
 * mark is taken away again: nothing that is in the log comes back over what was written past it,
 * and nothing that is promised is lost on the way from the one to the other.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Volume } from "../../src/front/volume.ts";
import { JOURNAL_DATA_FL } from "../../src/fs/ext/layout.ts";
import { runs, seeds } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { CrashExplorer, type CrashScript, record } from "./support/crash-run.ts";
import { randomScript } from "./support/crash-scripts.ts";
import { baseOf } from "./support/crash-suite.ts";
import { Fsck } from "./support/fsck.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-marked");
const STATES = 120;
const OPERATIONS = 100;

/** Each `chmod` switches the mark as well; of a directory, what new files in it begin with. */
function markByChmod({ fileSystem }: Volume): void {
  const writer = fileSystem.writer!;
  const set = writer.setAttributes.bind(writer);
  writer.setAttributes = async (inode, change, signal) => {
    const { flags } = inode.attributes();
    if (change.mode !== undefined) await set(inode, { flags: (flags ^ JOURNAL_DATA_FL) >>> 0 });
    await set(inode, change, signal);
  };
}

const THERE_AND_BACK: readonly string[] = [
  "chmod a/x 600; write a/x 0 9000; fsync a/x; chmod a/x 640; write a/x 500 6000; fdatasync a/x",
  "append a/x 7000; chmod a/x 600; append a/x 3000; fsync a/x; truncate a/x 4000; sync",
  "chmod a/x 600; write a/x 0 9000; sync; unlink a/x; sync; create a/y; append a/y 9000; fsync a/y",
  "chmod a/x 600; write a/x 0 9000; chmod a/x 640; start-sync; write a/x 2000 3000; sync",
  "chmod a 700; create a/y; append a/y 9000; fsync a/y; chmod a/y 600; append a/y 2000; pass 6000",
];

function* scripts(): Generator<{ seed: number; script: CrashScript }> {
  for (const [index, text] of THERE_AND_BACK.entries()) {
    for (const seed of seeds(2, 1)) yield { seed: seed + 10 * index, script: text.split("; ") };
  }
  for (const seed of seeds(2, 1)) yield { seed, script: randomScript(seed, OPERATIONS) };
}

test.skipIf(!hasTools).each<ConfigName>(["ext4-1k", "ext4-4k", "ext3-1k"])(
  "%s keeps what it promised while files are marked, and not any more",
  async (name) => {
    const base = await baseOf(name, scratch);
    const fsck = new Fsck(join(scratch, "fsck.img"), base.bytes);
    const explorer = new CrashExplorer(base, fsck, { checkEvery: 10 });
    for (const { seed, script } of scripts()) {
      const recorded = await record(base, script, seed, { prepare: markByChmod });
      await explorer.explore(recorded, { states: STATES });
      expect(explorer.violations).toEqual([]);
    }
    expect(explorer.counts.states).toBeGreaterThan(1000);
  },
  runs(600_000),
);
