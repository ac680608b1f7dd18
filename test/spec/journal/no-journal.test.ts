/**
 * File systems without a journal: what a power cut may leave, before e2fsck and after it. Case
 * J105, invariants 3 and 16.
 */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openImage } from "../../../src/front/open-image.ts";
import type { Volume } from "../../../src/front/volume.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { le16, putLe16 } from "../../../src/lib/bytes.ts";
import { realClock } from "../../../src/lib/clock.ts";
import { Random } from "../../../src/lib/random.ts";
import { SimDisk } from "../../../src/store/sim-disk.ts";
import { BLOCK_BYTES, makeBytes } from "../../support/fast-image.ts";
import { requireTool, runTool, scratchDirectory } from "../../support/tools.ts";

const hasTools = requireTool("e2fsck");
const directory = scratchDirectory("no-journal");
const VALID = 1;

type Fs = Volume["fs"];

/** What files there are before the cuts, all of them on disk. */
async function prepare({ fs }: Volume): Promise<void> {
  for (const dir of ["/a", "/b", "/c"]) await fs.mkdir(dir);
  await fs.writeFile("/a/x", "X".repeat(2000));
  await fs.writeFile("/b/y", "Y".repeat(2000));
  await fs.writeFile("/c/z", "Z".repeat(2000));
}

/** Works on a prepared image and returns what the disk may hold after cuts on the way. */
async function cutsOf(
  seed: number,
  work: (volume: Volume, images: readonly Uint8Array[]) => Promise<void>,
  features: readonly string[] = [],
  sectorBytes = 512,
): Promise<Uint8Array[]> {
  const bytes = await makeBytes(features, { type: "ext2" });
  const before = await openImage(bytes, { writable: true, random: new Random(1) });
  await prepare(before);
  await before.close();
  const random = new Random(seed);
  const disk = new SimDisk(bytes, { clock: realClock, random, sectorBytes, latencyMs: () => 0 });
  const images: Uint8Array[] = [];
  const { write, flush } = disk;
  const cut = (): void => {
    if (random.chance(0.8)) images.push(disk.crash().durableImage());
  };
  const volume = await openImage(disk, { writable: true, random: new Random(1) });
  disk.write = (...args) => {
    const writing = write.apply(disk, args);
    cut(); // While it is under way, too.
    return writing.finally(cut);
  };
  disk.flush = (...args) => flush.apply(disk, args).finally(cut);
  await work(volume, images);
  await volume.sync();
  disk.write = write;
  disk.flush = flush;
  await volume.close();
  return images;
}

/** The first letter of the file at `path`, "-" for an empty one, "" if there is no such name. */
async function letterAt(fs: Fs, path: string): Promise<string> {
  try {
    const text = await fs.readFile(path, "latin1");
    return text === "" ? "-" : text[0]!;
  } catch (thrown) {
    if ((thrown as { code?: string }).code !== "ENOENT") throw thrown;
    return "";
  }
}

/** Expects that in each image, and as e2fsck leaves it, one of the paths leads to its letter. */
async function expectReached(
  images: readonly Uint8Array[],
  wanted: readonly (readonly [letters: string, ...paths: string[]])[],
): Promise<void> {
  const repaired = hasTools ? images.filter((_, index) => index % 9 === 4).map(repair) : [];
  for (const [index, bytes] of [...images, ...repaired].entries()) {
    const volume = await openImage(bytes);
    for (const [letters, ...paths] of wanted) {
      const found = await Promise.all(paths.map((path) => letterAt(volume.fs, path)));
      const isReached = found.some((letter) => letter !== "" && letters.includes(letter));
      expect(isReached, `image ${index}: ${letters} at ${paths} (${found})`).toBe(true);
    }
    await volume.close();
  }
}

function repair(bytes: Uint8Array): Uint8Array {
  const path = join(directory, "cut.img");
  writeFileSync(path, bytes);
  const { status } = spawnSync("e2fsck", ["-fy", path]);
  expect(status).toBeLessThan(4);
  runTool("e2fsck", ["-fn", path]);
  return new Uint8Array(readFileSync(path));
}

