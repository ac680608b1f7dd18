/**
 * The arithmetic of a new file system: how many groups, inodes in each, and blocks for descriptors
 * there are, before anything has a place.
 *
 *     blocks --> groups --> inodes of a group --> too many for a bitmap?     smaller groups, again
 *                       --> the last group has no room for its own tables?   leave it away, again
 */
import { assert } from "../../../lib/assert.ts";
import { roundDown } from "../../../lib/units.ts";
import {
  COMPAT_RESIZE_INODE,
  COMPAT_SPARSE_SUPER2,
  INCOMPAT_64BIT,
  INCOMPAT_META_BG,
  RO_COMPAT_SPARSE_SUPER,
} from "../features.ts";
import { DESCRIPTOR_BYTES, DESCRIPTOR_BYTES_64BIT, GOOD_OLD_FIRST_INO } from "../layout.ts";
import { invalid, type MkfsParameters, noSpace } from "./options.ts";

/** Groups to leave room for when the file system grows: this many times the blocks. */
const GROWTH = 1024;
const GROWTH_BLOCKS_MAX = 0xffff_ffff;
/** A last group with fewer blocks than this beyond its own tables is not worth having. */
const LAST_GROUP_SPARE_BLOCKS = 50;
/** Inodes of a group, since they are counted in 16 bits. */
const GROUP_INODES_MAX = 65_536;
const INODES_MAX = 0xffff_ffff;
const POINTER_BYTES = 4;

/** See the head of the file. */
export interface Geometry {
  readonly blockCount: number;
  readonly reservedBlockCount: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly groupCount: number;
  readonly inodesPerGroup: number;
  readonly inodeTableBlocks: number;
  readonly descriptorBytes: number;
  readonly descriptorsPerBlock: number;
  readonly descriptorBlocks: number;
  /** Blocks kept behind each copy of the descriptors: `s_reserved_gdt_blocks`. */
  readonly reservedGdtBlocks: number;
  /** Each descriptor block lies with the groups that it describes. */
  readonly isMetaBg: boolean;
  /** With `sparse_super2`: the groups that have copies, 0 for none. */
  readonly backupGroups: readonly [number, number];
}

type Sizes = Pick<
  Geometry,
  "blockCount" | "blocksPerGroup" | "groupCount" | "descriptorsPerBlock" | "descriptorBlocks"
>;

/** True if `value` is a power of `base`, from the first on. */
function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

/** True if `group` gets a copy of the superblock (`ext4_bg_has_super`). */
export function hasSuperblockIn(
  group: number,
  p: Pick<MkfsParameters, "features">,
  backupGroups: readonly number[],
): boolean {
  if (group === 0) return true;
  if ((p.features.compat & COMPAT_SPARSE_SUPER2) !== 0) return backupGroups.includes(group);
  if ((p.features.roCompat & RO_COMPAT_SPARSE_SUPER) === 0) return true;
  return group === 1 || isPowerOf(group, 3) || isPowerOf(group, 5) || isPowerOf(group, 7);
}

function backupGroupsOf(p: MkfsParameters, groupCount: number): readonly [number, number] {
  if ((p.features.compat & COMPAT_SPARSE_SUPER2) === 0 || groupCount === 1) return [0, 0];
  return groupCount === 2 ? [0, 1] : [1, groupCount - 1];
}

/** Descriptor blocks to keep for growth. */
function reservedGdtOf(p: MkfsParameters, sizes: Sizes, firstDataBlock: number): number {
  if ((p.features.compat & COMPAT_RESIZE_INODE) === 0) return 0;
  const limitBlocks = Math.min(sizes.blockCount * GROWTH, GROWTH_BLOCKS_MAX);
  const limitGroups = Math.ceil((limitBlocks - firstDataBlock) / sizes.blocksPerGroup);
  const wanted = Math.ceil(limitGroups / sizes.descriptorsPerBlock) - sizes.descriptorBlocks;
  return Math.max(0, Math.min(wanted, p.blockBytes / POINTER_BYTES));
}

/** Inodes of a group, filling the blocks of its table. `NaN` if no bitmap can describe them. */
function inodesPerGroupOf(p: MkfsParameters, groupCount: number): number {
  const perBlock = p.blockBytes / p.inodeBytes;
  const wanted = Math.max(p.wantedInodes, GOOD_OLD_FIRST_INO + 1);
  let least = Math.ceil(wanted / groupCount);
  if (least > 8 * p.blockBytes) return Number.NaN;
  least = Math.min(least, GROUP_INODES_MAX - perBlock);
  for (;;) {
    const tableBlocks = Math.ceil((least * p.inodeBytes) / p.blockBytes);
    const inodes = Math.max(8, roundDown(tableBlocks * perBlock, 8));
    if (inodes * groupCount > GOOD_OLD_FIRST_INO) return inodes;
    least = inodes + 8;
  }
}

