/**
 * mpage, the read half: whole folios of a block-mapped file, many to a bio.
 *
 *     address-space operation     here                 whole folio at a time
 *       readFolio          ->     mpageReadFolio       \
 *       readahead          ->     mpageReadahead        >  MpageReader (mpage-read.ts)  ->  bios
 *       readpages (old)    ->     mpageReadpages       /        asks GetBlock
 *
 * For ext2, ext3 and ext4 inodes without extents. A folio whose blocks are not side by side is
 * read through buffers, which stay attached to it: the mapping's `releaseFolio` must be
 * `tryToFreeBuffers`, its `invalidateFolio` `blockInvalidateFolio`, its `isPartiallyUptodate`
 * `blockIsPartiallyUptodate`.
 *
 * Errors are never returned from here: a folio that could not be read is unlocked and not uptodate,
 * and whoever waits for it finds that (`-EIO`).
 *
 * After fs/mpage.c of Linux, and the manual pages of `mpage_readpages` and `mpage_readpage`.
 */
import { REQ_RAHEAD } from "../block/bio.ts";
import { Plug } from "../block/plug.ts";
import type { AddressSpace } from "../cache/address-space.ts";
import type { Folio } from "../cache/folio.ts";
import type { ReadaheadControl } from "../cache/readahead.ts";
import { assert } from "../lib/assert.ts";
import type { Errno } from "../lib/errno.ts";
import { isPromise, type MaybeAsync } from "../lib/maybe.ts";
import type { GetBlock } from "./get-block.ts";
import { MpageReader } from "./mpage-read.ts";

export type { BlockMap, GetBlock } from "./get-block.ts";

/**
 * Starts the read of one locked folio (`mpage_read_folio`). It is unlocked when the read is done,
 * and uptodate if that went well. Returns 0 always; a promise only if `getBlock` has to wait.
 */
export function mpageReadFolio(folio: Folio, getBlock: GetBlock): MaybeAsync<Errno> {
  assert(folio.isLocked && folio.mapping !== null, "readFolio gets a locked folio of a mapping");
  const reader = new MpageReader(folio.mapping, getBlock, { flags: 0, plug: undefined });
  const started = reader.read(folio, folio.pageCount);
  if (isPromise(started)) {
    return started.then(() => {
      reader.submit();
      return 0;
    });
  }
  reader.submit();
  return 0;
}

/**
 * Starts the read of the folios of a readahead window, in ascending order (`mpage_readahead`).
 *
 * Bios carry `REQ_RAHEAD`; adjacent folios share one, up to 256 folios. If a folio fails before
 * any I/O, the walk ends and leaves the rest to the caller, which drops them: a bad mapping must
 * not fail the whole window again and again. Everything is submitted when it returns or resolves.
 */
export function mpageReadahead(rac: ReadaheadControl, getBlock: GetBlock): MaybeAsync<void> {
  const plug = new Plug();
  const reader = new MpageReader(rac.mapping, getBlock, { flags: REQ_RAHEAD, plug });
  const walk = (): MaybeAsync<void> => {
    for (;;) {
      const pageCount = rac.nrPages; // Still to come, with the folio that `next` takes.
      const folio = rac.next();
      if (folio === null) break;
      const started = reader.read(folio, pageCount);
      if (isPromise(started)) return started.then((goesOn) => (goesOn ? walk() : finish()));
      if (!started) break;
    }
    finish();
  };
  const finish = (): void => {
    reader.submit();
    plug.flush();
  };
  return walk();
}

/**
 * Adds up to `nrPages` folios from the end of `pages` to the cache and starts their read: the
 * form of readahead that file systems had until Linux 5.8 (`mpage_readpages`).
 *
 * The **last** of `pages` has the lowest index, as the tail of the kernel's list. The folios are
 * new: unlocked, with their `index` set, in no mapping. They are taken off the list and the
 * caller's references go with them; one whose index is cached already, or that cannot be added,
 * is only released. Returns 0 always; a promise only if `getBlock` has to wait.
 */
export function mpageReadpages(
  mapping: AddressSpace,
  pages: Folio[],
  nrPages: number,
  getBlock: GetBlock,
): MaybeAsync<Errno> {
  const plug = new Plug();
  const reader = new MpageReader(mapping, getBlock, { flags: 0, plug });
  let leftCount = nrPages;
  const walk = (): MaybeAsync<Errno> => {
    while (leftCount > 0) {
      const folio = pages.pop();
      if (folio === undefined) break;
      const pageCount = leftCount;
      leftCount -= folio.pageCount;
      const added = mapping.addFolio(folio, folio.index);
      const started = added === 0 ? reader.read(folio, pageCount) : true;
      folio.put();
      if (isPromise(started)) return started.then(walk);
    }
    reader.submit();
    plug.flush();
    return 0;
  };
  return walk();
}
