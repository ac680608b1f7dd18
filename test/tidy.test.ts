/**
 * The house rules as a test, after TigerBeetle's `tidy.zig`: what a reviewer would say again and
 * again.
 *
 * Each rule takes a file and gives its violations; the first tests plant one for each rule, so
 * that a rule that sees nothing is itself seen. A rule with reasons to be broken names the files
 * where it is.
 */
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  docComments,
  functionSpans,
  kernelTerms,
  type MaskedSource,
  maskSource,
  projectFiles,
  type SourceFile,
} from "./support/source-text.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FILES = projectFiles(ROOT);
const LINE_MAX = 100;
const FUNCTION_LINES_MAX = 70;
const FILE_LINES_WARN = 500;
const FILE_LINES_MAX = 800;
const BLOB_BYTES_MAX = 256 * 1024;

interface TextFile extends SourceFile, MaskedSource {
  readonly text: string;
}
type Rule = (file: TextFile) => string[];

function textFileOf(file: SourceFile & { readonly text: string }): TextFile {
  const isCode = /\.(?:ts|js|mjs)$/.test(file.path);
  return { ...file, ...(isCode ? maskSource(file.text) : { code: "", comments: "" }) };
}

/** A file that is not there, for the tests of the rules. */
function planted(path: string, text: string): TextFile {
  return textFileOf({ path, text, sizeBytes: text.length, isExecutable: false });
}

const isCode = (file: SourceFile): boolean => /\.ts$/.test(file.path);
const isSource = (file: SourceFile): boolean =>
  isCode(file) && file.path.startsWith("src/") && !/\.(?:test|bench)\.ts$/.test(file.path);
const isUnder = (file: SourceFile, ...folders: string[]): boolean =>
  folders.some((folder) => file.path.startsWith(folder));

/** Violations of `pattern` in `text`, each with its line and what to do instead. */
function matches(file: TextFile, text: string, pattern: RegExp, instead: string): string[] {
  const found: string[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const match = pattern.exec(line);
    if (match) found.push(`${file.path}:${index + 1}: "${match[0].trim()}": ${instead}`);
  }
  return found;
}

interface BannedCode {
  readonly pattern: RegExp;
  readonly instead: string;
  readonly where: (file: SourceFile) => boolean;
  readonly example: string;
}

/** What is injected elsewhere, and the test that compares it with the platform's own. */
const IS_INJECTED = /^src\/lib\/(?:clock|clock\.test|random)\.ts$/;
const isNotInjected = (file: SourceFile): boolean =>
  isUnder(file, "src/", "test/") && !IS_INJECTED.test(file.path);
/** Computes its constants once, at the start. */
const IS_COLD = /^src\/lib\/sha256\.ts$/;
const isHot = (file: SourceFile): boolean =>
  isSource(file) &&
  isUnder(file, "src/lib/", "src/block/", "src/cache/", "src/mapping/") &&
  !IS_COLD.test(file.path);

