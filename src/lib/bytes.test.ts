import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "./assert.ts";
import {
  be16,
  be32,
  be64,
  equalBytes,
  hexOf,
  isZero,
  joinHiLo,
  le16,
  le32,
  le64,
  putBe16,
  putBe32,
  putLe16,
  putLe32,
  putLe64,
} from "./bytes.ts";

const high = Uint8Array.of(0xf1, 0xf2, 0xf3, 0xf4);

describe("integers in bytes", () => {
  test("are unsigned, in either order", () => {
    expect([le16(high, 0), be16(high, 0)]).toEqual([0xf2f1, 0xf1f2]);
    expect([le32(high, 0), be32(high, 0)]).toEqual([0xf4f3_f2f1, 0xf1f2_f3f4]);
  });

  test("are what a DataView reads and writes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 53 - 1 }), fc.nat(5), (value, at) => {
        const [ours, theirs] = [new Uint8Array(16), new Uint8Array(16)];
        const view = new DataView(theirs.buffer);
        putLe64(ours, at, value);
        view.setBigUint64(at, BigInt(value), true);
        expect(ours).toEqual(theirs);
        expect(le64(ours, at, "value")).toBe(value);
        const low = value % 2 ** 32;
        putBe32(ours, at, Math.floor(value / 2 ** 32));
        putBe32(ours, at + 4, low);
        view.setBigUint64(at, BigInt(value));
        expect(ours).toEqual(theirs);
        expect(be64(ours, at, "value")).toBe(value);
        putLe32(ours, at, low);
        putLe16(ours, at + 4, low % 2 ** 16);
        putBe16(ours, at + 6, low % 2 ** 16);
        view.setUint32(at, low, true);
        view.setUint16(at + 4, low, true);
        view.setUint16(at + 6, low);
        expect(ours).toEqual(theirs);
        expect(le32(ours, at)).toBe(view.getUint32(at, true));
        expect(be32(ours, at)).toBe(view.getUint32(at));
        expect([le16(ours, at), be16(ours, at)]).toEqual([
          view.getUint16(at, true),
          view.getUint16(at),
        ]);
      }),
    );
  });

  test("from 2^53 on are damage, named by their field", () => {
    const bytes = new Uint8Array(8).fill(0xff, 0, 6);
    bytes[6] = 0x1f;
    expect(le64(bytes, 0, "s_blocks_count")).toBe(2 ** 53 - 1);
    bytes[6] = 0x20;
    expect(() => le64(bytes, 0, "s_blocks_count")).toThrow("s_blocks_count is 2^53 or more");
    expect(() => joinHiLo(0xffff_ffff, 0, "x")).toThrow(
      expect.objectContaining({ code: "EUCLEAN" }),
    );
  });

  test("behind the end are a bug in the caller", () => {
    for (const read of [le32, be32]) expect(() => read(high, 1)).toThrow(AssertionError);
    for (const read of [le16, be16]) expect(() => read(high, 3)).toThrow(AssertionError);
    expect(() => le64(high, 0, "x")).toThrow(AssertionError);
    expect(() => be64(high, 0, "x")).toThrow(AssertionError);
  });
});

test("isZero looks at its range only", () => {
  const bytes = Uint8Array.of(1, 0, 0, 2);
  expect([isZero(bytes), isZero(bytes, 1, 3), isZero(bytes, 1), isZero(bytes, 0, 3)]).toEqual([
    false,
    true,
    false,
    false,
  ]);
  expect(isZero(new Uint8Array(0))).toBe(true);
});

test("equalBytes compares length and content", () => {
  expect(equalBytes(high, high.slice())).toBe(true);
  expect(equalBytes(high, high.subarray(0, 3))).toBe(false);
  expect(equalBytes(high, Uint8Array.of(0xf1, 0xf2, 0xf3, 0))).toBe(false);
});

test("hexOf writes two digits a byte", () => {
  expect(hexOf(Uint8Array.of(0, 10, 255))).toBe("000aff");
});
