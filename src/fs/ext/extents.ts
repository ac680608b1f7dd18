/**
 * Extent trees: from a block of the file to a run on the device, through nodes that are sorted.
 *
 *     i_block   [header | index 0 | index 1 ..]           root, depth 2: at most 4 entries
 *                          |         |
 *     block          [header | index ..]                  depth 1
 *                               |
 *     block               [header | extent | extent ..]   depth 0, a leaf
 *
 * What holds for a tree that is walked, each broken one being `EUCLEAN` with block and field:
 *
 *  1. The depth of a node is that of its parent less one, the root's at most 5: a walk ends.
 *  2. Entries are sorted and do not overlap; those of a child lie between its index entry and the
 *     next.
 *  3. An extent is not empty and lies inside the file system, as does the block of every entry.
 *  4. With `metadata_csum` the word behind the last slot is the checksum of the block (else
 *     `EBADMSG`).
 *
 * After `fs/ext4/extents.c` (`ext4_find_extent`, `__ext4_ext_check`). Left out: the extent status
 * tree; a walk over cached blocks is a few binary searches.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { extentChecksum } from "./checksum.ts";
import type { ExtContext, MappedRun } from "./context.ts";
import { whyNotOfFile } from "./fixed-blocks.ts";
import type { ExtInode } from "./inode.ts";
import {
  EE,
  EH,
  EI,
  EXTENT_DEPTH_MAX,
  EXTENT_ENTRY_BYTES,
  EXTENT_MAGIC,
  EXTENT_WRITTEN_MAX,
} from "./layout.ts";

/** File blocks are 32-bit numbers: the first that no extent can name. */
export const FILE_BLOCKS_END = 0x1_0000_0000;

function damaged(ino: number, where: string, what: string): FsError {
  return new FsError("EUCLEAN", { detail: `inode ${ino}: extent ${where}: ${what}` });
}

/** Offset of entry `index` in a node. */
export function entryAt(index: number): number {
  return EXTENT_ENTRY_BYTES * (index + 1);
}

/** Entries of a node that are in use. */
export function entryCount(node: Uint8Array): number {
  return le16(node, EH.eh_entries);
}

/** First file block of entry `index`; the field is the same in index entries and extents. */
export function keyOf(node: Uint8Array, index: number): number {
  return le32(node, entryAt(index) + EE.ee_block);
}

/** Block of the node below index entry `index`. */
export function childOf(node: Uint8Array, index: number): number {
  const at = entryAt(index);
  return le16(node, at + EI.ei_leaf_hi) * 0x1_0000_0000 + le32(node, at + EI.ei_leaf_lo);
}

/** First block on the device of the extent at offset `at`. */
export function extentStart(node: Uint8Array, at: number): number {
  return le16(node, at + EE.ee_start_hi) * 0x1_0000_0000 + le32(node, at + EE.ee_start_lo);
}

/** Blocks of an extent, by the length that is stored. */
export function extentLength(stored: number): number {
  return stored <= EXTENT_WRITTEN_MAX ? stored : stored - EXTENT_WRITTEN_MAX;
}

/** What a check of a node needs to know beside its bytes. */
interface NodeOwner {
  readonly ctx: ExtContext;
  readonly ino: number;
  readonly checksumSeed: number;
}

function checkHeader(node: Uint8Array, owner: NodeOwner, where: string, maxEntries: number): void {
  const magic = le16(node, EH.eh_magic);
  if (magic !== EXTENT_MAGIC) {
    throw damaged(owner.ino, where, `eh_magic is ${magic.toString(16)}`);
  }
  const max = le16(node, EH.eh_max);
  if (max === 0 || max > maxEntries) throw damaged(owner.ino, where, `eh_max is ${max}`);
  const entries = entryCount(node);
  if (entries > max) throw damaged(owner.ino, where, `eh_entries is ${entries} of ${max}`);
  const depth = le16(node, EH.eh_depth);
  if (depth > EXTENT_DEPTH_MAX) throw damaged(owner.ino, where, `eh_depth is ${depth}`);
  if (depth > 0 && entries === 0)
    throw damaged(owner.ino, where, "eh_entries is 0 in an index node");
}

