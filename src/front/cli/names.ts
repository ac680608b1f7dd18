/** `quire rm`, `mv`, `mkdir`, `ln`: the commands that change names in an image. */
import type { VfsInode } from "../../fs/vfs.ts";
import { lastNameOf } from "../last-name.ts";
import { parseMode } from "../tree/mode-text.ts";
import { pathOfNames } from "../tree/tree-entry.ts";
import { walkTree } from "../tree/walk.ts";
import { type Changes, refusal, type WriteOptions, withChanges } from "./changes.ts";
import { type CommandContext, UsageError } from "./command.ts";
import { octalMode, typeName } from "./format.ts";
import { printable } from "./output.ts";
import { inodeAt } from "./put.ts";

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
  const visits: { readonly path: Uint8Array; readonly inode: VfsInode }[] = [];
  const { signal } = changes.context;
  for await (const visit of walkTree(fileSystem, inode, { signal })) {
    const below = visit.depth === 0 ? [] : [visit.path];
    const base = new TextEncoder().encode(path.replace(/\/+$/, ""));
    visits.push({ path: pathOfNames([base, ...below]), inode: visit.inode });
  }
  // What is in a directory comes behind it in the walk: the other way round it is empty in time.
  for (const visit of visits.reverse()) {
    const text = `remove ${typeName(visit.inode.type)} ${printable(visit.path)}`;
    const isDirectory = visit.inode.type === "directory";
    await changes.step(text, () => (isDirectory ? fs.rmdir(visit.path) : fs.unlink(visit.path)));
  }
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
  const { fs } = changes.volume;
  const parent = lastNameOf(new TextEncoder().encode(target)).parent;
  const dir = await fs.inode(parent);
  if (dir.type !== "directory") throw refusal("ENOTDIR", "mv", target);
  const isDirectory = inode.type === "directory";
  if (there !== undefined && there.type === "directory") {
    if (!isDirectory) throw refusal("EISDIR", "mv", target);
    if ((await fs.readdir(target)).length > 0) throw refusal("ENOTEMPTY", "mv", target);
  } else if (there !== undefined && isDirectory) throw refusal("ENOTDIR", "mv", target);
}

/** `destination`, or the name of `source` in it if it is a directory. */
async function targetOf(changes: Changes, source: string, destination: string): Promise<string> {
  const found = await inodeAt(changes, destination, true);
  if (found?.type !== "directory") return destination;
  const last = lastNameOf(new TextEncoder().encode(source));
  if (last.kind !== "name") throw refusal("EBUSY", "mv", source, "it has no name of its own");
  return `${destination.replace(/\/+$/, "")}/${new TextDecoder().decode(last.name)}`;
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
      await changes.attempt(async () => {
        for (const part of await missingOf(changes, path, options.parents === true, made)) {
          const bits = part === path ? mode : 0o777 & ~UMASK;
          made.add(part);
          await changes.step(`make directory ${printable(part)}, mode ${octalMode(bits)}`, () =>
            makeDirectory(changes, part, bits),
          );
        }
      });
    }
  });
}

async function makeDirectory(changes: Changes, path: string, mode: number): Promise<void> {
  const { fs } = changes.volume;
  await fs.mkdir(path);
  await fs.chmod(path, mode);
}

/** The directories to make for `path`, the outermost first. */
async function missingOf(
  changes: Changes,
  path: string,
  withParents: boolean,
  made: ReadonlySet<string>,
): Promise<string[]> {
  const missing: string[] = [];
  for (let part = path; ; ) {
    const found = made.has(part) ? "made" : await inodeAt(changes, part, true);
    if (found === "made" || found?.type === "directory") {
      if (part === path && !withParents) throw refusal("EEXIST", "mkdir", path);
      return missing.reverse();
    }
    if (found !== undefined) {
      throw refusal(part === path ? "EEXIST" : "ENOTDIR", "mkdir", part);
    }
    if (part !== path && !withParents) throw refusal("ENOENT", "mkdir", path);
    missing.push(part);
    const { parent } = lastNameOf(new TextEncoder().encode(part));
    part = new TextDecoder().decode(parent).replace(/(.)\/+$/, "$1");
  }
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
      const isSelf = !isSymbolic && there === (await inodeAt(changes, target, false));
      if (options.force !== true || isSelf || there.type === "directory") {
        throw refusal("EEXIST", "ln", place);
      }
      await changes.step(`remove ${typeName(there.type)} ${printable(place)}`, () =>
        fs.unlink(place),
      );
    }
    if (isSymbolic) {
      await changes.step(`make symlink ${printable(place)} -> ${printable(target)}`, () =>
        fs.symlink(target, place),
      );
      return;
    }
    const inode = await fs.inode(target, { followLinks: false });
    if (inode.type === "directory") throw refusal("EPERM", "ln", target, "it is a directory");
    await changes.step(`link ${printable(place)} to ${printable(target)}`, () =>
      fs.link(target, place),
    );
  });
}
