/**
 * `quire chmod`, `chown`, `setfattr`, `touch`, `truncate`, `fallocate`: the commands that change a
 * file that is there, or make an empty one.
 */
import type { VfsInode } from "../../fs/vfs.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from "../../fs/vfs-write.ts";
import { parseMode } from "../tree/mode-text.ts";
import { pathOfNames } from "../tree/tree-entry.ts";
import { walkTree } from "../tree/walk.ts";
import { type Changes, refusal, type WriteOptions, withChanges } from "./changes.ts";
import { type CommandContext, placed, sizeOption, UsageError } from "./command.ts";
import { nanoseconds, octalMode } from "./format.ts";
import { UMASK } from "./names.ts";
import { printable } from "./output.ts";
import { parseOwner } from "./owner-option.ts";
import { inodeAt } from "./put.ts";

/** Options of `chmod` and `chown`. */
export interface RecursiveOptions extends WriteOptions {
  readonly recursive?: boolean;
}

/** Options of `setfattr`. */
export interface SetXattrOptions extends WriteOptions {
  readonly name?: string;
  readonly value?: string;
  readonly remove?: string;
  /** False for a symlink itself. */
  readonly dereference?: boolean;
}

/** Options of `touch`. */
export interface TouchOptions extends WriteOptions {
  readonly create?: boolean;
  readonly date?: string;
  readonly reference?: string;
  readonly access?: boolean;
  readonly modify?: boolean;
  /** False for a symlink itself. */
  readonly dereference?: boolean;
}

/** Options of `truncate`. */
export interface TruncateOptions extends WriteOptions {
  readonly size: string;
  readonly create?: boolean;
}

/** Options of `fallocate`. */
export interface FallocateOptions extends WriteOptions {
  readonly offset?: number;
  readonly length: number;
  readonly keepSize?: boolean;
  readonly punchHole?: boolean;
  readonly zeroRange?: boolean;
  readonly collapseRange?: boolean;
  readonly insertRange?: boolean;
}

interface Target {
  readonly path: Uint8Array;
  readonly inode: VfsInode;
}

/**
 * What a path names, behind a symlink if `followLinks`; with `isRecursive` also all below it, not
 * behind links.
 */
async function targetsOf(
  changes: Changes,
  path: string,
  isRecursive: boolean,
  followLinks = true,
): Promise<Target[]> {
  const { fs, fileSystem } = changes.volume;
  const { signal } = changes.context;
  const inode = await fs.inode(path, { followLinks, signal });
  const base = new TextEncoder().encode(path);
  const targets: Target[] = [{ path: base, inode }];
  if (!isRecursive || inode.type !== "directory") return targets;
  const stem = new TextEncoder().encode(path.replace(/\/+$/, ""));
  for await (const visit of walkTree(fileSystem, inode, { signal })) {
    if (visit.depth === 0) continue;
    targets.push({ path: pathOfNames([stem, visit.path]), inode: visit.inode });
  }
  return targets;
}

/** `quire chmod IMAGE MODE PATH...`. */
export async function runChmod(
  image: string,
  mode: string,
  paths: readonly string[],
  options: RecursiveOptions,
  context: CommandContext,
): Promise<void> {
  const change = parseMode(mode, UMASK);
  if (change === undefined) throw new UsageError(`"${printable(mode)}" is no mode`);
  await withChanges(image, options, context, async (changes) => {
    const { writer } = changes.volume.fileSystem;
    for (const path of paths) {
      await changes.attempt(async () => {
        for (const target of await targetsOf(changes, path, options.recursive === true)) {
          const { inode } = target;
          if (inode.type === "symlink") continue;
          const now = inode.attributes().mode & 0o7777;
          const wanted = change({ mode: now, isDirectory: inode.type === "directory" });
          if (wanted === now) continue;
          const text = `mode of ${printable(target.path)}: ${octalMode(now)} to ${octalMode(wanted)}`;
          await changes.step(text, async () => writer?.setAttributes(inode, { mode: wanted }));
        }
      });
    }
  });
}

