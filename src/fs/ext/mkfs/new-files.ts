/**
 * The files that a new file system is born with: which blocks they take, and their inodes.
 *
 *     2 root   11 lost+found   7 blocks kept for descriptors   8 journal   12 orphan file
 *
 * Each is placed into the first free clusters from some block on; an extent tree or a map of
 * pointers leads to them. Blocks are placed in the order in which mke2fs does, so that they end at
 * the same places.
 */
import { putLe16, putLe32 } from "../../../lib/bytes.ts";
import { SECTOR_BYTES } from "../../../lib/units.ts";
import { extentChecksum, inodeSeed } from "../checksum.ts";
import { INCOMPAT_EXTENTS } from "../features.ts";
import {
  DIRECT_BLOCKS,
  EE,
  EH,
  EI,
  EXTENT_ENTRY_BYTES,
  EXTENT_MAGIC,
  EXTENT_WRITTEN_MAX,
  EXTENTS_FL,
  GOOD_OLD_INODE_BYTES,
  I_BLOCK_BYTES,
  INODE,
} from "../layout.ts";
import { XATTR_MAGIC } from "../xattr-area.ts";
import { noSpace } from "./options.ts";
import type { SpaceRun } from "./space.ts";
import type { Layout } from "./tables.ts";

/** A block of metadata that is to be written. */
export interface NewBlock {
  readonly blocknr: number;
  readonly data: Uint8Array;
}

/** The checksum seed of the volume, undefined where there are no checksums of metadata. */
export type Seed = number | undefined;

const POINTER_BYTES = 4;
const ROOT_EXTENTS = I_BLOCK_BYTES / EXTENT_ENTRY_BYTES - 1;
const EXTRA_ISIZE = 32;

/** Where the blocks of a file lie, and what leads to them. */
export interface FileMap {
  readonly runs: readonly SpaceRun[];
  /** The 60 bytes of `i_block`. */
  readonly iBlock: Uint8Array;
  readonly flags: number;
  /** All blocks that count for `i_blocks`: whole clusters, and those of the map. */
  readonly blockCount: number;
  /** Blocks of the map. */
  readonly mapBlocks: readonly NewBlock[];
}

/** An inode of the new file system. */
export interface NewInode {
  readonly ino: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linksCount: number;
  readonly sizeBytes: number;
  readonly blockCount: number;
  readonly flags: number;
  readonly iBlock: Uint8Array;
  /** False for inode 1, which has no fields behind byte 128. */
  readonly hasExtra: boolean;
  /** It has an area of extended attributes without entries, left from when it was inline. */
  readonly hasXattrArea?: boolean;
}

/** Takes blocks in whole clusters, run by run, in the first free ones from some block on. */
class RunTaker {
  readonly #layout: Layout;
  readonly runs: SpaceRun[] = [];
  left: number;
  #from: number;
  #hasWrapped = false;

  constructor(layout: Layout, goal: number, count: number) {
    this.#layout = layout;
    this.#from = goal;
    this.left = count;
  }

