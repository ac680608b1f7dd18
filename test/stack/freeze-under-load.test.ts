/**
 * Tasks that write, cut, punch, rename and delete files on a slow disk that is nearly full, while
 * the volume is frozen and trimmed again and again: each frozen image is whole, nothing hangs, no
 * promise of room is left over, and in the end every file holds what its task wrote, also on disk.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { VolumeFs } from "../../src/front/promises.ts";
import { type ExtFileSystem, mountExt } from "../../src/fs/ext/ext-fs.ts";
import { ExtVolumeWriter } from "../../src/fs/ext/ext-volume-writer.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../src/fs/vfs-write.ts";
import { assert } from "../../src/lib/assert.ts";
import { equalBytes } from "../../src/lib/bytes.ts";
import { hasErrnoCode } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { sleep } from "../../src/store/sleep.ts";
import { makeImage } from "../support/ext-images.ts";
import { runs } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { SlowStore, VirtualTime } from "../support/virtual-time.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("freeze-under-load");
const CALLER = { uid: 0, gid: 0, groups: [], umask: 0o022 };
const TASKS = 5;
const STEPS = 80;
const FILE_BYTES_MAX = 350_000;
const WRITE_BYTES_MAX = 60_000;

const KINDS: readonly (readonly [string, args: readonly string[], defaults: string | undefined])[] =
  [
    ["ext4", ["-t", "ext4", "-b", "1024", "-J", "size=1"], undefined],
    ["ext4 without a journal", ["-t", "ext4", "-b", "4096", "-O", "^has_journal"], undefined],
    ["ext3", ["-t", "ext3", "-b", "1024", "-J", "size=1"], undefined],
    ["ext2", ["-t", "ext2", "-b", "4096"], undefined],
    ["ext4, data in the journal", ["-t", "ext4", "-b", "1024", "-J", "size=1"], "journal_data"],
  ];

async function open(bytes: Uint8Array, time: VirtualTime, seed: number, latencyMs: number) {
  const { clock } = time;
  const store = new SlowStore(bytes, time, new Random(seed), latencyMs);
  const cache = new PageCache({ arenaBytes: 4 * MIB, clock });
  const options = { clock, writable: true, random: new Random(seed) };
  const mounting = mountExt(new StoreBlockDevice(store, { clock }), cache, options);
  const fileSystem = await time.settle(mounting);
  const fs = new VolumeFs(fileSystem, { caller: CALLER, clock, random: new Random(seed) });
  return { fileSystem, fs };
}

function writerOf({ writer }: ExtFileSystem): ExtVolumeWriter {
  assert(writer instanceof ExtVolumeWriter, "it is mounted for writing");
  return writer;
}

/** One task: its files, and what they hold. */
class Task {
  readonly files = new Map<string, Uint8Array>();
  readonly #fs: VolumeFs;
  readonly #writer: ExtVolumeWriter;
  readonly #random: Random;
  readonly #dir: string;
  #serial = 0;

  constructor(fs: VolumeFs, writer: ExtVolumeWriter, random: Random, id: number) {
    this.#fs = fs;
    this.#writer = writer;
    this.#random = random;
    this.#dir = `/task${id}`;
  }

  async run(): Promise<void> {
    await this.#fs.mkdir(this.#dir);
    for (let step = 0; step < STEPS; step++) {
      const name = this.#anyName();
      try {
        if (name === undefined || this.#random.below(6) === 0) await this.#make();
        else await this.#change(name);
      } catch (thrown) {
        if (!hasErrnoCode(thrown) || thrown.code !== "ENOSPC") throw thrown;
        if (name !== undefined && this.files.has(name)) {
          this.files.set(name, new Uint8Array(await this.#fs.readFile(name)));
        }
      }
    }
  }

  #anyName(): string | undefined {
    return [...this.files.keys()][this.#random.below(Math.max(1, this.files.size))];
  }

  async #make(): Promise<void> {
    const name = `${this.#dir}/${this.#serial++}`;
    const bytes = this.#random.bytes(1 + this.#random.below(FILE_BYTES_MAX));
    try {
      await this.#fs.writeFile(name, bytes);
      this.files.set(name, bytes);
    } catch (thrown) {
      await this.#fs.rm(name, { force: true });
      throw thrown;
    }
  }

  async #change(name: string): Promise<void> {
    const kind = this.#random.below(7);
    if (kind < 2) return this.#write(name);
    if (kind === 2) return this.#cut(name);
    if (kind === 3) return this.#punch(name);
    if (kind === 4) return this.#replace(name);
    return kind === 5 ? this.#remove(name) : this.#removeOpen(name);
  }

  async #write(name: string): Promise<void> {
    const old = this.files.get(name)!;
    const posBytes = this.#random.below(old.length + WRITE_BYTES_MAX);
    const bytes = this.#random.bytes(1 + this.#random.below(WRITE_BYTES_MAX));
    await using handle = await this.#fs.open(name, "r+");
    const { bytesWritten } = await handle.write(bytes, 0, bytes.length, posBytes);
    const next = new Uint8Array(Math.max(old.length, posBytes + bytesWritten));
    next.set(old);
    next.set(bytes.subarray(0, bytesWritten), posBytes);
    this.files.set(name, next);
    if (this.#random.below(3) === 0) await handle.sync();
  }

  async #cut(name: string): Promise<void> {
    const old = this.files.get(name)!;
    const next = new Uint8Array(this.#random.below(old.length + WRITE_BYTES_MAX));
    next.set(old.subarray(0, next.length));
    await this.#fs.truncate(name, next.length);
    this.files.set(name, next);
  }

  async #punch(name: string): Promise<void> {
    const next = this.files.get(name)!.slice();
    const posBytes = this.#random.below(next.length + 1);
    const lengthBytes = 1 + this.#random.below(WRITE_BYTES_MAX);
    await using handle = await this.#fs.open(name, "r+");
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    await this.#writer.fallocate(handle.vfsInode, mode, posBytes, lengthBytes);
    this.files.set(name, next.fill(0, posBytes, posBytes + lengthBytes));
  }

