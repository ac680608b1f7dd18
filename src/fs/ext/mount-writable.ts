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
import { FsError } from "../../lib/errno.ts";
import type { Random } from "../../lib/random.ts";
import { ExtCore } from "./core.ts";
import { INCOMPAT_MMP, RO_COMPAT_ORPHAN_PRESENT } from "./features.ts";
import { applyFastCommits } from "./fast-commit-apply.ts";
import type { FoundSuperblock } from "./find-superblock.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import { MmpGuard } from "./mmp-guard.ts";
import { openTransactions } from "./open-transactions.ts";
import { processOrphans } from "./orphan-cleanup.ts";
import { settleOrphanFile } from "./orphan-write.ts";
import { type RecoverOptions, recoverJournal } from "./recover.ts";
import type { JournalInfo } from "./recovery.ts";
import { readSuperblock } from "./superblock.ts";
import {
  patchClosed,
  patchError,
  patchOpened,
  STATE_ERROR,
  STATE_VALID,
} from "./superblock-write.ts";
import { writeRefusal } from "./write-support.ts";
import { ExtWriter } from "./writer.ts";

/** What mounting for writing needs beside the device. */
export interface WritableOptions extends RecoverOptions {
  readonly random: Random;
  /** Write past the journal, as if there were none. */
  readonly isUnlogged?: boolean | undefined;
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

  /** Marks the image as whole: all must be home, and nothing may be changed until `markInUse`. */
  async markClean(): Promise<void> {
    const { superblock } = this.writer;
    await superblock.writeNow(this.core.bdev, (raw) => patchClosed(raw, this.#wasValid));
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
   * Notes in the superblock that the image is damaged, as `error` says; the next check looks at all
   * of it (`ext4_error`).
   */
  async recordError(error: FsError, where: string): Promise<void> {
    const code = error.code === "EBADMSG" ? ERROR_BAD_CHECKSUM : ERROR_CORRUPTED;
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
    if (this.core.sb.hasRoCompat(RO_COMPAT_ORPHAN_PRESENT)) {
      await attempt(async () => {
        await this.writer.transactions.run((handle) => settleOrphanFile(this.writer, handle));
      });
    }
    await attempt(() => this.writer.transactions.close());
    if (failures.length === 0) await attempt(() => this.markClean());
    await attempt(() => this.#guard?.give() ?? Promise.resolve());
    await attempt(() => this.core.close());
    if (failures.length > 0) throw failures[0];
  }
}

/** `EXT4_ERR_EFSBADCRC`, `EXT4_ERR_EFSCORRUPTED`. */
const ERROR_BAD_CHECKSUM = 4;
const ERROR_CORRUPTED = 5;

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
 *   `EOPNOTSUPP` for an external journal that was not given, `EIO`
 */
export async function mountWritable(
  bdev: BlockDevice,
  cache: PageCache,
  found: FoundSuperblock,
  options: WritableOptions,
  warn: (text: string) => void,
): Promise<ExtMount> {
  checkWritable(bdev, found);
  const { clock, random, signal } = options;
  let core = new ExtCore(found.sb, found.blocknr, bdev, cache, warn, false);
  let guard: MmpGuard | undefined;
  try {
    if (core.sb.hasIncompat(INCOMPAT_MMP)) guard = await takeGuard(core, bdev, options);
    const { file, journal, isReplayed } = await recoverJournal(core, bdev, {
      ...options,
      applyFastCommits: async (device, fastCommits) => {
        const bytes = await readDevice(device, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
        const sb = readSuperblock(bytes, device.sizeBytes);
        const apply = { cache, clock, random, warn, signal };
        return applyFastCommits(device, sb, fastCommits, apply);
      },
    });
    if (isReplayed) {
      await core.close();
      core = await freshCore(bdev, cache, warn, found.blocknr, signal);
    }
    const state = le16(core.sb.raw, SB.s_state);
    if ((state & STATE_ERROR) !== 0) {
      warn("the image has errors, as an earlier mount has found: run e2fsck on it");
    }
    const log = options.isUnlogged === true ? undefined : file;
    const transactions = openTransactions(core, log, clock);
    const writer = await ExtWriter.open(core, transactions, { clock, random }, signal);
    const wasValid = (state & STATE_VALID) !== 0;
    const hasJournal = log !== undefined;
    const mount = new ExtMount({ core, writer, journal, guard, wasValid, hasJournal });
    await writer.superblock.writeNow(bdev, (raw) => patchOpened(raw, hasJournal, writer.now()));
    await processOrphans(writer);
    return mount;
  } catch (thrown) {
    await guard?.give();
    await core.close();
    throw thrown;
  }
}

function takeGuard(
  core: ExtCore,
  bdev: BlockDevice,
  { clock, random, signal }: WritableOptions,
): Promise<MmpGuard> {
  return MmpGuard.take(core, bdev, {
    clock,
    random,
    signal,
    onLost: (cause) => core.warn(`no more is written: ${cause.message}`),
  });
}
