/**
 * How few requests reach the store when a volume is written to through the library's own calls:
 * counts, which carry no noise. The bounds are goals, or come from the layout where that says more.
 */
import { describe, expect, test } from "vitest";
import type { FileHandle } from "../../src/front/file-handle.ts";
import { openVolume, type Volume } from "../../src/front/volume.ts";
import { type Clock, realClock, VirtualClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB, PAGE_BYTES } from "../../src/lib/units.ts";
import { CountingStore, type StoreCall } from "../../src/store/counting-store.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import { makeImage } from "../support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "e2fsck", "debugfs"].map(requireTool).every(Boolean);
const scratch = scratchDirectory("request-counts-write");
const TYPES = ["ext4", "ext3", "ext2"] as const;
const PIECE: Uint8Array = new Random(1).bytes(MIB);
const SMALL: Uint8Array = new TextEncoder().encode("a small change");

/**
 * The platform's time, in which nothing is due: a slow machine commits no oftener than a fast one.
 */
const timeless: Clock = { ...realClock, setTimer: () => ({ cancel: () => undefined }) };

interface Counted {
  readonly volume: Volume;
  readonly store: CountingStore;
}

function emptyImage(type: string, sizeText: string): string {
  return makeImage(scratch, `${type}-${sizeText}`, ["-t", type, "-b", "4096"], { sizeText });
}

/** Has `work` write to `image`, from counts of zero on, and e2fsck look at it. */
async function withVolume(
  image: string,
  work: (at: Counted) => Promise<void>,
  clock: Clock = realClock,
): Promise<void> {
  const store = new CountingStore(await openFileStore(image, { writable: true }));
  store.log = [];
  const volume = await openVolume(store, { writable: true, clock });
  try {
    store.reset();
    await work({ volume, store });
  } finally {
    await volume.close();
  }
  runTool("e2fsck", ["-fn", image]);
}

async function writePieces({ volume }: Counted, pieceCount: number): Promise<FileHandle> {
  const handle = await volume.fs.open("/large", "w");
  for (let at = 0; at < pieceCount; at++) await handle.write(PIECE);
  return handle;
}

/** How often a write lies before the one that came before it: a pass over the file ends there. */
function descentsOf(log: readonly StoreCall[]): number {
  const writes = log.filter(({ op }) => op === "write");
  return writes.filter(({ offsetBytes }, at) => at > 0 && offsetBytes < writes[at - 1]!.offsetBytes)
    .length;
}

/** Runs of neighbours in a set of numbers. */
function runCount(numbers: ReadonlySet<number>): number {
  return [...numbers].filter((number) => !numbers.has(number - 1)).length;
}

