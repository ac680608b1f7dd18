/**
 * Source text as the house rules see it: which files there are, which characters are code, where
 * functions begin and end. A scanner, not a parser: it knows comments, strings, templates, regular
 * expressions and brackets, which is all that the rules need.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, sep } from "node:path";

/** A file of the project. */
export interface SourceFile {
  /** From the project's root, with `/`. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly isExecutable: boolean;
  /** Undefined for a file that is not text. */
  readonly text: string | undefined;
}

const LEFT_OUT: ReadonlySet<string> = new Set([
  ".git",
  "node_modules",
  "dist",
  "coverage",
  ".quire",
]);
const OWNER_MAY_EXECUTE = 0o100;

/** All files under `root` but those that git ignores, in the order of their paths. */
export function projectFiles(root: string): SourceFile[] {
  const files: SourceFile[] = [];
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (LEFT_OUT.has(entry.name) || entry.name.endsWith(".tsbuildinfo")) continue;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) visit(path);
      else if (entry.isFile()) files.push(describeFile(root, path));
    }
  };
  visit(root);
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function describeFile(root: string, path: string): SourceFile {
  const { size, mode } = statSync(path);
  const bytes = readFileSync(path);
  return {
    path: relative(root, path).split(sep).join("/"),
    sizeBytes: size,
    isExecutable: (mode & OWNER_MAY_EXECUTE) !== 0,
    text: bytes.includes(0) ? undefined : bytes.toString("utf8"),
  };
}

/** What `maskSource` leaves of a file: each string is as long as the file, with the same lines. */
export interface MaskedSource {
  /** Comments and the contents of strings are blanks. */
  readonly code: string;
  /** Only the comments. */
  readonly comments: string;
}

