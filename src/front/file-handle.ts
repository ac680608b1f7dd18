/**
 * An open file of a volume, with the members of Node's `FileHandle`. The half that reads is in
 * `file-reads.ts`; this is the half that changes something.
 *
 *  1. A write without a position goes where the last call ended and moves the position on; with
 *     `O_APPEND` every write goes to the end of the file, whatever its position.
 *  2. Who writes `O_SYNC` has its data on disk when the call returns.
 */
import { IOCB_APPEND, IOCB_DSYNC, IOCB_NOWAIT, IOCB_SYNC, type Kiocb } from "../cache/kiocb.ts";
import type { AttributeChange, FileSystemWriter } from "../fs/vfs-write.ts";
import { FsError } from "../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { checkInteger, checkMode, checkOwnerId, invalidArgType } from "./arguments.ts";
import { PERMISSION_BITS } from "./attributes.ts";
import { FileReads } from "./file-reads.ts";
import { EAGAIN } from "./open-file.ts";
import { O_APPEND, O_DSYNC, O_SYNC } from "./open-flags.ts";
import { checkFlag } from "./option-checks.ts";
import { viewOf } from "./read-request.ts";
import { bytesOfText, checkTextEncoding, type Encoding, optionsOf } from "./text.ts";
import { type TimeLike, timeOf } from "./times.ts";
import { type WriteOptions, writeRequest, writevPosition } from "./write-request.ts";
import { createWriteStream, type WriteStreamOptions } from "./write-stream.ts";

export { EAGAIN };

export interface WriteResult<B = Uint8Array> {
  readonly bytesWritten: number;
  readonly buffer: B;
}

/** Options of `writeFile` and `appendFile`. */
export interface WriteFileOptions {
  encoding?: Encoding;
  readonly mode?: string | number | undefined;
  readonly flag?: string | number | undefined;
  /** Make it durable before the promise resolves. */
  readonly flush?: boolean | null | undefined;
  signal?: AbortSignal | undefined;
}

/** What can be written as a whole: text, bytes, or pieces of either. */
export type WriteData =
  | string
  | ArrayBufferView
  | Iterable<string | ArrayBufferView>
  | AsyncIterable<string | ArrayBufferView>;

function isIterable(data: unknown): data is Iterable<unknown> {
  return (
    typeof data === "object" &&
    data !== null &&
    (Symbol.iterator in data || Symbol.asyncIterator in data)
  );
}

/** Throws for what `writeFile` cannot write, and for text in no encoding, before it begins. */
export function checkWriteData(data: unknown, options: WriteFileOptions): void {
  if (options.flush !== null) checkFlag(options, "flush");
  if (ArrayBuffer.isView(data) || isIterable(data)) return;
  const kinds = "of type string or an instance of Buffer, TypedArray, or DataView";
  if (typeof data !== "string") throw invalidArgType("data", kinds, data);
  checkTextEncoding(options.encoding);
}

/** One part of what is written: bytes, text, or whatever else `Buffer.from` makes bytes of. */
function bytesOfPart(part: unknown, encoding: Encoding): Uint8Array {
  if (ArrayBuffer.isView(part)) return viewOf(part);
  if (typeof part === "string") return bytesOfText(part, encoding || "utf8");
  if (typeof Buffer !== "function") throw invalidArgType("data", "of type string", part);
  return Buffer.from(part as string, encoding as BufferEncoding);
}

/** The flags of `write` that come from how the file was opened. */
function iocbFlags(flags: number): number {
  let iocb = (flags & O_APPEND) !== 0 ? IOCB_APPEND : 0;
  if ((flags & O_SYNC) === O_SYNC) iocb |= IOCB_DSYNC | IOCB_SYNC;
  else if ((flags & O_DSYNC) !== 0) iocb |= IOCB_DSYNC;
  return iocb;
}