  async #replace(name: string): Promise<void> {
    const to = this.#anyName()!;
    if (to === name) return;
    const bytes = this.files.get(name)!;
    await this.#fs.rename(name, to);
    this.files.delete(name);
    this.files.set(to, bytes);
  }

  async #remove(name: string): Promise<void> {
    this.files.delete(name);
    await this.#fs.unlink(name);
  }

  async #removeOpen(name: string): Promise<void> {
    const bytes = this.files.get(name)!;
    await using handle = await this.#fs.open(name, "r+");
    await this.#remove(name);
    expect(equalBytes((await handle.readFile()) as Uint8Array, bytes)).toBe(true);
    await handle.write(bytes, 0, Math.min(bytes.length, WRITE_BYTES_MAX), 0);
  }
}

/** The image as it is now is whole, but for files without a name, which are deleted. */
function expectWhole(bytes: Uint8Array): void {
  const path = join(scratch, "frozen.img");
  writeFileSync(path, bytes);
  runTool("e2fsck", ["-p", path], { okCodes: [0, 1] });
  runTool("e2fsck", ["-fn", path]);
}

async function load(args: readonly string[], seed: number, defaults?: string): Promise<void> {
  const random = new Random(seed);
  const path = makeImage(scratch, "image", args, { sizeText: "3M", defaults });
  const bytes = new Uint8Array(readFileSync(path));
  const time = new VirtualTime();
  const { clock } = time;
  const { fileSystem, fs } = await open(bytes, time, seed, 1 + random.below(300));
  const writer = writerOf(fileSystem);
  let isOver = false;
  const freezeAndTrim = async (): Promise<void> => {
    while (!isOver) {
      await sleep(clock, random.below(1_500));
      if (random.below(2) === 0) await writer.trim();
      else {
        await writer.freeze();
        await sleep(clock, random.below(8_000));
        expectWhole(bytes);
        await writer.thaw();
      }
    }
  };
  const tasks = Array.from({ length: TASKS }, (_, id) => {
    return new Task(fs, writer, new Random(seed * TASKS + id), id);
  });
  const freezing = freezeAndTrim();
  await time.settle(
    Promise.all([
      freezing,
      Promise.all(tasks.map((task) => task.run())).finally(() => {
        isOver = true;
      }),
    ]),
  );
  await time.settle(writer.sync());
  expect(writer.mount.writer.blocks.reservedCount).toBe(0);
  await time.settle(fs.closeAll());
  await time.settle(fileSystem.close());
  const saved = join(scratch, "closed.img");
  writeFileSync(saved, bytes);
  runTool("e2fsck", ["-fn", saved]);
  const again = await open(bytes, time, seed, 1);
  for (const [name, content] of tasks.flatMap(({ files }) => [...files])) {
    const read = new Uint8Array(await time.settle(again.fs.readFile(name)));
    expect(equalBytes(read, content), name).toBe(true);
  }
  await time.settle(again.fs.closeAll());
  await time.settle(again.fileSystem.close());
}

describe.skipIf(!hasTools)("freezing and trimming under load", () => {
  const title = "%s: every frozen image is whole";
  test.each(KINDS)(title, { timeout: 120_000 }, async (_name, args, defaults) => {
    for (let round = 0; round < runs(1); round++) {
      const seed = 500 + round;
      await load(args, seed, defaults).catch((cause: unknown) => {
        throw new Error(`seed ${seed}: ${String(cause)}`, { cause });
      });
    }
  });
});
