/**
 * Images of ext2/3/4 made by the real mke2fs from a directory, and a way to look at all of them.
 *
 *     const source = makeSourceTree(join(scratch, "source"));
 *     const image = makeImage(scratch, "ext4", ["-t", "ext4"], { sourceDir: source });
 *     await using mounted = await openImage(image);
 *     const tree = await readTree(mounted.fs);
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { type ExtFileSystem, type ExtMountOptions, mountExt } from "../../src/fs/ext/ext-fs.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { realClock } from "../../src/lib/clock.ts";
import { FsError } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import type { Store } from "../../src/store/store.ts";
import { asRoot, runTool } from "./tools.ts";

/** UUID and hash seed of all images, so that checksums and hashes are the same in every run. */
const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const HASH_SEED = "a0a1a2a3-b0b1-c2c3-d0d1-e0e1e2e3e4e5";
const MTIME_SEC = 1_600_000_000;

/** What is to be made of it. */
export interface ImageOptions {
  readonly sizeText?: string;
  /** Extended options of mke2fs beside those that all images have. */
  readonly extended?: string;
  readonly sourceDir?: string;
  /** What it is to be mounted with, as `tune2fs -o` takes it. */
  readonly defaults?: string | undefined;
}

/** Makes the image `name`.img in `directory` with these options of mke2fs, and returns its path. */
export function makeImage(
  directory: string,
  name: string,
  args: readonly string[],
  options: ImageOptions = {},
): string {
  const path = join(directory, `${name}.img`);
  const extended = ["lazy_itable_init=1,lazy_journal_init=1", `hash_seed=${HASH_SEED}`];
  if (options.extended !== undefined) extended.push(options.extended);
  const source = options.sourceDir === undefined ? [] : ["-d", options.sourceDir];
  const common = ["-F", "-q", "-U", UUID, "-E", extended.join(",")];
  runTool("mke2fs", [...common, ...args, ...source, path, options.sizeText ?? "32M"], {
    env: { E2FSPROGS_FAKE_TIME: "1700000000" },
  });
  if (options.defaults !== undefined) runTool("tune2fs", ["-o", options.defaults, path]);
  return path;
}

/** Fills the new directory `path` with files of many kinds and returns it. */
export function makeSourceTree(path: string): string {
  const random = new Random(1);
  mkdirSync(path);
  const file = (name: string, content: string | Uint8Array): void => {
    writeFileSync(join(path, name), content);
    utimesSync(join(path, name), MTIME_SEC, MTIME_SEC);
  };
  file("empty", "");
  for (const length of [1, 59, 60, 61, 128, 129, 160, 1024, 4095, 4096, 4097]) {
    file(`bytes-${length}`, random.bytes(length));
  }
  file("large", random.bytes(MIB + 17));
  file(`${"n".repeat(251)}.txt`, "a name of 255 bytes");
  const sparse = openSync(join(path, "sparse"), "w");
  // Data at the end: mke2fs cuts the last hole of a file off when it has inline data (1.47.0).
  for (const at of [0, 13 * 4096, 300 * KIB + 5, 3 * MIB]) writeSync(sparse, "data", at);
  closeSync(sparse);
  writeFileSync(join(path, "hole"), "");
  truncateSync(join(path, "hole"), 100_000);
  symlinkSync("bytes-1", join(path, "short-link"));
  symlinkSync(`${"deep/".repeat(20)}end`, join(path, "long-link"));
  symlinkSync("x".repeat(59), join(path, "link-59"));
  symlinkSync("y".repeat(60), join(path, "link-60"));
  linkSync(join(path, "large"), join(path, "second-name"));
  mkdirSync(join(path, "empty-directory"));
  mkdirSync(join(path, "many"));
  for (let index = 0; index < 300; index++) file(`many/name-${index}`, `${index}`);
  mkdirSync(join(path, "a/b/c"), { recursive: true });
  file("a/b/c/deepest", "down here");
  if (asRoot()) {
    runTool("mknod", [join(path, "null"), "c", "1", "3"]);
    runTool("mknod", [join(path, "disk"), "b", "259", "300"]);
    runTool("mkfifo", [join(path, "fifo")]);
  }
  return path;
}

/** A mounted image, and the store under it. */
export interface MountedImage extends AsyncDisposable {
  readonly fs: ExtFileSystem;
  readonly store: CountingStore;
  readonly cache: PageCache;
}

