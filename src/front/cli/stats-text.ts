/**
 * What the store and the page cache did, for people: one line for each thing that happened.
 *
 *     Store       23 requests read 156.0 KiB; 40 bios, 17 merged into others
 *     Metadata    166 of 182 lookups found their block cached (91.2%)
 *     File data   118 of 120 folios were cached when wanted (98.3%); 480.0 KiB in 120 reads
 *     Memory      36 of 65536 pages hold data
 */
import type { OpStats } from "../../block/block-stats.ts";
import { PAGE_BYTES } from "../../lib/units.ts";
import { formatSize } from "../size-text.ts";
import type { VolumeStats } from "../volume.ts";
import { counted, fieldName, line } from "./info.ts";

/** Counters that the other lines do not tell. */
const OTHERS = [
  "evictedPages",
  "refaultedPages",
  "activatedPages",
  "readaheadHits",
  "readaheadWasted",
] as const;

/** The lines of `quire overview` about store and cache. */
export function statsText({ block, cache }: VolumeStats): string {
  const ops = Object.entries(block).map(([op, stats]) => storeText(op, stats));
  const { metadataHits, metadataMisses, hits, misses } = cache;
  const lookups = metadataHits + metadataMisses;
  const folios = hits + misses;
  const reads = `${formatSize(cache.bytes)} in ${counted(cache.requests, "read")}`;
  const others = OTHERS.filter((key) => cache[key] > 0).map(
    (key) => `${cache[key]} ${fieldName(key)}`,
  );
  const memory = formatSize(cache.frameCount * PAGE_BYTES);
  return (
    line("Store", ops.filter(Boolean).join("; ")) +
    line(
      "Metadata",
      lookups === 0
        ? ""
        : `${metadataHits} of ${counted(lookups, "lookup")} found their block cached ` +
            ratio(metadataHits, lookups),
    ) +
    line(
      "File data",
      folios === 0
        ? ""
        : `${hits} of ${counted(folios, "folio")} cached when wanted ${ratio(hits, folios)}; ${reads}`,
    ) +
    line(
      "Memory",
      `${counted(cache.cachedPages, "page")} cached, room for ${cache.frameCount} (${memory})`,
    ) +
    line("Reclaim", others.join(", "))
  );
}

function storeText(op: string, { requests, bytes, bios, merges, errors }: OpStats): string {
  if (bios === 0 && requests === 0) return "";
  const merged = merges === 0 ? "none merged" : `${merges} merged into others`;
  const failed = errors === 0 ? "" : `, ${errors} failed`;
  const name = fieldName(op);
  const asked = `${counted(requests, `${name} request`)}, ${formatSize(bytes)}`;
  return `${asked}; ${counted(bios, "bio")}, ${merged}${failed}`;
}

function ratio(part: number, whole: number): string {
  return `(${((100 * part) / whole).toFixed(1)}%)`;
}
