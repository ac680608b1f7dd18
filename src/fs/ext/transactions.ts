/**
 * The transactions of a file system that is mounted for writing: operations join the running one,
 * and it is committed when somebody wants it, when it is large or five seconds old.
 *
 *     run(op) --> Attempt --> running 7 --switch--> committing 6 --> LogSink: journal, or home
 *                                ^ operations go on at once            one at a time
 *
 *  1. The switch is one stretch of code: what operations keep in memory is written into blocks,
 *     the blocks are sealed, the log copies them. So no operation is half in a transaction.
 *  2. Transactions become durable in order, one at a time. Callers of `commit` share them.
 *  3. After the first failed write nothing is written any more. What is in memory stays readable.
 *  4. Blocks that are not home are at most an eighth of the arena, for usual sizes of blocks. Where
 *     an operation finds no memory, all of them go home as soon as they can.
 *
 * After `fs/jbd2/transaction.c` and `commit.c` of Linux.
 */
import { assert } from "../../lib/assert.ts";
import type { Clock, Timer } from "../../lib/clock.ts";
import { FsError } from "../../lib/errno.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { isPromise } from "../../lib/maybe.ts";
import { Attempt, TransactionFull, tooLarge } from "./attempt.ts";
import type { Handle, Transactions } from "./handle.ts";
import { isLaterTid, nextTid } from "./jbd2-format.ts";
import { BlockMiss, type Metadata } from "./metadata.ts";
import { BlockTable, type LogSink, type PreparedCommit, Transaction } from "./transaction.ts";

/** Age at which a transaction is committed by itself (`j_commit_interval`). */
const COMMIT_INTERVAL_MS = 5000;
/** Share of the arena that blocks may take which are not home. */
const HELD_SHARE = 8;
/** Blocks that may be held however small the arena: what the largest operation needs, twice. */
const HELD_MIN = 40;
/** Room that an operation finds at its beginning, in a log that is not tiny. */
const ROOM_MIN = 64;
/** Part of a transaction that is kept for what `beforeCommit` writes. */
const SUMMARY_SHARE = 4;

/** What the transactions of a file system stand on. */
export interface TransactionsOptions {
  readonly metadata: Metadata;
  readonly clock: Clock;
  /** Makes the sink, which shares the table of blocks. */
  readonly makeLog: (table: BlockTable) => LogSink;
  /** Id of the first transaction; 1 by default. */
  readonly firstTid?: number | undefined;
  /** False: commits do not wait for data, `data=writeback`. True by default. */
  readonly isOrdered?: boolean | undefined;
}

/** See the head of the file (`journal_t`). */
export class ExtTransactions implements Transactions {
  readonly log: LogSink;
  /**
   * Called once, when a write has failed and nothing is written any more but what this does: to
   * note it in the file system. It may reject.
   */
  onAbort: ((cause: Error) => Promise<void>) | undefined = undefined;
  readonly #metadata: Metadata;
  readonly #clock: Clock;
  readonly #table: BlockTable;
  readonly #attempt: Attempt;
  readonly #hooks: ((handle: Handle) => void)[] = [];
  readonly #maxBlocks: number;
  readonly #maxHeld: number;
  #running: Transaction;
  #committedTid: number;
  /** The commit that has not switched yet, and the one that has. */
  #switching: Promise<Committing> | null = null;
  #committing: Committing | null = null;
  #makingRoom: Promise<void> | null = null;
  #isCheckpointing = false;
  #isRelieving = false;
  #timer: Timer | null = null;
  #failure: Error | undefined;
  #isClosed = false;

