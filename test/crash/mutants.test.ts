/**
 * The harness is tested by defects that are made on purpose: the workloads of every run of the
 * tests find each of them, and nothing without them.
 */
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { Volume } from "../../src/front/volume.ts";
import { type Mutants, mutants } from "../../src/lib/mutants.ts";
import { FaultyStore } from "../../src/store/faulty-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { type ConfigName, fileBytes, openCrashed } from "./support/crash-base.ts";
import { CrashClock } from "./support/crash-clock.ts";
import { MANY_OPERATIONS, ONE_OPERATION } from "./support/crash-plan.ts";
import { CrashExplorer, record } from "./support/crash-run.ts";
import { longScripts, type SeededScript, singleScripts } from "./support/crash-scripts.ts";
import { baseOf } from "./support/crash-suite.ts";
import { Fsck } from "./support/fsck.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-mutants");

/** Which suite of those that run with every run of the tests. */
type SuiteKind = "one operation" | "many operations";

/** Its workloads on the file system `name`, and how many states of each are tried. */
function suiteOf(
  kind: SuiteKind,
  name: ConfigName,
): { readonly scripts: Iterable<SeededScript>; readonly states: number } {
  const suites = kind === "one operation" ? ONE_OPERATION : MANY_OPERATIONS;
  const { states, workloads } = suites.find((planned) => planned.name === name)!;
  if (kind === "one operation") return { scripts: singleScripts(name, workloads), states };
  const seeds = Array.from({ length: workloads }, (_, index) => index + 1);
  return { scripts: longScripts(seeds, 200), states };
}

/** What is found first by the suite. */
async function findIn(
  kind: SuiteKind,
  name: ConfigName,
  prepare: (volume: Volume) => void = () => undefined,
): Promise<string | undefined> {
  const base = await baseOf(name, scratch);
  const fsck = new Fsck(join(scratch, "fsck.img"), base.bytes);
  const explorer = new CrashExplorer(base, fsck, { checkEvery: 10 });
  const { scripts, states } = suiteOf(kind, name);
  for (const { seed, script } of scripts) {
    await explorer.explore(await record(base, script, seed, { prepare }), { states });
    const [first] = explorer.violations;
    if (first !== undefined) return first.complaint;
  }
  return undefined;
}

/** A rename that is a link and an unlink, each in a transaction of its own. */
function renameInTwo({ fileSystem }: Volume): void {
  const writer = fileSystem.writer!;
  writer.rename = async (fromDir, fromName, toDir, toName) => {
    const ino = await fileSystem.lookup(fromDir, fromName);
    await writer.link(await fileSystem.inode(ino), toDir, toName);
    await writer.sync();
    await writer.unlink(fromDir, fromName);
  };
}

afterEach(() => {
  for (const name of Object.keys(mutants)) mutants[name as keyof Mutants] = false;
});

describe.skipIf(!hasTools)("power cuts find", () => {
  // Without them the suites find nothing: that is what their own tests say.
  test.each<[keyof Mutants, SuiteKind, ConfigName]>([
    ["commitWithoutFlush", "one operation", "ext4-1k"],
    ["commitWithoutChecksum", "one operation", "ext4-1k"],
    ["fuaAtSubmission", "one operation", "ext4-1k"],
    ["cleanAtSubmission", "one operation", "ext4-1k"],
    ["inFlightNotTagged", "one operation", "ext4-1k"],
    ["withoutRevokes", "many operations", "ext4-1k"],
    ["tailWithoutFlush", "one operation", "ext4-1k"],
    ["sizeBeforeData", "one operation", "ext4-1k"],
    ["withoutOrphans", "one operation", "ext4-1k"],
    ["convertBeforeData", "one operation", "ext4-1k"],
    ["dataWithoutFlush", "one operation", "ext2-1k"],
  ])("%s, in the workloads of %s on %s", async (mutant, kind, name) => {
    mutants[mutant] = true;
    expect(await findIn(kind, name)).toBeDefined();
  });

  test("a rename in two transactions", async () => {
    expect(await findIn("one operation", "ext4-1k", renameInTwo)).toMatch(/no tree of/);
  });
});

/**
 * Overwrites a file, whose first write-out fails, and syncs it until that says that all is well:
 * what the disk has of it then.
 */
async function overwrittenPastError(expected: Uint8Array): Promise<Uint8Array> {
  const base = await baseOf("ext4-1k", scratch);
  const bytes = base.bytes.slice();
  const clock = new CrashClock();
  const store = new FaultyStore(new MemoryStore(bytes), { clock });
  const volume = await clock.run(openCrashed(store, clock, true));
  const handle = await clock.run(volume.fs.open("/a/x", "r+"));
  await clock.run(handle.write(expected, 0, expected.length, 0));
  store.inject({ op: "write" });
  await expect(clock.run(handle.sync())).rejects.toMatchObject({ code: "EIO" });
  await clock.run(handle.sync());
  const left = await clock.run(openCrashed(new MemoryStore(bytes.slice()), clock, false));
  const content = await clock.run(left.fs.readFile("/a/x"));
  await clock.run(left.close());
  await clock.run(handle.close());
  await clock.run(volume.close());
  return new Uint8Array(content);
}

test.skipIf(!hasTools)("a write that fails finds cleanAfterError", async () => {
  const expected = fileBytes(77, 10_000);
  mutants.cleanAfterError = true;
  expect(await overwrittenPastError(expected)).not.toEqual(expected);
  mutants.cleanAfterError = false;
  expect(await overwrittenPastError(expected)).toEqual(expected);
});
