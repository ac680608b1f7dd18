/**
 * The calls of `fs.promises` that change what an inode says about itself: mode, owner, times,
 * extended attributes. Arguments are checked as Node checks them, before anything is looked up.
 *
 * After `fs/open.c` (`chmod_common`, `chown_common`), `fs/utimes.c` and `fs/xattr.c` of Linux in
 * the order of errors.
 */
import { MAY_WRITE } from "../fs/permission.ts";
import type { VfsInode } from "../fs/vfs.ts";
import { type AttributeChange, XATTR_CREATE, XATTR_REPLACE } from "../fs/vfs-write.ts";
import { FsError } from "../lib/errno.ts";
import { andThen, type MaybeAsync } from "../lib/maybe.ts";
import {
  checkMode,
  checkOwnerId,
  codedError,
  invalidArgType,
  invalidArgValue,
  type PathLike,
  pathBytes,
  pathText,
} from "./arguments.ts";
import { PERMISSION_BITS } from "./attributes.ts";
import { viewOf } from "./read-request.ts";
import { type TimeLike, timeOf } from "./times.ts";
import { VolumeBase } from "./volume-base.ts";

/** How an extended attribute is to be set. */
export interface SetXattrOptions {
  /** Of the link itself, not of what it leads to. */
  readonly followLinks?: boolean | undefined;
  /** "create" fails with `EEXIST` if it is there, "replace" with `ENODATA` if it is not. */
  readonly mode?: "create" | "replace" | undefined;
  readonly signal?: AbortSignal | undefined;
}

const XATTR_FLAGS: ReadonlyMap<string, number> = new Map([
  ["create", XATTR_CREATE],
  ["replace", XATTR_REPLACE],
]);

export abstract class AttributeCalls extends VolumeBase {
  async chmod(path: PathLike, mode: string | number): Promise<void> {
    pathBytes(path);
    const bits = checkMode(mode, "mode") & PERMISSION_BITS;
    await this.#change(path, "chmod", true, (inode) => {
      this.checkOwner(inode, "chmod");
      return { mode: bits };
    });
  }

  async chown(path: PathLike, uid: number, gid: number): Promise<void> {
    await this.#chown(path, uid, gid, "chown", true);
  }

  async lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    await this.#chown(path, uid, gid, "lchown", false);
  }

  /** Linux has no such call. */
  async lchmod(_path: PathLike, _mode: string | number): Promise<never> {
    throw codedError("ERR_METHOD_NOT_IMPLEMENTED", "The lchmod() method is not implemented");
  }

  /** Times as Node takes them, or nanoseconds since 1970 as `bigint`. */
  async utimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
    await this.#utimes(path, atime, mtime, "utime", true);
  }

  async lutimes(path: PathLike, atime: TimeLike, mtime: TimeLike): Promise<void> {
    await this.#utimes(path, atime, mtime, "lutime", false);
  }

  /** Sets the extended attribute with the full name `name`, "user.x" say, in the form users see. */
  async setXattr(
    path: PathLike,
    name: string,
    value: ArrayBufferView,
    options: SetXattrOptions = {},
  ): Promise<void> {
    if (!ArrayBuffer.isView(value)) {
      throw invalidArgType("value", "an instance of Buffer, TypedArray, or DataView", value);
    }
    const { mode } = options;
    const flags = mode === undefined ? 0 : XATTR_FLAGS.get(mode);
    if (flags === undefined) {
      throw invalidArgValue("options.mode", mode, "must be 'create' or 'replace'");
    }
    await this.#setXattr(path, "setxattr", name, viewOf(value), flags, options);
  }

  /** Takes an extended attribute away. Throws `ENODATA` if it is not there. */
  async removeXattr(path: PathLike, name: string, options: SetXattrOptions = {}): Promise<void> {
    await this.#setXattr(path, "removexattr", name, null, 0, options);
  }

  async #chown(
    path: PathLike,
    uid: number,
    gid: number,
    syscall: string,
    follows: boolean,
  ): Promise<void> {
    pathBytes(path);
    checkOwnerId(uid, "uid");
    checkOwnerId(gid, "gid");
    await this.#change(path, syscall, follows, (inode) => {
      this.checkChown(inode, uid, gid, syscall);
      return this.privileges.chowning(inode, uid, gid);
    });
  }

  async #utimes(
    path: PathLike,
    atime: TimeLike,
    mtime: TimeLike,
    syscall: string,
    follows: boolean,
  ): Promise<void> {
    pathBytes(path);
    const change: AttributeChange = this.chosen(syscall, path, () => ({
      atime: timeOf(atime, "time", this.clock),
      mtime: timeOf(mtime, "time", this.clock),
    }));
    await this.#change(path, syscall, follows, (inode) => {
      this.checkOwner(inode, syscall);
      return change;
    });
  }

  async #change(
    path: PathLike,
    syscall: string,
    follows: boolean,
    changeOf: (inode: VfsInode) => MaybeAsync<AttributeChange>,
  ): Promise<void> {
    const { inode, parentIno, names } = await this.at(path, syscall, follows);
    const { writer } = this;
    if (writer === undefined) throw new FsError("EROFS", { syscall, path: pathText(path) });
    await this.guard(syscall, path, () =>
      andThen(changeOf(inode), (change) => writer.setAttributes(inode, change)),
    );
    const name = names.at(-1);
    if (name !== undefined) this.changes.changed({ dirIno: parentIno, name, names }, inode.ino);
  }

  async #setXattr(
    path: PathLike,
    syscall: string,
    name: string,
    value: Uint8Array | null,
    flags: number,
    { followLinks, signal }: SetXattrOptions,
  ): Promise<void> {
    if (typeof name !== "string") throw invalidArgType("name", "of type string", name);
    const { inode } = await this.at(path, syscall, followLinks !== false, signal);
    const { writer } = this;
    if (writer === undefined) throw new FsError("EROFS", { syscall, path: pathText(path) });
    if (this.caller.uid !== 0) await this.guard(syscall, path, () => this.#checkXattr(inode, name));
    await this.guard(syscall, path, () => writer.setXattr(inode, name, value, flags, signal));
    this.privileges.mayHaveBeenGiven();
  }

  /** What others than root may set (`xattr_permission`). */
  async #checkXattr(inode: VfsInode, name: string): Promise<void> {
    if (name.startsWith("trusted.") || name.startsWith("security.")) throw new FsError("EPERM");
    if (name.startsWith("system.")) this.checkOwner(inode, "setxattr");
    else await this.checkAccess(inode, MAY_WRITE);
  }
}
