/**
 * Buffered writes: bytes go into folios of the cache, which become dirty block by block; the device
 * hears of them later.
 *
 *     mapping at hand --> throttle --> source in memory --> iomapWriteBegin --> copy
 *            ^                                                                   |
 *            |     size of the file, folio unlocked  <--------- iomapWriteEnd ---+
 *            +----- as long as the mapping reaches
 *
 *  1. A write of what is cached makes no promise and nothing per folio but one view of the source.
 *  2. Nothing is awaited between lock and unlock of a folio, save reads of what the write leaves in
 *     its blocks.
 *  3. The file grows while the folio is locked that has its new end: else write-out could zero what
 *     lies behind the old one.
 *  4. A short copy into half a block counts as nothing, and is tried again with what there was.
 *  5. What was written counts, whatever came after it: an error is returned only if nothing was.
 *
 * Under the inode's `rwsem`, held for writing by the caller, who has also zeroed the gap between
 * the end of the file and the write (`iomapZeroRange`), and who makes the bytes durable.
 *
 * After `iomap_file_buffered_write` in `fs/iomap/buffered-io.c` of Linux.
 */

import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { IOCB_NOWAIT, type Kiocb } from "../../cache/kiocb.ts";
import { balanceDirtyPagesRatelimited } from "../../cache/throttle.ts";
import { pagecacheIsizeExtended, truncateInodePagesRange } from "../../cache/truncate.ts";
import { AssertionError } from "../../lib/assert.ts";
import { EAGAIN, type Errno, FsError, hasErrnoCode } from "../../lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { PAGE_BYTES } from "../../lib/units.ts";
import {
  IOMAP_F_SIZE_CHANGED,
  IOMAP_F_STALE,
  IOMAP_NOWAIT,
  IOMAP_WRITE,
  type IomapOps,
} from "./iomap.ts";
import {
  createIomapIter,
  type IomapIter,
  iomapIterAdvance,
  iomapIterate,
  iomapLength,
} from "./iter.ts";
import {
  type IomapWriteContext,
  iomapPutFolio,
  iomapWriteBegin,
  iomapWriteEnd,
} from "./write-begin.ts";
import type { IomapWriteOps, IomapWriteSource } from "./write-ops.ts";

/**
 * Writes `bytes` to the file at `iocb.posBytes`, which moves on, through the cache
 * (`iomap_file_buffered_write`). Memory is borrowed until the return.
 *
 * Returns how many were written: fewer only after an error, which the next call meets again. With
 * `IOCB_NOWAIT` it returns at once, `-EAGAIN` if nothing could be written without waiting.
 *
 * @throws {FsError} if nothing was written: what `ops` and `writeOps` throw, `EFAULT` for a source
 *   without bytes, `EINTR` once the signal is aborted, `ENOMEM`, `EIO` for a block that cannot be
 *   read
 */
export function iomapFileBufferedWrite<I extends Inode>(
  iocb: Kiocb,
  bytes: Uint8Array | IomapWriteSource,
  ops: IomapOps<I>,
  writeOps?: IomapWriteOps,
): MaybeAsync<number> {
  const { mapping } = iocb.file;
  const write = new BufferedWrite(iocb, bytes, writeOps);
  const extended = pagecacheIsizeExtended(mapping, mapping.host.size, iocb.posBytes);
  if (!isPromise(extended)) return write.run(ops);
  return (iocb.flags & IOCB_NOWAIT) !== 0 ? -EAGAIN : extended.then(() => write.run(ops));
}

/** One call of `iomapFileBufferedWrite`. */
class BufferedWrite implements IomapWriteContext {
  readonly mapping: AddressSpace;
  readonly writeOps: IomapWriteOps | undefined;
  readonly isNowait: boolean;
  readonly signal: AbortSignal | undefined;
  readonly #iocb: Kiocb;
  readonly #startPosBytes: number;
  readonly #bytes: Uint8Array | IomapWriteSource;
  /** Largest folio to hope for; less after a short copy. A power of two. */
  #chunkBytes = 0;
  #wouldBlock = false;
  /** Bytes for which a folio was asked for and not had yet. */
  #begunBytes = 0;

