/**
 * An open file of a volume, with the members of Node's `FileHandle`.
 *
 * A read that the page cache can answer is done before the promise is made; `readSync` says
 * `EAGAIN` instead of waiting, for callers that cannot wait. Offsets may be `number` or `bigint`;
 * what is not an exact file position throws. The handle keeps a position for reads that give none,
 * as Node does.
 */
import type { CacheFile } from "../cache/cache-file.ts";
import { filemapRead, IOCB_NOIO, type Kiocb } from "../cache/filemap.ts";
import type { VfsInode } from "../fs/vfs.ts";
import { FsError } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import {
  checkInteger,
  checkPosition,
  codedError,
  codedRangeError,
  invalidArgType,
  invalidArgValue,
  outOfRange,
} from "./arguments.ts";
import {
  createReadStream,
  type ReadStreamOptions,
  readableWebStream,
  readLines,
} from "./read-stream.ts";
import { BigIntStats, Stats } from "./stats.ts";
import { decode, type Encoding, newBytes, optionsOf } from "./text.ts";

/**
 * What the `*Sync` calls return when the answer is not cached: try again later, or await the other
 * form.
 */
export const EAGAIN: -11 = -11;

/** Where to put what is read; the options form of `FileHandle.read`. */
export interface ReadOptions {
  readonly offset?: number | null | undefined;
  readonly length?: number | null | undefined;
  readonly position?: number | bigint | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

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

/** What the handle needs of its volume: one number a handle, and word of its closing. */
export interface HandleOwner {
  nextFd(): number;
  closed(handle: FileHandle): void;
}

/** Read as a whole only up to here, as Node does. */
const READ_FILE_BYTES_MAX = 2 ** 31 - 1;

export class FileHandle {
  readonly #owner: HandleOwner;
  readonly #inode: VfsInode;
  /** Null for a directory, which opens but does not read. */
  readonly #file: CacheFile | null;
  readonly #iocb: Kiocb | null;
  #fd: number;
  #positionBytes = 0;

  constructor(owner: HandleOwner, inode: VfsInode, file: CacheFile | null) {
    this.#owner = owner;
    this.#inode = inode;
    this.#file = file;
    this.#fd = owner.nextFd();
    this.#iocb = file === null ? null : { file, posBytes: 0, flags: IOCB_NOIO, signal: undefined };
  }

  /** A number that no other open handle of the volume has; -1 once closed. */
  get fd(): number {
    return this.#fd;
  }

  /** The page cache's side of the open file, for `fadvise` and the like; null for a directory. */
  get cacheFile(): CacheFile | null {
    return this.#file;
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
    this.#checkOpen("read");
    const request = readRequest(bufferOrOptions, offsetOrOptions, length, position);
    if (request.into.length === 0) return { bytesRead: 0, buffer: request.buffer as B };
    const bytesRead = await this.#readAt(request.into, request.positionBytes, request.signal);
    return { bytesRead, buffer: request.buffer as B };
  }

  /**
   * Reads what is cached, now: bytes read, 0 at the end of the file, or `EAGAIN` (-11) when a page
   * of the range would have to be fetched. Starts no request and makes no promise (`IOCB_NOIO`).
   */
  readSync(
    buffer: Uint8Array,
    offset = 0,
    length: number = buffer.length - offset,
    position?: number | bigint | null,
  ): number {
    this.#checkOpen("read");
    const { into, positionBytes } = readRequest(buffer, offset, length, position);
    if (into.length === 0) return 0;
    const iocb = this.#iocb;
    if (iocb === null) throw new FsError("EISDIR", { syscall: "read" });
    iocb.posBytes = positionBytes ?? this.#positionBytes;
    const got = filemapRead(iocb, into);
    if (isPromise(got)) throw new FsError("EIO", { syscall: "read", detail: "a NOIO read waited" });
    if (got < 0 && got !== EAGAIN) throw FsError.of(got, { syscall: "read" });
    if (got > 0 && positionBytes === undefined) this.#positionBytes += got;
    return got;
  }

  /** Fills `buffers` one after the other. */
  async readv<B extends ArrayBufferView = Uint8Array>(
    buffers: readonly B[],
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffers: readonly B[] }> {
    this.#checkOpen("readv");
    const isList = (Array.isArray as (value: unknown) => boolean)(buffers);
    if (!isList || !buffers.every((buffer) => ArrayBuffer.isView(buffer))) {
      throw invalidArgType("buffers", "an instance of ArrayBufferView[]", buffers);
    }
    const given = typeof position === "number" || typeof position === "bigint" ? position : null;
    let at = checkPosition(given);
    let bytesRead = 0;
    for (const buffer of buffers) {
      const got = await this.#readAt(viewOf(buffer), at, undefined);
      bytesRead += got;
      if (at !== undefined) at += got;
      if (got < buffer.byteLength) break;
    }
    return { bytesRead, buffers };
  }

