/** Makes the transactions of a file system that is open for writing. */
import type { Clock } from "../../lib/clock.ts";
import type { ExtCore } from "./core.ts";
import { DirectLog } from "./direct-log.ts";
import { INCOMPAT_64BIT } from "./features.ts";
import { firstFreeTid } from "./jbd2-superblock.ts";
import { Journal } from "./journal.ts";
import { openJournalFile } from "./journal-file.ts";
import type { FoundJournal } from "./journal-inode.ts";
import { ExtTransactions } from "./transactions.ts";

/**
 * Transactions over the file system of `core`, with the journal that was `found` or without. The
 * log is empty: recovered. Nothing is written yet.
 *
 * @throws {FsError} what `openJournalFile` throws
 */
export async function openTransactions(
  core: ExtCore,
  found: FoundJournal | undefined,
  clock: Clock,
): Promise<ExtTransactions> {
  const { metadata, sb, bdev } = core;
  if (found === undefined) {
    const makeLog = (table: ConstructorParameters<typeof DirectLog>[1]): DirectLog =>
      new DirectLog(bdev, table, sb.blockBytes);
    return new ExtTransactions({ metadata, clock, makeLog });
  }
  const file = await openJournalFile(found, {
    blockBytes: sb.blockBytes,
    hasMetadataCsum: sb.hasMetadataCsum,
    is64Bit: sb.hasIncompat(INCOMPAT_64BIT),
  });
  return new ExtTransactions({
    metadata,
    clock,
    makeLog: (table) => new Journal({ file, device: bdev, clock }, table),
    firstTid: firstFreeTid(file.sb),
  });
}
