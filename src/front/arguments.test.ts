import { describe, expect, test } from "vitest";
import {
  checkInteger,
  checkMode,
  checkPosition,
  checkTime,
  codedError,
  invalidArgType,
  invalidArgValue,
  outOfRange,
  pathBytes,
  pathText,
} from "./arguments.ts";

// What Node itself says is compared in test/conformance; here is what it never gets to see.

describe("coded errors", () => {
  test("have one enumerable key, and the code in stack and text but not in the name", () => {
    const error = codedError("ERR_X", "no");
    expect(Object.keys(error)).toEqual(["code"]);
    expect([error.name, error.message, String(error)]).toEqual([
      "Error",
      "no",
      "Error [ERR_X]: no",
    ]);
    expect(error.stack).toMatch(/^Error \[ERR_X\]: no\n/);
  });

  test("show long values shortened, and large numbers in groups", () => {
    expect(invalidArgType("a.b", "of type x", "y".repeat(40)).message).toBe(
      `The "a.b" property must be of type x. Received type string ('${"y".repeat(24)}...)`,
    );
    const shown = invalidArgValue("a", "y".repeat(200), "is wrong").message;
    expect(shown).toBe(`The argument 'a' is wrong. Received '${"y".repeat(127)}...`);
    expect(outOfRange("n", "small", 2 ** 40).message).toContain("Received 1_099_511_627_776");
    expect(outOfRange("n", "small", -(2n ** 40n)).message).toContain(
      "Received -1_099_511_627_776n",
    );
  });
});

describe("paths", () => {
  test("keep a byte order mark, as text and as bytes", () => {
    expect(pathText(pathBytes("\ufeffx"))).toBe("\ufeffx");
  });

  test("are taken from file URLs", () => {
    expect(pathText(new URL("file:///a%20b/%C3%BC"))).toBe("/a b/ü");
  });
});

describe("numbers", () => {
  test("positions are undefined for none, and exact", () => {
    expect([null, undefined, -1, -1n].map(checkPosition)).toEqual(Array(4).fill(undefined));
    expect([0, 7n, Number.MAX_SAFE_INTEGER].map(checkPosition)).toEqual([
      0,
      7,
      Number.MAX_SAFE_INTEGER,
    ]);
    for (const wrong of [2n ** 53n, -2n, 2 ** 53, 0.5, -2, "1", {}]) {
      expect(() => checkPosition(wrong)).toThrow(/position/);
    }
  });

  test("integers have bounds, both named", () => {
    expect(checkInteger(3, "n", 1, 3)).toBe(3);
    expect(() => checkInteger(4, "n", 1, 3)).toThrow("It must be >= 1 && <= 3. Received 4");
    expect(() => checkInteger(Number.NaN, "n")).toThrow("It must be an integer. Received NaN");
  });

  test("modes are numbers or octal digits", () => {
    expect([checkMode("755", "m"), checkMode(0o644, "m"), checkMode(null, "m", 1)]).toEqual([
      0o755, 0o644, 1,
    ]);
    expect(() => checkMode("8", "m")).toThrow("octal string");
    expect(() => checkMode(undefined, "m")).toThrow('"m" argument must be of type number');
  });

  test("times are seconds, their text, or dates", () => {
    for (const time of [0, -1.5, "12", new Date(0)])
      expect(() => checkTime(time, "t")).not.toThrow();
    for (const time of ["x", Number.NaN, null, {}])
      expect(() => checkTime(time, "t")).toThrow("Time");
  });
});
