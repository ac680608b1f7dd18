/**
 * One read of one folio by its file system, with every way in which that may fail made one: the
 * folio ends unlocked and not uptodate, and an errno is returned (rule JS-8).
 *
 * After `filemap_read_folio` in `mm/filemap.c` of Linux.
 */
import { EINTR, EIO, type Errno, errnoOf } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import type { AddressSpace } from "./address-space.ts";
import type { CacheFile } from "./cache-file.ts";
import type { Folio } from "./folio.ts";

/**
 * After an error the window shrinks, so that a bad sector is not asked for by ever shifting ones.
 */
const RA_SHRINK_ON_ERROR = 4;

/**
 * Ends the read for which `folio` was locked as `lockSequence` says, if that still owns the lock.
 * A part of it that is in flight ends it instead, when that completes.
 */
export function failRead(folio: Folio, lockSequence: number): void {
  if (!folio.isLocked || folio.lockSequence !== lockSequence) return;
  if (folio.blockState !== null && folio.blockState.readPendingBytes > 0) return;
  folio.endRead(false);
}

/**
 * Has the file system read the locked `folio`. Returns 0 once the read was submitted, a negative
 * errno once it has failed before that; in either case the folio is unlocked sooner or later.
 * Never rejects.
 */
export function startReadFolio(
  mapping: AddressSpace,
  file: CacheFile | null,
  folio: Folio,
): MaybeAsync<Errno> {
  const { lockSequence } = folio;
  const { cache } = mapping;
  if (cache.trace.isOn) cache.traceFolio("read_folio", mapping, folio);
  const submitted = (status: Errno): Errno => {
    if (status < 0) failRead(folio, lockSequence);
    return status;
  };
  try {
    const status = mapping.ops.readFolio(file, folio);
    if (!isPromise(status)) return submitted(status);
    return status.then(submitted, (thrown) => submitted(errnoOf(thrown)));
  } catch (thrown) {
    return submitted(errnoOf(thrown));
  }
}

/**
 * Has the locked `folio` read and waits for it; the caller holds a reference
 * (`filemap_read_folio`). Returns 0 when it is uptodate, else the errno of the file system,
 * `-EIO` if it gave none, or `-EINTR` as soon as `signal` is aborted: the read goes on then, and
 * the next one finds its data.
 */
export function filemapReadFolio(
  mapping: AddressSpace,
  file: CacheFile | null,
  folio: Folio,
  signal?: AbortSignal,
): MaybeAsync<Errno> {
  const started = startReadFolio(mapping, file, folio);
  if (!isPromise(started) && !folio.isLocked) return readStatus(file, folio, started);
  return waitForRead(file, folio, started, signal);
}

async function waitForRead(
  file: CacheFile | null,
  folio: Folio,
  started: MaybeAsync<Errno>,
  signal: AbortSignal | undefined,
): Promise<Errno> {
  try {
    // Not the hook's promise: this wait can be left, and a failure in the hook unlocks the folio
    // too.
    await folio.waitLocked(signal);
  } catch {
    return -EINTR;
  }
  return folio.isUptodate ? 0 : readStatus(file, folio, await started);
}

function readStatus(file: CacheFile | null, folio: Folio, started: Errno): Errno {
  if (folio.isUptodate) return 0;
  if (started < 0) return started;
  if (file !== null) file.ra.raPages = Math.floor(file.ra.raPages / RA_SHRINK_ON_ERROR);
  return -EIO;
}
