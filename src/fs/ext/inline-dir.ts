/**
 * Names come into a directory that lies in its inode, until it has to move into a block.
 *
 *     i_block   | parent | records, 56 bytes |      size 60
 *     tail      | records ..                 |      size 60 + tail: all that the inode has left
 *     block     | . | .. | records .. |             when neither has room
 *
 * As Linux does, the tail is taken at once as large as it gets. After `fs/ext4/inline.c`
 * (`ext4_try_add_inline_entry`, `ext4_convert_inline_dir`).
 */
import { putLe32 } from "../../lib/bytes.ts";
import type { ExtContext } from "./context.ts";
import { type DirShape, DirWalk, dirRecordBytes, dirShapeOf } from "./dir-block.ts";
import {
  clearRecords,
  type DirRecord,
  dirBlockSeal,
  findGap,
  initFirstBlock,
  putRecord,
  recordsEnd,
} from "./dir-edit.ts";
import { INLINE_PARENT_BYTES, inlineParentOf, inlineWalks } from "./dir-search.ts";
import { INCOMPAT_INLINE_DATA } from "./features.ts";
import type { Handle } from "./handle.ts";
import { inlineTailMax, setInlineTail } from "./inline-tail.ts";
import type { ExtInode } from "./inode.ts";
import { I_BLOCK_BYTES } from "./layout.ts";
import { appendDirBlock, initBlockMap } from "./metadata-file.ts";
import type { ExtWriter } from "./writer.ts";
import { inlineTailOf } from "./xattr.ts";

/** True if a new directory may lie in its inode. */
export function canBeInlineDir(ctx: ExtContext, dir: ExtInode): boolean {
  return ctx.sb.hasIncompat(INCOMPAT_INLINE_DATA) && inlineTailMax(ctx, dir) >= 0;
}

/** Makes `dir` an empty inline directory (`ext4_try_create_inline_dir`). */
export function inlineDirInit(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  parentIno: number,
): void {
  setInlineTail(ctx, handle, dir, new Uint8Array(0));
  clearRecords(dir.iBlock, dirShapeOf(ctx, dir), INLINE_PARENT_BYTES, I_BLOCK_BYTES);
  putLe32(dir.iBlock, 0, parentIno);
  dir.size = I_BLOCK_BYTES;
  dir.diskSize = dir.size;
}

/** Puts `record` into the inline directory `dir`; false if it has no room: nothing is changed. */
export function inlineDirAdd(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  record: DirRecord,
): boolean {
  const shape = dirShapeOf(ctx, dir);
  const needBytes = dirRecordBytes(record.name.length);
  for (const walk of inlineWalks(ctx, dir, shape)) {
    const gapAt = findGap(walk, needBytes);
    if (gapAt < 0) continue;
    ctx.editInode(handle, dir);
    putRecord(walk.data, shape, gapAt, record);
    return true;
  }
  return addInNewTail(ctx, handle, dir, record);
}

function addInNewTail(ctx: ExtWriter, handle: Handle, dir: ExtInode, record: DirRecord): boolean {
  const tailBytes = inlineTailMax(ctx, dir);
  const isFirst = inlineTailOf(ctx, dir).length === 0;
  if (!isFirst || tailBytes < dirRecordBytes(record.name.length)) return false;
  const shape = dirShapeOf(ctx, dir);
  const tail = new Uint8Array(tailBytes);
  clearRecords(tail, shape, 0, tailBytes);
  putRecord(tail, shape, 0, record);
  setInlineTail(ctx, handle, dir, tail);
  dir.size = I_BLOCK_BYTES + tailBytes;
  dir.diskSize = dir.size;
  return true;
}

/** Moves the names of `dir` into its first block (`ext4_convert_inline_data_nolock`). */
export function inlineDirToBlock(ctx: ExtWriter, handle: Handle, dir: ExtInode): void {
  const shape = dirShapeOf(ctx, dir);
  const parentIno = inlineParentOf(ctx, dir);
  const records: DirRecord[] = [];
  for (const walk of inlineWalks(ctx, dir, shape)) {
    while (walk.next()) records.push({ ino: walk.ino, name: walk.name.slice(), type: walk.type });
  }
  setInlineTail(ctx, handle, dir, null);
  initBlockMap(ctx, dir);
  dir.size = 0;
  dirBlockInit(ctx, handle, dir, parentIno, records);
}

/** Gives `dir`, which has no blocks, its first one, with dots and `records`, which fit. */
export function dirBlockInit(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  parentIno: number,
  records: readonly DirRecord[],
): void {
  const shape = dirShapeOf(ctx, dir);
  const seal = shape.hasChecksum ? dirBlockSeal(shape.checksumSeed) : undefined;
  const { data } = appendDirBlock(ctx, handle, dir, seal);
  initFirstBlock(data, shape, parentIno);
  for (const record of records) addToBlock(data, shape, record);
}

function addToBlock(data: Uint8Array, shape: DirShape, record: DirRecord): void {
  const walk = new DirWalk(data, shape, 0, 0, recordsEnd(shape));
  putRecord(data, shape, findGap(walk, dirRecordBytes(record.name.length)), record);
}
