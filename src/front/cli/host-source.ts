/**
 * A file or a directory tree of this machine, as entries.
 *
 * Names are bytes. Files with several names are known by device and inode. A file that has fewer
 * blocks than bytes is sparse: whole blocks of zeros in it become holes, and large holes are not
 * read. Extended attributes come from `getfattr` where that is installed.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  statSync,
} from "node:fs";
import type { FileType, Timespec } from "../../fs/vfs.ts";
import { isZero } from "../../lib/bytes.ts";
import { realClock } from "../../lib/clock.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { MIB, PAGE_BYTES, SECTOR_BYTES } from "../../lib/units.ts";
import {
  NO_XATTRS,
  type OnTreeError,
  pathOfNames,
  ROOT_PATH,
  type Stretch,
  type TreeEntry,
  type TreeSource,
} from "../tree/tree-entry.ts";
import { compareBytes } from "../tree/walk.ts";
import { dataRangesOf } from "./host-holes.ts";
import { hostXattrs, type XattrsByPath } from "./host-xattrs.ts";

const CHUNK_BYTES = MIB;
const READS_PER_TURN = 16;
const NSEC_PER_SEC = 1_000_000_000n;
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** What is asked of the host. */
export interface HostOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called for what cannot be read; without it the error ends the source. */
  readonly onError?: OnTreeError | undefined;
  /** Extended attributes too; true if left out. */
  readonly xattrs?: boolean | undefined;
  /** Path that the root gets among the entries; that of the root, which is empty, if left out. */
  readonly rootPath?: Uint8Array | undefined;
  /** Files with several names that were met, by device and inode: of several roots together. */
  readonly links?: Map<string, Uint8Array> | undefined;
  /**
   * Files that are being written from this tree: they are left out of it, and `onExcept` is told.
   */
  readonly except?: readonly string[] | undefined;
  readonly onExcept?: ((path: Uint8Array) => void) | undefined;
}

function typeOf(stats: BigIntStats): FileType {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  if (stats.isSymbolicLink()) return "symlink";
  if (stats.isCharacterDevice()) return "character";
  if (stats.isBlockDevice()) return "block";
  if (stats.isFIFO()) return "fifo";
  return stats.isSocket() ? "socket" : "unknown";
}

function timeOf(nanoseconds: bigint): Timespec {
  const nsec = ((nanoseconds % NSEC_PER_SEC) + NSEC_PER_SEC) % NSEC_PER_SEC;
  return { sec: Number((nanoseconds - nsec) / NSEC_PER_SEC), nsec: Number(nsec) };
}

/** Splits `st_rdev` as Linux makes it. */
function deviceOf(rdev: bigint): { readonly rdevMajor: number; readonly rdevMinor: number } {
  return {
    rdevMajor: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xffff_f000n)),
    rdevMinor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffff_ff00n)),
  };
}

/** The data of `bytes`, which begin at `offsetBytes`, without whole blocks of zeros. */
function* withoutHoles(bytes: Uint8Array, offsetBytes: number): Generator<Stretch> {
  let dataFrom = -1;
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const isHole = isZero(bytes.subarray(at, at + PAGE_BYTES));
    if (!isHole && dataFrom === -1) dataFrom = at;
    if (!isHole || dataFrom === -1) continue;
    yield { offsetBytes: offsetBytes + dataFrom, bytes: bytes.subarray(dataFrom, at) };
    dataFrom = -1;
  }
  if (dataFrom === -1) return;
  yield { offsetBytes: offsetBytes + dataFrom, bytes: bytes.subarray(dataFrom) };
}

/** `buffer` is what is lent: one file is read at a time. */
async function* contentOf(
  path: Buffer,
  stats: BigIntStats,
  buffer: Uint8Array,
  signal: AbortSignal | undefined,
): AsyncGenerator<Stretch> {
  const sizeBytes = Number(stats.size);
  if (sizeBytes === 0) return;
  const blocksBytes = Number(stats.blocks) * SECTOR_BYTES;
  const isSparse = blocksBytes < sizeBytes;
  const fd = openSync(path, READ_FLAGS);
  let reads = 0;
  try {
    for (const { offsetBytes, lengthBytes } of dataRangesOf(fd, sizeBytes, blocksBytes)) {
      const end = offsetBytes + lengthBytes;
      for (let at = offsetBytes; at < end; ) {
        signal?.throwIfAborted();
        const got = readSync(fd, buffer, 0, Math.min(buffer.length, end - at), at);
        if (got === 0) {
          const detail = `it has been cut to ${at} bytes while it was read`;
          throw new FsError("EIO", { syscall: "read", path: path.toString(), detail });
        }
        const bytes = buffer.subarray(0, got);
        if (isSparse) yield* withoutHoles(bytes, at);
        else yield { offsetBytes: at, bytes };
        at += got;
        // Where all is zeros nobody else would let the event loop have its turn.
        if (isSparse && ++reads % READS_PER_TURN === 0) await realClock.turn();
      }
    }
  } finally {
    closeSync(fd);
  }
}

