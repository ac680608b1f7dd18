/**
 * Disks that are full: the write says so, never the `fsync`; everything can be deleted; what was
 * deleted can be written again, as often as one likes; and no block is lost on the way.
 *
 * A failure says which line repeats it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { FileHandle } from "../../src/front/file-handle.ts";
import { openVolume, type Volume } from "../../src/front/volume.ts";
import type { ExtVolumeWriter } from "../../src/fs/ext/ext-volume-writer.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../src/fs/vfs-write.ts";
import { hasErrnoCode } from "../../src/lib/errno.ts";
import { Random } from "../../src/lib/random.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeImage } from "../support/ext-images.ts";
import { seeds } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { VirtualTime } from "../support/virtual-time.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("full-disk");
const ROUNDS = 20;
const FIRST_SEED = 1;

interface Row {
  readonly title: string;
  /** Options of mke2fs. */
  readonly args: string;
  readonly size: string;
  readonly defaults?: string;
}

const ROWS: readonly Row[] = [
  { title: "ext2 1 KiB", args: "-t ext2 -b 1024", size: "4M" },
  { title: "ext2 4 KiB", args: "-t ext2 -b 4096", size: "6M" },
  { title: "ext3 1 KiB", args: "-t ext3 -b 1024 -J size=1", size: "5M" },
  { title: "ext3 4 KiB", args: "-t ext3 -b 4096 -J size=4", size: "10M" },
  { title: "ext4 1 KiB", args: "-t ext4 -b 1024 -J size=1", size: "5M" },
  { title: "ext4 4 KiB", args: "-t ext4 -b 4096 -J size=4", size: "10M" },
  { title: "ext4 inline", args: "-t ext4 -b 1024 -J size=1 -O inline_data", size: "5M" },
  {
    title: "ext3 1 KiB, data in the journal",
    args: "-t ext3 -b 1024 -J size=1",
    size: "5M",
    defaults: "journal_data",
  },
  {
    title: "ext4 4 KiB, data in the journal",
    args: "-t ext4 -b 4096 -J size=4",
    size: "10M",
    defaults: "journal_data",
  },
  { title: "ext4 no journal", args: "-t ext4 -b 4096 -O ^has_journal", size: "6M" },
];

/** A file and what it must hold. */
interface Kept {
  readonly path: string;
  readonly seed: number;
  readonly sizeBytes: number;
}

/** An image in memory that is opened, filled, emptied and asked about. */
class Disk {
  readonly random: Random;
  readonly image: Uint8Array;
  readonly time: VirtualTime = new VirtualTime();
  readonly path: string;
  volume!: Volume;
  files: Kept[] = [];
  dirs: string[] = [];
  #serial = 0;

  constructor(row: Row, seed: number) {
    this.random = new Random(seed);
    const { args, size, defaults } = row;
    this.path = makeImage(scratch, "x", args.split(" "), { sizeText: size, defaults });
    this.image = new Uint8Array(readFileSync(this.path));
  }

  async open(uid = 0): Promise<void> {
    const store = new MemoryStore(this.image);
    const options = { writable: true, cache: 4 * MIB, clock: this.time.clock, uid, gid: uid };
    this.volume = await this.time.settle(openVolume(store, options));
  }

  async close(): Promise<void> {
    await this.time.settle(this.volume.close());
    writeFileSync(this.path, this.image);
    runTool("e2fsck", ["-fn", this.path]);
  }

  /** Writes all down: no data is left then that has been promised room. */
  async sync(): Promise<void> {
    await this.time.settle(this.volume.sync());
    const writer = this.volume.fileSystem.writer as ExtVolumeWriter;
    expect(writer.promisedBlockCount).toBe(0);
  }

  /** Free blocks and inodes. */
  get free(): readonly [blocks: number, inodes: number] {
    const { freeBlockCount, freeInodeCount } = this.volume.fileSystem.usage();
    return [freeBlockCount, freeInodeCount];
  }

  get fs(): Volume["fs"] {
    return this.volume.fs;
  }

  /** Does `call`; false if there was no room for it. */
  async hasRoomFor(call: () => Promise<unknown>): Promise<boolean> {
    try {
      await this.time.settle(call());
      return true;
    } catch (thrown) {
      if (hasErrnoCode(thrown) && thrown.code === "ENOSPC") return false;
      throw thrown;
    }
  }

  newPath(): string {
    return `${this.random.pick(this.dirs)}/f${this.#serial++}${"-".repeat(this.random.below(60))}`;
  }

