/**
 * Directories: the number behind a name, and all names in the order in which they are stored.
 *
 *     inline       `.` and `..` made up | 56 bytes of records in i_block | records in an attribute
 *     linear       block 0: `.` `..` name .. | block 1: name .. | ..
 *     indexed      the same blocks, those of the index among them, which hold no names (`htree.ts`)
 *
 * A cookie of `dirRead` is the number of a file block, so each name is returned once, and a reader
 * may stop and go on at any block. The order is that of the blocks, not the kernel's order of
 * hashes.
 *
 *  1. A directory has no more blocks than the file system: its size bounds every walk.
 *  2. A hole is taken for an empty block, with a warning.
 *  3. An inode that a name leads to is a number that names may lead to, and not the directory
 *     itself.
 *
 * After fs/ext4/dir.c, namei.c and inline.c of Linux.
 */
import { ByteSlab } from "../../lib/byte-slab.ts";
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import type { DirectoryBatch, DirectoryEntry } from "../vfs.ts";
import type { ExtContext } from "./context.ts";
import { CIPHERTEXT_MIN_BYTES, encodeNoKeyName } from "./crypt-name.ts";
import { type DirShape, DirWalk, dirShapeOf, isIndexBlock, verifyDirBlock } from "./dir-block.ts";
import { DX_HASH_TEA, type NameHash } from "./dir-hash.ts";
import { COMPAT_DIR_INDEX } from "./features.ts";
import { htreeHashVersion, htreeLookup, INDEX_UNUSABLE, verifyIndexBlock } from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, I_BLOCK_BYTES } from "./layout.ts";
import { hashOnVolume, type WantedName, wantedName } from "./wanted-name.ts";
import { inlineTailOf } from "./xattr.ts";

/**
 * Blocks of a directory are wanted one after the other: what is read on a miss, if it lies in one
 * run.
 */
const AHEAD_BYTES = MIB;
/** An inline directory begins with the number of its parent. */
const INLINE_PARENT_BYTES = 4;
const DOT_NAME = Uint8Array.of(0x2e);
const DOT_DOT_NAME = Uint8Array.of(0x2e, 0x2e);
const NO_HASH: NameHash = { major: 0, minor: 0 };

function damaged(dir: ExtInode, what: string): FsError {
  return new FsError("EUCLEAN", { detail: `directory ${dir.ino}: ${what}` });
}

function isDot(name: Uint8Array): boolean {
  return name.length === 1 && name[0] === DOT_NAME[0];
}

function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && name[0] === DOT_NAME[0] && name[1] === DOT_NAME[0];
}

/**
 * How far a search without an index has come: one object for all attempts of one lookup, so that
 * each block is looked at once, and need not stay cached until the last one has been found.
 */
export interface LinearSearch {
  /** Blocks before this one do not hold the name. 0 at the start. */
  fileBlock: number;
}

/**
 * Number of the inode that `name` leads to in `dir`, 0 if there is no such name (`ext4_lookup`).
 *
 * Directories that ignore case find any spelling; encrypted ones know the names that `dirRead`
 * shows. A damaged index costs a search of all blocks and a warning. O(log n) with an index, else
 * O(n).
 *
 * @throws {FsError} `ENOTDIR`; `ENAMETOOLONG`; `EUCLEAN`/`EBADMSG` for what is damaged on the way
 *   to the name; `EINVAL`, `EOPNOTSUPP` as `wantedName`
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function dirLookup(
  ctx: ExtContext,
  dir: ExtInode,
  name: Uint8Array,
  search: LinearSearch = { fileBlock: 0 },
): number {
  if (dir.type !== "directory") throw new FsError("ENOTDIR");
  if (isDot(name)) return dir.ino;
  if (isDotDot(name)) return lookupParent(ctx, dir);
  const wanted = wantedName(ctx, dir, name);
  if (wanted === undefined) return 0;
  const shape = dirShapeOf(ctx, dir);
  if (dir.isInline) return checkFound(ctx, dir, lookupInline(ctx, dir, shape, wanted));
  const blockCount = blockCountOf(ctx, dir);
  if (shape.isIndexed && blockCount > 0) {
    const ino = htreeLookup(ctx, dir, shape, blockCount, wanted);
    if (ino !== INDEX_UNUSABLE) return checkFound(ctx, dir, ino);
  }
  return checkFound(ctx, dir, lookupLinear(ctx, dir, shape, blockCount, wanted, search));
}

/** Throws `EUCLEAN` for a number that no name may lead to. */
function checkFound(ctx: ExtContext, dir: ExtInode, ino: number): number {
  const isReserved = ino !== 0 && ino < ctx.sb.firstIno && ino !== EXT_ROOT_INO;
  if (isReserved) throw damaged(dir, `a name leads to the reserved inode ${ino}`);
  if (ino === dir.ino) throw damaged(dir, "a name leads to the directory itself");
  return ino;
}

