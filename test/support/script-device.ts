/**
 * ScriptDevice: a block device that a test holds in its hand. Every bio is one request; it is
 * recorded, and completes at once, when the test says so, in any order, or not well.
 *
 * Its content is `deviceByte(address)`, which is never 0, so that zeros are always somebody's
 * doing; and whatever was written since, as it was in memory when the write completed.
 */
import { type Bio, endBio, REQ_OP_WRITE, REQ_RAHEAD } from "../../src/block/bio.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import { type BlockStats, zeroBlockStats } from "../../src/block/block-stats.ts";
import { assert } from "../../src/lib/assert.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { EIO, type Errno } from "../../src/lib/errno.ts";
import { SECTOR_BYTES } from "../../src/lib/units.ts";

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
  readonly isWrite: boolean;
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
  /** Sectors that were written. */
  readonly #written = new Map<number, Uint8Array>();

  constructor(clock: Clock, sizeBytes: number) {
    this.#clock = clock;
    this.sizeBytes = sizeBytes;
  }

  submitBio(bio: Bio): void {
    const { offsetBytes, lengthBytes } = bio;
    const isReadahead = (bio.flags & REQ_RAHEAD) !== 0;
    const isWrite = bio.op === REQ_OP_WRITE;
    const request = { bio, offsetBytes, lengthBytes, isReadahead, isWrite };
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
      if (!request.isWrite) this.peek(address, vector);
      else if (status === 0) this.poke(address, vector);
      if (!request.isWrite && status !== 0) vector.fill(0xee);
      address += vector.length;
    }
    const isInside = request.offsetBytes + request.lengthBytes <= this.sizeBytes;
    endBio(request.bio, isInside ? status : -EIO, undefined, this.#clock);
  }

  /** Completes all that is in flight, in the order it came. */
  completeAll(): void {
    while (this.inFlight.length > 0) this.complete(this.inFlight[0]!);
  }

  /** What it holds at byte `address`. */
  byteAt(address: number): number {
    const sector = this.#written.get(Math.floor(address / SECTOR_BYTES));
    return sector?.[address % SECTOR_BYTES] ?? deviceByte(address);
  }

  /** Fills `into` with what it holds from byte `address` on. */
  peek(address: number, into: Uint8Array): void {
    for (let at = 0; at < into.length; ) {
      const sector = Math.floor((address + at) / SECTOR_BYTES);
      const fromBytes = (address + at) % SECTOR_BYTES;
      const countBytes = Math.min(SECTOR_BYTES - fromBytes, into.length - at);
      const written = this.#written.get(sector);
      if (written !== undefined) into.set(written.subarray(fromBytes, fromBytes + countBytes), at);
      else for (let i = at; i < at + countBytes; i++) into[i] = deviceByte(address + i);
      at += countBytes;
    }
  }

  /** Makes it hold `bytes`, whole sectors, from byte `address` on. */
  poke(address: number, bytes: Uint8Array): void {
    assert(address % SECTOR_BYTES === 0, "a write begins at a sector");
    assert(bytes.length % SECTOR_BYTES === 0, "a write is of whole sectors");
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      this.#written.set((address + at) / SECTOR_BYTES, bytes.slice(at, at + SECTOR_BYTES));
    }
  }
}
