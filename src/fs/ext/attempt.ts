/**
 * One attempt of an operation: the handle that it is given, and how it is taken back.
 *
 *     begin --> write(9) write(40) forget(7) .. --> finish    7 is freed, callbacks are kept
 *                                               \-> rollback  9 and 40 as before, callbacks dropped
 *
 * There is one `Attempt` for all operations of a file system, used again and again, as operations
 * never overlap. Blocks are saved at their first touch, into copies that are kept for the next one.
 *
 *  1. After `rollback` everything is as at `begin`: bytes, blocks of the transaction, memory.
 *  2. What cannot be taken back happens in `finish` only, after the last thing that may throw.
 *
 * After `fs/jbd2/transaction.c` of Linux. Left out: credits; an operation that finds no room is
 * taken back and run again in a transaction of its own.
 */
import { assert } from "../../lib/assert.ts";
import { FsError } from "../../lib/errno.ts";
import type { Handle, Seal } from "./handle.ts";
import type { Metadata } from "./metadata.ts";
import type { BlockTable, JournalBlock, LogSink, Transaction } from "./transaction.ts";

/** Copies that are kept for the next attempt; one that touches more blocks makes its own. */
const COPIES_KEPT = 64;

/** Thrown where the transaction has no room for one more block. Not an error. */
export class TransactionFull {
  /** It would have no room in a transaction of its own either. */
  readonly isHopeless: boolean;

  constructor(isHopeless: boolean) {
    this.isHopeless = isHopeless;
  }
}

/** A block as it was before the attempt. */
interface Saved {
  block: JournalBlock;
  /** It was in no transaction. */
  isAdded: boolean;
  wasNew: boolean;
  wasRunning: boolean;
  wasFreed: boolean;
  wasRevoked: boolean;
  seal: Seal | undefined;
}

interface Range {
  readonly first: number;
  readonly count: number;
}

/** Data under way that the commit waits for. */
interface OrderedIo {
  isEnded: boolean;
  transaction: Transaction | null;
}

/** See the head of the file (`handle_t`). */
export class Attempt implements Handle {
  readonly #metadata: Metadata;
  readonly #table: BlockTable;
  readonly #log: LogSink;
  readonly #isOrdered: boolean;
  #transaction: Transaction | null = null;
  #limitBlocks = 0;
  #isAlone = false;
  #serial = 0;
  readonly #saved: Saved[] = [];
  readonly #copies: Uint8Array[] = [];
  readonly #undos: (() => void)[] = [];
  readonly #finishes: (() => void)[] = [];
  readonly #commits: (() => void)[] = [];
  readonly #orders: OrderedIo[] = [];
  /** Blocks of which the first has to be on disk before the second. */
  readonly #pairs: [number, number][] = [];
  /** Blocks that were changed since `changedBy` wants to know. */
  #changed: Set<number> | null = null;
  #forgets: Range[] = [];

  /** Commits wait for data if `isOrdered`. */
  constructor(metadata: Metadata, table: BlockTable, log: LogSink, isOrdered: boolean) {
    this.#metadata = metadata;
    this.#table = table;
    this.#log = log;
    this.#isOrdered = isOrdered;
  }

  get tid(): number {
    return this.#current.tid;
  }

  get serial(): number {
    return this.#serial;
  }

