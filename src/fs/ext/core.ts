/**
 * The middle of a mounted ext2/3/4: superblock, descriptors, inodes and block maps of one device,
 * as the decoders see them (`struct ext4_sb_info`). The file system in front of it is
 * `ext-fs.ts`; a journal is recovered over a first core, and the image then read through a second
 * one.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { BufferCache } from "../../mapping/buffer-cache.ts";
import type { ExtContext, MappedRun } from "./context.ts";
import { mapExtents } from "./extents.ts";
import type { FastCommitOverlay } from "./fast-commit.ts";
import type { FixedBlocks } from "./fixed-blocks.ts";
import { type DescriptorSource, type GroupDescriptor, GroupTable } from "./group.ts";
import type { Transactions } from "./handle.ts";
import { mapIndirect } from "./indirect.ts";
import { type ExtInode, readInode } from "./inode.ts";
import { InodeCache } from "./inode-cache.ts";
import { checkInodeNumber, inodeSlot } from "./inode-table.ts";
import { Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** See the head of the file. */
export class ExtCore implements ExtContext {
  readonly sb: Superblock;
  /** Where data and metadata are read: the image, or the image under its recovered journal. */
  readonly bdev: BlockDevice;
  /** Where data of files is read and written: `bdev`, and what of it is newer in the journal. */
  dataDevice: BlockDevice;
  readonly metadata: Metadata;
  readonly groups: GroupTable;
  readonly inodes: InodeCache;
  readonly seed: number;
  readonly hasMetadataCsum: boolean;
  /** What fast commits of the journal changed, which no block of `bdev` shows. */
  readonly fastCommits: FastCommitOverlay | undefined;
  readonly #warn: (text: string) => void;
  /** Blocks that no file may have: a writer makes them known. */
  systemBlocks: FixedBlocks | undefined = undefined;
  #descriptors: DescriptorSource;
  #transactions: Pick<Transactions, "newestTid"> | undefined = undefined;

  /** `superblockBlock` is the block that `sb` was read from. */
  constructor(
    sb: Superblock,
    superblockBlock: number,
    bdev: BlockDevice,
    cache: PageCache,
    warn: (text: string) => void,
    isSalvage: boolean,
    fastCommits?: FastCommitOverlay,
  ) {
    this.sb = sb;
    this.bdev = bdev;
    this.dataDevice = bdev;
    this.metadata = new Metadata(new BufferCache(cache, bdev, sb.blockBytes), sb.blockCount);
    this.groups = new GroupTable(sb, this.metadata, superblockBlock, isSalvage);
    this.#descriptors = this.groups;
    this.inodes = new InodeCache(cache.arena.frameCount);
    this.seed = sb.seed;
    this.hasMetadataCsum = sb.hasMetadataCsum;
    this.fastCommits = fastCommits;
    this.#warn = warn;
  }

  mapBlocks(inode: ExtInode, fileBlock: number, maxCount: number): MappedRun {
    if (inode.isInline) {
      return { physical: 0, count: maxCount, isUnwritten: false, isBoundary: false };
    }
    const map = inode.hasExtents ? mapExtents : mapIndirect;
    const patch = this.fastCommits?.mapOf(inode.ino);
    if (patch === undefined) return map(this, inode, fileBlock, maxCount);
    return patch.map(fileBlock, maxCount, (count) => map(this, inode, fileBlock, count));
  }

  inode(ino: number): ExtInode {
    const known = this.inodes.get(ino);
    if (known !== undefined) return known;
    checkInodeNumber(this.sb, ino);
    const home = (): Uint8Array => inodeSlot(this.sb, this.metadata, this.#descriptors, ino);
    const slot = this.fastCommits?.inodeSlot(ino, home) ?? home();
    const inode = readInode(ino, slot, this.sb);
    // Who had it in memory before may have changed it by any transaction up to this one.
    inode.syncTid = this.#transactions?.newestTid ?? 0;
    inode.datasyncTid = inode.syncTid;
    this.inodes.add(inode);
    return inode;
  }

  /** The descriptor of `group` as it is now. Restartable; throws what `GroupTable` throws. */
  descriptor(group: number): GroupDescriptor {
    return this.#descriptors.descriptor(group);
  }

  /** Finds inodes by the descriptors of `source` from now on: those of a writer are newer. */
  useDescriptors(source: DescriptorSource): void {
    this.#descriptors = source;
  }

  /** Inodes that are read from now on may have been changed by `transactions` already. */
  useTransactions(transactions: Pick<Transactions, "newestTid">): void {
    this.#transactions = transactions;
  }

  warn(text: string): void {
    this.#warn(text);
  }

  /** Lets the buffers of the device and the inodes go. Nothing may be reading. */
  async close(): Promise<void> {
    this.inodes.clear();
    await this.metadata.buffers.close();
  }
}
