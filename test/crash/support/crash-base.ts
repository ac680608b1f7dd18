/**
 * The small file systems that power cuts are tried on, each made once by the real mke2fs and then
 * filled, and with every free byte poisoned.
 *
 *     /a/x  10,000 bytes   /b/x  3,000 bytes   /b/d/  empty      /a/y, /b/y  there is room for
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import { openVolume, type Volume } from "../../../src/front/volume.ts";
import { mountExt } from "../../../src/fs/ext/ext-fs.ts";
import { Random } from "../../../src/lib/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import type { Store } from "../../../src/store/store.ts";
import { runTool } from "../../support/tools.ts";
import { CrashClock } from "./crash-clock.ts";

const RECOVERY_ARENA_BYTES = MIB / 2;

/** What free space is filled with. No file has it. */
export const POISON = 0xdb;

/** Kinds of file systems. */
export type ConfigName = "ext4-1k" | "ext4-4k" | "ext3-1k" | "ext2";

interface Config {
  /** Options of mke2fs. */
  readonly args: readonly string[];
  readonly size: string;
  readonly blockBytes: number;
}

const CONFIGS: Readonly<Record<ConfigName, Config>> = {
  "ext4-1k": { args: ["-t", "ext4", "-b", "1024"], size: "4M", blockBytes: KIB },
  "ext4-4k": {
    args: ["-t", "ext4", "-b", "4096", "-J", "size=4"],
    size: "10M",
    blockBytes: 4 * KIB,
  },
  "ext3-1k": { args: ["-t", "ext3", "-b", "1024"], size: "4M", blockBytes: KIB },
  ext2: { args: ["-t", "ext2", "-b", "1024"], size: "4M", blockBytes: KIB },
};

/** A file system to start from. */
export interface CrashBase {
  readonly name: ConfigName;
  readonly bytes: Uint8Array;
  /** Sectors of the journal, whose content says nothing once it is empty. */
  readonly journalSectors: ReadonlySet<number>;
  /** Content and inode numbers of what is there, by path. */
  readonly files: ReadonlyMap<string, { readonly ino: number; readonly content: Uint8Array }>;
  readonly dirs: ReadonlyMap<string, number>;
}

/** Bytes of files: none is zero or poison, and those of two seeds differ nearly everywhere. */
export function fileBytes(seed: number, count: number): Uint8Array {
  return new Random(seed).bytes(count).map((byte) => 1 + (byte % 200));
}

/** Opens what is in `store`, with a small cache and nothing from outside. */
export function openCrashed(store: Store, clock: CrashClock, writable: boolean): Promise<Volume> {
  const random = new Random(1);
  return openVolume(store, { writable, clock, random, cache: 4 * MIB, atime: "noatime" });
}

/**
 * Mounts what is in `store` for writing, which recovers it, and gives it back. The cache is smaller
 * than users may have, as this is done many thousand times.
 */
export async function recoverCrashed(store: Store, clock: CrashClock): Promise<void> {
  const device = new StoreBlockDevice(store, { clock });
  const cache = new PageCache({ arenaBytes: RECOVERY_ARENA_BYTES, clock });
  const random = new Random(1);
  const mounted = await mountExt(device, cache, { clock, random, writable: true });
  await mounted.close();
  await device.close();
}

async function fill(volume: Volume): Promise<void> {
  const { fs } = volume;
  for (const dir of ["/a", "/b", "/b/d", "/old"]) await fs.mkdir(dir);
  // Stale transactions in the log, and freed blocks that are used again.
  for (let n = 0; n < 10; n++) await fs.writeFile(`/old/${n}`, fileBytes(1000 + n, 5000));
  await volume.sync();
  await fs.writeFile("/a/x", fileBytes(1, 10_000));
  await fs.writeFile("/b/x", fileBytes(2, 3000));
  for (let n = 0; n < 10; n++) await fs.unlink(`/old/${n}`);
  await fs.rmdir("/old");
}

async function poison(volume: Volume, bytes: Uint8Array): Promise<void> {
  let at = 0;
  for await (const { offsetBytes, lengthBytes } of volume.usedRanges()) {
    bytes.fill(POISON, at, offsetBytes);
    at = offsetBytes + lengthBytes;
  }
  bytes.fill(POISON, at);
}

function journalSectorsOf(path: string, blockBytes: number): Set<number> {
  const text = runTool("debugfs", ["-R", "blocks <8>", path]);
  const perBlock = blockBytes / SECTOR_BYTES;
  const sectors = new Set<number>();
  for (const block of text.split(/\s+/).filter((word) => word !== "" && word !== "0")) {
    for (let at = 0; at < perBlock; at++) sectors.add(Number(block) * perBlock + at);
  }
  return sectors;
}

/** Makes the file system `name` in the directory `scratch`. */
export async function makeBase(name: ConfigName, scratch: string): Promise<CrashBase> {
  const { args, size, blockBytes } = CONFIGS[name];
  const path = join(scratch, `${name}.img`);
  const uuid = "01234567-89ab-cdef-0123-456789abcdef";
  const common = ["-F", "-q", "-N", "64", "-m", "0", "-U", uuid, "-E", `hash_seed=${uuid}`];
  const env = { E2FSPROGS_FAKE_TIME: "1690000000" };
  runTool("mke2fs", [...common, ...args, path, size], { env });
  const bytes = new Uint8Array(readFileSync(path));
  const clock = new CrashClock();
  const volume = await clock.run(openCrashed(new MemoryStore(bytes), clock, true));
  await clock.run(fill(volume));
  await clock.run(volume.close());
  const filled = await clock.run(openCrashed(new MemoryStore(bytes), clock, false));
  await clock.run(poison(filled, bytes));
  const files = new Map<string, { ino: number; content: Uint8Array }>();
  for (const file of ["a/x", "b/x"]) {
    const { ino } = await clock.run(filled.fs.stat(`/${file}`));
    const content = Uint8Array.from(await clock.run(filled.fs.readFile(`/${file}`)));
    files.set(file, { ino, content });
  }
  const dirs = new Map<string, number>();
  for (const dir of ["a", "b", "b/d"]) {
    dirs.set(dir, (await clock.run(filled.fs.stat(`/${dir}`))).ino);
  }
  await clock.run(filled.close());
  const journalSectors = name === "ext2" ? new Set<number>() : journalSectorsOf(path, blockBytes);
  return { name, bytes, journalSectors, files, dirs };
}
