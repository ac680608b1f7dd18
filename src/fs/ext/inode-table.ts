/**
 * The inode table: from an inode number to its bytes, read in few large requests.
 *
 *     group's table   |.... window of at most 1 MiB ....|.... window ....|-- never used --|
 *                            ^ inode asked for: its whole window is read with it
 *
 * A walk that stats every file therefore costs one request for each window that is in use, whatever
 * the order of the inodes (`inode_readahead_blks` of the kernel is 32 blocks).
 *
 * After `fs/ext4/inode.c` (`__ext4_get_inode_loc`).
 */
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import type { DescriptorSource } from "./group.ts";
import { BG_INODE_UNINIT } from "./layout.ts";
import type { Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** Throws `EUCLEAN` unless `ino` can be an inode of this file system. */
export function checkInodeNumber(sb: Superblock, ino: number): void {
  if (!(ino >= 1 && ino <= sb.inodeCount)) {
    throw new FsError("EUCLEAN", {
      detail: `inode number ${ino} is outside 1..${sb.inodeCount}`,
    });
  }
}

/**
 * The slot of inode `ino`, `s_inode_size` bytes, borrowed from the buffer. Restartable.
 *
 * @throws {FsError} `EUCLEAN` for a number outside the file system, `ESTALE` for a slot that its
 *   group says was never used, and what the group's descriptor throws
 */
export function inodeSlot(
  sb: Superblock,
  metadata: Metadata,
  groups: DescriptorSource,
  ino: number,
): Uint8Array {
  checkInodeNumber(sb, ino);
  const group = Math.floor((ino - 1) / sb.inodesPerGroup);
  const index = (ino - 1) % sb.inodesPerGroup;
  const descriptor = groups.descriptor(group);
  const usedCount = sb.inodesPerGroup - descriptor.itableUnused;
  if ((descriptor.flags & BG_INODE_UNINIT) !== 0 || index >= usedCount) {
    throw new FsError("ESTALE", { detail: `inode ${ino} is not in use` });
  }
  const block = Math.floor(index / sb.inodesPerBlock);
  const usedBlocks = Math.ceil(usedCount / sb.inodesPerBlock);
  const window = MIB / sb.blockBytes;
  const from = block - (block % window);
  const data = metadata.blockWithin(
    descriptor.inodeTable + block,
    descriptor.inodeTable + from,
    Math.min(window, usedBlocks - from),
  );
  const at = (index % sb.inodesPerBlock) * sb.inodeBytes;
  return data.subarray(at, at + sb.inodeBytes);
}
