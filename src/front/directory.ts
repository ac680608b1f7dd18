/**
 * Listing directories for `readdir` and `opendir`: flat or recursive, as names or as entries.
 *
 * A recursive listing names each entry by its path below the directory asked for, and never follows
 * symlinks. The walk carries the directories above it, so a directory that contains itself ends it
 * with `EUCLEAN` instead of going on for ever.
 */
import type { DirectoryEntry, FileSystem, FileType, VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise } from "../lib/maybe.ts";
import { Dir, Dirent } from "./dirent.ts";
import { decode, type Encoding } from "./text.ts";

/** Options of `readdir`. */
export interface ReaddirOptions {
  encoding?: Encoding;
  readonly withFileTypes?: boolean | undefined;
  readonly recursive?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What `readdir` gives for these options. */
export type ReaddirResult<O> = O extends { withFileTypes: true }
  ? Dirent[]
  : O extends "buffer" | { encoding: "buffer" }
    ? Uint8Array[]
    : string[];

/** Directories below one another that a walk enters: deeper than any path can name. */
const DEPTH_MAX = 2048;

interface Level {
  readonly inode: VfsInode;
  /** Path below the directory asked for, "" for itself. */
  readonly prefix: string;
  readonly above: Level | undefined;
  readonly depth: number;
}

function isDots(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** All entries but `.` and `..`, with `signal` looked at between stretches. */
export async function* entriesOf(
  fs: FileSystem,
  directory: VfsInode,
  signal?: AbortSignal,
): AsyncGenerator<DirectoryEntry[], void, undefined> {
  for (let cookie = 0; cookie !== -1; ) {
    signal?.throwIfAborted();
    const batch = fs.readdir(directory, cookie, signal);
    const { entries, nextCookie } = isPromise(batch) ? await batch : batch;
    yield entries.filter((entry) => !isDots(entry.name));
    cookie = nextCookie;
  }
}

/** The list that `readdir` resolves to. */
export async function readDirectory(
  fs: FileSystem,
  directory: VfsInode,
  path: string,
  options: ReaddirOptions,
): Promise<(string | Uint8Array | Dirent)[]> {
  const out: (string | Uint8Array | Dirent)[] = [];
  const todo: Level[] = [{ inode: directory, prefix: "", above: undefined, depth: 0 }];
  for (let level = todo.shift(); level !== undefined; level = todo.shift()) {
    for await (const entries of entriesOf(fs, level.inode, options.signal)) {
      for (const entry of entries) {
        const type = await typeOf(fs, entry, options);
        out.push(listed(entry, type, level, path, options));
        if (options.recursive !== true || type !== "directory") continue;
        todo.push(await below(fs, level, entry, options.signal));
      }
    }
  }
  return out;
}

function listed(
  entry: DirectoryEntry,
  type: FileType,
  level: Level,
  path: string,
  options: ReaddirOptions,
): string | Uint8Array | Dirent {
  const name = decode(entry.name, options.encoding, "text");
  if (options.withFileTypes === true) {
    const parent = level.prefix === "" ? path : joined(path, level.prefix);
    return new Dirent(name as string, parent, type);
  }
  if (level.prefix === "" || typeof name !== "string") return name;
  return `${level.prefix}/${name}`;
}

async function typeOf(
  fs: FileSystem,
  entry: DirectoryEntry,
  options: ReaddirOptions,
): Promise<FileType> {
  const isNeeded = options.withFileTypes === true || options.recursive === true;
  if (entry.type !== "unknown" || !isNeeded) return entry.type;
  return (await fs.inode(entry.ino, options.signal)).type;
}

/** The level for a directory found in `level`. Throws `EUCLEAN` if it is one of those above. */
async function below(
  fs: FileSystem,
  level: Level,
  entry: DirectoryEntry,
  signal: AbortSignal | undefined,
): Promise<Level> {
  for (let above: Level | undefined = level; above !== undefined; above = above.above) {
    if (above.inode.ino !== entry.ino) continue;
    const detail = `directory ${level.inode.ino} contains ${entry.ino}, which contains it`;
    throw new FsError("EUCLEAN", { detail });
  }
  if (level.depth >= DEPTH_MAX) throw new FsError("ENAMETOOLONG");
  const name = decode(entry.name, "utf8", "text") as string;
  const prefix = level.prefix === "" ? name : `${level.prefix}/${name}`;
  const inode = await fs.inode(entry.ino, signal);
  return { inode, prefix, above: level, depth: level.depth + 1 };
}

function joined(path: string, name: string): string {
  return path.endsWith("/") ? path + name : `${path}/${name}`;
}

/** An open directory over `directory`, flat or recursive. */
export function openDirectory(
  fs: FileSystem,
  directory: VfsInode,
  path: string,
  options: ReaddirOptions,
): Dir {
  const todo: Level[] = [{ inode: directory, prefix: "", above: undefined, depth: 0 }];
  let level = todo.shift();
  let stretch = level && entriesOf(fs, level.inode, options.signal);
  const source = async (): Promise<Dirent[]> => {
    while (level !== undefined && stretch !== undefined) {
      const next = await stretch.next();
      if (next.done === true) {
        level = todo.shift();
        stretch = level && entriesOf(fs, level.inode, options.signal);
        continue;
      }
      const here: Dirent[] = [];
      for (const entry of next.value) {
        const type = await typeOf(fs, entry, { ...options, withFileTypes: true });
        const entryOptions = { ...options, withFileTypes: true };
        here.push(listed(entry, type, level, path, entryOptions) as Dirent);
        if (options.recursive === true && type === "directory") {
          todo.push(await below(fs, level, entry, options.signal));
        }
      }
      if (here.length > 0) return here;
    }
    return [];
  };
  return new Dir(path, source);
}
