import { describe, expect, it } from "vitest";
import { foldName } from "./casefold.ts";
import { hashName } from "./dir-hash.ts";

const HALF_MD4 = 1;
const SEED = Uint32Array.of(0xa3a2a1a0, 0xc3c2b1b0, 0xe1e0d1d0, 0xe5e4e3e2);

/** The fold of `text`, as text. */
function fold(text: string): string | null {
  const folded = foldName(new TextEncoder().encode(text));
  return folded === null ? null : new TextDecoder().decode(folded);
}

describe("foldName", () => {
  it("gives the hashes of the tools", () => {
    for (const [name, major, minor] of [
      ["Grüße", 0x81a542c2, 0xaf201aae],
      ["GRÜSSE", 0x81a542c2, 0xaf201aae],
      ["grüße", 0x81a542c2, 0xaf201aae],
      ["ABC", 0x28bbf390, 0xfc460288],
      ["abc", 0x28bbf390, 0xfc460288],
      ["Café", 0x41751d2a, 0x5082051c],
    ] as const) {
      const folded = foldName(new TextEncoder().encode(name));
      expect(hashName(HALF_MD4, folded!, SEED), name).toEqual({ major, minor });
    }
  });

  it("maps each special letter to what it is folded to, not to its lower case", () => {
    const expected: readonly (readonly [string, string])[] = [
      ["\u00b5", "\u03bc"],
      ["\u1e9e", "ss"],
      ["\u017f", "s"],
      ["ΣΑΣ", "σασ"],
      ["ς", "σ"],
      ["\u0130", "i\u0307"],
      ["\u0131", "\u0131"],
      ["\u0149", "\u02bcn"],
      ["\ufb03", "ffi"],
      ["\ufb17", "\u0574\u056d"],
      ["\u0587", "\u0565\u0582"],
      ["\u1c88", "\ua64b"],
      ["\u{10400}", "\u{10428}"],
      ["\u1c90", "\u10d0"], // Georgian of Unicode 11
    ];
    for (const [from, to] of expected) expect(fold(from), from).toBe(to);
  });

  it("folds Cherokee to the capital letters, which are the older ones", () => {
    expect(fold("\u13a0\u13f5")).toBe("\u13a0\u13f5");
    expect(fold("\u13f8\u13fd")).toBe("\u13f0\u13f5");
    expect(fold("\uab70\uabbf")).toBe("\u13a0\u13ef");
  });

  it("decomposes, and sorts marks by their class", () => {
    expect(fold("Å")).toBe("a\u030a");
    expect(fold("A\u0301\u0323")).toBe("a\u0323\u0301");
    expect(fold("가")).toBe("\u1100\u1161");
  });

  it("folds the iota below to a letter before marks are sorted behind it", () => {
    expect(fold("\u1f80\u0323")).toBe("\u03b1\u0313\u03b9\u0323");
    expect(fold("\u03b1\u0345\u0323")).toBe("\u03b1\u03b9\u0323");
  });

  it("drops what is ignorable, and lets no mark move across it", () => {
    expect(fold("a\u00adb\u200d\ufe0f\u{e0100}")).toBe("ab");
    expect(fold("\u200b")).toBe("");
    expect(fold("a\u0301\u00ad\u0323")).toBe("a\u0301\u0323");
    expect(fold("a\u0301\u0323\u00ad")).toBe("a\u0323\u0301");
    expect(fold("\u2065\ufff0")).toBe(""); // ignorable before they are assigned
  });

  it("leaves code points newer than Unicode 12.1 alone, and lets no mark move across them", () => {
    expect(fold("\u{11938}")).toBe("\u{11938}"); // decomposes since 13.0
    expect(fold("\ua7c7")).toBe("\ua7c7"); // has a lower case since 13.0
    expect(fold("a\u0301\u1abf\u0323")).toBe("a\u0301\u1abf\u0323"); // a mark since 13.0
    expect(fold("\ua7c2")).toBe("\ua7c3"); // came with 12.0
    expect(fold("\ufdd0\u{10ffff}")).toBe("\ufdd0\u{10ffff}"); // never a character
  });

  it("keeps a byte order mark out like every ignorable", () => {
    expect(fold("\ufeffa")).toBe("a");
  });

  it("has no fold for bytes that are not UTF-8", () => {
    for (const bytes of [
      [0xff],
      [0x41, 0xc3],
      [0xc0, 0x80],
      [0xed, 0xa0, 0x80], // a surrogate
      [0xf4, 0x90, 0x80, 0x80], // past the last code point
      [0x41, 0x80],
    ]) {
      expect(foldName(Uint8Array.from(bytes))).toBeNull();
    }
  });

  it("returns a new array and leaves the name as it is", () => {
    const name = new TextEncoder().encode("ABC");
    foldName(name)![0] = 0;
    expect(new TextDecoder().decode(name)).toBe("ABC");
  });
});
