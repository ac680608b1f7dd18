/**
 * A watch over judgements that may never end: a thread of its own, since a loop in a parser stops
 * every timer of the thread that it runs in.
 *
 *     this thread   case n begins -> its name into shared memory, the number raised
 *     the watch     the number stands still, or the process grows: the name is printed, the
 *     process ends
 *
 * What a case costs is taken as processor time where it matters, so that a busy machine fails
 * nothing. One case is run again by its name:
 *
 *     QUIRE_CASE='ext2/bit/8311' npx vitest run test/hostile
 */
import { writeSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { realClock } from "../../src/lib/clock.ts";
import { MIB } from "../../src/lib/units.ts";

/** Processor time of one image. */
const CASE_MS_MAX = 2000;
/** When the watch gives a case up: machines may be busy, loops do not end. */
const HANG_MS = 60_000;
/**
 * Memory of one image; what is garbage by then does not count, but must not be very much either.
 */
const GROWTH_BYTES_MAX: number = 256 * MIB;
const GARBAGE_BYTES_MAX: number = 768 * MIB;
const CASES_PER_TURN = 8;
const NAME_BYTES = 4096;
const HEAD_WORDS = 2;
/** The only case to run, if it is set. */
const { QUIRE_CASE = "" } = process.env;

const WATCH = `
const { workerData } = require("node:worker_threads");
const { writeSync } = require("node:fs");
const { head, name, hangMs, rssMax } = workerData;
let last = -1;
let since = 0;
setInterval(() => {
  const now = Date.now();
  const at = Atomics.load(head, 0);
  if (at !== last || at % 2 === 0) { last = at; since = now; }
  const rss = process.memoryUsage.rss();
  const isHanging = now - since > hangMs;
  if (!isHanging && rss <= rssMax) return;
  const text = Buffer.from(name.slice(0, Atomics.load(head, 1))).toString();
  const what = isHanging ? "does not end" : "takes " + Math.round(rss / 1048576) + " MiB";
  writeSync(2, "\\nhostile image " + what + ": QUIRE_CASE='" + text + "'\\n");
  process.kill(process.pid, "SIGKILL");
}, 100);
`;

/** See the head of the file. Start one for a test file, and stop it at the end. */
export class HostileWatch {
  readonly #worker: Worker;
  readonly #head = new Int32Array(new SharedArrayBuffer(4 * HEAD_WORDS));
  readonly #name = new Uint8Array(new SharedArrayBuffer(NAME_BYTES));
  readonly #rejections: unknown[] = [];
  #floorBytes = -1;
  /** Cases so far. */
  count = 0;

  constructor() {
    this.#worker = new Worker(WATCH, {
      eval: true,
      workerData: {
        head: this.#head,
        name: this.#name,
        hangMs: HANG_MS,
        rssMax: process.memoryUsage.rss() + GARBAGE_BYTES_MAX,
      },
    });
    this.#worker.unref();
    process.on("unhandledRejection", this.#onRejection);
  }

  readonly #onRejection = (reason: unknown): void => {
    this.#rejections.push(reason);
  };

  /** True unless another case was asked for. */
  wants(name: string): boolean {
    return QUIRE_CASE === "" || QUIRE_CASE === name;
  }

  /** True if all cases are run, so that they may be counted. */
  get wantsAll(): boolean {
    return QUIRE_CASE === "";
  }

  /**
   * Runs one case. `name` says how to repeat it. Throws what `task` throws, with the name, and if
   * the case took too long or too much, or left a rejected promise behind.
   */
  async run<T>(name: string, task: () => Promise<T>): Promise<T> {
    if (this.#floorBytes < 0) {
      collectGarbage();
      this.#floorBytes = liveBytes();
    }
    // Objects behind weak references stay until the turn of the loop ends.
    if (this.count++ % CASES_PER_TURN === 0) await realClock.turn();
    const { written } = new TextEncoder().encodeInto(name, this.#name);
    Atomics.store(this.#head, 1, written);
    Atomics.add(this.#head, 0, 1);
    const before = process.cpuUsage();
    try {
      return await task();
    } catch (thrown) {
      writeSync(2, `\nhostile image misjudged: QUIRE_CASE='${name}'\n`);
      throw new Error(`${name}: ${String(thrown)}`, { cause: thrown });
    } finally {
      Atomics.add(this.#head, 0, 1);
      this.#check(name, before);
    }
  }

  #check(name: string, before: NodeJS.CpuUsage): void {
    if (this.#rejections.length > 0) {
      throw new Error(`${name}: a promise was rejected unseen: ${String(this.#rejections[0])}`);
    }
    const { user, system } = process.cpuUsage(before);
    const ms = (user + system) / 1000;
    if (ms > CASE_MS_MAX) throw new Error(`${name}: took ${Math.round(ms)} ms of processor time`);
    if (liveBytes() - this.#floorBytes <= GROWTH_BYTES_MAX) return;
    collectGarbage();
    const grown = liveBytes() - this.#floorBytes;
    if (grown <= GROWTH_BYTES_MAX) return;
    throw new Error(`${name}: the process has grown by ${Math.round(grown / MIB)} MiB`);
  }

  /** Forgets rejections that a test made on purpose. */
  forgive(): void {
    this.#rejections.length = 0;
  }

  async stop(): Promise<void> {
    process.off("unhandledRejection", this.#onRejection);
    await this.#worker.terminate();
  }
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
}

/** Bytes in use by objects and buffers. */
function liveBytes(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
