/**
 * The crash harness: does a workload once on a disk that records, cuts the power at every moment of
 * the record, and has each state judged: see `CrashJudge`.
 *
 *     record --> points --> state --> judged
 *                  ^          |
 *                  +-- recovery recorded, and crashed itself --+
 *
 * Nothing is left to chance that the seed does not decide. A violation is one line, which `repeat`
 * takes.
 */

import type { Volume } from "../../../src/front/volume.ts";
import { FsError } from "../../../src/lib/errno.ts";
import { Random } from "../../../src/lib/random.ts";
import { type ConfigName, type CrashBase, openCrashed, recoverCrashed } from "./crash-base.ts";
import { CrashClock } from "./crash-clock.ts";
import { CrashImage } from "./crash-image.ts";
import { CrashJudge, type JudgeCounts, type JudgeOptions } from "./crash-judge.ts";
import type { CrashModel } from "./crash-model.ts";
import { type CrashPoint, crashPoints, DiskTimeline } from "./crash-states.ts";
import { CrashWorkload } from "./crash-workload.ts";
import type { Fsck } from "./fsck.ts";
import { type DiskEvent, RecordedStore, type WriteFaults } from "./recorded-store.ts";

/** Time after a workload in which everything gets down by itself. */
const AFTERWARDS_MS = 40_000;
/** Torn states at each moment of a recovery. */
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
  /** What a workload on a disk that fails was ended by. */
  readonly failure: FsError | undefined;
}

/** What a state was found to be. */
export interface CrashViolation {
  /** Takes the state up again: see `repeat`. */
  readonly line: string;
  readonly complaint: string;
}

/** What is to go wrong while a workload is recorded. */
export interface RecordOptions {
  /** May put something wrong into the volume first. */
  readonly prepare?: (volume: Volume) => void;
  /** Writes that fail: the workload ends with the first step that is told of it. */
  readonly faults?: WriteFaults;
}

/** Does `script` on a fresh copy of `base`, until the volume is closed. */
export async function record(
  base: CrashBase,
  script: CrashScript,
  seed: number,
  { prepare, faults }: RecordOptions = {},
): Promise<CrashRecord> {
  const clock = new CrashClock();
  const image = new CrashImage(base.bytes);
  const store = new RecordedStore(image, { clock, random: new Random(seed), faults });
  const volume = await clock.run(openCrashed(store, clock, true, base.data));
  prepare?.(volume);
  const now = (): number => store.events.length;
  const workload = new CrashWorkload({ base, volume, clock, now });
  const next = typeof script === "function" ? script : stepsOf(script);
  let failure: FsError | undefined;
  try {
    for (let step = next(workload); step !== undefined; step = next(workload)) {
      await workload.step(step);
    }
    await clock.pass(AFTERWARDS_MS);
    await workload.end();
    await clock.run(volume.close());
  } catch (thrown) {
    if (faults !== undefined && thrown instanceof FsError) {
      await clock.run(volume.close()).catch(() => undefined);
      failure = thrown;
    } else {
      const line = `${base.name} | ${seed} | ${workload.done.join("; ")}`;
      throw new Error(`the workload fails: ${String(thrown)}\n${line}`, { cause: thrown });
    }
  }
  const { model, done: steps } = workload;
  return { base, seed, events: store.events, model, steps, failure };
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
  /** Of 1: how many recoveries are crashed themselves. */
  readonly recoveryShare?: number;
  /** At how many moments of a recovery at most; Infinity for every one. */
  readonly recoveryStates?: number;
  /** How often one after the other; once by default. */
  readonly recoveryDepth?: number;
}

/** What was tried. */
export interface CrashCounts extends JudgeCounts {
  readonly workloads: number;
}

/** Tries power cuts on records of one base. */
export class CrashExplorer {
  readonly violations: CrashViolation[] = [];
  readonly #image: CrashImage;
  readonly #judge: CrashJudge;
  #workloads = 0;

  constructor(base: CrashBase, fsck: Fsck, options: JudgeOptions) {
    this.#image = new CrashImage(base.bytes);
    this.#judge = new CrashJudge(base, this.#image, fsck, options);
  }

