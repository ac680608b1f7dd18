/**
 * From a path to an inode, with the names met on the way remembered.
 *
 * A walk goes component by component from the root. What a name leads to is kept in a tree of
 * dentries, so that a second walk asks the file system nothing; a name that is not there is kept
 * too (a negative dentry, `ino` 0). All is synchronous as long as it is cached:
 *
 *     "/etc/os-release"   root --"etc"--> dentry(13) --"os-release"--> dentry(27) --> target ..
 *
 *  1. A dentry is true: whoever changes a name calls `forget` of it when the change is done, and
 *     what was looked up while a change was under way is not kept.
 *  2. Never more than `limit` dentries: a full cache is emptied as a whole, which costs cached
 *     reads only.
 *  3. A walk follows at most 40 symlinks and 4,095 bytes of path; a name has at most 255 bytes.
 *
 * After `fs/namei.c` and `fs/dcache.c` of Linux. Left out: mounts inside, permissions, RCU.
 */
import { FsError } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import type { FileSystem, VfsInode } from "./vfs.ts";

/** Symlinks that one walk may follow (`MAXSYMLINKS`). */
export const SYMLINKS_MAX = 40;
/** Bytes of a path with its final NUL (`PATH_MAX`). */
export const PATH_BYTES_MAX = 4096;

const SLASH = 0x2f;

/** A name that was looked up: where it leads, and the names looked up below it. */
interface Dentry {
  readonly ino: number;
  readonly parent: Dentry | undefined;
  children: Map<string, Dentry> | undefined;
}

/** Where a walk ended. */
export interface WalkResult {
  readonly inode: VfsInode;
  /** The directory that the last name stands in; the root itself for the root. */
  readonly parentIno: number;
  /** Names from the root to the inode, links resolved: what `realpath` shows. */
  readonly names: readonly Uint8Array[];
}

/** A name that is not there, in a directory that is: where it could be made. */
export interface NewPlace {
  readonly inode: undefined;
  readonly parent: VfsInode;
  /** Names from the root to the directory. */
  readonly parentNames: readonly Uint8Array[];
  readonly name: Uint8Array;
}

type WalkEnd = WalkResult | NewPlace;

interface Walk {
  /** Components still to go, the next one last. */
  readonly todo: Uint8Array[];
  readonly names: Uint8Array[];
  dentry: Dentry;
  /** The inode of `dentry`, where it was just found. */
  inode: VfsInode | undefined;
  /** Nothing that is remembered is believed. */
  isFresh: boolean;
  linksLeft: number;
  followLast: boolean;
  mustBeDirectory: boolean;
  /** A last name that is missing is an answer, and no error. */
  readonly mayBeNew: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Says with `EACCES` whether names of this directory may be looked up (`MAY_EXEC`). */
export type MayEnter = (directory: VfsInode) => MaybeAsync<void>;

export class PathWalker {
  readonly #fs: FileSystem;
  readonly #mayEnter: MayEnter | undefined;
  readonly #limit: number;
  #root: Dentry;
  #count = 0;
  /** Calls of `forget`: a lookup that began before one may have seen what was there then. */
  #changeCount = 0;

  /** `mayEnter` is asked of each directory on the way; without it all may be entered. */
  constructor(fs: FileSystem, limit = 100_000, mayEnter?: MayEnter) {
    this.#fs = fs;
    this.#mayEnter = mayEnter;
    this.#limit = limit;
    this.#root = { ino: fs.rootIno, parent: undefined, children: undefined };
  }

  /** Number of names remembered now. */
  get dentryCount(): number {
    return this.#count;
  }

  /** Forgets all names (`shrink_dcache_sb`). */
  clear(): void {
    this.#root = { ino: this.#fs.rootIno, parent: undefined, children: undefined };
    this.#count = 0;
  }

  /**
   * Forgets the name `name` in the directory to which `names` lead from the root, and all below it
   * (`d_drop`): it was made, moved or taken away.
   */
  forget(names: readonly Uint8Array[], name: Uint8Array): void {
    this.#changeCount++;
    let directory: Dentry | undefined = this.#root;
    for (const part of names) directory = directory?.children?.get(latin1Of(part));
    const key = latin1Of(name);
    const dentry = directory?.children?.get(key);
    if (dentry !== undefined) this.#drop(directory!, key, dentry);
  }

