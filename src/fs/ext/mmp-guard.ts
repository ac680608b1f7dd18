/**
 * Multi-mount protection of a writer: nobody else writes this file system, and nobody else may
 * begin to.
 *
 *     take   clean? --write own number, wait, still there?--> ours
 *            else wait: the number changes --> somebody is at work: EBUSY
 *     hold   a new number every few seconds; another's number in its place: no more writing
 *     give   the number that means nobody
 *
 * All reads go to the device: what is cached says nothing about others.
 *
 * After `fs/ext4/mmp.c` (`ext4_multi_mount_protect`, `kmmpd`).
 */
import { REQ_FUA } from "../../block/bio.ts";
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import { writeDevice } from "../../block/write-device.ts";
import { le16, le32, putLe16, putLe32, putLe64 } from "../../lib/bytes.ts";
import type { Clock, Timer } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import type { Random } from "../../lib/random.ts";
import { mmpChecksum } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { MMP, MMP_MAGIC, MMP_SEQ_CLEAN, MMP_SEQ_FSCK, SB } from "./layout.ts";
import { textOfMmp, verifyMmp } from "./mmp.ts";

const MSEC_PER_SEC = 1000;
/** Numbers of a file system in use are at most this. */
const MMP_SEQ_MAX = 0xe24d_4d4f;
const UPDATE_INTERVAL_MIN_SEC = 1;
const CHECK_INTERVAL_MIN_SEC = 5;
/** A check waits for twice the interval, but not this much longer than it. */
const WAIT_EXTRA_MAX_SEC = 60;
/** Others wait for this many of our intervals. */
const CHECK_MULTIPLE = 2;
const CHECK_INTERVAL_MAX_SEC = 300;
/** Bytes of the node's name and the device's, without their zero. */
const NODE_NAME_BYTES = 63;
const DEVICE_NAME_BYTES = 31;
const NAME = "quire";

/** What a guard works with. */
export interface MmpGuardOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Called once when the block is not ours any more, or cannot be written. */
  readonly onLost: (cause: FsError) => void;
  /** Ends taking; who has the file system keeps it. */
  readonly signal?: AbortSignal | undefined;
}

/** See the head of the file. Made by `MmpGuard.take`. */
export class MmpGuard {
  readonly #ctx: ExtContext;
  readonly #device: BlockDevice;
  readonly #options: MmpGuardOptions;
  readonly #updateMs: number;
  #sequence = MMP_SEQ_CLEAN;
  #timer: Timer | null = null;
  #updating: Promise<void> | null = null;
  #isLost = false;

  private constructor(ctx: ExtContext, device: BlockDevice, options: MmpGuardOptions) {
    this.#ctx = ctx;
    this.#device = device;
    this.#options = options;
    const interval = le16(ctx.sb.raw, SB.s_mmp_update_interval);
    this.#updateMs = Math.max(interval, UPDATE_INTERVAL_MIN_SEC) * MSEC_PER_SEC;
  }

