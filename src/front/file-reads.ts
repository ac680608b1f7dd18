/**
 * The half of a `FileHandle` that reads.
 *
 * A read that the page cache can answer is done before the promise is made; `readSync` says
 * `EAGAIN` instead of waiting, for callers that cannot wait. Offsets may be `number` or `bigint`;
 * what is not an exact file position throws. The handle keeps a position for reads that give none,
 * as Node does.
 */
import { filemapRead, IOCB_NOIO, type Kiocb } from "../cache/filemap.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { codedError, codedRangeError } from "./arguments.ts";
import { EAGAIN, OpenFile, type OpenFileOwner, type OpenFileParts } from "./open-file.ts";
import { O_NOATIME } from "./open-flags.ts";
import { readErrorOf } from "./read-error.ts";
import { type ReadOptions, readRequest, readvPosition, viewOf } from "./read-request.ts";
import {
  createReadStream,
  type ReadStreamOptions,
  readableWebStream,
  readLines,
} from "./read-stream.ts";
import { BigIntStats, Stats } from "./stats.ts";
import { checkTextEncoding, decode, type Encoding, newBytes, optionsOf } from "./text.ts";

export interface ReadResult<B extends ArrayBufferView = ArrayBufferView> {
  readonly bytesRead: number;
  readonly buffer: B;
}

/** Options of `readFile`. */
export interface ReadFileOptions {
  encoding?: Encoding;
  flag?: string | number | undefined;
  signal?: AbortSignal | undefined;
}

/** Read as a whole only up to here, as Node does. */
const READ_FILE_BYTES_MAX = 2 ** 31 - 1;

export abstract class FileReads extends OpenFile {
  readonly #iocb: Kiocb | null;
  #isStreamed = false;

  constructor(owner: OpenFileOwner, parts: OpenFileParts) {
    super(owner, parts);
    const { file } = parts;
    this.#iocb = file === null ? null : { file, posBytes: 0, flags: IOCB_NOIO, signal: undefined };
  }

  /**
   * Reads into `buffer`, at the position given or where the last read ended. `bytesRead` is 0 at
   * the end of the file. All of Node's forms: `(buffer, offset, length, position)`, `(buffer,
   * options)`, `(options)`.
   */
  async read<B extends ArrayBufferView = Uint8Array>(
    bufferOrOptions?: B | (ReadOptions & { buffer?: B }) | null,
    offsetOrOptions?: number | ReadOptions | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<ReadResult<B>> {
    this.checkOpen("read");
    const request = readRequest(bufferOrOptions, offsetOrOptions, length, position);
    if (request.into.length === 0) return { bytesRead: 0, buffer: request.buffer as B };
    const { signal } = request;
    signal?.throwIfAborted();
    const got = this.#readAt(request.into, request.positionBytes, signal);
    return { bytesRead: isPromise(got) ? await got : got, buffer: request.buffer as B };
  }

  /**
   * Reads what is cached, now, up to the first page that is not: bytes read, 0 at the end of the
   * file, or `EAGAIN` (-11) if not even the first page is cached. Starts no request and makes no
   * promise (`IOCB_NOIO`).
   */
  readSync(
    buffer: ArrayBufferView,
    offset?: number | ReadOptions | null,
    length?: number | null,
    position?: number | bigint | null,
  ): number {
    this.checkOpen("read");
    const { into, positionBytes } = readRequest(buffer, offset, length, position);
    if (into.length === 0) return 0;
    if (positionBytes !== undefined) return this.#readNow(into, positionBytes);
    if (!this.positionLock.tryLock()) return EAGAIN;
    try {
      const got = this.#readNow(into, this.positionBytes);
      if (got > 0) this.positionBytes += got;
      return got;
    } finally {
      this.positionLock.unlock();
    }
  }

  /** Fills `buffers` one after the other. */
  async readv<B extends ArrayBufferView = Uint8Array>(
    buffers: readonly B[],
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffers: readonly B[] }> {
    this.checkOpen("readv");
    let at = readvPosition(buffers, position);
    let bytesRead = 0;
    for (const buffer of buffers) {
      if (buffer.byteLength === 0) continue;
      const got = await this.#readAt(viewOf(buffer), at, undefined);
      bytesRead += got;
      if (at !== undefined) at += got;
      if (got < buffer.byteLength) break;
    }
    return { bytesRead, buffers };
  }

  /** The rest of the file from the handle's position on, as bytes or in `encoding` as text. */
  async readFile(options?: ReadFileOptions | Encoding): Promise<string | Uint8Array> {
    this.checkOpen("readFile");
    const { encoding, signal } = optionsOf<ReadFileOptions>(options);
    checkTextEncoding(encoding);
    signal?.throwIfAborted();
    const bytes = this.#bytesForAll();
    let filled = 0;
    while (filled < bytes.length) {
      const got = await this.#readAt(bytes.subarray(filled), undefined, signal);
      if (got === 0) break;
      filled += got;
      signal?.throwIfAborted();
    }
    return decode(bytes.subarray(0, filled), encoding, "bytes");
  }

  /** As `readFile`, or `EAGAIN` unless all of it is cached; the position stays then. */
  readFileSync(options?: ReadFileOptions | Encoding): string | Uint8Array | typeof EAGAIN {
    this.checkOpen("readFile");
    const { encoding } = optionsOf<ReadFileOptions>(options);
    checkTextEncoding(encoding);
    if (this.positionLock.isLocked) return EAGAIN;
    const bytes = this.#bytesForAll();
    let filled = 0;
    while (filled < bytes.length) {
      const got = this.#readNow(bytes.subarray(filled), this.positionBytes + filled);
      if (got === EAGAIN) return EAGAIN;
      if (got === 0) break;
      filled += got;
    }
    this.positionBytes += filled;
    return decode(bytes.subarray(0, filled), encoding, "bytes");
  }

  /** Lines of the file, as a `readline.Interface` (Node only). */
  readLines(options?: ReadStreamOptions): ReturnType<typeof readLines> {
    return readLines(this, options);
  }

  /** The file as a Node `Readable` whose back-pressure decides how far it is read (Node only). */
  createReadStream(options?: ReadStreamOptions): ReturnType<typeof createReadStream> {
    return createReadStream(this, options);
  }

  /** The file as a web `ReadableStream` of bytes, once in the life of the handle. */
  readableWebStream(): ReadableStream<Uint8Array> {
    const fault = this.fd === -1 ? "closed" : this.#isStreamed ? "locked" : "";
    if (fault !== "") {
      throw codedError("ERR_INVALID_STATE", `Invalid state: The FileHandle is ${fault}`);
    }
    this.#isStreamed = true;
    return readableWebStream(this);
  }

  async stat(options: { bigint: true }): Promise<BigIntStats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    this.checkOpen("fstat");
    const attributes = this.inode.attributes();
    return options?.bigint === true ? new BigIntStats(attributes) : new Stats(attributes);
  }

