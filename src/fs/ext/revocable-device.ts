/**
 * RevocableDevice: a device that can be taken out of our hands for good. From then on nothing is
 * written to it any more, whoever wants to; reads go on.
 *
 * For a volume that another machine has come to own: whatever we would still write would destroy
 * what that one does.
 */
import { type Bio, endBio, REQ_OP_READ } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { DeviceOver } from "../../block/device-over.ts";
import type { Plug } from "../../block/plug.ts";
import type { Clock } from "../../lib/clock.ts";
import { EROFS } from "../../lib/errno.ts";

/** See the head of the file. */
export class RevocableDevice extends DeviceOver {
  readonly #clock: Clock;
  #cause: Error | undefined;

  constructor(base: BlockDevice, clock: Clock) {
    super(base);
    this.#clock = clock;
  }

  /** Ends all writing, because of `cause`: writes and flushes fail with `-EROFS` from now on. */
  revoke(cause: Error): void {
    this.#cause ??= cause;
  }

  submitBio(bio: Bio, plug?: Plug): void {
    const cause = this.#cause;
    if (cause === undefined || bio.op === REQ_OP_READ) this.base.submitBio(bio, plug);
    else this.#clock.microtask(() => endBio(bio, -EROFS, cause, this.#clock));
  }
}
