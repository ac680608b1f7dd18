/**
 * Reclaim: which folios stay in memory, and which go when memory is wanted.
 *
 *                  first use: referenced     second use
 *     new ---> [ inactive: head .......... tail ] ---> evicted, leaves a shadow in the index
 *               ^            |second use         |
 *     refault   |            v                   |  the longer list gives its tail
 *     soon ---> [ active:   head .......... tail ]
 *
 * One pass over many files must not push out what is used again and again: so what comes new has
 * to be used twice before it counts, and what was evicted shortly before its second use is known
 * again. The clock of this is `age`, the number of pages evicted and activated so far; a shadow
 * is its value at the eviction. The refault distance, clock now minus shadow, is how many more
 * pages the inactive list would have needed to keep the folio; if the active list has that many,
 * the folio goes there at once.
 *
 *  1. A folio with `PG_LRU` is on exactly one list: active if `PG_ACTIVE`, else inactive.
 *  2. A list counts its folios and their pages.
 *
 * After `mm/workingset.c` and `mm/vmscan.c` of Linux. Left out: several generations, memory
 * cgroups, swap. Nothing is written from here: a dirty folio is passed over, the flusher woken, and
 * the folio goes to the tail when its write has ended.
 */
import { assert } from "../lib/assert.ts";
import type { AddressSpace } from "./address-space.ts";
import {
  type Folio,
  PG_ACTIVE,
  PG_DIRTY,
  PG_LOCKED,
  PG_LRU,
  PG_PREFETCHED,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_WORKINGSET,
  PG_WRITEBACK,
} from "./folio.ts";

/** What stays in the index where a folio was evicted: the clock of that moment, 30 bits. */
export type Shadow = number;

/** 30 bits, so that every engine keeps a shadow without a box. */
const AGE_MASK = 0x3fff_ffff;

/** A doubly linked list through the folios themselves. */
export class FolioList {
  head: Folio | null = null;
  tail: Folio | null = null;
  folioCount = 0;
  pageCount = 0;

  pushHead(folio: Folio): void {
    folio.lruBefore = null;
    folio.lruNext = this.head;
    if (this.head === null) this.tail = folio;
    else this.head.lruBefore = folio;
    this.head = folio;
    this.folioCount++;
    this.pageCount += folio.pageCount;
  }

  pushTail(folio: Folio): void {
    folio.lruNext = null;
    folio.lruBefore = this.tail;
    if (this.tail === null) this.head = folio;
    else this.tail.lruNext = folio;
    this.tail = folio;
    this.folioCount++;
    this.pageCount += folio.pageCount;
  }

  remove(folio: Folio): void {
    if (folio.lruBefore === null) this.head = folio.lruNext;
    else folio.lruBefore.lruNext = folio.lruNext;
    if (folio.lruNext === null) this.tail = folio.lruBefore;
    else folio.lruNext.lruBefore = folio.lruBefore;
    folio.lruNext = null;
    folio.lruBefore = null;
    this.folioCount--;
    this.pageCount -= folio.pageCount;
  }

  /** Throws `AssertionError` if the links or the counts are wrong. */
  verify(isActive: boolean): void {
    let folioCount = 0;
    let pageCount = 0;
    let before: Folio | null = null;
    for (let folio = this.head; folio !== null; folio = folio.lruNext) {
      assert((folio.flags & PG_LRU) !== 0, "what is on a list says so");
      assert(folio.isActive === isActive, "invariant 1: on the list of its flag");
      assert(folio.lruBefore === before, "a list is linked both ways");
      before = folio;
      folioCount++;
      pageCount += folio.pageCount;
    }
    assert(this.tail === before, "the tail is the last folio");
    assert(this.folioCount === folioCount, "invariant 2: folios are counted");
    assert(this.pageCount === pageCount, "invariant 2: pages are counted");
  }
}

/** Counters of reclaim, kept by the cache's `stats()`. */
export interface ReclaimCounters {
  evictedPages: number;
  refaultedPages: number;
  /** Of these, pages known as working set and made active at once. */
  activatedPages: number;
  readaheadHits: number;
  readaheadWasted: number;
}

/** The two lists of a cache and their clock (`struct lruvec`). */
export class Lruvec {
  readonly inactive: FolioList = new FolioList();
  readonly active: FolioList = new FolioList();
  readonly counters: ReclaimCounters;
  /** Pages evicted and activated so far (`nonresident_age`), modulo 2^30. */
  age = 0;
  /** Dirty pages that the last `shrink` had to pass over: the flusher should write them. */
  passedDirtyPages = 0;

  constructor(counters: ReclaimCounters) {
    this.counters = counters;
  }

  /**
   * Puts a folio that has just been added to its file on a list; `shadow` is what it replaced
   * there.
   */
  add(folio: Folio, shadow: Shadow | undefined): void {
    folio.flags |= PG_LRU;
    if (shadow !== undefined) {
      this.counters.refaultedPages += folio.pageCount;
      if (this.#refaultDistance(shadow) <= this.active.pageCount) {
        this.counters.activatedPages += folio.pageCount;
        this.#advance(folio.pageCount);
        folio.flags |= PG_ACTIVE | PG_WORKINGSET;
        this.active.pushHead(folio);
        return;
      }
    }
    this.inactive.pushHead(folio);
  }

  /** Takes a folio that leaves its file off its list. */
  remove(folio: Folio): void {
    if ((folio.flags & PG_ACTIVE) !== 0) this.active.remove(folio);
    else this.inactive.remove(folio);
    if ((folio.flags & PG_PREFETCHED) !== 0) this.counters.readaheadWasted += folio.pageCount;
    folio.flags &= ~(PG_LRU | PG_ACTIVE | PG_REFERENCED | PG_PREFETCHED);
  }

