import { describe, expect, test } from "vitest";
import { realClock } from "../lib/clock.ts";
import { EIO } from "../lib/errno.ts";
import {
  Bio,
  endBio,
  REQ_BACKGROUND,
  REQ_FUA,
  REQ_META,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_PREFLUSH,
  REQ_RAHEAD,
  REQ_SYNC,
  type RequestOp,
} from "./bio.ts";
import {
  isMergeable,
  mergeFlags,
  type RequestLimits,
  splitBio,
  tryBackMerge,
  tryFrontMerge,
  tryJoin,
} from "./merge.ts";
import { BlockRequest } from "./request.ts";

const LIMITS: RequestLimits = { maxRequestBytes: 8192, maxVectors: 4 };
const ignore = (): void => {};

function bioAt(offsetBytes: number, lengthBytes: number, flags = 0, op: RequestOp = REQ_OP_READ) {
  const bio = new Bio(op, flags, offsetBytes, ignore);
  bio.addVector(new Uint8Array(lengthBytes));
  return bio;
}

describe("merging", () => {
  test("a bio behind a request joins its end", () => {
    const request = new BlockRequest(bioAt(0, 1024));
    const bio = bioAt(1024, 512);
    expect(tryBackMerge(request, bio, LIMITS)).toBe(true);
    expect([request.offsetBytes, request.endBytes, request.vectorCount]).toEqual([0, 1536, 2]);
    expect(request.bios[1]).toBe(bio);
  });

  test("a bio before a request joins its front", () => {
    const request = new BlockRequest(bioAt(1024, 512));
    const bio = bioAt(512, 512);
    expect(tryFrontMerge(request, bio, LIMITS)).toBe(true);
    expect([request.offsetBytes, request.lengthBytes]).toEqual([512, 1024]);
    expect(request.bios[0]).toBe(bio);
  });

  test("two requests without a gap join, the bios of the upper behind those of the lower", () => {
    const lower = new BlockRequest(bioAt(0, 512));
    const upper = new BlockRequest(bioAt(512, 512));
    tryBackMerge(upper, bioAt(1024, 512), LIMITS);
    expect(tryJoin(lower, upper, LIMITS)).toBe(true);
    expect(lower.bios.map((bio) => bio.offsetBytes)).toEqual([0, 512, 1024]);
    expect([lower.lengthBytes, lower.vectorCount]).toEqual([1536, 3]);
  });

  test("a gap or an overlap of one byte is not adjacent", () => {
    const request = new BlockRequest(bioAt(1024, 1024));
    for (const offsetBytes of [2047, 2049]) {
      expect(tryBackMerge(request, bioAt(offsetBytes, 512), LIMITS)).toBe(false);
      expect(tryJoin(request, new BlockRequest(bioAt(offsetBytes, 512)), LIMITS)).toBe(false);
    }
    expect(tryFrontMerge(request, bioAt(511, 512), LIMITS)).toBe(false);
    expect(tryFrontMerge(request, bioAt(513, 512), LIMITS)).toBe(false);
  });

  test("reads and writes do not mix", () => {
    const request = new BlockRequest(bioAt(0, 512));
    expect(tryBackMerge(request, bioAt(512, 512, 0, REQ_OP_WRITE), LIMITS)).toBe(false);
  });

  test("a request grows to its largest size and not beyond", () => {
    const request = new BlockRequest(bioAt(0, 4096));
    expect(tryBackMerge(request, bioAt(4096, 4097), LIMITS)).toBe(false);
    expect(tryBackMerge(request, bioAt(4096, 4096), LIMITS)).toBe(true);
    expect(tryBackMerge(request, bioAt(8192, 1), LIMITS)).toBe(false);
    expect(request.lengthBytes).toBe(8192);
  });

  test("a request has no more vectors than allowed", () => {
    const request = new BlockRequest(bioAt(0, 1));
    for (let at = 1; at < 4; at++) expect(tryBackMerge(request, bioAt(at, 1), LIMITS)).toBe(true);
    expect(tryBackMerge(request, bioAt(4, 1), LIMITS)).toBe(false);
    expect(tryJoin(request, new BlockRequest(bioAt(4, 1)), LIMITS)).toBe(false);
  });

  test.each([REQ_FUA, REQ_PREFLUSH])("a bio with flag %i stays alone", (flag) => {
    const request = new BlockRequest(bioAt(512, 512, 0, REQ_OP_WRITE));
    const bio = bioAt(1024, 512, flag, REQ_OP_WRITE);
    expect(isMergeable(bio)).toBe(false);
    expect(tryBackMerge(request, bio, LIMITS)).toBe(false);
    expect(tryFrontMerge(request, bioAt(0, 512, flag, REQ_OP_WRITE), LIMITS)).toBe(false);
    expect(tryBackMerge(new BlockRequest(bio), bioAt(1536, 512, 0, REQ_OP_WRITE), LIMITS)).toBe(
      false,
    );
  });

  test("a flush is never merged, a discard may be", () => {
    expect(isMergeable(new Bio(REQ_OP_FLUSH, 0, 0, ignore))).toBe(false);
    expect(isMergeable(new Bio(REQ_OP_DISCARD, 0, 0, ignore))).toBe(true);
  });

  test("a merged request is waited for if either part is, and ahead of need only if both are", () => {
    expect(mergeFlags(REQ_RAHEAD, REQ_SYNC | REQ_META)).toBe(REQ_SYNC | REQ_META);
    expect(mergeFlags(REQ_RAHEAD, REQ_RAHEAD)).toBe(REQ_RAHEAD);
    expect(mergeFlags(REQ_BACKGROUND, 0)).toBe(0);
    const request = new BlockRequest(bioAt(0, 512, REQ_RAHEAD));
    expect(tryBackMerge(request, bioAt(512, 512, REQ_SYNC), LIMITS)).toBe(true);
    expect(request.flags).toBe(REQ_SYNC);
  });
});

