/**
 * What a write leaves as it is in the blocks that it touches must be valid before the rest is
 * copied: read, or zeroed where the file has nothing.
 *
 *     folio      |  block 3   |  block 4   |  block 5   |  block 6   |
 *     write                        |--------------------------|
 *     missing    | (valid)    |  piece ........................|.....|   one read, or two
 *
 * A piece is a run of blocks that are not valid. One that lies wholly inside the write needs
 * nothing; one that does not is read in one request, with the blocks that are overwritten anyway,
 * as long as these are few: then its two ends are read by themselves.
 *
 *  1. Only what was read is marked valid here. What was zeroed becomes valid with the bytes of the
 *     write: a copy that stops half-way must not leave blocks that nobody has filled.
 *  2. Memory of the folio is given to a read until that has ended, also if another has failed.
 *
 * After `__iomap_write_begin` in `fs/iomap/buffered-io.c` of Linux.
 */
import { Bio, REQ_OP_READ, REQ_SYNC } from "../../block/bio.ts";
import { attachBlockState, type FolioBlockState } from "../../cache/block-state.ts";
import type { Folio } from "../../cache/folio.ts";
import { EAGAIN, type Errno, FsError } from "../../lib/errno.ts";
import type { MaybeAsync } from "../../lib/maybe.ts";
import { KIB, roundDown, roundUp } from "../../lib/units.ts";
import { noteBioFailure } from "../read-failure.ts";
import { isOneBlock } from "./finish-read.ts";
import { IOMAP_NULL_ADDR, IOMAP_UNSHARE, iomapAddrOf } from "./iomap.ts";
import { type IomapIter, iomapIterSrcmap, needsZeroing } from "./iter.ts";
import type { IomapWriteOps } from "./write-ops.ts";

/** Up to so many bytes that are overwritten anyway a request reads, to be only one. */
const READ_THROUGH_BYTES: number = 64 * KIB;

/** Bytes within a folio, half open. */
interface Piece {
  readonly fromBytes: number;
  readonly endBytes: number;
}

/**
 * Makes the locked `folio` ready for a write of `lengthBytes` at `iter.posBytes`, all inside it.
 * Returns 0, or `-EAGAIN` if that needs a read and `isNowait` forbids to wait for it.
 *
 * @throws {FsError} what the read fails with; `EIO` for a block to be unshared that is nowhere
 */
export function prepareWrite(
  iter: IomapIter,
  folio: Folio,
  lengthBytes: number,
  writeOps: IomapWriteOps | undefined,
  isNowait: boolean,
): MaybeAsync<Errno> {
  const { inode } = iter;
  const isUnshare = (iter.flags & IOMAP_UNSHARE) !== 0;
  if (lengthBytes === folio.sizeBytes && !isUnshare) return 0; // No state is needed either.
  const state = isOneBlock(inode, folio) ? null : attachBlockState(folio, inode.blockBytes);
  if (folio.isUptodate) return 0;
  const missing = missingPieces(iter, folio, state, lengthBytes);
  if (missing.length === 0) return 0;
  const fromBytes = iter.posBytes - folio.posBytes;
  const endBytes = fromBytes + lengthBytes;
  const toRead: Piece[] = [];
  for (const piece of missing) {
    const isOverwritten = fromBytes <= piece.fromBytes && piece.endBytes <= endBytes;
    if (isOverwritten && !isUnshare) continue;
    if (!needsZeroing(iter, folio.posBytes + piece.fromBytes)) {
      addReads(toRead, piece, { fromBytes, endBytes }, isUnshare ? 0 : inode.blockBytes);
    } else if (isUnshare) {
      const place = `byte ${folio.posBytes + piece.fromBytes} of inode ${inode.ino}`;
      throw new FsError("EIO", { detail: `${place} is shared, and nowhere` });
    } else {
      folio.bytes.fill(0, piece.fromBytes, Math.max(piece.fromBytes, fromBytes));
      folio.bytes.fill(0, Math.min(piece.endBytes, endBytes), piece.endBytes);
    }
  }
  if (toRead.length === 0) return 0;
  return isNowait ? -EAGAIN : readPieces(iter, folio, toRead, writeOps);
}

