/**
 * FileWriter: one file of a tree into a directory of an image, with all that belongs to it.
 *
 *     create --> content, holes left out --> extended attributes --> owner, mode, times
 *
 * Each step would undo a later one: content changes times and takes privileges away, an access
 * control list changes the mode.
 */
import type { CacheFile } from "../../cache/cache-file.ts";
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import type { FileSystemWriter, NewInode } from "../../fs/vfs-write.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { type TreeEntry, typeBits } from "./tree-entry.ts";

/** Told of an attribute of a file that could not be set. */
export type OnSkipped = (entry: TreeEntry, name: string, error: unknown) => void;

export interface FileWriterOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: ((bytes: number) => void) | undefined;
  readonly onSkipped?: OnSkipped | undefined;
  /** Data is written down when so much of one file was given. */
  readonly syncBytes?: number | undefined;
}

const MODE_BITS = 0o7777;
const WRITE_BYTES_MAX = MIB;
const ACLS: readonly string[] = ["system.posix_acl_access", "system.posix_acl_default"];
/** What a file system, not a file, forbids: the attribute is left out and told of. */
const LEFT_OUT: readonly string[] = [
  "EOPNOTSUPP",
  "ENOTSUP",
  "EPERM",
  "EINVAL",
  "ERANGE",
  "E2BIG",
  "ENOSPC",
];

/** See the head of the file. */
export class FileWriter {
  readonly #fs: FileSystem;
  readonly #options: FileWriterOptions;

  constructor(fs: FileSystem, options: FileWriterOptions) {
    this.#fs = fs;
    this.#options = options;
  }

  /** Makes the file of `entry`; a directory gets its owner and times by `setAttributes`. */
  async make(
    dir: VfsInode,
    name: Uint8Array,
    entry: TreeEntry,
    parent: { readonly hasDefaultAcl: boolean },
  ): Promise<VfsInode> {
    const inode = await this.create(dir, name, newInodeOf(entry));
    try {
      if (entry.content !== undefined) await this.writeContent(inode, entry);
      await this.#setXattrs(inode, entry, parent.hasDefaultAcl);
      if (entry.type !== "directory") await this.setAttributes(inode, entry);
    } catch (thrown) {
      // Half a file is not left behind.
      if (entry.type !== "directory") await this.unlink(dir, name);
      throw thrown;
    }
    return inode;
  }

  async create(dir: VfsInode, name: Uint8Array, what: NewInode): Promise<VfsInode> {
    return this.#writer.create(dir, name, what, this.#options.signal);
  }

  async unlink(dir: VfsInode, name: Uint8Array): Promise<void> {
    await this.#writer.unlink(dir, name);
  }

  async link(inode: VfsInode, dir: VfsInode, name: Uint8Array): Promise<void> {
    await this.#writer.link(inode, dir, name, this.#options.signal);
  }

  /** Sets owner, mode and times of `entry`; a symlink has no mode. */
  async setAttributes(inode: VfsInode, entry: TreeEntry): Promise<void> {
    const { uid, gid, mtime, atime = mtime } = entry;
    const mode = entry.type === "symlink" ? undefined : entry.mode & MODE_BITS;
    await this.#writer.setAttributes(inode, { mode, uid, gid, atime, mtime }, this.#options.signal);
  }

  /** Writes the content of `entry` into an empty file. */
  async writeContent(inode: VfsInode, entry: TreeEntry): Promise<void> {
    const { signal } = this.#options;
    const writer = this.#writer;
    const file = await this.#fs.openFile(inode, signal);
    writer.retain(inode);
    try {
      let unsyncedBytes = 0;
      for await (const { offsetBytes, bytes } of entry.content!()) {
        await this.#writeStretch(file, offsetBytes, bytes);
        this.#options.onBytes?.(bytes.length);
        unsyncedBytes += bytes.length;
        if (unsyncedBytes < (this.#options.syncBytes ?? Number.POSITIVE_INFINITY)) continue;
        unsyncedBytes = 0;
        await writer.sync();
      }
      if (inode.size !== entry.sizeBytes) await writer.setSize(inode, entry.sizeBytes, signal);
    } finally {
      await writer.release(inode);
    }
  }

  async #writeStretch(file: CacheFile, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    const { signal } = this.#options;
    const iocb = { file, posBytes: offsetBytes, flags: 0, signal };
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + WRITE_BYTES_MAX);
      const count = await this.#writer.write(iocb, part);
      if (count < 0) throw FsError.of(count, { syscall: "write" });
      done += count;
    }
  }

  async #setXattrs(inode: VfsInode, entry: TreeEntry, hasDefaultAcl: boolean): Promise<void> {
    const { signal } = this.#options;
    if (hasDefaultAcl) {
      const inherited = await this.#fs.xattrs(inode, signal);
      for (const name of ACLS) {
        if (!inherited.has(name) || entry.xattrs.has(name)) continue;
        await this.#writer.setXattr(inode, name, null, 0, signal);
      }
    }
    for (const [name, value] of entry.xattrs) {
      try {
        await this.#writer.setXattr(inode, name, value, 0, signal);
      } catch (thrown) {
        const isLeftOut = hasErrnoCode(thrown) && LEFT_OUT.includes(thrown.code);
        if (!isLeftOut || this.#options.onSkipped === undefined) throw thrown;
        this.#options.onSkipped(entry, name, thrown);
      }
    }
  }

  get #writer(): FileSystemWriter {
    const { writer } = this.#fs;
    if (writer === undefined) throw new FsError("EROFS");
    return writer;
  }
}

/** What the inode of an entry begins as: nobody else may use it until it is whole. */
function newInodeOf(entry: TreeEntry): NewInode {
  const { uid, gid, rdevMajor, rdevMinor, target, type } = entry;
  const bits = type === "symlink" ? 0o777 : entry.mode & 0o700;
  const base = { mode: typeBits(type) | bits, umask: 0, uid, gid, rdevMajor, rdevMinor };
  return target === undefined ? base : { ...base, target };
}
