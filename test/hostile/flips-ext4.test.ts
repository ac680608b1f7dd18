/** Every single bit of a small ext4 image flipped: a typed error or an answer. */
import { afterAll, describe, expect, test } from "vitest";
import { KIB } from "../../src/lib/units.ts";
import { flipEveryBit } from "../support/hostile-flips.ts";
import { makeTiny } from "../support/hostile-images.ts";
import { HostileWatch } from "../support/hostile-watch.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs"].map(requireTool).every(Boolean);
const directory = scratchDirectory("flips-ext4");
const watch = new HostileWatch();
afterAll(() => watch.stop());

const TEN_MINUTES_MS = 600_000;

describe.skipIf(!hasTools)("a small ext4 image", () => {
  test("stands the flip of any bit of its 64 KiB", { timeout: TEN_MINUTES_MS }, async () => {
    const base = makeTiny(directory, "ext4", ["-t", "ext4", "-O", "^has_journal,metadata_csum"]);
    const { judged, unread, byCode } = await flipEveryBit(base, watch);
    if (!watch.wantsAll) return;
    expect(judged + unread).toBe(8 * 64 * KIB);
    // The image is really looked at: some flips are seen, others change what is free or a file
    // says.
    expect(judged).toBeGreaterThan(8 * 20 * KIB);
    expect(byCode.get("EBADMSG")).toBeGreaterThan(10_000);
    expect(byCode.get("right")).toBeGreaterThan(1000);
  });
});
