/**
 * Many callers at once who know nothing of each other, on few names: opened while they are deleted,
 * renamed while they are listed, written while they are cut. Nobody can say what comes of it, but
 * each call ends, with an error that may be; a file that is open stays what it is; and what is left
 * is a whole file system that looks the same when it is opened again.
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
import { makeImage } from "../support/ext-images.ts";
import { seeds } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { SlowStore, VirtualTime } from "../support/virtual-time.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("many-callers");
const CALLERS = 8;
const STEPS = 120;
const LATENCY_MS = 6;
const SIZE_MAX = 200 * KIB;

const ROWS: readonly (readonly [title: string, args: string])[] = [
  ["ext2 1 KiB", "-t ext2 -b 1024"],
  ["ext3 4 KiB", "-t ext3 -b 4096"],
  ["ext4 4 KiB", "-t ext4 -b 4096"],
  ["ext4 1 KiB", "-t ext4 -b 1024"],
  ["ext4 inline", "-t ext4 -b 1024 -O inline_data,orphan_file"],
  ["ext4 no journal", "-t ext4 -b 4096 -O ^has_journal"],
];

/** What a caller may meet whom others get in the way of. */
const EXPECTED: ReadonlySet<string> = new Set([
  ...["ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "EINVAL", "EBUSY", "ELOOP", "EPERM"],
  ...["EOPNOTSUPP", "ENODATA", "ERR_FS_EISDIR"],
]);

type Call = (volume: Volume, random: Random, path: () => string) => Promise<unknown>;

/** A file that this caller alone has made and deleted: no other may get at it. */
async function useDeleted(volume: Volume, random: Random): Promise<void> {
  const path = `own-${random.uint32()}`;
  const handle = await volume.fs.open(path, "wx+");
  try {
    await volume.fs.unlink(path);
    const bytes = random.bytes(1 + random.below(20 * KIB));
    await handle.write(bytes, 0, bytes.length, 0);
    if (random.chance(0.5)) await handle.sync();
    const into = new Uint8Array(bytes.length);
    const { bytesRead } = await handle.read(into, 0, into.length, 0);
    expect(Buffer.compare(into.subarray(0, bytesRead), bytes)).toBe(0);
  } finally {
    await handle.close();
  }
}

async function useOpen(volume: Volume, random: Random, path: () => string): Promise<void> {
  const flags = random.pick(["r+", "a+", "w+", "wx+", "r"]);
  const handle: FileHandle = await volume.fs.open(path(), flags);
  try {
    for (let step = 0; step < 4; step++) {
      const bytes = random.bytes(random.below(9000));
      const kind = random.below(flags === "r" ? 2 : 6);
      if (kind === 0) await handle.read(bytes, 0, bytes.length, random.below(SIZE_MAX));
      else if (kind === 1) await handle.sync();
      else if (kind === 2) await handle.truncate(random.below(SIZE_MAX));
      else await handle.write(bytes, 0, bytes.length, random.below(SIZE_MAX));
    }
  } finally {
    await handle.close();
  }
}

async function allocate(volume: Volume, random: Random, path: () => string): Promise<void> {
  const handle = await volume.fs.open(path(), "r+");
  try {
    const modes = [0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE];
    const writer = volume.fileSystem.writer!;
    const lengthBytes = 1 + random.below(60 * KIB);
    const { vfsInode } = handle;
    await writer.fallocate(vfsInode, random.pick(modes), random.below(SIZE_MAX), lengthBytes);
  } finally {
    await handle.close();
  }
}

const CALLS: readonly Call[] = [
  useDeleted,
  useOpen,
  useOpen,
  useOpen,
  allocate,
  ({ fs }, random, path) => fs.writeFile(path(), random.bytes(random.below(40 * KIB))),
  ({ fs }, random, path) => fs.appendFile(path(), random.bytes(random.below(3000))),
  ({ fs }, _random, path) => fs.mkdir(path()),
  ({ fs }, _random, path) => fs.unlink(path()),
  ({ fs }, _random, path) => fs.unlink(path()),
  ({ fs }, _random, path) => fs.rmdir(path()),
  ({ fs }, _random, path) => fs.rename(path(), path()),
  ({ fs }, _random, path) => fs.rename(path(), path()),
  ({ fs }, _random, path) => fs.link(path(), path()),
  ({ fs }, random, path) => fs.symlink("x".repeat(1 + random.below(100)), path()),
  ({ fs }, random, path) => fs.truncate(path(), random.below(SIZE_MAX)),
  ({ fs }, random, path) => fs.chmod(path(), random.below(0o10000)),
  ({ fs }, random, path) => fs.lchown(path(), random.below(1000), random.below(1000)),
  ({ fs }, random, path) => fs.lutimes(path(), random.below(1e9), random.below(1e9)),
  ({ fs }, random, path) => fs.setXattr(path(), "user.x", random.bytes(random.below(300))),
  ({ fs }, _random, path) => fs.removeXattr(path(), "user.x"),
  ({ fs }, _random, path) => fs.readFile(path()),
  ({ fs }, _random, path) => fs.readdir(path()),
  ({ fs }, _random, path) => fs.copyFile(path(), path()),
  ({ fs }, random, path) =>
    random.chance(0.2) ? fs.rm(path(), { recursive: true }) : fs.stat("/"),
  (volume, random) => (random.chance(0.1) ? volume.sync() : volume.fs.stat("/")),
];

function somePath(random: Random): string {
  const names = ["a", "b", "c", "d"];
  const depth = 1 + random.below(3);
  return Array.from({ length: depth }, () => random.pick(names)).join("/");
}

async function caller(volume: Volume, random: Random): Promise<void> {
  for (let step = 0; step < STEPS; step++) {
    const call = random.pick(CALLS);
    try {
      await call(volume, random, () => somePath(random));
    } catch (thrown) {
      const { code } = thrown as { code?: string };
      if (code === undefined || !EXPECTED.has(code)) throw thrown;
    }
  }
}

/** Everything that can be seen. */
async function lookAt(volume: Volume, path: string, lines: string[]): Promise<string[]> {
  for (const name of (await volume.fs.readdir(path === "" ? "/" : path)).sort()) {
    if (name === "lost+found") continue;
    const child = `${path}/${name}`;
    const stats = await volume.fs.lstat(child);
    const xattrs = [...(await volume.fs.xattrs(child, { followLinks: false }))];
    const { mode, uid, gid, nlink, mtimeMs } = stats;
    const size = stats.isDirectory() ? 0 : stats.size;
    lines.push([child, mode, uid, gid, nlink, mtimeMs, size, String(xattrs)].join(" "));
    if (stats.isFile()) lines.push(Buffer.from(await volume.fs.readFile(child)).toString("base64"));
    if (stats.isDirectory()) await lookAt(volume, child, lines);
  }
  return lines;
}

/** An error and what caused it. */
function chainOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return thrown === undefined ? "" : String(thrown);
  return `${thrown.stack}\n${chainOf(thrown.cause)}`;
}

