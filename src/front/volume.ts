/**
 * An opened image: the stack from the store up to `fs`, put together and taken apart in one place.
 *
 *     store --> block device --> partition --> file system --> VolumeFs
 *                    ^                              |
 *                    +------- page cache <----------+      one cache for file data and metadata
 *
 * Nothing here imports `node:`: what a path or URL means is `open-image.ts`'s.
 */
import { type BlockDevice, StoreBlockDevice } from "../block/block-device.ts";
import { type Partition, type PartitionTable, readPartitions } from "../block/partitions.ts";
import type { PageCache } from "../cache/page-cache.ts";
import { type ExtMountOptions, mountExt, probeExt } from "../fs/ext/ext-fs.ts";
import type { FileSystem, FileSystemUsage } from "../fs/vfs.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import type { Store } from "../store/store.ts";
import { extPartitionsOf, partitionDevice } from "./disk.ts";
import { makeCache } from "./make-cache.ts";
import { VolumeFs } from "./promises.ts";
import { formatSize } from "./size-text.ts";

/** How an image is to be opened. */
export interface VolumeOptions {
  /** Number of the partition, as the partition table counts. Default: the only ext2/3/4 one. */
  readonly partition?: number | undefined;
  /** Bytes of the page cache, or text such as "64MiB". Default 256 MiB, least 4 MiB. */
  readonly cache?: number | string | undefined;
  /** Do not replay a journal: show the image as it lies. */
  readonly noload?: boolean | undefined;
  /** Take a backup superblock: the first good one, or the one in the block named. */
  readonly superblock?: "primary" | "backup" | number | undefined;
  /** Read what can be read of a damaged journal, as the kernel does, instead of refusing it. */
  readonly salvage?: boolean | undefined;
  /** The device of an external journal. */
  readonly journal?: Store | undefined;
  readonly clock?: Clock | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What the store, the block layer and the cache did since the volume was opened. */
export interface VolumeStats {
  readonly block: BlockDevice["stats"];
  readonly cache: ReturnType<PageCache["stats"]>;
}

/** What an image is, JSON-ready. */
export interface VolumeInfo {
  readonly name: string;
  readonly sizeBytes: number;
  readonly partitionScheme: string;
  readonly partitions: readonly Partition[];
  /** Number of the partition that is open, null for a whole disk. */
  readonly partition: number | null;
  readonly fileSystem: Readonly<Record<string, unknown>>;
  readonly usage: FileSystemUsage;
  readonly warnings: readonly string[];
}

export class Volume {
  /** The `fs.promises`-shaped calls. */
  readonly fs: VolumeFs;
  /** The mounted file system below `fs`. */
  readonly fileSystem: FileSystem;
  readonly partitionTable: PartitionTable;
  /** The partition that is open; undefined for a whole disk. */
  readonly partition: Partition | undefined;
  readonly cache: PageCache;
  readonly #store: Store;
  readonly #stores: readonly Store[];
  readonly #devices: readonly StoreBlockDevice[];
  #closing: Promise<void> | undefined;

  /** For `openVolume` alone. */
  constructor(parts: VolumeParts) {
    this.#store = parts.store;
    this.#stores = parts.stores;
    this.#devices = parts.devices;
    this.cache = parts.cache;
    this.fileSystem = parts.fileSystem;
    this.partitionTable = parts.partitionTable;
    this.partition = parts.partition;
    this.fs = new VolumeFs(parts.fileSystem);
  }

  /**
   * What the image is: where it lies, partitions, file system, features, usage, warnings.
   * JSON-ready.
   */
  info(): VolumeInfo {
    return {
      name: this.#store.name,
      sizeBytes: this.#store.sizeBytes,
      partitionScheme: this.partitionTable.scheme,
      partitions: this.partitionTable.partitions,
      partition: this.partition?.number ?? null,
      fileSystem: this.fileSystem.describe(),
      usage: this.fileSystem.usage(),
      warnings: [...this.partitionTable.warnings, ...this.fileSystem.warnings],
    };
  }

