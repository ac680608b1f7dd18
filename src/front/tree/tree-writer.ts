/**
 * TreeWriter: entries of a tree into an image that is open for writing.
 *
 *     entry --> names checked --> directory of its name --> what is there: kept, replaced, refused
 *           --> inode made --> content --> extended attributes --> owner, mode, times
 *
 *  1. No symlink of the image is followed below where the tree goes: a name is looked up in a
 *     directory that is one; anything else in the way is refused.
 *  2. A directory that is there is kept and gets the attributes of the entry; another file is
 *     replaced by a new inode, and its other names keep the old one.
 *  3. Attributes of directories are set by `finish`, when nothing is made in them any more.
 *
 * With `isPlan` nothing is changed: the writer says what it would do. Then directories that are not
 * there yet are known by their paths only.
 */
import type { FileSystem, FileType, VfsInode } from "../../fs/vfs.ts";
import { FsError } from "../../lib/errno.ts";
import { PAGE_BYTES, roundUp } from "../../lib/units.ts";
import { FileWriter, type OnSkipped } from "./file-writer.ts";
import { namesOfPath, pathKey, pathOfNames, type TreeEntry, typeBits } from "./tree-entry.ts";

/** What was done with an entry. */
export type TreeAction = "made" | "replaced" | "kept" | "linked";

export interface TreeWriterOptions {
  readonly signal?: AbortSignal | undefined;
  /** Only say what would be done. */
  readonly isPlan?: boolean | undefined;
  /** Told of each entry, with its path from the root of the image, when it is done. */
  readonly onEntry?: ((path: Uint8Array, entry: TreeEntry, action: TreeAction) => void) | undefined;
  /** Told of content as it is written. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  /** Told of an attribute that could not be set, with the path of its file. */
  readonly onSkipped?: OnSkipped | undefined;
  /** All is written down whenever so many bytes, in whole pages, were given; never if left out. */
  readonly syncBytes?: number | undefined;
}

/** Where the tree goes. */
export interface TreePlace {
  /** A directory of the image. */
  readonly dir: VfsInode;
  /** Its path, for messages. */
  readonly dirPath: Uint8Array;
  /** The name in it that the root of the tree gets; undefined if the root is `dir` itself. */
  readonly name: Uint8Array | undefined;
}

/** A directory to which names are added: without an inode in a plan that has yet to make it. */
interface Parent {
  readonly inode: VfsInode | undefined;
  readonly hasDefaultAcl: boolean;
}

/** What is at a name; without an inode in a plan that has yet to make it. */
interface Found {
  readonly type: FileType;
  readonly inode: VfsInode | undefined;
}

const PARENTS_MAX = 1000;
const DIRECTORY_MODE = 0o755;
const DEFAULT_ACL = "system.posix_acl_default";
const PLANNED: Parent = { inode: undefined, hasDefaultAcl: false };

/** See the head of the file. */
export class TreeWriter {
  readonly #fs: FileSystem;
  readonly #place: TreePlace;
  readonly #options: TreeWriterOptions;
  readonly #files: FileWriter;
  readonly #parents = new Map<string, Parent>();
  /** By inode; what comes again counts as it came last. */
  readonly #directories = new Map<number, TreeEntry>();
  /** What a plan has made, by path. */
  readonly #planned = new Map<string, FileType>();
  #unsyncedBytes = 0;

  constructor(fs: FileSystem, place: TreePlace, options: TreeWriterOptions = {}) {
    this.#fs = fs;
    this.#place = place;
    this.#options = options;
    this.#files = new FileWriter(fs, options);
  }

