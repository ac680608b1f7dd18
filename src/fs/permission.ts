/**
 * Who may do what with an inode: mode bits, access control lists, owners, the sticky bit.
 *
 *     uid 0             everything, but executes only what somebody may execute
 *     owner             user bits
 *     named in the ACL  its entry, cut by the mask
 *     group             group bits, or its entries cut by the mask
 *     all others        other bits
 *
 * After `fs/namei.c` (`generic_permission`, `__check_sticky`) and `fs/posix_acl.c`
 * (`posix_acl_permission`) of Linux. Left out: user namespaces, capabilities one by one.
 */
import { le16, le32 } from "../lib/bytes.ts";
import type { InodeAttributes } from "./vfs.ts";

export const MAY_EXEC = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;

const S_ISVTX = 0o1000;
const ANY_EXEC = 0o111;
const ACL_HEADER_BYTES = 4;
const ACL_ENTRY_BYTES = 8;
const ACL_USER = 0x02;
const ACL_GROUP_OBJ = 0x04;
const ACL_GROUP = 0x08;
const ACL_MASK = 0x10;

/** In whose name a call is made (`struct cred`). */
export interface Caller {
  /** 0 may do all. */
  readonly uid: number;
  readonly gid: number;
  /** Further groups. */
  readonly groups: readonly number[];
  /** Permission bits that new files do not get. */
  readonly umask: number;
}

/** True if `caller` is in the group, by its first or by one of the others. */
export function isInGroup(caller: Caller, gid: number): boolean {
  return caller.gid === gid || caller.groups.includes(gid);
}

/** The bits that an ACL in the form that users see gives `caller`, who is not the owner. */
function aclBits(acl: Uint8Array, attributes: InodeAttributes, caller: Caller): number | undefined {
  let mask = MAY_READ | MAY_WRITE | MAY_EXEC;
  let named: number | undefined;
  let group: number | undefined;
  for (let at = ACL_HEADER_BYTES; at + ACL_ENTRY_BYTES <= acl.length; at += ACL_ENTRY_BYTES) {
    const tag = le16(acl, at);
    const bits = le16(acl, at + 2);
    const id = le32(acl, at + 4);
    if (tag === ACL_MASK) mask = bits;
    if (tag === ACL_USER && id === caller.uid) named = bits;
    const isOurs =
      (tag === ACL_GROUP_OBJ && isInGroup(caller, attributes.gid)) ||
      (tag === ACL_GROUP && isInGroup(caller, id));
    if (isOurs) group = (group ?? 0) | bits;
  }
  const bits = named ?? group;
  return bits === undefined ? undefined : bits & mask;
}

/**
 * True if `caller` may do all of `wanted` (`MAY_*`) with the inode. `acl` is its
 * `system.posix_acl_access`, in the form that users see, if it has one.
 */
export function mayAccess(
  attributes: InodeAttributes,
  acl: Uint8Array | undefined,
  caller: Caller,
  wanted: number,
): boolean {
  const { mode } = attributes;
  if (caller.uid === 0) {
    const isDirectory = (mode & 0o170000) === 0o040000;
    return (wanted & MAY_EXEC) === 0 || isDirectory || (mode & ANY_EXEC) !== 0;
  }
  let bits = mode & 7;
  if (attributes.uid === caller.uid) bits = (mode >>> 6) & 7;
  else if (acl !== undefined) bits = aclBits(acl, attributes, caller) ?? bits;
  else if (isInGroup(caller, attributes.gid)) bits = (mode >>> 3) & 7;
  return (bits & wanted) === wanted;
}

/** True if `caller` owns the inode, or may act as if (`inode_owner_or_capable`). */
export function isOwner(attributes: InodeAttributes, caller: Caller): boolean {
  return caller.uid === 0 || caller.uid === attributes.uid;
}

/**
 * True if a sticky directory keeps `caller` from taking away the name of the inode
 * (`check_sticky`).
 */
export function isStickyFor(
  directory: InodeAttributes,
  inode: InodeAttributes,
  caller: Caller,
): boolean {
  if ((directory.mode & S_ISVTX) === 0 || caller.uid === 0) return false;
  return caller.uid !== inode.uid && caller.uid !== directory.uid;
}

/**
 * True if `caller` may give the inode this owner and group; -1 leaves one as it is (`chown_ok`).
 */
export function mayChown(
  attributes: InodeAttributes,
  uid: number,
  gid: number,
  caller: Caller,
): boolean {
  if (caller.uid === 0 || (uid === -1 && gid === -1)) return true;
  if (caller.uid !== attributes.uid) return false;
  if (uid !== -1 && uid !== attributes.uid) return false;
  return gid === -1 || gid === attributes.gid || isInGroup(caller, gid);
}
