/**
 * What every function that changes an ext2/3/4 file system is given: the decoders' context, and
 * beside it the transactions, the summaries of the groups, and those who hand out blocks and
 * inodes.
 *
 *     transactions.run((handle) => {
 *       writer.editInode(handle, inode);      // first: the inode is put back if this is undone
 *       inode.mode = 0o100600;                // then: any field, or bytes of `inode.raw`
 *       inode.setTime("ctime", writer.now());
 *     });                                     // at the end the inode is in its table block
 *
 *  1. An inode is changed only after `editInode` in the same operation.
 *  2. While there is a writer, descriptors are read from its `groups`; the table on disk is brought
 *     up to date by each commit.
 */
import type { Clock } from "../../lib/clock.ts";
import type { Random } from "../../lib/random.ts";
import type { Timespec } from "../vfs.ts";
import { BlockAllocator } from "./block-alloc.ts";
import type { ExtContext, MappedRun } from "./context.ts";
import type { ExtCore } from "./core.ts";
import type { DataMode } from "./data-mode.ts";
import { type FixedBlocks, systemBlocksOf } from "./fixed-blocks.ts";
import { GroupState } from "./group-state.ts";
import type { Handle, Transactions } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { InodeBits } from "./inode-alloc.ts";
import { InodeEdits } from "./inode-write.ts";
import type { JournalRun } from "./journal-log.ts";
import type { Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";
import { SuperblockWriter } from "./superblock-write.ts";
import { TimeStamps } from "./time-stamps.ts";

/** What a writer needs beside a core and its transactions. */
export interface ExtWriterOptions {
  readonly clock: Clock;
  /** For generations of inodes, and where directories of the root are put. */
  readonly random: Random;
  /** Where the journal lies on the same device. */
  readonly journalRuns?: readonly JournalRun[] | undefined;
  /** How data and the journal go together; none without a journal. */
  readonly dataMode?: DataMode | undefined;
}

/** See the head of the file. */
export class ExtWriter implements ExtContext {
  readonly core: ExtCore;
  readonly transactions: Transactions;
  /** Free counts and bitmaps of the groups. */
  readonly groups: GroupState;
  /** Hands out blocks. */
  readonly blocks: BlockAllocator;
  /** Finds and frees inodes: for `allocInode` and `freeInode`. */
  readonly inodeBits: InodeBits;
  readonly superblock: SuperblockWriter;
  readonly clock: Clock;
  /** The times to stamp inodes with. */
  readonly stamps: TimeStamps;
  readonly random: Random;
  /** Makes this writer put directories elsewhere than another one. */
  readonly salt: number;
  /** Whether those who write may use the blocks kept for root. */
  isPrivileged = true;
  /** See `shouldJournalData`. */
  readonly dataMode: DataMode | undefined;
  /** Inodes whose cut or deletion has failed half way: closing tries to finish that. */
  readonly unfinished: Set<ExtInode> = new Set();
  readonly #edits: InodeEdits;

  private constructor(
    core: ExtCore,
    transactions: Transactions,
    groups: GroupState,
    options: ExtWriterOptions,
  ) {
    this.core = core;
    this.transactions = transactions;
    this.groups = groups;
    this.clock = options.clock;
    this.stamps = new TimeStamps(options.clock);
    this.random = options.random;
    this.dataMode = options.dataMode;
    this.superblock = new SuperblockWriter(core.sb, core.metadata, groups, () => this.now());
    this.blocks = new BlockAllocator(core.sb, groups, core.warn.bind(core));
    this.#edits = new InodeEdits(this);
    this.inodeBits = new InodeBits(core.sb, groups, core.warn.bind(core));
    this.salt = options.random.uint32();
    core.useDescriptors(groups);
    core.useTransactions(transactions);
    transactions.beforeCommit((handle) => {
      groups.writeOut(handle);
      this.superblock.writeOut(handle);
    });
  }

  /**
   * Reads the descriptors of all groups, and makes the writer of `core`. Nothing is written.
   *
   * @throws {FsError} `EUCLEAN`/`EBADMSG` for a damaged descriptor, `EIO`
   */
  static async open(
    core: ExtCore,
    transactions: Transactions,
    options: ExtWriterOptions,
    signal?: AbortSignal,
  ): Promise<ExtWriter> {
    const groups = await GroupState.load(core, signal);
    const systemBlocks = systemBlocksOf(core.sb, groups, options.journalRuns ?? []);
    core.systemBlocks = systemBlocks;
    groups.systemBlocks = systemBlocks;
    return new ExtWriter(core, transactions, groups, options);
  }

  get sb(): Superblock {
    return this.core.sb;
  }

  get metadata(): Metadata {
    return this.core.metadata;
  }

  get seed(): number {
    return this.core.seed;
  }

  get hasMetadataCsum(): boolean {
    return this.core.hasMetadataCsum;
  }

  get systemBlocks(): FixedBlocks | undefined {
    return this.core.systemBlocks;
  }

  mapBlocks(inode: ExtInode, fileBlock: number, maxCount: number): MappedRun {
    return this.core.mapBlocks(inode, fileBlock, maxCount);
  }

  inode(ino: number): ExtInode {
    return this.core.inode(ino);
  }

  warn(text: string): void {
    this.core.warn(text);
  }

  /** The time to stamp inodes with (`current_time`). */
  now(): Timespec {
    return this.stamps.now();
  }

  /**
   * To be called before any change of `inode` in an operation; again, it does nothing. The inode is
   * as before if the attempt is undone, else at its end it is encoded into its table block
   * (`ext4_mark_inode_dirty`).
   */
  editInode(handle: Handle, inode: ExtInode): void {
    this.#edits.begin(handle, inode);
  }
}
