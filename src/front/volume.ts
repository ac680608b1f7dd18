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
import type { ByteRange, FileSystemWriter } from "../fs/vfs-write.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import { Random } from "../lib/random.ts";
import type { Store } from "../store/store.ts";
import { extPartitionsOf, partitionDevice } from "./disk.ts";
import { makeCache } from "./make-cache.ts";
import { VolumeFs } from "./promises.ts";
import { formatSize } from "./size-text.ts";
import type { VolumeContext } from "./volume-base.ts";
import { checkVolumeOptions } from "./volume-options.ts";

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
  /**
   * Open it for writing. A second writer of the same file is refused; the image is whole again
   * after `close`, and after a crash once its journal has been replayed.
   */
  readonly writable?: boolean | undefined;
  /**
   * Write past the journal, which is faster: for a new image that nobody needs if writing is broken
   * off, which leaves it in need of e2fsck.
   */
  readonly unlogged?: boolean | undefined;
  /**
   * What a crash leaves of data that was just written: with "ordered" a file shows nothing that was
   * there before it, with "writeback" it may; with "journal" data is written twice, and no block of
   * it is ever torn. As the image says, else "ordered".
   */
  readonly data?: "ordered" | "writeback" | "journal" | undefined;
  /** In whose name: 0, which may do all, by default. */
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly groups?: readonly number[] | undefined;
  /** Permission bits that new files do not get; 0o022 by default. */
  readonly umask?: number | undefined;
  /** Which reads bring access times up to date; "relatime" by default. */
  readonly atime?: "relatime" | "strictatime" | "noatime" | undefined;
  readonly clock?: Clock | undefined;
  /** Where UUIDs, seeds of hashes and the like come from; the platform's by default. */
  readonly random?: Random | undefined;
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
    this.fs = new VolumeFs(parts.fileSystem, parts.context);
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

  /** Makes everything that was changed durable. */
  async sync(): Promise<void> {
    this.#checkOpen("sync");
    await this.fileSystem.writer?.sync();
  }

  /**
   * Writes everything down and keeps further changes waiting until `thaw`: meanwhile the image is
   * whole, and may be copied.
   */
  async freeze(): Promise<void> {
    await this.#writer("freeze").freeze();
  }

  /** Lets changes go on after `freeze`. */
  async thaw(): Promise<void> {
    await this.#writer("thaw").thaw();
  }

  /** Tells the store which blocks are free, so that it can give their space back; bytes told. */
  async discard(signal?: AbortSignal): Promise<number> {
    return this.#writer("discard").trim(signal);
  }

  /**
   * The stretches of the image that are in use, in bytes from its start, in order: all that a copy
   * of it needs. What lies outside of the open partition is not told of.
   */
  async *usedRanges(signal?: AbortSignal): AsyncGenerator<ByteRange> {
    this.#checkOpen("read");
    const base = this.partition?.offsetBytes ?? 0;
    for await (const { offsetBytes, lengthBytes } of this.fileSystem.usedRanges(signal)) {
      yield { offsetBytes: base + offsetBytes, lengthBytes };
    }
  }

  /**
   * Closes handles, caches and stores, once calls under way are done. A second call waits for the
   * first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Each part is closed whether the one before could be or not; the first failure counts. */
  async #close(): Promise<void> {
    const parts = [() => this.fs.closeAll(), () => this.fileSystem.close()];
    for (const device of this.#devices) parts.push(() => device.close());
    for (const store of this.#stores) parts.push(() => store.close());
    const failures: unknown[] = [];
    for (const close of parts) {
      await close().catch((thrown: unknown) => failures.push(thrown));
    }
    if (failures.length > 0) throw failures[0];
  }

  #checkOpen(syscall: string): void {
    if (this.#closing === undefined) return;
    throw new FsError("EBADF", { syscall, detail: "the volume is closed" });
  }

  #writer(syscall: string): FileSystemWriter {
    this.#checkOpen(syscall);
    const { writer } = this.fileSystem;
    if (writer !== undefined) return writer;
    throw new FsError("EROFS", { syscall, detail: `${this.#store.name} was opened read-only` });
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
  readonly context: VolumeContext;
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
  const clock = options?.clock ?? realClock;
  const devices: StoreBlockDevice[] = [];
  const stores = options?.journal === undefined ? [store] : [store, options.journal];
  try {
    checkVolumeOptions(options);
    const cache = makeCache(options.cache, clock);
    const disk = new StoreBlockDevice(store, { clock });
    devices.push(disk);
    const partitionTable = await readPartitions(disk);
    const partition = await choosePartition(store, disk, partitionTable, options.partition, clock);
    const device = partition === undefined ? disk : partitionDevice(disk, partition, clock);
    const mount = mountOptions(options, clock, devices);
    const fileSystem = await mountExt(device, cache, mount);
    const context = contextOf(options, clock);
    const parts = { store, stores, devices, cache, fileSystem, partitionTable, partition, context };
    return new Volume(parts);
  } catch (error) {
    for (const device of devices) await device.close();
    for (const opened of stores) await opened.close();
    throw error;
  }
}

const UMASK_DEFAULT = 0o022;

function contextOf(options: VolumeOptions, clock: Clock): VolumeContext {
  const { uid = 0, gid = 0, groups = [], umask = UMASK_DEFAULT } = options;
  const caller = { uid, gid, groups, umask };
  return { caller, clock, random: options.random ?? Random.ofPlatform() };
}

function mountOptions(
  options: VolumeOptions,
  clock: Clock,
  devices: StoreBlockDevice[],
): ExtMountOptions {
  const { noload, superblock, salvage, writable, random, signal } = options;
  const onWriteError = "keep" as const;
  const base = { clock, noload, superblock, salvage, writable, random, onWriteError, signal };
  const { uid = 0, gid = 0, groups = [] } = options;
  const caller = { uid, gids: [gid, ...groups] };
  const isUnlogged = options.unlogged;
  const { atime, data } = options;
  const mount: ExtMountOptions = { ...base, atime, caller, isUnlogged, data };
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
