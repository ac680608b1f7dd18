/**
 * The half of `fs.promises` that changes something, on a volume that must not be changed.
 *
 * Each call fails as the same call on a read-only mount, with what the kernel finds first:
 *
 *     what is there is changed    it is looked up, then EROFS       chmod, chown, utimes, truncate
 *     a new name                  EEXIST if it is there, else EROFS mkdir, symlink, link
 *     a name goes away            EROFS before it is looked up      unlink, rmdir, rename
 *
 * and arguments are checked as Node checks them before it asks the kernel.
 *
 * After `filename_create`, `do_unlinkat`, `do_renameat2` and `open_last_lookups` of `fs/namei.c`.
 */
import type { VfsInode } from "../fs/vfs.ts";
import { FsError, hasErrnoCode } from "../lib/errno.ts";
import {
  checkMode,
  checkOwnerId,
  checkTime,
  codedError,
  invalidArgType,
  type PathLike,
  pathBytes,
  pathText,
} from "./arguments.ts";
import type { FileHandle } from "./file-handle.ts";
import { O_CREAT, O_EXCL, O_NOFOLLOW } from "./open-flags.ts";
import { type Encoding, optionsOf } from "./text.ts";
import { VolumeBase } from "./volume-base.ts";

/** Options of `writeFile` and `appendFile`. */
export interface WriteFileOptions {
  encoding?: Encoding;
  readonly mode?: string | number | undefined;
  readonly flag?: string | number | undefined;
  signal?: AbortSignal | undefined;
}

/** The last component of a path, as the kernel sorts it (`LAST_NORM` and the others). */
interface LastName {
  readonly kind: "name" | "." | ".." | "/";
  readonly hasSlash: boolean;
  /** The path without what stands behind the last component. */
  readonly bare: Uint8Array;
  readonly parent: Uint8Array;
}

const SLASH = 0x2f;
const DOT: Uint8Array = new Uint8Array([0x2e]);

export abstract class ReadOnlyCalls extends VolumeBase {
  abstract open(
    path: PathLike,
    flags?: string | number | null,
    mode?: string | number | null,
  ): Promise<FileHandle>;

