/**
 * The n-th read, write, flush or allocation fails, for every n of many workloads, on each kind of
 * file system and under both policies: nothing hangs, every open file is told what it has to be
 * told, nothing is left in memory, and the image recovers with all that was synced.
 *
 * `npm test` runs a sample, `npm run sim` all. A failure prints what repeats it:
 *
 *     QUIRE_FAULT="ext4/unlink/read/1/healed/keep" npx vitest run test/stack/fault-loops.test.ts
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openVolume } from "../../src/front/volume.ts";
import { Random } from "../../src/lib/random.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { makeImage } from "../support/ext-images.ts";
import {
  FAULT_KINDS,
  FAULT_LENGTHS,
  FaultVolume,
  type PlannedFault,
  WRITE_ERROR_POLICIES,
} from "../support/fault-volume.ts";
import { FAULT_WORKLOADS } from "../support/fault-workloads.ts";
import { FaultyFile } from "../support/faulty-file.ts";
import { runs } from "../support/runs.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";
import { VirtualTime } from "../support/virtual-time.ts";

const hasTools = ["mke2fs", "tune2fs", "e2fsck"].map(requireTool).every(Boolean);
const scratch = scratchDirectory("fault-loops");
const WORKLOADS: readonly string[] = Object.keys(FAULT_WORKLOADS);
const FAILURES_SHOWN = 5;
/** Faults of one workload that every run of the tests tries. */
const SAMPLE_COUNT = 8;
/** With so many times the runs all are tried. */
const ALL_FACTOR = 20;
/** Share of the images with a journal that e2fsck recovers too. */
const E2FSCK_SHARE = 0.2;
const { QUIRE_FAULT } = process.env;

/** Small images: a run is a copy of one. */
const IMAGES: Readonly<Record<string, readonly [args: readonly string[], sizeText: string]>> = {
  ext4: [["-t", "ext4", "-b", "4096", "-J", "size=4"], "10M"],
  ext3: [["-t", "ext3", "-b", "1024", "-J", "size=1"], "5M"],
  ext2: [["-t", "ext2", "-b", "1024"], "4M"],
  "ext4-data": [["-t", "ext4", "-b", "4096", "-J", "size=4"], "10M"],
  "ext3-data": [["-t", "ext3", "-b", "1024", "-J", "size=1"], "5M"],
};
/** Of these the data goes through the journal: the superblock says so. */
const JOURNALS_DATA: readonly string[] = ["ext4-data", "ext3-data"];

