/**
 * Changing an extent tree, one entry at a time: insert with room made where there is none, remove
 * with nodes that became empty freed, merge with the neighbours.
 *
 *     leaf full      [a b c d]          -->  [a b] [c d]      the upper half moves, or nothing at
 *                                                             all where the file grows at its end
 *     root full      [1 2 3 4]          -->  [x]              its entries move into a block
 *                                             `-> [1 2 3 4]
 *
 *  1. After each function the tree is whole: sorted, nothing overlaps, no empty index node.
 *  2. An index key is the first key of its child: e2fsck insists on it, though readers get along
 *     with one that is less.
 *  3. Blocks of nodes come from the allocator and go back to it, and count in `sectorCount`.
 *
 * After `fs/ext4/extents.c` (`ext4_ext_create_new_leaf`, `ext4_ext_split`, `ext4_ext_grow_indepth`,
 * `ext4_ext_try_to_merge`, `ext4_ext_rm_idx`).
 */
import { assert } from "../../lib/assert.ts";
import { le16, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import { groupsPerFlex, inodeGoal } from "./block-goal.ts";
import { extentChecksum } from "./checksum.ts";
import {
  type ExtentLevel,
  entryAt,
  entryCount,
  extentLength,
  extentPath,
  extentStart,
  keyOf,
} from "./extents.ts";
import type { Handle, Seal } from "./handle.ts";
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
import type { ExtWriter } from "./writer.ts";

/** Longest unwritten extent; a written one may have a block more. */
const EXTENT_UNWRITTEN_MAX = EXTENT_WRITTEN_MAX - 1;

/** An extent, decoded. */
export interface Extent {
  /** First block of the file. */
  readonly key: number;
  readonly count: number;
  /** First block on the device. */
  readonly start: number;
  readonly isUnwritten: boolean;
}

/** Longest extent of its kind, in blocks. */
export function extentCountMax(isUnwritten: boolean): number {
  return isUnwritten ? EXTENT_UNWRITTEN_MAX : EXTENT_WRITTEN_MAX;
}

/** The extent in entry `index` of `leaf`. */
export function extentAt(leaf: Uint8Array, index: number): Extent {
  const at = entryAt(index);
  const stored = le16(leaf, at + EE.ee_len);
  return {
    key: keyOf(leaf, index),
    count: extentLength(stored),
    start: extentStart(leaf, at),
    isUnwritten: stored > EXTENT_WRITTEN_MAX,
  };
}

/** Puts `extent` into entry `index` of `leaf`. */
export function putExtent(leaf: Uint8Array, index: number, extent: Extent): void {
  const { key, count, start, isUnwritten } = extent;
  assert(count > 0 && count <= extentCountMax(isUnwritten), "an extent has a length of its kind");
  const at = entryAt(index);
  putLe32(leaf, at + EE.ee_block, key);
  putLe16(leaf, at + EE.ee_len, isUnwritten ? count + EXTENT_WRITTEN_MAX : count);
  putLe16(leaf, at + EE.ee_start_hi, Math.floor(start / 0x1_0000_0000));
  putLe32(leaf, at + EE.ee_start_lo, start % 0x1_0000_0000);
}

/** Puts the checksum of a node in a block behind its last slot (`ext4_extent_block_csum_set`). */
export function sealExtentBlock(checksumSeed: number, node: Uint8Array): void {
  const tailAt = entryAt(le16(node, EH.eh_max));
  putLe32(node, tailAt, extentChecksum(checksumSeed, node, tailAt));
}

function putIndex(node: Uint8Array, index: number, key: number, child: number): void {
  const at = entryAt(index);
  putLe32(node, at + EI.ei_block, key);
  putLe32(node, at + EI.ei_leaf_lo, child % 0x1_0000_0000);
  putLe16(node, at + EI.ei_leaf_hi, Math.floor(child / 0x1_0000_0000));
  putLe16(node, at + EI.ei_leaf_hi + 2, 0);
}

/** Makes place for an entry before entry `index`. */
function openGap(node: Uint8Array, index: number): void {
  const count = entryCount(node);
  node.copyWithin(entryAt(index + 1), entryAt(index), entryAt(count));
  putLe16(node, EH.eh_entries, count + 1);
}

function closeGap(node: Uint8Array, index: number): void {
  const count = entryCount(node);
  node.copyWithin(entryAt(index), entryAt(index + 1), entryAt(count));
  putLe16(node, EH.eh_entries, count - 1);
}

function isFull(node: Uint8Array): boolean {
  return entryCount(node) >= le16(node, EH.eh_max);
}

function depthOf(node: Uint8Array): number {
  return le16(node, EH.eh_depth);
}

function canMerge(left: Extent, right: Extent): boolean {
  return (
    left.isUnwritten === right.isUnwritten &&
    left.key + left.count === right.key &&
    left.start + left.count === right.start &&
    left.count + right.count <= extentCountMax(left.isUnwritten)
  );
}

/** One operation on the extent tree of one inode. */
export class ExtentTree {
  readonly #ctx: ExtWriter;
  readonly #handle: Handle;
  readonly #inode: ExtInode;
  readonly #seal: Seal | undefined;
  /** Nodes lead to data that was promised room: they may use what is kept. */
  readonly #isPromised: boolean;

  constructor(ctx: ExtWriter, handle: Handle, inode: ExtInode, isPromised: boolean) {
    this.#ctx = ctx;
    this.#handle = handle;
    this.#inode = inode;
    this.#isPromised = isPromised;
    const { checksumSeed } = inode;
    this.#seal = ctx.hasMetadataCsum ? (node) => sealExtentBlock(checksumSeed, node) : undefined;
  }

  /** The way to the leaf for `fileBlock`. Restartable. */
  path(fileBlock: number): ExtentLevel[] {
    return extentPath(this.#ctx, this.#inode, fileBlock);
  }

  /** Makes the node of `level` one that may be changed. */
  #edit(level: ExtentLevel): Uint8Array {
    this.#ctx.editInode(this.#handle, this.#inode);
    if (level.blocknr !== 0) level.node = this.#handle.write(level.blocknr, this.#seal);
    return level.node;
  }

  #countBlocks(blocks: number): void {
    this.#inode.sectorCount += blocks * (this.#ctx.sb.blockBytes / SECTOR_BYTES);
  }

  /** A block for a node: apart from the data, in a gap that is small. */
  #allocNode(): { blocknr: number; node: Uint8Array } {
    const { sb, blocks } = this.#ctx;
    const dataGroup = this.#ctx.groups.groupOfBlock(inodeGoal(sb, this.#inode));
    const group = dataGroup - (dataGroup % groupsPerFlex(sb));
    const { first } = blocks.allocate(this.#handle, {
      goal: sb.firstBlockOf(group),
      count: 1,
      isTight: true,
      isStructure: this.#isPromised,
      isPrivileged: this.#ctx.isPrivileged,
    });
    this.#ctx.editInode(this.#handle, this.#inode);
    this.#countBlocks(1);
    const node = this.#handle.create(first, this.#seal);
    putLe16(node, EH.eh_magic, EXTENT_MAGIC);
    putLe16(node, EH.eh_max, Math.floor((sb.blockBytes - EXTENT_ENTRY_BYTES) / EXTENT_ENTRY_BYTES));
    return { blocknr: first, node };
  }

  #freeNode(blocknr: number): void {
    this.#ctx.blocks.free(this.#handle, blocknr, 1, { isMetadata: true });
    this.#countBlocks(-1);
  }

  /** The keys above follow the first key of the node at `depth` of `path`. */
  #fixKeys(path: ExtentLevel[], depth: number): void {
    const key = keyOf(path[depth]!.node, 0);
    for (let up = depth - 1; up >= 0; up--) {
      const level = path[up]!;
      if (keyOf(level.node, level.index) === key) return;
      putLe32(this.#edit(level), entryAt(level.index) + EI.ei_block, key);
      if (level.index > 0) return;
    }
  }

  /** Inserts `extent`, which overlaps none, and joins it with neighbours that it continues. */
  insert(extent: Extent): void {
    const path = this.path(extent.key);
    const leaf = path[path.length - 1]!;
    if (leaf.index >= 0) {
      const left = extentAt(leaf.node, leaf.index);
      assert(left.key + left.count <= extent.key, "extents do not overlap");
      if (canMerge(left, extent)) {
        putExtent(this.#edit(leaf), leaf.index, { ...left, count: left.count + extent.count });
        this.#mergeRight(leaf, leaf.index);
        return;
      }
    }
    const next = leaf.index + 1;
    if (next < entryCount(leaf.node)) {
      const right = extentAt(leaf.node, next);
      assert(extent.key + extent.count <= right.key, "extents do not overlap");
      if (canMerge(extent, right)) {
        putExtent(this.#edit(leaf), next, { ...extent, count: extent.count + right.count });
        if (next === 0) this.#fixKeys(path, path.length - 1);
        return;
      }
    }
    this.insertAlone(extent);
  }

  /** Inserts `extent` as an entry of its own. */
  insertAlone(extent: Extent): void {
    for (;;) {
      const path = this.path(extent.key);
      const leaf = path[path.length - 1]!;
      if (isFull(leaf.node)) {
        this.#makeRoom(path, extent.key);
        continue;
      }
      const index = leaf.index + 1;
      const node = this.#edit(leaf);
      openGap(node, index);
      putExtent(node, index, extent);
      if (index === 0) this.#fixKeys(path, path.length - 1);
      return;
    }
  }

  /** One step towards a leaf with room for `key`: the lowest full node that can be split is. */
  #makeRoom(path: ExtentLevel[], key: number): void {
    let depth = path.length - 1;
    while (depth > 0 && isFull(path[depth - 1]!.node)) depth--;
    if (depth === 0) this.#grow(path[0]!);
    else this.#split(path, depth, key);
  }

  /** Moves the entries of the root into a block below it. */
  #grow(root: ExtentLevel): void {
    const depth = depthOf(root.node);
    if (depth >= EXTENT_DEPTH_MAX) {
      throw new FsError("EFBIG", { detail: `inode ${this.#inode.ino}: its extent tree is full` });
    }
    const { blocknr, node } = this.#allocNode();
    const top = this.#edit(root);
    const count = entryCount(top);
    putLe16(node, EH.eh_depth, depth);
    putLe16(node, EH.eh_entries, count);
    node.set(top.subarray(entryAt(0), entryAt(count)), entryAt(0));
    putIndex(top, 0, keyOf(top, 0), blocknr);
    putLe16(top, EH.eh_entries, 1);
    putLe16(top, EH.eh_depth, depth + 1);
  }

  /**
   * Gives the full node at `depth` of `path` a sibling behind it, which takes the upper half of its
   * entries; where `key` comes behind all, it takes as little as it can.
   */
  #split(path: ExtentLevel[], depth: number, key: number): void {
    const level = path[depth]!;
    const parent = path[depth - 1]!;
    const { blocknr, node: sibling } = this.#allocNode();
    const node = this.#edit(level);
    const count = entryCount(node);
    const isLeaf = depthOf(node) === 0;
    const isBehindAll = level.index === count - 1;
    const least = isLeaf ? count : count - 1; // An index node is never empty.
    const from = isBehindAll ? least : count >>> 1;
    putLe16(sibling, EH.eh_depth, depthOf(node));
    putLe16(sibling, EH.eh_entries, count - from);
    sibling.set(node.subarray(entryAt(from), entryAt(count)), entryAt(0));
    putLe16(node, EH.eh_entries, from);
    const above = this.#edit(parent);
    openGap(above, parent.index + 1);
    putIndex(above, parent.index + 1, from === count ? key : keyOf(sibling, 0), blocknr);
  }

  /** Joins entry `index` of `leaf`, which may be changed, with the one behind it. */
  #mergeRight(leaf: ExtentLevel, index: number): boolean {
    if (index < 0 || index + 1 >= entryCount(leaf.node)) return false;
    const left = extentAt(leaf.node, index);
    const right = extentAt(leaf.node, index + 1);
    if (!canMerge(left, right)) return false;
    const node = this.#edit(leaf);
    putExtent(node, index, { ...left, count: left.count + right.count });
    closeGap(node, index + 1);
    return true;
  }

  /** Joins the extent at `fileBlock` with its neighbours in the leaf, where they continue it. */
  mergeAround(fileBlock: number): void {
    const path = this.path(fileBlock);
    const leaf = path[path.length - 1]!;
    this.#mergeRight(leaf, leaf.index);
    this.#mergeRight(leaf, leaf.index - 1);
  }

  /**
   * Puts `extent` in the place of the extent at `leaf.index`. Its key is less only as far as the
   * entry before allows.
   */
  replace(path: ExtentLevel[], extent: Extent): void {
    const leaf = path[path.length - 1]!;
    putExtent(this.#edit(leaf), leaf.index, extent);
    if (leaf.index === 0) this.#fixKeys(path, path.length - 1);
  }

  /** An extent over the border before `fileBlock` becomes two. */
  splitAt(fileBlock: number): void {
    const path = this.path(fileBlock);
    const leaf = path[path.length - 1]!;
    if (leaf.index < 0) return;
    const whole = extentAt(leaf.node, leaf.index);
    const leftCount = fileBlock - whole.key;
    if (leftCount === 0 || leftCount >= whole.count) return;
    this.replace(path, { ...whole, count: leftCount });
    const rest = whole.count - leftCount;
    this.insertAlone({ ...whole, key: fileBlock, count: rest, start: whole.start + leftCount });
  }

  /** Removes the extent at `leaf.index`, and the nodes that are empty then. */
  remove(path: ExtentLevel[]): void {
    for (let depth = path.length - 1; depth >= 0; depth--) {
      const level = path[depth]!;
      const node = this.#edit(level);
      closeGap(node, level.index);
      if (entryCount(node) > 0) {
        if (level.index === 0) this.#fixKeys(path, depth);
        return;
      }
      if (depth === 0) putLe16(node, EH.eh_depth, 0);
      else this.#freeNode(level.blocknr);
    }
  }

  /** A tree of one leaf that has room in the root goes there (`ext4_ext_try_to_merge_up`). */
  shrink(): void {
    const path = this.path(0);
    if (path.length !== 2) return;
    const [root, leaf] = path as [ExtentLevel, ExtentLevel];
    const count = entryCount(leaf.node);
    if (entryCount(root.node) !== 1 || count > le16(root.node, EH.eh_max)) return;
    const top = this.#edit(root);
    top.set(leaf.node.subarray(entryAt(0), entryAt(count)), entryAt(0));
    putLe16(top, EH.eh_entries, count);
    putLe16(top, EH.eh_depth, 0);
    this.#freeNode(leaf.blocknr);
  }

  /** Adds `delta` to the keys of the entries of a leaf from `from` on, and to those above. */
  shiftLeaf(path: ExtentLevel[], from: number, delta: number): void {
    const depth = path.length - 1;
    const leaf = path[depth]!;
    const node = this.#edit(leaf);
    for (let index = from; index < entryCount(node); index++) {
      putLe32(node, entryAt(index) + EE.ee_block, keyOf(node, index) + delta);
    }
    if (from === 0) this.#fixKeys(path, depth);
  }
}
