/**
 * The two directories of a new file system, `/` and `/lost+found`, block by block.
 *
 * `lost+found` has room from the start, so that a repair that puts files there needs no new blocks:
 * 16 KiB, at least two blocks, at most those that an inode points to directly.
 */
import { putLe16, putLe32 } from "../../../lib/bytes.ts";
import { KIB } from "../../../lib/units.ts";
import { directoryChecksum, inodeSeed } from "../checksum.ts";
import { DE, DIR_TAIL_BYTES } from "../dir-block.ts";
import { INCOMPAT_FILETYPE, INCOMPAT_INLINE_DATA } from "../features.ts";
import { DIRECT_BLOCKS, EXT_ROOT_INO } from "../layout.ts";
import type { Seed } from "./new-files.ts";
import type { MkfsParameters } from "./options.ts";

const LOST_FOUND_BYTES = 16 * KIB;
export const LOST_FOUND_INO = 11;
const LOST_FOUND_NAME = "lost+found";
const FT_DIR = 2;
const FT_TAIL = 0xde;
const DOT_BYTES = 12;
/** A record as long as a block of 64 KiB. */
const CODED_BYTES = 0x1_0000;
const CODED_WHOLE_BLOCK = 0xffff;

/** With `inline_data` mke2fs makes `lost+found` inline, and moves it into blocks as it grows. */
export function isInlineFirst(p: MkfsParameters): boolean {
  return (p.features.incompat & INCOMPAT_INLINE_DATA) !== 0;
}

/** Blocks of `lost+found`. */
export function lostFoundBlocks(p: MkfsParameters): number {
  const wanted = Math.max(2, Math.ceil(LOST_FOUND_BYTES / p.blockBytes));
  const isInline = isInlineFirst(p);
  const most = isInline ? DIRECT_BLOCKS - 1 : DIRECT_BLOCKS;
  return Math.min(isInline ? wanted - 1 : wanted, most);
}

interface Entry {
  readonly ino: number;
  readonly name: string;
}

/** One block with `entries`, of which the last reaches to its end. */
function directoryBlock(
  p: MkfsParameters,
  ino: number,
  entries: readonly Entry[],
  seed: Seed,
): Uint8Array {
  const data = new Uint8Array(p.blockBytes);
  const end = p.blockBytes - (seed === undefined ? 0 : DIR_TAIL_BYTES);
  const hasType = (p.features.incompat & INCOMPAT_FILETYPE) !== 0;
  let at = 0;
  entries.forEach((entry, index) => {
    const nameBytes = Uint8Array.from(entry.name, (letter) => letter.charCodeAt(0));
    const least = Math.max(DOT_BYTES, (DE.name + nameBytes.length + 3) & ~3);
    const recLen = index === entries.length - 1 ? end - at : least;
    putLe32(data, at + DE.inode, entry.ino);
    putLe16(data, at + DE.rec_len, recLen === CODED_BYTES ? CODED_WHOLE_BLOCK : recLen);
    data[at + DE.name_len] = nameBytes.length;
    data[at + DE.file_type] = hasType && entry.ino !== 0 ? FT_DIR : 0;
    data.set(nameBytes, at + DE.name);
    at += recLen;
  });
  if (seed !== undefined) {
    putLe16(data, end + DE.rec_len, DIR_TAIL_BYTES);
    data[end + DE.file_type] = FT_TAIL;
    putLe32(data, end + DE.name, directoryChecksum(inodeSeed(seed, ino, 0), data));
  }
  return data;
}

/** The block of the root. */
export function rootBlock(p: MkfsParameters, seed: Seed): Uint8Array {
  const entries = [
    { ino: EXT_ROOT_INO, name: "." },
    { ino: EXT_ROOT_INO, name: ".." },
    { ino: LOST_FOUND_INO, name: LOST_FOUND_NAME },
  ];
  return directoryBlock(p, EXT_ROOT_INO, entries, seed);
}

/** Block `index` of `lost+found`. */
export function lostFoundBlock(p: MkfsParameters, index: number, seed: Seed): Uint8Array {
  const free = { ino: 0, name: "" };
  if (index > 0) return directoryBlock(p, LOST_FOUND_INO, [free], seed);
  const dots = [
    { ino: LOST_FOUND_INO, name: "." },
    { ino: EXT_ROOT_INO, name: ".." },
  ];
  return directoryBlock(p, LOST_FOUND_INO, isInlineFirst(p) ? [...dots, free] : dots, seed);
}
