/** The journal's measured blocks as vectors: written by Linux 6.18 and by debugfs 1.47.0. */
import { describe, expect, test } from "vitest";
import { putBe32 } from "../../lib/bytes.ts";
import { crc32be } from "../../lib/crc32be.ts";
import { crc32c } from "../../lib/crc32c.ts";
import {
  addToV1Sum,
  commitBlockChecksum,
  commitRecordChecksum,
  controlBlockChecksum,
  copyChecksum,
  isControlBlockGood,
  journalSeed,
  journalSuperblockChecksum,
  V1_SUM_START,
} from "./jbd2-checksum.ts";
import {
  decodeCommit,
  decodeHeader,
  decodeRevokes,
  decodeTags,
  isLaterTid,
  isOlderCommit,
  type LogFormat,
  nextTid,
  tagBytesOf,
} from "./jbd2-format.ts";
import { decodeJournalSuperblock, journalFeatureNames } from "./jbd2-superblock.ts";

/** A block of `blockBytes` from lines "offset: words"; what is not given is zero. */
function dump(blockBytes: number, text: string): Uint8Array {
  const block = new Uint8Array(blockBytes);
  for (const line of text.trim().split("\n")) {
    const [offset = "", words = ""] = line.split(":");
    let at = Number.parseInt(offset, 16);
    for (const word of words.trim().split(/\s+/)) {
      putBe32(block, at, Number.parseInt(word, 16));
      at += 4;
    }
  }
  return block;
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

const V3: LogFormat = { blockBytes: 4096, is64Bit: true, checksumVersion: 3 };
const CLASSIC: LogFormat = { blockBytes: 1024, is64Bit: false, checksumVersion: 0 };
const V2: LogFormat = { blockBytes: 1024, is64Bit: true, checksumVersion: 2 };

describe("primitives of the journal", () => {
  test("both checksums over 123456789 start from all ones and are not inverted", () => {
    const digits = new TextEncoder().encode("123456789");
    expect(crc32c(0xffff_ffff, digits)).toBe(0x1cf9_6d7c);
    expect(crc32be(0xffff_ffff, digits)).toBe(0x0376_e6e7);
  });

  test("transaction ids are compared modulo 2^32 and 0 follows the largest", () => {
    expect(nextTid(0xffff_ffff)).toBe(0);
    expect(isLaterTid(0, 0xffff_fffe)).toBe(true);
    expect(isLaterTid(0xffff_fffe, 0)).toBe(false);
    expect(isLaterTid(5, 5)).toBe(false);
    expect(isLaterTid(0x8000_0000, 1)).toBe(true);
  });
});

describe("7.A V3 with 64BIT, 4096 bytes", () => {
  const uuid = bytesOf("75c3d2bb5afb4611a4b90d14bd6838b0");
  const seed = journalSeed(uuid);
  const superblock = dump(
    4096,
    `0000: c03b3998 00000004 00000000 00001000
     0010: 00000400 00000001 00000002 00000001
     0020: 00000000 00000000 00000012 00000000
     0030: 75c3d2bb 5afb4611 a4b90d14 bd6838b0
     0040: 00000001 00000000 00000000 00000000
     0050: 04000000
     00fc: d163bd38`,
  );
  const descriptor = dump(
    4096,
    `0000: c03b3998 00000001 00000002 00000019
     0010: 00000000 00000000 38dae5ec 00000000
     0020: 00000000 00000000 00000000 00000001
     0030: 00000002 00000000 f64018f0 00000029
     0040: 00000002 00000000 f960d430 00000009
     0050: 00000002 00000000 462a7052 00000811
     0060: 00000002 00000000 72a80aac 0000000a
     0070: 00000002 00000000 1848634d 00000812
     0080: 00000002 00000000 8bea4bb0 00000000
     0090: 0000000a 00000000 deff0eb0
     0ffc: 206a5d4d`,
  );
  const commit = dump(
    4096,
    `0000: c03b3998 00000002 00000002 00000000
     0010: 57db339d
     0030: 00000000 6b00ab11 300cb977`,
  );

  test("seed and superblock", () => {
    expect(seed).toBe(0x9671_3f4c);
    expect(journalSuperblockChecksum(superblock)).toBe(0xd163_bd38);
    const sb = decodeJournalSuperblock(superblock, { blockBytes: 4096, fileBlockCount: 1024 });
    expect(sb).toMatchObject({
      version: 2,
      blockCount: 1024,
      first: 1,
      last: 1024,
      sequence: 2,
      start: 1,
      errno: 0,
      is64Bit: true,
      checksumVersion: 3,
      isFastCommit: false,
      seed,
    });
    expect(journalFeatureNames(sb.features)).toEqual(["64bit", "checksum_v3"]);
  });

  test("descriptor: eight tags and the tail", () => {
    expect(decodeHeader(descriptor)).toEqual({ type: 1, tid: 2 });
    expect(isControlBlockGood(seed, descriptor)).toBe(true);
    expect(controlBlockChecksum(seed, descriptor)).toBe(0x206a_5d4d);
    const tags = decodeTags(descriptor, V3);
    expect(tags.map(({ blocknr }) => blocknr)).toEqual([25, 1, 41, 9, 2065, 10, 2066, 0]);
    expect(tags[7]).toMatchObject({ checksum: 0xdeff_0eb0, isEscaped: false });
  });

  test("commit: checksum, also of the record alone, and time", () => {
    expect(commitBlockChecksum(seed, commit)).toBe(0x57db_339d);
    const torn = commit.slice().fill(0xff, 64);
    expect(commitBlockChecksum(seed, torn)).not.toBe(0x57db_339d);
    expect(commitRecordChecksum(seed, torn)).toBe(0x57db_339d);
    expect(decodeCommit(commit)).toEqual({
      checksumType: 0,
      checksumSize: 0,
      checksum: 0x57db_339d,
      secHigh: 0,
      secLow: 1_795_205_905,
    });
  });

  test("revoke: three entries of 8 bytes", () => {
    const revoke = dump(
      4096,
      `0000: c03b3998 00000005 00000004 00000028
       0010: 00000000 00000a13 00000000 00000a14
       0020: 00000000 00000a15
       0ffc: 9c8dc845`,
    );
    expect(decodeRevokes(revoke, V3)).toEqual([2579, 2580, 2581]);
    expect(controlBlockChecksum(seed, revoke)).toBe(0x9c8d_c845);
  });
});

describe("7.B without features, 1024 bytes", () => {
  test("descriptor: 13 tags of 8 bytes, ending at 132", () => {
    const descriptor = dump(
      1024,
      `0000: c03b3998 00000001 00000002 0000010a
       0010: 00000000 00000000 00000000 00000000
       0020: 00000000 00000002 00000002 00000114
       0030: 00000002 00000102 00000002 00001120
       0040: 00000002 00000112 00000002 00001112
       0050: 00000002 0000010b 00000002 00000312
       0060: 00000002 00001121 00000002 00000115
       0070: 00000002 00000001 00000002 00000103
       0080: 0000000a`,
    );
    expect(tagBytesOf(CLASSIC)).toBe(8);
    const homes = decodeTags(descriptor, CLASSIC).map(({ blocknr }) => blocknr);
    expect(homes).toEqual([266, 2, 276, 258, 4384, 274, 4370, 267, 786, 4385, 277, 1, 259]);
  });

  test("the superblock has no features and no checksum", () => {
    const superblock = dump(
      1024,
      `0000: c03b3998 00000004 00000000 00000400
       0010: 00001000 00000001 00000002 00000001
       0030: 604f68a3 4d954872 a929f788 3ba51fe5
       0040: 00000001`,
    );
    const sb = decodeJournalSuperblock(superblock, { blockBytes: 1024, fileBlockCount: 4096 });
    expect(sb).toMatchObject({ version: 2, last: 4096, checksumVersion: 0, hasChecksumV1: false });
    expect(journalFeatureNames(sb.features)).toEqual([]);
  });

  test("commit: no checksum of any kind", () => {
    const commit = dump(1024, "0000: c03b3998 00000002 00000002 00000000\n0034: 6b00ab11 300cb977");
    expect(decodeHeader(commit)).toEqual({ type: 2, tid: 2 });
    expect(decodeCommit(commit)).toMatchObject({
      checksumType: 0,
      checksumSize: 0,
      checksum: 0,
      secLow: 0x6b00_ab11,
    });
  });

  test("revoke: nine entries of 4 bytes", () => {
    const revoke = dump(
      1024,
      "0000: c03b3998 00000005 00000004 00000034 00001124 00001127 00001122 0000112a",
    );
    const entries = decodeRevokes(revoke, CLASSIC);
    expect(entries).toHaveLength(9);
    expect(entries?.slice(0, 4)).toEqual([0x1124, 0x1127, 0x1122, 0x112a]);
  });
});

test("7.C V3 without 64BIT: tags of 16 bytes, revokes of 4", () => {
  const seed = journalSeed(bytesOf("cc93a26e0aa445c388e9d69c60867145"));
  expect(seed).toBe(0x7e08_e83d);
  const format: LogFormat = { ...V3, is64Bit: false };
  expect(tagBytesOf(format)).toBe(16);
  const revoke = dump(
    4096,
    `0000: c03b3998 00000005 00000004 0000001c
     0010: 00000a11 00000a0f 00000a10
     0ffc: f2ae70cf`,
  );
  expect(controlBlockChecksum(seed, revoke)).toBe(0xf2ae_70cf);
  expect(decodeRevokes(revoke, format)).toEqual([0xa11, 0xa0f, 0xa10]);
  const superblock = dump(
    4096,
    `0000: c03b3998 00000004 00000000 00001000
     0010: 00000400 00000001 00000002 00000001
     0020: 00000000 00000000 00000010 00000000
     0030: cc93a26e 0aa445c3 88e9d69c 60867145
     0040: 00000001
     0050: 04000000
     00fc: 4aa50ae7`,
  );
  expect(journalSuperblockChecksum(superblock)).toBe(0x4aa5_0ae7);
  const sb = decodeJournalSuperblock(superblock, { blockBytes: 4096, fileBlockCount: 1024 });
  expect(sb).toMatchObject({ is64Bit: false, checksumVersion: 3 });
});

test("7.D v1: the commit block names its sum, which is the CRC of the blocks in order", () => {
  const commit = dump(
    1024,
    `0000: c03b3998 00000002 00000002 01040000
     0010: 0bfa6ebd
     0030: 00000000 6b00ac2c 2cb663dd`,
  );
  expect(decodeCommit(commit)).toMatchObject({
    checksumType: 1,
    checksumSize: 4,
    checksum: 0x0bfa_6ebd,
  });
  const digits = new TextEncoder().encode("123456789");
  const sum = addToV1Sum(addToV1Sum(V1_SUM_START, digits.subarray(0, 4)), digits.subarray(4));
  expect(sum).toBe(0x0376_e6e7);
});

describe("7.E CSUM_V2 with 64BIT and REVOKE, 1024 bytes", () => {
  const seed = journalSeed(bytesOf("2853aa74aaf0418dbbf7a17e5197d856"));
  const copy = new Uint8Array(1024).fill(0x5a);
  const descriptor = dump(
    1024,
    `0000: c03b3998 00000001 00000001 00004e20
     0010: 25900000 00000000 00000000 00000000
     0020: 00000000 00000000 00000000 4e212590
     0030: 000a0000 00000000
     00b4: 2853aa74 aaf0418d bbf7a17e 5197d856
     03fc: 05e8be1f`,
  );
  // The second tag begins at 42, in the middle of a word: 0000 | 4e21 2590 000a .. Behind the tags
  // debugfs leaves the journal's UUID, which counts in the checksum.
  test("tags of 14 bytes with the low half of the sum", () => {
    expect(seed).toBe(0x45f6_41a2);
    expect(tagBytesOf(V2)).toBe(14);
    expect(copyChecksum(seed, 1, copy)).toBe(0x202f_2590);
    const tags = decodeTags(descriptor, V2);
    expect(tags).toMatchObject([
      { blocknr: 20_000, checksum: 0x2590 },
      { blocknr: 20_001, checksum: 0x2590 },
    ]);
    expect(controlBlockChecksum(seed, descriptor)).toBe(0x05e8_be1f);
  });

  test("commit with swapped seconds, and revoke", () => {
    const commit = dump(
      1024,
      `0000: c03b3998 00000002 00000001 00000000
       0010: b6e94c3b
       0030: 6b00ac5e 00000000 27d0bfc0`,
    );
    expect(commitBlockChecksum(seed, commit)).toBe(0xb6e9_4c3b);
    const plain = { ...decodeCommit(commit), secHigh: 0, secLow: 0x6b00_ac5e };
    expect(isOlderCommit(plain, decodeCommit(commit))).toBe(true);
    expect(isOlderCommit(decodeCommit(commit), undefined)).toBe(false);
    const revoke = dump(
      1024,
      `0000: c03b3998 00000005 00000002 00000020
       0010: 00000000 00004e25 00000000 00004e26
       03fc: fc9be9b8`,
    );
    expect(decodeRevokes(revoke, V2)).toEqual([20_005, 20_006]);
    expect(controlBlockChecksum(seed, revoke)).toBe(0xfc9b_e9b8);
  });

  test("the superblock of that log", () => {
    const superblock = dump(
      1024,
      `0000: c03b3998 00000004 00000000 00000400
       0010: 00001000 00000001 00000001 00000001
       0020: 00000000 00000000 0000000b 00000000
       0030: 2853aa74 aaf0418d bbf7a17e 5197d856
       0040: 00000001
       0050: 04000000
       00fc: f032c021`,
    );
    expect(journalSuperblockChecksum(superblock)).toBe(0xf032_c021);
    const sb = decodeJournalSuperblock(superblock, { blockBytes: 1024, fileBlockCount: 4096 });
    expect(journalFeatureNames(sb.features)).toEqual(["revoke", "64bit", "checksum_v2"]);
  });

  test("the same content as V3", () => {
    const seedV3 = journalSeed(bytesOf("b9b77404d20542e0a6c62d9df8e4fe7c"));
    expect(seedV3).toBe(0x4a5f_e376);
    expect(copyChecksum(seedV3, 1, copy)).toBe(0xdb63_36b1);
    const block = dump(
      1024,
      `0000: c03b3998 00000001 00000001 00004e20
       0010: 00000000 00000000 db6336b1 00000000
       0020: 00000000 00000000 00000000 00004e21
       0030: 0000000a 00000000 db6336b1
       00cc: b9b77404 d20542e0 a6c62d9d f8e4fe7c
       03fc: 51dfa537`,
    );
    expect(controlBlockChecksum(seedV3, block)).toBe(0x51df_a537);
    const tags = decodeTags(block, { ...V3, blockBytes: 1024 });
    expect(tags.map(({ blocknr }) => blocknr)).toEqual([20_000, 20_001]);
  });
});

test("7.F an escaped block: the sum is that of the copy with its first word zeroed", () => {
  const seed = journalSeed(bytesOf("2bbd719ee19241fbb487455c9ffb23e3"));
  expect(seed).toBe(0x4d5f_f4fc);
  const copy = new Uint8Array(4096).fill(0x45);
  copy.set([0, 0, 0, 0, 0, 0, 0, 2]);
  expect(copyChecksum(seed, 2, copy)).toBe(0x45f7_e514);
  const block = dump(
    4096,
    `000c: 00000811 00000003 00000000 45f7e514
     001c: 00000812 0000000a 00000000 00000000`,
  );
  expect(decodeTags(block, V3)[0]).toEqual({
    blocknr: 0x811,
    isEscaped: true,
    checksum: 0x45f7_e514,
    flags: 3,
  });
});
