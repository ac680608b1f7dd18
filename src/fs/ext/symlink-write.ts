/**
 * Where the target of a new symlink goes; `symlink.ts` finds it there again.
 *
 *     shorter than 60 bytes         i_block, no map of blocks
 *     as long as the inode takes    i_block and an attribute, where the volume has inline data
 *     else                          a block, with a NUL behind it
 *
 * After `ext4_symlink` of Linux, which does not make the second kind any more, and of e2fsprogs,
 * which does.
 */
import { FsError } from "../../lib/errno.ts";
import { INCOMPAT_INLINE_DATA } from "./features.ts";
import type { Handle } from "./handle.ts";
import { inlineTailMax, setInlineTail } from "./inline-tail.ts";
import type { ExtInode } from "./inode.ts";
import { EXTENTS_FL, I_BLOCK_BYTES } from "./layout.ts";
import { createFileBlock } from "./metadata-file.ts";
import type { ExtWriter } from "./writer.ts";

/** Throws unless `target` can be one: `ENOENT` if empty, `ENAMETOOLONG`, `EINVAL` for a NUL. */
export function checkTarget(ctx: ExtWriter, target: Uint8Array): void {
  if (target.length === 0) throw new FsError("ENOENT", { detail: "the target is empty" });
  if (target.length >= ctx.sb.blockBytes) throw new FsError("ENAMETOOLONG");
  if (target.includes(0)) throw new FsError("EINVAL", { detail: "there is a NUL in the target" });
}

/**
 * Gives the new symlink `inode` its target, which `checkTarget` has passed. Throws `ENOSPC`.
 */
export function writeSymlink(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  target: Uint8Array,
): void {
  ctx.editInode(handle, inode);
  const restBytes = target.length - I_BLOCK_BYTES;
  const isInline =
    restBytes >= 0 &&
    ctx.sb.hasIncompat(INCOMPAT_INLINE_DATA) &&
    restBytes <= inlineTailMax(ctx, inode);
  if (restBytes < 0 || isInline) {
    inode.flags = (inode.flags & ~EXTENTS_FL) >>> 0;
    inode.iBlock.fill(0);
    inode.iBlock.set(target.subarray(0, I_BLOCK_BYTES));
    if (isInline) setInlineTail(ctx, handle, inode, target.subarray(I_BLOCK_BYTES));
  } else createFileBlock(ctx, handle, inode, 0).data.set(target);
  inode.size = target.length;
  inode.diskSize = inode.size;
}
