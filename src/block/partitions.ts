/**
 * `readPartitions`: how a device is divided, whatever the scheme.
 *
 * The first sector decides: no MBR, no partitions; an MBR with an entry of type 0xee, a GPT; else
 * the MBR itself. A file system that fills the whole device usually has no MBR in its first
 * sector; where a boot loader left the signature there, the table is empty or not one.
 *
 * After `block/partitions/core.c` of Linux.
 */
import { SECTOR_BYTES } from "../lib/units.ts";
import { type BlockDevice, readDevice } from "./block-device.ts";
import { readGptTable } from "./gpt.ts";
import { decodeMbr, isHybrid, isProtective, readMbrTable } from "./mbr.ts";
import type { PartitionTable } from "./partition.ts";

export type { Partition, PartitionTable } from "./partition.ts";

/**
 * Reads the partition table of `dev` (`check_partition`). Each partition lies inside the device
 * and can be given to `PartitionDevice`; damage to the table becomes `warnings`. Some few reads,
 * more for logical partitions, one each.
 *
 * @throws {FsError} `EIO` or the store's errno if a sector cannot be read
 * @throws the reason of `signal`
 */
export async function readPartitions(
  dev: BlockDevice,
  signal?: AbortSignal,
): Promise<PartitionTable> {
  const { logicalBlockBytes } = dev;
  const none: PartitionTable = { scheme: "none", logicalBlockBytes, partitions: [], warnings: [] };
  if (dev.sizeBytes < SECTOR_BYTES) return none;
  const mbr = decodeMbr(await readDevice(dev, 0, SECTOR_BYTES, signal));
  if (mbr === undefined) return none;
  if (!isProtective(mbr)) return readMbrTable(dev, mbr, signal);
  const table = await readGptTable(dev, signal);
  if (!isHybrid(mbr)) return table;
  const warning = "the MBR has partitions of its own beside the GPT; the GPT is used";
  return { ...table, warnings: [...table.warnings, warning] };
}
