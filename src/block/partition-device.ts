/**
 * PartitionDevice: a stretch of a device as a device of its own.
 *
 *     partition        [0 ......... sizeBytes)
 *     base   [ .... [offsetBytes ........... ) ....]
 *
 * It has no queue: its bios go on to the base device, moved by `offsetBytes`, so that those of
 * several partitions merge and sort there. Nothing submitted to it touches a byte outside its
 * stretch.
 *
 * After `blk_partition_remap` in `block/blk-core.c` of Linux.
 */
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import { EIO } from "../lib/errno.ts";
import { type Bio, cloneBio, endBio, REQ_OP_FLUSH } from "./bio.ts";
import type { BlockDevice } from "./block-device.ts";
import { DeviceOver } from "./device-over.ts";
import type { Plug } from "./plug.ts";

/** The stretch of the base device, both in bytes; inside it. A `Partition` is one. */
export interface DeviceRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** See the head of the file. Has no life of its own: closing is the base device's. */
export class PartitionDevice extends DeviceOver {
  readonly #sizeBytes: number;
  readonly #offsetBytes: number;
  readonly #clock: Clock;

  constructor(base: BlockDevice, range: DeviceRange, options: { clock: Clock; name?: string }) {
    assert(range.offsetBytes >= 0 && range.lengthBytes >= 0, "a partition is a range");
    assert(range.offsetBytes + range.lengthBytes <= base.sizeBytes, "a partition lies inside");
    super(base, options.name ?? `${base.name} from byte ${range.offsetBytes}`);
    this.#sizeBytes = range.lengthBytes;
    this.#offsetBytes = range.offsetBytes;
    this.#clock = options.clock;
  }

  override get sizeBytes(): number {
    return this.#sizeBytes;
  }

  submitBio(bio: Bio, plug?: Plug): void {
    const isFlush = bio.op === REQ_OP_FLUSH;
    if (!isFlush && (bio.offsetBytes < 0 || bio.endBytes > this.sizeBytes)) {
      this.#clock.microtask(() => endBio(bio, -EIO, undefined, this.#clock));
      return;
    }
    const offsetBytes = isFlush ? 0 : bio.offsetBytes + this.#offsetBytes;
    const moved = cloneBio(bio, bio.flags, offsetBytes, ({ status, cause }) => {
      endBio(bio, status, cause, this.#clock);
    });
    this.base.submitBio(moved, plug);
  }
}
