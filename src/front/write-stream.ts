/**
 * An open file as a Node stream that is written to (Node only).
 *
 * A stream keeps at most `highWaterMark` bytes that were not taken yet; the page cache below takes
 * them as fast as memory allows, and makes writers wait when too much of it is dirty.
 */
import type * as StreamModule from "node:stream";
import { checkInteger } from "./arguments.ts";
import type { FileHandle } from "./file-handle.ts";
import { type FileStream, fileStream, streamOptions } from "./file-stream.ts";
import { checkFlag } from "./option-checks.ts";
import { viewOf } from "./read-request.ts";
import { type Encoding, nodeModule } from "./text.ts";

/** As Node's `filehandle.createWriteStream`. */
export interface WriteStreamOptions {
  readonly encoding?: Encoding;
  readonly autoClose?: boolean;
  readonly emitClose?: boolean;
  /** Where to begin; by default at the position of the handle. */
  readonly start?: number | undefined;
  readonly highWaterMark?: number | undefined;
  /** Make it durable before the stream has finished. */
  readonly flush?: boolean | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A Node stream that counts what it has written. */
export type WriteStream = StreamModule.Writable & FileStream & { readonly bytesWritten: number };

/**
 * Writes what the stream is given into the file, closing the handle at its end unless told not to.
 */
export function createWriteStream(
  handle: FileHandle,
  given?: WriteStreamOptions | Encoding,
): WriteStream {
  const { Writable } = nodeModule<typeof StreamModule>("node:stream");
  const options = streamOptions(handle, given, "write");
  if (options.flush !== null) checkFlag(options, "flush");
  let at = options.start === undefined ? undefined : checkInteger(options.start, "start");
  let bytesWritten = 0;
  const closes = options.autoClose !== false;
  const writeAll = async (chunk: Uint8Array): Promise<void> => {
    for (let done = 0; done < chunk.length; ) {
      const { bytesWritten: count } = await handle.write(chunk.subarray(done), 0, null, at ?? null);
      if (at !== undefined) at += count;
      done += count;
      bytesWritten += count;
    }
  };
  const settle = (work: Promise<void>, done: (error?: Error | null) => void): void => {
    work.then(() => done(), done);
  };
  const stream = new Writable({
    autoDestroy: closes,
    emitClose: options.emitClose !== false,
    ...(options.encoding ? { defaultEncoding: options.encoding as BufferEncoding } : {}),
    ...(options.highWaterMark === undefined ? {} : { highWaterMark: options.highWaterMark }),
    ...(options.signal ? { signal: options.signal } : {}),
    write(chunk, _encoding, done): void {
      settle(writeAll(viewOf(chunk)), done);
    },
    final(done): void {
      if (options.flush === true) settle(handle.sync(), done);
      else done();
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
  Object.defineProperty(stream, "bytesWritten", { get: () => bytesWritten });
  return fileStream(stream, handle, options) as WriteStream;
}
