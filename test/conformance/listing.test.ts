/**
 * Directories that are changed while they are listed: what stays is met once, and what goes need
 * not be.
 */
import { openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { VolumeFs } from "../../src/front/promises.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const canRun = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("listing");
const KINDS: readonly [name: string, args: readonly string[]][] = [
  ["indexed", ["-t", "ext4", "-b", "1024"]],
  ["linear", ["-t", "ext2", "-O", "^dir_index", "-b", "1024"]],
  ["case-insensitive", ["-t", "ext4", "-b", "1024", "-O", "casefold"]],
  ["inline at first", ["-t", "ext4", "-b", "1024", "-O", "inline_data"]],
];
const COUNT = 600;

async function fill(fs: VolumeFs, prefix: string, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) await (await fs.open(`/d/${prefix}${n}`, "wx")).close();
}

async function withVolume(
  args: readonly string[],
  task: (fs: VolumeFs) => Promise<void>,
): Promise<void> {
  const image = join(scratch, "listed.img");
  runTool("mke2fs", ["-q", "-F", ...args, image, "32M"]);
  const volume = await openImage(image, { writable: true, cache: "16MiB" });
  try {
    await volume.fs.mkdir("/d");
    await fill(volume.fs, "old", 0, COUNT);
    await task(volume.fs);
  } finally {
    await volume.close();
  }
  runTool("e2fsck", ["-fn", image]);
}

function counted(names: readonly string[]): number[] {
  return [names.length, new Set(names).size];
}

describe.skipIf(!canRun).each(KINDS)("a directory that is %s", (_name, args) => {
  test("shows each name once while others come", async () => {
    await withVolume(args, async (fs) => {
      const seen: string[] = [];
      let made = 0;
      for await (const { name } of await fs.opendir("/d")) {
        seen.push(name);
        const next = Math.min(made + 5, 3 * COUNT);
        await fill(fs, "new", made, next);
        made = next;
      }
      expect(counted(seen.filter((name) => name.startsWith("old")))).toEqual([COUNT, COUNT]);
      expect(new Set(seen).size).toBe(seen.length);
    });
  });

  test("shows each name once to several that list it while others come", async () => {
    await withVolume(args, async (fs) => {
      const filling = fill(fs, "new", 0, COUNT);
      const lists = await Promise.all(Array.from({ length: 20 }, () => fs.readdir("/d")));
      for (const list of lists) {
        expect(counted(list.filter((name) => name.startsWith("old")))).toEqual([COUNT, COUNT]);
        expect(new Set(list).size).toBe(list.length);
      }
      await filling;
      expect((await fs.readdir("/d")).length).toBe(2 * COUNT);
    });
  });

  test("shows each name once to reads that do not wait for one another", async () => {
    await withVolume(args, async (fs) => {
      const dir = await fs.opendir("/d");
      const entries = await Promise.all(Array.from({ length: COUNT + 5 }, () => dir.read()));
      const names = entries.flatMap((entry) => (entry === null ? [] : [entry.name]));
      expect(counted(names)).toEqual([COUNT, COUNT]);
      expect(entries.slice(COUNT)).toEqual([null, null, null, null, null]);
      await dir.close();
    });
  });

  test("shows each name once while they go", async () => {
    await withVolume(args, async (fs) => {
      const seen: string[] = [];
      for await (const { name } of await fs.opendir("/d")) {
        seen.push(name);
        await fs.unlink(`/d/${name}`);
      }
      expect(counted(seen)).toEqual([COUNT, COUNT]);
      expect(await fs.readdir("/d")).toEqual([]);
    });
  });
});

test.skipIf(!canRun)("a directory with a damaged index shows all of its names", async () => {
  const image = join(scratch, "damaged.img");
  const features = "^metadata_csum,^has_journal";
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, image, "32M"]);
  const volume = await openImage(image, { writable: true });
  await volume.fs.mkdir("/d");
  await fill(volume.fs, "old", 0, COUNT);
  await volume.close();
  const told = runTool("debugfs", ["-R", "blocks /d", image]);
  const [root] = told.trim().split(/\s+/).map(Number);
  const fd = openSync(image, "r+");
  const index = Buffer.alloc(1024);
  readSync(fd, index, 0, index.length, root! * 1024);
  index.writeUInt16LE(9999, 0x22); // count, far above limit
  writeSync(fd, index, 0, index.length, root! * 1024);
  const damaged = await openImage(image, { writable: true });
  expect(counted(await damaged.fs.readdir("/d"))).toEqual([COUNT, COUNT]);
  await damaged.close();
});
