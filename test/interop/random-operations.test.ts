/**
 * Random changes of a tree: done to a volume, to a real directory and to a model, which must agree
 * at any time; and by the kernel in turn with quire, each going on with what the other one has
 * written. After each turn e2fsck is asked, and both must see the same.
 *
 * A failure says which line repeats it.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "vitest";
import { openVolume } from "../../src/front/volume.ts";
import { MIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeImage } from "../support/ext-images.ts";
import { expectKernelManifest, mayCompareWithKernel } from "../support/manifest.ts";
import { nodeSide, quireSide, RandomTree } from "../support/random-tree.ts";
import { runs, seeds } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { VirtualTime } from "../support/virtual-time.ts";

const mayRun = mayCompareWithKernel() && requireTool("e2fsck");
const scratch = scratchDirectory("random-operations");
const TURNS = 5;
/** In each turn of quire's; in a simulation a run is of more than 10,000. */
const STEPS = runs(1) > 1 ? 2000 : 300;

interface Row {
  readonly title: string;
  /** Options of mke2fs. */
  readonly args: string;
  /** What both mount it with, as `tune2fs -o` takes it. */
  readonly defaults?: string;
}

const ROWS: readonly Row[] = [
  { title: "ext2 1 KiB", args: "-t ext2 -b 1024" },
  { title: "ext3", args: "-t ext3 -b 4096" },
  { title: "ext3 1 KiB", args: "-t ext3 -b 1024" },
  { title: "ext4", args: "-t ext4 -b 4096" },
  { title: "ext4 1 KiB", args: "-t ext4 -b 1024" },
  { title: "ext4 inline data", args: "-t ext4 -b 1024 -I 256 -O inline_data" },
  { title: "ext4 no journal", args: "-t ext4 -b 4096 -O ^has_journal" },
  { title: "ext4 large attributes", args: "-t ext4 -b 1024 -O ea_inode,orphan_file,large_dir" },
  { title: "ext4 data in the journal", args: "-t ext4 -b 4096", defaults: "journal_data" },
  { title: "ext3 data in the journal", args: "-t ext3 -b 1024", defaults: "journal_data" },
  { title: "ext4 plain", args: "-t ext4 -b 2048 -O ^metadata_csum,^64bit,^flex_bg,uninit_bg" },
];

/** One image, and the run that changes it. */
class Turns {
  readonly run: RandomTree;
  readonly path: string;
  readonly #time = new VirtualTime();
  readonly #seed: number;

  constructor(row: Row, seed: number) {
    const hostRoot = mkdtempSync(join(scratch, "host-"));
    // As the root of an image, which a path with `..` may lead to.
    chmodSync(hostRoot, 0o755);
    mkdirSync(join(hostRoot, "lost+found"), 0o700);
    this.#seed = seed;
    this.run = new RandomTree({ seed, hostRoot });
    const { args, defaults } = row;
    this.path = makeImage(scratch, "x", args.split(" "), { sizeText: "40M", defaults });
  }

  /** `STEPS` changes by quire, some of them after the volume was closed and opened again. */
  async byQuire(): Promise<void> {
    const { run } = this;
    const image = new Uint8Array(readFileSync(this.path));
    for (let part = 0; part < 2; part++) {
      const { clock } = this.#time;
      const cache = (this.#seed + part) % 2 === 0 ? 4 * MIB : 32 * MIB;
      const opening = openVolume(new MemoryStore(image), { writable: true, cache, clock });
      const volume = await this.#time.settle(opening);
      run.subject = quireSide(volume, this.#time);
      await run.verify();
      await run.steps(STEPS / 2);
      await run.verify();
      await this.#time.pass(run.random.below(20_000));
      await run.closeAll();
      await this.#time.settle(volume.close());
    }
    writeFileSync(this.path, image);
  }

  /** The same by the kernel. */
  async byKernel(): Promise<void> {
    const { run } = this;
    const root = mkdtempSync(join(scratch, "mount-"));
    runTool("mount", ["-o", "loop", this.path, root]);
    try {
      run.subject = nodeSide(root);
      await run.verify();
      await run.steps(STEPS / 4);
      await run.verify();
    } finally {
      await run.closeAll();
      runTool("umount", [root]);
    }
  }

  async check(): Promise<void> {
    runTool("e2fsck", ["-fn", this.path]);
    await expectKernelManifest(this.path);
  }

  remove(): void {
    rmSync(this.run.hostRoot, { recursive: true });
  }
}

async function play(row: Row, seed: number): Promise<void> {
  const turns = new Turns(row, seed);
  try {
    for (let turn = 0; turn < TURNS; turn++) {
      if ((turn + seed) % 2 === 0) await turns.byKernel();
      await turns.byQuire();
      await turns.check();
    }
  } catch (thrown) {
    const line = `QUIRE_SEED=${seed} npx vitest run test/interop/random-operations.test.ts`;
    const text = thrown instanceof Error ? thrown.stack : thrown;
    throw new Error(`${line} -t "${row.title}$"\n${text}\nafter: ${turns.run.log.join(", ")}`);
  } finally {
    turns.remove();
  }
}

describe.skipIf(!mayRun)("a tree is what was done to it", () => {
  test.each(ROWS.map((row) => [row.title, row] as const))("%s", async (_title, row) => {
    for (const seed of seeds(1, 1)) await play(row, seed);
  });
});
