/**
 * What the cache has to know of a file: declared here, implemented by the file systems above.
 *
 * `size` is owned by the inode. The cache reads it before every copy and never sets it: who writes
 * does that in `writeEnd`, under the lock of the folio, who truncates before folios are dropped.
 */
import type { AsyncRwLock } from "../lib/locks.ts";
import type { WbInode } from "./superblock.ts";

/** A file, or a device seen as one, whose bytes are cached (`struct inode`). */
export interface Inode {
  /** Inode number, unique within its file system. */
  readonly ino: number;
  /** Length of the content in bytes (`i_size`). May change between any two calls. */
  size: number;
  /** Unit in which the file system reads and maps, in bytes; a power of two. */
  readonly blockBytes: number;
  /**
   * Held for writing by whoever changes content or size (`i_rwsem`). A buffered read does not
   * take it.
   */
  readonly rwsem: AsyncRwLock;
  /**
   * State of its write-back; without one it is written only when somebody asks for it. Set before
   * its address space is made.
   */
  readonly wb?: WbInode | null;
}
