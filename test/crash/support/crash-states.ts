/**
 * What a power cut may leave, for each moment of a record: all that a flush or FUA has made
 * durable, and of the rest whatever the disk got to, sector by sector.
 *
 *     nothing    all    all but one    only one    torn: each sector of each write by chance
 *
 *  1. A flush makes durable the writes that had ended when it was submitted; a write with FUA makes
 *     itself durable, no other.
 *  2. A write in flight may have arrived, whole or in part, as one that has ended may be lost.
 *  3. A newer durable version of a sector is never overtaken by an older one.
 *
 * Between two moments at which the disk may hold the same things, and at which the same was
 * promised, only the torn states are different: the others are not tried twice.
 */
import { Random } from "../../../src/lib/random.ts";
import { SECTOR_BYTES } from "../../../src/lib/units.ts";
import type { CrashImage } from "./crash-image.ts";
import type { DiskEvent, RecordedWrite } from "./recorded-store.ts";

/** How many writes are tried alone, and how many states are torn, at each moment. */
const ONLY_MAX = 32;
const TORN_COUNT = 16;

/** What is left of the writes that are not durable: "none", "all", "but 3", "only 3", "torn 3". */
export type CrashChoice = string;

/** A power cut. */
export interface CrashPoint {
  /** Number of events that have happened. */
  readonly time: number;
  readonly choice: CrashChoice;
}

interface PendingWrite {
  readonly write: RecordedWrite;
  /** Place in the order in which writes have ended. */
  done: number;
}

/** Where a disk is in its record. */
export class DiskTimeline {
  readonly #events: readonly DiskEvent[];
  readonly #pending = new Map<number, PendingWrite>();
  /** Writes that had ended when a flush began, by the flush. */
  readonly #flushes = new Map<number, readonly PendingWrite[]>();
  /** Order in which the durable version of a sector has ended. */
  readonly #durable = new Map<number, number>();
  #doneCount = 0;
  #hardCount = 0;
  time = 0;

  constructor(events: readonly DiskEvent[]) {
    this.#events = events;
  }

  /** Writes that a power cut may lose, in the order in which they have ended, or will. */
  get volatile(): readonly PendingWrite[] {
    return [...this.#pending.values()].sort((a, b) => a.done - b.done || a.write.id - b.write.id);
  }

  /** Differs where the disk may hold something else. */
  get key(): string {
    return `${this.#hardCount} ${[...this.#pending.keys()].join(" ")}`;
  }

  /** Goes on to `time`, and puts into `image` what has become durable. */
  advance(time: number, image?: CrashImage): void {
    while (this.time < time) this.#apply(this.#events[this.time++]!, image);
  }

  /** Puts what is left by `choice` of the volatile writes into `image`. */
  crash(choice: CrashChoice, image: CrashImage): void {
    const [kind = "", number = "0"] = choice.split(" ");
    const random = new Random(Number(number));
    for (const [at, pending] of this.volatile.entries()) {
      if (kind === "none") continue;
      if (kind === "but" && at === Number(number)) continue;
      if (kind === "only" && at !== Number(number)) continue;
      this.#put(pending, image, kind === "torn" ? random : undefined);
    }
  }

  #apply(event: DiskEvent, image: CrashImage | undefined): void {
    if (event.kind === "write") {
      this.#pending.set(event.id, { write: event, done: Infinity });
    } else if (event.kind === "flush") {
      const ended = this.volatile.filter(({ done }) => done !== Infinity);
      this.#flushes.set(event.id, ended);
    } else if (event.kind === "flushed") {
      for (const pending of this.#flushes.get(event.id)!) this.#harden(pending, image);
      this.#flushes.delete(event.id);
    } else if (event.kind === "failed") {
      this.#pending.delete(event.id);
    } else {
      const pending = this.#pending.get(event.id)!;
      pending.done = this.#doneCount++;
      if (pending.write.isFua) this.#harden(pending, image);
    }
  }

  #harden(pending: PendingWrite, image: CrashImage | undefined): void {
    if (!this.#pending.delete(pending.write.id)) return;
    this.#hardCount++;
    if (image !== undefined) this.#put(pending, image, undefined);
    const { offsetBytes, bytes } = pending.write;
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      const sector = (offsetBytes + at) / SECTOR_BYTES;
      const before = this.#durable.get(sector) ?? -1;
      this.#durable.set(sector, Math.max(before, pending.done));
    }
  }

  /** All of a write, or with `random` some of its sectors. */
  #put({ write, done }: PendingWrite, image: CrashImage, random: Random | undefined): void {
    const { offsetBytes, bytes } = write;
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      if ((this.#durable.get((offsetBytes + at) / SECTOR_BYTES) ?? -1) >= done) continue;
      if (random?.chance(0.5)) continue;
      image.put(offsetBytes + at, bytes.subarray(at, at + SECTOR_BYTES));
    }
  }
}

/**
 * All power cuts to be tried on `events`, in order of time. `promisesAt` names what holds at a
 * time; `tornCount` says how many torn states there are for each moment; without `hasSingles` no
 * write is lost or kept alone.
 */
export function crashPoints(
  events: readonly DiskEvent[],
  promisesAt: (time: number) => string,
  tornCount: number = TORN_COUNT,
  hasSingles = true,
): CrashPoint[] {
  const timeline = new DiskTimeline(events);
  const points: CrashPoint[] = [];
  let last = "";
  for (const [index, event] of events.entries()) {
    const time = index + 1;
    timeline.advance(time);
    if (event.kind === "write" || event.kind === "flush") continue;
    const key = `${timeline.key} ${promisesAt(time)}`;
    const count = timeline.volatile.length;
    if (key !== last) {
      points.push({ time, choice: "none" });
      if (count > 0) points.push({ time, choice: "all" });
      const single = hasSingles ? count : 0;
      for (let at = 0; at < single && count > 1; at++) points.push({ time, choice: `but ${at}` });
      const only = Math.min(single, ONLY_MAX);
      for (let at = 0; at < only && count > 2; at++) points.push({ time, choice: `only ${at}` });
    }
    for (let torn = 0; torn < tornCount && count > 0; torn++) {
      points.push({ time, choice: `torn ${time * TORN_COUNT + torn}` });
    }
    last = key;
  }
  return points;
}