  /**
   * Writes one entry.
   *
   * @throws {FsError} `ENOTDIR`, `EISDIR` for what is in the way, `EINVAL` for a path that leads
   *   out of the tree, `ENOENT` for a hard link to nothing, and what the file system throws
   */
  async add(entry: TreeEntry): Promise<void> {
    this.#options.signal?.throwIfAborted();
    try {
      await this.#add(entry);
    } catch (error) {
      if (!(error instanceof FsError) || error.path !== undefined) throw error;
      const { code, detail, cause, syscall = "write" } = error;
      const base = new TextDecoder().decode(pathOfNames(this.#base));
      const path = [base, new TextDecoder().decode(entry.path)].filter((part) => part !== "");
      throw new FsError(code, { syscall, path: `/${path.join("/")}`, detail, cause });
    }
  }

  async #add(entry: TreeEntry): Promise<void> {
    const path = this.#namesOf(entry.path);
    const name = path.at(-1);
    if (name === undefined) {
      this.#keep(this.#place.dir, entry, path);
      return;
    }
    const above = path.slice(0, -1);
    const parent = await this.#parentAt(above);
    const found = await this.#lookup(parent, path);
    if (entry.linkTo !== undefined) await this.#link(entry, parent, path, found);
    else if (entry.type === "directory") await this.#directory(entry, parent, path, found);
    else await this.#other(entry, parent, path, found);
    await this.#syncIfDue(entry.sizeBytes);
  }

  /** Gives directories their owners, modes and times. To be called once, at the end. */
  async finish(): Promise<void> {
    for (const [ino, entry] of [...this.#directories].reverse()) {
      this.#options.signal?.throwIfAborted();
      await this.#files.setAttributes(await this.#fs.inode(ino), entry);
    }
    this.#directories.clear();
  }

  #namesOf(path: Uint8Array): Uint8Array[] {
    const names = namesOfPath(path);
    return this.#place.name === undefined ? names : [this.#place.name, ...names];
  }

  #told(path: readonly Uint8Array[], entry: TreeEntry, action: TreeAction): void {
    this.#options.onEntry?.(this.#shown(path), entry, action);
  }

