import { describe, expect, test } from "vitest";
import { AssertionError } from "./assert.ts";
import {
  blockOfByte,
  blocksOfBytes,
  byteOfBlock,
  byteOfPage,
  byteOfSector,
  FILE_BYTES_MAX,
  GIB,
  KIB,
  MIB,
  PAGE_BYTES,
  PAGE_SHIFT,
  pageOfByte,
  pagesOfBytes,
  roundDown,
  roundUp,
  SECTOR_BYTES,
  sectorOfByte,
} from "./units.ts";

describe("units", () => {
  test("agree with one another", () => {
    expect([KIB, MIB, GIB]).toEqual([2 ** 10, 2 ** 20, 2 ** 30]);
    expect([PAGE_BYTES, SECTOR_BYTES, FILE_BYTES_MAX]).toEqual([2 ** PAGE_SHIFT, 2 ** 9, 2 ** 44]);
    expect(pageOfByte(FILE_BYTES_MAX - 1)).toBe(0xffff_ffff);
  });

  test("hold beyond 32 bits, where bit operators would not", () => {
    const far = 2 ** 52;
    expect([pageOfByte(far + 4095), byteOfPage(2 ** 40)]).toEqual([2 ** 40, far]);
    expect([sectorOfByte(far), byteOfSector(2 ** 43)]).toEqual([2 ** 43, far]);
    expect([blockOfByte(far + 1, KIB), byteOfBlock(2 ** 42, KIB)]).toEqual([2 ** 42, far]);
    expect([roundDown(far + 5, PAGE_BYTES), roundUp(far + 5, PAGE_BYTES)]).toEqual([
      far,
      far + PAGE_BYTES,
    ]);
  });

  test.each([
    [0, 0],
    [1, 1],
    [PAGE_BYTES, 1],
    [PAGE_BYTES + 1, 2],
  ])("%i bytes touch %i pages or blocks of that size", (lengthBytes, count) => {
    expect(pagesOfBytes(lengthBytes)).toBe(count);
    expect(blocksOfBytes(lengthBytes, PAGE_BYTES)).toBe(count);
  });

  test.each([
    [0, 0, 0],
    [1, 0, 10],
    [9, 0, 10],
    [10, 10, 10],
    [11, 10, 20],
  ])("%i rounds to %i and %i", (value, down, up) => {
    expect([roundDown(value, 10), roundUp(value, 10)]).toEqual([down, up]);
  });

  test("a byte inside a sector is no sector", () => {
    expect(() => sectorOfByte(SECTOR_BYTES + 1)).toThrow(AssertionError);
  });
});
