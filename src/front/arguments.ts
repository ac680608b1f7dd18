/**
 * Checks of what callers pass, with Node's own errors: same class, `code` and message.
 *
 * A wrong argument is a bug of the caller and never an errno; `fs.promises` throws `TypeError` or
 * `RangeError` with a `code` beginning `ERR_`, and code written against Node's `fs` compares that.
 */

/** What a path may be given as; a `URL` must be of scheme `file:`. */
export type PathLike = string | Uint8Array | URL;

interface CodedError extends Error {
  code: string;
}

/**
 * Gives `error` its code as Node does: own and enumerable; in the stack and in `String(error)`
 * behind the name, without being a part of it.
 */
function coded<E extends Error>(error: E, code: string): E & CodedError {
  const shown = `${error.name} [${code}]`;
  if (error.stack !== undefined) error.stack = error.stack.replace(error.name, shown);
  const writable = { configurable: true, writable: true };
  Object.defineProperty(error, "code", { value: code, enumerable: true, ...writable });
  const text = (): string => `${shown}: ${error.message}`;
  Object.defineProperty(error, "toString", { value: text, enumerable: false, ...writable });
  return error as E & CodedError;
}

/** `ERR_INVALID_ARG_TYPE`; `expected` reads "of type string or an instance of Buffer or URL". */
export function invalidArgType(name: string, expected: string, value: unknown): TypeError {
  const noun = name.includes(".") ? "property" : "argument";
  const text = `The "${name}" ${noun} must be ${expected}. Received ${described(value)}`;
  return coded(new TypeError(text), "ERR_INVALID_ARG_TYPE");
}

/** `ERR_INVALID_ARG_VALUE`; `reason` reads "is invalid encoding". */
export function invalidArgValue(name: string, value: unknown, reason: string): TypeError {
  const noun = name.includes(".") ? "property" : "argument";
  let shown = inspected(value);
  if (shown.length > 128) shown = `${shown.slice(0, 128)}...`;
  const text = `The ${noun} '${name}' ${reason}. Received ${shown}`;
  return coded(new TypeError(text), "ERR_INVALID_ARG_VALUE");
}

/** `ERR_OUT_OF_RANGE`; `range` reads ">= 0". */
export function outOfRange(name: string, range: string, value: unknown): RangeError {
  const rule = `The value of "${name}" is out of range. It must be ${range}.`;
  const text = `${rule} Received ${grouped(value)}`;
  return coded(new RangeError(text), "ERR_OUT_OF_RANGE");
}

/** An error of class `Error` with one of Node's codes, and a name of its own where it has one. */
export function codedError(code: string, message: string, name = "Error"): Error {
  const error = new Error(message);
  if (name !== "Error") {
    Object.defineProperty(error, "name", { value: name, configurable: true, writable: true });
  }
  return coded(error, code);
}

/** An error with a code that shows nowhere else, as Node makes some by hand. */
export function plainError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** A `TypeError` with one of Node's codes. */
export function codedTypeError(code: string, message: string): TypeError {
  return coded(new TypeError(message), code);
}

/** A `RangeError` with one of Node's codes. */
export function codedRangeError(code: string, message: string): RangeError {
  return coded(new RangeError(message), code);
}

function grouped(value: unknown): string {
  const isLarge =
    (typeof value === "number" && Number.isInteger(value) && Math.abs(value) > 2 ** 32) ||
    (typeof value === "bigint" && (value > 2n ** 32n || value < -(2n ** 32n)));
  if (!isLarge) return typeof value === "bigint" ? `${value}n` : inspected(value);
  const text = String(value).replace(/\B(?=(\d{3})+$)/g, "_");
  return typeof value === "bigint" ? `${text}n` : text;
}

function described(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value === "function") return `function ${value.name}`;
  if (typeof value === "object") {
    const name = (value as { constructor?: { name?: string } }).constructor?.name;
    return name ? `an instance of ${name}` : inspected(value, -1);
  }
  let text = inspected(value);
  if (text.length > 28) text = `${text.slice(0, 25)}...`;
  return `type ${typeof value} (${text})`;
}

/** As `util.inspect` shows it, or nearly so where there is no Node. */
function inspected(value: unknown, depth?: number): string {
  const util = platformModule<{ inspect(value: unknown, options: object): string }>("node:util");
  if (util !== undefined) return util.inspect(value, depth === undefined ? {} : { depth });
  if (typeof value === "string") return `'${value}'`;
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Uint8Array) return `<${value.length} bytes>`;
  if (typeof value === "object" && value !== null) return JSON.stringify(value) ?? "{}";
  return String(value);
}

