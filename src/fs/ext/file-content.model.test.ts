/**
 * One file on an image of mke2fs against an array of bytes: writes, appends, cuts, holes, parts
 * moved, with the flusher, `fsync` and a new mount in between, in an order drawn from a seed. After
 * each mount e2fsck and debugfs are asked.
 */
import { describe, expect, test } from "vitest";
import {
  type ContentVolume,
  contentByDebugfs,
  expectClean,
  type OpenContent,
  openContent,
} from "../../../test/support/content-volume.ts";
import { makeImage } from "../../../test/support/ext-images.ts";
import { runs } from "../../../test/support/runs.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { filemapFlush } from "../../cache/filemap-flush.ts";
import { IOCB_APPEND } from "../../cache/kiocb.ts";
import { invalidateMappingPages } from "../../cache/truncate.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { KIB, MIB } from "../../lib/units.ts";
import { INDEX_MAX } from "../../lib/xarray.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../vfs-write.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("file-content-model");
const SIZE_MAX = 700 * KIB;
const MOUNTS = 3;
const STEPS = 60;

/** What the file must hold. */
class FileModel {
  bytes: Uint8Array = new Uint8Array(0);

  write(posBytes: number, bytes: Uint8Array): void {
    this.grow(posBytes + bytes.length);
    this.bytes.set(bytes, posBytes);
  }

  grow(sizeBytes: number): void {
    if (sizeBytes > this.bytes.length) this.setSize(sizeBytes);
  }

  setSize(sizeBytes: number): void {
    const next = new Uint8Array(sizeBytes);
    next.set(this.bytes.subarray(0, sizeBytes));
    this.bytes = next;
  }

  zero(from: number, end: number): void {
    this.bytes.fill(0, Math.min(from, this.bytes.length), Math.min(end, this.bytes.length));
  }

  collapse(from: number, end: number): void {
    const next = new Uint8Array(this.bytes.length - (end - from));
    next.set(this.bytes.subarray(0, from));
    next.set(this.bytes.subarray(end), from);
    this.bytes = next;
  }

  insert(at: number, count: number): void {
    const next = new Uint8Array(this.bytes.length + count);
    next.set(this.bytes.subarray(0, at));
    next.set(this.bytes.subarray(at), at + count);
    this.bytes = next;
  }
}

/** One random change of `file` and of `model`; its name. */
async function step(
  volume: ContentVolume,
  file: OpenContent,
  model: FileModel,
  random: Random,
): Promise<string> {
  const size = model.bytes.length;
  const posBytes = random.below(Math.min(size + 40 * KIB, SIZE_MAX));
  const lengthBytes = 1 + random.below(random.below(3) === 0 ? 90 * KIB : 5000);
  const { content } = volume;
  const allocate = (mode: number, from: number, count: number): unknown =>
    content.fallocate(file.inode, mode, from, count);
  const kind = random.below(14);
  switch (kind) {
    case 0:
    case 1:
    case 2: {
      const bytes = random.bytes(lengthBytes);
      await volume.write(file, posBytes, bytes);
      model.write(posBytes, bytes);
      return `write ${posBytes}+${lengthBytes}`;
    }
    case 3: {
      const bytes = random.bytes(lengthBytes);
      await volume.write(file, 0, bytes, IOCB_APPEND);
      model.write(size, bytes);
      return `append ${lengthBytes}`;
    }
    case 4:
      await content.setSize(file.inode, posBytes);
      model.setSize(posBytes);
      return `truncate ${posBytes}`;
    case 5:
      await content.fsync(file.inode, file.file, random.below(2) === 0);
      return "fsync";
    case 6:
      await filemapFlush(file.file.mapping);
      return "flush";
    case 7:
      await allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, posBytes, lengthBytes);
      model.zero(posBytes, posBytes + lengthBytes);
      return `punch ${posBytes}+${lengthBytes}`;
    case 8:
      await content.fsync(file.inode, file.file, false);
      invalidateMappingPages(file.file.mapping, 0, INDEX_MAX);
      return "drop";
    case 9: {
      const from = Math.floor(random.below(size + 1));
      const part = await volume.read(file, from, Math.min(20 * KIB, size - from));
      expect(equalBytes(part, model.bytes.slice(from, from + part.length))).toBe(true);
      return `read ${from}`;
    }
    default:
      return stepOfExtents(file, model, kind, posBytes, lengthBytes, allocate);
  }
}

