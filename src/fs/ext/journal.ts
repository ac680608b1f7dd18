/**
 * The jbd2 sink: transactions go to the log, and from memory to their homes when there is time.
 *
 *     log     | .. free .. | tail: 5 | 6 | 7 committing | head: .. free .. |
 *     commit  ordered data, image of 7 in one write  -->  flush, commit block FUA  -->  durable
 *     later   blocks home, sorted  -->  flush  -->  superblock: tail behind 6  -->  space free
 *
 *  1. Nothing of a transaction goes home before its commit block is durable, and none of a block
 *     that a younger transaction has changed or freed: memory has the younger bytes.
 *  2. The tail on disk moves only after a flush of what it passes; only then is space reused.
 *  3. An operation begins only where the log has room for the largest transaction, so a commit
 *     never waits for space.
 *  4. A block that is freed while a copy of it lies between tail and head is revoked.
 *  5. A transaction that has freed blocks is durable for its waiters only when no write to such a
 *     home is in flight any more: the block may become data at once.
 *
 * After `fs/jbd2/commit.c` and `checkpoint.c` of Linux. Left out: asynchronous commits, fast
 * commits.
 */
import { REQ_FUA, REQ_PREFLUSH } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { flushDevice } from "../../block/write-device.ts";
import { assert } from "../../lib/assert.ts";
import type { Clock } from "../../lib/clock.ts";
import { EIO, FsError } from "../../lib/errno.ts";
import { AsyncMutex } from "../../lib/locks.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { mutants } from "../../lib/mutants.ts";
import { writeHome } from "./home-writes.ts";
import { encodeCommit, encodeTransaction, logBlocksOf } from "./jbd2-encode.ts";
import { nextTid } from "./jbd2-format.ts";
import type { JournalFile, LogTail } from "./journal-file.ts";
import { JournalRoom } from "./journal-room.ts";
import type {
  BlockTable,
  JournalBlock,
  LogSink,
  PreparedCommit,
  Transaction,
} from "./transaction.ts";

/** Share of the log that one transaction may take (`j_max_transaction_buffers`). */
const TRANSACTION_SHARE = 3;

/** A transaction between tail and head. */
interface LoggedTransaction {
  readonly transaction: Transaction;
  /** Where it begins. */
  readonly start: number;
  readonly blockCount: number;
  /** Home blocks of its copies. */
  readonly logged: readonly number[];
  isDurable: boolean;
}

/** What a journal is made of. */
export interface JournalOptions {
  readonly file: JournalFile;
  /** Where homes are. */
  readonly device: BlockDevice;
  readonly clock: Clock;
}

/** See the head of the file (`journal_t`). */
export class Journal implements LogSink {
  readonly maxBlocks: number;
  readonly isOneByOne = false;
  readonly #file: JournalFile;
  readonly #room: JournalRoom;
  readonly #device: BlockDevice;
  readonly #clock: Clock;
  readonly #table: BlockTable;
  readonly #capacity: number;
  #head: number;
  #freeBlocks: number;
  /** Oldest first. */
  #live: LoggedTransaction[] = [];
  /** Home blocks with copies between tail and head, and the newest transaction that has one. */
  readonly #logged = new Map<number, number>();
  /** The superblock on disk names a start. */
  #isStarted = false;
  #nextTid: number;
  #isAborted = false;
  readonly #checkpointLock = new AsyncMutex();
  #homeWrites: Promise<void> = Promise.resolve();
  #homesInFlight: ReadonlySet<JournalBlock> = new Set();

