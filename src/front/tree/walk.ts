/**
 * A walk over a directory tree as the commands want it: depth first, entries in byte order of their
 * names.
 *
 * Paths are bytes relative to where the walk began, "." for that itself. Symlinks are not followed.
 * An image is not trusted to be a tree: a directory met again is an error (`TreeGuard`).
 */
import type { DirectoryEntry, FileSystem, VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise } from "../../lib/maybe.ts";
import { entriesOf, TreeGuard } from "../directory.ts";

/** One file met on the way. */
export interface Visit {
  /** Relative to the start: ".", "etc", "etc/passwd". */
  readonly path: Uint8Array;
  readonly name: Uint8Array;
  readonly inode: VfsInode;
  readonly depth: number;
}

/** What a walk may be told. */
export interface WalkOptions {
  readonly signal?: AbortSignal | undefined;
  /** Directories deeper than this are shown, but not entered. Default: no bound. */
  readonly maxDepth?: number;
  /** Called for what cannot be read; without it the error ends the walk. */
  readonly onError?: (path: Uint8Array, error: unknown) => void;
}

interface Level {
  readonly path: Uint8Array;
  readonly entries: DirectoryEntry[];
  at: number;
}

const SLASH = 0x2f;
const DOT: Uint8Array = new Uint8Array([0x2e]);

/** Directories below one another: more than any tree made by an operating system has. */
const DEPTH_MAX = 8192;

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let at = 0; at < shared; at++) if (a[at] !== b[at]) return a[at]! - b[at]!;
  return a.length - b.length;
}

/** `directory` + "/" + `name`, or the name alone at the start of the walk. */
export function joinPath(directory: Uint8Array, name: Uint8Array): Uint8Array {
  if (directory.length === 1 && directory[0] === 0x2e) return name;
  const path = new Uint8Array(directory.length + 1 + name.length);
  path.set(directory);
  path[directory.length] = SLASH;
  path.set(name, directory.length + 1);
  return path;
}

/** All entries of a directory but `.` and `..`, sorted by the bytes of their names. */
export async function sortedEntries(
  fs: FileSystem,
  directory: VfsInode,
  signal?: AbortSignal,
): Promise<DirectoryEntry[]> {
  const all: DirectoryEntry[] = [];
  for await (const entries of entriesOf(fs, directory, signal)) {
    for (const entry of entries) all.push(entry);
  }
  return all.sort((a, b) => compareBytes(a.name, b.name));
}

/** Visits `start` and, if it is a directory, all below it. */
export async function* walkTree(
  fs: FileSystem,
  start: VfsInode,
  options: WalkOptions = {},
): AsyncGenerator<Visit, void, undefined> {
  const maxDepth = options.maxDepth ?? DEPTH_MAX;
  yield { path: DOT, name: DOT, inode: start, depth: 0 };
  const stack: Level[] = [];
  const guard = new TreeGuard(fs);
  if (maxDepth > 0) await enter(fs, stack, guard, start, DOT, options);
  while (stack.length > 0) {
    options.signal?.throwIfAborted();
    const level = stack[stack.length - 1]!;
    const entry = level.entries[level.at++];
    if (entry === undefined) {
      stack.pop();
      continue;
    }
    const path = joinPath(level.path, entry.name);
    const visit = await visitOf(fs, entry, path, stack.length, options);
    if (visit === undefined) continue;
    yield visit;
    if (visit.inode.type !== "directory" || stack.length >= maxDepth) continue;
    await enter(fs, stack, guard, visit.inode, path, options);
  }
}

async function visitOf(
  fs: FileSystem,
  entry: DirectoryEntry,
  path: Uint8Array,
  depth: number,
  options: WalkOptions,
): Promise<Visit | undefined> {
  try {
    const loaded = fs.inode(entry.ino, options.signal);
    const inode = isPromise(loaded) ? await loaded : loaded;
    return { path, name: entry.name, inode, depth };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (options.onError === undefined) throw error;
    options.onError(path, error);
    return undefined;
  }
}

async function enter(
  fs: FileSystem,
  stack: Level[],
  guard: TreeGuard,
  inode: VfsInode,
  path: Uint8Array,
  options: WalkOptions,
): Promise<void> {
  if (inode.type !== "directory") return;
  try {
    guard.enter(inode);
    if (stack.length >= DEPTH_MAX) {
      throw new FsError("ENAMETOOLONG", { detail: `more than ${DEPTH_MAX} directories deep` });
    }
    const entries = await sortedEntries(fs, inode, options.signal);
    stack.push({ path, entries, at: 0 });
  } catch (error) {
    options.signal?.throwIfAborted();
    if (options.onError === undefined) throw error;
    options.onError(path, error);
  }
}
