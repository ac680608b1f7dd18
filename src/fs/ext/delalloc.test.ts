import { describe, expect, test } from "vitest";
import { Random } from "../../lib/random.ts";
import { DelallocRanges } from "./delalloc.ts";

describe("promised blocks", () => {
  test("join with their neighbours, and are cut where they go", () => {
    const ranges = new DelallocRanges();
    ranges.add(10, 20);
    ranges.add(30, 40);
    ranges.add(20, 30);
    expect(ranges.ranges).toEqual([{ first: 10, end: 40 }]);
    expect(ranges.remove(15, 18)).toEqual([{ first: 15, end: 18 }]);
    expect(ranges.ranges).toEqual([
      { first: 10, end: 15 },
      { first: 18, end: 40 },
    ]);
    expect(ranges.at(16)).toBeUndefined();
    expect(ranges.next(16)).toEqual({ first: 18, end: 40 });
    expect(ranges.remove(0, Infinity).length).toBe(2);
    expect(ranges.blockCount).toBe(0);
  });

  test("are promised once", () => {
    const ranges = new DelallocRanges();
    ranges.add(10, 20);
    expect(() => ranges.add(19, 21)).toThrow("promised once");
    expect(() => ranges.add(5, 11)).toThrow("promised once");
  });

  test("are those that a set of numbers holds, whatever is added and removed", () => {
    for (let seed = 1; seed <= 30; seed++) {
      const random = new Random(seed);
      const ranges = new DelallocRanges();
      const model = new Set<number>();
      for (let step = 0; step < 200; step++) {
        const first = random.below(300);
        const end = first + 1 + random.below(20);
        const numbers = Array.from({ length: end - first }, (_, at) => first + at);
        if (random.below(2) === 0 && numbers.every((block) => !model.has(block))) {
          ranges.add(first, end);
          for (const block of numbers) model.add(block);
        } else {
          const gone = numbers.filter((block) => model.delete(block));
          const removed = ranges.remove(first, end);
          const count = removed.reduce((sum, range) => sum + range.end - range.first, 0);
          expect(count, `seed ${seed}`).toBe(gone.length);
        }
        expect(ranges.blockCount).toBe(model.size);
        for (let block = 0; block < 330; block += 7) {
          expect(ranges.at(block) !== undefined, `seed ${seed}: ${block}`).toBe(model.has(block));
        }
        const touching = ranges.ranges.some(
          (range, at) => range.end === ranges.ranges[at + 1]?.first,
        );
        expect(touching).toBe(false);
      }
    }
  });
});
