/**
 * A file that an image is being made in, under a name of its own until it is whole, and a store
 * over it that does each call at once.
 *
 *     .NAME.quire-PID --> written, synced --> NAME
 *
 *  1. NAME is there as a whole or not at all; what was there before stays until then.
 *  2. Calls of the store are done when they return. So the order of everything that is written, and
 *     with it each byte of the image, depends on nothing but the input.
 *  3. Zeros that are written where nothing is yet make no blocks.
 *  4. What was written goes to the disk while more is made, so that the end has little to wait for.
 */
import {
  closeSync,
  fdatasync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readvSync,
  renameSync,
  rmSync,
  writevSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { isZero } from "../../lib/bytes.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { MIB, SECTOR_BYTES } from "../../lib/units.ts";
import type { Store, StoreCapabilities } from "../../store/store.ts";

const CAPABILITIES: StoreCapabilities = {
  canWrite: true,
  canDiscard: false,
  hasFua: false,
  stableWrites: false,
  hasVolatileCache: false,
  blockBytes: SECTOR_BYTES,
};
const VECTORS_MAX = 1024;
/** Invariant 4: begun anew after so much. */
const EARLY_BYTES = 32 * MIB;

/** Where an image that gets the name `path` is while it is made. */
export function temporaryOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.quire-${process.pid}`);
}

/** See the head of the file. */
export class NewImage {
  readonly #path: string;
  readonly #temporary: string;
  readonly #fd: number;
  readonly #early: EarlySync;
  #isOpen = true;

  /** Makes the file, empty. Throws what opening it throws: `ENOENT`, `EACCES`, `EEXIST`. */
  constructor(path: string) {
    this.#path = path;
    this.#temporary = temporaryOf(path);
    try {
      this.#fd = openSync(this.#temporary, "wx+", 0o666);
    } catch (cause) {
      throw hostError(cause, "open", path);
    }
    this.#early = new EarlySync(this.#fd);
  }

  /** A store of `sizeBytes` zeros; what an earlier one held is gone. */
  store(sizeBytes: number): Store {
    ftruncateSync(this.#fd, 0);
    ftruncateSync(this.#fd, sizeBytes);
    return this.again(sizeBytes);
  }

  /** One more store over what is there. */
  again(sizeBytes: number): Store {
    return new DirectStore(this.#fd, sizeBytes, this.#path, this.#early);
  }

  /** Makes all durable and gives it its name. */
  async finish(): Promise<void> {
    const failure = await this.#early.end();
    if (failure !== null) throw hostError(failure, "fdatasync", this.#path);
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    this.#isOpen = false;
    renameSync(this.#temporary, this.#path);
  }

  /** Takes the file away, unless it is finished. */
  async discard(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#early.end();
    closeSync(this.#fd);
    rmSync(this.#temporary, { force: true });
  }
}

/** Invariant 4. The system tells of an error once, so the first one is kept for the end. */
class EarlySync {
  readonly #fd: number;
  #newBytes = 0;
  #running: Promise<void> | undefined;
  #failure: NodeJS.ErrnoException | null = null;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** So much more was written. */
  wrote(bytes: number): void {
    this.#newBytes += bytes;
    if (this.#newBytes < EARLY_BYTES || this.#running !== undefined) return;
    this.#newBytes = 0;
    this.#running = new Promise((resolve) => {
      fdatasync(this.#fd, (failure) => {
        this.#failure ??= failure;
        this.#running = undefined;
        resolve();
      });
    });
  }

  /** Waits until nothing is under way, and returns what has failed. */
  async end(): Promise<NodeJS.ErrnoException | null> {
    await this.#running;
    return this.#failure;
  }
}

function hostError(cause: unknown, syscall: string, path: string): unknown {
  if (!hasErrnoCode(cause)) return cause;
  return new FsError(cause.code, { syscall, path, cause });
}

/** A list of arrays from its byte `done` on. */
function rest(buffers: readonly Uint8Array[], done: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let skip = done;
  for (const buffer of buffers) {
    if (skip < buffer.length && left.length < VECTORS_MAX) left.push(buffer.subarray(skip));
    skip = Math.max(0, skip - buffer.length);
  }
  return left;
}

/** Invariant 2. */
class DirectStore implements Store {
  readonly name: string;
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities = CAPABILITIES;
  readonly #fd: number;
  readonly #early: EarlySync;

  constructor(fd: number, sizeBytes: number, name: string, early: EarlySync) {
    this.#fd = fd;
    this.#early = early;
    this.sizeBytes = sizeBytes;
    this.name = name;
  }

  async read(offsetBytes: number, into: Uint8Array | readonly Uint8Array[]): Promise<void> {
    this.#all(readvSync, "read", offsetBytes, into);
  }

  async write(offsetBytes: number, from: Uint8Array | readonly Uint8Array[]): Promise<void> {
    this.#early.wrote(this.#all(writevSync, "write", offsetBytes, from));
  }

  /** Nothing: what is not finished need not be durable. */
  async flush(): Promise<void> {}

  async discard(): Promise<void> {}

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    const piece = new Uint8Array(Math.min(lengthBytes, MIB));
    for (let at = 0; at < lengthBytes; at += piece.length) {
      const part = piece.subarray(0, Math.min(piece.length, lengthBytes - at));
      this.#all(readvSync, "read", offsetBytes + at, part);
      if (isZero(part)) continue;
      part.fill(0);
      this.#all(writevSync, "write", offsetBytes + at, part);
    }
  }

  /** The file stays open: it is `NewImage`'s. */
  async close(): Promise<void> {}

  /** Does it all; returns the bytes. */
  #all(
    call: typeof readvSync,
    syscall: string,
    offsetBytes: number,
    buffers: Uint8Array | readonly Uint8Array[],
  ): number {
    const list = buffers instanceof Uint8Array ? [buffers] : buffers;
    const total = list.reduce((sum, { length }) => sum + length, 0);
    for (let done = 0; done < total; ) {
      let count: number;
      try {
        count = call(this.#fd, rest(list, done), offsetBytes + done);
      } catch (cause) {
        throw hostError(cause, syscall, this.name);
      }
      if (count === 0) throw new FsError("EIO", { syscall, path: this.name });
      done += count;
    }
    return total;
  }
}

/** A store that forgets what is written: for finding out what would become of it. */
export class ForgetfulStore implements Store {
  readonly name = "nowhere";
  readonly sizeBytes: number;
  readonly capabilities: StoreCapabilities = CAPABILITIES;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  async read(_offsetBytes: number, into: Uint8Array | readonly Uint8Array[]): Promise<void> {
    for (const buffer of into instanceof Uint8Array ? [into] : into) buffer.fill(0);
  }
  async write(): Promise<void> {}
  async flush(): Promise<void> {}
  async discard(): Promise<void> {}
  async writeZeroes(): Promise<void> {}
  async close(): Promise<void> {}
}
