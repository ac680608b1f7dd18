/**
 * Values of attributes that get an inode of their own, and give it back.
 *
 *     entry  e_value_inum  -->  inode, flag ea_inode: i_atime hash, i_ctime << 32 | i_version users
 *     owner  i_blocks      +    what the value takes, in clusters
 *
 *  1. Whoever refers to such an inode is counted in it; the last one frees it.
 *  2. Its content is metadata: it is written within the operation.
 *
 * Left out: two equal values share no inode unless they did already. After fs/ext4/xattr.c of Linux
 * (`ext4_xattr_inode_create`, `_write`, `_update_ref`).
 */
import { le32, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { roundUp, SECTOR_BYTES } from "../../lib/units.ts";
import { eaValueHash } from "./checksum.ts";
import type { Handle } from "./handle.ts";
import type { ExtInode } from "./inode.ts";
import { allocInode, freeInode } from "./inode-alloc.ts";
import { EA_INODE_FL, INODE, S_IFREG } from "./layout.ts";
import { createFileBlock } from "./metadata-file.ts";
import { truncateStep } from "./truncate-blocks.ts";
import type { ExtWriter } from "./writer.ts";
import type { XattrEntry } from "./xattr-area.ts";
import { xattrEntryHash } from "./xattr-edit.ts";

const EA_INODE_MODE = S_IFREG | 0o600;
/** Bits of `i_atime_extra` that an epoch takes; the hash has none. */
const WORD = 0x1_0000_0000;

/** Sectors that a value of `valueBytes` is charged to its owner with. */
function chargedSectors(ctx: ExtWriter, valueBytes: number): number {
  const clusterBytes = ctx.sb.clusterRatio * ctx.sb.blockBytes;
  return roundUp(valueBytes, clusterBytes) / SECTOR_BYTES;
}

function usersOf(inode: ExtInode): number {
  return le32(inode.raw, INODE.i_ctime) * WORD + le32(inode.raw, INODE.i_version);
}

function setUsers(inode: ExtInode, users: number): void {
  putLe32(inode.raw, INODE.i_ctime, Math.floor(users / WORD));
  putLe32(inode.raw, INODE.i_version, users % WORD);
}

/**
 * Puts the value of `entry` into a new inode, charged to `owner`; returns the entry that refers to
 * it. Throws `ENOSPC`.
 */
export function moveValueOut(
  ctx: ExtWriter,
  handle: Handle,
  owner: ExtInode,
  entry: XattrEntry,
): XattrEntry {
  const { value } = entry;
  const request = { mode: EA_INODE_MODE, uid: owner.uid, gid: owner.gid, flags: EA_INODE_FL };
  const inode = allocInode(ctx, handle, owner, request);
  inode.projectId = 0;
  const { blockBytes } = ctx.sb;
  for (let from = 0; from < value.length; from += blockBytes) {
    const { data } = createFileBlock(ctx, handle, inode, from / blockBytes);
    data.set(value.subarray(from, from + blockBytes));
  }
  inode.size = value.length;
  inode.diskSize = inode.size;
  const hash = eaValueHash(ctx.seed, value);
  for (const name of ["atime", "ctime"] as const) inode.setTime(name, { sec: 0, nsec: 0 });
  putLe32(inode.raw, INODE.i_atime, hash);
  setUsers(inode, 1);
  owner.sectorCount += chargedSectors(ctx, value.length);
  return {
    ...entry,
    value: new Uint8Array(0),
    valueIno: inode.ino,
    hash: xattrEntryHash(entry.name, hash),
  };
}

/** The inode of the value of `entry`. Throws `EUCLEAN` if it is none. */
function valueInode(ctx: ExtWriter, owner: ExtInode, entry: XattrEntry): ExtInode {
  const inode = ctx.inode(entry.valueIno);
  if (!inode.isEaInode) {
    const what = `inode ${inode.ino} is no inode for values`;
    throw new FsError("EUCLEAN", { detail: `inode ${owner.ino}: ${what}` });
  }
  return inode;
}

/** One more entry refers to the value of `entry`, if that has an inode. */
export function addValueUser(
  ctx: ExtWriter,
  handle: Handle,
  owner: ExtInode,
  entry: XattrEntry,
): void {
  if (entry.valueIno === 0) return;
  const inode = valueInode(ctx, owner, entry);
  ctx.editInode(handle, inode);
  setUsers(inode, usersOf(inode) + 1);
}

/** An entry of `owner` refers to its value no more: the last one to do so frees its inode. */
export function dropValueUser(
  ctx: ExtWriter,
  handle: Handle,
  owner: ExtInode,
  entry: XattrEntry,
): void {
  if (entry.valueIno === 0) return;
  const inode = valueInode(ctx, owner, entry);
  ctx.editInode(handle, inode);
  const users = usersOf(inode);
  setUsers(inode, Math.max(0, users - 1));
  if (users > 1) return;
  let isCut = false;
  while (!isCut) isCut = truncateStep(ctx, handle, inode, 0);
  freeInode(ctx, handle, inode);
}

/** `owner` is not charged for the value of `entry` any more. */
export function unchargeValue(
  ctx: ExtWriter,
  handle: Handle,
  owner: ExtInode,
  entry: XattrEntry,
): void {
  if (entry.valueIno === 0) return;
  ctx.editInode(handle, owner);
  const sectors = chargedSectors(ctx, entry.valueBytes);
  owner.sectorCount = Math.max(0, owner.sectorCount - sectors);
}
