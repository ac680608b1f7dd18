/**
 * The inodes of a mounted file system that are in memory (`inode_hashtable` and the inode LRU).
 *
 *     recent    the last INODES_MAX that were asked for, held
 *     dropped   every other that somebody still holds: an open file, a cached folio
 *
 *  1. One number has one object for as long as anybody holds it, so a file has one page cache.
 *  2. What nobody holds and was not asked for lately is left to the garbage collector.
 */
import type { ExtInode } from "./inode.ts";

/** Inodes kept although nobody uses them: a few KiB each with the mapping of a file. */
const INODES_MAX = 8192;
const INODES_MIN = 256;

/** See the head of the file. */
export class InodeCache {
  readonly #limit: number;
  readonly #recent = new Map<number, ExtInode>();
  readonly #dropped = new Map<number, WeakRef<ExtInode>>();
  readonly #collected = new FinalizationRegistry<number>((ino) => {
    if (this.#dropped.get(ino)?.deref() === undefined) this.#dropped.delete(ino);
  });

  /** Keeps as many inodes as the page cache has frames, within reason. */
  constructor(frameCount: number = INODES_MAX) {
    this.#limit = Math.min(Math.max(frameCount, INODES_MIN), INODES_MAX);
  }

  get(ino: number): ExtInode | undefined {
    const recent = this.#recent.get(ino);
    if (recent !== undefined) return recent;
    const inode = this.#dropped.get(ino)?.deref();
    if (inode !== undefined) this.add(inode);
    return inode;
  }

  /**
   * Takes in `inode`, whose number is not among the recent ones; the oldest of those makes room.
   */
  add(inode: ExtInode): void {
    this.#recent.set(inode.ino, inode);
    if (this.#recent.size <= this.#limit) return;
    const oldest = this.#recent.values().next();
    if (!oldest.done) this.#drop(oldest.value);
  }

  /** Forgets `inode`, whoever holds it: its number may belong to another one soon. */
  delete(inode: ExtInode): void {
    const { ino } = inode;
    if (this.#recent.get(ino) === inode) this.#recent.delete(ino);
    if (this.#dropped.get(ino)?.deref() === inode) this.#dropped.delete(ino);
  }

  /** Every inode that is alive, in no order. */
  *inodes(): Generator<ExtInode> {
    yield* this.#recent.values();
    for (const [ino, ref] of this.#dropped) {
      const inode = this.#recent.has(ino) ? undefined : ref.deref();
      if (inode !== undefined) yield inode;
    }
  }

  clear(): void {
    this.#recent.clear();
    this.#dropped.clear();
  }

  /** Lets go of `inode`: a weak reference costs the collector, so only those dropped have one. */
  #drop(inode: ExtInode): void {
    this.#recent.delete(inode.ino);
    if (this.#dropped.get(inode.ino)?.deref() === inode) return;
    this.#dropped.set(inode.ino, new WeakRef(inode));
    this.#collected.register(inode, inode.ino);
  }
}
