/**
 * Renaming: one operation, in which the new name always leads to the old inode or to the new one.
 *
 *     plain      the old name goes, and the new one is made or led elsewhere
 *     exchange   both names are led elsewhere
 *     a directory that comes under another one: its `..`, and the link counts of both
 *
 *  1. The caller holds the locks of both directories and has made sure that no directory comes
 *     under itself; what can be seen here is refused here.
 *  2. Two names of one inode are renamed without any effect, as POSIX wants it.
 *  3. Also without a journal a power cut leaves the old name or the new one, and the new name with
 *     an inode if it had one.
 *
 * After fs/ext4/namei.c of Linux (`ext4_rename`, `ext4_cross_rename`) and `vfs_rename`.
 */
import { FsError } from "../../lib/errno.ts";
import { RENAME_EXCHANGE, RENAME_NOREPLACE } from "../vfs-write.ts";
import type { DirSlot } from "./dir-search.ts";
import { dirAdd, dirFindName, dirIsEmpty, dirRemove, dirReplace } from "./dir-write.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { inodeBlockOf } from "./inode-write.ts";
import { addDirLink, checkDirLinks, dropDirLink } from "./link-count.ts";
import {
  checkDir,
  checkKey,
  checkProject,
  checkVictim,
  findVictim,
  inodeOfSlot,
  isDots,
} from "./name-checks.ts";
import { dropDir, dropLink, touchDir, touchInode } from "./namespace.ts";
import type { ExtWriter } from "./writer.ts";

const DOT_DOT = Uint8Array.of(0x2e, 0x2e);

/** One of the two names. */
export interface NameIn {
  readonly dir: ExtInode;
  readonly name: Uint8Array;
}

/** What is renamed, after the first checks. */
interface Renaming {
  readonly from: NameIn;
  readonly to: NameIn;
  readonly source: ExtInode;
  /** Where the old name stands, until something is changed. */
  readonly slot: DirSlot;
  readonly isAcross: boolean;
}

