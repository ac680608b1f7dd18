/**
 * RecordingDevice: passes bios on and writes down each one when it is submitted, in the notation
 * of the acceptance cases: `R[100-103]A` is one bio that reads the device blocks 100 to 103.
 *
 *     suffix   A  REQ_RAHEAD     M  REQ_META     S  REQ_SYNC     B  REQ_BACKGROUND
 *
 * What the queue below makes of them (merged, sorted) is in `requests`, in the same notation.
 */
import {
  type Bio,
  REQ_BACKGROUND,
  REQ_META,
  REQ_OP_WRITE,
  REQ_RAHEAD,
  REQ_SYNC,
} from "../../src/block/bio.ts";
import type { BlockDevice } from "../../src/block/block-device.ts";
import type { BlockStats } from "../../src/block/block-stats.ts";
import type { Plug } from "../../src/block/plug.ts";

interface Range {
  readonly op: number;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** "R[100-103]A", "R[7]M": what is read or written, in blocks. */
function notationOf({ op, flags, offsetBytes, lengthBytes }: Range, blockBytes: number): string {
  const first = offsetBytes / blockBytes;
  const last = (offsetBytes + lengthBytes) / blockBytes - 1;
  const suffix =
    ((flags & REQ_SYNC) !== 0 ? "S" : "") +
    ((flags & REQ_BACKGROUND) !== 0 ? "B" : "") +
    ((flags & REQ_RAHEAD) !== 0 ? "A" : "") +
    ((flags & REQ_META) !== 0 ? "M" : "");
  return `${op === REQ_OP_WRITE ? "W" : "R"}[${first === last ? first : `${first}-${last}`}]${suffix}`;
}

/** See the head of the file. */
export class RecordingDevice implements BlockDevice {
  /** Bios in the order of their submission, and whatever the test has noted among them. */
  readonly events: string[] = [];
  /** Requests in the order of their dispatch. */
  readonly requests: string[] = [];
  readonly #inner: BlockDevice;
  readonly #blockBytes: number;

  constructor(inner: BlockDevice, blockBytes: number) {
    this.#inner = inner;
    this.#blockBytes = blockBytes;
    inner.log = (request) => this.requests.push(notationOf(request, blockBytes));
  }

  get name(): string {
    return this.#inner.name;
  }

  get sizeBytes(): number {
    return this.#inner.sizeBytes;
  }

  get logicalBlockBytes(): number {
    return this.#inner.logicalBlockBytes;
  }

  get isReadOnly(): boolean {
    return this.#inner.isReadOnly;
  }

  get ioPages(): number {
    return this.#inner.ioPages;
  }

  get stableWrites(): boolean {
    return this.#inner.stableWrites;
  }

  get stats(): BlockStats {
    return this.#inner.stats;
  }

  /** The bios so far, without the test's notes. */
  get bios(): readonly string[] {
    return this.events.filter((event) => /^[RW]\[/.test(event));
  }

  submitBio(bio: Bio, plug?: Plug): void {
    this.events.push(notationOf(bio, this.#blockBytes));
    this.#inner.submitBio(bio, plug);
  }
}
