/**
 * What forbids a change of a name, before anything is changed: in the order of Linux, so that of
 * two reasons the same one is told.
 *
 * Permissions of users are not asked here, but by the front that knows the user. After
 * `may_create`, `may_delete` of fs/namei.c and the checks of fs/ext4/namei.c.
 */
import { FsError } from "../../lib/errno.ts";
import type { ExtContext } from "./context.ts";
import { checkFound } from "./dir.ts";
import type { DirSlot } from "./dir-search.ts";
import { dirFindName } from "./dir-write.ts";
import type { ExtInode } from "./inode.ts";
import { APPEND_FL, EXT_ROOT_INO, IMMUTABLE_FL, PROJINHERIT_FL } from "./layout.ts";

const DOT = 0x2e;

function has(inode: ExtInode, flags: number): boolean {
  return (inode.flags & flags) !== 0;
}

/** True for `.` and `..`. */
export function isDots(name: Uint8Array): boolean {
  if (name.length === 0 || name.length > 2) return false;
  return name.every((byte) => byte === DOT);
}

/** Throws `ENOTDIR`, `ENOENT` for a directory that was removed, `EPERM` for an immutable one. */
export function checkDir(dir: ExtInode): void {
  if (dir.type !== "directory") throw new FsError("ENOTDIR");
  if (dir.linksCount === 0) throw new FsError("ENOENT", { detail: "the directory was removed" });
  if (has(dir, IMMUTABLE_FL)) throw new FsError("EPERM", { detail: "the directory is immutable" });
}

/** Throws `ENOKEY` where names cannot be made: they would have to be encrypted. */
export function checkKey(dir: ExtInode): void {
  if (!dir.isEncrypted) return;
  throw new FsError("ENOKEY", { detail: `directory ${dir.ino} is encrypted` });
}

/** Throws as `checkDir`, and `EEXIST` for a name that is there, as dots are. */
export function checkNew(ctx: ExtContext, dir: ExtInode, name: Uint8Array): void {
  checkDir(dir);
  if (isDots(name)) throw new FsError("EEXIST");
  if (name.length === 0) throw new FsError("ENOENT", { detail: "the name is empty" });
  checkKey(dir);
  if (dirFindName(ctx, dir, name) !== undefined) throw new FsError("EEXIST");
}

/**
 * The inode that the record of `slot` in `dir` leads to. Throws `EUCLEAN` for a number that no name
 * may lead to.
 */
export function inodeOfSlot(ctx: ExtContext, dir: ExtInode, slot: DirSlot): ExtInode {
  return ctx.inode(checkFound(ctx, dir, slot.walk.ino));
}

/** What is to lose its name, and where that stands until the directory changes. */
export interface Victim {
  readonly inode: ExtInode;
  readonly slot: DirSlot;
}

/** What `name` of `dir` leads to. Throws as `checkDir`, and `ENOENT`. */
export function findVictim(ctx: ExtContext, dir: ExtInode, name: Uint8Array): Victim {
  checkDir(dir);
  const slot = dirFindName(ctx, dir, name);
  if (slot === undefined) throw new FsError("ENOENT");
  return { inode: inodeOfSlot(ctx, dir, slot), slot };
}

/**
 * Throws unless `victim` may lose its name in `dir`: `EPERM` for what is immutable or append-only,
 * `ENOTDIR`, `EISDIR` if it is not what `isDirectory` says, `EBUSY` for the root.
 */
export function checkVictim(dir: ExtInode, victim: ExtInode, isDirectory: boolean): void {
  if (has(dir, APPEND_FL)) throw new FsError("EPERM", { detail: "the directory is append-only" });
  if (has(victim, APPEND_FL | IMMUTABLE_FL)) {
    throw new FsError("EPERM", { detail: "it is immutable or append-only" });
  }
  const isVictimDirectory = victim.type === "directory";
  if (isDirectory && !isVictimDirectory) throw new FsError("ENOTDIR");
  if (!isDirectory && isVictimDirectory) throw new FsError("EISDIR");
  if (victim.ino === EXT_ROOT_INO) throw new FsError("EBUSY");
}

/** Throws `EXDEV` if `dir` gives its project to what is made in it, and `inode` has another. */
export function checkProject(dir: ExtInode, inode: ExtInode): void {
  if (!has(dir, PROJINHERIT_FL) || dir.projectId === inode.projectId) return;
  throw new FsError("EXDEV", { detail: `project ${inode.projectId}, not ${dir.projectId}` });
}