/** Runs of blocks that the write touches and that are not valid (`iomap_adjust_read_range`). */
function missingPieces(
  iter: IomapIter,
  folio: Folio,
  state: FolioBlockState | null,
  lengthBytes: number,
): Piece[] {
  if (state === null) return [{ fromBytes: 0, endBytes: folio.sizeBytes }];
  const { blockBytes, size } = iter.inode;
  const fromBytes = iter.posBytes - folio.posBytes;
  const endBytes = roundUp(fromBytes + lengthBytes, blockBytes);
  // What lies behind the last block of the file is never read: a piece of its own.
  const eofBytes = roundUp(size, blockBytes) - folio.posBytes;
  const pieces: Piece[] = [];
  let atBytes = state.nextInvalid(roundDown(fromBytes, blockBytes), endBytes);
  while (atBytes < endBytes) {
    let stopBytes = state.nextValid(atBytes, endBytes);
    if (atBytes < eofBytes) stopBytes = Math.min(stopBytes, eofBytes);
    pieces.push({ fromBytes: atBytes, endBytes: stopBytes });
    atBytes = state.nextInvalid(stopBytes, endBytes);
  }
  return pieces;
}

/**
 * Adds what is to be read of `piece`: all of it, or only its ends, if much of it is overwritten by
 * `write`. With blocks of 0 bytes nothing counts as overwritten.
 */
function addReads(toRead: Piece[], piece: Piece, write: Piece, blockBytes: number): void {
  const { fromBytes, endBytes } = piece;
  if (blockBytes > 0) {
    const innerFromBytes = Math.max(fromBytes, roundUp(write.fromBytes, blockBytes));
    const innerEndBytes = Math.min(endBytes, roundDown(write.endBytes, blockBytes));
    if (innerEndBytes - innerFromBytes > READ_THROUGH_BYTES) {
      if (fromBytes < innerFromBytes) toRead.push({ fromBytes, endBytes: innerFromBytes });
      if (innerEndBytes < endBytes) toRead.push({ fromBytes: innerEndBytes, endBytes });
      return;
    }
  }
  toRead.push(piece);
}

/** Reads all pieces at once, and marks what has come as valid. */
async function readPieces(
  iter: IomapIter,
  folio: Folio,
  pieces: readonly Piece[],
  writeOps: IomapWriteOps | undefined,
): Promise<Errno> {
  const settled = await Promise.allSettled(
    pieces.map(async ({ fromBytes, endBytes }) => {
      const lengthBytes = endBytes - fromBytes;
      const posBytes = folio.posBytes + fromBytes;
      if (writeOps?.readFolioRange === undefined) {
        await readFolioRange(iter, folio, posBytes, lengthBytes);
      } else {
        await writeOps.readFolioRange(iter, folio, posBytes, lengthBytes);
      }
      if (folio.blockState !== null) folio.blockState.setValid(fromBytes, lengthBytes);
      else folio.markUptodate();
    }),
  );
  for (const result of settled) if (result.status === "rejected") throw result.reason;
  return 0;
}

/** Reads by a bio from where the old data lies (`iomap_bio_read_folio_range_sync`). */
function readFolioRange(
  iter: IomapIter,
  folio: Folio,
  posBytes: number,
  lengthBytes: number,
): Promise<void> {
  const srcmap = iomapIterSrcmap(iter);
  const { bdev } = srcmap;
  if (bdev === null || srcmap.addrBytes === IOMAP_NULL_ADDR) {
    const detail = `mapping of inode ${iter.inode.ino} at byte ${posBytes}: it is nowhere`;
    throw new FsError("EIO", { detail });
  }
  const addrBytes = iomapAddrOf(srcmap, posBytes);
  const offsetBytes = posBytes - folio.posBytes;
  // A device may end inside a block: the rest is zeros, as in bio-read.ts.
  const behindBytes = addrBytes + lengthBytes - bdev.sizeBytes;
  const readBytes =
    behindBytes > 0 && behindBytes < lengthBytes ? lengthBytes - behindBytes : lengthBytes;
  folio.bytes.fill(0, offsetBytes + readBytes, offsetBytes + lengthBytes);
  return new Promise((resolve, reject) => {
    const bio = new Bio(REQ_OP_READ, REQ_SYNC, addrBytes, ({ status, cause }) => {
      noteBioFailure(folio, bio);
      const detail = `byte ${addrBytes} of the device cannot be read`;
      if (status === 0) resolve();
      else reject(FsError.of(status, { detail, cause }));
    });
    bio.addVector(folio.bytes.subarray(offsetBytes, offsetBytes + readBytes));
    bdev.submitBio(bio);
  });
}