async function play(args: string, seed: number): Promise<void> {
  const path = makeImage(scratch, "x", args.split(" "), { sizeText: "32M" });
  const image = new Uint8Array(readFileSync(path));
  const random = new Random(seed);
  const time = new VirtualTime();
  const open = (): Promise<Volume> => {
    const store = new SlowStore(image, time, random.fork(), LATENCY_MS);
    const options = { writable: true, cache: 4 * MIB, clock: time.clock, random: random.fork() };
    return time.settle(openVolume(store, options));
  };
  let volume = await open();
  for (let round = 0; round < 2; round++) {
    const callers = Array.from({ length: CALLERS }, () => caller(volume, random.fork()));
    await time.settle(Promise.all(callers));
    const seen = await time.settle(lookAt(volume, "", []));
    await time.settle(volume.close());
    writeFileSync(path, image);
    runTool("e2fsck", ["-fn", path]);
    volume = await open();
    expect(await time.settle(lookAt(volume, "", []))).toEqual(seen);
  }
  await time.settle(volume.close());
}

describe.skipIf(!hasTools)("many callers at once", () => {
  test.each(ROWS)("%s", async (title, args) => {
    for (const seed of seeds(3, 48)) {
      try {
        await play(args, seed);
      } catch (thrown) {
        const line = `QUIRE_SEED=${seed} npx vitest run test/stack/many-callers.test.ts`;
        const text = chainOf(thrown);
        throw new Error(`${line} -t "${title}$"\n${text}`);
      }
    }
  });
});
