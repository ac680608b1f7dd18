/**
 * Many workloads on one file system, for a test: counts, and the first violation as an error that
 * says how to see it again.
 */
import { join } from "node:path";
import { KIB } from "../../../src/lib/units.ts";
import { type ConfigName, type CrashBase, makeBase } from "./crash-base.ts";
import type { JudgeOptions } from "./crash-judge.ts";
import {
  type CrashBudget,
  type CrashCounts,
  CrashExplorer,
  parseLine,
  record,
} from "./crash-run.ts";
import type { SeededScript } from "./crash-scripts.ts";
import { Fsck } from "./fsck.ts";

const bases = new Map<ConfigName, Promise<CrashBase>>();

/** The file system `name`, made in `scratch` when it is first asked for. */
export function baseOf(name: ConfigName, scratch: string): Promise<CrashBase> {
  let base = bases.get(name);
  if (base === undefined) {
    base = makeBase(name, scratch);
    bases.set(name, base);
  }
  return base;
}

/** What a suite does, beside its workloads. */
export interface SuiteOptions extends CrashBudget, JudgeOptions {
  readonly scratch: string;
}

/**
 * Cuts the power in each of `scripts`. Throws at the first state that is not allowed, with the line
 * that repeats it.
 */
export async function exploreAll(
  name: ConfigName,
  scripts: Iterable<SeededScript>,
  options: SuiteOptions,
): Promise<CrashCounts> {
  const base = await baseOf(name, options.scratch);
  const fsck = new Fsck(join(options.scratch, `${name}.fsck`), base.bytes);
  const explorer = new CrashExplorer(base, fsck, options);
  for (const { seed, script } of scripts) {
    await explorer.explore(await record(base, script, seed), options);
    throwFirst(explorer);
  }
  return explorer.counts;
}

/** Takes up the state that `line` names. Throws if it is still not allowed. */
export async function repeatLine(line: string, scratch: string): Promise<void> {
  const { name, seed, steps, path } = parseLine(line);
  const base = await baseOf(name, scratch);
  const fsck = new Fsck(join(scratch, `${name}.fsck`), base.bytes);
  const explorer = new CrashExplorer(base, fsck, { checkEvery: 1 });
  await explorer.repeat(await record(base, steps, seed), path);
  throwFirst(explorer);
}

/** Throws the first violation that was found; `what` was special. */
export function throwFirst({ violations: [first] }: CrashExplorer, what = ""): void {
  if (first === undefined) return;
  const { line, complaint } = first;
  const repeat = `QUIRE_CRASH='${line}' npx vitest run test/crash/repeat.test.ts`;
  throw new Error(`after a power cut${what}: ${complaint.slice(0, KIB)}\n${repeat}`);
}
