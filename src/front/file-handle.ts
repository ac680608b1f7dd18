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
import { AsyncMutex, WaitQueue } from "../lib/locks.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import {
  checkInteger,
  checkMode,
  checkOwnerId,
  checkTime,
  codedError,
  codedRangeError,
  plainError,
} from "./arguments.ts";
import { readErrorOf } from "./read-error.ts";
import { type ReadOptions, readRequest, readvPosition, viewOf } from "./read-request.ts";
import {
  createReadStream,
  createWriteStream,
  type ReadStreamOptions,
  readableWebStream,
  readLines,
  type WriteStreamOptions,
} from "./read-stream.ts";
import { BigIntStats, Stats } from "./stats.ts";
import { checkTextEncoding, decode, type Encoding, newBytes, optionsOf } from "./text.ts";

/**
 * What the `*Sync` calls return when the answer is not cached: try again later, or await the other
 * form.
 */
export const EAGAIN: -11 = -11;

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
  /** Reads that wait: the handle is not gone before they are. */
  #userCount = 0;
  #closing: Promise<void> | undefined;
  readonly #idleWaiters = new WaitQueue();
  /** Held by the read that moves the position, as `f_pos_lock` is in the kernel. */
  readonly #positionLock = new AsyncMutex();
  #isStreamed = false;

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
    this.#checkOpen("read");
    const { into, positionBytes } = readRequest(buffer, offset, length, position);
    if (into.length === 0) return 0;
    if (positionBytes !== undefined) return this.#readNow(into, positionBytes);
    if (!this.#positionLock.tryLock()) return EAGAIN;
    try {
      const got = this.#readNow(into, this.#positionBytes);
      if (got > 0) this.#positionBytes += got;
      return got;
    } finally {
      this.#positionLock.unlock();
    }
  }

  /** Fills `buffers` one after the other. */
  async readv<B extends ArrayBufferView = Uint8Array>(
    buffers: readonly B[],
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffers: readonly B[] }> {
    this.#checkOpen("readv");
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
    this.#checkOpen("readFile");
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
    this.#checkOpen("readFile");
    const { encoding } = optionsOf<ReadFileOptions>(options);
    checkTextEncoding(encoding);
    if (this.#positionLock.isLocked) return EAGAIN;
    const bytes = this.#bytesForAll();
    let filled = 0;
    while (filled < bytes.length) {
      const got = this.#readNow(bytes.subarray(filled), this.#positionBytes + filled);
      if (got === EAGAIN) return EAGAIN;
      if (got === 0) break;
      filled += got;
    }
    this.#positionBytes += filled;
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
    const fault = this.#fd === -1 ? "closed" : this.#isStreamed ? "locked" : "";
    if (fault !== "") {
      throw codedError("ERR_INVALID_STATE", `Invalid state: The FileHandle is ${fault}`);
    }
    this.#isStreamed = true;
    return readableWebStream(this);
  }

  async stat(options: { bigint: true }): Promise<BigIntStats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats>;
  async stat(options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    this.#checkOpen("fstat");
    const attributes = this.#inode.attributes();
    return options?.bigint === true ? new BigIntStats(attributes) : new Stats(attributes);
  }

  /** Nothing is waiting to be written on a read-only volume, so this only checks the handle. */
  async sync(): Promise<void> {
    this.#checkOpen("fsync");
  }

  /** As `sync`. */
  async datasync(): Promise<void> {
    this.#checkOpen("fdatasync");
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
    return this.#refuse("writeFile", "EBADF", "write");
  }
  async truncate(lengthBytes?: number | null): Promise<never> {
    if (lengthBytes !== undefined && lengthBytes !== null) {
      checkInteger(lengthBytes, "len", Number.MIN_SAFE_INTEGER);
    }
    return this.#refuse("ftruncate", "EINVAL", "ftruncate");
  }
  async chmod(mode: string | number): Promise<never> {
    checkMode(mode, "mode");
    return this.#refuse("fchmod", "EROFS", "fchmod");
  }
  async chown(uid: number, gid: number): Promise<never> {
    checkOwnerId(uid, "uid");
    checkOwnerId(gid, "gid");
    return this.#refuse("fchown", "EROFS", "fchown");
  }
  async utimes(atime: unknown, mtime: unknown): Promise<never> {
    checkTime(atime, "atime");
    checkTime(mtime, "mtime");
    return this.#refuse("futimes", "EROFS", "futime");
  }
  /** A stream that fails at the first write (Node only). */
  createWriteStream(options?: WriteStreamOptions): ReturnType<typeof createWriteStream> {
    return createWriteStream(this, options);
  }

  /** Gives the handle back, once reads under way are done. A second call waits for the first. */
  close(): Promise<void> {
    if (this.#fd === -1) return Promise.resolve();
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  /** Gives the handle back now. `EAGAIN` while a read is under way: it stays open then. */
  closeSync(): typeof EAGAIN | undefined {
    if (this.#userCount > 0) return EAGAIN;
    if (this.#fd !== -1) this.#giveBack();
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #finish(): Promise<void> {
    while (this.#userCount > 0) await this.#idleWaiters.wait();
    this.#giveBack();
  }

  #giveBack(): void {
    this.#fd = -1;
    this.#owner.closed(this);
  }

  #refuse(call: string, code: "EBADF" | "EINVAL" | "EROFS", syscall: string): never {
    this.#checkOpen(call);
    throw new FsError(code, { syscall });
  }

  #checkOpen(syscall: string): void {
    if (this.#fd !== -1) return;
    throw Object.assign(plainError("EBADF", "file closed"), { syscall });
  }

  /** Memory for all from the position on. */
  #bytesForAll(): Uint8Array {
    if (this.#file === null) throw new FsError("EISDIR", { syscall: "read" });
    const { size } = this.#inode;
    if (size > READ_FILE_BYTES_MAX) {
      const text = `File size (${size}) is greater than 2 GiB`;
      throw codedRangeError("ERR_FS_FILE_TOO_LARGE", text);
    }
    return newBytes(Math.max(size - this.#positionBytes, 0));
  }

  #readNow(into: Uint8Array, posBytes: number): number {
    const iocb = this.#iocb;
    if (iocb === null) throw new FsError("EISDIR", { syscall: "read" });
    iocb.posBytes = posBytes;
    const got = filemapRead(iocb, into);
    if (isPromise(got)) throw new FsError("EIO", { syscall: "read", detail: "a NOIO read waited" });
    return got < 0 && got !== EAGAIN ? this.#fail(got, posBytes) : got;
  }

  /** Reads at `positionBytes`, or at the position of the handle, one such read after the other. */
  #readAt(
    into: Uint8Array,
    positionBytes: number | undefined,
    signal: AbortSignal | undefined,
  ): MaybeAsync<number> {
    if (positionBytes === undefined) return this.#readOn(into, signal);
    const file = this.#file;
    if (file === null) throw new FsError("EISDIR", { syscall: "read" });
    const got = filemapRead({ file, posBytes: positionBytes, flags: 0, signal }, into);
    if (isPromise(got)) return this.#inUse(got, positionBytes, signal);
    return got < 0 ? this.#fail(got, positionBytes, signal) : got;
  }

  #readOn(into: Uint8Array, signal: AbortSignal | undefined): MaybeAsync<number> {
    if (!this.#positionLock.tryLock()) return this.#readOnLater(into, signal);
    let got: MaybeAsync<number> = 0;
    try {
      got = this.#readAt(into, this.#positionBytes, signal);
      if (isPromise(got)) return this.#moveOn(got);
      this.#positionBytes += got;
      return got;
    } finally {
      if (!isPromise(got)) this.#positionLock.unlock();
    }
  }

  async #moveOn(reading: Promise<number>): Promise<number> {
    try {
      const got = await reading;
      this.#positionBytes += got;
      return got;
    } finally {
      this.#positionLock.unlock();
    }
  }

  async #readOnLater(into: Uint8Array, signal: AbortSignal | undefined): Promise<number> {
    this.#userCount++;
    try {
      await this.#positionLock.lock(signal);
      return await this.#moveOn(Promise.resolve(this.#readAt(into, this.#positionBytes, signal)));
    } finally {
      this.#leave();
    }
  }

  async #inUse(reading: Promise<number>, from: number, signal?: AbortSignal): Promise<number> {
    this.#userCount++;
    try {
      const got = await reading;
      return got < 0 ? this.#fail(got, from, signal) : got;
    } finally {
      this.#leave();
    }
  }

  #leave(): void {
    this.#userCount--;
    if (this.#userCount === 0) this.#idleWaiters.wakeAll();
  }

  #fail(errno: number, from: number, signal?: AbortSignal): never {
    signal?.throwIfAborted();
    throw readErrorOf(this.#file!, errno, from, `inode ${this.#inode.ino}`);
  }
}
