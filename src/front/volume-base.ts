/**
 * What all calls of `volume.fs` stand on: from a path to an inode with the errors of Node, the set
 * of open handles, and an end that waits for whoever is still at work.
 *
 *     VolumeBase <-- ReadOnlyCalls <-- CachedCalls <-- VolumeFs
 *
 *  1. Every wait for the file system goes through `at` or `guard`, which count it: closing waits
 *     until none is left, and from then on each call fails with `EBADF`.
 */
import { PathWalker, type WalkResult } from "../fs/namei.ts";
import type { FileSystem, VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { checkSignal, type PathLike, pathBytes, pathText } from "./arguments.ts";
import { FileHandle, type HandleOwner } from "./file-handle.ts";
import { O_CREAT, O_DIRECTORY, wantsWrite } from "./open-flags.ts";

export abstract class VolumeBase implements HandleOwner {
  protected readonly fileSystem: FileSystem;
  readonly #walker: PathWalker;
  readonly #open = new Set<FileHandle>();
  readonly #idleWaiters = new WaitQueue();
  #lastFd = 2;
  #busyCount = 0;
  #isClosed = false;

  constructor(fileSystem: FileSystem) {
    this.fileSystem = fileSystem;
    this.#walker = new PathWalker(fileSystem);
  }

  /** Number of open handles, which closing the volume closes. */
  get openHandles(): number {
    return this.#open.size;
  }

  nextFd(): number {
    this.#lastFd += 1;
    return this.#lastFd;
  }

  closed(handle: FileHandle): void {
    this.#open.delete(handle);
  }

  /** Refuses new calls, closes what is open and waits for calls under way. For the volume alone. */
  async closeAll(): Promise<void> {
    this.#isClosed = true;
    for (const handle of [...this.#open]) await handle.close();
    while (this.#busyCount > 0) await this.#idleWaiters.wait();
    this.#walker.clear();
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
    return this.guard(syscall, path, () => this.#walker.walk(bytes, follows, signal, lengthMax));
  }

  /** As `at`, but null where only the last name is missing: it could be made there. */
  protected atOrNew(
    path: PathLike,
    syscall: string,
    follows: boolean,
    signal?: AbortSignal,
  ): MaybeAsync<WalkResult | null> {
    const bytes = pathBytes(path);
    signal?.throwIfAborted();
    return this.guard(syscall, path, () => this.#walker.walkOrNew(bytes, follows, signal));
  }

  /** Does `task`; an error of the file system gets the call and the path that the user named. */
  protected guard<T>(syscall: string, path: PathLike, task: () => MaybeAsync<T>): MaybeAsync<T> {
    if (this.#isClosed) {
      const where = { syscall, path: pathText(path), detail: "the volume is closed" };
      throw new FsError("EBADF", where);
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
    signal?: AbortSignal,
  ): MaybeAsync<FileHandle> {
    const isDirectory = inode.type === "directory";
    if ((flags & O_DIRECTORY) !== 0 && !isDirectory) throw new FsError("ENOTDIR");
    if (inode.type === "symlink") throw new FsError("ELOOP");
    if (isDirectory) {
      if (wantsWrite(flags) || (flags & O_CREAT) !== 0) throw new FsError("EISDIR");
      return this.#track(new FileHandle(this, inode, null));
    }
    // A device, FIFO or socket of the image has nothing behind it here.
    if (inode.type !== "file") throw new FsError("ENXIO");
    if (wantsWrite(flags)) throw new FsError("EROFS");
    return andThen(this.fileSystem.openFile(inode, signal), (file) =>
      this.#track(new FileHandle(this, inode, file)),
    );
  }

  async #finished<T>(task: Promise<T>, syscall: string, path: PathLike): Promise<T> {
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

/** The same error with the call and the path that the user named; others pass unchanged. */
function located(error: unknown, syscall: string, path: PathLike): unknown {
  if (!(error instanceof FsError) || error.path !== undefined) return error;
  const { code, detail, cause } = error;
  return new FsError(code, { syscall, path: pathText(path), detail, cause });
}
