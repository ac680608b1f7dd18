import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { hexOf } from "./bytes.ts";
import { Random } from "./random.ts";
import { sha256 } from "./sha256.ts";

test("sha256 gives the published digests", () => {
  expect(hexOf(sha256(new Uint8Array(0)))).toBe(
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  );
  expect(hexOf(sha256(new TextEncoder().encode("abc")))).toBe(
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  );
});

test("sha256 agrees with the platform at every length around the chunk border", () => {
  const random = new Random(1);
  for (let length = 0; length <= 200; length++) {
    const bytes = random.bytes(length);
    expect(hexOf(sha256(bytes))).toBe(createHash("sha256").update(bytes).digest("hex"));
  }
});