const BANNED_CODE: readonly BannedCode[] = [
  {
    pattern: /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b/,
    instead: "take a Clock",
    where: (file) => isNotInjected(file) && isSource(file),
    example: "const t = Date.now();",
  },
  {
    pattern: /\bMath\.random\b/,
    instead: "take a Random, so that a seed repeats the run",
    where: isNotInjected,
    example: "const n = Math.random();",
  },
  {
    pattern: /\b(?:setTimeout|setInterval|setImmediate|queueMicrotask|nextTick)\b/,
    instead: "take a Clock: setTimer, turn, microtask",
    where: isNotInjected,
    example: "setTimeout(wake, 5);",
  },
  {
    pattern: /\b(?:const )?enum \w+|\bnamespace \w+/,
    instead: "constants and a union type",
    where: isCode,
    example: "enum Mark { Dirty }",
  },
  {
    pattern: /\b(?:test|it|describe)\.only\b/,
    instead: "all tests run",
    where: isCode,
    example: 'test.only("x", () => {});',
  },
  {
    pattern: /\b(?:test|it|describe)\.(?:skip|todo)\b\s*\(/,
    instead: "test.skipIf with a reason that is told (test/support/tools.ts)",
    where: isCode,
    example: 'test.skip("x", () => {});',
  },
  {
    pattern: /\bBigInt\b|\bbigint\b|\b\d[\d_]*n\b|\bBig(?:Int|Uint)64/,
    instead: "numbers below 2^53: bigint is 17 times slower here",
    where: isHot,
    example: "let at = 5n;",
  },
  {
    pattern: /\bconsole\.|\bdebugger\b/,
    instead: "the fronts talk to people, the layers below return and throw",
    where: (file) => isSource(file) && !isUnder(file, "src/front/cli/"),
    example: "console.log(x);",
  },
  {
    pattern: /\bas any\b|: any\b|<any>/,
    instead: "unknown, and a check",
    where: isCode,
    example: "const x = y as any;",
  },
  {
    pattern: /\beval\(|\bnew Function\(/,
    instead: "nothing: code is not made from data",
    where: isCode,
    example: "eval(text);",
  },
];

const BANNED_IN_COMMENTS: readonly { pattern: RegExp; instead: string; example: string }[] = [
  {
    pattern: /\b(?:TODO|FIXME|XXX|HACK)\b/,
    instead: "do it, or open an issue",
    example: "// TODO: later",
  },
  {
    pattern: /@ts-(?:ignore|nocheck)/,
    instead: "@ts-expect-error, with the reason beside it",
    example: "// @ts-ignore",
  },
  {
    pattern: /\bnot (?:yet )?implemented\b/i,
    instead: 'what is left out stands in the head, after "Left out"',
    example: "// not implemented",
  },
];

const bannedCode: Rule = (file) =>
  BANNED_CODE.filter((banned) => banned.where(file)).flatMap((banned) =>
    matches(file, file.code, banned.pattern, banned.instead),
  );

const bannedComments: Rule = (file) =>
  BANNED_IN_COMMENTS.flatMap((banned) =>
    matches(file, file.comments, banned.pattern, banned.instead),
  );

/** Where a number is a field's place or size on disk, or the arithmetic of a hash, and no unit. */
const MAY_HAVE_NUMBERS =
  /^src\/(?:lib\/(?:units|random|sha256|crc\w+)|fs\/ext\/(?:layout|\w+-format|dir-hash|unicode-12))\.ts$/;
const MAGIC = /(?<![\w.])(?:512|4_?096)(?![\w.])|(?<!\b1 ?)(?:<<|>>>?) ?(?:9|12)(?![\dn]|\)? & 0x)/;

/** A constant of another meaning, which its name tells: `const PATH_MAX = 4096`. */
const NAMED = /^(?:export )?const (?!\w*(?:PAGE|SECTOR|BLOCK))[A-Z]\w+(?:: number)? = [\d_]+;$/gm;

const magicNumbers: Rule = (file) => {
  if (!isSource(file) || MAY_HAVE_NUMBERS.test(file.path)) return [];
  const code = file.code.replace(NAMED, "");
  return matches(file, code, MAGIC, "a constant or a conversion of lib/units.ts");
};

/** The Node-only parts of the layers below the fronts. */
const MAY_IMPORT_NODE =
  /^src\/(?:front\/|store\/(?:file-store|file-claim|device-size|durable-descriptor)\.ts$)/;

const nodeImports: Rule = (file) =>
  !isSource(file) || MAY_IMPORT_NODE.test(file.path)
    ? []
    : matches(file, file.text, /\bfrom "node:[^"]*"|\bimport\("node:/, "core runs in browsers too");

const lineLength: Rule = (file) => {
  const code = file.code.split("\n");
  const comments = file.comments.split("\n");
  // Nobody can break a title or a message; what reaches past the limit must be all string.
  const isString = (line: string, index: number): boolean =>
    line.trim() !== "" &&
    /^[\s"'`,;:()=>{}]*$/.test(code[index]!.slice(LINE_MAX)) &&
    comments[index]!.trim() === "";
  return file.text.split("\n").flatMap((line, index) => {
    const length = [...line].length;
    if (!isCode(file) || length <= LINE_MAX || isString(line, index)) return [];
    return [`${file.path}:${index + 1}: ${length} characters, at most ${LINE_MAX}`];
  });
};

const functionLength: Rule = (file) =>
  isSource(file)
    ? functionSpans(file.code)
        .filter(({ lineCount }) => lineCount > FUNCTION_LINES_MAX)
        .map(({ name, firstLine, lineCount }) => {
          const size = `${name} has ${lineCount} lines, at most ${FUNCTION_LINES_MAX}`;
          return `${file.path}:${firstLine}: ${size}`;
        })
    : [];

/** Tables that are made by a tool from published data, one row a line. */
const IS_TABLE = /^src\/fs\/ext\/unicode-12\.ts$/;

const fileLength: Rule = (file) => {
  const lineCount = file.text.split("\n").length - 1;
  if (!isSource(file) || IS_TABLE.test(file.path)) return [];
  if (lineCount > FILE_LINES_WARN) {
    console.warn(`tidy: ${file.path} has ${lineCount} lines, better at most ${FILE_LINES_WARN}`);
  }
  return lineCount > FILE_LINES_MAX ? [`${file.path}: ${lineCount} lines, split it`] : [];
};

const headComment: Rule = (file) =>
  isSource(file) && !/^(?:#![^\n]*\n)?\/\*\*\s/.test(file.text)
    ? [`${file.path}:1: no head comment that says what the file is`]
    : [];

const whitespace: Rule = (file) => {
  if (!/\.(?:ts|md|json|mjs|js)$/.test(file.path)) return [];
  const found = matches(file, file.text, /[ \t]+$|\r/, "no blanks at the end of a line");
  if (isCode(file)) found.push(...matches(file, file.text, /\t/, "blanks, not tabs"));
  if (!file.text.endsWith("\n")) found.push(`${file.path}: no newline at the end`);
  return found;
};

/** Places of one machine, and hosts of package registries other than the public one. */
const MACHINE =
  /(?<![\w.$}])\/(?:work|home\/[a-z]\w*|root|Users\/\w+)\/|\bregistry\.[a-z]|\b(?:artifactory|nexus|verdaccio)\b/i;

const machinePaths: Rule = (file) =>
  matches(file, file.text, MACHINE, "nothing of one machine belongs here");

const markdownTitles: Rule = (file) => {
  if (!file.path.endsWith(".md")) return [];
  const lines = file.text
    .replace(/^```.*?^```/gms, (block) => block.replace(/[^\n]/g, ""))
    .split("\n");
  const found: string[] = [];
  if (!/^# \S/.test(lines[0]!)) found.push(`${file.path}:1: begins with its title, "# .."`);
  let level = 1;
  for (const [index, line] of lines.entries()) {
    const depth = /^(#+) /.exec(line)?.[1]?.length;
    if (depth === undefined || index === 0) continue;
    const where = `${file.path}:${index + 1}`;
    if (depth === 1) found.push(`${where}: a second title`);
    else if (depth > level + 1) found.push(`${where}: level ${depth} under level ${level}`);
    level = depth;
  }
  return found;
};

const fileModes = (file: SourceFile): string[] => {
  const isScript = file.text?.startsWith("#!") ?? false;
  if (file.isExecutable === isScript) return [];
  return [`${file.path}: ${isScript ? "a script that is not executable" : "executable"}`];
};

const blobSize = (file: SourceFile): string[] =>
  file.sizeBytes > BLOB_BYTES_MAX && file.path !== "package-lock.json"
    ? [`${file.path}: ${file.sizeBytes} bytes, at most ${BLOB_BYTES_MAX}`]
    : [];

const SELF: ReadonlySet<string> = new Set(["test/tidy.test.ts"]); // It spells what it forbids.
const TEXTS: readonly TextFile[] = FILES.filter(
  (file): file is SourceFile & { text: string } => file.text !== undefined && !SELF.has(file.path),
).map(textFileOf);

describe("the rules see what they forbid", () => {
  test.each(BANNED_CODE.map((banned) => [banned.example]))("%s", (example) => {
    const path = "src/lib/planted.ts";
    expect(bannedCode(planted(path, example)).length).toBe(1);
    expect(bannedCode(planted(path, `// ${example}\n"${example.replaceAll('"', "")}";`))).toEqual(
      [],
    );
  });

  test.each(BANNED_IN_COMMENTS.map((banned) => [banned.example]))("%s", (example) => {
    expect(bannedComments(planted("src/lib/planted.ts", `let a;\n${example}`)).length).toBe(1);
  });

  test.each<[name: string, rule: Rule, path: string, text: string, count: number]>([
    ["a sector", magicNumbers, "src/fs/planted.ts", "x = 512;", 1],
    ["a page", magicNumbers, "src/fs/planted.ts", "x = 4_096;", 1],
    ["a shift", magicNumbers, "src/fs/planted.ts", "x = y >> 12;", 1],
    ["another constant", magicNumbers, "src/fs/planted.ts", "const PATH_MAX = 4096;", 0],
    ["a page by name", magicNumbers, "src/fs/planted.ts", "const PAGE = 4096;", 1],
    ["no unit", magicNumbers, "src/fs/planted.ts", "x = 1 << 9; y = 5120; z = a512;", 0],
    ["a bit field", magicNumbers, "src/fs/planted.ts", "x = (y >>> 12) & 0xfff;", 0],
    ["an on-disk layout", magicNumbers, "src/fs/ext/layout.ts", "x = 512;", 0],
    ["node", nodeImports, "src/cache/planted.ts", 'import { a } from "node:fs";', 1],
    ["node in a front", nodeImports, "src/front/planted.ts", 'import { a } from "node:fs";', 0],
    ["a long line", lineLength, "src/lib/planted.ts", "x".repeat(101), 1],
    ["no long line", lineLength, "src/lib/planted.ts", "ä".repeat(100), 0],
    ["a long title", lineLength, "a.test.ts", `test("${"x".repeat(99)}", () => {`, 0],
    ["a long comment", lineLength, "a.test.ts", `// ${"x".repeat(99)}`, 1],
    ["no head", headComment, "src/lib/planted.ts", "export {};\n", 1],
    ["a head", headComment, "src/lib/planted.ts", "/**\n * Head.\n */\n", 0],
    ["a blank at the end", whitespace, "a.md", "# a \n", 1],
    ["a tab", whitespace, "a.ts", "\tx\n", 1],
    ["no newline", whitespace, "a.ts", "x", 1],
    ["a path of one machine", machinePaths, "a.md", "see /home/me/x", 1],
    ["a registry", machinePaths, "a.json", '"https://registry.example.com/"', 1],
    ["no path of one machine", machinePaths, "a.md", "`$HOME/work/x`", 0],
    ["no title", markdownTitles, "a.md", "text\n", 1],
    ["two titles", markdownTitles, "a.md", "# a\n\n# b\n", 1],
    ["a level left out", markdownTitles, "a.md", "# a\n\n### b\n", 1],
    ["a comment in a shell block", markdownTitles, "a.md", "# a\n\n```sh\n# b\n```\n", 0],
  ])("%s", (_, rule, path, text, count) => {
    expect(rule(planted(path, text)).length).toBe(count);
  });

  test("functions of every form are measured, blocks of other kinds are not", () => {
    const body = "\n  x();".repeat(70);
    const long = (head: string, tail = ""): string[] =>
      functionLength(planted("src/lib/planted.ts", `${head} {${body}\n}${tail}`));
    const functions = [
      "function f()",
      "export async function f(a: number, b = g(1)): Promise<Map<string, number>>",
      "const f = (a) =>",
      "class C { m(): void",
      "class C { get #m(): number | undefined",
      "class C { constructor(a: string)",
    ];
    for (const head of functions) expect([head, long(head).length]).toEqual([head, 1]);
    for (const head of ["if (a)", "for (;;)", "class C", "const o =", "interface I", "else"]) {
      expect([head, long(head)]).toEqual([head, []]);
    }
    const short = planted("src/lib/planted.ts", `function f() {${"\n  x();".repeat(68)}\n}`);
    expect(functionLength(short)).toEqual([]);
  });

  test("strings, templates and regular expressions are not code, and what follows them is", () => {
    const template = ["`{$", '{c("}")}', "{`"].join("");
    const { code } = maskSource(`a("x{"); b(${template}); d(/[/"{]/g); e = 1 / 2; // f {`);
    expect(code.replace(/\s+/g, "")).toBe("a();b(c());d(g);e=1/2;");
  });

  test("modes and sizes are seen", () => {
    const file = { path: "a", sizeBytes: 300_000, isExecutable: true, text: "x" };
    expect([fileModes(file).length, blobSize(file).length]).toEqual([1, 1]);
    const script = { path: "a", sizeBytes: 1, isExecutable: true, text: "#!/bin/sh\n" };
    expect([fileModes(script).length, blobSize(script).length]).toEqual([0, 0]);
  });

  test("a kernel term is what stands alone in parentheses in the first sentence", () => {
    const termsOf = (doc: string): string[] => docComments(`\n/** ${doc} */`).flatMap(kernelTerms);
    expect(termsOf("Finds it (`xa_find`). More (`xa_load`).")).toEqual(["xa_find"]);
    expect(termsOf("The map (`struct iomap`, `iomap_begin`).")).toEqual([
      "struct iomap",
      "iomap_begin",
    ]);
    expect(termsOf("Gives `xa_find` or (see `xa_load`), (`undefined`).")).toEqual([]);
  });
});

describe("tidy", () => {
  test.each<[title: string, rule: Rule]>([
    ["no banned word in code", bannedCode],
    ["no banned word in comments", bannedComments],
    ["units come from lib/units.ts", magicNumbers],
    ["the core imports nothing of Node", nodeImports],
    ["lines have at most 100 characters", lineLength],
    ["functions have at most 70 lines", functionLength],
    ["source files have at most 800 lines", fileLength],
    ["source files begin with what they are", headComment],
    ["lines end where their text ends", whitespace],
    ["nothing names one machine", machinePaths],
    ["markdown has one title, and levels in order", markdownTitles],
  ])("%s", (_, rule) => {
    expect(TEXTS.flatMap(rule)).toEqual([]);
  });

  test("only scripts are executable", () => {
    expect(FILES.flatMap(fileModes)).toEqual([]);
  });

  test("no file is larger than 256 KiB", () => {
    expect(FILES.flatMap(blobSize)).toEqual([]);
  });

  test("the version has its entry in the change log", () => {
    const textOf = (path: string): string => TEXTS.find((file) => file.path === path)?.text ?? "";
    const { version } = JSON.parse(textOf("package.json")) as { version: string };
    expect(textOf("CHANGELOG.md")).toContain(`## ${version}`);
  });
});

describe("glossary", () => {
  const glossary = TEXTS.find((file) => file.path === "docs/glossary.md")?.text ?? "";
  const rows = glossary
    .split("\n")
    .filter((line) => /^\| `/.test(line))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()));
  const inBackquotes = (cell: string): string[] =>
    [...cell.matchAll(/`([^`]+)`/g)].map((m) => m[1]!);

  test("every kernel term of a doc comment stands in docs/glossary.md", () => {
    const known = new Set(rows.flatMap((row) => inBackquotes(row[1]!)));
    const missing = new Map<string, string>();
    for (const file of TEXTS.filter(isSource)) {
      for (const doc of docComments(file.text)) {
        for (const term of kernelTerms(doc)) {
          if (!known.has(term) && !known.has(term.replace(/^(?:struct|enum|union) /, ""))) {
            missing.set(term, `${term} (${file.path}:${doc.line})`);
          }
        }
      }
    }
    expect([...missing.values()].sort()).toEqual([]);
  });

  test("every name of ours in it is one that the source has", () => {
    const words = new Set(
      TEXTS.filter(isSource).flatMap((file) => file.code.match(/[\w$]+/g) ?? []),
    );
    const stale = rows.flatMap((row) =>
      inBackquotes(row.at(-2)!)
        .filter((name) => (name.match(/[\w$]+/g) ?? []).some((word) => !words.has(word)))
        .map((name) => `${name} (${row[1]})`),
    );
    expect(stale).toEqual([]);
  });

  test("each row has a term, a source and our name", () => {
    expect(rows.length).toBeGreaterThan(100);
    for (const row of rows) expect([row[1], row.length]).toEqual([row[1], 5]);
  });
});
