import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "./assert.ts";
import { Random } from "./random.ts";

const drawOf = (seed: number) =>
  Array.from(
    { length: 8 },
    (
      (r) => () =>
        r.uint32()
    )(new Random(seed)),
  );

describe("Random", () => {
  test("equal seeds give equal numbers, for good: other runs are repeated by them", () => {
    expect(drawOf(7)).toEqual(drawOf(7));
    expect(drawOf(0).slice(0, 2)).toEqual([3300212312, 1743954244]);
  });

  test("seeds that differ in one bit, high or low, give other numbers", () => {
    const firsts = [0, 1, 2, 2 ** 31, 2 ** 32, 2 ** 52].map((seed) => drawOf(seed)[0]);
    expect(new Set(firsts).size).toBe(6);
  });

  test("all numbers are uint32, and their bits are even", () => {
    const random = new Random(1);
    const ones = new Array<number>(32).fill(0);
    for (let draw = 0; draw < 10_000; draw++) {
      const value = random.uint32();
      expect(value >>> 0).toBe(value);
      for (let bit = 0; bit < 32; bit++) ones[bit]! += (value >>> bit) & 1;
    }
    for (const count of ones) expect(Math.abs(count - 5000)).toBeLessThan(250); // 5 sigma
  });

  test.each([1, 2, 3, 1000, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1])("stays below %i", (limit) => {
    const random = new Random(2);
    let largest = 0;
    for (let draw = 0; draw < 200; draw++) {
      const value = random.below(limit);
      expect(Number.isSafeInteger(value) && value >= 0 && value < limit).toBe(true);
      largest = Math.max(largest, value);
    }
    expect(largest).toBeGreaterThanOrEqual(Math.floor(limit * 0.9) - 1);
  });

  test("below favours no result", () => {
    const random = new Random(3);
    const limit = 3 * 2 ** 30; // Without rejection, the lowest third would come twice as often.
    let low = 0;
    for (let draw = 0; draw < 3000; draw++) if (random.below(limit) < 2 ** 30) low++;
    expect(Math.abs(low - 1000)).toBeLessThan(130); // 5 sigma
  });

  test.each([0, -1, 0.5, 2 ** 53, Number.NaN])("%s is no limit", (limit) => {
    expect(() => new Random(1).below(limit)).toThrow(AssertionError);
  });

  test.each([-1, 0.5, 2 ** 53])("%s is no seed", (seed) => {
    expect(() => new Random(seed)).toThrow(AssertionError);
  });

  test("chance is never for 0, always for 1, and between in between", () => {
    const random = new Random(4);
    const hits = (probability: number) => {
      let count = 0;
      for (let draw = 0; draw < 1000; draw++) if (random.chance(probability)) count++;
      return count;
    };
    expect([hits(0), hits(1)]).toEqual([0, 1000]);
    expect(Math.abs(hits(0.25) - 250)).toBeLessThan(70);
  });

  test("shuffles into any order and loses nothing", () => {
    const random = new Random(5);
    const list = [1, 2, 3];
    const orders = new Set<string>();
    for (let round = 0; round < 200; round++) orders.add(random.shuffle(list).join(""));
    expect([...orders].sort()).toEqual(["123", "132", "213", "231", "312", "321"]);
    expect(list).toEqual([1, 2, 3]);
  });

  test("picks each of a list", () => {
    const random = new Random(6);
    const picked = new Set(Array.from({ length: 100 }, () => random.pick("abc".split(""))));
    expect([...picked].sort()).toEqual(["a", "b", "c"]);
    expect(() => random.pick([])).toThrow(AssertionError);
  });

  test("makes bytes of any count, equal at the start for equal seeds", () => {
    fc.assert(
      fc.property(fc.nat(50), fc.nat(50), (a, b) => {
        const [x, y] = [new Random(7).bytes(a), new Random(7).bytes(b)];
        expect([x.length, y.length]).toEqual([a, b]);
        const common = Math.min(a, b);
        expect(x.subarray(0, common)).toEqual(y.subarray(0, common));
      }),
    );
  });

  test("a fork goes its own way", () => {
    const parent = new Random(8);
    const [a, b] = [parent.fork(), parent.fork()];
    expect(new Set([a.uint32(), b.uint32(), parent.uint32()]).size).toBe(3);
    expect(new Random(8).fork().uint32()).toBe(new Random(8).fork().uint32());
  });
});
