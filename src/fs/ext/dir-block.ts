/**
 * The entries of one directory block, or of an inline area: a chain of records that tile it
 * exactly.
 *
 *     0     4         6          7      8
 *     | ino | rec_len | name_len | type | name | padding |   next record at + rec_len
 *                                                              last 12 bytes: a record of type 0xde
 *                                                              that holds the checksum
 *
 *  1. `DirWalk` trusts nothing: each `rec_len` is checked before it is followed, so a walk ends
 *     after at most one step per 12 bytes, whatever the bytes are.
 *  2. A record with inode 0 is free; the record with the checksum is one of these.
 *  3. In directories that are encrypted and ignore case, 8 bytes of hash follow the name.
 *
 * Checksums are verified once per load (`verifyDirBlock`), records on each walk: two damaged
 * directories may share a block. After `fs/ext4/dir.c` (`__ext4_check_dir_entry`) and
 * `fs/ext4/namei.c`.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { roundUp } from "../../lib/units.ts";
import type { FileType } from "../vfs.ts";
import { directoryChecksum } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { COMPAT_DIR_INDEX, INCOMPAT_FILETYPE } from "./features.ts";
import type { ExtInode } from "./inode.ts";
import type { BlockVerifier } from "./metadata.ts";

/** Where the fields of a record lie (`struct ext4_dir_entry_2`). */
export const DE = { inode: 0, rec_len: 4, name_len: 6, file_type: 7, name: 8 } as const;
/** Bytes of the shortest record: a name of one byte. */
const DIR_REC_MIN_BYTES = 12;
/** Bytes of the record at the end of a block that holds the checksum, and its type. */
export const DIR_TAIL_BYTES = 12;
export const FT_DIR_CSUM = 0xde;
const DIR_HASH_BYTES = 8;
const DOT = 0x2e;
/** A record of this many bytes or more does not fit into 16 bits: its length is coded. */
const CODED_REC_LEN_BYTES = 0x1_0000;
const CODED_WHOLE_BLOCK = 0xffff;

/** What byte 7 of a record stands for. */
export const TYPES: readonly FileType[] = [
  "unknown",
  "file",
  "directory",
  "character",
  "block",
  "fifo",
  "socket",
  "symlink",
];

/** What must be known about a directory to read its blocks. Made by `dirShapeOf`. */
export interface DirShape {
  readonly ino: number;
  readonly blockBytes: number;
  readonly inodeCount: number;
  /** Byte 7 of a record is the type of the file. */
  readonly hasFileType: boolean;
  /** A hash follows each name but `.` and `..`. */
  readonly hasStoredHash: boolean;
  /** Names are ciphertext: any byte may occur in them. */
  readonly isEncrypted: boolean;
  /** Block 0 is the root of an index. */
  readonly isIndexed: boolean;
  readonly hasChecksum: boolean;
  readonly checksumSeed: number;
}

/** The shape of `dir`. */
export function dirShapeOf(ctx: ExtContext, dir: ExtInode): DirShape {
  return {
    ino: dir.ino,
    blockBytes: ctx.sb.blockBytes,
    inodeCount: ctx.sb.inodeCount,
    hasFileType: ctx.sb.hasIncompat(INCOMPAT_FILETYPE),
    hasStoredHash: dir.isEncrypted && dir.isCasefolded,
    isEncrypted: dir.isEncrypted,
    isIndexed: dir.isHashedDir && ctx.sb.hasCompat(COMPAT_DIR_INDEX),
    hasChecksum: ctx.hasMetadataCsum,
    checksumSeed: dir.checksumSeed,
  };
}

/**
 * Length of a record from its stored form, in a block of `blockBytes` (`ext4_rec_len_from_disk`).
 */
export function recLenFromDisk(stored: number, blockBytes: number): number {
  if (blockBytes < CODED_REC_LEN_BYTES) return stored;
  if (stored === CODED_WHOLE_BLOCK || stored === 0) return blockBytes;
  return (stored & 0xfffc) | ((stored & 3) << 16);
}

/** Stored form of the length of a record (`ext4_rec_len_to_disk`). */
export function recLenToDisk(recLen: number, blockBytes: number): number {
  if (blockBytes < CODED_REC_LEN_BYTES) return recLen;
  if (recLen === CODED_REC_LEN_BYTES) return CODED_WHOLE_BLOCK;
  return (recLen & 0xfffc) | ((recLen >>> 16) & 3);
}

