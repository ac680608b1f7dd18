/**
 * The half of `fs.promises` that changes something, on a volume that must not be changed.
 *
 * Each call looks first at what is there, as the kernel does on a read-only mount: a missing name
 * stays `ENOENT`, an existing one `EEXIST`, and only what would really change the volume fails with
 * `EROFS`.
 */
import { FsError, hasErrnoCode } from "../lib/errno.ts";
import { codedError, type PathLike, pathBytes, pathText } from "./arguments.ts";
import { VolumeBase } from "./volume-base.ts";

export abstract class ReadOnlyCalls extends VolumeBase {
  async chmod(path: PathLike, _mode: string | number): Promise<never> {
    return this.#refuseExisting(path, "chmod", true);
  }
  async chown(path: PathLike, _uid: number, _gid: number): Promise<never> {
    return this.#refuseExisting(path, "chown", true);
  }
  async lchown(path: PathLike, _uid: number, _gid: number): Promise<never> {
    return this.#refuseExisting(path, "lchown", false);
  }
  /** Linux has no such call. */
  async lchmod(_path: PathLike, _mode: string | number): Promise<never> {
    throw codedError("ERR_METHOD_NOT_IMPLEMENTED", "The lchmod() method is not implemented");
  }
  async utimes(path: PathLike, _atime: unknown, _mtime: unknown): Promise<never> {
    return this.#refuseExisting(path, "utime", true);
  }
  async lutimes(path: PathLike, _atime: unknown, _mtime: unknown): Promise<never> {
    return this.#refuseExisting(path, "lutime", false);
  }
  async truncate(path: PathLike, _lengthBytes?: number): Promise<never> {
    return this.#refuseExisting(path, "open", true);
  }
  async unlink(path: PathLike): Promise<never> {
    return this.#refuseExisting(path, "unlink", false);
  }
  async rmdir(path: PathLike, _options?: unknown): Promise<never> {
    return this.#refuseExisting(path, "rmdir", false);
  }
  /** With `force` a missing path is no error. */
  async rm(path: PathLike, options?: { force?: boolean; recursive?: boolean }): Promise<void> {
    try {
      await this.at(path, "rm", false);
    } catch (error) {
      if (options?.force === true && hasErrnoCode(error) && error.code === "ENOENT") return;
      throw error;
    }
    throw new FsError("EROFS", { syscall: "rm", path: pathText(path) });
  }
  /** With `recursive` a directory that is there already is no error. */
  async mkdir(
    path: PathLike,
    options?: number | string | { recursive?: boolean; mode?: number | string } | null,
  ): Promise<string | undefined> {
    const isRecursive = typeof options === "object" && options?.recursive === true;
    if (isRecursive && (await this.#isDirectory(path))) return undefined;
    return this.#refuseNew(path, "mkdir", isRecursive);
  }
  async mkdtemp(prefix: PathLike): Promise<never> {
    const path = `${pathText(prefix)}XXXXXX`;
    await this.checkParent(path, "mkdtemp");
    throw new FsError("EROFS", { syscall: "mkdtemp", path });
  }
  async symlink(target: PathLike, path: PathLike, _type?: string | null): Promise<never> {
    return this.#refusePair(target, path, "symlink", false, true);
  }
  async link(existing: PathLike, path: PathLike): Promise<never> {
    return this.#refusePair(existing, path, "link", true, true);
  }
  async rename(from: PathLike, to: PathLike): Promise<never> {
    return this.#refusePair(from, to, "rename", true);
  }
  async copyFile(from: PathLike, to: PathLike, _mode?: number): Promise<never> {
    return this.#refusePair(from, to, "copyfile", true);
  }
  async cp(from: PathLike, to: PathLike, _options?: unknown): Promise<never> {
    return this.#refusePair(from, to, "cp", true);
  }
  async writeFile(path: PathLike, _data: unknown, _options?: unknown): Promise<never> {
    return this.#refuseWrite(path);
  }
  async appendFile(path: PathLike, _data: unknown, _options?: unknown): Promise<never> {
    return this.#refuseWrite(path);
  }

  /** Throws what making a name in the parent of `path` would meet first: `ENOENT`, `ENOTDIR`. */
  protected async checkParent(path: PathLike, syscall: string): Promise<void> {
    const bytes = pathBytes(path);
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === 0x2f) end--;
    while (end > 0 && bytes[end - 1] !== 0x2f) end--;
    const parent = end === 0 ? new Uint8Array([0x2f]) : bytes.subarray(0, end);
    try {
      await this.at(parent, syscall, true);
    } catch (error) {
      if (!hasErrnoCode(error)) throw error;
      throw new FsError(error.code, { syscall, path: pathText(path), cause: error.cause });
    }
  }

  async #exists(path: PathLike, syscall: string): Promise<boolean> {
    try {
      await this.at(path, syscall, false);
      return true;
    } catch (error) {
      if (hasErrnoCode(error) && error.code === "ENOENT") return false;
      throw error;
    }
  }

  async #isDirectory(path: PathLike): Promise<boolean> {
    try {
      return (await this.at(path, "mkdir", true)).inode.type === "directory";
    } catch (error) {
      if (hasErrnoCode(error) && error.code === "ENOENT") return false;
      throw error;
    }
  }

  async #refuseExisting(path: PathLike, syscall: string, follows: boolean): Promise<never> {
    await this.at(path, syscall, follows);
    throw new FsError("EROFS", { syscall, path: pathText(path) });
  }

  async #refuseNew(path: PathLike, syscall: string, isRecursive: boolean): Promise<never> {
    const where = { syscall, path: pathText(path) };
    try {
      await this.at(path, syscall, false);
    } catch (error) {
      if (!hasErrnoCode(error) || error.code !== "ENOENT") throw error;
      if (!isRecursive) await this.checkParent(path, syscall);
      throw new FsError("EROFS", where);
    }
    throw new FsError("EEXIST", where);
  }

  async #refuseWrite(path: PathLike): Promise<never> {
    const where = { syscall: "open", path: pathText(path) };
    let isDirectory = false;
    try {
      isDirectory = (await this.at(path, "open", true)).inode.type === "directory";
    } catch (error) {
      if (!hasErrnoCode(error) || error.code !== "ENOENT") throw error;
      await this.checkParent(path, "open");
    }
    throw new FsError(isDirectory ? "EISDIR" : "EROFS", where);
  }

  async #refusePair(
    from: PathLike,
    to: PathLike,
    syscall: string,
    mustExist: boolean,
    mustBeNew = false,
  ): Promise<never> {
    pathBytes(from);
    pathBytes(to);
    const where = { syscall, path: pathText(from), dest: pathText(to) };
    try {
      if (mustExist) await this.at(from, syscall, false);
      await this.checkParent(to, syscall);
      if (mustBeNew && (await this.#exists(to, syscall))) throw new FsError("EEXIST");
    } catch (error) {
      if (!hasErrnoCode(error)) throw error;
      throw new FsError(error.code, where);
    }
    throw new FsError("EROFS", where);
  }
}
