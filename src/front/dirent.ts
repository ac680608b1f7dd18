/**
 * Directory entries and open directories, in the shape of Node's `fs.Dirent` and `fs.Dir`.
 *
 * A `Dir` reads one stretch of the directory at a time, so a directory of a million names costs the
 * memory of one directory block.
 */
import type { FileType } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { codedError, invalidArgType, type PathLike } from "./arguments.ts";

/** `fs.Dirent`: a name and what it is. */
export class Dirent<Name extends string | Uint8Array = string> {
  readonly name: Name;
  /** The directory that was read, as the caller named it. */
  readonly parentPath: PathLike;
  /** As `parentPath`, the older name of it. */
  readonly path: PathLike;
  readonly #type: FileType;

  constructor(name: Name, parentPath: PathLike, type: FileType) {
    this.name = name;
    this.parentPath = parentPath;
    this.path = parentPath;
    this.#type = type;
  }
  isDirectory(): boolean {
    return this.#type === "directory";
  }
  isFile(): boolean {
    return this.#type === "file";
  }
  isBlockDevice(): boolean {
    return this.#type === "block";
  }
  isCharacterDevice(): boolean {
    return this.#type === "character";
  }
  isSymbolicLink(): boolean {
    return this.#type === "symlink";
  }
  isFIFO(): boolean {
    return this.#type === "fifo";
  }
  isSocket(): boolean {
    return this.#type === "socket";
  }
}

/** Gives the next entries, or an empty list at the end. */
export type DirSource = () => Promise<Dirent[]>;

/** What the older forms of `read` and `close` are told by. */
export type DirCallback<T> = (error: Error | null, value?: T) => void;

/** `fs.Dir`: an open directory that is read entry by entry, and closed when its iteration ends. */
export class Dir {
  /** As it was given; of a URL its path. */
  readonly path: string | Uint8Array;
  readonly #source: DirSource;
  #waiting: Dirent[] = [];
  /** The last read that was asked for: they are done one after the other. */
  #reading: Promise<unknown> = Promise.resolve();
  #readers = 0;
  #at = 0;
  #isClosed = false;

  constructor(path: string | Uint8Array, source: DirSource) {
    this.path = path;
    this.#source = source;
  }

  /** The next entry, or null at the end. Throws `ERR_DIR_CLOSED` once closed. */
  read(): Promise<Dirent | null>;
  read(callback: DirCallback<Dirent | null>): void;
  read(callback?: DirCallback<Dirent | null>): Promise<Dirent | null> | undefined {
    return told(callback, () => {
      this.#checkOpen();
      if (this.#readers === 0 && this.#at < this.#waiting.length) return this.#next();
      this.#readers++;
      const next = this.#reading.then(() => this.#next());
      this.#reading = next.catch(() => undefined).finally(() => this.#readers--);
      return next;
    });
  }

  async #next(): Promise<Dirent | null> {
    while (this.#at >= this.#waiting.length) {
      this.#waiting = await this.#source();
      this.#at = 0;
      if (this.#waiting.length === 0) return null;
    }
    return this.#waiting[this.#at++] ?? null;
  }

  /** Closes it. Throws `ERR_DIR_CLOSED` the second time, as Node does. */
  close(): Promise<void>;
  close(callback: DirCallback<void>): void;
  close(callback?: DirCallback<void>): Promise<void> | undefined {
    return told(callback, async () => {
      this.#checkOpen();
      this.#isClosed = true;
      this.#waiting = [];
    });
  }

  [Symbol.asyncIterator](): AsyncGenerator<Dirent, void, undefined> {
    return this.entries();
  }

  /** The entries that are left; it is closed at the end. */
  async *entries(): AsyncGenerator<Dirent, void, undefined> {
    try {
      for (let entry = await this.read(); entry !== null; entry = await this.read()) yield entry;
    } finally {
      if (!this.#isClosed) await this.close();
    }
  }

  /** Closes it if it is open, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isClosed) await this.close();
  }

  #checkOpen(): void {
    if (this.#isClosed) throw codedError("ERR_DIR_CLOSED", "Directory handle was closed");
  }
}

/** Does `work`, and tells `callback` of its end instead of the caller, if there is one. */
function told<T>(
  callback: DirCallback<T> | undefined,
  work: () => Promise<T>,
): Promise<T> | undefined {
  if (callback === undefined) return work();
  if (typeof callback !== "function")
    throw invalidArgType("callback", "of type function", callback);
  work().then((value) => callback(null, value), callback);
  return undefined;
}

/** `ENOTDIR` unless `type` is a directory, for `scandir` and `opendir`. */
export function checkDirectory(type: FileType, syscall: string, path: string): void {
  if (type !== "directory") throw new FsError("ENOTDIR", { syscall, path });
}
