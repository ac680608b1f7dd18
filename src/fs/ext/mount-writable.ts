/**
 * Mounting for writing: what is checked, recovered and marked before the first change, and what is
 * put back in order at the end.
 *
 *     may it be written? --> nobody else has it --> journal recovered --> superblock: in use
 *         --> transactions --> orphans deleted           ... work ...
 *         --> all written --> log empty --> superblock: clean --> given back
 *
 *  1. Before the journal is recovered nothing is written but the block of multi-mount protection.
 *     An image that may not be written is refused, and stays as it is.
 *  2. Before the first change the image says that it is in use: it needs recovery or, without a
 *     journal, is not valid.
 *  3. It says that it is clean only if everything else could be written.
 *
 * After `__ext4_fill_super`, `ext4_setup_super` and `ext4_put_super` in `fs/ext4/super.c`.
 */
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { le16 } from "../../lib/bytes.ts";
import type { Clock } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import type { Random } from "../../lib/random.ts";
import { ExtCore } from "./core.ts";
import { type DataMode, dataModeOf } from "./data-mode.ts";
import { finishInodes } from "./evict.ts";
import { applyFastCommits } from "./fast-commit-apply.ts";
import { COMPAT_HAS_JOURNAL, INCOMPAT_MMP, RO_COMPAT_ORPHAN_PRESENT } from "./features.ts";
import type { FoundSuperblock } from "./find-superblock.ts";
import type { JournalRun } from "./journal-log.ts";
import { JournaledDataDevice } from "./journaled-data.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import { MmpGuard } from "./mmp-guard.ts";
import { openTransactions } from "./open-transactions.ts";
import { processOrphans } from "./orphan-cleanup.ts";
import { settleOrphanFile } from "./orphan-write.ts";
import { type Recovered, type RecoverOptions, recoverJournal } from "./recover.ts";
import type { JournalInfo } from "./recovery.ts";
import { RevocableDevice } from "./revocable-device.ts";
import { readSuperblock } from "./superblock.ts";
import {
  patchClosed,
  patchError,
  patchOpened,
  STATE_ERROR,
  STATE_VALID,
} from "./superblock-write.ts";
import type { ExtTransactions } from "./transactions.ts";
import { writeRefusal } from "./write-support.ts";
import { ExtWriter } from "./writer.ts";

/** What mounting for writing needs beside the device. */
export interface WritableOptions extends RecoverOptions {
  readonly random: Random;
  /** Write past the journal, as if there were none. */
  readonly isUnlogged?: boolean | undefined;
  /** How data and the journal go together; as the superblock says, or "ordered". */
  readonly data?: DataMode | undefined;
}

/** What is behind `ExtMount`, for its constructor. */
interface MountParts {
  readonly core: ExtCore;
  readonly writer: ExtWriter;
  readonly journal: JournalInfo | undefined;
  readonly guard: MmpGuard | undefined;
  readonly wasValid: boolean;
  readonly hasJournal: boolean;
}

/** A file system that is mounted for writing. */
export class ExtMount {
  readonly core: ExtCore;
  readonly writer: ExtWriter;
  /** What was found in the journal. */
  readonly journal: JournalInfo | undefined;
  readonly #guard: MmpGuard | undefined;
  readonly #wasValid: boolean;
  /** A journal that is written to. */
  readonly #hasJournal: boolean;

  /** For `mountWritable` alone. */
  constructor(parts: MountParts) {
    this.core = parts.core;
    this.writer = parts.writer;
    this.journal = parts.journal;
    this.#guard = parts.guard;
    this.#wasValid = parts.wasValid;
    this.#hasJournal = parts.hasJournal;
  }

  /**
   * Marks the image as whole: all must be home, and nothing may be changed until `markInUse`. One
   * with inodes that only a check would find stays in use.
   */
  async markClean(): Promise<void> {
    const { superblock } = this.writer;
    const isValid = this.#wasValid && !this.#hasLostInodes;
    await superblock.writeNow(this.core.bdev, (raw) => patchClosed(raw, isValid));
  }

  /** Brings all that was changed to its home: the log is empty then (`ext4_freeze`). */
  async flush(): Promise<void> {
    await this.#settleOrphans();
    await this.writer.transactions.flush();
  }

