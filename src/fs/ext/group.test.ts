import { describe, expect, it, test } from "vitest";
import { makeTestCore, superblockWith } from "../../../test/support/ext-core.ts";
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
  ROOT_INODE_B,
} from "../../../test/support/ext-vectors.ts";
import { putLe16, putLe32 } from "../../lib/bytes.ts";
import { descriptorChecksum } from "./checksum.ts";
import { encodeDescriptor, GroupTable, hasSuperblockCopy } from "./group.ts";
import { BG_INODE_UNINIT, GD, SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

const B = superblockWith();
/** Image C: descriptors of 32 bytes with CRC-16. */
const C = superblockWith([SB.s_feature_incompat, 0x242], [SB.s_feature_ro_compat, 0x7b]);
const NO_CSUM: readonly [number, number] = [SB.s_feature_ro_compat, 0x6b];

describe("encoding a descriptor", () => {
  const E = superblockWith([SB.s_feature_incompat, 0x242]);
  const D = superblockWith([SB.s_feature_ro_compat, 0x7b]);
  const cases: readonly (readonly [string, Superblock, number, string, number])[] = [
    ["B, group 0", B, 64, DESCRIPTOR_B_0, 0],
    ["B, group 1", B, 64, DESCRIPTOR_B_1, 1],
    ["E, group 0", E, 32, DESCRIPTOR_E_0, 0],
    ["E, group 1", E, 32, DESCRIPTOR_E_1, 1],
    ["C, group 0", C, 32, DESCRIPTOR_C_0, 0],
    ["C, group 1", C, 32, DESCRIPTOR_C_1, 1],
    ["D, group 0", D, 64, DESCRIPTOR_D_0, 0],
    ["D, group 1", D, 64, DESCRIPTOR_D_1, 1],
  ];

  test.each(cases)("%s: gives the bytes of mke2fs", async (_name, sb, length, dump, group) => {
    const stored = bytesOfDump(dump, length);
    const image = makeTestCore(sb);
    image.block(2).set(stored, group * length);
    const row = await image.core.metadata.run(() => image.core.groups.descriptor(group));
    const raw = stored.slice();
    for (const at of [GD.bg_free_blocks_count_lo, GD.bg_free_inodes_count_lo, GD.bg_flags, 0x1e]) {
      putLe16(raw, at, 0xaaaa);
    }
    encodeDescriptor(sb, row, raw);
    expect(raw).toEqual(stored);
  });
});

describe("the descriptors of image B", () => {
  const image = makeTestCore(B);
  image.block(2).set(bytesOfDump(DESCRIPTOR_B_0, 64));
  image.block(2).set(bytesOfDump(DESCRIPTOR_B_1, 64), 64);
  const read = async (group: number) =>
    image.core.metadata.run(() => image.core.groups.descriptor(group));

  it("are decoded", async () => {
    expect(await read(0)).toEqual({
      group: 0,
      blockBitmap: 130,
      inodeBitmap: 132,
      inodeTable: 134,
      freeClusterCount: 7021,
      freeInodeCount: 2037,
      usedDirCount: 2,
      flags: 4,
      itableUnused: 2037,
      blockBitmapCsum: 0xe1ed_f855,
      inodeBitmapCsum: 0x554d_d83b,
    });
    expect(await read(1)).toMatchObject({ inodeTable: 646, flags: 5, itableUnused: 2048 });
  });

  it("lead to the inode table, whose used part is read in one request", async () => {
    image.block(134).set(bytesOfDump(ROOT_INODE_B, 256), 256);
    image.store.reset();
    const root = await image.core.metadata.run(() => image.core.inode(2));
    expect(root.type).toBe("directory");
    expect(image.store.reads).toBe(1);
    expect(image.store.readBytes).toBe(3 * 1024); // 11 used inodes, 4 in a block.
  });

  it.each([12, 2048, 2049, 4096])("inode %d was never used, whatever lies there", async (ino) => {
    const at = ino <= 2048 ? 134 * 1024 + (ino - 1) * 256 : 646 * 1024 + (ino - 2049) * 256;
    image.bytes.fill(0x55, at, at + 256);
    const reading = async () => image.core.metadata.run(() => image.core.inode(ino));
    await expect(reading()).rejects.toMatchObject({ code: "ESTALE" });
  });

  it.each([0, -1, 4097, 1.5e9])("inode %d is outside", async (ino) => {
    expect(() => image.core.inode(ino)).toThrow(/EUCLEAN.*outside 1\.\.4096/);
  });
});

describe("damaged descriptors", () => {
  function withDescriptor(
    sb: Superblock,
    dump: string,
    group: number,
    change: (raw: Uint8Array) => void,
  ) {
    const image = makeTestCore(sb);
    const raw = image
      .block(2)
      .subarray(group * sb.descriptorBytes, (group + 1) * sb.descriptorBytes);
    raw.set(bytesOfDump(dump, sb.descriptorBytes));
    change(raw);
    return Promise.resolve(image.core.metadata.run(() => image.core.groups.descriptor(group)));
  }

  it("with a wrong checksum are EBADMSG, naming group and field", async () => {
    const flip = (raw: Uint8Array): void => {
      raw[0]! ^= 1;
    };
    const ofB = withDescriptor(B, DESCRIPTOR_B_1, 1, flip);
    await expect(ofB).rejects.toThrow(/EBADMSG.*group 1: bg_checksum/);
    await expect(withDescriptor(C, DESCRIPTOR_C_1, 1, flip)).rejects.toMatchObject({
      code: "EBADMSG",
    });
    await expect(withDescriptor(C, DESCRIPTOR_C_1, 1, () => {})).resolves.toMatchObject({
      flags: 5,
    });
  });

  it.each([0, 1, 16383, 0xffff_ffff])("with an inode table at %d are EUCLEAN", async (at) => {
    const sb = superblockWith(NO_CSUM);
    const reading = withDescriptor(sb, DESCRIPTOR_B_0, 0, (raw) =>
      putLe32(raw, GD.bg_inode_table_lo, at),
    );
    await expect(reading).rejects.toThrow(/EUCLEAN.*bg_inode_table/);
  });

  it("with more unused inodes than there are are EUCLEAN", async () => {
    const reading = withDescriptor(B, DESCRIPTOR_B_0, 0, (raw) => {
      putLe16(raw, GD.bg_itable_unused_lo, 2049);
      putLe16(raw, GD.bg_checksum, descriptorChecksum(B.seed, 0, raw));
    });
    await expect(reading).rejects.toThrow(/EUCLEAN.*bg_itable_unused/);
  });

  it("are read with salvage, but not believed in what they call unused", async () => {
    const image = makeTestCore(B);
    const raw = image.block(2).subarray(64, 128);
    raw.set(bytesOfDump(DESCRIPTOR_B_1, 64));
    const groups = new GroupTable(B, image.core.metadata, 1, true);
    const read = async () => image.core.metadata.run(() => groups.descriptor(1));
    expect(await read()).toMatchObject({ flags: 5, itableUnused: 2048 });
    const damaged = makeTestCore(B);
    raw[GD.bg_checksum]! ^= 1;
    damaged.block(2).subarray(64, 128).set(raw);
    const salvaged = new GroupTable(B, damaged.core.metadata, 1, true);
    const found = await damaged.core.metadata.run(() => salvaged.descriptor(1));
    expect(found).toMatchObject({ inodeTable: 646, flags: 0, itableUnused: 0 });
  });

  it("in a copy of the table are not believed in what they call unused", async () => {
    const image = makeTestCore(B);
    image.block(8194).set(bytesOfDump(DESCRIPTOR_B_1, 64), 64);
    const copy = new GroupTable(B, image.core.metadata, 8193, false);
    const found = await image.core.metadata.run(() => copy.descriptor(1));
    expect(found).toMatchObject({ inodeTable: 646, freeInodeCount: 2048, itableUnused: 0 });
  });

  it("without a checksum feature flags and unused inodes are not believed", async () => {
    const sb = superblockWith(NO_CSUM);
    const reading = withDescriptor(sb, DESCRIPTOR_B_1, 1, (raw) =>
      putLe16(raw, GD.bg_flags, BG_INODE_UNINIT),
    );
    await expect(reading).resolves.toMatchObject({ flags: 0, itableUnused: 0 });
  });
});

describe("copies of the superblock", () => {
  const groupsOf = (sb: Superblock): number[] =>
    Array.from({ length: 130 }, (_, group) => group).filter((group) =>
      hasSuperblockCopy(sb, group),
    );

  it("are in groups 0, 1 and the powers of 3, 5 and 7 with sparse_super", () => {
    expect(groupsOf(B)).toEqual([0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
  });

  it("are everywhere without", () => {
    expect(groupsOf(superblockWith([SB.s_feature_ro_compat, 2])).length).toBe(130);
  });

  it("are where the superblock says with sparse_super2", () => {
    const fields = [
      [SB.s_feature_compat, 0x23c],
      [SB.s_backup_bgs, 1],
      [SB.s_backup_bgs + 4, 77],
    ] as const;
    expect(groupsOf(superblockWith(...fields))).toEqual([0, 1, 77]);
  });
});

/** First block of each meta group's descriptors, as they were found on images of mke2fs. */
test.each([
  ["5G of 4 KiB", 2, 0, 0x2d2, 1310720, 32768, [1]],
  ["64M of 1 KiB, 32 bit", 0, 1, 0x252, 65536, 8192, [2]],
  [
    "1G of 1 KiB",
    0,
    1,
    0x2d2,
    1048576,
    8192,
    [2, 131073, 262145, 393217, 524289, 655361, 786433, 917505],
  ],
])("meta_bg: %s", (_name, logBlock, first, incompat, blocks, perGroup, wanted) => {
  const sb = superblockWith(
    [SB.s_log_block_size, logBlock],
    [SB.s_first_data_block, first],
    [SB.s_feature_incompat, incompat],
    [SB.s_blocks_count_lo, blocks],
    [SB.s_blocks_per_group, perGroup],
  );
  const table = new GroupTable(sb, makeTestCore(B).core.metadata, first, false);
  expect(wanted.map((_block, index) => table.descriptorBlock(index))).toEqual(wanted);
});