  /** Writes to a new file as much as `sizeBytes`; false if it did not fit. */
  async writeNew(path: string, sizeBytes: number): Promise<boolean> {
    let handle: FileHandle | undefined;
    const isMade = await this.hasRoomFor(async () => {
      handle = await this.fs.open(path, "wx");
    });
    if (!isMade) return false;
    const seed = this.random.uint32();
    const bytes = new Random(seed).bytes(sizeBytes);
    let done = 0;
    let hasRoom = true;
    while (done < sizeBytes && hasRoom) {
      const count = Math.min(sizeBytes - done, 1 + this.random.below(40 * KIB));
      hasRoom = await this.hasRoomFor(async () => {
        const { bytesWritten } = await handle!.write(bytes, done, count, done);
        expect(bytesWritten).toBeGreaterThan(0);
        done += bytesWritten;
      });
    }
    if (this.random.chance(0.2)) await this.time.settle(handle!.sync());
    await this.time.settle(handle!.close());
    this.files.push({ path, seed, sizeBytes: done });
    return hasRoom;
  }

  /** Makes files until nothing fits any more, however small. */
  async fill(): Promise<void> {
    if (this.dirs.length === 0) {
      await this.time.settle(this.fs.mkdir("top"));
      this.dirs.push("top");
    }
    for (let misses = 0; misses < 6; ) {
      if (this.random.chance(0.05) && this.dirs.length < 20) {
        const path = this.newPath();
        if (await this.hasRoomFor(() => this.fs.mkdir(path))) this.dirs.push(path);
      }
      const largest = misses === 0 ? this.random.pick([2 * KIB, 30 * KIB, 700 * KIB]) : KIB;
      const fits = await this.writeNew(this.newPath(), 1 + this.random.below(largest));
      if (!fits) misses++;
    }
  }

  /** Looks what is in every file. */
  async verify(): Promise<void> {
    for (const { path, seed, sizeBytes } of this.files) {
      const content = await this.time.settle(this.fs.readFile(path));
      const wanted = new Random(seed).bytes(sizeBytes);
      expect(Buffer.compare(content, wanted), path).toBe(0);
    }
  }

  /** Deletes about `share` of the files. */
  async remove(share: number): Promise<void> {
    const kept: Kept[] = [];
    for (const file of this.random.shuffle(this.files)) {
      if (this.random.chance(share)) await this.time.settle(this.fs.unlink(file.path));
      else kept.push(file);
    }
    this.files = kept;
  }

  async removeAll(): Promise<void> {
    await this.remove(1);
    for (const dir of this.dirs.reverse()) await this.time.settle(this.fs.rmdir(dir));
    this.dirs = [];
  }
}

/** Does `work`; what goes wrong says how to repeat it. */
async function repeatable(title: string, seed: number, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (thrown) {
    const line = `QUIRE_SEED=${seed} npx vitest run test/stack/full-disk.test.ts -t "${title}"`;
    throw new Error(`${line}\n${thrown instanceof Error ? thrown.stack : thrown}`);
  }
}

const TABLE = ROWS.map((row) => [row.title, row] as const);

