import { describe, expect, test } from "vitest";
import { superblockWith } from "../../../test/support/ext-core.ts";
import {
  bytesOfDump,
  FRAGMENTED_INODE_K,
  ROOT_INODE_B,
  ROOT_INODE_E,
} from "../../../test/support/ext-vectors.ts";
import { le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { ExtInode, encodeTime } from "./inode.ts";
import { encodeInode } from "./inode-write.ts";
import { HUGE_FILE_FL, INODE, S_IFREG, SB } from "./layout.ts";

const B = superblockWith();
const E = superblockWith([SB.s_inode_size, 128], [SB.s_feature_incompat, 0x242]);

describe("encoding an inode", () => {
  test.each([
    ["the root of image B", 2, B, ROOT_INODE_B, 256],
    ["the root of image E", 2, E, ROOT_INODE_E, 128],
    ["an inode of image K", 1819, B, FRAGMENTED_INODE_K, 256],
  ] as const)("%s: gives the bytes it was read from", (_name, ino, sb, dump, length) => {
    const stored = bytesOfDump(dump, length);
    const inode = new ExtInode(ino, stored.slice(), sb);
    putLe16(inode.raw, INODE.i_checksum_lo, 0x1234);
    putLe16(inode.raw, INODE.i_mode, 0);
    encodeInode(inode, sb);
    expect(inode.raw).toEqual(stored);
  });

  test("all members reach their fields, upper halves included", () => {
    const inode = new ExtInode(12, new Uint8Array(256), B);
    putLe16(inode.raw, INODE.i_mode, S_IFREG);
    const file = new ExtInode(12, inode.raw, B);
    file.mode = S_IFREG | 0o4711;
    file.uid = 0x1_0002;
    file.gid = 0xfffe_fffd;
    file.linksCount = 65_000;
    file.diskSize = 0x12_3456_789a;
    file.size = 0x13_0000_0000;
    file.sectorCount = 0x1234_5678_9abc;
    file.fileAclBlock = 0x5678_1234_5678;
    encodeInode(file, B);
    const again = new ExtInode(12, file.raw, B);
    expect(again).toMatchObject({
      mode: S_IFREG | 0o4711,
      uid: 0x1_0002,
      gid: 0xfffe_fffd,
      linksCount: 65_000,
      size: 0x12_3456_789a,
      sectorCount: 0x1234_5678_9abc,
      fileAclBlock: 0x5678_1234_5678,
    });
  });

  test("blocks are counted in sectors while they fit, then in blocks of the file system", () => {
    const inode = new ExtInode(12, new Uint8Array(256), B);
    inode.sectorCount = 0xffff_ffff;
    encodeInode(inode, B);
    expect([le32(inode.raw, INODE.i_blocks_lo), le16(inode.raw, INODE.i_blocks_high)]).toEqual([
      0xffff_ffff, 0,
    ]);
    inode.sectorCount = 0x1_0000_0000_0000;
    encodeInode(inode, B);
    expect(inode.flags & HUGE_FILE_FL).not.toBe(0);
    expect(new ExtInode(12, inode.raw, B).sectorCount).toBe(0x1_0000_0000_0000);
    const noHugeFile = superblockWith([SB.s_feature_ro_compat, 0x463]);
    expect(() => encodeInode(inode, noHugeFile)).toThrow(/EFBIG/);
  });
});

describe("encoding times", () => {
  test.each([
    [-2147483648, 0x8000_0000, 0, 0],
    [-1, 0xffff_ffff, 4, 0xee6b_27fc],
    [0, 0, 4, 0xee6b_27fc],
    [2147483647, 0x7fff_ffff, 4, 0xee6b_27fc],
    [2147483648, 0x8000_0000, 5, 0xee6b_27fd],
    [4294967295, 0xffff_ffff, 5, 0xee6b_27fd],
    [4294967296, 0, 5, 0xee6b_27fd],
    [6442450943, 0x7fff_ffff, 5, 0xee6b_27fd],
    [6442450944, 0x8000_0000, 6, 0xee6b_27fe],
    [10737418239, 0x7fff_ffff, 6, 0xee6b_27fe],
    [10737418240, 0x8000_0000, 7, 0xee6b_27ff],
    [15032385535, 0x7fff_ffff, 3, 3],
    [1e12, 0x7fff_ffff, 3, 3],
  ])("%d seconds, with 1 and 999999999 ns, as the kernel", (sec, low, withOne, withMost) => {
    expect(encodeTime({ sec, nsec: 1 }, true)).toEqual({ low, extra: withOne });
    expect(encodeTime({ sec, nsec: 999_999_999 }, true)).toEqual({ low, extra: withMost });
  });

  test("without room for an epoch the last moment is in 2038", () => {
    expect(encodeTime({ sec: 2 ** 33, nsec: 5 }, false)).toEqual({ low: 0x7fff_ffff, extra: 0 });
  });

  test("inodes of 128 bytes have no extra words and no time of birth", () => {
    const inode = new ExtInode(2, bytesOfDump(ROOT_INODE_E, 128), E);
    inode.setTime("mtime", { sec: 5_000_000_000, nsec: 7 });
    inode.setTime("birthtime", { sec: 1, nsec: 0 });
    expect(inode.attributes().mtime).toEqual({ sec: 0x7fff_ffff, nsec: 0 });
  });

  test("an inode whose extra fields end before a time keeps its attributes behind them", () => {
    const inode = new ExtInode(2, bytesOfDump(ROOT_INODE_B, 256), B);
    inode.extraIsize = 4;
    putLe32(inode.raw, INODE.i_mtime_extra, 0xaaaa_aaaa);
    inode.setTime("mtime", { sec: 1, nsec: 1 });
    expect(le32(inode.raw, INODE.i_mtime_extra)).toBe(0xaaaa_aaaa);
  });
});
