import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FileLocks, type LockRequest, lockRange } from "./file-locks.ts";

const [a, b] = [{}, {}];
const exclusive = (start: number, length: number): LockRequest => ({
  ...lockRange(start, length),
  isShared: false,
});
const shared = (start: number, length: number): LockRequest => ({
  ...lockRange(start, length),
  isShared: true,
});

describe("FileLocks", () => {
  test("two owners share, and do not exclude each other elsewhere", () => {
    const locks = new FileLocks();
    expect(locks.tryLock(a, shared(0, 10))).toBe(true);
    expect(locks.tryLock(b, shared(5, 10))).toBe(true);
    expect(locks.tryLock(b, exclusive(9, 1))).toBe(false);
    expect(locks.tryLock(b, exclusive(10, 5))).toBe(true);
  });

  test("an owner's new lock replaces what it overlaps of its own", () => {
    const locks = new FileLocks();
    locks.tryLock(a, exclusive(0, 30));
    expect(locks.tryLock(a, shared(10, 10))).toBe(true);
    expect(locks.count).toBe(3);
    expect(locks.tryLock(b, shared(12, 2))).toBe(true);
    expect(locks.tryLock(b, shared(9, 2))).toBe(false);
  });

  test("who waits gets the range when it is given back, in turn", async () => {
    const locks = new FileLocks();
    locks.tryLock(a, exclusive(0, Infinity));
    const order: string[] = [];
    const first = Promise.resolve(locks.lock(b, exclusive(0, 5))).then(() => order.push("first"));
    const c = {};
    const second = Promise.resolve(locks.lock(c, exclusive(0, 5))).then(() => order.push("second"));
    locks.unlock(a, lockRange(0, 3));
    await Promise.resolve();
    expect(order).toEqual([]);
    locks.unlock(a, lockRange(3, Infinity));
    await first;
    expect(order).toEqual(["first"]);
    locks.unlock(b, lockRange(0, 5));
    await second;
  });

  test("a wait ends with its signal, and has locked nothing", async () => {
    const locks = new FileLocks();
    locks.tryLock(a, exclusive(0, 1));
    const leaving = new AbortController();
    const waiting = locks.lock(b, exclusive(0, 1), leaving.signal);
    leaving.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    locks.unlock(a, lockRange(0, 1));
    expect(locks.count).toBe(0);
  });

  test("a range has at least one byte and does not begin before the file", () => {
    expect(() => lockRange(0, 0)).toThrow("EINVAL");
    expect(() => lockRange(-1, 5)).toThrow("EINVAL");
  });

  test("as a byte by byte account of who holds what", () => {
    const step = fc.record({
      who: fc.nat(2),
      start: fc.nat(11),
      length: fc.integer({ min: 1, max: 8 }),
      kind: fc.constantFrom("shared", "exclusive", "unlock"),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const owners = [{}, {}, {}];
        const locks = new FileLocks();
        const account = owners.map(() => new Map<number, string>());
        for (const { who, start, length, kind } of steps) {
          const bytes = Array.from({ length }, (_, at) => start + at);
          if (kind === "unlock") {
            locks.unlock(owners[who]!, lockRange(start, length));
            for (const at of bytes) account[who]!.delete(at);
            continue;
          }
          const isFree = bytes.every((at) =>
            account.every((held, other) => {
              const has = held.get(at);
              return other === who || has === undefined || (has === "shared" && kind === "shared");
            }),
          );
          const request = kind === "shared" ? shared(start, length) : exclusive(start, length);
          expect(locks.tryLock(owners[who]!, request)).toBe(isFree);
          if (isFree) for (const at of bytes) account[who]!.set(at, kind);
        }
      }),
    );
  });
});