/** Bytes that a name of `nameBytes` needs in a directory without stored hashes. */
export function dirRecordBytes(nameBytes: number): number {
  return (DE.name + nameBytes + 3) & ~3;
}

/**
 * True for a block that only the index uses: its root, or a node that begins with a free record as
 * long as the block. Such a block has the checksum of an index, not that of records.
 */
export function isIndexBlock(data: Uint8Array, fileBlock: number, shape: DirShape): boolean {
  if (!shape.isIndexed) return false;
  if (fileBlock === 0) return true;
  const recLen = recLenFromDisk(le16(data, DE.rec_len), shape.blockBytes);
  return le32(data, DE.inode) === 0 && recLen === shape.blockBytes;
}

/** Throws `EBADMSG` unless the block ends with the right checksum. For blocks of records only. */
export const verifyDirBlock: BlockVerifier<DirShape> = (data, blocknr, shape) => {
  if (!shape.hasChecksum) return;
  const tailAt = data.length - DIR_TAIL_BYTES;
  const hasTail =
    le32(data, tailAt) === 0 &&
    le16(data, tailAt + DE.rec_len) === DIR_TAIL_BYTES &&
    data[tailAt + DE.name_len] === 0 &&
    data[tailAt + DE.file_type] === FT_DIR_CSUM;
  if (!hasTail || le32(data, tailAt + DE.name) !== directoryChecksum(shape.checksumSeed, data)) {
    const what = hasTail ? "det_checksum does not match" : "there is no checksum at its end";
    throw new FsError("EBADMSG", {
      detail: `directory ${shape.ino}: ${what}, block ${blocknr}`,
    });
  }
};

/**
 * A walk over the used records of `data[from..end)`. Fields hold after `next` has returned true.
 */
export class DirWalk {
  /** Inode number, 1..inodeCount; 0 in a free record. */
  ino = 0;
  nameAt = 0;
  nameBytes = 0;
  /** Where the record begins. */
  at: number;
  recLen = 0;
  /** Where the record before it begins, used or free; -1 in the first one. */
  previousAt = -1;
  readonly data: Uint8Array;
  readonly #shape: DirShape;
  readonly #end: number;
  readonly #where: string | number;
  #nextAt: number;

  /** `where` is the file block, or what else the area is called in errors. */
  constructor(
    data: Uint8Array,
    shape: DirShape,
    where: string | number,
    from = 0,
    end: number = data.length,
  ) {
    this.data = data;
    this.#shape = shape;
    this.#where = where;
    this.#end = end;
    this.at = from;
    this.#nextAt = from;
  }

  /**
   * Goes to the next used record; false at the end.
   *
   * @throws {FsError} `EUCLEAN` for a record that does not fit, naming its offset
   */
  next(): boolean {
    while (this.advance()) if (this.ino !== 0) return true;
    return false;
  }

