import { describe, expect, it } from "vitest";
import { superblockWith } from "../../../test/support/ext-core.ts";
import {
  bytesOfDump,
  FRAGMENTED_INODE_K,
  ROOT_INODE_B,
  ROOT_INODE_E,
} from "../../../test/support/ext-vectors.ts";
import { hexOf, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { decodeDevice, decodeTime, ExtInode, readInode } from "./inode.ts";
import { INODE, SB } from "./layout.ts";

const B = superblockWith();
/** Image E: inodes of 128 bytes, no 64bit. */
const E = superblockWith([SB.s_inode_size, 128], [SB.s_feature_incompat, 0x242]);
/** Without checksums, to try fields out. */
const PLAIN = superblockWith([SB.s_feature_ro_compat, 0x6b]);

function codeOf(attempt: () => unknown): string {
  try {
    attempt();
  } catch (thrown) {
    if (thrown instanceof FsError) return thrown.code;
    throw thrown;
  }
  return "none";
}

function inodeWith(change: (raw: Uint8Array) => void, sb = PLAIN): ExtInode {
  const raw = bytesOfDump(ROOT_INODE_B, 256);
  change(raw);
  return new ExtInode(2, raw, sb);
}

describe("inodes that mke2fs and Linux wrote", () => {
  it("the root of image B", () => {
    const inode = readInode(2, bytesOfDump(ROOT_INODE_B, 256), B);
    expect(inode).toMatchObject({
      type: "directory",
      mode: 0o040755,
      linksCount: 3,
      size: 1024,
      sectorCount: 2,
      hasExtents: true,
      isInline: false,
      isHashedDir: false,
      extraIsize: 32,
      checksumSeed: 0x70b0_4140,
      fileAclBlock: 0,
    });
    const made = { sec: 1_700_000_000, nsec: 0 };
    expect(inode.attributes()).toMatchObject({ birthtime: made, mtime: made, flags: 0x8_0000 });
  });

  it("the root of image E has 128 bytes, half a checksum and no time of birth", () => {
    const inode = readInode(2, bytesOfDump(ROOT_INODE_E, 128), E);
    expect(inode.extraIsize).toBe(0);
    expect(inode.attributes().birthtime).toBeUndefined();
  });

  it("an inode of image K, with times finer than a second", () => {
    const raw = bytesOfDump(FRAGMENTED_INODE_K, 256);
    const attributes = readInode(1819, raw, B).attributes();
    expect(attributes.sizeBytes).toBe(0x17000);
    expect(attributes.generation).toBe(0xe07c678d);
    expect(attributes.ctime).toEqual({ sec: 0x6b00_aca6, nsec: 0xc033_cd28 >>> 2 });
  });

  it("a wrong bit anywhere is EBADMSG, naming the inode", () => {
    for (const at of [0, 0x28, 0x7f, 0x90, 0xff]) {
      const raw = bytesOfDump(ROOT_INODE_B, 256);
      raw[at]! ^= 0x10;
      expect(codeOf(() => readInode(2, raw, B))).toBe("EBADMSG");
    }
    expect(codeOf(() => readInode(3, bytesOfDump(ROOT_INODE_B, 256), B))).toBe("EBADMSG");
  });

  it("in 128 bytes only the low half is compared", () => {
    const raw = bytesOfDump(ROOT_INODE_E, 128);
    raw[0x7c]! ^= 1;
    expect(codeOf(() => readInode(2, raw, E))).toBe("EBADMSG");
  });

  it("the checksum counts only on volumes that Linux made, since it writes no other", () => {
    const raw = bytesOfDump(ROOT_INODE_B, 256);
    raw[0x7c]! ^= 1;
    expect(readInode(2, raw, superblockWith([SB.s_creator_os, 3])).linksCount).toBe(3);
    expect(codeOf(() => readInode(2, raw, B))).toBe("EBADMSG");
  });

  it("an inode of zeros was never used, whatever its checksum", () => {
    expect(codeOf(() => readInode(9, new Uint8Array(256), B))).toBe("ESTALE");
  });
});

describe("i_extra_isize", () => {
  it.each([2, 132, 0xffff])("%d is EUCLEAN", (extra) => {
    const raw = bytesOfDump(ROOT_INODE_B, 256);
    putLe16(raw, INODE.i_extra_isize, extra);
    expect(codeOf(() => readInode(2, raw, PLAIN))).toBe("EUCLEAN");
  });

  it("says which fields exist: behind it lie attributes, not times", () => {
    const birthOf = (extra: number): unknown =>
      inodeWith((raw) => {
        putLe16(raw, INODE.i_extra_isize, extra);
        putLe32(raw, INODE.i_crtime_extra, 2);
      }).attributes().birthtime;
    expect(birthOf(16)).toBeUndefined();
    expect(birthOf(20)).toEqual({ sec: 1_700_000_000, nsec: 0 });
    expect(birthOf(24)).toEqual({ sec: 1_700_000_000 + 2 * 2 ** 32, nsec: 0 });
  });

  it("0 leaves the times where they are, and takes every other field away", () => {
    const inode = inodeWith(
      (raw) => {
        putLe16(raw, INODE.i_extra_isize, 0);
        putLe32(raw, INODE.i_mtime_extra, (7 << 2) | 1);
        putLe32(raw, INODE.i_projid, 1000);
      },
      superblockWith([SB.s_feature_ro_compat, 0x2003]),
    );
    expect(inode.attributes().mtime.sec).toBeGreaterThan(2 ** 32);
    expect(inode.attributes().mtime.nsec).toBe(7);
    expect(inode.attributes().birthtime).toBeDefined();
    expect(inode.projectId).toBe(0);
  });
});

describe("fields by feature", () => {
  it("upper halves of owners, whoever made the volume", () => {
    const change = (raw: Uint8Array): void => {
      putLe16(raw, INODE.i_uid, 1);
      putLe16(raw, INODE.i_uid_high, 2);
      putLe16(raw, INODE.i_gid_high, 3);
    };
    for (const creator of [0, 1, 3]) {
      const sb = superblockWith([SB.s_creator_os, creator]);
      expect(inodeWith(change, sb)).toMatchObject({ uid: 0x2_0001, gid: 0x3_0000 });
    }
  });

  it("the size of a directory has an upper half with large_dir only", () => {
    const change = (raw: Uint8Array): void => putLe32(raw, INODE.i_size_high, 1);
    expect(inodeWith(change).size).toBe(1024);
    const large = superblockWith([SB.s_feature_incompat, 0x42c2]);
    expect(inodeWith(change, large).size).toBe(2 ** 32 + 1024);
    const file = inodeWith((raw) => {
      change(raw);
      putLe16(raw, INODE.i_mode, 0x8000);
    });
    expect(file.size).toBe(2 ** 32 + 1024);
  });

  it("i_blocks: 48 bits with huge_file, in blocks with the flag of the inode", () => {
    const change = (flags: number) => (raw: Uint8Array) => {
      putLe32(raw, INODE.i_blocks_lo, 7);
      putLe16(raw, INODE.i_blocks_high, 1);
      putLe32(raw, INODE.i_flags, flags);
    };
    expect(inodeWith(change(0)).sectorCount).toBe(2 ** 32 + 7);
    expect(inodeWith(change(0x4_0000)).sectorCount).toBe((2 ** 32 + 7) * 2);
    const old = superblockWith([SB.s_feature_ro_compat, 0x63]);
    expect(inodeWith(change(0x4_0000), old).sectorCount).toBe(7);
  });

  it("the attribute block has an upper half with 64bit only", () => {
    const change = (raw: Uint8Array): void => {
      putLe32(raw, INODE.i_file_acl_lo, 5);
      putLe16(raw, INODE.i_file_acl_high, 1);
    };
    expect(inodeWith(change).fileAclBlock).toBe(2 ** 32 + 5);
    expect(inodeWith(change, E).fileAclBlock).toBe(5);
  });

  it("the project id counts with the feature only", () => {
    const change = (raw: Uint8Array): void => putLe32(raw, INODE.i_projid, 1234);
    expect(inodeWith(change).projectId).toBe(0);
    const project = superblockWith([SB.s_feature_ro_compat, 0x206b]);
    expect(inodeWith(change, project).projectId).toBe(1234);
  });

  it("casefold without the feature is EUCLEAN", () => {
    const raw = bytesOfDump(ROOT_INODE_B, 256);
    putLe32(raw, INODE.i_flags, 0x4008_0000);
    expect(codeOf(() => readInode(2, raw, PLAIN))).toBe("EUCLEAN");
  });

  it("users do not see the flags that are the format's own business", () => {
    const flagsOf = (mode: number): number =>
      inodeWith((raw) => {
        putLe32(raw, INODE.i_flags, 0xffff_ffff);
        putLe16(raw, INODE.i_mode, mode);
      }).attributes().flags;
    expect(flagsOf(0x4000) & 0x20_0000).toBe(0);
    expect(flagsOf(0x4000) & 0x2000_0000).not.toBe(0);
    expect(flagsOf(0x8000) & 0x2000_0000).toBe(0);
  });
});

describe("times", () => {
  /**
   * Seconds, low word, extra word of 1 ns and of 999999999 ns; at the ends the kernel stores 0
   * ns.
   */
  it.each([
    [-2147483648, 0x80000000, 0x00000000, 0x00000000],
    [-1, 0xffffffff, 0x00000004, 0xee6b27fc],
    [0, 0x00000000, 0x00000004, 0xee6b27fc],
    [2147483647, 0x7fffffff, 0x00000004, 0xee6b27fc],
    [2147483648, 0x80000000, 0x00000005, 0xee6b27fd],
    [4294967295, 0xffffffff, 0x00000005, 0xee6b27fd],
    [4294967296, 0x00000000, 0x00000005, 0xee6b27fd],
    [6442450943, 0x7fffffff, 0x00000005, 0xee6b27fd],
    [6442450944, 0x80000000, 0x00000006, 0xee6b27fe],
    [10737418239, 0x7fffffff, 0x00000006, 0xee6b27fe],
    [10737418240, 0x80000000, 0x00000007, 0xee6b27ff],
    [15032385535, 0x7fffffff, 0x00000003, 0x00000003],
  ])("%d seconds", (sec, low, extraOne, extraMost) => {
    expect(decodeTime(low, extraOne)).toEqual({ sec, nsec: extraOne >>> 2 });
    const nsec = extraMost > 3 ? 999_999_999 : 0;
    expect(decodeTime(low, extraMost)).toEqual({ sec, nsec });
  });

  it("are 32 signed bits without an extra word", () => {
    expect(decodeTime(0xffff_ffff, 0)).toEqual({ sec: -1, nsec: 0 });
  });

  it("never have more nanoseconds than a second", () => {
    expect(decodeTime(0, 0xffff_fffc).nsec).toBe(999_999_999);
  });

  it("the extra words stand in another order than the low ones", () => {
    const { atime, ctime, mtime } = inodeWith((raw) => {
      putLe32(raw, INODE.i_ctime_extra, 1 << 2);
      putLe32(raw, INODE.i_mtime_extra, 2 << 2);
      putLe32(raw, INODE.i_atime_extra, 3 << 2);
    }).attributes();
    expect([ctime.nsec, mtime.nsec, atime.nsec]).toEqual([1, 2, 3]);
  });
});

it.each([
  ["chr 1:3", "0301000000000000", 1, 3],
  ["blk 8:17", "1108000000000000", 8, 17],
  ["blk 259:300", "000000002c031100", 259, 300],
  ["chr 300:1", "00000000012c0100", 300, 1],
  ["chr 4095:1048575", "00000000ffffffff", 4095, 1048575],
  ["chr 255:255", "ffff000000000000", 255, 255],
  ["chr 0:256", "0000000000001000", 0, 256],
  ["0:0", "0000000000000000", 0, 0],
])("device %s", (_name, hex, major, minor) => {
  const bytes = bytesOfDump(`0 ${hex}`, 60);
  expect(hexOf(bytes.subarray(0, 8))).toBe(hex);
  expect(decodeDevice(bytes)).toEqual({ major, minor });
});