describe.skipIf(!hasTools).each(TYPES)("on %s", (type) => {
  test("100 MiB in sequence cost little more than a write for each of them", async () => {
    await withVolume(emptyImage(type, "300M"), async (at) => {
      const handle = await writePieces(at, 100);
      await handle.sync();
      const { store } = at;
      expect(store.writes).toBeLessThanOrEqual(150);
      expect(store.reads).toBeLessThan(60);
      expect(store.writtenBytes).toBeLessThan(101 * MIB);
      // A megabyte each, but for the ends of groups and what is written beside the data.
      const wholeCount = store.log!.filter(({ lengthBytes }) => lengthBytes === MIB).length;
      expect(wholeCount).toBeGreaterThanOrEqual(type === "ext4" ? 90 : 60);
      await handle.close();
    });
  });

  test("2,000 small files are made without a write, and written by few", async () => {
    const image = emptyImage(type, "300M");
    const work = async ({ volume, store }: Counted): Promise<void> => {
      await volume.fs.mkdir("/dir");
      for (let at = 0; at < 2000; at++) {
        await volume.fs.writeFile(`/dir/file-${at}`, PIECE.subarray(0, PAGE_BYTES));
      }
      expect(store.writes).toBeLessThanOrEqual(400);
      await volume.sync();
      // Files that lie side by side are written together.
      expect(store.writes).toBeLessThanOrEqual(100);
      expect(store.reads).toBeLessThan(60);
    };
    await withVolume(image, work, timeless);
  });

  test("10,000 random overwrites of a file of 256 MiB are sorted and merged", async () => {
    const image = emptyImage(type, "600M");
    await withVolume(image, async (at) => {
      await (await writePieces(at, 256)).close();
    });
    await withVolume(image, async ({ volume, store }) => {
      const handle = await volume.fs.open("/large", "r+");
      const random = new Random(7);
      const pages = new Set<number>();
      for (let count = 0; count < 10_000; count++) {
        const page = random.below((256 * MIB) / PAGE_BYTES);
        pages.add(page);
        await handle.write(PIECE, 0, PAGE_BYTES, page * PAGE_BYTES);
      }
      await handle.sync();
      // Writing begins in the background once a tenth of the cache is dirty: few passes in all.
      expect(descentsOf(store.log!)).toBeLessThanOrEqual(8);
      expect(store.writes).toBeLessThanOrEqual(runCount(pages) * 1.05);
      expect(store.writtenBytes).toBeLessThanOrEqual(pages.size * PAGE_BYTES * 1.05);
      await handle.close();
    });
  });

  test("an fsync of one small change is at most four writes and two flushes", async () => {
    await withVolume(emptyImage(type, "100M"), async ({ volume, store }) => {
      const handle = await volume.fs.open("/small", "w+");
      const cost = async (change: () => Promise<unknown>): Promise<void> => {
        await volume.sync();
        store.reset();
        await change();
        await handle.sync();
        expect(store.writes).toBeGreaterThan(0);
        expect(store.writes).toBeLessThanOrEqual(4);
        expect(store.flushes).toBeGreaterThan(0);
        expect(store.flushes).toBeLessThanOrEqual(2);
        expect(store.reads).toBeLessThanOrEqual(2);
      };
      await cost(() => handle.write(SMALL));
      await cost(() => handle.write(SMALL));
      await cost(() => handle.write(SMALL, 0, SMALL.length, 0));
      await cost(() => handle.write(PIECE, 0, 5000));
      await cost(() => handle.truncate(100));
      await cost(() => handle.chmod(0o600));
      await cost(() => volume.fs.setXattr("/small", "user.note", SMALL));
      await cost(() => volume.fs.rename("/small", "/another"));
      await handle.close();
    });
  });

  test("overwrites of one tick of the clock are synced past the journal", async () => {
    const clock = new VirtualClock();
    clock.spend(1_000_000);
    const work = async ({ volume, store }: Counted): Promise<void> => {
      const handle = await volume.fs.open("/small", "w+");
      await handle.write(PIECE, 0, PAGE_BYTES);
      await handle.sync();
      store.reset();
      for (let at = 0; at < 3; at++) {
        clock.spend(1);
        await handle.write(SMALL, 0, SMALL.length, 0);
        await handle.sync();
      }
      expect([store.writes, store.flushes]).toEqual([3, 3]);
      // Not so once somebody would miss the change.
      await handle.stat();
      await handle.write(SMALL, 0, SMALL.length, 0);
      await handle.sync();
      expect(store.writes).toBeGreaterThan(4);
      expect((await handle.stat()).mtimeMs).toBe(1_000_003);
      await handle.close();
    };
    await withVolume(emptyImage(type, "100M"), work, clock);
  });

  test("32 callers of fsync at once share one commit", async () => {
    await withVolume(emptyImage(type, "100M"), async ({ volume, store }) => {
      const names = Array.from({ length: 32 }, (_, at) => `/file-${at}`);
      const handles = await Promise.all(names.map((name) => volume.fs.open(name, "w")));
      await volume.sync();
      store.reset();
      const append = async (handle: FileHandle): Promise<void> => {
        await handle.write(SMALL);
        await handle.sync();
      };
      await Promise.all(handles.map(append));
      expect(store.writes).toBeLessThanOrEqual(4);
      expect(store.flushes).toBeLessThanOrEqual(2);
      // Ten rounds each by itself: those who come during a commit share the next one.
      store.reset();
      const rounds = async (handle: FileHandle): Promise<void> => {
        for (let round = 0; round < 10; round++) await append(handle);
      };
      await Promise.all(handles.map(rounds));
      expect(store.flushes).toBeLessThanOrEqual(2 * 20);
      expect(store.writes).toBeLessThanOrEqual(8 * 20);
      for (const handle of handles) await handle.close();
    });
  });
});

test.skipIf(!hasTools)(
  "a file of 200 MiB, written in sequence, has at most four extents",
  async () => {
    const image = emptyImage("ext4", "400M");
    await withVolume(image, async (at) => {
      await (await writePieces(at, 200)).close();
    });
    const extents = runTool("debugfs", ["-R", "ex /large", image]).split("\n");
    const leaves = extents.filter((line) => /^ *(\d+)\/ *\1 /.test(line));
    expect(leaves.length).toBeGreaterThan(0);
    expect(leaves.length).toBeLessThanOrEqual(4);
  },
);
