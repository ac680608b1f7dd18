/** The three checksums: published check values, chaining, ranges, and a bit-by-bit model. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { crc16 } from "./crc16.ts";
import { crc32be } from "./crc32be.ts";
import { crc32c, crc32cForce } from "./crc32c.ts";

type Checksum = (seed: number, bytes: Uint8Array, from?: number, to?: number) => number;

/** The definition: one bit after the other, least significant first. */
function reflectedModel(polynomial: number): Checksum {
  return (seed, bytes) => {
    let crc = seed;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? polynomial : 0);
    }
    return crc >>> 0;
  };
}

/** The same, most significant bit first. */
const bigEndianModel: Checksum = (seed, bytes) => {
  let crc = seed;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc < 0 ? 0x04c1_1db7 : 0);
  }
  return crc >>> 0;
};

const digits = new TextEncoder().encode("123456789");

describe.each<[string, Checksum, Checksum, number, number]>([
  ["crc32c", crc32c, reflectedModel(0x82f6_3b78), 0xffff_ffff, 0x1cf9_6d7c],
  ["crc32be", crc32be, bigEndianModel, 0xffff_ffff, 0x0376_e6e7],
  ["crc16", crc16, reflectedModel(0xa001), 0xffff, 0x4b37],
])("%s", (_name, checksum, model, first, check) => {
  test("has its check value", () => {
    expect(checksum(first, digits)).toBe(check);
  });

  test("of nothing is the seed", () => {
    expect(checksum(first, new Uint8Array(0))).toBe(first);
    expect(checksum(7, digits, 4, 4)).toBe(7);
  });

  test("chains, takes a range, and is what its definition says", () => {
    const seed = fc.integer({ min: 0, max: first });
    const bytes = fc.uint8Array({ maxLength: 100, size: "max" });
    fc.assert(
      fc.property(seed, bytes, fc.nat(100), fc.nat(100), (seed, bytes, a, b) => {
        const [from, to] = [Math.min(a, b, bytes.length), Math.min(Math.max(a, b), bytes.length)];
        const part = bytes.subarray(from, to);
        expect(checksum(seed, bytes, from, to)).toBe(model(seed, part));
        const head = checksum(seed, bytes, 0, from);
        expect(checksum(head, bytes, from)).toBe(checksum(seed, bytes));
      }),
      { numRuns: runs(300) },
    );
  });
});

test("crc32c of 32 zero bytes is as measured on an ext4 image", () => {
  expect(crc32c(0xffff_ffff, new Uint8Array(32))).toBe(0x756e_c955);
});

test("four bytes anywhere make the checksum what is wanted", () => {
  const uint32 = fc.integer({ min: 0, max: 0xffff_ffff });
  const bytes = fc.uint8Array({ minLength: 4, maxLength: 100, size: "max" });
  fc.assert(
    fc.property(uint32, bytes, fc.nat(100), fc.nat(100), uint32, (seed, bytes, a, b, wanted) => {
      const at = a % (bytes.length - 3);
      const to = at + 4 + (b % (bytes.length - at - 3));
      const before = bytes.slice();
      crc32cForce(seed, bytes, at, to, wanted);
      expect(crc32c(seed, bytes, 0, to)).toBe(wanted);
      before.set(bytes.subarray(at, at + 4), at);
      expect(bytes).toEqual(before); // And all others are as they were.
    }),
    { numRuns: runs(300) },
  );
});
