/** Fast commits against the measured area of a kernel, and the map patch against a model. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { le16, le32, putBe32 } from "../../lib/bytes.ts";
import { crc32c } from "../../lib/crc32c.ts";
import type { MappedRun } from "./context.ts";
import { decodeRecord, isRecordLengthGood } from "./fast-commit-format.ts";
import { ExtentPatch } from "./fast-commit-map.ts";
import { journalSuperblockChecksum } from "./jbd2-checksum.ts";
import { decodeJournalSuperblock } from "./jbd2-superblock.ts";

const BLOCK_1027 = `
  04000c00 0c000000 10000000 66634132 05000b00 0c000000 11000000 66634201
  00100010 00000002 00000001 0000002b 0a000002 000c0010 00000003 000000ff
  ffff7f02 000c0010 00000002 000080fd ffff7f06 00a40010 000000a4 81000064
  2000004e ab006b4e ab006b4e ab006b00 00000000 00020018 00000000 00080003
  0000000a f3020004 00000000 00000000 00000002 00000024 08000002 00000001
  0000002b 0a000000 00000000 00000000 00000000 00000000 00000000 000000f7
  eac0e900 00000000 00000000 00000000 00000000 00000034 b0000020 009be654
  f8cb2354 f8cb2354 d4d7224e ab006b54 d4d72200 00000000 00000008 00010f07
  0000002c 0015f300`;

describe("7.G the third fast commit of a kernel", () => {
  const block = new Uint8Array(4096);
  for (const [index, word] of BLOCK_1027.trim().split(/\s+/).entries()) {
    putBe32(block, index * 4, Number.parseInt(word, 16));
  }

  test("the records before it leave one block each to their TAIL", () => {
    const bytesOf = (values: readonly number[]): number =>
      values.reduce((sum, valueBytes) => sum + 4 + valueBytes, 0);
    expect(bytesOf([8, 164, 16, 11, 164])).toBe(383);
    expect(4096 - 383 - 4).toBe(3709);
    for (const [tag, valueBytes] of [
      [9, 8],
      [6, 164],
      [1, 16],
      [3, 11],
      [8, 3709],
    ] as const) {
      expect(isRecordLengthGood(tag, valueBytes, 256), `tag ${tag}`).toBe(true);
    }
  });

  test("its records", () => {
    const records: unknown[] = [];
    let at = 0;
    while (le16(block, at) !== 8) {
      const end = at + 4 + le16(block, at + 2);
      expect(isRecordLengthGood(le16(block, at), end - at - 4, 256)).toBe(true);
      records.push(decodeRecord(le16(block, at), block.subarray(at + 4, end)));
      at = end;
    }
    const name = (text: string): Uint8Array => new TextEncoder().encode(text);
    expect(records.slice(0, 5)).toEqual([
      { tag: 4, parent: 12, ino: 16, name: name("fcA2") },
      { tag: 5, parent: 12, ino: 17, name: name("fcB") },
      { tag: 1, ino: 16, fileBlock: 2, count: 1, physical: 2603, isUnwritten: false },
      { tag: 2, ino: 16, fileBlock: 3, count: 0x7fff_ffff },
      { tag: 2, ino: 16, fileBlock: 0x8000_0002, count: 0x7fff_fffd },
    ]);
    expect(records[5]).toMatchObject({ tag: 6, ino: 16 });
    expect(records).toHaveLength(6);
    expect(at).toBe(251);
    expect(le16(block, at + 2)).toBe(3841);
  });

  test("its checksum starts from 0 and ends with the transaction id of TAIL", () => {
    expect(le32(block, 255)).toBe(7);
    expect(crc32c(0, block, 0, 259)).toBe(0xf315_002c);
    expect(le32(block, 259)).toBe(0xf315_002c);
  });

  test("the superblock of that journal puts the area behind block 1024", () => {
    const superblock = new Uint8Array(4096);
    const put = (at: number, ...words: number[]): void => {
      for (const [index, word] of words.entries()) putBe32(superblock, at + 4 * index, word);
    };
    put(0, 0xc03b_3998, 4, 0, 4096, 1040, 1, 2, 1, 0, 0, 0x32, 0);
    put(0x30, 0xb8c5_0648, 0x2349_4275, 0x88b5_54a2, 0x3947_87dc, 1);
    put(0x50, 0x0400_0000, 16);
    expect(journalSuperblockChecksum(superblock)).toBe(0x8a6b_e700);
    put(0xfc, 0x8a6b_e700);
    const sb = decodeJournalSuperblock(superblock, { blockBytes: 4096, fileBlockCount: 1040 });
    expect(sb).toMatchObject({ last: 1024, blockCount: 1040, isFastCommit: true });
  });
});

describe("ExtentPatch", () => {
  const HOME_AT = 1000;
  const BLOCKS = 40;

  test("behaves as an array of block numbers does", () => {
    const step = fc.record({
      first: fc.nat(BLOCKS - 1),
      count: fc.nat(BLOCKS),
      physical: fc.constantFrom(0, 1, 100, 200),
      isUnwritten: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { size: "max", maxLength: 30 }), (steps) => {
        const patch = new ExtentPatch();
        const model = Array.from({ length: BLOCKS }, (_, block) => ({
          at: HOME_AT + block,
          un: false,
        }));
        for (const { first, count, physical, isUnwritten } of steps) {
          patch.set(first, count, physical, isUnwritten);
          patch.verify();
          for (let block = first; block < Math.min(first + count, BLOCKS); block++) {
            model[block] = { at: physical === 0 ? 0 : physical + block - first, un: isUnwritten };
          }
        }
        for (let block = 0; block < BLOCKS; ) {
          const from = block;
          const home = (count: number): MappedRun => {
            return { physical: HOME_AT + from, count, isUnwritten: false, isBoundary: false };
          };
          const run = patch.map(from, BLOCKS - from, home);
          expect(run.count).toBeGreaterThan(0);
          for (let offset = 0; offset < run.count; offset++, block++) {
            const at = run.physical === 0 ? 0 : run.physical + offset;
            expect({ at, un: run.isUnwritten }).toEqual(model[block]);
          }
        }
      }),
    );
  });
});
