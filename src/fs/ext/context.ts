/**
 * What every decoder of ext2/3/4 is given: the superblock, the metadata blocks, and the two
 * questions that lead from one structure to the next, "where does this block of that inode lie?"
 * and "what is in inode n?".
 *
 * All of it is synchronous and restartable (see `metadata.ts`): a call may throw `BlockMiss`,
 * which a decoder lets pass. `ext-fs.ts` makes the one object behind this interface.
 */
import type { FixedBlocks } from "./fixed-blocks.ts";
import type { ExtInode } from "./inode.ts";
import type { Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** A run of file blocks that lies in one piece on the device, or is missing in one piece. */
export interface MappedRun {
  /** First block on the device; 0 for a hole. */
  readonly physical: number;
  /** File blocks from the asked one on, at least 1, at most as many as were asked for. */
  readonly count: number;
  /** Allocated, but reads as zeros. `physical` is set. */
  readonly isUnwritten: boolean;
  /**
   * The run ends with the last pointer of its block: to go on, metadata must be read
   * (`BH_Boundary`).
   */
  readonly isBoundary: boolean;
}

/** See the head of the file. */
export interface ExtContext {
  readonly sb: Superblock;
  readonly metadata: Metadata;
  /** Checksum of the volume, from which the checksums of structures start. */
  readonly seed: number;
  readonly hasMetadataCsum: boolean;
  /** Blocks that no file may have; known while the file system is open for writing. */
  readonly systemBlocks?: FixedBlocks | undefined;
  /**
   * Where the file blocks from `fileBlock` on lie, at most `maxCount`. Inline inodes have no
   * blocks: they are a hole. Throws `EUCLEAN`/`EBADMSG` for a damaged map.
   */
  mapBlocks(inode: ExtInode, fileBlock: number, maxCount: number): MappedRun;
  /**
   * The inode `ino`, from the cache of inodes or the inode table. Throws `EUCLEAN` for a number
   * outside the image, `ESTALE` for a free inode, `EBADMSG` for a wrong checksum.
   */
  inode(ino: number): ExtInode;
  /** Notes something the user must know about the image; each text once. */
  warn(text: string): void;
}
