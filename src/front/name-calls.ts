/**
 * The calls of `fs.promises` that make names, move them and take them away. Errors come in the
 * order in which the kernel meets them:
 *
 *     a new name         the parent, EEXIST, EROFS, then EACCES      mkdir, symlink, link
 *     a name goes away   the parent, EROFS, ENOENT, then EACCES      unlink, rmdir, rename
 *
 * After `filename_create`, `do_unlinkat`, `do_rmdir` and `do_renameat2` of `fs/namei.c`.
 */
import type { NewPlace, WalkResult } from "../fs/namei.ts";
import {
  isOwner,
  isStickyFor,
  MAY_EXEC,
  MAY_READ,
  MAY_WRITE,
  mayAccess,
} from "../fs/permission.ts";
import type { VfsInode } from "../fs/vfs.ts";
import { type FileSystemWriter, type NewInode, RENAME_NOREPLACE } from "../fs/vfs-write.ts";
import { FsError } from "../lib/errno.ts";
import { andThen, type MaybeAsync } from "../lib/maybe.ts";
import { checkInteger, checkMode, type PathLike, pathBytes, pathText } from "./arguments.ts";
import { AttributeCalls } from "./attribute-calls.ts";
import { createdMode, runsAsOther } from "./attributes.ts";
import { FileHandle } from "./file-handle.ts";
import { type LastName, lastNameOf } from "./last-name.ts";
import { checkFlag, checkSymlinkType } from "./option-checks.ts";
import { placed, type Where } from "./volume-base.ts";

const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFIFO = 0o010000;
const S_IFSOCK = 0o140000;
const DIR_MODE_DEFAULT = 0o777;
const LINK_MODE = 0o777;
const TARGET_BYTES_MAX = 4095;
const NAME_BYTES_MAX = 255;
const SLASH = 0x2f;
const UINT32_MAX = 2 ** 32 - 1;
/** Numbers of devices as the format keeps them. */
const MAJOR_MAX = 2 ** 12 - 1;
const MINOR_MAX = 2 ** 20 - 1;

/** A name and the directory it stands or could stand in. */
export interface Place {
  readonly dir: VfsInode;
  /** Names from the root to the directory. */
  readonly dirNames: readonly Uint8Array[];
  readonly last: LastName;
}

/** What `rename` may be asked for beyond Node's. */
export interface RenameOptions {
  /** `RENAME_NOREPLACE`, `RENAME_EXCHANGE` of `quirefs/fs`. */
  readonly flags?: number | undefined;
}

export abstract class NameCalls extends AttributeCalls {
  /**
   * Makes a directory. With `recursive` those above it too, and one that is there already is no
   * error; the first one that was made is returned.
   */
  async mkdir(
    path: PathLike,
    options?: number | string | { recursive?: boolean; mode?: number | string } | null,
  ): Promise<string | undefined> {
    const isObject = typeof options === "object" && options !== null;
    pathBytes(path);
    if (isObject) checkFlag(options, "recursive");
    const mode = checkMode(isObject ? options.mode : options, "mode", DIR_MODE_DEFAULT);
    if (isObject && options.recursive) return this.#mkdirAll(path, mode);
    const where = { syscall: "mkdir", path: pathText(path) };
    await this.makeNew(path, where, this.newInode(S_IFDIR, mode & 0o1777), true);
    return undefined;
  }

  /** `type` is of Windows; it is checked, and needed for nothing here. */
  async symlink(target: PathLike, path: PathLike, type?: string | null): Promise<void> {
    const bytes = pathBytes(target, "target");
    pathBytes(path);
    checkSymlinkType(type);
    const where = { syscall: "symlink", path: pathText(target), dest: pathText(path) };
    if (bytes.length === 0) throw new FsError("ENOENT", where);
    if (bytes.length > TARGET_BYTES_MAX) throw new FsError("ENAMETOOLONG", where);
    await this.makeNew(path, where, { ...this.newInode(S_IFLNK, LINK_MODE), target: bytes }, false);
  }

