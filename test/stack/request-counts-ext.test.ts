/**
 * How few requests reach the store below an opened volume of ext4 and ext2, through the library's
 * own calls: counts, which carry no noise. The bounds come from the image's layout.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB, PAGE_BYTES, SECTOR_BYTES } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { openFileStore } from "../../src/store/file-store.ts";
import { makeExtImage, withKernelMount } from "../support/kernel-image.ts";
import { mayCompareWithKernel } from "../support/manifest.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "dumpe2fs"].every(requireTool);
const mayMount = mayCompareWithKernel();
const scratch = scratchDirectory("request-counts-ext");

const LARGE_BYTES = 200 * MIB;
const WINDOW_COUNT = LARGE_BYTES / MIB;
/** Pages that one indirect block of 4 KiB points to. */
const PAGES_PER_INDIRECT = PAGE_BYTES / 4;
/**
 * Indirect blocks of the large file in ext2: those behind the first 12 pages, and the one above
 * them.
 */
const INDIRECT_COUNT = Math.ceil((LARGE_BYTES / PAGE_BYTES - 12) / PAGES_PER_INDIRECT) + 1;

interface Counted extends AsyncDisposable {
  readonly volume: Volume;
  readonly store: CountingStore;
}

async function openCounted(image: string): Promise<Counted> {
  const store = new CountingStore(await openFileStore(image));
  const volume = await openImage(store);
  return {
    volume,
    store,
    [Symbol.asyncDispose]: async (): Promise<void> => {
      await volume.close();
      expect(store.writes + store.flushes + store.discards + store.zeroWrites).toBe(0);
    },
  };
}

/** Runs of neighbours in a set of block numbers. */
function runCount(blocks: Iterable<number>): number {
  const sorted = [...new Set(blocks)].sort((a, b) => a - b);
  return sorted.filter((block, at) => at === 0 || block !== sorted[at - 1]! + 1).length;
}

const TREE_DIRECTORIES = 20;
const TREE_FILES = 2000;

function makeTree(root: string): void {
  for (let at = 0; at < TREE_FILES; at++) {
    const directory = join(root, `dir-${at % TREE_DIRECTORIES}`);
    if (at < TREE_DIRECTORIES) mkdirSync(directory);
    writeFileSync(join(directory, `${"a-name-of-some-length-".repeat(2)}${at}`), "");
  }
}

