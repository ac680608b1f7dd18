/**
 * What a device counts, by operation: the first benchmark of quire, since counts carry no noise.
 *
 * After `/proc/diskstats` (`Documentation/admin-guide/iostats.rst`), without its times.
 */
import { REQ_OP_DISCARD, REQ_OP_FLUSH, REQ_OP_READ, REQ_OP_WRITE, type RequestOp } from "./bio.ts";

/** Counts of one operation since the device was made. */
export interface OpStats {
  /** Bios accepted, each part of a split one by itself; under `flush`, all that ask for a flush. */
  bios: number;
  /**
   * Requests that merging saved: once the queue is empty and nothing has failed, `bios - merges` is
   * `requests`.
   */
  merges: number;
  /** Requests given to the store. */
  requests: number;
  /** Bytes of those requests. */
  bytes: number;
  /** Requests that failed. */
  errors: number;
}

/** Counts of a device (`struct disk_stats`). */
export interface BlockStats {
  readonly read: OpStats;
  readonly write: OpStats;
  readonly flush: OpStats;
  readonly discard: OpStats;
  readonly writeZeroes: OpStats;
}

function zeroOpStats(): OpStats {
  return { bios: 0, merges: 0, requests: 0, bytes: 0, errors: 0 };
}

/** Counts that all are 0. */
export function zeroBlockStats(): BlockStats {
  return {
    read: zeroOpStats(),
    write: zeroOpStats(),
    flush: zeroOpStats(),
    discard: zeroOpStats(),
    writeZeroes: zeroOpStats(),
  };
}

/** The counts of `op` in `stats`. */
export function statsOf(stats: BlockStats, op: RequestOp): OpStats {
  switch (op) {
    case REQ_OP_READ:
      return stats.read;
    case REQ_OP_WRITE:
      return stats.write;
    case REQ_OP_FLUSH:
      return stats.flush;
    case REQ_OP_DISCARD:
      return stats.discard;
    default:
      return stats.writeZeroes;
  }
}
