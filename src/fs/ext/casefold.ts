/**
 * Folds names as directories that ignore case do: two names are one when their folds are equal
 * bytes (`utf8_casefold`, NFDICF of Unicode 12.1).
 *
 *     each code point    Straße  ->  s t r a ss e      full case folding, status C and F
 *                        Å       ->  a U+030A          canonical decomposition
 *                        U+200D  ->  nothing           default-ignorable
 *     then               marks after one base in canonical order
 *
 * Decomposition and lower case come from the engine. Written down here is only where folding is not
 * lower case, and (`unicode-12.ts`) which code points exist. The order of steps matters: a code
 * point is folded before its marks are sorted, as U+0345 folds to a letter that marks do not move
 * across.
 *
 * A code point that Unicode 12.1 does not know stays as it is, whatever the engine knows about it.
 * It and an ignorable one are borders that marks do not move across: the latter is the kernel's own
 * rule, which Unicode does not have, and the hash depends on it. A name that is not UTF-8 has no
 * fold; whether it is then compared as bytes or refused is the directory's matter.
 *
 * After fs/unicode of Linux, which compiles the same three steps into a trie.
 */
import { isAssignedInUnicode12 } from "./unicode-12.ts";

/** Folds that are not the lower case: of single code points that do not decompose. */
const SPECIAL_FOLDS: ReadonlyMap<number, string> = new Map([
  [0x00b5, "\u03bc"], // micro sign
  [0x00df, "ss"],
  [0x0149, "\u02bcn"],
  [0x017f, "s"], // long s
  [0x0345, "\u03b9"], // iota below
  [0x03c2, "\u03c3"], // final sigma
  [0x03d0, "\u03b2"],
  [0x03d1, "\u03b8"],
  [0x03d5, "\u03c6"],
  [0x03d6, "\u03c0"],
  [0x03f0, "\u03ba"],
  [0x03f1, "\u03c1"],
  [0x03f5, "\u03b5"],
  [0x0587, "\u0565\u0582"],
  [0x1c80, "\u0432"], // Cyrillic letters of old printers
  [0x1c81, "\u0434"],
  [0x1c82, "\u043e"],
  [0x1c83, "\u0441"],
  [0x1c84, "\u0442"],
  [0x1c85, "\u0442"],
  [0x1c86, "\u044a"],
  [0x1c87, "\u0463"],
  [0x1c88, "\ua64b"],
  [0x1e9a, "a\u02be"],
  [0x1e9e, "ss"],
  [0xfb00, "ff"], // ligatures, Latin and Armenian
  [0xfb01, "fi"],
  [0xfb02, "fl"],
  [0xfb03, "ffi"],
  [0xfb04, "ffl"],
  [0xfb05, "st"],
  [0xfb06, "st"],
  [0xfb13, "\u0574\u0576"],
  [0xfb14, "\u0574\u0565"],
  [0xfb15, "\u0574\u056b"],
  [0xfb16, "\u057e\u0576"],
  [0xfb17, "\u0574\u056d"],
]);

/** First and last of each run that leaves no trace in a fold (Default_Ignorable_Code_Point). */
const IGNORABLE_RUNS: readonly (readonly [first: number, last: number])[] = [
  [0x00ad, 0x00ad],
  [0x034f, 0x034f],
  [0x061c, 0x061c],
  [0x115f, 0x1160],
  [0x17b4, 0x17b5],
  [0x180b, 0x180e],
  [0x200b, 0x200f],
  [0x202a, 0x202e],
  [0x2060, 0x206f],
  [0x3164, 0x3164],
  [0xfe00, 0xfe0f],
  [0xfeff, 0xfeff],
  [0xffa0, 0xffa0],
  [0xfff0, 0xfff8],
  [0x1bca0, 0x1bca3],
  [0x1d173, 0x1d17a],
  [0xe0000, 0xe0fff],
];

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/**
 * The fold of `name`, or null if it is not UTF-8. Plain ASCII costs one pass. The fold may
 * be empty, and may be up to three times as long as the name.
 */
export function foldName(name: Uint8Array): Uint8Array | null {
  return foldAscii(name) ?? foldUnicode(name);
}

function foldAscii(name: Uint8Array): Uint8Array | undefined {
  const folded = new Uint8Array(name.length);
  for (let at = 0; at < name.length; at++) {
    const byte = name[at]!;
    if (byte >= 0x80) return undefined;
    folded[at] = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
  }
  return folded;
}

function foldUnicode(name: Uint8Array): Uint8Array | null {
  let text: string;
  try {
    text = decoder.decode(name);
  } catch {
    return null;
  }
  let folded = "";
  let known = ""; // What came since the last border, folded but its marks not sorted.
  for (const character of text) {
    const codePoint = character.codePointAt(0)!;
    const isGone = isIgnorable(codePoint);
    if (!isGone && isAssignedInUnicode12(codePoint)) {
      known += foldCharacter(character);
    } else {
      folded += known.normalize("NFD") + (isGone ? "" : character);
      known = "";
    }
  }
  return encoder.encode(folded + known.normalize("NFD"));
}

function foldCharacter(character: string): string {
  let folded = "";
  for (const part of character.normalize("NFD")) folded += foldPart(part, part.codePointAt(0)!);
  return folded;
}

function foldPart(part: string, codePoint: number): string {
  const special = SPECIAL_FOLDS.get(codePoint);
  if (special !== undefined) return special;
  // Cherokee folds to upper case, which Unicode knew first.
  if (codePoint >= 0x13a0 && codePoint <= 0x13fd)
    return codePoint < 0x13f8 ? part : part.toUpperCase();
  if (codePoint >= 0xab70 && codePoint <= 0xabbf) return part.toUpperCase();
  return part.toLowerCase();
}

function isIgnorable(codePoint: number): boolean {
  for (const [first, last] of IGNORABLE_RUNS) {
    if (codePoint <= last) return codePoint >= first;
  }
  return false;
}
