/**
 * One file against an array of bytes, by every kind of call and in any order: reads, writes and
 * appends at odd places, cuts, `fallocate` in all its modes, `fsync`, dropped caches, SEEK_DATA and
 * SEEK_HOLE, new handles and new mounts. After each run e2fsck is asked.
 *
 * A failure says which line repeats it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "vitest";
import type { DataMode } from "../../src/fs/ext/data-mode.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import { makeImage } from "../support/ext-images.ts";
import { OneFile } from "../support/one-file.ts";
import { seeds } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("one-file");
const STEPS = 2000;
const CHECKS = 4;

/** Of which file system, and where in the file. */
interface Row {
  readonly title: string;
  /** Options of mke2fs. */
  readonly args: string;
  readonly size: string;
  readonly base?: number;
  readonly windowBytes?: number;
  readonly runs?: number;
  readonly data?: DataMode;
  readonly mayMark?: boolean;
}

/** Where the third level of indirection begins with blocks of 1 KiB. */
const TRIPLE_AT = (12 + 256 + 256 * 256) * KIB;
const FOUR_GIB_BLOCKS = 4 * 1024 * MIB;

const ROWS: readonly Row[] = [
  { title: "ext4 4 KiB", args: "-t ext4 -b 4096", size: "24M", runs: 4 },
  { title: "ext4 1 KiB", args: "-t ext4 -b 1024", size: "16M", runs: 4 },
  { title: "ext4 64 KiB", args: "-t ext4 -b 65536 -O ^has_journal", size: "64M" },
  { title: "ext4 inline", args: "-t ext4 -b 1024 -O inline_data", size: "16M" },
  {
    title: "ext4 inline, small",
    args: "-t ext4 -b 1024 -I 512 -O inline_data",
    size: "16M",
    windowBytes: 700,
  },
  { title: "ext4 far", args: "-t ext4 -b 4096", size: "24M", base: FOUR_GIB_BLOCKS - 100 * KIB },
  { title: "ext4 no journal", args: "-t ext4 -b 4096 -O ^has_journal", size: "24M" },
  { title: "ext3 1 KiB", args: "-t ext3 -b 1024", size: "16M", runs: 4 },
  { title: "ext3 4 KiB", args: "-t ext3 -b 4096", size: "24M" },
  {
    title: "ext3 1 KiB, third level",
    args: "-t ext3 -b 1024",
    size: "16M",
    base: TRIPLE_AT - 300 * KIB,
  },
  { title: "ext4 4 KiB, in the journal", args: "-t ext4 -b 4096", size: "24M", data: "journal" },
  { title: "ext4 1 KiB, in the journal", args: "-t ext4 -b 1024", size: "16M", data: "journal" },
  { title: "ext3 4 KiB, in the journal", args: "-t ext3 -b 4096", size: "24M", data: "journal" },
  { title: "ext3 1 KiB, in the journal", args: "-t ext3 -b 1024", size: "16M", data: "journal" },
  {
    title: "ext4 inline, in the journal",
    args: "-t ext4 -b 1024 -I 256 -O inline_data",
    size: "16M",
    data: "journal",
  },
  { title: "ext4, marked now and then", args: "-t ext4 -b 4096", size: "24M", mayMark: true },
  { title: "ext3, marked now and then", args: "-t ext3 -b 1024", size: "16M", mayMark: true },
  { title: "ext2 1 KiB", args: "-t ext2 -b 1024", size: "16M" },
  { title: "ext2 64 KiB", args: "-t ext2 -b 65536", size: "64M" },
];

async function runOne(row: Row, seed: number): Promise<void> {
  const path = makeImage(scratch, "x", row.args.split(" "), { sizeText: row.size });
  const image = new Uint8Array(readFileSync(path));
  const { base = 0, windowBytes = 600 * KIB, data, mayMark } = row;
  const cacheBytes = seed % 2 === 0 ? 4 * MIB : 16 * MIB;
  const isSlow = seed % 3 === 0;
  const where = { base, windowBytes };
  const run = new OneFile({ image, seed, cacheBytes, ...where, isSlow, data, mayMark });
  try {
    await run.open();
    for (let check = 0; check < CHECKS; check++) {
      await run.steps(STEPS / CHECKS);
      await run.verify();
      await run.close();
      writeFileSync(path, image);
      runTool("e2fsck", ["-fn", path]);
      await run.open();
      await run.verify();
    }
    await run.close();
  } catch (thrown) {
    const line = `QUIRE_SEED=${seed} npx vitest run test/stack/one-file-model.test.ts`;
    throw new Error(`${line} -t "${row.title}$"\n${thrown}\nafter: ${run.log.join(", ")}`);
  }
}

describe.skipIf(!hasTools)("a file is an array of bytes", () => {
  test.each(ROWS.map((row) => [row.title, row] as const))("%s", async (_title, row) => {
    for (const seed of seeds(row.runs ?? 2, 1)) await runOne(row, seed);
  });
});