  /** Names from the root of the image to the root of the tree. */
  get #base(): Uint8Array[] {
    const { dirPath, name } = this.#place;
    return name === undefined ? namesOfPath(dirPath) : [...namesOfPath(dirPath), name];
  }

  #shown(path: readonly Uint8Array[]): Uint8Array {
    return pathOfNames([...namesOfPath(this.#place.dirPath), ...path]);
  }

  #inTheWay(path: readonly Uint8Array[], code: "ENOTDIR" | "EISDIR", what: string): FsError {
    const shown = `/${new TextDecoder().decode(this.#shown(path))}`;
    return new FsError(code, { path: shown, detail: `a ${what} is there already` });
  }

  /** The directory that `path` leads to from the place; what is missing of it is made. */
  async #parentAt(path: readonly Uint8Array[]): Promise<Parent> {
    if (path.length === 0) return this.#parentOf(this.#place.dir);
    const key = pathKey(pathOfNames(path));
    const known = this.#parents.get(key);
    if (known !== undefined) return known;
    const above = await this.#parentAt(path.slice(0, -1));
    const found = await this.#lookup(above, path);
    if (found !== undefined && found.type !== "directory") {
      throw this.#inTheWay(path, "ENOTDIR", found.type);
    }
    const inode = found === undefined ? await this.#makeParent(above, path) : found.inode;
    const parent = inode === undefined ? PLANNED : await this.#parentOf(inode);
    if (this.#parents.size >= PARENTS_MAX) this.#parents.clear();
    this.#parents.set(key, parent);
    return parent;
  }

  async #makeParent(parent: Parent, path: readonly Uint8Array[]): Promise<VfsInode | undefined> {
    if (this.#options.isPlan === true) {
      this.#planned.set(pathKey(pathOfNames(path)), "directory");
      return undefined;
    }
    const mode = typeBits("directory") | DIRECTORY_MODE;
    return this.#files.create(parent.inode!, path.at(-1)!, { mode, umask: 0, uid: 0, gid: 0 });
  }

  async #parentOf(inode: VfsInode): Promise<Parent> {
    const xattrs = await this.#fs.xattrs(inode, this.#options.signal);
    return { inode, hasDefaultAcl: xattrs.has(DEFAULT_ACL) };
  }

  async #lookup(parent: Parent, path: readonly Uint8Array[]): Promise<Found | undefined> {
    const planned = this.#planned.get(pathKey(pathOfNames(path)));
    if (planned !== undefined) return { type: planned, inode: undefined };
    if (parent.inode === undefined) return undefined;
    const { signal } = this.#options;
    const ino = await this.#fs.lookup(parent.inode, path.at(-1)!, signal);
    if (ino === 0) return undefined;
    const inode = await this.#fs.inode(ino, signal);
    return { type: inode.type, inode };
  }

  /** A directory that is there: it gets its attributes by `finish`. */
  #keep(inode: VfsInode, entry: TreeEntry, path: readonly Uint8Array[]): void {
    if (entry.type !== "directory") throw this.#inTheWay(path, "EISDIR", "directory");
    if (this.#options.isPlan !== true) this.#directories.set(inode.ino, entry);
    this.#told(path, entry, "kept");
  }

  async #directory(
    entry: TreeEntry,
    parent: Parent,
    path: readonly Uint8Array[],
    found: Found | undefined,
  ): Promise<void> {
    if (found !== undefined) {
      if (found.type !== "directory") throw this.#inTheWay(path, "ENOTDIR", found.type);
      if (found.inode !== undefined) this.#keep(found.inode, entry, path);
      return;
    }
    if (this.#options.isPlan === true) this.#planned.set(pathKey(pathOfNames(path)), "directory");
    else {
      const inode = await this.#files.make(parent.inode!, path.at(-1)!, entry, parent);
      this.#directories.set(inode.ino, entry);
    }
    this.#told(path, entry, "made");
  }

  async #other(
    entry: TreeEntry,
    parent: Parent,
    path: readonly Uint8Array[],
    found: Found | undefined,
  ): Promise<void> {
    if (found?.type === "directory") throw this.#inTheWay(path, "EISDIR", "directory");
    const isNew = found === undefined;
    if (this.#options.isPlan === true) this.#planned.set(pathKey(pathOfNames(path)), entry.type);
    else {
      if (!isNew) await this.#files.unlink(parent.inode!, path.at(-1)!);
      await this.#files.make(parent.inode!, path.at(-1)!, entry, parent);
    }
    this.#told(path, entry, isNew ? "made" : "replaced");
  }

  async #link(
    entry: TreeEntry,
    parent: Parent,
    path: readonly Uint8Array[],
    found: Found | undefined,
  ): Promise<void> {
    if (found?.type === "directory") throw this.#inTheWay(path, "EISDIR", "directory");
    const to = this.#namesOf(entry.linkTo!);
    const target = await this.#lookup(await this.#parentAt(to.slice(0, -1)), to);
    if (target === undefined) {
      const detail = "it is a hard link to a file that is not there";
      throw new FsError("ENOENT", {
        path: `/${new TextDecoder().decode(this.#shown(to))}`,
        detail,
      });
    }
    if (this.#options.isPlan === true) this.#planned.set(pathKey(pathOfNames(path)), target.type);
    else if (target.inode !== found?.inode) {
      if (found !== undefined) await this.#files.unlink(parent.inode!, path.at(-1)!);
      await this.#files.link(target.inode!, parent.inode!, path.at(-1)!);
    }
    this.#told(path, entry, "linked");
  }

  async #syncIfDue(bytes: number): Promise<void> {
    const { syncBytes, isPlan } = this.#options;
    if (syncBytes === undefined || isPlan === true) return;
    this.#unsyncedBytes += roundUp(bytes, PAGE_BYTES) + PAGE_BYTES;
    if (this.#unsyncedBytes < syncBytes) return;
    this.#unsyncedBytes = 0;
    await this.#fs.writer?.sync();
  }
}