function checkExtents(node: Uint8Array, owner: NodeOwner, where: string): void {
  let end = 0;
  for (let index = 0; index < entryCount(node); index++) {
    const at = entryAt(index);
    const key = keyOf(node, index);
    const length = extentLength(le16(node, at + EE.ee_len));
    const start = extentStart(node, at);
    if (length === 0) throw damaged(owner.ino, where, `ee_len of entry ${index} is 0`);
    if (key < end || key + length > FILE_BLOCKS_END) {
      throw damaged(owner.ino, where, `ee_block of entry ${index} is ${key}, out of order`);
    }
    const why = whyNotOfFile(owner.ctx, owner.ino, start, length);
    if (why !== undefined) {
      const run = `blocks ${start}..${start + length - 1}`;
      throw damaged(owner.ino, where, `ee_start of entry ${index}: ${run} are ${why}`);
    }
    end = key + length;
  }
}

function checkIndexes(node: Uint8Array, owner: NodeOwner, where: string): void {
  for (let index = 0; index < entryCount(node); index++) {
    const key = keyOf(node, index);
    if (index > 0 && key <= keyOf(node, index - 1)) {
      throw damaged(owner.ino, where, `ei_block of entry ${index} is ${key}, out of order`);
    }
    const child = childOf(node, index);
    const why = whyNotOfFile(owner.ctx, owner.ino, child, 1);
    if (why !== undefined) {
      throw damaged(owner.ino, where, `ei_leaf of entry ${index} is block ${child}, ${why}`);
    }
  }
}

function checkNode(node: Uint8Array, owner: NodeOwner, where: string, maxEntries: number): void {
  checkHeader(node, owner, where, maxEntries);
  if (le16(node, EH.eh_depth) === 0) checkExtents(node, owner, where);
  else checkIndexes(node, owner, where);
}

/** Verifies a node that lies in a block: its checksum, then its structure. */
function verifyBlock(node: Uint8Array, blocknr: number, owner: NodeOwner): void {
  const where = `block ${blocknr}`;
  const maxEntries = Math.floor((node.length - EXTENT_ENTRY_BYTES) / EXTENT_ENTRY_BYTES);
  checkHeader(node, owner, where, maxEntries);
  const tailAt = entryAt(le16(node, EH.eh_max));
  if (owner.ctx.hasMetadataCsum) {
    if (extentChecksum(owner.checksumSeed, node, tailAt) !== le32(node, tailAt)) {
      throw new FsError("EBADMSG", {
        detail: `inode ${owner.ino}: extent ${where}: et_checksum does not match`,
      });
    }
  }
  checkNode(node, owner, where, maxEntries);
}

/** Index of the last entry whose key is at most `fileBlock`, or -1. */
export function search(node: Uint8Array, fileBlock: number): number {
  let low = 0;
  let high = entryCount(node);
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keyOf(node, middle) <= fileBlock) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function hole(fileBlock: number, end: number, maxCount: number): MappedRun {
  const count = Math.min(end - fileBlock, maxCount);
  return { physical: 0, count, isUnwritten: false, isBoundary: false };
}

/** A node on the way from the root of an extent tree to a leaf. */
export interface ExtentLevel {
  /** The block that holds the node, 0 for the root. */
  readonly blocknr: number;
  /** Its bytes, borrowed. */
  node: Uint8Array;
  /** The entry taken to go on; in a leaf that at or before the block searched for, or -1. */
  index: number;
}

/**
 * The way from the root to the leaf that holds, or would hold, `fileBlock` (`ext4_find_extent`).
 * Restartable; throws as `mapExtents`.
 */
