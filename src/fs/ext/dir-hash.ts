/**
 * The hashes by which a large directory finds a name (`ext4fs_dirhash`).
 *
 *     version      0 legacy   1 half MD4   2 TEA       bytes of the name taken as signed numbers
 *                  3          4            5           the same, bytes unsigned
 *                  6 SipHash, keyed: encrypted directories that also ignore case
 *
 * A directory stores 0..2 (or 6); whether 3 is added is said by the superblock, which remembers how
 * `char` was on the machine that made it. The two kinds differ only for names with bytes from 0x80
 * on.
 *
 * A name is cut into pieces of 32 (half MD4) or 16 bytes (TEA), each filled up with its length, and
 * each piece is mixed into four words that begin as the volume's seed. The results:
 *
 *  1. `major` is even: the lowest bit in an index says "continued", and is no part of the hash.
 *  2. `major` is never 0xfffffffe, the end mark of directory positions: it becomes 0xfffffffc.
 *
 * After fs/ext4/hash.c of Linux. Left out: SipHash, whose key we do not have.
 */
import { assert } from "../../lib/assert.ts";

const DX_HASH_LEGACY = 0;
export const DX_HASH_TEA = 2;
/** What a superblock with `EXT2_FLAGS_UNSIGNED_HASH` adds to versions 0..2. */
export const DX_HASH_UNSIGNED = 3;
const DX_HASH_SIPHASH = 6;

/** Hash of a name: `major` orders the index, `minor` only tells names with one `major` apart. */
export interface NameHash {
  readonly major: number;
  readonly minor: number;
}

const SEED_WORDS = 4;
const BUILT_IN_SEED = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
// Scratch of one call of `hashName`: a lookup hashes once, and three new arrays cost more than the
// hash.
const state = new Uint32Array(SEED_WORDS);
const teaInput = new Uint32Array(4);
const md4Input = new Uint32Array(8);
const END_OF_DIRECTORY = 0xffff_fffe;
const LAST_HASH = 0xffff_fffc;

/**
 * Hashes `name` by `version` 0..5 with the seed of the volume, four words; a seed of zeros stands
 * for the built-in one. The name is hashed as it is: fold it first in a directory that ignores
 * case.
 */
export function hashName(version: number, name: Uint8Array, seed: Uint32Array): NameHash {
  assert(version >= DX_HASH_LEGACY && version < DX_HASH_SIPHASH, "a hash version of 0..5");
  assert(seed.length === SEED_WORDS, "a hash seed has four words");
  const isUnsigned = version >= DX_HASH_UNSIGNED;
  const kind = isUnsigned ? version - DX_HASH_UNSIGNED : version;
  if (kind === DX_HASH_LEGACY) return { major: finish(legacy(name, isUnsigned)), minor: 0 };
  const hasSeed = (seed[0]! | seed[1]! | seed[2]! | seed[3]!) !== 0;
  state.set(hasSeed ? seed : BUILT_IN_SEED);
  if (kind === DX_HASH_TEA) {
    for (let at = 0; at < name.length; at += 16) {
      packWords(name, at, isUnsigned, teaInput);
      mixTea(state, teaInput);
    }
    return { major: finish(state[0]!), minor: state[1]! };
  }
  for (let at = 0; at < name.length; at += 32) {
    packWords(name, at, isUnsigned, md4Input);
    mixHalfMd4(state, md4Input);
  }
  return { major: finish(state[1]!), minor: state[2]! };
}

function finish(hash: number): number {
  const even = (hash & ~1) >>> 0;
  return even === END_OF_DIRECTORY ? LAST_HASH : even;
}

function charAt(name: Uint8Array, at: number, isUnsigned: boolean): number {
  const byte = name[at]!;
  return isUnsigned ? byte : (byte << 24) >> 24;
}

/**
 * The hash of the first directories with an index: two running words, one multiplication per byte.
 */
function legacy(name: Uint8Array, isUnsigned: boolean): number {
  let last = 0x12a3fe2d;
  let beforeLast = 0x37abe8f9;
  for (let at = 0; at < name.length; at++) {
    const spread = Math.imul(charAt(name, at, isUnsigned), 7152373);
    let next = (beforeLast + (last ^ spread)) >>> 0;
    if (next >= 0x8000_0000) next -= 0x7fff_ffff;
    beforeLast = last;
    last = next;
  }
  return last << 1;
}

/**
 * Fills `words` from the name at `from`, four bytes to a word, the first one highest. What the name
 * does not fill is the length of the rest of the name, in every byte.
 */
function packWords(name: Uint8Array, from: number, isUnsigned: boolean, words: Uint32Array): void {
  const restBytes = name.length - from;
  const twice = restBytes | (restBytes << 8);
  const pad = twice | (twice << 16);
  for (let word = 0; word < words.length; word++) {
    let value = pad;
    const start = from + word * 4;
    const end = Math.min(start + 4, name.length);
    for (let at = start; at < end; at++) value = (charAt(name, at, isUnsigned) + (value << 8)) | 0;
    words[word] = value;
  }
}

/** Sixteen rounds of the Tiny Encryption Algorithm with `key` over the first two of `words`. */
function mixTea(words: Uint32Array, key: Uint32Array): void {
  let sum = 0;
  let left = words[0]!;
  let right = words[1]!;
  for (let round = 0; round < 16; round++) {
    sum = (sum + 0x9e3779b9) >>> 0;
    left = (left + (((right << 4) + key[0]!) ^ (right + sum) ^ ((right >>> 5) + key[1]!))) >>> 0;
    right = (right + (((left << 4) + key[2]!) ^ (left + sum) ^ ((left >>> 5) + key[3]!))) >>> 0;
  }
  words[0]! += left;
  words[1]! += right;
}

/** Word order, shifts and constant of the three rounds of half MD4. */
const HALF_MD4_ROUNDS = [
  { order: [0, 1, 2, 3, 4, 5, 6, 7], shifts: [3, 7, 11, 19], constant: 0 },
  { order: [1, 3, 5, 7, 0, 2, 4, 6], shifts: [3, 5, 9, 13], constant: 0x5a827999 },
  { order: [3, 7, 2, 6, 1, 5, 0, 4], shifts: [3, 9, 11, 15], constant: 0x6ed9eba1 },
] as const;

/** MD4 cut down to eight steps a round: mixes eight words of `input` into `words`. */
function mixHalfMd4(words: Uint32Array, input: Uint32Array): void {
  let a = words[0]!;
  let b = words[1]!;
  let c = words[2]!;
  let d = words[3]!;
  for (let round = 0; round < 3; round++) {
    const { order, shifts, constant } = HALF_MD4_ROUNDS[round]!;
    for (let step = 0; step < 8; step++) {
      const chosen =
        round === 0 ? d ^ (b & (c ^ d)) : round === 1 ? (b & c) + ((b ^ c) & d) : b ^ c ^ d;
      const sum = (a + chosen + input[order[step]!]! + constant) | 0;
      const shift = shifts[step & 3]!;
      a = d;
      d = c;
      c = b;
      b = (sum << shift) | (sum >>> (32 - shift));
    }
  }
  words[0]! += a;
  words[1]! += b;
  words[2]! += c;
  words[3]! += d;
}
