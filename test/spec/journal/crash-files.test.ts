/**
 * Power cuts around files of a whole volume: what fsync has promised, what the commits by the timer
 * leave, deletions that were under way. Cases J85 to J88, J92, J100, J104, J106, J107.
 */
import { describe, expect, test } from "vitest";
import { openImage } from "../../../src/front/open-image.ts";
import type { Volume } from "../../../src/front/volume.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import type { ExtType, MkfsOptions } from "../../../src/fs/ext/mkfs/index.ts";
import { le16 } from "../../../src/lib/bytes.ts";
import { realClock, VirtualClock } from "../../../src/lib/clock.ts";
import { Random } from "../../../src/lib/random.ts";
import { SimDisk } from "../../../src/store/sim-disk.ts";
import { expectClean, makeBytes } from "../../support/fast-image.ts";

const TYPES: readonly ExtType[] = ["ext4", "ext3"];

/** A volume on a disk that can lose its power, in a time of its own. */
class Machine {
  readonly clock: VirtualClock = new VirtualClock();
  readonly disk: SimDisk;
  volume!: Volume;

  constructor(bytes: Uint8Array, seed: number) {
    this.clock.spend(1_700_000_000_000);
    const random = new Random(seed);
    this.disk = new SimDisk(bytes, { clock: this.clock, random });
  }

  static async on(bytes: Uint8Array, seed = 1): Promise<Machine> {
    const machine = new Machine(bytes, seed);
    const { clock } = machine;
    const opening = openImage(machine.disk, { writable: true, clock, random: new Random(1) });
    machine.volume = await machine.during(opening);
    return machine;
  }

  static async make(type: ExtType = "ext4", options: Partial<MkfsOptions> = {}): Promise<Machine> {
    return Machine.on(await makeBytes([], { type, ...options }));
  }

  /** Lets time pass until `work` has ended. */
  async during<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const ended = work.finally(() => {
      isDone = true;
    });
    ended.catch(() => undefined);
    while (!isDone) await this.clock.advance(5);
    return ended;
  }

  /** What the disk may hold if the power went now. */
  cuts(count = 3): Uint8Array[] {
    return Array.from({ length: count }, () => this.disk.crash().durableImage());
  }

  /** Cuts at writes and flushes while `work` is under way. */
  async cutsDuring(work: () => Promise<unknown>): Promise<Uint8Array[]> {
    const images: Uint8Array[] = [];
    const { disk } = this;
    const { write, flush } = disk;
    const cut = (): void => void images.push(disk.crash().durableImage());
    disk.write = (...args) => write.apply(disk, args).finally(cut);
    disk.flush = (...args) => flush.apply(disk, args).finally(cut);
    await this.during(work());
    disk.write = write;
    disk.flush = flush;
    return images;
  }

  async close(): Promise<void> {
    await this.during(this.volume.close());
  }
}

/** Mounts what a cut has left, looks at it, closes it, and has it checked. */
async function afterCut<T>(bytes: Uint8Array, look: (volume: Volume) => Promise<T>): Promise<T> {
  const volume = await openImage(bytes, { writable: true, random: new Random(1) });
  const seen = await look(volume);
  await volume.close();
  await expectClean(bytes);
  return seen;
}

async function contentAt({ fs }: Volume, path: string): Promise<string | undefined> {
  return fs.readFile(path, "latin1").catch(() => undefined);
}

describe("files and the journal", () => {
  test.each(TYPES)("J85 what was appended is whole right after fsync (%s)", async (type) => {
    const machine = await Machine.make(type);
    const { fs } = machine.volume;
    const file = await machine.during(fs.open("/f", "a"));
    for (let size = 20_000; size < 80_000; size += 20_000) {
      await machine.during(file.write(Buffer.alloc(20_000, 0x41)));
      await machine.during(file.sync());
      for (const bytes of machine.cuts()) {
        const content = await afterCut(bytes, (volume) => contentAt(volume, "/f"));
        expect(content).toBe("A".repeat(size));
      }
    }
    await machine.during(file.close());
    await machine.close();
  });

  test.each(TYPES)(
    "J86 J107 what was not synced is there whole or not at all, whenever the power goes (%s)",
    async (type) => {
      const machine = await Machine.make(type);
      const { fs } = machine.volume;
      await machine.during(fs.writeFile("/f", "B".repeat(20_000)));
      const seen = new Set<string | undefined>();
      for (let second = 0; second < 45; second += 3) {
        await machine.clock.advance(3000);
        for (const bytes of machine.cuts(1)) {
          seen.add(await afterCut(bytes, (volume) => contentAt(volume, "/f")));
        }
      }
      expect(seen).toContain("B".repeat(20_000)); // Dirty data is written within 35 seconds.
      seen.delete("B".repeat(20_000));
      seen.delete("");
      seen.delete(undefined);
      expect([...seen].map((text) => text?.length)).toEqual([]);
      await machine.close();
    },
  );

  test("J87 a preallocated range shows zeros until what was written is whole", async () => {
    const machine = await Machine.make();
    const { fs, fileSystem } = machine.volume;
    await machine.during(fs.writeFile("/f", ""));
    const inode = await fileSystem.inode(Number((await fs.stat("/f")).ino));
    await machine.during(Promise.resolve(fileSystem.writer!.fallocate(inode, 0, 0, 65_536)));
    await machine.during(machine.volume.sync());
    const file = await machine.during(fs.open("/f", "r+"));
    await machine.during(file.write(Buffer.alloc(8192, 0x43), 0, 8192, 4096));
    const data = "C".repeat(8192);
    const zeros = (count: number): string => "\0".repeat(count);
    for (const bytes of machine.cuts()) {
      const content = await afterCut(bytes, (volume) => contentAt(volume, "/f"));
      expect(content === zeros(65_536)).toBe(true);
    }
    const amid = await machine.cutsDuring(() => file.sync());
    for (const bytes of amid) {
      const content = await afterCut(bytes, (volume) => contentAt(volume, "/f"));
      expect(content?.replaceAll("C", "\0")).toBe(zeros(65_536));
    }
    for (const bytes of machine.cuts()) {
      const content = await afterCut(bytes, (volume) => contentAt(volume, "/f"));
      expect(content === zeros(4096) + data + zeros(53_248)).toBe(true);
    }
    await machine.during(file.close());
    await machine.close();
  });

  test.each(TYPES)(
    "J88 what is replaced is the old or the new content, never less (%s)",
    async (type) => {
      const machine = await Machine.make(type);
      const { fs } = machine.volume;
      const old = "O".repeat(9000);
      const young = "N".repeat(12_000);
      await machine.during(fs.writeFile("/renamed", old));
      await machine.during(fs.writeFile("/rewritten", old));
      await machine.during(machine.volume.sync());
      const amid = await machine.cutsDuring(async () => {
        await fs.writeFile("/tmp", young);
        await fs.rename("/tmp", "/renamed");
        await machine.volume.sync();
      });
      for (const bytes of amid) {
        const content = await afterCut(bytes, (volume) => contentAt(volume, "/renamed"));
        expect([old, young].includes(content ?? ""), `${content?.length} bytes`).toBe(true);
      }
      await machine.during(fs.writeFile("/tmp", old));
      await machine.during(fs.rename("/tmp", "/renamed"));
      await machine.during(fs.writeFile("/rewritten", young));
      await machine.clock.advance(12_000);
      for (const bytes of machine.cuts()) {
        const found = await afterCut(bytes, async (volume) => [
          await contentAt(volume, "/renamed"),
          await contentAt(volume, "/rewritten"),
        ]);
        expect(found.map((text) => text?.length)).toEqual([old.length, young.length]);
        expect(found).toEqual([old, young]);
      }
      await machine.close();
    },
  );
});

