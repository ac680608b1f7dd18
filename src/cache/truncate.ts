/**
 * Taking folios out of a file: all of them when it is closed, the idle ones when somebody says so.
 *
 * After `mm/truncate.c` of Linux. Left out: partial folios and the end of a file that gets shorter.
 */
import type { MaybeAsync } from "../lib/maybe.ts";
import { INDEX_MAX } from "../lib/xarray.ts";
import type { AddressSpace } from "./address-space.ts";
import type { Folio } from "./folio.ts";
import { evict } from "./reclaim.ts";

/**
 * Drops the clean folios that lie wholly in the pages `first..last`, both included, and that
 * nobody locks, keeps or writes (`invalidate_mapping_pages`). Returns the number of pages
 * dropped, those of shadows included. Never waits.
 */
export function invalidateMappingPages(mapping: AddressSpace, first: number, last: number): number {
  let droppedPages = 0;
  for (let index = mapping.pages.find(first, last); index !== -1; ) {
    const entry = mapping.pages.load(index)!;
    const pageCount = 1 << mapping.pages.orderOf(index);
    const start = index - (index % pageCount);
    const isInside = start >= first && start + pageCount - 1 <= last;
    if (typeof entry === "number") {
      mapping.eraseShadow(index);
      droppedPages += pageCount;
    } else if (isInside && evict(entry)) {
      droppedPages += pageCount;
    }
    index = mapping.pages.find(start + pageCount, last);
  }
  return droppedPages;
}

/** Work of the first pass before the loop gets a turn (rule JS-5). */
const WORK_MS_PER_TURN = 5;

/**
 * Drops every folio and shadow of `mapping`, whatever state they are in; what is dirty is lost
 * (`truncate_inode_pages_final`). Waits for folios that are locked, so for reads in flight, and
 * gives the loop a turn now and then where there is much to drop.
 */
export function truncateInodePagesFinal(mapping: AddressSpace): MaybeAsync<void> {
  return truncateFree(mapping, 0);
}

/** The first pass, from page `first` on: all that needs no wait. */
function truncateFree(mapping: AddressSpace, first: number): MaybeAsync<void> {
  const { clock } = mapping.cache;
  const untilMs = clock.nowMs() + WORK_MS_PER_TURN;
  for (let index = mapping.pages.find(first); index !== -1; ) {
    if (clock.nowMs() >= untilMs) {
      const rest = index;
      return clock.turn().then(() => truncateFree(mapping, rest));
    }
    const entry = mapping.pages.load(index)!;
    const next = index + (1 << mapping.pages.orderOf(index));
    if (typeof entry === "number") {
      mapping.eraseShadow(index);
    } else if (!entry.isWriteback && entry.tryLock()) {
      entry.get();
      truncateFolio(mapping, entry);
    }
    index = next > INDEX_MAX ? -1 : mapping.pages.find(next);
  }
  if (mapping.nrpages > 0 || mapping.shadowCount > 0) return truncateBusy(mapping);
}

/** The second pass: waits for each folio that is left, until a scan finds nothing. */
async function truncateBusy(mapping: AddressSpace): Promise<void> {
  for (let index = mapping.pages.find(0); index !== -1; index = mapping.pages.find(0)) {
    const entry = mapping.pages.load(index)!;
    if (typeof entry === "number") {
      mapping.eraseShadow(index);
      continue;
    }
    entry.get();
    await entry.lock();
    await entry.waitWriteback();
    truncateFolio(mapping, entry);
  }
}

/** Removes a folio that the caller has locked and taken a reference to, and gives both back. */
function truncateFolio(mapping: AddressSpace, folio: Folio): void {
  if (folio.mapping === mapping) {
    if (folio.private !== null || folio.blockState !== null) {
      mapping.ops.invalidateFolio?.(folio, 0, folio.sizeBytes);
    }
    folio.cancelDirty();
    mapping.removeFolio(folio);
    folio.put();
  }
  folio.unlock();
  folio.put();
}
