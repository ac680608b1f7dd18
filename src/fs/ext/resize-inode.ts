/**
 * Inode 7 when the file system grows: reserved blocks become descriptors, and those that stay
 * reserved get companions in the new groups with a copy.
 *
 *     double indirect  [(D + k) % p] -> reserved block k behind the primary descriptors
 *     that block       [j]           -> reserved block k of the j-th group with a copy
 *
 * D are the blocks of descriptors: where block k becomes one of these its slot is 0, and the
 * others keep theirs.
 *
 * After `fs/ext4/resize.c` (`add_new_gdb`, `reserve_backup_gdb`).
 */
import { le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import { COMPAT_RESIZE_INODE } from "./features.ts";
import { hasSuperblockCopy, primarySuperblockBlock } from "./group.ts";
import type { Handle } from "./handle.ts";
import { DIRECT_BLOCKS } from "./layout.ts";
import { RESIZE_INO } from "./mkfs/resize-inode.ts";
import { type Growth, reservedGdtBlocks } from "./resize-plan.ts";
import type { Superblock } from "./superblock.ts";
import type { ExtWriter } from "./writer.ts";

const POINTER_BYTES = 4;

/** Groups from `first` on, above 0, with a copy of the superblock. */
export function copyGroups(sb: Superblock, first: number): number[] {
  const groups: number[] = [];
  for (let group = Math.max(first, 1); group < sb.groupCount; group++) {
    if (hasSuperblockCopy(sb, group)) groups.push(group);
  }
  return groups;
}

function damaged(what: string): FsError {
  return new FsError("EUCLEAN", { detail: `resize inode: ${what}; run e2fsck on it` });
}

/** Reserved blocks of which `growResizeInode` has to be told, 0 if it has nothing to do. */
export function reservedToChange({ from, to, usedReserveBlocks }: Growth): number {
  if (!from.hasCompat(COMPAT_RESIZE_INODE)) return 0;
  const hasNewCopies = copyGroups(to, from.groupCount).length > 0;
  return hasNewCopies ? reservedGdtBlocks(from) : usedReserveBlocks;
}

/**
 * Brings inode 7 to what `growth` leaves of the reserve, as for the reserved blocks `first` to
 * `end` - 1 out of `reservedToChange`. Restartable.
 *
 * @throws {FsError} `EUCLEAN` if it is not what it should be before
 */
export function growResizeInode(
  writer: ExtWriter,
  handle: Handle,
  growth: Growth,
  first: number,
  end: number,
): void {
  const { from, to, usedReserveBlocks } = growth;
  if (first === end) return;
  const oldCopies = copyGroups(from, 1).length;
  const newCopies = copyGroups(to, from.groupCount);
  const inode = writer.inode(RESIZE_INO);
  const doubleIndirect = le32(inode.iBlock, (DIRECT_BLOCKS + 1) * POINTER_BYTES);
  if (doubleIndirect <= from.firstDataBlock || doubleIndirect >= from.blockCount) {
    throw damaged(`its double indirect block is ${doubleIndirect}, outside`);
  }
  writer.editInode(handle, inode);
  const slots = handle.write(doubleIndirect);
  const slotCount = from.blockBytes / POINTER_BYTES;
  const primaryFirst = primarySuperblockBlock(from) + 1;
  const slotOf = (k: number): number =>
    ((from.descriptorBlockCount + k) % slotCount) * POINTER_BYTES;
  // All that is left, before any of it is changed.
  for (let k = first; k < reservedGdtBlocks(from); k++) {
    const blocknr = primaryFirst + from.descriptorBlockCount + k;
    const found = le32(slots, slotOf(k));
    if (found !== blocknr) throw damaged(`block ${found} is where ${blocknr} should be`);
  }
  for (let k = first; k < end; k++) {
    const index = from.descriptorBlockCount + k;
    const at = slotOf(k);
    const blocknr = primaryFirst + index;
    if (k < usedReserveBlocks) {
      putLe32(slots, at, 0);
    } else if (newCopies.length > 0) {
      const companions = handle.write(blocknr);
      newCopies.forEach((group, j) => {
        putLe32(companions, (oldCopies + j) * POINTER_BYTES, to.firstBlockOf(group) + 1 + index);
      });
    }
  }
  const blocks = 1 + reservedGdtBlocks(to) * (1 + oldCopies + newCopies.length);
  inode.sectorCount = blocks * (from.blockBytes / SECTOR_BYTES);
  inode.setTime("ctime", writer.now());
}
