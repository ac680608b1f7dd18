/** What becomes of the mode of an inode when somebody else gets it, or writes it. */

import { type Caller, isInGroup } from "../fs/permission.ts";
import type { VfsInode } from "../fs/vfs.ts";
import type { AttributeChange } from "../fs/vfs-write.ts";

/** All that `chmod` sets. */
export const PERMISSION_BITS = 0o7777;

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o0010;

/**
 * The mode without the bits that run a file as somebody else, or undefined if it has none
 * (`setattr_should_drop_suidgid`). The setgid bit of a file that its group cannot run means
 * locking, and stays where one of the group does it.
 */
export function droppedMode(inode: VfsInode, caller: Caller): number | undefined {
  if (inode.type === "directory") return undefined;
  const { mode, gid } = inode.attributes();
  if ((mode & (S_ISUID | S_ISGID)) === 0) return undefined;
  let kept = mode & ~S_ISUID;
  const isOfGroup = caller.uid === 0 || isInGroup(caller, gid);
  if ((mode & S_IXGRP) !== 0 || !isOfGroup) kept &= ~S_ISGID;
  return kept === mode ? undefined : kept & PERMISSION_BITS;
}

/**
 * The mode that a new inode in `dir` gets: `caller` makes no file that is run as a group it is not
 * of.
 */
export function createdMode(mode: number, dir: VfsInode, caller: Caller): number {
  const groupBits = S_ISGID | S_IXGRP;
  if ((mode & groupBits) !== groupBits || (mode & S_IFMT) === S_IFDIR) return mode;
  const above = dir.attributes();
  const isFree = (above.mode & S_ISGID) === 0 || caller.uid === 0 || isInGroup(caller, above.gid);
  return isFree ? mode : mode & ~S_ISGID;
}

/** What `chown` changes in the name of `caller`: -1 leaves an id as it is. */
export function ownerChange(
  inode: VfsInode,
  uid: number,
  gid: number,
  caller: Caller,
): AttributeChange {
  return {
    uid: uid === -1 ? undefined : uid,
    gid: gid === -1 ? undefined : gid,
    mode: droppedMode(inode, caller),
  };
}

/** True for a file that is run as its owner or group. */
export function runsAsOther(inode: VfsInode): boolean {
  const { mode } = inode.attributes();
  const groupBits = S_ISGID | S_IXGRP;
  return (mode & S_ISUID) !== 0 || (mode & groupBits) === groupBits;
}
