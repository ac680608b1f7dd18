/**
 * Workloads made up: all of one operation or two of them, each with its kind of sync behind it, on
 * four names in two directories (as ACE does it), and long ones at random.
 *
 *     what is changed   operations                                         of reliability.md B2
 *     ---------------   -------------------------------------------------  --------------------
 *     names             create, mkdir, mkfifo, symlink (in the inode, in   create mkdir symlink
 *                       a block), tmpfile (linked; synced before), link,   O_TMPFILE+link link
 *                       unlink (also of what is open), rmdir, rename (to   unlink rmdir rename
 *                       a free name, over a file, of a directory,          rename-over
 *                       exchange)
 *     attributes        chmod, setxattr (in the inode, in a block),        setxattr
 *                       removexattr, setacl; new files in /b inherit one
 *     bytes             write (behind a hole), append (a little: in the    write append
 *                       last block), overwrite (also while what was        overwrite
 *                       written is on its way), rewrite (O_TRUNC)
 *     size              truncate down, up; then append, as a pair          truncate
 *     space             fallocate, with KEEP_SIZE; punch, zero, collapse,  fallocate punch
 *                       insert
 *
 *     persistence points   none, fsync, fdatasync, sync (syncfs), fsync of the directory, and the
 *                          writes with O_DSYNC and O_SYNC; none is sync_file_range, tried as such
 */
import { Random } from "../../../src/lib/random.ts";
import type { ConfigName } from "./crash-base.ts";
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

function otherFiles(model: CrashModel, from: string): string[] {
  return namesOf(model, "file").filter((name) => name !== from);
}

/** A step on a file of which `isGood` holds. */
function onFileThat(
  isGood: (node: CrashNode) => boolean,
  step: (path: string, random: Random) => string,
): StepMaker {
  return (model, random) => {
    const paths = namesOf(model, "file").filter((name) => isGood(model.node(name)!));
    const path = pickOf(paths, random);
    return path === undefined ? undefined : step(path, random);
  };
}

/** A step on whole blocks, of a file that has `least` of them. */
function onBlocks(step: string, least: number, countMax: (blocks: number) => number): StepMaker {
  return (model, random) => {
    const { blockBytes } = model;
    const blocksOf = (name: string): number =>
      Math.ceil(model.node(name)!.bytes.length / blockBytes);
    const path = pickOf(
      namesOf(model, "file").filter((name) => blocksOf(name) >= least),
      random,
    );
    if (path === undefined) return undefined;
    const from = random.below(blocksOf(path) - least + 1);
    const count = 1 + random.below(countMax(blocksOf(path) - from));
    return [step, path, from * blockBytes, count * blockBytes].join(" ");
  };
}

/** Directories in directories; all are empty. */
function innerDirsOf(model: CrashModel): string[] {
  const paths = [...model.tree.nodes.keys()].filter((path) => path.includes("/"));
  return paths.filter((path) => model.node(path)!.kind === "directory");
}

const rangeInside = (size: number, random: Random): readonly number[] => [
  random.below(size + 1),
  1 + random.below(6000),
];
const hasAcl = ({ attributes }: CrashNode): boolean =>
  attributes.xattrs.has("system.posix_acl_access");

