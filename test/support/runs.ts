/**
 * How often random tests run: a few times with every `npm test`, many times under `npm run sim`.
 *
 * A failing property prints its seed and path; `npm run sim -- --seed N` runs all of them from it.
 */
import fc from "fast-check";

const { QUIRE_RUN_FACTOR = "1", QUIRE_SEED } = process.env;

if (QUIRE_SEED !== undefined) fc.configureGlobal({ seed: Number(QUIRE_SEED) });

/** `count` runs, multiplied for a simulation. */
export function runs(count: number): number {
  return Math.ceil(count * Number(QUIRE_RUN_FACTOR));
}

/** One seed for each of `runs(count)` runs, from `first` or `QUIRE_SEED` on. */
export function seeds(count: number, first: number): number[] {
  const start = QUIRE_SEED === undefined ? first : Number(QUIRE_SEED);
  return Array.from({ length: runs(count) }, (_, at) => start + at);
}
