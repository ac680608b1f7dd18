/**
 * Unsharing: a file gets space of its own for what it shares with others.
 *
 *     mapping    SHARED space to be, srcmap: the shared blocks
 *     folio      all of the range is read from the shared blocks, and dirty
 *     later      write-out puts it into the new space, and the file is switched to that
 *
 * After `iomap_file_unshare` in `fs/iomap/buffered-io.c` of Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { balanceDirtyPagesRatelimited } from "../../cache/throttle.ts";
import { type Errno, FsError } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import {
  IOMAP_F_SHARED,
  IOMAP_MAPPED,
  IOMAP_UNSHARE,
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
import type { IomapWriteOps } from "./write-ops.ts";

/**
 * Makes what is shared of `lengthBytes` bytes from `posBytes` on, up to the end of the file, dirty
 * in the cache, so that write-out gives the file its own copy (`iomap_file_unshare`). The caller
 * holds the inode's `rwsem` and the mapping's `invalidateLock`, both for writing.
 *
 * @throws {FsError} what `ops` and `writeOps` throw; `EIO` for shared blocks that cannot be read or
 *   are nowhere
 */
export function iomapFileUnshare<I extends Inode>(
  mapping: AddressSpace,
  posBytes: number,
  lengthBytes: number,
  ops: IomapOps<I>,
  writeOps?: IomapWriteOps,
): MaybeAsync<void> {
  const { cache, host } = mapping;
  if (posBytes >= host.size) return;
  const context = { mapping, writeOps, isNowait: false, signal: undefined };
  const iter = createIomapIter({
    inode: host as I, // `ops` are those of the mapping's own file system.
    posBytes,
    lengthBytes: Math.min(lengthBytes, host.size - posBytes),
    flags: IOMAP_WRITE | IOMAP_UNSHARE,
    trace: cache.trace,
    clock: cache.clock,
  });
  return iomapIterate(iter, ops, (at) => unshareMapping(at, context));
}

function unshareMapping(iter: IomapIter, context: IomapWriteContext): MaybeAsync<void> {
  const isShared = (iter.iomap.flags & IOMAP_F_SHARED) !== 0;
  if (!isShared || iter.srcmap.type !== IOMAP_MAPPED) {
    iomapIterAdvance(iter, iomapLength(iter));
    return;
  }
  return unshareFolios(iter, context);
}

async function unshareFolios(iter: IomapIter, context: IomapWriteContext): Promise<void> {
  while (iomapLength(iter) > 0) {
    const begun = iomapWriteBegin(iter, context, iomapLength(iter));
    const folio: Folio | Errno = isPromise(begun) ? await begun : begun;
    if (typeof folio === "number") return; // Stale.
    const countBytes = Math.min(
      iomapLength(iter),
      folio.posBytes + folio.sizeBytes - iter.posBytes,
    );
    try {
      iomapWriteEnd(iter, folio, countBytes, countBytes);
    } finally {
      iomapPutFolio(iter, context, countBytes, folio);
    }
    iomapIterAdvance(iter, countBytes);
    const status = await balanceDirtyPagesRatelimited(context.mapping);
    if (status !== 0) throw FsError.of(status);
  }
}