function lookupParent(ctx: ExtContext, dir: ExtInode): number {
  if (dir.isInline) return inlineParentOf(ctx, dir);
  if (blockCountOf(ctx, dir) === 0) return 0;
  const shape = dirShapeOf(ctx, dir);
  const data = readBlock(ctx, dir, shape, { fileBlock: 0, blockCount: 1 }).data;
  if (data === undefined) return 0;
  const walk = new DirWalk(data, shape, "file block 0");
  while (walk.next()) if (walk.hasName(DOT_DOT_NAME)) return walk.ino;
  return 0;
}

function lookupLinear(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  blockCount: number,
  wanted: WantedName,
  search: LinearSearch,
): number {
  while (search.fileBlock < blockCount) {
    const { fileBlock } = search;
    const { data, count } = readBlock(ctx, dir, shape, { fileBlock, blockCount });
    if (data !== undefined) {
      const walk = new DirWalk(data, shape, `file block ${fileBlock}`);
      const ino = findIn(walk, wanted);
      if (ino !== 0) return ino;
    }
    search.fileBlock += count;
  }
  return 0;
}

function findIn(walk: DirWalk, wanted: WantedName): number {
  while (walk.next()) if (wanted.matches(walk)) return walk.ino;
  return 0;
}

function lookupInline(ctx: ExtContext, dir: ExtInode, shape: DirShape, wanted: WantedName): number {
  for (const walk of inlineWalks(ctx, dir, shape)) {
    const ino = findIn(walk, wanted);
    if (ino !== 0) return ino;
  }
  return 0;
}

/**
 * The names in the block that `cookie` stands for, 0 at the start, or all of an inline directory
 * (`ext4_readdir`). `entries` may be empty before the end: a block can hold no names. `nextCookie`
 * is -1 after the last block and else larger than `cookie`. Names are copies; those of encrypted
 * directories are in the no-key form.
 *
 * @throws {FsError} `ENOTDIR`; `EUCLEAN` for a damaged record, a name with NUL or a slash, a
 *   ciphertext too short to be one; `EBADMSG` for a wrong checksum
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function dirRead(ctx: ExtContext, dir: ExtInode, cookie: number): DirectoryBatch {
  if (dir.type !== "directory") throw new FsError("ENOTDIR");
  const shape = dirShapeOf(ctx, dir);
  if (dir.isInline) return readInline(ctx, dir, shape, cookie);
  const blockCount = blockCountOf(ctx, dir);
  if (!(cookie >= 0 && cookie < blockCount)) return { entries: [], nextCookie: -1 };
  const { data, count } = readBlock(ctx, dir, shape, { fileBlock: cookie, blockCount });
  const entries: DirectoryEntry[] = [];
  if (data !== undefined) {
    const version = shownHashVersion(ctx, dir, shape, blockCount);
    collect(ctx, shape, version, new DirWalk(data, shape, `file block ${cookie}`), entries);
  }
  const next = cookie + count;
  return { entries, nextCookie: next < blockCount ? next : -1 };
}

function readInline(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  cookie: number,
): DirectoryBatch {
  if (cookie !== 0) return { entries: [], nextCookie: -1 };
  const entries: DirectoryEntry[] = [
    { name: DOT_NAME.slice(), ino: dir.ino, type: "directory" },
    { name: DOT_DOT_NAME.slice(), ino: inlineParentOf(ctx, dir), type: "directory" },
  ];
  const version = shownHashVersion(ctx, dir, shape, 1);
  for (const walk of inlineWalks(ctx, dir, shape)) collect(ctx, shape, version, walk, entries);
  return { entries, nextCookie: -1 };
}

/** Names are copied here from their blocks, many to a buffer. */
const slab: ByteSlab = new ByteSlab();

