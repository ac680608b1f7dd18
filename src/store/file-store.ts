/**
 * FileStore: an image in a file, or a block device, of the machine. Needs Node.
 *
 *     openFileStore(path)                        O_RDONLY; never creates, never truncates
 *     openFileStore(path, { writable: true })    O_RDWR; a block device only if it is not mounted
 *
 * One call of the store is one `preadv` or `pwritev` unless it has more vectors or bytes than the
 * system takes at once, or the system does less than asked: then it goes on where that stopped. The
 * end of the file inside the store means that somebody has cut the file since it was opened: `EIO`.
 *
 * The system cannot be told to stop a transfer and goes on filling the caller's arrays. So an
 * aborted call settles only when the step in flight is done.
 *
 * Left out: `O_DIRECT` and `fallocate`, which Node does not offer. So `discard` does nothing, and
 * `writeZeroes` leaves alone what is zero already, which keeps holes.
 */
import { constants, readv, writev } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { isZero } from "../lib/bytes.ts";
import { FsError, hasErrnoCode } from "../lib/errno.ts";
import { GIB, MIB, PAGE_BYTES, roundDown, SECTOR_BYTES } from "../lib/units.ts";
import { deviceSizeBytes } from "./device-size.ts";
import { DurableDescriptor } from "./durable-descriptor.ts";
import { claimFile, type Release } from "./file-claim.ts";
import { StoreGuard, type StoreOp } from "./guard.ts";
import {
  type Store,
  type StoreCapabilities,
  type StoreWriteOptions,
  transferBytes,
} from "./store.ts";

/** Reads from here on are split in two. */
const PARALLEL_BYTES_MIN = MIB / 2;

export interface FileStoreOptions {
  /** Opens for writing too. False if left out. */
  readonly writable?: boolean;
  /**
   * Refuses with `EBUSY` a block device that is mounted or opened so by others (`O_EXCL`), and a
   * file that another has open so or that a loop device is made of. As `writable` if left out.
   */
  readonly exclusive?: boolean;
}

/** The system calls of a transfer; they may do less than asked, and say how many bytes they did. */
export interface FileIo {
  /** Vectors that one call takes at most (`IOV_MAX`). */
  readonly vectorsMax: number;
  /** Bytes that one call takes at most; Linux stops at 2 GiB less a page, older systems before. */
  readonly transferBytesMax: number;
  readv(fd: number, into: readonly Uint8Array[], offsetBytes: number): Promise<number>;
  writev(fd: number, from: readonly Uint8Array[], offsetBytes: number): Promise<number>;
}

const systemIo: FileIo = {
  vectorsMax: 1024,
  transferBytesMax: GIB,
  readv: (fd, into, offsetBytes) =>
    new Promise((resolve, reject) => {
      readv(fd, into, offsetBytes, (error, count) => (error ? reject(error) : resolve(count)));
    }),
  writev: (fd, from, offsetBytes) =>
    new Promise((resolve, reject) => {
      writev(fd, from, offsetBytes, (error, count) => (error ? reject(error) : resolve(count)));
    }),
};

/**
 * Opens the regular file or block device at `path`. `io` is for tests.
 *
 * @throws {FsError} `EISDIR` for a directory, `EINVAL` for what is neither file nor block device,
 *   and whatever `open` fails with: `ENOENT`, `EACCES`, `EBUSY`, `EROFS`
 */
export async function openFileStore(
  path: string,
  options: FileStoreOptions = {},
  io: FileIo = systemIo,
): Promise<FileStore> {
  const canWrite = options.writable ?? false;
  let flags = canWrite ? constants.O_RDWR : constants.O_RDONLY;
  const isExclusive = options.exclusive ?? canWrite;
  if (isExclusive) flags |= constants.O_EXCL;
  flags |= constants.O_NONBLOCK ?? 0; // So that a FIFO is refused and not waited for.
  const handle = await open(path, flags).catch((cause: unknown) => {
    throw errorOf(cause, "open", path);
  });
  try {
    const { sizeBytes, isSparse } = await sizeOf(handle, path);
    const release = isExclusive ? await claim(handle, path) : undefined;
    return new FileStore({ handle, path, sizeBytes, isSparse, canWrite, io, release });
  } catch (cause) {
    await handle.close();
    throw errorOf(cause, "open", path);
  }
}

