/**
 * StoreGuard: what every store does around a call, so that all of them answer wrong calls alike.
 *
 *     check     EBADF after `close`, EROFS, EINVAL outside the store, then an aborted signal
 *     track     counts the calls in flight, for `close` to wait for
 *
 * A store of one's own need not use it: the conformance suite is what counts.
 */
import { FsError } from "../lib/errno.ts";
import { WaitQueue } from "../lib/locks.ts";

/** A call of a store, for logs, counts and faults. */
export type StoreOp = "read" | "write" | "flush" | "discard" | "writeZeroes";

export class StoreGuard {
  readonly #name: string;
  readonly #sizeBytes: number;
  readonly #canWrite: boolean;
  readonly #idle = new WaitQueue();
  #callsInFlight = 0;
  #closed: Promise<void> | undefined;

  constructor(name: string, sizeBytes: number, canWrite: boolean) {
    this.#name = name;
    this.#sizeBytes = sizeBytes;
    this.#canWrite = canWrite;
  }

  /**
   * Passes if the call may go on.
   *
   * @throws {FsError} `EBADF` after `close`, `EROFS` for a change of a read-only store, `EINVAL`
   *   for a range that does not lie inside the store
   * @throws the reason of `signal` if it is aborted
   */
  check(op: StoreOp, offsetBytes: number, lengthBytes: number, signal?: AbortSignal): void {
    if (this.#closed !== undefined) throw this.#error("EBADF", op, "the store is closed");
    if (!this.#canWrite && op !== "read" && op !== "flush") throw this.#error("EROFS", op);
    const isInside =
      Number.isSafeInteger(offsetBytes) &&
      Number.isSafeInteger(lengthBytes) &&
      offsetBytes >= 0 &&
      lengthBytes >= 0 &&
      offsetBytes + lengthBytes <= this.#sizeBytes;
    if (!isInside) {
      const range = `${lengthBytes} bytes at ${offsetBytes}`;
      throw this.#error(
        "EINVAL",
        op,
        `${range} lie outside the ${this.#sizeBytes} bytes there are`,
      );
    }
    if (signal?.aborted) throw signal.reason;
  }

  /** Runs `call` and counts it as in flight until it has settled. */
  async track<T>(call: () => Promise<T>): Promise<T> {
    this.#callsInFlight++;
    try {
      return await call();
    } finally {
      this.#callsInFlight--;
      if (this.#callsInFlight === 0) this.#idle.wakeAll();
    }
  }

  /**
   * Lets no call begin any more, waits for those in flight, then runs `release`. Once; later calls
   * wait.
   */
  close(release: () => Promise<void> | void): Promise<void> {
    this.#closed ??= this.#finish(release);
    return this.#closed;
  }

  async #finish(release: () => Promise<void> | void): Promise<void> {
    if (this.#callsInFlight > 0) await this.#idle.wait();
    await release();
  }

  #error(code: "EBADF" | "EROFS" | "EINVAL", op: StoreOp, detail?: string): FsError {
    return new FsError(code, { syscall: op, path: this.#name, detail });
  }
}
