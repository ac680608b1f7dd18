/**
 * States after power cuts that were wrong once; and any other, by its line:
 *
 *     QUIRE_CRASH='ext4-1k | 7 | create a/y; fsync a/y | 12 torn 3' npx vitest run \
 *       test/crash/repeat.test.ts
 */
import { test } from "vitest";
import { requireTool, scratchDirectory } from "../support/tools.ts";
import { repeatLine } from "./support/crash-suite.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("debugfs");
const scratch = scratchDirectory("crash-repeat");
const { QUIRE_CRASH } = process.env;

const LINES: readonly (readonly [what: string, line: string])[] = [
  [
    "a superblock half written",
    "ext4-1k | 1 | create a/y; write a/y 0 5000; fsync a/y | 22 torn 353",
  ],
  ["a directory synced after a file in it", "ext4-1k | 74 | setxattr b/x 20; fsyncdir b | 10 all"],
];

test.skipIf(!hasTools).each(LINES)("%s is what it should be", async (_what, line) => {
  await repeatLine(line, scratch);
});

test.skipIf(QUIRE_CRASH === undefined)("the state of QUIRE_CRASH is allowed", async () => {
  await repeatLine(QUIRE_CRASH!, scratch);
});
