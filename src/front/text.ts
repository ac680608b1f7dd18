/**
 * Bytes and text as callers of `fs` want them: `Buffer` where the platform has it, `Uint8Array`
 * elsewhere.
 *
 * Nothing here imports `node:`, so that the same front runs in a browser; Node's modules that only
 * some calls need (streams, readline) are asked for with `process.getBuiltinModule`.
 */
import { invalidArgType, invalidArgValue, platformModule } from "./arguments.ts";

/** An encoding by name, "buffer" for bytes, null for the call's own default. */
export type Encoding = string | null | undefined;

const hasBuffer = typeof Buffer === "function";
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** `lengthBytes` bytes of undefined content, a `Buffer` where there is such a thing. */
export function newBytes(lengthBytes: number): Uint8Array {
  return hasBuffer ? Buffer.allocUnsafe(lengthBytes) : new Uint8Array(lengthBytes);
}

/** The same memory as a `Buffer` where there is such a thing. */
export function asBytes(bytes: Uint8Array): Uint8Array {
  if (!hasBuffer || Buffer.isBuffer(bytes)) return bytes;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Throws `ERR_INVALID_ARG_VALUE` for an encoding that the platform does not know. */
export function checkEncoding(encoding: Encoding): void {
  if (encoding === undefined || encoding === null || encoding === "buffer") return;
  const isKnown = hasBuffer ? Buffer.isEncoding(encoding) : /^utf-?8$/i.test(encoding);
  if (!isKnown) throw invalidArgValue("encoding", encoding, "is invalid encoding");
}

/** `bytes` as text in `encoding`; as bytes for "buffer" and, where the call says so, for none. */
export function decode(
  bytes: Uint8Array,
  encoding: Encoding,
  noneIs: "text" | "bytes",
): string | Uint8Array {
  const isNone = encoding === undefined || encoding === null;
  if (encoding === "buffer" || (isNone && noneIs === "bytes")) return asBytes(bytes);
  if (isNone || /^utf-?8$/i.test(encoding)) {
    return hasBuffer ? (asBytes(bytes) as Buffer).toString("utf8") : decoder.decode(bytes);
  }
  return (asBytes(bytes) as Buffer).toString(encoding as BufferEncoding);
}

/** The options object of a call whose options may be an encoding alone. */
export function optionsOf<T extends { encoding?: Encoding }>(options: T | Encoding): T {
  if (options === undefined || options === null) return {} as T;
  if (typeof options === "string") {
    checkEncoding(options);
    return { encoding: options } as T;
  }
  if (typeof options !== "object") {
    throw invalidArgType("options", "one of type string or object", options);
  }
  checkEncoding(options.encoding);
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
