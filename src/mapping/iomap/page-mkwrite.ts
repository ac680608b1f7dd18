/**
 * A page that is mapped into an address space is about to be stored to: space for it is reserved,
 * and all of it becomes dirty.
 *
 * After `iomap_page_mkwrite` in `fs/iomap/buffered-io.c` of Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { assert } from "../../lib/assert.ts";
import { FsError } from "../../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { IOMAP_FAULT, IOMAP_WRITE, type IomapOps } from "./iomap.ts";
import { createIomapIter, iomapIterAdvance, iomapIterate, iomapLength } from "./iter.ts";

/**
 * Makes the uptodate `folio`, to which the caller has a reference, writable: returns with it
 * locked, dirty, and not in flight where the store needs bytes that stay (`iomap_page_mkwrite`).
 * The file system is asked about what lies before the end of the file; all of the folio becomes
 * dirty. The caller holds `invalidateLock` for reading. On a throw it is unlocked.
 *
 * @throws {FsError} `EFAULT` if the folio has left the file or lies behind its end; what `ops`
 * throw
 */
export function iomapPageMkwrite<I extends Inode>(
  mapping: AddressSpace,
  folio: Folio,
  ops: IomapOps<I>,
): MaybeAsync<void> {
  const locked = folio.lock();
  return isPromise(locked)
    ? locked.then(() => mkwriteLocked(mapping, folio, ops))
    : mkwriteLocked(mapping, folio, ops);
}

function mkwriteLocked<I extends Inode>(
  mapping: AddressSpace,
  folio: Folio,
  ops: IomapOps<I>,
): MaybeAsync<void> {
  const { host, cache } = mapping;
  const { posBytes } = folio;
  if (folio.mapping !== mapping || posBytes >= host.size) {
    folio.unlock();
    throw new FsError("EFAULT", { detail: `byte ${posBytes} of inode ${host.ino} is no more` });
  }
  assert(folio.isUptodate, "a folio that is mapped is uptodate");
  const iter = createIomapIter({
    inode: host as I, // `ops` are those of the mapping's own file system.
    posBytes,
    lengthBytes: Math.min(folio.sizeBytes, host.size - posBytes),
    flags: IOMAP_WRITE | IOMAP_FAULT,
    trace: cache.trace,
  });
  const fail = (thrown: unknown): never => {
    folio.unlock();
    throw thrown;
  };
  let done: MaybeAsync<void>;
  try {
    done = iomapIterate(iter, ops, (at) => {
      folio.markDirty();
      iomapIterAdvance(at, iomapLength(at));
    });
  } catch (thrown) {
    return fail(thrown);
  }
  return isPromise(done) ? done.then(() => folio.waitStable(), fail) : folio.waitStable();
}
