/**
 * `quire put` and `quire cp`: files and trees into an image, from this machine or from the image
 * itself, as `cp -a` copies.
 */
import { lstatSync } from "node:fs";
import type { FileSystem, VfsInode } from "../../fs/vfs.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { FsError, hasErrnoCode } from "../../lib/errno.ts";
import { lastNameOf } from "../last-name.ts";
import type { TreeEntry, TreeSource } from "../tree/tree-entry.ts";
import { withOwners } from "../tree/tree-owners.ts";
import {
  type TreeAction,
  type TreePlace,
  TreeWriter,
  type TreeWriterOptions,
} from "../tree/tree-writer.ts";
import { volumeEntries } from "../tree/volume-source.ts";
import { type Changes, refusal, type WriteOptions, withChanges } from "./changes.ts";
import { type CommandContext, report, UsageError } from "./command.ts";
import { typeName } from "./format.ts";
import { hostEntries } from "./host-source.ts";
import { Progress, printable } from "./output.ts";
import { type OwnerOptions, ownerChoice } from "./owner-option.ts";

/** Options of `put`. */
export interface PutOptions extends WriteOptions, OwnerOptions {
  readonly xattrs?: boolean;
}

/** Options of `cp`. */
export interface CopyOptions extends WriteOptions {
  readonly recursive?: boolean;
}

const encoder = new TextEncoder();
const SLASH = 0x2f;

/** What is done with an entry, in words. */
export function actionText(path: Uint8Array, entry: TreeEntry, action: TreeAction): string {
  const shown = `/${printable(path)}`;
  if (action === "linked") return `link ${shown}`;
  if (action === "kept") return `keep directory ${shown}`;
  const what = action === "made" ? "make" : "replace";
  const size = entry.type === "file" ? `, ${entry.sizeBytes} bytes` : "";
  return `${what} ${typeName(entry.type)} ${shown}${size}`;
}

/**
 * Where a source goes: into `destination` if that is a directory, under the name `name`; else
 * `destination` itself becomes it, with a slash at its end only if the source is a directory.
 */
export async function placeOf(
  changes: Changes,
  destination: string,
  name: Uint8Array | undefined,
  mustBeDirectory: boolean,
  isDirectory = true,
): Promise<TreePlace> {
  const { fs } = changes.volume;
  const bytes = encoder.encode(destination);
  const found = await inodeAt(changes, destination, true);
  if (found?.type === "directory") return { dir: found, dirPath: bytes, name };
  if (mustBeDirectory && found !== undefined) throw refusal("ENOTDIR", "put", destination);
  const last = lastNameOf(bytes);
  if (mustBeDirectory || last.kind !== "name") throw refusal("ENOENT", "put", destination);
  const parent = new TextDecoder().decode(last.parent);
  const dir = await fs.inode(parent);
  if (dir.type !== "directory") throw refusal("ENOTDIR", "put", parent);
  if (last.hasSlash && !isDirectory) throw refusal("ENOTDIR", "put", destination);
  return { dir, dirPath: last.parent, name: last.name };
}