/** Appends the entries of `walk`, with their names as users see them. */
function collect(
  ctx: ExtContext,
  shape: DirShape,
  version: number | undefined,
  walk: DirWalk,
  entries: DirectoryEntry[],
): void {
  while (walk.next()) {
    walk.checkName();
    const isCiphertext = shape.isEncrypted && !walk.isDot;
    const name = isCiphertext ? noKeyNameAt(ctx, shape, version, walk) : slab.copy(walk.name);
    entries.push({ name, ino: walk.ino, type: walk.type });
  }
}

function noKeyNameAt(
  ctx: ExtContext,
  shape: DirShape,
  version: number | undefined,
  walk: DirWalk,
): Uint8Array {
  const { name } = walk;
  if (name.length < CIPHERTEXT_MIN_BYTES) {
    throw new FsError("EUCLEAN", {
      detail: `directory ${shape.ino}: an encrypted name has ${name.length} bytes`,
    });
  }
  let hash = NO_HASH;
  if (shape.hasStoredHash) hash = walk.storedHash;
  else if (version !== undefined) hash = hashOnVolume(ctx, version, name);
  return encodeNoKeyName(hash, name);
}

/**
 * Version of the hashes in the no-key names of `dir`; undefined where they are 0 or stored. The
 * kernel hashes where it reads a directory in the order of hashes: with an index, or as long as one
 * would fit into one block (`is_dx_dir`).
 */
function shownHashVersion(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  blockCount: number,
): number | undefined {
  if (!shape.isEncrypted || shape.hasStoredHash) return undefined;
  if (shape.isIndexed) return htreeHashVersion(ctx, dir, shape, blockCount);
  const isSmall = blockCount === 1 && ctx.sb.hasCompat(COMPAT_DIR_INDEX);
  return isSmall && ctx.sb.hashVersion <= DX_HASH_TEA ? ctx.sb.hashVersion : undefined;
}

/** Blocks of a directory that is not inline. Throws `EUCLEAN` for a size that cannot be. */
function blockCountOf(ctx: ExtContext, dir: ExtInode): number {
  const blockCount = dir.size / ctx.sb.blockBytes;
  if (!Number.isInteger(blockCount)) {
    throw damaged(dir, `i_size is ${dir.size}, no multiple of ${ctx.sb.blockBytes}`);
  }
  if (blockCount > ctx.sb.blockCount) {
    throw damaged(dir, `i_size is ${dir.size}, more than the file system`);
  }
  return blockCount;
}

/** A verified block of a directory, or the hole from there on. */
interface DirBlock {
  /** Undefined for a hole. */
  readonly data: Uint8Array | undefined;
  /** File blocks that this is: 1, or the part of the hole that was looked at. */
  readonly count: number;
}

function readBlock(
  ctx: ExtContext,
  dir: ExtInode,
  shape: DirShape,
  { fileBlock, blockCount }: { readonly fileBlock: number; readonly blockCount: number },
): DirBlock {
  const aheadCount = Math.max(1, Math.floor(AHEAD_BYTES / shape.blockBytes));
  const run = ctx.mapBlocks(dir, fileBlock, Math.min(blockCount - fileBlock, aheadCount));
  if (run.physical === 0 || run.isUnwritten) {
    ctx.warn(`directory ${dir.ino}: there is a hole at file block ${fileBlock}`);
    return { data: undefined, count: run.count };
  }
  // Which checksum a block has can only be told from its content, so it is read first.
  const data = ctx.metadata.blockWithin(run.physical, run.physical, run.count);
  const verifier = isIndexBlock(data, fileBlock, shape) ? verifyIndexBlock : verifyDirBlock;
  return { data: ctx.metadata.verified(run.physical, verifier, shape), count: 1 };
}

function inlineParentOf(ctx: ExtContext, dir: ExtInode): number {
  const parent = le32(dir.iBlock, 0);
  if (parent === 0 || parent > ctx.sb.inodeCount) throw damaged(dir, `parent is inode ${parent}`);
  return parent;
}

/** The walks over both areas of an inline directory. */
function inlineWalks(ctx: ExtContext, dir: ExtInode, shape: DirShape): readonly DirWalk[] {
  const tail = inlineTailOf(ctx, dir);
  const head = new DirWalk(dir.iBlock, shape, "i_block", INLINE_PARENT_BYTES, I_BLOCK_BYTES);
  return [head, new DirWalk(tail, shape, "inline data")];
}
