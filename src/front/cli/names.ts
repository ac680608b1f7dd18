/** `quire rm`, `mv`, `mkdir`, `ln`: the commands that change names in an image. */
import type { VfsInode } from "../../fs/vfs.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { lastNameOf } from "../last-name.ts";
import { parseMode } from "../tree/mode-text.ts";
import { pathOfNames } from "../tree/tree-entry.ts";
import { walkTree } from "../tree/walk.ts";
import { type Changes, refusal, type WriteOptions, withChanges } from "./changes.ts";
import { type CommandContext, UsageError } from "./command.ts";
import { octalMode, typeName } from "./format.ts";
import { printable } from "./output.ts";
import { inodeAt, isBelow } from "./put.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** Names that are tried for what is to replace something. */
const NAME_TRIES = 100;

/** As `umask` of most systems: what new files of a command without a mode do not get. */
export const UMASK = 0o022;

/** Options of `rm`. */
export interface RemoveOptions extends WriteOptions {
  readonly recursive?: boolean;
  readonly force?: boolean;
}

/** Options of `mkdir`. */
export interface MakeDirectoryOptions extends WriteOptions {
  readonly parents?: boolean;
  readonly mode?: string;
}

/** Options of `ln`. */
export interface LinkOptions extends WriteOptions {
  readonly symbolic?: boolean;
  readonly force?: boolean;
}

/** `quire rm IMAGE PATH...`. */
export async function runRemove(
  image: string,
  paths: readonly string[],
  options: RemoveOptions,
  context: CommandContext,
): Promise<void> {
  await withChanges(image, options, context, async (changes) => {
    for (const path of paths) await changes.attempt(() => remove(changes, path, options));
  });
}

async function remove(changes: Changes, path: string, options: RemoveOptions): Promise<void> {
  const { fs, fileSystem } = changes.volume;
  if (options.force === true && (await inodeAt(changes, path, false)) === undefined) return;
  const inode = await fs.inode(path, { followLinks: false });
  if (inode.type !== "directory") {
    await changes.step(`remove ${typeName(inode.type)} ${printable(path)}`, () => fs.unlink(path));
    return;
  }
  if (options.recursive !== true) {
    throw refusal("EISDIR", "rm", path, "a directory is removed with -r");
  }
  if (inode.ino === fileSystem.rootIno) throw refusal("EBUSY", "rm", path, "it is the root");
  await checkRemovable(changes, path);
  const visits: { readonly path: Uint8Array; readonly inode: VfsInode }[] = [];
  const { signal } = changes.context;
  for await (const visit of walkTree(fileSystem, inode, { signal })) {
    const below = visit.depth === 0 ? [] : [visit.path];
    const base = encoder.encode(path.replace(/\/+$/, ""));
    visits.push({ path: pathOfNames([base, ...below]), inode: visit.inode });
  }
  // What is in a directory comes behind it in the walk: the other way round it is empty in time.
  for (const visit of visits.reverse()) {
    const text = `remove ${typeName(visit.inode.type)} ${printable(visit.path)}`;
    const isDirectory = visit.inode.type === "directory";
    await changes.step(text, () => (isDirectory ? fs.rmdir(visit.path) : fs.unlink(visit.path)));
  }
}

/** Throws for what could be emptied, but not removed by this path. */
async function checkRemovable(changes: Changes, path: string): Promise<void> {
  const { kind, hasSlash, bare } = lastNameOf(encoder.encode(path));
  if (kind !== "name") throw refusal("EINVAL", "rm", path, "neither . nor .. can be removed");
  if (!hasSlash) return;
  const itself = await inodeAt(changes, decoder.decode(bare), false);
  if (itself?.type === "symlink") throw refusal("ENOTDIR", "rm", path, "it is a symlink");
}

