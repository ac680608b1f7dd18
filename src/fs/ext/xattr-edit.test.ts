import { describe, expect, test } from "vitest";
import { ascii } from "../../../test/support/ext-names.ts";
import { bytesOfDump, SEED } from "../../../test/support/ext-vectors.ts";
import { hexOf, le32 } from "../../lib/bytes.ts";
import { aclToDisk } from "./acl.ts";
import { xattrBlockChecksum } from "./checksum.ts";
import { XATTR_MAGIC, type XattrEntry, XH } from "./xattr-area.ts";
import {
  compareEntries,
  writeXattrArea,
  writeXattrBlock,
  xattrAreaBytes,
  xattrBlockSeal,
  xattrEntryHash,
} from "./xattr-edit.ts";

/** In-inode areas of 256-byte inodes, from 0xa0, as the kernel wrote them. */
const AREA_OF_FOUR = `
  0a0  000002ea 01045800 00000000 02000000 00000000 74000000 05010000 00000000
  0c0  00000000 00000000 656d7074 79000000 01065000 00000000 05000000 00000000
  0e0  71000000 00000000 00000000 00000000 00000000 31323334 35000000 74740000
`;
const AREA_OF_TWO = `
  0a0  000002ea 01015800 00000000 01000000 00000000 61000000 04015000 00000000
  0c0  05000000 00000000 6e616d65 00000000 00000000 00000000 00000000 00000000
  0e0  00000000 00000000 00000000 00000000 00000000 76616c75 65000000 31000000
`;
const AREA_OF_ACL = `
  0a0  000002ea 00023800 00000000 24000000 00000000 00000000 00000000 00000000
  0c0  00000000 00000000 00000000 00000000 00000000 00000000 00000000 01000000
  0e0  01000600 02000400 e8030000 04000400 08000600 70110100 10000600 20000000
`;
const AREA_OF_EA_INODE = `
  0a0  000002ea 04010000 20070000 00200000 a39193e4 68756765 00000000 00000000
`;
/** Head of block 2115 of image K; bytes ed4..fff are 42. */
const BLOCK_K = `
  000  000002ea 01000000 01000000 434205c7 f1f0b7d5 00000000 00000000 00000000
  020  0301d40e 00000000 2c010000 434205c7 62696700 00000000 00000000 00000000
`;

function entry(index: number, name: string, value: Uint8Array, hash = 0): XattrEntry {
  return { index, name: ascii(name), value, valueBytes: value.length, valueIno: 0, hash };
}

function areaOf(entries: readonly XattrEntry[]): string {
  const raw = new Uint8Array(0x60);
  writeXattrArea(raw, { entriesAt: 4, base: 4, end: 0x60 }, entries);
  raw.set([0, 0, 2, 0xea]);
  return hexOf(raw);
}

describe("attributes in an inode", () => {
  test("are written as the kernel writes them, to the last bit", () => {
    const four = [
      entry(4, "t", ascii("tt")),
      entry(1, "empty", ascii("")),
      entry(6, "q", ascii("12345")),
    ];
    expect(areaOf(four)).toBe(hexOf(bytesOfDump(AREA_OF_FOUR, 0x60, 0xa0)));
    const two = [entry(1, "a", ascii("1")), entry(1, "name", ascii("value"))];
    expect(areaOf(two)).toBe(hexOf(bytesOfDump(AREA_OF_TWO, 0x60, 0xa0)));
  });

  test("hold a list in the form on disk", () => {
    const none = 0xffff_ffff;
    const acl = aclToDisk([
      { tag: 1, perm: 6, id: none },
      { tag: 2, perm: 4, id: 1000 },
      { tag: 4, perm: 4, id: none },
      { tag: 8, perm: 6, id: 70_000 },
      { tag: 0x10, perm: 6, id: none },
      { tag: 0x20, perm: 0, id: none },
    ]);
    expect(areaOf([entry(2, "", acl)])).toBe(hexOf(bytesOfDump(AREA_OF_ACL, 0x60, 0xa0)));
  });

  test("name the inode of a value, with its hash", () => {
    const outside = { ...entry(1, "huge", ascii("")), valueBytes: 8192, valueIno: 1824 };
    const hash = xattrEntryHash(outside.name, 0x3c169196);
    expect(hash).toBe(0xe49391a3);
    expect(areaOf([{ ...outside, hash }])).toBe(hexOf(bytesOfDump(AREA_OF_EA_INODE, 0x60, 0xa0)));
  });

  test("take as many bytes as they say", () => {
    expect(xattrAreaBytes([])).toBe(4);
    expect(xattrAreaBytes([entry(1, "a", ascii("1")), entry(1, "abcde", ascii("12345"))])).toBe(
      4 + (20 + 4) + (24 + 8),
    );
  });
});

describe("an attribute block", () => {
  test("is written as the kernel writes it, to the last bit", () => {
    const value = new Uint8Array(300).fill(0x42);
    const block = new Uint8Array(4096).fill(0xee);
    writeXattrBlock(block, [entry(1, "big", value, xattrEntryHash(ascii("big"), value))]);
    const wanted = bytesOfDump(BLOCK_K, 4096);
    wanted.fill(0x42, 0xed4);
    wanted.set([0, 0, 0, 0], XH.checksum);
    expect(hexOf(block)).toBe(hexOf(wanted));
    expect(le32(block, XH.magic)).toBe(XATTR_MAGIC);
    xattrBlockSeal(SEED)(block, 2115);
    const checksum = le32(block, XH.checksum);
    expect(xattrBlockChecksum(SEED, 2115, block)).toBe(checksum);
  });

  test("has no hash if one of its entries has none", () => {
    const block = new Uint8Array(1024);
    writeXattrBlock(block, [entry(1, "a", ascii("1"), 5), entry(1, "b", ascii("1"), 0)]);
    expect(le32(block, XH.hash)).toBe(0);
  });

  test("is sorted by index, length and bytes of the names", () => {
    const names = [
      [6, "a"],
      [1, "bb"],
      [1, "c"],
      [1, "ba"],
    ] as const;
    const sorted = names.map(([index, name]) => entry(index, name, ascii(""))).sort(compareEntries);
    expect(sorted.map(({ name }) => new TextDecoder().decode(name))).toEqual([
      "c",
      "ba",
      "bb",
      "a",
    ]);
  });

  const hashes: readonly (readonly [string | Uint8Array, Uint8Array, number])[] = [
    ["a", ascii("1"), 0x0061_0031],
    ["name", ascii("value"), 0x6140_fccc],
    ["t", ascii("tt"), 0x0074_7474],
    ["empty", ascii(""), 0x0667_4ef9],
    ["q", ascii("12345"), 0x3231_3477],
    ["shared", ascii("S".repeat(200)), 0xe0b1_44c4],
    [Uint8Array.of(0xc3, 0xa9), ascii("E".repeat(200)), 0x0000_18c9],
  ];
  for (const [name, value, hash] of hashes) {
    const text = typeof name === "string" ? name : hexOf(name);
    test(`hashes ${text} over ${value.length} bytes as Linux does`, () => {
      expect(xattrEntryHash(typeof name === "string" ? ascii(name) : name, value)).toBe(hash);
    });
  }
});