/** Opens the image at `path`, or in `path` if that is a store, which is not closed then. */
export async function openImage(
  path: string | Store,
  options: Partial<ExtMountOptions> & { readonly arenaBytes?: number } = {},
): Promise<MountedImage> {
  const inner = typeof path === "string" ? await openFileStore(path) : path;
  const store = new CountingStore(inner);
  const bdev = new StoreBlockDevice(store, { clock: realClock });
  const cache = new PageCache({ arenaBytes: options.arenaBytes ?? 16 * MIB, clock: realClock });
  const closeStore = async (): Promise<void> => {
    if (typeof path === "string") await inner.close();
  };
  try {
    const fs = await mountExt(bdev, cache, { clock: realClock, ...options });
    return {
      fs,
      store,
      cache,
      [Symbol.asyncDispose]: async (): Promise<void> => {
        await fs.close();
        await closeStore();
      },
    };
  } catch (thrown) {
    await closeStore();
    throw thrown;
  }
}

/**
 * The inode at `path`, whose parts are separated by "/"; "" is the root. Symlinks are not
 * followed.
 */
export async function inodeAt(fs: ExtFileSystem, path: string): Promise<ExtInode> {
  let inode = await fs.inode(fs.rootIno);
  for (const part of path.split("/")) {
    if (part === "") continue;
    const ino = await fs.lookup(inode, new TextEncoder().encode(part));
    if (ino === 0) throw new FsError("ENOENT", { path });
    inode = await fs.inode(ino);
  }
  return inode;
}

/** The whole content of a file, read in pieces of `pieceBytes`. */
export async function readFile(
  fs: ExtFileSystem,
  inode: ExtInode,
  pieceBytes: number = 256 * KIB,
): Promise<Uint8Array> {
  const file = await fs.openFile(inode);
  const content = new Uint8Array(inode.size);
  const iocb = { file, posBytes: 0, flags: 0 };
  while (iocb.posBytes < content.length) {
    const end = Math.min(iocb.posBytes + pieceBytes, content.length);
    const count = await filemapRead(iocb, content.subarray(iocb.posBytes, end));
    if (count <= 0) throw FsError.of(count, { syscall: "read", detail: `inode ${inode.ino}` });
  }
  return content;
}

/** Every name of a directory except `.` and `..`, with its inode number. */
export async function namesOf(fs: ExtFileSystem, dir: ExtInode): Promise<Map<string, number>> {
  const names = new Map<string, number>();
  for (let cookie = 0; cookie !== -1; ) {
    const batch = await fs.readdir(dir, cookie);
    for (const { name, ino } of batch.entries) {
      const text = Buffer.from(name).toString("utf8");
      if (text !== "." && text !== "..") names.set(text, ino);
    }
    cookie = batch.nextCookie;
  }
  return names;
}

/** What a tree has under one path; content as a digest, so that a difference prints in a line. */
export interface TreeEntry {
  readonly mode: string;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number | undefined;
  readonly mtimeSec: number | undefined;
  readonly content: string | undefined;
  readonly target: string | undefined;
  readonly rdev: string | undefined;
}

export function digestOf(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex").slice(0, 16);
}

/** Everything below the root, "lost+found" left out. */
export async function readTree(fs: ExtFileSystem): Promise<Map<string, TreeEntry>> {
  const tree = new Map<string, TreeEntry>();
  const visit = async (dir: ExtInode, prefix: string): Promise<void> => {
    for (const [name, ino] of await namesOf(fs, dir)) {
      const path = prefix + name;
      if (path === "lost+found") continue;
      const inode = await fs.inode(ino);
      tree.set(path, await describeInode(fs, inode));
      if (inode.type === "directory") await visit(inode, `${path}/`);
    }
  };
  await visit(await fs.inode(fs.rootIno), "");
  return tree;
}

async function describeInode(fs: ExtFileSystem, inode: ExtInode): Promise<TreeEntry> {
  const attributes = inode.attributes();
  const isFile = inode.type === "file";
  const isDevice = inode.type === "character" || inode.type === "block";
  const target = inode.type === "symlink" ? await fs.readlink(inode) : undefined;
  return {
    mode: attributes.mode.toString(8),
    nlink: attributes.nlink,
    uid: attributes.uid,
    gid: attributes.gid,
    size: isFile ? attributes.sizeBytes : undefined,
    mtimeSec: isFile ? attributes.mtime.sec : undefined,
    content: isFile ? digestOf(await readFile(fs, inode)) : undefined,
    target: target === undefined ? undefined : Buffer.from(target).toString("utf8"),
    rdev: isDevice ? `${attributes.rdevMajor}:${attributes.rdevMinor}` : undefined,
  };
}
