/**
 * The sink of file systems without a journal: each commit writes its blocks home and flushes.
 *
 * After 4.12 of the specification of the journal.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { flushDevice } from "../../block/write-device.ts";
import { writeHome } from "./home-writes.ts";
import type { BlockTable, LogSink, PreparedCommit, Transaction } from "./transaction.ts";

const MAX_BLOCKS = 4096;

/** See the head of the file. */
export class DirectLog implements LogSink {
  readonly maxBlocks: number = MAX_BLOCKS;
  readonly #device: BlockDevice;
  readonly #table: BlockTable;
  readonly #blockBytes: number;

  constructor(device: BlockDevice, table: BlockTable, blockBytes: number) {
    this.#device = device;
    this.#table = table;
    this.#blockBytes = blockBytes;
  }

  isLogged(): boolean {
    return false;
  }

  hasRoom(): boolean {
    return true;
  }

  prepare(transaction: Transaction, ordered: Promise<void> | undefined): PreparedCommit {
    const copies = [...transaction.blocks].map(({ blocknr, data }) => {
      return { blocknr, data: data.slice() };
    });
    return {
      write: async () => {
        await ordered;
        await writeHome(this.#device, copies, this.#blockBytes);
        await flushDevice(this.#device);
      },
    };
  }

  committed(transaction: Transaction): void {
    for (const block of transaction.blocks) {
      block.committing = null;
      this.#table.releaseIfIdle(block);
    }
    for (const block of transaction.freed) {
      block.freed = null;
      this.#table.releaseIfIdle(block);
    }
  }

  readonly isCrowded = false;
  async checkpoint(): Promise<void> {}

  async empty(): Promise<void> {}

  async abort(): Promise<void> {}
}

/** Makes the sink of a file system without a journal, for `ExtTransactions`. */
export function directLog(device: BlockDevice, blockBytes: number): (table: BlockTable) => LogSink {
  return (table) => new DirectLog(device, table, blockBytes);
}
