/** The tree below a path of an image, as entries. */
import { filemapRead } from "../../cache/filemap.ts";
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import { MIB } from "../../lib/units.ts";
import { readErrorOf } from "../read-error.ts";
import { dataSegments } from "./data-segments.ts";
import {
  attributesOf,
  type DataRange,
  NO_XATTRS,
  type OnTreeError,
  ROOT_PATH,
  type Stretch,
  type TreeEntry,
  type TreeSource,
} from "./tree-entry.ts";
import { walkTree } from "./walk.ts";

const CHUNK_BYTES = MIB;

/** What is told and asked of a source. */
export interface SourceOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called for what cannot be read; without it the error ends the source. */
  readonly onError?: OnTreeError | undefined;
}

async function* contentOf(
  fs: FileSystem,
  inode: VfsInode,
  ranges: readonly DataRange[],
  signal: AbortSignal | undefined,
): AsyncGenerator<Stretch> {
  const file = await fs.openFile(inode, signal);
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, Math.max(inode.size, 1)));
  for (const range of ranges) {
    const iocb = { file, posBytes: range.offsetBytes, flags: 0, signal };
    const end = range.offsetBytes + range.lengthBytes;
    while (iocb.posBytes < end) {
      const offsetBytes = iocb.posBytes;
      const wanted = Math.min(buffer.length, end - offsetBytes);
      const got = await filemapRead(iocb, buffer.subarray(0, wanted));
      if (got < 0) {
        signal?.throwIfAborted();
        throw readErrorOf(file, got, offsetBytes, `inode ${inode.ino}`);
      }
      if (got === 0) break;
      yield { offsetBytes, bytes: buffer.subarray(0, got) };
    }
  }
}

/** The entries of the tree at `start`, depth first, names in the order of their bytes. */
export async function* volumeEntries(
  fs: FileSystem,
  start: VfsInode,
  options: SourceOptions = {},
): TreeSource {
  const { signal, onError } = options;
  const firstPathOf = new Map<number, Uint8Array>();
  const walk = walkTree(fs, start, { signal, ...(onError === undefined ? {} : { onError }) });
  for await (const { path: walked, inode, depth } of walk) {
    const path = depth === 0 ? ROOT_PATH : walked;
    try {
      const linkTo = firstPathOf.get(inode.ino);
      if (inode.type !== "directory" && linkTo === undefined && inode.attributes().nlink > 1) {
        firstPathOf.set(inode.ino, path);
      }
      yield await entryOf(fs, inode, path, linkTo, signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (onError === undefined) throw error;
      onError(path, error);
    }
  }
}

async function entryOf(
  fs: FileSystem,
  inode: VfsInode,
  path: Uint8Array,
  linkTo: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<TreeEntry> {
  const isFile = inode.type === "file";
  const isLink = linkTo !== undefined;
  const ranges = isFile && !isLink ? await rangesOf(fs, inode, signal) : undefined;
  return {
    path,
    type: inode.type,
    ...attributesOf(inode),
    target: inode.type === "symlink" ? await fs.readlink(inode, signal) : undefined,
    linkTo,
    xattrs: isLink ? NO_XATTRS : await fs.xattrs(inode, signal),
    sizeBytes: isFile ? inode.size : 0,
    ranges,
    content: ranges === undefined ? undefined : () => contentOf(fs, inode, ranges, signal),
  };
}

/** Where the file has data; the last stretch ends where the file ends. */
async function rangesOf(
  fs: FileSystem,
  inode: VfsInode,
  signal: AbortSignal | undefined,
): Promise<DataRange[]> {
  const segments = await dataSegments(fs, inode, signal);
  return segments.map(([start, end]) => {
    return { offsetBytes: start, lengthBytes: Math.min(end, inode.size) - start };
  });
}
