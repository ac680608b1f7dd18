/** Names and symlink targets that are meant to leave the destination, or to steer a terminal. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { beforeAll, describe, expect, test } from "vitest";
import { checkName, isInsideTarget } from "../../src/front/cli/get-names.ts";
import { run } from "../../src/front/cli/program.ts";
import { SB } from "../../src/fs/ext/layout.ts";
import { type Record as DirRecord, putDirBlock } from "../support/ext-names.ts";
import { makeRich } from "../support/hostile-images.ts";
import { ImagePatch } from "../support/hostile-patch.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "e2fsck"].map(requireTool).every(Boolean);
const directory = scratchDirectory("names");
const bytesOf = (text: string): Uint8Array => Buffer.from(text, "utf8");

/** Refused everywhere. */
const NEVER = [
  "",
  ".",
  "..",
  "/",
  "a/b",
  "/etc/passwd",
  "../x",
  "x/..",
  "a\0",
  "\0",
  "a\0/b",
  "//",
];
/** Refused on Windows, names elsewhere. */
const NOT_ON_WINDOWS = [
  ...[
    "con",
    "CON",
    "Con.txt",
    "con.tar.gz",
    "prn",
    "aux",
    "AUX.c",
    "nul",
    "NUL.txt",
    "com1",
    "COM9",
  ],
  ...["com¹", "lpt1", "LPT9.x", "lpt³", "conin$", "CONOUT$", "com0"],
  ...[
    "a\\b",
    "..\\x",
    "\\\\host\\share",
    "C:",
    "C:x",
    "a:stream",
    "a::$DATA",
    "a*",
    "a?",
    'a"b',
    "a<b",
  ],
  ...["a>b", "a|b", "a\nb", "a\x1b[2J", "a\x7f", "a.", "a ", "...", "a. ", " ."],
];
/** Names everywhere. */
const ALWAYS = [
  ...["a", ".a", "..a", "a..", "-rf", "--help", "~", "$(x)", "`x`", "%2e%2e%2f", "__proto__"],
  ...["constructor", "console", "nulls", "com", "lpt", "é", "\u202egpj.exe", "ﬁ", "x".repeat(255)],
].filter((name) => name !== "a..");

describe("names to be made on the host", () => {
  test("the table is long enough", () => {
    expect(NEVER.length + NOT_ON_WINDOWS.length + ALWAYS.length).toBeGreaterThanOrEqual(60);
  });

  test.each(NEVER)("%j is refused", (name) => {
    for (const platform of ["linux", "darwin", "win32"]) {
      expect(() => checkName(bytesOf(name), platform)).toThrow("EINVAL");
    }
  });

  test.each(NOT_ON_WINDOWS)("%j is refused on Windows alone", (name) => {
    expect(() => checkName(bytesOf(name), "win32")).toThrow("EINVAL");
    checkName(bytesOf(name), "linux");
  });

  test.each(ALWAYS)("%j is a name", (name) => {
    for (const platform of ["linux", "darwin", "win32"]) checkName(bytesOf(name), platform);
  });
});

/** Target, depth of the link (1 directly in the destination), whether it stays inside. */
const TARGETS: readonly (readonly [string, number, boolean])[] = [
  ["x", 1, true],
  ["./x", 1, true],
  ["a/b/c", 1, true],
  ["..", 1, false],
  ["../x", 1, false],
  ["../x", 2, true],
  ["../../x", 2, false],
  ["../../x", 3, true],
  ["./../x", 1, false],
  [".//..//x", 1, false],
  ["a/../x", 5, false],
  ["a/../../x", 5, false],
  ["x/..", 2, false],
  ["/", 9, false],
  ["/etc/passwd", 9, false],
  ["//x", 9, false],
  ["", 1, false],
  [".", 1, true],
  ["...", 1, true],
  ["..x/y", 1, true],
  ["../".repeat(40), 9, false],
  ["x", 0, false],
  ["x\\..\\..\\y", 1, true],
];

describe("targets of symlinks", () => {
  test.each(TARGETS)("%j, %i deep, stays inside: %s", (target, depth, isInside) => {
    expect(isInsideTarget(bytesOf(target), depth, "linux")).toBe(isInside);
  });

  test.each(["..\\x", "a\\b", "C:\\x", "C:x", "\\x", "\\\\host\\x", "a:b"])(
    "%j never does on Windows",
    (target) => expect(isInsideTarget(bytesOf(target), 3, "win32")).toBe(false),
  );
});

