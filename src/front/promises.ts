/**
 * `volume.fs`: a mounted file system in the shape of Node's `fs.promises`.
 *
 * Calls, options, results and errors are Node's, to the letter where a letter can be seen: `code`,
 * `errno`, `syscall`, `path` and message. Paths are taken from the root of the volume, and every
 * call that may reach the store takes a `signal`, which ends the waiting of that caller alone, with
 * the signal's own reason. The `*Sync` forms of `CachedCalls` never wait.
 *
 * The volume is opened read-only: the calls that change something are in `ReadOnlyCalls`, and fail
 * as on a read-only mount. Left out: `watch`, as nothing changes; `constants.COPYFILE_*`.
 */
import type { VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise } from "../lib/maybe.ts";
import { checkInteger, checkMode, type PathLike, pathText } from "./arguments.ts";
import { absolutePath, CachedCalls } from "./cached-calls.ts";
import {
  openDirectory,
  type ReaddirOptions,
  type ReaddirResult,
  readDirectory,
} from "./directory.ts";
import { checkDirectory, type Dir } from "./dirent.ts";
import { FileHandle, type ReadFileOptions } from "./file-handle.ts";
import { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, openFlags } from "./open-flags.ts";
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

/** Options of `opendir`. */
export interface OpendirOptions extends EncodingOptions {
  readonly recursive?: boolean | undefined;
  /** Node's number of entries to read at once; it is checked, and needed for nothing here. */
  readonly bufferSize?: number | undefined;
}

const W_OK = 2;
const X_OK = 1;
const ACCESS_MODE_MAX = 7;

export class VolumeFs extends CachedCalls {
  /** As `fs.constants`: the modes of `access` and the flags of `open` that mean something here. */
  readonly constants: Readonly<Record<string, number>> = {
    F_OK: 0,
    R_OK: 4,
    W_OK,
    X_OK,
    O_RDONLY,
    O_CREAT,
    O_EXCL,
    O_DIRECTORY,
    O_NOFOLLOW,
  };

  /**
   * Resolves if `path` can be used as `mode` says: writing never, executing if some x bit is set.
   */
  async access(path: PathLike, mode?: number | null, options?: LookOptions): Promise<void> {
    const wanted = checkAccessMode(mode ?? 0);
    const { inode } = await this.at(path, "access", true, options?.signal);
    const where = { syscall: "access", path: pathText(path) };
    if ((wanted & W_OK) !== 0 && isOfVolume(inode)) throw new FsError("EROFS", where);
    const isExecutable = inode.type === "directory" || (inode.attributes().mode & 0o111) !== 0;
    if ((wanted & X_OK) !== 0 && !isExecutable) throw new FsError("EACCES", where);
  }

