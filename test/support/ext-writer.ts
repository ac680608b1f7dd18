/**
 * A writer of ext2/3/4 over an image in memory, past its journal by default: for tests of what
 * operations do to blocks. The image can be looked at by the real e2fsck and debugfs at any time.
 *
 *     const open = await openWriter(path);
 *     await open.run((handle) => allocInode(open.writer, handle, ..));
 *     await open.commit();
 *     open.save(path);                          // now e2fsck may see it
 *     await open.close();
 */
import { readFileSync, writeFileSync } from "node:fs";
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { ExtCore } from "../../src/fs/ext/core.ts";
import { findSuperblock } from "../../src/fs/ext/find-superblock.ts";
import type { Handle } from "../../src/fs/ext/handle.ts";
import { openTransactions } from "../../src/fs/ext/open-transactions.ts";
import { recoverJournal } from "../../src/fs/ext/recover.ts";
import type { ExtTransactions } from "../../src/fs/ext/transactions.ts";
import { ExtWriter } from "../../src/fs/ext/writer.ts";
import { realClock } from "../../src/lib/clock.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";

/** See the head of the file. */
export interface OpenWriter {
  readonly writer: ExtWriter;
  readonly core: ExtCore;
  readonly transactions: ExtTransactions;
  readonly store: CountingStore;
  /** The image as the disk has it. */
  readonly bytes: Uint8Array;
  readonly warnings: readonly string[];
  run<T>(operation: (handle: Handle) => T): Promise<T>;
  commit(): Promise<void>;
  /** Writes the image as the disk has it to `path`. */
  save(path: string): void;
  close(): Promise<void>;
}

/** How the writer is to be made. */
export interface WriterOptions {
  readonly arenaBytes?: number | undefined;
  readonly seed?: number | undefined;
  /** Through the image's journal, which needs no recovery. */
  readonly isJournaled?: boolean | undefined;
}

/** Opens the image at `path`, or the bytes of one, which stay as they are in the file. */
export async function openWriter(
  image: string | Uint8Array,
  options: WriterOptions = {},
): Promise<OpenWriter> {
  const bytes =
    typeof image === "string" ? new Uint8Array(readFileSync(image)) : Uint8Array.from(image);
  const store = new CountingStore(new MemoryStore(bytes));
  const bdev = new StoreBlockDevice(store, { clock: realClock });
  const cache = new PageCache({ arenaBytes: options.arenaBytes ?? 16 * MIB, clock: realClock });
  const found = await findSuperblock(bdev, "primary", undefined, undefined);
  const warnings: string[] = [];
  const warn = (text: string): void => void warnings.push(text);
  const core = new ExtCore(found.sb, found.blocknr, bdev, cache, warn, false);
  const { file } = options.isJournaled
    ? await recoverJournal(core, bdev, { clock: realClock })
    : { file: undefined };
  const transactions = await openTransactions(core, file, realClock);
  const random = new Random(options.seed ?? 1);
  const writer = await ExtWriter.open(core, transactions, { clock: realClock, random });
  return {
    ...{ writer, core, transactions, store, bytes, warnings },
    run: async (operation) => transactions.run(operation),
    commit: async () => {
      await transactions.commit();
    },
    save: (path) => writeFileSync(path, bytes),
    close: async () => {
      await transactions.close();
      await core.close();
    },
  };
}
