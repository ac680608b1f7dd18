import { describe, expect, test } from "vitest";
import { formatSize, parseSize } from "./size-text.ts";

describe("parseSize", () => {
  test.each<[text: string | number, bytes: number]>([
    [0, 0],
    [123, 123],
    ["123", 123],
    ["1b", 1],
    ["64k", 65_536],
    ["64KiB", 65_536],
    ["64kb", 64_000],
    ["1.5M", 1_572_864],
    [" 2 GiB ", 2 ** 31],
    ["1tib", 2 ** 40],
  ])("%j is %d bytes", (text, bytes) => {
    expect(parseSize(text, "x")).toBe(bytes);
  });

  test.each(["", "MiB", "-1", "1e3", "1 Mi B", "64XB", -1, 1.5, Number.NaN, "9".repeat(30)])(
    "%j is none",
    (text) => {
      expect(() => parseSize(text, "x")).toThrow(/'x' must be a /);
    },
  );
});

test.each<[bytes: number, text: string]>([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [1_048_524, "1023.9 KiB"],
  [1_048_575, "1.0 MiB"],
  [3 * 2 ** 40, "3.0 TiB"],
  [2 ** 53, "8.0 PiB"],
])("formatSize(%d) is %s", (bytes, text) => {
  expect(formatSize(bytes)).toBe(text);
});
