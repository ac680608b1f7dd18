/**
 * fadvise: what a program tells about the reads and writes to come.
 *
 * After `mm/fadvise.c` of Linux; the end of DONTNEED as in newer kernels.
 */
import { EINVAL, type Errno } from "../lib/errno.ts";
import { andThen, type MaybeAsync } from "../lib/maybe.ts";
import { pageOfByte, pagesOfBytes } from "../lib/units.ts";
import { INDEX_MAX } from "../lib/xarray.ts";
import type { CacheFile } from "./cache-file.ts";
import { filemapFlushRange } from "./filemap-flush.ts";
import { forcePageCacheRa } from "./readahead.ts";
import { invalidateMappingPages } from "./truncate.ts";

export const POSIX_FADV_NORMAL = 0;
export const POSIX_FADV_RANDOM = 1;
export const POSIX_FADV_SEQUENTIAL = 2;
export const POSIX_FADV_WILLNEED = 3;
export const POSIX_FADV_DONTNEED = 4;
export const POSIX_FADV_NOREUSE = 5;

/**
 * Takes `advice`, a `POSIX_FADV_*`, about the bytes from `offsetBytes` on (`generic_fadvise`);
 * `lengthBytes` 0 means to the end. NORMAL, RANDOM and SEQUENTIAL set how the whole file is read
 * ahead; WILLNEED starts to read the range, at most one window of it; DONTNEED starts to write what
 * is dirty and drops what is clean and wholly inside. Returns 0, or `-EINVAL` for a negative length
 * or an unknown advice. Waits at most until reads or writes are submitted.
 */
export function fadvise(
  file: CacheFile,
  offsetBytes: number,
  lengthBytes: number,
  advice: number,
): MaybeAsync<Errno> {
  if (offsetBytes < 0 || lengthBytes < 0) return -EINVAL;
  const lastByte = lengthBytes === 0 ? Infinity : offsetBytes + lengthBytes - 1;
  const { ra, mapping } = file;
  switch (advice) {
    case POSIX_FADV_NORMAL:
      ra.raPages = mapping.raPages;
      file.isRandom = false;
      return 0;
    case POSIX_FADV_RANDOM:
      file.isRandom = true;
      return 0;
    case POSIX_FADV_SEQUENTIAL:
      ra.raPages = mapping.raPages * 2;
      file.isRandom = false;
      return 0;
    case POSIX_FADV_WILLNEED: {
      const first = pageOfByte(offsetBytes);
      if (first > INDEX_MAX) return 0;
      const last = Math.min(pageOfByte(lastByte), INDEX_MAX);
      return andThen(forcePageCacheRa(file, first, last - first + 1), () => 0);
    }
    case POSIX_FADV_DONTNEED:
      return andThen(filemapFlushRange(mapping, offsetBytes, lastByte), () => {
        dropRange(file, offsetBytes, lastByte);
        return 0;
      });
    case POSIX_FADV_NOREUSE:
      return 0;
    default:
      return -EINVAL;
  }
}

/**
 * Drops the pages that lie wholly in the bytes, or reach from inside them over the end of the
 * file.
 */
function dropRange({ mapping }: CacheFile, firstByte: number, lastByte: number): void {
  const first = pagesOfBytes(firstByte);
  const isToEnd = lastByte >= mapping.host.size - 1;
  const last = isToEnd ? INDEX_MAX : pageOfByte(lastByte + 1) - 1;
  if (last >= first) invalidateMappingPages(mapping, first, last);
}
