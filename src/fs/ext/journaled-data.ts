/**
 * File data that goes through the log, as metadata does (`data=journal`).
 *
 *     write-out of a folio:  handle.create(block).set(bytes)      logged, then written home
 *     read of a folio:       JournaledDataDevice                  in a transaction?  from memory
 *                                                                 else from the device
 *     free of its blocks:    handle.forget(first, count)          revoked
 *
 * The copy in the cache of the device is the only one that is newer than home, and it stays until
 * it is home. So the folio of the file may be forgotten as soon as it was logged; who reads it
 * again reads through the device here, which looks into the transactions first.
 *
 *  1. A read sees what the newest operation has written, committed or not, as the folio would have.
 *  2. Writes of data past the log, and whatever else, go to the device below as they are.
 *
 * Left out: direct I/O of such files.
 */
import { Bio, endBio, REQ_OP_READ } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { DeviceOver } from "../../block/device-over.ts";
import type { Plug } from "../../block/plug.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Handle } from "./handle.ts";

/** Writes a whole block of file data as part of the operation of `handle`; `bytes` is copied. */
export function journalData(handle: Handle, blocknr: number, bytes: Uint8Array): void {
  handle.create(blocknr).set(bytes);
}

/** The bytes of a block that is newer in memory than on the device; undefined if it is not. */
export type NewerBlock = (blocknr: number) => Uint8Array | undefined;

/** See the head of the file. */
export class JournaledDataDevice extends DeviceOver {
  readonly #blockBytes: number;
  readonly #newer: NewerBlock;
  readonly #clock: Clock;

  constructor(base: BlockDevice, blockBytes: number, newer: NewerBlock, clock: Clock) {
    super(base);
    this.#blockBytes = blockBytes;
    this.#newer = newer;
    this.#clock = clock;
  }

  submitBio(bio: Bio, plug?: Plug): void {
    const newer = bio.op === REQ_OP_READ ? this.#newerIn(bio) : [];
    if (newer.length === 0) {
      this.base.submitBio(bio, plug);
      return;
    }
    // The home blocks are read along: what is newer, as it is now, is laid over them at the end.
    const below = new Bio(bio.op, bio.flags, bio.offsetBytes, ({ status, cause }) => {
      if (status === 0)
        for (const { offsetBytes, bytes } of newer) layOver(bio, offsetBytes, bytes);
      endBio(bio, status, cause, this.#clock);
    });
    for (const vector of bio.vectors) below.addVector(vector);
    this.base.submitBio(below, plug);
  }

  #newerIn(bio: Bio): { offsetBytes: number; bytes: Uint8Array }[] {
    const blockBytes = this.#blockBytes;
    const found: { offsetBytes: number; bytes: Uint8Array }[] = [];
    const first = Math.floor(bio.offsetBytes / blockBytes);
    for (let blocknr = first; blocknr * blockBytes < bio.endBytes; blocknr++) {
      const bytes = this.#newer(blocknr);
      if (bytes !== undefined)
        found.push({ offsetBytes: blocknr * blockBytes, bytes: bytes.slice() });
    }
    return found;
  }
}

/** Copies the part of the bytes at `offsetBytes` that lies inside `bio` over what was read. */
function layOver(bio: Bio, offsetBytes: number, bytes: Uint8Array): void {
  let vectorBytes = bio.offsetBytes;
  for (const memory of bio.vectors) {
    const from = Math.max(vectorBytes, offsetBytes);
    const end = Math.min(vectorBytes + memory.length, offsetBytes + bytes.length);
    if (from < end)
      memory.set(bytes.subarray(from - offsetBytes, end - offsetBytes), from - vectorBytes);
    vectorBytes += memory.length;
  }
}
