/**
 * Where the blocks of an inode should lie, when nothing of it says more: near the inode.
 *
 * With groups in flex groups, whose tables are all in the first group of each, directories and what
 * belongs to the structure go to the first group, and data to the others: so it is read in long
 * runs, and what is looked up lies close together.
 *
 * After `fs/ext4/balloc.c` (`ext4_inode_to_goal_block`).
 */
import { INCOMPAT_FLEX_BG } from "./features.ts";
import type { ExtInode } from "./inode.ts";
import { SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** Smaller flex groups are not worth it (`EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME`). */
const FLEX_GROUPS_MIN = 4;
const LOG_FLEX_MAX = 31;

/** Groups of one flex group, 1 without the feature. */
export function groupsPerFlex(sb: Superblock): number {
  const log = sb.raw[SB.s_log_groups_per_flex]!;
  const hasFlex = sb.hasIncompat(INCOMPAT_FLEX_BG) && log >= 1 && log <= LOG_FLEX_MAX;
  return hasFlex ? 2 ** log : 1;
}

/** The group that inode `ino` is in. */
export function groupOfInode(sb: Superblock, ino: number): number {
  return Math.floor((ino - 1) / sb.inodesPerGroup);
}

/** The block at which a search for blocks of `inode` is to begin. */
export function inodeGoal(sb: Superblock, inode: ExtInode): number {
  let group = groupOfInode(sb, inode.ino);
  const flex = groupsPerFlex(sb);
  if (flex >= FLEX_GROUPS_MIN) {
    group -= group % flex;
    if (inode.type === "file" && group + 1 < sb.groupCount) group++;
  }
  return sb.firstBlockOf(group);
}
