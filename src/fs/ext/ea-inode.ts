/**
 * Values of extended attributes that are too large for inode and block: each has an inode of its
 * own.
 *
 *     entry  e_value_inum, e_value_size, e_hash  -->  inode with EA_INODE_FL, i_size = size
 *                                                     i_atime = checksum of the value
 *
 * e_hash covers the name and that checksum. Old Lustre volumes have inodes without the checksum,
 * which name their owner instead: number in i_mtime, and its generation.
 *
 * After `ext4_xattr_inode_get` and `ext4_xattr_hash_entry` of Linux.
 */
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { eaValueHash } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import type { ExtInode } from "./inode.ts";
import { INODE } from "./layout.ts";
import type { XattrEntry } from "./xattr-area.ts";

const NAME_SHIFT = 5;
const VALUE_SHIFT = 16;
const AHEAD_BYTES = MIB;

function turnLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** Hash of an attribute by its name (bytes signed or not) and 32-bit words of its value. */
function entryHash(name: Uint8Array, words: Iterable<number>, isSigned: boolean): number {
  let hash = 0;
  for (const byte of name) {
    hash = turnLeft(hash, NAME_SHIFT) ^ (isSigned ? (byte << 24) >> 24 : byte);
  }
  for (const word of words) hash = turnLeft(hash, VALUE_SHIFT) ^ word;
  return hash >>> 0;
}

/**
 * Both hashes that an entry named `name` may have, for a value that is `value` or, in an inode of
 * its own, has the checksum `value`. The second, over signed bytes, was written where `char` is
 * signed by kernels before 6.2; they differ only for names that are not ASCII.
 */
export function xattrEntryHashes(
  name: Uint8Array,
  value: Uint8Array | number,
): readonly [unsigned: number, signed: number] {
  const words = typeof value === "number" ? [value] : wordsOf(value);
  return [entryHash(name, words, false), entryHash(name, words, true)];
}

/** Little-endian words of `value`, the last one filled with zeros. */
function wordsOf(value: Uint8Array): number[] {
  const words: number[] = [];
  for (let at = 0; at < value.length; at += 4) {
    let word = 0;
    for (let byte = 0; byte < 4; byte++) word |= (value[at + byte] ?? 0) << (8 * byte);
    words.push(word);
  }
  return words;
}

/** How far the value in an inode has been read. */
interface EaReading {
  readonly value: Uint8Array;
  /** First file block that is still to be copied. */
  fileBlock: number;
}

/**
 * What one call has read by now, by inode: kept while the call is run again for each block that was
 * not cached, so that a scattered value of n blocks costs n copies and not n * n.
 */
export type EaProgress = Map<number, EaReading>;

/**
 * The value of `entry` of the inode `owner`, whose `valueIno` is not 0; the array in `progress`.
 *
 * @throws {FsError} `EUCLEAN` for an inode that is no value, has another size, a hole, or other
 *   content than its hashes say; what reading it throws
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function readEaInode(
  ctx: ExtContext,
  owner: ExtInode,
  entry: XattrEntry,
  progress: EaProgress,
): Uint8Array {
  const inode = ctx.inode(entry.valueIno);
  const bad = (what: string): FsError =>
    new FsError("EUCLEAN", { detail: `inode ${owner.ino}: value in inode ${inode.ino}: ${what}` });
  if (!inode.isEaInode || inode.type !== "file" || inode.isInline) {
    throw bad("it is no inode for values");
  }
  if (inode.size !== entry.valueBytes) {
    throw bad(`i_size is ${inode.size}, e_value_size ${entry.valueBytes}`);
  }
  const value = readContent(ctx, inode, bad, progress);
  const storedHash = le32(inode.raw, INODE.i_atime);
  if (isLustreValue(inode, owner, entry, storedHash)) return value;
  if (eaValueHash(ctx.seed, value) !== storedHash) throw bad("its content does not match i_atime");
  if (!xattrEntryHashes(entry.name, storedHash).includes(entry.hash)) {
    throw bad(`e_hash is ${entry.hash.toString(16)}, for another name or value`);
  }
  return value;
}

function isLustreValue(
  inode: ExtInode,
  owner: ExtInode,
  entry: XattrEntry,
  storedHash: number,
): boolean {
  return (
    entry.hash !== storedHash &&
    le32(inode.raw, INODE.i_mtime) === owner.ino &&
    inode.generation === owner.generation
  );
}

function readContent(
  ctx: ExtContext,
  inode: ExtInode,
  bad: (what: string) => FsError,
  progress: EaProgress,
): Uint8Array {
  const { blockBytes } = ctx.sb;
  let reading = progress.get(inode.ino);
  if (reading === undefined) {
    reading = { value: new Uint8Array(inode.size), fileBlock: 0 };
    progress.set(inode.ino, reading);
  }
  const { value } = reading;
  const blockCount = Math.ceil(inode.size / blockBytes);
  const aheadCount = Math.max(1, Math.floor(AHEAD_BYTES / blockBytes));
  while (reading.fileBlock < blockCount) {
    const { fileBlock } = reading;
    const run = ctx.mapBlocks(inode, fileBlock, Math.min(blockCount - fileBlock, aheadCount));
    if (run.physical === 0 || run.isUnwritten) throw bad(`file block ${fileBlock} is missing`);
    for (let done = 0; done < run.count; done++) {
      const blocknr = run.physical + done;
      const data = ctx.metadata.blockWithin(blocknr, run.physical, run.count);
      const at = reading.fileBlock * blockBytes;
      value.set(data.subarray(0, Math.min(blockBytes, value.length - at)), at);
      reading.fileBlock++;
    }
  }
  return value;
}
