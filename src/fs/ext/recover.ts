/**
 * Recovery: what a writable open does about a journal, before anything else is read.
 *
 *     scan, check all  -->  copies home  -->  flush  -->  journal superblock: empty  -->  s_errno
 *     \-- refuse here: nothing written --/                 \---- from here on it is recovered ---/
 *
 *  1. Everything is verified before the first write: checksums, numbers of home blocks, that there
 *     is nothing in the log that cannot be replayed. What is refused is left as it was.
 *  2. Until the journal superblock says that the log is empty, the log is whole and the replay can
 *     be repeated: broken off after any write, it gives the same image in the end.
 *  3. The id of the first transaction that was not replayed is never used: what was written of it
 *     can not become valid.
 *  4. RECOVER stays set, and the error record of the home superblock is kept.
 *
 *  5. What fast commits change becomes the transaction that they belong to: one more commit block,
 *     and they are old.
 *
 * After `jbd2_journal_recover`, `ext4_load_journal` and `ext4_clear_journal_err` of Linux; those
 * write some of a damaged log home before they fail, and apply fast commits block by block.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { readDevice } from "../../block/block-device.ts";
import { flushDevice, writeDevice } from "../../block/write-device.ts";
import { isZero, le16, putLe16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { sealSuperblock } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { type FastCommitOverlay, readFastCommits } from "./fast-commit.ts";
import { COMPAT_HAS_JOURNAL, INCOMPAT_RECOVER } from "./features.ts";
import { type HomeBlock, writeHome } from "./home-writes.ts";
import { logBlocksOf } from "./jbd2-encode.ts";
import { nextTid } from "./jbd2-format.ts";
import type { LogContents } from "./jbd2-scan.ts";
import { commitAlone } from "./journal-commit-alone.ts";
import { type JournalFile, openJournalFile } from "./journal-file.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import {
  type JournalInfo,
  journalInfoOf,
  type OpenJournal,
  openJournal,
  overlayOf,
  type ReplayOptions,
  scanJournal,
} from "./recovery.ts";
import { Superblock } from "./superblock.ts";

/** Bytes of copies that are read and written home at a time. */
const BATCH_BYTES = MIB;
const STATE_ERROR = 2;

/** How a writable open treats the journal. */
export interface RecoverOptions extends Pick<ReplayOptions, "clock" | "journalDevice" | "signal"> {
  /** Drop a log that the superblock says is not needed, instead of refusing the open. */
  readonly force?: boolean | undefined;
  /**
   * The blocks that fast commits change, of a file system that is read from `device`. Without it
   * they are refused.
   */
  readonly applyFastCommits?:
    | ((
        device: BlockDevice,
        fastCommits: FastCommitOverlay,
      ) => Promise<ReadonlyMap<number, Uint8Array>>)
    | undefined;
}

/** A journal that is empty now. */
export interface Recovered {
  /** For `openTransactions`; undefined for a file system without a journal. */
  readonly file: JournalFile | undefined;
  /** What was found in it. */
  readonly journal: JournalInfo | undefined;
  /** Something was written home: what was read of the image before is old. */
  readonly isReplayed: boolean;
}

/**
 * Recovers the file system that `ctx` reads from `device` as it lies there. The caller closes what
 * reads through `ctx`, and reads the superblock anew, if `isReplayed`.
 *
 * @throws {FsError} `EUCLEAN`, `EBADMSG` for a damaged log, `EOPNOTSUPP` for an external one that
 *   was not given and for fast commits that cannot be applied, `EUCLEAN` for one that the
 *   superblock says is not needed, unless forced: all before anything is written; `EIO`, `EROFS`
 */
