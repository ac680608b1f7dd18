/**
 * Copies of the superblock and of the descriptors, made anew from the primary ones.
 *
 *     primary descriptors --> the same in each group with a copy
 *     superblock          --> there too, with the number of the group in it
 *
 *  1. Copies come last: until the primary ones are durable the old copies are the good ones.
 *  2. A copy says that the file system is clean, and needs no recovery.
 *
 * After `fs/ext4/resize.c` (`update_backups`).
 */
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import { putLe16 } from "../../lib/bytes.ts";
import { sealSuperblock } from "./checksum.ts";
import { INCOMPAT_META_BG } from "./features.ts";
import { descriptorBlocksIn, type GroupTable, hasSuperblockCopy } from "./group.ts";
import { SB } from "./layout.ts";
import { DeviceWriter } from "./mkfs/device-writer.ts";
import type { Superblock } from "./superblock.ts";
import { patchClosed } from "./superblock-write.ts";

const GROUP_MASK = 0xffff;

/** Numbers of the blocks of descriptors that `group` holds. */
function descriptorsOf(sb: Superblock, group: number): { from: number; count: number } {
  const count = descriptorBlocksIn(sb, group);
  const perBlock = sb.descriptorsPerBlock;
  const isMeta = sb.hasIncompat(INCOMPAT_META_BG) && group >= sb.firstMetaBg * perBlock;
  return { from: isMeta ? Math.floor(group / perBlock) : 0, count };
}

/**
 * Writes all copies for `sb`, whose superblock and descriptors are on `bdev`; `table` says where
 * these are. Durable on return.
 *
 * @throws {FsError} `EIO` of the device
 */
export async function writeSuperblockCopies(
  bdev: BlockDevice,
  sb: Superblock,
  table: GroupTable,
): Promise<void> {
  const device = new DeviceWriter(bdev, sb.blockBytes, "resize");
  const raw = sb.raw.slice();
  patchClosed(raw, true);
  for (let group = 0; group < sb.groupCount; group++) {
    const hasSuper = hasSuperblockCopy(sb, group);
    const first = sb.firstBlockOf(group);
    if (hasSuper && group > 0) {
      const copy = new Uint8Array(sb.blockBytes);
      copy.set(raw);
      putLe16(copy, SB.s_block_group_nr, group & GROUP_MASK);
      if (sb.hasMetadataCsum) sealSuperblock(copy.subarray(0, raw.length));
      await device.write(first, copy);
    }
    const { from, count } = descriptorsOf(sb, group);
    for (let k = 0; k < count; k++) {
      const home = table.descriptorBlock(from + k);
      const blocknr = first + (hasSuper ? 1 : 0) + k;
      if (group === 0 || blocknr === home) continue;
      const data = await readDevice(bdev, home * sb.blockBytes, sb.blockBytes);
      await device.write(blocknr, data);
    }
  }
  await device.flush();
}
