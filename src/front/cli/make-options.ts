/**
 * The options of `quire mkfs` in the words of `makeExt`, and what makes two runs give the same
 * bytes: a clock that stands still, and numbers that only look random.
 */
import type { ExtType, MkfsOptions } from "../../fs/ext/mkfs/index.ts";
import { type Clock, realClock, type Timer } from "../../lib/clock.ts";
import { Random } from "../../lib/random.ts";
import { type CommonOptions, sizeOption, UsageError, wholeNumber } from "./command.ts";
import { printable } from "./output.ts";
import type { OwnerOptions } from "./owner-option.ts";

/** Options of `mkfs`. */
export interface MakeOptions extends CommonOptions, OwnerOptions {
  readonly type: string;
  readonly size?: string;
  readonly blockSize?: number;
  readonly inodeSize?: number;
  readonly inodes?: number;
  readonly label?: string;
  readonly uuid?: string;
  readonly features?: string;
  readonly reserved?: string;
  readonly journalSize?: number;
  readonly seed?: number;
  readonly from?: string;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly verbose?: boolean;
  readonly xattrs?: boolean;
}

/** 1980-01-01: the time of an image that is to depend on its input alone. */
const FIXED_TIME_SEC = 315_532_800;
const MS_PER_SEC = 1000;
const UUID_DIGITS = 32;

/** Always the same time; no work is done by the clock. */
class StillClock implements Clock {
  readonly #wallMs: number;

  constructor(wallMs: number) {
    this.#wallMs = wallMs;
  }

  nowMs(): number {
    return realClock.nowMs();
  }
  wallMs(): number {
    return this.#wallMs;
  }
  /** What would be done in the background some time never is: all is written down in its turn. */
  setTimer(delayMs: number, fire: () => void, isBackground = false): Timer {
    if (isBackground) return { cancel: () => {} };
    return realClock.setTimer(delayMs, fire);
  }
  microtask(task: () => void): void {
    realClock.microtask(task);
  }
  turn(): Promise<void> {
    return realClock.turn();
  }
}

/** Time and random numbers of a run: fixed by `--seed` or `SOURCE_DATE_EPOCH`. */
export function determined(
  seed: number | undefined,
  epoch: string | undefined,
): { readonly clock: Clock; readonly random: () => Random } {
  const epochSec = epoch === undefined || epoch === "" ? undefined : epochOption(epoch);
  if (seed === undefined && epochSec === undefined) {
    const drawn = Random.ofPlatform().uint32();
    return { clock: new StillClock(realClock.wallMs()), random: () => new Random(drawn) };
  }
  const number = seed ?? epochSec!;
  const wallMs = (epochSec ?? FIXED_TIME_SEC) * MS_PER_SEC;
  return { clock: new StillClock(wallMs), random: () => new Random(number) };
}

function epochOption(text: string): number {
  return wholeNumber(text, "SOURCE_DATE_EPOCH");
}

/** The 16 bytes of a UUID as it is written. */
export function uuidOption(text: string): Uint8Array {
  const digits = text.replaceAll("-", "");
  if (/^[0-9a-f]+$/i.test(digits) && digits.length === UUID_DIGITS) {
    return new Uint8Array(Buffer.from(digits, "hex"));
  }
  throw new UsageError(`--uuid must be a UUID, not "${printable(text)}"`);
}

/** What `makeExt` takes of the options that were given. */
export function mkfsOptions(options: MakeOptions, clock: Clock, random: Random): MkfsOptions {
  const { type, label, uuid, features, reserved, blockSize, inodeSize, inodes } = options;
  if (!["ext2", "ext3", "ext4"].includes(type)) {
    throw new UsageError(`--type must be ext2, ext3 or ext4, not "${printable(type)}"`);
  }
  const reservedPercent = reserved === undefined ? undefined : Number(reserved.replace(/%$/, ""));
  if (Number.isNaN(reservedPercent)) {
    throw new UsageError(`--reserved must be percent, not "${printable(reserved!)}"`);
  }
  return {
    clock,
    random,
    type: type as ExtType,
    blockBytes: blockSize,
    inodeBytes: inodeSize,
    inodeCount: inodes,
    label,
    uuid: uuid === undefined ? undefined : uuidOption(uuid),
    features: features?.split(",").filter((name) => name !== ""),
    reservedPercent,
    journalBytes: options.journalSize,
    isZeroed: true,
  };
}

/** The size asked for: bytes, or "auto". */
export function sizeOf(options: MakeOptions): number | "auto" {
  const { size, from } = options;
  if (size === undefined) {
    if (from !== undefined) return "auto";
    throw new UsageError("mkfs needs --size, or --from with what the image is to hold");
  }
  if (size !== "auto") return sizeOption(size, "--size");
  if (from === undefined) throw new UsageError("--size auto needs --from");
  return "auto";
}
