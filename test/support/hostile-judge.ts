/**
 * The judge of hostile images: opens one, looks at everything in it, and says whether quire
 * behaved.
 *
 *     image --> openVolume --> walk, stat, read, readlink, xattrs, extents, seek, lookup -->
 *     verdict
 *
 *  1. Whatever goes wrong is an `FsError` whose code says what is wrong with an image. An
 *     `AssertionError`, a `TypeError` or a code that only we could cause is a `Misbehaviour`.
 *  2. Reads of the store and steps of the walk are counted and bounded; time is not looked at here,
 *     but by `hostile-watch.ts`.
 *  3. The image is never written: a write of the store is a `Misbehaviour` too.
 */
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { readPartitions } from "../../src/block/partitions.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import type { VolumeFs } from "../../src/front/promises.ts";
import { dataSegments } from "../../src/front/tree/data-segments.ts";
import { walkTree } from "../../src/front/tree/walk.ts";
import { openVolume, type Volume, type VolumeOptions } from "../../src/front/volume.ts";
import { type ExtFileSystem, mountExt } from "../../src/fs/ext/ext-fs.ts";
import type { FileSystem, VfsInode } from "../../src/fs/vfs.ts";
import { realClock } from "../../src/lib/clock.ts";
import { EIO, FsError } from "../../src/lib/errno.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { Store } from "../../src/store/store.ts";

/** Codes that an image may cause. `EIO` is none: the store never fails here. But see `readSome`. */
const IMAGE_CODES: ReadonlySet<string> = new Set([
  "EUCLEAN",
  "EBADMSG",
  "EINVAL",
  "EOPNOTSUPP",
  "ESTALE",
  "ENOKEY",
  "EFBIG",
  "E2BIG",
  "ELOOP",
  "ENOENT",
  "ENOTDIR",
  "ENAMETOOLONG",
]);

/** Content that is read of one file: its first and its last bytes. */
const READ_BYTES = 64 * KIB;
/** Bytes of the shortest record of a directory: an image has room for no more names. */
const NAME_BYTES_MIN = 12;
const LOOKUPS_MAX = 8;
const MISSING_NAME = new TextEncoder().encode("no such name");

/** quire did what no image may make it do. */
export class Misbehaviour extends Error {
  override readonly name = "Misbehaviour";
}

/** What became of one image. */
export interface Verdict {
  /** "opened", or the code with which opening failed. */
  readonly outcome: string;
  /** Codes of everything that failed, in order, opening included. */
  readonly codes: readonly string[];
  /** Their messages. */
  readonly messages: readonly string[];
  /** Files that the walk met. */
  readonly visits: number;
  /** What `warnings` said. */
  readonly warnings: readonly string[];
  readonly storeReads: number;
}

/** How an image is to be judged. */
export interface JudgeOptions extends VolumeOptions {
  /** Least cache by default, so that what is read does not all fit. */
  readonly cache?: number;
}

/** Collects what fails during one judgement. */
class Findings {
  readonly codes: string[] = [];
  readonly messages: string[] = [];

  readonly note = (thrown: unknown): void => {
    if (thrown instanceof FsError && IMAGE_CODES.has(thrown.code)) {
      this.codes.push(thrown.code);
      this.messages.push(thrown.message);
      return;
    }
    const text = thrown instanceof Error ? (thrown.stack ?? String(thrown)) : String(thrown);
    throw new Misbehaviour(`an image caused: ${text}`, { cause: thrown });
  };

  async attempt(task: () => unknown): Promise<void> {
    try {
      await task();
    } catch (thrown) {
      this.note(thrown);
    }
  }
}

/**
 * Judges images by the hundred thousand, all through one cache: what `openVolume` does with an
 * image that has no partitions, without a new arena for each. Whatever stays in the cache
 * afterwards is a `Misbehaviour`.
 */
export class QuickJudge {
  readonly #cache = new PageCache({ arenaBytes: 4 * MIB, clock: realClock });
  readonly #freeFrames = this.#cache.stats().freeFrames;

