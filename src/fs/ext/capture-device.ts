/**
 * CaptureDevice: a device whose writes stay in memory, over one that is only read. What changed is
 * there to be looked at, and to be written elsewhere.
 *
 *     read     block 7  --> written here? from memory      else from below
 *     write    block 7  --> memory                         nothing reaches the device below
 *
 * Recovery works out here what it will write, and knows the whole of it before the first write.
 * Memory: O(blocks written).
 *
 *  1. Writes are of whole blocks.
 */
import { type Bio, endBio, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { DeviceOver } from "../../block/device-over.ts";
import type { Plug } from "../../block/plug.ts";
import { assert } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import { EOPNOTSUPP } from "../../lib/errno.ts";
import { JournaledDataDevice } from "./journaled-data.ts";

/** See the head of the file. */
export class CaptureDevice extends DeviceOver {
  /** What was written, by block: the newest bytes of each. */
  readonly blocks: Map<number, Uint8Array> = new Map();
  readonly #reader: JournaledDataDevice;
  readonly #blockBytes: number;
  readonly #clock: Clock;

  constructor(base: BlockDevice, blockBytes: number, clock: Clock) {
    super(base);
    this.#blockBytes = blockBytes;
    this.#clock = clock;
    const newer = (blocknr: number): Uint8Array | undefined => this.blocks.get(blocknr);
    this.#reader = new JournaledDataDevice(base, blockBytes, newer, clock);
  }

  override get isReadOnly(): boolean {
    return false;
  }

  submitBio(bio: Bio, plug?: Plug): void {
    if (bio.op === REQ_OP_READ) this.#reader.submitBio(bio, plug);
    else {
      if (bio.op === REQ_OP_WRITE) this.#keep(bio);
      const isKnown = bio.op === REQ_OP_WRITE || bio.op === REQ_OP_FLUSH;
      const status = isKnown ? 0 : -EOPNOTSUPP;
      this.#clock.microtask(() => endBio(bio, status, undefined, this.#clock));
    }
  }

  /** Invariant 1. */
  #keep(bio: Bio): void {
    const blockBytes = this.#blockBytes;
    const bytes = new Uint8Array(bio.endBytes - bio.offsetBytes);
    let at = 0;
    for (const memory of bio.vectors) {
      bytes.set(memory, at);
      at += memory.length;
    }
    assert(bio.offsetBytes % blockBytes === 0 && at % blockBytes === 0, "whole blocks are written");
    for (let from = 0; from < at; from += blockBytes) {
      const blocknr = (bio.offsetBytes + from) / blockBytes;
      this.blocks.set(blocknr, bytes.slice(from, from + blockBytes));
    }
  }
}
