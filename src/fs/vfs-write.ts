/**
 * The half of a file system that changes something: what `FileSystem.writer` offers to the fronts
 * on a mount that may be written (`struct inode_operations`, `struct file_operations`).
 *
 * As in `vfs.ts`, names are bytes, every call returns at once when all that it needs is cached, and
 * failures are thrown as `FsError`. A call that fails has changed nothing. Who may do what is the
 * caller's question; what the file itself forbids (immutable, append-only) is answered here with
 * `EPERM`.
 *
 *  1. A directory is locked by the call that changes it (`i_rwsem`): callers need no locks.
 *  2. What returned is in memory. It is on disk after `fsync` of it or `sync` of all.
 */
import type { CacheFile } from "../cache/cache-file.ts";
import type { Kiocb } from "../cache/filemap.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import type { Timespec, VfsInode } from "./vfs.ts";

/** Fail with `EEXIST` where the new name is there. */
export const RENAME_NOREPLACE = 1;
/** Both names are there, and change places. */
export const RENAME_EXCHANGE = 2;

/** Fail with `EEXIST` where the attribute is there. */
export const XATTR_CREATE = 1;
/** Fail with `ENODATA` where it is not. */
export const XATTR_REPLACE = 2;

export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_COLLAPSE_RANGE = 0x08;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const FALLOC_FL_INSERT_RANGE = 0x20;

/** What a new inode begins as. */
export interface NewInode {
  /** Type and permission bits, as `st_mode`, without the umask taken off. */
  readonly mode: number;
  /** Taken off `mode`, unless the directory has a default ACL, which decides then. */
  readonly umask: number;
  readonly uid: number;
  /** A directory with the setgid bit gives its own group instead. */
  readonly gid: number;
  /** Of a device. */
  readonly rdevMajor?: number | undefined;
  readonly rdevMinor?: number | undefined;
  /** Of a symlink, 1..4095 bytes. */
  readonly target?: Uint8Array | undefined;
}

/** What `setattr` changes; what is left out stays. The change time is set with any of them. */
export interface AttributeChange {
  /** Permission bits, 0..0o7777. */
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly atime?: Timespec | undefined;
  readonly mtime?: Timespec | undefined;
  /** As FS_IOC_SETFLAGS takes them. */
  readonly flags?: number | undefined;
  readonly projectId?: number | undefined;
}

/** A stretch of the device, in bytes. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** See the head of the file. */
export interface FileSystemWriter {
  /**
   * Makes a file, directory, symlink, device, FIFO or socket (`create`, `mkdir`, `symlink`,
   * `mknod`). Throws `EEXIST`, `ENOSPC`, `EMLINK`, `ENAMETOOLONG`, `ENOENT` for a directory that
   * was removed.
   */
  create(
    dir: VfsInode,
    name: Uint8Array,
    what: NewInode,
    signal?: AbortSignal,
  ): MaybeAsync<VfsInode>;
  /** A file without a name (`O_TMPFILE`): gone after `release`, unless `link` gave it one. */
  tmpfile(dir: VfsInode, what: NewInode, signal?: AbortSignal): MaybeAsync<VfsInode>;
  /** Gives `inode` one more name. Throws `EEXIST`, `EMLINK`, `EPERM` for directories. */
  link(inode: VfsInode, dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<void>;
  /** Takes a name away. Throws `ENOENT`, `EISDIR`. An inode that is retained lives on. */
  unlink(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<void>;
  /** Throws `ENOENT`, `ENOTDIR`, `ENOTEMPTY`. */
  rmdir(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<void>;
  /**
   * Moves a name, over another one unless `flags` say otherwise (`renameat2`). Throws `ENOENT`,
   * `EEXIST`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`, `EINVAL` for a directory moved into itself.
   */
  rename(
    fromDir: VfsInode,
    fromName: Uint8Array,
    toDir: VfsInode,
    toName: Uint8Array,
    flags: number,
    signal?: AbortSignal,
  ): MaybeAsync<void>;
  setAttributes(inode: VfsInode, change: AttributeChange, signal?: AbortSignal): MaybeAsync<void>;
  /**
   * Sets (`value`) or removes (`null`) the attribute with the full name `name`, in the form that
   * users see. `flags` are `XATTR_CREATE`, `XATTR_REPLACE` or 0.
   */
  setXattr(
    inode: VfsInode,
    name: string,
    value: Uint8Array | null,
    flags: number,
    signal?: AbortSignal,
  ): MaybeAsync<void>;
  /** Cuts a regular file or lets it grow with a hole (`truncate`). */
  setSize(inode: VfsInode, sizeBytes: number, signal?: AbortSignal): MaybeAsync<void>;
  /**
   * Writes `bytes` at `iocb.posBytes`, or with `IOCB_APPEND` at the end of the file, and moves
   * `posBytes` on. Returns the bytes written, at least one; `-EAGAIN` if it may not wait. With
   * `IOCB_DSYNC` it is on disk when this returns. `bytes` is borrowed until then.
   */
  write(iocb: Kiocb, bytes: Uint8Array): MaybeAsync<number>;
  /** `fallocate(2)`; `mode` of the `FALLOC_FL_*`. */
  fallocate(
    inode: VfsInode,
    mode: number,
    offsetBytes: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): MaybeAsync<void>;
  /**
   * Makes all of the inode durable, with the name it was made under; with `isDataOnly` what is
   * needed to read its data back (`fdatasync`). `file` is the open file to be told of errors of
   * earlier write-back, once; null for a directory or special file.
   */
  fsync(inode: VfsInode, file: CacheFile | null, isDataOnly: boolean): MaybeAsync<void>;
  /** Makes everything durable (`syncfs`). */
  sync(): Promise<void>;
  /**
   * Notes that somebody holds the inode open, so that it outlives its last name. Throws `ENOENT`
   * for one that has lost it already, and is being deleted.
   */
  retain(inode: VfsInode): void;
  /** Takes `retain` back; the last one deletes an inode without names. */
  release(inode: VfsInode): MaybeAsync<void>;
  /** Notes that the content was read, as far as the mount keeps access times (`touch_atime`). */
  noteAccess(inode: VfsInode): void;
  /** Writes all down, and keeps changes waiting until `thaw`: the image is whole meanwhile. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Tells the store which blocks are free (`FITRIM`); the bytes that were told of. */
  trim(signal?: AbortSignal): Promise<number>;
}
