/**
 * A process that writes is killed at a moment that nobody chooses; the kernel, or e2fsck where
 * there is no journal, finds in the image all that the process has been told is durable.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { realClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { sleep } from "../../src/store/sleep.ts";
import { makeExtImage, withKernelMount } from "../support/kernel-image.ts";
import { runs, seeds } from "../support/runs.ts";
import { requireRoot, requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { docBytes, recordBytes } from "./support/written-bytes.mjs";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const mayMount = requireRoot("mounting an image");
const scratch = scratchDirectory("killed");
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CHILD = fileURLToPath(new URL("support/writing-child.mjs", import.meta.url));
const DELAY_MS = 250;
const TIME_MS = runs(600_000);

/** What the process has told of, by file: records of a log, version of a document. */
type Told = Map<string, number>;

beforeAll(() => {
  execFileSync(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-b", ROOT]);
});

/** Lets the process write to `image`, and kills it some time after its first fsync. */
async function writeAndKill(image: string, seed: number): Promise<Told> {
  const child = spawn(process.execPath, [CHILD, image, String(seed)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const told: Told = new Map();
  const lines = createInterface({ input: child.stdout });
  const kill = async (): Promise<void> => {
    await sleep(realClock, new Random(seed).below(DELAY_MS));
    child.kill("SIGKILL");
  };
  let isFirst = true;
  lines.on("line", (line) => {
    const [kind = "", at = "", count = ""] = line.split(" ");
    told.set(`${kind}-${at}`, Number(count));
    if (isFirst) void kill();
    isFirst = false;
  });
  const [, signal] = await once(child, "close");
  expect(signal).toBe("SIGKILL");
  expect(told.size).toBeGreaterThan(0);
  return told;
}

/** What is wrong with the log `name`, of which `count` records are durable. */
function logWrong(path: string, at: number, count: number, seesAll: boolean): string | undefined {
  const bytes = existsSync(path) ? readFileSync(path) : new Uint8Array(0);
  let offsetBytes = 0;
  for (let n = 0; n < count || (seesAll && offsetBytes < bytes.length); n++) {
    const record = recordBytes(at, n);
    const found = bytes.subarray(offsetBytes, offsetBytes + record.length);
    // The last one of those that were not synced may be there in part.
    const expected = n < count ? record : record.subarray(0, found.length);
    if (Buffer.compare(found, expected) !== 0) return `record ${n} of ${count} of log ${at}`;
    offsetBytes += record.length;
  }
  return undefined;
}

/** What is wrong with the document `at`, of which `version` is durable, or a later one is. */
function docWrong(path: string, at: number, version: number): string | undefined {
  if (!existsSync(path)) return version === 0 ? undefined : `document ${at} is missing`;
  const bytes = readFileSync(path);
  const found = bytes.readUInt32BE(0);
  if (found < version) return `document ${at} is of version ${found}, before ${version}`;
  if (Buffer.compare(bytes, docBytes(at, found)) !== 0) return `document ${at}, version ${found}`;
  return undefined;
}

/**
 * With `seesAll` what was never synced has to be right too, as far as the file reaches: the data of
 * a journalled file is on disk before its size. Without a journal the size may precede the pointer
 * block of an append, which then reads as a hole.
 */
function allWrong(dir: string, told: Told, seesAll: boolean): string[] {
  const wrong: string[] = [];
  for (let at = 0; at < 4; at++) {
    const log = logWrong(join(dir, `log-${at}`), at, told.get(`log-${at}`) ?? 0, seesAll);
    const doc = docWrong(join(dir, `doc-${at}`), at, told.get(`doc-${at}`) ?? 0);
    for (const text of [log, doc]) if (text !== undefined) wrong.push(text);
  }
  return wrong;
}

test.skipIf(!hasTools || !mayMount).each<[string, number]>([
  ["ext4", 25],
  ["ext3", 15],
  ["ext2", 10],
])(
  "%s: what a killed process was told is durable is there",
  async (type, count) => {
    const base = makeExtImage(join(scratch, `${type}.img`), "32M", ["-t", type]);
    const image = join(scratch, `${type}-killed.img`);
    for (const seed of seeds(count, 1)) {
      copyFileSync(base, image);
      const told = await writeAndKill(image, seed);
      if (type === "ext2") runTool("e2fsck", ["-fy", image], { okCodes: [1] });
      const wrong = withKernelMount(image, (root) => {
        expect(readdirSync(root)).toContain("d");
        return allWrong(join(root, "d"), told, type !== "ext2");
      });
      expect(wrong, `${type}, seed ${seed}`).toEqual([]);
      runTool("e2fsck", ["-fn", image]);
    }
  },
  TIME_MS,
);