export async function recoverJournal(
  ctx: ExtContext,
  device: BlockDevice,
  options: RecoverOptions,
): Promise<Recovered> {
  const { sb } = ctx;
  const isNeeded = sb.hasIncompat(INCOMPAT_RECOVER);
  if (!sb.hasCompat(COMPAT_HAS_JOURNAL)) {
    if (!isNeeded) return { file: undefined, journal: undefined, isReplayed: false };
    throw new FsError("EUCLEAN", { detail: "superblock: it needs recovery and has no journal" });
  }
  if (sb.journalIno === 0 && isZero(sb.journalUuid)) {
    throw new FsError("EUCLEAN", { detail: "superblock: s_journal_inum and s_journal_uuid are 0" });
  }
  const journal = await openJournal(ctx, device, options);
  const file = await openJournalFile(journal.found, sb.blockBytes);
  if (journal.sb.start === 0) {
    const isMoved = await moveErrno(device, file);
    const info = journalInfoOf(journal, undefined, 0);
    return { file, journal: info, isReplayed: isMoved };
  }
  if (!isNeeded) return await discard(journal, file, options);
  const contents = await scanJournal(ctx, device, journal, false);
  const fastCommits = await pendingFastCommits(ctx, journal, contents);
  const overlay = await overlayOf(ctx, device, journal, contents, {
    ...options,
    isForWriter: true,
  });
  checkDevice(device, contents, sb.blockBytes);
  const changes = fastCommits && (await changesOf(fastCommits, overlay, journal, options));
  const info = journalInfoOf(journal, contents, fastCommits?.commitCount ?? 0);
  await replayHome(overlay, device, contents, sb.blockBytes);
  await flushDevice(device);
  let { endTid } = contents;
  if (changes !== undefined) {
    await commitAlone({ file, device, clock: options.clock }, changes, contents);
    endTid = nextTid(endTid);
  }
  if (journal.sb.isFastCommit) await file.clearFastCommits();
  await file.writeEmpty(nextTid(endTid), 0);
  await moveErrno(device, file);
  for (const text of contents.warnings) ctx.warn(text);
  return { file, journal: info, isReplayed: true };
}

/** A log that the superblock does not ask for: it may be older than what the homes hold. */
async function discard(
  journal: OpenJournal,
  file: JournalFile,
  { force }: RecoverOptions,
): Promise<Recovered> {
  if (force !== true) {
    const detail =
      "the journal has transactions, but the superblock says that they are not needed: check it, " +
      "or force the open to drop them";
    throw new FsError("EUCLEAN", { detail });
  }
  await file.writeEmpty(journal.sb.sequence, 0);
  return { file, journal: journalInfoOf(journal, undefined, 0), isReplayed: false };
}

async function pendingFastCommits(
  ctx: ExtContext,
  { log, sb }: OpenJournal,
  { endTid }: LogContents,
): Promise<FastCommitOverlay | undefined> {
  return sb.isFastCommit ? await readFastCommits(ctx, log, sb, endTid, false) : undefined;
}

/** The blocks that the fast commits change, if the log can take them. */
async function changesOf(
  fastCommits: FastCommitOverlay,
  overlay: BlockDevice,
  { sb }: OpenJournal,
  { applyFastCommits }: RecoverOptions,
): Promise<readonly HomeBlock[]> {
  if (applyFastCommits === undefined) {
    const detail = "the journal has fast commits: open it for reading, or let e2fsck recover it";
    throw new FsError("EOPNOTSUPP", { detail });
  }
  const changes = await applyFastCommits(overlay, fastCommits);
  if (logBlocksOf(sb, changes.size, 0) >= sb.last - sb.first) {
    const detail = `the fast commits change ${changes.size} blocks, too many for the log at once`;
    throw new FsError("EOPNOTSUPP", { detail });
  }
  return Array.from(changes, ([blocknr, data]) => ({ blocknr, data }));
}

/** Refuses homes behind the end of a device that is shorter than the file system on it. */
function checkDevice(device: BlockDevice, { copies }: LogContents, blockBytes: number): void {
  for (const home of copies.keys()) {
    if ((home + 1) * blockBytes <= device.sizeBytes) continue;
    throw new FsError("EUCLEAN", { detail: `home block ${home} is behind the end of the device` });
  }
}

/** Writes what `overlay` shows of the copies home, in order, not yet durable. */
async function replayHome(
  overlay: BlockDevice,
  device: BlockDevice,
  { copies }: LogContents,
  blockBytes: number,
): Promise<void> {
  const homes = [...copies.keys()].sort((a, b) => a - b);
  const batch = Math.max(1, Math.floor(BATCH_BYTES / blockBytes));
  for (let at = 0; at < homes.length; at += batch) {
    const reads = homes.slice(at, at + batch).map(async (blocknr): Promise<HomeBlock> => {
      return { blocknr, data: await readDevice(overlay, blocknr * blockBytes, blockBytes) };
    });
    await writeHome(device, await Promise.all(reads), blockBytes);
  }
}

/** Moves the error of an earlier mount into the file system, then out of the journal. */
async function moveErrno(device: BlockDevice, file: JournalFile): Promise<boolean> {
  const { errno } = file.sb;
  if (errno === 0) return false;
  const bytes = await readDevice(device, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
  const sb = new Superblock(bytes);
  putLe16(bytes, SB.s_state, le16(bytes, SB.s_state) | STATE_ERROR);
  if (sb.hasMetadataCsum) sealSuperblock(bytes);
  await writeDevice(device, SUPERBLOCK_OFFSET_BYTES, bytes);
  await flushDevice(device);
  await file.writeErrno(0);
  return true;
}
