import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { Bio, REQ_FUA, REQ_OP_READ, REQ_OP_WRITE, type RequestOp } from "./bio.ts";
import type { BlockRequest } from "./request.ts";
import { RequestQueue } from "./request-queue.ts";

const BLOCK = 512;
const LIMITS = { maxRequestBytes: 8 * BLOCK, maxVectors: 8 };

function bioOf(block: number, op: RequestOp = REQ_OP_READ, flags = 0): Bio {
  const bio = new Bio(op, flags, block * BLOCK, () => {});
  bio.addVector(new Uint8Array(BLOCK));
  return bio;
}

/** "3-5": the blocks of a request. */
function textOf(request: BlockRequest | undefined): string {
  if (request === undefined) return "none";
  return `${request.offsetBytes / BLOCK}-${request.endBytes / BLOCK - 1}`;
}

function drain(queue: RequestQueue): string[] {
  const texts: string[] = [];
  while (queue.length > 0) texts.push(textOf(queue.take()));
  return texts;
}

describe("RequestQueue", () => {
  test("gives requests in the order of their addresses", () => {
    const queue = new RequestQueue(LIMITS);
    for (const block of [50, 10, 90, 30]) expect(queue.add(bioOf(block))).toBe(0);
    expect(drain(queue)).toEqual(["10-10", "30-30", "50-50", "90-90"]);
    expect(queue.take()).toBeUndefined();
  });

  test("merges to the back, to the front, and across a gap that closes", () => {
    const queue = new RequestQueue(LIMITS);
    expect(queue.add(bioOf(10))).toBe(0);
    expect(queue.add(bioOf(11))).toBe(1);
    expect(queue.add(bioOf(13))).toBe(0);
    expect(queue.add(bioOf(14))).toBe(1);
    expect(queue.length).toBe(2);
    expect(queue.add(bioOf(12))).toBe(2);
    expect(queue.length).toBe(1);
    expect(queue.add(bioOf(9))).toBe(1);
    expect(drain(queue)).toEqual(["9-14"]);
  });

  test("bios in any order of a contiguous run become the fewest requests", () => {
    const queue = new RequestQueue(LIMITS);
    for (const block of [7, 3, 5, 1, 0, 2, 6, 4]) queue.add(bioOf(block));
    expect(drain(queue)).toEqual(["0-7"]);
  });

  test("a request at its limit leaves the rest to the next", () => {
    const queue = new RequestQueue(LIMITS);
    for (let block = 0; block < 20; block++) queue.add(bioOf(block));
    expect(drain(queue)).toEqual(["0-7", "8-15", "16-19"]);
  });

  test("what stays alone stays alone, also with neighbours on both sides", () => {
    const queue = new RequestQueue(LIMITS);
    queue.add(bioOf(1, REQ_OP_WRITE));
    queue.add(bioOf(2, REQ_OP_WRITE, REQ_FUA));
    queue.add(bioOf(3, REQ_OP_WRITE));
    expect(drain(queue)).toEqual(["1-1", "2-2", "3-3"]);
  });

  test("what arrives during a sweep waits for the next, also ahead of the head", () => {
    const queue = new RequestQueue(LIMITS);
    for (const block of [10, 50]) queue.add(bioOf(block));
    expect(textOf(queue.take())).toBe("10-10");
    queue.add(bioOf(5));
    queue.add(bioOf(30));
    expect(drain(queue)).toEqual(["50-50", "5-5", "30-30"]);
  });

  test("what arrives during a sweep is merged into it where it fits", () => {
    const queue = new RequestQueue(LIMITS);
    for (const block of [10, 50]) queue.add(bioOf(block));
    queue.take();
    expect(queue.add(bioOf(51))).toBe(1);
    expect(queue.add(bioOf(49))).toBe(1);
    expect(drain(queue)).toEqual(["49-51"]);
  });

  test("a stream of requests right at the head does not starve one far behind", () => {
    const queue = new RequestQueue(LIMITS);
    queue.add(bioOf(1000));
    let passed = 0;
    let arriving = 0;
    for (;;) {
      queue.add(bioOf(arriving)); // Always below, never adjacent.
      arriving += 2;
      if (textOf(queue.take()) === "1000-1000") break;
      passed++;
      expect(passed).toBeLessThan(3);
    }
  });

  test("equal addresses keep the order in which they came", () => {
    const queue = new RequestQueue(LIMITS);
    const bios = [bioOf(5, REQ_OP_WRITE), bioOf(5, REQ_OP_READ), bioOf(5, REQ_OP_WRITE)];
    for (const bio of bios) queue.add(bio);
    expect(bios.map(() => queue.take()!.bios[0])).toEqual(bios);
  });

  test("loses no bio, overtakes none for long and keeps its invariants, whatever is added", () => {
    const step = fc.record({
      isTake: fc.boolean(),
      block: fc.integer({ min: 0, max: 40 }),
      op: fc.constantFrom<RequestOp>(REQ_OP_READ, REQ_OP_WRITE),
      flags: fc.constantFrom(0, 0, 0, REQ_FUA),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: "max" }), (steps) => {
        const queue = new RequestQueue(LIMITS);
        const waiting = new Map<Bio, { length: number; takes: number; arrivals: number }>();
        const take = (): void => {
          const length = queue.length;
          const request = queue.take();
          expect(request === undefined).toBe(length === 0);
          for (const bio of request?.bios ?? []) expect(waiting.delete(bio)).toBe(true);
          // At most all that waited then pass, and what came while the sweep of then lasted.
          for (const state of waiting.values()) {
            state.takes++;
            expect(state.takes).toBeLessThanOrEqual(state.length + state.arrivals);
          }
        };
        for (const { isTake, block, op, flags } of steps) {
          if (isTake) {
            take();
          } else {
            const bio = bioOf(block, op, flags);
            const length = queue.length;
            for (const state of waiting.values()) if (state.takes <= state.length) state.arrivals++;
            waiting.set(bio, { length, takes: 0, arrivals: 0 });
            const merges = queue.add(bio);
            expect(queue.length).toBe(length + 1 - merges);
          }
          queue.verify();
        }
        while (queue.length > 0) take();
        expect(waiting.size).toBe(0);
      }),
      { numRuns: runs(100) },
    );
  });
});
