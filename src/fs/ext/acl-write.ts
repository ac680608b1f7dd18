/**
 * Access control lists of an inode: set by users, given to new inodes, and following chmod.
 *
 *     access list set       mode follows it; a list that says no more than a mode is not stored
 *     default list set      of a directory only; for the inodes to be made in it
 *     chmod                 the stored access list follows the mode
 *
 * What the lists mean is `acl-rules.ts`, their forms `acl.ts`. After fs/ext4/acl.c of Linux
 * (`ext4_set_acl`, `ext4_init_acl`) and `posix_acl_chmod`.
 */
import { FsError } from "../../lib/errno.ts";
import { type AclEntry, aclFromDisk, aclFromUser, aclToDisk } from "./acl.ts";
import {
  aclWithMode,
  checkAcl,
  type InheritedAcl,
  inheritAcl,
  isPlainAcl,
  modeWithAcl,
} from "./acl-rules.ts";
import type { ExtContext } from "./context.ts";
import type { Handle } from "./handle.ts";
import { type ExtInode, fileTypeOfMode } from "./inode.ts";
import type { ExtWriter } from "./writer.ts";
import { storedXattrOf, XATTR_INDEX_ACL_ACCESS, XATTR_INDEX_ACL_DEFAULT } from "./xattr.ts";
import { setStoredXattr, type XattrKey } from "./xattr-store.ts";

const NO_NAME = new Uint8Array(0);
/** Which list of an inode. */
export type AclKind = "access" | "default";

function keyOf(kind: AclKind): XattrKey {
  const index = kind === "access" ? XATTR_INDEX_ACL_ACCESS : XATTR_INDEX_ACL_DEFAULT;
  return { index, name: NO_NAME };
}

/** The list of `inode`, undefined if it has none or an empty one. */
function storedAcl(
  ctx: ExtContext,
  inode: ExtInode,
  kind: AclKind,
): readonly AclEntry[] | undefined {
  const { index, name } = keyOf(kind);
  const value = storedXattrOf(ctx, inode, index, name);
  if (value === undefined) return undefined;
  const acl = aclFromDisk(value, `inode ${inode.ino}: ${kind} list`);
  return acl.length === 0 ? undefined : acl;
}

/** Stores `acl`, or removes what is stored if it is undefined. */
function storeAcl(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  kind: AclKind,
  acl: readonly AclEntry[] | undefined,
): void {
  const key = keyOf(kind);
  const isThere = storedXattrOf(ctx, inode, key.index, key.name) !== undefined;
  if (acl === undefined && !isThere) return;
  setStoredXattr(ctx, handle, inode, key, acl === undefined ? null : aclToDisk(acl), 0);
}

/**
 * Sets the list of `inode` from the form of users; null, no bytes, or no entries remove it
 * (`ext4_set_acl`).
 *
 * @throws {FsError} `EINVAL` for no list of version 2 or one that is not valid; `EACCES` for the
 *   default list of what is no directory; `EOPNOTSUPP` for a symlink; what storing it throws
 */
export function setAcl(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  kind: AclKind,
  value: Uint8Array | null,
): void {
  if (inode.type === "symlink") throw new FsError("EOPNOTSUPP");
  const given = value === null || value.length === 0 ? [] : aclFromUser(value);
  if (given.length > 0) checkAcl(given);
  const acl = given.length > 0 ? given : undefined;
  if (kind === "default") {
    if (inode.type !== "directory") {
      if (acl === undefined) return;
      throw new FsError("EACCES", { detail: "only a directory has a default list" });
    }
    storeAcl(ctx, handle, inode, kind, acl);
    return;
  }
  if (acl !== undefined) {
    ctx.editInode(handle, inode);
    inode.mode = modeWithAcl(inode.mode, acl);
  }
  storeAcl(ctx, handle, inode, kind, acl !== undefined && isPlainAcl(acl) ? undefined : acl);
}

/** Lets the access list of `inode` follow its mode, which was just changed (`posix_acl_chmod`). */
export function chmodAcl(ctx: ExtWriter, handle: Handle, inode: ExtInode): void {
  if (inode.type === "symlink") return;
  const acl = storedAcl(ctx, inode, "access");
  if (acl === undefined) return;
  storeAcl(ctx, handle, inode, "access", aclWithMode(acl, inode.mode));
}

/** Mode and lists of an inode that is to be made in `dir`. */
export function aclForNew(
  ctx: ExtContext,
  dir: ExtInode,
  mode: number,
  umask: number,
): InheritedAcl {
  const type = fileTypeOfMode(mode);
  const kind = type === "directory" || type === "symlink" ? type : "other";
  return inheritAcl(storedAcl(ctx, dir, "default"), mode, umask, kind);
}

/** Gives the new `inode` what `aclForNew` has found. Throws `ENOSPC`. */
export function initAcl(
  ctx: ExtWriter,
  handle: Handle,
  inode: ExtInode,
  { access, initial }: InheritedAcl,
): void {
  if (initial !== undefined) storeAcl(ctx, handle, inode, "default", initial);
  if (access !== undefined) storeAcl(ctx, handle, inode, "access", access);
}