  constructor(options: TransactionsOptions) {
    const { metadata, clock } = options;
    this.#metadata = metadata;
    this.#clock = clock;
    this.#table = new BlockTable(metadata.buffers);
    this.log = options.makeLog(this.#table);
    this.#attempt = new Attempt(metadata, this.#table, this.log, options.isOrdered ?? true);
    const { cache, minOrder } = metadata.buffers.mapping;
    const share = Math.floor(cache.arena.frameCount / HELD_SHARE / 2 ** minOrder);
    this.#maxHeld = Math.max(HELD_MIN, share);
    this.#maxBlocks = Math.min(this.log.maxBlocks, Math.floor(this.#maxHeld / 2));
    const firstTid = options.firstTid ?? 1;
    this.#running = new Transaction(firstTid);
    this.#committedTid = (firstTid - 1) >>> 0;
    metadata.beforeVerify = (blocknr) => this.#sealChanged(blocknr);
    metadata.onShortage = () => this.#relieve();
  }

  get runningTid(): number {
    return this.#running.tid;
  }

  get newestTid(): number {
    const { tid, isEmpty } = this.#running;
    return isEmpty ? (tid - 1) >>> 0 : tid;
  }

  get committedTid(): number {
    return this.#committedTid;
  }

  get failure(): Error | undefined {
    return this.#failure;
  }

  run<T>(operation: (handle: Handle) => T, signal?: AbortSignal): MaybeAsync<T> {
    try {
      return this.#try(operation);
    } catch (thrown) {
      if (!(thrown instanceof BlockMiss || thrown instanceof TransactionFull)) throw thrown;
      return this.#runSlow(operation, signal);
    }
  }

  commit(tid: number = this.#running.tid): MaybeAsync<void> {
    if (!isLaterTid(tid, this.#committedTid)) return undefined;
    this.#throwIfFailed();
    const isOfRunning = !isLaterTid(this.#running.tid, tid);
    if (!isOfRunning || this.#running.isEmpty) return this.#committing?.done;
    return this.#commitRunning();
  }

  /**
   * The bytes of block `blocknr` if they are newer than its home, else undefined: for who reads
   * past the cache of metadata. Borrowed until the caller's stretch of code ends.
   */
  newerThanHome(blocknr: number): Uint8Array | undefined {
    const block = this.#table.get(blocknr);
    return block === undefined || block.freed !== null ? undefined : block.data;
  }

  beforeCommit(hook: (handle: Handle) => void): void {
    this.#hooks.push(hook);
  }

  async flush(): Promise<void> {
    await this.commit();
    this.#throwIfFailed();
    try {
      await this.log.empty(() => this.commit());
    } catch (thrown) {
      throw await this.#abort(thrown);
    }
  }

  async close(): Promise<void> {
    try {
      if (!this.#isClosed) await this.flush();
    } finally {
      this.abandon();
    }
  }

  /**
   * Gives up what is not durable, without a write: for a mount that fails half way. Nothing may be
   * run any more; what is under way must have ended.
   */
  abandon(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#table.clear();
  }

  /**
   * Ends all writing at once, because of `cause`, and notes it nowhere: the device is not ours any
   * more. Operations fail with `EROFS`; what is not durable is lost.
   */
  giveUp(cause: Error): void {
    this.#failure ??= cause;
    this.#timer?.cancel();
    this.#timer = null;
    this.log.stop();
  }

  #throwIfFailed(): void {
    if (this.#failure === undefined) return;
    const detail = "a write of the journal or of metadata has failed: nothing is written any more";
    throw new FsError("EROFS", { detail, cause: this.#failure });
  }

  /** Blocks that operations may bring the running transaction to; the rest is for summaries. */
  get #limitBlocks(): number {
    return this.#maxBlocks - Math.floor(this.#maxBlocks / SUMMARY_SHARE);
  }

  /** One attempt. Throws `BlockMiss` and `TransactionFull` after it was taken back. */
  #try<T>(operation: (handle: Handle) => T): T {
    this.#throwIfFailed();
    assert(!this.#isClosed, "nothing is run after close");
    if (!this.#hasRoom()) throw new TransactionFull(false);
    const wasEmpty = this.#running.isEmpty;
    const value = this.#perform(operation, this.#limitBlocks);
    if (wasEmpty && !this.#running.isEmpty) this.#startTimer();
    // With half of its room left, so that operations rarely have to wait for the switch.
    if (this.#running.blocks.size * 2 > this.#limitBlocks) this.#commitSoon();
    return value;
  }

  #perform<T>(operation: (handle: Handle) => T, limitBlocks: number): T {
    const attempt = this.#attempt;
    attempt.begin(this.#running, limitBlocks);
    let value: T;
    try {
      value = operation(attempt);
      attempt.finish();
    } catch (thrown) {
      attempt.rollback();
      throw thrown;
    }
    assert(!(value instanceof Promise), "an operation is synchronous");
    return value;
  }

  /** True if an operation that begins now has room: in its transaction, the log, the cache. */
  #hasRoom(): boolean {
    const { size } = this.#running.blocks;
    if (size > 0) return size + Math.min(ROOM_MIN, this.#limitBlocks / 2) <= this.#limitBlocks;
    return this.log.hasRoom() && this.#table.size + this.#maxBlocks <= this.#maxHeld;
  }

  async #runSlow<T>(operation: (handle: Handle) => T, signal?: AbortSignal): Promise<T> {
    for (;;) {
      signal?.throwIfAborted();
      try {
        const running = this.#metadata.run(() => this.#try(operation), signal);
        return isPromise(running) ? await running : running;
      } catch (thrown) {
        if (!(thrown instanceof TransactionFull)) throw thrown;
        if (thrown.isHopeless) throw tooLarge(this.#limitBlocks);
      }
      await this.#makeRoom();
    }
  }

  /** Waits until a transaction can take operations, not until the full one is durable. */
  async #makeRoom(): Promise<void> {
    if (this.#running.blocks.size > 0) await this.#switch();
    else {
      this.#makingRoom ??= this.#emptyLog().finally(() => {
        this.#makingRoom = null;
      });
      await this.#makingRoom;
    }
  }

  async #emptyLog(): Promise<void> {
    await this.#committing?.done; // Whose blocks may be those that are in the way.
    if (!this.#hasRoom()) await this.#checkpoint(true);
  }

  async #checkpoint(isAll: boolean): Promise<void> {
    try {
      await this.log.checkpoint(isAll ? () => this.commit() : undefined);
    } catch (thrown) {
      throw await this.#abort(thrown);
    }
  }

  /** Writes home what can go, before somebody has to wait for it. */
  #checkpointSoon(): void {
    const isFull = this.#isRelieving || this.#table.size * 2 > this.#maxHeld;
    if (this.#isCheckpointing || !(isFull || this.log.isCrowded)) return;
    this.#isCheckpointing = true;
    const end = (): void => {
      this.#isCheckpointing = false;
    };
    this.#checkpoint(false).then(end, end);
  }

  /** Memory is short: blocks that are not home go there. */
  #relieve(): void {
    const isIdle = this.#table.size === 0 || this.#failure !== undefined || this.#isClosed;
    if (isIdle || this.#isRelieving) return;
    this.#isRelieving = true;
    const { cache } = this.#metadata.buffers.mapping;
    cache.readStarted(); // As with a read: what it is about will be clean, so there is hope.
    const end = (): void => {
      this.#isRelieving = false;
      cache.readEnded();
    };
    this.#bringHome().then(end, end);
  }

  async #bringHome(): Promise<void> {
    await this.#checkpoint(false);
    await this.commit();
    await this.#checkpoint(false);
  }

  #startTimer(): void {
    const fire = (): void => {
      this.#timer = null;
      this.#commitSoon();
    };
    this.#timer ??= this.#clock.setTimer(COMMIT_INTERVAL_MS, fire, true);
  }

  /** Commits without anybody who waits: a failure is kept, and met by the next operation. */
  #commitSoon(): void {
    if (this.#switching !== null || this.#isClosed) return;
    this.#commitRunning().catch(() => {
      const isToBeTried = this.#failure === undefined && !this.#running.isEmpty;
      if (isToBeTried && !this.#isClosed) this.#startTimer();
    });
  }

  async #commitRunning(): Promise<void> {
    const committing = await this.#switch();
    await committing.done;
  }

  /** Resolves once the running transaction is the committing one. Callers share it. */
  #switch(): Promise<Committing> {
    this.#switching ??= this.#switchWhenDone();
    return this.#switching;
  }

  async #switchWhenDone(): Promise<Committing> {
    try {
      await this.#committing?.done;
      await undefined; // Who asks for a commit in the same stretch of code shares this one.
      this.#throwIfFailed();
      const committing = this.#metadata.run(() => this.#switchNow());
      return isPromise(committing) ? await committing : committing;
    } catch (thrown) {
      this.#switching = null;
      if (thrown instanceof TransactionFull) throw await this.#abort(tooLarge(this.log.maxBlocks));
      throw thrown;
    }
  }

  /** Invariant 1. Restartable until the summaries are written. */
  #switchNow(): Committing {
    const transaction = this.#running;
    if (!transaction.isEmpty) {
      for (const hook of this.#hooks) this.#perform(hook, this.log.maxBlocks);
    }
    this.#timer?.cancel();
    this.#timer = null;
    for (const block of transaction.blocks) {
      block.seal?.(block.data, block.blocknr);
      block.running = null;
      block.committing = transaction;
    }
    const prepared = this.log.prepare(transaction, transaction.ordered());
    for (const block of transaction.blocks) block.isNew = false;
    this.#running = new Transaction(nextTid(transaction.tid));
    const committing = { transaction, done: this.#finish(transaction, prepared) };
    this.#committing = committing;
    this.#switching = null; // What changes from now on is not in it.
    committing.done.catch(() => undefined); // It is kept as `failure`, also if nobody waits.
    return committing;
  }

  async #finish(transaction: Transaction, prepared: PreparedCommit): Promise<void> {
    try {
      await prepared.write();
    } catch (thrown) {
      throw await this.#abort(thrown);
    } finally {
      this.#committing = null;
    }
    this.log.committed(transaction);
    this.#committedTid = transaction.tid;
    for (const done of transaction.onCommit) done();
    this.#checkpointSoon();
  }

  /** Invariant 3 (`jbd2_journal_abort`). Returns what the caller throws. */
  async #abort(thrown: unknown): Promise<Error> {
    const isFirst = this.#failure === undefined;
    this.#failure ??= thrown instanceof Error ? thrown : new Error(String(thrown));
    this.#timer?.cancel();
    this.#timer = null;
    if (isFirst) {
      await this.log.abort();
      await this.onAbort?.(this.#failure).catch(() => undefined); // It stays in the journal.
    }
    const detail = "a write of the journal or of metadata has failed";
    return new FsError("EIO", { syscall: "write", detail, cause: thrown });
  }

  /** A changed block is judged by a checksum that it does not have yet. */
  #sealChanged(blocknr: number): void {
    const block = this.#table.get(blocknr);
    if (block !== undefined && block.running !== null) block.seal?.(block.data, blocknr);
  }
}

/** A transaction on its way; `done` when it is durable. */
interface Committing {
  readonly transaction: Transaction;
  readonly done: Promise<void>;
}
