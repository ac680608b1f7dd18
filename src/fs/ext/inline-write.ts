/**
 * Content that lies in the inode: changed in place while it fits, moved into a block when it does
 * not any more.
 *
 *     inode    | i_block, 60 bytes | .. | system.data |   changed by one operation, never dirty
 *     block    | content            0 0 0 0 0 0 0 0 0 |   written before the commit that shows it
 *
 * After `fs/ext4/inline.c` (`ext4_try_to_write_inline_data`, `ext4_convert_inline_data`).
 */
import { Bio, REQ_OP_WRITE, REQ_SYNC } from "../../block/bio.ts";
import type { Kiocb } from "../../cache/kiocb.ts";
import { truncateInodePages } from "../../cache/truncate.ts";
import { FsError } from "../../lib/errno.ts";
import { andThen, type MaybeAsync } from "../../lib/maybe.ts";
import { shouldJournalData } from "./data-mode.ts";
import type { FileWriting } from "./file-writing.ts";
import { withoutFills } from "./file-writing.ts";
import type { Handle } from "./handle.ts";
import { inlineTailMax, setInlineTail } from "./inline-tail.ts";
import type { ExtInode } from "./inode.ts";
import { journalData } from "./journaled-data.ts";
import { I_BLOCK_BYTES } from "./layout.ts";
import { initBlockMap } from "./metadata-file.ts";
import { mapForWrite, truncateStep } from "./truncate-blocks.ts";
import type { ExtWriter } from "./writer.ts";
import { inlineDataOf } from "./xattr.ts";

/** True if `inode`, which is inline, can hold `sizeBytes` bytes of content. */
export function fitsInline(
  ctx: ExtWriter,
  inode: ExtInode,
  sizeBytes: number,
): MaybeAsync<boolean> {
  if (sizeBytes <= I_BLOCK_BYTES) return true;
  return ctx.metadata.run(
    () => sizeBytes <= I_BLOCK_BYTES + Math.max(0, inlineTailMax(ctx, inode)),
  );
}

/** Puts `content`, which fits, into `inode`, whose size stays. */
function putInline(ctx: ExtWriter, handle: Handle, inode: ExtInode, content: Uint8Array): void {
  setInlineTail(ctx, handle, inode, content.slice(I_BLOCK_BYTES));
  inode.iBlock.fill(0);
  inode.iBlock.set(content.subarray(0, I_BLOCK_BYTES));
  inode.datasyncTid = handle.tid;
}

/** Makes `content`, which fits, the content of `inode`. */
function putContent(ctx: ExtWriter, handle: Handle, inode: ExtInode, content: Uint8Array): void {
  putInline(ctx, handle, inode, content);
  inode.size = content.length;
  inode.diskSize = content.length;
}

/** Changes the content by one operation, and drops what the cache has of it. */
function change(
  files: FileWriting,
  inode: ExtInode,
  makeContent: (old: Uint8Array) => Uint8Array,
): MaybeAsync<void> {
  const { ctx } = files;
  return withoutFills(files, inode, () => {
    const done = ctx.transactions.run((handle) => {
      putContent(ctx, handle, inode, makeContent(inlineDataOf(ctx, inode)));
    });
    return andThen(done, () => truncateInodePages(files.mappings.of(inode), 0));
  });
}

/**
 * Writes `bytes` at `iocb.posBytes`, which moves on, into an inline file, where they fit. `rwsem`
 * is held. Returns their number.
 */
export function writeInline(
  files: FileWriting,
  iocb: Kiocb,
  inode: ExtInode,
  bytes: Uint8Array,
): MaybeAsync<number> {
  const { posBytes } = iocb;
  const changed = change(files, inode, (old) => {
    const content = new Uint8Array(Math.max(inode.size, posBytes + bytes.length));
    content.set(old);
    content.set(bytes, posBytes);
    return content;
  });
  return andThen(changed, () => {
    iocb.posBytes = posBytes + bytes.length;
    return bytes.length;
  });
}

/** Cuts an inline file, or lets it grow with zeros, to a size that fits. `rwsem` is held. */
export function setInlineSize(
  files: FileWriting,
  inode: ExtInode,
  sizeBytes: number,
): MaybeAsync<void> {
  return change(files, inode, (old) => {
    const content = new Uint8Array(sizeBytes);
    content.set(old.subarray(0, sizeBytes));
    return content;
  });
}

/**
 * Moves the content of an inline file into a block (`ext4_convert_inline_data`): from then on it is
 * a file as others. The commit waits until the block is written, or holds it. `rwsem` is held.
 *
 * @throws {FsError} `ENOSPC`, and nothing has changed; `EIO` if the block cannot be written: then
 *   the content is in the inode again
 */
export function convertInline(files: FileWriting, inode: ExtInode): MaybeAsync<void> {
  return withoutFills(files, inode, () => convert(files, inode));
}

async function convert(files: FileWriting, inode: ExtInode): Promise<void> {
  const { ctx } = files;
  const mapping = files.mappings.of(inode);
  await truncateInodePages(mapping, 0);
  const moved = await ctx.transactions.run((handle) => {
    const content = inlineDataOf(ctx, inode);
    setInlineTail(ctx, handle, inode, null);
    initBlockMap(ctx, inode);
    inode.datasyncTid = handle.tid;
    if (content.length === 0) return null;
    const { physical } = mapForWrite(ctx, handle, inode, 0, 1);
    const block = new Uint8Array(ctx.sb.blockBytes);
    block.set(content);
    if (!shouldJournalData(ctx, inode)) {
      return { content, block, physical, onWritten: handle.orderIo() };
    }
    journalData(handle, physical, block);
    return null;
  });
  if (moved === null) return;
  const { block } = moved;
  const errno = await writeBlock(ctx, moved.physical, block);
  if (errno === 0) {
    moved.onWritten();
    return;
  }
  // By the same transaction, if that runs still. To wait for it might be to wait for `onWritten`.
  const isBack = moveBack(ctx, inode, moved.content);
  moved.onWritten();
  if (!(await isBack)) mapping.setError(errno);
  throw FsError.of(errno, { detail: `block ${moved.physical} cannot be written` });
}

/** Undoes a move of `content` into a block, which does not hold it. True if that was possible. */
async function moveBack(ctx: ExtWriter, inode: ExtInode, content: Uint8Array): Promise<boolean> {
  try {
    return await ctx.transactions.run((handle) => {
      if (content.length > I_BLOCK_BYTES + Math.max(0, inlineTailMax(ctx, inode))) return false;
      truncateStep(ctx, handle, inode, 0);
      putInline(ctx, handle, inode, content);
      return true;
    });
  } catch (thrown) {
    ctx.warn(`inode ${inode.ino}: its content could not be moved back: ${String(thrown)}`);
    return false;
  }
}

/** Writes one block past the cache. Resolves with 0 or an errno. */
function writeBlock(ctx: ExtWriter, blocknr: number, block: Uint8Array): Promise<number> {
  return new Promise((resolve) => {
    const bio = new Bio(REQ_OP_WRITE, REQ_SYNC, blocknr * block.length, () => resolve(bio.status));
    bio.addVector(block);
    ctx.core.bdev.submitBio(bio);
  });
}
