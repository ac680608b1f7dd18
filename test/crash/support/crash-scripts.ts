/**
 * Workloads made up: all of one operation or two of them, each with its kind of sync behind it, on
 * four names in two directories (as ACE does it), and long ones at random.
 */
import { Random } from "../../../src/lib/random.ts";
import type { CrashModel, CrashNode } from "./crash-model.ts";
import type { CrashScript } from "./crash-run.ts";
import type { CrashWorkload } from "./crash-workload.ts";

const NAMES = ["a/x", "a/y", "b/x", "b/y"];
/** Files stay below it. */
const SIZE_MAX = 40_000;

/** Makes the step of an operation that can be done on the tree of `model`, if it can. */
type StepMaker = (model: CrashModel, random: Random) => string | undefined;

function namesOf(model: CrashModel, kind: CrashNode["kind"]): string[] {
  return NAMES.filter((name) => model.node(name)?.kind === kind);
}

function pickOf(list: readonly string[], random: Random): string | undefined {
  return list.length === 0 ? undefined : random.pick(list);
}

function freeOf(model: CrashModel): string[] {
  return NAMES.filter((name) => model.node(name) === undefined);
}

function onFree(step: string, ...rest: readonly string[]): StepMaker {
  return (model, random) => {
    const path = pickOf(freeOf(model), random);
    return path === undefined ? undefined : [step, path, ...rest].join(" ");
  };
}

function onFile(
  step: string,
  rest: (size: number, random: Random) => readonly number[] = () => [],
): StepMaker {
  return (model, random) => {
    const path = pickOf(namesOf(model, "file"), random);
    if (path === undefined) return undefined;
    return [step, path, ...rest(model.node(path)!.bytes.length, random)].join(" ");
  };
}

function onTwo(step: string, targets: (model: CrashModel, from: string) => string[]): StepMaker {
  return (model, random) => {
    const from = pickOf(namesOf(model, "file"), random);
    const to = from === undefined ? undefined : pickOf(targets(model, from), random);
    return to === undefined ? undefined : `${step} ${from} ${to}`;
  };
}

function emptyDirsOf(model: CrashModel): string[] {
  const paths = [...model.tree.nodes.keys()];
  return paths.filter((path) => {
    const isEmpty = !paths.some((other) => other.startsWith(`${path}/`));
    return model.node(path)!.kind === "directory" && path.includes("/") && isEmpty;
  });
}

/** The operations, by the names that ACE gives them. */
export const OPERATIONS: Readonly<Record<string, StepMaker>> = {
  create: onFree("create"),
  write: onFile("write", (size, random) => [
    Math.min(SIZE_MAX, size + 3000),
    1 + random.below(9000),
  ]),
  append: onFile("append", (size, random) => [size > SIZE_MAX ? 1 : 1 + random.below(6000)]),
  overwrite: onFile("write", (size, random) => [random.below(size + 1), 1 + random.below(5000)]),
  truncate: onFile("truncate", (size, random) => [random.below(size + 3000)]),
  fallocate: onFile("fallocate", (size, random) => [
    random.below(size + 1),
    1 + random.below(12_000),
  ]),
  punch: onFile("punch", (size, random) => [random.below(size + 1), 1 + random.below(6000)]),
  rename: onTwo("rename", (model) => freeOf(model)),
  "rename-over": onTwo("rename", (model, from) =>
    namesOf(model, "file").filter((name) => name !== from),
  ),
  link: onTwo("link", (model) => freeOf(model)),
  unlink: onFile("unlink"),
  mkdir: onFree("mkdir"),
  rmdir: (model, random) => {
    const path = pickOf(emptyDirsOf(model), random);
    return path === undefined ? undefined : `rmdir ${path}`;
  },
  symlink: onFree("symlink"),
  setxattr: onFile("setxattr", (_size, random) => [random.pick([20, 500])]),
  tmpfile: onFree("tmpfile", "5000"),
};

/** Kinds of sync behind an operation. */
export const SYNCS = ["none", "fsync", "fdatasync", "sync", "fsyncdir"] as const;
export type Sync = (typeof SYNCS)[number];

/** An operation and the sync behind it. */
export type Phrase = readonly [operation: string, sync: Sync];

function syncStep(sync: Sync, workload: CrashWorkload, random: Random): string | undefined {
  if (sync === "none" || sync === "sync") return sync === "sync" ? "sync" : undefined;
  const words =
    workload.done
      .at(-1)
      ?.split(" ")
      .filter((word) => word.includes("/")) ?? [];
  const touched = words.at(-1) ?? "a/x";
  if (sync === "fsyncdir") return `fsyncdir ${touched.slice(0, touched.lastIndexOf("/"))}`;
  const { model } = workload;
  const isFile = model.node(touched)?.kind === "file";
  const path = isFile ? touched : pickOf(namesOf(model, "file"), random);
  return path === undefined ? undefined : `${sync} ${path}`;
}

/** The workload of `phrases`, on paths that `seed` chooses among those that can be used. */
export function scriptOf(phrases: readonly Phrase[], seed: number): CrashScript {
  const random = new Random(seed);
  let at = 0;
  return (workload) => {
    while (at < phrases.length * 2) {
      const [operation, sync] = phrases[at >> 1]!;
      const isSync = at++ % 2 === 1;
      const step = isSync
        ? syncStep(sync, workload, random)
        : OPERATIONS[operation]!(workload.model, random);
      if (step !== undefined) return step;
    }
    return undefined;
  };
}

/** Each operation with each kind of sync behind it. */
export function allPhrases(): Phrase[] {
  return Object.keys(OPERATIONS).flatMap((name) => SYNCS.map((sync) => [name, sync] as const));
}

/** Steps of a long workload that are no operation: each with how often of 100 it comes. */
const ASIDES: readonly (readonly [share: number, make: StepMaker])[] = [
  [4, () => "start-sync"],
  [6, (_model, random) => `pass ${random.pick([1, 10, 100])}`],
  [1, (_model, random) => `pass ${random.pick([6000, 31_000])}`],
  [2, () => "drop"],
  [3, onFile("hold")],
];
const SYNC_SHARE = 0.25;
/** Draws until one can be done; on any tree something can. */
const TRIES = 100;

function anyStep(model: CrashModel, random: Random): string | undefined {
  let drawn = random.below(100);
  for (const [share, make] of ASIDES) {
    if (drawn < share) return make(model, random);
    drawn -= share;
  }
  return OPERATIONS[random.pick(Object.keys(OPERATIONS))]!(model, random);
}

/** A workload of `count` operations, with syncs, pauses, and files that are deleted while open. */
export function randomScript(seed: number, count: number): CrashScript {
  const random = new Random(seed);
  let done = 0;
  let isSyncDue = false;
  return (workload) => {
    if (isSyncDue) {
      isSyncDue = false;
      const sync = syncStep(random.pick(SYNCS), workload, random);
      if (sync !== undefined) return sync;
    }
    if (done++ >= count) return undefined;
    const last = workload.done.at(-1) ?? "";
    if (last.startsWith("hold ")) return last.replace("hold", "unlink");
    isSyncDue = random.chance(SYNC_SHARE);
    for (let tries = 0; tries < TRIES; tries++) {
      const step = anyStep(workload.model, random);
      if (step !== undefined) return step;
    }
    return "sync";
  };
}
