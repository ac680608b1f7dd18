/**
 * Replay into memory: what a read-only open does about a journal.
 *
 *     image --> first core --> journal inode --> scan --> JournalOverlayDevice --> second core
 *                                                  \--> FastCommitOverlay ------/
 *
 * What is read afterwards is what the kernel shows after its own recovery, and not a byte of the
 * image has changed. Unlike Linux, neither `-o ro` nor `noload` ever writes here.
 *
 *  1. RECOVER in the superblock decides whether the log counts; `s_start` says whether anything is
 *     in it. A log without RECOVER is ignored with a warning.
 *  2. By default a damaged log refuses the open before anything of it is used. With `salvage` what
 *     is whole is used, and warnings say what was left out.
 *  3. The superblock that is seen afterwards has RECOVER clear and keeps the error record of the
 *     home copy, which is written directly and may be newer than the logged one.
 *  4. Orphans are not processed: they have no names, so the tree is right; their blocks count as
 *     used.
 *
 * After `ext4_load_and_init_journal`, `ext4_load_journal` in `fs/ext4/super.c` and
 * `jbd2_journal_load` of Linux. Left out: recovery that writes, which is `recover.ts`.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { readDevice } from "../../block/block-device.ts";
import { isZero, le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import type { Clock } from "../../lib/clock.ts";
import { codeOf, FsError, hasErrnoCode } from "../../lib/errno.ts";
import { KIB, MIB } from "../../lib/units.ts";
import { sealSuperblock, superblockChecksum } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import type { FastCommitOverlay } from "./fast-commit.ts";
import { readFastCommits } from "./fast-commit.ts";
import { COMPAT_HAS_JOURNAL, INCOMPAT_RECOVER } from "./features.ts";
import { nextTid } from "./jbd2-format.ts";
import { type LogContents, scanLog } from "./jbd2-scan.ts";
import {
  decodeJournalSuperblock,
  firstFreeTid,
  type JournalSuperblock,
  journalFeatureNames,
} from "./jbd2-superblock.ts";
import { JournalOverlayDevice, type ReplayedBlock } from "./journal-device.ts";
import { type FoundJournal, findInternalJournal, openExternalJournal } from "./journal-inode.ts";
import { JournalLog } from "./journal-log.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import { hasSuperblockMagic, Superblock } from "./superblock.ts";

/** How a read-only open treats the journal. */
export interface ReplayOptions {
  readonly clock: Clock;
  /** Do not look at the journal at all: the image as it lies there. */
  readonly noload?: boolean | undefined;
  /** Use what is whole of a damaged log. */
  readonly salvage?: boolean | undefined;
  /** The external journal, for a file system that has one. */
  readonly journalDevice?: BlockDevice | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was found in the journal, as data for `describe`. */
export interface JournalInfo {
  readonly place: string;
  readonly blockCount: number;
  readonly features: readonly string[];
  /** The log had to be replayed to read the image. */
  readonly isDirty: boolean;
  readonly transactionCount: number;
  /** Home blocks that are read from the log. */
  readonly replayedBlockCount: number;
  readonly revokedBlockCount: number;
  readonly fastCommitCount: number;
  /** Transaction that a writer would begin with. */
  readonly nextTid: number;
  /** 0, or the errno that the last mount left in the journal. */
  readonly errno: number;
}

/** An image whose journal has been dealt with. */
export interface Replay {
  /** What the file system is to be read from. */
  readonly device: BlockDevice;
  /** To be consulted for inodes, block maps and names; undefined if there are none. */
  readonly fastCommits: FastCommitOverlay | undefined;
  /** Undefined without a journal, and if it was not looked at. */
  readonly journal: JournalInfo | undefined;
}

const WINDOW_BYTES = MIB;
/** Without checksums only control blocks are read, with few of the copies between them. */
const SPARSE_WINDOW_BYTES = 64 * KIB;
const STATE_ERROR = 2;
const ERROR_RECORD_END: number = SB.s_mount_opts;
/** Upper bytes of the two times and the two codes of the record. */
const ERROR_RECORD_HI_END: number = SB.s_last_error_time_hi + 3;

/** A journal with its superblock, and a reader of its log. */
export interface OpenJournal {
  readonly found: FoundJournal;
  readonly sb: JournalSuperblock;
  readonly log: JournalLog;
}

/**
 * Finds the journal of the file system of `ctx`, and reads its superblock.
 *
 * @throws {FsError} what `findInternalJournal`, `openExternalJournal` and `decodeJournalSuperblock`
 *   throw; `EOPNOTSUPP` if it is on a device that was not given
 */
export async function openJournal(
  ctx: ExtContext,
  device: BlockDevice,
  options: ReplayOptions,
): Promise<OpenJournal> {
  const { signal, journalDevice } = options;
  const { blockBytes } = ctx.sb;
  let found: FoundJournal;
  if (ctx.sb.journalIno !== 0) found = await findInternalJournal(ctx, device, signal);
  else if (journalDevice !== undefined) {
    found = await openExternalJournal(ctx.sb, journalDevice, signal);
  } else {
    const detail = "its journal is on another device: give that too, or read without the journal";
    throw new FsError("EOPNOTSUPP", { detail });
  }
  const head = new JournalLog(found.device, found.map, { blockBytes, windowBytes: 1, signal });
  const sb = decodeJournalSuperblock(await head.load(found.superblockBlock), {
    blockBytes,
    fileBlockCount: found.map.blockCount,
  });
  const hasSums = sb.checksumVersion !== 0 || sb.hasChecksumV1;
  const windowBytes = hasSums ? WINDOW_BYTES : SPARSE_WINDOW_BYTES;
  const log = new JournalLog(found.device, found.map, { blockBytes, windowBytes, signal });
  return { found, sb, log };
}

/** `contents` is what was replayed; undefined if the log was not looked at. */
export function journalInfoOf(
  { found, sb }: OpenJournal,
  contents: LogContents | undefined,
  fastCommitCount: number,
): JournalInfo {
  return {
    place: found.place,
    blockCount: sb.blockCount,
    features: journalFeatureNames(sb.features),
    isDirty: contents !== undefined && sb.start !== 0,
    transactionCount: contents?.transactionCount ?? 0,
    replayedBlockCount: contents?.copies.size ?? 0,
    revokedBlockCount: contents?.revokedCount ?? 0,
    fastCommitCount,
    nextTid: contents === undefined ? firstFreeTid(sb) : nextTid(contents.endTid),
    errno: sb.errno,
  };
}

/**
 * Looks at the journal of an image that needs no recovery. What is wrong with it is a warning only.
 */
async function inspect(
  ctx: ExtContext,
  device: BlockDevice,
  options: ReplayOptions,
): Promise<JournalInfo | undefined> {
  try {
    const journal = await openJournal(ctx, device, options);
    if (journal.sb.start !== 0) {
      ctx.warn(
        "the journal has transactions, but the superblock says that they are not needed: ignored",
      );
    }
    warnOfErrno(ctx, journal.sb);
    return journalInfoOf(journal, undefined, 0);
  } catch (thrown) {
    const isOfImage = hasErrnoCode(thrown) && (ctx.sb.journalIno !== 0 || options.journalDevice);
    if (!isOfImage) throw thrown;
    ctx.warn(`the journal, which is not needed, cannot be used: ${thrown.message}`);
    return undefined;
  }
}

function warnOfErrno(ctx: ExtContext, { errno }: JournalSuperblock): void {
  if (errno === 0) return;
  ctx.warn(`the journal was aborted with ${codeOf(errno)}: the file system should be checked`);
}

/** Home blocks with the device blocks of their copies. */
export function replayedBlocks(journal: OpenJournal, contents: LogContents): ReplayedBlock[] {
  const blocks: ReplayedBlock[] = [];
  for (const [home, { journalBlock, isEscaped }] of contents.copies) {
    blocks.push({ home, copy: journal.found.map.locate(journalBlock).physical, isEscaped });
  }
  return blocks;
}

/** The superblock in `bytes`; undefined if there is none, as where a copy of it is in use. */
function decodeSuperblock(bytes: Uint8Array): Superblock | undefined {
  if (!hasSuperblockMagic(bytes)) return undefined;
  try {
    return new Superblock(bytes);
  } catch (thrown) {
    if (hasErrnoCode(thrown)) return undefined;
    throw thrown;
  }
}

/**
 * The superblock as it is after recovery, from its replayed and its home form. RECOVER is clear for
 * a reader, and set for a writer, whose log is in use again at once.
 */
function recoveredSuperblock(
  replayed: Superblock,
  home: Uint8Array,
  journalErrno: number,
  isForWriter = false,
): Uint8Array {
  const bytes = replayed.raw.slice();
  const copy = (from: number, end: number): void => bytes.set(home.subarray(from, end), from);
  copy(SB.s_error_count, ERROR_RECORD_END);
  copy(SB.s_first_error_time_hi, ERROR_RECORD_HI_END);
  const errorState =
    (le16(home, SB.s_state) | (journalErrno === 0 ? 0 : STATE_ERROR)) & STATE_ERROR;
  putLe16(bytes, SB.s_state, le16(bytes, SB.s_state) | errorState);
  const others = le32(bytes, SB.s_feature_incompat) & ~INCOMPAT_RECOVER;
  putLe32(bytes, SB.s_feature_incompat, isForWriter ? others | INCOMPAT_RECOVER : others);
  const wasGood = superblockChecksum(replayed.raw) === le32(replayed.raw, SB.s_checksum);
  // A wrong checksum stays wrong: it is the reader's to judge.
  if (replayed.hasMetadataCsum && wasGood) {
    copy(SB.s_checksum, SUPERBLOCK_BYTES); // The second sector stays as it is at home.
    sealSuperblock(bytes);
  }
  return bytes;
}

/** Refuses copies of blocks that the replayed superblock says do not exist. */
function checkHomes(contents: LogContents, blockCount: number): void {
  for (const [home, { journalBlock, tid }] of contents.copies) {
    if (home < blockCount) continue;
    const where = `journal block ${journalBlock}, transaction ${tid}`;
    const detail = `${where}: home block ${home} is outside the ${blockCount} blocks`;
    throw new FsError("EUCLEAN", { detail });
  }
}

/**
 * The device as after recovery of `contents`, its superblock included; nothing has been written.
 *
 * @throws {FsError} `EUCLEAN` for a copy of a block that does not exist
 */
export async function overlayOf(
  ctx: ExtContext,
  device: BlockDevice,
  journal: OpenJournal,
  contents: LogContents,
  options: Pick<ReplayOptions, "clock" | "signal"> & { readonly isForWriter?: boolean },
): Promise<JournalOverlayDevice> {
  const over = new JournalOverlayDevice(device, replayedBlocks(journal, contents), {
    blockBytes: ctx.sb.blockBytes,
    journalDevice: journal.found.device,
    clock: options.clock,
  });
  const { signal } = options;
  const replayed = await readDevice(over, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  let { blockCount } = ctx.sb;
  const after = decodeSuperblock(replayed);
  if (after !== undefined) {
    blockCount = Math.max(blockCount, after.blockCount); // A resize may be in the log.
    const { errno } = journal.sb;
    over.patchSuperblock(recoveredSuperblock(after, ctx.sb.raw, errno, options.isForWriter));
  }
  checkHomes(contents, blockCount);
  return over;
}

/**
 * What is to be replayed of the log; nothing if it is empty.
 *
 * @throws {FsError} what `scanLog` throws
 */
export async function scanJournal(
  ctx: ExtContext,
  device: BlockDevice,
  { found, sb, log }: OpenJournal,
  salvage: boolean,
): Promise<LogContents> {
  const deviceBlockCount = Math.floor(device.sizeBytes / ctx.sb.blockBytes);
  const blockCountMax = Math.max(ctx.sb.blockCount, deviceBlockCount);
  const isHomeBlock = (blocknr: number): boolean =>
    blocknr < blockCountMax && (found.isExternal || !found.map.contains(blocknr));
  const nothing: LogContents = {
    copies: new Map(),
    endTid: sb.sequence,
    endBlock: sb.first,
    transactionCount: 0,
    tagCount: 0,
    revokedCount: 0,
    isWhole: true,
    warnings: [],
  };
  return sb.start === 0 ? nothing : scanLog(log, sb, { isHomeBlock, salvage });
}

/**
 * Deals with the journal of the file system that `ctx` reads from `device` as it lies there, and
 * returns what to read instead. Nothing is written. The caller opens the file system anew on
 * `device` of the result, consults `fastCommits`, and closes neither device.
 *
 * Reads the live part of the log once. Memory: O(distinct home blocks in it), not O(bytes).
 *
 * @throws {FsError} what `scanLog`, `decodeJournalSuperblock` and `readFastCommits` throw for a log
 *   that is needed and damaged; `EOPNOTSUPP` if the journal is on another device that was not
 *   given, `EINVAL` if the one given is not its; `EIO`
 */
export async function replayIntoMemory(
  ctx: ExtContext,
  device: BlockDevice,
  options: ReplayOptions,
): Promise<Replay> {
  const { sb } = ctx;
  const isNeeded = sb.hasIncompat(INCOMPAT_RECOVER);
  const hasJournal = sb.hasCompat(COMPAT_HAS_JOURNAL);
  if (options.noload === true || !hasJournal) {
    if (isNeeded) ctx.warn("the file system needs recovery, but its journal was not replayed");
    return { device, fastCommits: undefined, journal: undefined };
  }
  if (sb.journalIno === 0 && isZero(sb.journalUuid)) {
    throw new FsError("EUCLEAN", { detail: "superblock: s_journal_inum and s_journal_uuid are 0" });
  }
  if (!isNeeded) {
    const journal = await inspect(ctx, device, options);
    return { device, fastCommits: undefined, journal };
  }
  const salvage = options.salvage === true;
  const journal = await openJournal(ctx, device, options);
  const contents = await scanJournal(ctx, device, journal, salvage);
  for (const text of contents.warnings) ctx.warn(text);
  const over = await overlayOf(ctx, device, journal, contents, options);
  let fastCommits: FastCommitOverlay | undefined;
  if (journal.sb.isFastCommit && journal.sb.start !== 0 && contents.isWhole) {
    const { log } = journal;
    fastCommits = await readFastCommits(ctx, log, journal.sb, contents.endTid, salvage);
  }
  warnOfErrno(ctx, journal.sb);
  const info = journalInfoOf(journal, contents, fastCommits?.commitCount ?? 0);
  if (info.transactionCount > 0) {
    const what = `${info.transactionCount} transactions with ${info.replayedBlockCount} blocks`;
    ctx.warn(`the journal was replayed into memory, ${what}; the image is unchanged`);
  }
  return { device: over, fastCommits, journal: info };
}