  get counts(): CrashCounts {
    return { workloads: this.#workloads, ...this.#judge.counts };
  }

  /** Tries a choice of the power cuts on `recorded`. Stops at the first violation. */
  async explore(recorded: CrashRecord, budget: CrashBudget): Promise<void> {
    const { events, model, seed } = recorded;
    const random = new Random(seed);
    const all = crashPoints(events, (time) => model.promisesAt(time));
    const points = sample(all, budget.states, random, lastOfPromises(all, model));
    if (points.length === 0) throw new Error(`no states: ${lineOf(recorded, [])}`);
    const timeline = new DiskTimeline(events);
    this.#workloads++;
    for (const point of points) {
      timeline.advance(point.time, this.#image);
      const { recoveryShare = 0, recoveryDepth = 1 } = budget;
      const depth = random.chance(recoveryShare) ? recoveryDepth : 0;
      await this.#cut(recorded, timeline, [point], { ...budget, recoveryDepth: depth }, random);
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

  /** The power is cut at the end of `path`, where `timeline` is, and then during recovery. */
  async #cut(
    recorded: CrashRecord,
    timeline: DiskTimeline,
    path: CrashPath,
    budget: CrashBudget,
    random: Random,
  ): Promise<void> {
    const mark = this.#image.mark();
    timeline.crash(path.at(-1)!.choice, this.#image);
    const state = this.#image.mark();
    await this.#recovered(recorded, path);
    this.#image.rollback(state);
    const { recoveryDepth = 0 } = budget;
    if (recoveryDepth > 0 && this.violations.length === 0) {
      const rest = { ...budget, recoveryDepth: recoveryDepth - 1 };
      await this.#cutRecovery(recorded, path, rest, random);
    }
    this.#image.rollback(mark);
  }

  /** Cuts the power at moments of the recovery of the image as it is. */
  async #cutRecovery(
    recorded: CrashRecord,
    path: CrashPath,
    budget: CrashBudget,
    random: Random,
  ): Promise<void> {
    const mark = this.#image.mark();
    const events = await this.#recordRecovery(recorded.seed);
    this.#image.rollback(mark);
    const { recoveryStates = 0 } = budget;
    const all = crashPoints(events, () => "", RECOVERY_TORN, recoveryStates < Infinity);
    const timeline = new DiskTimeline(events);
    for (const point of sample(all, recoveryStates, random)) {
      timeline.advance(point.time, this.#image);
      await this.#cut(recorded, timeline, [...path, point], budget, random);
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
    let complaint: string | undefined;
    try {
      complaint = await this.#judge.complaintAbout(recorded.model, path[0]!.time);
    } catch (thrown) {
      complaint = thrown instanceof Error ? `${thrown.message}${causeOf(thrown)}` : String(thrown);
    }
    if (complaint !== undefined) this.violations.push({ line: lineOf(recorded, path), complaint });
  }
}

function causeOf({ cause }: Error): string {
  return cause instanceof Error ? ` (${cause.message})` : "";
}

/** At most `count` of `list`, in order; those of `first` before others. */
function sample<T>(
  list: readonly T[],
  count: number,
  random: Random,
  first: ReadonlySet<T> = new Set(),
): readonly T[] {
  if (list.length <= count) return list;
  const shuffled = random.shuffle([...list.keys()]);
  const isFirst = (at: number): boolean => first.has(list[at]!);
  const sorted = [...shuffled.filter(isFirst), ...shuffled.filter((at) => !isFirst(at))];
  const chosen = sorted.slice(0, count);
  return chosen.sort((a, b) => a - b).map((at) => list[at]!);
}

/** The power cuts that leave the least: right after a promise was given, with nothing volatile. */
function lastOfPromises(all: readonly CrashPoint[], model: CrashModel): ReadonlySet<CrashPoint> {
  const cuts = all.filter(({ choice }) => choice === "none");
  const found = new Set<CrashPoint>();
  for (const { time } of model.promises) {
    const cut = cuts.find((point) => point.time >= time);
    if (cut !== undefined && time > 0) found.add(cut);
  }
  return found;
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
