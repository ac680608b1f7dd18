/** What becomes of the mode of an inode when somebody else gets it, or writes it. */

import type { VfsInode } from "../fs/vfs.ts";
import type { AttributeChange } from "../fs/vfs-write.ts";

/** All that `chmod` sets. */
export const PERMISSION_BITS = 0o7777;

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o0010;

/**
 * The mode without the bits that run a file as somebody else, or undefined if it has none
 * (`setattr_should_drop_suidgid`). The setgid bit of a file that its group cannot run means
 * locking.
 */
export function droppedMode(inode: VfsInode): number | undefined {
  if (inode.type === "directory") return undefined;
  const { mode } = inode.attributes();
  let kept = mode & ~S_ISUID;
  if ((mode & S_IXGRP) !== 0) kept &= ~S_ISGID;
  return kept === mode ? undefined : kept & PERMISSION_BITS;
}

/** What `chown` changes: -1 leaves an id as it is. */
export function ownerChange(inode: VfsInode, uid: number, gid: number): AttributeChange {
  return {
    uid: uid === -1 ? undefined : uid,
    gid: gid === -1 ? undefined : gid,
    mode: droppedMode(inode),
  };
}
