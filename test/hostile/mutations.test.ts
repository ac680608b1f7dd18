/** Damage by the thousand that knows the structures, in every kind of image and in journals. */
import { afterAll, describe, expect, test } from "vitest";
import { Random } from "../../src/lib/random.ts";
import { makeJournalImage, makeRich, RICH_FORMATS } from "../support/hostile-images.ts";
import { judgeBytes } from "../support/hostile-judge.ts";
import { mutate, mutateJournal } from "../support/hostile-mutations.ts";
import { ImagePatch } from "../support/hostile-patch.ts";
import { HostileWatch } from "../support/hostile-watch.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "e2fsck"].map(requireTool).every(Boolean);
const directory = scratchDirectory("mutations");
const watch = new HostileWatch();
afterAll(() => watch.stop());

/** Seeds of each image; `QUIRE_SEEDS=100000` looks longer. */
const { QUIRE_SEEDS = "400" } = process.env;
const SEEDS = Number(QUIRE_SEEDS);
const JOURNAL_SEEDS = 2 * SEEDS;
const TEN_MINUTES_MS = 600_000;

describe.skipIf(!hasTools)("damaged structures", { timeout: TEN_MINUTES_MS }, () => {
  test.each([...RICH_FORMATS.keys()])("of %s: typed errors or answers", async (name) => {
    const patch = await ImagePatch.of(makeRich(directory, name, true));
    expect((await judgeBytes(patch.bytes)).messages).toEqual([]);
    const outcomes = new Set<string>();
    for (let seed = 0; seed < SEEDS; seed++) {
      const title = `${name}/seed/${seed}`;
      if (!watch.wants(title)) continue;
      patch.reset();
      mutate(patch, new Random(seed));
      const { outcome, codes } = await watch.run(title, () => judgeBytes(patch.bytes));
      outcomes.add(outcome).add(codes[0] ?? "right");
    }
    // They do something: most are seen, not all.
    if (watch.wantsAll) expect([...outcomes]).toEqual(expect.arrayContaining(["EUCLEAN", "right"]));
  });

  test.each([true, false])(
    "of a journal with checksums %s: typed errors or answers",
    async (sums) => {
      const image = makeJournalImage(directory, sums);
      const healthy = await judgeBytes(image.bytes);
      expect(healthy.messages).toEqual([]);
      expect(healthy.warnings.join()).toContain("2 transactions");
      const outcomes = new Set<string>();
      const bytes = image.bytes.slice();
      for (let seed = 0; seed < JOURNAL_SEEDS; seed++) {
        const title = `${image.name}/seed/${seed}`;
        if (!watch.wants(title)) continue;
        bytes.set(image.bytes);
        mutateJournal(image, bytes, new Random(seed));
        const salvage = seed % 4 === 3;
        const { outcome } = await watch.run(title, () => judgeBytes(bytes, { salvage }));
        outcomes.add(outcome);
      }
      if (watch.wantsAll)
        expect([...outcomes]).toEqual(expect.arrayContaining(["EUCLEAN", "opened"]));
    },
  );
});
