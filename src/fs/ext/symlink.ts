/**
 * Where the target of a symlink lies, and how long it may be.
 *
 *     fast      shorter than 60 bytes: in i_block
 *     inline    up to some 160: i_block and an attribute (`inlineDataOf`)
 *     slow      in the first block
 *     encrypted u16 length, ciphertext; in i_block or the first block; shown in the no-key form
 *
 * Nothing in the inode says which of the first and the last two it is: the kernel counts blocks,
 * or, since attributes with inodes of their own are charged to their owner, goes by the size.
 *
 * After fs/ext4/symlink.c, `ext4_inode_is_fast_symlink`, and `fscrypt_get_symlink` of Linux.
 */
import { le16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import type { ExtContext } from "./context.ts";
import { CIPHERTEXT_MIN_BYTES, encodeNoKeyName } from "./crypt-name.ts";
import { INCOMPAT_EA_INODE } from "./features.ts";
import type { ExtInode } from "./inode.ts";
import { I_BLOCK_BYTES } from "./layout.ts";
import { inlineDataOf } from "./xattr.ts";

const CIPHERTEXT_LENGTH_BYTES = 2;

function damaged(inode: ExtInode, what: string): FsError {
  return new FsError("EUCLEAN", { detail: `symlink ${inode.ino}: ${what}` });
}

/** True if the target lies in `i_block` (`ext4_inode_is_fast_symlink`). */
export function isFastSymlink(ctx: ExtContext, inode: ExtInode): boolean {
  if (ctx.sb.hasIncompat(INCOMPAT_EA_INODE)) return inode.size > 0 && inode.size < I_BLOCK_BYTES;
  if (inode.isInline) return false;
  const clusterSectors = (ctx.sb.clusterRatio * ctx.sb.blockBytes) / SECTOR_BYTES;
  return inode.sectorCount === (inode.fileAclBlock === 0 ? 0 : clusterSectors);
}

/** The first block of a slow symlink. */
function firstBlock(ctx: ExtContext, inode: ExtInode): Uint8Array {
  const { physical, isUnwritten } = ctx.mapBlocks(inode, 0, 1);
  if (physical === 0 || isUnwritten) throw damaged(inode, "its block is missing");
  return ctx.metadata.block(physical);
}

function storedTarget(ctx: ExtContext, inode: ExtInode): Uint8Array {
  const { size } = inode;
  if (size === 0) throw damaged(inode, "i_size is 0");
  if (isFastSymlink(ctx, inode)) {
    if (size >= I_BLOCK_BYTES) throw damaged(inode, `i_size is ${size}, too long for i_block`);
    return inode.iBlock.slice(0, size);
  }
  if (inode.isInline) {
    const target = inlineDataOf(ctx, inode);
    if (target.length < size)
      throw damaged(inode, `i_size is ${size}, ${target.length} are inline`);
    return target;
  }
  if (size >= ctx.sb.blockBytes) throw damaged(inode, `i_size is ${size}, too long for one block`);
  return firstBlock(ctx, inode).slice(0, size);
}

function encryptedTarget(ctx: ExtContext, inode: ExtInode): Uint8Array {
  const area = isFastSymlink(ctx, inode) ? inode.iBlock : firstBlock(ctx, inode);
  const length = le16(area, 0);
  if (length < CIPHERTEXT_MIN_BYTES || CIPHERTEXT_LENGTH_BYTES + length > area.length) {
    throw damaged(inode, `its encrypted target has ${length} bytes`);
  }
  const end = CIPHERTEXT_LENGTH_BYTES + length;
  const ciphertext = area.subarray(CIPHERTEXT_LENGTH_BYTES, end);
  return encodeNoKeyName({ major: 0, minor: 0 }, ciphertext);
}

/**
 * Target of the symlink `inode`, a copy, never empty. An encrypted one is shown in the no-key form,
 * whose length is also what `stat` has to show as its size then.
 *
 * @throws {FsError} `EINVAL` for what is no symlink; `EUCLEAN` for a length that does not fit
 *   where the target lies, or a NUL in it
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function readSymlink(ctx: ExtContext, inode: ExtInode): Uint8Array {
  if (inode.type !== "symlink") throw new FsError("EINVAL", { syscall: "readlink" });
  if (inode.isEncrypted) return encryptedTarget(ctx, inode);
  const target = storedTarget(ctx, inode);
  if (target.includes(0)) throw damaged(inode, "there is a NUL in its target");
  return target;
}
