/**
 * The log as a row of numbered blocks, wherever its pieces lie, and a reader that walks along it.
 *
 *     journal block    0 .......... 9 | 10 ...... 24 | 25 ............. 1023
 *     device block     [ 500 .. 509 ]   [ 80 .. 94 ]   [ 2048 ... ]            three runs
 *
 * The journal is an ordinary mapped file, often in several pieces; an external one is a device.
 *
 *  1. A block without a place (a hole of the file) is `EUCLEAN` when it is wanted, not before.
 *  2. The reader holds one window and no more, so a log of any size costs the same memory.
 *
 * Left out: writing.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { readDevice } from "../../block/block-device.ts";
import { assert } from "../../lib/assert.ts";
import { FsError } from "../../lib/errno.ts";

/**
 * Journal blocks `first .. first + count` that lie in one piece from device block `physical` on.
 */
export interface JournalRun {
  readonly first: number;
  readonly physical: number;
  readonly count: number;
}

/** Where the blocks of a journal lie. */
export class JournalMap {
  /** Blocks of the file or device, which may be more than the log uses. */
  readonly blockCount: number;
  readonly #runs: readonly JournalRun[];
  readonly #byPhysical: readonly JournalRun[];

  /** `runs` are in order of `first` and do not overlap. */
  constructor(runs: readonly JournalRun[], blockCount: number) {
    this.blockCount = blockCount;
    this.#runs = runs;
    this.#byPhysical = runs.slice().sort((a, b) => a.physical - b.physical);
  }

  /** The pieces in order. */
  get runs(): readonly JournalRun[] {
    return this.#runs;
  }

  get runCount(): number {
    return this.#runs.length;
  }

  /**
   * The piece that lies in one run from `journalBlock` on.
   *
   * @throws {FsError} `EUCLEAN` for a hole
   */
  locate(journalBlock: number): { readonly physical: number; readonly count: number } {
    const run = this.#runs[lastAtMost(this.#runs, journalBlock, firstOf)];
    const offset = run === undefined ? 0 : journalBlock - run.first;
    if (run === undefined || offset >= run.count) {
      throw new FsError("EUCLEAN", {
        detail: `journal block ${journalBlock} has no place: a hole`,
      });
    }
    return { physical: run.physical + offset, count: run.count - offset };
  }

  /** True if device block `blocknr` belongs to the journal. */
  contains(blocknr: number): boolean {
    const run = this.#byPhysical[lastAtMost(this.#byPhysical, blocknr, physicalOf)];
    return run !== undefined && blocknr < run.physical + run.count;
  }
}

function firstOf(run: JournalRun): number {
  return run.first;
}

function physicalOf(run: JournalRun): number {
  return run.physical;
}

/** Index of the last run whose key is at most `value`, or -1. */
function lastAtMost(
  runs: readonly JournalRun[],
  value: number,
  keyOf: (run: JournalRun) => number,
): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keyOf(runs[middle]!) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Reads a log upwards. See the head of the file. */
export class JournalLog {
  readonly device: BlockDevice;
  readonly map: JournalMap;
  readonly blockBytes: number;
  readonly #windowBlocks: number;
  readonly #signal: AbortSignal | undefined;
  #window: Uint8Array = new Uint8Array(0);
  #windowFirst = 0;
  #windowCount = 0;

  /**
   * `windowBytes` is what one request reads at most; `device` is the one that the journal lies on.
   */
  constructor(
    device: BlockDevice,
    map: JournalMap,
    options: { blockBytes: number; windowBytes: number; signal?: AbortSignal | undefined },
  ) {
    this.device = device;
    this.map = map;
    this.blockBytes = options.blockBytes;
    this.#windowBlocks = Math.max(1, Math.floor(options.windowBytes / options.blockBytes));
    this.#signal = options.signal;
  }

  /** The bytes of `journalBlock` if the window holds them. Borrowed until the next `load`. */
  peek(journalBlock: number): Uint8Array | undefined {
    const index = journalBlock - this.#windowFirst;
    if (index < 0 || index >= this.#windowCount) return undefined;
    return this.#window.subarray(index * this.blockBytes, (index + 1) * this.blockBytes);
  }

  /**
   * Moves the window to `journalBlock` and returns its bytes, borrowed until the next `load`. Reads
   * at most `limit` blocks, for a caller that knows where it stops.
   *
   * @throws {FsError} `EUCLEAN` for a hole, `EIO` for a failed read
   */
  async load(journalBlock: number, limit: number = this.#windowBlocks): Promise<Uint8Array> {
    const { physical, count } = this.map.locate(journalBlock);
    const wanted = Math.min(count, limit, this.#windowBlocks);
    assert(wanted > 0, "a window is not empty");
    const { blockBytes } = this;
    const offsetBytes = physical * blockBytes;
    this.#windowCount = 0;
    this.#window = await readDevice(this.device, offsetBytes, wanted * blockBytes, this.#signal);
    this.#windowFirst = journalBlock;
    this.#windowCount = wanted;
    return this.#window.subarray(0, blockBytes);
  }
}
