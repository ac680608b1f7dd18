/**
 * A small world of metadata that is changed through transactions, with a model of it: after any
 * power cut, recovery must show the world as it was after some number of operations, and not fewer
 * than were acknowledged.
 *
 *     block 10       number of operations so far
 *     blocks 11..18  counters; an operation moves something from one to another
 *     block 20       slots: free, a block of metadata, a block of data
 *     blocks 30..53  the blocks of the slots: of one kind now and of the other kind later
 */
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import { writeDevice } from "../../src/block/write-device.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import type { Handle } from "../../src/fs/ext/handle.ts";
import { firstFreeTid } from "../../src/fs/ext/jbd2-superblock.ts";
import { Journal } from "../../src/fs/ext/journal.ts";
import { Metadata } from "../../src/fs/ext/metadata.ts";
import { recoverJournal } from "../../src/fs/ext/recover.ts";
import { ExtTransactions } from "../../src/fs/ext/transactions.ts";
import { be32, putBe32 } from "../../src/lib/bytes.ts";
import { type Clock, realClock } from "../../src/lib/clock.ts";
import type { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import { BufferCache } from "../../src/mapping/buffer-cache.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { craftContext, HOME_BLOCKS, type JournalBuilder } from "./crafted-log.ts";

const OP_BLOCK = 10;
const COUNTERS = 11;
const COUNTER_COUNT = 8;
const SLOT_BLOCK = 20;
const SLOTS = 30;
const SLOT_COUNT = 24;
const SLOT_BYTES = 8;
const COUNTER_START = 1000;
const FREE = 0;
const META = 1;
const DATA = 2;
/** What blocks of data begin with. */
export const DATA_STAMP = 0x6461_7461;
/** What blocks of metadata begin with: the magic number, so that their copies are escaped. */
const META_STAMP = 0xc03b_3998;

interface Slot {
  readonly kind: number;
  readonly op: number;
}

/** The world after a number of operations. */
interface State {
  readonly counters: readonly number[];
  readonly slots: readonly Slot[];
}

/** Content of the block of a slot. */
function stamped(kind: number, op: number, blockBytes: number): Uint8Array {
  const bytes = new Uint8Array(blockBytes);
  for (let at = 0; at < blockBytes; at += 8) {
    putBe32(bytes, at, kind === DATA ? DATA_STAMP : META_STAMP);
    putBe32(bytes, at + 4, op);
  }
  return bytes;
}

/** Transactions over the crafted image in `store`, whose log is empty or is recovered first. */
export async function openWorld(
  store: Store,
  image: Uint8Array,
  log: JournalBuilder,
  clock: Clock,
  isOrdered = true,
): Promise<{ transactions: ExtTransactions; device: StoreBlockDevice; metadata: Metadata }> {
  const { blockBytes } = log;
  const device = new StoreBlockDevice(store, { clock });
  const recovered = await recoverJournal(craftContext(image, log, {}), device, { clock });
  const cache = new PageCache({ arenaBytes: 4 * MIB, clock });
  const metadata = new Metadata(new BufferCache(cache, device, blockBytes), HOME_BLOCKS);
  const file = recovered.file!;
  file.adopt({ hasMetadataCsum: false, is64Bit: false });
  const transactions = new ExtTransactions({
    metadata,
    clock,
    makeLog: (table) => new Journal({ file, device, clock }, table),
    firstTid: firstFreeTid(file.sb),
    isOrdered,
  });
  return { transactions, device, metadata };
}

/** See the head of the file. */
export class JournalWorld {
  readonly #transactions: ExtTransactions;
  readonly #device: StoreBlockDevice;
  readonly #blockBytes: number;
  readonly #random: Random;
  /** `#history[n]` is the world after n operations. */
  readonly #history: State[];
  /** Slots that were freed by a transaction that is not durable. */
  readonly #held = new Set<number>();
  /** Operations that were acknowledged. */
  acknowledged = 0;

  constructor(
    transactions: ExtTransactions,
    device: StoreBlockDevice,
    blockBytes: number,
    random: Random,
  ) {
    this.#transactions = transactions;
    this.#device = device;
    this.#blockBytes = blockBytes;
    this.#random = random;
    const slots = Array.from({ length: SLOT_COUNT }, () => ({ kind: FREE, op: 0 }));
    this.#history = [{ counters: Array.from({ length: COUNTER_COUNT }, () => 0), slots }];
  }

  get opCount(): number {
    return this.#history.length - 1;
  }

  /** Runs one random operation. It is not acknowledged before `sync`. */
  async step(): Promise<void> {
    const op = this.#history.length;
    const before = this.#history[op - 1]!;
    const index = this.#random.below(SLOT_COUNT);
    const slot = before.slots[index]!;
    const after = this.#slotAfter(slot, index, op);
    const counters = before.counters.slice();
    const [from, to] = [this.#random.below(COUNTER_COUNT), this.#random.below(COUNTER_COUNT)];
    counters[from]!--;
    counters[to]!++;
    const isNewData = after.kind === DATA && after.op === op;
    let endIo = (): void => undefined;
    await this.#transactions.run((handle) => {
      putBe32(handle.write(OP_BLOCK), 0, op);
      for (const at of new Set([from, to])) {
        putBe32(handle.write(COUNTERS + at), 0, COUNTER_START + counters[at]!);
      }
      const entries = handle.write(SLOT_BLOCK);
      putBe32(entries, index * SLOT_BYTES, after.kind);
      putBe32(entries, index * SLOT_BYTES + 4, after.op);
      this.#changeSlot(handle, index, slot, after);
      if (isNewData) endIo = handle.orderIo();
    });
    this.#history.push({ counters, slots: before.slots.with(index, after) });
    if (!isNewData) return;
    const bytes = stamped(DATA, op, this.#blockBytes);
    const offsetBytes = (SLOTS + index) * this.#blockBytes;
    void writeDevice(this.#device, offsetBytes, bytes)
      .catch(() => undefined)
      .then(endIo);
  }

  /** Makes all operations so far impossible to lose. */
  async sync(): Promise<void> {
    const { opCount } = this;
    await this.#transactions.commit();
    this.acknowledged = Math.max(this.acknowledged, opCount);
  }

  /**
   * Throws unless the homes in `image` are the world after some number of operations from
   * `acknowledged` on, which is returned.
   */
  check(image: Uint8Array, acknowledged: number): number {
    const block = (blocknr: number): Uint8Array =>
      image.subarray(blocknr * this.#blockBytes, (blocknr + 1) * this.#blockBytes);
    const op = be32(block(OP_BLOCK), 0);
    const state = this.#history[op];
    if (state === undefined) throw new Error(`operation ${op} was never run`);
    if (op < acknowledged) throw new Error(`only ${op} operations, ${acknowledged} acknowledged`);
    if (op === 0) return 0;
    for (const [index, wanted] of state.counters.entries()) {
      const found = be32(block(COUNTERS + index), 0);
      if (found !== 0 && found - COUNTER_START !== wanted) {
        throw new Error(`after ${op} operations counter ${index} is ${found}, not ${wanted}`);
      }
      if (found === 0 && wanted !== 0) throw new Error(`counter ${index} was never written`);
    }
    for (const [index, slot] of state.slots.entries()) {
      const kind = be32(block(SLOT_BLOCK), index * SLOT_BYTES);
      const slotOp = be32(block(SLOT_BLOCK), index * SLOT_BYTES + 4);
      if (kind !== slot.kind || slotOp !== slot.op) throw new Error(`slot ${index} is wrong`);
      if (kind === FREE) continue;
      const wanted = stamped(kind, slotOp, this.#blockBytes);
      if (Buffer.compare(block(SLOTS + index), wanted) !== 0) {
        const what = kind === DATA ? "data" : "metadata";
        throw new Error(`after ${op} operations slot ${index} has not its ${what} of ${slotOp}`);
      }
    }
    return op;
  }

  /** What becomes of a slot. */
  #slotAfter(slot: Slot, index: number, op: number): Slot {
    if (slot.kind !== FREE) {
      if (slot.kind === META && this.#random.chance(0.4)) return { kind: META, op };
      return this.#random.chance(0.5) ? { kind: FREE, op: 0 } : slot;
    }
    if (this.#held.has(index)) return slot;
    return { kind: this.#random.chance(0.5) ? META : DATA, op };
  }

  #changeSlot(handle: Handle, index: number, before: Slot, after: Slot): void {
    const blocknr = SLOTS + index;
    if (after.kind === META && after.op !== before.op) {
      const data = before.kind === META ? handle.write(blocknr) : handle.create(blocknr);
      data.set(stamped(META, after.op, this.#blockBytes));
    } else if (before.kind !== FREE && after.kind === FREE) {
      handle.forget(blocknr, 1);
      this.#held.add(index);
      handle.undo(() => this.#held.delete(index));
      handle.onCommit(() => this.#held.delete(index));
    }
  }
}

/** The image that a recovery of `image` leaves. */
export async function recoveredCopy(image: Uint8Array, log: JournalBuilder): Promise<Uint8Array> {
  const bytes = image.slice();
  const device = new StoreBlockDevice(new MemoryStore(bytes), { clock: realClock });
  await recoverJournal(craftContext(bytes, log, {}), device, { clock: realClock });
  return bytes;
}
