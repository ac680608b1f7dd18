/**
 * What a check must remember of each inode until it has seen all directories: four bytes and a bit
 * for inodes in use, nothing for groups without any.
 */

/** What kind of thing an inode is, as a directory entry names it; 0 for an unused one. */
export const KIND_UNUSED = 0;
export const KIND_FILE = 1;
export const KIND_DIRECTORY = 2;
export const KIND_CHARACTER = 3;
export const KIND_BLOCK = 4;
export const KIND_FIFO = 5;
export const KIND_SOCKET = 6;
export const KIND_SYMLINK = 7;
/** In use, but with a mode that is none. */
export const KIND_BAD = 8;
/** Needs no name: special inodes, values of attributes. */
const NAMELESS = 0x80;
/** The inode is in use although it has no links, until a deletion ends. */
const ORPHAN = 0x40;
const KIND_MASK = 0x0f;
const LINKS_MAX = 0xffff;

interface GroupFacts {
  readonly kinds: Uint8Array;
  readonly stored: Uint16Array;
  readonly found: Uint16Array;
  used: number;
  directories: number;
}

/** What is known of a directory. */
export interface DirectoryFacts {
  /** The directory whose entry leads here, 0 for none yet. */
  parent: number;
  /** What `..` says. */
  dotDot: number;
}

/** See the head of the file. */
export class InodeFacts {
  readonly #inodesPerGroup: number;
  readonly #groups = new Map<number, GroupFacts>();
  readonly directories: Map<number, DirectoryFacts> = new Map();
  /** Extended attribute inodes: how often something refers to each. */
  readonly valueRefs: Map<number, number> = new Map();
  usedInodes = 0;

  constructor(inodesPerGroup: number) {
    this.#inodesPerGroup = inodesPerGroup;
  }

  #slot(ino: number): { readonly group: GroupFacts | undefined; readonly at: number } {
    const group = this.#groups.get(Math.floor((ino - 1) / this.#inodesPerGroup));
    return { group, at: (ino - 1) % this.#inodesPerGroup };
  }

  add(ino: number, kind: number, linksCount: number, flags: { nameless: boolean }): void {
    const number = Math.floor((ino - 1) / this.#inodesPerGroup);
    let group = this.#groups.get(number);
    if (group === undefined) {
      group = {
        kinds: new Uint8Array(this.#inodesPerGroup),
        stored: new Uint16Array(this.#inodesPerGroup),
        found: new Uint16Array(this.#inodesPerGroup),
        used: 0,
        directories: 0,
      };
      this.#groups.set(number, group);
    }
    const at = (ino - 1) % this.#inodesPerGroup;
    group.kinds[at] = kind | (flags.nameless ? NAMELESS : 0);
    group.stored[at] = linksCount;
    group.used++;
    this.usedInodes++;
    if (kind === KIND_DIRECTORY) {
      group.directories++;
      this.directories.set(ino, { parent: 0, dotDot: 0 });
    }
  }

  setOrphan(ino: number): void {
    const { group, at } = this.#slot(ino);
    if (group !== undefined) group.kinds[at]! |= ORPHAN;
  }

  kindOf(ino: number): number {
    const { group, at } = this.#slot(ino);
    return group === undefined ? KIND_UNUSED : group.kinds[at]! & KIND_MASK;
  }

  isUsed(ino: number): boolean {
    const { group, at } = this.#slot(ino);
    return group !== undefined && group.kinds[at] !== 0;
  }

  isNameless(ino: number): boolean {
    const { group, at } = this.#slot(ino);
    return group !== undefined && (group.kinds[at]! & NAMELESS) !== 0;
  }

  isOrphan(ino: number): boolean {
    const { group, at } = this.#slot(ino);
    return group !== undefined && (group.kinds[at]! & ORPHAN) !== 0;
  }

  addLink(ino: number): void {
    const { group, at } = this.#slot(ino);
    if (group !== undefined) group.found[at] = Math.min(group.found[at]! + 1, LINKS_MAX);
  }

  storedLinks(ino: number): number {
    const { group, at } = this.#slot(ino);
    return group?.stored[at] ?? 0;
  }

  foundLinks(ino: number): number {
    const { group, at } = this.#slot(ino);
    return group?.found[at] ?? 0;
  }

  usedIn(group: number): number {
    return this.#groups.get(group)?.used ?? 0;
  }

  directoriesIn(group: number): number {
    return this.#groups.get(group)?.directories ?? 0;
  }

  /** Numbers of all inodes in use, group by group. */
  *used(): Generator<number> {
    for (const [number, group] of this.#groups) {
      for (let at = 0; at < this.#inodesPerGroup; at++) {
        if (group.kinds[at] !== 0) yield number * this.#inodesPerGroup + at + 1;
      }
    }
  }
}