describe("names without a journal", () => {
  test.each([1, 2, 3])(
    "a file that moves has its old name or its new one (seed %s)",
    async (seed) => {
      const images = await cutsOf(seed, async ({ fs }) => {
        await fs.rename("/a/x", "/b/moved");
        await fs.rename("/c/z", "/c/other");
      });
      expect(images.length).toBeGreaterThan(5);
      await expectReached(images, [
        ["X", "/a/x", "/b/moved"],
        ["Z", "/c/z", "/c/other"],
        ["Y", "/b/y"],
      ]);
    },
  );

  test.each([1, 2])("so do files that change places in one go (seed %s)", async (seed) => {
    const images = await cutsOf(seed, async ({ fs }) => {
      await fs.rename("/a/x", "/b/x2");
      await fs.rename("/b/y", "/a/y2");
      await fs.rename("/c/z", "/a/z2");
      await fs.rename("/a/y2", "/c/y3");
    });
    await expectReached(images, [
      ["X", "/a/x", "/b/x2"],
      ["Y", "/b/y", "/a/y2", "/c/y3"],
      ["Z", "/c/z", "/a/z2"],
    ]);
  });

  test.each([1, 2])("a name that is replaced is always there (seed %s)", async (seed) => {
    const images = await cutsOf(seed, async ({ fs }) => {
      await fs.rename("/a/x", "/b/y");
      await fs.writeFile("/c/tmp", "N".repeat(1500));
      await fs.rename("/c/tmp", "/c/z");
    });
    await expectReached(images, [
      ["XY", "/b/y"],
      ["X", "/a/x", "/b/y"],
      ["ZN", "/c/z"],
    ]);
  });

  test("a directory with its names in the inode keeps the rule", async () => {
    const images = await cutsOf(
      5,
      async ({ fs }) => {
        await fs.rename("/a/x", "/b/moved");
        await fs.rename("/c/z", "/b/y");
      },
      ["inline_data", "ext_attr", "extents", "dir_index"],
      BLOCK_BYTES, // Both names, or a name and an inode, may lie in one block.
    );
    await expectReached(images, [
      ["X", "/a/x", "/b/moved"],
      ["YZ", "/b/y"],
    ]);
  });

  test("fsync of a new file keeps its name, that of its directory, and its data", async () => {
    let seen = 0;
    const images = await cutsOf(3, async ({ fs }, soFar) => {
      await fs.mkdir("/new");
      await fs.mkdir("/new/dir");
      const file = await fs.open("/new/dir/file", "w");
      await file.write("F".repeat(3000));
      await file.sync();
      seen = soFar.length;
      await fs.writeFile("/c/later", "later");
      await file.close();
    });
    expect(images.length).toBeGreaterThan(seen + 3);
    await expectReached(images.slice(seen), [["F", "/new/dir/file"]]);
  });
});

describe("J105 the state of an image without a journal", () => {
  test("says that it is in use before the first change, and is valid after close", async () => {
    const images = await cutsOf(9, async ({ fs }) => {
      await fs.mkdir("/d");
    });
    for (const bytes of images) expect(le16(bytes, 1024 + SB.s_state) & VALID).toBe(0);
    const bytes = images.at(-1)!.slice();
    const volume = await openImage(bytes, { writable: true });
    await volume.close();
    expect(le16(bytes, 1024 + SB.s_state) & VALID).toBe(0); // It was in doubt before.
    if (hasTools) {
      const path = join(directory, "dirty.img");
      writeFileSync(path, bytes);
      const checked = spawnSync("e2fsck", ["-p", path], { encoding: "utf8" });
      expect(checked.stdout).toMatch(/not cleanly unmounted/);
      expect(checked.status).toBeLessThan(4);
    }
    putLe16(bytes, 1024 + SB.s_state, VALID);
    await (await openImage(bytes, { writable: true })).close();
    expect(le16(bytes, 1024 + SB.s_state) & VALID).toBe(VALID);
  });
});
