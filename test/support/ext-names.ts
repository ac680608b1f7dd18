/**
 * Builders of what names are made of in ext2/3/4: directory blocks, index blocks, attributes,
 * inodes. They make healthy structures, with their checksums; a test then breaks what it is about.
 */

import {
  directoryChecksum,
  htreeChecksum,
  orphanBlockChecksum,
  xattrBlockChecksum,
} from "../../src/fs/ext/checksum.ts";
import type { DirShape } from "../../src/fs/ext/dir-block.ts";
import { ExtInode } from "../../src/fs/ext/inode.ts";
import { INODE } from "../../src/fs/ext/layout.ts";
import type { Superblock } from "../../src/fs/ext/superblock.ts";
import { putLe16, putLe32 } from "../../src/lib/bytes.ts";

const DIR_TAIL_BYTES = 12;
const EXTRA_ISIZE = 32;

/** Bytes of ASCII text. */
export function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Writes 32-bit words from `at` on. */
export function putLe32At(bytes: Uint8Array, at: number, words: readonly number[]): void {
  for (const [index, word] of words.entries()) putLe32(bytes, at + 4 * index, word);
}

/** One record of a directory: inode, name, and its type if it has one. */
export type Record = readonly [ino: number, name: string | Uint8Array, type?: number];

/** Shortest record for a name of `nameBytes`. */
export function recordBytes(nameBytes: number): number {
  return Math.ceil((8 + nameBytes) / 4) * 4;
}

/** Writes one record of `recLen` bytes at `at`. */
export function putRecord(
  block: Uint8Array,
  at: number,
  recLen: number,
  [ino, name, type = 1]: Record,
): void {
  const bytes = typeof name === "string" ? ascii(name) : name;
  putLe32(block, at, ino);
  putLe16(block, at + 4, recLen);
  block[at + 6] = bytes.length;
  block[at + 7] = type;
  block.set(bytes, at + 8);
}

/**
 * Fills `block` with records, the last one taking what is left, and with a checksum if there is a
 * seed.
 */
export function putDirBlock(
  block: Uint8Array,
  records: readonly Record[],
  checksumSeed?: number,
): void {
  block.fill(0);
  const end = block.length - (checksumSeed === undefined ? 0 : DIR_TAIL_BYTES);
  let at = 0;
  const all: readonly Record[] = records.length > 0 ? records : [[0, "", 0]];
  for (const [index, record] of all.entries()) {
    const name = record[1];
    const isLast = index === all.length - 1;
    const recLen = isLast ? end - at : recordBytes(name.length);
    putRecord(block, at, recLen, record);
    at += recLen;
  }
  if (checksumSeed !== undefined) sealDirBlock(block, checksumSeed);
}

/** Gives a block of records its tail and checksum. */
export function sealDirBlock(block: Uint8Array, checksumSeed: number): void {
  putRecord(block, block.length - DIR_TAIL_BYTES, DIR_TAIL_BYTES, [0, "", 0xde]);
  putLe32(block, block.length - 4, directoryChecksum(checksumSeed, block));
}

/** An index block: entries are [hash, file block]; the hash of the first one is not stored. */
export type DxEntries = readonly (readonly [hash: number, fileBlock: number])[];

function putDxEntries(
  block: Uint8Array,
  at: number,
  entries: DxEntries,
  checksumSeed: number | undefined,
): void {
  const tailBytes = checksumSeed === undefined ? 0 : 8;
  for (const [index, [hash, fileBlock]] of entries.entries()) {
    putLe32(block, at + 8 * index, hash);
    putLe32(block, at + 8 * index + 4, fileBlock);
  }
  putLe16(block, at, Math.floor((block.length - at - tailBytes) / 8));
  putLe16(block, at + 2, entries.length);
  if (checksumSeed !== undefined) sealDxBlock(block, at, checksumSeed);
}

/** Gives an index block whose entries begin at `at` its checksum. */
export function sealDxBlock(block: Uint8Array, at: number, checksumSeed: number): void {
  const limit = block[at]! + block[at + 1]! * 0x100;
  const count = block[at + 2]! + block[at + 3]! * 0x100;
  const tailAt = at + 8 * limit;
  putLe32(block, tailAt + 4, htreeChecksum(checksumSeed, block, at + 8 * count, tailAt));
}

/** Fills `block` with the root of an index. */
export function putDxRoot(
  block: Uint8Array,
  dots: { readonly ino: number; readonly parent: number },
  root: { readonly version: number; readonly levels: number; readonly entries: DxEntries },
  checksumSeed?: number,
): void {
  block.fill(0);
  putRecord(block, 0, 12, [dots.ino, ".", 2]);
  putRecord(block, 12, block.length - 12, [dots.parent, "..", 2]);
  block[0x1c] = root.version;
  block[0x1d] = 8;
  block[0x1e] = root.levels;
  putDxEntries(block, 0x20, root.entries, checksumSeed);
}

/** Fills `block` with an inner node of an index. */
export function putDxNode(block: Uint8Array, entries: DxEntries, checksumSeed?: number): void {
  block.fill(0);
  putLe16(block, 4, block.length);
  putDxEntries(block, 8, entries, checksumSeed);
}

