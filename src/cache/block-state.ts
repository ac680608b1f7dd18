/**
 * FolioBlockState: what is valid, dirty and in flight in the parts of one folio, where
 * all-or-nothing does not do. One object for all who look at parts: iomap's blocks, buffer heads,
 * the vnode pager.
 *
 *     folio, 4 units    [ 0 ][ 1 ][ 2 ][ 3 ]
 *     valid               1    1    0    1       bytes are what the file holds
 *     dirty               0    1    0    0       newer than the store; only where valid
 *     inFlight            0    0    0    1       being written
 *
 *  1. The folio is uptodate exactly when all its units are valid, once no read of it is pending.
 *     Setting the last bit sets the flag in the same step, except while `readPendingBytes` is
 *     above 0: then the last completion does, through `folio.endRead`.
 *  2. A dirty unit lies in a valid one, and makes the folio dirty; save that a folio whose
 *     write-out has begun is not dirty while it is locked.
 *  3. Something in flight, or `writePendingBytes` above 0, means that the folio is under writeback.
 *
 * After `struct iomap_folio_state` in `fs/iomap/buffered-io.c` of Linux and the `valid` and
 * `dirty` bits of BSD's `vm_page`.
 */
import { assert } from "../lib/assert.ts";
import type { Folio } from "./folio.ts";

/** One bit per unit, with searches over ranges of units. */
class UnitBits {
  readonly #count: number;
  /** Made for the first bit that is set: most folios are never dirty, and arrays are large. */
  #words: Uint32Array | null = null;

  constructor(count: number) {
    this.#count = count;
  }

  has(unit: number): boolean {
    return this.#words !== null && ((this.#words[unit >>> 5]! >>> (unit & 31)) & 1) === 1;
  }

  /** Sets or clears the bits `first..end`, a word at a time. */
  change(first: number, end: number, isSet: boolean): void {
    if (this.#words === null) {
      if (!isSet) return;
      this.#words = new Uint32Array(Math.ceil(this.#count / 32));
    }
    for (let at = first; at < end; ) {
      const next = Math.min(end, (at | 31) + 1);
      const bits = (-1 >>> (32 - (next - at))) << (at & 31);
      if (isSet) this.#words[at >>> 5]! |= bits;
      else this.#words[at >>> 5]! &= ~bits;
      at = next;
    }
  }

  /** First unit in `first..end` whose bit equals `isSet`, or `end`. */
  next(first: number, end: number, isSet: boolean): number {
    const words = this.#words;
    if (words === null) return isSet ? end : Math.min(first, end);
    for (let at = first; at < end; at = (at | 31) + 1) {
      const word = isSet ? words[at >>> 5]! : ~words[at >>> 5]!;
      const bits = word & (-1 << (at & 31));
      if (bits !== 0) return Math.min(end, (at & ~31) + 31 - Math.clz32(bits & -bits));
    }
    return end;
  }
}

/** See the head of the file. Offsets and lengths are bytes within the folio. */
export class FolioBlockState {
  readonly folio: Folio;
  /** Bytes of one unit, a power of two. */
  readonly unitBytes: number;
  readonly unitCount: number;
  /** Bytes of reads that were submitted and have not completed. */
  readPendingBytes = 0;
  /** Bytes of writes that were submitted and have not completed. */
  writePendingBytes = 0;
  readonly #valid: UnitBits;
  readonly #dirty: UnitBits;
  readonly #inFlight: UnitBits;

  constructor(folio: Folio, unitBytes: number) {
    assert(folio.sizeBytes % unitBytes === 0, "a folio holds whole units");
    this.folio = folio;
    this.unitBytes = unitBytes;
    this.unitCount = folio.sizeBytes / unitBytes;
    this.#valid = new UnitBits(this.unitCount);
    this.#dirty = new UnitBits(this.unitCount);
    this.#inFlight = new UnitBits(this.unitCount);
    if (folio.isUptodate) this.#valid.change(0, this.unitCount, true);
    if (folio.isDirty) this.#dirty.change(0, this.unitCount, true);
  }

  /** True if all units are valid. */
  get isAllValid(): boolean {
    return this.#valid.next(0, this.unitCount, false) === this.unitCount;
  }

  /** True if any unit is dirty. */
  get isAnyDirty(): boolean {
    return this.#dirty.next(0, this.unitCount, true) < this.unitCount;
  }

  /** True if any unit is in flight. */
  get isAnyInFlight(): boolean {
    return this.#inFlight.next(0, this.unitCount, true) < this.unitCount;
  }

  /** True if every unit that the range touches is valid (`ifs_block_is_uptodate`). */
  isValid(fromBytes: number, lengthBytes: number): boolean {
    const end = this.#unitBehind(fromBytes + lengthBytes);
    return this.#valid.next(this.#unitOf(fromBytes), end, false) === end;
  }

  /** True if any unit that the range touches is dirty (`ifs_block_is_dirty`). */
  isDirty(fromBytes: number, lengthBytes: number): boolean {
    const end = this.#unitBehind(fromBytes + lengthBytes);
    return this.#dirty.next(this.#unitOf(fromBytes), end, true) < end;
  }

  /**
   * Notes that the range, of whole units, holds what the file holds (`ifs_set_range_uptodate`).
   * The last missing unit makes the folio uptodate, unless a read of it is pending.
   */
  setValid(fromBytes: number, lengthBytes: number): void {
    assert(fromBytes % this.unitBytes === 0, "a valid range begins at a unit");
    assert((fromBytes + lengthBytes) % this.unitBytes === 0, "a valid range ends at a unit");
    this.#valid.change(this.#unitOf(fromBytes), this.#unitBehind(fromBytes + lengthBytes), true);
    if (this.readPendingBytes === 0 && this.isAllValid) this.folio.markUptodate();
  }

