import { describe, expect, test } from "vitest";
import { ascii, shapeWith } from "../../../test/support/ext-names.ts";
import { bytesOfDump, SEED } from "../../../test/support/ext-vectors.ts";
import { hexOf, putLe32 } from "../../lib/bytes.ts";
import { Random } from "../../lib/random.ts";
import { inodeSeed, volumeSeed } from "./checksum.ts";
import { DE, DirWalk, dirRecordBytes, verifyDirBlock } from "./dir-block.ts";
import {
  dirBlockSeal,
  findGap,
  initDirBlock,
  initFirstBlock,
  putRecord,
  recordsEnd,
  removeRecord,
} from "./dir-edit.ts";
import { indexSeal } from "./htree-write.ts";

/** The root directory of image B, which has lost+found in it. */
const ROOT_B = `
  000  02000000 0c000102 2e000000 02000000 0c000202 2e2e0000 0b000000 dc030a02
  020  6c6f7374 2b666f75 6e640000 00000000 00000000 00000000 00000000 00000000
  3e0  00000000 00000000 00000000 00000000 00000000 00000000 0c0000de eba6fe4a
`;
/** Both blocks of lost+found of image K. */
const FIRST_K = `
  000  0b000000 0c000102 2e000000 02000000 e80f0202 2e2e0000 00000000 00000000
  fe0  00000000 00000000 00000000 00000000 00000000 00000000 0c0000de b9fc304e
`;
const SECOND_K = `
  000  00000000 f40f0000 00000000 00000000 00000000 00000000 00000000 00000000
  fe0  00000000 00000000 00000000 00000000 00000000 00000000 0c0000de 57da401c
`;
/** An index root of inode 13 of image K, iseed 43f11e8e, and a node, iseed 91232489. */
const INDEX_ROOT_K = `
  000  0d000000 0c000102 2e000000 02000000 f40f0202 2e2e0000 00000000 01080000
  020  fb011000 01000000 04e0fa0e 0f000000 b27f381d 06000000 fa1b4d2e 0a000000
  040  7ebab940 04000000 2ef35e4f 10000000 f6a2875e 08000000 22ff7a6c 0d000000
  060  f000b87f 02000000 3e6ec98e 09000000 7438d6a1 05000000 76db6bb2 0c000000
  080  fe0a1bbf 03000000 c679d7cc 0e000000 04d1a0dc 07000000 9883c0ec 0b000000
  ff8  0c0000de 3e8e6c75
`;

function withoutTail(block: Uint8Array): string {
  return hexOf(block.subarray(0, block.length - 4));
}

describe("blocks of directories", () => {
  test("are made as mke2fs makes them, to the last bit", () => {
    const shape = shapeWith(1024, {
      ino: 2,
      hasChecksum: true,
      checksumSeed: inodeSeed(SEED, 2, 0),
    });
    const block = new Uint8Array(1024);
    initFirstBlock(block, shape, 2);
    const walk = new DirWalk(block, shape, "block", 0, recordsEnd(shape));
    const record = { ino: 11, name: ascii("lost+found"), type: "directory" } as const;
    putRecord(block, shape, findGap(walk, dirRecordBytes(10)), record);
    dirBlockSeal(shape.checksumSeed)(block, 7);
    expect(hexOf(block)).toBe(hexOf(bytesOfDump(ROOT_B, 1024)));
  });

  test("of 4 KiB are made as mke2fs makes them", () => {
    const shape = shapeWith(4096, { ino: 11, hasChecksum: true });
    const block = new Uint8Array(4096);
    initFirstBlock(block, shape, 2);
    expect(withoutTail(block)).toBe(withoutTail(bytesOfDump(FIRST_K, 4096)));
    block.fill(0);
    initDirBlock(block, shape);
    expect(withoutTail(block)).toBe(withoutTail(bytesOfDump(SECOND_K, 4096)));
  });

  test("of an index get the checksum that the kernel gave them, over its tail word", () => {
    const block = bytesOfDump(INDEX_ROOT_K, 4096);
    const wanted = hexOf(block);
    putLe32(block, 0xffc, 0);
    indexSeal(0x43f11e8e)(block, 9);
    expect(hexOf(block)).toBe(wanted);
  });

  test("of 64 KiB hold a record as long as themselves", () => {
    const shape = shapeWith(0x1_0000);
    const block = new Uint8Array(0x1_0000);
    initDirBlock(block, shape);
    expect(new DirWalk(block, shape, "block").advance()).toBe(true);
    putRecord(block, shape, 0, { ino: 12, name: ascii("a"), type: "file" });
    const walk = new DirWalk(block, shape, "block");
    expect([walk.next(), walk.recLen, walk.next()]).toEqual([true, 0x1_0000, false]);
  });

  test("without types have long names only", () => {
    const shape = shapeWith(1024, { hasFileType: false });
    const block = new Uint8Array(1024);
    initDirBlock(block, shape);
    putRecord(block, shape, 0, { ino: 12, name: ascii("a"), type: "directory" });
    expect(block[DE.file_type]).toBe(0);
  });
});

