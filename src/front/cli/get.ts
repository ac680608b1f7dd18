/**
 * `quire get`: a file or a tree out of the image, as `cp -a` copies, from an image that nobody
 * trusts.
 *
 * Nothing is written outside of the destination, whatever the image holds:
 *
 *  1. The destination is new, or an empty directory; every file is made with O_EXCL and O_NOFOLLOW.
 *  2. Paths are made from names checked one by one, never by resolving text from the image.
 *  3. Symlinks are made last, when nothing is written through a path any more; those that lead out
 *     of the destination, or cannot be shown not to, are left out unless they are asked for.
 *  4. Hard links go to files made in this run.
 *  5. Device nodes, setuid bits, capabilities and `trusted.` attributes are left out unless asked
 *     for.
 *  6. The bytes and the number of files written are bounded; holes stay holes and count nothing.
 *
 * Small files wait until some are together, are read at once and made one after the other. What was
 * left out is said and makes the exit code 1.
 */
import { setMaxListeners } from "node:events";
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
  symlinkSync,
} from "node:fs";
import type { VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { GIB, MIB } from "../../lib/units.ts";
import { joinPath, type Visit, walkTree } from "../tree/walk.ts";
import type { Volume } from "../volume.ts";
import { type CommandContext, type CommonOptions, report } from "./command.ts";
import { typeName } from "./format.ts";
import { type Content, ContentCopier, SMALL_BYTES_MAX } from "./get-content.ts";
import {
  applyMetadata,
  applyToOpenFile,
  type ImageXattr,
  type MadeFile,
  type MetadataChoice,
  makeSpecial,
  ownerOfNewFiles,
  xattrsToSet,
} from "./get-metadata.ts";
import { checkName, isInsideTarget } from "./get-names.ts";
import { Progress, printable, printJson } from "./output.ts";

/** Options of `get`. */
export interface GetOptions extends CommonOptions {
  readonly maxBytes?: number;
  readonly maxFiles?: number;
  readonly owner?: boolean;
  readonly xattrs?: boolean;
  readonly special?: boolean;
  readonly preservePrivileges?: boolean;
  readonly allowExternalSymlinks?: boolean;
}

/** Size of the page cache, unless another is asked for: nothing is read twice. */
export const GET_CACHE_BYTES: number = 32 * MIB;
/** Small files that are read at once: bytes and number. */
const BATCH_BYTES = MIB;
const BATCH_FILES = 256;
const MAX_FILES_DEFAULT = 1_000_000;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** A small file that waits for its turn. */
interface Waiting {
  readonly visit: Visit;
  readonly path: Buffer;
}

/** What has been read of one. */
interface Fetched {
  readonly content: Content;
  readonly xattrs: readonly ImageXattr[];
}

interface Link {
  readonly path: Buffer;
  readonly depth: number;
  readonly target: Uint8Array;
  readonly inode: VfsInode;
}

/** One run of `get`. */
class Extraction {
  readonly #volume: Volume;
  readonly #context: CommandContext;
  readonly #options: GetOptions;
  readonly #progress: Progress;
  readonly #copier: ContentCopier;
  #choice: MetadataChoice;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  readonly #firstPathOf = new Map<number, Buffer>();
  readonly #links: Link[] = [];
  readonly #made: MadeFile[] = [];
  readonly #leftOut = new Set<string>();
  #leftOutCount = 0;
  #bytesLeft: number;
  #filesLeft: number;

  constructor(volume: Volume, options: GetOptions, context: CommandContext, progress: Progress) {
    this.#volume = volume;
    this.#options = options;
    this.#context = context;
    this.#progress = progress;
    const imageBytes = volume.info().sizeBytes;
    this.#bytesLeft = options.maxBytes ?? Math.max(4 * imageBytes, GIB);
    this.#filesLeft = options.maxFiles ?? MAX_FILES_DEFAULT;
    setMaxListeners(BATCH_FILES * 2, context.signal); // Each read of a batch has one, or two.
    const spend = (bytes: number): void => this.#spend(bytes);
    this.#copier = new ContentCopier(volume.fileSystem, context.signal, spend);
    const isRoot = process.getuid?.() === 0;
    this.#choice = {
      setsOwner: options.owner ?? isRoot,
      setsXattrs: options.xattrs ?? isRoot,
      keepsPrivileges: options.preservePrivileges === true,
      ownerOfNew: undefined,
    };
  }

  /** Copies what is at `start` to `target`, which must not exist or be an empty directory. */
  async run(start: VfsInode, target: Buffer): Promise<void> {
    const { signal } = this.#context;
    const onError = (_path: Uint8Array, error: unknown): void => report(error, this.#context);
    for await (const visit of walkTree(this.#volume.fileSystem, start, { signal, onError })) {
      const path = visit.depth === 0 ? target : Buffer.from(joinPath(target, visit.path));
      if (visit.depth > 0 && this.#isUnder(visit.path)) continue;
      try {
        if (visit.depth > 0) checkName(visit.name);
        await this.#copy(visit, path);
      } catch (error) {
        this.#leaveOut(visit, error);
      }
    }
    await this.#makeWaiting();
    for (const link of this.#links) this.#makeLink(link);
    await applyMetadata(this.#volume.fileSystem, this.#made, this.#choice, this.#context);
  }

  /** What was done, for `--json`. */
  get summary(): object {
    const { files, bytes } = this.#progress;
    return { files, bytes, leftOut: this.#leftOutCount };
  }

  /** True below something that was left out: a directory that could not be made. */
  #isUnder(path: Uint8Array): boolean {
    if (this.#leftOut.size === 0) return false;
    const text = Buffer.from(path).toString("latin1");
    for (let at = text.indexOf("/"); at !== -1; at = text.indexOf("/", at + 1)) {
      if (this.#leftOut.has(text.slice(0, at))) return true;
    }
    return false;
  }

  /** Notes that what was met could not be copied. Throws what ends the run. */
  #leaveOut(visit: Visit, error: unknown): void {
    if (error instanceof BoundError) throw error;
    this.#context.signal.throwIfAborted();
    report(error, this.#context);
    this.#leftOutCount++;
    this.#leftOut.add(Buffer.from(visit.path).toString("latin1"));
  }

  async #copy(visit: Visit, path: Buffer): Promise<void> {
    const { inode } = visit;
    if (this.#filesLeft-- <= 0) {
      await this.#makeWaiting();
      throw new BoundError("more files than --max-files allows: the rest was left out");
    }
    const isSingle = inode.type === "directory" || inode.attributes().nlink === 1;
    if (isSingle && inode.type === "file" && inode.size <= SMALL_BYTES_MAX) {
      this.#waiting.push({ visit, path });
      this.#waitingBytes += inode.size;
      const isFull = this.#waitingBytes >= BATCH_BYTES || this.#waiting.length >= BATCH_FILES;
      if (isFull) await this.#makeWaiting();
      return;
    }
    await this.#copyNow(visit, path, isSingle);
    this.#progress.add(1, 0);
  }

  async #copyNow({ inode, depth }: Visit, path: Buffer, isSingle: boolean): Promise<void> {
    if (inode.type === "directory") {
      if (depth > 0 || !exists(path)) mkdirSync(path, 0o700);
      if (depth === 0) this.#choice = { ...this.#choice, ownerOfNew: ownerOfNewFiles(path) };
      this.#made.push({ path, inode });
      return;
    }
    const earlier = isSingle ? undefined : this.#firstPathOf.get(inode.ino);
    if (earlier !== undefined) {
      linkSync(earlier, path);
      return;
    }
    if (inode.type === "symlink") {
      const target = await this.#volume.fileSystem.readlink(inode, this.#context.signal);
      this.#links.push({ path, depth, target, inode });
      return;
    }
    if (inode.type === "file") await this.#copyLarge(inode, path);
    else if (this.#copySpecial(inode, path)) this.#made.push({ path, inode });
    else return;
    if (!isSingle) this.#firstPathOf.set(inode.ino, path);
  }

  async #copyLarge(inode: VfsInode, path: Buffer): Promise<void> {
    const xattrs = await this.#xattrsOf(inode);
    const fd = openSync(path, NEW_FILE, 0o600);
    try {
      await this.#copier.copy(inode, fd, nameOf(inode, path));
      this.#finish(fd, { path, inode, xattrs });
    } finally {
      closeSync(fd);
    }
  }

  /** Reads what waits, at once, and makes it, one after the other. */
  async #makeWaiting(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    const fetch = async ({ visit: { inode }, path }: Waiting): Promise<Fetched> => {
      const content = await this.#copier.fetch(inode, nameOf(inode, path));
      return { content, xattrs: await this.#xattrsOf(inode) };
    };
    const fetched = await Promise.allSettled(batch.map(fetch));
    for (const [at, { visit, path }] of batch.entries()) {
      try {
        const result = fetched[at]!;
        if (result.status === "rejected") throw result.reason;
        this.#makeSmall(visit.inode, path, result.value);
      } catch (error) {
        this.#leaveOut(visit, error);
      }
    }
  }

  #makeSmall(inode: VfsInode, path: Buffer, { content, xattrs }: Fetched): void {
    const fd = openSync(path, NEW_FILE, 0o600);
    try {
      this.#copier.store(content, fd);
      this.#finish(fd, { path, inode, xattrs });
    } finally {
      closeSync(fd);
    }
    this.#progress.add(1, 0);
  }

  /** What of the metadata is not set on the open file is set in the end. */
  #finish(fd: number, made: MadeFile): void {
    const left = applyToOpenFile(fd, made, this.#choice, this.#context);
    if (left !== undefined) this.#made.push(left);
  }

  /** The attributes to set; none where they cannot be read, which is reported. */
  async #xattrsOf(inode: VfsInode): Promise<readonly ImageXattr[]> {
    if (!this.#choice.setsXattrs) return [];
    try {
      return await xattrsToSet(this.#volume.fileSystem, inode, this.#choice);
    } catch (error) {
      this.#context.signal.throwIfAborted();
      report(error, this.#context);
      return [];
    }
  }

  #spend(bytes: number): void {
    this.#bytesLeft -= bytes;
    this.#progress.add(0, bytes);
    if (this.#bytesLeft >= 0) return;
    throw new BoundError("more bytes than --max-bytes allows: the rest was left out");
  }

  /** False if it was left out. */
  #copySpecial(inode: VfsInode, path: Buffer): boolean {
    const name = printable(path);
    if (!(this.#options.special ?? process.getuid?.() === 0)) {
      this.#say(`left out ${name}, a ${typeName(inode.type)}: --special makes such files`);
      return false;
    }
    makeSpecial(inode, path);
    return true;
  }

  #makeLink({ path, depth, target, inode }: Link): void {
    // A link asked for by its own name is what the user wants, wherever it leads.
    const isAllowed = this.#options.allowExternalSymlinks === true || depth === 0;
    if (!isAllowed && !isInsideTarget(target, depth)) {
      const text = `${printable(path)} -> ${printable(target)}`;
      this.#say(`left out ${text}, which may lead out: --allow-external-symlinks keeps such links`);
      return;
    }
    try {
      const earlier = this.#firstPathOf.get(inode.ino);
      if (earlier !== undefined) {
        linkSync(earlier, path);
        return;
      }
      symlinkSync(Buffer.from(target), path);
      if (inode.attributes().nlink > 1) this.#firstPathOf.set(inode.ino, path);
      this.#made.push({ path, inode });
    } catch (error) {
      report(error, this.#context);
    }
  }

  #say(text: string): void {
    this.#leftOutCount++;
    this.#context.stderr.write(`quire: ${text}\n`);
    this.#context.fail(1);
  }
}

/** A bound of the run was reached: nothing more is written. */
class BoundError extends Error {
  override readonly name = "BoundError";
}

/** What messages about its content call a file. */
function nameOf(inode: VfsInode, path: Buffer): string {
  return `inode ${inode.ino}, for ${path}`;
}

function exists(path: Buffer): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Where the copy goes: `destination` itself if it is new, else a new name in that directory. */
function targetOf(source: string, destination: string): Buffer {
  // The user's own path: a link in it leads where the user wants.
  const found = statSync(destination, { throwIfNoEntry: false });
  if (found === undefined) return Buffer.from(destination.replace(/(.)\/+$/, "$1"));
  const name = source
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .pop();
  if (name !== undefined) checkName(Buffer.from(name));
  const isDirectory = found.isDirectory();
  const path = isDirectory && name ? `${destination.replace(/\/+$/, "")}/${name}` : destination;
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return Buffer.from(path);
  if (there.isDirectory() && readdirSync(path).length === 0) return Buffer.from(path);
  throw new FsError("EEXIST", { syscall: "get", path, detail: "the destination must be new" });
}

/** Copies `source` out of the volume, to `destination` or into it. */
export async function runGet(
  volume: Volume,
  source: string,
  destination: string,
  options: GetOptions,
  context: CommandContext,
): Promise<void> {
  const start = await volume.fs.inode(source, { followLinks: false, signal: context.signal });
  const target = targetOf(source, destination);
  if (start.type !== "directory" && exists(target)) {
    const where = { syscall: "get", path: target.toString() };
    throw new FsError("EEXIST", { ...where, detail: "the destination must be new" });
  }
  const progress = new Progress("copied", context);
  try {
    const extraction = new Extraction(volume, options, context, progress);
    await extraction.run(start, target);
    if (options.json === true) {
      printJson(context.stdout, { source, target: target.toString(), ...extraction.summary });
    }
  } finally {
    progress.done();
  }
}
