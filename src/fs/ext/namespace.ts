/**
 * Making and taking away names: each function is one whole operation on (ctx, handle), to be run by
 * `Transactions.run`, synchronous and restartable.
 *
 *     extCreate    inode, its content if it is no file, its lists, then the name
 *     extLink      one more name; a file without a name gets its first
 *     extUnlink    the name goes; without names the inode is an orphan, to be evicted later
 *
 *  1. The caller holds the locks of the directories, and of inodes that lose a name.
 *  2. What is checked is what Linux checks below the permissions, in its order; nothing is changed
 *     before the last check.
 *  3. An inode that loses its last name is returned: if nobody holds it open, and it is not deleted
 *     yet, the caller evicts it (`evict.ts`).
 *
 * Renaming is `rename.ts`. After fs/ext4/namei.c of Linux (`ext4_create`, `ext4_mkdir`,
 * `ext4_symlink`, `ext4_mknod`, `ext4_link`, `ext4_unlink`, `ext4_rmdir`, `ext4_tmpfile`).
 */
import { le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import type { NewInode } from "../vfs-write.ts";
import { aclForNew, initAcl } from "./acl-write.ts";
import { dirAdd, dirInit, dirIsEmpty, dirRemove } from "./dir-write.ts";
import { evictAtOnce } from "./evict.ts";
import type { Handle } from "./handle.ts";
import { type ExtInode, encodeDevice, fileTypeOfMode } from "./inode.ts";
import { allocInode } from "./inode-alloc.ts";
import { APPEND_FL, IMMUTABLE_FL, INODE } from "./layout.ts";
import { addDirLink, checkDirLinks, dropDirLink, LINK_MAX } from "./link-count.ts";
import {
  checkDir,
  checkKey,
  checkNew,
  checkProject,
  checkVictim,
  findVictim,
  isDots,
} from "./name-checks.ts";
import { orphanAdd, orphanDel } from "./orphan-write.ts";
import { checkTarget, writeSymlink } from "./symlink-write.ts";
import type { ExtWriter } from "./writer.ts";

/** Inodes that were made without a name and may get one (`I_LINKABLE`). */
const linkable = new WeakSet<ExtInode>();

/** `inode`, which is being edited, has changed once more (`inode_inc_iversion`). */
function countChange(inode: ExtInode): void {
  const { raw } = inode;
  const low = (le32(raw, INODE.i_version) + 1) >>> 0;
  putLe32(raw, INODE.i_version, low);
  if (low !== 0 || !inode.hasField(INODE.i_version_hi)) return;
  putLe32(raw, INODE.i_version_hi, le32(raw, INODE.i_version_hi) + 1);
}

/** Notes that the names of `dir` have changed. */
export function touchDir(ctx: ExtWriter, handle: Handle, dir: ExtInode): void {
  ctx.editInode(handle, dir);
  const now = ctx.now();
  dir.setTime("mtime", now);
  dir.setTime("ctime", now);
  countChange(dir);
}

/** Notes that `inode` itself, but not its content, has changed. */
export function touchInode(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  ctx.editInode(handle, inode);
  inode.setTime("ctime", ctx.now());
}

/**
 * Makes `name` in `dir`, and the inode that it leads to: a file, directory, symlink, device, FIFO
 * or socket, as `what.mode` says.
 *
 * @throws {FsError} `EEXIST`; `ENOENT` for a removed directory or an empty name or target;
 *   `ENAMETOOLONG`; `EMLINK`; `ENOSPC`; `EPERM` in an immutable directory; `ENOKEY` in an encrypted
 *   one; `EINVAL` for what is no mode, or a NUL; `EUCLEAN`/`EBADMSG` for damage
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function extCreate(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  name: Uint8Array,
  what: NewInode,
): ExtInode {
  checkNew(ctx, dir, name);
  const inode = makeInode(ctx, handle, dir, what);
  dirAdd(ctx, handle, dir, name, inode.ino, inode.type, true);
  touchDir(ctx, handle, dir);
  if (inode.type === "directory") addDirLink(ctx, dir);
  return inode;
}

/** Makes an inode with all that it begins with, but no name. */
function makeInode(ctx: ExtWriter, handle: Handle, dir: ExtInode, what: NewInode): ExtInode {
  const type = fileTypeOfMode(what.mode);
  if (type === "unknown") throw new FsError("EINVAL", { detail: `st_mode is ${what.mode}` });
  if (type === "directory") checkDirLinks(ctx, dir);
  const target = what.target ?? new Uint8Array(0);
  if (type === "symlink") checkTarget(ctx, target);
  const acl = aclForNew(ctx, dir, what.mode, what.umask);
  const inode = allocInode(ctx, handle, dir, { mode: acl.mode, uid: what.uid, gid: what.gid });
  if (type === "directory") {
    dirInit(ctx, handle, inode, dir.ino);
    inode.linksCount = 2;
  } else if (type === "symlink") writeSymlink(ctx, handle, inode, target);
  else if (type === "character" || type === "block") {
    encodeDevice(inode.iBlock, { major: what.rdevMajor ?? 0, minor: what.rdevMinor ?? 0 });
  }
  initAcl(ctx, handle, inode, acl);
  return inode;
}

/**
 * Makes an inode without a name (`O_TMPFILE`): an orphan, which `extLink` may give a name. Throws
 * as `extCreate`.
 */
export function extTmpfile(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  what: NewInode,
): ExtInode {
  checkDir(dir);
  checkKey(dir);
  const inode = makeInode(ctx, handle, dir, what);
  inode.linksCount = 0;
  orphanAdd(ctx, handle, inode);
  linkable.add(inode);
  return inode;
}

/**
 * Gives `inode` the name `name` in `dir`.
 *
 * @throws {FsError} `EEXIST`; `EPERM` for a directory, for what is immutable or append-only;
 *   `ENOENT` for an inode that has lost its last name; `EMLINK`; `EXDEV` for one of another project
 *   than `dir` gives; as `extCreate`
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function extLink(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  dir: ExtInode,
  name: Uint8Array,
): void {
  checkNew(ctx, dir, name);
  if ((inode.flags & (APPEND_FL | IMMUTABLE_FL)) !== 0) throw new FsError("EPERM");
  if (inode.type === "directory") throw new FsError("EPERM");
  const isFirst = inode.linksCount === 0;
  if (isFirst && !linkable.has(inode)) throw new FsError("ENOENT", { detail: "it was removed" });
  if (inode.linksCount >= LINK_MAX) throw new FsError("EMLINK");
  checkProject(dir, inode);
  dirAdd(ctx, handle, dir, name, inode.ino, inode.type, true);
  touchDir(ctx, handle, dir);
  touchInode(ctx, handle, inode);
  inode.linksCount++;
  if (!isFirst) return;
  orphanDel(ctx, handle, inode);
  linkable.delete(inode);
  handle.undo(() => linkable.add(inode));
}

/**
 * Takes `name` out of `dir`, and returns the inode that it led to. With `mayEvict` an inode that
 * has lost its last name and is in nobody's hands is deleted at once, if that is little work.
 *
 * @throws {FsError} `ENOENT`; `EISDIR`; `EPERM` for what is immutable or append-only; `EUCLEAN`,
 *   `EBADMSG` for damage
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function extUnlink(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  name: Uint8Array,
  mayEvict = false,
): ExtInode {
  if (isDots(name)) throw new FsError("EISDIR");
  const { inode, slot } = findVictim(ctx, dir, name);
  checkVictim(dir, inode, false);
  dirRemove(ctx, handle, dir, name, slot);
  touchDir(ctx, handle, dir);
  dropLink(ctx, handle, inode, mayEvict);
  return inode;
}

/** `inode`, no directory, has a name less; without any it is an orphan, or deleted as it may be. */
export function dropLink(ctx: ExtWriter, handle: Handle, inode: ExtInode, mayEvict: boolean): void {
  touchInode(ctx, handle, inode);
  if (inode.linksCount === 0) ctx.warn(`inode ${inode.ino} had a name, but no link`);
  else inode.linksCount--;
  if (inode.linksCount > 0) return;
  if (!mayEvict || !evictAtOnce(ctx, handle, inode)) orphanAdd(ctx, handle, inode);
}

/** The directory `dir`, which is empty, has lost its name. */
export function dropDir(ctx: ExtWriter, handle: Handle, dir: ExtInode): void {
  touchInode(ctx, handle, dir);
  dir.linksCount = 0;
  dir.size = 0; // In memory only: whoever reads it on finds nothing. Its blocks are still there.
  orphanAdd(ctx, handle, dir);
}

/**
 * Takes the name `name` of an empty directory out of `dir`, and returns what it led to.
 *
 * @throws {FsError} `ENOENT`; `ENOTDIR`; `ENOTEMPTY`; `EINVAL` for `.`; as `extUnlink`
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function extRmdir(
  ctx: ExtWriter,
  handle: Handle,
  dir: ExtInode,
  name: Uint8Array,
): ExtInode {
  if (isDots(name)) throw new FsError(name.length === 1 ? "EINVAL" : "ENOTEMPTY");
  const { inode: victim, slot } = findVictim(ctx, dir, name);
  checkVictim(dir, victim, true);
  if (!dirIsEmpty(ctx, victim)) throw new FsError("ENOTEMPTY");
  dirRemove(ctx, handle, dir, name, slot);
  touchDir(ctx, handle, dir);
  dropDirLink(dir);
  dropDir(ctx, handle, victim);
  return victim;
}
