/**
 * Writing blocks of metadata to their homes: from copies, in order of the device, what is adjacent
 * as one write.
 *
 *     blocks   41 9 40 7      copied    [ 7 ][ 9 ][ 40 | 41 ]      written   7  9  40..41
 *
 * Blocks change while they are written, so nothing is ever written from the cache itself.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { writeDevice } from "../../block/write-device.ts";

/** A block as it is to be written. */
export interface HomeBlock {
  readonly blocknr: number;
  /** Copied before the call returns. */
  readonly data: Uint8Array;
}

/**
 * Writes `blocks`, all different, of `blockBytes` each. They are copied when this returns, and
 * completed, not durable, when the promise resolves.
 *
 * @throws {FsError} the errno of the first write that failed, after all have ended
 */
export async function writeHome(
  device: BlockDevice,
  blocks: Iterable<HomeBlock>,
  blockBytes: number,
): Promise<void> {
  const sorted = [...blocks].sort((a, b) => a.blocknr - b.blocknr);
  const copies = new Uint8Array(sorted.length * blockBytes);
  const writes: Promise<void>[] = [];
  let from = 0;
  for (const [at, { blocknr, data }] of sorted.entries()) {
    copies.set(data, at * blockBytes);
    if (sorted[at + 1]?.blocknr === blocknr + 1) continue;
    const bytes = copies.subarray(from * blockBytes, (at + 1) * blockBytes);
    writes.push(writeDevice(device, sorted[from]!.blocknr * blockBytes, bytes));
    from = at + 1;
  }
  const results = await Promise.allSettled(writes);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