/** What a workload starts from. */
interface Start {
  readonly type: string;
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

async function startOf(type: string, name: string, image: Uint8Array): Promise<Start> {
  const bytes = image.slice();
  const volume = await FaultVolume.open(bytes, "keep");
  await volume.settle(FAULT_WORKLOADS[name]!.prepare?.(volume) ?? Promise.resolve());
  const isClosed = await volume.close();
  expect(volume.complaints).toEqual([]);
  expect(isClosed).toBe(true);
  const files = new Map([...volume.files].map(([path, { content }]) => [path, content]));
  return { type, name, bytes, files };
}

/** What a run of a workload has come to. */
interface Run {
  readonly complaints: readonly string[];
  /** False if there were not so many calls. */
  readonly hasFailed: boolean;
}

async function runWith(start: Start, fault: PlannedFault): Promise<Run> {
  const bytes = start.bytes.slice();
  const volume = await FaultVolume.open(bytes, fault.policy);
  const { complaints } = volume;
  const note = (thrown: unknown): void => void complaints.push(`nobody has heard of ${thrown}`);
  for (const [path, content] of start.files) volume.files.set(path, FaultyFile.of(content));
  process.on("unhandledRejection", note);
  try {
    volume.arm(fault);
    await volume.settle(FAULT_WORKLOADS[start.name]!.run(volume));
    if (fault.length !== "forever") {
      volume.heal();
      await volume.settle(volume.checkHealed());
    }
    const isClean = await volume.close();
    await checkImage(start.type, volume, bytes, isClean);
  } catch (thrown) {
    complaints.push(thrown instanceof Error ? `${thrown.stack}` : String(thrown));
  } finally {
    process.off("unhandledRejection", note);
  }
  return { complaints, hasFailed: volume.hasFailed };
}

/** Has the image, as it lies there, recovered: by us, then by e2fsck. */
async function checkImage(
  type: string,
  volume: FaultVolume,
  bytes: Uint8Array,
  isClean: boolean,
): Promise<void> {
  const path = join(scratch, "crashed.img");
  const isJournaled = type !== "ext2";
  if (isJournaled) {
    const copy = bytes.slice();
    await checkFiles(volume, copy, true);
    writeFileSync(path, copy);
    // What was noted in the superblock keeps us from deleting orphans, as it does the kernel.
    if (volume.abortCause !== undefined) runTool("e2fsck", ["-fy", path], { okCodes: [1] });
    runTool("e2fsck", ["-fn", path]);
    if (!isClean && !volume.random.chance(E2FSCK_SHARE)) return;
  }
  writeFileSync(path, bytes);
  if (!isClean) runTool("e2fsck", ["-fy", path], { okCodes: [1] });
  runTool("e2fsck", ["-fn", path]);
  await checkFiles(volume, new Uint8Array(readFileSync(path)), false);
}

async function checkFiles(
  faulty: FaultVolume,
  bytes: Uint8Array,
  isWritable: boolean,
): Promise<void> {
  const time = new VirtualTime();
  const options = { clock: time.clock, writable: isWritable, cache: "4MiB" };
  const volume = await time.settle(openVolume(new MemoryStore(bytes), options));
  for (const [path, file] of faulty.files) {
    if (!file.isPromised) continue;
    try {
      const wrong = file.crashDifference(await time.settle(volume.fs.readFile(path)));
      if (wrong !== undefined) faulty.complain(`after the crash ${path}: ${wrong}`);
    } catch (thrown) {
      faulty.complain(`after the crash: ${thrown}`);
    }
  }
  await time.settle(volume.close());
}

function textOf({ type, name }: Start, { kind, skipCount, length, policy }: PlannedFault): string {
  return [type, name, kind, skipCount, length, policy].join("/");
}

/** All combinations but for the number of the call. */
function variants(): Omit<PlannedFault, "skipCount">[] {
  return FAULT_KINDS.flatMap((kind) =>
    FAULT_LENGTHS.flatMap((length) =>
      WRITE_ERROR_POLICIES.map((policy) => ({ kind, length, policy })),
    ),
  );
}

/** Tries every fault until the workload ends before it happens. */
async function tryAll(start: Start, attempt: (fault: PlannedFault) => Promise<boolean>) {
  for (const variant of variants()) {
    for (let skipCount = 0; await attempt({ ...variant, skipCount }); skipCount++);
  }
  return start;
}

/** Tries some of the faults, another choice for each workload, always the same. */
async function trySome(start: Start, attempt: (fault: PlannedFault) => Promise<boolean>) {
  const volume = await FaultVolume.open(start.bytes.slice(), "keep");
  volume.arm({ kind: "alloc", skipCount: Infinity, length: "once", policy: "keep" });
  await volume.settle(FAULT_WORKLOADS[start.name]!.run(volume));
  const { counts } = volume;
  await volume.close();
  const random = new Random(start.type.length + 10 * WORKLOADS.indexOf(start.name));
  for (let left = runs(SAMPLE_COUNT); left > 0; left--) {
    const variant = random.pick(variants());
    await attempt({ ...variant, skipCount: random.below(counts[variant.kind] + 2) });
  }
}

describe.skipIf(!hasTools).each(Object.keys(IMAGES))("on %s", (type) => {
  let image: Uint8Array;
  beforeAll(() => {
    const [args, sizeText] = IMAGES[type]!;
    const defaults = JOURNALS_DATA.includes(type) ? "journal_data" : undefined;
    image = new Uint8Array(readFileSync(makeImage(scratch, type, args, { sizeText, defaults })));
  });

  test.each(WORKLOADS)("%s: whatever fails is survived", async (name) => {
    const start = await startOf(type, name, image);
    const failures: string[] = [];
    const attempt = async (fault: PlannedFault): Promise<boolean> => {
      const text = textOf(start, fault);
      if (QUIRE_FAULT !== undefined && !text.startsWith(QUIRE_FAULT)) return fault.skipCount < 500;
      if (failures.length === FAILURES_SHOWN) return false;
      const { complaints, hasFailed } = await runWith(start, fault);
      if (complaints.length > 0) {
        failures.push(`QUIRE_FAULT="${text}"\n    ${complaints.slice(0, 3).join("\n    ")}`);
      }
      return hasFailed;
    };
    const isAll = QUIRE_FAULT !== undefined || runs(1) >= ALL_FACTOR;
    await (isAll ? tryAll : trySome)(start, attempt);
    expect(failures.join("\n")).toBe("");
  });
});
