/**
 * SimFaults: draws the failures of a simulated disk, each kind with a probability and a budget.
 *
 * The budget limits how often a kind happens at all, so that a run can be made that must recover.
 */
import type { Random } from "../lib/random.ts";

/**
 * - `readError`       `EIO`, once; part of the arrays may have been filled
 * - `badSector`       `EIO` for a sector of the range, for every read until it is written again
 * - `bitFlip`         one bit of what is read is wrong, and nobody says so
 * - `writeError`      `EIO`; any of the sectors may have been written
 * - `noSpace`         `ENOSPC`; nothing was written
 * - `lostWrite`       the write is acknowledged and never happens
 * - `misdirectedWrite` it happens somewhere else
 * - `flushError`      `EIO`; nothing became durable
 * - `slow`            takes up to a minute
 * - `hang`            takes until the disk is healed
 */
export type SimFault =
  | "readError"
  | "badSector"
  | "bitFlip"
  | "writeError"
  | "noSpace"
  | "lostWrite"
  | "misdirectedWrite"
  | "flushError"
  | "slow"
  | "hang";

/** How often a kind of fault happens: with `probability` per call, `budget` times at most. */
export interface FaultRate {
  readonly probability: number;
  readonly budget: number;
}

export type FaultPlan = Partial<Readonly<Record<SimFault, FaultRate>>>;

export class SimFaults {
  /** How often each kind has happened. */
  readonly counts: Map<SimFault, number> = new Map();
  readonly #random: Random;
  #plan: FaultPlan;

  constructor(plan: FaultPlan, random: Random) {
    this.#plan = plan;
    this.#random = random;
  }

  /** True if `fault` happens now. Kinds that are not planned use no random numbers. */
  draw(fault: SimFault): boolean {
    const rate = this.#plan[fault];
    const count = this.counts.get(fault) ?? 0;
    if (rate === undefined || count >= rate.budget) return false;
    if (!this.#random.chance(rate.probability)) return false;
    this.counts.set(fault, count + 1);
    return true;
  }

  /** Ends all faults. */
  heal(): void {
    this.#plan = {};
  }
}
