/**
 * What a change of ext metadata works with: a handle, which makes it one atomic operation, and the
 * transactions that handles belong to (`handle_t`, `journal_t`).
 *
 *     run(unlink) --> attempt: write(9) write(40) block(41) miss --throw--> 9 and 40 as before
 *                     41 is loaded
 *                 --> attempt: write(9) write(40) block(41) write(41)       --> in transaction 7
 *
 * An operation is one synchronous function. It asks for the blocks that it reads from `Metadata`,
 * and for those that it changes from its handle. While it lacks a block it is undone and run again;
 * if it throws anything else it is undone for good. So it has happened wholly or not at all, in
 * memory as on disk, and no handle is ever open while somebody waits.
 *
 *  1. Whatever an operation changes outside of blocks, it can take back: `undo`.
 *  2. All blocks of one operation are in one transaction.
 *  3. Checksums are computed when a transaction is committed: `Seal`.
 */
import type { MaybeAsync } from "../../lib/maybe.ts";

/**
 * Completes a block before it leaves memory: computes the checksum in `block` itself. Called at
 * most once per commit, in the cache's own copy.
 */
export type Seal = (block: Uint8Array, blocknr: number) => void;

/** One operation. Valid until the function that got it returns or throws. */
export interface Handle {
  /** The transaction that it is part of; another one if it is run again. */
  readonly tid: number;
  /** Number of this attempt: no other one of the same file system has it. */
  readonly serial: number;
  /**
   * Blocks that the operation may still touch. One that would need more ends well before, in a
   * consistent state, and goes on in a handle of its own (`jbd2_journal_extend`, `restart`).
   */
  readonly roomBlocks: number;
  /**
   * The bytes of block `blocknr`, to be changed from now on until the operation ends
   * (`get_write_access`, `dirty_metadata`). A seal given earlier stays if none is given. Throws
   * `BlockMiss` while the block is not cached.
   */
  write(blocknr: number, seal?: Seal): Uint8Array;
  /**
   * As `write`, for a block that was just allocated: it comes as zeros, and is never read
   * (`get_create_access`). Takes back an earlier `forget` of it in the same transaction.
   */
  create(blocknr: number, seal?: Seal): Uint8Array;
  /**
   * Blocks of metadata are free from now on: they are not written any more, and no replay brings
   * an older copy back (`jbd2_journal_forget`, `jbd2_journal_revoke`).
   */
  forget(blocknr: number, count: number): void;
  /** Called, the last one first, if this attempt of the operation is taken back. */
  undo(restore: () => void): void;
  /**
   * Called at the end of the attempt, before it counts: what it changes is part of the operation.
   * It may throw `BlockMiss`.
   */
  atEnd(finish: () => void): void;
  /** Called once the operation cannot be lost any more. Never, if it is lost. */
  onCommit(done: () => void): void;
  /**
   * Numbers of the blocks that are changed while `change` runs, whether they were before or not;
   * without those of inodes, which are encoded at the end.
   */
  changedBy(change: () => void): Set<number>;
  /**
   * Without a journal none of the blocks `then` reaches the disk before all of `first` have; where
   * these name the same block it has no order. It may throw to be run again after a commit.
   */
  order(first: Iterable<number>, then: Iterable<number>): void;
  /**
   * Without a journal what transaction `tid` has changed is on disk before anything that this
   * operation changes. It may throw to be run again after a commit: to be called first.
   */
  follow(tid: number): void;
  /**
   * Keeps the commit from ending until the returned function was called: for data that must be on
   * disk before what this operation changes (ordered mode). It may be called at once, for data that
   * is written already.
   */
  orderIo(): () => void;
}

/** The transactions of a file system mounted for writing, with a journal or without. */
export interface Transactions {
  /** Transaction that operations join now. */
  readonly runningTid: number;
  /** The newest one that holds a change: the running one, or the one before while that is empty. */
  readonly newestTid: number;
  /** The newest one that cannot be lost any more. */
  readonly committedTid: number;
  /** Why nothing may be written any more (`is_journal_aborted`), or undefined. */
  readonly failure: Error | undefined;
  /**
   * Runs `operation` until it is through, and returns its value; at once if all blocks are cached
   * and there is room in the log.
   *
   * @throws {FsError} what `operation` throws; `EIO` for a block that cannot be read; `EROFS` after
   *   a write of the journal has failed
   * @throws the reason of `signal` while it waits: then the operation has not happened
   */
  run<T>(operation: (handle: Handle) => T, signal?: AbortSignal): MaybeAsync<T>;
  /**
   * Makes all up to transaction `tid`, by default the running one, impossible to lose
   * (`jbd2_log_wait_commit`). Callers that come together share one commit.
   *
   * @throws {FsError} `EIO` if a write fails, `EROFS` if one had failed before
   */
  commit(tid?: number): MaybeAsync<void>;
  /**
   * Registers what has to be written into blocks before each commit: summaries that operations keep
   * in memory, as the counts of groups. It runs as an operation of its own within the transaction.
   */
  beforeCommit(hook: (handle: Handle) => void): void;
  /** Commits, and writes all to its home: afterwards the log is empty (`jbd2_journal_flush`). */
  flush(): Promise<void>;
  /** As `flush`, and marks the journal as clean. Nothing may be run any more. */
  close(): Promise<void>;
}
