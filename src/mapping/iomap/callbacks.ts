/**
 * What the page cache asks of a file that is read through iomap: is this part valid, may the folio
 * go.
 *
 * After `fs/iomap/buffered-io.c` of Linux.
 */
import type { Folio } from "../../cache/folio.ts";
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
 * Forgets the blocks of `folio` because the file ends before it or the range was punched out
 * (`iomap_invalidate_folio`). A range that is only a part of the folio changes nothing.
 */
export function iomapInvalidateFolio(folio: Folio, offsetBytes: number, lengthBytes: number): void {
  emitFolioEvent("iomap_invalidate_folio", folio, offsetBytes, lengthBytes);
  if (offsetBytes === 0 && lengthBytes === folio.sizeBytes) folio.blockState = null;
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
