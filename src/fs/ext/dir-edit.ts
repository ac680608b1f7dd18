/**
 * Changes of the records in one directory block or inline area: bytes only, nothing about which
 * block or why.
 *
 *     | a      |  b    ....gap |        findGap -> b       putRecord(at b)    | a | b | new .. |
 *     | a      |  b    | c     |        removeRecord(c)                       | a | b ...      |
 *
 *  1. The records tile their area exactly, before and after.
 *  2. The record with the checksum at the end of a block is not part of the area.
 *  3. The first record of an area has none before it to join, so its removal clears its inode only.
 *
 * After fs/ext4/namei.c (`ext4_find_dest_de`, `ext4_insert_dentry`, `ext4_generic_delete_entry`).
 */
import { le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import type { FileType } from "../vfs.ts";
import { directoryChecksum } from "./checksum.ts";
import {
  DE,
  DIR_TAIL_BYTES,
  type DirShape,
  type DirWalk,
  dirRecordBytes,
  FT_DIR_CSUM,
  recLenFromDisk,
  recLenToDisk,
  TYPES,
} from "./dir-block.ts";
import type { Seal } from "./handle.ts";

const DOT = 0x2e;

/** What a record says. */
export interface DirRecord {
  readonly ino: number;
  /** 1..255 bytes, as stored. */
  readonly name: Uint8Array;
  readonly type: FileType;
}

/** The bytes of a block that hold records: all but the checksum at its end. */
export function recordsEnd(shape: DirShape): number {
  return shape.blockBytes - (shape.hasChecksum ? DIR_TAIL_BYTES : 0);
}

function typeCode(shape: DirShape, type: FileType): number {
  return shape.hasFileType ? TYPES.indexOf(type) : 0;
}

/**
 * Goes on with `walk` to the first record that has `needBytes` to spare, and returns where it
 * begins; -1 if there is none. Throws `EUCLEAN` for a record that does not fit.
 */
export function findGap(walk: DirWalk, needBytes: number): number {
  while (walk.advance()) if (spareBytes(walk) >= needBytes) return walk.at;
  return -1;
}

/** Bytes of the record under `walk` that it does not need. */
function spareBytes(walk: DirWalk): number {
  return walk.recLen - (walk.ino === 0 ? 0 : dirRecordBytes(walk.nameBytes));
}

/** Puts `record` into the spare bytes of the record at `gapAt`, which `findGap` has found. */
export function putRecord(
  data: Uint8Array,
  shape: DirShape,
  gapAt: number,
  record: DirRecord,
): void {
  const { blockBytes } = shape;
  let recLen = recLenFromDisk(le16(data, gapAt + DE.rec_len), blockBytes);
  let at = gapAt;
  if (le32(data, gapAt) !== 0) {
    const keptBytes = dirRecordBytes(data[gapAt + DE.name_len]!);
    putLe16(data, gapAt + DE.rec_len, recLenToDisk(keptBytes, blockBytes));
    at += keptBytes;
    recLen -= keptBytes;
  }
  writeRecord(data, shape, at, recLen, record);
}

/** Writes a whole record of `recLen` bytes at `at`. What lies behind its name stays. */
export function writeRecord(
  data: Uint8Array,
  shape: DirShape,
  at: number,
  recLen: number,
  record: DirRecord,
): void {
  putLe32(data, at + DE.inode, record.ino);
  putLe16(data, at + DE.rec_len, recLenToDisk(recLen, shape.blockBytes));
  data[at + DE.name_len] = record.name.length;
  data[at + DE.file_type] = typeCode(shape, record.type);
  data.set(record.name, at + DE.name);
}

/** Makes `data[from..end)` one free record. */
export function clearRecords(data: Uint8Array, shape: DirShape, from: number, end: number): void {
  data.fill(0, from, end);
  putLe16(data, from + DE.rec_len, recLenToDisk(end - from, shape.blockBytes));
}

/**
 * Frees the record at `at`, which the one at `previousAt` (-1: none) takes in; returns the bytes
 * that a new record could have there.
 */
export function removeRecord(
  data: Uint8Array,
  shape: DirShape,
  at: number,
  previousAt: number,
): number {
  const { blockBytes } = shape;
  const recLen = recLenFromDisk(le16(data, at + DE.rec_len), blockBytes);
  // The name goes too: no image tells what was deleted, and an inline area stays as small.
  data.fill(0, at + DE.name_len, at + recLen);
  if (previousAt < 0) {
    putLe32(data, at + DE.inode, 0);
    return recLen;
  }
  const joinedBytes = recLenFromDisk(le16(data, previousAt + DE.rec_len), blockBytes) + recLen;
  data.fill(0, at, at + DE.name_len);
  putLe16(data, previousAt + DE.rec_len, recLenToDisk(joinedBytes, blockBytes));
  const isFree = le32(data, previousAt) === 0;
  return joinedBytes - (isFree ? 0 : dirRecordBytes(data[previousAt + DE.name_len]!));
}

/** Lets the name of the record at `at` lead to `ino`. */
export function setRecordInode(
  data: Uint8Array,
  shape: DirShape,
  at: number,
  ino: number,
  type: FileType,
): void {
  putLe32(data, at + DE.inode, ino);
  if (shape.hasFileType) data[at + DE.file_type] = typeCode(shape, type);
}

/** Gives a block without names its one free record, and the place for a checksum. */
export function initDirBlock(data: Uint8Array, shape: DirShape): void {
  clearRecords(data, shape, 0, recordsEnd(shape));
  initTail(data, shape);
}

/**
 * Makes `data` the first block of a directory: `.`, and `..` up to its end
 * (`ext4_init_dot_dotdot`).
 */
export function initFirstBlock(data: Uint8Array, shape: DirShape, parent: number): void {
  data.fill(0);
  const dotBytes = dirRecordBytes(1);
  const dot: DirRecord = { ino: shape.ino, name: Uint8Array.of(DOT), type: "directory" };
  const dotDot: DirRecord = { ino: parent, name: Uint8Array.of(DOT, DOT), type: "directory" };
  writeRecord(data, shape, 0, dotBytes, dot);
  writeRecord(data, shape, dotBytes, recordsEnd(shape) - dotBytes, dotDot);
  initTail(data, shape);
}

function initTail(data: Uint8Array, shape: DirShape): void {
  if (!shape.hasChecksum) return;
  const at = data.length - DIR_TAIL_BYTES;
  data.fill(0, at);
  putLe16(data, at + DE.rec_len, DIR_TAIL_BYTES);
  data[at + DE.file_type] = FT_DIR_CSUM;
}

/** Computes the checksum of blocks of records, with the seed of their inode. */
export function dirBlockSeal(checksumSeed: number): Seal {
  return (block) => {
    const at = block.length - DIR_TAIL_BYTES;
    putLe32(block, at + DE.name, directoryChecksum(checksumSeed, block));
  };
}