  constructor(
    iocb: Kiocb,
    bytes: Uint8Array | IomapWriteSource,
    writeOps: IomapWriteOps | undefined,
  ) {
    this.#iocb = iocb;
    this.#bytes = bytes;
    this.#startPosBytes = iocb.posBytes;
    this.mapping = iocb.file.mapping;
    this.writeOps = writeOps;
    this.isNowait = (iocb.flags & IOCB_NOWAIT) !== 0;
    this.signal = iocb.signal;
  }

  run<I extends Inode>(ops: IomapOps<I>): MaybeAsync<number> {
    const { mapping } = this;
    const lengthBytes =
      this.#bytes instanceof Uint8Array ? this.#bytes.length : this.#bytes.lengthBytes;
    const iter = createIomapIter({
      inode: mapping.host as I, // `ops` are those of the mapping's own file system.
      posBytes: this.#startPosBytes,
      lengthBytes,
      flags: this.isNowait ? IOMAP_WRITE | IOMAP_NOWAIT : IOMAP_WRITE,
      trace: mapping.cache.trace,
      clock: mapping.cache.clock,
    });
    let done: MaybeAsync<void>;
    try {
      done = iomapIterate(iter, ops, (at) => this.#writeMapping(at));
    } catch (thrown) {
      return this.#finish(iter, thrown);
    }
    if (!isPromise(done)) return this.#finish(iter, null);
    return done.then(
      () => this.#finish(iter, null),
      (thrown: unknown) => this.#finish(iter, thrown),
    );
  }

  /** Rule 5. */
  #finish(iter: IomapIter, thrown: unknown): number {
    if (thrown instanceof AssertionError) throw thrown;
    this.#iocb.posBytes = iter.posBytes;
    const countBytes = iter.posBytes - this.#startPosBytes;
    if (countBytes > 0) return countBytes;
    if (thrown === null) return this.#wouldBlock ? -EAGAIN : 0;
    if (this.isNowait && hasErrnoCode(thrown) && thrown.code === "EAGAIN") return -EAGAIN;
    throw thrown;
  }