/** The operations, by the names that ACE gives to some of them. */
export const OPERATIONS: Readonly<Record<string, StepMaker>> = {
  create: onFree("create"),
  write: onFile("write", (size, random) => [
    Math.min(SIZE_MAX, size + random.pick([500, 3000, 17_000])),
    1 + random.below(9000),
  ]),
  append: onFile("append", (size, random) => [size > SIZE_MAX ? 1 : 1 + random.below(6000)]),
  "append-little": onFile("append", (_size, random) => [1 + random.below(60)]),
  overwrite: onFile("write", (size, random) => [random.below(size + 1), 1 + random.below(5000)]),
  "overwrite-in-flight": onFile("write-twice", (size, random) => [
    random.below(size + 1),
    1 + random.below(5000),
  ]),
  rewrite: onFile("rewrite", (_size, random) => [1 + random.below(12_000)]),
  dsync: onFile("dsync", rangeInside),
  osync: onFile("osync", (size, random) => [
    random.pick([size, random.below(size + 1)]),
    1 + random.below(3000),
  ]),
  "truncate-down": onFile("truncate", (size, random) => [random.below(size + 1)]),
  "truncate-up": onFile("truncate", (size, random) => [
    Math.min(SIZE_MAX, size) + random.pick([1, 100, 3000, 9000]),
  ]),
  fallocate: onFile("fallocate", (size, random) => [
    random.below(size + 1),
    1 + random.below(12_000),
  ]),
  "fallocate-keep": onFile("fallocate-keep", (size, random) => [size, 1 + random.below(12_000)]),
  punch: onFile("punch", rangeInside),
  zero: onFile("zero", rangeInside),
  collapse: onBlocks("collapse", 2, (rest) => Math.max(1, rest - 1)),
  insert: onBlocks("insert", 1, () => 4),
  rename: onTwo("rename", (model) => freeOf(model)),
  "rename-over": onTwo("rename", otherFiles),
  exchange: onTwo("exchange", otherFiles),
  "rename-dir": (model, random) => {
    const from = pickOf(innerDirsOf(model), random);
    const to = pickOf(freeOf(model), random);
    return from === undefined || to === undefined ? undefined : `rename ${from} ${to}`;
  },
  link: onTwo("link", (model) => freeOf(model)),
  unlink: onFile("unlink"),
  "unlink-open": onFile("unlink-open"),
  mkdir: onFree("mkdir"),
  rmdir: (model, random) => {
    const path = pickOf(innerDirsOf(model), random);
    return path === undefined ? undefined : `rmdir ${path}`;
  },
  symlink: onFree("symlink", "77"), // Longer than what an inode holds.
  "symlink-short": onFree("symlink", "20"),
  mkfifo: onFree("mkfifo"),
  tmpfile: onFree("tmpfile", "5000"),
  "tmpfile-fsync": onFree("tmpfile-fsync", "5000"),
  chmod: onFileThat(
    (node) => !hasAcl(node),
    (path, random) => `chmod ${path} ${random.pick([600, 640, 755])}`,
  ),
  setxattr: onFile("setxattr", (_size, random) => [random.pick([20, 500])]),
  removexattr: onFileThat(
    ({ attributes }) => attributes.xattrs.has("user.k"),
    (path) => `removexattr ${path}`,
  ),
  setacl: onFile("setacl", (_size, random) => [1 + random.below(7)]),
};

/** Kinds of sync behind an operation; "range" is `sync_file_range`, which promises nothing. */
export const SYNCS = ["none", "fsync", "fdatasync", "range", "sync", "fsyncdir"] as const;
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

/** What a file with a block map has none of. */
const OF_EXTENTS = ["fallocate", "fallocate-keep", "zero", "collapse", "insert"];

/** Each operation that there is on a file system, with each kind of sync behind it. */
export function allPhrases(name: ConfigName): Phrase[] {
  const hasExtents = name.startsWith("ext4");
  return Object.keys(OPERATIONS)
    .filter((operation) => hasExtents || !OF_EXTENTS.includes(operation))
    .flatMap((operation) => SYNCS.map((sync) => [operation, sync] as const));
}

/** A workload with the seed of its disk. */
export interface SeededScript {
  readonly seed: number;
  readonly script: CrashScript;
}

/** `count` workloads of one operation, or all. Seeds choose paths, and times that writes take. */
export function* singleScripts(name: ConfigName, count: number): Generator<SeededScript> {
  const phrases = allPhrases(name);
  const all = [...phrases.keys()];
  const chosen = count < all.length ? new Random(name.length).shuffle(all).slice(0, count) : all;
  for (const seed of chosen) yield { seed, script: scriptOf([phrases[seed]!], seed) };
}

/** `count` pairs, or all, in an order that `seed` chooses. */
export function* pairScripts(
  name: ConfigName,
  count: number,
  seed: number,
): Generator<SeededScript> {
  const phrases = allPhrases(name);
  const chosen = new Random(seed).shuffle([...Array(phrases.length ** 2).keys()]).slice(0, count);
  for (const index of chosen) {
    const pair = [phrases[Math.floor(index / phrases.length)]!, phrases[index % phrases.length]!];
    yield { seed: index, script: scriptOf(pair, index) };
  }
}

/** Makes room for names where there are others than files. */
function clear(model: CrashModel, random: Random): string | undefined {
  const kinds = ["symlink", "special", "directory"] as const;
  const path = pickOf(
    kinds.flatMap((kind) => namesOf(model, kind)),
    random,
  );
  if (path === undefined) return undefined;
  return `${model.node(path)!.kind === "directory" ? "rmdir" : "unlink"} ${path}`;
}

/** Steps of a long workload that are no operation: each with how often of 100 it comes. */
const ASIDES: readonly (readonly [share: number, make: StepMaker])[] = [
  [4, () => "start-sync"],
  [6, (_model, random) => `pass ${random.pick([1, 10, 100])}`],
  [1, (_model, random) => `pass ${random.pick([6000, 31_000])}`],
  [2, () => "drop"],
  [3, onFile("hold")],
  [5, clear],
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

/** One such workload of `operations` for each of `seeds`. */
export function* longScripts(seeds: Iterable<number>, operations: number): Generator<SeededScript> {
  for (const seed of seeds) yield { seed, script: randomScript(seed, operations) };
}
