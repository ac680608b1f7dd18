/**
 * Changing what an inode says about itself: mode, owner, times, flags, project (`ext4_setattr`,
 * `ext4_ioctl_setflags`, `ext4_ioctl_setproject`). One operation on (ctx, handle).
 */
import { FsError } from "../../lib/errno.ts";
import type { AttributeChange } from "../vfs-write.ts";
import { chmodAcl } from "./acl-write.ts";
import { RO_COMPAT_PROJECT } from "./features.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { APPEND_FL, IMMUTABLE_FL, JOURNAL_DATA_FL } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";

const PERMISSION_BITS = 0o7777;
/**
 * Flags that users set and clear (`EXT4_FL_USER_MODIFIABLE`), without those that would change how
 * the content is stored.
 */
const FLAGS_USER_MODIFIABLE = 0x2003_c0ff;

/**
 * Applies `change`, and sets the change time. A change by which the data of `inode` comes to go
 * through the journal, or ceases to, is made amid `whileSwitching`.
 *
 * @throws {FsError} `EPERM` for what an immutable or append-only inode forbids, `EOPNOTSUPP` for
 *   flags that cannot be set here and a project where there are none
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function changeAttributes(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  change: AttributeChange,
): void {
  const { mode, uid, gid, atime, mtime, flags, projectId } = change;
  const isFixed = (inode.flags & (IMMUTABLE_FL | APPEND_FL)) !== 0;
  if (isFixed && (flags === undefined || hasMoreThanFlags(change))) throw new FsError("EPERM");
  ctx.editInode(handle, inode);
  if (uid !== undefined) inode.uid = uid;
  if (gid !== undefined) inode.gid = gid;
  if (atime !== undefined) inode.setTime("atime", atime);
  if (mtime !== undefined) inode.setTime("mtime", mtime);
  if (flags !== undefined) setFlags(ctx, inode, flags);
  if (projectId !== undefined) setProject(ctx, inode, projectId);
  inode.setTime("ctime", ctx.now());
  if (mode !== undefined) {
    inode.mode = (inode.mode & ~PERMISSION_BITS) | (mode & PERMISSION_BITS);
    chmodAcl(ctx, handle, inode);
  }
}

function hasMoreThanFlags({ mode, uid, gid, atime, mtime }: AttributeChange): boolean {
  return [mode, uid, gid, atime, mtime].some((field) => field !== undefined);
}

/** Sets the flags that users may set; others must be as they are. */
function setFlags(ctx: ExtWriter, inode: ExtInode, flags: number): void {
  const changed = (inode.attributes().flags ^ flags) >>> 0;
  // Data goes through the journal where there is one.
  const absent = ctx.dataMode === undefined ? changed & flags & JOURNAL_DATA_FL : 0;
  const refused = ((changed & ~FLAGS_USER_MODIFIABLE) | absent) >>> 0;
  if (refused !== 0) {
    const detail = `flags ${refused.toString(16)} cannot be changed`;
    throw new FsError("EOPNOTSUPP", { detail });
  }
  inode.flags = (inode.flags ^ changed) >>> 0;
}

function setProject(ctx: ExtWriter, inode: ExtInode, projectId: number): void {
  if (projectId === inode.projectId) return;
  if (!ctx.sb.hasRoCompat(RO_COMPAT_PROJECT)) {
    throw new FsError("EOPNOTSUPP", { detail: "the image keeps no project ids" });
  }
  inode.projectId = projectId;
}
