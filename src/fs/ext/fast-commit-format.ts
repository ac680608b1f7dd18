/**
 * The records of fast commits: short notes about what changed in which inode and directory.
 *
 *     block    | HEAD | INODE | ADD_RANGE | CREAT | INODE | TAIL ....... |      one fast commit
 *     block    | LINK | UNLINK | .. | PAD ...... |                           a longer one
 *     block    | INODE | TAIL ................. |
 *     record   | tag u16 | length u16 | value |      packed, never across a block border
 *
 * Unlike the log around them these are little-endian. TAIL holds the checksum of everything since
 * the TAIL before; it and PAD fill their block.
 *
 * After `fs/ext4/fast_commit.h` and `ext4_fc_value_len_isvalid` of Linux.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { EE, EXTENT_WRITTEN_MAX, GOOD_OLD_INODE_BYTES } from "./layout.ts";

/** Record tags (`EXT4_FC_TAG_*`). */
export const FC_ADD_RANGE = 1;
export const FC_DEL_RANGE = 2;
export const FC_CREAT = 3;
export const FC_LINK = 4;
export const FC_UNLINK = 5;
export const FC_INODE = 6;
export const FC_PAD = 7;
export const FC_TAIL = 8;
export const FC_HEAD = 9;

/** Bytes of tag and length before each value. */
export const FC_HEADER_BYTES = 4;
const WORD_BYTES = 4;
const ADD_RANGE_BYTES = 16;
const DEL_RANGE_BYTES = 12;
const HEAD_BYTES = 8;
const TAIL_BYTES_MIN = 8;
/** Parent and inode number before a name. */
const NAME_AT = 8;
const NAME_BYTES_MAX = 255;

/** A run of the file that now lies at `physical`. */
export interface AddRangeRecord {
  readonly tag: typeof FC_ADD_RANGE;
  readonly ino: number;
  readonly fileBlock: number;
  readonly count: number;
  readonly physical: number;
  readonly isUnwritten: boolean;
}

/** A run of the file that is now a hole; up to 2^32 - 1 blocks. */
export interface DelRangeRecord {
  readonly tag: typeof FC_DEL_RANGE;
  readonly ino: number;
  readonly fileBlock: number;
  readonly count: number;
}

/** A name that came (with its inode, for CREAT) or went. */
export interface NameRecord {
  readonly tag: typeof FC_CREAT | typeof FC_LINK | typeof FC_UNLINK;
  readonly parent: number;
  readonly ino: number;
  readonly name: Uint8Array;
}

/** What an inode now is. */
export interface InodeRecord {
  readonly tag: typeof FC_INODE;
  readonly ino: number;
  /** 128 bytes and its extra fields. */
  readonly raw: Uint8Array;
}

export type FastCommitRecord = AddRangeRecord | DelRangeRecord | NameRecord | InodeRecord;

/** True if a record of `tag` may have a value of `lengthBytes`; false too for an unknown tag. */
export function isRecordLengthGood(tag: number, lengthBytes: number, inodeBytes: number): boolean {
  switch (tag) {
    case FC_ADD_RANGE:
      return lengthBytes === ADD_RANGE_BYTES;
    case FC_DEL_RANGE:
      return lengthBytes === DEL_RANGE_BYTES;
    case FC_CREAT:
    case FC_LINK:
    case FC_UNLINK:
      return lengthBytes > NAME_AT && lengthBytes <= NAME_AT + NAME_BYTES_MAX;
    case FC_INODE:
      return (
        lengthBytes >= WORD_BYTES + GOOD_OLD_INODE_BYTES && lengthBytes <= WORD_BYTES + inodeBytes
      );
    case FC_PAD:
      return true;
    case FC_TAIL:
      return lengthBytes >= TAIL_BYTES_MIN;
    case FC_HEAD:
      return lengthBytes === HEAD_BYTES;
    default:
      return false;
  }
}

/**
 * The record of `tag` with value `value`, whose length was checked; undefined for PAD, TAIL and
 * HEAD, which say nothing about the file system. Bytes are copied.
 */
export function decodeRecord(tag: number, value: Uint8Array): FastCommitRecord | undefined {
  switch (tag) {
    case FC_ADD_RANGE: {
      const extent = value.subarray(WORD_BYTES);
      const stored = le16(extent, EE.ee_len);
      const isUnwritten = stored > EXTENT_WRITTEN_MAX;
      return {
        tag,
        ino: le32(value, 0),
        fileBlock: le32(extent, EE.ee_block),
        count: isUnwritten ? stored - EXTENT_WRITTEN_MAX : stored,
        physical: le16(extent, EE.ee_start_hi) * 0x1_0000_0000 + le32(extent, EE.ee_start_lo),
        isUnwritten,
      };
    }
    case FC_DEL_RANGE:
      return { tag, ino: le32(value, 0), fileBlock: le32(value, 4), count: le32(value, 8) };
    case FC_CREAT:
    case FC_LINK:
    case FC_UNLINK:
      return { tag, parent: le32(value, 0), ino: le32(value, 4), name: value.slice(NAME_AT) };
    case FC_INODE:
      return { tag, ino: le32(value, 0), raw: value.slice(WORD_BYTES) };
    default:
      return undefined;
  }
}
