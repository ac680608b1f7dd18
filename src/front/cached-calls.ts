/**
 * The `*Sync` calls of `volume.fs`: the answer if it is cached, and `EAGAIN` (-11) if it is not.
 *
 *     const text = fs.readFileSync("/etc/hostname", "utf8");
 *     if (text === EAGAIN) await fs.readFile("/etc/hostname");        // now it is cached
 *
 * A call that is answered makes no promise and starts no request. One that is not may have started
 * to fetch metadata, which a later call then finds; content it never fetches (`IOCB_NOIO`). What is
 * wrong is thrown, as by Node's calls of these names.
 *
 * After `openat2(RESOLVE_CACHED)` and `preadv2(RWF_NOWAIT)` of Linux.
 */
import type { WalkResult } from "../fs/namei.ts";
import type { DirectoryEntry, VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { checkMode, type PathLike, pathText } from "./arguments.ts";
import { isDots, type ReaddirResult } from "./directory.ts";
import { checkDirectory, Dirent } from "./dirent.ts";
import type { FileHandle } from "./file-handle.ts";
import type { ReadFileOptions } from "./file-reads.ts";
import { EAGAIN } from "./open-file.ts";
import { O_CREAT, O_NOFOLLOW, O_TRUNC, openFlags } from "./open-flags.ts";
import { BigIntStats, Stats } from "./stats.ts";
import { decode, type Encoding, optionsOf } from "./text.ts";
import { TreeCalls } from "./tree-calls.ts";

type Now<T> = T | typeof EAGAIN;

/** Options of `readdirSync`: one directory, not those below it. */
export interface ReaddirSyncOptions {
  encoding?: Encoding;
  readonly withFileTypes?: boolean | undefined;
}

export abstract class CachedCalls extends TreeCalls {
  statSync(path: PathLike, options: { readonly bigint: true }): Now<BigIntStats>;
  statSync(path: PathLike, options?: { readonly bigint?: false }): Now<Stats>;
  statSync(path: PathLike, options?: { readonly bigint?: boolean }): Now<Stats | BigIntStats> {
    return this.#statsNow(this.at(path, "stat", true), options);
  }

  lstatSync(path: PathLike, options: { readonly bigint: true }): Now<BigIntStats>;
  lstatSync(path: PathLike, options?: { readonly bigint?: false }): Now<Stats>;
  lstatSync(path: PathLike, options?: { readonly bigint?: boolean }): Now<Stats | BigIntStats> {
    return this.#statsNow(this.at(path, "lstat", false), options);
  }

  /** True if there is something at `path`, false for whatever keeps it from being found. */
  existsSync(path: PathLike): Now<boolean> {
    try {
      return now(this.at(path, "access", true)) === EAGAIN ? EAGAIN : true;
    } catch {
      return false;
    }
  }

  readlinkSync(
    path: PathLike,
    options?: { encoding?: Encoding } | Encoding,
  ): Now<string | Uint8Array> {
    const { encoding } = optionsOf(options);
    const found = now(this.at(path, "readlink", false, undefined, "oldPath"));
    if (found === EAGAIN) return EAGAIN;
    const { inode } = found;
    if (inode.type !== "symlink") {
      throw new FsError("EINVAL", { syscall: "readlink", path: pathText(path) });
    }
    const target = now(this.guard("readlink", path, () => this.fileSystem.readlink(inode)));
    if (target === EAGAIN) return EAGAIN;
    this.writer?.noteAccess(inode);
    return decode(target, encoding, "text");
  }

  realpathSync(
    path: PathLike,
    options?: { encoding?: Encoding } | Encoding,
  ): Now<string | Uint8Array> {
    const { encoding } = optionsOf(options);
    const found = now(this.at(path, "realpath", true));
    return found === EAGAIN ? EAGAIN : decode(absolutePath(found.names), encoding, "text");
  }

  readdirSync<O extends ReaddirSyncOptions | Encoding = undefined>(
    path: PathLike,
    options?: O,
  ): Now<ReaddirResult<O>> {
    const given = optionsOf<ReaddirSyncOptions>(options as ReaddirSyncOptions | Encoding);
    const found = now(this.at(path, "scandir", true));
    if (found === EAGAIN) return EAGAIN;
    checkDirectory(found.inode.type, "scandir", pathText(path));
    const mayList = (): MaybeAsync<void> => this.checkListing(found.inode, undefined);
    if (now(this.guard("scandir", path, mayList)) === EAGAIN) return EAGAIN;
    const listed: unknown[] = [];
    for (let cookie = 0; cookie !== -1; ) {
      const batch = now(
        this.guard("scandir", path, () => this.fileSystem.readdir(found.inode, cookie)),
      );
      if (batch === EAGAIN) return EAGAIN;
      for (const entry of batch.entries) {
        if (isDots(entry.name)) continue;
        const item = this.#listedNow(entry, path, given);
        if (item === EAGAIN) return EAGAIN;
        listed.push(item);
      }
      cookie = batch.nextCookie;
    }
    this.writer?.noteAccess(found.inode);
    return listed as ReaddirResult<O>;
  }

  /**
   * A handle as `open` gives it; it is closed by `closeSync` or `close`. What makes or empties a
   * file is left to `open`: `EAGAIN`.
   */
  openSync(
    path: PathLike,
    flags?: string | number | null,
    mode?: string | number | null,
  ): Now<FileHandle> {
    const wanted = openFlags(flags);
    checkMode(mode, "mode", 0o666);
    const mayWait = (wanted & (O_CREAT | O_TRUNC)) !== 0;
    if (mayWait && this.writer !== undefined) return EAGAIN;
    const found = now(this.at(path, "open", (wanted & O_NOFOLLOW) === 0));
    if (found === EAGAIN) return EAGAIN;
    if ((wanted & O_CREAT) !== 0)
      throw new FsError("EROFS", { syscall: "open", path: pathText(path) });
    return now(this.guard("open", path, () => this.openInode(found.inode, wanted)));
  }

  /** All of a file whose content is cached to the last page. */
  readFileSync(
    path: PathLike,
    options: (ReadFileOptions & { encoding: string }) | string,
  ): Now<string>;
  readFileSync(
    path: PathLike,
    options?: (ReadFileOptions & { encoding?: null }) | null,
  ): Now<Uint8Array>;
  readFileSync(path: PathLike, options?: ReadFileOptions | Encoding): Now<string | Uint8Array> {
    const given = optionsOf<ReadFileOptions>(options);
    const handle = this.openSync(path, given.flag || "r");
    if (handle === EAGAIN) return EAGAIN;
    try {
      return handle.readFileSync(given);
    } finally {
      handle.closeSync();
    }
  }

  #statsNow(found: MaybeAsync<WalkResult>, options?: { readonly bigint?: boolean }): never {
    const result = now(found);
    if (result === EAGAIN) return EAGAIN as never;
    const attributes = result.inode.attributes();
    return (
      options?.bigint === true ? new BigIntStats(attributes) : new Stats(attributes)
    ) as never;
  }

  #listedNow(
    entry: DirectoryEntry,
    path: PathLike,
    options: ReaddirSyncOptions,
  ): Now<string | Uint8Array | Dirent<string | Uint8Array>> {
    const name = decode(entry.name, options.encoding, "text");
    if (!options.withFileTypes) return name;
    let { type } = entry;
    if (type === "unknown") {
      const inode = now<VfsInode>(
        this.guard("lstat", path, () => this.fileSystem.inode(entry.ino)),
      );
      if (inode === EAGAIN) return EAGAIN;
      ({ type } = inode);
    }
    return new Dirent(name, path, type);
  }
}

/** The value if it is there. Else the promise goes on by itself: the next call meets its end. */
function now<T>(value: MaybeAsync<T>): Now<T> {
  if (!isPromise(value)) return value;
  value.catch(() => undefined);
  return EAGAIN;
}

/** "/" and the names with slashes between them. */
export function absolutePath(names: readonly Uint8Array[]): Uint8Array {
  let lengthBytes = names.length;
  for (const name of names) lengthBytes += name.length;
  const path = new Uint8Array(Math.max(lengthBytes, 1));
  path[0] = 0x2f;
  let at = 0;
  for (const name of names) {
    path[at] = 0x2f;
    path.set(name, at + 1);
    at += name.length + 1;
  }
  return path;
}
