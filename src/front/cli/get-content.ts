/**
 * Content of extracted files: from the volume's cache to open files of the machine.
 *
 *     small   fetch   fetch   fetch     many at once, so that reads of neighbours merge below
 *               |       |       |
 *             store   store   store     one after the other, all bytes of a file in one write
 *
 *     large   copy: a chunk is written from the cache, while readahead brings the next ones
 *
 * Holes stay holes: only what `dataSegments` tells is read and written.
 */
import { ftruncateSync, writevSync } from "node:fs";
import type { CacheFile } from "../../cache/cache-file.ts";
import { filemapRead } from "../../cache/filemap.ts";
import { FolioPipe, filemapSpliceRead } from "../../cache/filemap-splice.ts";
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import { KIB, MIB } from "../../lib/units.ts";
import { readErrorOf } from "../read-error.ts";
import { dataSegments } from "../tree/data-segments.ts";

const CHUNK_BYTES = MIB;

/** Files up to this size are fetched as a whole. */
export const SMALL_BYTES_MAX: number = 64 * KIB;

/** Bytes of a file, and where they belong. */
interface Piece {
  readonly posBytes: number;
  readonly bytes: Uint8Array;
}

/** The content of a small file in memory. */
export interface Content {
  readonly sizeBytes: number;
  /** Ascending; holes between them. */
  readonly pieces: readonly Piece[];
}

/** See the head of the file. `spend` is told of bytes before they are written, and may throw. */
export class ContentCopier {
  readonly #fs: FileSystem;
  readonly #signal: AbortSignal;
  readonly #spend: (bytes: number) => void;

  constructor(fs: FileSystem, signal: AbortSignal, spend: (bytes: number) => void) {
    this.#fs = fs;
    this.#signal = signal;
    this.#spend = spend;
  }

  /**
   * Reads all of a small file, which messages call `name`.
   *
   * @throws {FsError} what opening, seeking and reading throw
   */
  async fetch(inode: VfsInode, name: string): Promise<Content> {
    const sizeBytes = inode.size;
    const file = await this.#fs.openFile(inode, this.#signal);
    const pieces: Piece[] = [];
    for (const [start, end] of await dataSegments(this.#fs, inode, this.#signal)) {
      const bytes = Buffer.allocUnsafe(Math.min(end, sizeBytes) - start);
      const count = await this.#readFully(file, start, bytes, name);
      pieces.push({ posBytes: start, bytes: bytes.subarray(0, count) });
    }
    return { sizeBytes, pieces };
  }

  /** Writes what `fetch` has read into the new file `fd`. */
  store({ sizeBytes, pieces }: Content, fd: number): void {
    let endBytes = 0;
    for (const { posBytes, bytes } of pieces) {
      this.#spend(bytes.length);
      writeFully(fd, [bytes], bytes.length, posBytes);
      endBytes = posBytes + bytes.length;
    }
    if (endBytes !== sizeBytes) ftruncateSync(fd, sizeBytes);
  }

  /**
   * Copies all of a file of any size, which messages call `name`, into the new file `fd`.
   *
   * @throws {FsError} as `fetch`; what came before the error is written then
   */
  async copy(inode: VfsInode, fd: number, name: string): Promise<void> {
    const file = await this.#fs.openFile(inode, this.#signal);
    const pipe = new FolioPipe();
    for (const [start, end] of await dataSegments(this.#fs, inode, this.#signal)) {
      const iocb = { file, posBytes: start, flags: 0, signal: this.#signal };
      while (iocb.posBytes < end) {
        const at = iocb.posBytes;
        try {
          const count = await filemapSpliceRead(iocb, Math.min(CHUNK_BYTES, end - at), pipe);
          if (count === 0) break;
          this.#check(file, count, at, name);
          this.#spend(count);
          writeFully(fd, pipe.views, count, at);
        } finally {
          pipe.release();
        }
      }
    }
    ftruncateSync(fd, inode.size);
  }

  async #readFully(
    file: CacheFile,
    posBytes: number,
    into: Uint8Array,
    name: string,
  ): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const count = await this.#read(file, posBytes + done, into.subarray(done), name);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  async #read(file: CacheFile, posBytes: number, into: Uint8Array, name: string): Promise<number> {
    const count = await filemapRead({ file, posBytes, flags: 0, signal: this.#signal }, into);
    this.#check(file, count, posBytes, name);
    return count;
  }

  /** Throws the error that `count`, what a read has returned, is. */
  #check(file: CacheFile, count: number, posBytes: number, name: string): void {
    if (count >= 0) return;
    this.#signal.throwIfAborted();
    throw readErrorOf(file, count, posBytes, name);
  }
}

/** Writes `views`, which are `lengthBytes` long together. */
function writeFully(
  fd: number,
  views: readonly Uint8Array[],
  lengthBytes: number,
  positionBytes: number,
): void {
  let rest = views;
  for (let done = 0; done < lengthBytes; ) {
    const count = writevSync(fd, rest, positionBytes + done);
    rest = withoutFirst(rest, count);
    done += count;
  }
}

/** `views` without their first `countBytes` bytes. */
function withoutFirst(views: readonly Uint8Array[], countBytes: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = countBytes;
  for (const view of views) {
    if (skip < view.length) rest.push(view.subarray(skip));
    skip = Math.max(0, skip - view.length);
  }
  return rest;
}
