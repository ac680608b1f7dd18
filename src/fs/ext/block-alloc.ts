/**
 * Handing out blocks: near where they are wanted, in runs as long as they are wanted.
 *
 *     goal 9000, 512 wanted
 *       1  blocks 9000 ..                free, all or continuing a run?      taken
 *       2  the group of the goal         the first run of 512                taken
 *       3  the other groups, from there  the first run of 512                taken
 *       4  2 and 3 again for 256, 128 .. down to what is enough
 *
 *  1. Free blocks are told apart in three: promised to dirty pages (`reserve`), kept for the
 *     structure (a pool) and for root, and the rest. What is promised is there at writeback.
 *  2. A block that was freed is handed out after the commit of that, not before (`BusyBits`).
 *  3. For each group two hints make searches short: no bit is free before `firstFree`, and no run
 *     is longer than `longestRun`. Both err to the safe side only.
 *  4. A group whose bitmap is damaged is left out, and told of.
 *
 * After `fs/ext4/mballoc.c` (`ext4_mb_regular_allocator`, `ext4_mb_find_by_goal`) and
 * `fs/ext4/balloc.c` (`ext4_has_free_clusters`, `ext4_claim_free_clusters`). Left out: clusters of
 * several blocks; preallocation, for which delayed allocation stands in.
 */
import { assert } from "../../lib/assert.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB, roundUp } from "../../lib/units.ts";
import {
  areBitsClear,
  areBitsSet,
  clearBits,
  countZeroBits,
  findTightRun,
  findZeroRun,
  nextOneBit,
  nextZeroBit,
  setBits,
} from "./bitmap.ts";
import { BusyBits } from "./busy-bits.ts";
import type { GroupState } from "./group-state.ts";
import type { Handle } from "./handle.ts";
import type { Superblock } from "./superblock.ts";
import { ownBlockCount } from "./usage.ts";

const NO_HINT = 0xffff_ffff;

/** A run of blocks. */
export interface BlockRun {
  readonly first: number;
  readonly count: number;
}

/** What is wanted of `BlockAllocator.allocate`. */
export interface AllocateRequest {
  /** The block that would be best; any number. */
  readonly goal: number;
  /** As many in one run are wanted, from 1 on. */
  readonly count: number;
  /** And so many are enough; 1 if left out. */
  readonly minCount?: number | undefined;
  /** They were promised by `reserve`, and are taken off that. */
  readonly isReserved?: boolean | undefined;
  /** They hold structure of something that was promised: all that is free may be used. */
  readonly isStructure?: boolean | undefined;
  /** The caller may use what is kept for root. */
  readonly isPrivileged?: boolean | undefined;
  /** The goal continues a run of the same file: any number of blocks there is good. */
  readonly isContinuation?: boolean | undefined;
  /** The shortest run that is long enough, not the first: for single blocks that stay. */
  readonly isTight?: boolean | undefined;
}

/** Where in a group something was found. */
interface Found {
  readonly group: number;
  readonly from: number;
  readonly count: number;
}

/** See the head of the file. */
export class BlockAllocator {
  readonly #sb: Superblock;
  readonly #groups: GroupState;
  readonly #warn: (text: string) => void;
  readonly #busy: BusyBits;
  readonly #firstFree: Uint32Array;
  readonly #longestRun: Uint32Array;
  readonly #damaged = new Set<number>();
  /** Free blocks of damaged groups. */
  #lostCount = 0;
  #reservedCount = 0;
  /** Blocks kept for the structure; none without extents. */
  readonly poolCount: number;

  constructor(sb: Superblock, groups: GroupState, warn: (text: string) => void) {
    this.#sb = sb;
    this.#groups = groups;
    this.#warn = warn;
    this.#busy = new BusyBits((group, from) => this.#forgetHints(group, from));
    this.#firstFree = new Uint32Array(sb.groupCount);
    this.#longestRun = new Uint32Array(sb.groupCount).fill(NO_HINT);
    this.poolCount = ownBlockCount(sb);
  }

  /** Blocks promised to dirty pages, and for the structure that will lead to them. */
  get reservedCount(): number {
    return this.#reservedCount;
  }

  /** Free blocks that can be had after the next commits only. */
  get pendingCount(): number {
    return this.#busy.pendingCount;
  }

