/**
 * What changes a mounted ext2/3/4 file system: `FileSystemWriter`, put together from the operations
 * on names, attributes and content.
 *
 *     create, unlink ..   one operation of `namespace.ts` in a transaction
 *     unlink, last name   the inode is an orphan --> deleted when nobody holds it any more
 *     write, truncate ..  `FileContent`
 *
 *  1. While the file system is frozen, calls that change something wait.
 *  2. An inode that nobody holds and no name leads to is being deleted, or deleted.
 *  3. Damage that is met is noted in the superblock, and ends all changes where the image says so
 *     (`errors=remount-ro`, and `panic`, which is the same here). What was changed before is whole,
 *     and is still written.
 *
 * After `fs/ext4/namei.c`, `fs/ext4/inode.c` (`ext4_setattr`), `fs/ext4/ioctl.c` and
 * `ext4_handle_error` in `fs/ext4/super.c`.
 */
import { flushDevice } from "../../block/write-device.ts";
import type { CacheFile } from "../../cache/cache-file.ts";
import { IOCB_NOWAIT, type Kiocb } from "../../cache/kiocb.ts";
import { le16 } from "../../lib/bytes.ts";
import { EAGAIN, FsError } from "../../lib/errno.ts";
import { AsyncRwLock } from "../../lib/locks.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import type { VfsInode } from "../vfs.ts";
import {
  type AttributeChange,
  type FileSystemWriter,
  type NewInode,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from "../vfs-write.ts";
import { changeAttributes } from "./change-attributes.ts";
import { isDataSwitched } from "./data-switch.ts";
import { dirLookup } from "./dir.ts";
import { evictInode } from "./evict.ts";
import type { FileContent, NamePlace } from "./file-content.ts";
import type { FileMappings } from "./file-ops.ts";
import { withFreedRoom } from "./freed-room.ts";
import type { GroupTotals } from "./group-state.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, SB } from "./layout.ts";
import type { ExtMount } from "./mount-writable.ts";
import { extCreate, extLink, extRmdir, extTmpfile, extUnlink } from "./namespace.ts";
import { extRename } from "./rename.ts";
import { trimFreeBlocks } from "./trim.ts";
import type { ExtWriter } from "./writer.ts";
import { setXattr } from "./xattr-write.ts";

const ERRORS_CONTINUE = 1;
const DOT_DOT: Uint8Array = Uint8Array.of(0x2e, 0x2e);

/** See the head of the file. */
export class ExtVolumeWriter implements FileSystemWriter {
  readonly mount: ExtMount;
  readonly #ctx: ExtWriter;
  readonly #content: FileContent;
  /** Held shared by whoever changes something, exclusively while the file system is frozen. */
  readonly #freezeLock = new AsyncRwLock();
  /** Deletions that have to be done before closing; while it is frozen, they wait. */
  readonly #evictions = new Set<Promise<void>>();
  /** Those of them that have begun, and notes of damage: `sync` waits for these. */
  readonly #running = new Set<Promise<void>>();
  /** Inodes that are being deleted, or are deleted. */
  readonly #evicted = new WeakSet<ExtInode>();
  #damage: FsError | undefined;
  readonly #judged = new WeakSet<FsError>();
  #isFrozen = false;

  constructor(mount: ExtMount, content: FileContent) {
    this.mount = mount;
    this.#ctx = mount.writer;
    this.#content = content;
    mount.core.metadata.onDamage = (damage) => this.#judge(damage, "read");
  }

  /** The caches of the files. */
  get mappings(): FileMappings {
    return this.#content.mappings;
  }

  /** Free counts as they are now. */
  get totals(): GroupTotals {
    return this.#ctx.groups.totals;
  }

  /** Free blocks that data has been promised which is not written yet. */
  get promisedBlockCount(): number {
    return this.#ctx.blocks.reservedCount;
  }

  create(
    dir: VfsInode,
    name: Uint8Array,
    what: NewInode,
    signal?: AbortSignal,
  ): MaybeAsync<VfsInode> {
    return this.#run(
      "create",
      (ctx, handle) => extCreate(ctx, handle, dir as ExtInode, name, what),
      signal,
    );
  }

  tmpfile(dir: VfsInode, what: NewInode, signal?: AbortSignal): MaybeAsync<VfsInode> {
    const make = (ctx: ExtWriter, handle: Handle): ExtInode => {
      const inode = extTmpfile(ctx, handle, dir as ExtInode, what);
      inode.openCount++;
      handle.undo(() => {
        inode.openCount--;
      });
      return inode;
    };
    return this.#run("tmpfile", make, signal);
  }

  link(inode: VfsInode, dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<void> {
    return this.#run(
      "link",
      (ctx, handle) => extLink(ctx, handle, inode as ExtInode, dir as ExtInode, name),
      signal,
    );
  }

  unlink(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<void> {
    const gone = this.#run(
      "unlink",
      (ctx, handle) => extUnlink(ctx, handle, dir as ExtInode, name, true),
      signal,
    );
    return andThen(gone, (inode) => this.#evictIfUnused(inode));
  }

  rmdir(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<void> {
    const gone = this.#run(
      "rmdir",
      (ctx, handle) => extRmdir(ctx, handle, dir as ExtInode, name),
      signal,
    );
    return andThen(gone, (inode) => this.#evictIfUnused(inode));
  }

  rename(
    fromDir: VfsInode,
    fromName: Uint8Array,
    toDir: VfsInode,
    toName: Uint8Array,
    flags: number,
    signal?: AbortSignal,
  ): MaybeAsync<void> {
    const from = { dir: fromDir as ExtInode, name: fromName };
    const to = { dir: toDir as ExtInode, name: toName };
    const move = (): MaybeAsync<void> => {
      const gone = this.#run(
        "rename",
        (ctx, handle) => {
          checkAncestors(ctx, from, to, flags);
          return extRename(ctx, handle, from, to, flags);
        },
        signal,
      );
      return andThen(gone, (inode) => {
        if (inode !== undefined) return this.#evictIfUnused(inode);
      });
    };
    // Over another name: the data is down before the name leads to it (`auto_da_alloc`).
    return andThen(this.#content.beforeReplace(from, to, signal), move);
  }

  setAttributes(inode: VfsInode, change: AttributeChange, signal?: AbortSignal): MaybeAsync<void> {
    const file = inode as ExtInode;
    const ctx = this.#ctx;
    const set = (): MaybeAsync<void> =>
      ctx.transactions.run((handle) => changeAttributes(ctx, handle, file, change), signal);
    return this.#change("setattr", () =>
      isDataSwitched(ctx, file, change.flags)
        ? this.#content.switchData(file, set, signal)
        : withFreedRoom(ctx, set),
    );
  }

  setXattr(
    inode: VfsInode,
    name: string,
    value: Uint8Array | null,
    flags: number,
    signal?: AbortSignal,
  ): MaybeAsync<void> {
    return this.#run(
      "setxattr",
      (ctx, handle) => setXattr(ctx, handle, inode as ExtInode, name, value, flags),
      signal,
    );
  }

  setSize(inode: VfsInode, sizeBytes: number, signal?: AbortSignal): MaybeAsync<void> {
    const set = (): MaybeAsync<void> => this.#content.setSize(inode as ExtInode, sizeBytes, signal);
    return this.#change("truncate", () => withFreedRoom(this.#ctx, set));
  }

  write(iocb: Kiocb, bytes: Uint8Array): MaybeAsync<number> {
    const { isWriteLocked, waiterCount } = this.#freezeLock;
    const mustWait = isWriteLocked || waiterCount > 0;
    if (mustWait && (iocb.flags & IOCB_NOWAIT) !== 0) return -EAGAIN;
    return this.#change("write", () => this.#content.write(iocb, bytes));
  }

  fallocate(
    inode: VfsInode,
    mode: number,
    offsetBytes: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): MaybeAsync<void> {
    return this.#change("fallocate", () =>
      this.#content.fallocate(inode as ExtInode, mode, offsetBytes, lengthBytes, signal),
    );
  }

  fsync(inode: VfsInode, file: CacheFile | null, isDataOnly: boolean): MaybeAsync<void> {
    return this.#content.fsync(inode as ExtInode, file, isDataOnly);
  }

  async sync(): Promise<void> {
    await settled(this.#running);
    await this.#writeAll();
  }

  retain(inode: VfsInode): void {
    const file = inode as ExtInode;
    if (file.isDeleted || this.#evicted.has(file)) {
      throw new FsError("ENOENT", { detail: "it was removed" });
    }
    file.openCount++;
  }

  release(inode: VfsInode): MaybeAsync<void> {
    const file = inode as ExtInode;
    file.openCount--;
    return andThen(this.#content.released(file), () => this.#evictIfUnused(file));
  }

  noteAccess(inode: VfsInode): void {
    // Who reads goes on where nothing may be changed.
    if (this.#damage !== undefined || !this.#freezeLock.tryRead()) return;
    const noted = this.#content.noteAccess(inode as ExtInode);
    if (isPromise(noted)) void noted.then(() => this.#freezeLock.unlockRead());
    else this.#freezeLock.unlockRead();
  }

  async freeze(): Promise<void> {
    if (this.#isFrozen) throw new FsError("EBUSY", { detail: "it is frozen already" });
    await this.#freezeLock.write();
    try {
      await this.#writeAll();
      await this.mount.flush();
      await this.mount.markClean();
      this.#isFrozen = true;
    } finally {
      if (!this.#isFrozen) this.#freezeLock.unlockWrite();
    }
  }

  async thaw(): Promise<void> {
    if (!this.#isFrozen) throw new FsError("EINVAL", { detail: "it is not frozen" });
    await this.mount.markInUse();
    this.#isFrozen = false;
    this.#freezeLock.unlockWrite();
  }

  async trim(signal?: AbortSignal): Promise<number> {
    if (this.#isFrozen) throw new FsError("EBUSY", { detail: "it is frozen" });
    await this.#freezeLock.write(signal);
    try {
      await this.#writeAll(); // Freed blocks are free once their transactions are committed.
      return await trimFreeBlocks(this.#ctx, signal);
    } finally {
      this.#freezeLock.unlockWrite();
    }
  }

  /** Writes all down and gives the image back. Nothing may be changed any more. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (work: () => Promise<void>): Promise<void> => {
      await work().catch((thrown: unknown) => failures.push(thrown));
    };
    if (this.#isFrozen) await attempt(() => this.thaw());
    await attempt(() => settled(this.#evictions));
    await attempt(() => settled(this.#running));
    await attempt(() => this.#content.close());
    await attempt(() => this.mount.close());
    if (failures.length > 0) throw failures[0];
  }

  /** One operation, as soon as nothing is frozen. */
  #run<T>(
    where: string,
    operation: (ctx: ExtWriter, handle: Handle) => T,
    signal: AbortSignal | undefined,
  ): MaybeAsync<T> {
    const ctx = this.#ctx;
    const run = (): MaybeAsync<T> =>
      ctx.transactions.run((handle) => operation(ctx, handle), signal);
    return this.#change(where, () => withFreedRoom(ctx, run));
  }

  /** Does `work` while nothing is frozen, and takes note of damage that it meets. */
  #change<T>(where: string, work: () => MaybeAsync<T>): MaybeAsync<T> {
    if (this.#damage !== undefined) throw this.#endedBy(this.#damage);
    if (!this.#freezeLock.tryRead()) return this.#changeLater(where, work);
    let result: MaybeAsync<T>;
    try {
      result = work();
    } catch (thrown) {
      this.#freezeLock.unlockRead();
      this.#judge(thrown, where);
      throw thrown;
    }
    if (isPromise(result)) return this.#settled(where, result);
    this.#freezeLock.unlockRead();
    return result;
  }

  async #changeLater<T>(where: string, work: () => MaybeAsync<T>): Promise<T> {
    await this.#freezeLock.read();
    return this.#settled(where, Promise.resolve().then(work));
  }

  async #settled<T>(where: string, working: Promise<T>): Promise<T> {
    try {
      return await working;
    } catch (thrown) {
      this.#judge(thrown, where);
      throw thrown;
    } finally {
      this.#freezeLock.unlockRead();
    }
  }

  /** Invariant 3. The same error comes here by several ways. */
  #judge(thrown: unknown, where: string): void {
    if (!(thrown instanceof FsError) || this.#judged.has(thrown)) return;
    if (thrown.code !== "EUCLEAN" && thrown.code !== "EBADMSG") return;
    this.#judged.add(thrown);
    const ctx = this.#ctx;
    ctx.warn(`the image is damaged: ${thrown.message}`);
    if (le16(ctx.sb.raw, SB.s_errors) !== ERRORS_CONTINUE) this.#damage = thrown;
    const recording = this.mount.recordError(thrown, where).catch((failure: unknown) => {
      ctx.warn(`the damage could not be noted in the superblock: ${String(failure)}`);
    });
    void track(this.#running, recording);
  }

  #endedBy(cause: FsError): FsError {
    const detail = "damage was found, and the image says that nothing is written then";
    return new FsError("EROFS", { detail, cause });
  }

  #evictIfUnused(inode: ExtInode): MaybeAsync<void> {
    if (inode.linksCount > 0 || inode.openCount > 0 || this.#evicted.has(inode)) return undefined;
    this.#evicted.add(inode);
    const evict = (): MaybeAsync<void> => {
      const evicted = andThen(this.#content.forget(inode), () => {
        return inode.isDeleted ? undefined : evictInode(this.#ctx, inode);
      });
      return isPromise(evicted) ? track(this.#running, evicted) : undefined;
    };
    // The name has gone, whatever comes of this: the rest stays an orphan, for the next mount.
    const failed = (thrown: unknown): void =>
      this.#ctx.warn(`inode ${inode.ino} could not be deleted for good: ${String(thrown)}`);
    try {
      const evicted = this.#change("evict", evict);
      if (!isPromise(evicted)) return undefined;
      return track(this.#evictions, evicted.catch(failed));
    } catch (thrown) {
      failed(thrown);
    }
  }

  /** Nothing that waits for the freezing to end is waited for. */
  async #writeAll(): Promise<void> {
    await this.#content.sync();
    await this.#ctx.transactions.commit();
    await flushDevice(this.mount.core.bdev);
  }
}

/** Keeps `work` in `set` until it has ended, and returns it. */
function track(set: Set<Promise<void>>, work: Promise<void>): Promise<void> {
  const forget = (): void => void set.delete(work);
  set.add(work);
  work.then(forget, forget);
  return work;
}

/** Waits until `set` is empty. */
async function settled(set: ReadonlySet<Promise<void>>): Promise<void> {
  while (set.size > 0) await Promise.allSettled([...set]);
}

/**
 * Throws `EINVAL` if `to` lies in the directory that is moved: then its subtree would hang in
 * itself; `ENOTEMPTY` if what is replaced has `from` somewhere in it (`lock_rename`). Restartable.
 */
function checkAncestors(ctx: ExtWriter, from: NamePlace, to: NamePlace, flags: number): void {
  if (from.dir === to.dir) return;
  const sourceIno = dirLookup(ctx, from.dir, from.name);
  if (sourceIno === 0) return;
  const targetIno = dirLookup(ctx, to.dir, to.name);
  // What the flags forbid is said first, elsewhere.
  if (flags === RENAME_NOREPLACE && targetIno !== 0) return;
  if (flags === RENAME_EXCHANGE && targetIno === 0) return;
  if (liesIn(ctx, to.dir, sourceIno)) throw new FsError("EINVAL");
  if (targetIno === 0 || !liesIn(ctx, from.dir, targetIno)) return;
  throw new FsError(flags === RENAME_EXCHANGE ? "EINVAL" : "ENOTEMPTY");
}

/** True if `dir` is the inode `ino`, or lies somewhere below it. Restartable. */
function liesIn(ctx: ExtWriter, dir: ExtInode, ino: number): boolean {
  if (ctx.inode(ino).type !== "directory") return false;
  const seen = new Set<number>();
  for (let at = dir.ino; at !== EXT_ROOT_INO; ) {
    if (at === ino) return true;
    if (seen.has(at)) throw new FsError("EUCLEAN", { detail: `directory ${at} lies in itself` });
    seen.add(at);
    at = dirLookup(ctx, ctx.inode(at), DOT_DOT);
    if (at === 0) throw new FsError("EUCLEAN", { detail: "a directory has no parent" });
  }
  return false;
}
