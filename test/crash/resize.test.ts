/** Power cuts while a file system grows: the old size or the new one is left, and all files. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { openVolume } from "../../src/front/volume.ts";
import { SB, SUPERBLOCK_OFFSET_BYTES } from "../../src/fs/ext/layout.ts";
import { growExt } from "../../src/fs/ext/resize.ts";
import { STATE_VALID } from "../../src/fs/ext/superblock-write.ts";
import { le16, le32 } from "../../src/lib/bytes.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeImage, makeSourceTree } from "../support/ext-images.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { CrashClock } from "./support/crash-clock.ts";
import { CrashImage } from "./support/crash-image.ts";
import { crashPoints, DiskTimeline } from "./support/crash-states.ts";
import { Fsck } from "./support/fsck.ts";
import { RecordedStore } from "./support/recorded-store.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("crash-resize");
const source = makeSourceTree(join(scratch, "source"));
const OLD_BLOCKS = 12 * 1024;
const NEW_BLOCKS = 30 * 1024;
const POINTS_MAX = 16;

/** The image as it is before, with room behind it. */
function baseBytes(name: string, args: readonly string[]): Uint8Array {
  const options = { sizeText: "12M", sourceDir: source };
  const path = makeImage(scratch, name, [...args, "-b", "1024"], options);
  const bytes = new Uint8Array(30 * MIB);
  bytes.set(readFileSync(path));
  return bytes;
}

async function expectFiles(bytes: Uint8Array): Promise<void> {
  const volume = await openVolume(new MemoryStore(bytes));
  const large = await volume.fs.readFile("/large");
  await volume.close();
  expect(Buffer.compare(large, readFileSync(join(source, "large")))).toBe(0);
}

describe.skipIf(!hasTools)("a power cut while it grows", () => {
  test.each([
    ["ext4", ["-t", "ext4"], true],
    ["ext3", ["-t", "ext3"], true],
    ["ext2-1k", ["-t", "ext2"], false],
    ["ext4-no-journal", ["-t", "ext4", "-O", "^has_journal"], false],
  ] as const)(
    "%s: leaves the old size or the new one",
    async (name, args, hasJournal) => {
      const base = baseBytes(name, args);
      const clock = new CrashClock();
      const image = new CrashImage(base);
      const store = new RecordedStore(image, { clock, random: new Random(11) });
      const bdev = new StoreBlockDevice(store, { clock });
      const cache = new PageCache({ arenaBytes: 32 * MIB, clock });
      const warn = (): void => undefined;
      await clock.run(growExt(bdev, cache, { clock, random: new Random(3), warn }));
      const points = crashPoints(store.events, () => "", 1);
      const every = Math.max(1, Math.ceil(points.length / POINTS_MAX));
      const fsck = new Fsck(join(scratch, `${name}-judged.img`), base);
      const found = new Set<number>();
      for (const [index, point] of points.entries()) {
        if (index % every !== 0 && index !== points.length - 1) continue;
        const state = new CrashImage(base);
        const timeline = new DiskTimeline(store.events);
        timeline.advance(point.time, state);
        timeline.crash(point.choice, state);
        const isValid = (le16(state.bytes, SUPERBLOCK_OFFSET_BYTES + SB.s_state) & STATE_VALID) > 0;
        if (!hasJournal && isValid) expect(fsck.complaintAbout(state)).toBeUndefined();
        const repaired = fsck.mended(state, "-fy");
        const blockCount = le32(repaired, SUPERBLOCK_OFFSET_BYTES + SB.s_blocks_count_lo);
        expect([OLD_BLOCKS, NEW_BLOCKS], `${index}: ${point.choice}`).toContain(blockCount);
        found.add(blockCount);
        await expectFiles(repaired);
      }
      expect([...found].sort()).toEqual([OLD_BLOCKS, NEW_BLOCKS]);
    },
    120_000,
  );
});
