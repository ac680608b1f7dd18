/**
 * Random: numbers that look random and can be had again, for the simulator, tests and jitter.
 *
 * Nothing else in quire calls `Math.random`. Whoever draws at random takes a `Random`, so that one
 * seed repeats a whole run. Not for secrets: whoever sees some numbers can tell the next ones.
 *
 * The generator is sfc32 ("small fast counter", by Chris Doty-Humphrey): 128 bits of state, three
 * additions a number, passes the usual batteries of tests.
 */
import { assert } from "./assert.ts";

const UINT32_SPAN = 0x1_0000_0000;
/**
 * Numbers thrown away at the start, after which every bit of the seed has reached every bit of the
 * state.
 */
const WARM_UP_ROUNDS = 15;
/** Upper words of a seed: it is below 2^53. */
const SEED_HIGH_LIMIT = 2 ** 21;

export class Random {
  /** A sequence that nobody can foretell, from the platform's own source. */
  static ofPlatform(): Random {
    const words = globalThis.crypto.getRandomValues(new Uint32Array(2));
    return new Random((words[0]! % SEED_HIGH_LIMIT) * UINT32_SPAN + words[1]!);
  }

  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** `seed` is an integer in 0..2^53-1; equal seeds give equal sequences. */
  constructor(seed: number) {
    assert(Number.isSafeInteger(seed) && seed >= 0, "a seed is an integer from 0 to 2^53 - 1");
    this.#a = seed | 0;
    this.#b = Math.floor(seed / UINT32_SPAN) | 0;
    this.#c = 0x9e37_79b9 | 0;
    for (let round = 0; round < WARM_UP_ROUNDS; round++) this.uint32();
  }

  /** An integer in 0..2^32-1. */
  uint32(): number {
    const next = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + next) | 0;
    return next >>> 0;
  }

  /** An integer in 0..limit-1, each equally likely; `limit` is an integer in 1..2^53-1. */
  below(limit: number): number {
    assert(Number.isSafeInteger(limit) && limit > 0, "a limit is an integer from 1 to 2^53 - 1");
    const isNarrow = limit <= UINT32_SPAN;
    const span = isNarrow ? UINT32_SPAN : Number.MAX_SAFE_INTEGER + 1;
    const fair = span - (span % limit); // Values from here on would favour small results.
    for (;;) {
      const high = isNarrow ? 0 : (this.uint32() >>> 11) * UINT32_SPAN;
      const value = high + this.uint32();
      if (value < fair) return value % limit;
    }
  }

  /** True with `probability`, a number in 0..1. */
  chance(probability: number): boolean {
    return this.uint32() < probability * UINT32_SPAN;
  }

  /** One of `list`, which must not be empty. */
  pick<T>(list: readonly T[]): T {
    assert(list.length > 0, "there is something to pick from");
    return list[this.below(list.length)] as T;
  }

  /** The elements of `list` in a random order, in a new array. */
  shuffle<T>(list: readonly T[]): T[] {
    const mixed = [...list];
    for (let left = mixed.length; left > 1; left--) {
      const other = this.below(left);
      const last = mixed[left - 1] as T;
      mixed[left - 1] = mixed[other] as T;
      mixed[other] = last;
    }
    return mixed;
  }

  /** A new array of `count` random bytes. */
  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count; at += 4) {
      const word = this.uint32();
      for (let byte = 0; byte < 4 && at + byte < count; byte++)
        bytes[at + byte] = word >>> (8 * byte);
    }
    return bytes;
  }

  /**
   * A generator of its own for a part of the run, so that parts do not shift one another's numbers.
   */
  fork(): Random {
    return new Random((this.uint32() >>> 11) * UINT32_SPAN + this.uint32());
  }
}