/** One of Node's own modules; undefined where there is no Node. */
export function platformModule<T>(id: string): T | undefined {
  const get = globalThis.process?.getBuiltinModule as ((id: string) => T | undefined) | undefined;
  return get?.(id);
}

const encoder = new TextEncoder();
const UINT32_MAX = 2 ** 32 - 1;
const PLATFORM = globalThis.process?.platform ?? "linux";
/** Arrays of so many bytes lie in the heap of V8, and cost next to nothing. */
const SMALL_BYTES_MAX = 64;

/**
 * The bytes of a path, checked as Node checks it: a string, bytes or a `file:` URL, without NUL.
 */
export function pathBytes(path: unknown, name = "path"): Uint8Array {
  const small = typeof path === "string" ? smallBytes(path) : undefined;
  if (small !== undefined) return small;
  const given = path instanceof URL ? pathOfUrl(path) : path;
  if (typeof given !== "string" && !(given instanceof Uint8Array)) {
    throw invalidArgType(name, "of type string or an instance of Buffer or URL", path);
  }
  const hasNul = typeof given === "string" ? given.includes("\0") : given.includes(0);
  if (hasNul) {
    const rule = "must be a string, Uint8Array, or URL without null bytes";
    throw invalidArgValue(name, given, rule);
  }
  return typeof given === "string" ? encoder.encode(given) : given;
}

/** The bytes of a short text that is all ASCII without NUL, as most paths are. */
function smallBytes(text: string): Uint8Array | undefined {
  const { length } = text;
  if (length > SMALL_BYTES_MAX) return undefined;
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0 || code > 0x7f) return undefined;
    bytes[at] = code;
  }
  return bytes;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The path as errors show it. */
export function pathText(path: PathLike): string {
  if (typeof path === "string") return path;
  if (path instanceof URL) return pathOfUrl(path);
  return decoder.decode(path);
}

function pathOfUrl(url: URL): string {
  if (url.protocol !== "file:") {
    throw coded(new TypeError("The URL must be of scheme file"), "ERR_INVALID_URL_SCHEME");
  }
  if (url.hostname !== "") {
    const text = `File URL host must be "localhost" or empty on ${PLATFORM}`;
    throw coded(new TypeError(text), "ERR_INVALID_FILE_URL_HOST");
  }
  if (/%2f/i.test(url.pathname)) {
    const text = "File URL path must not include encoded / characters";
    throw coded(new TypeError(text), "ERR_INVALID_FILE_URL_PATH");
  }
  return decodeURIComponent(url.pathname);
}

/** Throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE` unless `value` is an integer in the range. */
export function checkInteger(
  value: unknown,
  name: string,
  min = 0,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== "number") throw invalidArgType(name, "of type number", value);
  if (!Number.isInteger(value)) throw outOfRange(name, "an integer", value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
  return value;
}

/** Permission bits, as a number or in octal digits; `otherwise` if there are none. */
export function checkMode(mode: unknown, name: string, otherwise?: number): number {
  const given = mode ?? otherwise;
  if (typeof given !== "string") return checkInteger(given, name, 0, UINT32_MAX);
  if (/^[0-7]+$/.test(given)) return checkInteger(Number.parseInt(given, 8), name, 0, UINT32_MAX);
  throw invalidArgValue(name, mode, "must be a 32-bit unsigned integer or an octal string");
}

/** The id of a user or group; -1 leaves it as it is. */
export function checkOwnerId(id: unknown, name: string): number {
  return checkInteger(id, name, -1, UINT32_MAX);
}

/** A time as `utimes` takes it: seconds, or a `Date`. */
export function checkTime(time: unknown, name: string): void {
  const isNumeric = typeof time === "string" && !Number.isNaN(Number(time));
  if (isNumeric || Number.isFinite(time) || time instanceof Date) return;
  throw invalidArgType(name, "an instance of Date or an Time in seconds", time);
}

/** Throws `ERR_INVALID_ARG_TYPE` for what is no signal. */
export function checkSignal(signal: unknown, name = "options.signal"): void {
  if (signal === undefined) return;
  if (typeof signal === "object" && signal !== null && "aborted" in signal) return;
  throw invalidArgType(name, "an instance of AbortSignal", signal);
}

/** A file position: null and -1 mean "where the last read ended" (`undefined`). */
export function checkPosition(position: unknown): number | undefined {
  if (position === null || position === undefined) return undefined;
  if (typeof position === "bigint") {
    if (position < -1n || position > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw outOfRange("position", `>= -1 && <= ${Number.MAX_SAFE_INTEGER}`, position);
    }
    return position === -1n ? undefined : Number(position);
  }
  if (typeof position !== "number") {
    throw invalidArgType("position", "an integer or a bigint", position);
  }
  const checked = checkInteger(position, "position", -1);
  return checked === -1 ? undefined : checked;
}
