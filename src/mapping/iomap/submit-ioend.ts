/**
 * Dirty ranges become ioends, and ioends become bios.
 *
 *     range of a folio --iomapAddToIoend--> wpc.pending, while each goes on where the last ended
 *                                                |  in the file and on the device
 *                            ops.submit <--------+
 *                                `--> iomapIoendSubmit --> bios --> ioend.endIo, or the usual end
 *
 *  1. An ioend ends once: when its last bio has, in the queue of completions; or, if it failed, in
 *     a turn of its own, so never inside the call that submitted it.
 *
 * After `fs/iomap/ioend.c` of Linux.
 */
import { Bio, REQ_BACKGROUND, REQ_OP_WRITE, REQ_SYNC } from "../../block/bio.ts";
import type { Plug } from "../../block/plug.ts";
import type { Folio } from "../../cache/folio.ts";
import { WB_SYNC_ALL, type WritebackControl } from "../../cache/writeback-control.ts";
import { FsError } from "../../lib/errno.ts";
import { mutants } from "../../lib/mutants.ts";
import { completionsOf } from "../completion.ts";
import { plugOfBatch } from "../folio-write.ts";
import { iomapFinishIoends } from "./finish-ioend.ts";
import {
  IOMAP_IOEND_BOUNDARY,
  IOMAP_IOEND_NOMERGE_FLAGS,
  IOMAP_IOEND_SHARED,
  IOMAP_IOEND_UNWRITTEN,
  IomapIoend,
} from "./ioend.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_ANON_WRITE,
  IOMAP_F_BOUNDARY,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
  type Iomap,
  iomapAddrOf,
  iomapEndBytes,
} from "./iomap.ts";
import type { IomapWritepageCtx } from "./writeback-ops.ts";

/** Folios of one ioend at most: its end is one stretch of work (`IOEND_BATCH_SIZE`). */
const IOEND_FOLIOS_MAX = 4096;

/**
 * Hands the bytes from `posBytes` of the file on, at most `dirtyBytes` and no more than `wpc.iomap`
 * covers, over to the ioend under construction, or to a new one after the old one was submitted
 * (`iomap_add_to_ioend`). Returns their number. Those of a hole are handed over to nobody.
 *
 * `endPosBytes` is the end of the file if that lies in `folio`, else the end of the folio.
 *
 * @throws {FsError} `EIO` for space that is only reserved, for inline data, and for a mapping that
 *   does not cover the position
 */
export function iomapAddToIoend(
  wpc: IomapWritepageCtx,
  folio: Folio,
  posBytes: number,
  endPosBytes: number,
  dirtyBytes: number,
): number {
  const { iomap } = wpc;
  const lengthBytes = Math.min(dirtyBytes, iomapEndBytes(iomap) - posBytes);
  traceAdd(wpc, posBytes, dirtyBytes);
  if (posBytes < iomap.offsetBytes || lengthBytes <= 0) throw refused(wpc, posBytes, "elsewhere");
  if (iomap.type === IOMAP_HOLE) return lengthBytes;
  if (iomap.type === IOMAP_DELALLOC) throw refused(wpc, posBytes, "only reserved");
  if (iomap.type === IOMAP_INLINE) throw refused(wpc, posBytes, "inline");
  const flags = flagsOf(iomap, posBytes);
  if (wpc.pending === null || !canAppend(wpc.pending, iomap, posBytes, flags)) {
    if (wpc.pending !== null) wpc.ops.submit(wpc, null);
    wpc.pending = createIoend(wpc, posBytes, flags);
  }
  const ioend = wpc.pending;
  ioend.add(folio, posBytes - folio.posBytes, lengthBytes);
  // Rule 2 of ioend.ts. What lies behind the end of the file is no size of it.
  if (ioend.endBytes > endPosBytes) ioend.sizeBytes = endPosBytes - ioend.offsetBytes;
  return lengthBytes;
}

function flagsOf(iomap: Iomap, posBytes: number): number {
  let flags = 0;
  if (iomap.type === IOMAP_UNWRITTEN) flags |= IOMAP_IOEND_UNWRITTEN;
  if ((iomap.flags & IOMAP_F_SHARED) !== 0) flags |= IOMAP_IOEND_SHARED;
  if ((iomap.flags & IOMAP_F_BOUNDARY) !== 0 && posBytes === iomap.offsetBytes) {
    flags |= IOMAP_IOEND_BOUNDARY;
  }
  return flags;
}

