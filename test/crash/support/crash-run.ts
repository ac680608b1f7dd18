/**
 * The crash harness: does a workload once on a disk that records, cuts the power at every moment of
 * the record, lets quire recover each state, and has a model judge what is left.
 *
 *     record --> points --> state --> recovered, closed --> digest --> known? --> tree read, e2fsck
 *                  ^                      |                                        once for each
 *                  +-- recovery recorded, and crashed itself --+
 *
 * Nothing is left to chance that the seed does not decide. A violation is one line, which `repeat`
 * takes.
 */

import { StoreBlockDevice } from "../../../src/block/block-device.ts";
import { PageCache } from "../../../src/cache/page-cache.ts";
import type { Volume } from "../../../src/front/volume.ts";
import { checkExt } from "../../../src/fs/ext/check/index.ts";
import { SB, SUPERBLOCK_OFFSET_BYTES } from "../../../src/fs/ext/layout.ts";
import { STATE_VALID } from "../../../src/fs/ext/superblock-write.ts";
import { le16 } from "../../../src/lib/bytes.ts";
import { Random } from "../../../src/lib/random.ts";
import { MIB } from "../../../src/lib/units.ts";
import { MemoryStore } from "../../../src/store/memory-store.ts";
import { type ConfigName, type CrashBase, openCrashed, recoverCrashed } from "./crash-base.ts";
import { CrashClock } from "./crash-clock.ts";
import { CrashImage, CrashStore } from "./crash-image.ts";
import type { CrashModel } from "./crash-model.ts";
import { type FoundTree, judge, judgeRepaired, readFound } from "./crash-oracle.ts";
import { type CrashPoint, crashPoints, DiskTimeline } from "./crash-states.ts";
import { CrashWorkload } from "./crash-workload.ts";
import type { Fsck } from "./fsck.ts";
import { type DiskEvent, RecordedStore } from "./recorded-store.ts";

/** Time after a workload in which everything gets down by itself. */
const AFTERWARDS_MS = 40_000;
/** States of a recovery that are tried with less than all of its own torn ones. */
const RECOVERY_TORN = 2;

/** A workload, as its steps or as what makes them one after the other. */
export type CrashScript = readonly string[] | ((workload: CrashWorkload) => string | undefined);

/** What a workload has done to the disk, and what it was promised. */
export interface CrashRecord {
  readonly base: CrashBase;
  readonly seed: number;
  readonly events: readonly DiskEvent[];
  readonly model: CrashModel;
  readonly steps: readonly string[];
}

/** What a state was found to be. */
export interface CrashViolation {
  /** Takes the state up again: see `repeat`. */
  readonly line: string;
  readonly complaint: string;
}

/**
 * Does `script` on a fresh copy of `base`, until the volume is closed. `prepare` may put something
 * wrong into the volume first.
 */
export async function record(
  base: CrashBase,
  script: CrashScript,
  seed: number,
  prepare?: (volume: Volume) => void,
): Promise<CrashRecord> {
  const clock = new CrashClock();
  const image = new CrashImage(base.bytes);
  const store = new RecordedStore(image, { clock, random: new Random(seed) });
  const volume = await clock.run(openCrashed(store, clock, true));
  prepare?.(volume);
  const now = (): number => store.events.length;
  const workload = new CrashWorkload({ base, volume, clock, now });
  const next = typeof script === "function" ? script : stepsOf(script);
  try {
    for (let step = next(workload); step !== undefined; step = next(workload)) {
      await workload.step(step);
    }
    await clock.pass(AFTERWARDS_MS);
    await workload.end();
    await clock.run(volume.close());
  } catch (thrown) {
    const line = `${base.name} | ${seed} | ${workload.done.join("; ")}`;
    throw new Error(`the workload fails: ${String(thrown)}\n${line}`, { cause: thrown });
  }
  return { base, seed, events: store.events, model: workload.model, steps: workload.done };
}

function stepsOf(steps: readonly string[]): () => string | undefined {
  let at = 0;
  return () => steps[at++];
}

/** Power cuts one after the other, the second while recovery from the first is at work .. */
type CrashPath = readonly CrashPoint[];

/** How much is tried. */
export interface CrashBudget {
  /** States of each workload at most. */
  readonly states: number;
  /** Of 1: how many recoveries are crashed themselves, at a few points each. */
  readonly recoveryShare?: number;
  readonly recoveryStates?: number;
}

