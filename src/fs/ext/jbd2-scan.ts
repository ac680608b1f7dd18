/**
 * The walk over a log that needs recovery: which transactions are real, and where each home block's
 * newest copy lies.
 *
 *     start --> D t | copies | R t | C t     --> D t+1 | copies | C t+1   --> not t+2: the end
 *               \---- pending ----/ commit: pending becomes contents
 *
 * The kernel walks three times (scan, revoke, replay) because it writes as it goes. We keep
 * references instead, so once is enough: the copies of a transaction count from its commit block
 * on, later ones replace earlier ones, and what is revoked is taken out at the end. That gives the
 * same home blocks, since copies come in the order of transaction ids: if the newest copy is
 * revoked, so are all.
 *
 *  1. Only a commit block makes a transaction real. What precedes a missing one is no error,
 *     however damaged: it may be torn.
 *  2. Every checksum, and every home block's number, of a real transaction is checked before the
 *     caller hears of any copy. By default one failure refuses the whole log.
 *  3. A copy is never interpreted. Stale blocks look valid; only the transaction id ends the walk.
 *  4. The walk goes once round the log at most.
 *  5. Memory is that of the distinct home blocks, revoked ones included, not of the log.
 *
 * After `do_one_pass` in `fs/jbd2/recovery.c` of Linux 6.18, also where it forgives: a commit block
 * torn behind its record, leftovers of an older log that are recognised by their time.
 */
import { type ErrnoCode, FsError } from "../../lib/errno.ts";
import {
  addToV1Sum,
  commitBlockChecksum,
  commitRecordChecksum,
  copyChecksum,
  isControlBlockGood,
  V1_SUM_START,
} from "./jbd2-checksum.ts";
import {
  type CommitRecord,
  decodeCommit,
  decodeHeader,
  decodeRevokes,
  decodeTags,
  isOlderCommit,
  JBD2_COMMIT_BLOCK,
  JBD2_DESCRIPTOR_BLOCK,
  JBD2_REVOKE_BLOCK,
  type JournalTag,
  nextTid,
} from "./jbd2-format.ts";
import { RevokeTable } from "./jbd2-revoke.ts";
import type { JournalSuperblock } from "./jbd2-superblock.ts";
import type { JournalLog } from "./journal-log.ts";

/** Where the newest copy of a home block lies. */
export interface LogCopy {
  readonly journalBlock: number;
  readonly tid: number;
  /** The magic number belongs into its first word. */
  readonly isEscaped: boolean;
}

/** What a log holds that is to be replayed. */
export interface LogContents {
  /** By home block; revoked ones are left out. */
  readonly copies: ReadonlyMap<number, LogCopy>;
  /** First transaction id that was not replayed. */
  readonly endTid: number;
  /** The block behind the last transaction that is replayed. */
  readonly endBlock: number;
  readonly transactionCount: number;
  readonly tagCount: number;
  /** Home blocks whose copies a revoke suppressed. */
  readonly revokedCount: number;
  /** False if `salvage` left something out. */
  readonly isWhole: boolean;
  readonly warnings: readonly string[];
}

/** How damage is met, and what a home block may be. */
export interface ScanOptions {
  /** True if a copy may belong to `blocknr`: inside the file system, outside the journal. */
  readonly isHomeBlock: (blocknr: number) => boolean;
  /**
   * Take what can be had: a damaged copy is left out, and before a transaction that is damaged
   * otherwise the replay ends.
   */
  readonly salvage: boolean;
}

interface Damage {
  readonly code: ErrnoCode;
  readonly detail: string;
}

/** What was read of the transaction whose commit block is still to come. */
class PendingTransaction {
  readonly copies = new Map<number, LogCopy>();
  readonly revokes = new Set<number>();
  tagCount = 0;
  v1Sum: number = V1_SUM_START;
  /**
   * A descriptor or revoke block with a wrong checksum: torn, stale or damaged, the commit tells.
   */
  suspect: string | undefined = undefined;
  /** Makes the transaction unusable if it is real. */
  damage: Damage | undefined = undefined;
  /** Copies with wrong checksums: the first of them in words, and how many. */
  badCopy: string | undefined = undefined;
  badCopyCount = 0;
}

