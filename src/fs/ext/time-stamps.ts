/**
 * The times that inodes are stamped with.
 *
 * A file that is written again and again would have its inode changed, and by each `fsync` written
 * through the journal, for a time alone. So writes take the time of a tick, which begins with a
 * stamp and lasts 4 ms, unless somebody has looked at the inode in between:
 *
 *     tick      [ 100 ms .................. ][ 104 ms ......
 *     writes    w1      w2     (stat)  w3     w4
 *     stamps    100     100             103   104
 *                                       tick begins anew, so nobody is ever stamped earlier
 *
 *  1. A change after a look has a time that is later than the one that was seen, as far as the
 *     clock tells them apart.
 *  2. Whatever is changed later never has an earlier stamp, unless the clock was put back.
 *
 * After the multigrain timestamps of `fs/inode.c` of Linux (`inode_set_ctime_current`,
 * `ktime_get_coarse_real_ts64_mg`), with the tick of a kernel of 250 Hz.
 */
import type { Clock } from "../../lib/clock.ts";
import type { Timespec } from "../vfs.ts";
import type { ExtInode } from "./inode.ts";

/** How long a tick lasts. */
const TICK_MS = 4;
const MSEC_PER_SEC = 1000;
const NSEC_PER_MSEC = 1_000_000;

function timespecOf(wallMs: number): Timespec {
  const sec = Math.floor(wallMs / MSEC_PER_SEC);
  return { sec, nsec: Math.floor((wallMs - sec * MSEC_PER_SEC) * NSEC_PER_MSEC) };
}

/** See the head of the file. One for each mount. */
export class TimeStamps {
  readonly #clock: Clock;
  #tickMs = -Infinity;
  #tick: Timespec = { sec: 0, nsec: 0 };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The time of the clock (`ktime_get_real_ts64_mg`). A tick begins. */
  now(): Timespec {
    return this.#begin(this.#clock.wallMs());
  }

  /** The time for a change of the content of `inode`: of the tick, or of the clock (1). */
  forChange(inode: ExtInode): Timespec {
    const wallMs = this.#clock.wallMs();
    const isOver = wallMs >= this.#tickMs + TICK_MS || wallMs < this.#tickMs;
    return isOver || inode.isTimeSeen ? this.#begin(wallMs) : this.#tick;
  }

  #begin(wallMs: number): Timespec {
    if (wallMs !== this.#tickMs) {
      this.#tickMs = wallMs;
      this.#tick = timespecOf(wallMs);
    }
    return this.#tick;
  }
}
