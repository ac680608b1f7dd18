/**
 * Single dirty buffers of a device, as a file sees them that lies on it: one that must not be
 * written any more, since its block is the file's now, and one that should go with its neighbour.
 *
 * Both leave the rest of the folio dirty if it was.
 *
 * After `clean_bdev_aliases` and `write_boundary_block` in fs/buffer.c of Linux.
 */
import { Bio, REQ_META, REQ_OP_WRITE } from "../block/bio.ts";
import type { Folio } from "../cache/folio.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import { byteOfBlock } from "../lib/units.ts";
import type { BufferHead } from "./buffer.ts";
import { completionsOf } from "./completion.ts";
import { endFolioPart } from "./folio-write.ts";
import { dirtyStateOf } from "./write-full-folio.ts";

/**
 * Forgets that `buffer` is dirty and waits until it is not being written (`clean_bdev_aliases`).
 * At once if it is neither.
 */
export function cleanAlias(buffer: BufferHead): MaybeAsync<void> {
  const { folio } = buffer;
  if (!folio.isDirty && !folio.isWriteback) return;
  return cleanLocked(buffer);
}

async function cleanLocked(buffer: BufferHead): Promise<void> {
  const { folio } = buffer;
  folio.get();
  try {
    await folio.lock();
    await folio.waitWriteback();
    if (folio.mapping !== null && folio.isDirty) {
      const isMoreDirty = takeDirty(buffer);
      if (!isMoreDirty) {
        folio.startWriteback(); // Which takes the mark away: there is nothing to write.
        folio.endWriteback();
      }
    }
    folio.unlock();
  } finally {
    folio.put();
  }
}

/** Makes `buffer` of a locked dirty folio clean; true if other blocks of it are dirty still. */
function takeDirty(buffer: BufferHead): boolean {
  const { folio } = buffer;
  folio.clearDirtyForIo();
  const state = dirtyStateOf(folio, buffer.data.length);
  buffer.clearDirty();
  if (state.isAnyDirty) folio.mapping!.dirtyFolio(folio);
  return state.isAnyDirty;
}

/**
 * Starts to write `buffer` if it is dirty and nobody else is at its folio (`write_boundary_block`):
 * a hint that costs nothing if it comes too early or too late.
 */
export function writeBufferIfDirty(buffer: BufferHead): void {
  const { folio } = buffer;
  const isFree = buffer.isMapped && !buffer.isLocked && !folio.isWriteback;
  if (!buffer.isDirty || !isFree || !folio.tryLock()) return;
  takeDirty(buffer);
  folio.blockState!.startInFlight(buffer.offsetBytes, buffer.data.length);
  folio.startWriteback();
  folio.unlock();
  submit(buffer, folio);
}

function submit(buffer: BufferHead, folio: Folio): void {
  const { clock } = folio.mapping!.cache;
  const offsetBytes = byteOfBlock(buffer.blocknr, buffer.data.length);
  const bio = new Bio(REQ_OP_WRITE, REQ_META, offsetBytes, () => {
    completionsOf(clock).add(() => {
      endFolioPart(folio, buffer.offsetBytes, buffer.data.length, bio);
      buffer.hasWriteError = bio.status !== 0;
      buffer.unlock();
      folio.endWriteback();
    }, 1);
  });
  buffer.lock();
  bio.addVector(buffer.data);
  buffer.bdev!.submitBio(bio);
}
