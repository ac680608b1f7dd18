/**
 * A disk before any of its file systems is opened: its partitions, and which of them hold ext2/3/4.
 */
import { type BlockDevice, StoreBlockDevice } from "../block/block-device.ts";
import type { Partition, PartitionTable } from "../block/partition.ts";
import { PartitionDevice } from "../block/partition-device.ts";
import { readPartitions } from "../block/partitions.ts";
import { probeExt } from "../fs/ext/ext-fs.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import type { Store } from "../store/store.ts";

/** What a disk is, JSON-ready, without opening a file system. */
export interface DiskInfo {
  readonly name: string;
  readonly sizeBytes: number;
  readonly partitionScheme: PartitionTable["scheme"];
  readonly partitions: readonly Partition[];
  /** Numbers of the partitions that hold ext2/3/4. */
  readonly extPartitions: readonly number[];
  /** True if the disk as a whole is such a file system. */
  readonly isExt: boolean;
  readonly warnings: readonly string[];
}

/** Looks at `store`, which it closes. Throws `EIO` for a failed store. */
export async function inspectDisk(store: Store, clock: Clock = realClock): Promise<DiskInfo> {
  const disk = new StoreBlockDevice(store, { clock });
  try {
    const table = await readPartitions(disk);
    return {
      name: store.name,
      sizeBytes: store.sizeBytes,
      partitionScheme: table.scheme,
      partitions: table.partitions,
      extPartitions: (await extPartitionsOf(disk, table, clock)).map(({ number }) => number),
      isExt: await probeExt(disk),
      warnings: table.warnings,
    };
  } finally {
    await disk.close();
    await store.close();
  }
}

/** The partitions in which there is an ext2/3/4 superblock. */
export async function extPartitionsOf(
  disk: BlockDevice,
  { partitions }: PartitionTable,
  clock: Clock,
): Promise<Partition[]> {
  const found: Partition[] = [];
  for (const partition of partitions) {
    if (partition.isContainer || partition.offsetBytes >= disk.sizeBytes) continue;
    if (await probeExt(partitionDevice(disk, partition, clock))) found.push(partition);
  }
  return found;
}

/** The part of `disk` that a partition covers, cut where the disk ends. */
export function partitionDevice(
  disk: BlockDevice,
  partition: Partition,
  clock: Clock,
): PartitionDevice {
  const { number, offsetBytes } = partition;
  const lengthBytes = Math.min(partition.lengthBytes, disk.sizeBytes - offsetBytes);
  if (lengthBytes <= 0) {
    const detail = `partition ${number} begins behind the end of ${disk.name}`;
    throw new FsError("EINVAL", { syscall: "open", detail });
  }
  return new PartitionDevice(disk, { offsetBytes, lengthBytes }, { clock });
}
