/**
 * Descriptors and bitmaps of a new file system, made when they are asked for from what is taken.
 *
 * A group whose blocks are only copies of superblock and descriptors needs no bitmap of blocks, one
 * without inodes none of inodes, where a checksum guards the flags that say so.
 */
import { putLe16, putLe32 } from "../../../lib/bytes.ts";
import { roundDown, roundUp } from "../../../lib/units.ts";
import { bitmapChecksum, descriptorChecksum, descriptorCrc16 } from "../checksum.ts";
import { RO_COMPAT_GDT_CSUM } from "../features.ts";
import {
  BG_BLOCK_UNINIT,
  BG_INODE_UNINIT,
  BG_INODE_ZEROED,
  DESCRIPTOR_BYTES,
  GD,
  S_IFDIR,
  S_IFMT,
} from "../layout.ts";
import type { MkfsPlan } from "./plan.ts";
import { SpaceMap } from "./space.ts";

const WORD = 0x1_0000_0000;
const HALF = 0x1_0000;

/** Sets bits `from` .. `to - 1`. */
function setBits(bitmap: Uint8Array, from: number, to: number): void {
  const wholeFrom = Math.min(to, roundUp(from, 8));
  const wholeTo = Math.max(wholeFrom, roundDown(to, 8));
  for (let bit = from; bit < wholeFrom; bit++) bitmap[bit >>> 3]! |= 1 << (bit & 7);
  bitmap.fill(0xff, wholeFrom / 8, wholeTo / 8);
  for (let bit = wholeTo; bit < to; bit++) bitmap[bit >>> 3]! |= 1 << (bit & 7);
}

/** See the head of the file. */
export class DescriptorEncoder {
  readonly #plan: MkfsPlan;
  readonly #hasFlags: boolean;
  /** Inode tables are cleared by the kernel, later. */
  readonly isLazy: boolean;
  /** Set also where no checksum guards it, as mke2fs does. */
  readonly #isZeroedTold: boolean;
  readonly #freeClusters: Uint32Array;
  readonly #bitmapSums: Uint32Array;
  /** Of all groups whose `blockBitmap` was made. */
  freeClusters = 0;

  constructor(plan: MkfsPlan, isLazyTable: boolean | undefined, isZeroed: boolean) {
    this.#plan = plan;
    const hasGdtCsum = (plan.features.roCompat & RO_COMPAT_GDT_CSUM) !== 0;
    this.#hasFlags = plan.seed !== undefined || hasGdtCsum;
    this.isLazy = this.#hasFlags && isLazyTable !== false;
    this.#isZeroedTold = isZeroed || !(isLazyTable ?? this.#hasFlags);
    this.#freeClusters = new Uint32Array(plan.geometry.groupCount);
    this.#bitmapSums = new Uint32Array(plan.geometry.groupCount);
  }

  /** Inodes of `group` that are in use: the first ones. */
  usedInodes(group: number): number {
    const { inodesPerGroup } = this.#plan.geometry;
    const used = this.#plan.lastIno - group * inodesPerGroup;
    return Math.max(0, Math.min(used, inodesPerGroup));
  }

  /** Counts the free clusters of `group`, and makes its bitmap unless it needs none. */
  blockBitmap(group: number): Uint8Array | undefined {
    const { p, geometry, layout, seed } = this.#plan;
    const ratio = p.clusterRatio;
    const first = layout.firstBlockOf(group);
    const end = layout.endOf(group);
    const clusters = Math.ceil((end - first) / ratio);
    const bitmap = new Uint8Array(p.blockBytes);
    let taken = 0;
    for (const run of layout.space.takenIn(first, end)) {
      const from = Math.floor((run.start - first) / ratio);
      const to = Math.ceil((run.end - first) / ratio);
      setBits(bitmap, from, to);
      taken += to - from;
    }
    this.#freeClusters[group] = clusters - taken;
    this.freeClusters += clusters - taken;
    if ((this.flags(group) & BG_BLOCK_UNINIT) !== 0) return undefined;
    setBits(bitmap, clusters, 8 * p.blockBytes);
    const clustersPerGroup = geometry.blocksPerGroup / ratio;
    if (seed !== undefined) {
      this.#bitmapSums[group] = bitmapChecksum(seed, bitmap, clustersPerGroup);
    }
    return bitmap;
  }

  /** The inode bitmap of `group`, undefined if it needs none. */
  inodeBitmap(group: number): Uint8Array | undefined {
    const used = this.usedInodes(group);
    if (this.#hasFlags && used === 0) return undefined;
    return this.#inodeBits(used);
  }

  #inodeBits(used: number): Uint8Array {
    const { p, geometry } = this.#plan;
    const bitmap = new Uint8Array(p.blockBytes);
    setBits(bitmap, 0, used);
    setBits(bitmap, geometry.inodesPerGroup, 8 * p.blockBytes);
    return bitmap;
  }

