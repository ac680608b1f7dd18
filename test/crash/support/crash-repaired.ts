/**
 * The judge of a file system without a journal, after e2fsck has mended it: what was promised is
 * there, and nothing of what was free is in any file.
 *
 *     a file that was synced    under a name that it had since; in lost+found only if its name was
 *                               on its way. Its bytes, newer ones, or zeros behind the old end
 *     another name that was     there, as long as nobody has touched it since
 *     any file at all           never a byte of free space
 */
import {
  type AllowedContents,
  type CrashModel,
  type CrashNode,
  type CrashTree,
  type NodeFacts,
  textOf,
} from "./crash-model.ts";
import { contentWrong, type FoundTree, LOST, POISON } from "./crash-oracle.ts";

/** As `judge`. */
export function judgeRepaired(
  model: CrashModel,
  found: FoundTree,
  time: number,
  mayBeStale: boolean,
): string | undefined {
  const { oldest, newest } = model.treesAt(time);
  const files = new Map<CrashNode, number>();
  for (const promised of model.promises) {
    if (promised.time > time) continue;
    for (const { node } of promised.contents) {
      files.set(node, Math.max(files.get(node) ?? 0, promised.tree));
    }
  }
  for (const [node, tree] of files) {
    const names = model.trees.slice(tree, newest + 1).map(({ nodes }) => namesOf(nodes, node));
    if (names.some((list) => list.length === 0)) continue; // It is being deleted.
    const allowed = model.contentsAt(node, time, 0);
    // The size may be there before the blocks of a map that was there: these read as zeros.
    const contents = allowed.contents.map((content) => ({ ...content, isResized: true }));
    const wrong = promisedWrong(found, node, names, { ...allowed, contents, mayBeStale });
    if (wrong !== undefined) return wrong;
  }
  const wrong = untouchedWrong(model.trees.slice(oldest, newest + 1), found);
  return wrong ?? (mayBeStale ? undefined : poisonIn(found));
}

function namesOf(nodes: ReadonlyMap<string, CrashNode>, node: CrashNode): string[] {
  return [...nodes].filter(([, other]) => other === node).map(([path]) => path);
}

function promisedWrong(
  found: FoundTree,
  node: CrashNode,
  names: readonly (readonly string[])[],
  allowed: AllowedContents,
): string | undefined {
  const [first = [], ...others] = names;
  const kept = first.filter((name) => others.every((list) => list.includes(name)));
  const isThere = (name: string): boolean => found.nodes.get(name)?.ino === node.ino;
  const lost = kept.find((name) => !isThere(name));
  if (lost !== undefined) return `inode ${node.ino} has lost its name ${lost}`;
  const paths = [...found.nodes.keys()].filter(isThere);
  const path = paths.find((name) => names.flat().includes(name) || name.startsWith(`${LOST}/`));
  if (path === undefined) return `inode ${node.ino} has none of its names ${names.join(", ")}`;
  const wrong = contentWrong(found.contents.get(path)!, allowed);
  return wrong === undefined ? undefined : `${path}: ${wrong}`;
}

/** What is wrong with names that are the same in all of `trees`. */
function untouchedWrong(trees: readonly CrashTree[], found: FoundTree): string | undefined {
  for (const [path, factsOf] of trees[0]!.facts) {
    const text = bareText(factsOf());
    const isSame = trees.every(({ facts }) => {
      const other = facts.get(path);
      return other !== undefined && bareText(other()) === text;
    });
    if (!isSame) continue;
    const is = found.nodes.get(path);
    if (is === undefined) return `${path} is missing`;
    if (bareText(is) !== text) return `${path} is "${bareText(is)}", not "${text}"`;
  }
  return undefined;
}

/** All but the links, some of which may be of names that are on their way. */
function bareText(facts: NodeFacts): string {
  return textOf({ ...facts, links: 0 });
}

function poisonIn(found: FoundTree): string | undefined {
  for (const [path, bytes] of found.contents) {
    const at = bytes.indexOf(POISON);
    if (at >= 0) return `${path} has at ${at} what lay in free space`;
  }
  return undefined;
}