const BLANKED = /[^\n]/g;
/** A `/` after one of these begins a regular expression, and not a division. */
const BEFORE_REGEXP = /(?:^|[(,=:[!&|?{};+\-*%<>~^\n]|=>|\b(?:return|typeof|case|in|of|do))\s*$/;

/** Separates code from comments and strings. */
export function maskSource(text: string): MaskedSource {
  let code = "";
  let comments = "";
  const templates: number[] = []; // Depth of braces inside each open `${`.
  let at = 0;
  const take = (length: number, kind: "code" | "comment" | "string"): void => {
    const piece = text.slice(at, at + length);
    const blank = piece.replace(BLANKED, " ");
    code += kind === "code" ? piece : blank;
    comments += kind === "comment" ? piece : blank;
    at += length;
  };
  while (at < text.length) {
    const char = text[at]!;
    const two = text.slice(at, at + 2);
    if (two === "//" || (at === 0 && two === "#!")) {
      take(lengthUntil(text, at, "\n"), "comment");
    } else if (two === "/*") {
      take(lengthUntil(text, at, "*/") + 2, "comment");
    } else if (char === '"' || char === "'") {
      take(quotedLength(text, at), "string");
    } else if (char === "/" && BEFORE_REGEXP.test(code.slice(-80))) {
      take(regexpLength(text, at), "string");
    } else if (char === "`" || (char === "}" && templates.at(-1) === 0)) {
      if (char === "}") templates.pop();
      const length = templateLength(text, at);
      const isOpen = text.slice(at, at + length).endsWith("${");
      take(length, "string");
      if (isOpen) templates.push(0);
    } else {
      if (templates.length > 0 && char === "{") templates[templates.length - 1]!++;
      if (templates.length > 0 && char === "}") templates[templates.length - 1]!--;
      take(1, "code");
    }
  }
  return { code, comments };
}

function lengthUntil(text: string, at: number, end: string): number {
  const found = text.indexOf(end, at + 2);
  return (found === -1 ? text.length : found) - at;
}

function quotedLength(text: string, at: number): number {
  let end = at + 1;
  while (end < text.length && text[end] !== text[at] && text[end] !== "\n") {
    end += text[end] === "\\" ? 2 : 1;
  }
  return end + 1 - at;
}

function regexpLength(text: string, at: number): number {
  let isInClass = false;
  let end = at + 1;
  for (; end < text.length && text[end] !== "\n"; end++) {
    if (text[end] === "\\") end++;
    else if (text[end] === "[") isInClass = true;
    else if (text[end] === "]") isInClass = false;
    else if (text[end] === "/" && !isInClass) break;
  }
  return end + 1 - at;
}

/** From "`" or the "}" of a substitution to the next "${" or "`", both included. */
function templateLength(text: string, at: number): number {
  let end = at + 1;
  for (; end < text.length; end++) {
    if (text[end] === "\\") end++;
    else if (text[end] === "`") return end + 1 - at;
    else if (text[end] === "$" && text[end + 1] === "{") return end + 2 - at;
  }
  return end - at;
}

/** A function with a body in braces. */
export interface FunctionSpan {
  /** Its name, or what stands there instead, for messages. */
  readonly name: string;
  /** From 1 on; of the line in which its head ends. */
  readonly firstLine: number;
  readonly lineCount: number;
}

const NOT_A_FUNCTION: ReadonlySet<string> = new Set([
  "if",
  "for",
  "while",
  "switch",
  "catch",
  "with",
]);

/** The functions in masked `code`, inner ones too. Lines are counted from the brace to its end. */
export function functionSpans(code: string): FunctionSpan[] {
  const spans: FunctionSpan[] = [];
  const open: { at: number; line: number; name: string | undefined }[] = [];
  let line = 1;
  for (let at = 0; at < code.length; at++) {
    const char = code[at];
    if (char === "\n") line++;
    else if (char === "{") open.push({ at, line, name: functionName(code, at) });
    else if (char === "}") {
      const block = open.pop();
      if (block?.name === undefined) continue;
      spans.push({ name: block.name, firstLine: block.line, lineCount: line - block.line + 1 });
    }
  }
  return spans;
}

/**
 * The name of the function whose body begins at the brace `at`, `undefined` if it is another
 * block.
 */
function functionName(code: string, at: number): string | undefined {
  const before = code.slice(Math.max(0, at - 1000), at).trimEnd();
  if (before.endsWith("=>")) return "an arrow function";
  const head = /^(.*\))(?:\s*:\s*[^;={}()]*(?:<[^;={}]*>)?)?$/s.exec(before)?.[1];
  if (head === undefined) return undefined;
  let depth = 0;
  for (let from = head.length - 1; from >= 0; from--) {
    if (head[from] === ")") depth++;
    else if (head[from] === "(") depth--;
    if (depth > 0) continue;
    const word = /([#\w$]*)(?:<[^()]*>)?\s*$/.exec(head.slice(0, from))?.[1] ?? "";
    return NOT_A_FUNCTION.has(word) ? undefined : word || "a function";
  }
  return undefined;
}

/** A doc comment, and what it stands before. */
export interface DocComment {
  readonly line: number;
  /** Without the stars, as one line up to the first empty line. */
  readonly firstParagraph: string;
}

/** The doc comments of a file, but for the file's own head. */
export function docComments(text: string): DocComment[] {
  const docs: DocComment[] = [];
  for (const match of text.matchAll(/\/\*\*(.*?)\*\//gs)) {
    if (match.index === 0) continue;
    const body = match[1]!.replace(/^[ \t]*\*[ \t]?/gm, "").trim();
    const firstParagraph = body.split(/\n\s*\n/)[0]!.replace(/\s+/g, " ");
    const line = text.slice(0, match.index).split("\n").length;
    docs.push({ line, firstParagraph });
  }
  return docs;
}

const ONLY_TERMS = /\((`[^`]+`(?:(?:, | and | or )`[^`]+`)*)\)/g;
const KERNEL_TERM = /^(?:(?:struct|enum|union) \w+|[A-Za-z]+\w*_\w*[\w*]|\w+->\w+)$/;

/**
 * The kernel's terms in a doc comment: names in backquotes that fill a pair of parentheses of its
 * first sentence, "(`xa_find`)", and are spelled as the kernel spells: with an underscore or
 * `struct`.
 */
export function kernelTerms(doc: DocComment): string[] {
  const sentence = /^.*?[.:](?=\s|$)/.exec(doc.firstParagraph)?.[0] ?? doc.firstParagraph;
  const terms: string[] = [];
  for (const match of sentence.matchAll(ONLY_TERMS)) {
    for (const [, term] of match[1]!.matchAll(/`([^`]+)`/g)) {
      if (KERNEL_TERM.test(term!)) terms.push(term!);
    }
  }
  return terms;
}
