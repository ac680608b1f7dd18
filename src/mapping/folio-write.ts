/**
 * What all writers of folios through `GetBlock` share: how the write of a part of a folio ends,
 * and what is to be zero before it begins.
 */
import type { Bio } from "../block/bio.ts";
import { Plug } from "../block/plug.ts";
import type { Folio } from "../cache/folio.ts";
import type { WritebackControl } from "../cache/writeback-control.ts";
import { FsError } from "../lib/errno.ts";

/**
 * Ends the write of the bytes `offsetBytes` .. + `lengthBytes` of `folio`, which is under writeback
 * and stays so. A failure is noted on the file; where failed writes are kept, what failed is dirty
 * again (`mpage_write_end_io`, `end_buffer_async_write`).
 */
export function endFolioPart(
  folio: Folio,
  offsetBytes: number,
  lengthBytes: number,
  bio: Bio,
): void {
  const mapping = folio.mapping!; // A folio leaves its file only after its write has ended.
  const isFailed = bio.status !== 0;
  const isKept = isFailed && mapping.onWriteError === "keep";
  if (isFailed) {
    const detail = `byte ${bio.offsetBytes} of the device cannot be written`;
    mapping.setError(bio.status, FsError.of(bio.status, { detail, cause: bio.cause }));
  }
  const state = folio.blockState;
  if (state !== null) state.endInFlight(offsetBytes, lengthBytes, isKept);
  else if (isKept) folio.markDirty();
}

/**
 * Zeroes what `folio`, which is locked, has behind the end of the file at `sizeBytes`: a memory
 * mapping may have put anything there. Done before each write, so that it never reaches the device.
 */
export function zeroBehindEof(folio: Folio, sizeBytes: number): void {
  const endBytes = sizeBytes - folio.posBytes;
  if (endBytes < folio.sizeBytes) folio.bytes.fill(0, Math.max(0, endBytes));
}

/** The plug of the walks that `wbc` is one of; undefined if it is one by itself. */
export function plugOfBatch({ batch }: WritebackControl): Plug | undefined {
  if (batch === null) return undefined;
  if (!(batch.plug instanceof Plug)) batch.plug = new Plug();
  return batch.plug as Plug;
}

/** Calls each of `functions`, once. */
export function callAll(functions: readonly (() => void)[]): void {
  for (const call of functions) call();
}