  /** The rest of the file from the handle's position on, as bytes or in `encoding` as text. */
  async readFile(options?: ReadFileOptions | Encoding): Promise<string | Uint8Array> {
    this.#checkOpen("readFile");
    const { encoding, signal } = optionsOf<ReadFileOptions>(options);
    signal?.throwIfAborted();
    if (this.#file === null) throw new FsError("EISDIR", { syscall: "read" });
    const expected = Math.max(this.#inode.size - this.#positionBytes, 0);
    if (expected > READ_FILE_BYTES_MAX) {
      const text = `File size (${expected}) is greater than 2 GiB`;
      throw codedRangeError("ERR_FS_FILE_TOO_LARGE", text);
    }
    const bytes = newBytes(expected);
    let filled = 0;
    while (filled < expected) {
      const got = await this.#readAt(bytes.subarray(filled), undefined, signal);
      if (got === 0) break;
      filled += got;
    }
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

  /** The file as a web `ReadableStream` of bytes. */
  readableWebStream(): ReadableStream<Uint8Array> {
    this.#checkOpen("readableWebStream");
    return readableWebStream(this);
  }

  async stat(options: { bigint: true }): Promise<BigIntStats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    this.#checkOpen("stat");
    const attributes = this.#inode.attributes();
    return options?.bigint === true ? new BigIntStats(attributes) : new Stats(attributes);
  }

  /** Nothing is waiting to be written on a read-only volume, so this only checks the handle. */
  async sync(): Promise<void> {
    this.#checkOpen("sync");
  }

  /** As `sync`. */
  async datasync(): Promise<void> {
    this.#checkOpen("datasync");
  }

  /** Fails as on any file that was opened for reading only. */
  async write(..._args: unknown[]): Promise<never> {
    return this.#refuse("write", "EBADF", "write");
  }
  async writev(..._args: unknown[]): Promise<never> {
    return this.#refuse("writev", "EBADF", "write");
  }
  async writeFile(..._args: unknown[]): Promise<never> {
    return this.#refuse("writeFile", "EBADF", "write");
  }
  async appendFile(..._args: unknown[]): Promise<never> {
    return this.#refuse("appendFile", "EBADF", "write");
  }
  async truncate(_lengthBytes?: number): Promise<never> {
    return this.#refuse("truncate", "EINVAL", "ftruncate");
  }
  async chmod(_mode: number): Promise<never> {
    return this.#refuse("chmod", "EROFS", "fchmod");
  }
  async chown(_uid: number, _gid: number): Promise<never> {
    return this.#refuse("chown", "EROFS", "fchown");
  }
  async utimes(_atime: unknown, _mtime: unknown): Promise<never> {
    return this.#refuse("utimes", "EROFS", "futime");
  }
  createWriteStream(): never {
    this.#checkOpen("createWriteStream");
    throw new FsError("EBADF", { syscall: "write" });
  }

  /** Gives the handle back. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#fd === -1) return;
    this.#fd = -1;
    this.#owner.closed(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #refuse(call: string, code: "EBADF" | "EINVAL" | "EROFS", syscall: string): never {
    this.#checkOpen(call);
    throw new FsError(code, { syscall });
  }

  #checkOpen(syscall: string): void {
    if (this.#fd !== -1) return;
    throw Object.assign(codedError("EBADF", "file closed"), { syscall });
  }

  #readAt(
    into: Uint8Array,
    positionBytes: number | undefined,
    signal: AbortSignal | undefined,
  ): MaybeAsync<number> {
    if (this.#file === null) throw new FsError("EISDIR", { syscall: "read" });
    const from = positionBytes ?? this.#positionBytes;
    const iocb: Kiocb = { file: this.#file, posBytes: from, flags: 0, signal };
    const got = filemapRead(iocb, into);
    const follows = positionBytes === undefined;
    if (isPromise(got)) return got.then((count) => this.#readDone(count, from, follows, signal));
    return this.#readDone(got, from, follows, signal);
  }

  #readDone(got: number, from: number, follows: boolean, signal?: AbortSignal): number {
    if (got < 0) {
      signal?.throwIfAborted();
      const detail = `at byte ${from} of inode ${this.#inode.ino}`;
      throw FsError.of(got, { syscall: "read", detail });
    }
    if (follows) this.#positionBytes = from + got;
    return got;
  }
}

function viewOf(buffer: ArrayBufferView): Uint8Array {
  if (buffer instanceof Uint8Array) return buffer;
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

interface ReadRequest {
  readonly buffer: ArrayBufferView;
  readonly into: Uint8Array;
  readonly positionBytes: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Sorts out the forms of `read` and checks them in Node's order. */
function readRequest(
  first: unknown,
  second: number | ReadOptions | null | undefined,
  third: number | null | undefined,
  fourth: number | bigint | null | undefined,
): ReadRequest {
  let buffer = first;
  let offset: number | ReadOptions | null | undefined = second;
  let length = third;
  let position = fourth;
  let signal: AbortSignal | undefined;
  if (!ArrayBuffer.isView(buffer)) {
    if (first !== undefined && first !== null && typeof first !== "object") {
      throw invalidArgType("options", "of type object", first);
    }
    const options = (first ?? {}) as ReadOptions & { buffer?: unknown };
    buffer = options.buffer === undefined ? newBytes(16384) : options.buffer;
    ({ offset, length, position, signal } = options);
  } else if (offset !== null && typeof offset === "object") {
    ({ offset, length, position, signal } = offset as ReadOptions);
  }
  if (!ArrayBuffer.isView(buffer)) {
    throw invalidArgType("buffer", "an instance of Buffer, TypedArray, or DataView", buffer);
  }
  const from = offset === null || offset === undefined ? 0 : checkInteger(offset, "offset");
  const count = length ?? buffer.byteLength - from;
  if (count === 0) return { buffer, into: new Uint8Array(0), positionBytes: undefined, signal };
  if (buffer.byteLength === 0) {
    throw invalidArgValue("buffer", buffer, "is empty and cannot be written");
  }
  if (count < 0) throw outOfRange("length", ">= 0", count);
  if (count > buffer.byteLength - from) {
    throw outOfRange("length", `<= ${buffer.byteLength - from}`, count);
  }
  const view = viewOf(buffer);
  const into = from === 0 && count === view.length ? view : view.subarray(from, from + count);
  return { buffer, into, positionBytes: checkPosition(position), signal };
}
