/**
 * Where the structure of a new file system lies: copies of superblock and descriptors, and the
 * bitmaps and inode table of each group.
 *
 *     group    | super | descriptors | reserved | .. | super | .. |     in some groups
 *     flex_bg  | .. | block bitmaps of 16 groups | inode bitmaps | inode tables |
 *     else     | .. | block bitmap | inode bitmap | inode table |         in each group for itself
 *
 *  1. Copies have their places first; tables go to free blocks, group by group.
 *  2. Per group only three numbers are kept.
 */

import { type Geometry, hasSuperblockIn } from "./geometry.ts";
import { type MkfsParameters, noSpace } from "./options.ts";
import { SpaceMap } from "./space.ts";

/** A part of the tables of a flex group is searched as one piece, up to this part of a group. */
const PIECE_PART_OF_GROUP = 4;

/** See the head of the file. */
export class Layout {
  readonly p: MkfsParameters;
  readonly geometry: Geometry;
  readonly space: SpaceMap;
  readonly blockBitmaps: Float64Array;
  readonly inodeBitmaps: Float64Array;
  readonly inodeTables: Float64Array;

  constructor(p: MkfsParameters, geometry: Geometry) {
    this.p = p;
    this.geometry = geometry;
    this.space = new SpaceMap(geometry.blockCount);
    this.blockBitmaps = new Float64Array(geometry.groupCount);
    this.inodeBitmaps = new Float64Array(geometry.groupCount);
    this.inodeTables = new Float64Array(geometry.groupCount);
  }

  get groupCount(): number {
    return this.geometry.groupCount;
  }

  firstBlockOf(group: number): number {
    return this.geometry.firstDataBlock + group * this.geometry.blocksPerGroup;
  }

  /** The block behind the last one of `group`. */
  endOf(group: number): number {
    return Math.min(this.firstBlockOf(group + 1), this.geometry.blockCount);
  }

  hasSuperblock(group: number): boolean {
    return hasSuperblockIn(group, this.p, this.geometry.backupGroups);
  }

  /**
   * The block of the superblock in `group`. With blocks of 1 KiB in clusters group 0 begins with
   * the boot block.
   */
  superblockBlock(group: number): number {
    const { firstDataBlock } = this.geometry;
    const isShifted = group === 0 && firstDataBlock === 0 && this.p.blockBytes === 1024;
    return isShifted ? 1 : this.firstBlockOf(group);
  }

  /** Where the descriptors in `group` begin, and which: the whole table, one block of it, none. */
  descriptorsIn(group: number): { readonly block: number; readonly from: number; count: number } {
    const { isMetaBg, descriptorsPerBlock, descriptorBlocks } = this.geometry;
    const hasSuper = this.hasSuperblock(group);
    const block = hasSuper ? this.superblockBlock(group) + 1 : this.firstBlockOf(group);
    if (!isMetaBg) return { block, from: 0, count: hasSuper ? descriptorBlocks : 0 };
    const index = group % descriptorsPerBlock;
    const isHolder = index <= 1 || index === descriptorsPerBlock - 1;
    return { block, from: Math.floor(group / descriptorsPerBlock), count: isHolder ? 1 : 0 };
  }

  /** Blocks at the start of `group` with copies and what is kept for them; the boot block too. */
  copiesEnd(group: number): number {
    const { count, block } = this.descriptorsIn(group);
    const hasSuper = this.hasSuperblock(group);
    if (!hasSuper && count === 0) return this.firstBlockOf(group);
    return block + count + (hasSuper ? this.geometry.reservedGdtBlocks : 0);
  }

  /** Takes the places of all copies. */
  placeCopies(): void {
    for (let group = 0; group < this.groupCount; group++) {
      const first = this.firstBlockOf(group);
      const end = this.copiesEnd(group);
      if (end > this.endOf(group)) throw noSpace(`group ${group} has no room for descriptors`);
      this.space.take(first, end - first);
    }
  }

  /** Places the tables of all groups. Throws `ENOSPC` if there is no room. */
  placeTables(): void {
    const place = this.p.logGroupsPerFlex > 0 ? new FlexPlacer(this) : new GroupPlacer(this);
    for (let group = 0; group < this.groupCount; group++) place.group(group);
    if (this.p.clusterRatio > 1) this.space.roundToClusters(this.p.clusterRatio);
  }