  /** Notes that every unit is valid. Leaves the folio's flag to the caller. */
  setAllValid(): void {
    this.#valid.change(0, this.unitCount, true);
  }

  /** First byte in `fromBytes..endBytes` whose unit is not valid, or `endBytes`. */
  nextInvalid(fromBytes: number, endBytes: number): number {
    return this.#next(this.#valid, fromBytes, endBytes, false);
  }

  /** First byte in `fromBytes..endBytes` whose unit is valid, or `endBytes`. */
  nextValid(fromBytes: number, endBytes: number): number {
    return this.#next(this.#valid, fromBytes, endBytes, true);
  }

  /**
   * Notes that the units which the range touches, all valid, are newer than the store. Whoever
   * calls it dirties the folio in the same step: `Folio.markDirtyRange` does both.
   */
  setDirty(fromBytes: number, lengthBytes: number): void {
    assert(this.isValid(fromBytes, lengthBytes), "rule 2: a dirty unit is valid");
    this.#dirty.change(this.#unitOf(fromBytes), this.#unitBehind(fromBytes + lengthBytes), true);
  }

  /** Notes that all valid units are newer than the store. Leaves the folio's flag to the caller. */
  setAllDirty(): void {
    for (let first = 0; first < this.unitCount; ) {
      const from = this.#valid.next(first, this.unitCount, true);
      first = this.#valid.next(from, this.unitCount, false);
      this.#dirty.change(from, first, true);
    }
  }

  /**
   * Forgets that the units which lie wholly in the range are dirty: they were written, lie behind
   * the end of the file, or are given up. The folio's flag stays.
   */
  clearDirty(fromBytes: number, lengthBytes: number): void {
    const endBytes = fromBytes + lengthBytes;
    assert(endBytes <= this.folio.sizeBytes, "a range lies inside the folio");
    const first = Math.ceil(fromBytes / this.unitBytes);
    this.#dirty.change(first, this.#unitOf(endBytes), false);
  }

  /** First byte in `fromBytes..endBytes` whose unit is dirty, or `endBytes`. */
  nextDirty(fromBytes: number, endBytes: number): number {
    return this.#next(this.#dirty, fromBytes, endBytes, true);
  }

  /** First byte in `fromBytes..endBytes` whose unit is not dirty, or `endBytes`. */
  nextClean(fromBytes: number, endBytes: number): number {
    return this.#next(this.#dirty, fromBytes, endBytes, false);
  }

  /** True if any unit that the range touches is in flight. */
  isInFlight(fromBytes: number, lengthBytes: number): boolean {
    const end = this.#unitBehind(fromBytes + lengthBytes);
    return this.#inFlight.next(this.#unitOf(fromBytes), end, true) < end;
  }

  /**
   * The units that the range touches are about to be written: from dirty to in flight. The folio is
   * locked, and under writeback before it is unlocked.
   */
  startInFlight(fromBytes: number, lengthBytes: number): void {
    const first = this.#unitOf(fromBytes);
    const end = this.#unitBehind(fromBytes + lengthBytes);
    this.#dirty.change(first, end, false);
    this.#inFlight.change(first, end, true);
  }

  /**
   * The write of the range has ended. With `isKept` it has failed and its units, and with them the
   * folio, become dirty again. Before `endWriteback`.
   */
  endInFlight(fromBytes: number, lengthBytes: number, isKept: boolean): void {
    this.#inFlight.change(
      this.#unitOf(fromBytes),
      this.#unitBehind(fromBytes + lengthBytes),
      false,
    );
    if (isKept) this.folio.markDirtyRange(fromBytes, lengthBytes);
  }

  /** Throws `AssertionError` if an invariant does not hold. */
  verify(): void {
    const { folio } = this;
    if (this.readPendingBytes === 0) {
      assert(folio.isUptodate === this.isAllValid, "rule 1: uptodate is all units valid");
    }
    for (let unit = 0; unit < this.unitCount; unit++) {
      if (this.#dirty.has(unit)) assert(this.#valid.has(unit), "rule 2: a dirty unit is valid");
    }
    if (this.isAnyDirty && !folio.isLocked) {
      assert(folio.isDirty, "rule 2: a dirty unit makes the folio dirty");
    }
    if (this.isAnyInFlight || this.writePendingBytes > 0) {
      assert(folio.isWriteback, "rule 3: what is in flight is under writeback");
    }
  }

  #unitOf(offsetBytes: number): number {
    return Math.floor(offsetBytes / this.unitBytes);
  }

  #unitBehind(endBytes: number): number {
    assert(endBytes <= this.folio.sizeBytes, "a range lies inside the folio");
    return Math.ceil(endBytes / this.unitBytes);
  }

  #next(bits: UnitBits, fromBytes: number, endBytes: number, isSet: boolean): number {
    const end = this.#unitBehind(endBytes);
    const unit = bits.next(this.#unitOf(fromBytes), end, isSet);
    if (unit === end) return endBytes;
    return Math.max(fromBytes, unit * this.unitBytes);
  }
}

/**
 * Gives `folio` a state of `unitBytes` units, or returns the one that it has (`ifs_alloc`). A new
 * state takes over the folio's flags: uptodate as all valid, dirty as all dirty.
 */
export function attachBlockState(folio: Folio, unitBytes: number): FolioBlockState {
  folio.blockState ??= new FolioBlockState(folio, unitBytes);
  assert(folio.blockState.unitBytes === unitBytes, "one folio has one size of units");
  return folio.blockState;
}
