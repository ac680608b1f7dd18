/**
 * `volume.fs`: a mounted file system in the shape of Node's `fs.promises`.
 *
 * Calls, options, results and errors are Node's, to the letter where a letter can be seen: `code`,
 * `errno`, `syscall`, `path` and message. Paths are taken from the root of the volume, and every
 * call that may reach the store takes a `signal`, which ends the waiting of that caller alone, with
 * the signal's own reason. The `*Sync` forms of `CachedCalls` never wait.
 *
 * The calls that change something are in the classes below this one; on a volume that was opened
 * read-only they fail as on a read-only mount.
 */
import type { FileSystem, VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise } from "../lib/maybe.ts";
import { checkInteger, type PathLike, pathText } from "./arguments.ts";
import { absolutePath, CachedCalls } from "./cached-calls.ts";
import { FS_CONSTANTS, W_OK } from "./constants.ts";
import type { LookOptions } from "./content-calls.ts";
import {
  type MayList,
  openDirectory,
  type ReaddirOptions,
  type ReaddirResult,
  readDirectory,
} from "./directory.ts";
import { checkDirectory, type Dir } from "./dirent.ts";
import { FileHandle } from "./file-handle.ts";
import type { ReadFileOptions } from "./file-reads.ts";
import { checkSmallMode } from "./option-checks.ts";
import { BigIntStats, StatFs, Stats } from "./stats.ts";
import { decode, type Encoding, optionsOf } from "./text.ts";
import type { VolumeContext } from "./volume-base.ts";

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

const ACCESS_MODE_MAX = 7;

/** The calls that may be taken off the object. */
const CALLS = [
  ..."access appendFile chmod chown copyFile cp lchmod lchown lutimes link lstat mkdir".split(" "),
  ..."mkdtemp open opendir readdir readFile readlink realpath rename rm rmdir stat".split(" "),
  ..."statfs symlink truncate unlink utimes watch writeFile".split(" "),
];

export class VolumeFs extends CachedCalls {
  readonly #mayList: MayList = (inode, above) => this.checkListing(inode, above);
  /** As `fs.constants`. */
  readonly constants: Readonly<Record<string, number>> = FS_CONSTANTS;

  constructor(fileSystem: FileSystem, context: VolumeContext) {
    super(fileSystem, context);
    // As with Node's, `const { readFile } = volume.fs` gives a function that works by itself.
    const calls = this as unknown as Record<string, (...given: unknown[]) => unknown>;
    for (const name of CALLS) calls[name] = calls[name]!.bind(this);
  }

  /**
   * Resolves if the caller may use `path` as `mode` says; nobody may write on a read-only volume.
   */
  async access(path: PathLike, mode?: number | null, options?: LookOptions): Promise<void> {
    const wanted = checkSmallMode(mode, ACCESS_MODE_MAX);
    const { inode } = await this.at(path, "access", true, options?.signal);
    const isReadOnly = this.writer === undefined;
    if ((wanted & W_OK) !== 0 && isReadOnly && isOfVolume(inode)) {
      throw new FsError("EROFS", { syscall: "access", path: pathText(path) });
    }
    await this.guard("access", path, () => this.checkAccess(inode, wanted));
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
    const target = await this.guard("readlink", path, () =>
      this.fileSystem.readlink(inode, signal),
    );
    this.writer?.noteAccess(inode);
    return decode(target, encoding, "text");
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
      readDirectory(this.fileSystem, inode, path, given, this.#mayList),
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
    await this.guard("opendir", path, () => this.checkListing(inode, undefined));
    return openDirectory(this.fileSystem, inode, path, given, this.#mayList, (next) =>
      this.guard("scandir", path, next),
    );
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
    const handle = await this.open(path, given.flag || "r", null, { signal: given.signal });
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

/** False for a device, FIFO or socket: what is written there does not change the volume. */
function isOfVolume(inode: VfsInode): boolean {
  return inode.type === "file" || inode.type === "directory" || inode.type === "symlink";
}

function statsOf(inode: VfsInode, isBig: boolean | undefined): Stats | BigIntStats {
  const attributes = inode.attributes();
  return isBig === true ? new BigIntStats(attributes) : new Stats(attributes);
}