/** A shape of directory 12 with plain blocks of `blockBytes`, changed by `changes`. */
export function shapeWith(blockBytes: number, changes: Partial<DirShape> = {}): DirShape {
  return {
    ino: 12,
    blockBytes,
    inodeCount: 1000,
    hasFileType: true,
    hasStoredHash: false,
    isEncrypted: false,
    isIndexed: false,
    hasChecksum: false,
    checksumSeed: 0,
    ...changes,
  };
}

/** What an inode is to be; what is left out is 0. */
export interface InodeFields {
  readonly ino?: number;
  readonly mode: number;
  readonly size?: number;
  readonly flags?: number;
  readonly links?: number;
  readonly fileAclBlock?: number;
  /** Sectors of `i_blocks`. */
  readonly sectors?: number;
  readonly generation?: number;
  readonly atime?: number;
  readonly mtime?: number;
  readonly dtime?: number;
  /** Content of `i_block`: bytes, or numbers of blocks. */
  readonly iBlock?: Uint8Array | readonly number[];
  /** What lies behind the extra fields, from their end. */
  readonly xattrs?: Uint8Array;
}

/** An inode with these fields, which no inode table holds. */
export function inodeWith(sb: Superblock, fields: InodeFields): ExtInode {
  const raw = new Uint8Array(sb.inodeBytes);
  putLe16(raw, INODE.i_mode, fields.mode);
  putLe16(raw, INODE.i_links_count, fields.links ?? 1);
  putLe32(raw, INODE.i_size_lo, fields.size ?? 0);
  putLe32(raw, INODE.i_flags, fields.flags ?? 0);
  putLe32(raw, INODE.i_file_acl_lo, fields.fileAclBlock ?? 0);
  putLe32(raw, INODE.i_blocks_lo, fields.sectors ?? 0);
  putLe32(raw, INODE.i_generation, fields.generation ?? 0);
  putLe32(raw, INODE.i_atime, fields.atime ?? 0);
  putLe32(raw, INODE.i_mtime, fields.mtime ?? 0);
  putLe32(raw, INODE.i_dtime, fields.dtime ?? 0);
  const { iBlock = [] } = fields;
  if (iBlock instanceof Uint8Array) raw.set(iBlock, INODE.i_block);
  else for (const [at, block] of iBlock.entries()) putLe32(raw, INODE.i_block + 4 * at, block);
  if (raw.length > INODE.i_extra_isize) {
    putLe16(raw, INODE.i_extra_isize, EXTRA_ISIZE);
    raw.set(fields.xattrs ?? [], INODE.i_extra_isize + EXTRA_ISIZE);
  }
  return new ExtInode(fields.ino ?? 12, raw, sb);
}

/** One attribute for `putXattrs`. */
export interface XattrFields {
  readonly index: number;
  readonly name: string;
  readonly value?: Uint8Array;
  /** Inode with the value, with its size and hash. */
  readonly inValue?: { readonly ino: number; readonly size: number; readonly hash: number };
}

/**
 * Writes attributes from `at` on, values from the end of `area` down; offsets count from `base`.
 */
export function putXattrs(
  area: Uint8Array,
  at: number,
  base: number,
  attributes: readonly XattrFields[],
): void {
  let entryAt = at;
  let valueAt = area.length;
  for (const { index, name, value = new Uint8Array(0), inValue } of attributes) {
    const bytes = ascii(name);
    area[entryAt] = bytes.length;
    area[entryAt + 1] = index;
    if (value.length > 0) {
      valueAt -= Math.ceil(value.length / 4) * 4;
      area.set(value, valueAt);
      putLe16(area, entryAt + 2, valueAt - base);
    }
    putLe32(area, entryAt + 4, inValue?.ino ?? 0);
    putLe32(area, entryAt + 8, inValue?.size ?? value.length);
    putLe32(area, entryAt + 12, inValue?.hash ?? 0);
    area.set(bytes, entryAt + 16);
    entryAt += 16 + Math.ceil(bytes.length / 4) * 4;
  }
}

/** The attributes of an inode of `inodeBytes`, as `InodeFields.xattrs`. */
export function inodeXattrs(inodeBytes: number, attributes: readonly XattrFields[]): Uint8Array {
  const area = new Uint8Array(inodeBytes - INODE.i_extra_isize - EXTRA_ISIZE);
  putLe32(area, 0, 0xea020000);
  putXattrs(area, 4, 4, attributes);
  return area;
}

/** Fills `block` with attributes, as block `blocknr` of a volume with `seed`. */
export function putXattrBlock(
  block: Uint8Array,
  blocknr: number,
  seed: number,
  attributes: readonly XattrFields[],
): void {
  block.fill(0);
  putLe32(block, 0, 0xea020000);
  putLe32(block, 4, 1);
  putLe32(block, 8, 1);
  putXattrs(block, 0x20, 0, attributes);
  putLe32(block, 0x10, xattrBlockChecksum(seed, blocknr, block));
}

/** Fills `block` with a block of the orphan file. */
export function putOrphanBlock(
  block: Uint8Array,
  blocknr: number,
  checksumSeed: number,
  inos: readonly number[],
): void {
  block.fill(0);
  for (const [at, ino] of inos.entries()) putLe32(block, 4 * at, ino);
  putLe32(block, block.length - 8, 0x0b10ca04);
  putLe32(block, block.length - 4, orphanBlockChecksum(checksumSeed, blocknr, block));
}