  /** Works through the mapping at hand (`iomap_write_iter`). */
  #writeMapping(iter: IomapIter): MaybeAsync<void> {
    this.#chunkBytes = PAGE_BYTES * 2 ** this.mapping.maxOrder;
    try {
      while (iomapLength(iter) > 0) {
        const goesOn = this.#writeChunk(iter);
        if (isPromise(goesOn)) return this.#writeOnAsync(iter, goesOn);
        if (!goesOn) return;
      }
    } catch (thrown) {
      return this.#giveUp(iter, thrown);
    }
  }

  /** The loop of `#writeMapping` once a chunk had to wait. */
  async #writeOnAsync(iter: IomapIter, first: Promise<boolean>): Promise<void> {
    try {
      let goesOn = await first;
      while (goesOn && iomapLength(iter) > 0) {
        const next = this.#writeChunk(iter);
        goesOn = isPromise(next) ? await next : next;
      }
    } catch (thrown) {
      await this.#giveUp(iter, thrown);
    }
  }

  /** An error counts only for a mapping in which nothing was written. */
  #giveUp(iter: IomapIter, thrown: unknown): MaybeAsync<void> {
    const begunBytes = this.#begunBytes;
    this.#begunBytes = 0;
    const settle = (): void => {
      const hasProgress = iter.posBytes > iter.iterStartPosBytes;
      if (thrown instanceof AssertionError || !hasProgress) throw thrown;
    };
    if (begunBytes === 0 || this.isNowait) return settle();
    return andThen(this.#dropBehindEof(iter, begunBytes), settle);
  }

  /** Writes at most a folio; false if there is nothing more to do in this mapping. */
  #writeChunk(iter: IomapIter): MaybeAsync<boolean> {
    const roomBytes = this.#chunkBytes - (iter.posBytes % this.#chunkBytes);
    return this.#writePiece(iter, Math.min(roomBytes, iomapLength(iter)));
  }

  #writePiece(iter: IomapIter, lengthBytes: number): MaybeAsync<boolean> {
    const status = balanceDirtyPagesRatelimited(this.mapping, this.signal, this.isNowait);
    return isPromise(status)
      ? status.then((known) => this.#getSource(iter, lengthBytes, known))
      : this.#getSource(iter, lengthBytes, status);
  }

  /** Gets the bytes into memory, before any folio is locked. */
  #getSource(iter: IomapIter, lengthBytes: number, status: Errno): MaybeAsync<boolean> {
    if (status !== 0) return this.#refuse(iter, status);
    if (this.#bytes instanceof Uint8Array) return this.#begin(iter, lengthBytes);
    const ready = this.#bytes.prepare(iter.posBytes - this.#startPosBytes, lengthBytes);
    const use = (readyBytes: number): MaybeAsync<boolean> => {
      if (readyBytes <= 0) throw new FsError("EFAULT", { detail: "the source has no bytes" });
      return this.#begin(iter, lengthBytes);
    };
    if (!isPromise(ready)) return use(ready);
    return this.isNowait ? this.#refuse(iter, -EAGAIN) : ready.then(use);
  }

  #begin(iter: IomapIter, lengthBytes: number): MaybeAsync<boolean> {
    this.#begunBytes = lengthBytes;
    const folio = iomapWriteBegin(iter, this, lengthBytes);
    return isPromise(folio)
      ? folio.then((had) => this.#fill(iter, lengthBytes, had))
      : this.#fill(iter, lengthBytes, folio);
  }

  #fill(iter: IomapIter, lengthBytes: number, folio: Folio | Errno): MaybeAsync<boolean> {
    this.#begunBytes = 0;
    if (typeof folio === "number") return this.#refuse(iter, folio);
    const { inode, posBytes } = iter;
    const fromBytes = posBytes - folio.posBytes;
    const wantedBytes = Math.min(lengthBytes, folio.sizeBytes - fromBytes);
    let copiedBytes = 0;
    let writtenBytes = 0;
    try {
      copiedBytes = this.#copy(folio, fromBytes, wantedBytes, posBytes - this.#startPosBytes);
      writtenBytes = iomapWriteEnd(iter, folio, wantedBytes, copiedBytes);
      if (writtenBytes > 0 && posBytes + writtenBytes > inode.size) {
        inode.size = posBytes + writtenBytes;
        iter.iomap.flags |= IOMAP_F_SIZE_CHANGED;
      }
    } finally {
      iomapPutFolio(iter, this, writtenBytes, folio);
    }
    if (writtenBytes === 0) return this.#tryAgain(iter, wantedBytes, copiedBytes);
    iomapIterAdvance(iter, writtenBytes);
    return true;
  }

  /** No folio: the mapping is stale (0), or there would have to be a wait. */
  #refuse(iter: IomapIter, status: Errno): boolean {
    if (status !== 0 && status !== -EAGAIN) throw FsError.of(status);
    if (!this.isNowait) return false; // Stale: the iterator asks again.
    iter.iomap.flags &= ~IOMAP_F_STALE;
    this.#wouldBlock = true;
    return false;
  }

  #copy(folio: Folio, toBytes: number, countBytes: number, sourceBytes: number): number {
    const { bytes } = folio;
    const source = this.#bytes;
    if (!(source instanceof Uint8Array)) {
      return source.copy(sourceBytes, bytes.subarray(toBytes, toBytes + countBytes));
    }
    const isAll = sourceBytes === 0 && countBytes === source.length;
    bytes.set(isAll ? source : source.subarray(sourceBytes, sourceBytes + countBytes), toBytes);
    return countBytes;
  }

  /** Rule 4: after a copy that counts as nothing. */
  #tryAgain(iter: IomapIter, wantedBytes: number, copiedBytes: number): MaybeAsync<boolean> {
    const isHopeless = copiedBytes === 0 && this.#chunkBytes === PAGE_BYTES;
    if (this.#chunkBytes > PAGE_BYTES) this.#chunkBytes /= 2;
    return andThen(this.#dropBehindEof(iter, wantedBytes), () => {
      if (isHopeless) throw new FsError("EFAULT", { detail: "the source gives no bytes" });
      return copiedBytes > 0 ? this.#writePiece(iter, copiedBytes) : true;
    });
  }

  /** Takes folios out that were made for bytes behind the file's end (`iomap_write_failed`). */
  #dropBehindEof(iter: IomapIter, lengthBytes: number): MaybeAsync<void> {
    const endBytes = iter.posBytes + lengthBytes;
    const { size } = iter.inode;
    if (endBytes <= size) return;
    return truncateInodePagesRange(this.mapping, Math.max(iter.posBytes, size), endBytes - 1);
  }
}
