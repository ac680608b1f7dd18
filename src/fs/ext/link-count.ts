/**
 * How many names an inode has: what may be counted, and what happens at both ends.
 *
 *     file        1 .. 65000, EMLINK above
 *     directory   2 + its subdirectories; one that has an index may have more than can be counted,
 *                 if the volume allows: then its count is 1, and stays so (`dir_nlink`)
 *
 * After `ext4_inc_count`, `ext4_dec_count` and `EXT4_DIR_LINK_MAX` of Linux.
 */
import { FsError } from "../../lib/errno.ts";
import type { ExtContext } from "./context.ts";
import { COMPAT_DIR_INDEX, RO_COMPAT_DIR_NLINK } from "./features.ts";
import type { ExtInode } from "./inode.ts";

/** Most names of a file, and subdirectories of a directory that has to count them. */
export const LINK_MAX = 65_000;
const UNCOUNTED = 1;

function isIndexed(ctx: ExtContext, dir: ExtInode): boolean {
  return dir.isHashedDir && ctx.sb.hasCompat(COMPAT_DIR_INDEX);
}

/** Throws `EMLINK` if `dir` can have no more subdirectories. */
export function checkDirLinks(ctx: ExtContext, dir: ExtInode): void {
  const mayBeUncounted = ctx.sb.hasRoCompat(RO_COMPAT_DIR_NLINK) && isIndexed(ctx, dir);
  if (dir.linksCount >= LINK_MAX && !mayBeUncounted) {
    throw new FsError("EMLINK", { detail: `directory ${dir.ino} has ${dir.linksCount} links` });
  }
}

/** One more subdirectory; `dir` is being edited. */
export function addDirLink(ctx: ExtContext, dir: ExtInode): void {
  const links = dir.linksCount + 1;
  const isTooMany = links > LINK_MAX || links === UNCOUNTED + 1;
  dir.linksCount = isTooMany && isIndexed(ctx, dir) ? UNCOUNTED : links;
}

/** One subdirectory less; `dir` is being edited. */
export function dropDirLink(dir: ExtInode): void {
  if (dir.linksCount > 2) dir.linksCount--;
}
