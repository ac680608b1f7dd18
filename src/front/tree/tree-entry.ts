/**
 * TreeEntry: one file of a tree in a form that a directory of the host, a tar stream and an image
 * have in common.
 *
 *     host directory --+                  +--> image        (`TreeWriter`)
 *     tar stream ------+--> TreeEntry --> +
 *     image -----------+                  +--> tar stream   (`writeTar`)
 *
 *  1. Paths are bytes relative to the root of the tree, without `.`, `..`, NUL or empty names; the
 *     root itself is the empty path. A source that cannot give that refuses the entry.
 *  2. A directory comes before what is in it. An entry with `linkTo` comes after the entry that it
 *     names, and has nothing of its own but its path.
 *  3. `content` may be gone through once, before the next entry is asked for; its stretches ascend
 *     and do not overlap, what lies between them is a hole.
 */
import type { FileType, Timespec, VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";

/** Data of a file from a place on. `bytes` is lent until the next stretch is asked for. */
export interface Stretch {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** A stretch of a file that is data. */
export interface DataRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** See the head of the file. */
export interface TreeEntry {
  readonly path: Uint8Array;
  readonly type: FileType;
  /** Permission bits, 0..0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Timespec;
  /** Undefined where the source does not keep it. */
  readonly atime: Timespec | undefined;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  /** Of a symlink. */
  readonly target: Uint8Array | undefined;
  /** Path of an earlier entry that this is one more name of. */
  readonly linkTo: Uint8Array | undefined;
  /** By their full names, in the form that users see. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
  /** Of a regular file; 0 for others. */
  readonly sizeBytes: number;
  /** Bytes that are not in holes, at most; `sizeBytes` where the source does not know. */
  readonly dataBytes?: number | undefined;
  /** Where a regular file has data, if that is known before its content is gone through. */
  readonly ranges?: readonly DataRange[] | undefined;
  /** Of a regular file. */
  readonly content: (() => AsyncIterable<Stretch>) | undefined;
}

/** The entries of a tree, in order. */
export type TreeSource = AsyncIterable<TreeEntry>;

/** What may be wrong with one file of a source; the others follow. */
export type OnTreeError = (path: Uint8Array, error: unknown) => void;

export const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();
export const ROOT_PATH: Uint8Array = new Uint8Array(0);

const SLASH = 0x2f;
const DOT = 0x2e;

/** True for `.` and `..`. */
function isDots(name: Uint8Array): boolean {
  return name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));
}

/**
 * The names of a path, without empty ones and `.`, which mean nothing.
 *
 * @throws {FsError} `EINVAL` for `..` and for a NUL
 */
export function namesOfPath(path: Uint8Array): Uint8Array[] {
  if (path.includes(0)) throw new FsError("EINVAL", { detail: "a path holds a NUL" });
  const names: Uint8Array[] = [];
  for (let from = 0; from <= path.length; ) {
    const found = path.indexOf(SLASH, from);
    const end = found === -1 ? path.length : found;
    const name = path.subarray(from, end);
    from = end + 1;
    if (name.length === 0) continue;
    if (!isDots(name)) names.push(name);
    else if (name.length === 2) {
      throw new FsError("EINVAL", { detail: "a path with '..' may lead out of the tree" });
    }
  }
  return names;
}

/** Names with slashes between them. */
export function pathOfNames(names: readonly Uint8Array[]): Uint8Array {
  let length = Math.max(0, names.length - 1);
  for (const name of names) length += name.length;
  const path = new Uint8Array(length);
  let at = 0;
  for (const [index, name] of names.entries()) {
    if (index > 0) path[at++] = SLASH;
    path.set(name, at);
    at += name.length;
  }
  return path;
}

/** A path as a key of a map: its bytes, one letter for each. */
export function pathKey(path: Uint8Array): string {
  let key = "";
  for (const byte of path) key += String.fromCharCode(byte);
  return key;
}

const TYPE_BITS: Readonly<Record<FileType, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  character: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
  socket: 0o140000,
  unknown: 0,
};

/** The bits of `st_mode` for a type. */
export function typeBits(type: FileType): number {
  return TYPE_BITS[type];
}

/** What an inode of an image says about itself, as an entry without content. */
export function attributesOf(
  inode: VfsInode,
): Pick<TreeEntry, "mode" | "uid" | "gid" | "mtime" | "atime" | "rdevMajor" | "rdevMinor"> {
  const { mode, uid, gid, mtime, atime, rdevMajor, rdevMinor } = inode.attributes();
  return { mode: mode & 0o7777, uid, gid, mtime, atime, rdevMajor, rdevMinor };
}
