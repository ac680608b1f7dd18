import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bytesOfDump, SEED, SUPERBLOCK_B } from "../../../test/support/ext-vectors.ts";
import { runs } from "../../../test/support/runs.ts";
import { hexOf, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { MIB } from "../../lib/units.ts";
import { superblockChecksum } from "./checksum.ts";
import { featureNames } from "./features.ts";
import { SB } from "./layout.ts";
import { readSuperblock } from "./superblock.ts";

const DEVICE_BYTES = 16 * MIB;

/** Image B's superblock after `change`, its checksum made right again. */
function changed(change: (raw: Uint8Array) => void): Uint8Array {
  const raw = bytesOfDump(SUPERBLOCK_B, 1024);
  change(raw);
  putLe32(raw, SB.s_checksum, superblockChecksum(raw));
  return raw;
}

function errorOf(bytes: Uint8Array, deviceBytes = DEVICE_BYTES): FsError {
  try {
    readSuperblock(bytes, deviceBytes);
  } catch (thrown) {
    if (thrown instanceof FsError) return thrown;
    throw thrown;
  }
  throw new Error("it was accepted");
}

describe("the superblock of image B", () => {
  const sb = readSuperblock(bytesOfDump(SUPERBLOCK_B, 1024), DEVICE_BYTES);

  it("is decoded field by field", () => {
    expect(sb).toMatchObject({
      revision: 1,
      inodeCount: 4096,
      blockCount: 16384,
      reservedBlockCount: 819,
      firstDataBlock: 1,
      blockBytes: 1024,
      clusterRatio: 1,
      blocksPerGroup: 8192,
      inodesPerGroup: 2048,
      firstIno: 11,
      inodeBytes: 256,
      descriptorBytes: 64,
      groupCount: 2,
      hashVersion: 1,
      flags: 1,
      creatorOs: 0,
      journalIno: 8,
      seed: SEED,
      hasMetadataCsum: true,
    });
    expect(hexOf(sb.uuid)).toBe("0123456789abcdef0123456789abcdef");
    expect([...sb.hashSeed]).toEqual([0xa3a2a1a0, 0xc3c2b1b0, 0xe1e0d1d0, 0xe5e4e3e2]);
    expect(sb.time(SB.s_mkfs_time, SB.s_mkfs_time_hi)).toBe(1_700_000_000);
  });

  it("gives the arithmetic of its groups", () => {
    expect(sb.descriptorsPerBlock).toBe(16);
    expect(sb.descriptorBlockCount).toBe(1);
    expect(sb.inodesPerBlock).toBe(4);
    expect(sb.inodeTableBlockCount).toBe(512);
    expect(sb.firstBlockOf(1)).toBe(8193);
  });

  it("names its features", () => {
    const { compat, incompat, roCompat } = featureNames(sb.features);
    expect(compat).toEqual(["has_journal", "ext_attr", "resize_inode", "dir_index"]);
    expect(incompat).toEqual(["filetype", "extent", "64bit", "flex_bg"]);
    expect(roCompat).toEqual([
      "sparse_super",
      "large_file",
      "huge_file",
      "dir_nlink",
      "extra_isize",
      "metadata_csum",
    ]);
  });
});

describe("a superblock that cannot be", () => {
  it("is EINVAL without the magic number", () => {
    expect(errorOf(new Uint8Array(1024))).toMatchObject({ code: "EINVAL" });
    expect(errorOf(new Uint8Array(1024)).message).toContain("empty");
    expect(errorOf(new Uint8Array(1023)).code).toBe("EINVAL");
  });

  it("is EBADMSG when its checksum is wrong", () => {
    const bytes = bytesOfDump(SUPERBLOCK_B, 1024);
    bytes[0x3f0] = 1;
    expect(errorOf(bytes)).toMatchObject({ code: "EBADMSG" });
  });

  it("is EUCLEAN when the device ends before the file system does", () => {
    expect(errorOf(bytesOfDump(SUPERBLOCK_B, 1024), DEVICE_BYTES - 1).code).toBe("EUCLEAN");
  });

  it("passes on what can be read past, if somebody wants to hear of it", () => {
    const bytes = bytesOfDump(SUPERBLOCK_B, 1024);
    bytes[0x3f0] = 1;
    const doubts: string[] = [];
    const sb = readSuperblock(bytes, MIB, (doubt) => doubts.push(doubt.code));
    expect(sb.blockCount).toBe(16384);
    expect(doubts).toEqual(["EBADMSG", "EUCLEAN"]);
  });

  it.each<[keyof typeof SB, number]>([
    ["s_log_block_size", 7],
    ["s_blocks_per_group", 0],
    ["s_blocks_per_group", 8200],
    ["s_blocks_per_group", 8196],
    ["s_inodes_per_group", 0],
    ["s_inodes_per_group", 2047],
    ["s_inodes_per_group", 16384],
    ["s_inodes_count", 4095],
    ["s_first_data_block", 0],
    ["s_first_data_block", 2],
    ["s_first_ino", 3],
    ["s_blocks_count_hi", 0x8000_0000],
    ["s_first_meta_bg", 0x7fff_ffff],
  ])("%s = %d is EUCLEAN", (field, value) => {
    expect(errorOf(changed((raw) => putLe32(raw, SB[field], value))).code).toBe("EUCLEAN");
  });

  it.each<[keyof typeof SB, number]>([
    ["s_inode_size", 0],
    ["s_inode_size", 100],
    ["s_inode_size", 192],
    ["s_inode_size", 2048],
    ["s_desc_size", 0],
    ["s_desc_size", 32],
    ["s_desc_size", 96],
    ["s_desc_size", 2048],
  ])("%s = %d is EUCLEAN and named", (field, value) => {
    const error = errorOf(changed((raw) => putLe16(raw, SB[field], value)));
    expect(error.code).toBe("EUCLEAN");
    expect(error.message).toContain(field);
  });

  it("is EUCLEAN when the inodes of a group do not fill whole bytes of its bitmap", () => {
    const bytes = changed((raw) => {
      putLe32(raw, SB.s_inodes_per_group, 2044);
      putLe32(raw, SB.s_inodes_count, 2 * 2044);
    });
    expect(errorOf(bytes).message).toContain("s_inodes_per_group");
  });

  it("is EUCLEAN when the checksum is of an unknown type", () => {
    const bytes = changed((raw) => {
      raw[SB.s_checksum_type] = 2;
    });
    expect(errorOf(bytes).message).toContain("s_checksum_type");
  });
});

it("unknown features are named, whatever they made of the numbers; a wrong checksum comes first", () => {
  const change = (raw: Uint8Array): void => {
    putLe32(raw, SB.s_feature_incompat, 0x8002_1ac2);
    putLe32(raw, SB.s_inodes_per_group, 0);
  };
  const error = errorOf(changed(change));
  expect(error.code).toBe("EOPNOTSUPP");
  expect(error.message).toContain("FEATURE_I11, dirdata, FEATURE_I31");
  const bytes = bytesOfDump(SUPERBLOCK_B, 1024);
  change(bytes);
  expect(errorOf(bytes).code).toBe("EBADMSG");
});

describe("other kinds of superblock", () => {
  it("revision 0 has no features, small inodes, and ignores the fields behind them", () => {
    const bytes = changed((raw) => {
      putLe32(raw, SB.s_rev_level, 0);
      putLe16(raw, SB.s_inode_size, 77);
      putLe32(raw, SB.s_first_ino, 3);
    });
    const sb = readSuperblock(bytes, DEVICE_BYTES);
    expect(sb.features).toEqual({ compat: 0, incompat: 0, roCompat: 0 });
    expect(sb).toMatchObject({ inodeBytes: 128, firstIno: 11, descriptorBytes: 32 });
  });

  it("without 64bit the high halves do not count", () => {
    const bytes = changed((raw) => {
      putLe32(raw, SB.s_feature_incompat, 0x242);
      putLe32(raw, SB.s_blocks_count_hi, 0xffff_ffff);
      putLe16(raw, SB.s_desc_size, 999);
    });
    const sb = readSuperblock(bytes, DEVICE_BYTES);
    expect(sb).toMatchObject({ blockCount: 16384, descriptorBytes: 32 });
  });

  it("a stored seed counts with metadata_csum_seed only", () => {
    const seedOf = (incompat: number): number => {
      const bytes = changed((raw) => {
        putLe32(raw, SB.s_checksum_seed, 0x1234);
        putLe32(raw, SB.s_feature_incompat, incompat);
      });
      return readSuperblock(bytes, DEVICE_BYTES).seed;
    };
    expect(seedOf(0x22c2)).toBe(0x1234);
    expect(seedOf(0x2c2)).toBe(SEED);
  });

  it("bigalloc: groups are counted in clusters, and begin at block 0", () => {
    const bytes = changed((raw) => {
      putLe32(raw, SB.s_feature_ro_compat, 0x66b);
      putLe32(raw, SB.s_log_cluster_size, 4);
      putLe32(raw, SB.s_first_data_block, 0);
      putLe32(raw, SB.s_blocks_per_group, 8192 * 16);
      putLe32(raw, SB.s_clusters_per_group, 8192);
      putLe32(raw, SB.s_inodes_count, 2048);
    });
    const sb = readSuperblock(bytes, DEVICE_BYTES);
    expect(sb).toMatchObject({ clusterRatio: 16, groupCount: 1, firstDataBlock: 0 });
  });
});

it("any bytes with a good checksum are accepted or refused with a typed error", () => {
  const change = fc.tuple(fc.nat(0x3fb), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { size: "max", maxLength: 8 }), (changes) => {
      const bytes = changed((raw) => {
        for (const [at, value] of changes) raw[at] = value;
      });
      try {
        const sb = readSuperblock(bytes, DEVICE_BYTES);
        expect(sb.inodeTableBlockCount).toBeGreaterThan(0);
        expect(sb.blockCount * sb.blockBytes).toBeLessThanOrEqual(DEVICE_BYTES);
        expect(sb.inodesPerGroup * sb.groupCount).toBe(sb.inodeCount);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(FsError);
      }
    }),
    { numRuns: runs(2000) },
  );
});
