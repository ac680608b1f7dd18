/**
 * Blocks that are the content of an inode and metadata at once: of directories, symlinks, and
 * values of attributes. They are allocated and written within the operation that needs them, so
 * they are in the journal with whatever leads to them.
 *
 * After `ext4_append`, `ext4_bread` and `ext4_xattr_inode_write` of Linux.
 */
import { putLe16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { INCOMPAT_EXTENTS, INCOMPAT_LARGE_DIR } from "./features.ts";
import type { Handle, Seal } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { EH, EXTENT_ENTRY_BYTES, EXTENT_MAGIC, EXTENTS_FL, I_BLOCK_BYTES } from "./layout.ts";
import { mapForWrite } from "./truncate-blocks.ts";
import type { ExtWriter } from "./writer.ts";

/** Largest size of a directory without `large_dir`; Linux stops before the sign bit. */
const SIZE_MAX = 0x7fff_ffff;
const DX_BLOCKS_MAX = 0x1000_0000;

/** Of a block without checksum: it may have been one that has. */
const noSeal: Seal = () => undefined;

/** A block that was just added to an inode. */
export interface NewBlock {
  readonly fileBlock: number;
  readonly blocknr: number;
  /** Zeros, to be filled in this operation. */
  readonly data: Uint8Array;
}

/**
 * Allocates file block `fileBlock` of `inode`, which has none there, and gives it to the operation
 * to be filled. The size of the inode is the caller's.
 *
 * @throws {FsError} `ENOSPC`
 */
export function createFileBlock(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  fileBlock: number,
  seal?: Seal,
): NewBlock {
  ctx.editInode(handle, inode);
  const run = mapForWrite(ctx, handle, inode, fileBlock, 1);
  const data = handle.create(run.physical, seal ?? noSeal);
  return { fileBlock, blocknr: run.physical, data };
}

/**
 * Adds a block to the end of the directory `dir` (`ext4_append`). Throws `ENOSPC` also where the
 * directory cannot be larger.
 */
export function appendDirBlock(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  seal: Seal | undefined,
): NewBlock {
  const fileBlock = dir.size / ctx.sb.blockBytes;
  if (fileBlock >= dirBlocksMax(ctx)) {
    throw new FsError("ENOSPC", { detail: `directory ${dir.ino} cannot be larger` });
  }
  const block = createFileBlock(ctx, handle, dir, fileBlock, seal);
  dir.size += ctx.sb.blockBytes;
  dir.diskSize = dir.size;
  return block;
}

/** Blocks of a directory: its size has 32 bits without `large_dir`, an index has 28 for a block. */
function dirBlocksMax(ctx: ExtWriter): number {
  const isLarge = ctx.sb.hasIncompat(INCOMPAT_LARGE_DIR);
  return isLarge ? DX_BLOCKS_MAX : Math.floor(SIZE_MAX / ctx.sb.blockBytes);
}

/** Makes `i_block` an empty map: of extents where the volume has them (`ext4_ext_tree_init`). */
export function initBlockMap(ctx: ExtWriter, inode: ExtInode): void {
  inode.iBlock.fill(0);
  if (!ctx.sb.hasIncompat(INCOMPAT_EXTENTS)) return;
  inode.flags = (inode.flags | EXTENTS_FL) >>> 0;
  putLe16(inode.iBlock, EH.eh_magic, EXTENT_MAGIC);
  putLe16(inode.iBlock, EH.eh_max, Math.floor(I_BLOCK_BYTES / EXTENT_ENTRY_BYTES) - 1);
}
