/**
 * DeviceWriter: blocks of a new file system on their way to the device, in few large requests and
 * with bounded memory.
 *
 * Blocks that follow one another are gathered; some requests are in flight at once. What was given
 * away must not be changed any more.
 */
import {
  Bio,
  REQ_META,
  REQ_OP_FLUSH,
  REQ_OP_WRITE,
  REQ_OP_WRITE_ZEROES,
  REQ_SYNC,
  type RequestOp,
} from "../../../block/bio.ts";
import type { BlockDevice } from "../../../block/block-device.ts";
import { FsError } from "../../../lib/errno.ts";
import { KIB, MIB } from "../../../lib/units.ts";

const IN_FLIGHT_BYTES_MAX = 8 * MIB;
const REQUEST_BYTES_MAX = MIB;

/** See the head of the file. */
export class DeviceWriter {
  readonly #device: BlockDevice;
  readonly #blockBytes: number;
  readonly #syscall: string;
  #pending: Bio | undefined;
  #inFlightBytes = 0;
  #inFlight = 0;
  #failure: FsError | undefined;
  #wake: (() => void) | undefined;
  #writtenBytes = 0;

  /** `syscall` is what errors name. */
  constructor(device: BlockDevice, blockBytes: number, syscall = "mkfs") {
    this.#syscall = syscall;
    this.#device = device;
    this.#blockBytes = blockBytes;
  }

  /** Whole KiB given to the device so far. */
  get writtenKib(): number {
    return Math.floor(this.#writtenBytes / KIB);
  }

  /** Writes `bytes` from block `blocknr` on; to be awaited before the next call. */
  async write(blocknr: number, bytes: Uint8Array): Promise<void> {
    await this.writeBytes(blocknr * this.#blockBytes, bytes);
  }

  /** As `write`, at a byte of the device. */
  async writeBytes(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    this.#writtenBytes += bytes.length;
    const isNext =
      this.#pending?.endBytes === offsetBytes &&
      this.#pending.lengthBytes + bytes.length <= REQUEST_BYTES_MAX;
    if (!isNext || this.#pending?.addVector(bytes) !== true) {
      await this.#submitPending();
      this.#pending = this.#bio(REQ_OP_WRITE, offsetBytes);
      this.#pending.addVector(bytes);
    }
  }

  /** Makes `count` blocks from `blocknr` on read as zeros. */
  async zero(blocknr: number, count: number): Promise<void> {
    await this.zeroBytes(blocknr * this.#blockBytes, count * this.#blockBytes);
  }

  async zeroBytes(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (lengthBytes === 0) return;
    await this.#submitPending();
    const bio = this.#bio(REQ_OP_WRITE_ZEROES, offsetBytes);
    bio.lengthBytes = lengthBytes;
    await this.#submit(bio);
  }

  /** All that was written is durable when this resolves. Throws what a write has failed with. */
  async flush(): Promise<void> {
    await this.settle();
    await this.#submit(this.#bio(REQ_OP_FLUSH, 0));
    await this.settle();
  }

  /** Waits for all requests. Throws what one has failed with. */
  async settle(): Promise<void> {
    await this.#submitPending();
    await this.#untilInFlight(0);
  }

  #bio(op: RequestOp, offsetBytes: number): Bio {
    return new Bio(op, REQ_META | REQ_SYNC, offsetBytes, (bio) => this.#end(bio));
  }

  async #submitPending(): Promise<void> {
    const bio = this.#pending;
    this.#pending = undefined;
    if (bio !== undefined) await this.#submit(bio);
  }

  async #submit(bio: Bio): Promise<void> {
    await this.#untilInFlight(IN_FLIGHT_BYTES_MAX);
    this.#inFlight++;
    if (bio.op === REQ_OP_WRITE) this.#inFlightBytes += bio.lengthBytes;
    this.#device.submitBio(bio);
  }

  #end(bio: Bio): void {
    this.#inFlight--;
    if (bio.op === REQ_OP_WRITE) this.#inFlightBytes -= bio.lengthBytes;
    if (bio.status !== 0) {
      const detail = `${bio.lengthBytes} bytes at ${bio.offsetBytes} of ${this.#device.name}`;
      this.#failure ??= FsError.of(bio.status, {
        syscall: this.#syscall,
        detail,
        cause: bio.cause,
      });
    }
    this.#wake?.();
  }

  /** Waits until at most `bytes` are being written, and with 0 for everything else too. */
  async #untilInFlight(bytes: number): Promise<void> {
    while (this.#inFlightBytes > bytes || (bytes === 0 && this.#inFlight > 0)) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    if (this.#failure !== undefined) throw this.#failure;
  }
}