  /** As `next`, to the next record whether it is used or free. */
  advance(): boolean {
    if (this.#nextAt >= this.#end) return false;
    this.previousAt = this.recLen === 0 ? -1 : this.at;
    this.at = this.#nextAt;
    this.#check();
    return true;
  }

  /** As `next`, to the record with the stored name `name`. */
  find(name: Uint8Array): boolean {
    const { length } = name;
    const last = name[length - 1]!;
    for (;;) {
      this.#skip(length, last);
      if (!this.advance()) return false;
      if (this.nameBytes === length && this.ino !== 0 && this.hasName(name)) return true;
    }
  }

  /** True for `.` and `..`, which are stored plainly in every directory. */
  get isDot(): boolean {
    const { data, nameAt, nameBytes } = this;
    return (
      data[nameAt] === DOT && (nameBytes === 1 || (nameBytes === 2 && data[nameAt + 1] === DOT))
    );
  }

  get type(): FileType {
    if (!this.#shape.hasFileType) return "unknown";
    return TYPES[this.data[this.at + DE.file_type]!] ?? "unknown";
  }

  /** The stored name, a view. */
  get name(): Uint8Array {
    return this.data.subarray(this.nameAt, this.nameAt + this.nameBytes);
  }

  /**
   * Major and minor hash behind the name. Only where the shape has stored hashes, and not for dots.
   */
  get storedHash(): { readonly major: number; readonly minor: number } {
    const at = this.nameAt + roundUp(this.nameBytes, 4);
    return { major: le32(this.data, at), minor: le32(this.data, at + 4) };
  }

  /** True if the stored name is `name`. */
  hasName(name: Uint8Array): boolean {
    if (this.nameBytes !== name.length) return false;
    // From its end on: names of one directory often begin alike.
    for (let at = name.length - 1; at >= 0; at--) {
      if (this.data[this.nameAt + at] !== name[at]) return false;
    }
    return true;
  }

  /** Throws `EUCLEAN` for a name that no directory can hold: empty, or with NUL or a slash. */
  checkName(): void {
    if (this.nameBytes === 0) throw this.#bad("name_len is 0");
    if (this.#shape.isEncrypted) return;
    for (let at = this.nameAt; at < this.nameAt + this.nameBytes; at++) {
      const byte = this.data[at];
      if (byte === 0 || byte === 0x2f) throw this.#bad(`name has the byte ${byte}`);
    }
  }

  /**
   * Goes over records that `#check` would accept, up to one whose name has `nameBytes` bytes and
   * ends in `last`: a lookup comes by a hundred others, and needs nothing of them. What it cannot
   * judge so quickly it leaves to `advance`.
   */
  #skip(nameBytes: number, last: number): void {
    const { data } = this;
    const { blockBytes, inodeCount, hasStoredHash } = this.#shape;
    if (blockBytes >= CODED_REC_LEN_BYTES || hasStoredHash) return;
    const end = this.#end;
    let at = this.#nextAt;
    let recLen = 0;
    for (let next = at; end - next >= DIR_REC_MIN_BYTES; next = at + recLen) {
      const bytes = data[next + DE.name_len]!;
      if (bytes === nameBytes && data[next + DE.name + bytes - 1] === last) break;
      const length = data[next + DE.rec_len]! | (data[next + DE.rec_len + 1]! << 8);
      const inoHigh = (data[next + 2]! << 16) | (data[next + 3]! << 24);
      const ino = (data[next]! | (data[next + 1]! << 8) | inoHigh) >>> 0;
      const leastBytes = bytes === 0 ? DIR_REC_MIN_BYTES : (DE.name + bytes + 3) & ~3;
      const isGood = (length & 3) === 0 && length >= leastBytes && length <= end - next;
      if (!isGood || ino > inodeCount) break;
      at = next;
      recLen = length;
    }
    if (recLen === 0) return;
    this.at = at;
    this.recLen = recLen;
    this.#nextAt = at + recLen;
  }

  /** Decodes and checks the record at `#at`, and finds the next one. */
  #check(): void {
    const { data } = this;
    const at = this.at;
    const restBytes = this.#end - at;
    if (restBytes < DIR_REC_MIN_BYTES) throw this.#bad(`${restBytes} bytes are left over`);
    // By hand and not by `le32`, which checks again: a lookup comes here for a hundred records.
    const stored = data[at + DE.rec_len]! | (data[at + DE.rec_len + 1]! << 8);
    const recLen = recLenFromDisk(stored, this.#shape.blockBytes);
    const high = (data[at + 2]! << 16) | (data[at + 3]! << 24);
    this.ino = (data[at]! | (data[at + 1]! << 8) | high) >>> 0;
    this.nameAt = at + DE.name;
    const nameBytes = data[at + DE.name_len]!;
    this.nameBytes = nameBytes;
    let leastBytes = nameBytes === 0 ? DIR_REC_MIN_BYTES : (DE.name + nameBytes + 3) & ~3;
    const hasHash = this.#shape.hasStoredHash && this.ino !== 0 && !this.isDot;
    if (hasHash) leastBytes += DIR_HASH_BYTES;
    if ((recLen & 3) !== 0 || recLen < leastBytes) {
      throw this.#bad(`rec_len is ${recLen}, for a name of ${this.nameBytes} bytes`);
    }
    if (recLen > restBytes) throw this.#bad(`rec_len is ${recLen}, past the end`);
    if (this.ino > this.#shape.inodeCount) throw this.#bad(`inode is ${this.ino}`);
    this.recLen = recLen;
    this.#nextAt = at + recLen;
  }

  #bad(what: string): FsError {
    const where = typeof this.#where === "number" ? `file block ${this.#where}` : this.#where;
    const detail = `directory ${this.#shape.ino}: ${where}, entry at ${this.at}: ${what}`;
    return new FsError("EUCLEAN", { detail });
  }
}