  /**
   * The inode at `path`, taken from the root whether it begins with a slash or not
   * (`path_lookupat`). A last symlink is followed if `followLast`, or if the path ends in a slash.
   *
   * @throws {FsError} `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`, and what the file system
   *   throws; with neither `syscall` nor `path`, which the front knows
   */
  walk(
    path: Uint8Array,
    followLast: boolean,
    signal?: AbortSignal,
    pathBytesMax: number = PATH_BYTES_MAX,
  ): MaybeAsync<WalkResult> {
    const start = (): Walk => this.#start(path, followLast, false, signal, pathBytesMax);
    return this.#goSurely(start) as MaybeAsync<WalkResult>; // Nothing else without `mayBeNew`.
  }

  /**
   * As `walk`, but if nothing is missing but the last name, the place to make it in
   * (`LOOKUP_CREATE`): behind the last symlink, if that was followed.
   */
  walkOrNew(
    path: Uint8Array,
    followLast: boolean,
    signal?: AbortSignal,
  ): MaybeAsync<WalkResult | NewPlace> {
    return this.#goSurely(() => this.#start(path, followLast, true, signal, PATH_BYTES_MAX));
  }

  /**
   * A walk that goes once more, by what the directories say, if a name led to an inode that is not
   * in use: it was taken away, and that may not be known here yet.
   */
  #goSurely(start: () => Walk): MaybeAsync<WalkEnd> {
    const again = (thrown: unknown): MaybeAsync<WalkEnd> => {
      if (!(thrown instanceof FsError) || thrown.code !== "ESTALE") throw thrown;
      const walk = start();
      walk.isFresh = true;
      return this.#go(walk);
    };
    try {
      const end = this.#go(start());
      return isPromise(end) ? end.catch(again) : end;
    } catch (thrown) {
      return again(thrown);
    }
  }