/** Tries with a number of blocks; an instruction to go on, or the result. */
class Attempt {
  blockCount: number;
  reservedBlockCount: number;
  blocksPerGroup: number;

  constructor(p: MkfsParameters) {
    this.blockCount = p.blockCount;
    this.blocksPerGroup = p.blocksPerGroup;
    this.reservedBlockCount = p.reservedBlockCount;
  }
}

/** What does not depend on the number of groups. */
function descriptorBytesOf(p: MkfsParameters): number {
  return (p.features.incompat & INCOMPAT_64BIT) !== 0 ? DESCRIPTOR_BYTES_64BIT : DESCRIPTOR_BYTES;
}

/**
 * The geometry for `p`.
 *
 * @throws {FsError} `ENOSPC` if the device is too small for one group, `EINVAL` for more inodes
 *   than can be had
 */
export function geometryFor(p: MkfsParameters): Geometry {
  const firstDataBlock = p.blockBytes === 1024 && p.clusterRatio === 1 ? 1 : 0;
  const reservedRatio = p.reservedBlockCount / p.blockCount;
  const attempt = new Attempt(p);
  for (;;) {
    const { blockCount, blocksPerGroup } = attempt;
    const groupCount = Math.ceil((blockCount - firstDataBlock) / blocksPerGroup);
    if (!(groupCount >= 1)) throw noSpace("there is no room for one group of blocks");
    const inodesPerGroup = inodesPerGroupOf(p, groupCount);
    if (Number.isNaN(inodesPerGroup)) {
      if (p.clusterRatio > 1) throw invalid("too many inodes for the number of groups");
      attempt.blocksPerGroup -= 8;
      attempt.blockCount = p.blockCount;
      if (attempt.blocksPerGroup < 8) throw invalid("too many inodes for so few blocks");
      continue;
    }
    const geometry = complete(p, attempt, groupCount, inodesPerGroup, firstDataBlock);
    if (geometry.inodesPerGroup * groupCount > INODES_MAX) {
      throw invalid(`${geometry.inodesPerGroup * groupCount} inodes are too many`);
    }
    const rest = (blockCount - firstDataBlock) % blocksPerGroup;
    const ownBlocks = ownBlocksOf(p, geometry, groupCount - 1);
    if (rest === 0 || rest >= ownBlocks + LAST_GROUP_SPARE_BLOCKS) return geometry;
    if (groupCount === 1) {
      throw noSpace(`${blockCount} blocks are too few, of which the tables take ${ownBlocks}`);
    }
    attempt.blockCount -= rest;
    attempt.reservedBlockCount = Math.trunc(reservedRatio * attempt.blockCount);
  }
}

function complete(
  p: MkfsParameters,
  attempt: Attempt,
  groupCount: number,
  inodesPerGroup: number,
  firstDataBlock: number,
): Geometry {
  const { blockCount, blocksPerGroup, reservedBlockCount } = attempt;
  const descriptorBytes = descriptorBytesOf(p);
  const descriptorsPerBlock = p.blockBytes / descriptorBytes;
  const descriptorBlocks = Math.ceil(groupCount / descriptorsPerBlock);
  const sizes = { blockCount, blocksPerGroup, groupCount, descriptorsPerBlock, descriptorBlocks };
  let reservedGdtBlocks = reservedGdtOf(p, sizes, firstDataBlock);
  let isMetaBg = (p.features.incompat & INCOMPAT_META_BG) !== 0;
  if (!isMetaBg && reservedGdtBlocks + descriptorBlocks > (blocksPerGroup * 3) / 4) {
    isMetaBg = true;
    reservedGdtBlocks = 0;
  }
  const inodeTableBlocks = Math.ceil((inodesPerGroup * p.inodeBytes) / p.blockBytes);
  assert(inodesPerGroup % 8 === 0, "bitmaps of inodes are whole bytes");
  return {
    ...sizes,
    reservedBlockCount,
    firstDataBlock,
    inodesPerGroup,
    inodeTableBlocks,
    descriptorBytes,
    reservedGdtBlocks,
    isMetaBg,
    backupGroups: backupGroupsOf(p, groupCount),
  };
}

/** Blocks that the structure of `group` takes, wherever they lie. */
function ownBlocksOf(p: MkfsParameters, geometry: Geometry, group: number): number {
  const tables = 2 + geometry.inodeTableBlocks;
  if (!hasSuperblockIn(group, p, geometry.backupGroups)) return tables;
  return tables + 1 + geometry.descriptorBlocks + geometry.reservedGdtBlocks;
}
