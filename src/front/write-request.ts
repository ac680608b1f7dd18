/**
 * The arguments of `FileHandle.write` and `writev`, in all of Node's forms, checked in Node's
 * order:
 *
 *     write(buffer, offset, length, position)    write(buffer, options)
 *     write(text, position, encoding)
 *
 * A position may be a `bigint` too, as for reads; Node would take that for none.
 */
import {
  checkInteger,
  checkPosition,
  invalidArgType,
  invalidArgValue,
  outOfRange,
} from "./arguments.ts";
import { viewOf } from "./read-request.ts";
import { bytesOfText, type Encoding } from "./text.ts";

/** Where to take what is written; the options form of `FileHandle.write`. */
export interface WriteOptions {
  readonly offset?: number | null | undefined;
  readonly length?: number | null | undefined;
  readonly position?: number | bigint | null | undefined;
}

/** A write that may be done. */
export interface WriteRequest {
  readonly from: Uint8Array;
  /** Undefined: at the position of the handle. */
  readonly positionBytes: number | undefined;
}

const INT32_MAX = 2 ** 31 - 1;

/** A position that is no number is none. Throws `ERR_OUT_OF_RANGE`. */
function positionOf(position: unknown): number | undefined {
  const isGiven = typeof position === "number" || typeof position === "bigint";
  if (typeof position === "number" && position < 0) return undefined;
  return isGiven ? checkPosition(position) : undefined;
}

function textRequest(text: unknown, position: unknown, encoding: unknown): WriteRequest {
  if (typeof text !== "string") {
    const kinds = "of type string or an instance of Buffer, TypedArray, or DataView";
    throw invalidArgType("buffer", kinds, text);
  }
  const name = encoding as Encoding;
  if (name === "hex" && text.length % 2 !== 0) {
    throw invalidArgValue("encoding", name, `is invalid for data of length ${text.length}`);
  }
  return { from: bytesOfText(text, name), positionBytes: positionOf(position) };
}

/** Sorts out the forms of `write`. Throws Node's `ERR_INVALID_ARG_*` and `ERR_OUT_OF_RANGE`. */
export function writeRequest(
  data: unknown,
  second: number | bigint | WriteOptions | null | undefined,
  third: number | string | null | undefined,
  fourth: number | bigint | null | undefined,
): WriteRequest {
  if (!ArrayBuffer.isView(data)) return textRequest(data, second, third);
  let offset: unknown = second;
  let length: unknown = third;
  let position: unknown = fourth;
  if (typeof offset === "object" && offset !== null) {
    ({ offset, length, position } = second as WriteOptions);
  }
  const from = offset === null || offset === undefined ? 0 : checkInteger(offset, "offset");
  const rest = data.byteLength - from;
  const count = typeof length === "number" ? length : rest;
  if (from > data.byteLength) throw outOfRange("offset", `<= ${data.byteLength}`, from);
  if (count > rest) throw outOfRange("length", `<= ${rest}`, count);
  if (count < 0) throw outOfRange("length", ">= 0", count);
  checkInteger(count, "length", 0, INT32_MAX);
  const bytes = viewOf(data);
  const part = from === 0 && count === bytes.length ? bytes : bytes.subarray(from, from + count);
  return { from: part, positionBytes: positionOf(position) };
}

/** The position for `writev`, after a look at its buffers. */
export function writevPosition(buffers: unknown, position: unknown): number | undefined {
  if (!Array.isArray(buffers) || !buffers.every((buffer) => ArrayBuffer.isView(buffer))) {
    throw invalidArgType("buffers", "an ArrayBufferView[]", buffers);
  }
  return positionOf(position);
}
