/**
 * Merging: bios and requests that lie side by side on the device become one request.
 *
 *     back merge     [request][bio]     the usual one: a file is read upwards
 *     front merge    [bio][request]
 *     join           [request][request] after a bio has filled the gap between two
 *
 * And the opposite: a bio larger than a request may be is split, and ends when its last part has
 * ended.
 *
 * Invariant: a merge changes neither which bytes move nor where to; it only saves requests. What
 * must stay alone stays alone: flushes, and everything with `REQ_FUA` or `REQ_PREFLUSH`.
 *
 * After `block/blk-merge.c` of Linux. Left out: hardware limits on segments beyond one count.
 */
import { assert } from "../lib/assert.ts";
import type { Clock } from "../lib/clock.ts";
import {
  BIO_MAX_VECTORS,
  Bio,
  endBio,
  hasVectors,
  REQ_BACKGROUND,
  REQ_FUA,
  REQ_OP_FLUSH,
  REQ_PREFLUSH,
  REQ_RAHEAD,
} from "./bio.ts";
import type { BlockRequest } from "./request.ts";

/** How large a request may become by merging (`struct queue_limits`). */
export interface RequestLimits {
  readonly maxRequestBytes: number;
  readonly maxVectors: number;
}

const NEVER_MERGED = REQ_FUA | REQ_PREFLUSH;
const ONLY_IF_ALL = REQ_RAHEAD | REQ_BACKGROUND;

/** True if `bio` may ever share a request (`bio_mergeable`). */
export function isMergeable(bio: Bio): boolean {
  return bio.op !== REQ_OP_FLUSH && (bio.flags & NEVER_MERGED) === 0;
}

/**
 * Flags of a request made of two parts: waited for if either is, readahead or background if both
 * are.
 */
export function mergeFlags(a: number, b: number): number {
  return ((a | b) & ~ONLY_IF_ALL) | (a & b & ONLY_IF_ALL);
}

interface Part {
  readonly op: number;
  readonly flags: number;
  readonly lengthBytes: number;
}

function isAllowed(a: Part, b: Part, vectorCount: number, limits: RequestLimits): boolean {
  return (
    a.op === b.op &&
    ((a.flags | b.flags) & NEVER_MERGED) === 0 &&
    a.lengthBytes + b.lengthBytes <= limits.maxRequestBytes &&
    vectorCount <= limits.maxVectors
  );
}

/** Puts `bio` at the end of `request` if it fits there (`bio_attempt_back_merge`). */
export function tryBackMerge(request: BlockRequest, bio: Bio, limits: RequestLimits): boolean {
  const vectorCount = request.vectorCount + bio.vectors.length;
  if (request.endBytes !== bio.offsetBytes || !isAllowed(request, bio, vectorCount, limits)) {
    return false;
  }
  request.bios.push(bio);
  grow(request, bio.lengthBytes, bio.flags, vectorCount);
  return true;
}

/** Puts `bio` before `request` if it fits there (`bio_attempt_front_merge`). */
export function tryFrontMerge(request: BlockRequest, bio: Bio, limits: RequestLimits): boolean {
  const vectorCount = request.vectorCount + bio.vectors.length;
  if (bio.endBytes !== request.offsetBytes || !isAllowed(request, bio, vectorCount, limits)) {
    return false;
  }
  request.bios.unshift(bio);
  request.offsetBytes = bio.offsetBytes;
  grow(request, bio.lengthBytes, bio.flags, vectorCount);
  return true;
}

/** Moves the bios of `upper` to the end of `lower` if they fit there (`attempt_merge`). */
export function tryJoin(lower: BlockRequest, upper: BlockRequest, limits: RequestLimits): boolean {
  const vectorCount = lower.vectorCount + upper.vectorCount;
  if (lower.endBytes !== upper.offsetBytes || !isAllowed(lower, upper, vectorCount, limits)) {
    return false;
  }
  for (const bio of upper.bios) lower.bios.push(bio);
  grow(lower, upper.lengthBytes, upper.flags, vectorCount);
  return true;
}

function grow(request: BlockRequest, byBytes: number, flags: number, vectorCount: number): void {
  request.lengthBytes += byBytes;
  request.flags = mergeFlags(request.flags, flags);
  request.vectorCount = vectorCount;
}

/**
 * The parts in which `bio` is to be queued so that none is larger than `maxRequestBytes`
 * (`bio_split_to_limits`): itself, if it is small enough. Else bios of their own over the same
 * memory; when the last of them has ended, `bio` ends with the first error among them.
 */
export function splitBio(bio: Bio, maxRequestBytes: number, clock: Clock): readonly Bio[] {
  if (!hasVectors(bio.op) || bio.lengthBytes <= maxRequestBytes) return [bio];
  const parts: Bio[] = [];
  let failed: Bio | undefined;
  let pending = 0;
  const endPart = (part: Bio): void => {
    if (part.status !== 0) failed ??= part;
    pending--;
    if (pending === 0) endBio(bio, failed?.status ?? 0, failed?.cause, clock);
  };

  let part = new Bio(bio.op, bio.flags, bio.offsetBytes, endPart);
  for (const vector of bio.vectors) {
    for (let from = 0; from < vector.length; ) {
      const room = maxRequestBytes - part.lengthBytes;
      if (room === 0 || part.vectors.length === BIO_MAX_VECTORS) {
        parts.push(part);
        part = new Bio(bio.op, bio.flags, part.endBytes, endPart);
        continue;
      }
      const to = Math.min(vector.length, from + room);
      part.addVector(vector.subarray(from, to));
      from = to;
    }
  }
  parts.push(part);
  assert(part.endBytes === bio.endBytes, "the parts of a bio are the bio");
  pending = parts.length;
  return parts;
}
