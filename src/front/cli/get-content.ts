/**
 * Content of extracted files: from the volume's cache to open files of the machine.
 *
 *     small   fetch   fetch   fetch     many at once, so that reads of neighbours merge below
 *               |       |       |
 *             store   store   store     one after the other, all bytes of a file in one write
 *
 *     large   copy: a chunk is read and written, while readahead brings the next ones
 *
 * Holes stay holes: only what `dataSegments` tells is read and written.
 */
import { ftruncateSync, writeSync } from "node:fs";
import type { CacheFile } from "../../cache/cache-file.ts";
import { filemapRead } from "../../cache/filemap.ts";
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
  readonly #chunk: Buffer = Buffer.allocUnsafe(CHUNK_BYTES);

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
      writeFully(fd, bytes, posBytes);
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
    for (const [start, end] of await dataSegments(this.#fs, inode, this.#signal)) {
      for (let at = start; at < end; ) {
        const wanted = Math.min(this.#chunk.length, end - at);
        const count = await this.#read(file, at, this.#chunk.subarray(0, wanted), name);
        if (count === 0) break;
        this.#spend(count);
        writeFully(fd, this.#chunk.subarray(0, count), at);
        at += count;
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
    if (count >= 0) return count;
    this.#signal.throwIfAborted();
    throw readErrorOf(file, count, posBytes, name);
  }
}

function writeFully(fd: number, bytes: Uint8Array, positionBytes: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, bytes.length - done, positionBytes + done);
  }
}