  async #settleOrphans(): Promise<void> {
    if (!this.core.sb.hasRoCompat(RO_COMPAT_ORPHAN_PRESENT)) return;
    await this.writer.transactions.run((handle) => settleOrphanFile(this.writer, handle));
  }

  /** True if an inode without a name is not deleted, and on no list, as there is no journal. */
  get #hasLostInodes(): boolean {
    const { inodes, sb } = this.core;
    if (sb.hasCompat(COMPAT_HAS_JOURNAL)) return false;
    for (const { ino, mode, linksCount, dtime, isDeleted } of inodes.inodes()) {
      const isInUse = mode !== 0 && dtime === 0 && !isDeleted && ino >= sb.firstIno;
      if (isInUse && linksCount === 0) return true;
    }
    return false;
  }

  /** Takes `markClean` back. */
  async markInUse(): Promise<void> {
    const { superblock } = this.writer;
    const hasJournal = this.#hasJournal;
    await superblock.writeNow(this.core.bdev, (raw) => {
      const count = le16(raw, SB.s_mnt_count);
      patchOpened(raw, hasJournal, this.writer.now());
      raw[SB.s_mnt_count] = count & 0xff; // It is the same mount.
      raw[SB.s_mnt_count + 1] = count >>> 8;
    });
  }

  /**
   * Notes in the superblock that the image is damaged, or could not be written, as `error` says;
   * the next check looks at all of it (`save_error_info`).
   */
  async recordError(error: Error, where: string): Promise<void> {
    const code = ERROR_CODES.get(error instanceof FsError ? error.code : "") ?? ERROR_IO;
    const record = { code, ino: 0, block: 0, where };
    const { superblock } = this.writer;
    await superblock.writeNow(this.core.bdev, (raw) => patchError(raw, record, this.writer.now()));
  }

  /**
   * Writes what is in transactions, and gives the image back. The files are written already.
   *
   * @throws {FsError} if something could not be written: then the image says that it is in use
   */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (work: () => Promise<void>): Promise<void> => {
      await work().catch((thrown: unknown) => failures.push(thrown));
    };
    await attempt(() => finishInodes(this.writer));
    await attempt(() => this.#settleOrphans());
    await attempt(() => this.writer.transactions.close());
    if (failures.length === 0) await attempt(() => this.markClean());
    await attempt(() => this.#guard?.give() ?? Promise.resolve());
    await attempt(() => this.core.close());
    if (failures.length > 0) throw failures[0];
  }
}

/** `EXT4_ERR_EIO`, and `EXT4_ERR_EFSBADCRC`, `EXT4_ERR_EFSCORRUPTED`. */
const ERROR_IO = 2;
const ERROR_CODES: ReadonlyMap<string, number> = new Map([
  ["EBADMSG", 4],
  ["EUCLEAN", 5],
]);

function checkWritable(bdev: BlockDevice, found: FoundSuperblock): void {
  const { sb } = found;
  if (bdev.isReadOnly) {
    throw new FsError("EROFS", { detail: `${bdev.name} can only be read` });
  }
  if (found.isBackup) {
    const detail = "with a copy of the superblock an image can only be read";
    throw new FsError("EINVAL", { detail });
  }
  const refusal = writeRefusal(sb);
  if (refusal !== undefined) {
    throw new FsError("EROFS", { detail: `the image may only be read: ${refusal}` });
  }
}