  async chmod(path: PathLike, mode: string | number): Promise<never> {
    pathBytes(path);
    checkMode(mode, "mode");
    return this.#refuseExisting(path, "chmod", true);
  }
  async chown(path: PathLike, uid: number, gid: number): Promise<never> {
    pathBytes(path);
    checkOwnerId(uid, "uid");
    checkOwnerId(gid, "gid");
    return this.#refuseExisting(path, "chown", true);
  }
  async lchown(path: PathLike, uid: number, gid: number): Promise<never> {
    pathBytes(path);
    checkOwnerId(uid, "uid");
    checkOwnerId(gid, "gid");
    return this.#refuseExisting(path, "lchown", false);
  }
  /** Linux has no such call. */
  async lchmod(_path: PathLike, _mode: string | number): Promise<never> {
    throw codedError("ERR_METHOD_NOT_IMPLEMENTED", "The lchmod() method is not implemented");
  }
  async utimes(path: PathLike, atime: unknown, mtime: unknown): Promise<never> {
    pathBytes(path);
    checkTime(atime, "time");
    checkTime(mtime, "time");
    return this.#refuseExisting(path, "utime", true);
  }
  async lutimes(path: PathLike, atime: unknown, mtime: unknown): Promise<never> {
    pathBytes(path);
    checkTime(atime, "time");
    checkTime(mtime, "time");
    return this.#refuseExisting(path, "lutime", false);
  }
  async truncate(path: PathLike, lengthBytes?: number | null): Promise<void> {
    const handle = await this.open(path, "r+");
    await handle.truncate(lengthBytes);
  }
  async unlink(path: PathLike): Promise<never> {
    const { kind } = await this.#parent(path, "unlink");
    throw new FsError(kind === "name" ? "EROFS" : "EISDIR", {
      syscall: "unlink",
      path: pathText(path),
    });
  }
  async rmdir(path: PathLike, _options?: unknown): Promise<never> {
    const { kind } = await this.#parent(path, "rmdir");
    const code = ({ name: "EROFS", ".": "EINVAL", "..": "ENOTEMPTY", "/": "EBUSY" } as const)[kind];
    throw new FsError(code, { syscall: "rmdir", path: pathText(path) });
  }
  /** With `force` a missing path is no error. */
  async rm(path: PathLike, options?: { force?: boolean; recursive?: boolean }): Promise<void> {
    let isDirectory: boolean;
    try {
      isDirectory = (await this.at(path, "lstat", false)).inode.type === "directory";
    } catch (error) {
      if (options?.force === true && hasErrnoCode(error) && error.code === "ENOENT") return;
      throw error;
    }
    if (isDirectory && options?.recursive !== true) throw isDirectoryError(path);
    throw new FsError("EROFS", { syscall: isDirectory ? "rm" : "unlink", path: pathText(path) });
  }
  /** With `recursive` a directory that is there already is no error. */
  async mkdir(
    path: PathLike,
    options?: number | string | { recursive?: boolean; mode?: number | string } | null,
  ): Promise<string | undefined> {
    const isObject = typeof options === "object" && options !== null;
    checkMode(isObject ? options.mode : options, "mode", 0o777);
    if (isObject && options.recursive) return this.#mkdirAll(path);
    return this.#refuseNew(path, "mkdir", { syscall: "mkdir", path: pathText(path) }, true);
  }
  async mkdtemp(prefix: PathLike): Promise<never> {
    pathBytes(prefix, "prefix");
    const path = `${pathText(prefix)}XXXXXX`;
    return this.#refuseNew(path, "mkdtemp", { syscall: "mkdtemp", path }, true);
  }
  async symlink(target: PathLike, path: PathLike, _type?: string | null): Promise<never> {
    pathBytes(target, "target");
    pathBytes(path);
    const where = { syscall: "symlink", path: pathText(target), dest: pathText(path) };
    return this.#refuseNew(path, "symlink", where, false);
  }
  async link(existing: PathLike, path: PathLike): Promise<never> {
    const where = pairOf("link", existing, "existingPath", path, "newPath");
    await located(where, () => this.at(existing, "link", false));
    return this.#refuseNew(path, "link", where, false);
  }
  async rename(from: PathLike, to: PathLike): Promise<never> {
    const where = pairOf("rename", from, "oldPath", to, "newPath");
    const old = await located(where, () => this.#parent(from, "rename"));
    const wanted = await located(where, () => this.#parent(to, "rename"));
    const isBusy = old.kind !== "name" || wanted.kind !== "name";
    throw new FsError(isBusy ? "EBUSY" : "EROFS", where);
  }
  async copyFile(from: PathLike, to: PathLike, _mode?: number): Promise<never> {
    const where = pairOf("copyfile", from, "src", to, "dest");
    await located(where, () => this.at(from, "open", true));
    await located(where, () => this.open(to, "w"));
    throw new FsError("EROFS", where);
  }
  async cp(from: PathLike, to: PathLike, _options?: unknown): Promise<never> {
    const where = pairOf("cp", from, "src", to, "dest");
    await located(where, () => this.at(from, "lstat", false));
    throw new FsError("EROFS", where);
  }
  async writeFile(
    path: PathLike | FileHandle,
    data: unknown,
    options?: WriteFileOptions | Encoding,
  ): Promise<void> {
    return this.#write(path, data, options, "w");
  }
  async appendFile(
    path: PathLike | FileHandle,
    data: unknown,
    options?: WriteFileOptions | Encoding,
  ): Promise<void> {
    return this.#write(path, data, options, "a");
  }

  /** Throws what `open` with `O_CREAT` meets first; returns if the file is there to be opened. */
  protected async checkCreate(path: PathLike, flags: number, signal?: AbortSignal): Promise<void> {
    const where = { syscall: "open", path: pathText(path) };
    const { kind, hasSlash } = await this.#parent(path, "open");
    if (kind === "name" && hasSlash) throw new FsError("EISDIR", where);
    const follows = (flags & (O_EXCL | O_NOFOLLOW)) === 0;
    const found = await this.atOrNew(path, "open", follows, signal);
    if (found === null) throw new FsError("EROFS", where);
    if ((flags & (O_CREAT | O_EXCL)) === (O_CREAT | O_EXCL)) throw new FsError("EEXIST", where);
  }

  async #write(
    path: PathLike | FileHandle,
    data: unknown,
    options: WriteFileOptions | Encoding,
    flag: string,
  ): Promise<void> {
    const given = optionsOf<WriteFileOptions>(options);
    const isIterable = typeof data === "object" && data !== null && isAnyIterable(data);
    if (typeof data !== "string" && !ArrayBuffer.isView(data) && !isIterable) {
      const kinds = "of type string or an instance of Buffer, TypedArray, or DataView";
      throw invalidArgType("data", kinds, data);
    }
    given.signal?.throwIfAborted();
    const isPath = typeof path === "string" || path instanceof URL || path instanceof Uint8Array;
    if (!isPath && path && typeof path === "object" && "fd" in path) return path.writeFile(data);
    const handle = await this.open(path as PathLike, given.flag ?? flag, given.mode ?? 0o666);
    try {
      await handle.writeFile(data);
    } finally {
      await handle.close();
    }
  }

  /** Undefined for a directory; else the error names the first directory that would be made. */
  async #mkdirAll(path: PathLike): Promise<undefined> {
    const { inode, missing } = await this.#firstMissing(path, pathBytes(path));
    if (inode?.type === "directory") return undefined;
    const code = inode === undefined ? "ENOENT" : "EEXIST";
    throw new FsError(code, { syscall: "mkdir", path: pathText(missing) });
  }

