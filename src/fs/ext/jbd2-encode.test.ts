import { describe, expect, it } from "vitest";
import { be32, putBe32 } from "../../lib/bytes.ts";
import { commitBlockChecksum, copyChecksum, journalSeed } from "./jbd2-checksum.ts";
import {
  encodeCommit,
  encodeDescriptor,
  encodeRevokes,
  encodeTransaction,
  type LogWriteFormat,
  logBlocksOf,
  revokesPerBlock,
  tagsPerDescriptor,
} from "./jbd2-encode.ts";
import { decodeHeader, decodeTags } from "./jbd2-format.ts";

function format(
  blockBytes: number,
  checksumVersion: 0 | 2 | 3,
  is64Bit: boolean,
  uuid = "",
): LogWriteFormat {
  const seed = uuid === "" ? 0 : journalSeed(Buffer.from(uuid, "hex"));
  return { blockBytes, checksumVersion, is64Bit, hasChecksumV1: false, seed };
}

/** The block whose words are given at byte offsets, as the specification dumps it. */
function blockOf(blockBytes: number, words: Readonly<Record<number, string>>): Uint8Array {
  const block = new Uint8Array(blockBytes);
  for (const [at, hex] of Object.entries(words)) {
    block.set(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"), Number(at));
  }
  return block;
}

const A = format(4096, 3, true, "75c3d2bb5afb4611a4b90d14bd6838b0");

describe("encoders", () => {
  it("write the kernel's descriptor, v3 and 64 bit (vector A)", () => {
    const tags = [
      [25, 0x38dae5ec],
      [1, 0xf64018f0],
      [41, 0xf960d430],
      [9, 0x462a7052],
      [2065, 0x72a80aac],
      [10, 0x1848634d],
      [2066, 0x8bea4bb0],
      [0, 0xdeff0eb0],
    ].map(([blocknr, checksum]) => {
      return { blocknr: blocknr!, checksum: checksum!, isEscaped: false };
    });
    const block = new Uint8Array(4096);
    encodeDescriptor(block, 2, tags, A);
    const wanted = blockOf(4096, {
      0: "c03b3998 00000001 00000002 00000019 00000000 00000000 38dae5ec 00000000",
      32: "00000000 00000000 00000000 00000001 00000002 00000000 f64018f0 00000029",
      64: "00000002 00000000 f960d430 00000009 00000002 00000000 462a7052 00000811",
      96: "00000002 00000000 72a80aac 0000000a 00000002 00000000 1848634d 00000812",
      128: "00000002 00000000 8bea4bb0 00000000 0000000a 00000000 deff0eb0",
      4092: "206a5d4d",
    });
    expect(Buffer.compare(block, wanted)).toBe(0);
  });

  it("write the kernel's commit block (vector A)", () => {
    const block = encodeCommit(2, 1_795_205_905_806, 0, A);
    expect(be32(block, 56)).toBe(806_000_000);
    // A clock of milliseconds cannot say more: with the kernel's nanoseconds it is the same block.
    putBe32(block, 56, 0x300cb977);
    putBe32(block, 16, commitBlockChecksum(A.seed, block));
    const wanted = blockOf(4096, {
      0: "c03b3998 00000002 00000002 00000000 57db339d",
      48: "00000000 6b00ab11 300cb977",
    });
    expect(Buffer.compare(block, wanted)).toBe(0);
  });

  it("write the kernel's revoke blocks (vectors A and C)", () => {
    const a = new Uint8Array(4096);
    encodeRevokes(a, 4, [2579, 2580, 2581], A);
    const wantedA = blockOf(4096, {
      0: "c03b3998 00000005 00000004 00000028 00000000 00000a13 00000000 00000a14 00000000 00000a15",
      4092: "9c8dc845",
    });
    expect(Buffer.compare(a, wantedA)).toBe(0);
    const c = new Uint8Array(4096);
    encodeRevokes(
      c,
      4,
      [0xa11, 0xa0f, 0xa10],
      format(4096, 3, false, "cc93a26e0aa445c388e9d69c60867145"),
    );
    const wantedC = blockOf(4096, {
      0: "c03b3998 00000005 00000004 0000001c 00000a11 00000a0f 00000a10",
      4092: "f2ae70cf",
    });
    expect(Buffer.compare(c, wantedC)).toBe(0);
  });

  it("write the kernel's descriptor without features (vector B)", () => {
    const homes = [266, 2, 276, 258, 4384, 274, 4370, 267, 786, 4385, 277, 1, 259];
    const tags = homes.map((blocknr) => ({ blocknr, checksum: 0, isEscaped: false }));
    const block = new Uint8Array(1024);
    encodeDescriptor(block, 2, tags, format(1024, 0, false));
    const wanted = blockOf(1024, {
      0: "c03b3998 00000001 00000002 0000010a 00000000 00000000 00000000 00000000",
      32: "00000000 00000002 00000002 00000114 00000002 00000102 00000002 00001120",
      64: "00000002 00000112 00000002 00001112 00000002 0000010b 00000002 00000312",
      96: "00000002 00001121 00000002 00000115 00000002 00000001 00000002 00000103",
      128: "0000000a",
    });
    expect(Buffer.compare(block, wanted)).toBe(0);
  });

  it("write a whole transaction with v2 tags as debugfs does (vector E)", () => {
    const e = format(1024, 2, true, "2853aa74aaf0418dbbf7a17e5197d856");
    const data = new Uint8Array(1024).fill(0x5a);
    const { bytes } = encodeTransaction(
      1,
      [0x4e20, 0x4e21].map((blocknr) => ({ blocknr, data })),
      [],
      e,
    );
    const wanted = blockOf(1024, {
      0: "c03b3998 00000001 00000001 00004e20 25900000 00000000 00000000 00000000",
      32: "00000000 00000000 00000000 4e212590 000a0000 00000000",
    });
    // Its checksum there is over a UUID too, which debugfs has left behind the tags.
    expect(Buffer.compare(bytes.subarray(0, 1020), wanted.subarray(0, 1020))).toBe(0);
    const revoke = new Uint8Array(1024);
    encodeRevokes(revoke, 2, [20_005, 20_006], e);
    expect(be32(revoke, 1020)).toBe(0xfc9be9b8);
    expect(bytes.length).toBe(3 * 1024);
  });

  it("J34 escape a block that begins with the magic number, in the copy alone (vector F)", () => {
    const f = format(4096, 3, true, "2bbd719ee19241fbb487455c9ffb23e3");
    const data = new Uint8Array(4096).fill(0x45);
    data.set([0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2]);
    const { bytes } = encodeTransaction(2, [{ blocknr: 0x811, data }], [], f);
    expect(be32(data, 0)).toBe(0xc03b3998);
    expect(be32(bytes, 4096)).toBe(0);
    expect(be32(bytes, 4100)).toBe(2);
    const [tag] = decodeTags(bytes.subarray(0, 4096), f);
    expect(tag).toMatchObject({ blocknr: 0x811, isEscaped: true, checksum: 0x45f7e514 });
  });
});

describe("space", () => {
  it("is filled by the kernel's rule", () => {
    expect(tagsPerDescriptor(A)).toBe(253);
    expect(revokesPerBlock(A)).toBe(509);
    expect(logBlocksOf(A, 254, 510)).toBe(254 + 2 + 2 + 1);
    expect(logBlocksOf(A, 0, 0)).toBe(1);
  });

  it("several descriptors follow their copies, each with a last tag", () => {
    const data = new Uint8Array(1024);
    const plain = format(1024, 3, true, "75c3d2bb5afb4611a4b90d14bd6838b0");
    const count = tagsPerDescriptor(plain) + 3;
    const blocks = Array.from({ length: count }, (_, blocknr) => ({ blocknr, data }));
    const { bytes } = encodeTransaction(9, blocks, [5], plain);
    const at = (block: number): Uint8Array => bytes.subarray(block * 1024, (block + 1) * 1024);
    expect(decodeHeader(at(0))).toEqual({ type: 5, tid: 9 });
    expect(decodeTags(at(1), plain)).toHaveLength(count - 3);
    const second = at(2 + count - 3);
    expect(decodeTags(second, plain).map(({ blocknr }) => blocknr)).toEqual([
      count - 3,
      count - 2,
      count - 1,
    ]);
    expect(decodeTags(second, plain)[0]!.checksum).toBe(copyChecksum(plain.seed, 9, data));
  });
});
