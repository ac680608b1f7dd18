/**
 * More work at once than a cache of 4 MiB holds: writers whose files are larger than it, readers of
 * others, names and attributes, syncs and cuts, on a store that takes its time. Memory is short all
 * the time, yet each call ends, none with `ENOMEM`, and every file is what was written to it.
 *
 * A failure says which line repeats it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { FileHandle } from "../../src/front/file-handle.ts";
import { openVolume, type Volume } from "../../src/front/volume.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../src/fs/vfs-write.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { ByteWindow } from "../support/byte-window.ts";
import { makeImage } from "../support/ext-images.ts";
import { seeds } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { SlowStore, VirtualTime } from "../support/virtual-time.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("small-cache");
const CACHE_BYTES = 4 * MIB;
const LATENCY_MS = 6;
/** Of one file: together they are a multiple of the cache. */
const SIZE_MAX = 3 * MIB;
const WRITERS = 6;
const WRITER_STEPS = 15;
const NAMERS = 4;
const NAMER_STEPS = 12;

const ROWS: readonly (readonly [title: string, args: string, size: string])[] = [
  ["ext2 1 KiB", "-t ext2 -b 1024", "64M"],
  ["ext3 4 KiB", "-t ext3 -b 4096", "64M"],
  ["ext4 4 KiB", "-t ext4 -b 4096", "64M"],
  ["ext4 1 KiB", "-t ext4 -b 1024 -O inline_data", "64M"],
  ["ext4 64 KiB", "-t ext4 -b 65536 -J size=64", "256M"],
  ["ext4 no journal", "-t ext4 -b 4096 -O ^has_journal", "64M"],
];

/** One file, changed by one task and read by it. */
class Writer {
  readonly path: string;
  readonly model: ByteWindow = new ByteWindow(0, SIZE_MAX);
  readonly #volume: Volume;
  readonly #random: Random;

  constructor(volume: Volume, random: Random, path: string) {
    this.#volume = volume;
    this.#random = random;
    this.path = path;
  }

  async run(): Promise<void> {
    const handle = await this.#volume.fs.open(this.path, "w+");
    try {
      for (let step = 0; step < WRITER_STEPS; step++) await this.#step(handle);
    } finally {
      await handle.close();
    }
  }

  async #step(handle: FileHandle): Promise<void> {
    const { model } = this;
    const random = this.#random;
    const at = random.below(SIZE_MAX);
    const length = 1 + random.below(Math.min(random.pick([5000, MIB]), SIZE_MAX - at));
    const kind = random.below(10);
    if (kind < 5) {
      const bytes = new Uint8Array(length).fill(1 + random.below(255));
      await handle.write(bytes, 0, length, at);
      model.write(at, bytes);
    } else if (kind < 7) {
      await this.verify(handle, at, length);
    } else if (kind === 7) {
      await handle.truncate(at);
      model.setSize(at);
    } else if (kind === 8) {
      const writer = this.#volume.fileSystem.writer!;
      const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      await writer.fallocate(handle.vfsInode, mode, at, length);
      model.zero(at, at + length);
    } else {
      await handle.sync();
    }
  }

  async verify(handle: FileHandle, at: number, length: number): Promise<void> {
    const into = new Uint8Array(length);
    const { bytesRead } = await handle.read(into, 0, length, at);
    const wanted = this.model.slice(at, length);
    const isSame = Buffer.compare(into.subarray(0, bytesRead), wanted) === 0;
    expect(isSame, `${this.path} at ${at} + ${length}`).toBe(true);
  }

  async verifyAll(volume: Volume): Promise<void> {
    const handle = await volume.fs.open(this.path, "r");
    expect((await handle.stat()).size).toBe(this.model.size);
    for (let at = 0; at < SIZE_MAX; at += MIB) await this.verify(handle, at, MIB);
    await handle.close();
  }
}

/** Metadata: what its own directory holds changes all the time. */
async function namer({ fs }: Volume, random: Random, dir: string): Promise<void> {
  await fs.mkdir(dir);
  for (let step = 0; step < NAMER_STEPS; step++) {
    const path = `${dir}/${step}`;
    await fs.mkdir(path);
    await Promise.all(
      Array.from({ length: 10 }, async (_, at) => {
        const file = `${path}/${"n".repeat(random.below(200))}${at}`;
        await fs.writeFile(file, random.bytes(random.below(9 * KIB)));
        await fs.setXattr(file, "user.x", random.bytes(random.below(400)));
      }),
    );
    expect((await fs.readdir(path)).length).toBe(10);
    if (random.chance(0.5)) await fs.rm(path, { recursive: true });
  }
}

/** Nobody is slowed down and nothing is written before all of the memory is dirty. */
function allMayBeDirty({ cache }: Volume): void {
  cache.dirtyLimits.setRatio(100);
  cache.dirtyLimits.setBackgroundRatio(99);
}

async function play(args: string, sizeText: string, seed: number): Promise<void> {
  const path = makeImage(scratch, "x", args.split(" "), { sizeText });
  const image = new Uint8Array(readFileSync(path));
  const random = new Random(seed);
  const time = new VirtualTime();
  const open = (): Promise<Volume> => {
    const store = new SlowStore(image, time, random.fork(), LATENCY_MS);
    const options = {
      writable: true,
      cache: CACHE_BYTES,
      clock: time.clock,
      random: random.fork(),
    };
    return time.settle(openVolume(store, options));
  };
  let volume = await open();
  if (seed % 2 === 0) allMayBeDirty(volume);
  const writers = Array.from(
    { length: WRITERS },
    (_, at) => new Writer(volume, random.fork(), `file-${at}`),
  );
  const namers = Array.from({ length: NAMERS }, (_, at) =>
    namer(volume, random.fork(), `names-${at}`),
  );
  await time.settle(Promise.all([...writers.map((each) => each.run()), ...namers]));
  await time.settle(Promise.all(writers.map((each) => each.verifyAll(volume))));
  volume.cache.verify();
  expect(volume.cache.memoryWaiterCount).toBe(0);
  await time.settle(volume.close());
  writeFileSync(path, image);
  runTool("e2fsck", ["-fn", path]);
  volume = await open();
  for (const each of writers) await time.settle(each.verifyAll(volume));
  await time.settle(volume.close());
}

describe.skipIf(!hasTools)("a cache that is always full", () => {
  test.each(ROWS)("%s", async (title, args, size) => {
    for (const seed of seeds(2, 1)) {
      try {
        await play(args, size, seed);
      } catch (thrown) {
        const line = `QUIRE_SEED=${seed} npx vitest run test/stack/small-cache.test.ts`;
        throw new Error(`${line} -t "${title}$"`, { cause: thrown });
      }
    }
  });
});
