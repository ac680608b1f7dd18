/** The process: what becomes of it when nobody takes what it prints. */
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";

const hasE2fs = requireTool("mke2fs") && requireTool("e2fsck");
const hasFull = fs.existsSync("/dev/full");
const scratch = scratchDirectory("main");
const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const MAIN = join(ROOT, "dist/front/cli/main.js");
const FILES = 3000;
const many = join(scratch, "many");
let images = 0;

function freshImage(): string {
  const image = join(scratch, `disk-${images++}.img`);
  runTool("mke2fs", ["-q", "-F", "-t", "ext4", image, "32M"]);
  return image;
}

/** Runs a line of shell in which `q` is quire; the exit code is that of quire, before any pipe. */
function shell(line: string): { readonly status: number | null; readonly stderr: string } {
  const script = `set -o pipefail; q() { "$NODE" "$MAIN" "$@"; }; ${line}`;
  const env = { ...process.env, NODE: process.execPath, MAIN };
  const { status, stderr } = spawnSync("bash", ["-c", script], { env, encoding: "utf8" });
  return { status, stderr };
}

beforeAll(() => {
  execFileSync(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-b", ROOT]);
  fs.mkdirSync(many);
  for (let at = 0; at < FILES; at++) fs.writeFileSync(join(many, `file-${at}`), "");
}, 300_000);

describe.skipIf(!hasE2fs)("a reader who leaves early", () => {
  test("ends what only reads, without an error", () => {
    const image = freshImage();
    expect(shell(`q put ${image} ${many} /many`)).toEqual({ status: 0, stderr: "" });
    const left = shell(`q manifest ${image} | head -1 > /dev/null`);
    expect(left).toEqual({ status: 0, stderr: "" });
  });

  test("does not stop what changes the image", () => {
    const image = freshImage();
    const put = shell(`q put ${image} ${many} / --verbose | head -1`);
    expect(put).toEqual({ status: 0, stderr: "" });
    runTool("e2fsck", ["-fn", image]);
    expect(runTool("debugfs", ["-R", "ls -p /many", image]).match(/file-/g)?.length).toBe(FILES);
    const rm = shell(`q rm -r ${image} /many --verbose | head -1`);
    expect(rm).toEqual({ status: 0, stderr: "" });
    expect(runTool("debugfs", ["-R", "ls -p /", image])).not.toContain("many");
    runTool("e2fsck", ["-fn", image]);
  });

  test("does not stop what makes one", () => {
    const image = join(scratch, "made.img");
    const line = `q mkfs ${image} --from ${many} --verbose | head -1`;
    expect(shell(line)).toEqual({ status: 0, stderr: "" });
    runTool("e2fsck", ["-fn", image]);
  });
});

describe.skipIf(!hasE2fs || !hasFull)("output that cannot be written", () => {
  const sentence = "quire: ENOSPC: no space left on device, write to standard output\n";

  test("is an error in a sentence", () => {
    const image = freshImage();
    for (const line of [`q ls ${image}`, `q export ${image}`, `q info ${image}`]) {
      expect(shell(`${line} > /dev/full`)).toEqual({ status: 1, stderr: sentence });
    }
  });

  test("is told when what was to be changed is changed", () => {
    const image = freshImage();
    const put = shell(`q put ${image} ${many} / --verbose > /dev/full`);
    expect(put).toEqual({ status: 1, stderr: sentence });
    expect(runTool("debugfs", ["-R", "ls -p /many", image]).match(/file-/g)?.length).toBe(FILES);
    const made = shell(`q mkdir ${image} /new --json > /dev/full`);
    expect(made).toEqual({ status: 1, stderr: sentence });
    runTool("e2fsck", ["-fn", image]);
  });

  test("leaves the exit code where it is the errors that nobody takes", () => {
    expect(shell(`q ls ${scratch}/missing 2> /dev/full`).status).toBe(1);
    expect(shell(`q frob 2> /dev/full`).status).toBe(2);
  });
});
