/**
 * Finding the fast commits that count: those of the transaction that would come next, up to the
 * last whose TAIL is right.
 *
 *     HEAD t, records, TAIL t ok | records, TAIL t ok | records, TAIL t BAD | old records ..
 *     \------------- these count -------------------/   \-- never acknowledged, or old --/
 *
 * The area behind the log is written from its first block on after each full commit and never
 * erased, so what follows the last good TAIL is old or torn. Only if not even the first fast commit
 * is good is that damage, and refuses the open.
 *
 * After `ext4_fc_replay_scan` in `fs/ext4/fast_commit.c` of Linux.
 */
import { le16, le32 } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import { type ErrnoCode, FsError } from "../../lib/errno.ts";
import {
  decodeRecord,
  type FastCommitRecord,
  FC_HEAD,
  FC_HEADER_BYTES,
  FC_TAIL,
  isRecordLengthGood,
} from "./fast-commit-format.ts";
import type { JournalLog } from "./journal-log.ts";

/** What was found. */
export interface FastCommits {
  /** In the order in which they are to be applied. */
  readonly records: readonly FastCommitRecord[];
  /** Good TAILs. */
  readonly commitCount: number;
}

/** Where the area is, and what it must hold. */
export interface FastCommitArea {
  /** Its journal blocks, half-open. */
  readonly firstBlock: number;
  readonly endBlock: number;
  /** The transaction that comes next. */
  readonly tid: number;
  readonly inodeBytes: number;
}

/** Thrown inside the scan where the good part ends; not an error by itself. */
interface Stop {
  readonly code: ErrnoCode;
  readonly detail: string;
}

class FastCommitScan {
  readonly #area: FastCommitArea;
  #good: FastCommitRecord[] = [];
  #pending: FastCommitRecord[] = [];
  #crc = 0;
  commitCount = 0;
  /** Why the scan has ended before the end of the area. */
  stop: Stop | undefined = undefined;
  /** The area holds nothing for this transaction. */
  isForeign = false;

  constructor(area: FastCommitArea) {
    this.#area = area;
  }

  get records(): readonly FastCommitRecord[] {
    return this.#good;
  }

  /** Takes in one block. False if the scan has ended. */
  block(block: Uint8Array, journalBlock: number): boolean {
    const isFirst = journalBlock === this.#area.firstBlock;
    if (isFirst && le16(block, 0) !== FC_HEAD) {
      this.isForeign = true;
      return false;
    }
    let at = 0;
    while (at + FC_HEADER_BYTES <= block.length) {
      const tag = le16(block, at);
      const lengthBytes = le16(block, at + 2);
      const end = at + FC_HEADER_BYTES + lengthBytes;
      const where = `journal block ${journalBlock}, fast-commit record at ${at}`;
      if (end > block.length || !isRecordLengthGood(tag, lengthBytes, this.#area.inodeBytes)) {
        const detail = `${where}: tag ${tag} of ${lengthBytes} bytes cannot be`;
        this.stop = { code: "EUCLEAN", detail };
        return false;
      }
      if (!this.#record(tag, block, at, end, where)) return false;
      at = end;
    }
    return true;
  }

  #record(tag: number, block: Uint8Array, at: number, end: number, where: string): boolean {
    const valueAt = at + FC_HEADER_BYTES;
    if (tag === FC_TAIL) return this.#tail(block, at, where);
    if (tag === FC_HEAD && !this.#head(block, valueAt, where)) return false;
    this.#crc = crc32c(this.#crc, block, at, end);
    const record = decodeRecord(tag, block.subarray(valueAt, end));
    if (record !== undefined) this.#pending.push(record);
    return true;
  }

  #head(block: Uint8Array, valueAt: number, where: string): boolean {
    const features = le32(block, valueAt);
    if (features !== 0) {
      const detail = `${where}: unknown features 0x${features.toString(16)}`;
      this.stop = { code: "EOPNOTSUPP", detail };
      return false;
    }
    this.isForeign = le32(block, valueAt + 4) !== this.#area.tid;
    return !this.isForeign;
  }

  #tail(block: Uint8Array, at: number, where: string): boolean {
    const valueAt = at + FC_HEADER_BYTES;
    const crc = crc32c(this.#crc, block, at, valueAt + 4);
    if (le32(block, valueAt) !== this.#area.tid || le32(block, valueAt + 4) !== crc) {
      this.stop = { code: "EBADMSG", detail: `${where}: checksum or transaction is wrong` };
      return false;
    }
    for (const record of this.#pending) this.#good.push(record);
    this.#pending = [];
    this.#crc = 0;
    this.commitCount++;
    return true;
  }
}

/**
 * Reads the fast commits of `area` from `log`.
 *
 * @throws {FsError} if there is no good one although the area begins with one of this transaction:
 *   `EBADMSG` for a wrong checksum, `EUCLEAN` for a record that cannot be; `EOPNOTSUPP` for
 *   features in HEAD; `EIO`
 */
export async function scanFastCommits(log: JournalLog, area: FastCommitArea): Promise<FastCommits> {
  const scan = new FastCommitScan(area);
  for (let at = area.firstBlock; at < area.endBlock; at++) {
    const block = log.peek(at) ?? (await log.load(at, area.endBlock - at));
    if (!scan.block(block, at)) break;
  }
  const { stop, commitCount, records } = scan;
  if (stop !== undefined && (commitCount === 0 || stop.code === "EOPNOTSUPP")) {
    throw new FsError(stop.code, { detail: stop.detail });
  }
  return { records, commitCount };
}
