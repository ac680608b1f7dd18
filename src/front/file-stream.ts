/**
 * What the streams over an open file have in common: how their options are given, and what they
 * tell of themselves, as Node's `fs.ReadStream` and `fs.WriteStream`.
 */
import type * as StreamModule from "node:stream";
import { checkSignal } from "./arguments.ts";
import type { OpenFile } from "./open-file.ts";
import { closedError } from "./option-checks.ts";
import { checkEncoding, type Encoding } from "./text.ts";

/** What a stream over a file has beyond a stream. */
export interface FileStream {
  /** Null once the handle is closed. */
  readonly fd: number | null;
  /** True while there is no file to read or write. */
  readonly pending: boolean;
  readonly autoClose: boolean;
  readonly start: number | undefined;
  /** Ends the stream, and closes the handle unless that was forbidden. */
  close(callback?: (error?: Error | null) => void): void;
}

interface StreamOptions {
  readonly encoding?: Encoding;
  readonly autoClose?: boolean;
  readonly start?: number | undefined;
  readonly end?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The options as an object, checked as far as both streams have them. Throws `EBADF` for a handle
 * that is closed, `ERR_INVALID_ARG_*`.
 */
export function streamOptions<O extends StreamOptions>(
  handle: OpenFile,
  given: O | Encoding,
  syscall: string,
): O {
  if (handle.fd === -1) throw closedError(syscall);
  const options = (typeof given === "object" ? (given ?? {}) : {}) as O; // As Node: of text none.
  checkEncoding(options.encoding);
  checkSignal(options.signal);
  return options;
}

/** `stream` with what Node's file streams tell. */
export function fileStream<S extends StreamModule.Readable | StreamModule.Writable>(
  stream: S,
  handle: OpenFile,
  options: StreamOptions,
): S & FileStream {
  const { start, end } = options;
  const value = <T>(known: T): PropertyDescriptor => ({ value: known, enumerable: true });
  return Object.defineProperties(stream, {
    fd: { get: () => (handle.fd === -1 ? null : handle.fd), enumerable: true },
    pending: { get: () => handle.fd === -1 },
    autoClose: value(options.autoClose !== false),
    start: value(start),
    ...(end === undefined ? {} : { end: value(end) }),
    close: { value: (callback?: () => void) => closeStream(stream, callback), writable: true },
  }) as S & FileStream;
}

function closeStream(
  stream: StreamModule.Readable | StreamModule.Writable,
  callback: ((error?: Error | null) => void) | undefined,
): void {
  if (callback !== undefined) {
    if (stream.closed) callback();
    else stream.once("close", callback);
  }
  if ("writable" in stream && stream.writable) (stream as StreamModule.Writable).end();
  else stream.destroy();
}