/** Names that are nothing but names to a file system, and trouble to a terminal or a script. */
const TROUBLE: readonly (string | Uint8Array)[] = [
  "\x1b[2J\x1b[1;1H",
  "\x1b]0;title\x07",
  "\x1b]52;c;ZXZpbA==\x07",
  "\x9b31m",
  "\x90q",
  "line\nbreak",
  "carriage\rreturn",
  "tab\tbell\x07",
  "back\b\b\bspace",
  "del\x7f",
  "\u202egnp.exe",
  "\u2066isolate\u2069",
  "\u2028separator",
  "\ufeffbom",
  "__proto__",
  "constructor",
  "hasOwnProperty",
  'quote"brace}',
  "back\\slash",
  "--option",
  Uint8Array.of(0xff, 0xfe, 0x1b, 0x5b, 0x41),
  Uint8Array.of(0xc2, 0x9b, 0x33, 0x31, 0x6d),
  Uint8Array.of(0xed, 0xa0, 0x80),
];
const STEERS = /[^\P{Cc}\n]|[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

function bytesOfName(name: string | Uint8Array): Uint8Array {
  return typeof name === "string" ? bytesOf(name) : name;
}

/** What a command prints on both streams. */
async function outputOf(...args: readonly string[]): Promise<{ out: string; err: string }> {
  const texts = { out: "", err: "" };
  const sink = (key: "out" | "err"): Writable =>
    new Writable({
      write(chunk: Buffer | string, _encoding, done): void {
        texts[key] += chunk.toString();
        done();
      },
    });
  const streams = { stdout: sink("out"), stderr: sink("err") };
  await run(args, streams, "0", new AbortController().signal);
  return texts;
}

describe.skipIf(!hasTools)("names that steer a terminal", () => {
  let image = "";
  beforeAll(async () => {
    const patch = await ImagePatch.of(makeRich(directory, "ext2"));
    const files = [...patch.inos].filter(([path]) => path.startsWith("indexed/"));
    const names = TROUBLE.map((name, index): DirRecord => [files[index]![1], bytesOfName(name), 1]);
    const place = patch.placesOf("directory", "a/b")[0]!;
    const dots: readonly DirRecord[] = [
      [patch.ino("a/b"), ".", 2],
      [patch.ino("a"), "..", 2],
    ];
    putDirBlock(patch.view(place), [...dots, ...names]);
    patch.superblock.set(bytesOf("\x1b[2Jlabel\x9b"), 0x78);
    patch.superblock.set(bytesOf("/\x1b]0;x\x07\u202e"), 0x88);
    expect(SB.s_magic).toBe(0x38);
    image = join(directory, "trouble.img");
    writeFileSync(image, patch.bytes);
  });

  test.each([
    ["info"],
    ["ls", "/a/b", "-a"],
    ["ls", "/a/b", "-la"],
    ["tree", "/a"],
    ["find", "/a"],
    ["du", "/a"],
    ["manifest", "/a"],
    ["stat", "/a/b/\x1b[2J\x1b[1;1H", "/a/b/line\nbreak"],
    ["cat", "/a/b/\x1b[2J", "/a/b/none\x9b"],
    ["overview"],
    ["map", "/a/b/\x1b[2J\x1b[1;1H"],
  ])("quire %s %s shows none of it raw, as text and as JSON", async (verb, ...args) => {
    const paths = args.filter((arg): arg is string => arg !== undefined);
    for (const options of [[], ["--json"]]) {
      const { out, err } = await outputOf(verb, image, ...paths, ...options);
      expect(out + err).not.toMatch(STEERS);
      expect(out.length + err.length).toBeGreaterThan(0);
    }
  });

  test("JSON lines are one for each file, and tell every name exactly", async () => {
    const { out, err } = await outputOf("manifest", image, "/a/b");
    expect(err).toBe("");
    const lines = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { path: string; path_b64?: string });
    const found = lines.map(({ path, path_b64 }) =>
      path_b64 === undefined ? path : Buffer.from(path_b64, "base64").toString("latin1"),
    );
    const wanted = TROUBLE.map((name) => {
      if (typeof name === "string") return name;
      const isUtf8 = Buffer.from(Buffer.from(name).toString()).equals(Buffer.from(name));
      return Buffer.from(name).toString(isUtf8 ? "utf8" : "latin1");
    });
    expect(new Set(found)).toEqual(new Set([".", ...wanted]));
    expect(lines).toHaveLength(TROUBLE.length + 1);
    const { out: listed } = await outputOf("find", image, "/a/b", "--json");
    const paths = listed
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { path: string; path_b64?: string })
      .map(({ path, path_b64 }) =>
        path_b64 === undefined ? path : Buffer.from(path_b64, "base64").toString("latin1"),
      );
    expect(new Set(paths)).toEqual(new Set(["/a/b", ...wanted.map((name) => `/a/b/${name}`)]));
  });
});
