/**
 * Why a read of a folio failed, kept for whoever has to tell a user.
 *
 * The kernel-named calls return an errno and no more, so `-EIO` is all that a reader gets. What
 * stands behind it is noted on the file's cache when it happens, and the front that makes an error
 * of the errno looks there.
 */
import type { Bio } from "../block/bio.ts";
import type { Folio } from "../cache/folio.ts";
import { FsError } from "../lib/errno.ts";

/**
 * Notes on the cache of `folio`, which `bio` was to fill, what the device said; nothing if all
 * went well.
 */
export function noteBioFailure(folio: Folio | undefined, bio: Bio): void {
  const mapping = folio?.mapping;
  if (bio.status === 0 || !mapping) return;
  const detail = `byte ${bio.offsetBytes} of the device cannot be read`;
  mapping.readFailure = FsError.of(bio.status, { detail, cause: bio.cause });
}
