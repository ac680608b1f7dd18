/**
 * Reservations that a write has taken and not used go back.
 *
 *     reserved   |------------------------------------------------|
 *     written    |=====|
 *     cache              . . . |dirty| . . |dirty| . . .  i_size   . . . . .
 *     given back       |-------|     |-----|     |-------------------------|
 *
 * A reservation under a dirty block must stay, whoever has dirtied it: write-out will turn it into
 * space. Behind the end of the file nothing is ever written, dirty or not.
 *
 * After `iomap_write_delalloc_release` in `fs/iomap/buffered-io.c` of Linux.
 */
import type { AddressSpace } from "../../cache/address-space.ts";
import type { Folio } from "../../cache/folio.ts";
import { isPromise, type MaybeAsync } from "../../lib/maybe.ts";
import { pageOfByte, roundDown, roundUp } from "../../lib/units.ts";
import { isOneBlock } from "./finish-read.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_FAULT,
  IOMAP_NOWAIT,
  IOMAP_UNSHARE,
  IOMAP_ZERO,
  type Iomap,
} from "./iomap.ts";
import { mappingSeekHoleData } from "./seek.ts";

/**
 * Drops what is only reserved in the bytes `offsetBytes` .. + `lengthBytes`, whole blocks, and
 * leaves all else (`iomap_punch_t`). In one step as far as others who change the map can see. A
 * folio may be locked, so it locks none.
 */
export type IomapPunch = (
  offsetBytes: number,
  lengthBytes: number,
  iomap: Iomap,
) => MaybeAsync<void>;

/** What `end` of the file system's operations was called with. */
export interface IomapEndCall {
  readonly posBytes: number;
  readonly lengthBytes: number;
  readonly writtenBytes: number;
  /** `IOMAP_WRITE` .. */
  readonly flags: number;
  readonly iomap: Iomap;
}

/**
 * Gives back what a write has reserved and not used: called from `end` of every operation, does
 * nothing unless the mapping is a new reservation and was not used up
 * (`iomap_file_buffered_write_punch_delalloc`). Takes the mapping's `invalidateLock`, save for
 * zeroing and unsharing, whose callers have it, and for `IOMAP_NOWAIT`, which waits for nothing.
 *
 * @throws what `punch` throws
 */
export function iomapEndDelalloc(
  mapping: AddressSpace,
  call: IomapEndCall,
  punch: IomapPunch,
): MaybeAsync<void> {
  const { posBytes, lengthBytes, writtenBytes, flags, iomap } = call;
  const isReserved = iomap.type === IOMAP_DELALLOC && (iomap.flags & IOMAP_F_NEW) !== 0;
  if (!isReserved || (flags & IOMAP_FAULT) !== 0) return;
  const { blockBytes } = mapping.host;
  const startBytes =
    writtenBytes > 0
      ? roundUp(posBytes + writtenBytes, blockBytes)
      : roundDown(posBytes, blockBytes);
  const endBytes = roundUp(posBytes + lengthBytes, blockBytes);
  if (startBytes >= endBytes) return;
  // Without a wait since the reservation was made: nobody can have dirtied what is under it.
  if ((flags & IOMAP_NOWAIT) !== 0) return punch(startBytes, endBytes - startBytes, iomap);
  const isLocked = (flags & (IOMAP_ZERO | IOMAP_UNSHARE)) !== 0;
  return isLocked
    ? iomapWriteDelallocRelease(mapping, startBytes, endBytes, iomap, punch)
    : releaseLocked(mapping, startBytes, endBytes, iomap, punch);
}

async function releaseLocked(
  mapping: AddressSpace,
  startBytes: number,
  endBytes: number,
  iomap: Iomap,
  punch: IomapPunch,
): Promise<void> {
  await mapping.invalidateLock.write();
  try {
    await iomapWriteDelallocRelease(mapping, startBytes, endBytes, iomap, punch);
  } finally {
    mapping.invalidateLock.unlockWrite();
  }
}

/**
 * Punches what is reserved in the bytes `startBytes..endBytes`, whole blocks, and not under dirty
 * blocks of the file (`iomap_write_delalloc_release`). The caller holds `invalidateLock` for
 * writing. Waits for locks of folios.
 *
 * @throws what `punch` throws
 */
export async function iomapWriteDelallocRelease(
  mapping: AddressSpace,
  startBytes: number,
  endBytes: number,
  iomap: Iomap,
  punch: IomapPunch,
): Promise<void> {
  const scanEndBytes = Math.min(mapping.host.size, endBytes);
  let punchFromBytes = startBytes;
  for (let atBytes = startBytes; atBytes < scanEndBytes; ) {
    const data = await mappingSeekHoleData("data", mapping, atBytes, scanEndBytes);
    if (data === -1) break;
    const hole = await mappingSeekHoleData("hole", mapping, data, scanEndBytes);
    const dataEndBytes = hole === -1 ? scanEndBytes : hole;
    for (atBytes = data; atBytes < dataEndBytes; ) {
      const folio = mapping.folioAt(pageOfByte(atBytes));
      if (folio === undefined) break; // Gone meanwhile: it is looked for again.
      const partEndBytes = Math.min(dataEndBytes, folio.posBytes + folio.sizeBytes);
      folio.get();
      const locked = folio.lock();
      if (isPromise(locked)) await locked;
      try {
        if (folio.mapping === mapping && folio.isDirty) {
          await punchBefore(folio, punchFromBytes, atBytes, partEndBytes, iomap, punch);
          punchFromBytes = partEndBytes;
        }
      } finally {
        folio.unlock();
        folio.put();
      }
      atBytes = partEndBytes;
    }
  }
  if (punchFromBytes < endBytes) await punch(punchFromBytes, endBytes - punchFromBytes, iomap);
}

/**
 * Punches what lies before `fromBytes`, from where the data in a dirty folio begins, and the clean
 * blocks in it, up to `endBytes`.
 */
async function punchBefore(
  folio: Folio,
  punchFromBytes: number,
  fromBytes: number,
  endBytes: number,
  iomap: Iomap,
  punch: IomapPunch,
): Promise<void> {
  if (punchFromBytes < fromBytes) {
    await punch(punchFromBytes, fromBytes - punchFromBytes, iomap);
  }
  const { blockState: state, posBytes } = folio;
  if (state === null || isOneBlock(folio.mapping!.host, folio)) return;
  const endInFolioBytes = endBytes - posBytes;
  let atBytes = state.nextClean(fromBytes - posBytes, endInFolioBytes);
  while (atBytes < endInFolioBytes) {
    const stopBytes = state.nextDirty(atBytes, endInFolioBytes);
    await punch(posBytes + atBytes, stopBytes - atBytes, iomap);
    atBytes = state.nextClean(stopBytes, endInFolioBytes);
  }
}
