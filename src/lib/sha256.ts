/**
 * SHA-256 of short byte strings, for where the answer is needed now.
 *
 * Encrypted directories shorten long names by it, inside synchronous code that also runs in
 * browsers, whose own digest only comes as a promise. For file contents use the platform's: it is
 * much faster.
 *
 * After FIPS 180-4. The constants are computed as it defines them: the first 32 bits of the
 * fractional parts of square and cube roots of the first primes.
 */
import { putBe32 } from "./bytes.ts";

export const SHA256_BYTES = 32;
const CHUNK_BYTES = 64;
const ROUNDS = 64;
const LENGTH_BYTES = 8;

/** The first `count` primes. */
function firstPrimes(count: number): number[] {
  const primes: number[] = [];
  for (let candidate = 2; primes.length < count; candidate++) {
    if (primes.every((prime) => candidate % prime !== 0)) primes.push(candidate);
  }
  return primes;
}

/** First 32 bits of the fractional part of the `degree`-th root of `value`, by integer search. */
function rootFraction(value: number, degree: bigint): number {
  const scaled = BigInt(value) << (32n * degree);
  let low = 0n;
  let high = BigInt(value) << 32n;
  while (low < high) {
    const middle = (low + high + 1n) >> 1n;
    if (middle ** degree <= scaled) low = middle;
    else high = middle - 1n;
  }
  return Number(low & 0xffff_ffffn);
}

const PRIMES = firstPrimes(ROUNDS);
const START = Uint32Array.from(PRIMES.slice(0, 8), (prime) => rootFraction(prime, 2n));
const ROUND_WORDS = Uint32Array.from(PRIMES, (prime) => rootFraction(prime, 3n));

function turnRight(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

/** Returns the digest of `bytes`, 32 bytes. */
export function sha256(bytes: Uint8Array): Uint8Array {
  const paddedBytes = Math.ceil((bytes.length + 1 + LENGTH_BYTES) / CHUNK_BYTES) * CHUNK_BYTES;
  const padded = new Uint8Array(paddedBytes);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  putBe32(padded, paddedBytes - 8, Math.floor(bytes.length / 2 ** 29));
  putBe32(padded, paddedBytes - 4, (bytes.length * 8) >>> 0);
  const state = Uint32Array.from(START);
  const schedule = new Uint32Array(ROUNDS);
  const view = new DataView(padded.buffer);
  for (let at = 0; at < paddedBytes; at += CHUNK_BYTES) {
    for (let word = 0; word < 16; word++) schedule[word] = view.getUint32(at + 4 * word);
    expand(schedule);
    mix(state, schedule);
  }
  const digest = new Uint8Array(SHA256_BYTES);
  for (let word = 0; word < state.length; word++) putBe32(digest, 4 * word, state[word]!);
  return digest;
}

function expand(schedule: Uint32Array): void {
  for (let at = 16; at < ROUNDS; at++) {
    const early = schedule[at - 15]!;
    const late = schedule[at - 2]!;
    const small0 = turnRight(early, 7) ^ turnRight(early, 18) ^ (early >>> 3);
    const small1 = turnRight(late, 17) ^ turnRight(late, 19) ^ (late >>> 10);
    schedule[at] = schedule[at - 16]! + small0 + schedule[at - 7]! + small1;
  }
}

function mix(state: Uint32Array, schedule: Uint32Array): void {
  let [a, b, c, d, e, f, g, h] = Array.from(state) as EightWords;
  for (let round = 0; round < ROUNDS; round++) {
    const big1 = turnRight(e, 6) ^ turnRight(e, 11) ^ turnRight(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + big1 + choice + ROUND_WORDS[round]! + schedule[round]!) | 0;
    const big0 = turnRight(a, 2) ^ turnRight(a, 13) ^ turnRight(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + big0 + majority) | 0;
  }
  const mixed = [a, b, c, d, e, f, g, h];
  for (let word = 0; word < mixed.length; word++) state[word]! += mixed[word]!;
}

type EightWords = [number, number, number, number, number, number, number, number];
