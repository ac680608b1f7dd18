/**
 * Directories: the number behind a name, and all names in the order in which they are stored.
 *
 *     cookie  0                1                2
 *             block 0: . .. a  block 1: b c d   block 2 ..        inline: all at cookie 0
 *
 * A cookie of `dirRead` is the number of a file block, so each name is returned once, and a reader
 * may stop and go on at any block. The order is that of the blocks, not the kernel's order of
 * hashes. Names of a directory that is changed meanwhile only ever move to blocks behind its end
 * (`htree-write.ts`): a reader may see one twice, and misses none.
 *
 *  1. An inode that a name leads to is a number that names may lead to, and not the directory
 *     itself.
 *
 * After fs/ext4/dir.c, namei.c and inline.c of Linux.
 */
import { ByteSlab } from "../../lib/byte-slab.ts";
import { FsError } from "../../lib/errno.ts";
import type { DirectoryBatch, DirectoryEntry } from "../vfs.ts";
import type { ExtContext } from "./context.ts";
import { CIPHERTEXT_MIN_BYTES, encodeNoKeyName } from "./crypt-name.ts";
import { type DirShape, DirWalk, dirShapeOf } from "./dir-block.ts";
import { DX_HASH_TEA, type NameHash } from "./dir-hash.ts";
import {
  damagedDir,
  dirBlockCount,
  dirFind,
  inlineParentOf,
  inlineWalks,
  type LinearSearch,
  readDirBlock,
} from "./dir-search.ts";
import { COMPAT_DIR_INDEX } from "./features.ts";
import { htreeHashVersion } from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO } from "./layout.ts";
import { hashOnVolume, wantedName } from "./wanted-name.ts";

const DOT_NAME = Uint8Array.of(0x2e);
const DOT_DOT_NAME = Uint8Array.of(0x2e, 0x2e);
const NO_HASH: NameHash = { major: 0, minor: 0 };

function isDot(name: Uint8Array): boolean {
  return name.length === 1 && name[0] === DOT_NAME[0];
}

function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && name[0] === DOT_NAME[0] && name[1] === DOT_NAME[0];
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
  const slot = dirFind(ctx, dir, wanted, search);
  return slot === undefined ? 0 : checkFound(ctx, dir, slot.walk.ino);
}

/** Throws `EUCLEAN` for a number that no name may lead to. */
export function checkFound(ctx: ExtContext, dir: ExtInode, ino: number): number {
  const isReserved = ino !== 0 && ino < ctx.sb.firstIno && ino !== EXT_ROOT_INO;
  if (isReserved) throw damagedDir(dir, `a name leads to the reserved inode ${ino}`);
  if (ino === dir.ino) throw damagedDir(dir, "a name leads to the directory itself");
  return ino;
}

function lookupParent(ctx: ExtContext, dir: ExtInode): number {
  if (dir.isInline) return inlineParentOf(ctx, dir);
  if (dirBlockCount(ctx, dir) === 0) return 0;
  const shape = dirShapeOf(ctx, dir);
  const { data } = readDirBlock(ctx, dir, shape, 0);
  if (data === undefined) return 0;
  const walk = new DirWalk(data, shape, 0);
  while (walk.next()) if (walk.hasName(DOT_DOT_NAME)) return walk.ino;
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
  const blockCount = dirBlockCount(ctx, dir);
  if (!(cookie >= 0 && cookie < blockCount)) return { entries: [], nextCookie: -1 };
  const { data, count } = readDirBlock(ctx, dir, shape, cookie);
  const entries: DirectoryEntry[] = [];
  if (data !== undefined) {
    const version = shownHashVersion(ctx, dir, shape, blockCount);
    collect(ctx, shape, version, new DirWalk(data, shape, cookie), entries);
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
