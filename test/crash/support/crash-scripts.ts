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

/** A workload of `count` operations, with syncs, pauses, and files that are deleted while open. */
export function randomScript(seed: number, count: number): CrashScript {
  const random = new Random(seed);
  const names = Object.keys(OPERATIONS);
  const queue: string[] = [];
  let done = 0;
  return (workload) => {
    for (;;) {
      const queued = queue.shift();
      if (queued !== undefined) return queued;
      if (done++ >= count) return undefined;
      const { model } = workload;
      const drawn = random.below(100);
      if (drawn < 4) queue.push("start-sync");
      else if (drawn < 8) queue.push(`pass ${random.pick([1, 10, 6000, 31_000])}`);
      else if (drawn < 11) {
        const path = pickOf(namesOf(model, "file"), random);
        if (path !== undefined) queue.push(`hold ${path}`, `unlink ${path}`);
      } else if (drawn < 13) queue.push("drop");
      else {
        const step = OPERATIONS[random.pick(names)]!(model, random);
        if (step !== undefined) queue.push(step);
        const sync = random.chance(0.2)
          ? syncStep(random.pick(SYNCS), workload, random)
          : undefined;
        if (sync !== undefined && step === undefined) queue.push(sync);
        else if (random.chance(0.3)) queue.push(`pass ${random.below(3)}`);
      }
    }
  };
}
