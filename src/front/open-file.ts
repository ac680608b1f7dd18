/**
 * What an open file of a volume is, apart from its calls (`struct file`): the inode, how it was
 * opened, the position, and who is using it now.
 *
 *     OpenFile <-- FileReads <-- FileHandle
 *
 *  1. Calls that move the position run one after the other, as under `f_pos_lock` of the kernel.
 *  2. The file is given back when the last call on it has ended, not before.
 */
import type { CacheFile } from "../cache/cache-file.ts";
import { type FileLocks, lockRange, WHOLE_FILE } from "../fs/file-locks.ts";
import type { VfsInode } from "../fs/vfs.ts";
import type { FileSystemWriter } from "../fs/vfs-write.ts";
import type { Clock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import { AsyncMutex, WaitQueue } from "../lib/locks.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { checkInteger, checkSignal, invalidArgValue } from "./arguments.ts";
import type { Changes, NamePlace } from "./changes.ts";
import { EmitterBase } from "./emitter.ts";
import { ACCESS_MASK, O_EXCL, O_RDONLY, O_TMPFILE, O_WRONLY } from "./open-flags.ts";
import { closedError } from "./option-checks.ts";
import type { Privileges } from "./privileges.ts";

/**
 * What the `*Sync` calls return when the answer is not cached: try again later, or await the other
 * form.
 */
export const EAGAIN: -11 = -11;

/** What a file needs of its volume: a number of its own, and somebody to tell. */
export interface OpenFileOwner {
  nextFd(): number;
  closed(file: OpenFile): void;
  /**
   * Takes over work that goes on after its call has returned; closing the volume tells how it
   * ended.
   */
  inBackground(work: Promise<void>): void;
  /** What changes the volume; undefined where it is read-only. */
  readonly writer: FileSystemWriter | undefined;
  /** Told of what was changed, for `watch`. */
  readonly changes: Changes;
  readonly clock: Clock;
  /** The advisory locks on a file, shared by all who have it open. */
  locksOf(inode: VfsInode): FileLocks;
  /** Gives back the locks that `file`, which is being closed, has on `inode`. */
  unlockAll(file: OpenFile, inode: VfsInode): void;
  /** Throws `EPERM` unless the caller owns the inode. */
  checkOwner(inode: VfsInode, syscall: string): void;
  /** Throws `EPERM` unless the caller may give the inode away so. */
  checkChown(inode: VfsInode, uid: number, gid: number, syscall: string): void;
  readonly privileges: Privileges;
  /** Does `task`; errors of the file system get the name of the call. */
  located<T>(syscall: string, task: () => MaybeAsync<T>): MaybeAsync<T>;
}

/** How a file is opened. */
export interface OpenFileParts {
  readonly inode: VfsInode;
  /** Null for a directory, which opens but does not read. */
  readonly file: CacheFile | null;
  /** `O_*`. */
  readonly flags: number;
  /** Where the name stands that it was opened by. */
  readonly place?: NamePlace | undefined;
}

/** How a file is to be locked. */
export interface LockOptions {
  /** "shared": others may hold shared locks too. "exclusive" by default. */
  readonly mode?: "shared" | "exclusive" | undefined;
  /** First byte and number of bytes; by default the whole file, however long it becomes. */
  readonly start?: number | undefined;
  readonly length?: number | undefined;
  /** Do not wait. */
  readonly try?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export abstract class OpenFile extends EmitterBase {
  protected readonly owner: OpenFileOwner;
  protected readonly inode: VfsInode;
  protected readonly file: CacheFile | null;
  protected readonly flags: number;
  protected readonly place: NamePlace | undefined;
  protected positionBytes = 0;
  /** Held by the call that moves the position. */
  protected readonly positionLock: AsyncMutex = new AsyncMutex();
  /** The epoch of privileges in which the file was found to have no capabilities. */
  #plainEpoch = -1;
  #fd: number;
  #userCount = 0;
  #closing: Promise<void> | undefined;
  readonly #idleWaiters = new WaitQueue();

  constructor(owner: OpenFileOwner, parts: OpenFileParts) {
    super();
    this.owner = owner;
    this.inode = parts.inode;
    this.file = parts.file;
    this.flags = parts.flags;
    this.place = parts.place;
    this.#fd = owner.nextFd();
    owner.writer?.retain(parts.inode);
  }

  /** A number that no other open handle of the volume has; -1 once closed. */
  get fd(): number {
    return this.#fd;
  }

  /** The inode that is open, for callers that go on with the file system itself. */
  get vfsInode(): VfsInode {
    return this.inode;
  }

  /**
   * The inode, to be given one more name by `writer`. Throws `EBADF`; `EXDEV` for a file of another
   * volume; `ENOENT` for a temporary one that is to stay without a name (`O_EXCL`).
   */
  inodeToLink(writer: FileSystemWriter | undefined): VfsInode {
    this.checkOpen("link");
    if (this.owner.writer !== writer) throw new FsError("EXDEV");
    const isTemporary = (this.flags & O_TMPFILE) === O_TMPFILE;
    if (isTemporary && (this.flags & O_EXCL) !== 0) throw new FsError("ENOENT");
    return this.inode;
  }

  /** The page cache's side of the open file, for `fadvise` and the like; null for a directory. */
  get cacheFile(): CacheFile | null {
    return this.file;
  }

  /**
   * Locks the file, or a range of it, against other handles of this volume that ask, and waits for
   * them; "try" does not wait and says whether it was locked. Advisory: who does not ask is not
   * stopped. Closing the handle gives its locks back.
   */
  async lock(options: LockOptions = {}): Promise<boolean> {
    this.checkOpen("flock");
    const { mode = "exclusive", start = 0, length = Infinity, signal } = options;
    if (mode !== "exclusive" && mode !== "shared") {
      throw invalidArgValue("options.mode", mode, "must be 'exclusive' or 'shared'");
    }
    checkRange(start, length);
    checkSignal(signal);
    const request = { ...lockRange(start, length), isShared: mode === "shared" };
    const locks = this.owner.locksOf(this.inode);
    if (options.try === true) return locks.tryLock(this, request);
    await locks.lock(this, request, signal);
    if (this.#fd !== -1) return true;
    locks.unlock(this, WHOLE_FILE); // It was closed meanwhile.
    throw new FsError("EBADF", { syscall: "flock" });
  }

  /** Gives back what `lock` has taken, or a range of it. */
  unlock({ start = 0, length = Infinity }: Pick<LockOptions, "start" | "length"> = {}): void {
    this.checkOpen("flock");
    checkRange(start, length);
    this.owner.locksOf(this.inode).unlock(this, lockRange(start, length));
  }

  /** Gives the handle back, once calls under way are done. A second call waits for the first. */
  close(): Promise<void> {
    if (this.#fd === -1) return Promise.resolve();
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  /**
   * Gives the handle back now. `EAGAIN` while a call is under way: it stays open then. An inode
   * that has no name any more is deleted in the background.
   */
  closeSync(): typeof EAGAIN | undefined {
    if (this.#userCount > 0) return EAGAIN;
    const given = this.#giveBack();
    if (isPromise(given)) this.owner.inBackground(given);
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  protected get mayRead(): boolean {
    return (this.flags & ACCESS_MASK) !== O_WRONLY;
  }

  protected get mayWrite(): boolean {
    return (this.flags & ACCESS_MASK) !== O_RDONLY;
  }

  protected checkOpen(syscall: string): void {
    if (this.#fd !== -1) return;
    throw closedError(syscall);
  }

  /** The file's cache, for a call that reads. */
  protected readable(): CacheFile {
    if (!this.mayRead) throw new FsError("EBADF", { syscall: "read" });
    if (this.file === null) throw new FsError("EISDIR", { syscall: "read" });
    return this.file;
  }

  /** What changes the volume, for a call that does. */
  protected writer(syscall: string): FileSystemWriter {
    const { writer } = this.owner;
    if (writer === undefined) throw new FsError("EROFS", { syscall });
    return writer;
  }

  /** Takes off what runs the file as somebody else, before its content changes. */
  protected dropPrivileges(): MaybeAsync<void> {
    const { privileges } = this.owner;
    const { epoch } = privileges;
    if (this.#plainEpoch === epoch) return privileges.dropMode(this.inode);
    return andThen(privileges.dropCapabilities(this.inode), () => {
      this.#plainEpoch = epoch;
      return privileges.dropMode(this.inode);
    });
  }

  /** Keeps the file open until `work` has ended. */
  protected async inUse<T>(work: PromiseLike<T>): Promise<T> {
    this.#userCount++;
    try {
      return await work;
    } finally {
      this.#userCount--;
      if (this.#userCount === 0) this.#idleWaiters.wakeAll();
    }
  }

  /** Does `work` at the position, which it moves on by what it returns. */
  protected atPosition(
    work: (positionBytes: number) => MaybeAsync<number>,
    signal?: AbortSignal,
  ): MaybeAsync<number> {
    if (!this.positionLock.tryLock()) return this.inUse(this.#atPositionLater(work, signal));
    let moved: MaybeAsync<number> = 0;
    try {
      moved = work(this.positionBytes);
      if (isPromise(moved)) return this.inUse(this.#moveOn(moved));
      this.positionBytes += moved;
      return moved;
    } finally {
      if (!isPromise(moved)) this.positionLock.unlock();
    }
  }

  async #moveOn(moving: PromiseLike<number>): Promise<number> {
    try {
      const moved = await moving;
      this.positionBytes += moved;
      return moved;
    } finally {
      this.positionLock.unlock();
    }
  }

  async #atPositionLater(
    work: (positionBytes: number) => MaybeAsync<number>,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    await this.positionLock.lock(signal);
    return this.#moveOn(Promise.resolve().then(() => work(this.positionBytes)));
  }

  async #finish(): Promise<void> {
    while (this.#userCount > 0) await this.#idleWaiters.wait();
    await this.#giveBack();
  }

  #giveBack(): MaybeAsync<void> {
    if (this.#fd === -1) return undefined;
    this.#fd = -1;
    this.owner.unlockAll(this, this.inode);
    this.owner.closed(this);
    this.emit("close");
    return this.owner.writer?.release(this.inode);
  }
}

function checkRange(start: unknown, length: unknown): void {
  checkInteger(start, "options.start");
  if (length !== Infinity) checkInteger(length, "options.length", 1);
}