  /** Makes a device, FIFO or socket; `mode` has its type (`mknod`). */
  async mknod(path: PathLike, mode: number, rdevMajor = 0, rdevMinor = 0): Promise<void> {
    pathBytes(path);
    checkInteger(mode, "mode", 0, UINT32_MAX);
    checkInteger(rdevMajor, "rdevMajor", 0, MAJOR_MAX);
    checkInteger(rdevMinor, "rdevMinor", 0, MINOR_MAX);
    const where = { syscall: "mknod", path: pathText(path) };
    const type = checkNodeType(mode, where);
    const what = { ...this.newInode(type, mode & 0o7777), rdevMajor, rdevMinor };
    await this.makeNew(path, where, what, false);
  }

  /** Gives a file one more name; also one that was opened without a name (`O_TMPFILE`). */
  async link(existing: PathLike | FileHandle, path: PathLike): Promise<void> {
    const isHandle = existing instanceof FileHandle;
    if (!isHandle) pathBytes(existing, "existingPath");
    pathBytes(path, "newPath");
    const from = isHandle ? "" : pathText(existing);
    const where = { syscall: "link", path: from, dest: pathText(path) };
    const inode = isHandle
      ? await placed(where, () => existing.inodeToLink(this.writer))
      : (await placed(where, () => this.at(existing, "link", false))).inode;
    const place = await this.newPlace(path, where, false);
    const writer = this.#writerFor(where);
    await placed(where, async () => {
      if (this.caller.uid !== 0) await this.#checkLink(inode);
      await this.checkAccess(place.dir, MAY_WRITE | MAY_EXEC);
      await this.underParent(writer.link(inode, place.dir, place.last.name), place);
    });
    this.told(place, inode.ino);
  }