/** `quire mv IMAGE SRC DEST`: into DEST if that is a directory, else DEST becomes the name. */
export async function runMove(
  image: string,
  source: string,
  destination: string,
  options: WriteOptions,
  context: CommandContext,
): Promise<void> {
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    const inode = await fs.inode(source, { followLinks: false });
    const target = await targetOf(changes, source, destination);
    const there = await inodeAt(changes, target, false);
    if (there !== undefined && there.ino === inode.ino) {
      throw refusal("EINVAL", "mv", source, "source and destination are the same file");
    }
    if (changes.isDryRun) await checkMove(changes, inode, target, there);
    const over = there === undefined ? "" : `, which replaces a ${typeName(there.type)}`;
    await changes.step(`move ${printable(source)} to ${printable(target)}${over}`, () =>
      fs.rename(source, target),
    );
  });
}

/** What the move itself would find out. */
async function checkMove(
  changes: Changes,
  inode: VfsInode,
  target: string,
  there: VfsInode | undefined,
): Promise<void> {
  const { fs, fileSystem } = changes.volume;
  const { parent, hasSlash } = lastNameOf(encoder.encode(target));
  const dir = await fs.inode(parent);
  if (dir.type !== "directory") throw refusal("ENOTDIR", "mv", target);
  const isDirectory = inode.type === "directory";
  if (hasSlash && !isDirectory && there === undefined) throw refusal("ENOTDIR", "mv", target);
  if (isDirectory && (await isBelow(fileSystem, dir, inode))) {
    throw refusal("EINVAL", "mv", target, "a directory cannot be moved into itself");
  }
  if (there !== undefined && there.type === "directory") {
    if (!isDirectory) throw refusal("EISDIR", "mv", target);
    if ((await fs.readdir(target)).length > 0) throw refusal("ENOTEMPTY", "mv", target);
  } else if (there !== undefined && isDirectory) throw refusal("ENOTDIR", "mv", target);
}

/** `destination`, or the name of `source` in it if it is a directory. */
async function targetOf(changes: Changes, source: string, destination: string): Promise<string> {
  const found = await inodeAt(changes, destination, true);
  if (found?.type !== "directory") return destination;
  const last = lastNameOf(encoder.encode(source));
  if (last.kind !== "name") throw refusal("EBUSY", "mv", source, "it has no name of its own");
  return `${destination.replace(/\/+$/, "")}/${decoder.decode(last.name)}`;
}

/** `quire mkdir IMAGE PATH...`. */
export async function runMakeDirectory(
  image: string,
  paths: readonly string[],
  options: MakeDirectoryOptions,
  context: CommandContext,
): Promise<void> {
  const change = options.mode === undefined ? undefined : parseMode(options.mode, UMASK);
  if (options.mode !== undefined && change === undefined) {
    throw new UsageError(`"${printable(options.mode)}" is no mode`);
  }
  const mode = change?.({ mode: 0o777, isDirectory: true }) ?? 0o777 & ~UMASK;
  await withChanges(image, options, context, async (changes) => {
    const made = new Set<string>();
    for (const path of paths) {
      await changes.attempt(() => makePath(changes, path, mode, options.parents === true, made));
    }
  });
}

async function makeDirectory(changes: Changes, path: string, mode: number): Promise<void> {
  const { fs } = changes.volume;
  await fs.mkdir(path);
  await fs.chmod(path, mode);
}

/** Makes `path`, and what is missing above it too if `withParents`, the outermost first. */
async function makePath(
  changes: Changes,
  path: string,
  mode: number,
  withParents: boolean,
  made: Set<string>,
): Promise<void> {
  const typeAt = async (part: string): Promise<string | undefined> =>
    made.has(withoutEnd(part)) ? "directory" : (await inodeAt(changes, part, true))?.type;
  const { parent } = lastNameOf(encoder.encode(path));
  if (!withParents && (await typeAt(decoder.decode(parent))) === undefined) {
    throw refusal("ENOENT", "mkdir", path);
  }
  for (const part of withParents ? pathsTo(path) : [path]) {
    const isLast = part === path;
    const type = await typeAt(part);
    if (type === "directory" && (withParents || !isLast)) continue;
    if (type !== undefined) throw refusal(isLast ? "EEXIST" : "ENOTDIR", "mkdir", part);
    // In a dry run what `..` leads to may be missing.
    if (withParents && lastNameOf(encoder.encode(part)).kind !== "name") continue;
    const bits = isLast ? mode : 0o777 & ~UMASK;
    await changes.step(`make directory ${printable(part)}, mode ${octalMode(bits)}`, () =>
      makeDirectory(changes, part, bits),
    );
    made.add(withoutEnd(part));
  }
}

