/**
 * Names come into the index of a large directory, which grows with them.
 *
 *     leaf full     its names sorted by hash:  | low half | high half |
 *                                                 stays       new leaf, entry (hash, leaf) above
 *     node full     its high half of entries goes into a new node, an entry for it into the one
 *                   above
 *     all full      a new node takes all entries of the root, which then has one: one level more
 *
 *  1. Blocks are only ever added at the end of the directory, and names only ever move to blocks
 *     that were just added: a reader in the order of blocks misses none.
 *  2. A step leaves a whole index, so each begins anew at the root.
 *  3. Two leaves between which names of one hash are divided are told by the lowest bit of the
 *     hash of the second.
 *
 * Left out: leaves that became empty are not given back, as in Linux. After fs/ext4/namei.c
 * (`ext4_dx_add_entry`, `do_split`, `make_indexed_dir`).
 */
import { assert } from "../../lib/assert.ts";
import { le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { htreeChecksum } from "./checksum.ts";
import {
  DE,
  type DirShape,
  DirWalk,
  dirRecordBytes,
  dirShapeOf,
  recLenFromDisk,
  recLenToDisk,
  verifyDirBlock,
} from "./dir-block.ts";
import {
  clearRecords,
  type DirRecord,
  dirBlockSeal,
  findGap,
  initDirBlock,
  putRecord,
  recordsEnd,
} from "./dir-edit.ts";
import { DX_HASH_TEA } from "./dir-hash.ts";
import { damagedDir, dirBlockCount } from "./dir-search.ts";
import type { Handle, Seal } from "./handle.ts";
import {
  BadIndex,
  blockAt,
  DOT_BYTES,
  DX,
  DX_ENTRY_BYTES,
  DX_INFO_BYTES,
  type DxFrame,
  DxSearch,
  dxLevelsMax,
  entriesAtOf,
  limitOf,
  NODE_ENTRIES_AT,
  ROOT_ENTRIES_AT,
} from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { INDEX_FL } from "./layout.ts";
import { appendDirBlock, type NewBlock } from "./metadata-file.ts";
import { storedNameHash, type WantedName } from "./wanted-name.ts";
import type { ExtWriter } from "./writer.ts";

/** More steps than the growth of an index for one name can have. */
const STEPS_MAX = 64;
const DX_HASH_HALF_MD4 = 1;

/** A record of a leaf that is divided. */
interface MapEntry {
  readonly hash: number;
  readonly at: number;
  readonly recBytes: number;
}

/** Computes the checksum of index blocks (`ext4_dx_csum_set`); one that has no room gets none. */
export function indexSeal(checksumSeed: number): Seal {
  return (block) => {
    const entriesAt = entriesAtOf(block);
    const tailAt = entriesAt + le16(block, entriesAt) * DX_ENTRY_BYTES;
    const usedBytes = entriesAt + le16(block, entriesAt + 2) * DX_ENTRY_BYTES;
    if (tailAt + DX_ENTRY_BYTES > block.length) return;
    putLe32(block, tailAt + 4, htreeChecksum(checksumSeed, block, usedBytes, tailAt));
  };
}

/** One name comes into the index of one directory. */
class DxInsert {
  readonly #ctx: ExtWriter;
  readonly #handle: Handle;
  readonly #dir: ExtInode;
  readonly #shape: DirShape;
  readonly #leafSeal: Seal | undefined;
  readonly #indexSeal: Seal | undefined;

  constructor(ctx: ExtWriter, handle: Handle, dir: ExtInode) {
    this.#ctx = ctx;
    this.#handle = handle;
    this.#dir = dir;
    this.#shape = dirShapeOf(ctx, dir);
    const { hasChecksum, checksumSeed } = this.#shape;
    this.#leafSeal = hasChecksum ? dirBlockSeal(checksumSeed) : undefined;
    this.#indexSeal = hasChecksum ? indexSeal(checksumSeed) : undefined;
  }

  add(wanted: WantedName, record: DirRecord): void {
    for (let steps = 0; steps < STEPS_MAX; steps++) if (this.#step(wanted, record)) return;
    assert(false, "an index grows in few steps");
  }

  /** Puts the record into its leaf; false if there was no room, but there is more now. */
  #step(wanted: WantedName, record: DirRecord): boolean {
    const shape = this.#shape;
    const search = new DxSearch(this.#ctx, this.#dir, shape, dirBlockCount(this.#ctx, this.#dir));
    const root = search.root();
    if (root.version > DX_HASH_TEA) throw new BadIndex(`hash_version is ${root.version}`);
    const frames = search.frames(root, wanted.hash(root.version).major);
    const last = frames.at(-1)!;
    const leaf = blockAt(last);
    const { data, blocknr } = search.block(leaf, verifyDirBlock);
    const walk = new DirWalk(data, shape, leaf, 0, recordsEnd(shape));
    const gapAt = findGap(walk, dirRecordBytes(record.name.length));
    if (gapAt >= 0) {
      putRecord(this.#handle.write(blocknr, this.#leafSeal), shape, gapAt, record);
      return true;
    }
    if (this.#hasRoom(last)) this.#splitLeaf(last, leaf, blocknr, root.version);
    else this.#growIndex(frames, root.levels);
    return false;
  }

  #hasRoom({ node }: DxFrame): boolean {
    return node.count < limitOf(node.entriesAt, this.#shape);
  }

  /** Makes room in the deepest node of `frames`, or in one above it (`ext4_dx_add_entry`). */
  #growIndex(frames: readonly DxFrame[], levels: number): void {
    let depth = frames.length - 1;
    while (depth >= 0 && !this.#hasRoom(frames[depth]!)) depth--;
    if (depth >= 0) this.#splitNode(frames[depth]!, frames[depth + 1]!);
    else if (levels < dxLevelsMax(this.#ctx)) this.#addLevel(frames[0]!, levels);
    else throw new FsError("ENOSPC", { detail: `directory ${this.#dir.ino}: its index is full` });
  }

  #newNode(): NewBlock {
    const block = appendDirBlock(this.#ctx, this.#handle, this.#dir, this.#indexSeal);
    putLe16(block.data, DE.rec_len, recLenToDisk(block.data.length, block.data.length));
    putLe16(block.data, NODE_ENTRIES_AT, limitOf(NODE_ENTRIES_AT, this.#shape));
    return block;
  }

  /** Copies entries `from..to` of `source` to the start of a new node. */
  #fillNode(node: NewBlock, source: Uint8Array, entriesAt: number, from: number, to: number): void {
    const limit = le16(node.data, NODE_ENTRIES_AT);
    const start = entriesAt + from * DX_ENTRY_BYTES;
    node.data.set(source.subarray(start, entriesAt + to * DX_ENTRY_BYTES), NODE_ENTRIES_AT);
    putLe16(node.data, NODE_ENTRIES_AT, limit);
    putLe16(node.data, NODE_ENTRIES_AT + 2, to - from);
  }

  #addLevel(root: DxFrame, levels: number): void {
    const node = this.#newNode();
    const data = this.#handle.write(root.node.blocknr, this.#indexSeal);
    this.#fillNode(node, data, ROOT_ENTRIES_AT, 0, root.node.count);
    data.fill(0, ROOT_ENTRIES_AT + DX_ENTRY_BYTES, this.#entriesEnd(root));
    putLe16(data, ROOT_ENTRIES_AT + 2, 1);
    putLe32(data, ROOT_ENTRIES_AT + 4, node.fileBlock);
    data[DX.levels] = levels + 1;
  }

  #entriesEnd({ node }: DxFrame): number {
    return node.entriesAt + node.count * DX_ENTRY_BYTES;
  }

  #splitNode(above: DxFrame, full: DxFrame): void {
    const { count, entriesAt, blocknr } = full.node;
    const kept = Math.floor(count / 2);
    const node = this.#newNode();
    const data = this.#handle.write(blocknr, this.#indexSeal);
    const keptEnd = entriesAt + kept * DX_ENTRY_BYTES;
    const hash = le32(data, keptEnd);
    this.#fillNode(node, data, entriesAt, kept, count);
    data.fill(0, keptEnd, this.#entriesEnd(full));
    putLe16(data, entriesAt + 2, kept);
    this.#insertEntry(above, hash, node.fileBlock);
  }

  /** Puts an entry behind the one under `frame` (`dx_insert_block`). */
  #insertEntry(frame: DxFrame, hash: number, fileBlock: number): void {
    const { entriesAt, count, blocknr } = frame.node;
    const data = this.#handle.write(blocknr, this.#indexSeal);
    const at = entriesAt + (frame.at + 1) * DX_ENTRY_BYTES;
    data.copyWithin(at + DX_ENTRY_BYTES, at, this.#entriesEnd(frame));
    putLe32(data, at, hash);
    putLe32(data, at + 4, fileBlock);
    putLe16(data, entriesAt + 2, count + 1);
  }

  /** Divides a full leaf in two (`do_split`). */
  #splitLeaf(frame: DxFrame, leaf: number, blocknr: number, version: number): void {
    const shape = this.#shape;
    const added = appendDirBlock(this.#ctx, this.#handle, this.#dir, this.#leafSeal);
    const data = this.#handle.write(blocknr, this.#leafSeal);
    const before = data.slice();
    const map = this.#mapOf(before, leaf, version);
    if (map.length < 2) throw damagedDir(this.#dir, `file block ${leaf} is full of one name`);
    const splitAt = splitOf(map, shape.blockBytes);
    const { hash } = map[splitAt]!;
    const isContinued = hash === map[splitAt - 1]!.hash;
    initDirBlock(added.data, shape);
    packRecords(added.data, before, map.slice(splitAt), shape);
    clearRecords(data, shape, 0, recordsEnd(shape));
    packRecords(data, before, map.slice(0, splitAt), shape);
    this.#insertEntry(frame, hash + (isContinued ? 1 : 0), added.fileBlock);
  }

  /** The records of a leaf in the order of their hashes. */
  #mapOf(data: Uint8Array, leaf: number, version: number): MapEntry[] {
    const map: MapEntry[] = [];
    const walk = new DirWalk(data, this.#shape, leaf, 0, recordsEnd(this.#shape));
    while (walk.next()) {
      const { major } = storedNameHash(this.#ctx, this.#dir, version, walk.name);
      map.push({ hash: major, at: walk.at, recBytes: dirRecordBytes(walk.nameBytes) });
    }
    return map.sort((a, b) => a.hash - b.hash);
  }
}

/** How many records stay: the last ones go that fill half a block. */
function splitOf(map: readonly MapEntry[], blockBytes: number): number {
  let movedBytes = 0;
  let splitAt = map.length;
  while (splitAt > 1) {
    const { recBytes } = map[splitAt - 1]!;
    if (movedBytes + recBytes / 2 > blockBytes / 2) break;
    movedBytes += recBytes;
    splitAt--;
  }
  return Math.min(splitAt, map.length - 1);
}

/** Puts these records of `source` into an empty block, the last one taking what is left. */
function packRecords(
  data: Uint8Array,
  source: Uint8Array,
  records: readonly MapEntry[],
  shape: DirShape,
): void {
  let at = 0;
  for (const [index, { at: from, recBytes }] of records.entries()) {
    const isLast = index === records.length - 1;
    const recLen = isLast ? recordsEnd(shape) - at : recBytes;
    data.set(source.subarray(from, from + recBytes), at);
    putLe16(data, at + DE.rec_len, recLenToDisk(recLen, shape.blockBytes));
    at += recLen;
  }
}

/**
 * Puts `record` into the index of `dir`, which has no such name (`ext4_dx_add_entry`).
 *
 * @throws {FsError} `ENOSPC` also for an index that cannot grow; `EUCLEAN`/`EBADMSG` for a leaf
 * @throws {BadIndex} for an index that cannot be used
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function htreeAdd(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  wanted: WantedName,
  record: DirRecord,
): void {
  new DxInsert(ctx, handle, dir).add(wanted, record);
}

/**
 * Gives a directory of one block an index: its names go to a second block, the first one becomes
 * the root (`make_indexed_dir`).
 */
export function htreeInit(ctx: ExtWriter, handle: Handle, dir: ExtInode, blocknr: number): void {
  const shape = dirShapeOf(ctx, dir);
  const { hasChecksum, checksumSeed } = shape;
  const end = recordsEnd(shape);
  const data = handle.write(blocknr, hasChecksum ? indexSeal(checksumSeed) : undefined);
  const dotDotEnd = DOT_BYTES + recLenFromDisk(le16(data, DOT_BYTES + DE.rec_len), data.length);
  const hasDots = data[DE.name_len] === 1 && data[DOT_BYTES + DE.name_len] === 2;
  if (le16(data, DE.rec_len) !== DOT_BYTES || !hasDots || dotDotEnd > end) {
    throw damagedDir(dir, "it does not begin with its dots");
  }
  const leafSeal = hasChecksum ? dirBlockSeal(checksumSeed) : undefined;
  const leaf = appendDirBlock(ctx, handle, dir, leafSeal);
  initDirBlock(leaf.data, shape);
  packRecords(leaf.data, data, recordsFrom(data, shape, dotDotEnd), shape);
  const infoAt = ROOT_ENTRIES_AT - DX_INFO_BYTES;
  data.fill(0, infoAt, end); // Of the checksum behind `end` the kernel leaves a word too.
  const dotDotBytes = shape.blockBytes - DOT_BYTES;
  putLe16(data, DOT_BYTES + DE.rec_len, recLenToDisk(dotDotBytes, shape.blockBytes));
  const { hashVersion } = ctx.sb;
  data[DX.version] = hashVersion <= DX_HASH_TEA ? hashVersion : DX_HASH_HALF_MD4;
  data[DX.infoBytes] = DX_INFO_BYTES;
  putLe16(data, ROOT_ENTRIES_AT, limitOf(ROOT_ENTRIES_AT, shape));
  putLe16(data, ROOT_ENTRIES_AT + 2, 1);
  putLe32(data, ROOT_ENTRIES_AT + 4, leaf.fileBlock);
  dir.flags = (dir.flags | INDEX_FL) >>> 0;
}

/** The records from `from` on, in their order. */
function recordsFrom(data: Uint8Array, shape: DirShape, from: number): MapEntry[] {
  const records: MapEntry[] = [];
  const walk = new DirWalk(data, shape, 0, from, recordsEnd(shape));
  while (walk.next()) {
    records.push({ hash: 0, at: walk.at, recBytes: dirRecordBytes(walk.nameBytes) });
  }
  return records;
}