  #start(
    path: Uint8Array,
    followLast: boolean,
    mayBeNew: boolean,
    signal: AbortSignal | undefined,
    pathBytesMax: number,
  ): Walk {
    if (path.length === 0) throw new FsError("ENOENT");
    if (path.length >= pathBytesMax) throw new FsError("ENAMETOOLONG");
    const todo: Uint8Array[] = [];
    pushComponents(todo, path);
    const endsInSlash = path[path.length - 1] === SLASH;
    return {
      todo,
      names: [],
      dentry: this.#root,
      inode: undefined,
      isFresh: false,
      linksLeft: SYMLINKS_MAX,
      followLast: followLast || endsInSlash,
      mustBeDirectory: endsInSlash,
      mayBeNew,
      signal,
    };
  }

  #go(walk: Walk): MaybeAsync<WalkEnd> {
    for (;;) {
      const inode = walk.inode ?? this.#fs.inode(walk.dentry.ino, walk.signal);
      if (isPromise(inode)) return inode.then((loaded) => this.#onward(walk, loaded));
      const step = this.#step(walk, inode);
      if (step === undefined) continue;
      if (isPromise(step)) return step.then((result) => result ?? this.#go(walk));
      return step;
    }
  }

  #onward(walk: Walk, inode: VfsInode): MaybeAsync<WalkEnd> {
    const step = this.#step(walk, inode);
    if (step === undefined) return this.#go(walk);
    if (isPromise(step)) return step.then((result) => result ?? this.#go(walk));
    return step;
  }

  /** One component, or the end. `undefined`: `walk.dentry` has moved, go on. */
  #step(walk: Walk, inode: VfsInode): MaybeAsync<WalkEnd | undefined> {
    if (inode.type === "symlink" && (walk.todo.length > 0 || walk.followLast)) {
      return this.#followLink(walk, inode);
    }
    const name = walk.todo.pop();
    if (name === undefined) {
      if (walk.mustBeDirectory && inode.type !== "directory") throw new FsError("ENOTDIR");
      const parentIno = (walk.dentry.parent ?? this.#root).ino;
      return { inode, parentIno, names: walk.names };
    }
    if (inode.type !== "directory") throw new FsError("ENOTDIR");
    const entered = this.#mayEnter?.(inode);
    if (isPromise(entered)) return entered.then(() => this.#lookUp(walk, inode, name));
    return this.#lookUp(walk, inode, name);
  }

  /** One component in a directory that may be entered. */
  #lookUp(walk: Walk, inode: VfsInode, name: Uint8Array): MaybeAsync<NewPlace | undefined> {
    if (name.length === 1 && name[0] === 0x2e) return undefined;
    if (name.length === 2 && name[0] === 0x2e && name[1] === 0x2e) {
      walk.names.pop();
      this.#moveTo(walk, walk.dentry.parent ?? this.#root);
      return undefined;
    }
    if (name.length > 255) throw new FsError("ENAMETOOLONG");
    const key = latin1Of(name);
    const known = walk.dentry.children?.get(key);
    if (known !== undefined && !walk.isFresh) {
      return this.#enter(walk, name, inode, known, undefined);
    }
    if (known !== undefined) this.#drop(walk.dentry, key, known);
    const found = this.#fs.find(inode, name, walk.signal);
    if (isPromise(found)) {
      const since = this.#changeCount;
      return found.then((child) => {
        const isOld = this.#changeCount !== since;
        const parent = walk.dentry;
        const ino = child?.ino ?? 0;
        const dentry = isOld ? dentryOf(ino, parent) : this.#remember(parent, key, ino);
        return this.#enter(walk, name, inode, dentry, child);
      });
    }
    const dentry = this.#remember(walk.dentry, key, found?.ino ?? 0);
    return this.#enter(walk, name, inode, dentry, found);
  }

  /** Goes on at `dentry`; `inode` is behind it, if that is known. */
  #moveTo(walk: Walk, dentry: Dentry, inode?: VfsInode): void {
    walk.dentry = dentry;
    walk.inode = inode?.ino === dentry.ino ? inode : undefined;
  }

  #enter(
    walk: Walk,
    name: Uint8Array,
    parent: VfsInode,
    dentry: Dentry,
    inode: VfsInode | undefined,
  ): NewPlace | undefined {
    if (dentry.ino === 0) {
      if (walk.todo.length > 0 || !walk.mayBeNew) throw new FsError("ENOENT");
      return { inode: undefined, parent, parentNames: walk.names, name };
    }
    walk.names.push(name);
    this.#moveTo(walk, dentry, inode);
    return undefined;
  }

  #drop(parent: Dentry, key: string, dentry: Dentry): void {
    parent.children!.delete(key);
    this.#count -= countOf(dentry);
  }

  #remember(parent: Dentry, key: string, ino: number): Dentry {
    const earlier = parent.children?.get(key); // Of a walk that waited for the same name.
    if (earlier?.ino === ino) return earlier;
    if (earlier !== undefined) this.#drop(parent, key, earlier);
    if (this.#count >= this.#limit) this.clear();
    const dentry = dentryOf(ino, parent);
    parent.children ??= new Map();
    parent.children.set(key, dentry);
    this.#count++;
    return dentry;
  }

  #followLink(walk: Walk, link: VfsInode): MaybeAsync<undefined> {
    if (walk.linksLeft-- === 0) throw new FsError("ELOOP");
    const target = this.#fs.readlink(link, walk.signal);
    if (isPromise(target)) return target.then((bytes) => this.#redirect(walk, bytes));
    return this.#redirect(walk, target);
  }

  #redirect(walk: Walk, target: Uint8Array): undefined {
    if (target.length === 0) throw new FsError("ENOENT");
    if (target[0] === SLASH) {
      this.#moveTo(walk, this.#root);
      walk.names.length = 0;
    } else {
      this.#moveTo(walk, walk.dentry.parent ?? this.#root);
      walk.names.pop();
    }
    if (walk.todo.length === 0 && target[target.length - 1] === SLASH) {
      walk.followLast = true; // Holds for the last component, also one that a link gives.
      walk.mustBeDirectory = true;
    }
    pushComponents(walk.todo, target);
    return undefined;
  }
}

function dentryOf(ino: number, parent: Dentry): Dentry {
  return { ino, parent, children: undefined };
}

/** The dentry and all below it. */
function countOf(dentry: Dentry): number {
  let count = 0;
  const stack = [dentry];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    count++;
    if (at.children !== undefined) stack.push(...at.children.values());
  }
  return count;
}

/** Puts the components of `path` on the stack, the first one on top; empty ones are left out. */
function pushComponents(todo: Uint8Array[], path: Uint8Array): void {
  let end = path.length;
  for (let at = path.length - 1; at >= -1; at--) {
    if (at >= 0 && path[at] !== SLASH) continue;
    if (end > at + 1) todo.push(path.subarray(at + 1, end));
    end = at;
  }
}

/** One character per byte: a key for a `Map`, equal exactly when the bytes are. */
function latin1Of(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}
