import { describe, expect, test } from "vitest";
import { attributesJson, modeText, nanoseconds, timeText } from "./format.ts";
import { fieldName, line } from "./info.ts";
import { globMatcher } from "./list.ts";
import { extentFlagNames } from "./map.ts";
import { jsonLine, plainLine, printable, table, textOf } from "./output.ts";

describe("names on a terminal", () => {
  test.each<[name: string | Uint8Array, shown: string]>([
    ["plain ünï", "plain ünï"],
    ["a\nb\x1b[31m\x7f", "a\\x0ab\\x1b[31m\\x7f"],
    ["back\\slash", "back\\\\slash"],
    ["\u202egnp.exe", "\\u{202e}gnp.exe"],
    ["\u009b31m", "\\x9b31m"],
    ["\ufeffmark", "\\u{feff}mark"],
    [new Uint8Array([0x41, 0xff, 0x0a]), "A\\xff\\x0a"],
    [new TextEncoder().encode("\ufeffx"), "\\u{feff}x"],
  ])("%j is shown as %s", (name, shown) => {
    expect(printable(name)).toBe(shown);
  });

  test("a sentence keeps its backslashes, and nothing that steers a terminal", () => {
    expect(plainLine("the name 'a\\x0a' \x1b[0m")).toBe("the name 'a\\x0a' \\x1b[0m");
  });

  test("text is exact only if it gives the same bytes back", () => {
    expect(textOf(new TextEncoder().encode("\ufeffü"))).toEqual({ text: "\ufeffü", isExact: true });
    expect(textOf(new Uint8Array([0xff]))).toEqual({ text: "\ufffd", isExact: false });
  });
});

test("JSON holds bigints as text", () => {
  expect(jsonLine({ a: 5n })).toBe('{"a":"5"}\n');
});

test("tables align numbers to the right, and end lines without blanks", () => {
  const rows = [
    ["a", "1", "x"],
    ["bbb", "22", "yy"],
  ];
  expect(table(rows, [1])).toBe("a     1  x\nbbb  22  yy\n");
});

test("labelled text is broken at blanks", () => {
  const text = line("Features", Array.from({ length: 30 }, () => "word").join(" "));
  for (const part of text.trimEnd().split("\n")) expect(part.length).toBeLessThanOrEqual(78);
  expect(text).toMatch(/^Features {4}word.*\n {12}word/);
  expect(line("Nothing", "")).toBe("");
  expect(fieldName("inodesPerGroup")).toBe("inodes per group");
});

describe("formats", () => {
  test("modes with special bits", () => {
    expect(modeText("file", 0o644)).toBe("-rw-r--r--");
    expect(modeText("directory", 0o1777)).toBe("drwxrwxrwt");
    expect(modeText("file", 0o6640)).toBe("-rwSr-S---");
    expect(modeText("character", 0o4755)).toBe("crwsr-xr-x");
  });

  test("times before 1970", () => {
    expect(timeText({ sec: -2, nsec: 5 })).toBe("1969-12-31T23:59:58.000000005Z");
    expect(nanoseconds({ sec: -2, nsec: 5 })).toBe("-1999999995");
  });

  test("extent flags", () => {
    expect(extentFlagNames(0x801)).toEqual(["last", "unwritten"]);
  });

  test("device numbers stand in the JSON of devices alone", () => {
    const time = { sec: 0, nsec: 0 };
    const attributes = {
      ino: 1,
      generation: 0,
      mode: 0o20600,
      nlink: 1,
      uid: 0,
      gid: 0,
      rdevMajor: 1,
      rdevMinor: 3,
      sizeBytes: 0,
      sectorCount: 0,
      blockBytes: 1024,
      atime: time,
      mtime: time,
      ctime: time,
      birthtime: undefined,
      flags: 0,
      projectId: 0,
    };
    expect(attributesJson("character", attributes)).toMatchObject({ rdev: [1, 3], mode: "0600" });
    expect("rdev" in attributesJson("file", attributes)).toBe(false);
  });
});

describe("shell patterns", () => {
  test.each<[pattern: string, name: string, fits: boolean]>([
    ["*", "", true],
    ["*.conf", "a.conf", true],
    ["*.conf", "a.conf~", false],
    ["a?c", "abc", true],
    ["a?c", "a\u{1f600}c", true],
    ["a.c", "abc", false],
    ["[a-c]x", "bx", true],
    ["[!a-c]x", "bx", false],
    ["[]]", "]", true],
    ["[^a]", "^", true],
    ["[ab", "[ab", true],
    ["\\*", "*", true],
    ["\\*", "x", false],
    ["a(b)+", "a(b)+", true],
    ["*\n*", "a\nb", true],
  ])("%j and %j: %s", (pattern, name, fits) => {
    expect(globMatcher(pattern)(name)).toBe(fits);
  });
});