describe("gatherVectors", () => {
  test("joins what is adjacent in memory across bios, and nothing else", () => {
    const arena = new ArrayBuffer(4096);
    const vectors = [
      new Uint8Array(arena, 0, 512),
      new Uint8Array(arena, 512, 512),
      new Uint8Array(arena, 2048, 512),
      new Uint8Array(512),
    ];
    const first = new Bio(REQ_OP_READ, 0, 0, ignore);
    first.addVector(vectors[0]!);
    const request = new BlockRequest(first);
    const second = new Bio(REQ_OP_READ, 0, 512, ignore);
    for (const vector of vectors.slice(1)) second.addVector(vector);
    tryBackMerge(request, second, LIMITS);

    const gathered = request.gatherVectors();
    expect(gathered.map((v) => [v.buffer === arena, v.byteOffset, v.length])).toEqual([
      [true, 0, 1024],
      [true, 2048, 512],
      [false, 0, 512],
    ]);
    expect(first.vectors[0]!.length).toBe(512);
  });
});

describe("splitBio", () => {
  test("leaves a bio alone that fits, and one without memory of any size", () => {
    const bio = bioAt(0, 8192);
    expect(splitBio(bio, 8192, realClock)).toEqual([bio]);
    const discard = new Bio(REQ_OP_DISCARD, 0, 0, ignore);
    discard.lengthBytes = 2 ** 40;
    expect(splitBio(discard, 8192, realClock)).toEqual([discard]);
  });

  test("cuts inside vectors, over the same memory, in order", () => {
    const bio = new Bio(REQ_OP_READ, REQ_SYNC, 512, ignore);
    const memory = Uint8Array.from({ length: 700 }, (_, at) => at % 251);
    bio.addVector(memory.subarray(0, 250));
    bio.addVector(memory.subarray(250));
    const parts = splitBio(bio, 300, realClock);
    expect(parts.map((part) => [part.offsetBytes, part.lengthBytes, part.flags])).toEqual([
      [512, 300, REQ_SYNC],
      [812, 300, REQ_SYNC],
      [1112, 100, REQ_SYNC],
    ]);
    const bytes = parts.flatMap((part) => part.vectors.map((vector) => Buffer.from(vector)));
    expect(Buffer.concat(bytes).equals(memory)).toBe(true);
    expect(parts[0]!.vectors[0]!.buffer).toBe(memory.buffer);
  });

  test("ends with its last part, and with the first error among them", () => {
    const ends: number[] = [];
    const bio = new Bio(REQ_OP_READ, 0, 0, ({ status }) => ends.push(status));
    bio.addVector(new Uint8Array(900));
    const [first, second, third] = splitBio(bio, 300, realClock);
    const cause = new Error("cable");
    endBio(third!, 0, undefined, realClock);
    endBio(first!, -EIO, cause, realClock);
    expect(ends).toEqual([]);
    endBio(second!, -5000, new Error("later"), realClock);
    expect(ends).toEqual([-EIO]);
    expect(bio.cause).toBe(cause);
  });
});
