/**
 * Inode 7, which keeps the blocks behind each copy of the descriptors for the day when the file
 * system grows: a file of which only one double indirect block exists.
 *
 *     double indirect  [(D + k) % p] -> reserved block k behind the primary descriptors
 *     that block       [j]           -> reserved block k of the j-th group with a copy
 */
import { putLe32 } from "../../../lib/bytes.ts";
import { DIRECT_BLOCKS, I_BLOCK_BYTES } from "../layout.ts";
import { type NewBlock, type NewInode, takeBlocks } from "./new-files.ts";
import type { Layout } from "./tables.ts";

export const RESIZE_INO = 7;
const POINTER_BYTES = 4;
const MODE_PRIVATE = 0o100600;

/** Inode 7 and what belongs to it. */
export interface ResizeFile {
  readonly inode: NewInode;
  readonly doubleIndirect: NewBlock;
  /** Reserved blocks behind the primary descriptors, `s_reserved_gdt_blocks`. */
  readonly primaryFirst: number;
  /** The groups with copies, without group 0. */
  readonly copyGroups: readonly number[];
}

/** Groups above 0 with a copy of the superblock, ascending. */
export function copyGroupsOf(layout: Layout): number[] {
  const groups: number[] = [];
  for (let group = 1; group < layout.groupCount; group++) {
    if (layout.hasSuperblock(group)) groups.push(group);
  }
  return groups;
}

/** Places the double indirect block and makes inode 7. */
export function placeResizeFile(layout: Layout): ResizeFile {
  const { p, geometry } = layout;
  const { reservedGdtBlocks, descriptorBlocks, inodeTableBlocks } = geometry;
  const tables = 2 + inodeTableBlocks;
  const goal = geometry.firstDataBlock + descriptorBlocks + reservedGdtBlocks + tables;
  const blocknr = takeBlocks(layout, goal, 1)[0]!.start;
  const data = new Uint8Array(p.blockBytes);
  const perBlock = p.blockBytes / POINTER_BYTES;
  const { block } = layout.descriptorsIn(0);
  const primaryFirst = block + descriptorBlocks;
  for (let k = 0; k < reservedGdtBlocks; k++) {
    putLe32(data, ((descriptorBlocks + k) % perBlock) * POINTER_BYTES, primaryFirst + k);
  }
  const copyGroups = copyGroupsOf(layout);
  const iBlock = new Uint8Array(I_BLOCK_BYTES);
  putLe32(iBlock, (DIRECT_BLOCKS + 1) * POINTER_BYTES, blocknr);
  const inode: NewInode = {
    ino: RESIZE_INO,
    mode: MODE_PRIVATE,
    uid: 0,
    gid: 0,
    linksCount: 1,
    sizeBytes: (DIRECT_BLOCKS + perBlock + perBlock * perBlock) * p.blockBytes,
    blockCount: p.clusterRatio * (1 + reservedGdtBlocks * (1 + copyGroups.length)),
    flags: 0,
    iBlock,
    hasExtra: true,
  };
  return { inode, doubleIndirect: { blocknr, data }, primaryFirst, copyGroups };
}

/** The reserved blocks behind the primary descriptors, one after the other. */
export function* reservedBlocks(layout: Layout, file: ResizeFile): Generator<NewBlock> {
  const { reservedGdtBlocks, firstDataBlock } = layout.geometry;
  for (let k = 0; k < reservedGdtBlocks; k++) {
    const data = new Uint8Array(layout.p.blockBytes);
    file.copyGroups.forEach((group, index) => {
      // As far from the start of its group as the primary one is, also where that begins with 0.
      const blocknr = layout.firstBlockOf(group) + file.primaryFirst + k - firstDataBlock;
      putLe32(data, index * POINTER_BYTES, blocknr);
    });
    yield { blocknr: file.primaryFirst + k, data };
  }
}
