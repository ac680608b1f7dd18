/**
 * The judge of what a power cut has left: a tree that was read, and whether a model allows it.
 */

import type { Volume } from "../../../src/front/volume.ts";
import { PAGE_BYTES, roundUp } from "../../../src/lib/units.ts";
import {
  type AllowedContents,
  type CrashContent,
  type CrashKind,
  type CrashModel,
  type CrashNode,
  type CrashTree,
  type NodeFacts,
  textOf,
} from "./crash-model.ts";

/** A tree as it was found. */
export interface FoundTree {
  readonly nodes: ReadonlyMap<string, NodeFacts>;
  readonly contents: ReadonlyMap<string, Uint8Array>;
}

/** What free space is filled with. No file has it. */
export const POISON = 0xdb;
/** What stands in lost+found is no part of a tree, unless it is asked for. */
export const LOST = "lost+found";
const PERMISSION_BITS = 0o7777;

/** Reads all of `volume`. */
export async function readFound(volume: Volume, withLost = false): Promise<FoundTree> {
  const nodes = new Map<string, NodeFacts>();
  const contents = new Map<string, Uint8Array>();
  const { fs } = volume;
  const walk = async (dir: string): Promise<void> => {
    for (const name of await fs.readdir(`/${dir}`)) {
      const path = dir === "" ? name : `${dir}/${name}`;
      if (path === LOST && !withLost) continue;
      const facts = await factsOf(fs, path);
      nodes.set(path, facts);
      if (facts.kind === "directory") await walk(path);
      else if (facts.kind === "file")
        contents.set(path, new Uint8Array(await fs.readFile(`/${path}`)));
    }
  };
  await walk("");
  return { nodes, contents };
}

/** What the name `path` leads to. */
export async function factsOf(fs: Volume["fs"], path: string): Promise<NodeFacts> {
  const stats = await fs.lstat(`/${path}`);
  let kind: CrashKind = "special";
  if (stats.isSymbolicLink()) kind = "symlink";
  else if (stats.isDirectory()) kind = "directory";
  else if (stats.isFile()) kind = "file";
  const target = kind === "symlink" ? String(await fs.readlink(`/${path}`)) : "";
  const xattrs = new Map<string, string>();
  for (const [name, value] of await fs.xattrs(`/${path}`, { followLinks: false })) {
    xattrs.set(name, Buffer.from(value).toString("latin1"));
  }
  const attributes = { mode: stats.mode & PERMISSION_BITS, xattrs };
  return { kind, ino: stats.ino, links: stats.nlink, target, attributes };
}

/**
 * What is wrong with `found` as what is left after a power cut at `time`; undefined if nothing.
 * With `mayBeStale` what was not promised may be what lay there before; with `wholeBytes` no block
 * of so many bytes is of two contents.
 */
export function judge(
  model: CrashModel,
  found: FoundTree,
  time: number,
  mayBeStale: boolean,
  wholeBytes = 0,
): string | undefined {
  const { oldest, newest } = model.treesAt(time);
  let complaint: string | undefined;
  for (let number = newest; number >= oldest; number--) {
    const tree = model.trees[number]!;
    const difference = differenceOf(tree, found);
    if (difference !== undefined) {
      complaint ??= `no tree of ${oldest}..${newest}: against ${number}: ${difference}`;
      continue;
    }
    const allowedIn = (node: CrashNode): AllowedContents => {
      return { ...model.contentsAt(node, time, number), mayBeStale, wholeBytes };
    };
    const wrong = contentsWrong(tree, number, found, allowedIn);
    if (wrong === undefined) return undefined;
    complaint = wrong;
  }
  return complaint;
}

function differenceOf(tree: CrashTree, found: FoundTree): string | undefined {
  for (const [path, factsOfPath] of tree.facts) {
    const is = found.nodes.get(path);
    const facts = textOf(factsOfPath());
    const text = is === undefined ? "missing" : textOf(is);
    if (text !== facts) return `${path} is "${text}", not "${facts}"`;
  }
  for (const [path, is] of found.nodes) {
    if (!tree.facts.has(path)) return `${path} is "${textOf(is)}", not missing`;
  }
  return undefined;
}

function contentsWrong(
  tree: CrashTree,
  number: number,
  found: FoundTree,
  allowedIn: (node: CrashNode) => AllowedContents,
): string | undefined {
  for (const [path, bytes] of found.contents) {
    const wrong = contentWrong(bytes, allowedIn(tree.nodes.get(path)!));
    if (wrong !== undefined) return `${path} in tree ${number}: ${wrong}`;
  }
  return undefined;
}

/** What is wrong with `bytes` as a mixture of what is allowed. */
export function contentWrong(bytes: Uint8Array, allowed: AllowedContents): string | undefined {
  const { contents, first, firstSize, firstWhole } = allowed;
  const whole = contents.slice(firstWhole);
  if (whole.some((content) => Buffer.compare(content.bytes, bytes) === 0)) return undefined;
  const lengths = contents.slice(firstSize).map((content) => content.bytes.length);
  const isSizeAllowed = lengths.some((length, index) => {
    const before = lengths[index - 1] ?? length;
    // A file that grows may have grown in part.
    return bytes.length === length || (bytes.length > before && bytes.length < length);
  });
  if (!isSizeAllowed) return `${bytes.length} bytes, not ${lengths.join(", ")}`;
  for (let at = 0; at < bytes.length; at++) {
    const from = first(at);
    if (contents.some((content, index) => index >= from && content.bytes[at] === bytes[at])) {
      continue;
    }
    const choices = contents.slice(from);
    if (bytes[at] === POISON && allowed.mayBeStale === true && choices.length > 1) continue;
    if (bytes[at] === 0 && mayBeZero(choices, at)) continue;
    const text = choices.map((content) => content.bytes[at] ?? "none").join(", ");
    return `byte ${at} of ${bytes.length} is ${bytes[at]}, not ${text} (of ${lengths.join(", ")})`;
  }
  return tornWrong(bytes, allowed);
}

/** What is wrong with blocks of `bytes` that are mixtures of what is allowed, if none may be. */
function tornWrong(
  bytes: Uint8Array,
  { contents, first, wholeBytes = 0 }: AllowedContents,
): string | undefined {
  for (let from = 0; wholeBytes > 0 && from < bytes.length; from += wholeBytes) {
    const block = bytes.subarray(from, from + wholeBytes);
    let oldest = 0;
    for (let at = 0; at < block.length; at++) oldest = Math.max(oldest, first(from + at));
    const choices = contents.slice(oldest);
    const isWhole = choices.some((content) =>
      block.every((byte, at) => byte === (content.bytes[from + at] ?? 0)),
    );
    const isHole = block.every((byte, at) => byte === 0 && mayBeZero(choices, from + at));
    if (!isWhole && !isHole) return `the block at ${from} is of two contents`;
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