  get roomBlocks(): number {
    return Math.max(0, this.#limitBlocks - this.#current.blocks.size);
  }

  /** Begins an attempt in `transaction`, which may grow to `limitBlocks` blocks. */
  begin(transaction: Transaction, limitBlocks: number): void {
    assert(this.#transaction === null, "operations do not overlap");
    this.#transaction = transaction;
    this.#limitBlocks = limitBlocks;
    this.#isAlone = transaction.blocks.size === 0;
    this.#serial++;
  }

  write(blocknr: number, seal?: Seal): Uint8Array {
    this.#changed?.add(blocknr);
    const known = this.#table.get(blocknr);
    if (known !== undefined && known.touchedBy === this.#serial) {
      if (seal !== undefined) known.seal = seal;
      return known.data;
    }
    if (this.#isForgotten(blocknr)) {
      const detail = `block ${blocknr} is freed and changed at once: it is used twice`;
      throw new FsError("EUCLEAN", { detail });
    }
    const block = known ?? this.#table.add(blocknr, this.#metadata.buffer(blocknr));
    this.#touch(block, known === undefined, seal);
    return block.data;
  }

  create(blocknr: number, seal?: Seal): Uint8Array {
    this.#changed?.add(blocknr);
    this.#takeBack(blocknr);
    const known = this.#table.get(blocknr);
    if (known === undefined || known.touchedBy !== this.#serial) {
      const block = known ?? this.#table.add(blocknr, this.#metadata.newBuffer(blocknr));
      this.#touch(block, known === undefined, seal);
      return clear(block);
    }
    if (seal !== undefined) known.seal = seal;
    return clear(known);
  }

  forget(first: number, count: number): void {
    assert(this.#transaction !== null, "a handle is used within its operation");
    this.#forgets.push({ first, count });
  }

  undo(restore: () => void): void {
    this.#undos.push(restore);
  }

  atEnd(finish: () => void): void {
    this.#finishes.push(finish);
  }

  onCommit(done: () => void): void {
    this.#commits.push(done);
  }

  changedBy(change: () => void): Set<number> {
    assert(this.#changed === null, "changes are counted for one at a time");
    const changed = new Set<number>();
    this.#changed = changed;
    try {
      change();
    } finally {
      this.#changed = null;
    }
    return changed;
  }

  order(first: Iterable<number>, then: Iterable<number>): void {
    if (!this.#log.isOneByOne) return;
    const firsts = new Set(first);
    const thens = new Set(then);
    for (const before of firsts) {
      for (const after of thens) {
        if (firsts.has(after) || thens.has(before)) continue;
        // Each would have to be first; or a new block has taken over what others still hold.
        const isInTheWay =
          this.#current.isBehind(before, after) || this.#table.get(after)?.isNew === true;
        if (!isInTheWay) this.#pairs.push([before, after]);
        else if (!this.#isAlone) throw new TransactionFull(false);
      }
    }
  }

  follow(tid: number): void {
    if (!this.#log.isOneByOne || tid !== this.tid || this.#isAlone) return;
    throw new TransactionFull(false);
  }

  orderIo(): () => void {
    const order: OrderedIo = { isEnded: false, transaction: null };
    if (this.#isOrdered) this.#orders.push(order);
    return () => {
      if (order.isEnded) return;
      order.isEnded = true;
      order.transaction?.endIo();
    };
  }

  /** Ends the attempt: it has happened. Throws what its `atEnd` throws; then it is still open. */
  finish(): void {
    const transaction = this.#current;
    for (let at = 0; at < this.#finishes.length; at++) this.#finishes[at]!();
    for (const range of this.#forgets) this.#free(range, transaction);
    for (const done of this.#commits) transaction.onCommit.push(done);
    for (const [first, then] of this.#pairs) transaction.order(first, then);
    for (const order of this.#orders) {
      transaction.orderIo();
      if (order.isEnded) transaction.endIo();
      else order.transaction = transaction;
    }
    this.#end();
  }

  /** Ends the attempt: it has not happened. */
  rollback(): void {
    const transaction = this.#current;
    for (let at = this.#undos.length - 1; at >= 0; at--) this.#undos[at]!();
    for (let at = this.#saved.length - 1; at >= 0; at--) this.#restore(at, transaction);
    for (const order of this.#orders) order.isEnded = true;
    this.#end();
  }

  get #current(): Transaction {
    assert(this.#transaction !== null, "a handle is used within its operation");
    return this.#transaction;
  }

  /** Saves `block` as it is, and makes it part of the transaction. */
  #touch(block: JournalBlock, isAdded: boolean, seal: Seal | undefined): void {
    const transaction = this.#current;
    const { blocknr } = block;
    const wasRunning = block.running !== null;
    if (!wasRunning && transaction.blocks.size >= this.#limitBlocks) {
      this.#table.releaseIfIdle(block);
      throw new TransactionFull(this.#isAlone);
    }
    const at = this.#saved.length;
    const wasRevoked = transaction.revokes.delete(blocknr);
    const wasFreed = transaction.freed.delete(block);
    this.#saved.push({
      block,
      isAdded,
      wasNew: block.isNew,
      wasRunning,
      wasFreed,
      wasRevoked,
      seal: block.seal,
    });
    this.#copies[at] ??= new Uint8Array(block.data.length);
    this.#copies[at].set(block.data);
    block.touchedBy = this.#serial;
    if (wasFreed) block.freed = null; // Not if a transaction before this one has freed it.
    if (!wasRunning) {
      block.running = transaction;
      transaction.blocks.add(block);
    }
    if (seal !== undefined) block.seal = seal;
  }

  #restore(at: number, transaction: Transaction): void {
    const { block, wasRunning, wasFreed, wasRevoked, seal } = this.#saved[at]!;
    block.data.set(this.#copies[at]!);
    block.buffer.isVerified = false;
    block.seal = seal;
    block.isNew = this.#saved[at]!.wasNew;
    block.touchedBy = 0;
    if (!wasRunning) {
      block.running = null;
      transaction.blocks.delete(block);
    }
    if (wasRevoked) transaction.revokes.add(block.blocknr);
    if (wasFreed) {
      block.freed = transaction;
      transaction.freed.add(block);
    }
    if (this.#saved[at]!.isAdded) this.#table.releaseIfIdle(block);
  }

  /** Takes `blocknr` out of what this attempt frees. */
  #takeBack(blocknr: number): void {
    if (!this.#isForgotten(blocknr)) return;
    this.#forgets = this.#forgets.flatMap(({ first, count }) => {
      if (blocknr < first || blocknr >= first + count) return [{ first, count }];
      const before = { first, count: blocknr - first };
      const behind = { first: blocknr + 1, count: first + count - blocknr - 1 };
      return [before, behind].filter((part) => part.count > 0);
    });
  }

  #isForgotten(blocknr: number): boolean {
    for (const { first, count } of this.#forgets) {
      if (blocknr >= first && blocknr < first + count) return true;
    }
    return false;
  }

  #free({ first, count }: Range, transaction: Transaction): void {
    for (let blocknr = first; blocknr < first + count; blocknr++) {
      if (this.#log.isLogged(blocknr)) transaction.revokes.add(blocknr);
      const block = this.#table.get(blocknr);
      if (block === undefined) continue;
      if (block.running !== null) {
        block.running = null;
        transaction.blocks.delete(block);
      }
      if (block.committing !== null || block.checkpoint !== null) {
        block.freed = transaction;
        transaction.freed.add(block);
      }
      this.#table.releaseIfIdle(block);
    }
  }

  #end(): void {
    this.#transaction = null;
    this.#saved.length = 0;
    if (this.#copies.length > COPIES_KEPT) this.#copies.length = COPIES_KEPT;
    this.#undos.length = 0;
    this.#finishes.length = 0;
    this.#commits.length = 0;
    this.#orders.length = 0;
    this.#pairs.length = 0;
    if (this.#forgets.length > 0) this.#forgets = [];
  }
}

/** Zeros in a block that begins a new life. */
function clear(block: JournalBlock): Uint8Array {
  block.buffer.isVerified = false;
  block.isNew = true;
  return block.data.fill(0);
}

/** The error for an operation that no transaction of this log can hold. */
export function tooLarge(limitBlocks: number): FsError {
  const detail = `one operation changes more than the ${limitBlocks} blocks of a transaction`;
  return new FsError("ENOSPC", { detail });
}