  /**
   * Notes a use (`folio_mark_accessed`): the first one makes an inactive folio referenced, the
   * second one active; the next one makes it referenced again.
   */
  markAccessed(folio: Folio): void {
    if ((folio.flags & PG_PREFETCHED) !== 0) {
      folio.flags &= ~PG_PREFETCHED;
      this.counters.readaheadHits += folio.pageCount;
    }
    if ((folio.flags & PG_REFERENCED) === 0) {
      folio.flags |= PG_REFERENCED;
      return;
    }
    if ((folio.flags & (PG_ACTIVE | PG_LRU)) !== PG_LRU) return;
    this.inactive.remove(folio);
    folio.flags = (folio.flags | PG_ACTIVE) & ~PG_REFERENCED;
    this.active.pushHead(folio);
    this.#advance(folio.pageCount);
  }

  /** The shadow for a folio that is evicted now (`workingset_eviction`). */
  eviction(folio: Folio): Shadow {
    const shadow = this.age;
    this.#advance(folio.pageCount);
    this.counters.evictedPages += folio.pageCount;
    return shadow;
  }

  /**
   * Evicts clean folios that nobody uses until `wantedPages` are free or all were looked at, and
   * returns the number of pages freed (`shrink_lruvec`). Locked and kept folios stay. So do those
   * that are dirty or being written, which are marked to go first once their write has ended.
   * Never waits or writes. Cost: in the number of folios that it has to pass over.
   */
  shrink(wantedPages: number): number {
    let freedPages = 0;
    this.passedDirtyPages = 0;
    let scanLeft = this.inactive.folioCount + this.active.folioCount;
    for (; freedPages < wantedPages && scanLeft > 0; scanLeft--) {
      if (this.active.pageCount > this.inactive.pageCount) this.#deactivateTail();
      const folio = this.inactive.tail;
      if (folio === null) break;
      if (evict(folio, this)) {
        freedPages += folio.pageCount;
      } else if (folio === this.inactive.tail) {
        this.#passOver(folio);
        this.inactive.remove(folio);
        this.inactive.pushHead(folio);
      }
    }
    // All inactive ones are locked or kept, though they are the longer list.
    for (let left = this.active.folioCount; freedPages < wantedPages && left > 0; left--) {
      const folio = this.active.tail!;
      this.#deactivateTail();
      if (evict(folio, this)) freedPages += folio.pageCount;
      else this.#passOver(folio);
    }
    return freedPages;
  }

  /**
   * Makes `folio`, whose write has ended and which reclaim has met before, the first candidate
   * (`folio_rotate_reclaimable`), unless it is used again.
   */
  rotateReclaimable(folio: Folio): void {
    if ((folio.flags & (PG_LRU | PG_ACTIVE | PG_LOCKED | PG_DIRTY)) !== PG_LRU) return;
    this.inactive.remove(folio);
    this.inactive.pushTail(folio);
  }

  /** True for a shadow whose folio could not be made active however large the active list gets. */
  isTooOld(shadow: Shadow, frameCount: number): boolean {
    return this.#refaultDistance(shadow) > frameCount;
  }

  verify(): void {
    this.inactive.verify(false);
    this.active.verify(true);
  }

  /** Has the folio come back as soon as it is clean, if that is what keeps it. */
  #passOver(folio: Folio): void {
    if ((folio.flags & (PG_DIRTY | PG_WRITEBACK)) === 0) return;
    folio.flags |= PG_RECLAIM;
    if ((folio.flags & PG_WRITEBACK) === 0) this.passedDirtyPages += folio.pageCount;
  }

  /** The tail of the active list has to be used again in order to stay (`shrink_active_list`). */
  #deactivateTail(): void {
    const folio = this.active.tail;
    if (folio === null) return;
    this.active.remove(folio);
    folio.flags = (folio.flags | PG_WORKINGSET) & ~(PG_ACTIVE | PG_REFERENCED);
    this.inactive.pushHead(folio);
  }

  #refaultDistance(shadow: Shadow): number {
    return (this.age - shadow) & AGE_MASK;
  }

  #advance(pageCount: number): void {
    this.age = (this.age + pageCount) & AGE_MASK;
  }
}

/** True if `folio` is clean, not locked and kept by nobody but its file. */
export function isEvictable(folio: Folio): boolean {
  return (folio.flags & (PG_LOCKED | PG_DIRTY | PG_WRITEBACK)) === 0 && folio.refs === 1;
}

/** Asks the file system to let go of what it attached to `folio` (`filemap_release_folio`). */
export function filemapReleaseFolio(mapping: AddressSpace, folio: Folio): boolean {
  if (folio.private === null && folio.blockState === null) return true;
  const isOwned = folio.private === null || mapping.ops.releaseFolio !== undefined;
  assert(isOwned, "who attaches something to a folio says when it can go");
  try {
    return mapping.ops.releaseFolio === undefined || mapping.ops.releaseFolio(folio);
  } catch {
    return false; // It could not say, so it keeps it.
  }
}

/**
 * Removes a clean folio that nobody uses from its file, and says whether it could. With `lruvec` it
 * leaves a shadow there (`__remove_mapping`).
 */
export function evict(folio: Folio, lruvec?: Lruvec): boolean {
  const { mapping } = folio;
  if (mapping === null || !isEvictable(folio) || !folio.tryLock()) return false;
  const isReleased = filemapReleaseFolio(mapping, folio);
  if (isReleased) mapping.removeFolio(folio, lruvec?.eviction(folio));
  folio.unlock();
  if (isReleased) folio.put();
  return isReleased;
}