describe("work that takes several transactions", () => {
  test.each(TYPES)("J92 a truncation that is cut anywhere is finished (%s)", async (type) => {
    const machine = await Machine.make(type);
    const { fs } = machine.volume;
    const file = await machine.during(fs.open("/f", "w"));
    for (let at = 0; at < 1200; at++) {
      await machine.during(file.write(Buffer.alloc(1024, 0x54), 0, 1024, at * 4096));
    }
    await machine.during(file.sync());
    const images = await machine.cutsDuring(async () => {
      await file.truncate(3000);
      await machine.volume.sync();
    });
    expect(images.length).toBeGreaterThan(3);
    const sizes = new Set<number>();
    for (const bytes of images) {
      const [size, blocks] = await afterCut(bytes, async (volume) => {
        const stats = await volume.fs.stat("/f");
        return [stats.size, stats.blocks];
      });
      sizes.add(size);
      expect(size === 3000 ? blocks : 2).toBeLessThanOrEqual(6);
    }
    expect([...sizes].sort((a, b) => a - b)).toEqual([3000, 1199 * 4096 + 1024]);
    await machine.during(file.close());
    await machine.close();
  });

  /** A volume with files that are open and have no name any more, on disk; and a copy before. */
  async function unlinked(count: number): Promise<{ machine: Machine; before: Uint8Array[] }> {
    const machine = await Machine.make();
    const { fs } = machine.volume;
    const files: { close(): Promise<void> }[] = [];
    for (let at = 0; at < count; at++) {
      await machine.during(fs.writeFile(`/f${at}`, "U".repeat(50_000)));
      files.push(await machine.during(fs.open(`/f${at}`, "r")));
    }
    await machine.during(machine.volume.sync());
    for (let at = 0; at < count; at++) await machine.during(fs.unlink(`/f${at}`));
    const before = machine.cuts();
    await machine.during(machine.volume.sync());
    return { machine, before };
  }

  test("J100 an open file without a name is there before the commit, gone after it", async () => {
    const { machine, before } = await unlinked(1);
    for (const bytes of before) {
      const content = await afterCut(bytes, (volume) => contentAt(volume, "/f0"));
      expect(content).toBe("U".repeat(50_000));
    }
    for (const bytes of machine.cuts()) {
      const names = await afterCut(bytes, ({ fs }) => fs.readdir("/"));
      expect(names).toEqual(["lost+found"]);
    }
  });

  test("J104 a mount that is cut while it deletes what was left is finished by the next", async () => {
    const { machine } = await unlinked(6);
    const [bytes] = machine.cuts(1);
    const again = new Machine(bytes!, 7);
    const images = await again.cutsDuring(async () => {
      const { clock, disk } = again;
      again.volume = await openImage(disk, { writable: true, clock, random: new Random(1) });
    });
    await again.close();
    expect(images.length).toBeGreaterThan(3);
    const free = await afterCut(
      await makeBytes([]),
      async ({ fs }) => (await fs.statfs("/")).bfree,
    );
    for (const image of [...images, ...again.cuts(1)]) {
      expect(await afterCut(image, async ({ fs }) => (await fs.statfs("/")).bfree)).toBe(free);
    }
  });

  test("J106 a mount for writing counts as a mount, a look does not", async () => {
    const bytes = await makeBytes([]);
    const countOf = (): number => le16(bytes, 1024 + SB.s_mnt_count);
    expect(countOf()).toBe(0);
    for (const wanted of [1, 2]) {
      await (await openImage(bytes, { writable: true, clock: realClock })).close();
      expect(countOf()).toBe(wanted);
      const before = bytes.slice();
      await (await openImage(bytes)).close();
      expect(Buffer.compare(bytes, before)).toBe(0);
    }
  });
});
