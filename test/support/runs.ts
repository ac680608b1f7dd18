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