/** Block devices are claimed by the system itself. */
async function claim(handle: FileHandle, path: string): Promise<Release | undefined> {
  const stats = await handle.stat({ bigint: true });
  return stats.isFile() ? claimFile({ path, dev: stats.dev, ino: stats.ino }) : undefined;
}

interface FileSize {
  readonly sizeBytes: number;
  /** It has fewer blocks than bytes. */
  readonly isSparse: boolean;
}

async function sizeOf(handle: FileHandle, path: string): Promise<FileSize> {
  const stats = await handle.stat({ bigint: true });
  if (stats.isFile()) {
    const isSparse = stats.blocks * BigInt(SECTOR_BYTES) < stats.size;
    return { sizeBytes: Number(stats.size), isSparse };
  }
  if (stats.isDirectory()) throw new FsError("EISDIR", { syscall: "open", path });
  if (!stats.isBlockDevice()) {
    const detail = "neither a regular file nor a block device";
    throw new FsError("EINVAL", { syscall: "open", path, detail });
  }
  const sector = new Uint8Array(SECTOR_BYTES);
  const sizeBytes = await deviceSizeBytes(stats.rdev, async (offsetBytes) => {
    return (await handle.read(sector, 0, SECTOR_BYTES, offsetBytes)).bytesRead > 0;
  });
  return { sizeBytes, isSparse: false };
}

interface FileStoreParts {
  readonly handle: FileHandle;
  readonly path: string;
  readonly sizeBytes: number;
  readonly isSparse: boolean;
  readonly canWrite: boolean;
  readonly io: FileIo;
  readonly release?: Release | undefined;
}

/** See the head of the file. Made by `openFileStore`. */
export class FileStore implements Store {
  readonly name: string;
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities;
  readonly #handle: FileHandle;
  /** For writes with `fua`. */
  readonly #durable: DurableDescriptor;
  readonly #io: FileIo;
  readonly #guard: StoreGuard;
  readonly #release: Release | undefined;

  constructor(parts: FileStoreParts) {
    const { handle, path, sizeBytes, canWrite, io } = parts;
    this.#release = parts.release;
    this.name = path;
    this.sizeBytes = sizeBytes;
    this.capabilities = {
      canWrite,
      canDiscard: false,
      hasFua: canWrite,
      stableWrites: false,
      hasVolatileCache: canWrite,
      blockBytes: SECTOR_BYTES,
      allocatesOnWrite: parts.isSparse,
    };
    this.#handle = handle;
    this.#durable = new DurableDescriptor(handle);
    this.#io = io;
    this.#guard = new StoreGuard(path, sizeBytes, canWrite);
  }

