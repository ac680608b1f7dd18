/**
 * The block map of one inode, walked node by node: each node is judged, each block marked as used.
 *
 * A node that was met before is not entered again, so a walk ends however a map is bent.
 */
import { le16, le32 } from "../../../lib/bytes.ts";
import { extentChecksum } from "../checksum.ts";
import {
  DIRECT_BLOCKS,
  EE,
  EH,
  EI,
  EXTENT_DEPTH_MAX,
  EXTENT_ENTRY_BYTES,
  EXTENT_MAGIC,
  EXTENT_WRITTEN_MAX,
  I_BLOCK_BYTES,
  INDIRECT_LEVELS,
} from "../layout.ts";
import type { CheckContext } from "./context.ts";

const POINTER_BYTES = 4;
const FILE_BLOCKS_END = 0x1_0000_0000;

/** What is known of the inode whose map is walked. */
export interface MapOwner {
  readonly ino: number;
  readonly iBlock: Uint8Array;
  readonly hasExtents: boolean;
  /** Start of the checksums of its nodes. */
  readonly seed: number;
}

/** A run of data, in the order of the file. */
export interface DataRun {
  readonly fileBlock: number;
  readonly blocknr: number;
  readonly count: number;
  readonly isUnwritten: boolean;
}

/** What a walk has found. */
export interface MapSums {
  /** Blocks for `i_blocks`: data, nodes, whole clusters. */
  blocks: number;
  /** The last block of the file that is there, and that is there and written; -1 for none. */
  lastBlock: number;
  lastWritten: number;
}

/** Walks one map. With `onRun` only, nothing is marked: the second walk, over a directory. */
export class MapWalk {
  readonly #ctx: CheckContext;
  readonly #owner: MapOwner;
  readonly #onRun: ((run: DataRun) => void) | undefined;
  readonly #isFirst: boolean;
  readonly sums: MapSums = { blocks: 0, lastBlock: -1, lastWritten: -1 };
  /** False once something in the map was wrong. */
  isGood = true;
  #nextKey = 0;
  #lastCluster = -1;
  #lastFileCluster = -1;

  constructor(
    ctx: CheckContext,
    owner: MapOwner,
    onRun: ((run: DataRun) => void) | undefined,
    isFirst = true,
  ) {
    this.#ctx = ctx;
    this.#owner = owner;
    this.#onRun = onRun;
    this.#isFirst = isFirst;
  }

  async walk(): Promise<void> {
    if (this.#owner.hasExtents) {
      const max = Math.floor(I_BLOCK_BYTES / EXTENT_ENTRY_BYTES) - 1;
      await this.#extents(this.#owner.iBlock, 0, max, undefined, 0, FILE_BLOCKS_END);
    } else await this.#pointers();
  }

  #bad(code: string, blocknr: number | undefined, text: string): void {
    this.isGood = false;
    if (!this.#isFirst) return;
    const { ino } = this.#owner;
    this.#ctx.findings.damage(code, { ino, blocknr }, `inode ${ino}: ${text}`);
  }

  /** Marks a node; false if it must not be entered. */
  #enter(blocknr: number): boolean {
    if (!this.#ctx.isBlock(blocknr)) {
      this.#bad("map.outside", blocknr, `block ${blocknr} of its map is outside`);
      return false;
    }
    this.sums.blocks += this.#ctx.sb.clusterRatio;
    if (!this.#isFirst) return true;
    const cluster = this.#ctx.clusterOf(blocknr);
    if (this.#ctx.use.mark(cluster, cluster + 1) < 0) return true;
    this.#bad("block.shared", blocknr, `block ${blocknr} of its map is used by others too`);
    return false;
  }

  #data(fileBlock: number, blocknr: number, count: number, isUnwritten: boolean): void {
    const { sums } = this;
    const last = fileBlock + count - 1;
    sums.lastBlock = Math.max(sums.lastBlock, last);
    if (!isUnwritten) sums.lastWritten = Math.max(sums.lastWritten, last);
    this.#onRun?.({ fileBlock, blocknr, count, isUnwritten });
    this.#markData(fileBlock, blocknr, count);
  }