export class FileHandle extends FileReads {
  /**
   * Writes `data` at the position given or where the last call ended. All of Node's forms:
   * `(buffer, offset, length, position)`, `(buffer, options)`, `(text, position, encoding)`. What
   * fits is written, at least one byte; `bytesWritten` says how much.
   */
  async write<B extends ArrayBufferView | string>(
    data: B,
    offsetOrOptions?: number | bigint | WriteOptions | null,
    lengthOrEncoding?: number | string | null,
    position?: number | bigint | null,
  ): Promise<WriteResult<B>> {
    this.checkOpen("write");
    if (ArrayBuffer.isView(data) && data.byteLength === 0) return { bytesWritten: 0, buffer: data };
    const { from, positionBytes } = writeRequest(data, offsetOrOptions, lengthOrEncoding, position);
    return { bytesWritten: await this.#writeAt(from, positionBytes), buffer: data };
  }

  /**
   * Writes what fits without waiting: the bytes written, or `EAGAIN` (-11) if a page is missing or
   * in use, memory is short or the handle is at work. Makes no promise (`IOCB_NOWAIT`).
   */
  writeSync(
    data: ArrayBufferView | string,
    offsetOrOptions?: number | bigint | WriteOptions | null,
    lengthOrEncoding?: number | string | null,
    position?: number | bigint | null,
  ): number {
    this.checkOpen("write");
    if (ArrayBuffer.isView(data) && data.byteLength === 0) return 0;
    const { from, positionBytes } = writeRequest(data, offsetOrOptions, lengthOrEncoding, position);
    if (positionBytes !== undefined) return this.#writeNow(from, positionBytes)[0];
    if (!this.positionLock.tryLock()) return EAGAIN;
    try {
      const [count, endBytes] = this.#writeNow(from, this.positionBytes);
      if (count > 0) this.positionBytes = endBytes;
      return count;
    } finally {
      this.positionLock.unlock();
    }
  }

  /** Writes `buffers` one after the other. */
  async writev<B extends ArrayBufferView = Uint8Array>(
    buffers: readonly B[],
    position?: number | bigint | null,
  ): Promise<{ bytesWritten: number; buffers: readonly B[] }> {
    this.checkOpen("writev");
    let at = writevPosition(buffers, position);
    let bytesWritten = 0;
    for (const buffer of buffers) {
      if (buffer.byteLength === 0) continue;
      const count = await this.#writeAt(viewOf(buffer), at);
      bytesWritten += count;
      if (at !== undefined) at += count;
      if (count < buffer.byteLength) break;
    }
    return { bytesWritten, buffers };
  }

  /** Writes all of `data` from the position on; what is behind it stays. */
  async writeFile(data: WriteData, options?: WriteFileOptions | Encoding): Promise<void> {
    this.checkOpen("writeFile");
    const given = optionsOf<WriteFileOptions>(options);
    checkWriteData(data, given);
    if (typeof data === "string" || ArrayBuffer.isView(data)) {
      await this.#writeAll(data, given);
    } else {
      for await (const part of data) await this.#writeAll(part, given);
    }
    if (given.flush === true) await this.sync();
  }

  /** As `writeFile`: where it goes was decided when the file was opened. */
  async appendFile(data: WriteData, options?: WriteFileOptions | Encoding): Promise<void> {
    await this.writeFile(data, options);
  }

  /** Cuts the file to `lengthBytes`, or lets it grow to that with a hole. The position stays. */
  async truncate(lengthBytes = 0): Promise<void> {
    this.checkOpen("ftruncate");
    const size = checkInteger(lengthBytes, "len", Number.MIN_SAFE_INTEGER);
    const where = { syscall: "ftruncate" };
    if (!this.mayWrite || this.file === null) throw new FsError("EINVAL", where);
    await this.#change("ftruncate", (writer) =>
      andThen(this.dropPrivileges(), () => writer.setSize(this.inode, Math.max(0, size))),
    );
  }

