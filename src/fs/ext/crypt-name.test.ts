import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { ascii } from "../../../test/support/ext-names.ts";
import { Random } from "../../lib/random.ts";
import { decodeNoKeyName, encodeNoKeyName, isNoKeyNameOf } from "./crypt-name.ts";

const HASH = { major: 0x1234_5678, minor: 0xfedc_ba98 };

/** The same by the platform's base64 and SHA-256. */
function expected(ciphertext: Uint8Array): string {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(HASH.major, 0);
  head.writeUInt32LE(HASH.minor, 4);
  const parts = [head, ciphertext.subarray(0, 149)];
  if (ciphertext.length > 149) {
    parts.push(createHash("sha256").update(ciphertext.subarray(149)).digest());
  }
  return Buffer.concat(parts).toString("base64url");
}

describe("no-key names", () => {
  const random = new Random(7);

  it("are hash and ciphertext in base64url, the end of long ones as a digest", () => {
    for (let length = 16; length <= 255; length++) {
      const ciphertext = random.bytes(length);
      const name = encodeNoKeyName(HASH, ciphertext);
      expect(Buffer.from(name).toString()).toBe(expected(ciphertext));
    }
  });

  it("lead back to what they were made of", () => {
    for (const length of [16, 17, 18, 148, 149, 150, 255]) {
      const ciphertext = random.bytes(length);
      const decoded = decodeNoKeyName(encodeNoKeyName(HASH, ciphertext))!;
      expect(decoded.hash).toEqual(HASH);
      expect(decoded.prefix).toEqual(ciphertext.subarray(0, 149));
      expect(decoded.restDigest === undefined).toBe(length <= 149);
      expect(isNoKeyNameOf(decoded, ciphertext)).toBe(true);
      for (const at of [0, length - 1]) {
        const other = ciphertext.slice();
        other[at]! ^= 1;
        expect(isNoKeyNameOf(decoded, other)).toBe(false);
      }
      expect(isNoKeyNameOf(decoded, ciphertext.subarray(0, length - 1))).toBe(false);
      expect(isNoKeyNameOf(decoded, ciphertext.subarray(0, 149))).toBe(length <= 149);
    }
  });

  it("with a digest never mean a ciphertext that needs none", () => {
    const ciphertext = random.bytes(149);
    const long = decodeNoKeyName(encodeNoKeyName(HASH, random.bytes(255)))!;
    const restDigest = createHash("sha256").update("").digest();
    expect(isNoKeyNameOf({ ...long, prefix: ciphertext, restDigest }, ciphertext)).toBe(false);
  });

  it("are nothing else: other letters, lengths, or bits left over", () => {
    const good = encodeNoKeyName(HASH, random.bytes(16));
    expect(decodeNoKeyName(good)).toBeDefined();
    const wrong = [
      ascii(""),
      ascii("README.md"),
      ascii("AAAAAAAAAAA"), // the hash alone
      ascii("A".repeat(13)), // a digit that makes no byte
      ascii("AAAAAAAAAAAB"), // is one: 9 bytes
      ascii("AAAAAAAAAAAAAB"), // bits left over
      ascii("AAAAAAAAAAA+AAAA"),
      encodeNoKeyName(HASH, random.bytes(255)).subarray(0, 248), // between 157 and 189 bytes
    ];
    expect(wrong.map((name) => decodeNoKeyName(name) !== undefined)).toEqual([
      ...[false, false, false, false, true, false, false, false],
    ]);
  });
});
