/**
 * An open file as a stream: Node's `Readable` and `readline`, or the web's `ReadableStream`.
 *
 * A stream reads only as far as its consumer takes: the page cache's readahead below it turns the
 * small reads of a stream into large requests, so no stream needs a large buffer of its own.
 */
import type * as ReadlineModule from "node:readline";
import type * as StreamModule from "node:stream";
import type { ReadableByteStreamController, UnderlyingByteSource } from "node:stream/web";
import { KIB } from "../lib/units.ts";
import { checkInteger, outOfRange } from "./arguments.ts";
import type { FileReads } from "./file-reads.ts";
import { type FileStream, fileStream, streamOptions } from "./file-stream.ts";
import { type Encoding, newBytes, nodeModule } from "./text.ts";

/** As Node's `filehandle.createReadStream`; `end` is inclusive. */
export interface ReadStreamOptions {
  readonly encoding?: Encoding;
  readonly autoClose?: boolean;
  readonly emitClose?: boolean;
  readonly start?: number | undefined;
  readonly end?: number | undefined;
  readonly highWaterMark?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A Node stream that counts what it has read. */
export type ReadStream = StreamModule.Readable & FileStream & { readonly bytesRead: number };

const HIGH_WATER_BYTES = 64 * KIB;
const CHUNK_BYTES = 16 * KIB;

/**
 * The file from `start` to `end` as a Node stream, closing the handle at its end unless told not
 * to.
 */
export function createReadStream(
  handle: FileReads,
  given?: ReadStreamOptions | Encoding,
): ReadStream {
  const { Readable } = nodeModule<typeof StreamModule>("node:stream");
  const options = streamOptions(handle, given, "read");
  const endInclusive = options.end === undefined ? Infinity : checkEnd(options.end);
  let at = options.start === undefined ? undefined : checkInteger(options.start, "start");
  if (at !== undefined && at > endInclusive) {
    throw outOfRange("start", `<= "end" (here: ${endInclusive})`, at);
  }
  let left = endInclusive - (at ?? 0) + 1;
  let readBytes = 0;
  const closes = options.autoClose !== false;
  const stream = new Readable({
    highWaterMark: options.highWaterMark ?? HIGH_WATER_BYTES,
    emitClose: options.emitClose !== false,
    autoDestroy: closes,
    ...(options.encoding && options.encoding !== "buffer"
      ? { encoding: options.encoding as BufferEncoding }
      : {}),
    ...(options.signal ? { signal: options.signal } : {}),
    read(wantedBytes: number): void {
      const buffer = newBytes(Math.min(wantedBytes, left));
      if (buffer.length === 0) {
        this.push(null);
        return;
      }
      handle.read(buffer, 0, buffer.length, at ?? null).then(
        ({ bytesRead }) => {
          if (at !== undefined) at += bytesRead;
          left -= bytesRead;
          readBytes += bytesRead;
          this.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead));
        },
        (error: Error) => this.destroy(error),
      );
    },
    destroy(error, done): void {
      if (!closes) {
        done(error);
        return;
      }
      handle.close().then(
        () => done(error),
        (closeError: Error) => done(error ?? closeError),
      );
    },
  });
  Object.defineProperty(stream, "bytesRead", { get: () => readBytes });
  return fileStream(stream, handle, { ...options, end: endInclusive }) as ReadStream;
}

function checkEnd(end: number): number {
  return end === Infinity ? end : checkInteger(end, "end");
}

/** The lines of the file; the handle is closed at the end. */
export function readLines(
  handle: FileReads,
  options?: ReadStreamOptions | Encoding,
): ReadlineModule.Interface {
  const readline = nodeModule<typeof ReadlineModule>("node:readline");
  const input = createReadStream(handle, options);
  return readline.createInterface({ input, crlfDelay: Infinity });
}

/** The rest of the file as a web stream; it leaves the handle open, as Node's does. */
export function readableWebStream(handle: FileReads): ReadableStream<Uint8Array> {
  const source: UnderlyingByteSource = {
    type: "bytes",
    autoAllocateChunkSize: CHUNK_BYTES,
    async pull(controller: ReadableByteStreamController) {
      const request = controller.byobRequest;
      const view = request?.view;
      if (request === null || !view) return;
      const { bytesRead } = await handle.read(
        new Uint8Array(view.buffer, view.byteOffset, view.byteLength),
      );
      if (bytesRead === 0) controller.close();
      request.respond(bytesRead);
    },
  };
  return new ReadableStream(source);
}
