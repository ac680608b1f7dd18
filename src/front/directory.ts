/**
 * Listing directories for `readdir` and `opendir`: flat or recursive, as names or as entries.
 *
 * A recursive listing names each entry by its path below the directory asked for, and never follows
 * symlinks. A `TreeGuard` ends it with `EUCLEAN` where the image is no tree, instead of going on for
 * ever.
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
  readonly depth: number;
}

/**
 * Keeps a walk over a hostile image as short as one over an honest image of its size.
 *
 *  1. No directory is entered twice. Where directories contain themselves, or have several names, the
 *     paths would be endless, or 2^n for n directories.
 *  2. The directories entered have no more bytes than the file system: they cannot share blocks.
 */
export class TreeGuard {
  readonly #entered = new Set<number>();
  #bytesLeft: number;

  constructor(fs: FileSystem) {
    const { blockCount, blockBytes } = fs.usage();
    this.#bytesLeft = blockCount * blockBytes;
  }

  /** To be called before the entries of `directory` are read. Throws `EUCLEAN`. */
  enter(directory: VfsInode): void {
    const { ino, size, blockBytes } = directory;
    if (this.#entered.has(ino)) {
      const detail = `directory ${ino} has more than one name, or contains itself`;
      throw new FsError("EUCLEAN", { detail });
    }
    this.#entered.add(ino);
    if (size >= blockBytes) this.#bytesLeft -= size; // A smaller one lies in its inode.
    if (this.#bytesLeft >= 0) return;
    throw new FsError("EUCLEAN", {
      detail: "the directories have more bytes than the file system",
    });
  }
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
  const todo: Level[] = [{ inode: directory, prefix: "", depth: 0 }];
  const guard = new TreeGuard(fs);
  guard.enter(directory);
  for (const level of todo) {
    for await (const entries of entriesOf(fs, level.inode, options.signal)) {
      for (const entry of entries) {
        const type = await typeOf(fs, entry, options);
        out.push(listed(entry, type, level, path, options));
        if (options.recursive !== true || type !== "directory") continue;
        todo.push(await below(fs, guard, level, entry, options.signal));
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

/** The level for a directory found in `level`. Throws `EUCLEAN` if `guard` refuses it. */
async function below(
  fs: FileSystem,
  guard: TreeGuard,
  level: Level,
  entry: DirectoryEntry,
  signal: AbortSignal | undefined,
): Promise<Level> {
  if (level.depth >= DEPTH_MAX) throw new FsError("ENAMETOOLONG");
  const name = decode(entry.name, "utf8", "text") as string;
  const prefix = level.prefix === "" ? name : `${level.prefix}/${name}`;
  const inode = await fs.inode(entry.ino, signal);
  guard.enter(inode);
  return { inode, prefix, depth: level.depth + 1 };
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
  const todo: Level[] = [{ inode: directory, prefix: "", depth: 0 }];
  const guard = new TreeGuard(fs);
  let next = 0;
  let level = todo[next++];
  let stretch = level && entriesOf(fs, level.inode, options.signal);
  const source = async (): Promise<Dirent[]> => {
    while (level !== undefined && stretch !== undefined) {
      const read = await stretch.next();
      if (read.done === true) {
        level = todo[next++];
        stretch = level && entriesOf(fs, level.inode, options.signal);
        continue;
      }
      const here: Dirent[] = [];
      for (const entry of read.value) {
        const type = await typeOf(fs, entry, { ...options, withFileTypes: true });
        const entryOptions = { ...options, withFileTypes: true };
        here.push(listed(entry, type, level, path, entryOptions) as Dirent);
        if (options.recursive === true && type === "directory") {
          todo.push(await below(fs, guard, level, entry, options.signal));
        }
      }
      if (here.length > 0) return here;
    }
    return [];
  };
  return new Dir(path, source);
}
