/**
 * sync: writing a whole file system, and waiting for it.
 *
 *     syncFilesystem    start all  - syncFs - device    without waiting: much is in flight at once
 *                       all, wait  - syncFs - device    what is left
 *     sync              the same for all file systems, step by step, so that their devices work
 *                       side by side
 *
 *  1. What was dirtied before the call is safe when it returns; what is dirtied meanwhile is not
 *     waited for, so it ends.
 *  2. `sync` takes no write error away from who calls `fsync`; `syncfs` tells each caller once.
 *
 * After `fs/sync.c` and `sync_inodes_sb` in `fs/fs-writeback.c` of Linux. Left out: the lock that
 * makes two syncs wait for each other, as each works on its own copy of the list; `s_umount`: who
 * unmounts closes the flusher, which waits for what runs.
 */
import type { Errno } from "../lib/errno.ts";
import type { ErrseqCursor } from "../lib/errseq.ts";
import { filemapFdatawaitKeepErrors } from "./filemap-flush.ts";
import type { Superblock } from "./superblock.ts";
import { callHook } from "./write-inode.ts";
import { WB_SYNC_ALL, WB_SYNC_NONE } from "./writeback-control.ts";

/**
 * Starts to write all dirty files of `sb` and resolves when that was submitted
 * (`writeback_inodes_sb`). Never rejects.
 */
export async function writebackInodesSb(sb: Superblock): Promise<void> {
  await sb.bdi?.queueWork({ sb, syncMode: WB_SYNC_NONE, taggedWritepages: true });
}

/**
 * Writes all files of `sb` that are dirty now, and waits for them and for those that were in
 * flight (`sync_inodes_sb`). Errors stay with the files. Never rejects.
 */
export async function syncInodesSb(sb: Superblock): Promise<void> {
  await sb.bdi?.queueWork({ sb, syncMode: WB_SYNC_ALL, forSync: true });
  await waitSbInodes(sb);
}

/** Waits for the files that have data in flight now (`wait_sb_inodes`). */
async function waitSbInodes(sb: Superblock): Promise<void> {
  for (const { mapping } of [...sb.inodesUnderWriteback]) {
    if (mapping !== null) await filemapFdatawaitKeepErrors(mapping);
  }
}

/**
 * Writes a file system, files, then what it keeps itself, then its device, and waits
 * (`sync_filesystem`). Returns the first error of the latter two. Nothing to do for one that is
 * never written. Never rejects.
 */
export async function syncFilesystem(sb: Superblock): Promise<Errno> {
  if (sb.isReadOnly === true) return 0;
  await writebackInodesSb(sb);
  let err = await callHook(() => sb.syncFs?.(false));
  if (err === 0) err = await callHook(() => sb.syncBlockdev?.(false));
  if (err < 0) return err;
  await syncInodesSb(sb);
  err = await callHook(() => sb.syncFs?.(true));
  return err < 0 ? err : callHook(() => sb.syncBlockdev?.(true));
}

/** Writes all of `superblocks`, and waits (`sync`). Errors stay where they are. Never rejects. */
export async function syncAll(superblocks: Iterable<Superblock>): Promise<void> {
  const all = [...superblocks].filter((sb) => sb.isReadOnly !== true);
  for (const sb of all) sb.bdi?.startAll();
  for (const sb of all) await syncInodesSb(sb);
  for (const sb of all) await callHook(() => sb.syncFs?.(false));
  for (const sb of all) await callHook(() => sb.syncFs?.(true));
  for (const sb of all) await callHook(() => sb.syncBlockdev?.(false));
  for (const sb of all) await callHook(() => sb.syncBlockdev?.(true));
}

/**
 * `syncFilesystem` for an open file, whose `cursor` of `sb.wbErr` was sampled when it was opened:
 * returns also the error of any file that this caller has not been told of (`syncfs`).
 */
export async function syncfs(sb: Superblock, cursor: ErrseqCursor): Promise<Errno> {
  const err = await syncFilesystem(sb);
  return err === 0 ? sb.wbErr.checkAndAdvance(cursor) : err;
}
