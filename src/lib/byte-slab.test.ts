/** Copies are equal, independent of their source and of one another, and share buffers. */
import { expect, test } from "vitest";
import { ByteSlab } from "./byte-slab.ts";
import { Random } from "./random.ts";

test("copies keep their bytes, whatever is copied after them", () => {
  const slab = new ByteSlab();
  const random = new Random(11);
  const kept: { copy: Uint8Array; model: Uint8Array }[] = [];
  for (let n = 0; n < 2000; n++) {
    const bytes = random.bytes(random.below(n % 100 === 0 ? 20_000 : 300));
    kept.push({ copy: slab.copy(bytes), model: Uint8Array.from(bytes) });
    bytes.fill(0xee);
  }
  for (const { copy, model } of kept) expect(copy).toEqual(model);
});

test("small copies share a buffer, large ones have their own", () => {
  const slab = new ByteSlab();
  const first = slab.copy(new Uint8Array(100));
  expect(slab.copy(new Uint8Array(100)).buffer).toBe(first.buffer);
  expect(slab.copy(new Uint8Array(10_000)).buffer).not.toBe(first.buffer);
  expect(slab.copy(new Uint8Array(0))).toHaveLength(0);
});
