/**
 * Bitmaps of blocks and inodes, searched and changed 32 bits at a time.
 *
 *     bit k of the bitmap = bit k % 8 of byte k / 8 = bit k % 32 of word k / 32
 *
 * A set bit is in use. The words are a view of the bytes, so a change of one is one of the other.
 *
 * Left out: machines whose bytes are in the other order; JavaScript runs on none that is in use.
 */
import { assert } from "../../lib/assert.ts";

const WORD_BITS = 32;
const WORD_BYTES = 4;
const ALL_ONES = 0xffff_ffff;

/** The words of `bytes`, which begin at a multiple of four in their buffer. A view. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / WORD_BYTES);
}

export function testBit(words: Uint32Array, bit: number): boolean {
  return (words[bit >>> 5]! & (1 << (bit & 31))) !== 0;
}

/** The bits `from` .. of a word up to `to` (1..32), as a mask. */
function maskOf(from: number, to: number): number {
  const below = to === WORD_BITS ? -1 : (1 << to) - 1;
  return (below & (-1 << from)) >>> 0;
}

/** Calls `visit` for every word that holds some of the bits `from` .. `from + count`. */
function eachWord(
  from: number,
  count: number,
  visit: (index: number, mask: number) => boolean,
): boolean {
  const end = from + count;
  for (let bit = from; bit < end; ) {
    const wordEnd = Math.min((bit | 31) + 1, end);
    const low = bit & 31;
    if (!visit(bit >>> 5, maskOf(low, low + wordEnd - bit))) return false;
    bit = wordEnd;
  }
  return true;
}

/** Sets `count` bits from `from` on. */
export function setBits(words: Uint32Array, from: number, count: number): void {
  eachWord(from, count, (index, mask) => {
    words[index]! |= mask;
    return true;
  });
}

/** Clears `count` bits from `from` on. */
export function clearBits(words: Uint32Array, from: number, count: number): void {
  eachWord(from, count, (index, mask) => {
    words[index]! &= ~mask;
    return true;
  });
}

/** True if `count` bits from `from` on are all 0. */
export function areBitsClear(words: Uint32Array, from: number, count: number): boolean {
  return eachWord(from, count, (index, mask) => (words[index]! & mask) === 0);
}

/** True if `count` bits from `from` on are all 1. */
export function areBitsSet(words: Uint32Array, from: number, count: number): boolean {
  return eachWord(from, count, (index, mask) => (words[index]! & mask) >>> 0 === mask);
}

/** Number of the lowest set bit of `word`, which is not 0. */
function lowestBit(word: number): number {
  return WORD_BITS - 1 - Math.clz32(word & -word);
}

/** The first bit from `from` on that is `isSet`, `end` if there is none before. */
function nextBit(words: Uint32Array, from: number, end: number, isSet: boolean): number {
  if (from >= end) return end;
  const flip = isSet ? 0 : ALL_ONES;
  let index = from >>> 5;
  let word = (words[index]! ^ flip) & (ALL_ONES << (from & 31));
  const last = (end - 1) >>> 5;
  while (word === 0) {
    if (index === last) return end;
    index++;
    word = words[index]! ^ flip;
  }
  return Math.min(end, index * WORD_BITS + lowestBit(word));
}

/** The first 0 in `from` .. `end`, `end` if there is none. */
export function nextZeroBit(words: Uint32Array, from: number, end: number): number {
  return nextBit(words, from, end, false);
}

/** The first 1 in `from` .. `end`, `end` if there is none. */
export function nextOneBit(words: Uint32Array, from: number, end: number): number {
  return nextBit(words, from, end, true);
}

/** Number of zeros in `from` .. `end`. */
export function countZeroBits(words: Uint32Array, from: number, end: number): number {
  let count = 0;
  eachWord(from, end - from, (index, mask) => {
    let word = ~words[index]! & mask;
    word -= (word >>> 1) & 0x5555_5555;
    word = (word & 0x3333_3333) + ((word >>> 2) & 0x3333_3333);
    count += Math.imul((word + (word >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
    return true;
  });
  return count;
}

/** A run of zeros. */
export interface ZeroRun {
  readonly first: number;
  readonly count: number;
}

/**
 * The first run of at least `wanted` zeros in `from` .. `end`, else the longest one; undefined if
 * there is no zero. A run that is long enough may be cut: it is looked at no further.
 */
export function findZeroRun(
  words: Uint32Array,
  from: number,
  end: number,
  wanted: number,
): ZeroRun | undefined {
  assert(wanted > 0, "a run has at least one bit");
  let first = 0;
  let count = 0;
  for (let at = nextZeroBit(words, from, end); at < end; ) {
    const stop = nextOneBit(words, at, Math.min(end, at + wanted));
    if (stop - at > count) {
      first = at;
      count = stop - at;
      if (count >= wanted) break;
    }
    at = nextZeroBit(words, stop, end);
  }
  return count === 0 ? undefined : { first, count };
}

/**
 * A run of at most `wanted` zeros that leaves the rest of the bitmap whole: the shortest one of
 * those that are long enough.
 */
export function findTightRun(
  words: Uint32Array,
  from: number,
  end: number,
  wanted: number,
): ZeroRun | undefined {
  let best: ZeroRun | undefined;
  for (let at = nextZeroBit(words, from, end); at < end; ) {
    const stop = nextOneBit(words, at, end);
    const count = stop - at;
    if (count >= wanted && (best === undefined || count < best.count)) best = { first: at, count };
    if (best?.count === wanted) break;
    at = nextZeroBit(words, stop, end);
  }
  return best;
}