  #markData(fileBlock: number, blocknr: number, count: number): void {
    const { clusterRatio } = this.#ctx.sb;
    let from = this.#ctx.clusterOf(blocknr);
    const to = this.#ctx.clusterOf(blocknr + count - 1) + 1;
    // Blocks of one cluster of the file share one cluster of the device, and are counted once.
    const fileCluster = Math.floor(fileBlock / clusterRatio);
    if (clusterRatio > 1) {
      if (blocknr % clusterRatio !== fileBlock % clusterRatio) {
        this.#bad("extent.cluster", blocknr, `block ${blocknr} is misplaced in its cluster`);
      }
      if (from === this.#lastCluster && fileCluster === this.#lastFileCluster) from++;
      this.#lastCluster = to - 1;
      this.#lastFileCluster = Math.floor((fileBlock + count - 1) / clusterRatio);
    }
    this.sums.blocks += (to - from) * clusterRatio;
    if (!this.#isFirst) return;
    const again = this.#ctx.use.mark(from, to);
    if (again < 0) return;
    const shared = again * clusterRatio + this.#ctx.sb.firstDataBlock;
    this.#bad("block.shared", shared, `block ${shared} of it is used by others too`);
  }

  #headerIsGood(node: Uint8Array, maxEntries: number, depth: number | undefined, where: string) {
    const entries = le16(node, EH.eh_entries);
    const max = le16(node, EH.eh_max);
    const stored = le16(node, EH.eh_depth);
    let what: string | undefined;
    if (le16(node, EH.eh_magic) !== EXTENT_MAGIC) what = "eh_magic is wrong";
    else if (max > maxEntries || max === 0) what = `eh_max is ${max}`;
    else if (entries > max) what = `eh_entries is ${entries} of ${max}`;
    else if (stored > EXTENT_DEPTH_MAX) what = `eh_depth is ${stored}`;
    else if (depth !== undefined && stored !== depth) what = `eh_depth is ${stored}, not ${depth}`;
    else if (entries === 0 && (stored > 0 || depth !== undefined)) what = "eh_entries is 0";
    if (what !== undefined) this.#bad("extent.header", undefined, `extent ${where}: ${what}`);
    return what === undefined;
  }

