/**
 * The index of a large directory: a tree of hashes whose leaves are ordinary directory blocks
 * (`htree`).
 *
 *     root, file block 0   `.` `..` | version, levels | limit count | block | hash block | ..
 *                                                             |
 *     node                 a free record | limit count | block | hash block | ..    | checksum
 *                                                             |
 *     leaf                 records of names whose hashes lie in [hash, next hash)
 *
 *  1. The first entry of a block has no hash: it begins at 0, and its word is limit and count.
 *  2. The lowest bit of a stored hash says "names with this hash began in the leaf before"; a
 *     lookup that fails goes on into such a leaf.
 *  3. A lookup reads at most as many leaves as the directory has blocks, however the tree is bent.
 *
 * A damaged *structure* gives up the index, not the lookup: as the kernel (`ERR_BAD_DX_DIR`) the
 * caller then searches all blocks one by one. A wrong *checksum* is `EBADMSG`, and a damaged leaf
 * `EUCLEAN`.
 *
 * After fs/ext4/namei.c (`dx_probe`, `ext4_htree_next_block`, `ext4_dx_csum_verify`).
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { KIB } from "../../lib/units.ts";
import { htreeChecksum } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { DE, type DirShape, DirWalk, recLenFromDisk, verifyDirBlock } from "./dir-block.ts";
import { DX_HASH_TEA } from "./dir-hash.ts";
import { INCOMPAT_LARGE_DIR } from "./features.ts";
import type { ExtInode } from "./inode.ts";
import type { BlockVerifier } from "./metadata.ts";
import { type WantedName, walkTo } from "./wanted-name.ts";

/** Returned where the index cannot be used: search the blocks one by one. */
export const INDEX_UNUSABLE = -1;

export const DOT_BYTES = 12;
/** Fields of the root, behind the records of `.` and `..` (`struct dx_root_info`). */
export const DX = { version: 0x1c, infoBytes: 0x1d, levels: 0x1e, flags: 0x1f } as const;
export const DX_INFO_BYTES = 8;
export const ROOT_ENTRIES_AT = 0x20;
export const NODE_ENTRIES_AT = 0x08;
export const DX_ENTRY_BYTES = 8;
const DX_TAIL_BYTES = 8;
const DX_BLOCK_MASK = 0x0fff_ffff;
/** Read on a miss: leaves of one directory are wanted in no order, so not far. */
const AHEAD_BYTES = 16 * KIB;
/**
 * Leaves that names of one hash may fill: a longer chain is read without the index, since a lookup
 * begins anew for each leaf that is not cached.
 */
const LEAVES_MAX = 64;
const LEVELS_MAX = 1;
const LEVELS_MAX_LARGE_DIR = 2;

/** A block of the index, decoded as far as a search needs it. */
export interface DxNode {
  readonly data: Uint8Array;
  readonly fileBlock: number;
  /** Where it lies on the device. */
  readonly blocknr: number;
  readonly entriesAt: number;
  readonly count: number;
}

/** One step of the way from the root to a leaf. */
export interface DxFrame {
  readonly node: DxNode;
  /** Index of the entry that was followed. */
  at: number;
}

/** What the root says about the whole index. */
export interface DxRoot extends DxNode {
  readonly version: number;
  readonly levels: number;
}

/** A leaf, and the record in it that was looked for. */
export interface DxFound {
  readonly fileBlock: number;
  readonly blocknr: number;
  /** At the record. */
  readonly walk: DirWalk;
}

/** Thrown by `DxSearch`, and caught by whoever uses it: the index is damaged. */
export class BadIndex {
  readonly what: string;

  constructor(what: string) {
    this.what = what;
  }
}

/** Where the entries of an index block begin, by its first records; 0 if it is none. */
export function entriesAtOf(data: Uint8Array): number {
  const recLen = recLenFromDisk(le16(data, DE.rec_len), data.length);
  if (recLen === data.length) return NODE_ENTRIES_AT;
  if (recLen !== DOT_BYTES) return 0;
  const dotDot = recLenFromDisk(le16(data, DOT_BYTES + DE.rec_len), data.length);
  const isRoot = dotDot === data.length - DOT_BYTES && data[DX.infoBytes] === DX_INFO_BYTES;
  return isRoot ? ROOT_ENTRIES_AT : 0;
}

/** Most entries that fit into a block. */
export function limitOf(entriesAt: number, shape: DirShape): number {
  const tailBytes = shape.hasChecksum ? DX_TAIL_BYTES : 0;
  return Math.floor((shape.blockBytes - entriesAt - tailBytes) / DX_ENTRY_BYTES);
}

/**
 * Throws `EBADMSG` if an index block has a wrong checksum. A block too full to hold one passes, and
 * fails later by its limit.
 */