describe.skipIf(!hasTools)("a full disk", () => {
  test.each(TABLE)("%s: filled and emptied many times, it loses no block", async (_title, row) => {
    for (const seed of seeds(1, FIRST_SEED)) {
      await repeatable(`${row.title}: filled`, seed, async () => {
        const disk = new Disk(row, seed);
        await disk.open();
        const atFirst = disk.free;
        for (let round = 0; round < ROUNDS; round++) {
          await disk.fill();
          await disk.sync();
          if (round % 4 === 1) {
            await disk.close();
            await disk.open();
          }
          await disk.verify();
          await disk.remove(0.5);
          await disk.fill();
          await disk.removeAll();
          await disk.sync();
          expect(disk.free, `round ${round}`).toEqual(atFirst);
          if (round % 4 !== 3) continue;
          await disk.close();
          await disk.open();
          expect(disk.free).toEqual(atFirst);
        }
        await disk.close();
      });
    }
  });

  test.each(TABLE)(
    "%s: what has its place can be changed, cut and punched",
    async (_title, row) => {
      for (const seed of seeds(2, FIRST_SEED)) {
        await repeatable(`${row.title}: what`, seed, async () => {
          const disk = new Disk(row, seed);
          await disk.open();
          const { random, time, fs } = disk;
          const sizeBytes = 600 * KIB;
          const bytes = random.bytes(sizeBytes);
          await time.settle(fs.writeFile("placed", bytes, { flush: true }));
          await disk.fill();
          const handle = await time.settle(fs.open("placed", "r+"));
          for (let step = 0; step < 200; step++) {
            const posBytes = random.below(sizeBytes);
            const part = random.bytes(Math.min(sizeBytes - posBytes, 1 + random.below(9000)));
            bytes.set(part, posBytes);
            await time.settle(handle.write(part, 0, part.length, posBytes));
            if (random.chance(0.1)) await time.settle(handle.sync());
          }
          const writer = disk.volume.fileSystem.writer!;
          for (let step = 0; step < 20; step++) {
            const posBytes = random.below(sizeBytes - 9000);
            const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
            await time.settle(writer.fallocate(handle.vfsInode, mode, posBytes, 9000));
            bytes.fill(0, posBytes, posBytes + 9000);
          }
          await time.settle(handle.truncate(sizeBytes >> 1));
          await time.settle(handle.sync());
          await time.settle(handle.close());
          await disk.close();
          await disk.open();
          const content = await time.settle(disk.fs.readFile("placed"));
          expect(Buffer.compare(content, bytes.subarray(0, sizeBytes >> 1))).toBe(0);
          await disk.verify();
          await disk.close();
        });
      }
    },
  );

  test.each(TABLE.filter(([title]) => title.startsWith("ext4")))(
    "%s: space had in advance is there when it is wanted",
    async (_title, row) => {
      for (const seed of seeds(2, FIRST_SEED)) {
        await repeatable(`${row.title}: space`, seed, async () => {
          const disk = new Disk(row, seed);
          await disk.open();
          const { random, time } = disk;
          const sizeBytes = 1200 * KIB;
          const bytes = new Uint8Array(sizeBytes);
          const handle = await time.settle(disk.fs.open("space", "w+"));
          const writer = disk.volume.fileSystem.writer!;
          await time.settle(writer.fallocate(handle.vfsInode, 0, 0, sizeBytes));
          await disk.fill();
          for (let step = 0; step < 150; step++) {
            const posBytes = random.below(sizeBytes);
            const part = random.bytes(Math.min(sizeBytes - posBytes, 1 + random.below(5000)));
            bytes.set(part, posBytes);
            await time.settle(handle.write(part, 0, part.length, posBytes));
            if (random.chance(0.3)) await time.settle(handle.datasync());
          }
          await time.settle(handle.sync());
          await disk.close();
          await disk.open();
          expect(Buffer.compare(await time.settle(disk.fs.readFile("space")), bytes)).toBe(0);
          await disk.close();
        });
      }
    },
  );

  test.each(TABLE)("%s: what is kept for root is root's", async (_title, row) => {
    await repeatable(`${row.title}: what is kept`, FIRST_SEED, async () => {
      const disk = new Disk(row, FIRST_SEED);
      await disk.open();
      await disk.time.settle(disk.fs.chmod("/", 0o777));
      const { freeBlockCount, availableBlockCount } = disk.volume.fileSystem.usage();
      const keptCount = freeBlockCount - availableBlockCount;
      expect(keptCount).toBeGreaterThan(50);
      await disk.close();
      await disk.open(1000);
      do {
        await disk.fill();
        await disk.sync(); // Gives back what pointers did not need.
      } while (await disk.writeNew(disk.newPath(), 2 * KIB));
      expect(disk.volume.fileSystem.usage().availableBlockCount).toBeLessThan(8);
      expect(disk.free[0]).toBeGreaterThanOrEqual(keptCount);
      await disk.close();
      await disk.open(1000);
      expect(disk.free[0]).toBeGreaterThanOrEqual(keptCount);
      expect(await disk.writeNew("more", 40 * KIB)).toBe(false);
      await disk.close();
      await disk.open();
      expect(await disk.writeNew("of root", 40 * KIB)).toBe(true);
      await disk.fill();
      expect(disk.free[0]).toBeLessThan(keptCount);
      await disk.verify();
      await disk.close();
    });
  });

  test.each(TABLE)("%s: no inode is left, until one is given back", async (_title, row) => {
    await repeatable(`${row.title}: no inode`, FIRST_SEED, async () => {
      const disk = new Disk({ ...row, args: `${row.args} -N 64` }, FIRST_SEED);
      await disk.open();
      const atFirst = disk.free;
      const makers = [
        (path: string): Promise<unknown> => disk.fs.mkdir(path),
        (path: string): Promise<unknown> => disk.fs.symlink("x".repeat(80), path),
        (path: string): Promise<unknown> => disk.fs.mknod(path, 0o010644),
        (path: string): Promise<unknown> => disk.fs.writeFile(path, "content"),
      ];
      for (let round = 0; round < 3; round++) {
        const made: string[] = [];
        for (;;) {
          const path = `n${made.length}`;
          if (!(await disk.hasRoomFor(() => random(path)))) break;
          made.push(path);
        }
        expect(disk.free[1]).toBe(0);
        for (const make of makers) expect(await disk.hasRoomFor(() => make("none"))).toBe(false);
        await disk.time.settle(disk.fs.rename(made[0]!, "moved"));
        await disk.time.settle(disk.fs.rm("moved", { recursive: true }));
        expect(await disk.hasRoomFor(() => disk.fs.mkdir("again"))).toBe(true);
        await disk.time.settle(disk.fs.rmdir("again"));
        for (const path of made.slice(1)) {
          await disk.time.settle(disk.fs.rm(path, { recursive: true }));
        }
        await disk.close();
        await disk.open();
        expect(disk.free).toEqual(atFirst);
      }
      await disk.close();

      function random(path: string): Promise<unknown> {
        return disk.random.pick(makers)(path);
      }
    });
  });
});
