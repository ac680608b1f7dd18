/**
 * Listing directories for `readdir` and `opendir`: flat or recursive, as names or as entries.
 *
 * A recursive listing names each entry by its path below the directory asked for, and never follows
 * symlinks. A `TreeGuard` ends it with `EUCLEAN` where the image is no tree, instead of going on
 * for ever.
 */
import type { DirectoryEntry, FileSystem, FileType, VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { type PathLike, pathBytes, pathText } from "./arguments.ts";
import { Dir, Dirent } from "./dirent.ts";
import { decode, type Encoding } from "./text.ts";

/** Options of `readdir`. */
export interface ReaddirOptions {
  encoding?: Encoding;
  readonly withFileTypes?: boolean | undefined;
  /** Those of the directories below too, each with its path from here. */
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
const SLASH = 0x2f;
const NO_PREFIX = new Uint8Array(0);

interface Level {
  readonly inode: VfsInode;
  readonly above: VfsInode | undefined;
  /** Path below the directory asked for, empty for itself. */
  readonly prefix: Uint8Array;
  readonly depth: number;
}

/**
 * Keeps a walk over a hostile image as short as one over an honest image of its size.
 *
 *  1. No directory is entered twice. Where directories contain themselves, or have several
 *     names, the paths would be endless, or 2^n for n directories.
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

/** True for "." and "..". */
export function isDots(name: Uint8Array): boolean {
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
  path: PathLike,
  options: ReaddirOptions,
  mayList: MayList,
): Promise<Listed[]> {
  const out: Listed[] = [];
  const as = options.withFileTypes ? "entries" : "names";
  const walk = listings(fs, directory, path, options, mayList, as);
  for await (const stretch of walk) for (const item of stretch) out.push(item);
  return out;
}

/** Throws `EACCES` unless a directory may be listed, as it lies in the one above it. */
export type MayList = (directory: VfsInode, above: VfsInode | undefined) => MaybeAsync<void>;

/** What a listing consists of. */
export type Listed = string | Uint8Array | Dirent<string | Uint8Array>;

/** Stretches of a listing, those of a directory's own entries before those below it. */
async function* listings(
  fs: FileSystem,
  directory: VfsInode,
  path: PathLike,
  options: ReaddirOptions,
  mayList: MayList,
  as: "names" | "entries",
): AsyncGenerator<Listed[], void, undefined> {
  const todo: Level[] = [{ inode: directory, above: undefined, prefix: NO_PREFIX, depth: 0 }];
  const guard = new TreeGuard(fs);
  const needsType = as === "entries" || Boolean(options.recursive);
  for (let level = todo.shift(); level !== undefined; level = todo.shift()) {
    guard.enter(level.inode);
    await mayList(level.inode, level.above);
    fs.writer?.noteAccess(level.inode);
    const parent = as === "entries" ? parentOf(path, level.prefix) : path;
    for await (const entries of entriesOf(fs, level.inode, options.signal)) {
      const stretch: Listed[] = [];
      for (const entry of entries) {
        const type = needsType ? await typeOf(fs, entry, options.signal) : entry.type;
        stretch.push(
          as === "entries"
            ? new Dirent(decode(entry.name, options.encoding, "text"), parent, type)
            : decode(joined(level.prefix, entry.name), options.encoding, "text"),
        );
        if (!options.recursive || type !== "directory") continue;
        todo.push(await below(fs, level, entry, options.signal));
      }
      yield stretch;
    }
  }
}

async function typeOf(
  fs: FileSystem,
  entry: DirectoryEntry,
  signal: AbortSignal | undefined,
): Promise<FileType> {
  return entry.type === "unknown" ? (await fs.inode(entry.ino, signal)).type : entry.type;
}

/** The level for a directory found in `level`. */
async function below(
  fs: FileSystem,
  level: Level,
  entry: DirectoryEntry,
  signal: AbortSignal | undefined,
): Promise<Level> {
  if (level.depth >= DEPTH_MAX) throw new FsError("ENAMETOOLONG");
  const inode = await fs.inode(entry.ino, signal);
  const prefix = joined(level.prefix, entry.name);
  return { inode, above: level.inode, prefix, depth: level.depth + 1 };
}

function joined(prefix: Uint8Array, name: Uint8Array): Uint8Array {
  if (prefix.length === 0) return name;
  const path = new Uint8Array(prefix.length + 1 + name.length);
  path.set(prefix);
  path[prefix.length] = SLASH;
  path.set(name, prefix.length + 1);
  return path;
}

/** The directory that an entry names as its own: as it was given, or joined as `path.join` does. */
function parentOf(path: PathLike, prefix: Uint8Array): PathLike {
  if (prefix.length === 0) return path;
  const parts: string[] = [];
  const text = pathText(pathBytes(path));
  for (const part of text.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === ".." && parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else parts.push(part);
  }
  parts.push(decode(prefix, "utf8", "text") as string);
  return `${text.startsWith("/") ? "/" : ""}${parts.join("/")}`;
}

/** Runs a step of reading on behalf of the volume. */
export type DirGuard = (step: () => Promise<Dirent[]>) => MaybeAsync<Dirent[]>;

/** An open directory over `directory`, flat or recursive. */
export function openDirectory(
  fs: FileSystem,
  directory: VfsInode,
  path: PathLike,
  options: ReaddirOptions,
  mayList: MayList,
  guard: DirGuard,
): Dir {
  const walk = listings(fs, directory, path, options, mayList, "entries");
  const step = async (): Promise<Dirent[]> => {
    for (;;) {
      const next = await walk.next();
      if (next.done === true) return [];
      if (next.value.length > 0) return next.value as Dirent[];
    }
  };
  const shown = path instanceof URL ? pathText(path) : path;
  return new Dir(shown, async () => guard(step));
}
