/**
 * How the data of files and the journal go together (`data=` of `mount`).
 *
 *     ordered     a commit waits until data is at its place: after a crash no file shows what lay
 *                 there before
 *     writeback   it does not: faster, and a file that grew may show what lay there before
 *     journal     the data goes through the journal: not offered
 *
 * What nobody asks for is as the superblock says (`tune2fs -o journal_data_writeback`), else
 * ordered. After `ext4_set_def_opts` and `ext4_load_and_init_journal` of Linux.
 */
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { COMPAT_HAS_JOURNAL } from "./features.ts";
import { SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** What may be asked for. */
export type DataMode = "ordered" | "journal" | "writeback";

/** Bits of `s_default_mount_opts` (`EXT4_DEFM_*`). */
const JMODE_MASK = 0x60;
const JMODE_DATA = 0x20;
const JMODE_WBACK = 0x60;

/**
 * Whether commits of the volume of `sb` are to wait for data, where `wanted` was asked for. `warn`
 * is told where the superblock cannot have its way.
 *
 * @throws {FsError} `EOPNOTSUPP` for "journal"
 */
export function isDataOrdered(
  sb: Superblock,
  wanted: DataMode | undefined,
  warn: (text: string) => void,
): boolean {
  if (wanted === "journal") {
    const detail = "data=journal is not offered for writing: data=ordered is the safest there is";
    throw new FsError("EOPNOTSUPP", { detail });
  }
  if (wanted !== undefined) return wanted === "ordered";
  const mode = le32(sb.raw, SB.s_default_mount_opts) & JMODE_MASK;
  if (mode === JMODE_DATA && sb.hasCompat(COMPAT_HAS_JOURNAL)) {
    warn("the image asks for data=journal, which is not offered: data=ordered is used");
  }
  return mode !== JMODE_WBACK;
}