/** What was tried. */
export interface CrashCounts {
  workloads: number;
  states: number;
  distinct: number;
  checked: number;
}

/** Tries power cuts on records of one base. */
export class CrashExplorer {
  readonly counts: CrashCounts = { workloads: 0, states: 0, distinct: 0, checked: 0 };
  readonly violations: CrashViolation[] = [];
  readonly #base: CrashBase;
  readonly #image: CrashImage;
  readonly #fsck: Fsck;
  readonly #checkEvery: number;
  /** What recovered images hold, by their digests. */
  readonly #known = new Map<string, FoundTree>();

  /** Of the images that recovery has left, `fsck` looks at one of `checkEvery`. */
  constructor(base: CrashBase, fsck: Fsck, checkEvery = 1) {
    this.#base = base;
    this.#image = new CrashImage(base.bytes);
    this.#fsck = fsck;
    this.#checkEvery = checkEvery;
  }

  /** Tries a choice of the power cuts on `recorded`. Stops at the first violation. */
  async explore(recorded: CrashRecord, budget: CrashBudget): Promise<void> {
    const { events, model, seed } = recorded;
    const random = new Random(seed);
    const points = sample(
      crashPoints(events, (time) => model.promisesAt(time)),
      budget.states,
      random,
    );
    const timeline = new DiskTimeline(events);
    this.counts.workloads++;
    for (const point of points) {
      timeline.advance(point.time, this.#image);
      const { recoveryShare = 0, recoveryStates = 0 } = budget;
      const depth = random.chance(recoveryShare) ? recoveryStates : 0;
      await this.#cut(recorded, timeline, [point], depth, random);
      if (this.violations.length > 0) break;
    }
    this.#image.rollback(0);
  }

  /** Tries the one state at the end of `path`. */
  async repeat(recorded: CrashRecord, path: CrashPath): Promise<void> {
    await this.#along(recorded, recorded.events, path, []);
    this.#image.rollback(0);
  }

  async #along(
    recorded: CrashRecord,
    events: readonly DiskEvent[],
    [point, ...rest]: CrashPath,
    before: CrashPath,
  ): Promise<void> {
    const timeline = new DiskTimeline(events);
    timeline.advance(point!.time, this.#image);
    timeline.crash(point!.choice, this.#image);
    const path = [...before, point!];
    if (rest.length === 0) return this.#recovered(recorded, path);
    const mark = this.#image.mark();
    const recovery = await this.#recordRecovery(recorded.seed);
    this.#image.rollback(mark);
    return this.#along(recorded, recovery, rest, path);
  }

  /** The power is cut at the end of `path`, where `timeline` is; `depth` times during recovery. */
  async #cut(
    recorded: CrashRecord,
    timeline: DiskTimeline,
    path: CrashPath,
    depth: number,
    random: Random,
  ): Promise<void> {
    const mark = this.#image.mark();
    timeline.crash(path.at(-1)!.choice, this.#image);
    const state = this.#image.mark();
    await this.#recovered(recorded, path);
    this.#image.rollback(state);
    if (depth > 0 && this.violations.length === 0) {
      await this.#cutRecovery(recorded, path, depth, random);
    }
    this.#image.rollback(mark);
  }

  /** Cuts the power at up to `count` moments of the recovery of the image as it is. */
  async #cutRecovery(
    recorded: CrashRecord,
    path: CrashPath,
    count: number,
    random: Random,
  ): Promise<void> {
    const mark = this.#image.mark();
    const events = await this.#recordRecovery(recorded.seed);
    this.#image.rollback(mark);
    const points = sample(
      crashPoints(events, () => "", RECOVERY_TORN),
      count,
      random,
    );
    const timeline = new DiskTimeline(events);
    for (const point of points) {
      timeline.advance(point.time, this.#image);
      const depth = random.chance(1 / count) ? count - 1 : 0;
      await this.#cut(recorded, timeline, [...path, point], depth, random);
      if (this.violations.length > 0) break;
    }
    this.#image.rollback(mark);
  }

  async #recordRecovery(seed: number): Promise<readonly DiskEvent[]> {
    const clock = new CrashClock();
    const store = new RecordedStore(this.#image, { clock, random: new Random(seed) });
    await clock.run(recoverCrashed(store, clock));
    return store.events;
  }

  /** Recovers the image as it is, and judges what comes out. */
  async #recovered(recorded: CrashRecord, path: CrashPath): Promise<void> {
    this.counts.states++;
    let complaint: string | undefined;
    try {
      complaint = await this.#complaintAbout(recorded, path[0]!.time);
    } catch (thrown) {
      complaint = thrown instanceof Error ? `${thrown.message}${causeOf(thrown)}` : String(thrown);
    }
    if (complaint !== undefined) this.violations.push({ line: lineOf(recorded, path), complaint });
  }

  #complaintAbout(recorded: CrashRecord, time: number): Promise<string | undefined> {
    const hasJournal = this.#base.journalSectors.size > 0;
    return hasJournal ? this.#afterReplay(recorded, time) : this.#afterRepair(recorded, time);
  }