describe("records", () => {
  for (const hasChecksum of [false, true]) {
    test(`that come and go leave a whole block, ${hasChecksum ? "with" : "without"} a checksum`, () => {
      const shape = shapeWith(1024, { hasChecksum, checksumSeed: volumeSeed(new Uint8Array(16)) });
      const block = new Uint8Array(1024);
      initDirBlock(block, shape);
      const model = new Map<string, number>();
      const random = new Random(7);
      for (let step = 0; step < 3000; step++) {
        if (random.below(2) === 0) removeAny(block, model, random);
        else addAny(block, model, random, step);
        expect(namesIn(block)).toEqual(new Map([...model].sort()));
      }
      if (hasChecksum) {
        dirBlockSeal(shape.checksumSeed)(block, 1);
        expect(() => verifyDirBlock(block, 1, shape)).not.toThrow();
      }

      function addAny(
        data: Uint8Array,
        names: Map<string, number>,
        from: Random,
        step: number,
      ): void {
        const name = `${step}${"x".repeat(from.below(60))}`;
        const walk = new DirWalk(data, shape, "block", 0, recordsEnd(shape));
        const gapAt = findGap(walk, dirRecordBytes(name.length));
        if (gapAt < 0) return;
        putRecord(data, shape, gapAt, { ino: 1 + (step % 999), name: ascii(name), type: "file" });
        names.set(name, 1 + (step % 999));
      }

      function removeAny(data: Uint8Array, names: Map<string, number>, from: Random): void {
        if (names.size === 0) return;
        const name = from.pick([...names.keys()]);
        const walk = new DirWalk(data, shape, "block");
        while (walk.next()) if (walk.hasName(ascii(name))) break;
        const spareBytes = removeRecord(data, shape, walk.at, walk.previousAt);
        names.delete(name);
        const again = new DirWalk(data, shape, "block", 0, recordsEnd(shape));
        expect(findGap(again, spareBytes)).toBeGreaterThanOrEqual(0);
      }

      function namesIn(data: Uint8Array): Map<string, number> {
        const found: [string, number][] = [];
        const walk = new DirWalk(data, shape, "block");
        while (walk.next()) found.push([new TextDecoder().decode(walk.name), walk.ino]);
        return new Map(found.sort());
      }
    });
  }

  test("that are removed leave nothing of their names", () => {
    const shape = shapeWith(1024);
    const block = new Uint8Array(1024);
    initDirBlock(block, shape);
    const empty = hexOf(block);
    putRecord(block, shape, 0, { ino: 12, name: ascii("secret"), type: "file" });
    removeRecord(block, shape, 0, -1);
    expect(hexOf(block)).toBe(empty);
  });
});
