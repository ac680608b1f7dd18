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
 * What was left out is said and makes the exit code 1.
 */
import {
  closeSync,
  constants,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { filemapRead } from "../../cache/filemap.ts";
import type { VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { GIB, MIB } from "../../lib/units.ts";
import { readErrorOf } from "../read-error.ts";
import { dataSegments } from "../tree/data-segments.ts";
import { joinPath, type Visit, walkTree } from "../tree/walk.ts";
import type { Volume } from "../volume.ts";
import { type CommandContext, type CommonOptions, report } from "./command.ts";
import { typeName } from "./format.ts";
import { applyMetadata, type MadeFile, type MetadataChoice, makeSpecial } from "./get-metadata.ts";
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

const CHUNK_BYTES = MIB;
const MAX_FILES_DEFAULT = 1_000_000;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

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
  readonly #buffer: Buffer = Buffer.allocUnsafe(CHUNK_BYTES);
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
        this.#progress.add(1, 0);
      } catch (error) {
        if (error instanceof BoundError) throw error;
        signal.throwIfAborted();
        report(error, this.#context);
        this.#leftOutCount++;
        this.#leftOut.add(Buffer.from(visit.path).toString("latin1"));
      }
    }
    for (const link of this.#links) this.#makeLink(link);
    const isRoot = process.getuid?.() === 0;
    const choice: MetadataChoice = {
      setsOwner: this.#options.owner ?? isRoot,
      setsXattrs: this.#options.xattrs ?? isRoot,
      keepsPrivileges: this.#options.preservePrivileges === true,
    };
    await applyMetadata(this.#volume.fileSystem, this.#made, choice, this.#context);
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

  async #copy(visit: Visit, path: Buffer): Promise<void> {
    const { inode } = visit;
    if (this.#filesLeft-- <= 0) {
      throw new BoundError("more files than --max-files allows: the rest was left out");
    }
    if (inode.type === "directory") {
      if (visit.depth > 0 || !exists(path)) mkdirSync(path, 0o700);
      this.#made.push({ path, inode });
      return;
    }
    const earlier = this.#firstPathOf.get(inode.ino);
    if (earlier !== undefined) {
      linkSync(earlier, path);
      return;
    }
    if (inode.type === "symlink") {
      const target = await this.#volume.fileSystem.readlink(inode, this.#context.signal);
      this.#links.push({ path, depth: visit.depth, target, inode });
      return;
    }
    if (inode.type === "file") await this.#copyFile(inode, path);
    else if (!this.#copySpecial(inode, path)) return;
    if (inode.attributes().nlink > 1) this.#firstPathOf.set(inode.ino, path);
    this.#made.push({ path, inode });
  }

  async #copyFile(inode: VfsInode, path: Buffer): Promise<void> {
    const { signal } = this.#context;
    const fs = this.#volume.fileSystem;
    const file = await fs.openFile(inode, signal);
    const segments = await dataSegments(fs, inode, signal);
    const fd = openSync(path, NEW_FILE, 0o600);
    try {
      for (const [start, end] of segments) {
        const iocb = { file, posBytes: start, flags: 0, signal };
        while (iocb.posBytes < end) {
          const at = iocb.posBytes;
          const wanted = Math.min(this.#buffer.length, end - at);
          const got = await filemapRead(iocb, this.#buffer.subarray(0, wanted));
          if (got < 0) {
            signal.throwIfAborted();
            throw readErrorOf(file, got, at, `inode ${inode.ino}, for ${path}`);
          }
          if (got === 0) break;
          this.#spend(got);
          writeFully(fd, this.#buffer, got, at);
        }
      }
      ftruncateSync(fd, inode.size);
    } finally {
      closeSync(fd);
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

function writeFully(fd: number, buffer: Buffer, lengthBytes: number, positionBytes: number): void {
  for (let done = 0; done < lengthBytes; ) {
    done += writeSync(fd, buffer, done, lengthBytes - done, positionBytes + done);
  }
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