  /** Without a journal: it says that it was not closed, and what was promised can be mended. */
  async #afterRepair({ model }: CrashRecord, time: number): Promise<string | undefined> {
    const digest = this.#image.digest(this.#base.journalSectors);
    let found = this.#known.get(digest);
    if (found === undefined) {
      this.counts.distinct++;
      const state = le16(this.#image.bytes, SUPERBLOCK_OFFSET_BYTES + SB.s_state);
      const complaint =
        (state & STATE_VALID) === 0 ? undefined : this.#fsck.complaintAbout(this.#image);
      if (complaint !== undefined) return `it says that it is clean: ${complaint}`;
      const store = new MemoryStore(this.#fsck.repaired(this.#image));
      const clock = new CrashClock();
      const volume = await clock.run(openCrashed(store, clock, false));
      found = await clock.run(readFound(volume, true));
      await clock.run(volume.close());
      this.#known.set(digest, found);
    }
    return judgeRepaired(model, found, time);
  }

  /** What our own check, and now and then e2fsck, finds wrong with the image as it is. */
  async #checked(clock: CrashClock): Promise<string | undefined> {
    const device = new StoreBlockDevice(new CrashStore(this.#image), { clock });
    const cache = new PageCache({ arenaBytes: MIB, clock });
    const { isClean, findings } = await clock.run(checkExt(device, cache, { clock }));
    if (!isClean) return `the check says: ${findings.map(({ text }) => text).join("; ")}`;
    if (this.counts.distinct % this.#checkEvery > 0) return undefined;
    this.counts.checked++;
    return this.#fsck.complaintAbout(this.#image);
  }

  async #afterReplay({ model }: CrashRecord, time: number): Promise<string | undefined> {
    const clock = new CrashClock();
    await clock.run(recoverCrashed(new CrashStore(this.#image), clock));
    const digest = this.#image.digest(this.#base.journalSectors);
    let found = this.#known.get(digest);
    if (found === undefined) {
      this.counts.distinct++;
      const read = await clock.run(openCrashed(new CrashStore(this.#image), clock, false));
      found = await clock.run(readFound(read));
      await clock.run(read.close());
      this.#known.set(digest, found);
      const complaint = await this.#checked(clock);
      if (complaint !== undefined) return complaint;
    }
    return judge(model, found, time);
  }
}

function causeOf({ cause }: Error): string {
  return cause instanceof Error ? ` (${cause.message})` : "";
}

/** At most `count` of `list`, in order. */
function sample<T>(list: readonly T[], count: number, random: Random): readonly T[] {
  if (list.length <= count) return list;
  const chosen = random.shuffle(list.map((_, at) => at)).slice(0, count);
  return chosen.sort((a, b) => a - b).map((at) => list[at]!);
}

/** One line that `parseLine` understands. */
function lineOf({ base, seed, steps }: CrashRecord, path: CrashPath): string {
  const cuts = path.map(({ time, choice }) => `${time} ${choice}`).join(", ");
  return `${base.name} | ${seed} | ${steps.join("; ")} | ${cuts}`;
}

/** A state as `lineOf` names it. */
export interface ParsedLine {
  readonly name: ConfigName;
  readonly seed: number;
  readonly steps: readonly string[];
  readonly path: readonly CrashPoint[];
}

/** Reads the line of a violation. */
export function parseLine(line: string): ParsedLine {
  const [name = "", seed = "", steps = "", cuts = ""] = line.split(" | ");
  const path = cuts.split(", ").map((cut) => {
    const [time = "", ...choice] = cut.split(" ");
    return { time: Number(time), choice: choice.join(" ") };
  });
  return { name: name as ConfigName, seed: Number(seed), steps: steps.split("; "), path };
}