/**
 * Moves the name `from` to `to` (`renameat2`). Returns the inode that has lost its last name by
 * that, if there is one.
 *
 * @throws {FsError} `ENOENT`, `EEXIST` with `RENAME_NOREPLACE`, `ENOTEMPTY`, `EISDIR`, `ENOTDIR`;
 *   `EINVAL` for other flags, or a directory that would come under itself; `EBUSY` for dots and
 *   the root; `EPERM`, `EXDEV`, `EMLINK`, `ENOKEY`, `ENOSPC` as the parts
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function extRename(
  ctx: ExtWriter,
  handle: Handle,
  from: NameIn,
  to: NameIn,
  flags: number,
): ExtInode | undefined {
  const isExchange = flags === RENAME_EXCHANGE;
  if (!isExchange && flags !== 0 && flags !== RENAME_NOREPLACE) throw new FsError("EINVAL");
  checkDir(from.dir);
  checkDir(to.dir);
  if (isDots(from.name) || isDots(to.name)) {
    throw new FsError(flags === RENAME_NOREPLACE && isDots(to.name) ? "EEXIST" : "EBUSY");
  }
  const { inode: source, slot } = findVictim(ctx, from.dir, from.name);
  const found = dirFindName(ctx, to.dir, to.name);
  if (found !== undefined && flags === RENAME_NOREPLACE) throw new FsError("EEXIST");
  if (found === undefined && isExchange) throw new FsError("ENOENT");
  if (source.ino === to.dir.ino) throw new FsError("EINVAL");
  const target = found === undefined ? undefined : inodeOfSlot(ctx, to.dir, found);
  if (target?.ino === from.dir.ino) throw new FsError(isExchange ? "EINVAL" : "ENOTEMPTY");
  if (target === source) return undefined;
  const isAcross = from.dir !== to.dir;
  const renaming: Renaming = { from, to, source, slot, isAcross };
  checkVictim(from.dir, source, source.type === "directory");
  checkKey(from.dir);
  checkKey(to.dir);
  if (isExchange) return exchange(ctx, handle, renaming, target!);
  if (target !== undefined) checkVictim(to.dir, target, source.type === "directory");
  checkProject(to.dir, source);
  return move(ctx, handle, renaming, target);
}

function move(
  ctx: ExtWriter,
  handle: Handle,
  { from, to, source, slot, isAcross }: Renaming,
  target: ExtInode | undefined,
): ExtInode | undefined {
  const isDirectory = source.type === "directory";
  if (isDirectory) {
    if (target !== undefined && !dirIsEmpty(ctx, target)) throw new FsError("ENOTEMPTY");
    if (target === undefined && isAcross) checkDirLinks(ctx, to.dir);
  }
  if (target !== undefined) handle.follow(source.syncTid); // The name never leads to nothing.
  const gone = handle.changedBy(() => dirRemove(ctx, handle, from.dir, from.name, slot));
  const made = handle.changedBy(() => {
    if (target === undefined) {
      dirAdd(ctx, handle, to.dir, to.name, source.ino, source.type, true);
    } else dirReplace(ctx, handle, to.dir, to.name, source.ino, source.type);
  });
  orderNames(ctx, handle, { from, to, made, gone, target });
  touchInode(ctx, handle, source);
  touchDir(ctx, handle, from.dir);
  if (isAcross) touchDir(ctx, handle, to.dir);
  if (isDirectory) {
    if (isAcross) dirReplace(ctx, handle, source, DOT_DOT, to.dir.ino, "directory");
    dropDirLink(from.dir);
    if (target === undefined) addDirLink(ctx, to.dir);
    else dropDir(ctx, handle, target);
  } else if (target !== undefined) dropLink(ctx, handle, target, false);
  return target?.linksCount === 0 ? target : undefined;
}

/** What a move has changed. */
interface Moved {
  readonly from: NameIn;
  readonly to: NameIn;
  /** Blocks with the new name, and blocks that have lost the old one. */
  readonly made: Set<number>;
  readonly gone: Set<number>;
  readonly target: ExtInode | undefined;
}

/** Invariant 3. */
function orderNames(ctx: ExtWriter, handle: Handle, moved: Moved): void {
  const { from, to, made, gone, target } = moved;
  if (target !== undefined) handle.order(made, [inodeBlockOf(ctx, target.ino)]);
  if (target === undefined || to.dir.isInline) made.add(inodeBlockOf(ctx, to.dir.ino));
  if (from.dir.isInline) gone.add(inodeBlockOf(ctx, from.dir.ino));
  handle.order(made, gone);
}

function exchange(
  ctx: ExtWriter,
  handle: Handle,
  { from, to, source, isAcross }: Renaming,
  target: ExtInode,
): undefined {
  const isSourceDirectory = source.type === "directory";
  const isTargetDirectory = target.type === "directory";
  checkVictim(to.dir, target, isTargetDirectory);
  checkProject(to.dir, source);
  checkProject(from.dir, target);
  if (isAcross && isSourceDirectory && !isTargetDirectory) checkDirLinks(ctx, to.dir);
  if (isAcross && isTargetDirectory && !isSourceDirectory) checkDirLinks(ctx, from.dir);
  dirReplace(ctx, handle, to.dir, to.name, source.ino, source.type);
  dirReplace(ctx, handle, from.dir, from.name, target.ino, target.type);
  touchInode(ctx, handle, source);
  touchInode(ctx, handle, target);
  touchDir(ctx, handle, from.dir);
  if (!isAcross) return;
  touchDir(ctx, handle, to.dir);
  if (isSourceDirectory) dirReplace(ctx, handle, source, DOT_DOT, to.dir.ino, "directory");
  if (isTargetDirectory) dirReplace(ctx, handle, target, DOT_DOT, from.dir.ino, "directory");
  if (isSourceDirectory === isTargetDirectory) return;
  dropDirLink(isSourceDirectory ? from.dir : to.dir);
  addDirLink(ctx, isSourceDirectory ? to.dir : from.dir);
}
