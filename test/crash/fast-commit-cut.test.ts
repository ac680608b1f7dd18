/**
 * What the kernel leaves with fast commits when it dies, recovered by a writable open whose power
 * is cut at each write, and again while the next one recovers: the tree is always the one that
 * comes of a recovery in one go, and e2fsck finds nothing wrong.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Random } from "../../src/lib/random.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeDirtyImage } from "../support/dirty-image.ts";
import { FAST_WORK } from "../support/fast-work.ts";
import { requireRoot, requireTool, scratchDirectory } from "../support/tools.ts";
import { openCrashed, recoverCrashed } from "./support/crash-base.ts";
import { CrashClock } from "./support/crash-clock.ts";
import { CrashImage } from "./support/crash-image.ts";
import { textOf } from "./support/crash-model.ts";
import { type FoundTree, readFound } from "./support/crash-oracle.ts";
import { crashPoints, DiskTimeline } from "./support/crash-states.ts";
import { Fsck } from "./support/fsck.ts";
import { type DiskEvent, RecordedStore } from "./support/recorded-store.ts";

const hasTools = ["mke2fs", "e2fsck", "mount", "losetup", "python3"]
  .map(requireTool)
  .every(Boolean);
const canMount = hasTools && requireRoot("mounting an image");
const directory = scratchDirectory("fast-commit-cut");
const CHECK_EVERY = 20;
const TIME_MS = 600_000;

/** Recovers `image`, and tells what was written. */
async function recover(image: CrashImage): Promise<readonly DiskEvent[]> {
  const clock = new CrashClock();
  const store = new RecordedStore(image, { clock, random: new Random(1) });
  await clock.run(recoverCrashed(store, clock));
  return store.events;
}

async function treeOf(image: CrashImage): Promise<FoundTree> {
  const clock = new CrashClock();
  const store = new MemoryStore(image.bytes);
  const volume = await clock.run(openCrashed(store, clock, false));
  const found = await clock.run(readFound(volume));
  await clock.run(volume.close());
  return found;
}

function expectSame(found: FoundTree, wanted: FoundTree): void {
  const texts = ({ nodes }: FoundTree): string[] =>
    [...nodes].map(([path, facts]) => `${path} ${textOf(facts)}`);
  expect(texts(found)).toEqual(texts(wanted));
  for (const [path, bytes] of wanted.contents) {
    expect(Buffer.compare(found.contents.get(path)!, bytes), path).toBe(0);
  }
}

/** Has `use` look at each state that a power cut in `events` may leave of `image`. */
async function cutEach(
  image: CrashImage,
  events: readonly DiskEvent[],
  use: () => Promise<void>,
): Promise<void> {
  const before = image.mark();
  const timeline = new DiskTimeline(events);
  for (const point of crashPoints(events, () => "", 1, false)) {
    timeline.advance(point.time, image);
    const mark = image.mark();
    timeline.crash(point.choice, image);
    await use();
    image.rollback(mark);
  }
  image.rollback(before);
}

test.skipIf(!canMount).each([
  ["4k", "-t ext4 -b 4096 -J size=4 -O fast_commit"],
  ["1k", "-t ext4 -b 1024 -J size=2 -O fast_commit"],
])(
  "fast commits of the kernel come to the same wherever their recovery is cut, and cut again: %s",
  async (name, args) => {
    const options = { directory, name, args: args.split(" "), sizeText: "16M", work: FAST_WORK };
    const base = new Uint8Array(readFileSync(makeDirtyImage(options)));
    const image = new CrashImage(base);
    const fsck = new Fsck(join(directory, `${name}.fsck`), base);
    const events = await recover(image);
    const wanted = await treeOf(image);
    expect(wanted.nodes.has("d/fcA")).toBe(true);
    image.rollback(0);
    const known = new Set<string>();
    let states = 0;
    const expectRecovered = async (): Promise<void> => {
      states++;
      const mark = image.mark();
      await recover(image);
      const digest = image.digest(new Set());
      if (!known.has(digest)) {
        expectSame(await treeOf(image), wanted);
        if (known.size % CHECK_EVERY === 0) expect(fsck.complaintAbout(image)).toBeUndefined();
        known.add(digest);
      }
      image.rollback(mark);
    };
    await cutEach(image, events, async () => {
      await expectRecovered();
      const mark = image.mark();
      const again = await recover(image);
      image.rollback(mark);
      await cutEach(image, again, expectRecovered);
    });
    expect(states).toBeGreaterThan(200);
  },
  TIME_MS,
);
