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
import { type CommandContext, sizeOption, UsageError } from "./command.ts";
import { octalMode } from "./format.ts";
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
  readonly noDereference?: boolean;
}

/** Options of `touch`. */
export interface TouchOptions extends WriteOptions {
  readonly create?: boolean;
  readonly date?: string;
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

/** What a path names, behind a symlink; with `isRecursive` also all below it, not behind links. */
async function targetsOf(changes: Changes, path: string, isRecursive: boolean): Promise<Target[]> {
  const { fs, fileSystem } = changes.volume;
  const { signal } = changes.context;
  const inode = await fs.inode(path, { followLinks: true, signal });
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
        const targets = await targetsOf(changes, path, options.recursive === true);
        for (const [index, target] of targets.entries()) {
          const { uid, gid } = target.inode.attributes();
          const [newUid, newGid] = [wanted.uid ?? uid, wanted.gid ?? gid];
          const text = `owner of ${printable(target.path)}: ${uid}:${gid} to ${newUid}:${newGid}`;
          await changes.step(text, () =>
            index === 0
              ? fs.chown(target.path, newUid, newGid)
              : fs.lchown(target.path, newUid, newGid),
          );
        }
      });
    }
  });
}

/** A value as `setfattr` takes it: `0x` hexadecimal, `0s` base64, else text, quoted or not. */
export function xattrValue(text: string): Uint8Array {
  if (/^0x(?:[0-9a-f]{2})*$/i.test(text)) return Buffer.from(text.slice(2), "hex");
  if (/^0s/i.test(text)) return Buffer.from(text.slice(2), "base64");
  const isQuoted = text.length >= 2 && text.startsWith('"') && text.endsWith('"');
  return new TextEncoder().encode(isQuoted ? text.slice(1, -1) : text);
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
  const followLinks = options.noDereference !== true;
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

/** A time as an option: `@SECONDS` or a date. */
export function timeOption(text: string): bigint {
  const epoch = /^@(-?\d+)(?:\.(\d{1,9}))?$/.exec(text);
  if (epoch !== null) {
    const nsec = BigInt((epoch[2] ?? "").padEnd(9, "0"));
    return BigInt(epoch[1]!) * 1000n * NSEC_PER_MS + nsec;
  }
  const ms = Date.parse(text);
  if (!Number.isNaN(ms)) return BigInt(ms) * NSEC_PER_MS;
  throw new UsageError(`"${printable(text)}" is no time: give @SECONDS or 2026-11-20T12:00:00Z`);
}

/** `quire touch IMAGE PATH...`. */
export async function runTouch(
  image: string,
  paths: readonly string[],
  options: TouchOptions,
  context: CommandContext,
): Promise<void> {
  const time = options.date === undefined ? undefined : timeOption(options.date);
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    for (const path of paths) {
      await changes.attempt(async () => {
        const inode = await inodeAt(changes, path, true);
        if (inode === undefined) {
          if (options.create === false) return;
          await changes.step(`make regular file ${printable(path)}`, () =>
            fs.writeFile(path, "", { flag: "a" }),
          );
          if (time === undefined) return;
        }
        const at = time ?? BigInt(fs.clock.wallMs()) * NSEC_PER_MS;
        await changes.step(`times of ${printable(path)}`, () => fs.utimes(path, at, at));
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
          await fs.truncate(path, size);
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
      await fileSystem.writer?.fallocate(file, mode, offset, length, context.signal);
    });
  });
}
