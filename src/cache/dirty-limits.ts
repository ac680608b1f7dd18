/**
 * DirtyLimits: how much of the memory may differ from the store.
 *
 *     0 ------------ background ---- freerun ---- limit ------------- all that can be dirty
 *       nothing       the flusher     writers      writers wait until
 *       happens       writes          pause        something is written
 *
 *  1. background < limit, unless the limit is a single page; freerun lies halfway between.
 *  2. Of a limit in bytes and one as a share, the one set last counts.
 *
 * After `domain_dirty_limits` in `mm/page-writeback.c` of Linux. Left out: limits per device and
 * per memory cgroup; shares are rounded down to whole pages.
 */
import { EINVAL, type Errno } from "../lib/errno.ts";
import { PAGE_BYTES } from "../lib/units.ts";

const DIRTY_RATIO_DEFAULT = 20;
const BACKGROUND_RATIO_DEFAULT = 10;
const PERCENT = 100;
/** A limit below two pages would let nobody write. */
const LIMIT_PAGES_MIN = 2;

/** Names and defaults are those of `/proc/sys/vm`. */
export interface DirtyLimitOptions {
  /** Limit in percent of the memory that can be dirty; 20 by default. */
  readonly dirtyRatio?: number;
  /** Where the flusher begins, in percent; 10 by default. */
  readonly dirtyBackgroundRatio?: number;
  /** Limit in bytes, at least two pages; takes the place of `dirtyRatio`. */
  readonly dirtyBytes?: number;
  /** Where the flusher begins, in bytes; takes the place of `dirtyBackgroundRatio`. */
  readonly dirtyBackgroundBytes?: number;
}

/** See the head of the file. All results are in pages. */
export class DirtyLimits {
  #ratio = DIRTY_RATIO_DEFAULT;
  #bytes = 0;
  #backgroundRatio = BACKGROUND_RATIO_DEFAULT;
  #backgroundBytes = 0;

  constructor(options: DirtyLimitOptions = {}) {
    const { dirtyRatio, dirtyBackgroundRatio, dirtyBytes, dirtyBackgroundBytes } = options;
    if (dirtyRatio !== undefined) this.setRatio(dirtyRatio);
    if (dirtyBytes !== undefined) this.setBytes(dirtyBytes);
    if (dirtyBackgroundRatio !== undefined) this.setBackgroundRatio(dirtyBackgroundRatio);
    if (dirtyBackgroundBytes !== undefined) this.setBackgroundBytes(dirtyBackgroundBytes);
  }

  /** Sets the limit to `percent`, 0 to 100, of the memory; `-EINVAL` for anything else. */
  setRatio(percent: number): Errno {
    if (!(percent >= 0 && percent <= PERCENT)) return -EINVAL;
    this.#ratio = percent;
    this.#bytes = 0;
    return 0;
  }

  /** Sets the limit to `bytes`; `-EINVAL` for less than two pages. */
  setBytes(bytes: number): Errno {
    if (!(bytes >= LIMIT_PAGES_MIN * PAGE_BYTES)) return -EINVAL;
    this.#bytes = bytes;
    this.#ratio = 0;
    return 0;
  }

  /** Has the flusher begin at `percent`, 0 to 100, of the memory; `-EINVAL` for anything else. */
  setBackgroundRatio(percent: number): Errno {
    if (!(percent >= 0 && percent <= PERCENT)) return -EINVAL;
    this.#backgroundRatio = percent;
    this.#backgroundBytes = 0;
    return 0;
  }

  /** Has the flusher begin at `bytes`; `-EINVAL` for a negative number. */
  setBackgroundBytes(bytes: number): Errno {
    if (!(bytes >= 0)) return -EINVAL;
    this.#backgroundBytes = bytes;
    this.#backgroundRatio = 0;
    return 0;
  }

  /** Dirty pages at which nobody dirties more, of `availablePages` that could be (`thresh`). */
  limitPages(availablePages: number): number {
    const pages = pagesOf(this.#bytes, this.#ratio, availablePages);
    return Math.max(LIMIT_PAGES_MIN, pages);
  }

  /** Dirty pages above which the flusher writes (`bg_thresh`). */
  backgroundPages(availablePages: number): number {
    const limit = this.limitPages(availablePages);
    const pages = pagesOf(this.#backgroundBytes, this.#backgroundRatio, availablePages);
    return pages >= limit ? Math.floor(limit / 2) : pages;
  }

  /** Dirty pages up to which no writer pauses (`dirty_freerun_ceiling`). */
  freerunPages(availablePages: number): number {
    return (this.limitPages(availablePages) + this.backgroundPages(availablePages)) / 2;
  }
}

function pagesOf(bytes: number, percent: number, availablePages: number): number {
  if (percent === 0 && bytes > 0) return Math.ceil(bytes / PAGE_BYTES);
  return Math.floor((availablePages * percent) / PERCENT);
}
