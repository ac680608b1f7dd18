/**
 * Reading without a copy: the folios themselves, kept until the reader has done with them.
 *
 *     filemapSpliceRead(iocb, 1 MiB, pipe)     pipe.views  [folio 0..15][folio 16..31][ .. 40]
 *     writevSync(fd, pipe.views)               whatever takes arrays of bytes
 *     pipe.release()                           the cache may reuse the memory
 *
 *  1. A view is a part of the cache: who writes to the file, or cuts it, changes what is seen in it
 *     until it is released. For what nobody writes to, it does not change.
 *  2. Kept folios are not evicted: a pipe holds little of the cache, and not for long.
 *
 * After `filemap_splice_read` in `mm/filemap.c` of Linux.
 */
import { EINVAL, type Errno } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import { FILE_BYTES_MAX, PAGE_BYTES } from "../lib/units.ts";
import { filemapGetPages, noteRead } from "./filemap.ts";
import type { Folio } from "./folio.ts";
import type { Kiocb } from "./kiocb.ts";

/** Parts of folios in the order of the file, and a reference to each (`pipe_inode_info`). */
export class FolioPipe {
  /** Borrowed until `release`. */
  readonly views: Uint8Array[] = [];
  readonly #folios: Folio[] = [];

  /** Takes the caller's reference over. */
  push(folio: Folio, fromBytes: number, lengthBytes: number): void {
    this.views.push(folio.bytes.subarray(fromBytes, fromBytes + lengthBytes));
    this.#folios.push(folio);
  }

  /** Gives all folios back. The pipe is empty then, and may be used again. */
  release(): void {
    for (const folio of this.#folios) folio.put();
    this.#folios.length = 0;
    this.views.length = 0;
  }
}

/**
 * Puts what the file has from `iocb.posBytes` on, up to `lengthBytes`, into `pipe`, and moves the
 * position on. Returns the number of bytes, less than asked for only at the end of the file or
 * after an error; an error, as those of `filemapRead`, only if nothing was put in. Waits for reads.
 */
export async function filemapSpliceRead(
  iocb: Kiocb,
  lengthBytes: number,
  pipe: FolioPipe,
): Promise<number> {
  const { mapping } = iocb.file;
  mapping.cache.counters.requests++;
  if (iocb.posBytes < 0) return -EINVAL;
  const endBytes = Math.min(iocb.posBytes + lengthBytes, FILE_BYTES_MAX);
  const startBytes = iocb.posBytes;
  while (iocb.posBytes < endBytes && iocb.posBytes < mapping.host.size) {
    const wanted = endBytes - iocb.posBytes;
    const pending: MaybeAsync<Folio | Errno> = filemapGetPages(iocb, wanted);
    const folio = isPromise(pending) ? await pending : pending;
    if (typeof folio === "number") {
      return iocb.posBytes > startBytes ? iocb.posBytes - startBytes : folio;
    }
    const fromBytes = iocb.posBytes - folio.index * PAGE_BYTES;
    const count = noteRead(iocb, folio, wanted);
    if (count > 0) pipe.push(folio, fromBytes, count);
    else folio.put(); // The file ends here.
  }
  return iocb.posBytes - startBytes;
}
