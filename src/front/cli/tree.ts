/** `quire tree`: the directory tree drawn with lines, as much of it as was asked for. */
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import { hasErrnoCode } from "../../lib/errno.ts";
import { sortedEntries } from "../tree/walk.ts";
import { typeLetter } from "./format.ts";
import { printable } from "./output.ts";

/** How much of a tree is drawn. */
export interface TreeBounds {
  readonly depthMax: number;
  /** Entries drawn in one directory. */
  readonly entriesMax: number;
  /** Lines drawn in all. */
  readonly linesMax: number;
  readonly signal?: AbortSignal | undefined;
  /** Told of each file that is shown with an error instead of what is in it. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export const TREE_BOUNDS: TreeBounds = { depthMax: 4, entriesMax: 30, linesMax: 400 };

/**
 * A drawn file; `children` are missing where the tree was cut, and `omitted` counts what is not
 * shown.
 */
export interface TreeNode {
  readonly name: string;
  readonly type: string;
  readonly ino: number;
  readonly size: number;
  readonly target?: string;
  readonly children?: TreeNode[];
  /** Entries of this directory that were left out. */
  readonly omitted?: number;
  /** Why the file, or what is in it, cannot be shown. */
  readonly error?: string;
}

interface TreeCount {
  lines: number;
  readonly bounds: TreeBounds;
}

/** The tree below `start`, cut to `bounds`; what was cut is counted in it. */
export async function treeOf(
  fs: FileSystem,
  start: VfsInode,
  name: string,
  bounds: TreeBounds,
): Promise<TreeNode> {
  return nodeOf(fs, start, name, 0, { lines: 0, bounds }, new Set());
}

async function nodeOf(
  fs: FileSystem,
  inode: VfsInode,
  name: string,
  depth: number,
  count: TreeCount,
  above: Set<number>,
): Promise<TreeNode> {
  count.lines++;
  const { bounds } = count;
  const base = { name, type: typeLetter(inode.type), ino: inode.ino, size: inode.size };
  if (inode.type === "symlink") {
    return { ...base, target: printable(await fs.readlink(inode, bounds.signal)) };
  }
  if (inode.type !== "directory") return base;
  if (above.has(inode.ino)) return { ...base, name: `${name} (contains itself)` };
  const entries = await sortedEntries(fs, inode, bounds.signal);
  if (depth >= bounds.depthMax) {
    return entries.length === 0 ? base : { ...base, omitted: entries.length };
  }
  const children: TreeNode[] = [];
  above.add(inode.ino);
  for (const entry of entries) {
    if (children.length >= bounds.entriesMax || count.lines >= bounds.linesMax) break;
    const childName = printable(entry.name);
    try {
      const child = await fs.inode(entry.ino, bounds.signal);
      children.push(await nodeOf(fs, child, childName, depth + 1, count, above));
    } catch (error) {
      bounds.signal?.throwIfAborted();
      if (!hasErrnoCode(error)) throw error;
      bounds.onError?.(error);
      const type = typeLetter(entry.type);
      children.push({ name: childName, type, ino: entry.ino, size: 0, error: error.code });
    }
  }
  above.delete(inode.ino);
  const omitted = entries.length - children.length;
  return omitted === 0 ? { ...base, children } : { ...base, children, omitted };
}

/** The tree as lines; what was left out is said where it is missing. */
export function treeText(node: TreeNode, prefix = ""): string {
  const target = node.target === undefined ? "" : ` -> ${node.target}`;
  const slash = node.type === "d" && !node.name.endsWith("/") ? "/" : "";
  const error = node.error === undefined ? "" : ` (${node.error})`;
  let text = `${node.name}${slash}${target}${error}\n`;
  const children = node.children ?? [];
  children.forEach((child, at) => {
    const isLast = at === children.length - 1 && node.omitted === undefined;
    const below = `${prefix}${isLast ? "    " : "|   "}`;
    text += `${prefix}${isLast ? "`-- " : "|-- "}${treeText(child, below)}`;
  });
  if (node.omitted !== undefined) text += `${prefix}\`-- (${node.omitted} more)\n`;
  return text;
}
