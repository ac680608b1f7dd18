/**
 * The end of reads: which blocks became valid, and whether that was the last request of the folio.
 *
 *     readPendingBytes    size of the folio, minus what nobody asked for, minus each completion: 0
 *
 * At 0 the read ends, once: the folio is uptodate if all its blocks are valid, and unlocked. A
 * folio of one block has no counter, as it has one request.
 *
 * After `fs/iomap/buffered-io.c` of Linux.
 */
import type { FolioBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import type { Inode } from "../../cache/inode.ts";
import { assert } from "../../lib/assert.ts";
import type { Errno } from "../../lib/errno.ts";

/**
 * Notes that the read of `lengthBytes` at `offsetBytes` of `folio` has ended, with 0 or a negative
 * errno (`iomap_finish_folio_read`). The last one ends the read of the folio, which unlocks it.
 * Whoever took the range over in `readFolioRange` calls it, exactly once. Never throws for a failed
 * read.
 */
export function iomapFinishFolioRead(
  folio: Folio,
  offsetBytes: number,
  lengthBytes: number,
  error: Errno,
): void {
  const mapping = folio.mapping!;
  const state = folio.blockState;
  const { trace } = mapping.cache;
  if (error !== 0 && trace.isOn) {
    const posBytes = folio.posBytes + offsetBytes;
    const fields = { ino: mapping.host.ino, posBytes, lengthBytes, error };
    trace.emit({ name: "iomap_io_error", kind: "bufferedRead", ...fields });
  }
  if (isOneBlock(mapping.host, folio)) {
    if (error === 0) state?.setValid(0, folio.sizeBytes);
    folio.endRead(error === 0);
    return;
  }
  assert(state !== null && state.readPendingBytes >= lengthBytes, "what ends was begun");
  if (error === 0) state.setValid(offsetBytes, lengthBytes);
  endPendingRead(state, lengthBytes);
}

/** Whether `folio` is a single block of its file, so that its flags say all. */
export function isOneBlock(inode: Inode, folio: Folio): boolean {
  return inode.blockBytes >= folio.sizeBytes;
}

/** Subtracts what is no longer pending, and ends the read of the folio when that was all of it. */
export function endPendingRead(state: FolioBlockState, lengthBytes: number): void {
  state.readPendingBytes -= lengthBytes;
  if (state.readPendingBytes === 0) state.folio.endRead(state.isAllValid);
}