  async stat(path: PathLike, options: StatOptions & { bigint: true }): Promise<BigIntStats>;
  async stat(
    path: PathLike,
    options?: StatOptions & { bigint?: false | undefined },
  ): Promise<Stats>;
  async stat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats>;
  async stat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
    const found = this.at(path, "stat", true, options?.signal);
    return statsOf((isPromise(found) ? await found : found).inode, options?.bigint);
  }

  async lstat(path: PathLike, options: StatOptions & { bigint: true }): Promise<BigIntStats>;
  async lstat(
    path: PathLike,
    options?: StatOptions & { bigint?: false | undefined },
  ): Promise<Stats>;
  async lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats>;
  async lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
    const found = this.at(path, "lstat", false, options?.signal);
    return statsOf((isPromise(found) ? await found : found).inode, options?.bigint);
  }

  async statfs(path: PathLike, options: { bigint: true } & LookOptions): Promise<StatFs<bigint>>;
  async statfs(path: PathLike, options?: { bigint?: boolean } & LookOptions): Promise<StatFs>;
  async statfs(
    path: PathLike,
    options?: { bigint?: boolean } & LookOptions,
  ): Promise<StatFs | StatFs<bigint>> {
    await this.at(path, "statfs", true, options?.signal);
    const usage = this.fileSystem.usage();
    return options?.bigint === true ? new StatFs(usage, BigInt) : new StatFs(usage, Number);
  }

  async readlink(
    path: PathLike,
    options?: EncodingOptions | Encoding,
  ): Promise<string | Uint8Array> {
    const { encoding, signal } = optionsOf<EncodingOptions>(options);
    const { inode } = await this.at(path, "readlink", false, signal, "oldPath");
    if (inode.type !== "symlink") {
      throw new FsError("EINVAL", { syscall: "readlink", path: pathText(path) });
    }
    const target = this.guard("readlink", path, () => this.fileSystem.readlink(inode, signal));
    return decode(await target, encoding, "text");
  }

  /** The path with all links resolved, from the root of the volume. */
  async realpath(
    path: PathLike,
    options?: EncodingOptions | Encoding,
  ): Promise<string | Uint8Array> {
    const { encoding, signal } = optionsOf<EncodingOptions>(options);
    const { names } = await this.at(path, "realpath", true, signal);
    return decode(absolutePath(names), encoding, "text");
  }

  /** Names of a directory, `.` and `..` left out, in the directory's own order. */
  async readdir<O extends ReaddirOptions | Encoding = undefined>(
    path: PathLike,
    options?: O,
  ): Promise<ReaddirResult<O>> {
    const given = optionsOf<ReaddirOptions>(options as ReaddirOptions | Encoding);
    const { inode } = await this.at(path, "scandir", true, given.signal);
    checkDirectory(inode.type, "scandir", pathText(path));
    const listed = await this.guard("scandir", path, () =>
      readDirectory(this.fileSystem, inode, path, given),
    );
    return listed as ReaddirResult<O>;
  }

  /** An open directory, to be read entry by entry. */
  async opendir(path: PathLike, options?: OpendirOptions | Encoding): Promise<Dir> {
    const given = optionsOf<OpendirOptions>(options);
    if (given.bufferSize !== undefined) {
      checkInteger(given.bufferSize, "options.bufferSize", 1, 2 ** 32 - 1);
    }
    const { inode } = await this.at(path, "opendir", true, given.signal);
    checkDirectory(inode.type, "opendir", pathText(path));
    return openDirectory(this.fileSystem, inode, path, given, (next) =>
      this.guard("scandir", path, next),
    );
  }

  /** Opens `path`; the handle must be closed, or disposed of with `await using`. */
  async open(
    path: PathLike,
    flags?: string | number | null,
    mode?: string | number | null,
    options?: LookOptions,
  ): Promise<FileHandle> {
    const wanted = openFlags(flags);
    checkMode(mode, "mode", 0o666);
    const signal = options?.signal;
    if ((wanted & O_CREAT) !== 0) await this.checkCreate(path, wanted, signal);
    const { inode } = await this.at(path, "open", (wanted & O_NOFOLLOW) === 0, signal);
    return this.guard("open", path, () => this.openInode(inode, wanted, signal));
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
    const { inode } = await this.at(path, "listxattr", follows, options?.signal);
    return this.guard("listxattr", path, () => this.fileSystem.xattrs(inode, options?.signal));
  }

  /** The inode behind `path`, for callers that go on with the file system itself. */
  async inode(
    path: PathLike,
    options?: LookOptions & { followLinks?: boolean },
  ): Promise<VfsInode> {
    const follows = options?.followLinks !== false;
    return (await this.at(path, follows ? "stat" : "lstat", follows, options?.signal)).inode;
  }
}

/** As Node's own code below its JavaScript does it, whose errors carry their code nowhere else. */
function checkAccessMode(mode: unknown): number {
  if (typeof mode !== "number") {
    const error = new TypeError("mode must be int32 or null/undefined");
    throw Object.assign(error, { code: "ERR_INVALID_ARG_TYPE" });
  }
  if (mode >= 0 && mode <= ACCESS_MODE_MAX) return Math.trunc(mode);
  const bounds = Number.isFinite(mode) ? `: >= 0 && <= ${ACCESS_MODE_MAX}` : "";
  const error = new RangeError(`mode is out of range${bounds}`);
  throw Object.assign(error, { code: "ERR_OUT_OF_RANGE" });
}

/** False for a device, FIFO or socket: what is written there does not change the volume. */
function isOfVolume(inode: VfsInode): boolean {
  return inode.type === "file" || inode.type === "directory" || inode.type === "symlink";
}

function statsOf(inode: VfsInode, isBig: boolean | undefined): Stats | BigIntStats {
  const attributes = inode.attributes();
  return isBig === true ? new BigIntStats(attributes) : new Stats(attributes);
}