  async #extents(
    node: Uint8Array,
    level: number,
    maxEntries: number,
    depth: number | undefined,
    first: number,
    end: number,
  ): Promise<void> {
    await this.#ctx.step();
    const where = level === 0 ? "root" : `node of level ${level}`;
    if (!this.#headerIsGood(node, maxEntries, depth, where)) return;
    const entries = le16(node, EH.eh_entries);
    const stored = le16(node, EH.eh_depth);
    for (let index = 0; index < entries; index++) {
      const at = EXTENT_ENTRY_BYTES * (index + 1);
      if (stored === 0) this.#leafEntry(node, at, end);
      else {
        const key = le32(node, at + EI.ei_block);
        const isLast = index + 1 === entries;
        const next = isLast ? end : le32(node, at + EXTENT_ENTRY_BYTES + EI.ei_block);
        if (key < this.#nextKey || key >= next || key < first) {
          this.#bad("extent.order", undefined, `extent ${where}: ei_block is ${key}`);
          continue;
        }
        await this.#child(node, at, key, next, stored - 1, level + 1);
      }
    }
  }

  async #child(
    node: Uint8Array,
    at: number,
    key: number,
    end: number,
    depth: number,
    level: number,
  ): Promise<void> {
    const blocknr = le16(node, at + EI.ei_leaf_hi) * 0x1_0000_0000 + le32(node, at + EI.ei_leaf_lo);
    if (!this.#enter(blocknr)) return;
    const data = await this.#ctx.copyOf(blocknr, { ino: this.#owner.ino });
    if (data === undefined) return;
    const max = Math.floor((data.length - EXTENT_ENTRY_BYTES) / EXTENT_ENTRY_BYTES);
    const stored = Math.min(le16(data, EH.eh_max), max);
    const tailAt = EXTENT_ENTRY_BYTES * (stored + 1);
    const hasTail = this.#ctx.sb.hasMetadataCsum && tailAt + 4 <= data.length;
    const { seed } = this.#owner;
    if (hasTail && extentChecksum(seed, data, tailAt) !== le32(data, tailAt)) {
      this.#bad("extent.checksum", blocknr, `extent block ${blocknr}: wrong checksum`);
    }
    if (le16(data, EH.eh_entries) > 0 && le32(data, EXTENT_ENTRY_BYTES) !== key) {
      const text = `extent block ${blocknr} begins at ${le32(data, EXTENT_ENTRY_BYTES)}, not ${key}`;
      this.#bad("extent.key", blocknr, text);
    }
    await this.#extents(data, level, max, depth, key, end);
  }

  #leafEntry(node: Uint8Array, at: number, end: number): void {
    const { sb } = this.#ctx;
    const key = le32(node, at + EE.ee_block);
    const stored = le16(node, at + EE.ee_len);
    const isUnwritten = stored > EXTENT_WRITTEN_MAX;
    const count = isUnwritten ? stored - EXTENT_WRITTEN_MAX : stored;
    const start = le16(node, at + EE.ee_start_hi) * 0x1_0000_0000 + le32(node, at + EE.ee_start_lo);
    if (count === 0) {
      this.#bad("extent.length", undefined, `extent at ${key} is empty`);
      return;
    }
    if (!this.#ctx.isBlock(start) || start + count > sb.blockCount) {
      const text = `extent at ${key}: blocks ${start}..${start + count - 1} are outside`;
      this.#bad("extent.outside", start, text);
      return;
    }
    if (key < this.#nextKey || key + count > end) {
      this.#bad("extent.order", undefined, `extent at ${key} overlaps others`);
      return;
    }
    this.#nextKey = key + count;
    this.#data(key, start, count, isUnwritten);
  }

  async #pointers(): Promise<void> {
    const { iBlock } = this.#owner;
    for (let slot = 0; slot < DIRECT_BLOCKS; slot++) {
      const blocknr = le32(iBlock, slot * POINTER_BYTES);
      if (blocknr !== 0) this.#pointer(slot, blocknr);
    }
    const perBlock = this.#ctx.sb.blockBytes / POINTER_BYTES;
    let first = DIRECT_BLOCKS;
    for (let level = 1; level <= INDIRECT_LEVELS; level++) {
      const blocknr = le32(iBlock, (DIRECT_BLOCKS + level - 1) * POINTER_BYTES);
      if (blocknr !== 0) await this.#pointerBlock(blocknr, first, level);
      first += perBlock ** level;
    }
  }

  #pointer(fileBlock: number, blocknr: number): void {
    if (this.#ctx.isBlock(blocknr)) {
      this.#data(fileBlock, blocknr, 1, false);
      return;
    }
    this.#bad("map.outside", blocknr, `block ${fileBlock} of it is block ${blocknr}, outside`);
  }

  async #pointerBlock(blocknr: number, first: number, level: number): Promise<void> {
    await this.#ctx.step();
    if (!this.#enter(blocknr)) return;
    const data = await this.#ctx.copyOf(blocknr, { ino: this.#owner.ino });
    if (data === undefined) return;
    const perBlock = data.length / POINTER_BYTES;
    const span = perBlock ** (level - 1);
    for (let slot = 0; slot < perBlock; slot++) {
      const pointer = le32(data, slot * POINTER_BYTES);
      if (pointer === 0) continue;
      const fileBlock = first + slot * span;
      if (level === 1) this.#pointer(fileBlock, pointer);
      else await this.#pointerBlock(pointer, fileBlock, level - 1);
    }
  }
}
