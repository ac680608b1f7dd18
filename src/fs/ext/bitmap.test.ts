import { describe, expect, test } from "vitest";
import { Random } from "../../lib/random.ts";
import {
  areBitsClear,
  areBitsSet,
  clearBits,
  countZeroBits,
  findTightRun,
  findZeroRun,
  nextOneBit,
  nextZeroBit,
  setBits,
  testBit,
  wordsOf,
} from "./bitmap.ts";

const BITS = 256;

describe("a bitmap", () => {
  test("bit k is bit k % 8 of byte k / 8", () => {
    const bytes = new Uint8Array(8);
    setBits(wordsOf(bytes), 9, 1);
    setBits(wordsOf(bytes), 31, 2);
    expect([...bytes]).toEqual([0, 2, 0, 0x80, 1, 0, 0, 0]);
  });

  test.each([1, 2, 3])("is searched and changed as an array of bits, seed %i", (seed) => {
    const random = new Random(seed);
    const words = new Uint32Array(BITS / 32);
    const model: boolean[] = new Array(BITS).fill(false);
    for (let round = 0; round < 1500; round++) {
      const from = random.below(BITS);
      const count = 1 + random.below(Math.min(BITS - from, random.chance(0.3) ? 100 : 5));
      const isSet = random.chance(0.5);
      if (isSet) setBits(words, from, count);
      else clearBits(words, from, count);
      model.fill(isSet, from, from + count);
      const a = random.below(BITS);
      const end = a + random.below(BITS - a + 1);
      const part = model.slice(a, end);
      const first = (bit: boolean): number => (part.indexOf(bit) < 0 ? end : a + part.indexOf(bit));
      expect(nextZeroBit(words, a, end)).toBe(first(false));
      expect(nextOneBit(words, a, end)).toBe(first(true));
      expect(countZeroBits(words, a, end)).toBe(part.filter((bit) => !bit).length);
      expect(areBitsClear(words, a, end - a)).toBe(!part.includes(true));
      expect(areBitsSet(words, a, end - a)).toBe(!part.includes(false));
      expect(testBit(words, a)).toBe(model[a]);
      const wanted = 1 + random.below(12);
      const runs = runsOf(part).map(([at, length]) => [a + at, length] as const);
      const long = runs.find(([, length]) => length >= wanted);
      const longest = Math.max(0, ...runs.map(([, length]) => length));
      const found = findZeroRun(words, a, end, wanted);
      if (long !== undefined) expect(found).toEqual({ first: long[0], count: wanted });
      else expect(found?.count ?? 0).toBe(longest);
      const enough = runs.filter(([, length]) => length >= wanted).map(([, length]) => length);
      expect(findTightRun(words, a, end, wanted)?.count).toBe(
        enough.length === 0 ? undefined : Math.min(...enough),
      );
    }
  });
});

/** The runs of `false`, as [first, length]. */
function runsOf(bits: readonly boolean[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const [at, bit] of bits.entries()) {
    const last = runs[runs.length - 1];
    if (bit) continue;
    if (last !== undefined && last[0] + last[1] === at) last[1]++;
    else runs.push([at, 1]);
  }
  return runs;
}
