/**
 * Files whose data comes to go through the journal, or ceases to (`chattr +j`, `chattr -j`): what
 * was written in the one way is at its place before anything is written in the other.
 *
 *     +j    all that is dirty is written --> the mark    no write past the log ends after one in it
 *     -j    all that is dirty is logged --> the log goes home, and is empty --> no mark
 *
 *  1. Meanwhile nobody writes the file or fills its cache.
 *  2. No copy of a block of the file is in the log once it is written past that: replay would put
 *     it over what is newer.
 *
 * After `ext4_change_inode_journal_flag` in `fs/ext4/inode.c` of Linux.
 */
import { filemapWriteAndWaitRange } from "../../cache/filemap-flush.ts";
import { FsError } from "../../lib/errno.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { shouldJournalData } from "./data-mode.ts";
import { exclusively, type FileWriting, withoutFills } from "./file-writing.ts";
import type { ExtInode } from "./inode.ts";
import { JOURNAL_DATA_FL } from "./layout.ts";
import type { ExtWriter } from "./writer.ts";

/** True if with `flags` the data of `inode` goes another way than it does now. */
export function isDataSwitched(
  ctx: ExtWriter,
  inode: ExtInode,
  flags: number | undefined,
): boolean {
  if (flags === undefined || inode.type !== "file" || ctx.dataMode === undefined) return false;
  const isChanged = ((flags ^ inode.flags) & JOURNAL_DATA_FL) !== 0;
  return isChanged && ctx.dataMode !== "journal";
}

/**
 * Does `change`, which changes the mark of `inode`, between writes of the one way and of the other.
 *
 * @throws {FsError} what `change` throws; `EIO`, `ENOSPC` if what was written before cannot be
 *   brought to its place: then nothing has changed
 */
export function whileSwitching(
  files: FileWriting,
  inode: ExtInode,
  change: () => MaybeAsync<void>,
  signal?: AbortSignal,
): MaybeAsync<void> {
  const { ctx, mappings } = files;
  return exclusively(inode, signal, () =>
    withoutFills(files, inode, async () => {
      const mapping = mappings.of(inode);
      const errno = await filemapWriteAndWaitRange(mapping, 0, Infinity);
      if (errno !== 0) throw FsError.of(errno, { cause: mapping.writeFailure });
      if (shouldJournalData(ctx, inode)) await ctx.transactions.flush();
      await change();
    }),
  );
}
