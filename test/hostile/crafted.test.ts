/** Images with cycles, bombs and contradictions: they end, with the error that they deserve. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CRAFTED, type CraftedCase } from "../support/hostile-crafted.ts";
import { makeRich } from "../support/hostile-images.ts";
import { judgeBytes } from "../support/hostile-judge.ts";
import { ImagePatch } from "../support/hostile-patch.ts";
import { HostileWatch } from "../support/hostile-watch.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "e2fsck"].map(requireTool).every(Boolean);
const directory = scratchDirectory("crafted");
const watch = new HostileWatch();
const patches = new Map<string, ImagePatch>();

beforeAll(async () => {
  if (!hasTools) return;
  for (const name of ["ext2", "ext2-4k", "ext4-nosum"]) {
    patches.set(name, await ImagePatch.of(makeRich(directory, name)));
  }
});
afterAll(() => watch.stop());

describe.skipIf(!hasTools)("crafted images", () => {
  test("the healthy images are right", async () => {
    for (const patch of patches.values()) {
      expect((await judgeBytes(patch.bytes)).messages).toEqual([]);
    }
  });

  test("there are enough of them", () => {
    expect(CRAFTED.length).toBeGreaterThanOrEqual(30);
  });

  test.each(CRAFTED)(
    "$name: $expect",
    async ({ name, base, expect: wanted, craft }: CraftedCase) => {
      const patch = patches.get(base)!;
      patch.reset();
      craft(patch);
      const verdict = await watch.run(`crafted/${name}`, () => judgeBytes(patch.bytes));
      if (wanted === "answer") expect(verdict.messages).toEqual([]);
      else expect(verdict.codes, verdict.messages.join("\n")).toContain(wanted);
    },
  );
});
