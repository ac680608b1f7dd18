/**
 * Times as callers give them, and as inodes keep them.
 *
 *     Date, seconds, text with seconds    Node's own, down to microseconds as Node's
 *     bigint                              nanoseconds since 1970: what Node has no form for
 */
import type { Timespec } from "../fs/vfs.ts";
import type { Clock } from "../lib/clock.ts";
import { FsError } from "../lib/errno.ts";
import { checkTime } from "./arguments.ts";

/** What `utimes` takes. */
export type TimeLike = number | string | Date | bigint;

const MS_PER_SEC = 1000;
const USEC_PER_SEC = 1_000_000;
const NSEC_PER_USEC = 1000;
const NSEC_PER_SEC = 1_000_000_000n;

function ofSeconds(seconds: number): Timespec {
  const whole = Math.trunc(seconds);
  const usec = Math.trunc((seconds - whole) * USEC_PER_SEC);
  return usec < 0
    ? { sec: whole - 1, nsec: (USEC_PER_SEC + usec) * NSEC_PER_USEC }
    : { sec: whole, nsec: usec * NSEC_PER_USEC };
}

/** The wall clock's time, in whole milliseconds. */
export function nowOf(clock: Clock): Timespec {
  return ofSeconds(clock.wallMs() / MS_PER_SEC);
}

/**
 * The time that a caller means; negative numbers mean now, as for Node. Throws
 * `ERR_INVALID_ARG_TYPE`, which names `name`; for what is no time at all, an invalid `Date` say,
 * `EINVAL`.
 */
export function timeOf(time: unknown, name: string, clock: Clock): Timespec {
  if (typeof time === "bigint") {
    const nsec = ((time % NSEC_PER_SEC) + NSEC_PER_SEC) % NSEC_PER_SEC;
    return { sec: Number((time - nsec) / NSEC_PER_SEC), nsec: Number(nsec) };
  }
  checkTime(time, name);
  if (typeof time === "number" && time < 0) return nowOf(clock);
  const seconds = time instanceof Date ? time.getTime() / MS_PER_SEC : Number(time);
  if (!Number.isFinite(seconds)) throw new FsError("EINVAL");
  return ofSeconds(seconds);
}