  /** `bg_flags`; known once the free clusters were counted. */
  flags(group: number): number {
    let flags = this.#isZeroedTold ? BG_INODE_ZEROED : 0;
    if (!this.#hasFlags) return flags;
    if (this.usedInodes(group) === 0) flags |= BG_INODE_UNINIT;
    const isInner = group > 0 && group < this.#plan.layout.groupCount - 1;
    const isUnused = isInner && this.usedInodes(group) === 0;
    if (isUnused && this.#isBare(group)) flags |= BG_BLOCK_UNINIT;
    return flags;
  }

  /** True if nothing is taken in `group` but what its own descriptor and the rules tell. */
  #isBare(group: number): boolean {
    const { layout, geometry, p } = this.#plan;
    const ratio = p.clusterRatio;
    const first = layout.firstBlockOf(group);
    const end = layout.endOf(group);
    const own = new SpaceMap(end - first);
    const take = (from: number, count: number): void => {
      const start = Math.max(from, first);
      const stop = Math.min(from + count, end);
      if (start < stop) own.take(start - first, stop - start);
    };
    take(first, layout.copiesEnd(group) - first);
    take(layout.blockBitmaps[group]!, 1);
    take(layout.inodeBitmaps[group]!, 1);
    take(layout.inodeTables[group]!, geometry.inodeTableBlocks);
    own.roundToClusters(ratio);
    const free =
      Math.ceil((end - first) / ratio) - Math.ceil(own.countTaken(0, end - first) / ratio);
    return free === this.#freeClusters[group];
  }

  /** Block `index` of the table of descriptors. */
  descriptorBlock(index: number): Uint8Array {
    const { p, geometry } = this.#plan;
    const data = new Uint8Array(p.blockBytes);
    const { descriptorsPerBlock, descriptorBytes, groupCount } = geometry;
    const firstGroup = index * descriptorsPerBlock;
    const count = Math.min(descriptorsPerBlock, groupCount - firstGroup);
    for (let slot = 0; slot < count; slot++) {
      const at = slot * descriptorBytes;
      this.#encode(firstGroup + slot, data.subarray(at, at + descriptorBytes));
    }
    return data;
  }

  #encode(group: number, raw: Uint8Array): void {
    const { layout, geometry, inodes, seed } = this.#plan;
    const isWide = raw.length > DESCRIPTOR_BYTES;
    const put32 = (lo: number, hi: number, value: number): void => {
      putLe32(raw, lo, value % WORD);
      if (isWide) putLe32(raw, hi, Math.floor(value / WORD));
    };
    const put16 = (lo: number, hi: number, value: number): void => {
      putLe16(raw, lo, value % HALF);
      if (isWide) putLe16(raw, hi, Math.floor(value / HALF));
    };
    const used = this.usedInodes(group);
    const unused = geometry.inodesPerGroup - used;
    const directories = inodes.filter(
      ({ ino, mode }) =>
        (mode & S_IFMT) === S_IFDIR && Math.floor((ino - 1) / geometry.inodesPerGroup) === group,
    );
    put32(GD.bg_block_bitmap_lo, GD.bg_block_bitmap_hi, layout.blockBitmaps[group]!);
    put32(GD.bg_inode_bitmap_lo, GD.bg_inode_bitmap_hi, layout.inodeBitmaps[group]!);
    put32(GD.bg_inode_table_lo, GD.bg_inode_table_hi, layout.inodeTables[group]!);
    put16(GD.bg_free_blocks_count_lo, GD.bg_free_blocks_count_hi, this.#freeClusters[group]!);
    put16(GD.bg_free_inodes_count_lo, GD.bg_free_inodes_count_hi, unused);
    put16(GD.bg_used_dirs_count_lo, GD.bg_used_dirs_count_hi, directories.length);
    putLe16(raw, GD.bg_flags, this.flags(group));
    if (this.#hasFlags) put16(GD.bg_itable_unused_lo, GD.bg_itable_unused_hi, unused);
    if (seed !== undefined) {
      put16(GD.bg_block_bitmap_csum_lo, GD.bg_block_bitmap_csum_hi, this.#bitmapSums[group]!);
      const sum =
        used === 0 ? 0 : bitmapChecksum(seed, this.#inodeBits(used), geometry.inodesPerGroup);
      put16(GD.bg_inode_bitmap_csum_lo, GD.bg_inode_bitmap_csum_hi, sum);
      putLe16(raw, GD.bg_checksum, descriptorChecksum(seed, group, raw));
    } else if (this.#hasFlags) {
      putLe16(raw, GD.bg_checksum, descriptorCrc16(this.#plan.identity.uuid, group, raw));
    }
  }
}
