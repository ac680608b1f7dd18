/**
 * Images on which a file, or free space, lies where the file system itself is: what is written to
 * the file would go over bitmaps, tables or the journal, and what is deleted would give them away.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../src/fs/vfs-write.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { makeImage } from "../support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "debugfs", "dumpe2fs"].every(requireTool);
const scratch = scratchDirectory("forged-maps");
/** Blocks of the file. */
const LENGTH = 3;

interface Kind {
  readonly name: string;
  readonly args: readonly string[];
}

const EXT4: Kind = { name: "ext4", args: ["-t", "ext4", "-O", "^metadata_csum,^uninit_bg"] };
const EXT2: Kind = { name: "ext2", args: ["-t", "ext2"] };

/** An image with a file "/victim", all of whose blocks, or the first, lie at `place`. */
function forge({ name, args }: Kind, place: (path: string) => number): [string, number] {
  const path = makeImage(scratch, name, [...args, "-b", "1024"], { sizeText: "32M" });
  const source = join(scratch, "source");
  writeFileSync(source, new Uint8Array(LENGTH * KIB).fill(1));
  runTool("debugfs", ["-w", "-R", `write ${source} victim`, path]);
  const target = place(path);
  const extents = `extent_open victim\nroot\nn\nreplace_node 0 ${LENGTH} ${target}\nec\n`;
  const input = name === "ext4" ? extents : `sif victim block[0] ${target}\n`;
  runTool("debugfs", ["-w", "-f", "-", path], { input });
  return [path, target];
}

function blockAt(path: string, pattern: RegExp): number {
  return Number(pattern.exec(runTool("dumpe2fs", [path]))![1]);
}

const PLACES: readonly (readonly [name: string, place: (path: string) => number])[] = [
  ["an inode table", (path) => blockAt(path, /Inode table at (\d+)/) + 1],
  ["a bitmap", (path) => blockAt(path, /Block bitmap at (\d+)/)],
  ["the descriptors", () => 2],
  ["a copy of the superblock", (path) => blockAt(path, /Backup superblock at (\d+)/)],
];

const CHANGES: readonly (readonly [name: string, change: (volume: Volume) => Promise<unknown>])[] =
  [
    ["written", (volume) => volume.fs.writeFile("/victim", new Uint8Array(9), { flag: "r+" })],
    ["cut", (volume) => volume.fs.truncate("/victim", 0)],
    ["deleted", (volume) => volume.fs.unlink("/victim")],
    [
      "punched",
      async (volume) => {
        const inode = await volume.fs.inode("/victim");
        const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        await volume.fileSystem.writer!.fallocate(inode, mode, 0, KIB);
      },
    ],
  ];

describe.skipIf(!hasTools)("what belongs to the file system itself", () => {
  for (const kind of [EXT4, EXT2]) {
    for (const [place, placeOf] of PLACES) {
      test(`${kind.name}: a file that lies on ${place} is left alone`, async () => {
        const [path, target] = forge(kind, placeOf);
        const before = readFileSync(path).subarray(target * KIB, (target + 1) * KIB);
        const image = readFileSync(path);
        for (const [what, change] of CHANGES) {
          const bytes = new Uint8Array(image);
          const volume = await openImage(bytes, { writable: true });
          const changing = change(volume).then(() => volume.sync());
          await expect(changing, what).rejects.toMatchObject({ code: "EUCLEAN" });
          await volume.close().catch(() => undefined); // A cut is not finished.
          const after = bytes.subarray(target * KIB, (target + 1) * KIB);
          expect(Buffer.compare(after, before), what).toBe(0);
        }
      });
    }
  }

  test("a file that lies on the journal does not change it", async () => {
    const ofJournal = (path: string): number =>
      Number(/^\d+$/m.exec(runTool("debugfs", ["-R", "bmap <8> 900", path]))![0]);
    const [path] = forge(EXT4, ofJournal);
    const volume = await openImage(path, { writable: true });
    await expect(volume.fs.unlink("/victim")).rejects.toMatchObject({ code: "EUCLEAN" });
    await volume.fs.writeFile("/other", "other");
    await volume.close();
  });

  test("a table that a bitmap says is free is not handed out", async () => {
    const path = makeImage(scratch, "free", [...EXT4.args, "-b", "1024"], { sizeText: "32M" });
    const table = blockAt(path, /^Group 1:[\s\S]*?Inode table at (\d+)/m);
    const free = blockAt(path, /^Group 0:[\s\S]*?(\d+) free blocks/m);
    const input = `freeb ${table} 20\nset_bg 0 free_blocks_count ${free + 20}\n`;
    runTool("debugfs", ["-w", "-f", "-", path], { input });
    const before = readFileSync(path).subarray(table * KIB, (table + 20) * KIB);
    const volume = await openImage(path, { writable: true });
    await volume.fs.writeFile("/large", new Uint8Array(6 * MIB).fill(7));
    await volume.fs.mkdir("/dir");
    await volume.close();
    expect(volume.info().warnings.join()).toContain("blocks of the file system are free");
    const after = readFileSync(path).subarray(table * KIB, (table + 20) * KIB);
    expect(Buffer.compare(after, before)).toBe(0);
  });
});
