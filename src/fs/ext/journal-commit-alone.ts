/**
 * One transaction in a log that is empty otherwise: written, durable, home. It is how recovery
 * makes lasting what is not in the form of transactions yet, all of it or nothing.
 *
 *     log      | superblock: start s, tid 7 | ..  s: descriptor, copies | commit 7 |  head: ..
 *     before   all transactions up to 6 are home, the log is empty from s on
 *     after    7 is in the log and home
 *
 *  1. It ends where the log before it has ended: what was written behind that of a transaction with
 *     the same number, and never committed, does not become part of it.
 *  2. Until its commit block is durable nothing of it counts; from then on a recovery repeats it.
 *  3. It does not go round the end of the log, about which tools do not agree where fast commits
 *     are in use.
 *
 * After `jbd2_journal_commit_transaction` of Linux, for one transaction.
 */
import { REQ_FUA, REQ_PREFLUSH } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { flushDevice } from "../../block/write-device.ts";
import type { Clock } from "../../lib/clock.ts";
import { type HomeBlock, writeHome } from "./home-writes.ts";
import { encodeCommit, encodeTransaction } from "./jbd2-encode.ts";
import type { JournalFile } from "./journal-file.ts";

/** Where a transaction is written. */
export interface CommitAloneOptions {
  readonly file: JournalFile;
  /** Where homes are. */
  readonly device: BlockDevice;
  readonly clock: Clock;
}

/** Where the log before has ended, and the transaction that comes next. */
export interface LogEnd {
  readonly endBlock: number;
  readonly endTid: number;
}

/**
 * Writes `blocks` as transaction `endTid`, and home; all transactions before it are home, durably,
 * and the log has room for it. Both are durable when the promise resolves; the log is not marked as
 * empty.
 *
 * @throws {FsError} `EIO`: then it happens as a whole at the next recovery, or not at all
 */
export async function commitAlone(
  { file, device, clock }: CommitAloneOptions,
  blocks: readonly HomeBlock[],
  { endBlock, endTid }: LogEnd,
): Promise<void> {
  const { sb } = file;
  const image = encodeTransaction(endTid, blocks, [], sb);
  const count = image.bytes.length / sb.blockBytes + 1;
  const start = endBlock - count >= sb.first ? endBlock - count : sb.last - count;
  await file.writeTail({ start, sequence: endTid });
  await file.write(start, image.bytes);
  const commit = encodeCommit(endTid, clock.wallMs(), image.v1Sum, sb);
  await file.write(start + count - 1, commit, REQ_PREFLUSH | REQ_FUA);
  await writeHome(device, blocks, sb.blockBytes);
  await flushDevice(device);
}
