/**
 * `cp` of `fs.promises`: files, links and trees, with Node's options and Node's errors.
 *
 *     checked first    the same file, a tree into itself, a directory over a file: nothing is done
 *     then             directories are merged; a file there is replaced, kept, or an error
 *
 * Names are bytes throughout, so that trees with names that are no text are copied too.
 */
import type { FileType } from "../fs/vfs.ts";
import { FsError, hasErrnoCode } from "../lib/errno.ts";
import { codedError, type PathLike, pathBytes, pathText } from "./arguments.ts";
import type { Dirent } from "./dirent.ts";
import { lastNameOf } from "./last-name.ts";
import type { Stats } from "./stats.ts";

/** Options of `cp`, as Node's. */
export interface CopyOptions {
  readonly dereference?: boolean | undefined;
  readonly errorOnExist?: boolean | undefined;
  readonly filter?:
    | ((source: string, destination: string) => boolean | Promise<boolean>)
    | undefined;
  /** Replace what is there; true by default. */
  readonly force?: boolean | undefined;
  /** Of `copyFile`. */
  readonly mode?: number | undefined;
  readonly preserveTimestamps?: boolean | undefined;
  readonly recursive?: boolean | undefined;
  readonly verbatimSymlinks?: boolean | undefined;
}

/** What a copier needs of `fs.promises`. */
export interface CopyApi {
  stat(path: PathLike): Promise<Stats>;
  lstat(path: PathLike): Promise<Stats>;
  unlink(path: PathLike): Promise<void>;
  mkdir(path: PathLike, options?: { recursive: boolean }): Promise<string | undefined>;
  readlink(path: PathLike, encoding: "buffer"): Promise<string | Uint8Array>;
  symlink(target: PathLike, path: PathLike): Promise<void>;
  chmod(path: PathLike, mode: number): Promise<void>;
  utimes(path: PathLike, atime: Date, mtime: Date): Promise<void>;
  copyFile(from: PathLike, to: PathLike, mode?: number): Promise<void>;
  opendir(
    path: PathLike,
    options: { encoding: "buffer" },
  ): Promise<AsyncIterable<Dirent<Uint8Array>>>;
}

const SLASH = 0x2f;
const OWNER_WRITE = 0o200;
const ERRNO = { EINVAL: 22, EISDIR: 21, ENOTDIR: 20, EEXIST: 17 } as const;

/** An error of `cp`, of Node's class for such errors. */
function cpError(
  kind: string,
  what: string,
  code: keyof typeof ERRNO,
  text: string,
  path: string,
): Error {
  const message = `${what}: cp returned ${code} (${text}) ${path}`;
  const error = codedError(kind, message, "SystemError");
  const info = { message: text, path, syscall: "cp", errno: ERRNO[code], code };
  return Object.assign(error, { info, errno: ERRNO[code], syscall: "cp", path });
}

