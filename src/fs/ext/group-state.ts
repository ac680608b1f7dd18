/**
 * The groups of a file system that is written: counts, flags and bitmaps, in memory and true at any
 * moment. The table of descriptors on disk follows with each commit.
 *
 *     operation   editBitmap --> bit in the bitmap block, count in memory, group 3 is dirty
 *     commit      writeOut   --> descriptor of group 3, checksums of its bitmaps in it
 *
 *  1. Each change is taken back when its operation is undone.
 *  2. The descriptor of a group that is not dirty says on disk what is here, and the checksums here
 *     are those of its bitmaps. So a bitmap is verified when it was read, and not while it is
 *     dirty.
 *  3. A group without a bitmap on disk (`BLOCK_UNINIT`, `INODE_UNINIT`) gets one when its first bit
 *     is taken.
 *
 * After `fs/ext4/balloc.c` (`ext4_init_block_bitmap`, `ext4_validate_block_bitmap`) and
 * `fs/ext4/ialloc.c`.
 */
import { assert } from "../../lib/assert.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise } from "../../lib/maybe.ts";
import { areBitsSet, countZeroBits, setBits, wordsOf } from "./bitmap.ts";
import { bitmapChecksum } from "./checksum.ts";
import type { ExtCore } from "./core.ts";
import type { FixedBlocks } from "./fixed-blocks.ts";
import {
  copyBlocksIn,
  type DescriptorSource,
  encodeDescriptor,
  type GroupDescriptor,
  type GroupTable,
  hasWideBitmapCsum,
} from "./group.ts";
import type { Handle } from "./handle.ts";
import { BG_BLOCK_UNINIT, BG_INODE_UNINIT } from "./layout.ts";
import type { BlockVerifier, Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** Which of the two bitmaps of a group. */
export type BitmapKind = "blocks" | "inodes";

/** What of a group has changed since the last commit. */
const DIRTY_COUNTS = 1;
const DIRTY_BLOCKS = 2;
const DIRTY_INODES = 4;

/** Totals over all groups. */
export interface GroupTotals {
  freeBlockCount: number;
  freeInodeCount: number;
  directoryCount: number;
}

interface BitmapCheck {
  readonly state: GroupState;
  readonly group: number;
}

const verifyBlockBitmap: BlockVerifier<BitmapCheck> = (data, _blocknr, { state, group }) =>
  state.verifyBitmap("blocks", group, data);
const verifyInodeBitmap: BlockVerifier<BitmapCheck> = (data, _blocknr, { state, group }) =>
  state.verifyBitmap("inodes", group, data);

/** See the head of the file. */
export class GroupState implements DescriptorSource {
  readonly totals: GroupTotals = { freeBlockCount: 0, freeInodeCount: 0, directoryCount: 0 };
  readonly freeBlocks: Uint32Array;
  readonly freeInodes: Uint32Array;
  readonly usedDirs: Uint32Array;
  readonly flags: Uint16Array;
  readonly itableUnused: Uint32Array;
  /** Blocks that are in use whatever files there are, once they are known. */
  systemBlocks: FixedBlocks | undefined = undefined;
  readonly #blockBitmapAt: Float64Array;
  readonly #inodeBitmapAt: Float64Array;
  readonly #inodeTableAt: Float64Array;
  readonly #blockCsum: Uint32Array;
  readonly #inodeCsum: Uint32Array;
  #dirty = new Map<number, number>();
  readonly #sb: Superblock;
  readonly #metadata: Metadata;
  readonly #table: GroupTable;

  private constructor(sb: Superblock, metadata: Metadata, table: GroupTable) {
    const { groupCount } = sb;
    this.#sb = sb;
    this.#metadata = metadata;
    this.#table = table;
    this.freeBlocks = new Uint32Array(groupCount);
    this.freeInodes = new Uint32Array(groupCount);
    this.usedDirs = new Uint32Array(groupCount);
    this.flags = new Uint16Array(groupCount);
    this.itableUnused = new Uint32Array(groupCount);
    this.#blockBitmapAt = new Float64Array(groupCount);
    this.#inodeBitmapAt = new Float64Array(groupCount);
    this.#inodeTableAt = new Float64Array(groupCount);
    this.#blockCsum = new Uint32Array(groupCount);
    this.#inodeCsum = new Uint32Array(groupCount);
  }

  /**
   * Reads all descriptors of `core`.
   *
   * @throws {FsError} `EUCLEAN`/`EBADMSG` for a damaged one, `EIO`
   */
  static async load(core: ExtCore, signal?: AbortSignal): Promise<GroupState> {
    const { sb, metadata, groups } = core;
    const state = new GroupState(sb, metadata, groups);
    for (let group = 0; group < sb.groupCount; group++) {
      const reading = metadata.run(() => groups.descriptor(group), signal);
      state.#take(isPromise(reading) ? await reading : reading);
    }
    return state;
  }

  #take(row: GroupDescriptor): void {
    const { group } = row;
    this.#checkBitmapBlock(group, "bg_block_bitmap", row.blockBitmap);
    this.#checkBitmapBlock(group, "bg_inode_bitmap", row.inodeBitmap);
    if (row.freeClusterCount > this.blocksIn(group)) {
      throw this.#damaged(group, `bg_free_blocks_count is ${row.freeClusterCount}`);
    }
    if (row.freeInodeCount > this.#sb.inodesPerGroup) {
      throw this.#damaged(group, `bg_free_inodes_count is ${row.freeInodeCount}`);
    }
    this.freeBlocks[group] = row.freeClusterCount;
    this.freeInodes[group] = row.freeInodeCount;
    this.usedDirs[group] = row.usedDirCount;
    this.flags[group] = row.flags;
    this.itableUnused[group] = row.itableUnused;
    this.#blockBitmapAt[group] = row.blockBitmap;
    this.#inodeBitmapAt[group] = row.inodeBitmap;
    this.#inodeTableAt[group] = row.inodeTable;
    this.#blockCsum[group] = row.blockBitmapCsum;
    this.#inodeCsum[group] = row.inodeBitmapCsum;
    this.totals.freeBlockCount += row.freeClusterCount;
    this.totals.freeInodeCount += row.freeInodeCount;
    this.totals.directoryCount += row.usedDirCount;
  }

  #damaged(group: number, what: string): FsError {
    return new FsError("EUCLEAN", { detail: `descriptor of group ${group}: ${what}` });
  }

  #checkBitmapBlock(group: number, field: string, blocknr: number): void {
    const { firstDataBlock, blockCount } = this.#sb;
    if (blocknr > firstDataBlock && blocknr < blockCount) return;
    throw this.#damaged(group, `${field} is block ${blocknr}, outside`);
  }

  descriptor(group: number): GroupDescriptor {
    return {
      group,
      blockBitmap: this.#blockBitmapAt[group]!,
      inodeBitmap: this.#inodeBitmapAt[group]!,
      inodeTable: this.#inodeTableAt[group]!,
      freeClusterCount: this.freeBlocks[group]!,
      freeInodeCount: this.freeInodes[group]!,
      usedDirCount: this.usedDirs[group]!,
      flags: this.flags[group]!,
      itableUnused: this.itableUnused[group]!,
      blockBitmapCsum: this.#blockCsum[group]!,
      inodeBitmapCsum: this.#inodeCsum[group]!,
    };
  }

  /** Blocks that `group` has: the last one may be short. */
  blocksIn(group: number): number {
    const sb = this.#sb;
    return Math.min(sb.blocksPerGroup, sb.blockCount - sb.firstBlockOf(group));
  }

  /** The group that block `blocknr` lies in. */
  groupOfBlock(blocknr: number): number {
    return Math.floor((blocknr - this.#sb.firstDataBlock) / this.#sb.blocksPerGroup);
  }

  /** True if the table of `group` has been used up to inode `index` of the group. */
  isSlotUsed(group: number, index: number): boolean {
    if ((this.flags[group]! & BG_INODE_UNINIT) !== 0) return false;
    return index < this.#sb.inodesPerGroup - this.itableUnused[group]!;
  }

  /** Bits of a bitmap that stand for something. */
  bitCount(kind: BitmapKind, group: number): number {
    return kind === "blocks" ? this.blocksIn(group) : this.#sb.inodesPerGroup;
  }

  #blockOf(kind: BitmapKind, group: number): number {
    return (kind === "blocks" ? this.#blockBitmapAt : this.#inodeBitmapAt)[group]!;
  }

  #isUninit(kind: BitmapKind, group: number): boolean {
    const flag = kind === "blocks" ? BG_BLOCK_UNINIT : BG_INODE_UNINIT;
    return (this.flags[group]! & flag) !== 0;
  }

  /**
   * The bits of a group as they are now, borrowed. Restartable. For a group without a bitmap they
   * are made in memory, for this call.
   *
   * @throws {FsError} `EBADMSG`/`EUCLEAN` for a damaged bitmap
   */
  bitmap(kind: BitmapKind, group: number): Uint32Array {
    if (this.#isUninit(kind, group)) {
      const bytes = new Uint8Array(this.#sb.blockBytes);
      this.#initBitmap(kind, group, bytes);
      return wordsOf(bytes);
    }
    const blocknr = this.#blockOf(kind, group);
    const dirtyBit = kind === "blocks" ? DIRTY_BLOCKS : DIRTY_INODES;
    if (((this.#dirty.get(group) ?? 0) & dirtyBit) !== 0) {
      return wordsOf(this.#metadata.block(blocknr));
    }
    const verifier = kind === "blocks" ? verifyBlockBitmap : verifyInodeBitmap;
    return wordsOf(this.#metadata.verified(blocknr, verifier, { state: this, group }));
  }

  /**
   * The bits of a group, to be changed in this operation; the group's counts may be changed too
   * from now on. A group without a bitmap gets it.
   */
  editBitmap(handle: Handle, kind: BitmapKind, group: number): Uint32Array {
    if (this.#isUninit(kind, group)) return this.#createBitmap(handle, kind, group);
    this.bitmap(kind, group);
    this.#edit(handle, group, kind === "blocks" ? DIRTY_BLOCKS : DIRTY_INODES);
    return wordsOf(handle.write(this.#blockOf(kind, group)));
  }

  #createBitmap(handle: Handle, kind: BitmapKind, group: number): Uint32Array {
    const isBlocks = kind === "blocks";
    this.#edit(handle, group, isBlocks ? DIRTY_BLOCKS : DIRTY_INODES);
    const bytes = handle.create(this.#blockOf(kind, group));
    this.#initBitmap(kind, group, bytes);
    const words = wordsOf(bytes);
    this.flags[group]! &= ~(isBlocks ? BG_BLOCK_UNINIT : BG_INODE_UNINIT);
    const free = countZeroBits(words, 0, this.bitCount(kind, group));
    if (isBlocks) this.addFreeBlocks(group, free - this.freeBlocks[group]!);
    else this.addFreeInodes(group, free - this.freeInodes[group]!);
    return words;
  }

  /** The bitmap of a group in which nobody has allocated anything (`ext4_init_block_bitmap`). */
  #initBitmap(kind: BitmapKind, group: number, bytes: Uint8Array): void {
    const words = wordsOf(bytes);
    const count = this.bitCount(kind, group);
    if (kind === "blocks")
      this.#eachStructure(group, (from, length) => setBits(words, from, length));
    setBits(words, count, 8 * bytes.length - count);
  }

  /** Calls `visit` for each run of blocks in `group` that its own structure takes. */
  #eachStructure(group: number, visit: (from: number, count: number) => void): void {
    const sb = this.#sb;
    const first = sb.firstBlockOf(group);
    const end = this.blocksIn(group);
    const runs: readonly (readonly [blocknr: number, count: number])[] = [
      [first, copyBlocksIn(sb, group)],
      [this.#blockBitmapAt[group]!, 1],
      [this.#inodeBitmapAt[group]!, 1],
      [this.#inodeTableAt[group]!, sb.inodeTableBlockCount],
    ];
    for (const [blocknr, count] of runs) {
      const from = Math.max(0, blocknr - first);
      const to = Math.min(end, blocknr - first + count);
      if (from < to) visit(from, to - from);
    }
  }

  /**
   * Judges a bitmap that was read: its checksum, and that it counts what its descriptor counts.
   *
   * @throws {FsError} `EBADMSG`, `EUCLEAN`
   */
  verifyBitmap(kind: BitmapKind, group: number, data: Uint8Array): void {
    const sb = this.#sb;
    const isBlocks = kind === "blocks";
    const where = `${isBlocks ? "block" : "inode"} bitmap of group ${group}`;
    if (sb.hasMetadataCsum && this.#sumOf(kind, data) !== this.#storedSum(kind, group)) {
      throw new FsError("EBADMSG", { detail: `${where}: its checksum does not match` });
    }
    const words = wordsOf(data);
    const free = countZeroBits(words, 0, this.bitCount(kind, group));
    const counted = isBlocks ? this.freeBlocks[group]! : this.freeInodes[group]!;
    if (free !== counted) {
      throw new FsError("EUCLEAN", { detail: `${where}: ${free} are free, not ${counted}` });
    }
    if (!isBlocks) return;
    const checkUsed = (from: number, count: number): void => {
      if (areBitsSet(words, from, count)) return;
      throw new FsError("EUCLEAN", { detail: `${where}: blocks of the file system are free` });
    };
    this.#eachStructure(group, checkUsed);
    const first = sb.firstBlockOf(group);
    this.systemBlocks?.eachIn(first, first + this.blocksIn(group), (blocknr, count) =>
      checkUsed(blocknr - first, count),
    );
  }

  #sumOf(kind: BitmapKind, data: Uint8Array): number {
    const sb = this.#sb;
    const bits = kind === "blocks" ? sb.clustersPerGroup : sb.inodesPerGroup;
    const sum = bitmapChecksum(sb.seed, data, bits);
    return hasWideBitmapCsum(sb) ? sum : sum & 0xffff;
  }

  #storedSum(kind: BitmapKind, group: number): number {
    return (kind === "blocks" ? this.#blockCsum : this.#inodeCsum)[group]!;
  }

  /** To be called before the counts or flags of `group` are changed in an operation. */
  edit(handle: Handle, group: number): void {
    this.#edit(handle, group, DIRTY_COUNTS);
  }

  #edit(handle: Handle, group: number, dirtyBits: number): void {
    assert(group >= 0 && group < this.#sb.groupCount, "a group of the file system");
    const wasDirty = this.#dirty.get(group);
    const freeBlocks = this.freeBlocks[group]!;
    const freeInodes = this.freeInodes[group]!;
    const usedDirs = this.usedDirs[group]!;
    const flags = this.flags[group]!;
    const itableUnused = this.itableUnused[group]!;
    handle.undo(() => {
      this.addFreeBlocks(group, freeBlocks - this.freeBlocks[group]!);
      this.addFreeInodes(group, freeInodes - this.freeInodes[group]!);
      this.addUsedDirs(group, usedDirs - this.usedDirs[group]!);
      this.flags[group] = flags;
      this.itableUnused[group] = itableUnused;
      if (wasDirty === undefined) this.#dirty.delete(group);
      else this.#dirty.set(group, wasDirty);
    });
    this.#dirty.set(group, (wasDirty ?? 0) | dirtyBits);
  }

  addFreeBlocks(group: number, delta: number): void {
    this.freeBlocks[group]! += delta;
    this.totals.freeBlockCount += delta;
  }

  addFreeInodes(group: number, delta: number): void {
    this.freeInodes[group]! += delta;
    this.totals.freeInodeCount += delta;
  }

  addUsedDirs(group: number, delta: number): void {
    this.usedDirs[group]! += delta;
    this.totals.directoryCount += delta;
  }

  /** True if something has changed since the last commit. */
  get isDirty(): boolean {
    return this.#dirty.size > 0;
  }

  /**
   * Writes the descriptors of all dirty groups, with the checksums of their bitmaps. Part of each
   * commit.
   */
  writeOut(handle: Handle): void {
    const dirty = this.#dirty;
    if (dirty.size === 0) return;
    const sb = this.#sb;
    for (const group of [...dirty.keys()].sort((a, b) => a - b)) {
      const bits = dirty.get(group)!;
      if (sb.hasMetadataCsum) this.#sum(group, bits);
      const index = Math.floor(group / sb.descriptorsPerBlock);
      const block = handle.write(this.#table.descriptorBlock(index));
      const at = (group % sb.descriptorsPerBlock) * sb.descriptorBytes;
      encodeDescriptor(sb, this.descriptor(group), block.subarray(at, at + sb.descriptorBytes));
    }
    this.#dirty = new Map();
    handle.undo(() => {
      this.#dirty = dirty;
    });
  }

  #sum(group: number, dirtyBits: number): void {
    if ((dirtyBits & DIRTY_BLOCKS) !== 0) {
      const data = this.#metadata.block(this.#blockBitmapAt[group]!);
      this.#blockCsum[group] = this.#sumOf("blocks", data);
    }
    if ((dirtyBits & DIRTY_INODES) !== 0) {
      const data = this.#metadata.block(this.#inodeBitmapAt[group]!);
      this.#inodeCsum[group] = this.#sumOf("inodes", data);
    }
  }
}