/** `iomap_can_add_to_ioend`. */
function canAppend(ioend: IomapIoend, iomap: Iomap, posBytes: number, flags: number): boolean {
  if ((flags & IOMAP_IOEND_BOUNDARY) !== 0) return false;
  if (((flags ^ ioend.flags) & IOMAP_IOEND_NOMERGE_FLAGS) !== 0) return false;
  if (posBytes !== ioend.endBytes) return false;
  if (ioend.parts.length >= IOEND_FOLIOS_MAX) return false;
  if ((iomap.flags & IOMAP_F_ANON_WRITE) !== 0) return ioend.addrBytes === IOMAP_NULL_ADDR;
  return (
    ioend.bdev === iomap.bdev && ioend.addrBytes + ioend.ioBytes === iomapAddrOf(iomap, posBytes)
  );
}

function createIoend(wpc: IomapWritepageCtx, posBytes: number, flags: number): IomapIoend {
  const { iomap } = wpc;
  const isAnon = (iomap.flags & IOMAP_F_ANON_WRITE) !== 0;
  return new IomapIoend(wpc.mapping, {
    flags,
    offsetBytes: posBytes,
    addrBytes: isAnon ? IOMAP_NULL_ADDR : iomapAddrOf(iomap, posBytes),
    bdev: iomap.bdev,
    bioFlags: bioFlagsOf(wpc.wbc),
  });
}

/** `wbc_to_write_flags`. */
function bioFlagsOf(wbc: WritebackControl): number {
  if (wbc.syncMode === WB_SYNC_ALL) return REQ_SYNC;
  return wbc.forKupdate || wbc.forBackground ? REQ_BACKGROUND : 0;
}

function refused(wpc: IomapWritepageCtx, posBytes: number, what: string): FsError {
  const { ino } = wpc.inode;
  return new FsError("EIO", { detail: `byte ${posBytes} of inode ${ino} is ${what}` });
}

function traceAdd(wpc: IomapWritepageCtx, posBytes: number, dirtyBytes: number): void {
  const { trace } = wpc.mapping.cache;
  if (!trace.isOn) return;
  const { type, flags, offsetBytes, lengthBytes, addrBytes } = wpc.iomap;
  const fields = { ino: wpc.inode.ino, posBytes, dirtyBytes };
  const of = { type, flags, offsetBytes, lengthBytes, addrBytes };
  trace.emit({ name: "iomap_add_to_ioend", ...fields, ...of });
}

/**
 * Submits the ioend under construction, or ends it with `error` (`iomap_ioend_writeback_submit`):
 * the usual `submit` of `IomapWritebackOps`. One without a place fails with `EIO`.
 */
export function iomapIoendSubmit(wpc: IomapWritepageCtx, error: FsError | null): void {
  const ioend = wpc.pending;
  if (ioend === null) return;
  wpc.pending = null;
  if (error === null) iomapSubmitIoend(ioend, plugOfBatch(wpc.wbc));
  else iomapFailIoend(ioend, error);
}

/**
 * Writes `ioend` to its place on its device, through `plug` if one is given. It ends later, with
 * `EIO` if it has no place; never inside this call.
 */
export function iomapSubmitIoend(ioend: IomapIoend, plug?: Plug): void {
  const { bdev, addrBytes } = ioend;
  if (bdev === null || addrBytes === IOMAP_NULL_ADDR) {
    const where = `bytes ${ioend.offsetBytes} to ${ioend.endBytes} of inode ${ioend.inode.ino}`;
    iomapFailIoend(ioend, new FsError("EIO", { detail: `${where} have no place` }));
    return;
  }
  const bios: Bio[] = [];
  let unfinished = 0;
  const endBio = (bio: Bio): void => {
    if (bio.status !== 0 && ioend.error === null) {
      const detail = `byte ${bio.offsetBytes} of ${bdev.name} cannot be written`;
      ioend.error = FsError.of(bio.status, { detail, cause: bio.cause });
    }
    if (--unfinished === 0 && !mutants.cleanAtSubmission) endLater(ioend);
  };
  let bio: Bio | null = null;
  let atBytes = addrBytes;
  for (const vector of ioend.vectors) {
    if (bio === null || !bio.addVector(vector)) {
      bio = new Bio(REQ_OP_WRITE, ioend.bioFlags, atBytes, endBio);
      bio.addVector(vector);
      bios.push(bio);
    }
    atBytes += vector.length;
  }
  unfinished = bios.length;
  for (const each of bios) bdev.submitBio(each, plug);
  if (mutants.cleanAtSubmission) endLater(ioend);
}

/** Ends `ioend` with `error`, later and without I/O. */
export function iomapFailIoend(ioend: IomapIoend, error: FsError): void {
  ioend.error = error;
  endLater(ioend);
}

/** Rule 1. */
function endLater(ioend: IomapIoend): void {
  const { clock } = ioend.mapping.cache;
  const end = (): void => {
    if (ioend.endIo !== null) ioend.endIo(ioend);
    else iomapFinishIoends(ioend, ioend.error);
  };
  const queue = completionsOf(clock);
  if (ioend.error === null) queue.add(end, ioend.parts.length);
  else void clock.turn().then(() => queue.add(end, ioend.parts.length));
}