/** A core for writing over the device as it is now. */
async function freshCore(
  bdev: BlockDevice,
  cache: PageCache,
  warn: (text: string) => void,
  blocknr: number,
  signal: AbortSignal | undefined,
): Promise<ExtCore> {
  const bytes = await readDevice(bdev, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  const sb = readSuperblock(bytes, bdev.sizeBytes);
  return new ExtCore(sb, blocknr, bdev, cache, warn, false);
}

/**
 * Mounts the file system that `found` was read from. `warn` is told what the user must know.
 *
 * @throws {FsError} `EROFS` for an image that may not be written, with the reason; `EBUSY` for one
 *   that another machine has; `EUCLEAN`/`EBADMSG` for a damaged one or a damaged journal,
 *   `EOPNOTSUPP` for an external journal that was not given, `EINVAL` for `data=journal` without
 *   one that is written to, `EIO`
 */
export async function mountWritable(
  bdev: BlockDevice,
  cache: PageCache,
  found: FoundSuperblock,
  options: WritableOptions,
  warn: (text: string) => void,
): Promise<ExtMount> {
  checkWritable(bdev, found);
  const hasJournal = found.sb.hasCompat(COMPAT_HAS_JOURNAL) && options.isUnlogged !== true;
  const dataMode = dataModeOf(found.sb, options.data, hasJournal);
  const hasMmp = found.sb.hasIncompat(INCOMPAT_MMP);
  const device = hasMmp ? new RevocableDevice(bdev, options.clock) : bdev;
  let core = new ExtCore(found.sb, found.blocknr, device, cache, warn, false);
  let guard: MmpGuard | undefined;
  let transactions: ExtTransactions | undefined;
  const onLost = (cause: FsError): void => {
    warn(`no more is written: ${cause.message}`);
    if (device instanceof RevocableDevice) device.revoke(cause);
    transactions?.giveUp(cause);
  };
  try {
    if (hasMmp) guard = await MmpGuard.take(core, bdev, { ...options, onLost });
    const recovered = await recover(core, device, cache, options);
    if (recovered.isReplayed) {
      await core.close();
      core = await freshCore(device, cache, warn, found.blocknr, options.signal);
    }
    const log = options.isUnlogged === true ? undefined : recovered.file;
    transactions = openTransactions(core, log, options.clock, dataMode !== "writeback");
    if (log !== undefined) readDataThrough(core, transactions, options.clock);
    return await openMount(core, transactions, options, {
      guard,
      dataMode,
      journal: recovered.journal,
      hasJournal: log !== undefined,
      journalRuns: runsOf(recovered),
    });
  } catch (thrown) {
    transactions?.abandon();
    await guard?.give().catch(() => undefined);
    await core.close();
    throw thrown;
  }
}

/** Has data of files that is newer in memory than at its place read from there. */
function readDataThrough(core: ExtCore, transactions: ExtTransactions, clock: Clock): void {
  const newer = (blocknr: number): Uint8Array | undefined => transactions.newerThanHome(blocknr);
  core.dataDevice = new JournaledDataDevice(core.bdev, core.sb.blockBytes, newer, clock);
}

/** Where the journal lies among the blocks of the file system. */
function runsOf({ file }: Recovered): readonly JournalRun[] {
  return file === undefined || file.found.isExternal ? [] : file.found.map.runs;
}

/** Marks the image as in use, and finishes what earlier mounts have left. */
async function openMount(
  core: ExtCore,
  transactions: ExtTransactions,
  { clock, random, signal }: WritableOptions,
  parts: Pick<MountParts, "guard" | "journal" | "hasJournal"> & {
    readonly dataMode: DataMode | undefined;
    readonly journalRuns: readonly JournalRun[];
  },
): Promise<ExtMount> {
  const state = le16(core.sb.raw, SB.s_state);
  if ((state & STATE_ERROR) !== 0) {
    core.warn("the image has errors, as an earlier mount has found: run e2fsck on it");
  }
  const { dataMode, journalRuns } = parts;
  const writerOptions = { clock, random, dataMode, journalRuns };
  const writer = await ExtWriter.open(core, transactions, writerOptions, signal);
  const wasValid = (state & STATE_VALID) !== 0;
  const mount = new ExtMount({ ...parts, core, writer, wasValid });
  transactions.onAbort = (cause) => mount.recordError(cause, "journal");
  await writer.superblock.writeNow(core.bdev, (raw) => {
    patchOpened(raw, parts.hasJournal, writer.now());
  });
  await processOrphans(writer);
  return mount;
}

function recover(
  core: ExtCore,
  bdev: BlockDevice,
  cache: PageCache,
  options: WritableOptions,
): Promise<Recovered> {
  const { clock, random, signal } = options;
  const warn = core.warn.bind(core);
  return recoverJournal(core, bdev, {
    ...options,
    applyFastCommits: async (device, fastCommits) => {
      const bytes = await readDevice(device, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
      const sb = readSuperblock(bytes, device.sizeBytes);
      return applyFastCommits(device, sb, fastCommits, { cache, clock, random, warn, signal });
    },
  });
}