/** The inode at `path`, undefined if there is none. */
export async function inodeAt(
  changes: Changes,
  path: string,
  followLinks: boolean,
): Promise<VfsInode | undefined> {
  try {
    return await changes.volume.fs.inode(path, { followLinks, signal: changes.context.signal });
  } catch (error) {
    if (error instanceof FsError && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Writes the entries of `source` to `place`, as a part of `changes`. */
export async function writeTree(
  changes: Changes,
  source: TreeSource,
  place: TreePlace,
  progress: Progress,
  options: Pick<TreeWriterOptions, "syncBytes"> = {},
): Promise<void> {
  const { context } = changes;
  const texts: (() => string)[] = [];
  const writer = new TreeWriter(changes.volume.fileSystem, place, {
    ...options,
    signal: context.signal,
    isPlan: changes.isDryRun,
    onEntry: (path, entry, action) => texts.push(() => actionText(path, entry, action)),
    onBytes: (bytes) => progress.add(0, bytes),
    onSkipped: (entry, name, error) => {
      const path = printable(entry.path);
      const why = error instanceof Error ? error.message : String(error);
      report(new Error(`left out the attribute ${name} of ${path}: ${why}`), context);
    },
  });
  let failed: Uint8Array | undefined;
  try {
    for await (const entry of source) {
      if (failed !== undefined && liesBelow(entry.path, failed)) continue;
      const { failedCount } = changes;
      await changes.attempt(() => writer.add(entry));
      // Told once: what is in a directory that cannot be there cannot be there either.
      const isFailed = changes.failedCount > failedCount && entry.type === "directory";
      failed = isFailed ? entry.path : undefined;
      for (const text of texts.splice(0)) await changes.note(text);
      progress.add(1, 0);
    }
  } catch (error) {
    const isFull = hasErrnoCode(error) && error.code === "ENOSPC";
    if (isFull && !changes.isDryRun) await finishFull(writer);
    throw error;
  }
  if (!changes.isDryRun) await writer.finish();
}

/** Where the rest had no room, directories that are there get their attributes all the same. */
async function finishFull(writer: TreeWriter): Promise<void> {
  try {
    await writer.finish();
  } catch (error) {
    if (!hasErrnoCode(error)) throw error;
  }
}

function liesBelow(path: Uint8Array, directory: Uint8Array): boolean {
  const { length } = directory;
  if (length === 0) return path.length > 0;
  return path[length] === SLASH && equalBytes(path.subarray(0, length), directory);
}

/**
 * The last name of a path of this machine, as it is written; undefined for `/`, `.` and `..`, whose
 * content goes into DEST itself, as cp has it.
 */
function hostNameOf(source: string): Uint8Array | undefined {
  const last = lastNameOf(encoder.encode(source));
  return last.kind === "name" ? last.name : undefined;
}

/** False for what is no directory; what is missing is told of later. */
function isHostDirectory(source: string): boolean {
  return lstatSync(source, { throwIfNoEntry: false })?.isDirectory() ?? true;
}

/** `quire put IMAGE SRC... DEST`. */
export async function runPut(
  image: string,
  paths: readonly string[],
  options: PutOptions,
  context: CommandContext,
): Promise<void> {
  const sources = paths.slice(0, -1);
  const destination = paths.at(-1)!;
  if (sources.length === 0) throw new UsageError("put needs SRC and DEST");
  const progress = new Progress("copied", context);
  try {
    await withChanges(image, options, context, async (changes) => {
      const links = new Map<string, Uint8Array>();
      for (const source of sources) {
        await changes.attempt(async () => {
          const several = sources.length > 1 || destination.endsWith("/.");
          const isDirectory = isHostDirectory(source);
          const name = hostNameOf(source);
          const place = await placeOf(changes, destination, name, several, isDirectory);
          const entries = hostEntries(source, {
            signal: context.signal,
            xattrs: options.xattrs,
            rootPath: place.name,
            links,
            onError: (_path, error) => changes.failed(error),
            except: [image],
            onExcept: (path) => sayItself(source, path, context),
          });
          const owned = withOwners(entries, ownerChoice(options));
          await writeTree(changes, owned, { ...place, name: undefined }, progress);
        });
      }
      changes.tell("files", progress.files);
      changes.tell("bytes", progress.bytes);
    });
  } finally {
    progress.done();
  }
}

/** Says that the image is not copied into itself; what else there is goes on. */
export function sayItself(source: string, path: Uint8Array, context: CommandContext): void {
  if (path.length === 0) throw refusal("EINVAL", "read", source, "it is the image itself");
  const at = `${printable(source.replace(/\/+$/, ""))}/${printable(path)}`;
  context.stderr.write(`quire: warning: ${at} is the image itself: left out\n`);
}

/** `quire cp IMAGE SRC DEST`: within the image, with owners, times and attributes. */
export async function runCopy(
  image: string,
  source: string,
  destination: string,
  options: CopyOptions,
  context: CommandContext,
): Promise<void> {
  const progress = new Progress("copied", context);
  try {
    await withChanges(image, options, context, async (changes) => {
      const { fs, fileSystem } = changes.volume;
      const start = await fs.inode(source, { followLinks: false });
      if (start.type === "directory" && options.recursive !== true) {
        throw refusal("EISDIR", "cp", source, "a directory is copied with -r");
      }
      const last = lastNameOf(encoder.encode(source));
      const name = last.kind === "name" ? last.name : undefined;
      const place = await placeOf(changes, destination, name, false, start.type === "directory");
      await checkApart(changes, start, place);
      // All is looked up before the copy is there to be met.
      const entries = volumeEntries(fileSystem, start, {
        signal: context.signal,
        onError: (_path, error) => changes.failed(error),
      });
      await writeTree(changes, entries, place, progress);
      changes.tell("files", progress.files);
      changes.tell("bytes", progress.bytes);
    });
  } finally {
    progress.done();
  }
}

/** Throws `EINVAL` if the copy would be put in place of what is copied, or into it. */
async function checkApart(changes: Changes, start: VfsInode, place: TreePlace): Promise<void> {
  const { fileSystem } = changes.volume;
  const there =
    place.name === undefined ? place.dir.ino : await fileSystem.lookup(place.dir, place.name);
  if (there === start.ino) {
    throw new FsError("EINVAL", { syscall: "cp", detail: "source and destination are the same" });
  }
  if (await isBelow(fileSystem, place.dir, start)) {
    const detail = "a directory cannot be copied into itself";
    throw new FsError("EINVAL", { syscall: "cp", detail });
  }
}

/** True if `dir` is `above`, or lies below it. */
export async function isBelow(
  fileSystem: FileSystem,
  dir: VfsInode,
  above: VfsInode,
): Promise<boolean> {
  const parent = encoder.encode("..");
  for (let at = dir; ; ) {
    if (at.ino === above.ino) return true;
    const ino = at.ino === fileSystem.rootIno ? at.ino : await fileSystem.lookup(at, parent);
    if (ino === at.ino || ino === 0) return false;
    at = await fileSystem.inode(ino);
  }
}
