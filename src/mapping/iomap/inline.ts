/**
 * Inline data: a small file, or the tail of one, that lies in the inode and not in blocks of its
 * own.
 *
 *     inlineData    |-- inode.size - iomap.offsetBytes bytes --|.. room ..|
 *     folio         |-------------- copied -------------------|--- zeros up to its end ---|
 *
 * It is the last mapping of a file. Reading it takes no request: the folio is filled by a copy.
 * What is written to the folio is copied back at once, so the folio is never dirty; that it grows
 * beyond its room the file system prevents, in `begin`.
 *
 * After `iomap_read_inline_data` and `iomap_write_end_inline` in `fs/iomap/buffered-io.c` of Linux.
 */
import type { Folio } from "../../cache/folio.ts";
import { FsError } from "../../lib/errno.ts";
import { IOMAP_INLINE } from "./iomap.ts";
import { type IomapIter, iomapIterSrcmap } from "./iter.ts";

/**
 * Fills `folio` from the inline mapping at hand: from where that begins in the folio to the folio's
 * end, with zeros behind the end of the file (`iomap_read_inline_data`). Returns the offset in the
 * folio from which on it is now up to date; to record that is left to the caller.
 *
 * @throws {FsError} `EIO` if the mapping has no buffer, or one that is shorter than the file
 */
export function iomapReadInlineData(iter: IomapIter, folio: Folio): number {
  const iomap = iomapIterSrcmap(iter);
  const { inode } = iter;
  const data = iomap.inlineData;
  const dataBytes = inode.size - iomap.offsetBytes;
  if (iomap.type !== IOMAP_INLINE || data === null) throw inlineError(iter, "it has no buffer");
  if (dataBytes > iomap.lengthBytes || dataBytes > data.length) {
    throw inlineError(iter, `it is shorter than the file, which has ${inode.size} bytes`);
  }
  const fromBytes = Math.max(iomap.offsetBytes - folio.posBytes, 0);
  const skipBytes = Math.max(folio.posBytes - iomap.offsetBytes, 0);
  const copyBytes = Math.min(Math.max(dataBytes - skipBytes, 0), folio.sizeBytes - fromBytes);
  folio.bytes.set(data.subarray(skipBytes, skipBytes + copyBytes), fromBytes);
  folio.bytes.fill(0, fromBytes + copyBytes);
  return fromBytes;
}

/**
 * Copies `countBytes` at the position, which a write has put into `folio`, to the inline data
 * (`iomap_write_end_inline`). The file system makes it last, in `end`.
 *
 * @throws {FsError} `EIO` if there is no room for them
 */
export function iomapWriteInlineData(iter: IomapIter, folio: Folio, countBytes: number): void {
  const { iomap, posBytes } = iter;
  const data = iomap.inlineData;
  const atBytes = posBytes - iomap.offsetBytes;
  if (data === null) throw inlineError(iter, "it has no buffer");
  if (atBytes + countBytes > data.length) throw inlineError(iter, `it ends at ${data.length}`);
  const fromBytes = posBytes - folio.posBytes;
  data.set(folio.bytes.subarray(fromBytes, fromBytes + countBytes), atBytes);
}

function inlineError(iter: IomapIter, what: string): FsError {
  const place = `inline data of inode ${iter.inode.ino} at byte ${iter.iomap.offsetBytes}`;
  return new FsError("EIO", { detail: `${place}: ${what}` });
}
