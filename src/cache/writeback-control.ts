/**
 * WritebackControl: one wish to write dirty folios: why, which, how many, and what came of it.
 *
 *                        WB_SYNC_NONE: memory is to be clean   WB_SYNC_ALL: data must be safe
 *     folio in flight    skipped                               waited for, written if dirty
 *     which folios       dirty when they are met               dirty when the walk began
 *     nrToWrite          ends the walk                         counts below zero
 *     first error        ends the walk                         is returned at the end of it
 *
 * The range is one of bytes whose last byte is part of it, unlike all other ranges of quire.
 *
 * After `struct writeback_control` in `include/linux/writeback.h` of Linux. Left out: cgroups. The
 * cursor of a walk is in `WritebackIter`.
 */

/** See the head of the file (`enum writeback_sync_modes`). */
export type SyncMode = typeof WB_SYNC_NONE | typeof WB_SYNC_ALL;
export const WB_SYNC_NONE = 0;
export const WB_SYNC_ALL = 1;

/** A writepage has declined, redirtied the folio and left it locked. Positive: no errno. */
export const AOP_WRITEPAGE_ACTIVATE = 0x8_0000;

/**
 * What walks over several files have in common: the requests that are held back until the last one
 * has its own, so that those of neighbours merge (`blk_start_plug` in `wb_writeback`).
 */
export interface WritebackBatch {
  /** Made by the first who submits. */
  plug: { flush(): void } | null;
}

/** What may be left out has the value for a walk over the whole file that nobody named. */
export interface WritebackOptions {
  readonly syncMode: SyncMode;
  /** Pages to write at most; by default no limit. */
  readonly nrToWrite?: number;
  readonly rangeStartBytes?: number;
  /** The last byte of the range; `Infinity`, the default, is the end of the file. */
  readonly rangeLastBytes?: number;
  /** Begin where the last cyclic walk has stopped, and ignore the range. */
  readonly rangeCyclic?: boolean;
  /** Write only what is dirty now, even without `WB_SYNC_ALL`. */
  readonly taggedWritepages?: boolean;
  /** On behalf of the periodic flush of what is old. */
  readonly forKupdate?: boolean;
  /** On behalf of the flush that keeps memory clean. */
  readonly forBackground?: boolean;
  /** On behalf of `sync`, which waits for all files together at the end. */
  readonly forSync?: boolean;
  /** The walk is one of several. */
  readonly batch?: WritebackBatch;
}

/** See the head of the file. */
export class WritebackControl {
  readonly syncMode: SyncMode;
  /** Pages still to be written; what a walk hands out is taken off. */
  nrToWrite: number;
  /** Pages that were handed out and redirtied instead of written. */
  pagesSkipped = 0;
  readonly rangeStartBytes: number;
  readonly rangeLastBytes: number;
  readonly rangeCyclic: boolean;
  readonly taggedWritepages: boolean;
  readonly forKupdate: boolean;
  readonly forBackground: boolean;
  readonly forSync: boolean;
  readonly batch: WritebackBatch | null;
  /**
   * Submits what the writer holds back: bios under construction, plugs. Set by whoever holds any;
   * called by a walker before it really waits for a folio (rule JS-4). It must not throw.
   */
  beforeWait: (() => void) | null = null;

  constructor(options: WritebackOptions) {
    this.syncMode = options.syncMode;
    this.nrToWrite = options.nrToWrite ?? Infinity;
    this.rangeStartBytes = options.rangeStartBytes ?? 0;
    this.rangeLastBytes = options.rangeLastBytes ?? Infinity;
    this.rangeCyclic = options.rangeCyclic ?? false;
    this.taggedWritepages = options.taggedWritepages ?? false;
    this.forKupdate = options.forKupdate ?? false;
    this.forBackground = options.forBackground ?? false;
    this.forSync = options.forSync ?? false;
    this.batch = options.batch ?? null;
  }
}