  async unlink(path: PathLike): Promise<void> {
    const bytes = pathBytes(path);
    const where = { syscall: "unlink", path: pathText(path) };
    const place = await this.parentOf(bytes, where);
    if (place.last.kind !== "name") throw new FsError("EISDIR", where);
    const writer = this.#writerFor(where);
    const unlink = (inode: VfsInode): MaybeAsync<void> => {
      if (inode.type === "directory") throw new FsError("EISDIR", where);
      if (place.last.hasSlash) throw new FsError("ENOTDIR", where);
      const gone = this.underParent(writer.unlink(place.dir, place.last.name), place);
      return andThen(gone, () => this.told(place, inode.ino));
    };
    await placed(where, () => andThen(this.#victim(place), unlink));
  }

  async rmdir(path: PathLike): Promise<void> {
    const bytes = pathBytes(path);
    const where = { syscall: "rmdir", path: pathText(path) };
    const place = await this.parentOf(bytes, where);
    const { kind } = place.last;
    if (kind !== "name") {
      throw new FsError(({ ".": "EINVAL", "..": "ENOTEMPTY", "/": "EBUSY" } as const)[kind], where);
    }
    const writer = this.#writerFor(where);
    const rmdir = (inode: VfsInode): MaybeAsync<void> => {
      if (inode.type !== "directory") throw new FsError("ENOTDIR", where);
      const gone = this.underParent(writer.rmdir(place.dir, place.last.name), place);
      return andThen(gone, () => this.told(place, inode.ino));
    };
    await placed(where, () => andThen(this.#victim(place), rmdir));
  }

  /** Moves a name, over another one unless the flags say otherwise: both names are never gone. */
  async rename(from: PathLike, to: PathLike, options?: RenameOptions | null): Promise<void> {
    const fromBytes = pathBytes(from, "oldPath");
    const toBytes = pathBytes(to, "newPath");
    const where = { syscall: "rename", path: pathText(from), dest: pathText(to) };
    const old = await this.parentOf(fromBytes, where);
    const wanted = await this.parentOf(toBytes, where);
    if (old.last.kind !== "name" || wanted.last.kind !== "name") throw new FsError("EBUSY", where);
    const writer = this.#writerFor(where);
    const flags = options?.flags ?? 0;
    const move = (inode: VfsInode): MaybeAsync<void> => {
      const moved = writer.rename(old.dir, old.last.name, wanted.dir, wanted.last.name, flags);
      return andThen(this.underParent(this.underParent(moved, old), wanted), () => {
        this.told(old, inode.ino);
        this.told(wanted, inode.ino);
      });
    };
    const check = (inode: VfsInode): MaybeAsync<void> => {
      // Both names are looked up before it is asked what they may be.
      if (wanted.last.name.length > NAME_BYTES_MAX) throw new FsError("ENAMETOOLONG", where);
      const isSlashed = old.last.hasSlash || wanted.last.hasSlash;
      if (inode.type !== "directory" && isSlashed) throw new FsError("ENOTDIR", where);
      if (this.caller.uid === 0) return move(inode);
      return this.#checkRename(old, wanted, inode, toBytes, flags).then(() => move(inode));
    };
    await placed(where, () => andThen(this.#found(old), check));
  }

  /** What a new inode of the caller begins as. */
  protected newInode(type: number, mode: number): NewInode {
    const { uid, gid, umask } = this.caller;
    return { mode: type | mode, umask, uid, gid };
  }

  /** Makes `what` at `path`, where nothing may be yet. */
  protected async makeNew(
    path: PathLike,
    where: Where,
    what: NewInode,
    isDirectory: boolean,
  ): Promise<VfsInode> {
    const place = await this.newPlace(path, where, isDirectory);
    const writer = this.#writerFor(where);
    const make = (): MaybeAsync<VfsInode> => {
      if (this.caller.uid !== 0 && isDevice(what.mode)) throw new FsError("EPERM");
      const mode = createdMode(what.mode, place.dir, this.caller);
      const created = writer.create(place.dir, place.last.name, { ...what, mode });
      const made = this.underParent(created, place);
      return andThen(made, (inode) => {
        this.told(place, inode.ino);
        return inode;
      });
    };
    return placed(where, () => andThen(this.checkAccess(place.dir, MAY_WRITE | MAY_EXEC), make));
  }

  /** Where `path` can be made. Throws `EEXIST` if it is there, and what is wrong above it. */
  protected async newPlace(path: PathLike, where: Where, isDirectory: boolean): Promise<Place> {
    const bytes = pathBytes(path);
    const last = lastNameOf(bytes);
    if (bytes.length === 0 || last.kind !== "name") {
      await this.parentOf(path, where);
      throw new FsError("EEXIST", where);
    }
    const found = await placed(where, () => this.atOrNew(last.bare, where.syscall, false));
    if (found.inode !== undefined) throw new FsError("EEXIST", where);
    if (last.hasSlash && !isDirectory) throw new FsError("ENOENT", where);
    return { dir: found.parent, dirNames: found.parentNames, last };
  }

  /** Walks to where the last component of `path` is to be found. */
  protected parentOf(path: PathLike, where: Where): MaybeAsync<Place> {
    const bytes = pathBytes(path);
    const last = lastNameOf(bytes);
    const isName = bytes.length > 0 && last.kind === "name";
    const parent = (): MaybeAsync<Place> =>
      andThen(this.at(last.parent, where.syscall, true), ({ inode, names }) => {
        if (inode.type !== "directory") throw new FsError("ENOTDIR");
        return { dir: inode, dirNames: names, last };
      });
    return placed(where, () =>
      isName ? parent() : andThen(this.at(bytes, where.syscall, true), parent),
    );
  }

  /** Waits for a change of a name, and forgets what was known of it, whether it succeeds or not. */
  protected underParent<T>(change: MaybeAsync<T>, place: Place): MaybeAsync<T> {
    const forget = (): void => this.walker.forget(place.dirNames, place.last.name);
    if (change instanceof Promise) return change.finally(forget);
    forget();
    return change;
  }

  /** Tells those who watch that a name has come or gone. */
  protected told(place: Place, ino: number): void {
    if (!this.changes.isWatched) return;
    const { name } = place.last;
    const names = [...place.dirNames, name];
    this.changes.renamed({ dirIno: place.dir.ino, name, names }, ino);
  }

  #writerFor(where: Where): FileSystemWriter {
    if (this.writer === undefined) throw new FsError("EROFS", where);
    return this.writer;
  }

  /**
   * Others' files may be linked only if they may be written, and run as nobody else (`may_linkat`).
   */
  async #checkLink(inode: VfsInode): Promise<void> {
    const attributes = inode.attributes();
    if (isOwner(attributes, this.caller)) return;
    const isPlain = inode.type === "file" && !runsAsOther(inode);
    if (!isPlain) throw new FsError("EPERM");
    const isGiven = mayAccess(
      attributes,
      await this.aclOf(inode),
      this.caller,
      MAY_READ | MAY_WRITE,
    );
    if (!isGiven) throw new FsError("EPERM");
  }

  /** The inode that a name leads to, which is not a link's target. */
  #found(place: Place): MaybeAsync<VfsInode> {
    return andThen(this.at(place.last.bare, "lstat", false), ({ inode }) => inode);
  }

  /** As `#found`, if the caller may take the name away (`may_delete`). */
  #victim(place: Place): MaybeAsync<VfsInode> {
    return andThen(this.#found(place), (inode) => {
      if (this.caller.uid === 0) return inode;
      return this.#checkDelete(place.dir, inode).then(() => inode);
    });
  }

  async #checkDelete(dir: VfsInode, inode: VfsInode): Promise<void> {
    await this.checkAccess(dir, MAY_WRITE | MAY_EXEC);
    if (isStickyFor(dir.attributes(), inode.attributes(), this.caller)) throw new FsError("EPERM");
  }

