/**
 * ScriptDevice: a block device that a test holds in its hand. Every bio is one request; it is
 * recorded, and completes at once, when the test says so, in any order, or not well.
 *
 * Its content is `deviceByte(address)`, which is never 0, so that zeros are always somebody's
 * doing.
 */
import { type Bio, endBio, REQ_RAHEAD } from "../../src/block/bio.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { type BlockStats, zeroBlockStats } from "../../src/block/block-stats.ts";
import { assert } from "../../src/lib/assert.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { EIO, type Errno } from "../../src/lib/errno.ts";

/** What the device holds at byte `address`: 1..255. */
export function deviceByte(address: number): number {
  return 1 + ((address + Math.floor(address / 251) * 7) % 255);
}

/** A bio that was submitted. */
export interface ScriptRequest {
  readonly bio: Bio;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly isReadahead: boolean;
}

/** See the head of the file. */
export class ScriptDevice implements BlockDevice {
  readonly name = "script";
  readonly sizeBytes: number;
  readonly logicalBlockBytes = 512;
  readonly isReadOnly = false;
  readonly ioPages = 256;
  readonly stableWrites = false;
  readonly stats: BlockStats = zeroBlockStats();
  /** Everything submitted, in order. */
  readonly requests: ScriptRequest[] = [];
  /** Submitted and not completed. */
  readonly inFlight: ScriptRequest[] = [];
  /** True: requests wait for `complete`. */
  isHeld = false;
  /** The status with which a request ends, where the test does not give one. */
  statusOf: (request: ScriptRequest) => Errno = () => 0;
  readonly #clock: Clock;

  constructor(clock: Clock, sizeBytes: number) {
    this.#clock = clock;
    this.sizeBytes = sizeBytes;
  }

  submitBio(bio: Bio): void {
    const { offsetBytes, lengthBytes } = bio;
    const isReadahead = (bio.flags & REQ_RAHEAD) !== 0;
    const request = { bio, offsetBytes, lengthBytes, isReadahead };
    this.requests.push(request);
    this.inFlight.push(request);
    if (!this.isHeld) this.#clock.microtask(() => this.complete(request));
  }

  /** Ends `request`: with `status`, or as `statusOf` says. A failed one leaves rubbish behind. */
  complete(request: ScriptRequest, status: Errno = this.statusOf(request)): void {
    const at = this.inFlight.indexOf(request);
    assert(at !== -1, "a request completes once");
    this.inFlight.splice(at, 1);
    let address = request.offsetBytes;
    for (const vector of request.bio.vectors) {
      for (let i = 0; i < vector.length; i++) vector[i] = deviceByte(address++);
      if (status !== 0) vector.fill(0xee);
    }
    const isInside = request.offsetBytes + request.lengthBytes <= this.sizeBytes;
    endBio(request.bio, isInside ? status : -EIO, undefined, this.#clock);
  }

  /** Completes all that is in flight, in the order it came. */
  completeAll(): void {
    while (this.inFlight.length > 0) this.complete(this.inFlight[0]!);
  }
}
