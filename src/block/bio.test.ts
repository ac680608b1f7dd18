import { describe, expect, test } from "vitest";
import { AssertionError } from "../lib/assert.ts";
import { type Clock, realClock } from "../lib/clock.ts";
import { EIO } from "../lib/errno.ts";
import {
  BIO_MAX_VECTORS,
  Bio,
  cloneBio,
  endBio,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_RAHEAD,
  REQ_SYNC,
} from "./bio.ts";

const ignore = (): void => {};

describe("Bio", () => {
  test("counts the bytes of its vectors", () => {
    const bio = new Bio(REQ_OP_READ, 0, 8192, ignore);
    expect([bio.lengthBytes, bio.endBytes]).toEqual([0, 8192]);
    bio.addVector(new Uint8Array(4096));
    bio.addVector(new Uint8Array(512));
    expect([bio.lengthBytes, bio.endBytes]).toEqual([4608, 12_800]);
  });

  test("is full at 256 vectors and then takes nothing", () => {
    const bio = new Bio(REQ_OP_READ, 0, 0, ignore);
    const page = new Uint8Array(4096);
    for (let count = 0; count < BIO_MAX_VECTORS; count++) expect(bio.addVector(page)).toBe(true);
    expect(bio.addVector(page)).toBe(false);
    expect([bio.vectors.length, bio.lengthBytes]).toEqual([256, 256 * 4096]);
  });

  test("refuses an empty vector and an offset that is no integer", () => {
    expect(() => new Bio(REQ_OP_READ, 0, 0, ignore).addVector(new Uint8Array(0))).toThrow(
      AssertionError,
    );
    expect(() => new Bio(REQ_OP_READ, 0, 0.5, ignore)).toThrow(AssertionError);
    expect(() => new Bio(REQ_OP_READ, 0, 2 ** 53, ignore)).toThrow(AssertionError);
  });

  test("a clone has the same memory, and vectors of its own", () => {
    const bio = new Bio(REQ_OP_WRITE, REQ_SYNC, 0, ignore);
    const page = new Uint8Array(4096);
    bio.addVector(page);
    const clone = cloneBio(bio, REQ_RAHEAD, 4096, ignore);
    expect([clone.op, clone.flags, clone.offsetBytes, clone.lengthBytes]).toEqual([
      REQ_OP_WRITE,
      REQ_RAHEAD,
      4096,
      4096,
    ]);
    expect(clone.vectors[0]).toBe(page);
    clone.addVector(page);
    expect(bio.vectors.length).toBe(1);
  });
});

describe("endBio", () => {
  test("tells status and cause, once", () => {
    const ends: [number, unknown][] = [];
    const bio = new Bio(REQ_OP_READ, 0, 0, ({ status, cause }) => ends.push([status, cause]));
    const cause = new Error("cable");
    endBio(bio, -EIO, cause, realClock);
    expect(ends).toEqual([[-EIO, cause]]);
    expect(() => endBio(bio, 0, undefined, realClock)).toThrow(AssertionError);
  });

  test("a throwing endIo reaches nobody but the handler of uncaught errors", () => {
    const tasks: (() => void)[] = [];
    const clock: Clock = { ...realClock, microtask: (task) => tasks.push(task) };
    const bug = new AssertionError("bug in endIo");
    const bio = new Bio(REQ_OP_READ, 0, 0, () => {
      throw bug;
    });
    endBio(bio, 0, undefined, clock);
    expect(tasks.length).toBe(1);
    expect(tasks[0]).toThrow(bug);
  });
});
