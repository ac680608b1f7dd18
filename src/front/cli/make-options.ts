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
const UUID_BYTES = 16;
/** 1970 in units of 100 ns since 1582-10-15. */
const UUID_EPOCH = 0x01b2_1dd2_1381_4000n;

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

/**
 * The 16 bytes of a UUID as it is written, or as the words of tune2fs and mke2fs have it: "random",
 * "time", or "clear" for none.
 */
export function uuidOption(text: string, clock: Clock, random: Random): Uint8Array {
  if (text === "clear") return new Uint8Array(UUID_BYTES);
  if (text === "random") return uuidOfVersion(random.bytes(UUID_BYTES), 4);
  if (text === "time") return timeUuid(clock, random);
  const digits = text.replaceAll("-", "");
  if (/^[0-9a-f]+$/i.test(digits) && digits.length === 2 * UUID_BYTES) {
    return new Uint8Array(Buffer.from(digits, "hex"));
  }
  throw new UsageError(`--uuid must be a UUID, random, time or clear, not "${printable(text)}"`);
}

/** Marks `bytes` as a UUID of RFC 4122. */
function uuidOfVersion(bytes: Uint8Array, version: number): Uint8Array {
  bytes[6] = (bytes[6]! & 0x0f) | (version << 4);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes;
}

/** Version 1: the time in units of 100 ns since 1582, and a place that is left to chance. */
function timeUuid(clock: Clock, random: Random): Uint8Array {
  const bytes = random.bytes(UUID_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const time = BigInt(Math.floor(clock.wallMs())) * 10_000n + UUID_EPOCH;
  view.setUint32(0, Number(time & 0xffff_ffffn));
  view.setUint16(4, Number((time >> 32n) & 0xffffn));
  view.setUint16(6, Number(time >> 48n));
  // A place that is no network card says so.
  bytes[10] = bytes[10]! | 0x01;
  return uuidOfVersion(bytes, 1);
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
    uuid: uuid === undefined ? undefined : uuidOption(uuid, clock, random),
    features: features?.split(",").filter((name) => name !== ""),
    reservedPercent,
    journalBytes: options.journalSize,
    isZeroed: true,
  };
}

/** Throws for options that are about an image that is there. */
export function checkIsNew(options: MakeOptions): void {
  for (const name of ["partition", "noload", "superblock", "salvage", "journal"] as const) {
    if (options[name] === undefined) continue;
    throw new UsageError(`mkfs makes a whole new image: --${name} is about one that is there`);
  }
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
