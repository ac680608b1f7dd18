/**
 * One area of extended attributes: entries from its start, values from its end.
 *
 *     | ea020000 .. | entry name | entry name | 0 |   free   | value | value |
 *                                                 ^ names end    ^ at e_value_offs from `base`
 *
 *     in the inode   offsets count from the first entry; header of 4 bytes
 *     in a block     offsets count from the block; header of 32 bytes, shared by inodes, checksum
 *
 *  1. `readXattrArea` checks every entry before it returns any: names end before the area does, and
 *     each value lies behind the names and inside the area (`check_xattrs`).
 *  2. An entry whose value has an inode of its own has no place here; that inode is `valueIno`.
 *
 * After fs/ext4/xattr.c of Linux.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { roundUp } from "../../lib/units.ts";
import { xattrBlockChecksum } from "./checksum.ts";
import { INCOMPAT_EA_INODE } from "./features.ts";
import { EXT_ROOT_INO } from "./layout.ts";
import type { BlockVerifier } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** Fields of an entry (`struct ext4_xattr_entry`). */
export const XE = {
  name_len: 0,
  name_index: 1,
  value_offs: 2,
  value_inum: 4,
  value_size: 8,
  hash: 12,
} as const;
export const XATTR_ENTRY_BYTES = 16;
/** Fields of the header of a block (`struct ext4_xattr_header`). */
export const XH = {
  magic: 0x00,
  refcount: 0x04,
  blocks: 0x08,
  hash: 0x0c,
  checksum: 0x10,
} as const;
export const XATTR_BLOCK_HEADER_BYTES = 0x20;
/** Bytes of the header in an inode, the magic number alone. */
export const XATTR_INODE_HEADER_BYTES = 4;
export const XATTR_MAGIC = 0xea02_0000;
/** Longest value (`EXT4_XATTR_SIZE_MAX`); the kernel's calls take 64 KiB. */
const VALUE_BYTES_MAX = 1 << 24;

/** One attribute as stored. */
export interface XattrEntry {
  readonly index: number;
  /** Name without the prefix that `index` stands for; a view. */
  readonly name: Uint8Array;
  /** The value, a view; empty if it lies in `valueIno`. */
  readonly value: Uint8Array;
  readonly valueBytes: number;
  /** Inode that holds the value, 0 if it is here. */
  readonly valueIno: number;
  readonly hash: number;
}

/** Where an area lies in its bytes. */
export interface XattrBounds {
  /** The first entry. */
  readonly entriesAt: number;
  /** What offsets of values count from. */
  readonly base: number;
  readonly end: number;
}

/** What the check of a block needs to know. */
export interface XattrBlockCheck {
  readonly ino: number;
  readonly hasChecksum: boolean;
  readonly seed: number;
}

/** Throws `EUCLEAN` for a header that is none, `EBADMSG` for a wrong checksum. */
export const verifyXattrBlock: BlockVerifier<XattrBlockCheck> = (data, blocknr, check) => {
  const where = `inode ${check.ino}: xattr block ${blocknr}`;
  const magic = le32(data, XH.magic);
  const blocks = le32(data, XH.blocks);
  if (magic !== XATTR_MAGIC || blocks !== 1 || le32(data, XH.refcount) === 0) {
    const refcount = le32(data, XH.refcount);
    throw new FsError("EUCLEAN", {
      detail: `${where}: h_magic ${magic.toString(16)}, h_blocks ${blocks}, h_refcount ${refcount}`,
    });
  }
  if (!check.hasChecksum) return;
  if (le32(data, XH.checksum) !== xattrBlockChecksum(check.seed, blocknr, data)) {
    throw new FsError("EBADMSG", { detail: `${where}: h_checksum does not match` });
  }
};

/**
 * All entries of an area of `data`, in stored order. `where` names it in errors, which are
 * `EUCLEAN`.
 */
export function readXattrArea(
  data: Uint8Array,
  bounds: XattrBounds,
  sb: Superblock,
  where: string,
): readonly XattrEntry[] {
  const bad = (what: string): FsError => new FsError("EUCLEAN", { detail: `${where}: ${what}` });
  const starts: number[] = [];
  let at = bounds.entriesAt;
  for (; ; at = nextEntry(data, at)) {
    if (at + 4 > bounds.end) throw bad("the list of names does not end");
    if (le32(data, at) === 0) break;
    if (nextEntry(data, at) >= bounds.end) throw bad(`entry at ${at}: e_name_len is too large`);
    starts.push(at);
  }
  const namesEnd = at + 4;
  return starts.map((start) => {
    const entry = decodeEntry(data, start, bounds);
    const wrong = judge(entry, le16(data, start + XE.value_offs), namesEnd, bounds, sb);
    if (wrong !== undefined) throw bad(`entry at ${start}: ${wrong}`);
    return entry;
  });
}

function nextEntry(data: Uint8Array, at: number): number {
  return at + XATTR_ENTRY_BYTES + roundUp(data[at + XE.name_len]!, 4);
}

function decodeEntry(data: Uint8Array, at: number, bounds: XattrBounds): XattrEntry {
  const valueAt = bounds.base + le16(data, at + XE.value_offs);
  const valueIno = le32(data, at + XE.value_inum);
  const valueBytes = le32(data, at + XE.value_size);
  return {
    index: data[at + XE.name_index]!,
    name: data.subarray(at + XATTR_ENTRY_BYTES, at + XATTR_ENTRY_BYTES + data[at + XE.name_len]!),
    value: valueIno === 0 ? data.subarray(valueAt, valueAt + valueBytes) : data.subarray(0, 0),
    valueBytes,
    valueIno,
    hash: le32(data, at + XE.hash),
  };
}

/** What is wrong with `entry`, undefined if nothing. */
function judge(
  entry: XattrEntry,
  valueOffset: number,
  namesEnd: number,
  bounds: XattrBounds,
  sb: Superblock,
): string | undefined {
  const { valueIno, valueBytes } = entry;
  if (entry.name.includes(0)) return "there is a NUL in its name";
  if (valueBytes > VALUE_BYTES_MAX) return `e_value_size is ${valueBytes}`;
  if (valueIno !== 0) {
    if (!sb.hasIncompat(INCOMPAT_EA_INODE)) return "e_value_inum without the feature ea_inode";
    const isGood = valueIno >= sb.firstIno && valueIno <= sb.inodeCount;
    return isGood && valueIno !== EXT_ROOT_INO ? undefined : `e_value_inum is ${valueIno}`;
  }
  if (valueBytes === 0) return undefined;
  const valueAt = bounds.base + valueOffset;
  if (valueAt < namesEnd) return `e_value_offs is ${valueOffset}, among the names`;
  if (valueAt + roundUp(valueBytes, 4) > bounds.end) {
    return `e_value_offs is ${valueOffset} and e_value_size ${valueBytes}, past the end`;
  }
  return undefined;
}
