/**
 * `quire manifest`: everything that can be seen of a tree, one JSON object a line, for comparing
 * images.
 *
 * Two trees are equal for `ls`, `cat`, `getfattr`, `lsattr` and `lseek(SEEK_HOLE)` exactly when
 * their manifests are. Content is hashed, sparse files above 64 MiB by their data segments only, so
 * a file of many TiB costs what its data costs.
 */
import { createHash, type Hash } from "node:crypto";
import { filemapRead } from "../../cache/filemap.ts";
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import { hasErrnoCode } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { readErrorOf } from "../read-error.ts";
import { dataSegments } from "../tree/data-segments.ts";
import { compareBytes, type Visit } from "../tree/walk.ts";
import { nanoseconds, octalMode, typeLetter } from "./format.ts";
import { textOf } from "./output.ts";

/** Files up to here are hashed whole. */
const WHOLE_BYTES_MAX = 64 * MIB;
const CHUNK_BYTES = MIB;

/** Told how many bytes were hashed, for progress. */
export type OnBytes = (bytes: number) => void;

/**
 * The content fields of inodes with several names, found when they were met first: SEEK_DATA counts
 * cached pages of unwritten extents as data, so the second look would see what the first has read.
 */
export type ContentMemo = Map<number, Record<string, unknown>>;

/**
 * The line of one file. What cannot be read is named in `error`, and the caller is told by
 * `onError`.
 */
export async function manifestOf(
  fs: FileSystem,
  visit: Visit,
  onBytes: OnBytes,
  onError: (error: unknown) => void,
  signal?: AbortSignal,
  memo?: ContentMemo,
): Promise<Record<string, unknown>> {
  const { inode } = visit;
  const attributes = inode.attributes();
  const line: Record<string, unknown> = {
    ...textFields("path", visit.path),
    type: typeLetter(inode.type),
    mode: octalMode(attributes.mode),
    uid: attributes.uid,
    gid: attributes.gid,
    nlink: attributes.nlink,
    ino: attributes.ino,
    mtime_ns: nanoseconds(attributes.mtime),
    atime_ns: nanoseconds(attributes.atime),
    blocks: attributes.sectorCount,
  };
  if (inode.type === "file") line["size"] = inode.size;
  const attempt = async (task: () => Promise<void>): Promise<void> => {
    try {
      await task();
    } catch (error) {
      if (!hasErrnoCode(error)) throw error;
      line["error"] = error.code;
      onError(error);
    }
  };
  await attempt(async () => {
    const content = memo?.get(inode.ino) ?? (await contentOf(fs, inode, onBytes, signal));
    if (attributes.nlink > 1) memo?.set(inode.ino, content);
    Object.assign(line, content);
  });
  await attempt(async () => {
    line["xattrs"] = await xattrFields(fs, inode, signal);
  });
  // Who cannot open a file, for want of its key, cannot ask for its flags either.
  const opens = inode.type === "directory" || inode.type === "file";
  if (opens && line["error"] !== "ENOKEY") line["flags"] = attributes.flags.toString(16);
  return line;
}

async function contentOf(
  fs: FileSystem,
  inode: VfsInode,
  onBytes: OnBytes,
  signal?: AbortSignal,
): Promise<Record<string, unknown>> {
  if (inode.type === "file") {
    const data = await dataSegments(fs, inode, signal);
    const hash = await contentHash(fs, inode, data, onBytes, signal);
    return { ...hash, data };
  }
  if (inode.type === "symlink") return textFields("target", await fs.readlink(inode, signal));
  if (inode.type !== "character" && inode.type !== "block") return {};
  const { rdevMajor, rdevMinor } = inode.attributes();
  return { rdev: [rdevMajor, rdevMinor] };
}

/** `name` as text, and `name_b64` beside it where the bytes are not UTF-8. */
function textFields(name: string, bytes: Uint8Array): Record<string, string> {
  const { text, isExact } = textOf(bytes);
  if (isExact) return { [name]: text };
  return { [name]: text, [`${name}_b64`]: base64(bytes) };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}

async function xattrFields(
  fs: FileSystem,
  inode: VfsInode,
  signal?: AbortSignal,
): Promise<Record<string, string>> {
  const encoder = new TextEncoder();
  const all = [...(await fs.xattrs(inode, signal))];
  all.sort(([a], [b]) => compareBytes(encoder.encode(a), encoder.encode(b)));
  const out = Object.create(null) as Record<string, string>;
  for (const [name, value] of all) out[name] = base64(value);
  return out;
}

async function contentHash(
  fs: FileSystem,
  inode: VfsInode,
  segments: readonly (readonly [number, number])[],
  onBytes: OnBytes,
  signal?: AbortSignal,
): Promise<Record<string, string>> {
  const hash = createHash("sha256");
  if (inode.size <= WHOLE_BYTES_MAX) {
    await hashRange(fs, inode, 0, inode.size, hash, onBytes, signal);
    return { sha256: hash.digest("hex") };
  }
  for (const [start, end] of segments) {
    const head = Buffer.alloc(16);
    head.writeBigUInt64LE(BigInt(start), 0);
    head.writeBigUInt64LE(BigInt(end - start), 8);
    hash.update(head);
    await hashRange(fs, inode, start, end, hash, onBytes, signal);
  }
  return { sha256_segments: hash.digest("hex") };
}

async function hashRange(
  fs: FileSystem,
  inode: VfsInode,
  start: number,
  end: number,
  hash: Hash,
  onBytes: OnBytes,
  signal?: AbortSignal,
): Promise<void> {
  const file = await fs.openFile(inode, signal);
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(end - start, 1)));
  const iocb = { file, posBytes: start, flags: 0, signal };
  while (iocb.posBytes < end) {
    const wanted = Math.min(buffer.length, end - iocb.posBytes);
    const at = iocb.posBytes;
    const got = await filemapRead(iocb, buffer.subarray(0, wanted));
    if (got < 0) {
      signal?.throwIfAborted();
      throw readErrorOf(file, got, at, `inode ${inode.ino}`);
    }
    if (got === 0) break;
    hash.update(buffer.subarray(0, got));
    onBytes(got);
  }
}
