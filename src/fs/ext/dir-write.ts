/**
 * Names in a directory: made, taken away, led elsewhere. Each function is part of an operation on
 * (ctx, handle), synchronous and restartable.
 *
 *     dirAdd   inline, has room        `inline-dir.ts`
 *              indexed                 `htree-write.ts`
 *              linear                  the first block that may have room (`dir-state.ts`)
 *              linear, 1 block, full   becomes indexed, if the volume has indexes
 *              else                    a new block at the end
 *
 *  1. Times, link counts and what the name leads to are the caller's (`namespace.ts`).
 *  2. The directory is locked by whoever runs the operation.
 *  3. An index that is damaged is given up where blocks have no checksums, and else an error, as in
 *     Linux.
 *
 * After fs/ext4/namei.c (`ext4_add_entry`, `ext4_delete_entry`, `ext4_setent`, `ext4_empty_dir`).
 */
import { putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import type { FileType } from "../vfs.ts";
import type { ExtContext } from "./context.ts";
import { type DirShape, DirWalk, dirRecordBytes, dirShapeOf } from "./dir-block.ts";
import {
  type DirRecord,
  dirBlockSeal,
  findGap,
  initDirBlock,
  putRecord,
  recordsEnd,
  removeRecord,
  setRecordInode,
} from "./dir-edit.ts";
import {
  type DirSlot,
  damagedDir,
  dirBlockCount,
  dirFind,
  INLINE,
  inlineWalks,
  readDirBlock,
} from "./dir-search.ts";
import { DirNames, type DirState, dirStateOf } from "./dir-state.ts";
import { COMPAT_DIR_INDEX } from "./features.ts";
import type { Handle, Seal } from "./handle.ts";
import { BadIndex } from "./htree.ts";
import { htreeAdd, htreeInit, indexSeal } from "./htree-write.ts";
import {
  canBeInlineDir,
  dirBlockInit,
  inlineDirAdd,
  inlineDirInit,
  inlineDirToBlock,
} from "./inline-dir.ts";
import type { ExtInode } from "./inode.ts";
import { INDEX_FL } from "./layout.ts";
import { appendDirBlock } from "./metadata-file.ts";
import { type WantedName, wantedName } from "./wanted-name.ts";
import type { ExtWriter } from "./writer.ts";

/** From this many blocks on, the names of a linear directory are remembered. */
const NAMED_BLOCKS_MIN = 4;
const DOT = 0x2e;

/** Counts a change of `dir`, and sees to it that what is remembered of it goes if it is undone. */
function changing(handle: Handle, dir: ExtInode): DirState {
  const state = dirStateOf(dir);
  state.version++;
  handle.undo(() => state.forget());
  return state;
}

function leafSeal(shape: DirShape): Seal | undefined {
  return shape.hasChecksum ? dirBlockSeal(shape.checksumSeed) : undefined;
}

/**
 * What `name` means in `dir`, where it is to be made. Throws as `wantedName`, `ENOENT` for an empty
 * name, `ENOKEY` for a directory whose names are encrypted, `EINVAL` for a NUL or a slash.
 */
function newName(ctx: ExtContext, dir: ExtInode, name: Uint8Array): WantedName {
  if (dir.isEncrypted) {
    throw new FsError("ENOKEY", { detail: `directory ${dir.ino} is encrypted` });
  }
  if (name.includes(0) || name.includes(0x2f)) {
    throw new FsError("EINVAL", { detail: "a name holds no NUL and no slash" });
  }
  const wanted = wantedName(ctx, dir, name);
  if (wanted === undefined) throw new FsError("ENOENT", { detail: "the name is empty" });
  return wanted;
}

/** Makes the new inode `dir` a directory without names in `parentIno` (`ext4_init_new_dir`). */
export function dirInit(ctx: ExtWriter, handle: Handle, dir: ExtInode, parentIno: number): void {
  ctx.editInode(handle, dir);
  if (canBeInlineDir(ctx, dir)) inlineDirInit(ctx, handle, dir, parentIno);
  else dirBlockInit(ctx, handle, dir, parentIno, []);
}

/**
 * Where `name` stands in `dir`, undefined if it is not there; not for dots.
 *
 * @throws {FsError} as `dirLookup`
 */
export function dirFindName(ctx: ExtContext, dir: ExtInode, name: Uint8Array): DirSlot | undefined {
  const wanted = wantedName(ctx, dir, name);
  return wanted === undefined ? undefined : dirFind(ctx, dir, wanted);
}

/**
 * Lets the new name `name` of `dir` lead to `ino`. With `isKnownNew` the caller has looked, and
 * nothing has changed since.
 *
 * @throws {FsError} `EEXIST`; `ENOSPC`; `ENAMETOOLONG`, `ENOKEY`, `EINVAL`; `EUCLEAN`/`EBADMSG` for
 *   a damaged directory
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function dirAdd(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  name: Uint8Array,
  ino: number,
  type: FileType,
  isKnownNew = false,
): void {
  const wanted = newName(ctx, dir, name);
  if (!isKnownNew && dirFind(ctx, dir, wanted) !== undefined) throw new FsError("EEXIST");
  const state = changing(handle, dir);
  const record: DirRecord = { ino, name, type };
  if (dir.isInline) {
    if (inlineDirAdd(ctx, handle, dir, record)) return;
    inlineDirToBlock(ctx, handle, dir);
  }
  if (dirShapeOf(ctx, dir).isIndexed && dirBlockCount(ctx, dir) > 0) {
    if (addIndexed(ctx, handle, dir, wanted, record)) return;
  } else if (dir.isHashedDir) dropIndex(ctx, handle, dir);
  addLinear(ctx, handle, dir, { wanted, record, state });
}

/** False if the index is given up. */
function addIndexed(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  wanted: WantedName,
  record: DirRecord,
): boolean {
  try {
    htreeAdd(ctx, handle, dir, wanted, record);
    return true;
  } catch (thrown) {
    if (!(thrown instanceof BadIndex)) throw thrown;
    if (ctx.hasMetadataCsum) throw damagedDir(dir, `its index is damaged: ${thrown.what}`);
    ctx.warn(`directory ${dir.ino}: its index is damaged and given up: ${thrown.what}`);
  }
  dropIndex(ctx, handle, dir);
  return false;
}

/** Makes `dir` a linear directory: the blocks of its index look as if they had room for names. */
function dropIndex(ctx: ExtWriter, handle: Handle, dir: ExtInode): void {
  ctx.editInode(handle, dir);
  dir.flags = (dir.flags & ~INDEX_FL) >>> 0;
}

/** A name on its way into a linear directory. */
interface Adding {
  readonly wanted: WantedName;
  readonly record: DirRecord;
  readonly state: DirState;
}

function addLinear(ctx: ExtWriter, handle: Handle, dir: ExtInode, adding: Adding): void {
  const { record, state } = adding;
  const shape = dirShapeOf(ctx, dir);
  const needBytes = dirRecordBytes(record.name.length);
  const blockCount = dirBlockCount(ctx, dir);
  let fileBlock = state.roomFrom(needBytes);
  while (fileBlock < blockCount) {
    const { data, count, blocknr } = readDirBlock(ctx, dir, shape, fileBlock);
    const gapAt = data === undefined ? -1 : gapIn(data, shape, fileBlock, needBytes);
    if (gapAt >= 0) {
      putRecord(handle.write(blocknr, leafSeal(shape)), shape, gapAt, record);
      noteAdded(adding, needBytes, fileBlock, blockCount);
      return;
    }
    fileBlock += count;
  }
  if (blockCount === 1 && ctx.sb.hasCompat(COMPAT_DIR_INDEX)) {
    htreeInit(ctx, handle, dir, readDirBlock(ctx, dir, shape, 0).blocknr);
    state.forget();
    htreeAdd(ctx, handle, dir, adding.wanted, record);
    return;
  }
  const added = appendDirBlock(ctx, handle, dir, leafSeal(shape));
  initDirBlock(added.data, shape);
  putRecord(added.data, shape, 0, record);
  noteAdded(adding, needBytes, blockCount, blockCount + 1);
}

function gapIn(data: Uint8Array, shape: DirShape, fileBlock: number, needBytes: number): number {
  const walk = new DirWalk(data, shape, fileBlock, 0, recordsEnd(shape));
  return findGap(walk, needBytes);
}

function noteAdded(
  { record, state, wanted }: Adding,
  needBytes: number,
  fileBlock: number,
  blockCount: number,
): void {
  state.setFull(needBytes, fileBlock);
  if (wanted.stored === undefined) return;
  if (blockCount >= NAMED_BLOCKS_MIN) state.names ??= new DirNames();
  state.names?.add(record.name, fileBlock);
}

/**
 * Takes `name` out of `dir`, and returns the number of the inode that it led to. Who has looked for
 * it, with nothing changed since, gives its `slot`.
 *
 * @throws {FsError} `ENOENT`; what `dirLookup` throws
 */
export function dirRemove(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  name: Uint8Array,
  slot: DirSlot | undefined = dirFindName(ctx, dir, name),
): number {
  if (slot === undefined) throw new FsError("ENOENT");
  const { walk, fileBlock } = slot;
  const { ino, at, previousAt } = walk;
  const stored = walk.name.slice();
  const shape = dirShapeOf(ctx, dir);
  const state = changing(handle, dir);
  const data = slotBytes(ctx, handle, dir, slot, shape);
  const spareBytes = removeRecord(data, shape, at, previousAt);
  if (fileBlock === INLINE) return ino;
  state.setRoom(spareBytes, fileBlock);
  state.names?.remove(stored);
  return ino;
}

/** The bytes that `slot` lies in, to be changed. */
function slotBytes(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  slot: DirSlot,
  shape: DirShape,
): Uint8Array {
  if (slot.fileBlock !== INLINE) return handle.write(slot.blocknr, leafSeal(shape));
  ctx.editInode(handle, dir);
  return slot.walk.data;
}

/**
 * Lets `name` of `dir`, which is there, lead to `ino`; `..` too. Throws `ENOENT`, and what
 * `dirLookup` throws.
 */
export function dirReplace(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  name: Uint8Array,
  ino: number,
  type: FileType,
): void {
  if (name.length === 2 && name[0] === DOT && name[1] === DOT) {
    replaceParent(ctx, handle, dir, ino);
    return;
  }
  const slot = dirFindName(ctx, dir, name);
  if (slot === undefined) throw new FsError("ENOENT");
  const shape = dirShapeOf(ctx, dir);
  changing(handle, dir);
  setRecordInode(slotBytes(ctx, handle, dir, slot, shape), shape, slot.walk.at, ino, type);
}

function replaceParent(ctx: ExtWriter, handle: Handle, dir: ExtInode, ino: number): void {
  changing(handle, dir);
  if (dir.isInline) {
    ctx.editInode(handle, dir);
    putLe32(dir.iBlock, 0, ino);
    return;
  }
  const shape = dirShapeOf(ctx, dir);
  const { data, blocknr } = readDirBlock(ctx, dir, shape, 0);
  const walk = data === undefined ? undefined : new DirWalk(data, shape, 0);
  const hasDots = walk?.next() === true && walk.next() && walk.isDot && walk.nameBytes === 2;
  if (walk === undefined || !hasDots) throw damagedDir(dir, "it does not begin with its dots");
  const seal =
    shape.isIndexed && shape.hasChecksum ? indexSeal(shape.checksumSeed) : leafSeal(shape);
  setRecordInode(handle.write(blocknr, seal), shape, walk.at, ino, "directory");
}

/** True if `dir` holds no names but its dots (`ext4_empty_dir`). O(blocks). Throws as `dirRead`. */
export function dirIsEmpty(ctx: ExtContext, dir: ExtInode): boolean {
  const shape = dirShapeOf(ctx, dir);
  if (dir.isInline) return inlineWalks(ctx, dir, shape).every((walk) => !walk.next());
  const blockCount = dirBlockCount(ctx, dir);
  for (let fileBlock = 0; fileBlock < blockCount; ) {
    const { data, count } = readDirBlock(ctx, dir, shape, fileBlock);
    if (data !== undefined) {
      const walk = new DirWalk(data, shape, fileBlock);
      while (walk.next()) if (!walk.isDot) return false;
    }
    fileBlock += count;
  }
  return true;
}

/**
 * How often the names of `dir` were changed since it is in memory: a listing during which this
 * stays the same shows each name once.
 */
export function dirVersion(dir: ExtInode): number {
  return dirStateOf(dir).version;
}
