/**
 * Writes and flushes that somebody waits for, past every cache: the counterpart of `readDevice`.
 */
import { FsError } from "../lib/errno.ts";
import { Bio, REQ_META, REQ_OP_FLUSH, REQ_OP_WRITE, REQ_SYNC } from "./bio.ts";
import type { BlockDevice } from "./block-device.ts";

/**
 * Writes `bytes` at `offsetBytes`, with `flags` of `REQ_FUA` and `REQ_PREFLUSH` or 0. `bytes` is
 * borrowed until the promise settles. Submitted when this returns, so that writes of one stretch
 * of code merge.
 *
 * @throws {FsError} the errno of the store, with its error as `cause`; `EROFS`, `EIO`
 */
export function writeDevice(
  dev: BlockDevice,
  offsetBytes: number,
  bytes: Uint8Array,
  flags = 0,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const bio = new Bio(REQ_OP_WRITE, REQ_SYNC | REQ_META | flags, offsetBytes, (done) => {
      const { status, cause } = done;
      const detail = `${bytes.length} bytes at ${offsetBytes} of ${dev.name}`;
      if (status === 0) resolve();
      else reject(FsError.of(status, { syscall: "write", detail, cause }));
    });
    bio.addVector(bytes);
    dev.submitBio(bio);
  });
}

/**
 * Makes durable what has been written before the call (`blkdev_issue_flush`).
 *
 * @throws {FsError} the errno of the store, with its error as `cause`
 */
export function flushDevice(dev: BlockDevice): Promise<void> {
  return new Promise((resolve, reject) => {
    const bio = new Bio(REQ_OP_FLUSH, REQ_SYNC, 0, ({ status, cause }) => {
      if (status === 0) resolve();
      else reject(FsError.of(status, { syscall: "fsync", detail: dev.name, cause }));
    });
    dev.submitBio(bio);
  });
}
