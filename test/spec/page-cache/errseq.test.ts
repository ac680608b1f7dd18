/** Raw values of the error sequence: page-cache-and-writeback, section 6.1 and cases 44 and 45. */
import { expect, test } from "vitest";
import { EIO, ENOSPC } from "../../../src/lib/errno.ts";
import { Errseq } from "../../../src/lib/errseq.ts";

test("W44 Raw values: counter, SEEN bit and errno change as the kernel changes them", () => {
  const cell = new Errseq();
  const cursor = { since: 0 };
  expect(cell.value).toBe(0);
  expect(cell.set(-EIO)).toBe(0x0000_0005);
  expect(cell.set(-EIO)).toBe(0x0000_0005);
  expect(cell.set(-ENOSPC)).toBe(0x1c);
  expect(cell.checkAndAdvance(cursor)).toBe(-28);
  expect([cell.value, cursor.since]).toEqual([0x101c, 0x101c]);
  expect(cell.checkAndAdvance(cursor)).toBe(0);
  expect(cell.set(-EIO)).toBe(0x2005);
  expect(cell.sample()).toBe(0);
  expect(cell.checkAndAdvance({ since: 0x101c })).toBe(-5);
  expect(cell.value).toBe(0x3005);
  expect(cell.sample()).toBe(0x3005);
});

test("W45 set(0) and set(-5000) leave the cell unchanged, with a warning", () => {
  const warnings: string[] = [];
  const cell = new Errseq((text) => warnings.push(text));
  cell.set(-EIO);
  expect(cell.set(0)).toBe(5);
  expect(cell.set(-5000)).toBe(5);
  expect(cell.value).toBe(5);
  expect(warnings).toEqual([
    "errseq: 0 is not an error number",
    "errseq: -5000 is not an error number",
  ]);
});
