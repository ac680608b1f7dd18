/**
 * How the data of files and the journal go together (`data=` of `mount`, `chattr +j`).
 *
 *     ordered     a commit waits until data is at its place: after a crash no file shows what lay
 *                 there before
 *     writeback   it does not: faster, and a file that grew may show what lay there before
 *     journal     data goes through the journal, as metadata does: it is written twice, and after a
 *                 crash no block of it is torn
 *
 * What nobody asks for is as the superblock says (`tune2fs -o journal_data`), else ordered. A file
 * that is marked so has its data in the journal whatever the mode is. After `ext4_set_def_opts`,
 * `ext4_load_and_init_journal` and `ext4_inode_journal_mode` of Linux, which lets delayed
 * allocation win over the mark of a file; here both go together.
 */
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import type { ExtInode } from "./inode.ts";
import { SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** What may be asked for. */
export type DataMode = "ordered" | "journal" | "writeback";

/** Bits of `s_default_mount_opts` (`EXT4_DEFM_*`). */
const JMODE_MASK = 0x60;
const JMODE_DATA = 0x20;
const JMODE_WBACK = 0x60;

/**
 * The mode of a volume with superblock `sb`, where `wanted` was asked for. Without a journal that
 * is written to there is none: undefined.
 *
 * @throws {FsError} `EINVAL` for "journal" where there is no journal
 */
export function dataModeOf(
  sb: Superblock,
  wanted: DataMode | undefined,
  hasJournal: boolean,
): DataMode | undefined {
  if (!hasJournal) {
    if (wanted !== "journal") return undefined;
    const detail = "data=journal needs a journal, and there is none that is written to";
    throw new FsError("EINVAL", { detail });
  }
  if (wanted !== undefined) return wanted;
  const mode = le32(sb.raw, SB.s_default_mount_opts) & JMODE_MASK;
  if (mode === JMODE_DATA) return "journal";
  return mode === JMODE_WBACK ? "writeback" : "ordered";
}

/**
 * True if the data of `inode` goes through the journal of a volume with `dataMode`
 * (`ext4_should_journal_data`): the one place where that is decided.
 */
export function shouldJournalData(
  { dataMode }: { readonly dataMode: DataMode | undefined },
  inode: ExtInode,
): boolean {
  if (dataMode === undefined || inode.type !== "file" || inode.isEaInode) return false;
  return dataMode === "journal" || inode.hasJournaledData;
}