/** What is on the way while a tree is walked. */
interface Walk {
  readonly root: Buffer;
  readonly options: HostOptions;
  readonly xattrs: XattrsByPath;
  readonly firstPathOf: Map<string, Uint8Array>;
  readonly buffer: Uint8Array;
}

function entryOf(walk: Walk, path: Uint8Array, stats: BigIntStats): TreeEntry {
  const hostPath = hostPathOf(walk.root, path);
  const type = typeOf(stats);
  const isFile = type === "file";
  const key = `${stats.dev}:${stats.ino}`;
  const hasNames = type !== "directory" && stats.nlink > 1n;
  const linkTo = hasNames ? walk.firstPathOf.get(key) : undefined;
  const entryPath = joinedPath(walk.options.rootPath ?? ROOT_PATH, path);
  if (hasNames && linkTo === undefined) walk.firstPathOf.set(key, entryPath);
  return {
    path: entryPath,
    type,
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    mtime: timeOf(stats.mtimeNs),
    atime: timeOf(stats.atimeNs),
    ...deviceOf(stats.rdev),
    target: type === "symlink" ? readlinkSync(hostPath, { encoding: "buffer" }) : undefined,
    linkTo,
    xattrs: linkTo === undefined ? walk.xattrs.of(hostPath) : NO_XATTRS,
    sizeBytes: isFile ? Number(stats.size) : 0,
    dataBytes: Math.min(Number(stats.size), Number(stats.blocks) * SECTOR_BYTES),
    content:
      isFile && linkTo === undefined
        ? () => contentOf(hostPath, stats, walk.buffer, walk.options.signal)
        : undefined,
  };
}

function joinedPath(above: Uint8Array, path: Uint8Array): Uint8Array {
  return pathOfNames([above, path].filter(({ length }) => length > 0));
}

function hostPathOf(root: Buffer, path: Uint8Array): Buffer {
  if (path.length === 0) return root;
  const slash = root.at(-1) === 0x2f ? "" : "/";
  return Buffer.concat([root, Buffer.from(slash), path]);
}

/**
 * The entries of the tree at `root`, or the one of a single file; names in the order of their
 * bytes.
 *
 * @throws {FsError} `ENOENT`, `EACCES` for the root; what is below goes to `onError`
 */
export async function* hostEntries(root: string, options: HostOptions = {}): TreeSource {
  const { signal, onError } = options;
  const rootPath = Buffer.from(root);
  const first = statOf(rootPath);
  const xattrs = hostXattrs(root, options.xattrs !== false, (path) => {
    const detail = "left out an attribute whose name is not UTF-8";
    onError?.(rootPath, new FsError("EINVAL", { syscall: "getxattr", path, detail }));
  });
  const isExcept = exceptions(options.except ?? []);
  const buffer = new Uint8Array(CHUNK_BYTES);
  const firstPathOf = options.links ?? new Map<string, Uint8Array>();
  const walk: Walk = { root: rootPath, options, xattrs, firstPathOf, buffer };
  const stack: Uint8Array[] = [ROOT_PATH];
  for (let path = stack.pop(); path !== undefined; path = stack.pop()) {
    signal?.throwIfAborted();
    try {
      const hostPath = hostPathOf(rootPath, path);
      const stats = path.length === 0 ? first : statOf(hostPath);
      if (isExcept(stats)) {
        options.onExcept?.(path);
        continue;
      }
      yield entryOf(walk, path, stats);
      if (stats.isDirectory()) stack.push(...childrenOf(hostPath, path).reverse());
    } catch (error) {
      signal?.throwIfAborted();
      if (onError === undefined) throw error;
      onError(path, error);
    }
  }
}

/** True for the files at `paths`, by whatever name they are met. */
function exceptions(paths: readonly string[]): (stats: BigIntStats) => boolean {
  const found = paths
    .map((path) => statSync(path, { bigint: true, throwIfNoEntry: false }))
    .filter((stats) => stats !== undefined);
  return ({ dev, ino }) => found.some((stats) => stats.dev === dev && stats.ino === ino);
}

function statOf(path: Buffer): BigIntStats {
  try {
    return lstatSync(path, { bigint: true });
  } catch (cause) {
    throw hostError(cause, "lstat", path);
  }
}

function childrenOf(hostPath: Buffer, path: Uint8Array): Uint8Array[] {
  try {
    const names = readdirSync(hostPath, { encoding: "buffer" }).sort(compareBytes);
    return names.map((name) => {
      return path.length === 0 ? name : Buffer.concat([path, Buffer.from("/"), name]);
    });
  } catch (cause) {
    throw hostError(cause, "scandir", hostPath);
  }
}

/** The system's error with the path as text; Node's own has none where that is given as bytes. */
function hostError(cause: unknown, syscall: string, path: Buffer): unknown {
  if (!hasErrnoCode(cause)) return cause;
  return new FsError(cause.code, { syscall, path: path.toString() });
}