export const verifyIndexBlock: BlockVerifier<DirShape> = (data, blocknr, shape) => {
  if (!shape.hasChecksum) return;
  const bad = (what: string): FsError =>
    new FsError("EBADMSG", { detail: `directory ${shape.ino}: index block ${blocknr}: ${what}` });
  const entriesAt = entriesAtOf(data);
  if (entriesAt === 0) throw bad("there is no index");
  const tailAt = entriesAt + le16(data, entriesAt) * DX_ENTRY_BYTES;
  const usedBytes = entriesAt + le16(data, entriesAt + 2) * DX_ENTRY_BYTES;
  if (tailAt > data.length - DX_TAIL_BYTES) return;
  if (usedBytes > tailAt) throw bad("count is above limit");
  const computed = htreeChecksum(shape.checksumSeed, data, usedBytes, tailAt);
  if (computed !== le32(data, tailAt + 4)) throw bad("dt_checksum does not match");
};

/** A way through the index of one directory. Throws `BadIndex`. */
export class DxSearch {
  readonly #ctx: ExtContext;
  readonly #dir: ExtInode;
  readonly #shape: DirShape;
  readonly #blockCount: number;

  constructor(ctx: ExtContext, dir: ExtInode, shape: DirShape, blockCount: number) {
    this.#ctx = ctx;
    this.#dir = dir;
    this.#shape = shape;
    this.#blockCount = blockCount;
  }

