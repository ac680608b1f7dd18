/**
 * What the page cache asks of a file that is read and written through iomap: is this part valid,
 * which blocks become dirty with the folio, may the folio go.
 *
 * After `fs/iomap/buffered-io.c` of Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import { attachBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import { assert } from "../../lib/assert.ts";
import { isOneBlock } from "./finish-read.ts";

/**
 * Whether all blocks of `folio` that `fromBytes` and the `countBytes` behind it touch are uptodate
 * (`iomap_is_partially_uptodate`); what lies behind the folio's end does not count. False for a
 * folio without a state for its blocks: there the folio's flag says all. O(blocks of the range /
 * 32).
 */
export function iomapIsPartiallyUptodate(
  folio: Folio,
  fromBytes: number,
  countBytes: number,
): boolean {
  const state = folio.blockState;
  if (state === null || isOneBlock(folio.mapping!.host, folio)) return false;
  return state.isValid(fromBytes, Math.min(countBytes, folio.sizeBytes - fromBytes));
}

/**
 * Makes the whole uptodate `folio` dirty, all its blocks with it (`iomap_dirty_folio`): for those
 * who cannot say what they have changed. Returns false if it was dirty before. Never waits.
 */
export function iomapDirtyFolio(mapping: AddressSpace, folio: Folio): boolean {
  const { host } = mapping;
  if (!isOneBlock(host, folio)) attachBlockState(folio, host.blockBytes);
  folio.blockState?.setDirty(0, folio.sizeBytes);
  return mapping.dirtyFolio(folio);
}

/**
 * Gives up what is kept for the blocks of `folio`, which the cache wants to drop
 * (`iomap_release_folio`). False, and nothing is given up, if it is dirty. No I/O of it may be
 * pending.
 */
export function iomapReleaseFolio(folio: Folio): boolean {
  emitFolioEvent("iomap_release_folio", folio, 0, folio.sizeBytes);
  if (folio.isDirty) return false;
  folio.blockState = null;
  return true;
}

/**
 * Forgets the blocks of `folio`, and that they were dirty, because the file ends before it or the
 * range was punched out (`iomap_invalidate_folio`). A range that is only a part of the folio
 * changes nothing: write-out finds a hole there.
 */
export function iomapInvalidateFolio(folio: Folio, offsetBytes: number, lengthBytes: number): void {
  emitFolioEvent("iomap_invalidate_folio", folio, offsetBytes, lengthBytes);
  if (offsetBytes > 0 || lengthBytes < folio.sizeBytes) return;
  assert(!folio.isWriteback, "what is in flight is waited for");
  folio.cancelDirty();
  folio.blockState = null;
}

function emitFolioEvent(
  name: string,
  folio: Folio,
  offsetBytes: number,
  lengthBytes: number,
): void {
  const mapping = folio.mapping;
  if (mapping === null || !mapping.cache.trace.isOn) return;
  const posBytes = folio.posBytes + offsetBytes;
  mapping.cache.trace.emit({ name, ino: mapping.host.ino, posBytes, lengthBytes });
}
