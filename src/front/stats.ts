/**
 * What `stat` and `statfs` give, in the shape of Node's `fs.Stats`, `fs.BigIntStats` and
 * `fs.StatFs`.
 *
 * Times before 1970 and after 2038 come out right: milliseconds as floating numbers, nanoseconds as
 * `bigint`. Dates are made when asked for, since most callers never look at them.
 */
import type { FileSystemUsage, InodeAttributes, Timespec } from "../fs/vfs.ts";

const S_IFMT = 0o170000;

function msOf(time: Timespec): number {
  return time.sec * 1000 + time.nsec / 1e6;
}

/** To the nearest millisecond, as Node makes its dates. */
function dateOf(ms: number | bigint): Date {
  return new Date(Math.round(Number(ms)));
}

function nsOf(time: Timespec): bigint {
  return BigInt(time.sec) * 1_000_000_000n + BigInt(time.nsec);
}

/** The device number as `st_rdev` shows it (`gnu_dev_makedev`). */
export function makeDevice(major: number, minor: number): number {
  const low = ((minor & 0xff) | ((major & 0xfff) << 8)) >>> 0;
  const minorHigh = Math.floor(minor / 0x100) * 0x10_0000;
  const majorHigh = Math.floor(major / 0x1000) * 2 ** 44;
  return low + minorHigh + majorHigh;
}

abstract class StatsBase<N extends number | bigint> {
  abstract readonly mode: N;

  #isType(type: number): boolean {
    return (Number(this.mode) & S_IFMT) === type;
  }
  isDirectory(): boolean {
    return this.#isType(0o040000);
  }
  isFile(): boolean {
    return this.#isType(0o100000);
  }
  isBlockDevice(): boolean {
    return this.#isType(0o060000);
  }
  isCharacterDevice(): boolean {
    return this.#isType(0o020000);
  }
  isSymbolicLink(): boolean {
    return this.#isType(0o120000);
  }
  isFIFO(): boolean {
    return this.#isType(0o010000);
  }
  isSocket(): boolean {
    return this.#isType(0o140000);
  }
}

/** `fs.Stats`. `dev` is 0: an image has no device number. */
export class Stats extends StatsBase<number> {
  readonly dev: number = 0;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;

  constructor(from: InodeAttributes) {
    super();
    this.mode = from.mode;
    this.nlink = from.nlink;
    this.uid = from.uid;
    this.gid = from.gid;
    this.rdev = makeDevice(from.rdevMajor, from.rdevMinor);
    this.blksize = from.blockBytes;
    this.ino = from.ino;
    this.size = from.sizeBytes;
    this.blocks = from.sectorCount;
    this.atimeMs = msOf(from.atime);
    this.mtimeMs = msOf(from.mtime);
    this.ctimeMs = msOf(from.ctime);
    this.birthtimeMs = msOf(from.birthtime ?? from.ctime);
  }
  get atime(): Date {
    return dateOf(this.atimeMs);
  }
  get mtime(): Date {
    return dateOf(this.mtimeMs);
  }
  get ctime(): Date {
    return dateOf(this.ctimeMs);
  }
  get birthtime(): Date {
    return dateOf(this.birthtimeMs);
  }
}

/** `fs.BigIntStats`: every number a `bigint`, and the times in nanoseconds too. */
export class BigIntStats extends StatsBase<bigint> {
  readonly dev: bigint = 0n;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly blksize: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;

  constructor(from: InodeAttributes) {
    super();
    this.mode = BigInt(from.mode);
    this.nlink = BigInt(from.nlink);
    this.uid = BigInt(from.uid);
    this.gid = BigInt(from.gid);
    this.rdev = BigInt(makeDevice(from.rdevMajor, from.rdevMinor));
    this.blksize = BigInt(from.blockBytes);
    this.ino = BigInt(from.ino);
    this.size = BigInt(from.sizeBytes);
    this.blocks = BigInt(from.sectorCount);
    this.atimeNs = nsOf(from.atime);
    this.mtimeNs = nsOf(from.mtime);
    this.ctimeNs = nsOf(from.ctime);
    this.birthtimeNs = nsOf(from.birthtime ?? from.ctime);
    this.atimeMs = this.atimeNs / 1_000_000n;
    this.mtimeMs = this.mtimeNs / 1_000_000n;
    this.ctimeMs = this.ctimeNs / 1_000_000n;
    this.birthtimeMs = this.birthtimeNs / 1_000_000n;
  }
  get atime(): Date {
    return dateOf(this.atimeMs);
  }
  get mtime(): Date {
    return dateOf(this.mtimeMs);
  }
  get ctime(): Date {
    return dateOf(this.ctimeMs);
  }
  get birthtime(): Date {
    return dateOf(this.birthtimeMs);
  }
}

/** `fs.StatFs`, with numbers or, for `{ bigint: true }`, with `bigint`. */
export class StatFs<N extends number | bigint = number> {
  readonly type: N;
  readonly bsize: N;
  readonly blocks: N;
  readonly bfree: N;
  readonly bavail: N;
  readonly files: N;
  readonly ffree: N;

  constructor(from: FileSystemUsage, as: (value: number) => N) {
    this.type = as(from.typeMagic);
    this.bsize = as(from.blockBytes);
    this.blocks = as(from.blockCount);
    this.bfree = as(from.freeBlockCount);
    this.bavail = as(from.availableBlockCount);
    this.files = as(from.inodeCount);
    this.ffree = as(from.freeInodeCount);
  }
}