  async read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    const lengthBytes = transferBytes(into);
    this.#guard.check("read", offsetBytes, lengthBytes, signal);
    return this.#guard.track(() => {
      if (lengthBytes < PARALLEL_BYTES_MIN) {
        return this.#transfer("read", offsetBytes, into, signal);
      }
      return this.#readInParallel(offsetBytes, lengthBytes, into, signal);
    });
  }

  /** Two halves at once: most of a large read is copying, which two threads do in half the time. */
  async #readInParallel(
    offsetBytes: number,
    lengthBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const buffers = into instanceof Uint8Array ? [into] : into;
    const half = roundDown(lengthBytes / 2, PAGE_BYTES);
    const front = firstOf(buffers, { ...this.#io, transferBytesMax: half, vectorsMax: Infinity });
    const halves = await Promise.allSettled([
      this.#transfer("read", offsetBytes, front, signal),
      this.#transfer("read", offsetBytes + half, withoutFirst(buffers, half), signal),
    ]);
    for (const result of halves) if (result.status === "rejected") throw result.reason;
  }

  async write(
    offsetBytes: number,
    from: Uint8Array | readonly Uint8Array[],
    options: StoreWriteOptions = {},
  ): Promise<void> {
    this.#guard.check("write", offsetBytes, transferBytes(from), options.signal);
    if (options.fua !== true) {
      return this.#guard.track(() => this.#transfer("write", offsetBytes, from, options.signal));
    }
    return this.#guard.track(async () => {
      const fd = await this.#durable.fd();
      await this.#transfer("write", offsetBytes, from, options.signal, fd);
      if (fd === undefined) await this.#sync();
    });
  }

  /** Waits for `fdatasync`; the size never changes, so that is enough. */
  async flush(signal?: AbortSignal): Promise<void> {
    this.#guard.check("flush", 0, 0, signal);
    if (this.capabilities.canWrite) await this.#guard.track(() => this.#sync());
  }

  /** Does nothing: Node offers no `fallocate`. */
  async discard(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#guard.check("discard", offsetBytes, lengthBytes, signal);
  }

  /** Reads the range, and writes zeros in pieces of 1 MiB where there is anything else. */
  async writeZeroes(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#guard.check("writeZeroes", offsetBytes, lengthBytes, signal);
    return this.#guard.track(async () => {
      const scratch = new Uint8Array(Math.min(lengthBytes, MIB));
      const endBytes = offsetBytes + lengthBytes;
      for (let at = offsetBytes; at < endBytes; at += scratch.length) {
        const piece = scratch.subarray(0, Math.min(scratch.length, endBytes - at));
        await this.#transfer("read", at, piece, signal);
        if (isZero(piece)) continue;
        piece.fill(0);
        await this.#transfer("write", at, piece, signal);
      }
    });
  }

  close(): Promise<void> {
    return this.#guard.close(async () => {
      try {
        await this.#durable.close();
        await this.#handle.close();
      } finally {
        await this.#release?.();
      }
    });
  }

  /** Moves all of `buffers` by `fd`, in as many steps as the system makes of it. */
  async #transfer(
    op: "read" | "write",
    offsetBytes: number,
    buffers: Uint8Array | readonly Uint8Array[],
    signal: AbortSignal | undefined,
    fd: number = this.#handle.fd,
  ): Promise<void> {
    let rest = (buffers instanceof Uint8Array ? [buffers] : buffers).filter((b) => b.length > 0);
    let at = offsetBytes;
    while (rest.length > 0) {
      if (signal?.aborted) throw signal.reason;
      const step = firstOf(rest, this.#io);
      const count = await this.#step(op, at, step, fd);
      if (count === 0) throw this.#endError(op, at);
      rest = withoutFirst(rest, count);
      at += count;
    }
  }

  async #step(
    op: "read" | "write",
    at: number,
    step: readonly Uint8Array[],
    fd: number,
  ): Promise<number> {
    try {
      return op === "read"
        ? await this.#io.readv(fd, step, at)
        : await this.#io.writev(fd, step, at);
    } catch (cause) {
      throw errorOf(cause, op, this.name, `${transferBytes(step)} bytes at ${at}`);
    }
  }

  async #sync(): Promise<void> {
    try {
      await this.#handle.datasync();
    } catch (cause) {
      throw errorOf(cause, "flush", this.name);
    }
  }

  #endError(op: "read" | "write", at: number): FsError {
    const detail =
      op === "read"
        ? `the file has been cut to ${at} bytes or less since it was opened with ${this.sizeBytes}`
        : `nothing more could be written at ${at}`;
    return new FsError("EIO", { syscall: op, path: this.name, detail });
  }
}

/** What one system call takes of `buffers`, which are not empty. */
function firstOf(buffers: readonly Uint8Array[], limits: FileIo): Uint8Array[] {
  const step: Uint8Array[] = [];
  let leftBytes = limits.transferBytesMax;
  for (const buffer of buffers) {
    if (leftBytes === 0 || step.length === limits.vectorsMax) break;
    const part = buffer.length <= leftBytes ? buffer : buffer.subarray(0, leftBytes);
    step.push(part);
    leftBytes -= part.length;
  }
  return step;
}

/** `buffers` without their first `countBytes` bytes. */
function withoutFirst(buffers: readonly Uint8Array[], countBytes: number): Uint8Array[] {
  let index = 0;
  let leftBytes = countBytes;
  while (index < buffers.length && leftBytes >= buffers[index]!.length) {
    leftBytes -= buffers[index]!.length;
    index++;
  }
  const rest = buffers.slice(index);
  if (leftBytes > 0) rest[0] = rest[0]!.subarray(leftBytes);
  return rest;
}

/** The system's error in our shape, with its own code where that is one of ours, else `EIO`. */
function errorOf(
  cause: unknown,
  syscall: StoreOp | "open",
  path: string,
  detail?: string,
): FsError {
  if (cause instanceof FsError) return cause;
  return new FsError(hasErrnoCode(cause) ? cause.code : "EIO", { syscall, path, detail, cause });
}
