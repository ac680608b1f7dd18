/** `quire ls`, `find` and `du`: the commands that list names. */
import type { DirectoryEntry, FileSystem, VfsInode } from "../../fs/vfs.ts";
import { byteOfSector } from "../../lib/units.ts";
import { formatSize } from "../size-text.ts";
import { sortedEntries, type Visit, walkTree } from "../tree/walk.ts";
import type { Volume } from "../volume.ts";
import { attempt, type CommandContext, type CommonOptions, report, UsageError } from "./command.ts";
import { attributesJson, modeText, timeText, typeLetter } from "./format.ts";
import { jsonLine, Progress, printable, printJson, table, textOf, writeAll } from "./output.ts";

/** Options of `ls`. */
export interface LsOptions extends CommonOptions {
  readonly long?: boolean;
  readonly all?: boolean;
}

/** Options of `find`. */
export interface FindOptions extends CommonOptions {
  readonly name?: string;
  readonly type?: string;
  readonly maxdepth?: number;
}

/** Options of `du`. */
export interface DuOptions extends CommonOptions {
  readonly summarize?: boolean;
}

interface Listed {
  readonly name: Uint8Array;
  readonly inode: VfsInode;
}

/** Lists directories and names files, as `ls` does. Inodes are looked at one by one, and let go. */
export async function runLs(
  volume: Volume,
  paths: readonly string[],
  options: LsOptions,
  context: CommandContext,
): Promise<void> {
  const json: object[] = [];
  const fs = volume.fileSystem;
  for (const path of paths) {
    await attempt(context, async () => {
      const follow = { followLinks: options.long !== true, signal: context.signal };
      const inode = await volume.fs.inode(path, follow);
      const isDirectory = inode.type === "directory";
      const self: Listed[] = [{ name: new TextEncoder().encode(path), inode }];
      if (options.json === true) {
        const listed = isDirectory ? childrenOf(fs, inode, options, context) : self;
        for await (const item of listed) json.push(await itemJson(fs, item));
        return;
      }
      if (paths.length > 1 && isDirectory) context.stdout.write(`${printable(path)}:\n`);
      if (options.long === true) {
        const listed = isDirectory ? childrenOf(fs, inode, options, context) : self;
        await writeAll(context, await longText(fs, listed));
      } else if (isDirectory) {
        const entries = await shownEntries(fs, inode, options, context);
        await writeAll(context, entries.map(({ name }) => `${printable(name)}\n`).join(""));
      } else await writeAll(context, `${printable(path)}\n`);
    });
  }
  if (options.json === true) printJson(context.stdout, json);
}

async function shownEntries(
  fs: FileSystem,
  directory: VfsInode,
  options: LsOptions,
  context: CommandContext,
): Promise<readonly DirectoryEntry[]> {
  const entries = await sortedEntries(fs, directory, context.signal);
  return options.all === true ? entries : entries.filter(({ name }) => name[0] !== 0x2e);
}

/** The entries to list; one whose inode cannot be read is reported and left out. */
async function* childrenOf(
  fs: FileSystem,
  directory: VfsInode,
  options: LsOptions,
  context: CommandContext,
): AsyncGenerator<Listed, void, undefined> {
  for (const { name, ino } of await shownEntries(fs, directory, options, context)) {
    let inode: VfsInode | undefined;
    await attempt(context, async () => {
      inode = await fs.inode(ino, context.signal);
    });
    if (inode !== undefined) yield { name, inode };
  }
}

async function itemJson(fs: FileSystem, { name, inode }: Listed): Promise<object> {
  const { text, isExact } = textOf(name);
  return {
    name: text,
    ...(isExact ? {} : { name_b64: Buffer.from(name).toString("base64") }),
    ...attributesJson(inode.type, inode.attributes()),
    ...(inode.type === "symlink" ? { target: textOf(await fs.readlink(inode)).text } : {}),
  };
}

async function longText(
  fs: FileSystem,
  listed: Iterable<Listed> | AsyncIterable<Listed>,
): Promise<string> {
  const rows: string[][] = [];
  for await (const { name, inode } of listed) {
    const attributes = inode.attributes();
    const isDevice = inode.type === "character" || inode.type === "block";
    const size = isDevice
      ? `${attributes.rdevMajor},${attributes.rdevMinor}`
      : String(attributes.sizeBytes);
    const target = inode.type === "symlink" ? ` -> ${printable(await fs.readlink(inode))}` : "";
    rows.push([
      modeText(inode.type, attributes.mode),
      String(attributes.nlink),
      String(attributes.uid),
      String(attributes.gid),
      size,
      timeText(attributes.mtime).slice(0, 16).replace("T", " "),
      printable(name) + target,
    ]);
  }
  return table(rows, [1, 2, 3, 4]);
}