  /** The inode at `path`, or else the shortest part of the path with nothing there. */
  async #firstMissing(
    path: PathLike,
    part: Uint8Array,
  ): Promise<{ readonly inode?: VfsInode; readonly missing: PathLike }> {
    try {
      return { inode: (await this.at(path, "mkdir", true)).inode, missing: path };
    } catch (error) {
      const { kind, parent } = lastNameOf(part);
      const isMissing = hasErrnoCode(error) && error.code === "ENOENT";
      if (!isMissing || kind !== "name") throw error;
      const above = lastNameOf(parent).bare;
      const found =
        above.length === 0 ? undefined : await this.#firstMissing(pathText(above), above);
      return { missing: found !== undefined && found.inode === undefined ? found.missing : path };
    }
  }

  /** Walks to where the last component of `path` is to be found. Errors name `path`. */
  async #parent(path: PathLike, syscall: string): Promise<LastName> {
    const last = lastNameOf(pathBytes(path));
    if (pathBytes(path).length === 0 || last.kind !== "name") await this.at(path, syscall, true);
    try {
      const { inode } = await this.at(last.parent, syscall, true);
      if (inode.type !== "directory") throw new FsError("ENOTDIR");
    } catch (error) {
      if (!hasErrnoCode(error)) throw error;
      throw new FsError(error.code, { syscall, path: pathText(path), cause: error.cause });
    }
    return last;
  }

  async #refuseExisting(path: PathLike, syscall: string, follows: boolean): Promise<never> {
    await this.at(path, syscall, follows);
    throw new FsError("EROFS", { syscall, path: pathText(path) });
  }

  async #refuseNew(
    path: PathLike,
    syscall: string,
    where: { readonly syscall: string; readonly path: string; readonly dest?: string },
    isDirectory: boolean,
  ): Promise<never> {
    const { kind, hasSlash, bare } = await located(where, () => this.#parent(path, syscall));
    if (kind !== "name") throw new FsError("EEXIST", where);
    const found = await located(where, () => this.atOrNew(bare, syscall, false));
    if (found !== null) throw new FsError("EEXIST", where);
    throw new FsError(hasSlash && !isDirectory ? "ENOENT" : "EROFS", where);
  }
}

function isAnyIterable(data: object): boolean {
  return Symbol.iterator in data || Symbol.asyncIterator in data;
}

/** `ERR_FS_EISDIR`, which `rm` throws by itself: not an errno's error, but one like it. */
function isDirectoryError(path: PathLike): Error {
  const info = { code: "EISDIR", message: "is a directory", path: pathText(path), syscall: "rm" };
  const text = `Path is a directory: rm returned EISDIR (is a directory) ${info.path}`;
  const error = codedError("ERR_FS_EISDIR", text, "SystemError");
  const { syscall } = info;
  return Object.assign(error, {
    errno: 21,
    info: { ...info, errno: 21 },
    syscall,
    path: info.path,
  });
}

function lastNameOf(path: Uint8Array): LastName {
  let end = path.length;
  while (end > 0 && path[end - 1] === SLASH) end--;
  let from = end;
  while (from > 0 && path[from - 1] !== SLASH) from--;
  const name = path.subarray(from, end);
  const isDots = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
  const dots = name.length === 1 ? "." : "..";
  const kind = name.length === 0 ? "/" : isDots ? dots : "name";
  const parent = from === 0 ? DOT : path.subarray(0, from);
  return { kind, hasSlash: end < path.length, bare: path.subarray(0, end), parent };
}

interface PairOfPaths {
  readonly syscall: string;
  readonly path: string;
  readonly dest: string;
}

function pairOf(
  syscall: string,
  from: PathLike,
  fromName: string,
  to: PathLike,
  toName: string,
): PairOfPaths {
  pathBytes(from, fromName);
  pathBytes(to, toName);
  return { syscall, path: pathText(from), dest: pathText(to) };
}

/** Waits for `task`, whose errors get the place that the user knows. */
async function located<T>(
  where: { readonly syscall: string; readonly path: string; readonly dest?: string },
  task: () => T | Promise<T>,
): Promise<T> {
  try {
    return await task();
  } catch (error) {
    if (!hasErrnoCode(error)) throw error;
    throw new FsError(error.code, { ...where, cause: error.cause });
  }
}
