/**
 * The calls of `fs.promises` that open files, and those that write a whole one.
 *
 * `open` makes what is missing if it is told to, behind the last symlink too, as the kernel does.
 *
 * After `open_last_lookups`, `do_open` and `do_tmpfile` of `fs/namei.c`.
 */
import type { NewPlace } from "../fs/namei.ts";
import { MAY_EXEC, MAY_WRITE } from "../fs/permission.ts";
import type { VfsInode } from "../fs/vfs.ts";
import type { NewInode } from "../fs/vfs-write.ts";
import { FsError } from "../lib/errno.ts";
import { andThen, type MaybeAsync } from "../lib/maybe.ts";
import { checkMode, type PathLike, pathBytes, pathText } from "./arguments.ts";
import { createdMode } from "./attributes.ts";
import {
  checkWriteData,
  FileHandle,
  type WriteData,
  type WriteFileOptions,
} from "./file-handle.ts";
import { lastNameOf } from "./last-name.ts";
import { NameCalls, type Place } from "./name-calls.ts";
import {
  ACCESS_MASK,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  openFlags,
} from "./open-flags.ts";
import { bytesOfText, decode, type Encoding, optionsOf } from "./text.ts";

const S_IFREG = 0o100000;
const FILE_MODE_DEFAULT = 0o666;
const TEMPORARY_MODE = 0o700;
const TEMPORARY_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const TEMPORARY_NAME_LENGTH = 6;
/** Names that `mkdtemp` tries, as the C library does (`ATTEMPTS_MIN`). */
const TEMPORARY_TRIES = 62 ** 3;

/** What `open` meets where the last name is not as it was when it was looked up. */
const OUTDATED: ReadonlySet<string> = new Set(["EEXIST", "ENOENT"]);
/** Times that `open` with `O_CREAT` looks again. */
const OPEN_TRIES = 100;

/** Options of the calls that only look. */
export interface LookOptions {
  readonly signal?: AbortSignal | undefined;
}

export abstract class ContentCalls extends NameCalls {
  /** Opens `path`; the handle must be closed, or disposed of with `await using`. */
  async open(
    path: PathLike,
    flags?: string | number | null,
    mode?: string | number | null,
    options?: LookOptions,
  ): Promise<FileHandle> {
    const bytes = pathBytes(path);
    const wanted = openFlags(flags);
    const bits = checkMode(mode, "mode", FILE_MODE_DEFAULT) & 0o7777;
    const signal = options?.signal;
    if ((wanted & O_TMPFILE) === O_TMPFILE) return this.#openTemporary(path, wanted, bits);
    if ((wanted & O_CREAT) !== 0) return this.#openOrCreate(path, bytes, wanted, bits, signal);
    const found = await this.at(path, "open", (wanted & O_NOFOLLOW) === 0, signal);
    const name = found.names.at(-1);
    const place =
      name === undefined ? undefined : { dirIno: found.parentIno, name, names: found.names };
    return this.guard("open", path, () => this.openInode(found.inode, wanted, place, signal));
  }

  /** Cuts the file at `path`, or lets it grow with a hole. */
  async truncate(path: PathLike, lengthBytes = 0): Promise<void> {
    const handle = await this.open(path, O_RDWR);
    try {
      await handle.truncate(lengthBytes);
    } finally {
      await handle.close();
    }
  }

  /** Writes `data` to `path`, in place of what was there, making the file if it is missing. */
  async writeFile(
    path: PathLike | FileHandle,
    data: WriteData,
    options?: WriteFileOptions | Encoding,
  ): Promise<void> {
    return this.#write(path, data, options, "w");
  }

  /** Writes `data` behind the end of `path`, making the file if it is missing. */
  async appendFile(
    path: PathLike | FileHandle,
    data: WriteData,
    options?: WriteFileOptions | Encoding,
  ): Promise<void> {
    return this.#write(path, data, options, "a");
  }

  /** Makes a directory whose name is `prefix` and six letters that no other has. */
  async mkdtemp(
    prefix: PathLike,
    options?: { encoding?: Encoding } | "utf8" | "utf-8" | null,
  ): Promise<string>;
  async mkdtemp(
    prefix: PathLike,
    options?: { encoding?: Encoding } | Encoding,
  ): Promise<string | Uint8Array>;
  async mkdtemp(
    prefix: PathLike,
    options?: { encoding?: Encoding } | Encoding,
  ): Promise<string | Uint8Array> {
    const { encoding } = optionsOf(options);
    const bytes = pathBytes(prefix, "prefix");
    const where = { syscall: "mkdtemp", path: `${pathText(prefix)}XXXXXX` };
    await this.parentOf(behind(bytes, "XXXXXX"), where);
    for (let tries = 1; ; tries++) {
      const path = behind(bytes, this.#letters());
      try {
        await this.makeNew(path, where, this.newInode(0o040000, TEMPORARY_MODE), true);
        return decode(path, encoding, "text");
      } catch (thrown) {
        const isTaken = thrown instanceof FsError && thrown.code === "EEXIST";
        if (!isTaken || tries === TEMPORARY_TRIES) throw thrown;
      }
    }
  }

  /** What a new file of the caller in `dir` begins as. */
  protected newFile(mode: number, dir: VfsInode): NewInode {
    return this.newInode(S_IFREG, createdMode(S_IFREG | mode, dir, this.caller) & 0o7777);
  }

  #letters(): string {
    let text = "";
    for (let n = 0; n < TEMPORARY_NAME_LENGTH; n++)
      text += this.random.pick([...TEMPORARY_LETTERS]);
    return text;
  }

