/** Makes the transactions of a file system that is open for writing. */
import type { Clock } from "../../lib/clock.ts";
import type { ExtCore } from "./core.ts";
import { DirectLog, readFixedBlocks } from "./direct-log.ts";
import { INCOMPAT_64BIT } from "./features.ts";
import { firstFreeTid } from "./jbd2-superblock.ts";
import { Journal } from "./journal.ts";
import type { JournalFile } from "./journal-file.ts";
import type { BlockTable } from "./transaction.ts";
import { ExtTransactions } from "./transactions.ts";

/**
 * Transactions over the file system of `core`: through the journal `file`, which `recoverJournal`
 * has returned, or straight home. Commits wait for data if `isOrdered`. Nothing is written yet.
 */
export function openTransactions(
  core: ExtCore,
  file: JournalFile | undefined,
  clock: Clock,
  isOrdered = true,
): ExtTransactions {
  const { metadata, sb, bdev } = core;
  if (file === undefined) {
    const makeLog = (table: BlockTable): DirectLog =>
      new DirectLog(bdev, table, sb.blockBytes, () => readFixedBlocks(core));
    return new ExtTransactions({ metadata, clock, makeLog, isOrdered });
  }
  const is64Bit = sb.hasIncompat(INCOMPAT_64BIT);
  file.adopt({ hasMetadataCsum: sb.hasMetadataCsum, is64Bit });
  const firstTid = firstFreeTid(file.sb);
  const makeLog = (table: BlockTable): Journal => new Journal({ file, device: bdev, clock }, table);
  return new ExtTransactions({ metadata, clock, makeLog, firstTid, isOrdered });
}
