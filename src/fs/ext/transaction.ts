/**
 * One transaction, the blocks it changes, and what a log must be able to do with it.
 *
 *     running      operations add blocks; the buffers are changed in place
 *        | switch: seals, copies, in one stretch of code
 *     committing   the copies go to the log
 *        | durable
 *     committed    its blocks wait for their way home, until a later transaction has them too
 *
 *  1. A block that is in any transaction is held in the cache: its home is older than it.
 *  2. A block goes home only while no running or committing transaction has changed it, and none
 *     has freed it.
 *
 * After `transaction_t` and `struct journal_head` in `include/linux/jbd2.h`.
 */
import { assert } from "../../lib/assert.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import type { BufferHead } from "../../mapping/buffer.ts";
import type { BufferCache } from "../../mapping/buffer-cache.ts";
import type { Seal } from "./handle.ts";

/** A block of metadata that is newer than its home (`struct journal_head`). */
export class JournalBlock {
  readonly blocknr: number;
  /** Held for as long as the block is in a `BlockTable`. */
  readonly buffer: BufferHead;
  readonly data: Uint8Array;
  seal: Seal | undefined = undefined;
  /** It was allocated by the transaction that changes it: nothing on disk leads to it. */
  isNew = false;
  /** The running transaction, if that has changed it. */
  running: Transaction | null = null;
  /** The committing transaction, if that has. */
  committing: Transaction | null = null;
  /** The newest committed transaction with a copy that is not home (`b_cp_transaction`). */
  checkpoint: Transaction | null = null;
  /** The transaction that has freed it, until that is durable. */
  freed: Transaction | null = null;
  /** The attempt that has touched it last: each saves a block once. */
  touchedBy = 0;

  constructor(blocknr: number, buffer: BufferHead) {
    this.blocknr = blocknr;
    this.buffer = buffer;
    this.data = buffer.data;
  }

  /** True if the bytes in memory are those of its newest committed transaction, and wanted. */
  get isReadyForHome(): boolean {
    return this.running === null && this.committing === null && this.freed === null;
  }
}

/** All blocks that are in some transaction, by number. */
export class BlockTable {
  readonly #buffers: BufferCache;
  readonly #blocks = new Map<number, JournalBlock>();

  constructor(buffers: BufferCache) {
    this.#buffers = buffers;
  }

  /** Blocks that are held. */
  get size(): number {
    return this.#blocks.size;
  }

  get(blocknr: number): JournalBlock | undefined {
    return this.#blocks.get(blocknr);
  }

  /** Holds `buffer` and puts it in. It was not in. */
  add(blocknr: number, buffer: BufferHead): JournalBlock {
    buffer.hold();
    const block = new JournalBlock(blocknr, buffer);
    this.#blocks.set(blocknr, block);
    return block;
  }

