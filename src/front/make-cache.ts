/** A page cache of the size that a caller of `openImage` or `cached` asks for. */
import { PageCache } from "../cache/page-cache.ts";
import type { Clock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import { MIB } from "../lib/units.ts";
import { formatSize, parseSize } from "./size-text.ts";

/** Smallest cache that the public calls make. */
export const CACHE_BYTES_MIN: number = 4 * MIB;
const CACHE_BYTES_DEFAULT = 256 * MIB;

/**
 * A cache of `size` bytes, or text such as "64MiB"; 256 MiB if left out.
 *
 * @throws {TypeError} `ERR_INVALID_ARG_VALUE` for what is no size
 * @throws {FsError} `EINVAL` below 4 MiB
 */
export function makeCache(size: number | string | undefined, clock: Clock): PageCache {
  const arenaBytes = size === undefined ? CACHE_BYTES_DEFAULT : parseSize(size, "options.cache");
  if (arenaBytes < CACHE_BYTES_MIN) {
    const least = formatSize(CACHE_BYTES_MIN);
    const detail = `the page cache needs at least ${least}, not ${formatSize(arenaBytes)}`;
    throw new FsError("EINVAL", { syscall: "open", detail });
  }
  return new PageCache({ arenaBytes, clock });
}
