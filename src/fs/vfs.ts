/**
 * What every file system offers to the fronts, and nothing about how it does it (`struct
 * super_operations`, `struct inode_operations`, cut to what a user-space library needs).
 *
 * Names are bytes here: an image may hold names that are not UTF-8. Paths, text and `fs.promises`
 * shapes are the fronts'. Every call returns at once when all that it needs is cached
 * (`MaybeAsync`), and throws `FsError` otherwise on failure: `EUCLEAN`/`EBADMSG` for a damaged
 * image, `EIO` for a failed store.
 */
import type { CacheFile } from "../cache/cache-file.ts";
import type { Inode } from "../cache/inode.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import type { ByteRange, FileSystemWriter } from "./vfs-write.ts";

/** Type of a file as a directory entry or inode tells it. */
export type FileType =
  | "file"
  | "directory"
  | "symlink"
  | "character"
  | "block"
  | "fifo"
  | "socket"
  | "unknown";

/** Seconds since 1970, which may be negative, and nanoseconds 0..999999999 after them. */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

/** What `stat` and FS_IOC_GETFLAGS tell about an inode. */
export interface InodeAttributes {
  readonly ino: number;
  readonly generation: number;
  /** Type and permission bits, as `st_mode`. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  readonly sizeBytes: number;
  /** In units of 512 bytes, as `st_blocks`. */
  readonly sectorCount: number;
  readonly blockBytes: number;
  readonly atime: Timespec;
  readonly mtime: Timespec;
  readonly ctime: Timespec;
  /** Undefined where the format does not keep it. */
  readonly birthtime: Timespec | undefined;
  /** As FS_IOC_GETFLAGS shows them. */
  readonly flags: number;
  /** Project id, 0 without the feature. */
  readonly projectId: number;
}

/**
 * An inode of a mounted file system. Two calls for one number give the same object while it is in
 * use.
 */
export interface VfsInode extends Inode {
  readonly type: FileType;
  attributes(): InodeAttributes;
}

/** One name of a directory. */
export interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly ino: number;
  /** `unknown` where the directory does not tell; the inode does. */
  readonly type: FileType;
}

/** A stretch of a directory in its own order, with the cookie at which the next stretch begins. */
export interface DirectoryBatch {
  /** Includes `.` and `..`. */
  readonly entries: readonly DirectoryEntry[];
  /** -1 at the end. */
  readonly nextCookie: number;
}

/** One run of a file as FIEMAP reports it; `physicalBytes` is -1 where there is none. */
export interface FileExtent {
  readonly logicalBytes: number;
  readonly physicalBytes: number;
  readonly lengthBytes: number;
  /** FIEMAP_EXTENT_*: 0x800 unwritten, 0x200 inline, 0x1 last .. */
  readonly flags: number;
}

/** `statfs(2)`. Blocks are in units of `blockBytes`. */
export interface FileSystemUsage {
  readonly typeMagic: number;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly freeBlockCount: number;
  readonly availableBlockCount: number;
  readonly inodeCount: number;
  readonly freeInodeCount: number;
  readonly nameBytesMax: number;
}

export interface FileSystem {
  /** "ext2", "ext3", "ext4". */
  readonly typeName: string;
  readonly rootIno: number;
  /**
   * What the user must know about the image: a journal replayed into memory, a damaged superblock.
   */
  readonly warnings: readonly string[];
  /** What changes the file system; undefined where it is mounted read-only. */
  readonly writer: FileSystemWriter | undefined;

  /**
   * The inode `ino` (`iget`). Throws `ESTALE` for a free one, `EUCLEAN` for a number outside the
   * image.
   */
  inode(ino: number, signal?: AbortSignal): MaybeAsync<VfsInode>;
  /** The number behind `name` in `dir`, 0 if there is none. `.` and `..` are names like others. */
  lookup(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<number>;
  /**
   * The inode behind `name` in `dir`, undefined if there is none: `lookup` and `inode` in one, so
   * that nobody can take the name away in between. Throws what they throw.
   */
  find(dir: VfsInode, name: Uint8Array, signal?: AbortSignal): MaybeAsync<VfsInode | undefined>;
  /**
   * Entries from `cookie` (0 at the start) on, at least one unless the end is reached
   * (`iterate_shared`).
   */
  readdir(dir: VfsInode, cookie: number, signal?: AbortSignal): MaybeAsync<DirectoryBatch>;
  /** Target of a symlink, as stored. */
  readlink(inode: VfsInode, signal?: AbortSignal): MaybeAsync<Uint8Array>;
  /** All extended attributes with their full names ("user.x"), in the form that users see. */
  xattrs(inode: VfsInode, signal?: AbortSignal): MaybeAsync<ReadonlyMap<string, Uint8Array>>;
  /** An open regular file, to be read by `filemapRead`. Throws `ENOKEY` for encrypted content. */
  openFile(inode: VfsInode, signal?: AbortSignal): MaybeAsync<CacheFile>;
  /**
   * Position of the next data at or after `posBytes`, -1 if there is none (SEEK_DATA, ENXIO as -1).
   */
  seekData(inode: VfsInode, posBytes: number, signal?: AbortSignal): MaybeAsync<number>;
  /**
   * Position of the next hole, the end of the file counting as one; -1 if `posBytes` lies behind
   * it.
   */
  seekHole(inode: VfsInode, posBytes: number, signal?: AbortSignal): MaybeAsync<number>;
  /** Extents of the file in the range (FIEMAP). */
  extents(inode: VfsInode, signal?: AbortSignal): MaybeAsync<readonly FileExtent[]>;
  usage(): FileSystemUsage;
  /** The stretches of the device that are in use, in order, in bytes. */
  usedRanges(signal?: AbortSignal): AsyncIterable<ByteRange>;
  /** Layout, features and state, as data for `info`: JSON-ready, keys in reading order. */
  describe(): Readonly<Record<string, unknown>>;
  /** Drops the caches of this file system. The device stays open: its opener closes it. */
  close(): Promise<void>;
}
