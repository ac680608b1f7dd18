/**
 * What all calls of `volume.fs` stand on: from a path to an inode with the errors of Node, in whose
 * name they are made, the set of open handles, and an end that waits for whoever is still at work.
 *
 *     VolumeBase <-- AttributeCalls <-- NameCalls <-- ContentCalls <-- TreeCalls
 *                                               VolumeFs <-- CachedCalls <---|
 *
 *  1. Every wait for the file system goes through `at` or `guard`, which count it: closing waits
 *     until none is left, and from then on each call fails with `EBADF`.
 *  2. On a read-only volume each call that changes something fails with `EROFS` where the kernel
 *     would look at that: `writer` is what says so.
 */
import { FileLocks, WHOLE_FILE } from "../fs/file-locks.ts";
import { type NewPlace, PathWalker, type WalkResult } from "../fs/namei.ts";
import {
  type Caller,
  isOwner,
  MAY_EXEC,
  MAY_READ,
  MAY_WRITE,
  mayAccess,
  mayChown,
} from "../fs/permission.ts";
import type { FileSystem, InodeAttributes, VfsInode } from "../fs/vfs.ts";
import type { FileSystemWriter } from "../fs/vfs-write.ts";
import type { Clock } from "../lib/clock.ts";
import { type ErrnoCode, FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import type { Random } from "../lib/random.ts";
import { checkSignal, type PathLike, pathBytes, pathText } from "./arguments.ts";
import { droppedMode } from "./attributes.ts";
import { Changes, type NamePlace } from "./changes.ts";
import { FileHandle } from "./file-handle.ts";
import type { OpenFile, OpenFileOwner } from "./open-file.ts";
import {
  ACCESS_MASK,
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_NOATIME,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  wantsWrite,
} from "./open-flags.ts";
import { Privileges } from "./privileges.ts";

/** Of `FS_IOC_GETFLAGS`. */
const IMMUTABLE_FL = 0x10;
const VERITY_FL = 0x10_0000;
const APPEND_FL = 0x20;
const FIXED = { detail: "it is immutable, or may only be appended to" };
const ACL_NAME = "system.posix_acl_access";

/** In whose name, and by whose clock, the calls are made. */
export interface VolumeContext {
  readonly caller: Caller;
  readonly clock: Clock;
  readonly random: Random;
}

export abstract class VolumeBase implements OpenFileOwner {
  readonly changes: Changes = new Changes();
  readonly clock: Clock;
  readonly privileges: Privileges;
  protected readonly fileSystem: FileSystem;
  protected readonly caller: Caller;
  protected readonly random: Random;
  protected readonly walker: PathWalker;
  readonly #open = new Set<OpenFile>();
  readonly #locks = new WeakMap<VfsInode, FileLocks>();
  readonly #idleWaiters = new WaitQueue();
  #lastFd = 2;
  #busyCount = 0;
  #isClosed = false;
  #backgroundFailure: { readonly thrown: unknown } | undefined;

  constructor(fileSystem: FileSystem, context: VolumeContext) {
    this.fileSystem = fileSystem;
    this.caller = context.caller;
    this.clock = context.clock;
    this.random = context.random;
    this.privileges = new Privileges(fileSystem, context.caller);
    const mayEnter = (dir: VfsInode): MaybeAsync<void> => this.checkAccess(dir, MAY_EXEC);
    const isChecked = context.caller.uid !== 0;
    this.walker = new PathWalker(fileSystem, undefined, isChecked ? mayEnter : undefined);
  }

  get writer(): FileSystemWriter | undefined {
    return this.fileSystem.writer;
  }

  /** Number of open handles, which closing the volume closes. */
  get openHandles(): number {
    return this.#open.size;
  }

  nextFd(): number {
    this.#lastFd += 1;
    return this.#lastFd;
  }

  closed(handle: OpenFile): void {
    this.#open.delete(handle);
  }

  inBackground(work: Promise<void>): void {
    this.#busyCount++;
    const ended = (): void => {
      this.#busyCount--;
      if (this.#busyCount === 0) this.#idleWaiters.wakeAll();
    };
    work.then(ended, (thrown: unknown) => {
      this.#backgroundFailure ??= { thrown };
      ended();
    });
  }

  /**
   * Refuses new calls, closes what is open and waits for calls under way. For the volume alone.
   * Throws what work in the background has failed with.
   */
  async closeAll(): Promise<void> {
    this.#isClosed = true;
    this.changes.end();
    const failures: unknown[] = [];
    for (const handle of [...this.#open]) {
      await handle.close().catch((thrown: unknown) => failures.push(thrown));
    }
    while (this.#busyCount > 0) await this.#idleWaiters.wait();
    this.walker.clear();
    if (this.#backgroundFailure !== undefined) failures.push(this.#backgroundFailure.thrown);
    if (failures.length > 0) throw failures[0];
  }

  unlockAll(handle: OpenFile, inode: VfsInode): void {
    this.#locks.get(inode)?.unlock(handle, WHOLE_FILE);
  }

  locksOf(inode: VfsInode): FileLocks {
    let locks = this.#locks.get(inode);
    if (locks === undefined) {
      locks = new FileLocks();
      this.#locks.set(inode, locks);
    }
    return locks;
  }

  checkOwner(inode: VfsInode, syscall: string): void {
    if (!isOwner(inode.attributes(), this.caller)) throw new FsError("EPERM", { syscall });
  }

  checkChown(inode: VfsInode, uid: number, gid: number, syscall: string): void {
    const attributes = inode.attributes();
    const isGiven = mayChown(attributes, uid, gid, this.caller);
    // Taking bits off is changing the mode.
    const isChanged = droppedMode(inode, this.caller) !== undefined;
    if (isGiven && (!isChanged || isOwner(attributes, this.caller))) return;
    throw new FsError("EPERM", { syscall });
  }

  located<T>(syscall: string, task: () => MaybeAsync<T>): MaybeAsync<T> {
    return this.guard(syscall, undefined, task);
  }

  /** What `choose` says, whose errors get the call and the path that the user named. */
  protected chosen<T>(syscall: string, path: PathLike, choose: () => T): T {
    try {
      return choose();
    } catch (error) {
      throw located(error, syscall, pathText(path));
    }
  }

  /**
   * Throws `EACCES` unless the caller may do all of `wanted` (`MAY_*`) with the inode; `EPERM`
   * where nobody may write it.
   */
  protected checkAccess(inode: VfsInode, wanted: number): MaybeAsync<void> {
    const attributes = inode.attributes();
    const isWrite = (wanted & MAY_WRITE) !== 0;
    if (isWrite && isFixed(attributes, O_APPEND)) throw new FsError("EPERM", FIXED);
    const acl = this.caller.uid === 0 ? undefined : this.aclOf(inode);
    return andThen(acl, (list) => {
      if (!mayAccess(attributes, list, this.caller, wanted)) throw new FsError("EACCES");
    });
  }

  /** Throws `EACCES` unless the caller may list the directory, as it lies in `above`. */
  protected checkListing(inode: VfsInode, above: VfsInode | undefined): MaybeAsync<void> {
    if (this.caller.uid === 0) return undefined;
    const entered = above === undefined ? undefined : this.checkAccess(above, MAY_EXEC);
    return andThen(entered, () => this.checkAccess(inode, MAY_READ));
  }

  /** The access control list of the inode, in the form that users see, if it has one. */
  protected aclOf(inode: VfsInode): MaybeAsync<Uint8Array | undefined> {
    return andThen(this.fileSystem.xattrs(inode), (xattrs) => xattrs.get(ACL_NAME));
  }

  /** The inode at `path`. Errors name `syscall` and `path`; `argument` is what Node calls that. */
  protected at(
    path: PathLike,
    syscall: string,
    follows: boolean,
    signal?: AbortSignal,
    argument = "path",
  ): MaybeAsync<WalkResult> {
    const bytes = pathBytes(path, argument);
    checkSignal(signal);
    signal?.throwIfAborted();
    // realpath(3) goes by its own steps, whatever the length of the path.
    const lengthMax = syscall === "realpath" ? Number.POSITIVE_INFINITY : undefined;
    return this.guard(syscall, path, () => this.walker.walk(bytes, follows, signal, lengthMax));
  }

  /** As `at`, but where only the last name is missing, the place where it could be made. */
  protected atOrNew(
    path: PathLike,
    syscall: string,
    follows: boolean,
    signal?: AbortSignal,
  ): MaybeAsync<WalkResult | NewPlace> {
    const bytes = pathBytes(path);
    signal?.throwIfAborted();
    return this.guard(syscall, path, () => this.walker.walkOrNew(bytes, follows, signal));
  }

  /**
   * Does `task`; an error of the file system gets the call, and the path that the user named if
   * there is one.
   */
  protected guard<T>(
    syscall: string,
    path: PathLike | undefined,
    task: () => MaybeAsync<T>,
  ): MaybeAsync<T> {
    if (this.#isClosed && path !== undefined) {
      const text = pathText(path);
      throw new FsError("EBADF", { syscall, path: text, detail: "the volume is closed" });
    }
    try {
      const result = task();
      return isPromise(result) ? this.#finished(result, syscall, path) : result;
    } catch (error) {
      throw located(error, syscall, path);
    }
  }

  /** A handle on `inode`, as the flags of `open` allow it. Errors name no path yet. */
  protected openInode(
    inode: VfsInode,
    flags: number,
    place?: NamePlace,
    signal?: AbortSignal,
  ): MaybeAsync<FileHandle> {
    const isDirectory = inode.type === "directory";
    if ((flags & O_DIRECTORY) !== 0 && !isDirectory) throw new FsError("ENOTDIR");
    if (inode.type === "symlink") throw new FsError("ELOOP");
    if (isDirectory) {
      if (wantsWrite(flags) || (flags & O_CREAT) !== 0) throw new FsError("EISDIR");
      return andThen(this.#checkOpen(inode, flags), () =>
        this.#track(new FileHandle(this, { inode, file: null, flags, place })),
      );
    }
    // A device, FIFO or socket of the image has nothing behind it here.
    if (inode.type !== "file") throw new FsError("ENXIO");
    if (wantsWrite(flags) && this.writer === undefined) throw new FsError("EROFS");
    return andThen(this.#checkOpen(inode, flags), () =>
      andThen(this.fileSystem.openFile(inode, signal), (file) => {
        const handle = this.#track(new FileHandle(this, { inode, file, flags, place }));
        if ((flags & O_TRUNC) === 0) return handle;
        return this.#emptied(handle, inode);
      }),
    );
  }

  /** A handle on a file that was just made, which its mode does not keep from being used. */
  protected openNew(inode: VfsInode, flags: number, place?: NamePlace): MaybeAsync<FileHandle> {
    return andThen(this.fileSystem.openFile(inode), (file) =>
      this.#track(new FileHandle(this, { inode, file, flags, place })),
    );
  }

  /** Throws `EACCES` unless the caller may use the file as `flags` say. */
  #checkOpen(inode: VfsInode, flags: number): MaybeAsync<void> {
    const access = flags & ACCESS_MASK;
    let wanted = access === O_WRONLY ? 0 : MAY_READ;
    if (access !== O_RDONLY || (flags & O_TRUNC) !== 0) {
      wanted |= MAY_WRITE;
      if (isFixed(inode.attributes(), flags)) throw new FsError("EPERM", FIXED);
    }
    if (this.caller.uid === 0) return undefined;
    return andThen(this.checkAccess(inode, wanted), () => {
      if ((flags & O_NOATIME) !== 0) this.checkOwner(inode, "open");
    });
  }

  #emptied(handle: FileHandle, inode: VfsInode): MaybeAsync<FileHandle> {
    const close = async (thrown: unknown): Promise<never> => {
      await handle.close();
      throw thrown;
    };
    try {
      const cut = andThen(this.privileges.drop(inode), () => this.writer!.setSize(inode, 0));
      if (isPromise(cut)) return cut.then(() => handle, close);
      return handle;
    } catch (thrown) {
      return close(thrown);
    }
  }

  async #finished<T>(task: Promise<T>, syscall: string, path: PathLike | undefined): Promise<T> {
    this.#busyCount++;
    try {
      return await task;
    } catch (error) {
      throw located(error, syscall, path);
    } finally {
      this.#busyCount--;
      if (this.#busyCount === 0) this.#idleWaiters.wakeAll();
    }
  }

  #track(handle: FileHandle): FileHandle {
    this.#open.add(handle);
    return handle;
  }
}

/** True if nobody may write the file, or not as `flags` would. */
function isFixed(attributes: InodeAttributes, flags: number): boolean {
  if ((attributes.flags & (IMMUTABLE_FL | VERITY_FL)) !== 0) return true;
  const fixed = attributes.flags & APPEND_FL;
  return fixed !== 0 && ((flags & O_APPEND) === 0 || (flags & O_TRUNC) !== 0);
}

/** The same error with the call and the path that the user named; others pass unchanged. */
function located(error: unknown, syscall: string, path: PathLike | undefined): unknown {
  if (!(error instanceof FsError) || error.path !== undefined) return error;
  if (path === undefined && error.syscall !== undefined) return error;
  const { code, detail, cause } = error;
  const text = path === undefined ? undefined : pathText(path);
  return new FsError(code, { syscall, path: text, detail, cause });
}

/** What the user knows of a call, for its errors. */
export interface Where {
  readonly syscall: string;
  readonly path: string;
  readonly dest?: string;
}

/** Does `task`, whose errors get the places that the user knows. */
export function placed<T>(where: Where, task: () => MaybeAsync<T>): MaybeAsync<T> {
  const fail = (error: unknown): never => {
    if (!(error instanceof FsError)) throw error;
    const { detail, cause } = error;
    throw new FsError(error.code as ErrnoCode, { ...where, detail, cause });
  };
  try {
    const result = task();
    return isPromise(result) ? result.catch(fail) : result;
  } catch (error) {
    return fail(error);
  }
}