class LogWalk {
  readonly #log: JournalLog;
  readonly #sb: JournalSuperblock;
  readonly #options: ScanOptions;
  readonly #copies = new Map<number, LogCopy>();
  readonly #revoked = new RevokeTable();
  readonly #warnings: string[] = [];
  #position: number;
  #expected: number;
  #blocksPassed = 0;
  #pending = new PendingTransaction();
  #lastCommit: CommitRecord | undefined = undefined;
  /** With v1 sums and async commits: the transaction that failed and may only be the last one. */
  #failedLast: number | undefined = undefined;
  #endBlock: number;
  #transactionCount = 0;
  #tagCount = 0;
  #isWhole = true;

  constructor(log: JournalLog, sb: JournalSuperblock, options: ScanOptions) {
    this.#log = log;
    this.#sb = sb;
    this.#options = options;
    this.#position = sb.start;
    this.#endBlock = sb.start;
    this.#expected = sb.sequence;
  }

  async run(): Promise<LogContents> {
    let goesOn = true;
    while (goesOn) goesOn = await this.#block();
    const revokedCount = this.#revoked.removeFrom(this.#copies);
    return {
      copies: this.#copies,
      endTid: this.#failedLast ?? this.#expected,
      endBlock: this.#endBlock,
      transactionCount: this.#transactionCount,
      tagCount: this.#tagCount,
      revokedCount,
      isWhole: this.#isWhole,
      warnings: this.#warnings,
    };
  }

  /** Goes over one control block and its copies. False at the end of the log. */
  async #block(): Promise<boolean> {
    const at = this.#position;
    const block = this.#log.peek(at) ?? (await this.#log.load(at));
    const header = decodeHeader(block);
    if (header === undefined || header.tid !== this.#expected) return false;
    const { type } = header;
    if (
      type !== JBD2_DESCRIPTOR_BLOCK &&
      type !== JBD2_COMMIT_BLOCK &&
      type !== JBD2_REVOKE_BLOCK
    ) {
      return false;
    }
    if (this.#blocksPassed >= this.#sb.last - this.#sb.first) {
      const detail = `journal block ${at}: the log goes round without an end`;
      throw new FsError("EUCLEAN", { detail });
    }
    this.#step();
    if (type === JBD2_COMMIT_BLOCK) return this.#commit(block, at);
    const { checksumVersion, seed } = this.#sb;
    if (checksumVersion !== 0 && !isControlBlockGood(seed, block)) {
      const what = type === JBD2_REVOKE_BLOCK ? "revoke block" : "descriptor";
      this.#pending.suspect ??= this.#where(at, `checksum of the ${what} does not match`);
    }
    if (type === JBD2_REVOKE_BLOCK) this.#revoke(block, at);
    else await this.#descriptor(block);
    return true;
  }