  /** Lets `block` go if no transaction needs it any more. */
  releaseIfIdle(block: JournalBlock): void {
    if (block.running !== null || block.committing !== null || block.checkpoint !== null) return;
    if (block.freed !== null || !this.#blocks.delete(block.blocknr)) return;
    this.#buffers.brelse(block.buffer);
  }

  /** Lets all go, wherever they are: at the end. */
  clear(): void {
    for (const block of this.#blocks.values()) this.#buffers.brelse(block.buffer);
    this.#blocks.clear();
  }
}

/** See the head of the file (`transaction_t`). */
export class Transaction {
  readonly tid: number;
  /** Blocks it has changed (`t_buffers`). */
  readonly blocks: Set<JournalBlock> = new Set();
  /** Blocks it has freed, of which older transactions still have copies (`t_forget`). */
  readonly freed: Set<JournalBlock> = new Set();
  /** Numbers of freed blocks with copies in the log (`j_revoke`). */
  readonly revokes: Set<number> = new Set();
  /** Blocks that others of it have to precede on disk, by number, where there is no journal. */
  readonly behind: Map<number, Set<number>> = new Map();
  /** After the commit: blocks whose newest committed copy is its (`t_checkpoint_list`). */
  readonly checkpoint: Set<JournalBlock> = new Set();
  readonly onCommit: (() => void)[] = [];
  #orderedCount = 0;
  #hasOrdered = false;
  #orderedWaiter: (() => void) | null = null;

  constructor(tid: number) {
    this.tid = tid;
  }

  /** True if there is nothing to commit. */
  get isEmpty(): boolean {
    return (
      this.blocks.size === 0 &&
      this.revokes.size === 0 &&
      this.freed.size === 0 &&
      this.onCommit.length === 0 &&
      this.#orderedCount === 0
    );
  }

  /** True if block `blocknr` has to be on disk after block `first`, by whatever way. */
  isBehind(blocknr: number, first: number): boolean {
    const seen = new Set([blocknr]);
    for (const at of seen) {
      for (const before of this.behind.get(at) ?? []) {
        if (before === first) return true;
        seen.add(before);
      }
    }
    return false;
  }

  /** Has block `then` on disk after block `first`. */
  order(first: number, then: number): void {
    const known = this.behind.get(then);
    if (known === undefined) this.behind.set(then, new Set([first]));
    else known.add(first);
  }

  /** Notes that data is under way which must be on disk first. */
  orderIo(): void {
    this.#hasOrdered = true;
    this.#orderedCount++;
  }

  /** Ends what one `orderIo` has begun. */
  endIo(): void {
    assert(this.#orderedCount > 0, "ordered data ends once");
    this.#orderedCount--;
    if (this.#orderedCount > 0) return;
    this.#orderedWaiter?.();
    this.#orderedWaiter = null;
  }

  /**
   * Resolves when all ordered data has ended, which a flush then makes durable; undefined if there
   * was none. Waited for once.
   */
  ordered(): Promise<void> | undefined {
    if (!this.#hasOrdered) return undefined;
    if (this.#orderedCount === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#orderedWaiter = resolve;
    });
  }
}

/** A transaction whose blocks were copied: `write` makes it durable, once, and rejects with why. */
export interface PreparedCommit {
  write(): Promise<void>;
}

/** Where transactions go: a journal, or straight home. */
export interface LogSink {
  /** Blocks that one transaction has at most. */
  readonly maxBlocks: number;
  /** True if replay could bring an older copy of `blocknr` back, so that freeing it is noted. */
  isLogged(blocknr: number): boolean;
  /** True if a transaction of `maxBlocks` blocks can be committed without waiting for space. */
  hasRoom(): boolean;
  /** True if the blocks of a transaction reach the disk one by one, so that their order counts. */
  readonly isOneByOne: boolean;
  /** True if it would be good to `checkpoint` before room is needed. */
  readonly isCrowded: boolean;
  /**
   * Copies all that `transaction` writes. Synchronous: the blocks change again right after.
   * `ordered` resolves when its data is on disk.
   */
  prepare(transaction: Transaction, ordered: Promise<void> | undefined): PreparedCommit;
  /** Takes over the blocks of `transaction`, which is durable now. */
  committed(transaction: Transaction): void;
  /**
   * Writes committed blocks home and lets them go, and makes their space in the log free. Without
   * `commitRunning` only what can go; with it all that is committed now, for which it commits the
   * transaction that has changed the rest since.
   *
   * @throws {FsError} `EIO` if a write fails
   */
  checkpoint(commitRunning?: () => MaybeAsync<void>): Promise<void>;
  /** As `checkpoint`, and notes that there is nothing to recover, unless something is run now. */
  empty(commitRunning: () => MaybeAsync<void>): Promise<void>;
  /** Begins no write any more. */
  stop(): void;
  /** Stops, and notes on disk, as far as that goes, that the log was given up. Never rejects. */
  abort(): Promise<void>;
}
