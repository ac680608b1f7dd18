/**
 * The inodes of a mounted file system that are in memory (`inode_hashtable` and the inode LRU).
 *
 *     recent    those that were asked for lately, held
 *     older     the generation before, held; who is asked for again becomes recent
 *     dropped   every other that somebody still holds: an open file, a cached folio
 *
 *  1. One number has one object for as long as anybody holds it, so a file has one page cache.
 *  2. What nobody holds and was not asked for lately is left to the garbage collector.
 *  3. `recent` and `older` together hold INODES_MAX at most: when `recent` has half of that, it
 *     takes the place of `older`, which is dropped as a whole.
 */
import type { ExtInode } from "./inode.ts";

/** Inodes kept although nobody uses them: two KiB each with the mapping of a file. */
const INODES_MAX = 24_576;
const INODES_MIN = 256;

/** See the head of the file. */
export class InodeCache {
  readonly #generationMax: number;
  #recent = new Map<number, ExtInode>();
  #older = new Map<number, ExtInode>();
  readonly #dropped = new Map<number, WeakRef<ExtInode>>();
  readonly #collected = new FinalizationRegistry<number>((ino) => {
    if (this.#dropped.get(ino)?.deref() === undefined) this.#dropped.delete(ino);
  });

  /** Keeps as many inodes as the page cache has frames, within reason. */
  constructor(frameCount: number = INODES_MAX) {
    const limit = Math.min(Math.max(frameCount, INODES_MIN), INODES_MAX);
    this.#generationMax = Math.floor(limit / 2);
  }

  get(ino: number): ExtInode | undefined {
    const recent = this.#recent.get(ino);
    if (recent !== undefined) return recent;
    const inode = this.#older.get(ino) ?? this.#dropped.get(ino)?.deref();
    if (inode !== undefined) this.add(inode);
    return inode;
  }

  /** Takes in `inode`, whose number is not among the recent ones; old ones make room. */
  add(inode: ExtInode): void {
    this.#recent.set(inode.ino, inode);
    if (this.#recent.size < this.#generationMax) return;
    const gone = this.#older;
    this.#older = this.#recent;
    this.#recent = new Map();
    for (const old of gone.values()) if (!this.#older.has(old.ino)) this.#drop(old);
  }

  /** Forgets `inode`, whoever holds it: its number may belong to another one soon. */
  delete(inode: ExtInode): void {
    const { ino } = inode;
    if (this.#recent.get(ino) === inode) this.#recent.delete(ino);
    if (this.#older.get(ino) === inode) this.#older.delete(ino);
    if (this.#dropped.get(ino)?.deref() === inode) this.#dropped.delete(ino);
  }

  /** Every inode that is alive, in no order. */
  *inodes(): Generator<ExtInode> {
    yield* this.#recent.values();
    for (const [ino, inode] of this.#older) if (!this.#recent.has(ino)) yield inode;
    for (const [ino, ref] of this.#dropped) {
      const isHeld = this.#recent.has(ino) || this.#older.has(ino);
      const inode = isHeld ? undefined : ref.deref();
      if (inode !== undefined) yield inode;
    }
  }

  clear(): void {
    this.#recent.clear();
    this.#older.clear();
    this.#dropped.clear();
  }

  /** Lets go of `inode`: a weak reference costs the collector, so only those dropped have one. */
  #drop(inode: ExtInode): void {
    if (this.#dropped.get(inode.ino)?.deref() === inode) return;
    this.#dropped.set(inode.ino, new WeakRef(inode));
    this.#collected.register(inode, inode.ino);
  }
}
