/**
 * BlockRequest: what a device is asked for at once, made of one bio or of several that lie side
 * by side.
 *
 *     bios      [ a ][   b   ][ c ]          ascending and without gaps
 *     device    offsetBytes .. endBytes      one transfer of the store
 *
 * `merge.ts` lets it grow, `request-queue.ts` keeps it until its turn.
 *
 * After `struct request` in `include/linux/blk-mq.h`.
 */
import type { Bio, RequestOp } from "./bio.ts";

/** See the head of the file (`struct request`). */
export class BlockRequest {
  readonly op: RequestOp;
  /** Union of `REQ_*` flags; see `mergeFlags` for several bios. */
  flags: number;
  offsetBytes: number;
  lengthBytes: number;
  vectorCount: number;
  readonly bios: Bio[];

  constructor(bio: Bio) {
    this.op = bio.op;
    this.flags = bio.flags;
    this.offsetBytes = bio.offsetBytes;
    this.lengthBytes = bio.lengthBytes;
    this.vectorCount = bio.vectors.length;
    this.bios = [bio];
  }

  /** First byte on the device behind the request. */
  get endBytes(): number {
    return this.offsetBytes + this.lengthBytes;
  }

  /**
   * The memory of all bios in order, what is adjacent in memory as one array (`blk_rq_map_sg`):
   * pages that readahead took from the arena in a row become a single vector. The arrays are
   * views, no copies.
   */
  gatherVectors(): Uint8Array[] {
    const gathered: Uint8Array[] = [];
    let last: Uint8Array | undefined;
    for (const bio of this.bios) {
      for (const vector of bio.vectors) {
        if (last !== undefined && isBehind(last, vector)) {
          last = new Uint8Array(last.buffer, last.byteOffset, last.length + vector.length);
          gathered[gathered.length - 1] = last;
        } else {
          last = vector;
          gathered.push(vector);
        }
      }
    }
    return gathered;
  }
}

function isBehind(first: Uint8Array, second: Uint8Array): boolean {
  return first.buffer === second.buffer && first.byteOffset + first.length === second.byteOffset;
}
