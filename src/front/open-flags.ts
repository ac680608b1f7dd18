/**
 * Flags of `open`, as letters or as Linux's numbers, on every platform alike.
 *
 * After `stringToFlags` of Node's `fs` in behaviour; the numbers are those of
 * `asm-generic/fcntl.h`.
 */
import { checkInteger, invalidArgValue } from "./arguments.ts";

export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;
export const O_DIRECTORY = 0o200000;
export const O_NOFOLLOW = 0o400000;
export const O_NOATIME = 0o1000000;
export const O_SYNC = 0o4010000;
export const O_TMPFILE = 0o20200000;

export const ACCESS_MASK = 3;
const INT32_LIMIT = 2 ** 31;

const LETTERS = new Map<string, number>([
  ["r", O_RDONLY],
  ["rs", O_RDONLY | O_SYNC],
  ["sr", O_RDONLY | O_SYNC],
  ["r+", O_RDWR],
  ["rs+", O_RDWR | O_SYNC],
  ["sr+", O_RDWR | O_SYNC],
  ["w", O_TRUNC | O_CREAT | O_WRONLY],
  ["wx", O_TRUNC | O_CREAT | O_WRONLY | O_EXCL],
  ["xw", O_TRUNC | O_CREAT | O_WRONLY | O_EXCL],
  ["w+", O_TRUNC | O_CREAT | O_RDWR],
  ["wx+", O_TRUNC | O_CREAT | O_RDWR | O_EXCL],
  ["xw+", O_TRUNC | O_CREAT | O_RDWR | O_EXCL],
  ["a", O_APPEND | O_CREAT | O_WRONLY],
  ["ax", O_APPEND | O_CREAT | O_WRONLY | O_EXCL],
  ["xa", O_APPEND | O_CREAT | O_WRONLY | O_EXCL],
  ["as", O_APPEND | O_CREAT | O_WRONLY | O_SYNC],
  ["sa", O_APPEND | O_CREAT | O_WRONLY | O_SYNC],
  ["a+", O_APPEND | O_CREAT | O_RDWR],
  ["ax+", O_APPEND | O_CREAT | O_RDWR | O_EXCL],
  ["xa+", O_APPEND | O_CREAT | O_RDWR | O_EXCL],
  ["as+", O_APPEND | O_CREAT | O_RDWR | O_SYNC],
  ["sa+", O_APPEND | O_CREAT | O_RDWR | O_SYNC],
]);

/**
 * The number for `flags`; none is `r`. Throws `ERR_INVALID_ARG_VALUE` for letters that mean
 * nothing.
 */
export function openFlags(flags: string | number | null | undefined): number {
  if (flags === undefined || flags === null) return O_RDONLY;
  if (typeof flags === "number") return checkInteger(flags, "flags", -INT32_LIMIT, INT32_LIMIT - 1);
  const known = typeof flags === "string" ? LETTERS.get(flags) : undefined;
  if (known === undefined) throw invalidArgValue("flags", flags, "is invalid");
  return known;
}

/** True if a file opened so may be written, or is changed by the opening itself. */
export function wantsWrite(flags: number): boolean {
  return (flags & ACCESS_MASK) !== O_RDONLY || (flags & O_TRUNC) !== 0;
}