/** Lists and stats everything; returns the inode numbers, and the directories' paths. */
async function walk(volume: Volume): Promise<{ inos: number[]; directories: string[] }> {
  const inos: number[] = [];
  const directories = ["/"];
  for (const directory of directories) {
    for (const entry of await volume.fs.readdir(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      const stat = await volume.fs.lstat(path);
      inos.push(stat.ino);
      if (stat.isDirectory()) directories.push(path);
    }
  }
  return { inos, directories };
}

/** Blocks of the inode tables in which `inos` lie, by what dumpe2fs says of the groups. */
function inodeTableBlocks(image: string, inos: readonly number[]): number[] {
  const dump = runTool("dumpe2fs", [image]);
  const numberAfter = (label: string): number => {
    const found = Number(new RegExp(`^${label}:\\s+(\\d+)`, "m").exec(dump)?.[1]);
    expect(found, label).toBeGreaterThan(0);
    return found;
  };
  const perGroup = numberAfter("Inodes per group");
  const perBlock = numberAfter("Block size") / numberAfter("Inode size");
  const tables = [...dump.matchAll(/Inode table at (\d+)-/g)].map(([, first]) => Number(first));
  return inos.map((ino) => {
    const index = (ino - 1) % perGroup;
    return tables[Math.floor((ino - 1) / perGroup)]! + Math.floor(index / perBlock);
  });
}

/**
 * Runs of the directories' own blocks, and the blocks that hold their maps where the kernel
 * scattered them over more extents than an inode has room for: those that `st_blocks` counts beside
 * the former.
 */
async function directoryRunCount(volume: Volume, directories: readonly string[]): Promise<number> {
  const { blockBytes } = volume.fileSystem.usage();
  let count = 0;
  for (const path of directories) {
    const extents = await volume.fileSystem.extents(await volume.fs.inode(path));
    const dataBytes = extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const { blocks: sectors } = await volume.fs.lstat(path);
    const mapBlockCount = (sectors * SECTOR_BYTES - dataBytes) / blockBytes;
    count += extents.length + mapBlockCount;
  }
  return count;
}

async function expectWalkWithinRuns(image: string): Promise<void> {
  await using counted = await openCounted(image);
  const { volume, store } = counted;
  store.reset();
  const { inos, directories } = await walk(volume);
  const { reads } = store;
  expect(inos.length).toBeGreaterThanOrEqual(TREE_FILES + TREE_DIRECTORIES);
  const tableRuns = runCount(inodeTableBlocks(image, [2, ...inos]));
  const directoryRuns = await directoryRunCount(volume, directories);
  expect(tableRuns).toBeGreaterThanOrEqual(1);
  expect(reads).toBeLessThanOrEqual(tableRuns + directoryRuns);
  expect(reads).toBeGreaterThanOrEqual(directoryRuns);
  store.reset();
  await walk(volume);
  expect(store.reads).toBe(0);
}

describe.skipIf(!hasTools)("walking and stating 2,000 files", () => {
  test.each(["-t ext4 -b 4096", "-t ext2 -b 4096", "-t ext4 -b 1024", "-t ext2 -b 1024"])(
    "made by mke2fs %s costs at most one request for each run of inode table and directory",
    async (args) => {
      const source = join(scratch, "tree");
      mkdirSync(source);
      makeTree(source);
      const image = join(scratch, "tree.img");
      makeExtImage(image, "64M", [...args.split(" "), "-d", source]);
      rmSync(source, { recursive: true });
      await expectWalkWithinRuns(image);
    },
  );

  test
    .skipIf(!mayMount)
    .each(["-t ext4 -b 1024", "-t ext4 -b 1024 -O ^flex_bg", "-t ext2 -b 4096"])(
    "that the kernel spread over the groups of %s costs no more either",
    async (args) => {
      const image = makeExtImage(join(scratch, "spread.img"), "64M", args.split(" "));
      withKernelMount(image, makeTree);
      await expectWalkWithinRuns(image);
    },
  );
});

/** Fills `page` of the large file so that no two pages are equal, and none is zero. */
function pageMark(page: number): number {
  return page * 2 + 1;
}

describe.skipIf(!hasTools)("a file of 200 MiB", () => {
  const images = { ext4: join(scratch, "ext4.img"), ext2: join(scratch, "ext2.img") };
  beforeAll(() => {
    const source = join(scratch, "large");
    mkdirSync(source);
    const words = new Uint32Array(LARGE_BYTES / 4);
    for (let at = 0; at < words.length; at += PAGE_BYTES / 4) words[at] = pageMark(at / 1024);
    writeFileSync(join(source, "large"), new Uint8Array(words.buffer));
    for (const type of ["ext4", "ext2"] as const) {
      makeExtImage(images[type], "256M", ["-t", type, "-b", "4096", "-d", source]);
    }
    rmSync(source, { recursive: true });
  });

  async function readAll(volume: Volume, callBytes: number): Promise<void> {
    const handle = await volume.fs.open("/large");
    const into = new Uint8Array(callBytes);
    const words = new Uint32Array(into.buffer);
    for (let at = 0; at < LARGE_BYTES; at += callBytes) {
      const { bytesRead } = await handle.read(into, 0, callBytes, at);
      if (bytesRead !== callBytes) throw new Error(`${bytesRead} bytes at ${at}`);
      if (words[0] !== pageMark(at / PAGE_BYTES)) throw new Error(`wrong bytes at ${at}`);
    }
    await handle.close();
  }

  // A window of 1 MiB is a request, and the first windows are smaller. In ext2 each indirect block
  // splits the run of data in which it lies, and is read with the data before it.
  const BOUNDS = { ext4: WINDOW_COUNT + 10, ext2: WINDOW_COUNT + 10 + INDIRECT_COUNT } as const;
  test.each([
    ["ext4", MIB],
    ["ext4", PAGE_BYTES],
    ["ext2", MIB],
    ["ext2", PAGE_BYTES],
  ] as const)(
    "on %s in calls of %i bytes costs about a request for each MiB, then none",
    async (type, call) => {
      await using counted = await openCounted(images[type]);
      const { volume, store } = counted;
      await volume.fs.lstat("/large");
      store.reset();
      await readAll(volume, call);
      expect(store.reads).toBeLessThanOrEqual(BOUNDS[type]);
      expect(store.readBytes).toBeLessThanOrEqual(
        LARGE_BYTES + (type === "ext2" ? INDIRECT_COUNT * PAGE_BYTES : 16 * PAGE_BYTES),
      );
      store.reset();
      await readAll(volume, call);
      expect(store.reads).toBe(0);
    },
  );

  test.each(["ext4", "ext2"] as const)(
    "on %s costs one request for each random page once its map is cached",
    async (type) => {
      await using counted = await openCounted(images[type]);
      const { volume, store } = counted;
      const handle = await volume.fs.open("/large");
      await volume.fileSystem.extents(await volume.fs.inode("/large"));
      const random = new Random(11);
      const pages = new Set<number>();
      // Far apart, so that no two look like the beginning of a sequential reader.
      while (pages.size < 500) pages.add(8 + 16 * random.below(LARGE_BYTES / PAGE_BYTES / 16));
      store.reset();
      const into = new Uint8Array(PAGE_BYTES);
      for (const page of random.shuffle([...pages])) {
        await handle.read(into, 0, PAGE_BYTES, page * PAGE_BYTES);
        expect(new Uint32Array(into.buffer)[0]).toBe(pageMark(page));
      }
      expect(store.reads).toBe(500);
      expect(store.readBytes).toBe(500 * PAGE_BYTES);
      await handle.close();
    },
  );
});
