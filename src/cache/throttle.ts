/**
 * WriterThrottle: holds up those who dirty pages, so that no more become dirty than the limit and
 * than the device can write.
 *
 *     dirty pages    0 .......... background ......... freerun ............ limit
 *     flusher          idle          |  runs
 *     writers          go on                            |  pause           |  wait for a write
 *
 * Each page dirtied above freerun costs the time that the device takes to write one, more as the
 * limit comes near. Costs add up in `#dueMs`, for all writers of the device together, until they
 * are worth a pause.
 *
 *  1. No writer pauses below freerun. A pause is at most 200 ms, and ends early with its reason.
 *  2. At the limit a writer waits until something was written and there is room; where others hold
 *     the room, a device with few dirty pages of its own gets on after one pause.
 *  3. Whoever pauses has made sure that the flusher runs, and holds no folio lock.
 *  4. While writes keep failing and stay dirty, a writer waits for ten seconds, then it fails.
 *
 * After `balance_dirty_pages` in `mm/page-writeback.c` of Linux. Left out: tasks, memory cgroups,
 * limits per device; the rate is a plain running mean.
 */
import type { Clock } from "../lib/clock.ts";
import { EAGAIN, EINTR, type Errno } from "../lib/errno.ts";
import type { MaybeAsync } from "../lib/maybe.ts";
import type { AddressSpace } from "./address-space.ts";
import type { PageCache } from "./page-cache.ts";

const PAUSE_MAX_MS = 200;
/** Shorter pauses are saved up: a timer costs more. */
const PAUSE_MIN_MS = 5;
const FAILURE_WAIT_MS = 10_000;
const RATE_SAMPLE_MS = 200;
/** A device that wrote nothing for so long was idle. */
const RATE_IDLE_MS = 1_000;
/** What a device is taken to write until it was seen: 100 MiB/s. */
const PAGES_PER_SECOND_DEFAULT = 25_600;
const RATE_OLD_SHARE = 7 / 8;
const MS_PER_SECOND = 1_000;
/** Of the limit, what one of several devices may always dirty. */
const OWN_SHARE = 1 / 4;

/** Pages that a device writes per second (`avg_write_bandwidth`). */
export class WriteRate {
  readonly #clock: Clock;
  readonly #isFixed: boolean;
  #pagesPerSecond: number;
  #sinceMs = 0;
  #lastMs = -Infinity;
  #pages = 0;

  /** With `pagesPerSecond` it is not measured, but always this. */
  constructor(clock: Clock, pagesPerSecond?: number) {
    this.#clock = clock;
    this.#isFixed = pagesPerSecond !== undefined;
    this.#pagesPerSecond = pagesPerSecond ?? PAGES_PER_SECOND_DEFAULT;
  }

  get pagesPerSecond(): number {
    return this.#pagesPerSecond;
  }

  /** Notes that the write of `pageCount` pages has ended. */
  written(pageCount: number): void {
    if (this.#isFixed) return;
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#lastMs > RATE_IDLE_MS) {
      this.#sinceMs = nowMs;
      this.#pages = 0;
    }
    this.#lastMs = nowMs;
    this.#pages += pageCount;
    const elapsedMs = nowMs - this.#sinceMs;
    if (elapsedMs < RATE_SAMPLE_MS) return;
    const rate = (this.#pages / elapsedMs) * MS_PER_SECOND;
    this.#pagesPerSecond = this.#pagesPerSecond * RATE_OLD_SHARE + rate * (1 - RATE_OLD_SHARE);
    this.#sinceMs = nowMs;
    this.#pages = 0;
  }
}

/** What the throttle asks of its device. */
export interface ThrottledDevice {
  readonly nrDirty: number;
  readonly nrWriteback: number;
  readonly nrDirtied: number;
  /** The error of the last failed write, while there is something that could not be written. */
  readonly failure: Errno;
  /** Has the flusher write until few pages are dirty. */
  startBackground(): void;
}

/** See the head of the file. */
export class WriterThrottle {
  readonly #cache: PageCache;
  readonly #device: ThrottledDevice;
  readonly #rate: WriteRate;
  /** `nrDirtied` of the device when somebody paid last. */
  #paidPages = 0;
  /** Until when what was dirtied so far takes to be written. */
  #dueMs = 0;

  constructor(cache: PageCache, device: ThrottledDevice, rate: WriteRate) {
    this.#cache = cache;
    this.#device = device;
    this.#rate = rate;
  }