  /** Takes `count` free blocks in a row in `from` .. `end - 1`, or else anywhere before `end`. */
  takeRun(from: number, end: number, count: number, what: string): number {
    const { space, geometry } = this;
    let block = space.findFree(from, end, count);
    if (block < 0) block = space.findFree(geometry.firstDataBlock, geometry.blockCount, count);
    if (block < 0) throw noSpace(`there is no room for ${what}`);
    space.take(block, count);
    return block;
  }
}

/** Tables of each group in the group itself. */
class GroupPlacer {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  group(group: number): void {
    const layout = this.#layout;
    const { inodeTableBlocks } = layout.geometry;
    const first = layout.firstBlockOf(group);
    const end = layout.endOf(group);
    const bitmapsFrom = this.#bitmapsFrom(group, first, end);
    layout.blockBitmaps[group] = layout.takeRun(bitmapsFrom, end, 1, "block bitmaps");
    layout.inodeBitmaps[group] = layout.takeRun(bitmapsFrom, end, 1, "inode bitmaps");
    layout.inodeTables[group] = layout.takeRun(first, end, inodeTableBlocks, "inode tables");
  }

  /** With a stride, bitmaps of successive groups are to lie on different disks. */
  #bitmapsFrom(group: number, first: number, end: number): number {
    const { p, space, geometry } = this.#layout;
    if (p.strideBlocks === 0) return first;
    const start = space.findFree(first, end, 1) + geometry.inodeTableBlocks;
    const shifted = start + ((p.strideBlocks * group) % (end - start));
    return shifted >= end - 1 ? first : shifted;
  }
}

/** Tables of the groups of a flex group side by side. */
class FlexPlacer {
  readonly #layout: Layout;
  readonly #flexGroups: number;

  constructor(layout: Layout) {
    this.#layout = layout;
    this.#flexGroups = 2 ** layout.p.logGroupsPerFlex;
  }

  group(group: number): void {
    const layout = this.#layout;
    const { blockBitmaps, inodeBitmaps, inodeTables, groupCount } = layout;
    const { inodeTableBlocks } = layout.geometry;
    const firstGroup = group - (group % this.#flexGroups);
    const flex = {
      start: layout.firstBlockOf(firstGroup),
      end: layout.endOf(Math.min(firstGroup + this.#flexGroups, groupCount) - 1),
      groupsLeft: Math.min(firstGroup + this.#flexGroups, groupCount) - group,
    };
    const isFirst = group === firstGroup;
    // A last flex group of several groups is laid out for these; one group alone, for all.
    const apart = isFirst && flex.groupsLeft > 1 ? flex.groupsLeft : this.#flexGroups;
    const after = (table: Float64Array, blocks: number): number => table[group - 1]! + blocks;
    blockBitmaps[group] = this.#take(flex, isFirst ? -1 : after(blockBitmaps, 1), 1);
    const inodesAt = isFirst ? blockBitmaps[group]! + apart : after(inodeBitmaps, 1);
    inodeBitmaps[group] = this.#take(flex, inodesAt, 1);
    const tableAt = isFirst ? inodeBitmaps[group]! + apart : after(inodeTables, inodeTableBlocks);
    inodeTables[group] = this.#take(flex, tableAt, inodeTableBlocks);
  }

  /**
   * Takes `blocks` for one group: at `wanted` if they are free there, else at the first place of
   * the flex group that has room for all groups left, else where this one fits.
   */
  #take(
    flex: { readonly start: number; readonly end: number; readonly groupsLeft: number },
    wanted: number,
    blocks: number,
  ): number {
    const layout = this.#layout;
    const { space, geometry } = layout;
    const most = Math.floor(geometry.blocksPerGroup / PIECE_PART_OF_GROUP);
    const piece = Math.min(flex.groupsLeft * blocks, most);
    let from = wanted;
    if (wanted < 0 || !space.isFree(wanted, blocks)) {
      from = space.findFree(flex.start, flex.end, piece);
      if (from < 0) from = flex.start;
    }
    return layout.takeRun(from, flex.end, blocks, "bitmaps and inode tables");
  }
}