  /**
   * Takes the file system of `ctx` on `device`, which takes seconds: twice the interval in which
   * others would show themselves.
   *
   * @throws {FsError} `EBUSY` if somebody has it, naming who; `EUCLEAN`, `EBADMSG`, `EIO`
   */
  static async take(
    ctx: ExtContext,
    device: BlockDevice,
    options: MmpGuardOptions,
  ): Promise<MmpGuard> {
    const guard = new MmpGuard(ctx, device, options);
    try {
      await guard.#take();
    } catch (thrown) {
      // Nobody shall wait for one who has gone; what another has written stays.
      if (guard.#sequence !== MMP_SEQ_CLEAN) await guard.give().catch(() => undefined);
      throw thrown;
    }
    return guard;
  }

  /** Gives the file system back. All else must be on the device. */
  async give(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    await this.#updating;
    if (this.#isLost) return;
    const block = await this.#read();
    this.#checkOurs(block);
    await this.#write(block, MMP_SEQ_CLEAN);
    this.#isLost = true; // It is nobody's now.
  }

  async #take(): Promise<void> {
    const { random, signal } = this.#options;
    let block = await this.#read(signal);
    const seen = le32(block, MMP.mmp_seq);
    if (seen === MMP_SEQ_FSCK) {
      throw this.#busy("a check of it is running, or was broken off: run e2fsck");
    }
    const stated = Math.max(le16(block, MMP.mmp_check_interval), CHECK_INTERVAL_MIN_SEC);
    const waitSec = Math.min(stated * 2 + 1, stated + WAIT_EXTRA_MAX_SEC);
    if (seen !== MMP_SEQ_CLEAN) {
      await this.#sleep(waitSec);
      block = await this.#read(signal);
      if (le32(block, MMP.mmp_seq) !== seen) throw this.#busy(this.#whoOf(block));
    }
    await this.#write(block, 1 + random.below(MMP_SEQ_MAX));
    await this.#sleep(waitSec);
    block = await this.#read(signal);
    if (le32(block, MMP.mmp_seq) !== this.#sequence) throw this.#busy(this.#whoOf(block));
    this.#schedule();
  }

  #schedule(): void {
    const { clock } = this.#options;
    this.#timer = clock.setTimer(this.#updateMs, () => this.#tick(), true);
  }

  #tick(): void {
    this.#timer = null;
    this.#updating = this.#update()
      .catch((thrown: unknown) => {
        this.#isLost = true;
        const detail = "multi-mount protection could not be kept up";
        const isOurs = thrown instanceof FsError;
        this.#options.onLost(isOurs ? thrown : new FsError("EIO", { detail, cause: thrown }));
      })
      .finally(() => {
        this.#updating = null;
      });
  }

  async #update(): Promise<void> {
    const block = await this.#read();
    this.#checkOurs(block);
    await this.#write(block, this.#sequence === MMP_SEQ_MAX ? 1 : this.#sequence + 1);
    this.#schedule();
  }

  #checkOurs(block: Uint8Array): void {
    if (le32(block, MMP.mmp_seq) !== this.#sequence) throw this.#busy(this.#whoOf(block));
  }

  async #read(signal?: AbortSignal): Promise<Uint8Array> {
    const { mmpBlock, blockBytes } = this.#ctx.sb;
    const block = await readDevice(this.#device, mmpBlock * blockBytes, blockBytes, signal);
    verifyMmp(block, mmpBlock, this.#ctx);
    return block;
  }

  async #write(block: Uint8Array, sequence: number): Promise<void> {
    const { clock } = this.#options;
    putLe32(block, MMP.mmp_magic, MMP_MAGIC);
    putLe32(block, MMP.mmp_seq, sequence);
    putLe64(block, MMP.mmp_time, Math.floor(clock.wallMs() / MSEC_PER_SEC));
    putName(block, MMP.mmp_nodename, NODE_NAME_BYTES, NAME);
    putName(block, MMP.mmp_bdevname, DEVICE_NAME_BYTES, this.#device.name);
    const checkSec = Math.max(
      (CHECK_MULTIPLE * this.#updateMs) / MSEC_PER_SEC,
      CHECK_INTERVAL_MIN_SEC,
    );
    putLe16(block, MMP.mmp_check_interval, Math.min(checkSec, CHECK_INTERVAL_MAX_SEC));
    if (this.#ctx.hasMetadataCsum) {
      putLe32(block, MMP.mmp_checksum, mmpChecksum(this.#ctx.seed, block));
    }
    const { mmpBlock, blockBytes } = this.#ctx.sb;
    await writeDevice(this.#device, mmpBlock * blockBytes, block, REQ_FUA);
    this.#sequence = sequence;
  }

  #whoOf(block: Uint8Array): string {
    const node = JSON.stringify(textOfMmp(block, MMP.mmp_nodename, NODE_NAME_BYTES + 1));
    return `it is in use by the machine ${node}`;
  }

  #busy(who: string): FsError {
    return new FsError("EBUSY", { detail: `multi-mount protection: ${who}` });
  }

  #sleep(seconds: number): Promise<void> {
    const { clock, signal } = this.#options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const timer = clock.setTimer(seconds * MSEC_PER_SEC, () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      });
      const onAbort = (): void => {
        timer.cancel();
        reject(signal!.reason);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}

function putName(block: Uint8Array, at: number, lengthBytes: number, name: string): void {
  block.fill(0, at, at + lengthBytes + 1);
  block.set(new TextEncoder().encode(name).subarray(0, lengthBytes), at);
}