  /** Memory for all from the position on. */
  #bytesForAll(): Uint8Array {
    this.readable();
    const { size } = this.inode;
    if (size > READ_FILE_BYTES_MAX) {
      const text = `File size (${size}) is greater than 2 GiB`;
      throw codedRangeError("ERR_FS_FILE_TOO_LARGE", text);
    }
    return newBytes(Math.max(size - this.positionBytes, 0));
  }

  #readNow(into: Uint8Array, posBytes: number): number {
    this.readable();
    const iocb = this.#iocb!;
    iocb.posBytes = posBytes;
    const got = filemapRead(iocb, into);
    if (isPromise(got)) throw new FsError("EIO", { syscall: "read", detail: "a NOIO read waited" });
    if (got > 0) this.#noteAccess();
    return got < 0 && got !== EAGAIN ? this.#fail(got, posBytes) : got;
  }

  /** Reads at `positionBytes`, or at the position of the handle, one such read after the other. */
  #readAt(
    into: Uint8Array,
    positionBytes: number | undefined,
    signal: AbortSignal | undefined,
  ): MaybeAsync<number> {
    if (positionBytes === undefined) {
      return this.atPosition((at) => this.#readAt(into, at, signal), signal);
    }
    const file = this.readable();
    const got = filemapRead({ file, posBytes: positionBytes, flags: 0, signal }, into);
    if (isPromise(got)) {
      return this.inUse(got.then((count) => this.#ended(count, positionBytes, signal)));
    }
    return this.#ended(got, positionBytes, signal);
  }

  #ended(got: number, from: number, signal?: AbortSignal): number {
    if (got > 0) this.#noteAccess();
    return got < 0 ? this.#fail(got, from, signal) : got;
  }

  #noteAccess(): void {
    if ((this.flags & O_NOATIME) === 0) this.owner.writer?.noteAccess(this.inode);
  }

  #fail(errno: number, from: number, signal?: AbortSignal): never {
    signal?.throwIfAborted();
    throw readErrorOf(this.file!, errno, from, `inode ${this.inode.ino}`);
  }
}
