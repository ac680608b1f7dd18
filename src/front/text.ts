/**
 * Bytes and text as callers of `fs` want them: `Buffer` where the platform has it, `Uint8Array`
 * elsewhere.
 *
 * Nothing here imports `node:`, so that the same front runs in a browser; Node's modules that only
 * some calls need (streams, readline) are asked for with `process.getBuiltinModule`.
 */
import {
  checkSignal,
  codedTypeError,
  invalidArgType,
  invalidArgValue,
  platformModule,
} from "./arguments.ts";

/** An encoding by name, "buffer" for bytes, null for the call's own default. */
export type Encoding = string | null | undefined;

const hasBuffer = typeof Buffer === "function";
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** `lengthBytes` bytes of undefined content, a `Buffer` where there is such a thing. */
export function newBytes(lengthBytes: number): Uint8Array {
  return hasBuffer ? Buffer.allocUnsafe(lengthBytes) : new Uint8Array(lengthBytes);
}

/** As `newBytes`, all of them 0: for memory that callers see before it is filled. */
export function zeroedBytes(lengthBytes: number): Uint8Array {
  return hasBuffer ? Buffer.alloc(lengthBytes) : new Uint8Array(lengthBytes);
}

/** The same memory as a `Buffer` where there is such a thing. */
export function asBytes(bytes: Uint8Array): Uint8Array {
  if (!hasBuffer || Buffer.isBuffer(bytes)) return bytes;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Throws `ERR_INVALID_ARG_VALUE` for an encoding that the platform does not know. */
export function checkEncoding(encoding: Encoding): void {
  if (!encoding || encoding === "buffer") return;
  const isKnown = hasBuffer ? Buffer.isEncoding(encoding) : /^utf-?8$/i.test(encoding);
  if (!isKnown) throw invalidArgValue("encoding", encoding, "is invalid encoding");
}

/**
 * `bytes` as text in `encoding`. Without one it is text or bytes, as the call says; "buffer" means
 * bytes only where text is the rule, and elsewhere is no encoding (`ERR_UNKNOWN_ENCODING`).
 */
export function decode(
  bytes: Uint8Array,
  encoding: Encoding,
  noneIs: "text" | "bytes",
): string | Uint8Array {
  const isNone = !encoding;
  if (isNone ? noneIs === "bytes" : encoding === "buffer" && noneIs === "text") {
    return asBytes(bytes);
  }
  if (isNone || /^utf-?8$/i.test(encoding)) {
    return hasBuffer ? (asBytes(bytes) as Buffer).toString("utf8") : decoder.decode(bytes);
  }
  return (asBytes(bytes) as Buffer).toString(encoding as BufferEncoding);
}

const textEncoder = new TextEncoder();

/** The bytes of `text` in `encoding`, UTF-8 without one. Throws `ERR_UNKNOWN_ENCODING`. */
export function bytesOfText(text: string, encoding?: Encoding): Uint8Array {
  checkTextEncoding(encoding);
  if (hasBuffer) return Buffer.from(text, (encoding ?? "utf8") as BufferEncoding);
  checkEncoding(encoding);
  return textEncoder.encode(text);
}

/** Throws `ERR_UNKNOWN_ENCODING` for "buffer", where content is wanted as text or not at all. */
export function checkTextEncoding(encoding: Encoding): void {
  if (encoding !== "buffer") return;
  throw codedTypeError("ERR_UNKNOWN_ENCODING", `Unknown encoding: ${encoding}`);
}

/** The options object of a call whose options may be an encoding alone. */
export function optionsOf<T extends { encoding?: Encoding; signal?: AbortSignal | undefined }>(
  options: T | Encoding,
): T {
  if (options === undefined || options === null || typeof options === "function") return {} as T;
  if (typeof options === "string") {
    checkEncoding(options);
    return { encoding: options } as T;
  }
  if (typeof options !== "object") {
    throw invalidArgType("options", "one of type string or object", options);
  }
  checkEncoding(options.encoding);
  checkSignal(options.signal);
  return options;
}

/**
 * One of Node's own modules, for calls that make no sense elsewhere. Throws where it is missing.
 */
export function nodeModule<T>(id: string): T {
  const found = platformModule<T>(id);
  if (found === undefined) throw new TypeError(`this call needs Node's own module ${id}`);
  return found;
}
