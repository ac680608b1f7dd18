/** Every single bit of a small ext2 image flipped: a typed error or an answer. */
import { afterAll, describe, expect, test } from "vitest";
import { KIB } from "../../src/lib/units.ts";
import { flipEveryBit } from "../support/hostile-flips.ts";
import { makeTiny } from "../support/hostile-images.ts";
import { HostileWatch } from "../support/hostile-watch.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs"].map(requireTool).every(Boolean);
const directory = scratchDirectory("flips-ext2");
const watch = new HostileWatch();
afterAll(() => watch.stop());

const TEN_MINUTES_MS = 600_000;

describe.skipIf(!hasTools)("a small ext2 image", () => {
  test("stands the flip of any bit of its 64 KiB", { timeout: TEN_MINUTES_MS }, async () => {
    const base = makeTiny(directory, "ext2", ["-t", "ext2", "-O", "ext_attr"]);
    const { judged, unread, byCode } = await flipEveryBit(base, watch);
    if (!watch.wantsAll) return;
    expect(judged + unread).toBe(8 * 64 * KIB);
    // The image is really looked at: some flips are seen, others change what is free or a file
    // says.
    expect(judged).toBeGreaterThan(8 * 20 * KIB);
    expect(byCode.get("EUCLEAN")).toBeGreaterThan(1000);
    expect(byCode.get("right")).toBeGreaterThan(1000);
  });
});
