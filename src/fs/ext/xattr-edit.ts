/**
 * Writing areas of extended attributes: bytes from a list of attributes, and the hashes of blocks.
 * The other direction is `xattr-area.ts`.
 *
 *     | entry b | entry a | 0 |      free      | value of a | value of b |
 *
 *  1. An area is always written whole, from the list: values lie without gaps from its end on, in
 *     the order of the entries.
 *  2. Entries of a block are sorted, else Linux does not find them; those of an inode stay in their
 *     order.
 *  3. `e_hash` is stored in blocks, and for values in inodes of their own; else it is 0.
 *
 * After fs/ext4/xattr.c of Linux (`ext4_xattr_set_entry`, `ext4_xattr_rehash`).
 */
import { assert } from "../../lib/assert.ts";
import { putLe16, putLe32 } from "../../lib/bytes.ts";
import { roundUp } from "../../lib/units.ts";
import { xattrBlockChecksum } from "./checksum.ts";
import { xattrEntryHashes } from "./ea-inode.ts";
import type { Seal } from "./handle.ts";
import {
  XATTR_BLOCK_HEADER_BYTES,
  XATTR_ENTRY_BYTES,
  XATTR_MAGIC,
  type XattrBounds,
  type XattrEntry,
  XE,
  XH,
} from "./xattr-area.ts";

/** Zeros that end the list of entries. */
const LIST_END_BYTES = 4;
const VALUE_SHIFT = 16;

/** Bytes of the entry itself, with its name. */
function entryBytes(entry: XattrEntry): number {
  return roundUp(XATTR_ENTRY_BYTES + entry.name.length, 4);
}

/** Bytes that the value of `entry` has in the area. */
function valueBytesHere(entry: XattrEntry): number {
  return entry.valueIno === 0 ? roundUp(entry.valueBytes, 4) : 0;
}

/** Bytes of an area with these attributes and nothing to spare, without its header. */
export function xattrAreaBytes(entries: readonly XattrEntry[]): number {
  let bytes = LIST_END_BYTES;
  for (const entry of entries) bytes += entryBytes(entry) + valueBytesHere(entry);
  return bytes;
}

/** `entries` copied off the area that they were read from, which is about to be written. */
export function detached(entries: readonly XattrEntry[]): XattrEntry[] {
  return entries.map((entry) => ({
    ...entry,
    name: entry.name.slice(),
    value: entry.value.slice(),
  }));
}

/** Order of the entries of a block: by index, length of the name, bytes of the name. */
export function compareEntries(a: XattrEntry, b: XattrEntry): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  for (let at = 0; at < a.name.length; at++) {
    if (a.name[at] !== b.name[at]) return a.name[at]! - b.name[at]!;
  }
  return 0;
}

/** Hash of an entry that has its value beside it, for a block (`ext4_xattr_hash_entry`). */
export function xattrEntryHash(name: Uint8Array, value: Uint8Array | number): number {
  return xattrEntryHashes(name, value)[0];
}

/** Writes `entries`, which fit, into `data` within `bounds`; the rest of the area becomes zeros. */
export function writeXattrArea(
  data: Uint8Array,
  bounds: XattrBounds,
  entries: readonly XattrEntry[],
): void {
  assert(bounds.entriesAt + xattrAreaBytes(entries) <= bounds.end, "the attributes fit");
  data.fill(0, bounds.entriesAt, bounds.end);
  let at = bounds.entriesAt;
  let valueAt = bounds.end;
  for (const entry of entries) {
    data[at + XE.name_len] = entry.name.length;
    data[at + XE.name_index] = entry.index;
    putLe32(data, at + XE.value_inum, entry.valueIno);
    putLe32(data, at + XE.value_size, entry.valueBytes);
    putLe32(data, at + XE.hash, entry.hash);
    data.set(entry.name, at + XATTR_ENTRY_BYTES);
    const bytesHere = valueBytesHere(entry);
    if (bytesHere > 0) {
      valueAt -= bytesHere;
      data.set(entry.value, valueAt);
      putLe16(data, at + XE.value_offs, valueAt - bounds.base);
    }
    at += entryBytes(entry);
  }
}

/** Where the attributes of a block of `blockBytes` lie. */
export function xattrBlockBounds(blockBytes: number): XattrBounds {
  return { entriesAt: XATTR_BLOCK_HEADER_BYTES, base: 0, end: blockBytes };
}

/** Fills a whole block that one inode refers to. `entries` are sorted and have their hashes. */
export function writeXattrBlock(data: Uint8Array, entries: readonly XattrEntry[]): void {
  writeXattrArea(data, xattrBlockBounds(data.length), entries);
  data.fill(0, 0, XATTR_BLOCK_HEADER_BYTES);
  putLe32(data, XH.magic, XATTR_MAGIC);
  putLe32(data, XH.refcount, 1);
  putLe32(data, XH.blocks, 1);
  putLe32(data, XH.hash, xattrBlockHash(entries));
}

/** Hash over all entries of a block; 0, which is never shared, if one of them has none. */
function xattrBlockHash(entries: readonly XattrEntry[]): number {
  let hash = 0;
  for (const entry of entries) {
    if (entry.hash === 0) return 0;
    hash = (hash << VALUE_SHIFT) ^ (hash >>> (32 - VALUE_SHIFT)) ^ entry.hash;
  }
  return hash >>> 0;
}

/** Computes the checksum of an attribute block of a volume with this seed. */
export function xattrBlockSeal(seed: number): Seal {
  return (block, blocknr) => putLe32(block, XH.checksum, xattrBlockChecksum(seed, blocknr, block));
}