function namesOf(path: Uint8Array): string[] {
  const names: string[] = [];
  for (const name of pathText(path).split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return names;
}

/** True if `inner` is `outer` or below it, by their names alone. */
function isInside(outer: Uint8Array, inner: Uint8Array): boolean {
  const names = namesOf(inner);
  return namesOf(outer).every((name, index) => names[index] === name);
}

function below(directory: Uint8Array, name: Uint8Array): Uint8Array {
  const isSlashed = directory.at(-1) === SLASH;
  const path = new Uint8Array(directory.length + (isSlashed ? 0 : 1) + name.length);
  path.set(directory);
  path[path.length - name.length - 1] = SLASH;
  path.set(name, path.length - name.length);
  return path;
}

function absolute(target: Uint8Array, from: Uint8Array): Uint8Array {
  if (target[0] === SLASH) return target;
  const names = namesOf(below(lastNameOf(from).parent, target));
  return pathBytes(`/${names.join("/")}`);
}

function typeOf(stats: Stats): FileType {
  if (stats.isDirectory()) return "directory";
  if (stats.isSymbolicLink()) return "symlink";
  if (stats.isSocket()) return "socket";
  return stats.isFIFO() ? "fifo" : "file";
}

/** See the head of the file. */
export class TreeCopier {
  readonly #fs: CopyApi;
  readonly #options: CopyOptions;

  constructor(fs: CopyApi, options: CopyOptions) {
    this.#fs = fs;
    this.#options = options;
  }

  /** Copies `from` to `to`; the directories above `to` are made. */
  async copy(from: Uint8Array, to: Uint8Array): Promise<void> {
    const target = await this.#checked(from, to);
    if (target === "skipped") return;
    await this.#checkAbove(from, to);
    const { parent, kind } = lastNameOf(to);
    if (kind === "name") await this.#fs.mkdir(parent, { recursive: true });
    await this.#copyOne(from, to, target);
  }

  #look(path: Uint8Array): Promise<Stats> {
    return this.#options.dereference === true ? this.#fs.stat(path) : this.#fs.lstat(path);
  }

  /** What is at `to` now, if it may be copied over. */
  async #checked(from: Uint8Array, to: Uint8Array): Promise<Stats | undefined | "skipped"> {
    const { filter } = this.#options;
    const [source, dest] = [pathText(from), pathText(to)];
    if (filter !== undefined && !(await filter(source, dest))) return "skipped";
    const found = await this.#look(from);
    const target = await orMissing(this.#look(to));
    if (target !== undefined) {
      if (target.ino === found.ino) {
        const text = "src and dest cannot be the same";
        throw cpError("ERR_FS_CP_EINVAL", "Invalid src or dest", "EINVAL", text, dest);
      }
      const [isTree, isOverTree] = [found.isDirectory(), target.isDirectory()];
      if (isTree && !isOverTree) {
        const text = `cannot overwrite non-directory ${dest} with directory ${source}`;
        const what = "Cannot overwrite non-directory with directory";
        throw cpError("ERR_FS_CP_DIR_TO_NON_DIR", what, "EISDIR", text, dest);
      }
      if (!isTree && isOverTree) {
        const text = `cannot overwrite directory ${dest} with non-directory ${source}`;
        const what = "Cannot overwrite directory with non-directory";
        throw cpError("ERR_FS_CP_NON_DIR_TO_DIR", what, "ENOTDIR", text, dest);
      }
    }
    if (found.isDirectory() && isInside(from, to)) throw intoItself(source, dest);
    return target;
  }

  /** Throws if a directory above `to` is what is copied, by whatever name. */
  async #checkAbove(from: Uint8Array, to: Uint8Array): Promise<void> {
    const source = await this.#look(from);
    if (!source.isDirectory()) return;
    for (let names = namesOf(to).slice(0, -1); names.length > 0; names = names.slice(0, -1)) {
      const above = await orMissing(this.#fs.stat(`/${names.join("/")}`));
      if (above?.ino === source.ino) throw intoItself(pathText(from), pathText(to));
    }
  }

  async #copyOne(from: Uint8Array, to: Uint8Array, target: Stats | undefined): Promise<void> {
    const source = await this.#look(from);
    const dest = pathText(to);
    switch (typeOf(source)) {
      case "directory":
        if (this.#options.recursive !== true) {
          const text = `${pathText(from)} is a directory (not copied)`;
          const what = "Path is a directory";
          throw cpError("ERR_FS_EISDIR", what, "EISDIR", text, pathText(from));
        }
        return this.#copyDirectory(source, from, to, target);
      case "symlink":
        return this.#copyLink(from, to, target);
      case "socket": {
        const text = `cannot copy a socket file: ${dest}`;
        throw cpError("ERR_FS_CP_SOCKET", "Cannot copy a socket file", "EINVAL", text, dest);
      }
      case "fifo": {
        const text = `cannot copy a FIFO pipe: ${dest}`;
        throw cpError("ERR_FS_CP_FIFO_PIPE", "Cannot copy a FIFO pipe", "EINVAL", text, dest);
      }
      default:
        return this.#copyFile(source, from, to, target);
    }
  }

  async #copyFile(source: Stats, from: Uint8Array, to: Uint8Array, target?: Stats): Promise<void> {
    const { force, errorOnExist, mode, preserveTimestamps } = this.#options;
    if (target !== undefined) {
      if (force === false) {
        if (errorOnExist !== true) return;
        const dest = pathText(to);
        const what = "Target already exists";
        throw cpError("ERR_FS_CP_EEXIST", what, "EEXIST", `${dest} already exists`, dest);
      }
      await this.#fs.unlink(to);
    }
    await this.#fs.copyFile(from, to, mode);
    if (preserveTimestamps === true) {
      if ((source.mode & OWNER_WRITE) === 0) await this.#fs.chmod(to, source.mode | OWNER_WRITE);
      const { atime, mtime } = await this.#fs.stat(from);
      await this.#fs.utimes(to, atime, mtime);
    }
    await this.#fs.chmod(to, source.mode & 0o7777);
  }

  async #copyDirectory(
    source: Stats,
    from: Uint8Array,
    to: Uint8Array,
    target: Stats | undefined,
  ): Promise<void> {
    if (target === undefined) await this.#fs.mkdir(to);
    for await (const { name } of await this.#fs.opendir(from, { encoding: "buffer" })) {
      const [child, copy] = [below(from, name), below(to, name)];
      const there = await this.#checked(child, copy);
      if (there !== "skipped") await this.#copyOne(child, copy, there);
    }
    if (target === undefined) await this.#fs.chmod(to, source.mode & 0o7777);
  }

  async #copyLink(from: Uint8Array, to: Uint8Array, target: Stats | undefined): Promise<void> {
    const stored = (await this.#fs.readlink(from, "buffer")) as Uint8Array;
    const leads = this.#options.verbatimSymlinks === true ? stored : absolute(stored, from);
    if (target === undefined) return this.#fs.symlink(leads, to);
    if (!target.isSymbolicLink()) return this.#fs.symlink(leads, to); // Fails with EEXIST.
    const old = absolute((await this.#fs.readlink(to, "buffer")) as Uint8Array, to);
    const dest = pathText(to);
    if (isInside(leads, old)) {
      const text = `cannot copy ${pathText(leads)} to a subdirectory of self ${pathText(old)}`;
      throw cpError("ERR_FS_CP_EINVAL", "Invalid src or dest", "EINVAL", text, dest);
    }
    if ((await this.#fs.stat(from)).isDirectory() && isInside(old, leads)) {
      const text = `cannot overwrite ${pathText(old)} with ${pathText(leads)}`;
      const what = "Cannot overwrite symlink in subdirectory of self";
      throw cpError("ERR_FS_CP_SYMLINK_TO_SUBDIRECTORY", what, "EINVAL", text, dest);
    }
    await this.#fs.unlink(to);
    return this.#fs.symlink(leads, to);
  }
}

function intoItself(source: string, dest: string): Error {
  const text = `cannot copy ${source} to a subdirectory of self ${dest}`;
  return cpError("ERR_FS_CP_EINVAL", "Invalid src or dest", "EINVAL", text, dest);
}

async function orMissing(looking: Promise<Stats>): Promise<Stats | undefined> {
  try {
    return await looking;
  } catch (thrown) {
    if (thrown instanceof FsError && hasErrnoCode(thrown) && thrown.code === "ENOENT")
      return undefined;
    throw thrown;
  }
}
