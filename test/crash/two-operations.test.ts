/**
 * As `one-operation.test.ts`, for pairs of operations, each with its kind of sync: a choice of them
 * with every run of the tests, all of them in a long simulation.
 */
import { expect, test } from "vitest";
import { Random } from "../../src/lib/random.ts";
import { runs, seeds } from "../support/runs.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import type { ConfigName } from "./support/crash-base.ts";
import { allPhrases, type Phrase, scriptOf } from "./support/crash-scripts.ts";
import { exploreAll, type SeededScript } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-two");
const TIME_MS = runs(1_200_000);

/** `count` pairs, in an order that `seed` chooses; at most all. */
function* pairs(count: number, seed: number): Generator<SeededScript> {
  const phrases = allPhrases();
  const all = phrases.flatMap((first) =>
    phrases.map((second): readonly Phrase[] => [first, second]),
  );
  const chosen = new Random(seed).shuffle([...all.keys()]).slice(0, count);
  for (const index of chosen) yield { seed: index, script: scriptOf(all[index]!, index) };
}

test.skipIf(!hasTools).each<[ConfigName, number, number, number]>([
  ["ext4-1k", 130, 30, 8],
  ["ext4-4k", 110, 30, 8],
  ["ext3-1k", 100, 30, 8],
  ["ext2", 50, 5, 1],
])(
  "%s keeps what it promised through two operations",
  async (name, count, states, checkEvery) => {
    const [seed] = seeds(1, 1);
    const scripts = pairs(runs(1) > 1 ? Infinity : count, seed!);
    const counts = await exploreAll(name, scripts, { scratch, states, checkEvery });
    expect(counts.states).toBeGreaterThan(count * states * 0.8);
  },
  TIME_MS,
);