  /** Counters of the store's requests and of the cache. */
  stats(): VolumeStats {
    return { block: this.#devices[0]!.stats, cache: this.cache.stats() };
  }

  /**
   * Closes handles, caches and stores, once calls under way are done. A second call waits for the
   * first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.fs.closeAll();
    await this.fileSystem.close();
    for (const device of this.#devices) await device.close();
    for (const store of this.#stores) await store.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

interface VolumeParts {
  readonly store: Store;
  /** All that are to be closed. */
  readonly stores: readonly Store[];
  readonly devices: readonly StoreBlockDevice[];
  readonly cache: PageCache;
  readonly fileSystem: FileSystem;
  readonly partitionTable: PartitionTable;
  readonly partition: Partition | undefined;
}

/**
 * Opens the ext2/3/4 file system in `store`. The volume owns it and the store of an external
 * journal from now on, also if this fails.
 *
 * @throws {FsError} `EINVAL` if there is no such file system or the choice of partition is not
 *   clear, `EUCLEAN`/`EBADMSG` for a damaged one, `EOPNOTSUPP` for features that quire does not
 *   know, `EIO`
 */
export async function openVolume(store: Store, options: VolumeOptions = {}): Promise<Volume> {
  const clock = options.clock ?? realClock;
  const devices: StoreBlockDevice[] = [];
  const stores = options.journal === undefined ? [store] : [store, options.journal];
  try {
    const cache = makeCache(options.cache, clock);
    const disk = new StoreBlockDevice(store, { clock });
    devices.push(disk);
    const partitionTable = await readPartitions(disk);
    const partition = await choosePartition(store, disk, partitionTable, options.partition, clock);
    const device = partition === undefined ? disk : partitionDevice(disk, partition, clock);
    const mount = mountOptions(options, clock, devices);
    const fileSystem = await mountExt(device, cache, mount);
    return new Volume({ store, stores, devices, cache, fileSystem, partitionTable, partition });
  } catch (error) {
    for (const device of devices) await device.close();
    for (const opened of stores) await opened.close();
    throw error;
  }
}

function mountOptions(
  options: VolumeOptions,
  clock: Clock,
  devices: StoreBlockDevice[],
): ExtMountOptions {
  const { noload, superblock, salvage, signal } = options;
  const mount: ExtMountOptions = { clock, noload, superblock, salvage, signal };
  if (options.journal === undefined) return mount;
  const journalDevice = new StoreBlockDevice(options.journal, { clock });
  devices.push(journalDevice);
  return { ...mount, journalDevice };
}

/** The partition to mount, or undefined for the whole disk. */
async function choosePartition(
  store: Store,
  disk: BlockDevice,
  table: PartitionTable,
  wanted: number | undefined,
  clock: Clock,
): Promise<Partition | undefined> {
  const { partitions } = table;
  if (wanted !== undefined) {
    const found = partitions.find((partition) => partition.number === wanted);
    if (found !== undefined) return found;
    const detail = `${store.name} has no partition ${wanted}: ${listOf(partitions)}`;
    throw new FsError("EINVAL", { syscall: "open", detail });
  }
  if (partitions.length === 0 || (await probeExt(disk))) return undefined;
  const candidates = await extPartitionsOf(disk, table, clock);
  if (candidates.length === 1) return candidates[0];
  const detail =
    candidates.length === 0
      ? `no partition holds ext2/3/4: ${listOf(partitions)}`
      : `several partitions hold ext2/3/4, so name one: ${listOf(candidates)}`;
  throw new FsError("EINVAL", { syscall: "open", detail });
}

function listOf(partitions: readonly Partition[]): string {
  if (partitions.length === 0) return "it has no partition table";
  return partitions
    .map(
      ({ number, typeName, lengthBytes }) => `${number} (${typeName}, ${formatSize(lengthBytes)})`,
    )
    .join(", ");
}