  /**
   * Gives a range its blocks, or takes some away: `mode` is 0 or of the `FALLOC_FL_*`
   * (`fallocate(2)`).
   */
  async fallocate(mode: number, offsetBytes: number, lengthBytes: number): Promise<void> {
    this.checkOpen("fallocate");
    checkInteger(mode, "mode");
    checkInteger(offsetBytes, "offset");
    checkInteger(lengthBytes, "length");
    if (!this.mayWrite || this.file === null) throw new FsError("EBADF", { syscall: "fallocate" });
    await this.#change("fallocate", (writer) =>
      andThen(this.dropPrivileges(), () =>
        writer.fallocate(this.inode, mode, offsetBytes, lengthBytes),
      ),
    );
  }

  async chmod(mode: string | number): Promise<void> {
    this.checkOpen("fchmod");
    const bits = checkMode(mode, "mode") & PERMISSION_BITS;
    this.owner.checkOwner(this.inode, "fchmod");
    await this.#change("fchmod", (writer) => writer.setAttributes(this.inode, { mode: bits }));
  }

  async chown(uid: number, gid: number): Promise<void> {
    this.checkOpen("fchown");
    checkOwnerId(uid, "uid");
    checkOwnerId(gid, "gid");
    this.owner.checkChown(this.inode, uid, gid, "fchown");
    const { privileges } = this.owner;
    await this.#change("fchown", (writer) =>
      andThen(privileges.chowning(this.inode, uid, gid), (change) =>
        writer.setAttributes(this.inode, change),
      ),
    );
  }

  async utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    this.checkOpen("futimes");
    const { clock } = this.owner;
    const changeOf = (): AttributeChange => ({
      atime: timeOf(atime, "atime", clock),
      mtime: timeOf(mtime, "mtime", clock),
    });
    const change = this.owner.located("futime", changeOf) as AttributeChange;
    this.owner.checkOwner(this.inode, "futime");
    await this.#change("futime", (writer) => writer.setAttributes(this.inode, change));
  }

  /**
   * Makes all of the file durable, and the name that it was made under (`fsync`). Throws each error
   * of earlier write-back once; what could not be written is tried again by the next call.
   */
  async sync(): Promise<void> {
    this.checkOpen("fsync");
    await this.#sync("fsync", false);
  }

  /** As `sync`, but only what is needed to read the data back (`fdatasync`). */
  async datasync(): Promise<void> {
    this.checkOpen("fdatasync");
    await this.#sync("fdatasync", true);
  }

  /** A stream that writes from `start` or the position on (Node only). */
  createWriteStream(options?: WriteStreamOptions): ReturnType<typeof createWriteStream> {
    return createWriteStream(this, options);
  }

  async #sync(syscall: string, isDataOnly: boolean): Promise<void> {
    const { writer } = this.owner;
    if (writer === undefined) return;
    const { inode, file } = this;
    await this.inUse(
      Promise.resolve(this.owner.located(syscall, () => writer.fsync(inode, file, isDataOnly))),
    );
  }

  async #change(
    syscall: string,
    change: (writer: FileSystemWriter) => MaybeAsync<void>,
  ): Promise<void> {
    const writer = this.writer(syscall);
    await this.inUse(Promise.resolve(this.owner.located(syscall, () => change(writer))));
    this.owner.changes.changed(this.place, this.inode.ino);
  }

  async #writeAll(data: unknown, options: WriteFileOptions): Promise<void> {
    const bytes = bytesOfPart(data, options.encoding);
    for (let done = 0; done < bytes.length; ) {
      options.signal?.throwIfAborted();
      done += await this.#writeAt(bytes.subarray(done), undefined, options.signal);
    }
    options.signal?.throwIfAborted();
  }

  /**
   * Writes at `positionBytes`, or at the position of the handle, one such write after the other.
   */
  async #writeAt(
    from: Uint8Array,
    positionBytes: number | undefined,
    signal?: AbortSignal,
  ): Promise<number> {
    if (!this.mayWrite || this.file === null) throw new FsError("EBADF", { syscall: "write" });
    if (from.length === 0) return 0;
    if (positionBytes !== undefined)
      return this.#writeTo(this.#iocbAt(positionBytes, signal), from);
    let written = 0;
    const moving = this.atPosition(async (at) => {
      const iocb = this.#iocbAt(at, signal);
      written = await this.#writeTo(iocb, from);
      return iocb.posBytes - at;
    }, signal);
    if (isPromise(moving)) await moving;
    return written;
  }

  /** Bytes written or `EAGAIN`, and where the write ended. */
  #writeNow(from: Uint8Array, posBytes: number): readonly [count: number, endBytes: number] {
    if (!this.mayWrite || this.file === null) throw new FsError("EBADF", { syscall: "write" });
    const iocb = this.#iocbAt(posBytes, undefined);
    if ((iocb.flags & IOCB_DSYNC) !== 0) return [EAGAIN, posBytes];
    iocb.flags |= IOCB_NOWAIT;
    const dropped = this.owner.located("write", () => this.dropPrivileges());
    if (isPromise(dropped)) {
      dropped.catch(() => undefined); // Who writes again meets it.
      return [EAGAIN, posBytes];
    }
    const count = this.owner.located("write", () => this.writer("write").write(iocb, from));
    if (isPromise(count)) {
      throw new FsError("EIO", { syscall: "write", detail: "a NOWAIT write waited" });
    }
    if (count < 0 && count !== EAGAIN) throw FsError.of(count, { syscall: "write" });
    if (count > 0) this.owner.changes.changed(this.place, this.inode.ino);
    return [count, iocb.posBytes];
  }

  #iocbAt(posBytes: number, signal: AbortSignal | undefined): Kiocb {
    return { file: this.file!, posBytes, flags: iocbFlags(this.flags), signal };
  }

  async #writeTo(iocb: Kiocb, from: Uint8Array): Promise<number> {
    const writer = this.writer("write");
    const count = this.owner.located("write", () =>
      andThen(this.dropPrivileges(), () => writer.write(iocb, from)),
    );
    const written = isPromise(count) ? await this.inUse(count) : count;
    if (written < 0) throw FsError.of(written, { syscall: "write" });
    this.owner.changes.changed(this.place, this.inode.ino);
    return written;
  }
}