  #where(journalBlock: number, what: string): string {
    return `journal block ${journalBlock}, transaction ${this.#expected}: ${what}`;
  }

  /** Moves on by one block, round the end of the log. */
  #step(): void {
    this.#blocksPassed++;
    this.#position = this.#position + 1 === this.#sb.last ? this.#sb.first : this.#position + 1;
  }

  #revoke(block: Uint8Array, at: number): void {
    const blocknrs = decodeRevokes(block, this.#sb);
    if (blocknrs === undefined) {
      const detail = this.#where(at, "r_count is larger than the block");
      this.#pending.damage ??= { code: "EUCLEAN", detail };
      return;
    }
    for (const blocknr of blocknrs) this.#pending.revokes.add(blocknr);
  }

  async #descriptor(block: Uint8Array): Promise<void> {
    const tags = decodeTags(block, this.#sb);
    const pending = this.#pending;
    const hasSums = this.#sb.checksumVersion !== 0 || this.#sb.hasChecksumV1;
    if (this.#sb.hasChecksumV1) pending.v1Sum = addToV1Sum(pending.v1Sum, block);
    for (const tag of tags) {
      const at = this.#position;
      if (hasSums && pending.suspect === undefined) {
        this.#copy(tag, at, this.#log.peek(at) ?? (await this.#log.load(at)));
      } else {
        this.#keep(tag, at);
      }
      this.#step();
    }
  }

  #copy(tag: JournalTag, at: number, data: Uint8Array): void {
    const { checksumVersion, seed } = this.#sb;
    if (checksumVersion === 0) {
      this.#pending.v1Sum = addToV1Sum(this.#pending.v1Sum, data);
    } else {
      const sum = copyChecksum(seed, this.#expected, data);
      if ((checksumVersion === 3 ? sum : sum & 0xffff) !== tag.checksum) {
        const what = `checksum of the copy of block ${tag.blocknr} does not match`;
        this.#pending.badCopy ??= this.#where(at, what);
        this.#pending.badCopyCount++;
        return;
      }
    }
    this.#keep(tag, at);
  }

  #keep(tag: JournalTag, journalBlock: number): void {
    const { blocknr, isEscaped } = tag;
    this.#pending.tagCount++;
    if (this.#options.isHomeBlock(blocknr)) {
      this.#pending.copies.set(blocknr, { journalBlock, tid: this.#expected, isEscaped });
    } else {
      const detail = this.#where(journalBlock, `home block ${blocknr} cannot be journaled`);
      this.#pending.damage ??= { code: "EUCLEAN", detail };
    }
  }

  /** Judges the transaction that `block` commits. False if the log ends before it. */
  #commit(block: Uint8Array, at: number): boolean {
    const record = decodeCommit(block);
    if (this.#pending.suspect !== undefined) {
      if (isOlderCommit(record, this.#lastCommit)) return false; // Left over from an older log.
      return this.#refuse({ code: "EBADMSG", detail: this.#pending.suspect });
    }
    if (this.#failedLast !== undefined) {
      const what = `follows transaction ${this.#failedLast}, whose checksum does not match`;
      return this.#refuse({ code: "EUCLEAN", detail: this.#where(at, what) });
    }
    if (!this.#isCommitGood(block, record, at)) {
      if (isOlderCommit(record, this.#lastCommit)) return false;
      const detail = this.#where(at, "checksum of the commit block does not match");
      if (!this.#sb.isAsyncCommit) return this.#refuse({ code: "EUCLEAN", detail });
      if (!this.#sb.hasChecksumV1) return false;
      this.#failedLast = this.#expected;
      this.#begin();
      return true;
    }
    return this.#accept(record);
  }

  #isCommitGood(block: Uint8Array, record: CommitRecord, at: number): boolean {
    if (this.#sb.hasChecksumV1) {
      const { checksumType, checksumSize, checksum } = record;
      if (checksumType === 0 && checksumSize === 0 && checksum === 0) return true;
      return checksumType === 1 && checksumSize === 4 && checksum === this.#pending.v1Sum;
    }
    const { checksumVersion, seed } = this.#sb;
    if (checksumVersion === 0 || commitBlockChecksum(seed, block) === record.checksum) return true;
    if (commitRecordChecksum(seed, block) !== record.checksum) return false;
    this.#warnings.push(this.#where(at, "the commit block is torn behind its record; accepted"));
    return true;
  }

  /** Takes over a transaction whose commit block is good. False if it cannot be used. */
  #accept(record: CommitRecord): boolean {
    const { damage, badCopy, badCopyCount, copies, revokes, tagCount } = this.#pending;
    if (damage !== undefined) return this.#refuse(damage);
    if (badCopy !== undefined) {
      if (!this.#options.salvage) throw new FsError("EBADMSG", { detail: badCopy });
      const others = badCopyCount > 1 ? `, nor of ${badCopyCount - 1} others` : "";
      this.#warnings.push(`${badCopy}${others}; left out`);
      this.#isWhole = false;
    }
    for (const [blocknr, copy] of copies) this.#copies.set(blocknr, copy);
    for (const blocknr of revokes) this.#revoked.add(blocknr, this.#expected);
    this.#transactionCount++;
    this.#tagCount += tagCount;
    this.#lastCommit = record;
    this.#endBlock = this.#position;
    this.#begin();
    return true;
  }

  #begin(): void {
    this.#expected = nextTid(this.#expected);
    this.#pending = new PendingTransaction();
  }

  /** Throws `damage`, or ends the log before this transaction if the caller asked to salvage. */
  #refuse(damage: Damage): false {
    if (!this.#options.salvage) throw new FsError(damage.code, { detail: damage.detail });
    this.#warnings.push(`${damage.detail}; replay ends before that transaction`);
    this.#isWhole = false;
    return false;
  }
}

/**
 * Walks the log of `sb`, which needs recovery (`start` is not 0), and returns what is to be
 * replayed. Reads the live part of the log once, in pieces as large as the window of `log`; writes
 * nothing.
 *
 * @throws {FsError} `EBADMSG` for a wrong checksum in a committed transaction, `EUCLEAN` for a
 *   commit block whose checksum is wrong, a home block that cannot be, a wrong `r_count`, a hole in
 *   the journal or a log without an end; `EIO` for a failed read. With `salvage` only the last
 *   three.
 * @see `jbd2_journal_recover`
 */
export function scanLog(
  log: JournalLog,
  sb: JournalSuperblock,
  options: ScanOptions,
): Promise<LogContents> {
  return new LogWalk(log, sb, options).run();
}
