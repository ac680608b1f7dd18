/**
 * The judge of what a power cut has left: a tree that was read, and whether a model allows it.
 */

import type { Volume } from "../../../src/front/volume.ts";
import { PAGE_BYTES, roundUp } from "../../../src/lib/units.ts";
import {
  type CrashContent,
  type CrashModel,
  type CrashNode,
  type CrashTree,
  nodeFacts,
} from "./crash-model.ts";

/** A tree as it was found. */
export interface FoundTree {
  /** See `nodeFacts`, by path. */
  readonly facts: ReadonlyMap<string, string>;
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/** What stands in lost+found is no part of a tree, unless it is asked for. */
export const LOST = "lost+found";

/** Reads all of `volume`. */
export async function readFound(volume: Volume, withLost = false): Promise<FoundTree> {
  const facts = new Map<string, string>();
  const contents = new Map<string, Uint8Array>();
  const { fs } = volume;
  const walk = async (dir: string): Promise<void> => {
    for (const name of await fs.readdir(`/${dir}`)) {
      const path = dir === "" ? name : `${dir}/${name}`;
      if (path === LOST && !withLost) continue;
      const stats = await fs.lstat(`/${path}`);
      const isLink = stats.isSymbolicLink();
      const kind = isLink ? "symlink" : stats.isDirectory() ? "directory" : "file";
      const target = isLink ? String(await fs.readlink(`/${path}`)) : "";
      const xattrs = [...(await fs.xattrs(`/${path}`, { followLinks: false }))].map(
        ([attribute, value]) => [attribute, Buffer.from(value).toString("latin1")] as const,
      );
      facts.set(path, nodeFacts(kind, stats.ino, stats.nlink, target, xattrs));
      if (kind === "directory") await walk(path);
      else if (kind === "file") contents.set(path, await fs.readFile(`/${path}`));
    }
  };
  await walk("");
  return { facts, contents };
}

/** What is wrong with `found` as what is left after a power cut at `time`; undefined if nothing. */
export function judge(model: CrashModel, found: FoundTree, time: number): string | undefined {
  const { oldest, newest } = model.treesAt(time);
  let complaint: string | undefined;
  for (let number = newest; number >= oldest; number--) {
    const tree = model.trees[number]!;
    const difference = differenceOf(tree, found);
    if (difference !== undefined) {
      complaint ??= `no tree of ${oldest}..${newest}: against ${number}: ${difference}`;
      continue;
    }
    const wrong = contentsWrong(model, tree, number, found, time);
    if (wrong === undefined) return undefined;
    complaint = wrong;
  }
  return complaint;
}

/**
 * As `judge`, for a file system without a journal that e2fsck has mended: only what was promised of
 * files is asked for. A file whose name was on its way may lie in lost+found.
 */
export function judgeRepaired(
  model: CrashModel,
  found: FoundTree,
  time: number,
): string | undefined {
  const { newest } = model.treesAt(time);
  const files = new Map<CrashNode, number>();
  for (const promised of model.promises) {
    if (promised.time > time) continue;
    for (const [node] of promised.contents) files.set(node, promised.tree);
  }
  for (const [node, tree] of files) {
    const names = model.trees.slice(tree, newest + 1).map(({ nodes }) => namesOf(nodes, node));
    if (names.some((list) => list.length === 0)) continue; // It is being deleted.
    const wrong = promisedWrong(found, node, names.flat(), model.contentsAt(node, time, 0));
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

function namesOf(nodes: ReadonlyMap<string, CrashNode>, node: CrashNode): string[] {
  return [...nodes].filter(([, other]) => other === node).map(([path]) => path);
}

function promisedWrong(
  found: FoundTree,
  node: CrashNode,
  names: readonly string[],
  allowed: readonly CrashContent[],
): string | undefined {
  const [path] = [...found.facts]
    .filter(([, facts]) => facts.startsWith(`file ${node.ino} `))
    .map(([name]) => name)
    .filter((name) => names.includes(name) || name.startsWith(`${LOST}/`));
  if (path === undefined) return `inode ${node.ino} has none of its names ${names.join(", ")}`;
  const bytes = found.contents.get(path)!;
  if (allowed.length === 1) {
    const wrong = contentWrong(bytes, allowed);
    return wrong === undefined ? undefined : `${path}: ${wrong}`;
  }
  // What it is on its way to may hold stale bytes.
  const lengths = allowed.map((content) => content.bytes.length);
  const safe = Math.min(bytes.length, ...lengths);
  const cut = allowed.map((content) => ({ ...content, bytes: content.bytes.subarray(0, safe) }));
  const wrong = contentWrong(bytes.subarray(0, safe), cut);
  return wrong === undefined ? undefined : `${path}: ${wrong}`;
}

function differenceOf(tree: CrashTree, found: FoundTree): string | undefined {
  for (const [path, facts] of tree.facts) {
    const is = found.facts.get(path);
    if (is !== facts()) return `${path} is "${is ?? "missing"}", not "${facts()}"`;
  }
  for (const [path, is] of found.facts) {
    if (!tree.facts.has(path)) return `${path} is "${is}", not missing`;
  }
  return undefined;
}

function contentsWrong(
  model: CrashModel,
  tree: CrashTree,
  number: number,
  found: FoundTree,
  time: number,
): string | undefined {
  for (const [path, bytes] of found.contents) {
    const allowed = model.contentsAt(tree.nodes.get(path)!, time, number);
    const wrong = contentWrong(bytes, allowed);
    if (wrong !== undefined) return `${path} in tree ${number}: ${wrong}`;
  }
  return undefined;
}

/** What is wrong with `bytes` as a mixture of `allowed`, the oldest first. */
function contentWrong(bytes: Uint8Array, allowed: readonly CrashContent[]): string | undefined {
  if (allowed.some((content) => Buffer.compare(content.bytes, bytes) === 0)) return undefined;
  const lengths = allowed.map((content) => content.bytes.length);
  const isSizeAllowed = lengths.some((length, index) => {
    const before = lengths[index - 1] ?? length;
    // A file that grows may have grown in part.
    return bytes.length === length || (bytes.length > before && bytes.length < length);
  });
  if (!isSizeAllowed) return `${bytes.length} bytes, not ${lengths.join(", ")}`;
  for (let at = 0; at < bytes.length; at++) {
    if (allowed.some((content) => content.bytes[at] === bytes[at])) continue;
    if (bytes[at] === 0 && mayBeZero(allowed, at)) continue;
    const choices = allowed.map((content) => content.bytes[at] ?? "none").join(", ");
    return `byte ${at} of ${bytes.length} is ${bytes[at]}, not ${choices} (of ${lengths.join(", ")})`;
  }
  return undefined;
}

/**
 * True if a file may read as zeros at `at` though nobody has written them: up to the end of the
 * page in which it is being cut, and where it has got a size before its data.
 */
function mayBeZero(allowed: readonly CrashContent[], at: number): boolean {
  let shortest = allowed[0]!.bytes.length;
  return allowed.some(({ bytes: { length }, isResized }, index) => {
    const before = allowed[index - 1]?.bytes.length ?? length;
    if (length < before && at >= length && at < roundUp(length, PAGE_BYTES)) return true;
    shortest = Math.min(shortest, before);
    return isResized && at >= shortest && at < length;
  });
}
