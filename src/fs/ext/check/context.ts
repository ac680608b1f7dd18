/**
 * What every part of a check works with: the image, what was found, what is in use.
 */

import { le16, le32 } from "../../../lib/bytes.ts";
import type { Clock } from "../../../lib/clock.ts";
import { FsError } from "../../../lib/errno.ts";
import { isPromise } from "../../../lib/maybe.ts";
import type { GroupTable } from "../group.ts";
import { DESCRIPTOR_BYTES, GD } from "../layout.ts";
import type { Metadata } from "../metadata.ts";
import type { Superblock } from "../superblock.ts";
import type { BlockUse } from "./block-use.ts";
import type { InodeFacts } from "./inode-facts.ts";
import type { Findings, Where } from "./report.ts";

/** Steps of work after which the event loop gets a turn. */
const STEPS_PER_TURN = 512;

/** A group descriptor, undecided whether it is right. */
export interface RawGroup {
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  readonly freeClusters: number;
  readonly freeInodes: number;
  readonly directories: number;
  /** 0 without a checksum that guards them. */
  readonly flags: number;
  readonly itableUnused: number;
  readonly blockBitmapSum: number;
  readonly inodeBitmapSum: number;
  readonly isWide: boolean;
  readonly raw: Uint8Array;
}

/** A block of extended attributes that several inodes may share. */
export interface SharedXattrs {
  readonly stored: number;
  readonly ino: number;
  refs: number;
}

/** See the head of the file. */
export class CheckContext {
  readonly sb: Superblock;
  readonly metadata: Metadata;
  readonly table: GroupTable;
  readonly findings: Findings;
  readonly use: BlockUse;
  readonly facts: InodeFacts;
  readonly xattrBlocks: Map<number, SharedXattrs> = new Map();
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((text: string, done: number, of: number) => void) | undefined;
  #steps = 0;

  constructor(
    parts: Pick<CheckContext, "sb" | "metadata" | "table" | "findings" | "use" | "facts">,
    options: Pick<CheckContext, "clock"> & {
      readonly signal?: AbortSignal | undefined;
      readonly onProgress?: ((text: string, done: number, of: number) => void) | undefined;
    },
  ) {
    this.sb = parts.sb;
    this.metadata = parts.metadata;
    this.table = parts.table;
    this.findings = parts.findings;
    this.use = parts.use;
    this.facts = parts.facts;
    this.clock = options.clock;
    this.signal = options.signal;
    this.onProgress = options.onProgress;
  }

  /** Gives the event loop its turn now and then. Throws the reason of the signal. */
  async step(): Promise<void> {
    this.#steps++;
    if (this.#steps % STEPS_PER_TURN !== 0) return;
    this.signal?.throwIfAborted();
    await this.clock.turn();
  }

  /** Calls `look` with the bytes of a block, borrowed for the call. */
  async block<T>(blocknr: number, look: (data: Uint8Array) => T): Promise<T> {
    const value = this.metadata.run(() => look(this.metadata.block(blocknr)), this.signal);
    return isPromise(value) ? await value : value;
  }

  /** A copy of a block; undefined, with a finding, if it cannot be read. */
  async copyOf(blocknr: number, where: Where): Promise<Uint8Array | undefined> {
    try {
      return await this.block(blocknr, (data) => data.slice());
    } catch (thrown) {
      if (!(thrown instanceof FsError)) throw thrown;
      this.findings.thrown("block.read", { ...where, blocknr }, thrown);
      return undefined;
    }
  }

  /** The descriptor of `group` as it is stored. */
  async group(group: number): Promise<RawGroup> {
    const { sb } = this;
    const index = Math.floor(group / sb.descriptorsPerBlock);
    const at = (group % sb.descriptorsPerBlock) * sb.descriptorBytes;
    return this.block(this.table.descriptorBlock(index), (data) =>
      decodeGroup(data.slice(at, at + sb.descriptorBytes), sb),
    );
  }

  /** True if a block can hold something: not the boot block, not the superblock, not outside. */
  isBlock(blocknr: number): boolean {
    return blocknr > this.sb.firstDataBlock && blocknr < this.sb.blockCount;
  }

  clusterOf(blocknr: number): number {
    return Math.floor((blocknr - this.sb.firstDataBlock) / this.sb.clusterRatio);
  }

  /** Marks blocks as used by structure of the file system; clusters may be shared among it. */
  markStructure(blocknr: number, count: number, where: Where, what: string): void {
    if (count === 0) return;
    const from = this.clusterOf(blocknr);
    const to = this.clusterOf(blocknr + count - 1) + 1;
    const again = this.use.mark(from, to);
    if (again >= 0 && this.sb.clusterRatio === 1) {
      const text = `${what}: block ${again + this.sb.firstDataBlock} is used twice`;
      this.findings.damage("group.overlap", { ...where, blocknr }, text);
    }
  }
}

function decodeGroup(raw: Uint8Array, sb: Superblock): RawGroup {
  const isWide = raw.length > DESCRIPTOR_BYTES;
  const wide32 = (lo: number, hi: number): number =>
    le32(raw, lo) + (isWide ? le32(raw, hi) * 0x1_0000_0000 : 0);
  const wide16 = (lo: number, hi: number): number =>
    le16(raw, lo) + (isWide ? le16(raw, hi) * 0x1_0000 : 0);
  const hasFlags = sb.hasDescriptorCsum;
  return {
    blockBitmap: wide32(GD.bg_block_bitmap_lo, GD.bg_block_bitmap_hi),
    inodeBitmap: wide32(GD.bg_inode_bitmap_lo, GD.bg_inode_bitmap_hi),
    inodeTable: wide32(GD.bg_inode_table_lo, GD.bg_inode_table_hi),
    freeClusters: wide16(GD.bg_free_blocks_count_lo, GD.bg_free_blocks_count_hi),
    freeInodes: wide16(GD.bg_free_inodes_count_lo, GD.bg_free_inodes_count_hi),
    directories: wide16(GD.bg_used_dirs_count_lo, GD.bg_used_dirs_count_hi),
    flags: hasFlags ? le16(raw, GD.bg_flags) : 0,
    itableUnused: hasFlags ? wide16(GD.bg_itable_unused_lo, GD.bg_itable_unused_hi) : 0,
    blockBitmapSum: wide16(GD.bg_block_bitmap_csum_lo, GD.bg_block_bitmap_csum_hi),
    inodeBitmapSum: wide16(GD.bg_inode_bitmap_csum_lo, GD.bg_inode_bitmap_csum_hi),
    isWide,
    raw,
  };
}
