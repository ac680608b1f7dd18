/**
 * Bio: one wish of an upper layer: an operation, a range of device bytes, and the memory for it.
 *
 * mpage and iomap build one per contiguous run, fill it page by page, submit it and hear its end:
 *
 *     vectors   [page 7][page 8][page 9]     borrowed from `submitBio` until `endIo`
 *                   \      |      /
 *     device    .. [offsetBytes .. endBytes) ..
 *
 * Invariants:
 *
 *  1. `lengthBytes` is the sum of the vectors, save for operations without memory (flush,
 *     discard, write zeroes), whose submitter sets it.
 *  2. `endIo` is called exactly once, never before `submitBio` has returned (rule JS-3).
 *  3. `status` is 0 until the bio has failed; then `cause` is what the store threw.
 *
 * After `include/linux/blk_types.h` and `block/bio.c` of Linux. Left out: reference counts,
 * cgroups, integrity, the iterator of a half-done bio, since a store has no short transfers.
 */
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import type { Errno } from "../lib/errno.ts";

/** What is to be done (`enum req_op`). */
export type RequestOp =
  | typeof REQ_OP_READ
  | typeof REQ_OP_WRITE
  | typeof REQ_OP_FLUSH
  | typeof REQ_OP_DISCARD
  | typeof REQ_OP_WRITE_ZEROES;
export const REQ_OP_READ = 0;
export const REQ_OP_WRITE = 1;
/** Makes durable what completed before; has no range. */
export const REQ_OP_FLUSH = 2;
/** Gives the range up; a hint. */
export const REQ_OP_DISCARD = 3;
/** Makes the range read as zeros. */
export const REQ_OP_WRITE_ZEROES = 4;

/** Read ahead of need: nobody waits for it yet. */
export const REQ_RAHEAD = 1;
/** Somebody waits for it. */
export const REQ_SYNC = 2;
/** Metadata of the file system. */
export const REQ_META = 4;
/** Write-out that nobody waits for. */
export const REQ_BACKGROUND = 8;
/** The data is durable when the bio ends. */
export const REQ_FUA = 16;
/** All that completed before the submission is durable before the data is written. */
export const REQ_PREFLUSH = 32;

/** Vectors that one bio holds at most (`BIO_MAX_VECS`). */
export const BIO_MAX_VECTORS = 256;

/** Told the end of a bio, in a microtask of its own kind: it must not throw. */
export type EndIo = (bio: Bio) => void;

/** See the head of the file (`struct bio`). */
export class Bio {
  readonly op: RequestOp;
  /** Union of `REQ_*` flags. */
  readonly flags: number;
  /** First byte on the device. */
  readonly offsetBytes: number;
  readonly vectors: Uint8Array[] = [];
  lengthBytes = 0;
  /** 0, or the negative errno with which the bio failed. */
  status: Errno = 0;
  /** What the store threw, where it did. */
  cause: unknown = undefined;
  /** True from the call of `endIo` on. */
  isDone = false;
  readonly endIo: EndIo;
  /** The submitter's own (`bi_private`). */
  private: unknown = undefined;

  constructor(op: RequestOp, flags: number, offsetBytes: number, endIo: EndIo) {
    assert(Number.isSafeInteger(offsetBytes), "a bio begins at a byte of the device");
    this.op = op;
    this.flags = flags;
    this.offsetBytes = offsetBytes;
    this.endIo = endIo;
  }

  /** First byte on the device behind the bio (`bio_end_sector`). */
  get endBytes(): number {
    return this.offsetBytes + this.lengthBytes;
  }

  /**
   * Adds memory for the bytes from `endBytes` on (`bio_add_folio`). False if the bio is full:
   * nothing added.
   */
  addVector(bytes: Uint8Array): boolean {
    assert(bytes.length > 0, "a vector is not empty");
    if (this.vectors.length === BIO_MAX_VECTORS) return false;
    this.vectors.push(bytes);
    this.lengthBytes += bytes.length;
    return true;
  }
}

/** True if `op` moves memory, so that it may be limited in size and has vectors. */
export function hasVectors(op: RequestOp): boolean {
  return op === REQ_OP_READ || op === REQ_OP_WRITE;
}

/** A bio over the same memory with other flags, place and end (`bio_alloc_clone`). */
export function cloneBio(bio: Bio, flags: number, offsetBytes: number, endIo: EndIo): Bio {
  const clone = new Bio(bio.op, flags, offsetBytes, endIo);
  for (const vector of bio.vectors) clone.vectors.push(vector);
  clone.lengthBytes = bio.lengthBytes;
  return clone;
}

/**
 * Ends `bio` with `status` and calls its `endIo`, now (`bio_endio`). Only devices call it, and
 * never inside `submitBio`.
 *
 * An `endIo` that throws is a bug of its owner. It must not cost other bios their completion, so
 * the throw is repeated alone in a microtask, where it reaches the process's handler of uncaught
 * errors.
 */
export function endBio(bio: Bio, status: Errno, cause: unknown, clock: Clock): void {
  assert(!bio.isDone, "a bio ends once");
  bio.isDone = true;
  bio.status = status;
  bio.cause = cause;
  try {
    bio.endIo(bio);
  } catch (thrown) {
    clock.microtask(() => {
      throw thrown;
    });
  }
}