export function extentPath(ctx: ExtContext, inode: ExtInode, fileBlock: number): ExtentLevel[] {
  const owner: NodeOwner = { ctx, ino: inode.ino, checksumSeed: inode.checksumSeed };
  let node = inode.iBlock;
  checkNode(node, owner, "root", Math.floor(node.length / EXTENT_ENTRY_BYTES) - 1);
  const path: ExtentLevel[] = [{ blocknr: 0, node, index: search(node, fileBlock) }];
  let end = FILE_BLOCKS_END;
  for (let depth = le16(node, EH.eh_depth); depth > 0; depth--) {
    const level = path[path.length - 1]!;
    level.index = Math.max(0, level.index); // In front of all keys: into the first child.
    const { index } = level;
    if (index + 1 < entryCount(node)) end = Math.min(end, keyOf(node, index + 1));
    const blocknr = childOf(node, index);
    const first = keyOf(node, index);
    node = ctx.metadata.verified(blocknr, verifyBlock, owner);
    checkChild(node, blocknr, depth - 1, { first, end }, inode.ino);
    path.push({ blocknr, node, index: search(node, fileBlock) });
  }
  return path;
}

/** The run at `fileBlock` in a leaf; `end` is where the leaf's part of the file ends. */
function runInLeaf(leaf: Uint8Array, fileBlock: number, end: number, maxCount: number): MappedRun {
  const index = search(leaf, fileBlock);
  if (index >= 0) {
    const at = entryAt(index);
    const stored = le16(leaf, at + EE.ee_len);
    const offset = fileBlock - keyOf(leaf, index);
    const length = extentLength(stored);
    if (offset < length) {
      return {
        physical: extentStart(leaf, at) + offset,
        count: Math.min(length - offset, maxCount),
        isUnwritten: stored > EXTENT_WRITTEN_MAX,
        isBoundary: false,
      };
    }
  }
  const next = index + 1 < entryCount(leaf) ? keyOf(leaf, index + 1) : end;
  return hole(fileBlock, next, maxCount);
}

/**
 * Where the file blocks from `fileBlock` on lie, at most `maxCount` (`ext4_ext_map_blocks`). A
 * hole ends at the next extent, or at the border of the part of the tree that was looked at.
 * Restartable.
 *
 * @throws {FsError} `EUCLEAN`, `EBADMSG`: see the head of the file
 */
export function mapExtents(
  ctx: ExtContext,
  inode: ExtInode,
  fileBlock: number,
  maxCount: number,
): MappedRun {
  if (fileBlock >= FILE_BLOCKS_END) return hole(fileBlock, fileBlock + maxCount, maxCount);
  const owner: NodeOwner = { ctx, ino: inode.ino, checksumSeed: inode.checksumSeed };
  let node = inode.iBlock;
  checkNode(node, owner, "root", Math.floor(node.length / EXTENT_ENTRY_BYTES) - 1);
  let end = FILE_BLOCKS_END;
  for (let depth = le16(node, EH.eh_depth); depth > 0; depth--) {
    const index = search(node, fileBlock);
    if (index + 1 < entryCount(node)) end = Math.min(end, keyOf(node, index + 1));
    if (index < 0) return hole(fileBlock, end, maxCount);
    const blocknr = childOf(node, index);
    const key = keyOf(node, index);
    node = ctx.metadata.verified(blocknr, verifyBlock, owner);
    checkChild(node, blocknr, depth - 1, { first: key, end }, inode.ino);
  }
  return runInLeaf(node, fileBlock, end, maxCount);
}

/** The file blocks that an index entry leaves to its child: from `first` on, before `end`. */
interface ChildRange {
  readonly first: number;
  readonly end: number;
}

/**
 * What depends on the way to a node, so is checked on every visit: its depth and the range of its
 * keys. Since no two index entries leave room for the same key, no node with entries is reached
 * twice.
 */
function checkChild(
  node: Uint8Array,
  blocknr: number,
  depth: number,
  range: ChildRange,
  ino: number,
): void {
  const where = `block ${blocknr}`;
  const stored = le16(node, EH.eh_depth);
  if (stored !== depth) throw damaged(ino, where, `eh_depth is ${stored} where ${depth} is due`);
  const entries = entryCount(node);
  if (entries === 0) return;
  if (keyOf(node, 0) < range.first || keyOf(node, entries - 1) >= range.end) {
    const keys = `entries at ${keyOf(node, 0)}..${keyOf(node, entries - 1)}`;
    throw damaged(ino, where, `${keys}, where its index leaves ${range.first}..${range.end - 1}`);
  }
}