/** `quire chown IMAGE UID:GID PATH...`; symlinks below a path get it themselves. */
export async function runChown(
  image: string,
  owner: string,
  paths: readonly string[],
  options: RecursiveOptions,
  context: CommandContext,
): Promise<void> {
  const wanted = parseOwner(owner, "the owner");
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    for (const path of paths) {
      await changes.attempt(async () => {
        // As chown: what -R is given, a symlink too, is changed itself.
        const isRecursive = options.recursive === true;
        const targets = await targetsOf(changes, path, isRecursive, !isRecursive);
        for (const target of targets) {
          const { uid, gid } = target.inode.attributes();
          const [newUid, newGid] = [wanted.uid ?? uid, wanted.gid ?? gid];
          const text = `owner of ${printable(target.path)}: ${uid}:${gid} to ${newUid}:${newGid}`;
          await changes.step(text, () =>
            isRecursive
              ? fs.lchown(target.path, newUid, newGid)
              : fs.chown(target.path, newUid, newGid),
          );
        }
      });
    }
  });
}

/**
 * A value as `setfattr` takes it: `0x` hexadecimal, `0s` base64, else text, quoted or not; in
 * quotes a backslash stands before itself, a quote, or three octal digits of a byte.
 */
export function xattrValue(text: string): Uint8Array {
  const wrong = new UsageError(`--value "${printable(text)}" is not as its first letters say`);
  if (/^0x/i.test(text)) {
    if (!/^..(?:[0-9a-f]{2})*$/i.test(text)) throw wrong;
    return Buffer.from(text.slice(2), "hex");
  }
  if (/^0s/i.test(text)) {
    if (!/^..(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}={0,2})?$/.test(text)) throw wrong;
    return Buffer.from(text.slice(2), "base64");
  }
  const isQuoted = text.length >= 2 && text.startsWith('"') && text.endsWith('"');
  return isQuoted ? unescaped(text.slice(1, -1)) : new TextEncoder().encode(text);
}

function unescaped(text: string): Uint8Array {
  const parts = text.split(/(\\[0-7]{3}|\\[\\"])/).map((part, index) => {
    if (index % 2 === 0) return Buffer.from(part);
    const digits = part.slice(1);
    return digits.length === 3 ? Buffer.from([Number.parseInt(digits, 8)]) : Buffer.from(digits);
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** `quire setfattr IMAGE -n NAME -v VALUE | -x NAME  PATH...`. */
export async function runSetXattr(
  image: string,
  paths: readonly string[],
  options: SetXattrOptions,
  context: CommandContext,
): Promise<void> {
  const { name, remove } = options;
  if ((name === undefined) === (remove === undefined)) {
    throw new UsageError("setfattr needs -n NAME, with -v VALUE, or -x NAME");
  }
  const value = xattrValue(options.value ?? "");
  const followLinks = options.dereference !== false;
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    for (const path of paths) {
      await changes.attempt(async () => {
        const xattrs = await fs.xattrs(path, { followLinks });
        if (remove !== undefined) {
          if (!xattrs.has(remove)) throw refusal("ENODATA", "removexattr", path);
          await changes.step(`remove attribute ${printable(remove)} of ${printable(path)}`, () =>
            fs.removeXattr(path, remove, { followLinks }),
          );
          return;
        }
        const text = `set attribute ${printable(name!)} of ${printable(path)}, ${value.length} bytes`;
        await changes.step(text, () => fs.setXattr(path, name!, value, { followLinks }));
      });
    }
  });
}

const NSEC_PER_MS = 1_000_000n;

/** A time as an option: `@SECONDS` or a date, to the nanosecond. */
export function timeOption(text: string): bigint {
  const epoch = /^@(-?\d+)(?:[.,](\d+))?$/.exec(text);
  if (epoch !== null) return BigInt(epoch[1]!) * 1000n * NSEC_PER_MS + fraction(epoch[2]);
  const parts = /^(.*:\d\d:\d\d)[.,](\d+)(.*)$/.exec(text);
  const ms = Date.parse(parts === null ? text : parts[1]! + parts[3]!);
  if (!Number.isNaN(ms)) return BigInt(ms) * NSEC_PER_MS + fraction(parts?.[2]);
  throw new UsageError(`"${printable(text)}" is no time: give @SECONDS or 2026-11-20T12:00:00Z`);
}

function fraction(digits = ""): bigint {
  return BigInt(digits.slice(0, 9).padEnd(9, "0"));
}

interface Times {
  readonly atime: bigint;
  readonly mtime: bigint;
}

function timesOf(inode: VfsInode): Times {
  const { atime, mtime } = inode.attributes();
  return { atime: BigInt(nanoseconds(atime)), mtime: BigInt(nanoseconds(mtime)) };
}

/** The times that are asked for; undefined means now. */
async function wantedTimes(changes: Changes, options: TouchOptions): Promise<Times | undefined> {
  const { date, reference } = options;
  if (reference !== undefined) return timesOf(await changes.volume.fs.inode(reference));
  const time = date === undefined ? undefined : timeOption(date);
  return time === undefined ? undefined : { atime: time, mtime: time };
}

/** `quire touch IMAGE PATH...`. */
export async function runTouch(
  image: string,
  paths: readonly string[],
  options: TouchOptions,
  context: CommandContext,
): Promise<void> {
  const { date, reference, access, modify } = options;
  if (date !== undefined && reference !== undefined) {
    throw new UsageError("touch takes one of --date and --reference");
  }
  if (date !== undefined) timeOption(date);
  const both = (access === true) === (modify === true);
  const followLinks = options.dereference !== false;
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    const times = await wantedTimes(changes, options);
    for (const path of paths) {
      await changes.attempt(async () => {
        const inode = await inodeAt(changes, path, followLinks);
        if (inode === undefined) {
          if (options.create === false || !followLinks) return;
          await changes.step(`make regular file ${printable(path)}`, () =>
            fs.writeFile(path, "", { flag: "a" }),
          );
          if (times === undefined) return;
        }
        const now = BigInt(fs.clock.wallMs()) * NSEC_PER_MS;
        const wanted = times ?? { atime: now, mtime: now };
        await changes.step(`times of ${printable(path)}`, async () => {
          const old = timesOf(inode ?? (await fs.inode(path)));
          const atime = both || access === true ? wanted.atime : old.atime;
          const mtime = both || modify === true ? wanted.mtime : old.mtime;
          await (followLinks ? fs.utimes(path, atime, mtime) : fs.lutimes(path, atime, mtime));
        });
      });
    }
  });
}