  /** Free blocks that a caller may use now. */
  availableCount(isPrivileged: boolean): number {
    const kept = this.poolCount + (isPrivileged ? 0 : this.#sb.reservedBlockCount);
    return Math.max(0, this.#freeNow - this.#reservedCount - kept);
  }

  get #freeNow(): number {
    return this.#groups.totals.freeBlockCount - this.#busy.pendingCount - this.#lostCount;
  }

  /**
   * Promises `count` blocks to data that is not allocated yet (`ext4_da_reserve_space`): false if
   * there are not so many. Then a commit may help while `pendingCount` is not 0. Blocks that lead
   * to them come out of the pool where extents are in use; else they are part of `count`.
   */
  reserve(count: number, isPrivileged: boolean): boolean {
    if (count > this.availableCount(isPrivileged)) return false;
    this.#reservedCount += count;
    return true;
  }

  /** Takes back a promise of `count` blocks that were not allocated (`ext4_da_release_space`). */
  unreserve(count: number): void {
    assert(count <= this.#reservedCount, "what is given back was reserved");
    this.#reservedCount -= count;
  }

  /**
   * Takes a run of free blocks. Restartable.
   *
   * @throws {FsError} `ENOSPC` if there is no run of `minCount`
   */
  allocate(handle: Handle, request: AllocateRequest): BlockRun {
    const minCount = request.minCount ?? 1;
    const isPromised = request.isReserved === true || request.isStructure === true;
    const limit = isPromised ? this.#freeNow : this.availableCount(request.isPrivileged === true);
    const count = Math.min(request.count, limit, this.#sb.blocksPerGroup);
    const found = count < minCount ? undefined : this.#find(request, count, minCount);
    if (found === undefined) {
      throw new FsError("ENOSPC", { detail: `no run of ${minCount} free blocks` });
    }
    this.#take(handle, found);
    if (request.isReserved === true) this.#useReserved(handle, found.count);
    return { first: this.#sb.firstBlockOf(found.group) + found.from, count: found.count };
  }

  #useReserved(handle: Handle, count: number): void {
    this.unreserve(count);
    handle.undo(() => {
      this.#reservedCount += count;
    });
  }

  #take(handle: Handle, { group, from, count }: Found): void {
    const words = this.#groups.editBitmap(handle, "blocks", group);
    assert(areBitsClear(words, from, count), "blocks that are handed out are free");
    setBits(words, from, count);
    this.#groups.addFreeBlocks(group, -count);
    this.#busy.taken(handle, group, from, count);
    handle.undo(() => this.#forgetHints(group, from));
    if (this.#firstFree[group] === from) this.#firstFree[group] = from + count;
  }

  #forgetHints(group: number, from: number): void {
    this.#longestRun[group] = NO_HINT;
    this.#firstFree[group] = Math.min(this.#firstFree[group]!, from);
  }

  /** The steps of the head of the file. */
  #find(request: AllocateRequest, count: number, minCount: number): Found | undefined {
    const { firstDataBlock, blockCount } = this.#sb;
    const goal =
      request.goal >= firstDataBlock && request.goal < blockCount ? request.goal : firstDataBlock;
    const group = this.#groups.groupOfBlock(goal);
    const bit = goal - this.#sb.firstBlockOf(group);
    if (request.isTight === true) {
      const tight = this.#tightIn(group, count);
      if (tight !== undefined) return tight;
    } else {
      const least = request.isContinuation === true ? minCount : count;
      const there = this.#atGoal(group, bit, count, least);
      if (there !== undefined) return there;
    }
    for (let wanted = count; ; wanted = Math.max(minCount, lowerPower(wanted))) {
      const found = this.#inAnyGroup(goal, wanted, count);
      if (found !== undefined) return found;
      if (wanted === minCount) return undefined;
    }
  }

  #inAnyGroup(from: number, wanted: number, count: number): Found | undefined {
    const { groupCount } = this.#sb;
    const goalGroup = this.#groups.groupOfBlock(from);
    const near = this.#inGroup(goalGroup, from - this.#sb.firstBlockOf(goalGroup), wanted, count);
    if (near !== undefined) return near;
    for (let step = 1; step < groupCount; step++) {
      const found = this.#inGroup((goalGroup + step) % groupCount, 0, wanted, count);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The bits of `group` to search; undefined if it is damaged. Restartable. */
  #bits(group: number): Uint32Array | undefined {
    if (this.#damaged.has(group)) return undefined;
    try {
      return this.#busy.bitsOf(group, this.#groups.bitmap("blocks", group));
    } catch (thrown) {
      if (!(thrown instanceof FsError)) throw thrown;
      this.#damaged.add(group);
      this.#lostCount += this.#groups.freeBlocks[group]!;
      this.#warn(thrown.message);
      return undefined;
    }
  }

  #mayHave(group: number, wanted: number): boolean {
    const free = this.#groups.freeBlocks[group]! - this.#busy.pendingIn(group);
    return free >= wanted && this.#longestRun[group]! >= wanted;
  }

  /** At least `least` and at most `count` blocks from bit `bit` on. */
  #atGoal(group: number, bit: number, count: number, least: number): Found | undefined {
    if (!this.#mayHave(group, least) || bit < this.#firstFree[group]!) return undefined;
    const words = this.#bits(group);
    if (words === undefined) return undefined;
    const end = Math.min(this.#groups.blocksIn(group), bit + count);
    const length = nextOneBit(words, bit, end) - bit;
    return length >= least ? { group, from: bit, count: length } : undefined;
  }

  #tightIn(group: number, count: number): Found | undefined {
    if (!this.#mayHave(group, count)) return undefined;
    const words = this.#bits(group);
    if (words === undefined) return undefined;
    const end = this.#groups.blocksIn(group);
    const run = findTightRun(words, this.#firstFreeIn(group, words, end), end, count);
    return run === undefined ? undefined : { group, from: run.first, count };
  }

  /** `wanted` to `count` blocks in one run of `group`, behind bit `bit` rather than before it. */
  #inGroup(group: number, bit: number, wanted: number, count: number): Found | undefined {
    if (!this.#mayHave(group, wanted)) return undefined;
    const words = this.#bits(group);
    if (words === undefined) return undefined;
    const end = this.#groups.blocksIn(group);
    const start = this.#firstFreeIn(group, words, end);
    let run = findZeroRun(words, Math.max(bit, start), end, wanted);
    if (run === undefined || run.count < wanted) {
      // A run may reach over the goal, so the search before it does not end there.
      if (bit > start) run = findZeroRun(words, start, end, wanted);
      if (run === undefined || run.count < wanted) {
        this.#longestRun[group] = run?.count ?? 0;
        return undefined;
      }
    }
    const from = this.#aligned(words, group, run.first, wanted);
    const stop = nextOneBit(words, from, Math.min(end, from + count));
    return { group, from, count: stop - from };
  }

  #firstFreeIn(group: number, words: Uint32Array, end: number): number {
    const first = nextZeroBit(words, this.#firstFree[group]!, end);
    this.#firstFree[group] = first;
    return first;
  }

  /** Large runs begin at round numbers, where that costs nothing. */
  #aligned(words: Uint32Array, group: number, from: number, wanted: number): number {
    const unit = MIB / this.#sb.blockBytes;
    if (wanted < unit) return from;
    const first = this.#sb.firstBlockOf(group);
    const rounded = roundUp(first + from, unit) - first;
    const fits = rounded + wanted <= this.#groups.blocksIn(group);
    return fits && areBitsClear(words, from, rounded + wanted - from) ? rounded : from;
  }

  /**
   * Marks the blocks `first` .. + `count`, all of one group, as used if they are not: for who knows
   * from elsewhere whose they are. Also if they were freed and wait. Restartable.
   */
  claim(handle: Handle, first: number, count: number): void {
    const group = this.#groups.groupOfBlock(first);
    const from = first - this.#sb.firstBlockOf(group);
    assert(from + count <= this.#groups.blocksIn(group), "claimed blocks are of one group");
    if (areBitsSet(this.#groups.bitmap("blocks", group), from, count)) return;
    const words = this.#groups.editBitmap(handle, "blocks", group);
    this.#groups.addFreeBlocks(group, -countZeroBits(words, from, from + count));
    setBits(words, from, count);
    this.#busy.taken(handle, group, from, count);
  }

  /**
   * Frees blocks that are in use. With `isMetadata` they are forgotten by the transactions as well.
   *
   * @throws {FsError} `EUCLEAN` for blocks outside the file system, or free already
   */
  free(handle: Handle, first: number, count: number, how: { isMetadata: boolean }): void {
    const { firstDataBlock, blockCount } = this.#sb;
    if (!(first > firstDataBlock && count > 0 && first + count <= blockCount)) {
      const detail = `blocks ${first}..${first + count - 1} are freed, but are outside`;
      throw new FsError("EUCLEAN", { detail });
    }
    for (let at = first; at < first + count; ) {
      const group = this.#groups.groupOfBlock(at);
      const groupFirst = this.#sb.firstBlockOf(group);
      const end = Math.min(first + count, groupFirst + this.#groups.blocksIn(group));
      this.#freeIn(handle, group, at - groupFirst, end - at);
      at = end;
    }
    if (how.isMetadata) handle.forget(first, count);
  }

  #freeIn(handle: Handle, group: number, from: number, count: number): void {
    const words = this.#groups.editBitmap(handle, "blocks", group);
    if (!areBitsSet(words, from, count)) {
      const first = this.#sb.firstBlockOf(group) + from;
      const what = `of blocks ${first}..${first + count - 1}, which are freed, some are free`;
      throw new FsError("EUCLEAN", { detail: `block bitmap of group ${group}: ${what}` });
    }
    this.#busy.freed(handle, group, words, from, count);
    clearBits(words, from, count);
    this.#groups.addFreeBlocks(group, count);
  }
}

/** The largest power of two below `value`, from 2 on; 1 for 1. */
function lowerPower(value: number): number {
  return value <= 2 ? 1 : 2 ** Math.floor(Math.log2(value - 1));
}
