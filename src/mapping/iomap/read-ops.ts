/**
 * How buffered reads get their bytes: the hooks that a file system may supply, and what is passed
 * along.
 *
 * The usual ones, `iomapBioReadOps`, build bios for the mapping's device. A file system that has
 * its data elsewhere, or looks at it before it is believed (checksums, decryption), supplies its
 * own.
 *
 * After `struct iomap_read_ops` in `include/linux/iomap.h` of Linux.
 */
import type { Folio } from "../../cache/folio.ts";
import type { ReadaheadControl } from "../../cache/readahead.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import type { IomapIter } from "./iter.ts";

/** One buffered read under way (`struct iomap_read_folio_ctx`). */
export interface IomapReadFolioCtx {
  readonly ops: IomapReadOps;
  /** The readahead that this is part of; `null` for a read that somebody waits for. */
  readonly rac: ReadaheadControl | null;
  /** The folio in hand, locked. */
  folio: Folio | null;
  /** What the hooks have collected and not submitted yet; theirs alone. */
  pending: unknown;
}

/** Where data comes from (`struct iomap_read_ops`). */
export interface IomapReadOps {
  /**
   * Starts, or collects, the read of `lengthBytes` bytes from `iter.posBytes` on, whole blocks
   * inside `ctx.folio`, into the folio (`read_folio_range`). Unless it throws it takes the range
   * over: then `iomapFinishFolioRead` is called for it exactly once, be it inside this call.
   */
  readFolioRange(iter: IomapIter, ctx: IomapReadFolioCtx, lengthBytes: number): MaybeAsync<void>;
  /** Submits what was collected: nothing follows (`submit_read`). Must not throw. */
  submitRead?(iter: IomapIter, ctx: IomapReadFolioCtx): void;
}
