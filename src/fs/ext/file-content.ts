/**
 * The content of the files of a mount that may be written: what the file system asks for, put
 * together from the operations on content, and the flusher that writes what is dirty.
 *
 *     write, setSize, fallocate, fsync     one file each, under its `rwsem`
 *     the flusher, sync                    whatever is dirty
 *     beforeReplace, released              what replaces a file is not lost with the old one
 *
 * After `fs/ext4/file.c`, `ext4_alloc_da_blocks` in `fs/ext4/inode.c` and `touch_atime` of Linux.
 */
import type { CacheFile } from "../../cache/cache-file.ts";
import { filemapFlush, filemapWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import { BdiWriteback } from "../../cache/flusher.ts";
import type { Kiocb } from "../../cache/kiocb.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import type { Superblock as CacheSuperblock } from "../../cache/superblock.ts";
import { syncInodesSb } from "../../cache/sync.ts";
import { WB_SYNC_ALL } from "../../cache/writeback-control.ts";
import { type Errno, errnoOf, FsError } from "../../lib/errno.ts";
import { Errseq } from "../../lib/errseq.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { MARK_DIRTY } from "../../lib/xarray.ts";
import type { Timespec } from "../vfs.ts";
import { whileSwitching } from "./data-switch.ts";
import { dirLookup } from "./dir.ts";
import { fallocateFile } from "./fallocate.ts";
import { FileMappings } from "./file-ops.ts";
import { writeFile } from "./file-write.ts";
import { type FileWriting, fileWriting, stamp } from "./file-writing.ts";
import { fsyncFile } from "./fsync.ts";
import type { ExtInode } from "./inode.ts";
import { isLaterTid } from "./jbd2-format.ts";
import { NOATIME_FL } from "./layout.ts";
import { setFileSize } from "./set-size.ts";
import type { ExtWriter } from "./writer.ts";

/** When reading counts as access: as Linux by default, never, or always. */
export type AtimePolicy = "relatime" | "noatime" | "strictatime";

const RELATIME_SEC = 24 * 60 * 60;

/** How the mount treats content. */
export interface FileContentOptions {
  /** Which reads bring access times up to date. */
  readonly atime: AtimePolicy;
  /** What becomes of data that cannot be written. */
  readonly onWriteError: "drop" | "keep";
}

/** A name in a directory. */
export interface NamePlace {
  readonly dir: ExtInode;
  readonly name: Uint8Array;
}

/** See the head of the file. */
export class FileContent {
  readonly mappings: FileMappings;
  /** The file system, as the flusher knows it. */
  readonly sb: CacheSuperblock;
  readonly flusher: BdiWriteback;
  readonly #ctx: ExtWriter;
  readonly #files: FileWriting;
  readonly #atime: AtimePolicy;
  /** Errors of files that `sync` has told of. */
  readonly #syncErrors = { since: 0 };
  /** Cut to nothing since they were opened: about to be replaced. */
  readonly #emptied = new WeakSet<ExtInode>();

  constructor(ctx: ExtWriter, cache: PageCache, { atime, onWriteError }: FileContentOptions) {
    this.#ctx = ctx;
    this.#atime = atime;
    this.flusher = new BdiWriteback({ cache });
    this.sb = {
      wbErr: new Errseq(),
      inodesUnderWriteback: new Set(),
      bdi: this.flusher,
      writeInode: (inode, wbc) => {
        if (wbc.syncMode !== WB_SYNC_ALL || wbc.forSync) return 0;
        return this.#commitInode(inode as ExtInode);
      },
    };
    this.mappings = new FileMappings(ctx.core, cache, { ctx, sb: this.sb, onWriteError });
    this.#files = fileWriting(ctx, this.mappings);
  }

  /** See `writeFile`. */
  write(iocb: Kiocb, bytes: Uint8Array): MaybeAsync<number> {
    return writeFile(this.#files, iocb, bytes);
  }

  /** See `setFileSize`. */
  setSize(inode: ExtInode, sizeBytes: number, signal?: AbortSignal): MaybeAsync<void> {
    if (sizeBytes === 0 && inode.size > 0) this.#emptied.add(inode);
    return setFileSize(this.#files, inode, sizeBytes, signal);
  }

  /** See `fallocateFile`. */
  fallocate(
    inode: ExtInode,
    mode: number,
    offsetBytes: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): MaybeAsync<void> {
    return fallocateFile(this.#files, inode, mode, offsetBytes, lengthBytes, signal);
  }

  /** See `whileSwitching`. */
  switchData(
    inode: ExtInode,
    change: () => MaybeAsync<void>,
    signal?: AbortSignal,
  ): MaybeAsync<void> {
    return whileSwitching(this.#files, inode, change, signal);
  }

  /** See `fsyncFile`. */
  fsync(inode: ExtInode, file: CacheFile | null, isDataOnly: boolean): MaybeAsync<void> {
    return fsyncFile(this.#ctx, inode, file, isDataOnly);
  }

  /**
   * Writes all files and waits. What leads to them is in transactions then.
   *
   * @throws {FsError} if a file could not be written since the last `sync`
   */
  async sync(): Promise<void> {
    await syncInodesSb(this.sb);
    const errno = this.sb.wbErr.checkAndAdvance(this.#syncErrors);
    if (errno !== 0) throw FsError.of(errno, { syscall: "syncfs" });
  }

  /**
   * Has the data of `from` written where its name is about to take the place of another
   * (`auto_da_alloc`): else a crash could leave an empty file in place of the old one, or one of
   * zeros if it was preallocated. For the same reason what cannot be written replaces nothing,
   * while it is kept; Linux lets the old file go.
   *
   * @throws {FsError} `EIO`, `ENOMEM` ..: of the data there is some that is in the cache alone
   */
  beforeReplace(from: NamePlace, to: NamePlace, signal?: AbortSignal): MaybeAsync<void> {
    const ctx = this.#ctx;
    if (this.flusher.nrDirty === 0 && this.flusher.nrWriteback === 0) return undefined;
    const found = ctx.metadata.run(() => {
      if (dirLookup(ctx, to.dir, to.name) === 0) return undefined;
      const ino = dirLookup(ctx, from.dir, from.name);
      return ino === 0 ? undefined : ctx.inode(ino);
    }, signal);
    return andThen(found, (inode) => {
      if (inode?.mapping === undefined) return;
      const { mapping } = inode;
      return andThen(filemapWriteAndWaitRange(mapping, 0, Infinity), (errno) => {
        if (errno === 0 || !mapping.pages.marked(MARK_DIRTY)) return;
        throw FsError.of(errno, { syscall: "rename", cause: mapping.writeFailure });
      });
    });
  }

  /** Somebody has closed `inode`: what was cut to nothing and written anew is on its way now. */
  released(inode: ExtInode): MaybeAsync<void> {
    if (!this.#emptied.delete(inode) || inode.delalloc === undefined) return;
    if (inode.mapping === undefined || inode.linksCount === 0) return;
    return andThen(filemapFlush(inode.mapping), () => undefined);
  }

  /**
   * Notes that `inode` was read now, if the mount wants to know that (`touch_atime`). Neither
   * throws nor rejects.
   */
  noteAccess(inode: ExtInode): MaybeAsync<void> {
    const ctx = this.#ctx;
    if (ctx.transactions.failure !== undefined || inode.isDeleted) return;
    if (!this.#isAccessNews(inode)) return;
    // A time of access is no promise: the read has succeeded, and the user is told.
    const failed = (thrown: unknown): void =>
      ctx.warn(`the access to inode ${inode.ino} could not be noted: ${String(thrown)}`);
    try {
      const noted = ctx.transactions.run((handle) => stamp(ctx, handle, inode, "atime"));
      if (isPromise(noted)) return noted.catch(failed);
    } catch (thrown) {
      failed(thrown);
    }
  }

  /** Drops the content of `inode`, which is about to be deleted, and what it was promised. */
  forget(inode: ExtInode): MaybeAsync<void> {
    return this.mappings.evict(inode);
  }

  /**
   * Writes all files, stops the flusher and drops the caches of the files. Nobody uses them any
   * more.
   *
   * @throws {FsError} if something could not be written
   */
  async close(): Promise<void> {
    const errno = await this.flusher.close();
    await this.mappings.close();
    if (errno !== 0) throw FsError.of(errno, { detail: "files could not be written" });
  }

  #isAccessNews(inode: ExtInode): boolean {
    if (this.#atime === "noatime" || (inode.flags & NOATIME_FL) !== 0) return false;
    const { atime, mtime, ctime } = inode.attributes();
    const now = this.#ctx.now();
    if (atime.sec === now.sec && atime.nsec === now.nsec) return false;
    if (this.#atime === "strictatime") return true;
    return (
      !isBefore(mtime, atime) || !isBefore(ctime, atime) || now.sec - atime.sec >= RELATIME_SEC
    );
  }

  async #commitInode(inode: ExtInode): Promise<Errno> {
    const { transactions } = this.#ctx;
    try {
      if (isLaterTid(inode.syncTid, transactions.committedTid)) {
        await transactions.commit(inode.syncTid);
      }
      return 0;
    } catch (thrown) {
      return errnoOf(thrown);
    }
  }
}

function isBefore(a: Timespec, b: Timespec): boolean {
  return a.sec < b.sec || (a.sec === b.sec && a.nsec < b.nsec);
}
