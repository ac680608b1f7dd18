/**
 * The groups that a file system grows by: their descriptors, and what is in them from the start.
 *
 *     group   | super, descriptors, reserved | block bitmap | inode bitmap | inode table | free ..
 *               in some groups, zeros at first
 *
 *  1. All of it lies behind the end of the file system as it is: until that moves, nobody looks
 *     there, and it does not matter how much of it was written.
 *  2. Each group holds its own bitmaps and table, with `flex_bg` too.
 *  3. The tables are zeros, so that nobody has to initialise them later.
 *
 * After `fs/ext4/resize.c` (`setup_new_flex_group_blocks`).
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { putLe32 } from "../../lib/bytes.ts";
import { countZeroBits, setBits, wordsOf } from "./bitmap.ts";
import { bitmapChecksum } from "./checksum.ts";
import { COMPAT_RESIZE_INODE, INCOMPAT_META_BG } from "./features.ts";
import {
  copyBlocksIn,
  encodeDescriptor,
  type GroupDescriptor,
  type GroupTable,
  hasWideBitmapCsum,
} from "./group.ts";
import { BG_INODE_UNINIT, BG_INODE_ZEROED, DESCRIPTOR_BYTES, GD } from "./layout.ts";
import { DeviceWriter } from "./mkfs/device-writer.ts";
import { type Growth, structureBlocksIn } from "./resize-plan.ts";
import type { Superblock } from "./superblock.ts";

const WORD = 0x1_0000_0000;

/** Blocks of `group`, the last of which may be short. */
export function blocksInGroup(sb: Superblock, group: number): number {
  return Math.min(sb.blocksPerGroup, sb.blockCount - sb.firstBlockOf(group));
}

/** The bitmap of blocks of a new group. */
function blockBitmap(sb: Superblock, group: number): Uint8Array {
  const bytes = new Uint8Array(sb.blockBytes);
  const words = wordsOf(bytes);
  const count = blocksInGroup(sb, group);
  setBits(words, 0, structureBlocksIn(sb, group));
  setBits(words, count, 8 * bytes.length - count);
  return bytes;
}

/** The bitmap of inodes of a new group: all are free. */
function inodeBitmap(sb: Superblock): Uint8Array {
  const bytes = new Uint8Array(sb.blockBytes);
  setBits(wordsOf(bytes), sb.inodesPerGroup, 8 * bytes.length - sb.inodesPerGroup);
  return bytes;
}

/** The descriptor of new group `group` of `sb`. */
export function newDescriptor(sb: Superblock, group: number): GroupDescriptor {
  const first = sb.firstBlockOf(group) + copyBlocksIn(sb, group);
  const bitmap = blockBitmap(sb, group);
  const hasFlags = sb.hasDescriptorCsum;
  const sum = sb.hasMetadataCsum ? bitmapChecksum(sb.seed, bitmap, sb.blocksPerGroup) : 0;
  return {
    group,
    blockBitmap: first,
    inodeBitmap: first + 1,
    inodeTable: first + 2,
    freeClusterCount: countZeroBits(wordsOf(bitmap), 0, blocksInGroup(sb, group)),
    freeInodeCount: sb.inodesPerGroup,
    usedDirCount: 0,
    flags: hasFlags ? BG_INODE_UNINIT | BG_INODE_ZEROED : 0,
    itableUnused: hasFlags ? sb.inodesPerGroup : 0,
    blockBitmapCsum: hasWideBitmapCsum(sb) ? sum : sum & 0xffff,
    inodeBitmapCsum: 0,
  };
}

/** Puts the descriptors of those groups that are new into `block`, block `index` of their table. */
export function putNewDescriptors({ from, to }: Growth, index: number, block: Uint8Array): void {
  const perBlock = to.descriptorsPerBlock;
  const first = Math.max(index * perBlock, from.groupCount);
  const end = Math.min((index + 1) * perBlock, to.groupCount);
  for (let group = first; group < end; group++) {
    const at = (group % perBlock) * to.descriptorBytes;
    const raw = block.subarray(at, at + to.descriptorBytes);
    const row = newDescriptor(to, group);
    const put = (lo: number, hi: number, blocknr: number): void => {
      putLe32(raw, lo, blocknr % WORD);
      if (raw.length > DESCRIPTOR_BYTES) putLe32(raw, hi, Math.floor(blocknr / WORD));
    };
    raw.fill(0);
    put(GD.bg_block_bitmap_lo, GD.bg_block_bitmap_hi, row.blockBitmap);
    put(GD.bg_inode_bitmap_lo, GD.bg_inode_bitmap_hi, row.inodeBitmap);
    put(GD.bg_inode_table_lo, GD.bg_inode_table_hi, row.inodeTable);
    encodeDescriptor(to, row, raw);
  }
}

/** Numbers of the blocks of descriptors in which a group is new. */
export function changedDescriptorBlocks({ from, to }: Growth): number[] {
  const indexes: number[] = [];
  if (to.groupCount === from.groupCount) return indexes;
  const first = Math.floor(from.groupCount / to.descriptorsPerBlock);
  for (let index = first; index < to.descriptorBlockCount; index++) indexes.push(index);
  return indexes;
}

/**
 * Writes what the new groups hold, and makes it durable. `table` says where descriptors are after
 * the growth; those that lie in new groups are written too.
 *
 * @throws {FsError} `EIO`, `ENOSPC`, of the device
 * @throws the reason of `signal`: nothing has changed then
 */
export async function writeNewGroups(
  bdev: BlockDevice,
  growth: Growth,
  table: GroupTable,
  signal?: AbortSignal,
): Promise<void> {
  const { from, to } = growth;
  const device = new DeviceWriter(bdev, to.blockBytes, "resize");
  for (let group = from.groupCount; group < to.groupCount; group++) {
    signal?.throwIfAborted();
    const { blockBitmap: at, inodeTable } = newDescriptor(to, group);
    if (to.hasCompat(COMPAT_RESIZE_INODE)) {
      await device.zero(to.firstBlockOf(group), copyBlocksIn(to, group));
    }
    await device.write(at, blockBitmap(to, group));
    await device.write(at + 1, inodeBitmap(to));
    await device.zero(inodeTable, to.inodeTableBlockCount);
  }
  if (to.hasIncompat(INCOMPAT_META_BG)) {
    for (const index of changedDescriptorBlocks(growth)) {
      const blocknr = table.descriptorBlock(index);
      if (blocknr < from.blockCount) continue;
      const block = new Uint8Array(to.blockBytes);
      putNewDescriptors(growth, index, block);
      await device.write(blocknr, block);
    }
  }
  await device.flush();
}
