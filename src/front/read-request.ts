/**
 * The arguments of `FileHandle.read` and `readv`, in all of Node's forms, checked in Node's order:
 *
 *     read(buffer, offset, length, position)    read(buffer, options)    read(options)
 */
import {
  checkInteger,
  checkPosition,
  checkSignal,
  invalidArgType,
  invalidArgValue,
  outOfRange,
} from "./arguments.ts";
import { zeroedBytes } from "./text.ts";

/** Where to put what is read; the options form of `FileHandle.read`. */
export interface ReadOptions {
  readonly offset?: number | null | undefined;
  readonly length?: number | null | undefined;
  readonly position?: number | bigint | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A read that may be done. */
export interface ReadRequest {
  /** As the caller gave it. */
  readonly buffer: ArrayBufferView;
  /** The part of it to fill, of 0 bytes if there is nothing to do. */
  readonly into: Uint8Array;
  /** Undefined: where the last read ended. */
  readonly positionBytes: number | undefined;
  readonly signal: AbortSignal | undefined;
}

const BUFFER_BYTES_DEFAULT = 16384;

/** The same memory as bytes. */
export function viewOf(buffer: ArrayBufferView): Uint8Array {
  if (buffer instanceof Uint8Array) return buffer;
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Sorts out the forms of `read`. Throws Node's `ERR_INVALID_ARG_*` and `ERR_OUT_OF_RANGE`. */
export function readRequest(
  first: unknown,
  second: number | ReadOptions | null | undefined,
  third: number | null | undefined,
  fourth: number | bigint | null | undefined,
): ReadRequest {
  let buffer = first;
  let offset: number | ReadOptions | null | undefined = second;
  let length: unknown = third;
  let position: unknown = fourth;
  let signal: AbortSignal | undefined;
  if (!ArrayBuffer.isView(buffer)) {
    const isObject = typeof first === "object" && !Array.isArray(first);
    if (first !== undefined && first !== null && !isObject) {
      throw invalidArgType("options", "of type object", first);
    }
    const options = (first ?? {}) as ReadOptions & { buffer?: unknown };
    buffer = options.buffer === undefined ? zeroedBytes(BUFFER_BYTES_DEFAULT) : options.buffer;
    ({ offset, length, position, signal } = options);
    if (!ArrayBuffer.isView(buffer)) {
      throw invalidArgType("buffer", "an instance of Buffer, TypedArray, or DataView", buffer);
    }
  }
  if (offset !== null && typeof offset === "object") {
    ({ offset, length, position, signal } = offset as ReadOptions);
  }
  checkSignal(signal);
  const view = buffer as ArrayBufferView;
  const from = offset === null || offset === undefined ? 0 : checkInteger(offset, "offset");
  const whole = length ?? view.byteLength - from;
  const count = checkInteger(whole, "length", Number.MIN_SAFE_INTEGER);
  if (count === 0) return { buffer: view, into: EMPTY, positionBytes: undefined, signal };
  if (view.byteLength === 0) {
    throw invalidArgValue("buffer", view, "is empty and cannot be written");
  }
  if (count < 0) throw outOfRange("length", ">= 0", count);
  if (count > view.byteLength - from) {
    throw outOfRange("length", `<= ${view.byteLength - from}`, count);
  }
  const bytes = viewOf(view);
  const into = from === 0 && count === bytes.length ? bytes : bytes.subarray(from, from + count);
  return { buffer: view, into, positionBytes: checkPosition(position), signal };
}

const EMPTY = new Uint8Array(0);

/** The position for `readv`, after a look at its buffers. */
export function readvPosition(buffers: unknown, position: unknown): number | undefined {
  if (!Array.isArray(buffers) || !buffers.every((buffer) => ArrayBuffer.isView(buffer))) {
    throw invalidArgType("buffers", "an ArrayBufferView[]", buffers);
  }
  const isGiven = typeof position === "number" || typeof position === "bigint";
  return checkPosition(isGiven ? position : null);
}
