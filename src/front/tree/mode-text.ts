/**
 * Modes as `chmod` takes them: octal digits, or clauses such as `u=rw,go-w`.
 *
 *     [ugoa]* then one or more of  [-+=] followed by letters rwxXst, one of ugo, or octal digits
 *
 * As chmod of GNU coreutils: without letters for whom, all, but not what the umask holds back; a
 * directory keeps setuid and setgid bits that are not named, also with up to four octal digits.
 */

const SET_ID_BITS = 0o6000;
const STICKY_BIT = 0o1000;
const ALL_BITS = 0o7777;
const ANY_EXECUTE = 0o111;
const WHO_BITS: Readonly<Record<string, number>> = { u: 0o4700, g: 0o2070, o: 0o1007, a: ALL_BITS };
const SHIFT: Readonly<Record<string, number>> = { u: 6, g: 3, o: 0 };
const LETTER_BITS: Readonly<Record<string, number>> = {
  r: 0o444,
  w: 0o222,
  x: ANY_EXECUTE,
  s: SET_ID_BITS,
  t: STICKY_BIT,
};
/** Digits from which on an octal mode names the setuid and setgid bits of a directory too. */
const FULL_DIGITS = 5;

/** What a file has now. */
export interface ModeNow {
  readonly mode: number;
  readonly isDirectory: boolean;
}

/** The mode that a file gets. */
export type ModeChange = (now: ModeNow) => number;

interface Action {
  /** Bits that it concerns, 0 if it named nobody. */
  readonly affected: number;
  readonly op: string;
  readonly permissions: string;
}

/** The change that `text` asks for, undefined if it is no mode. */
export function parseMode(text: string, umask: number): ModeChange | undefined {
  if (/^[0-7]+$/.test(text)) return octalChange("=", text);
  if (/^[-+=][0-7]+$/.test(text)) return octalChange(text[0]!, text.slice(1));
  const actions: Action[] = [];
  for (const clause of text.split(",")) {
    const match = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/.exec(clause);
    if (match === null) return undefined;
    let affected = 0;
    for (const who of match[1]!) affected |= WHO_BITS[who]!;
    for (const [, op, permissions] of match[2]!.matchAll(/([-+=])([ugo]|[rwxXst]*)/g)) {
      actions.push({ affected, op: op!, permissions: permissions! });
    }
  }
  return ({ mode, isDirectory }) =>
    actions.reduce((now, action) => applied(action, now, isDirectory, umask), mode & ALL_BITS);
}

function octalChange(op: string, digits: string): ModeChange | undefined {
  const bits = Number.parseInt(digits, 8);
  if (bits > ALL_BITS) return undefined;
  return ({ mode, isDirectory }) => {
    const now = mode & ALL_BITS;
    if (op === "+") return now | bits;
    if (op === "-") return now & ~bits;
    const isFull = digits.length >= FULL_DIGITS;
    return isDirectory && !isFull ? bits | (now & SET_ID_BITS) : bits;
  };
}

function applied(action: Action, mode: number, isDirectory: boolean, umask: number): number {
  const { affected, op, permissions } = action;
  let bits = 0;
  let hasSetId = false;
  for (const letter of permissions) {
    if (letter === "X") bits |= isDirectory || (mode & ANY_EXECUTE) !== 0 ? ANY_EXECUTE : 0;
    else if (letter in SHIFT) bits |= ((mode >> SHIFT[letter]!) & 7) * ANY_EXECUTE;
    else bits |= LETTER_BITS[letter]!;
    hasSetId ||= letter === "s";
  }
  // What is not named of a directory's setuid and setgid bits stays.
  const named = hasSetId ? (affected === 0 ? SET_ID_BITS : affected & SET_ID_BITS) : 0;
  const kept = isDirectory ? SET_ID_BITS & ~named : 0;
  const value = bits & (affected === 0 ? ~umask : affected) & ~kept;
  if (op === "+") return mode | value;
  if (op === "-") return mode & ~value;
  const preserved = (affected === 0 ? 0 : ~affected & ALL_BITS) | kept;
  return (mode & preserved) | value;
}
