/**
 * What fast commits changed in one directory: names that came, names that went.
 *
 *     home     .  ..  a  b  c          patch   b -> gone,  d -> 17,  a -> 19
 *     result   .  ..  c  a  d          names of the patch come last, each once
 *
 *  1. A name of the patch hides the same name at home, whatever that leads to.
 *  2. A directory that was made by a fast commit has no home: it begins with `.` and `..`.
 */
import type { DirectoryBatch, DirectoryEntry, FileType } from "../vfs.ts";

const DOT: Uint8Array = Uint8Array.of(0x2e);
const DOT_DOT: Uint8Array = Uint8Array.of(0x2e, 0x2e);

/** Names are bytes; as map keys they are text with one character for each. */
function keyOf(name: Uint8Array): string {
  return String.fromCharCode(...name);
}

/** A name that came or went. */
export interface PatchedName {
  readonly name: Uint8Array;
  /** 0: the name is gone. */
  readonly ino: number;
}

/** See the head of the file. */
export class DirectoryPatch {
  readonly #ino: number;
  readonly #typeOf: (ino: number) => FileType;
  readonly #names = new Map<string, PatchedName>();
  #parent = 0;

  /** `typeOf` tells the type of an inode, `unknown` where only the inode itself does. */
  constructor(ino: number, typeOf: (ino: number) => FileType) {
    this.#ino = ino;
    this.#typeOf = typeOf;
  }

  /** The directory was made by a fast commit, in `parent`: forget its home. */
  begin(parent: number): void {
    this.#parent = parent;
  }

  get isNew(): boolean {
    return this.#parent !== 0;
  }

  /** The directory that it was made in, 0 if it was not. */
  get parent(): number {
    return this.#parent;
  }

  /** All names that came or went. */
  get names(): Iterable<PatchedName> {
    return this.#names.values();
  }

  add(name: Uint8Array, ino: number): void {
    this.#names.set(keyOf(name), { name, ino });
  }

  remove(name: Uint8Array): void {
    this.#names.set(keyOf(name), { name, ino: 0 });
  }

  /** The inode behind `name`, 0 if it is gone, undefined if the patch does not say. */
  peek(name: Uint8Array): number | undefined {
    return this.#names.get(keyOf(name))?.ino;
  }

  /**
   * The inode behind `name`, 0 if there is none; `home` is asked for a name that did not change.
   */
  lookup(name: Uint8Array, home: () => number): number {
    const known = this.peek(name);
    if (known !== undefined) return known;
    if (!this.isNew) return home();
    const key = keyOf(name);
    if (key === ".") return this.#ino;
    return key === ".." ? this.#parent : 0;
  }

  /**
   * A stretch of the directory: what `home` gives at `cookie`, patched; new names come at the end.
   */
  read(cookie: number, home: (cookie: number) => DirectoryBatch): DirectoryBatch {
    if (this.isNew) {
      const dots: DirectoryEntry[] = [
        { name: DOT, ino: this.#ino, type: "directory" },
        { name: DOT_DOT, ino: this.#parent, type: "directory" },
      ];
      return { entries: [...dots, ...this.#added()], nextCookie: -1 };
    }
    const batch = home(cookie);
    const entries = batch.entries.filter(({ name }) => !this.#names.has(keyOf(name)));
    if (batch.nextCookie === -1) entries.push(...this.#added());
    return { entries, nextCookie: batch.nextCookie };
  }

  *#added(): Generator<DirectoryEntry> {
    for (const { name, ino } of this.#names.values()) {
      if (ino !== 0) yield { name, ino, type: this.#typeOf(ino) };
    }
  }
}
