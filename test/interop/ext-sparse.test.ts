/**
 * Sparse files that the kernel wrote: SEEK_DATA, SEEK_HOLE, FIEMAP and content here are what the
 * kernel shows for the same image.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { GIB, KIB } from "../../src/lib/units.ts";
import { digestOf, inodeAt, makeImage, openImage, readFile } from "../support/ext-images.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const mayMount =
  ["mke2fs", "mount", "python3", "fallocate", "sync"].every(requireTool) && requireRoot("mounting");
const scratch = scratchDirectory("ext-sparse");
const SCRIPT = join(import.meta.dirname, "../support/sparse_map.py");

/** Makes the files at the mount point `at`, with the kernel's own calls. */
const FILL = `
import os, sys
def put(name, *pieces):
    fd = os.open(os.path.join(sys.argv[1], name), os.O_CREAT | os.O_RDWR)
    for offset, length in pieces:
        os.pwrite(fd, bytes([65 + offset // 512 % 26]) * length, offset)
    os.fsync(fd)
    os.close(fd)
K = 1024
put("dense", (0, 300 * K))
put("holes", *[(n * 40 * K, 5 * K) for n in range(120)])
put("tail", (700 * K + 77, 3))
put("scattered", *[(n * 8 * K, 4 * K) for n in reversed(range(100))])
put("far", (0, 10), (int(sys.argv[2]), 10))
put("grown", (0, 10))
os.truncate(os.path.join(sys.argv[1], "grown"), 1000 * K)
put("empty")
put("keep-size", (0, 10))
`;

interface KernelMap {
  readonly path: string;
  readonly data: readonly (readonly number[])[];
  readonly extents: readonly (readonly number[])[];
}

/**
 * Extents [logical, physical, length, flags], joined where one goes on where the last one ends:
 * how far the kernel joins those of a block map depends on what it has looked up before.
 */
function joined(extents: readonly (readonly number[])[]): number[][] {
  const out: number[][] = [];
  for (const [logical = 0, physical = 0, length = 0, flags = 0] of extents) {
    const last = out.at(-1);
    const goesOn =
      last !== undefined &&
      last[0]! + last[2]! === logical &&
      last[1]! + last[2]! === physical &&
      (last[3]! | LAST) === (flags | LAST);
    if (goesOn) out[out.length - 1] = [last[0]!, last[1]!, last[2]! + length, flags];
    else out.push([logical, physical, length, flags]);
  }
  return out;
}

const LAST = 1;
const NAMES = ["dense", "holes", "tail", "scattered", "far", "grown", "empty"];

describe.skipIf(!mayMount)("files with holes", () => {
  test.each([
    ["ext2-1k", "-t ext2 -b 1024", 15 * GIB, false],
    ["ext2-4k", "-t ext2 -b 4096", 1024 * GIB, false],
    ["ext4-1k", "-t ext4 -b 1024", 3072 * GIB, true],
    ["ext4-4k", "-t ext4 -b 4096", 3072 * GIB, true],
    ["bigalloc", "-t ext4 -b 1024 -O bigalloc", 3072 * GIB, true],
    ["inline", "-t ext4 -b 4096 -O inline_data", 3072 * GIB, true],
  ])("%s", async (name, args, farBytes, hasFallocate) => {
    const image = makeImage(scratch, name, args.split(" "), { sizeText: "64M" });
    const point = join(scratch, `mount-${name}`);
    mkdirSync(point);
    const names = hasFallocate ? [...NAMES, "unwritten", "keep-size"] : NAMES;
    runTool("mount", ["-o", "loop", image, point]);
    let maps: KernelMap[] = [];
    const digests = new Map<string, string>();
    try {
      runTool("python3", ["-c", FILL, point, String(farBytes)]);
      if (hasFallocate) {
        runTool("fallocate", ["-l", "500K", join(point, "unwritten")]);
        runTool("fallocate", ["-n", "-o", "100K", "-l", "300K", join(point, "keep-size")]);
      }
      runTool("sync", ["-f", point]);
      runTool("umount", [point]);
      runTool("mount", ["-o", "loop,ro", image, point]);
      const output = runTool("python3", [SCRIPT, ...names.map((file) => join(point, file))]);
      maps = output
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
      for (const file of names) {
        if (file === "far") continue;
        digests.set(file, runTool("sha256sum", [join(point, file)]).slice(0, 16));
      }
    } finally {
      runTool("umount", [point]);
    }
    await using mounted = await openImage(image);
    const { fs } = mounted;
    for (const [index, file] of names.entries()) {
      const inode = await inodeAt(fs, file);
      const data: number[][] = [];
      for (let at = 0; at < inode.size; ) {
        const start = await fs.seekData(inode, at);
        if (start === -1) break;
        at = await fs.seekHole(inode, start);
        data.push([start, at]);
      }
      expect([file, data]).toEqual([file, maps[index]!.data]);
      const extents = (await fs.extents(inode)).map((extent) => [
        extent.logicalBytes,
        // Where inline data lies on the device is not told.
        inode.isInline ? maps[index]!.extents[0]![1]! : extent.physicalBytes,
        extent.lengthBytes,
        extent.flags,
      ]);
      expect([file, joined(extents)]).toEqual([file, joined(maps[index]!.extents)]);
      if (file === "far") continue;
      expect([file, digestOf(await readFile(fs, inode, 10 * KIB))]).toEqual([
        file,
        digests.get(file),
      ]);
    }
  });
});
