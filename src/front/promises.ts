/**
 * `volume.fs`: a mounted file system in the shape of Node's `fs.promises`.
 *
 * Calls, options, results and errors are Node's, to the letter where a letter can be seen: `code`,
 * `errno`, `syscall`, `path` and message. Paths are taken from the root of the volume, and every
 * call that may reach the store takes a `signal`, which ends the waiting of that caller alone. The
 * `*Sync` forms never wait: they give the answer if it is cached and `EAGAIN` (-11) if it is not.
 *
 * The volume is opened read-only: the calls that change something are in `ReadOnlyCalls`, and fail
 * as on a read-only mount.
 */

import { PathWalker, type WalkResult } from "../fs/namei.ts";
import type { FileSystem, VfsInode } from "../fs/vfs.ts";
import { FsError, hasErrnoCode } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { type PathLike, pathBytes, pathText } from "./arguments.ts";
import {
  openDirectory,
  type ReaddirOptions,
  type ReaddirResult,
  readDirectory,
} from "./directory.ts";
import { checkDirectory, type Dir } from "./dirent.ts";
import { EAGAIN, FileHandle, type HandleOwner, type ReadFileOptions } from "./file-handle.ts";
import { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, openFlags, wantsWrite } from "./open-flags.ts";
import { ReadOnlyCalls } from "./read-only-calls.ts";
import { BigIntStats, StatFs, Stats } from "./stats.ts";
import { decode, type Encoding, optionsOf } from "./text.ts";

/** Options of the calls that only look. */
export interface LookOptions {
  readonly signal?: AbortSignal | undefined;
}
export interface StatOptions extends LookOptions {
  readonly bigint?: boolean | undefined;
}
export interface EncodingOptions extends LookOptions {
  encoding?: Encoding;
}

const W_OK = 2;
const X_OK = 1;

export class VolumeFs extends ReadOnlyCalls implements HandleOwner {
  readonly #fs: FileSystem;
  readonly #walker: PathWalker;
  readonly #open = new Set<FileHandle>();
  #lastFd = 2;

  constructor(fs: FileSystem) {
    super();
    this.#fs = fs;
    this.#walker = new PathWalker(fs);
  }

  /** As `fs.constants`: the modes of `access` and the flags of `open` that mean something here. */
  readonly constants: Readonly<Record<string, number>> = {
    F_OK: 0,
    R_OK: 4,
    W_OK,
    X_OK,
    O_RDONLY: 0,
    O_CREAT,
    O_EXCL,
    O_DIRECTORY,
    O_NOFOLLOW,
  };

  /** Number of open handles: `close` of the volume waits for none of them, it closes them. */
  get openHandles(): number {
    return this.#open.size;
  }

  /**
   * Resolves if `path` can be used as `mode` says: writing never, executing if some x bit is set.
   */
  async access(path: PathLike, mode = 0): Promise<void> {
    const { inode } = await this.#at(path, "access", true);
    const where = { syscall: "access", path: pathText(path) };
    if ((mode & W_OK) !== 0) throw new FsError("EROFS", where);
    const isExecutable = inode.type === "directory" || (inode.attributes().mode & 0o111) !== 0;
    if ((mode & X_OK) !== 0 && !isExecutable) throw new FsError("EACCES", where);
  }