  async #checkRename(
    old: Place,
    wanted: Place,
    inode: VfsInode,
    to: PathLike,
    flags: number,
  ): Promise<void> {
    await this.#checkDelete(old.dir, inode);
    const target: WalkResult | NewPlace = await this.atOrNew(to, "rename", false);
    if (target.inode === undefined || flags === RENAME_NOREPLACE) {
      await this.checkAccess(wanted.dir, MAY_WRITE | MAY_EXEC);
    } else {
      await this.#checkDelete(wanted.dir, target.inode);
    }
    // The `..` of a directory that moves is written.
    const moves = inode.type === "directory" && old.dir.ino !== wanted.dir.ino;
    if (moves) await this.checkAccess(inode, MAY_WRITE);
  }

  /** Makes what is missing of `path`, and returns the first directory that was made. */
  async #mkdirAll(path: PathLike, mode: number): Promise<string | undefined> {
    const bytes = pathBytes(path);
    const where = { syscall: "mkdir", path: pathText(path) };
    const missing: Uint8Array[] = [];
    for (let part = bytes; ; ) {
      const found = await this.#directoryAt(part, where);
      if (found) break;
      missing.push(part);
      if (await this.#directoryAt(lastNameOf(part).parent, where)) break;
      part = part.subarray(0, part.lastIndexOf(SLASH));
    }
    const first = missing.at(-1);
    if (first !== undefined && this.writer === undefined) {
      // As Node, which looks for it again when it could not be made.
      throw new FsError("ENOENT", { syscall: "mkdir", path: pathText(first) });
    }
    for (const part of missing.reverse()) {
      const partWhere = { syscall: "mkdir", path: pathText(part) };
      try {
        await this.makeNew(part, partWhere, this.newInode(S_IFDIR, mode & 0o1777), true);
      } catch (thrown) {
        const isThere = thrown instanceof FsError && thrown.code === "EEXIST";
        if (!isThere) throw thrown;
        if (await this.#directoryAt(part, where)) continue;
        // A link that leads nowhere.
        throw new FsError(part === missing.at(-1) ? "ENOENT" : "ENOTDIR", partWhere);
      }
    }
    return first === undefined ? undefined : pathText(first);
  }

  /** True if there is a directory; `EEXIST` or `ENOTDIR` if there is something else. */
  async #directoryAt(part: Uint8Array, where: Where): Promise<boolean> {
    try {
      const { inode } = await this.at(part, "mkdir", true);
      if (inode.type === "directory") return true;
    } catch (thrown) {
      const isMissing = thrown instanceof FsError && thrown.code === "ENOENT";
      if (isMissing && part.length > 0) return false;
      throw thrown;
    }
    const isLast = pathText(part) === where.path;
    throw new FsError(isLast ? "EEXIST" : "ENOTDIR", where);
  }
}

function isDevice(mode: number): boolean {
  const type = mode & S_IFMT;
  return type === S_IFCHR || type === S_IFBLK;
}

/** The type in `mode`, a regular file without one. */
function checkNodeType(mode: number, where: Where): number {
  const type = mode & S_IFMT;
  if (type === 0) return S_IFREG;
  if (type === S_IFDIR) throw new FsError("EPERM", where);
  if ([S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK].includes(type)) return type;
  throw new FsError("EINVAL", where);
}