/** What only files with extents know. */
async function stepOfExtents(
  { inode }: OpenContent,
  model: FileModel,
  kind: number,
  posBytes: number,
  lengthBytes: number,
  allocate: (mode: number, from: number, count: number) => unknown,
): Promise<string> {
  const { blockBytes } = inode;
  if (!inode.hasExtents) return "nothing";
  const first = posBytes - (posBytes % blockBytes);
  const count = Math.ceil(lengthBytes / blockBytes) * blockBytes;
  const end = posBytes + lengthBytes;
  if (kind === 10) {
    await allocate(0, posBytes, lengthBytes);
    model.grow(end);
    return `allocate ${posBytes}+${lengthBytes}`;
  }
  if (kind === 11) {
    await allocate(FALLOC_FL_KEEP_SIZE, posBytes, lengthBytes);
    return `keep ${posBytes}+${lengthBytes}`;
  }
  if (kind === 12) {
    await allocate(FALLOC_FL_ZERO_RANGE, posBytes, lengthBytes);
    model.zero(posBytes, end);
    model.grow(end);
    return `zero ${posBytes}+${lengthBytes}`;
  }
  const isInside = first + count < model.bytes.length;
  if (isInside && count % (2 * blockBytes) === 0) {
    await allocate(FALLOC_FL_COLLAPSE_RANGE, first, count);
    model.collapse(first, first + count);
    return `collapse ${first}+${count}`;
  }
  if (isInside && model.bytes.length + count <= 2 * SIZE_MAX) {
    await allocate(FALLOC_FL_INSERT_RANGE, first, count);
    model.insert(first, count);
    return `insert ${first}+${count}`;
  }
  return "nothing";
}

async function run(path: string, seed: number, arenaBytes: number): Promise<void> {
  const random = new Random(seed);
  const model = new FileModel();
  const log: string[] = [];
  let ino = 0;
  try {
    for (let mount = 0; mount < MOUNTS; mount++) {
      const volume = await openContent(path, { arenaBytes });
      const file = ino === 0 ? await volume.create("file") : volume.open(await volume.inode(ino));
      ino = file.inode.ino;
      for (let at = 0; at < STEPS; at++) {
        log.push(await step(volume, file, model, random));
        expect(file.inode.size).toBe(model.bytes.length);
      }
      expect(equalBytes(await volume.read(file), model.bytes)).toBe(true);
      log.push("mount");
      await volume.close();
      expectClean(path);
      expect(equalBytes(contentByDebugfs(path, scratch, "file"), model.bytes)).toBe(true);
    }
  } catch (thrown) {
    const cause = thrown;
    throw new FsError("EIO", { detail: `seed ${seed}: ${log.join(", ")}: ${thrown}`, cause });
  }
}

const KINDS: readonly (readonly [name: string, args: readonly string[]])[] = [
  ["ext4-4k", ["-t", "ext4", "-b", "4096"]],
  ["ext4-1k", ["-t", "ext4", "-b", "1024"]],
  ["ext4-inline", ["-t", "ext4", "-b", "1024", "-I", "256", "-O", "inline_data"]],
  ["ext3-1k", ["-t", "ext3", "-b", "1024"]],
  ["ext3-4k", ["-t", "ext3", "-b", "4096"]],
  ["ext2-1k", ["-t", "ext2", "-b", "1024"]],
];

describe.skipIf(!hasTools)("a file against an array of bytes", () => {
  test.each(KINDS)(
    "%s: any order of changes, and e2fsck agrees",
    { timeout: 120_000 },
    async (name, args) => {
      for (let round = 0; round < runs(3); round++) {
        const path = makeImage(scratch, `${name}-${round}`, args, { sizeText: "24M" });
        await run(path, 1000 + round, round % 2 === 0 ? 4 * MIB : 16 * MIB);
      }
    },
  );
});
