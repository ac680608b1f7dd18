/**
 * The attribute `system.data`, which holds the inline data of an inode behind the 60 bytes of
 * `i_block`: made with the inode, resized, and removed when the data moves into blocks.
 *
 *     i_block, 60 bytes | .. i_extra_isize | other attributes | system.data: the tail
 *
 * Other attributes stay where they are: the tail takes what they leave. After `fs/ext4/inline.c`
 * (`get_max_inline_xattr_value_size`, `ext4_create_inline_data`, `ext4_update_inline_data`).
 */
import { assert } from "../../lib/assert.ts";
import { putLe32 } from "../../lib/bytes.ts";
import { roundDown } from "../../lib/units.ts";
import type { ExtContext } from "./context.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { EXTENTS_FL, INLINE_DATA_FL } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";
import {
  INLINE_NAME,
  inodeEntries,
  inodeXattrBounds,
  isInlineEntry,
  XATTR_INDEX_SYSTEM,
} from "./xattr.ts";
import { XATTR_INODE_HEADER_BYTES, XATTR_MAGIC, type XattrEntry } from "./xattr-area.ts";
import { detached, writeXattrArea, xattrAreaBytes } from "./xattr-edit.ts";

function tailEntry(value: Uint8Array): XattrEntry {
  return {
    index: XATTR_INDEX_SYSTEM,
    name: INLINE_NAME,
    value,
    valueBytes: value.length,
    valueIno: 0,
    hash: 0,
  };
}

/**
 * Bytes that the tail of `inode` may have beside the other attributes in the inode, a multiple of
 * 4; -1 if there is not even room for an empty one.
 */
export function inlineTailMax(ctx: ExtContext, inode: ExtInode): number {
  const bounds = inodeXattrBounds(inode);
  if (bounds === undefined) return -1;
  const others = inodeEntries(ctx, inode).filter((entry) => !isInlineEntry(entry));
  const usedBytes = xattrAreaBytes([...others, tailEntry(new Uint8Array(0))]);
  const freeBytes = bounds.end - bounds.entriesAt - usedBytes;
  return freeBytes < 0 ? -1 : roundDown(freeBytes, 4);
}

/**
 * Writes the attributes in the inode; `entries` fit and do not lie in `inode.raw`. To be called in
 * an edit of the inode.
 */
export function writeInodeXattrs(inode: ExtInode, entries: readonly XattrEntry[]): void {
  const bounds = inodeXattrBounds(inode);
  assert(bounds !== undefined, "the inode has room for attributes");
  const headerAt = bounds.entriesAt - XATTR_INODE_HEADER_BYTES;
  if (entries.length === 0) {
    inode.raw.fill(0, headerAt, bounds.end);
    return;
  }
  putLe32(inode.raw, headerAt, XATTR_MAGIC);
  writeXattrArea(inode.raw, bounds, entries);
}

/**
 * Makes `tail`, at most `inlineTailMax` bytes, the data behind `i_block`, and `inode` an inline
 * one; null takes the attribute away, and the inode is none any more. `i_block`, a map in it, and
 * the size are the caller's.
 */
export function setInlineTail(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  tail: Uint8Array | null,
): void {
  ctx.editInode(handle, inode);
  const entries = detached(inodeEntries(ctx, inode));
  const at = entries.findIndex(isInlineEntry);
  if (tail !== null) entries.splice(at < 0 ? entries.length : at, at < 0 ? 0 : 1, tailEntry(tail));
  else if (at >= 0) entries.splice(at, 1);
  writeInodeXattrs(inode, entries);
  // An inline inode has no map, so not that of extents: what follows null makes one.
  const flags = inode.flags & ~(INLINE_DATA_FL | EXTENTS_FL);
  inode.flags = (tail === null ? flags : flags | INLINE_DATA_FL) >>> 0;
  inode.mapSeq++;
}
