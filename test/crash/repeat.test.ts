/**
 * States after power cuts that were wrong once; and any other, by its line:
 *
 *     QUIRE_CRASH='ext4-1k | 7 | create a/y; fsync a/y | 12 torn 3' npx vitest run \
 *       test/crash/repeat.test.ts
 */
import { expect, test } from "vitest";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { record } from "./support/crash-run.ts";
import { randomScript } from "./support/crash-scripts.ts";
import { baseOf, repeatLine } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-repeat");
const { QUIRE_CRASH } = process.env;

const LINES: readonly (readonly [what: string, line: string])[] = [
  [
    "a superblock half written",
    "ext4-1k | 1 | create a/y; write a/y 0 5000; fsync a/y | 22 torn 353",
  ],
  ["a directory synced after a file in it", "ext4-1k | 74 | setxattr b/x 20; fsyncdir b | 10 all"],
  [
    "a hole before data that is not written",
    "ext4-1k | 6354 | tmpfile b/y 5000; fsyncdir b; punch b/y 668 3628; fsyncdir b | 23 but 0",
  ],
  [
    "a file that was preallocated, and replaces another",
    "ext4-1k | 0 | tmpfile a/y 5000; fallocate a/y 0 6000; rename a/y b/x; fsyncdir b | 14 none",
  ],
  [
    "data that was written, not flushed, before its inode, without a journal",
    "ext2-1k | 8 | write a/x 10500 503; fdatasync a/x | 10 but 0",
  ],
  [
    "data before the first inode of a block of the inode table, without a journal",
    "ext2-1k | 513 | rename b/x b/y; mkdir b/x; unlink-open a/x; rename b/x a/x; rmdir a/x; " +
      "create a/y; tmpfile a/x 5000; fdatasync a/x | 8 but 0",
  ],
  ["the same with extents", "ext4-bare | 14 | append a/x 2229; fdatasync a/x | 10 none"],
];

test.skipIf(!hasTools).each(LINES)("%s is what it should be", async (_what, line) => {
  await repeatLine(line, scratch);
});

test.skipIf(!hasTools)("a seed gives the same record each time, to the byte", async () => {
  const base = await baseOf("ext4-1k", scratch);
  const [first, second] = [
    await record(base, randomScript(5, 60), 5),
    await record(base, randomScript(5, 60), 5),
  ];
  expect(second.steps).toEqual(first.steps);
  expect(second.events).toEqual(first.events);
  const other = await record(base, randomScript(5, 60), 6);
  expect(other.events).not.toEqual(first.events);
});

test.skipIf(QUIRE_CRASH === undefined)("the state of QUIRE_CRASH is allowed", async () => {
  await repeatLine(QUIRE_CRASH!, scratch);
});
