/**
 * The inodes of a mounted file system that are in memory (`inode_hashtable` and the inode LRU).
 *
 *     recent    the last INODES_MAX that were asked for, held
 *     known     those and every other that somebody still holds: an open file, a cached folio
 *
 *  1. One number has one object for as long as anybody holds it, so a file has one page cache.
 *  2. What nobody holds and was not asked for lately is left to the garbage collector.
 */
import type { ExtInode } from "./inode.ts";

/** Inodes kept although nobody uses them: about 1 KiB each. */
const INODES_MAX = 8192;

/** See the head of the file. */
export class InodeCache {
  readonly #recent = new Map<number, ExtInode>();
  readonly #known = new Map<number, WeakRef<ExtInode>>();
  readonly #collected = new FinalizationRegistry<number>((ino) => {
    if (this.#known.get(ino)?.deref() === undefined) this.#known.delete(ino);
  });

  get(ino: number): ExtInode | undefined {
    const recent = this.#recent.get(ino);
    if (recent !== undefined) return recent;
    const inode = this.#known.get(ino)?.deref();
    if (inode !== undefined) this.#keep(inode);
    return inode;
  }

  /** Takes in `inode`, whose number is not here yet. */
  add(inode: ExtInode): void {
    this.#known.set(inode.ino, new WeakRef(inode));
    this.#collected.register(inode, inode.ino);
    this.#keep(inode);
  }

  /** Every inode that is alive, in no order. */
  *inodes(): Generator<ExtInode> {
    for (const ref of this.#known.values()) {
      const inode = ref.deref();
      if (inode !== undefined) yield inode;
    }
  }

  clear(): void {
    this.#recent.clear();
    this.#known.clear();
  }

  /** First in, first out: one that is asked for again comes back through `#known` at no cost. */
  #keep(inode: ExtInode): void {
    this.#recent.set(inode.ino, inode);
    if (this.#recent.size <= INODES_MAX) return;
    const oldest = this.#recent.keys().next();
    if (!oldest.done) this.#recent.delete(oldest.value);
  }
}