  /**
   * Called by a writer before it dirties the next folio (`balance_dirty_pages`). Returns 0 when it
   * may; `-EAGAIN` with `isNowait` instead of a pause, `-EINTR` once `signal` is aborted, or the
   * error of writes that have failed for ten seconds.
   */
  balance(signal: AbortSignal | undefined, isNowait: boolean): MaybeAsync<Errno> {
    const cache = this.#cache;
    const newPages = this.#device.nrDirtied - this.#paidPages;
    this.#paidPages = this.#device.nrDirtied;
    const { dirtyLimits, dirtyablePages } = cache;
    if (cache.nrDirty > dirtyLimits.backgroundPages(dirtyablePages)) this.#device.startBackground();
    if (this.#dirtyPages <= dirtyLimits.freerunPages(dirtyablePages)) return 0;
    this.#device.startBackground();
    if (isNowait) return -EAGAIN;
    if (this.#isOverLimit) return this.#waitForRoom(signal);
    const pauseMs = this.#pauseMsFor(newPages);
    return pauseMs < PAUSE_MIN_MS ? 0 : this.#pause(pauseMs, signal);
  }

  get #dirtyPages(): number {
    return this.#cache.nrDirty + this.#cache.nrWriteback;
  }

  get #isOverLimit(): boolean {
    const { dirtyLimits, dirtyablePages } = this.#cache;
    return this.#dirtyPages >= dirtyLimits.limitPages(dirtyablePages);
  }

  get #isThrottled(): boolean {
    const { dirtyLimits, dirtyablePages } = this.#cache;
    return this.#dirtyPages > dirtyLimits.freerunPages(dirtyablePages);
  }

  /** Charges `newPages`, and returns how long a writer has to pause for what is owed. */
  #pauseMsFor(newPages: number): number {
    const nowMs = this.#cache.clock.nowMs();
    const rate = this.#rate.pagesPerSecond * this.#positionRatio();
    const costMs = rate > 0 ? (newPages / rate) * MS_PER_SECOND : PAUSE_MAX_MS;
    this.#dueMs = Math.min(Math.max(this.#dueMs, nowMs) + costMs, nowMs + PAUSE_MAX_MS);
    return this.#dueMs - nowMs;
  }

  /** 2 at freerun, 1 halfway to the limit, 0 at the limit (`pos_ratio_polynom`). */
  #positionRatio(): number {
    const { dirtyLimits, dirtyablePages } = this.#cache;
    const limit = dirtyLimits.limitPages(dirtyablePages);
    const setpoint = (dirtyLimits.freerunPages(dirtyablePages) + limit) / 2;
    const x = (setpoint - this.#dirtyPages) / (limit - setpoint);
    return Math.min(2, Math.max(0, 1 + x ** 3));
  }

  async #pause(pauseMs: number, signal: AbortSignal | undefined): Promise<Errno> {
    const { clock } = this.#cache;
    const untilMs = clock.nowMs() + pauseMs;
    while (clock.nowMs() < untilMs && this.#isThrottled) {
      const isInTime = await this.#sleep(untilMs - clock.nowMs(), signal);
      if (!isInTime) return -EINTR;
    }
    return 0;
  }

  async #waitForRoom(signal: AbortSignal | undefined): Promise<Errno> {
    const { clock } = this.#cache;
    const sinceMs = clock.nowMs();
    while (this.#isOverLimit) {
      this.#device.startBackground();
      const isInTime = await this.#sleep(PAUSE_MAX_MS, signal);
      if (!isInTime) return -EINTR;
      const waitedMs = clock.nowMs() - sinceMs;
      if (waitedMs >= PAUSE_MAX_MS && this.#hasFewPages) return 0;
      if (waitedMs >= FAILURE_WAIT_MS && this.#device.failure !== 0) return this.#device.failure;
    }
    return 0;
  }

  /** True if others have made the limit full. */
  get #hasFewPages(): boolean {
    const { dirtyLimits, dirtyablePages, flushers } = this.#cache;
    if (flushers.size < 2) return false;
    const sharePages = (dirtyLimits.limitPages(dirtyablePages) * OWN_SHARE) / flushers.size;
    return this.#device.nrDirty + this.#device.nrWriteback < sharePages;
  }

  /** Sleeps until a write ends, or for `forMs`; false if `signal` ends it. */
  async #sleep(forMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const { clock, throttleWaiters } = this.#cache;
    const timer = clock.setTimer(forMs, () => throttleWaiters.wakeAll());
    try {
      await throttleWaiters.wait(signal);
      return true;
    } catch {
      return false;
    } finally {
      timer.cancel();
    }
  }
}

/**
 * Has the task pause if there is too much dirty already, before it dirties more of `mapping`
 * (`balance_dirty_pages_ratelimited`). The caller holds no folio lock. Synchronous below the limits
 * and for a mapping that no flusher writes. Returns as `WriterThrottle.balance` does.
 */
export function balanceDirtyPagesRatelimited(
  mapping: AddressSpace,
  signal?: AbortSignal,
  isNowait = false,
): MaybeAsync<Errno> {
  return mapping.wbInode?.sb.bdi?.throttle.balance(signal, isNowait) ?? 0;
}