/** The size that `text` means, from the size now: `10M`, `+1k`, `-512`. */
function newSize(text: string, nowBytes: number): number {
  const match = /^([+-]?)(.*)$/.exec(text)!;
  const bytes = sizeOption(match[2]!, "--size");
  if (match[1] === "+") return nowBytes + bytes;
  return match[1] === "-" ? Math.max(0, nowBytes - bytes) : bytes;
}

/** `quire truncate -s SIZE IMAGE PATH...`. */
export async function runTruncate(
  image: string,
  paths: readonly string[],
  options: TruncateOptions,
  context: CommandContext,
): Promise<void> {
  newSize(options.size, 0);
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    for (const path of paths) {
      await changes.attempt(async () => {
        const inode = await inodeAt(changes, path, true);
        if (inode === undefined && options.create === false) return;
        if (inode !== undefined && inode.type !== "file") throw refusal("EINVAL", "truncate", path);
        const now = inode?.size ?? 0;
        const size = newSize(options.size, now);
        const text = `size of ${printable(path)}: ${inode === undefined ? "new" : now} to ${size}`;
        await changes.step(text, async () => {
          if (inode === undefined) await fs.writeFile(path, "", { flag: "a" });
          await placed("truncate", path, fs.truncate(path, size));
        });
      });
    }
  });
}

/** `quire fallocate IMAGE PATH -l LENGTH`. */
export async function runFallocate(
  image: string,
  path: string,
  options: FallocateOptions,
  context: CommandContext,
): Promise<void> {
  const kinds = [
    [options.punchHole, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch a hole into"],
    [options.zeroRange, FALLOC_FL_ZERO_RANGE, "zero"],
    [options.collapseRange, FALLOC_FL_COLLAPSE_RANGE, "cut out of"],
    [options.insertRange, FALLOC_FL_INSERT_RANGE, "insert a hole into"],
  ] as const;
  const chosen = kinds.filter(([isChosen]) => isChosen === true);
  if (chosen.length > 1) throw new UsageError("fallocate does one of these at a time");
  const [, kind, words] = chosen[0] ?? [true, 0, "allocate"];
  const mode = kind | (options.keepSize === true ? FALLOC_FL_KEEP_SIZE : 0);
  const { offset = 0, length } = options;
  await withChanges(image, options, context, async (changes) => {
    const { fs, fileSystem } = changes.volume;
    const text = `${words} ${printable(path)}: ${length} bytes at ${offset}`;
    const inode = await inodeAt(changes, path, true);
    if (inode === undefined && kind !== 0) throw refusal("ENOENT", "fallocate", path);
    if (inode !== undefined && inode.type !== "file") throw refusal("ENODEV", "fallocate", path);
    await changes.step(text, async () => {
      if (inode === undefined) await fs.writeFile(path, "", { flag: "a" });
      const file = inode ?? (await fs.inode(path));
      const done = fileSystem.writer?.fallocate(file, mode, offset, length, context.signal);
      await placed("fallocate", path, done);
    });
  });
}
