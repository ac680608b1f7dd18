/**
 * What a partition table says, whatever its format; and the checks that hold for every format.
 *
 * A table comes from outside, so nothing in it is believed before it is compared with the device:
 * an entry that begins behind the end is left out, one that reaches past it is cut, one that
 * overlaps another is kept, each with a warning. None of this is an error: what can be read is to
 * be read.
 *
 * After `block/partitions/core.c` of Linux.
 */
import type { BlockDevice } from "./block-device.ts";

/** One entry, inside the device. */
export interface Partition {
  /** As Linux numbers it: MBR 1..4, logical ones from 5 on; GPT place in the table, from 1 on. */
  readonly number: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** In words; "unknown" for a type that is not in our list. */
  readonly typeName: string;
  /** MBR: "0x83"; GPT: the GUID in capitals. */
  readonly typeId: string;
  /** Name of a GPT entry, undefined if empty. Untrusted text. */
  readonly label?: string | undefined;
  /** GPT: the entry's own GUID. */
  readonly uuid?: string | undefined;
  readonly isBootable: boolean;
  /** MBR: it holds the logical partitions, and no file system. */
  readonly isContainer: boolean;
}

/** All that is known of the partitions of a device. */
export interface PartitionTable {
  readonly scheme: "none" | "mbr" | "gpt";
  /** The sector in which the table counts. */
  readonly logicalBlockBytes: number;
  /** MBR: "0x76cf1f67"; GPT: the disk's GUID. */
  readonly diskId?: string | undefined;
  /** Ascending by `number`. */
  readonly partitions: readonly Partition[];
  /** What is wrong with the table, in sentences for the user. */
  readonly warnings: readonly string[];
}

/** An entry as it stands in a table; its range may be nonsense, but not negative. */
export type PartitionEntry = Omit<Partition, "isContainer"> & { readonly isContainer?: boolean };

/** Collects the entries of one table (`struct parsed_partitions`). */
export class PartitionList {
  readonly partitions: Partition[] = [];
  readonly warnings: string[] = [];
  readonly #sizeBytes: number;

  constructor(dev: BlockDevice) {
    this.#sizeBytes = dev.sizeBytes;
  }

  /** Adds `entry`, cut to the device; with a warning if it had to be (`blk_add_partition`). */
  add(entry: PartitionEntry): void {
    const { number, offsetBytes } = entry;
    if (offsetBytes >= this.#sizeBytes) {
      this.warn(`partition ${number} begins behind the end of the device and is left out`);
      return;
    }
    const roomBytes = this.#sizeBytes - offsetBytes;
    const lengthBytes = Math.min(entry.lengthBytes, roomBytes);
    if (lengthBytes < entry.lengthBytes) {
      this.warn(`partition ${number} reaches past the end of the device and is cut`);
    }
    this.partitions.push({ ...entry, lengthBytes, isContainer: entry.isContainer ?? false });
  }

  warn(text: string): void {
    this.warnings.push(text);
  }

  /**
   * The table, with warnings for entries that overlap. Containers overlap what they hold,
   * rightly.
   */
  finish(head: Pick<PartitionTable, "scheme" | "logicalBlockBytes" | "diskId">): PartitionTable {
    const byPlace = this.partitions.filter((partition) => !partition.isContainer);
    byPlace.sort((a, b) => a.offsetBytes - b.offsetBytes || a.number - b.number);
    let furthest = byPlace[0];
    for (const partition of byPlace.slice(1)) {
      const endBytes = furthest!.offsetBytes + furthest!.lengthBytes;
      if (partition.offsetBytes < endBytes) {
        this.warn(`partitions ${furthest!.number} and ${partition.number} overlap`);
      }
      if (partition.offsetBytes + partition.lengthBytes > endBytes) furthest = partition;
    }
    const partitions = this.partitions.sort((a, b) => a.number - b.number);
    return { ...head, partitions, warnings: this.warnings };
  }
}
