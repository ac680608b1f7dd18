/**
 * The harness is tested by defects that are made on purpose: it finds each of them, and nothing in
 * the same workloads without them.
 */
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { Volume } from "../../src/front/volume.ts";
import { type Mutants, mutants } from "../../src/lib/mutants.ts";
import { FaultyStore } from "../../src/store/faulty-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { fileBytes, openCrashed } from "./support/crash-base.ts";
import { CrashClock } from "./support/crash-clock.ts";
import { CrashExplorer, record } from "./support/crash-run.ts";
import { baseOf } from "./support/crash-suite.ts";
import { Fsck } from "./support/fsck.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-mutants");
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const STATES = 200;

/** The first violation in `steps` with one of `seeds`, and that seed. */
async function findIn(
  steps: readonly string[],
  seeds: readonly number[],
  prepare: (volume: Volume) => void = () => undefined,
): Promise<{ readonly seed: number; readonly complaint: string } | undefined> {
  const base = await baseOf("ext4-1k", scratch);
  const explorer = new CrashExplorer(base, new Fsck(join(scratch, "fsck.img"), base.bytes), {
    checkEvery: 10,
  });
  for (const seed of seeds) {
    await explorer.explore(await record(base, steps, seed, { prepare }), { states: STATES });
    const [first] = explorer.violations;
    if (first !== undefined) return { seed, complaint: first.complaint };
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

const CREATED = "create a/y; write a/y 0 6000; fsync a/y";

describe.skipIf(!hasTools)("power cuts find", () => {
  test.each<[keyof Mutants, string]>([
    ["commitWithoutFlush", CREATED],
    ["commitWithoutChecksum", CREATED],
    ["fuaAtSubmission", CREATED],
    ["cleanAtSubmission", "write a/x 1000 6000; fsync a/x"],
    ["inFlightNotTagged", "write a/x 0 6000; start-sync; write a/x 0 6000; fsync a/x"],
    ["withoutRevokes", "mkdir a/y; sync; rmdir a/y; sync; create a/y; append a/y 9000; fsync a/y"],
    ["tailWithoutFlush", CREATED],
    ["sizeBeforeData", "create a/y; append a/y 6000; start-sync; fsyncdir a"],
    ["withoutOrphans", "hold a/x; unlink a/x; sync"],
    ["convertBeforeData", "create a/y; append a/y 6000; start-sync; fsyncdir a"],
  ])("%s", async (name, text) => {
    const steps = text.split("; ");
    mutants[name] = true;
    const found = await findIn(steps, SEEDS);
    expect(found).toBeDefined();
    mutants[name] = false;
    expect(await findIn(steps, [found!.seed])).toBeUndefined();
  });

  test("a rename in two transactions", async () => {
    const steps = ["rename a/x b/y", "sync"];
    const found = await findIn(steps, SEEDS, renameInTwo);
    expect(found?.complaint).toMatch(/no tree of/);
    expect(await findIn(steps, [found!.seed])).toBeUndefined();
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