  /** Takes the next run. Throws `ENOSPC` if there is none. */
  next(): SpaceRun {
    const { space, geometry, p } = this.#layout;
    const ratio = p.clusterRatio;
    const found = space.nextFreeRun(this.#from, Math.ceil(this.left / ratio) * ratio);
    if (found === undefined) {
      if (this.#hasWrapped) throw noSpace("there is no room for the first files");
      this.#hasWrapped = true;
      this.#from = geometry.firstDataBlock;
      return this.next();
    }
    space.take(found.start, found.end - found.start);
    const run = { start: found.start, end: Math.min(found.end, found.start + this.left) };
    this.runs.push(run);
    this.left -= run.end - run.start;
    this.#from = run.end;
    return run;
  }
}

/** Takes `count` blocks, in whole clusters, in the first free runs from `goal` on, and wraps. */
export function takeBlocks(layout: Layout, goal: number, count: number): SpaceRun[] {
  const taker = new RunTaker(layout, goal, count);
  while (taker.left > 0) taker.next();
  return taker.runs;
}

function usedClusters(layout: Layout, runs: readonly SpaceRun[]): number {
  const ratio = layout.p.clusterRatio;
  return runs.reduce((sum, run) => sum + Math.ceil((run.end - run.start) / ratio) * ratio, 0);
}

function putHeader(node: Uint8Array, entries: number, max: number, depth: number): void {
  putLe16(node, EH.eh_magic, EXTENT_MAGIC);
  putLe16(node, EH.eh_entries, entries);
  putLe16(node, EH.eh_max, max);
  putLe16(node, EH.eh_depth, depth);
}

interface NewExtent {
  readonly fileBlock: number;
  readonly start: number;
  readonly count: number;
}

/** Adds the extents for `run`, which goes on where `extents` end. */
function addExtents(extents: NewExtent[], run: SpaceRun): void {
  const last = extents.at(-1);
  let fileBlock = last === undefined ? 0 : last.fileBlock + last.count;
  for (let start = run.start; start < run.end; start += EXTENT_WRITTEN_MAX) {
    const count = Math.min(EXTENT_WRITTEN_MAX, run.end - start);
    extents.push({ fileBlock, start, count });
    fileBlock += count;
  }
}

function putExtents(node: Uint8Array, extents: readonly NewExtent[], max: number): void {
  putHeader(node, extents.length, max, 0);
  extents.forEach(({ fileBlock, start, count }, index) => {
    const at = EXTENT_ENTRY_BYTES * (index + 1);
    putLe32(node, at + EE.ee_block, fileBlock);
    putLe16(node, at + EE.ee_len, count);
    putLe16(node, at + EE.ee_start_hi, Math.floor(start / 0x1_0000_0000));
    putLe32(node, at + EE.ee_start_lo, start % 0x1_0000_0000);
  });
}

/**
 * Takes `count` blocks and makes the tree that leads to them: in the inode, or in one level of
 * leaves. The first leaf gets its place as soon as the inode is full, near the start of the file.
 */
function extentMap(layout: Layout, ino: number, goal: number, count: number, seed: Seed): FileMap {
  const taker = new RunTaker(layout, goal, count);
  const extents: NewExtent[] = [];
  const leaves: number[] = [];
  const max = Math.floor((layout.p.blockBytes - EXTENT_ENTRY_BYTES) / EXTENT_ENTRY_BYTES);
  while (taker.left > 0) {
    addExtents(extents, taker.next());
    while (extents.length > Math.max(ROOT_EXTENTS, leaves.length * max)) {
      leaves.push(takeBlocks(layout, taker.runs[0]!.start - 1, 1)[0]!.start);
    }
  }
  if (leaves.length > ROOT_EXTENTS) throw noSpace(`file ${ino} would be in too many pieces`);
  const iBlock = new Uint8Array(I_BLOCK_BYTES);
  putExtents(iBlock, extents.slice(0, ROOT_EXTENTS), ROOT_EXTENTS);
  if (leaves.length > 0) putHeader(iBlock, leaves.length, ROOT_EXTENTS, 1);
  const mapBlocks = leaves.map((blocknr, index) => {
    const part = extents.slice(index * max, (index + 1) * max);
    const at = EXTENT_ENTRY_BYTES * (index + 1);
    // What extents leave behind in the other slots stays, as mke2fs has it.
    iBlock.fill(0, at, at + EXTENT_ENTRY_BYTES);
    putLe32(iBlock, at + EI.ei_block, part[0]!.fileBlock);
    putLe32(iBlock, at + EI.ei_leaf_lo, blocknr % 0x1_0000_0000);
    putLe16(iBlock, at + EI.ei_leaf_hi, Math.floor(blocknr / 0x1_0000_0000));
    return { blocknr, data: extentLeaf(layout.p.blockBytes, ino, part, max, seed) };
  });
  const blockCount = usedClusters(layout, taker.runs) + leaves.length * layout.p.clusterRatio;
  return { runs: taker.runs, iBlock, flags: EXTENTS_FL, blockCount, mapBlocks };
}

function extentLeaf(
  blockBytes: number,
  ino: number,
  extents: readonly NewExtent[],
  max: number,
  seed: Seed,
): Uint8Array {
  const data = new Uint8Array(blockBytes);
  putExtents(data, extents, max);
  const tailAt = EXTENT_ENTRY_BYTES * (max + 1);
  if (seed !== undefined) {
    putLe32(data, tailAt, extentChecksum(inodeSeed(seed, ino, 0), data, tailAt));
  }
  return data;
}

/** Builds a map of pointers while it takes the blocks, each pointer block before what it maps. */
class PointerMapBuilder {
  readonly #layout: Layout;
  readonly #goal: number;
  readonly runs: SpaceRun[] = [];
  readonly mapBlocks: NewBlock[] = [];
  #next: number;
  #left: number;

  constructor(layout: Layout, goal: number, count: number) {
    this.#layout = layout;
    this.#goal = goal;
    this.#next = goal;
    this.#left = count;
  }

  build(): FileMap {
    const iBlock = new Uint8Array(I_BLOCK_BYTES);
    this.#fill(iBlock, 0, DIRECT_BLOCKS, 0);
    for (let level = 1; this.#left > 0; level++) {
      this.#fill(iBlock, DIRECT_BLOCKS + level - 1, DIRECT_BLOCKS + level, level);
    }
    const dataBlocks = this.runs.reduce((sum, run) => sum + run.end - run.start, 0);
    const blockCount = dataBlocks + this.mapBlocks.length;
    return { runs: this.runs, iBlock, flags: 0, blockCount, mapBlocks: this.mapBlocks };
  }

  /** Fills the pointers `slot` .. `slotEnd - 1` of `array`, below which are `level` levels. */
  #fill(array: Uint8Array, slot: number, slotEnd: number, level: number): void {
    const { blockBytes } = this.#layout.p;
    for (let at = slot; at < slotEnd && this.#left > 0; at++) {
      const blocknr = this.#take();
      putLe32(array, at * POINTER_BYTES, blocknr);
      if (level === 0) {
        this.#addData(blocknr);
        continue;
      }
      const data = new Uint8Array(blockBytes);
      this.mapBlocks.push({ blocknr, data });
      this.#fill(data, 0, blockBytes / POINTER_BYTES, level - 1);
    }
  }

  #take(): number {
    const { space, geometry } = this.#layout;
    let blocknr = space.findFree(this.#next, geometry.blockCount, 1);
    if (blocknr < 0) blocknr = space.findFree(geometry.firstDataBlock, this.#goal, 1);
    if (blocknr < 0) throw noSpace("there is no room for the journal");
    space.take(blocknr, 1);
    this.#next = blocknr + 1;
    return blocknr;
  }

  #addData(blocknr: number): void {
    this.#left--;
    const last = this.runs.at(-1);
    if (last?.end === blocknr) {
      this.runs[this.runs.length - 1] = { start: last.start, end: blocknr + 1 };
    } else this.runs.push({ start: blocknr, end: blocknr + 1 });
  }
}

/** Takes `count` blocks from `goal` on for file `ino`, and makes the map that leads to them. */
export function placeFile(
  layout: Layout,
  ino: number,
  goal: number,
  count: number,
  seed: Seed,
): FileMap {
  if ((layout.p.features.incompat & INCOMPAT_EXTENTS) === 0) {
    return new PointerMapBuilder(layout, goal, count).build();
  }
  return extentMap(layout, ino, goal, count, seed);
}

/** Encodes `inode` without its checksum, `s_inode_size` bytes; all its times are `nowSec`. */
export function encodeInode(
  inode: NewInode,
  blockBytes: number,
  inodeBytes: number,
  nowSec: number,
): Uint8Array {
  const raw = new Uint8Array(inodeBytes);
  putLe16(raw, INODE.i_mode, inode.mode);
  putLe16(raw, INODE.i_uid, inode.uid);
  putLe16(raw, INODE.i_uid_high, Math.floor(inode.uid / 0x1_0000));
  putLe16(raw, INODE.i_gid, inode.gid);
  putLe16(raw, INODE.i_gid_high, Math.floor(inode.gid / 0x1_0000));
  putLe32(raw, INODE.i_size_lo, inode.sizeBytes % 0x1_0000_0000);
  putLe32(raw, INODE.i_size_high, Math.floor(inode.sizeBytes / 0x1_0000_0000));
  for (const at of [INODE.i_atime, INODE.i_ctime, INODE.i_mtime]) putLe32(raw, at, nowSec);
  putLe16(raw, INODE.i_links_count, inode.linksCount);
  putLe32(raw, INODE.i_blocks_lo, inode.blockCount * (blockBytes / SECTOR_BYTES));
  putLe32(raw, INODE.i_flags, inode.flags);
  raw.set(inode.iBlock, INODE.i_block);
  if (inodeBytes > GOOD_OLD_INODE_BYTES && inode.hasExtra) {
    const extra = Math.floor((nowSec + 0x8000_0000) / 0x1_0000_0000);
    putLe16(raw, INODE.i_extra_isize, EXTRA_ISIZE);
    putLe32(raw, INODE.i_crtime, nowSec);
    for (const at of [INODE.i_ctime_extra, INODE.i_mtime_extra]) putLe32(raw, at, extra);
    for (const at of [INODE.i_atime_extra, INODE.i_crtime_extra]) putLe32(raw, at, extra);
    if (inode.hasXattrArea === true) putLe32(raw, GOOD_OLD_INODE_BYTES + EXTRA_ISIZE, XATTR_MAGIC);
  }
  return raw;
}