  async stat(path: PathLike, options: StatOptions & { bigint: true }): Promise<BigIntStats>;
  async stat(
    path: PathLike,
    options?: StatOptions & { bigint?: false | undefined },
  ): Promise<Stats>;
  async stat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats>;
  async stat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
    const found = this.#at(path, "stat", true, options?.signal);
    return statsOf((isPromise(found) ? await found : found).inode, options?.bigint);
  }

  async lstat(path: PathLike, options: StatOptions & { bigint: true }): Promise<BigIntStats>;
  async lstat(
    path: PathLike,
    options?: StatOptions & { bigint?: false | undefined },
  ): Promise<Stats>;
  async lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats>;
  async lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
    const found = this.#at(path, "lstat", false, options?.signal);
    return statsOf((isPromise(found) ? await found : found).inode, options?.bigint);
  }

  /** `stat`, or `EAGAIN` when it would have to wait. */
  statSync(path: PathLike): Stats | typeof EAGAIN {
    return this.#statsNow(this.#at(path, "stat", true));
  }

  /** `lstat`, or `EAGAIN` when it would have to wait. */
  lstatSync(path: PathLike): Stats | typeof EAGAIN {
    return this.#statsNow(this.#at(path, "lstat", false));
  }

  async statfs(path: PathLike, options: { bigint: true } & LookOptions): Promise<StatFs<bigint>>;
  async statfs(path: PathLike, options?: { bigint?: boolean } & LookOptions): Promise<StatFs>;
  async statfs(
    path: PathLike,
    options?: { bigint?: boolean } & LookOptions,
  ): Promise<StatFs | StatFs<bigint>> {
    await this.#at(path, "statfs", true, options?.signal);
    const usage = this.#fs.usage();
    return options?.bigint === true ? new StatFs(usage, BigInt) : new StatFs(usage, Number);
  }

  async readlink(
    path: PathLike,
    options?: EncodingOptions | Encoding,
  ): Promise<string | Uint8Array> {
    const { encoding, signal } = optionsOf<EncodingOptions>(options);
    const { inode } = await this.#at(path, "readlink", false, signal);
    return this.#guard("readlink", path, async () => {
      if (inode.type !== "symlink") throw new FsError("EINVAL");
      return decode(await this.#fs.readlink(inode, signal), encoding, "text");
    });
  }

  async realpath(
    path: PathLike,
    options?: EncodingOptions | Encoding,
  ): Promise<string | Uint8Array> {
    const { encoding, signal } = optionsOf<EncodingOptions>(options);
    const { names } = await this.#at(path, "realpath", true, signal);
    return decode(joinNames(names), encoding, "text");
  }

  /** Names of a directory, `.` and `..` left out, in the directory's own order. */
  async readdir<O extends ReaddirOptions | Encoding = undefined>(
    path: PathLike,
    options?: O,
  ): Promise<ReaddirResult<O>> {
    const given = optionsOf<ReaddirOptions>(options as ReaddirOptions | Encoding);
    const { inode } = await this.#at(path, "scandir", true, given.signal);
    checkDirectory(inode.type, "scandir", pathText(path));
    const listed = await this.#guard("scandir", path, () =>
      readDirectory(this.#fs, inode, pathText(path), given),
    );
    return listed as ReaddirResult<O>;
  }

  async opendir(
    path: PathLike,
    options?: { encoding?: Encoding; recursive?: boolean; bufferSize?: number } & LookOptions,
  ): Promise<Dir> {
    const { inode } = await this.#at(path, "opendir", true, options?.signal);
    checkDirectory(inode.type, "opendir", pathText(path));
    return openDirectory(this.#fs, inode, pathText(path), options ?? {});
  }

  /** Opens `path`; the handle must be closed, or disposed of with `await using`. */
  async open(
    path: PathLike,
    flags?: string | number | null,
    _mode?: string | number | null,
    options?: LookOptions,
  ): Promise<FileHandle> {
    const wanted = openFlags(flags);
    if ((wanted & O_CREAT) !== 0) await this.#checkCreate(path, wanted, options?.signal);
    const follows = (wanted & O_NOFOLLOW) === 0;
    const { inode } = await this.#at(path, "open", follows, options?.signal);
    return this.#guard("open", path, () => this.#openInode(inode, wanted, options?.signal));
  }

  /** The content of a file as bytes, or as text in the encoding asked for. */
  async readFile(
    path: PathLike | FileHandle,
    options?: (ReadFileOptions & { encoding?: null | undefined }) | null,
  ): Promise<Uint8Array>;
  async readFile(
    path: PathLike | FileHandle,
    options: (ReadFileOptions & { encoding: string }) | string,
  ): Promise<string>;
  async readFile(
    path: PathLike | FileHandle,
    options?: ReadFileOptions | Encoding,
  ): Promise<string | Uint8Array>;
  async readFile(
    path: PathLike | FileHandle,
    options?: ReadFileOptions | Encoding,
  ): Promise<string | Uint8Array> {
    if (path instanceof FileHandle) return path.readFile(options);
    const given = optionsOf<ReadFileOptions>(options);
    given.signal?.throwIfAborted();
    const handle = await this.open(path, given.flag ?? "r", null, { signal: given.signal });
    try {
      return await handle.readFile(given);
    } finally {
      await handle.close();
    }
  }

  /** Extended attributes of `path` by their full names, in the form that users see. */
  async xattrs(
    path: PathLike,
    options?: LookOptions & { followLinks?: boolean },
  ): Promise<ReadonlyMap<string, Uint8Array>> {
    const follows = options?.followLinks !== false;
    const { inode } = await this.#at(path, "listxattr", follows, options?.signal);
    return this.#guard("listxattr", path, async () => this.#fs.xattrs(inode, options?.signal));
  }

  /** The inode behind `path`, for callers that go on with the file system itself. */
  async inode(
    path: PathLike,
    options?: LookOptions & { followLinks?: boolean },
  ): Promise<VfsInode> {
    const follows = options?.followLinks !== false;
    return (await this.#at(path, follows ? "stat" : "lstat", follows, options?.signal)).inode;
  }

  nextFd(): number {
    this.#lastFd += 1;
    return this.#lastFd;
  }

  closed(handle: FileHandle): void {
    this.#open.delete(handle);
  }

  /** Closes what is still open. For the volume's own closing. */
  async closeAll(): Promise<void> {
    for (const handle of [...this.#open]) await handle.close();
    this.#walker.clear();
  }

  protected override walkFor(
    path: PathLike,
    syscall: string,
    follows: boolean,
  ): MaybeAsync<WalkResult> {
    return this.#at(path, syscall, follows);
  }

  #at(
    path: PathLike,
    syscall: string,
    follows: boolean,
    signal?: AbortSignal,
  ): MaybeAsync<WalkResult> {
    const bytes = pathBytes(path);
    signal?.throwIfAborted();
    try {
      const found = this.#walker.walk(bytes, follows, signal);
      if (!isPromise(found)) return found;
      return found.catch((error: unknown) => {
        throw located(error, syscall, path);
      });
    } catch (error) {
      throw located(error, syscall, path);
    }
  }

  async #guard<T>(syscall: string, path: PathLike, task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (error) {
      throw located(error, syscall, path);
    }
  }

  /**
   * Stats if they are there. Otherwise they are fetched for a later call, and this one says
   * `EAGAIN`.
   */
  #statsNow(found: MaybeAsync<WalkResult>): Stats | typeof EAGAIN {
    if (!isPromise(found)) return new Stats(found.inode.attributes());
    found.catch(() => undefined); // The next call meets the error again, and reports it.
    return EAGAIN;
  }

  async #checkCreate(path: PathLike, flags: number, signal?: AbortSignal): Promise<void> {
    const where = { syscall: "open", path: pathText(path) };
    try {
      await this.#at(path, "open", (flags & (O_EXCL | O_NOFOLLOW)) === 0, signal);
    } catch (error) {
      if (!hasErrnoCode(error) || error.code !== "ENOENT") throw error;
      await this.checkParent(path, "open");
      throw new FsError("EROFS", where);
    }
    if ((flags & O_EXCL) !== 0) throw new FsError("EEXIST", where);
  }

  async #openInode(inode: VfsInode, flags: number, signal?: AbortSignal): Promise<FileHandle> {
    if (inode.type === "symlink") throw new FsError("ELOOP");
    const isDirectory = inode.type === "directory";
    if ((flags & O_DIRECTORY) !== 0 && !isDirectory) throw new FsError("ENOTDIR");
    if (wantsWrite(flags)) throw new FsError(isDirectory ? "EISDIR" : "EROFS");
    if (isDirectory) return this.#track(new FileHandle(this, inode, null));
    // A device, FIFO or socket of the image has nothing behind it here.
    if (inode.type !== "file") throw new FsError("ENXIO");
    return this.#track(new FileHandle(this, inode, await this.#fs.openFile(inode, signal)));
  }

  #track(handle: FileHandle): FileHandle {
    this.#open.add(handle);
    return handle;
  }
}

function statsOf(inode: VfsInode, isBig: boolean | undefined): Stats | BigIntStats {
  const attributes = inode.attributes();
  return isBig === true ? new BigIntStats(attributes) : new Stats(attributes);
}

function joinNames(names: readonly Uint8Array[]): Uint8Array {
  let lengthBytes = Math.max(names.length, 1);
  for (const name of names) lengthBytes += name.length;
  const path = new Uint8Array(names.length === 0 ? 1 : lengthBytes);
  path[0] = 0x2f;
  let at = 0;
  for (const name of names) {
    path[at] = 0x2f;
    path.set(name, at + 1);
    at += name.length + 1;
  }
  return path;
}

/** The same error with the call and the path that the user named; others pass unchanged. */
export function located(error: unknown, syscall: string, path: PathLike): unknown {
  if (!(error instanceof FsError) || error.syscall !== undefined) return error;
  const { code, detail, cause } = error;
  return new FsError(code, { syscall, path: pathText(path), detail, cause });
}
