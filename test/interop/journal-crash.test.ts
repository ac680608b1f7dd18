/**
 * Power cuts while names come and go on a real image: after each, a mount for writing recovers the
 * journal and deletes the orphans; the names are those after some number of operations, none that
 * was acknowledged is missing, and e2fsck finds nothing wrong.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { dirFindName } from "../../src/fs/ext/dir-write.ts";
import { findSuperblock } from "../../src/fs/ext/find-superblock.ts";
import { type ExtMount, mountWritable } from "../../src/fs/ext/mount-writable.ts";
import { extCreate, extLink, extUnlink } from "../../src/fs/ext/namespace.ts";
import { type Clock, realClock, VirtualClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { SimDisk } from "../../src/store/sim-disk.ts";
import type { Store } from "../../src/store/store.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "e2fsck"].map(requireTool).every(Boolean);
const directory = scratchDirectory("journal-crash");
const ROOT = 2;
const NAME_COUNT = 40;
/** The superblock has its checksum in its second half: as with Linux, a disk must not tear it. */
const SECTOR_BYTES = 1024;

async function mountStore(store: Store, clock: Clock): Promise<ExtMount> {
  const bdev = new StoreBlockDevice(store, { clock });
  const cache = new PageCache({ arenaBytes: 4 * MIB, clock });
  const found = await findSuperblock(bdev, "primary", undefined, undefined);
  const options = { clock, random: new Random(1) };
  return mountWritable(bdev, cache, found, options, () => undefined);
}

async function drive<T>(clock: VirtualClock, work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  done.catch(() => undefined);
  while (!isDone) await clock.advance(1);
  return done;
}

function nameOf(index: number): Uint8Array {
  return new TextEncoder().encode(`name-${index}-${"x".repeat(index * 3)}`);
}

/** Makes or removes a random name; returns the names afterwards, as a set of bits. */
async function change(
  mount: ExtMount,
  random: Random,
  names: readonly boolean[],
): Promise<boolean[]> {
  const { writer } = mount;
  const index = random.below(NAME_COUNT);
  const other = names.findIndex((isThere, at) => isThere && at % 3 !== 0);
  const mode = index % 3 === 0 ? 0o40755 : 0o100644;
  const isLink = random.chance(0.3) && other >= 0 && index % 3 !== 0;
  const isRemoved = names[index]!;
  if (isRemoved && mode === 0o40755) return names.slice();
  await writer.transactions.run((handle) => {
    const root = writer.inode(ROOT);
    const umask = 0o022;
    if (isRemoved) extUnlink(writer, handle, root, nameOf(index));
    else if (isLink) {
      const { ino } = dirFindName(writer, root, nameOf(other))!.walk;
      extLink(writer, handle, writer.inode(ino), root, nameOf(index));
    } else extCreate(writer, handle, root, nameOf(index), { mode, umask, uid: 0, gid: 0 });
  });
  return names.with(index, !isRemoved);
}

async function namesIn({ writer }: ExtMount): Promise<string> {
  let bits = "";
  for (let index = 0; index < NAME_COUNT; index++) {
    const slot = await writer.metadata.run(() =>
      dirFindName(writer, writer.inode(ROOT), nameOf(index)),
    );
    bits += slot === undefined ? "0" : "1";
  }
  return bits;
}

interface Cut {
  readonly disk: SimDisk;
  readonly acknowledged: number;
}

/** Works on the image in `bytes` and returns the power cuts, and the names after each operation. */
async function work(
  bytes: Uint8Array,
  seed: number,
): Promise<{ cuts: readonly Cut[]; history: readonly string[] }> {
  const random = new Random(seed);
  const clock = new VirtualClock();
  clock.spend(1_700_000_000_000);
  const disk = new SimDisk(bytes, { clock, random, sectorBytes: SECTOR_BYTES });
  const cuts: Cut[] = [];
  let acknowledged = 0;
  const cut = (): void => {
    if (random.chance(0.3)) cuts.push({ disk: disk.crash(), acknowledged });
  };
  const mount = await drive(clock, mountStore(disk, clock));
  const { write, flush } = disk;
  disk.write = (...args) => write.apply(disk, args).finally(cut);
  disk.flush = (...args) => flush.apply(disk, args).finally(cut);
  let names: boolean[] = Array.from({ length: NAME_COUNT }, () => false);
  const history = ["0".repeat(NAME_COUNT)];
  const running = async (): Promise<void> => {
    for (let op = 0; op < 300; op++) {
      names = await change(mount, random, names);
      history.push(names.map((isThere) => (isThere ? "1" : "0")).join(""));
      if (!random.chance(0.2)) continue;
      await mount.writer.transactions.commit();
      acknowledged = history.length - 1;
    }
    await mount.close();
    acknowledged = history.length - 1;
  };
  await drive(clock, running());
  cuts.push({ disk: disk.crash(), acknowledged });
  return { cuts, history };
}

const forms: readonly (readonly [string, readonly string[]])[] = [
  ["ext4, 1 KiB blocks", ["-t", "ext4", "-b", "1024"]],
  ["ext4, 4 KiB blocks", ["-t", "ext4", "-b", "4096"]],
  ["ext3", ["-t", "ext3", "-b", "1024"]],
];

describe.runIf(hasTools)("power cuts amid changes of names", () => {
  test.each(forms)(
    "J84 a mount finds the names of a prefix, and e2fsck nothing wrong: %s",
    async (name, args) => {
      const path = join(directory, `${name.replaceAll(/\W+/g, "-")}.img`);
      runTool("mke2fs", ["-q", "-F", ...args, path, "8M"]);
      const { cuts, history } = await work(new Uint8Array(readFileSync(path)), 7);
      expect(cuts.length).toBeGreaterThan(20);
      for (const [index, { disk, acknowledged }] of cuts.entries()) {
        const bytes = disk.durableImage();
        const mount = await mountStore(new MemoryStore(bytes), realClock);
        const names = await namesIn(mount);
        const prefix = history.lastIndexOf(names);
        expect(prefix, `cut ${index}`).toBeGreaterThanOrEqual(acknowledged);
        await mount.close();
        if (index % 3 !== 0 && index !== cuts.length - 1) continue;
        writeFileSync(path, bytes);
        runTool("e2fsck", ["-fn", path]);
      }
    },
    120_000,
  );
});