  async #openOrCreate(
    path: PathLike,
    bytes: Uint8Array,
    flags: number,
    mode: number,
    signal: AbortSignal | undefined,
  ): Promise<FileHandle> {
    const where = { syscall: "open", path: pathText(path) };
    if ((flags & O_DIRECTORY) !== 0) throw new FsError("EINVAL", where);
    const { kind, hasSlash } = lastNameOf(bytes);
    if (bytes.length === 0 || kind !== "name" || hasSlash) await this.parentOf(bytes, where);
    if (kind === "name" && hasSlash) throw new FsError("EISDIR", where);
    const follows = (flags & (O_EXCL | O_NOFOLLOW)) === 0;
    for (let tries = 1; ; tries++) {
      const found = await this.atOrNew(bytes, "open", follows, signal);
      if (found.inode !== undefined && (flags & O_EXCL) !== 0) throw new FsError("EEXIST", where);
      if (found.inode === undefined && this.writer === undefined) throw new FsError("EROFS", where);
      try {
        return await this.guard("open", path, () => {
          if (found.inode === undefined) return this.#create(found, flags, mode);
          const { inode, parentIno, names } = found;
          const name = names.at(-1);
          const place = name === undefined ? undefined : { dirIno: parentIno, name, names };
          return this.openInode(inode, flags, place, signal);
        });
      } catch (thrown) {
        // Somebody else has made it, or taken it away, since it was looked up.
        const isOutdated = thrown instanceof FsError && OUTDATED.has(thrown.code);
        if (!isOutdated || (flags & O_EXCL) !== 0 || tries === OPEN_TRIES) throw thrown;
      }
    }
  }

  #create(found: NewPlace, flags: number, mode: number): MaybeAsync<FileHandle> {
    const { parent: dir, parentNames: dirNames, name } = found;
    const place: Place = { dir, dirNames, last: lastNameOf(name) };
    const create = (): MaybeAsync<VfsInode> =>
      this.underParent(this.writer!.create(dir, name, this.newFile(mode, dir)), place);
    return andThen(andThen(this.checkAccess(dir, MAY_WRITE | MAY_EXEC), create), (inode) => {
      this.told(place, inode.ino);
      return this.openNew(inode, flags, { dirIno: dir.ino, name, names: [...dirNames, name] });
    });
  }

  /** A file without a name in the directory `path`: `link` can give it one. */
  async #openTemporary(path: PathLike, flags: number, mode: number): Promise<FileHandle> {
    const where = { syscall: "open", path: pathText(path) };
    const isRead = (flags & ACCESS_MASK) === O_RDONLY;
    if (isRead || (flags & O_CREAT) !== 0) throw new FsError("EINVAL", where);
    const { inode: dir } = await this.at(path, "open", true);
    if (dir.type !== "directory") throw new FsError("ENOTDIR", where);
    if (this.writer === undefined) throw new FsError("EROFS", where);
    return this.guard("open", path, async () => {
      await this.checkAccess(dir, MAY_WRITE | MAY_EXEC);
      const inode: VfsInode = await this.writer!.tmpfile(dir, this.newFile(mode, dir));
      const handle = await this.openNew(inode, flags);
      await this.writer!.release(inode); // The handle holds it now.
      return handle;
    });
  }

  async #write(
    path: PathLike | FileHandle,
    data: WriteData,
    options: WriteFileOptions | Encoding,
    flag: string,
  ): Promise<void> {
    const given = optionsOf<WriteFileOptions>(options);
    checkWriteData(data, given);
    given.signal?.throwIfAborted();
    if (path instanceof FileHandle) return path.writeFile(data, given);
    const handle = await this.open(path, given.flag || flag, given.mode ?? FILE_MODE_DEFAULT);
    try {
      await handle.writeFile(data, given);
    } finally {
      await handle.close();
    }
  }
}

/** `path` with `letters` behind it. */
function behind(path: Uint8Array, letters: string): Uint8Array {
  const longer = new Uint8Array(path.length + letters.length);
  longer.set(path);
  longer.set(bytesOfText(letters), path.length);
  return longer;
}