  root(): DxRoot {
    const { data, blocknr } = this.block(0, verifyIndexBlock);
    const version = data[DX.version]!;
    const levels = data[DX.levels]!;
    if (entriesAtOf(data) !== ROOT_ENTRIES_AT) throw new BadIndex("block 0 has no index root");
    if ((data[DX.flags]! & 1) !== 0) throw new BadIndex(`unused_flags is ${data[DX.flags]}`);
    if (levels > dxLevelsMax(this.#ctx)) throw new BadIndex(`indirect_levels is ${levels}`);
    const { entriesAt, count } = this.#decode(data, 0, blocknr, ROOT_ENTRIES_AT);
    return { data, fileBlock: 0, blocknr, entriesAt, count, version, levels };
  }

  /** The way from `root` to the first leaf that names with the hash `major` may be in. */
  frames(root: DxRoot, major: number): DxFrame[] {
    const frames: DxFrame[] = [{ node: root, at: entryFor(root, major) }];
    while (frames.length <= root.levels) {
      const node = this.#child(frames);
      frames.push({ node, at: entryFor(node, major) });
    }
    return frames;
  }

  /** Where `wanted` is, undefined if the index leads to no such name. */
  find(root: DxRoot, wanted: WantedName): DxFound | undefined {
    const { major } = wanted.hash(root.version);
    const frames = this.frames(root, major);
    for (let leaves = 0; leaves < LEAVES_MAX; leaves++) {
      const found = this.#searchLeaf(blockAt(frames.at(-1)!), wanted);
      if (found !== undefined || !this.#continues(frames, major)) return found;
    }
    throw new BadIndex("its chain of equal hashes is too long");
  }

  /** Hash at which the next leaf begins, with the bit for "continued"; undefined at the end. */
  nextHash(frames: readonly DxFrame[]): number | undefined {
    const frame = frames[depthOfNext(frames)];
    return frame === undefined ? undefined : hashAt(frame.node, frame.at + 1);
  }

  /** Moves `frames` to the next leaf, which there must be. */
  advance(frames: DxFrame[]): void {
    const depth = depthOfNext(frames);
    frames[depth]!.at++;
    const fullLength = frames.length;
    frames.length = depth + 1;
    while (frames.length < fullLength) frames.push({ node: this.#child(frames), at: 0 });
  }

  /** Moves `frames` to the next leaf; false if no name with the hash `major` can be there. */
  #continues(frames: DxFrame[], major: number): boolean {
    const next = this.nextHash(frames);
    if (next === undefined || (next & ~1) >>> 0 !== major) return false;
    this.advance(frames);
    return true;
  }

  /** The index block below the last frame. It must not be one that the way has passed. */
  #child(frames: readonly DxFrame[]): DxNode {
    const fileBlock = blockAt(frames.at(-1)!);
    if (frames.some((frame) => frame.node.fileBlock === fileBlock)) {
      throw new BadIndex(`block ${fileBlock} leads back to itself`);
    }
    const { data, blocknr } = this.block(fileBlock, verifyIndexBlock);
    if (entriesAtOf(data) !== NODE_ENTRIES_AT) throw new BadIndex(`block ${fileBlock} is no node`);
    return this.#decode(data, fileBlock, blocknr, NODE_ENTRIES_AT);
  }

  #decode(data: Uint8Array, fileBlock: number, blocknr: number, entriesAt: number): DxNode {
    const limit = le16(data, entriesAt);
    const count = le16(data, entriesAt + 2);
    if (limit !== limitOf(entriesAt, this.#shape)) {
      throw new BadIndex(`block ${fileBlock}: limit is ${limit}`);
    }
    if (count === 0 || count > limit) throw new BadIndex(`block ${fileBlock}: count is ${count}`);
    return { data, fileBlock, blocknr, entriesAt, count };
  }

  #searchLeaf(fileBlock: number, wanted: WantedName): DxFound | undefined {
    const { data, blocknr } = this.block(fileBlock, verifyDirBlock);
    const walk = new DirWalk(data, this.#shape, fileBlock);
    return walkTo(walk, wanted) ? { fileBlock, blocknr, walk } : undefined;
  }

  /** A verified block of the directory, and where it lies. */
  block(fileBlock: number, verifier: BlockVerifier<DirShape>): DxBlock {
    if (fileBlock >= this.#blockCount) throw new BadIndex(`block ${fileBlock} is past the end`);
    const aheadCount = Math.max(1, Math.floor(AHEAD_BYTES / this.#shape.blockBytes));
    const run = this.#ctx.mapBlocks(this.#dir, fileBlock, aheadCount);
    if (run.physical === 0 || run.isUnwritten) throw new BadIndex(`block ${fileBlock} is a hole`);
    const blocknr = run.physical;
    return {
      data: this.#ctx.metadata.verified(blocknr, verifier, this.#shape, run.count),
      blocknr,
    };
  }
}

/** A block of a directory. */
export interface DxBlock {
  readonly data: Uint8Array;
  readonly blocknr: number;
}

/** Levels of nodes that an index may have below its root. */
export function dxLevelsMax(ctx: ExtContext): number {
  return ctx.sb.hasIncompat(INCOMPAT_LARGE_DIR) ? LEVELS_MAX_LARGE_DIR : LEVELS_MAX;
}

/** Index of the lowest frame that has a further entry; -1 if none has. */
function depthOfNext(frames: readonly DxFrame[]): number {
  let depth = frames.length - 1;
  while (depth >= 0 && frames[depth]!.at + 1 >= frames[depth]!.node.count) depth--;
  return depth;
}

/** Index of the last entry of `node` whose hash is not above `major`. */
function entryFor(node: DxNode, major: number): number {
  let low = 1;
  let high = node.count - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    if (hashAt(node, middle) > major) high = middle - 1;
    else low = middle + 1;
  }
  return low - 1;
}

/** Hash where entry `index` begins, with the bit for "continued"; not for entry 0. */
export function hashAt(node: DxNode, index: number): number {
  return le32(node.data, node.entriesAt + index * DX_ENTRY_BYTES);
}

/** The block that the entry under `frame` leads to. */
export function blockAt(frame: DxFrame): number {
  const at = frame.node.entriesAt + frame.at * DX_ENTRY_BYTES;
  return le32(frame.node.data, at + 4) & DX_BLOCK_MASK;
}

/** Runs `attempt`; a damaged index becomes `otherwise` and a warning. */
function orUnusable<T>(ctx: ExtContext, dir: ExtInode, attempt: () => T, otherwise: T): T {
  try {
    return attempt();
  } catch (thrown) {
    if (!(thrown instanceof BadIndex)) throw thrown;
    ctx.warn(`directory ${dir.ino}: its index is damaged and not used: ${thrown.what}`);
    return otherwise;
  }
}

/**
 * Where `wanted` is in `dir`, undefined if it is not there, `INDEX_UNUSABLE` if the index is
 * damaged (with a warning) or hashes by a key that we do not have. `.` and `..` are not in the
 * index.
 *
 * @throws {FsError} `EBADMSG` for a checksum, `EUCLEAN` for a leaf
 */
export function htreeFind(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  blockCount: number,
  wanted: WantedName,
): DxFound | undefined | typeof INDEX_UNUSABLE {
  const search = new DxSearch(ctx, dir, shape, blockCount);
  const find = (): DxFound | undefined | typeof INDEX_UNUSABLE => {
    const root = search.root();
    if (shape.hasStoredHash) return INDEX_UNUSABLE;
    if (root.version > DX_HASH_TEA) throw new BadIndex(`hash_version is ${root.version}`);
    return search.find(root, wanted);
  };
  return orUnusable(ctx, dir, find, INDEX_UNUSABLE);
}

/** Hash version 0..2 of the index of `dir`; undefined if it is damaged or needs a key. */
export function htreeHashVersion(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  blockCount: number,
): number | undefined {
  const search = new DxSearch(ctx, dir, shape, blockCount);
  const read = (): number | undefined => {
    const { version } = search.root();
    return version > DX_HASH_TEA ? undefined : version;
  };
  return orUnusable(ctx, dir, read, undefined);
}
