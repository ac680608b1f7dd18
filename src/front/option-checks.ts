/**
 * The options of `rm`, `rmdir`, `cp`, `mkdir`, `watch` and the writing calls, checked as Node
 * checks them, before anything is looked up. What is left out or undefined is not checked.
 */
import {
  checkInteger,
  codedError,
  codedTypeError,
  invalidArgType,
  plainError,
} from "./arguments.ts";

const UINT32_MAX = 2 ** 32 - 1;
const INT32_MAX = 2 ** 31 - 1;
const CP_FLAGS = [
  "dereference",
  "errorOnExist",
  "force",
  "preserveTimestamps",
  "recursive",
  "verbatimSymlinks",
] as const;

/** Throws `ERR_INVALID_ARG_TYPE` unless `options` is an object or left out. */
export function checkOptions<T extends object>(options: T | undefined): T {
  if (options === undefined) return {} as T;
  const isObject = typeof options === "object" && options !== null && !Array.isArray(options);
  if (isObject) return options;
  throw invalidArgType("options", "of type object", options);
}

/** Throws `ERR_INVALID_ARG_TYPE` unless the option is true, false or left out. */
export function checkFlag(options: object, name: string): void {
  const value = (options as Record<string, unknown>)[name];
  if (value === undefined || typeof value === "boolean") return;
  throw invalidArgType(`options.${name}`, "of type boolean", value);
}

/** The options that `rm` and `rmdir` share. */
export function checkRemoval<T extends { maxRetries?: unknown; retryDelay?: unknown }>(
  options: T | undefined,
): T {
  const given = checkOptions(options);
  checkFlag(given, "recursive");
  const { retryDelay = 0, maxRetries = 0 } = given;
  checkInteger(retryDelay, "options.retryDelay", 0, INT32_MAX);
  checkInteger(maxRetries, "options.maxRetries", 0, UINT32_MAX);
  return given;
}

/** The options of `cp`, but its mode. */
export function checkCopying<T extends object>(options: T | undefined): T {
  const given: Record<string, unknown> = checkOptions(options) as never;
  for (const name of CP_FLAGS) checkFlag(given, name);
  if (given["dereference"] === true && given["verbatimSymlinks"] === true) {
    const pair = '"dereference" cannot be used in combination with option "verbatimSymlinks"';
    throw codedTypeError("ERR_INCOMPATIBLE_OPTION_PAIR", `Option ${pair}`);
  }
  const { filter } = given;
  if (filter !== undefined && typeof filter !== "function") {
    throw invalidArgType("options.filter", "of type function", filter);
  }
  return given as T;
}

/** Throws unless `type` is one of the kinds that symlinks have on Windows, or none. */
export function checkSymlinkType(type: unknown): void {
  if (typeof type !== "string" || ["dir", "file", "junction"].includes(type)) return;
  const kinds = '"dir", "file", or "junction"';
  const text = `Symlink type must be one of ${kinds}. Received "${type}"`;
  throw codedError("ERR_FS_INVALID_SYMLINK_TYPE", text);
}

/**
 * A mode of `access` or `copyFile`, as Node's own code below its JavaScript checks it, whose errors
 * carry their code nowhere else.
 */
export function checkSmallMode(mode: unknown, max: number): number {
  if (mode === undefined || mode === null) return 0;
  if (typeof mode !== "number") {
    const error = new TypeError("mode must be int32 or null/undefined");
    throw Object.assign(error, { code: "ERR_INVALID_ARG_TYPE" });
  }
  if (mode >= 0 && mode <= max) return Math.trunc(mode);
  const bounds = Number.isFinite(mode) ? `: >= 0 && <= ${max}` : "";
  const error = new RangeError(`mode is out of range${bounds}`);
  throw Object.assign(error, { code: "ERR_OUT_OF_RANGE" });
}

/** The error of what is called on a handle that was closed. */
export function closedError(syscall: string): Error {
  return Object.assign(plainError("EBADF", "file closed"), { syscall });
}
