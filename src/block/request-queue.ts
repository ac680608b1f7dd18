/**
 * RequestQueue: the requests that wait for their turn, in the order a head would pass them.
 *
 * Two lists, each ascending by device address. One sweep is served from its low end; what arrives
 * meanwhile waits for the next sweep, unless it can be merged into a request of this one:
 *
 *     arriving bio --merge---------> sweep    [ 8..12 ][ 40..41 ][ 90..99 ]  taken from the left
 *          \--------merge or insert-> waiting  [ 2..3 ][ 41..44 ]            the next sweep
 *
 * So no request is overtaken for ever: at most the rest of one sweep and its own sweep pass
 * before it, and a sweep can only shrink, since merging adds bytes to its requests, up to a
 * limit, but no request.
 *
 * Invariants, checked by `verify()`:
 *
 *  1. Both lists ascend by `offsetBytes`; equal ones keep the order of arrival.
 *  2. A request's bios are ascending, without gaps, and fill it.
 *  3. No request made by merging is larger than the limits.
 *
 * After `block/elevator.c` of Linux; the two lists are those of the FSCAN elevator, where
 * mq-deadline has expiry times: they need no clock.
 */
import { assert } from "../lib/assert.ts";
import type { Bio } from "./bio.ts";
import { isMergeable, type RequestLimits, tryBackMerge, tryFrontMerge, tryJoin } from "./merge.ts";
import { BlockRequest } from "./request.ts";

/** See the head of the file (`struct elevator_queue`). */
export class RequestQueue {
  readonly #limits: RequestLimits;
  #sweep: BlockRequest[] = [];
  #waiting: BlockRequest[] = [];

  constructor(limits: RequestLimits) {
    this.#limits = limits;
  }

  /** Number of requests that wait. */
  get length(): number {
    return this.#sweep.length + this.#waiting.length;
  }

  /**
   * Takes `bio` in, as a request of its own or merged (`blk_mq_sched_bio_merge`). Returns how many
   * requests merging saved: 0, 1, or 2 if the bio has closed the gap between two requests.
   */
  add(bio: Bio): number {
    if (isMergeable(bio)) {
      const saved = this.#merge(this.#sweep, bio) || this.#merge(this.#waiting, bio);
      if (saved > 0) return saved;
    }
    const at = upperBound(this.#waiting, bio.offsetBytes);
    this.#waiting.splice(at, 0, new BlockRequest(bio));
    return 0;
  }

  /** Takes out the next request to dispatch, or `undefined` (`blk_mq_do_dispatch_sched`). */
  take(): BlockRequest | undefined {
    if (this.#sweep.length === 0) {
      this.#sweep = this.#waiting;
      this.#waiting = [];
    }
    return this.#sweep.shift();
  }

  /** Throws `AssertionError` if an invariant does not hold. Walks all: for tests. */
  verify(): void {
    for (const list of [this.#sweep, this.#waiting]) {
      let previousBytes = 0;
      for (const request of list) {
        assert(request.offsetBytes >= previousBytes, "invariant 1: a list ascends");
        previousBytes = request.offsetBytes;
        this.#verifyRequest(request);
      }
    }
  }

  #verifyRequest(request: BlockRequest): void {
    let endBytes = request.offsetBytes;
    let vectorCount = 0;
    for (const bio of request.bios) {
      assert(bio.offsetBytes === endBytes, "invariant 2: bios without gaps");
      assert(bio.op === request.op, "a request has one operation");
      endBytes = bio.endBytes;
      vectorCount += bio.vectors.length;
    }
    assert(endBytes === request.endBytes, "invariant 2: bios fill their request");
    assert(vectorCount === request.vectorCount, "a request counts its vectors");
    if (request.bios.length === 1) return;
    const { maxRequestBytes, maxVectors } = this.#limits;
    assert(request.lengthBytes <= maxRequestBytes, "invariant 3: limit of bytes");
    assert(request.vectorCount <= maxVectors, "invariant 3: limit of vectors");
  }

  /**
   * Merges `bio` into a neighbour in `list`, and two neighbours into one where it closes the gap.
   */
  #merge(list: BlockRequest[], bio: Bio): number {
    const at = upperBound(list, bio.offsetBytes);
    const lower = list[at - 1];
    const upper = list[at];
    if (lower !== undefined && tryBackMerge(lower, bio, this.#limits)) {
      if (upper === undefined || !tryJoin(lower, upper, this.#limits)) return 1;
      list.splice(at, 1);
      return 2;
    }
    return upper !== undefined && tryFrontMerge(upper, bio, this.#limits) ? 1 : 0;
  }
}

/** Index of the first request of `list` that begins behind `offsetBytes`. */
function upperBound(list: readonly BlockRequest[], offsetBytes: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (list[middle]!.offsetBytes <= offsetBytes) low = middle + 1;
    else high = middle;
  }
  return low;
}
