import { describe, expect, it } from "vitest";
import {
  bytesOfDump,
  DESCRIPTOR_B_0,
  DESCRIPTOR_B_1,
  DESCRIPTOR_C_0,
  DESCRIPTOR_C_1,
  DESCRIPTOR_D_0,
  DESCRIPTOR_D_1,
  DESCRIPTOR_E_0,
  DESCRIPTOR_E_1,
  EXTENT_BLOCK_K,
  FRAGMENTED_INODE_K,
  MMP_BLOCK_A,
  ROOT_INODE_B,
  ROOT_INODE_E,
  SEED,
  SUPERBLOCK_B,
} from "../../../test/support/ext-vectors.ts";
import { crc16 } from "../../lib/crc16.ts";
import { crc32c } from "../../lib/crc32c.ts";
import {
  bitmapChecksum,
  descriptorChecksum,
  descriptorCrc16,
  extentChecksum,
  inodeChecksum,
  inodeSeed,
  mmpChecksum,
  orphanBlockChecksum,
  superblockChecksum,
  volumeSeed,
} from "./checksum.ts";
import { SB } from "./layout.ts";

const UUID = bytesOfDump(SUPERBLOCK_B, 1024).subarray(SB.s_uuid, SB.s_uuid + 16);
const START = 0xffff_ffff;
const digits = new TextEncoder().encode("123456789");

/** A bitmap of `lengthBytes` whose bits from..to, both included, are set. */
function bitmap(lengthBytes: number, ...runs: readonly (readonly [number, number])[]): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (const [from, to] of runs) {
    for (let bit = from; bit <= to; bit++) bytes[bit >>> 3]! |= 1 << (bit & 7);
  }
  return bytes;
}

describe("the two primitives", () => {
  it("compute what the images were made with", () => {
    expect(crc32c(START, digits)).toBe(0x1cf9_6d7c);
    expect(crc16(0xffff, digits)).toBe(0x4b37);
    expect(crc32c(START, new Uint8Array(32))).toBe(0x756e_c955);
    expect(crc16(0xffff, UUID)).toBe(0x5e51);
  });
});

describe("seeds", () => {
  it("the volume's is that of its UUID", () => expect(volumeSeed(UUID)).toBe(SEED));

  it("an inode's depends on its number and generation", () => {
    expect(inodeSeed(SEED, 2, 0)).toBe(0x70b0_4140);
    expect(inodeSeed(SEED, 11, 0)).toBe(0x7bb7_38bd);
    expect(inodeSeed(SEED, 1819, 0xe07c_678d)).toBe(0x3d81_714f);
    expect(inodeSeed(SEED, 13, 0x7065_42d2)).toBe(0x43f1_1e8e);
    expect(inodeSeed(SEED, 12, 0)).toBe(0x81ee_3db9);
  });
});

describe("structures", () => {
  it("superblock, its own field left out", () => {
    expect(superblockChecksum(bytesOfDump(SUPERBLOCK_B, 1024))).toBe(0x4081_b7a5);
  });

  it.each([
    ["B 0", DESCRIPTOR_B_0, 64, 0, 0xfef2],
    ["B 1", DESCRIPTOR_B_1, 64, 1, 0xeb33],
    ["E 0", DESCRIPTOR_E_0, 32, 0, 0x1eb2],
    ["E 1", DESCRIPTOR_E_1, 32, 1, 0x75c4],
  ])("descriptor %s with metadata_csum", (_name, dump, lengthBytes, group, wanted) => {
    expect(descriptorChecksum(SEED, group, bytesOfDump(dump, lengthBytes))).toBe(wanted);
  });

  it.each([
    ["C 0", DESCRIPTOR_C_0, 32, 0, 0x2d4b],
    ["C 1", DESCRIPTOR_C_1, 32, 1, 0x4a55],
    ["D 0", DESCRIPTOR_D_0, 64, 0, 0xf716],
    ["D 1", DESCRIPTOR_D_1, 64, 1, 0x8ae8],
  ])("descriptor %s with uninit_bg", (_name, dump, lengthBytes, group, wanted) => {
    expect(descriptorCrc16(UUID, group, bytesOfDump(dump, lengthBytes))).toBe(wanted);
  });

  it("bitmaps, the padding behind the group left out", () => {
    const blocks0 = bitmap(1024, [0, 1170]);
    expect(bitmapChecksum(SEED, blocks0, 8192)).toBe(0xe1ed_f855);
    expect(bitmapChecksum(SEED, bitmap(1024, [0, 1152], [8191, 8191]), 8192)).toBe(0x8a7c_f1fb);
    const inodes0 = bitmap(1024, [0, 10], [2048, 8191]);
    expect(bitmapChecksum(SEED, inodes0, 2048)).toBe(0x554d_d83b);
    expect(bitmapChecksum(SEED, new Uint8Array(1024), 2048)).toBe(0x7930_16d1);
  });

  it("inodes with and without a high half", () => {
    const rootSeed = inodeSeed(SEED, 2, 0);
    expect(inodeChecksum(rootSeed, bytesOfDump(ROOT_INODE_B, 256), true)).toBe(0x9e40_0a24);
    const small = inodeChecksum(rootSeed, bytesOfDump(ROOT_INODE_E, 128), false);
    expect(small & 0xffff).toBe(0x18ec);
    const seed = inodeSeed(SEED, 1819, 0xe07c_678d);
    expect(inodeChecksum(seed, bytesOfDump(FRAGMENTED_INODE_K, 256), true)).toBe(0x7a1a_1c81);
  });

  it("extent block, unused slots included", () => {
    const seed = inodeSeed(SEED, 1819, 0xe07c_678d);
    expect(extentChecksum(seed, bytesOfDump(EXTENT_BLOCK_K, 4096), 0xffc)).toBe(0xbd32_ebfd);
  });

  it("multi-mount protection block", () => {
    expect(mmpChecksum(SEED, bytesOfDump(MMP_BLOCK_A, 1024))).toBe(0x6768_fdde);
  });

  it("block of the orphan file, with its place on the device", () => {
    const empty = bytesOfDump("ff8 04ca100b", 4096);
    expect(orphanBlockChecksum(inodeSeed(SEED, 12, 0), 2065, empty)).toBe(0x2879_a4cd);
    const three = bytesOfDump("000 0d000000 0e000000 0f000000\nff8 04ca100b", 4096);
    expect(orphanBlockChecksum(inodeSeed(SEED, 12, 0), 2078, three)).toBe(0x9742_7b87);
  });
});