/** Prints the path of each file that fits, as `find` does. */
export async function runFind(
  volume: Volume,
  path: string,
  options: FindOptions,
  context: CommandContext,
): Promise<void> {
  const matches = options.name === undefined ? () => true : globMatcher(options.name);
  const wanted = options.type;
  if (wanted !== undefined && !/^[fdlcbps]$/.test(wanted)) {
    throw new UsageError(`--type must be one of f d l c b p s, not "${printable(wanted)}"`);
  }
  const start = await volume.fs.inode(path, { followLinks: false });
  const visits = walkTree(volume.fileSystem, start, {
    signal: context.signal,
    ...(options.maxdepth === undefined ? {} : { maxDepth: options.maxdepth }),
    onError: (_path, error) => report(error, context),
  });
  const base = path.replace(/\/+$/, "");
  for await (const visit of visits) {
    if (wanted !== undefined && typeLetter(visit.inode.type) !== wanted) continue;
    const { text, isExact } = textOf(visit.path);
    const name = visit.depth === 0 ? (base.split("/").pop() ?? "") : textOf(visit.name).text;
    if (!matches(name)) continue;
    const shown = visit.depth === 0 ? base || "/" : `${base}/${text}`;
    if (options.json === true) {
      const whole = Buffer.concat([Buffer.from(`${base}/`), visit.path]);
      const exact = isExact ? {} : { path_b64: whole.toString("base64") };
      const details = attributesJson(visit.inode.type, visit.inode.attributes());
      await writeAll(context, jsonLine({ path: shown, ...exact, ...details }));
    } else {
      const line =
        visit.depth === 0 ? printable(shown) : `${printable(base)}/${printable(visit.path)}`;
      await writeAll(context, `${line}\n`);
    }
  }
}

/**
 * A name matcher for a shell pattern: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a plain
 * character.
 */
export function globMatcher(pattern: string): (name: string) => boolean {
  let source = "";
  for (let at = 0; at < pattern.length; at++) {
    const char = pattern[at]!;
    const close = char === "[" ? pattern.indexOf("]", at + 2) : -1;
    if (char === "*") source += "[^]*";
    else if (char === "?") source += "[^]";
    else if (char === "\\" && at + 1 < pattern.length) source += quoted(pattern[++at]!);
    else if (close > 0) {
      const inside = pattern
        .slice(at + 1, close)
        .replace(/^!/, "^")
        .replace(/[\\[\]]/g, "\\$&");
      source += `[${inside}]`;
      at = close;
    } else source += quoted(char);
  }
  try {
    const expression = new RegExp(`^${source}$`, "u");
    return (name) => expression.test(name);
  } catch {
    throw new UsageError(`--name "${printable(pattern)}" is no shell pattern`);
  }
}

function quoted(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

/** Space used on disk below each directory; an inode with several names is counted once. */
export async function runDu(
  volume: Volume,
  path: string,
  options: DuOptions,
  context: CommandContext,
): Promise<void> {
  const start = await volume.fs.inode(path, { followLinks: false });
  const progress = new Progress("counted", context);
  const totals: { visit: Visit; sectors: number }[] = [];
  const open: { visit: Visit; sectors: number }[] = [];
  const seen = new Set<number>();
  const close = (depth: number): void => {
    while (open.length > depth) {
      const done = open.pop()!;
      totals.push(done);
      const above = open[open.length - 1];
      if (above !== undefined) above.sectors += done.sectors;
    }
  };
  try {
    const onError = (_path: Uint8Array, error: unknown): void => report(error, context);
    for await (const visit of walkTree(volume.fileSystem, start, {
      onError,
      signal: context.signal,
    })) {
      close(visit.depth);
      const { sectorCount, sizeBytes } = visit.inode.attributes();
      const sectors = seen.has(visit.inode.ino) ? 0 : sectorCount;
      seen.add(visit.inode.ino);
      progress.add(1, sizeBytes);
      if (visit.inode.type === "directory" || visit.depth === 0) open.push({ visit, sectors });
      else open[open.length - 1]!.sectors += sectors;
    }
    close(0);
  } finally {
    progress.done();
  }
  const shown = options.summarize === true ? totals.slice(-1) : totals;
  const bytesOf = byteOfSector;
  if (options.json === true) {
    const list = shown.map(({ visit, sectors }) => {
      return { path: textOf(visit.path).text, bytes: bytesOf(sectors) };
    });
    printJson(context.stdout, list);
    return;
  }
  const rows = shown.map(({ visit, sectors }) => {
    return [formatSize(bytesOf(sectors)), printable(visit.path)];
  });
  await writeAll(context, table(rows, [0]));
}