  /** Codes of what failed. Throws `Misbehaviour`. */
  async judge(store: Store): Promise<readonly string[]> {
    const findings = new Findings();
    const device = new StoreBlockDevice(store, { clock: realClock });
    let fs: ExtFileSystem;
    try {
      await readPartitions(device);
      fs = await mountExt(device, this.#cache, { clock: realClock });
    } catch (thrown) {
      findings.note(thrown);
      this.#checkEmpty();
      return findings.codes;
    }
    JSON.stringify(fs.describe());
    await lookAtAll(fs, findings);
    await fs.close();
    await device.close();
    this.#checkEmpty();
    return findings.codes;
  }

  #checkEmpty(): void {
    const { freeFrames } = this.#cache.stats();
    if (freeFrames === this.#freeFrames) return;
    throw new Misbehaviour(`${this.#freeFrames - freeFrames} frames stay in the cache`);
  }
}

/** Judges an image in memory. Throws `Misbehaviour`. */
export function judgeBytes(bytes: Uint8Array, options: JudgeOptions = {}): Promise<Verdict> {
  return judgeStore(new MemoryStore(bytes, { canWrite: false }), options);
}

/** Judges what `inner` holds; it is closed afterwards. Throws `Misbehaviour`. */
export async function judgeStore(inner: Store, options: JudgeOptions = {}): Promise<Verdict> {
  const store = new CountingStore(inner);
  const findings = new Findings();
  let volume: Volume;
  try {
    volume = await openVolume(store, { cache: 4 * MIB, ...options });
  } catch (thrown) {
    findings.note(thrown);
    return verdictOf(findings.codes[0]!, findings, store, 0, []);
  }
  let visits = 0;
  const { warnings } = volume.info();
  try {
    JSON.stringify(volume.info());
    visits = await lookAtAll(volume.fileSystem, findings, volume.fs);
    await findings.attempt(() => volume.fs.readdir("/", { recursive: true }));
  } finally {
    await volume.close();
  }
  return verdictOf("opened", findings, store, visits, warnings);
}

function verdictOf(
  outcome: string,
  findings: Findings,
  store: CountingStore,
  visits: number,
  warnings: readonly string[],
): Verdict {
  if (store.writes > 0) throw new Misbehaviour(`the image was written ${store.writes} times`);
  const readsMax = 2000 + 40 * Math.ceil(store.sizeBytes / KIB) + 40 * visits;
  if (store.reads > readsMax) {
    throw new Misbehaviour(`${store.reads} reads of an image of ${store.sizeBytes} bytes`);
  }
  const { codes, messages } = findings;
  return { outcome, codes, messages, visits, warnings, storeReads: store.reads };
}

/** Looks at everything; `paths`, if given, is where symlinks are followed. */
async function lookAtAll(fs: FileSystem, findings: Findings, paths?: VolumeFs): Promise<number> {
  let visits = 0;
  const { blockCount, blockBytes } = fs.usage();
  const visitsMax = 1000 + (blockCount * blockBytes) / NAME_BYTES_MIN;
  const seen = new Set<number>();
  await findings.attempt(async () => {
    const root = await fs.inode(fs.rootIno);
    const onError = (_path: Uint8Array, thrown: unknown): void => findings.note(thrown);
    for await (const { inode, name, path } of walkTree(fs, root, { onError })) {
      if (++visits > visitsMax) throw new Misbehaviour(`a walk met more than ${visitsMax} files`);
      if (seen.has(inode.ino)) continue;
      seen.add(inode.ino);
      JSON.stringify(inode.attributes());
      await lookQuickly(fs, inode, findings);
      if (paths === undefined) continue;
      await lookAt(fs, inode, name, findings);
      if (inode.type === "symlink") await findings.attempt(() => follow(paths, path));
    }
  });
  return visits;
}

/** A link may lead nowhere: that is an answer. */
async function follow(paths: VolumeFs, path: Uint8Array): Promise<void> {
  try {
    await paths.stat(Buffer.from(path));
  } catch (thrown) {
    if (!(thrown instanceof FsError) || thrown.code !== "ENOENT") throw thrown;
  }
}

async function lookQuickly(fs: FileSystem, inode: VfsInode, findings: Findings): Promise<void> {
  const attempt = (task: () => unknown): Promise<void> => findings.attempt(task);
  await attempt(() => fs.xattrs(inode));
  if (inode.type === "file") await attempt(() => readSome(fs, inode));
  else if (inode.type === "symlink") await attempt(() => fs.readlink(inode));
}

async function lookAt(
  fs: FileSystem,
  inode: VfsInode,
  name: Uint8Array,
  findings: Findings,
): Promise<void> {
  await findings.attempt(() => fs.extents(inode));
  if (inode.type === "file") await findings.attempt(() => dataSegments(fs, inode));
  if (inode.type !== "directory") return;
  for (const wanted of [MISSING_NAME, name]) {
    await findings.attempt(() => fs.lookup(inode, wanted));
  }
  await findings.attempt(async () => {
    const { entries } = await fs.readdir(inode, 0);
    for (const entry of entries.slice(-LOOKUPS_MAX)) await fs.lookup(inode, entry.name);
  });
}

/**
 * Reads the first and the last bytes of a file. A block map that is damaged makes its page fail,
 * and the read behind it is an `EIO` as in the kernel; `extents` says what is wrong.
 */
async function readSome(fs: FileSystem, inode: VfsInode): Promise<void> {
  const file = await fs.openFile(inode);
  const buffer = new Uint8Array(Math.min(inode.size, READ_BYTES));
  for (const from of new Set([0, inode.size - buffer.length])) {
    const iocb = { file, posBytes: from, flags: 0 };
    let done = 0;
    while (done < buffer.length) {
      const got = await filemapRead(iocb, buffer.subarray(done));
      if (got === -EIO) return;
      if (got < 0) throw FsError.of(got, { syscall: "read", detail: `inode ${inode.ino}` });
      if (got === 0) throw new Misbehaviour(`inode ${inode.ino}: a read before its end gave 0`);
      done += got;
    }
  }
}
