/**
 * The calls of `fs.promises` that work on whole trees, or copy: `rm`, `cp`, `copyFile`, and
 * `watch`.
 *
 * A copy reads and writes through the page cache in large pieces, keeps holes, and never
 * overwrites what it was told to keep. `cp` copies as Node's does: no owners, no attributes, times
 * only if asked.
 */
import type { WalkResult } from "../fs/namei.ts";
import type { VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { MIB } from "../lib/units.ts";
import { checkInteger, codedError, type PathLike, pathBytes, pathText } from "./arguments.ts";
import { COPYFILE_EXCL, COPYFILE_FICLONE, COPYFILE_FICLONE_FORCE } from "./constants.ts";
import { ContentCalls } from "./content-calls.ts";
import { type CopyApi, type CopyOptions, TreeCopier } from "./copy-tree.ts";
import { isDots } from "./directory.ts";
import type { FileHandle } from "./file-handle.ts";
import { joined } from "./last-name.ts";
import { O_CREAT, O_EXCL, O_RDONLY, O_WRONLY } from "./open-flags.ts";
import { checkCopying, checkFlag, checkRemoval, checkSmallMode } from "./option-checks.ts";
import { placed } from "./volume-base.ts";
import { type WatchEvent, type WatchOptions, watchChanges } from "./watch.ts";

const COPY_MODE_MAX = COPYFILE_EXCL | COPYFILE_FICLONE | COPYFILE_FICLONE_FORCE;
const CHUNK_BYTES = MIB;

export interface RmOptions {
  /** A path that is missing is no error. */
  readonly force?: boolean | undefined;
  /** Directories with all that is in them. */
  readonly recursive?: boolean | undefined;
  readonly maxRetries?: number | undefined;
  readonly retryDelay?: number | undefined;
}

/** Options of `rmdir`. */
export type RmdirOptions = Omit<RmOptions, "force">;

export abstract class TreeCalls extends ContentCalls {
  /** Removes a file or, with `recursive`, a tree. */
  async rm(path: PathLike, options?: RmOptions): Promise<void> {
    pathBytes(path);
    const { force, recursive } = checkRemoval(options);
    if (options !== undefined) checkFlag(options, "force");
    let inode: VfsInode;
    try {
      ({ inode } = await this.at(path, "lstat", false));
    } catch (error) {
      if (force === true && error instanceof FsError && error.code === "ENOENT") return;
      throw error;
    }
    if (inode.type !== "directory") return orGone(this.unlink(path));
    if (recursive !== true) throw isDirectoryError(path);
    await this.#removeTree(path, inode);
  }

  /** Removes an empty directory or, with `recursive`, a tree (as older programs ask for it). */
  override async rmdir(path: PathLike, options?: RmdirOptions): Promise<void> {
    pathBytes(path);
    if (checkRemoval(options).recursive === true) {
      const { inode } = await this.at(path, "stat", true);
      if (inode.type === "directory") return this.#removeTree(path, inode);
    }
    return super.rmdir(path);
  }

  /** Copies the content and mode of a file. */
  async copyFile(from: PathLike, to: PathLike, mode?: number): Promise<void> {
    pathBytes(from, "src");
    pathBytes(to, "dest");
    const flags = checkSmallMode(mode, COPY_MODE_MAX);
    const where = { syscall: "copyfile", path: pathText(from), dest: pathText(to) };
    if ((flags & COPYFILE_FICLONE_FORCE) !== 0) throw new FsError("ENOTSUP", where);
    const isNew = (flags & COPYFILE_EXCL) !== 0;
    await placed(where, async () => {
      await using source = await this.open(from, O_RDONLY);
      const mode = (await source.stat()).mode & 0o7777;
      await using target = await this.open(to, O_WRONLY | O_CREAT | (isNew ? O_EXCL : 0), mode);
      if (target.vfsInode.ino === source.vfsInode.ino) return;
      try {
        if (source.cacheFile === null) throw new FsError("EISDIR");
        await target.truncate(0);
        await target.chmod(mode);
        await this.#copyContent(source, target);
      } catch (thrown) {
        await this.unlink(to).catch(() => undefined); // What was first counts.
        throw thrown;
      }
    });
  }

  /** Copies a file, link or, with `recursive`, a tree. */
  async cp(from: PathLike, to: PathLike, options?: CopyOptions): Promise<void> {
    const given = checkCopying(options);
    checkInteger(given.mode ?? 0, "mode", 0, COPY_MODE_MAX);
    const [source, target] = [pathBytes(from, "src"), pathBytes(to, "dest")];
    const api = this as unknown as CopyApi;
    await new TreeCopier(api, given).copy(source, target);
  }

  /**
   * What is changed through this volume at `path`, a file or a directory, until the signal is
   * aborted.
   */
  watch(path: PathLike, options?: WatchOptions): AsyncIterableIterator<WatchEvent> {
    const where = async (): Promise<WalkResult> => {
      const found = await this.at(path, "watch", true);
      await this.guard("watch", path, () => this.checkListing(found.inode, undefined));
      return found;
    };
    return watchChanges(this.changes, where, options);
  }

  /** Copies data, and where the source has holes leaves holes. `target` is empty. */
  async #copyContent(source: FileHandle, target: FileHandle): Promise<void> {
    const inode = source.vfsInode;
    const { size } = inode;
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, Math.max(size, 1)));
    for (let at = 0; at < size; ) {
      const data = await this.fileSystem.seekData(inode, at);
      if (data === -1) break;
      const end = await this.fileSystem.seekHole(inode, data);
      const limit = end === -1 ? size : Math.min(end, size);
      for (at = data; at < limit; ) {
        const part = chunk.subarray(0, Math.min(chunk.length, limit - at));
        const { bytesRead } = await source.read(part, 0, part.length, at);
        if (bytesRead === 0) break;
        for (let done = 0; done < bytesRead; ) {
          const { bytesWritten } = await target.write(part, done, bytesRead - done, at + done);
          done += bytesWritten;
        }
        at += bytesRead;
      }
    }
    if ((await target.stat()).size !== size) await target.truncate(size);
  }

  async #looked(path: PathLike): Promise<VfsInode> {
    return (await this.at(path, "lstat", false)).inode;
  }

  /** Depth first, with a stack of its own: a tree may be deeper than calls may nest. */
  async #removeTree(path: PathLike, root: VfsInode): Promise<void> {
    const syscall = "scandir";
    try {
      return await super.rmdir(path); // Nothing goes where it could not go itself.
    } catch (thrown) {
      const code = thrown instanceof FsError ? thrown.code : "";
      if (code === "ENOENT") return;
      if (code !== "ENOTEMPTY") throw thrown;
    }
    const stack = [{ path: pathBytes(path), inode: root, isEmptied: false }];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      if (top.isEmptied) {
        await orGone(this.rmdir(top.path));
        stack.pop();
        continue;
      }
      top.isEmptied = true;
      const { path: here, inode } = top;
      await this.guard(syscall, here, () => this.checkListing(inode, undefined));
      for (let cookie = 0; cookie !== -1; ) {
        const from = cookie;
        const batch = await this.guard(syscall, path, () => this.fileSystem.readdir(inode, from));
        for (const entry of batch.entries) {
          if (isDots(entry.name)) continue;
          const child = joined(here, entry.name);
          const found = await orGone(this.#looked(child));
          if (found?.type === "directory") {
            stack.push({ path: child, inode: found, isEmptied: false });
          } else if (found !== undefined) await orGone(this.unlink(child));
        }
        cookie = batch.nextCookie;
      }
    }
  }
}

/** What `work` gives; nothing where somebody else was quicker to take the name away. */
async function orGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (thrown) {
    if (thrown instanceof FsError && thrown.code === "ENOENT") return undefined;
    throw thrown;
  }
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