  constructor(options: JournalOptions, table: BlockTable) {
    const { file, device, clock } = options;
    const { sb } = file;
    this.#file = file;
    this.#room = new JournalRoom(file);
    this.#device = device;
    this.#clock = clock;
    this.#table = table;
    this.#head = sb.first;
    this.#capacity = sb.last - sb.first - 1; // A full ring would look like an empty one.
    this.#freeBlocks = this.#capacity;
    this.#nextTid = nextTid(sb.sequence);
    const shareBlocks = Math.floor(this.#capacity / TRANSACTION_SHARE);
    const overheadBlocks = logBlocksOf(sb, shareBlocks, this.#capacity) - shareBlocks;
    this.maxBlocks = shareBlocks - overheadBlocks;
    assert(this.maxBlocks > 0, "a journal has 1024 blocks at least");
  }

  /** Id of the first transaction. */
  get firstTid(): number {
    return this.#nextTid;
  }

  get isCrowded(): boolean {
    return this.#freeBlocks < this.#capacity / 2;
  }

  isLogged(blocknr: number): boolean {
    return this.#logged.has(blocknr) && !mutants.withoutRevokes;
  }

  hasRoom(): boolean {
    return this.#freeBlocks >= logBlocksOf(this.#file.sb, this.maxBlocks, this.#logged.size);
  }

  prepare(transaction: Transaction, ordered: Promise<void> | undefined): PreparedCommit {
    const { tid } = transaction;
    const { sb } = this.#file;
    assert(tid === this.#nextTid, "transactions lie in the log one after the other");
    const blocks = [...transaction.blocks];
    const image = encodeTransaction(tid, blocks, [...transaction.revokes], sb);
    const start = this.#head;
    const commitBlock = this.#advance(start, image.bytes.length / sb.blockBytes);
    const blockCount = image.bytes.length / sb.blockBytes + 1;
    assert(blockCount <= this.#freeBlocks, "a commit finds room in the log");
    this.#head = this.#advance(commitBlock, 1);
    this.#freeBlocks -= blockCount;
    this.#nextTid = nextTid(tid);
    for (const { blocknr } of blocks) this.#logged.set(blocknr, tid);
    const logged = blocks.map(({ blocknr }) => blocknr);
    this.#live.push({ transaction, start, blockCount, logged, isDurable: false });
    if (transaction.revokes.size > 0) this.#file.noteRevokes();
    const tail = this.#isStarted ? undefined : { start, sequence: tid };
    this.#isStarted = true;
    return {
      write: async () => {
        const written = this.#file.write(start, image.bytes);
        const room = this.#room.makeAhead(commitBlock, image.bytes.length);
        await all([ordered, written, room, tail && this.#file.startLog(tail)]);
        if (this.#file.device !== this.#device) await flushDevice(this.#device);
        this.#throwIfAborted();
        const commit = encodeCommit(tid, this.#clock.wallMs(), image.v1Sum, sb);
        const flags = mutants.commitWithoutFlush ? REQ_FUA : REQ_PREFLUSH | REQ_FUA;
        await this.#file.write(commitBlock, commit, flags);
        if ([...transaction.freed].some((block) => this.#homesInFlight.has(block))) {
          await this.#homeWrites.catch(() => undefined);
        }
      },
    };
  }

  committed(transaction: Transaction): void {
    const logged = this.#live.find((live) => live.transaction === transaction)!;
    logged.isDurable = true;
    for (const block of transaction.blocks) {
      block.committing = null;
      block.checkpoint?.checkpoint.delete(block);
      block.checkpoint = transaction;
      transaction.checkpoint.add(block);
    }
    for (const block of transaction.freed) {
      block.freed = null;
      this.#leave(block);
    }
    transaction.blocks.clear();
    transaction.freed.clear();
  }

  async checkpoint(commitRunning?: () => MaybeAsync<void>): Promise<void> {
    await this.#checkpointLock.lock();
    try {
      await this.#writeHomes(commitRunning);
      await this.#moveTail();
    } finally {
      this.#checkpointLock.unlock();
    }
  }

  async empty(commitRunning: () => MaybeAsync<void>): Promise<void> {
    await this.#checkpointLock.lock();
    try {
      await this.#writeHomes(commitRunning);
      if (!this.#isAllHome) await this.#moveTail();
      else if (this.#isStarted) await this.#markEmpty();
    } finally {
      this.#checkpointLock.unlock();
    }
  }

  stop(): void {
    this.#isAborted = true;
  }

  async abort(): Promise<void> {
    this.stop();
    await this.#file.writeErrno(-EIO).catch(() => undefined);
  }

  #throwIfAborted(): void {
    if (this.#isAborted) throw new FsError("EIO", { detail: "the journal was given up" });
  }

  #advance(block: number, count: number): number {
    const { first, last } = this.#file.sb;
    return first + ((block - first + count) % (last - first));
  }

  /** Takes `block` off the list of those that must go home. */
  #leave(block: JournalBlock): void {
    block.checkpoint?.checkpoint.delete(block);
    block.checkpoint = null;
    this.#table.releaseIfIdle(block);
  }

  /** Invariant 1. */
  async #writeHomes(commitRunning?: () => MaybeAsync<void>): Promise<void> {
    const wanted = this.#live.filter(({ isDurable }) => isDurable);
    for (;;) {
      const blocks = wanted.flatMap(({ transaction }) => [...transaction.checkpoint]);
      const ready = blocks.filter((block) => block.isReadyForHome);
      if (ready.length > 0) await this.#writeHome(ready);
      if (ready.length === blocks.length || commitRunning === undefined) break;
      await commitRunning(); // After which they are its blocks, or freed.
    }
  }

  async #writeHome(ready: readonly JournalBlock[]): Promise<void> {
    this.#throwIfAborted();
    const copied = new Map(ready.map((block) => [block, block.checkpoint]));
    this.#homesInFlight = new Set(ready);
    this.#homeWrites = writeHome(this.#device, ready, this.#file.sb.blockBytes);
    try {
      await this.#homeWrites;
    } finally {
      this.#homesInFlight = new Set();
    }
    for (const [block, transaction] of copied) {
      if (block.checkpoint === transaction) this.#leave(block); // Else a younger one has it.
    }
  }

  get #isAllHome(): boolean {
    return this.#homeCount() === this.#live.length;
  }

  /** Number of the oldest transactions of which nothing has to go home any more. */
  #homeCount(): number {
    let count = 0;
    for (const { isDurable, transaction } of this.#live) {
      if (!isDurable || transaction.checkpoint.size > 0) break;
      count++;
    }
    return count;
  }

  /** Invariant 2. */
  async #moveTail(): Promise<void> {
    const count = this.#homeCount();
    if (count === 0) return;
    const first = this.#live[count];
    const tail: LogTail =
      first === undefined
        ? { start: this.#head, sequence: this.#nextTid }
        : { start: first.start, sequence: first.transaction.tid };
    if (!mutants.tailWithoutFlush) await flushDevice(this.#device);
    this.#throwIfAborted();
    await this.#file.writeTail(tail);
    this.#release(count);
  }

  async #markEmpty(): Promise<void> {
    if (!mutants.tailWithoutFlush) await flushDevice(this.#device);
    this.#throwIfAborted();
    if (!this.#isAllHome) return this.#moveTail(); // Another one has come meanwhile.
    this.#isStarted = false;
    const count = this.#live.length;
    await this.#file.writeEmpty(this.#nextTid, this.#head);
    this.#release(count);
  }

  /** Takes the oldest transactions out of the log, behind whose tail on disk they are. */
  #release(count: number): void {
    for (const { transaction, blockCount, logged } of this.#live.splice(0, count)) {
      this.#freeBlocks += blockCount;
      for (const blocknr of logged) {
        if (this.#logged.get(blocknr) === transaction.tid) this.#logged.delete(blocknr);
      }
    }
  }
}

/** Waits until all have ended, then throws what the first of them threw. */
async function all(promises: readonly (Promise<void> | undefined)[]): Promise<void> {
  const results = await Promise.allSettled(promises);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