/** `/a/b/c` to `/a`, `/a/b`, `/a/b/c`. */
function pathsTo(path: string): string[] {
  const ends = [...path.matchAll(/[^/]\/+(?=[^/])/g)].map(({ index }) => index + 1);
  return [...ends.map((end) => path.slice(0, end)), path];
}

function withoutEnd(path: string): string {
  return path.replace(/(.)\/+$/, "$1");
}

/** `quire ln IMAGE TARGET PATH`. */
export async function runLink(
  image: string,
  target: string,
  path: string,
  options: LinkOptions,
  context: CommandContext,
): Promise<void> {
  await withChanges(image, options, context, async (changes) => {
    const { fs } = changes.volume;
    const isSymbolic = options.symbolic === true;
    const place = await targetOf(changes, target, path);
    const there = await inodeAt(changes, place, false);
    if (there !== undefined) {
      if (options.force !== true || there.type === "directory") {
        throw refusal("EEXIST", "ln", place);
      }
      if (!isSymbolic && (await isLinked(changes, target, place, there))) return;
    }
    const made = (text: string, make: (path: string) => Promise<void>): Promise<void> =>
      makeName(changes, place, there, text, make);
    if (isSymbolic) {
      await made(`make symlink ${printable(place)} -> ${printable(target)}`, (path) =>
        fs.symlink(target, path),
      );
      return;
    }
    const inode = await fs.inode(target, { followLinks: false });
    if (inode.type === "directory") throw refusal("EPERM", "ln", target, "it is a directory");
    await made(`link ${printable(place)} to ${printable(target)}`, (path) => fs.link(target, path));
  });
}

/** The step that `text` tells of; the one that what is there goes is told of before. */
async function makeName(
  changes: Changes,
  place: string,
  there: VfsInode | undefined,
  text: string,
  make: (path: string) => Promise<void>,
): Promise<void> {
  if (!changes.isDryRun) await replaceName(changes, place, there !== undefined, make);
  if (there !== undefined) {
    await changes.note(`remove ${typeName(there.type)} ${printable(place)}`);
  }
  await changes.note(text);
}

/** True if `place` is another name of `target` already. Throws if it is the same name. */
async function isLinked(
  changes: Changes,
  target: string,
  place: string,
  there: VfsInode,
): Promise<boolean> {
  const { fs } = changes.volume;
  const inode = await fs.inode(target, { followLinks: false });
  if (inode.ino !== there.ino) return false;
  const [from, to] = [target, place].map((path) => lastNameOf(encoder.encode(path)));
  const isSame = (await fs.inode(from!.parent)).ino === (await fs.inode(to!.parent)).ino;
  if (isSame && equalBytes(from!.name, to!.name)) {
    throw refusal("EEXIST", "ln", place, "it is the same file");
  }
  return true;
}

/**
 * Calls `make` with `place`; where something is there already, with a name beside it, which then
 * takes its place, so that at every moment there is the old or the new.
 */
async function replaceName(
  changes: Changes,
  place: string,
  isThere: boolean,
  make: (path: string) => Promise<void>,
): Promise<void> {
  if (!isThere) {
    await make(place);
    return;
  }
  const { fs } = changes.volume;
  const base = place.slice(0, place.lastIndexOf("/") + 1);
  for (let number = 0; ; number++) {
    const path = `${base}.quire-ln-${number}`;
    try {
      await make(path);
    } catch (error) {
      const isTaken = error instanceof FsError && error.code === "EEXIST";
      if (isTaken && number < NAME_TRIES) continue;
      throw error;
    }
    try {
      await fs.rename(path, place);
    } catch (error) {
      await fs.unlink(path);
      throw error;
    }
    return;
  }
}
