import { describe, expect, test } from "vitest";
import { asBytes, decode, nodeModule, optionsOf, zeroedBytes } from "./text.ts";

const bytes = new Uint8Array([0xef, 0xbb, 0xbf, 0x41, 0xff]);

describe("decode", () => {
  test("keeps a byte order mark, and marks what is not UTF-8", () => {
    expect(decode(bytes, "utf8", "text")).toBe("\ufeffA\ufffd");
    expect(decode(bytes, undefined, "text")).toBe("\ufeffA\ufffd");
  });

  test("gives the same memory as a Buffer where bytes are wanted", () => {
    for (const got of [
      decode(bytes, null, "bytes"),
      decode(bytes, "buffer", "text"),
      asBytes(bytes),
    ]) {
      expect(Buffer.isBuffer(got)).toBe(true);
      expect((got as Buffer).buffer).toBe(bytes.buffer);
    }
    expect(decode(bytes, "hex", "bytes")).toBe("efbbbf41ff");
  });
});

test("options are an object, an encoding, or nothing", () => {
  expect(optionsOf(undefined)).toEqual({});
  expect(optionsOf("hex")).toEqual({ encoding: "hex" });
  expect(() => optionsOf("nonsense")).toThrow("is invalid encoding");
  expect(() => optionsOf(5 as never)).toThrow('"options" argument must be one of type string or');
  expect(() => optionsOf({ signal: {} as never })).toThrow("instance of AbortSignal");
});

test("memory that callers see before it is filled is empty", () => {
  expect(zeroedBytes(5000).every((byte) => byte === 0)).toBe(true);
});

test("a module that is missing is named", () => {
  expect(() => nodeModule("node:no-such")).toThrow("needs Node's own module node:no-such");
});
