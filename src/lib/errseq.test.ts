/** What an errseq is for, in examples; the raw values of the specification stand in `test/spec`. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs } from "../../test/support/runs.ts";
import { EIO, ENOSPC } from "./errno.ts";
import { Errseq, type ErrseqCursor } from "./errseq.ts";

describe("Errseq", () => {
  test("reports an error once to each cursor that was there", () => {
    const cell = new Errseq();
    const [a, b] = [{ since: cell.sample() }, { since: cell.sample() }];
    cell.set(-EIO);
    expect([cell.checkAndAdvance(a), cell.checkAndAdvance(a)]).toEqual([-EIO, 0]);
    expect([cell.checkAndAdvance(b), cell.checkAndAdvance(b)]).toEqual([-EIO, 0]);
  });

  test("reports an unseen error to who comes later, a seen one not", () => {
    const cell = new Errseq();
    cell.set(-EIO);
    const early = { since: cell.sample() };
    expect(cell.checkAndAdvance(early)).toBe(-EIO);
    const late = { since: cell.sample() };
    expect(cell.checkAndAdvance(late)).toBe(0);
  });

  test("check marks nothing", () => {
    const cell = new Errseq();
    cell.set(-ENOSPC);
    expect([cell.check(0), cell.check(cell.value)]).toEqual([-ENOSPC, 0]);
    expect(cell.sample()).toBe(0);
  });

  test("takes every errno there can be, and no other number", () => {
    const cell = new Errseq();
    cell.set(-4095);
    expect([cell.value, cell.check(0)]).toEqual([4095, -4095]);
    for (const odd of [-4096, 1, 0.5, -1.5, Number.NaN]) cell.set(odd);
    expect(cell.value).toBe(4095);
  });

  test("has no error for a cursor that is ahead of an empty cell", () => {
    const cell = new Errseq();
    expect(cell.check(0x1005)).toBe(0);
    expect(cell.checkAndAdvance({ since: 0x1005 })).toBe(0);
  });

  test("stays an unsigned number when its counter wraps", () => {
    const cell = new Errseq();
    const cursor: ErrseqCursor = { since: 0 };
    for (let round = 0; round < 2 ** 19 + 3; round++) {
      cell.set(-EIO);
      if (cell.value < 0) break;
      cell.checkAndAdvance(cursor);
    }
    expect(cell.value).toBe(0x5005); // The first error did not count, two wrapped.
  });

  test("tells every cursor of every error, whatever happens between", () => {
    const step = fc.tuple(
      fc.constantFrom("set", "check", "open"),
      fc.nat(3),
      fc.integer({ min: 1, max: 4095 }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
        const cell = new Errseq();
        const cursors = Array.from({ length: 4 }, () => ({ since: 0, hasNews: false }));
        let last = 0;
        let isSeen = true;
        for (const [kind, which, errno] of steps) {
          const cursor = cursors[which]!;
          if (kind === "set") {
            cell.set(-errno);
            last = -errno;
            isSeen = false;
            for (const each of cursors) each.hasNews = true;
          } else if (kind === "open") {
            cursor.since = cell.sample();
            cursor.hasNews = !isSeen;
          } else {
            expect(cell.checkAndAdvance(cursor)).toBe(cursor.hasNews ? last : 0);
            isSeen ||= cursor.hasNews;
            cursor.hasNews = false;
          }
        }
      }),
      { numRuns: runs(200) },
    );
  });
});
