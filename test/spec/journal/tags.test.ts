/**
 * Descriptors in all their layouts, escaped copies, and what a home block may be: cases J27 to J37.
 */
import { describe, expect, test } from "vitest";
import { superblockChecksum } from "../../../src/fs/ext/checksum.ts";
import { decodeTags, JBD2_MAGIC, tagBytesOf } from "../../../src/fs/ext/jbd2-format.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { be32, le16, le32, putBe32, putLe16, putLe32 } from "../../../src/lib/bytes.ts";
import {
  copyBlock,
  expectBlocks,
  FLAG_DELETED,
  FLAG_LAST,
  FLAG_SAME_UUID,
  HOME_BLOCKS,
  homeBlock,
  JournalBuilder,
  type LogOptions,
  replayCrafted,
} from "../../support/journal-builder.ts";

const LAYOUTS: readonly [string, LogOptions, number][] = [
  ["classic", { checksum: 0, is64Bit: false }, 8],
  ["64-bit", { checksum: 0, is64Bit: true }, 12],
  ["v1", { checksum: 1, is64Bit: false }, 8],
  ["v2", { checksum: 2, is64Bit: false }, 10],
  ["v2 64-bit", { checksum: 2, is64Bit: true }, 14],
  ["v3", { checksum: 3, is64Bit: false }, 16],
  ["v3 64-bit", { checksum: 3, is64Bit: true }, 16],
];

function formatOf(options: LogOptions): Parameters<typeof tagBytesOf>[0] {
  const { checksum = 3, is64Bit = true } = options;
  return { blockBytes: 4096, is64Bit, checksumVersion: checksum === 1 ? 0 : checksum };
}

const ESCAPED: Uint8Array = copyBlock(2, 25);
putBe32(ESCAPED, 0, JBD2_MAGIC);

describe("tags", () => {
  test("J27 classic tags of 8 bytes: the UUID stands behind the first alone", async () => {
    const homes = [66, 2, 76, 58, 184, 74, 170, 67, 86, 185, 77, 3, 59];
    const log = new JournalBuilder({ checksum: 0, is64Bit: false }).D(2, ...homes).C(2);
    const last = 12 + 8 + 16 + 11 * 8;
    expect(be32(log.block(1), last)).toBe(59);
    expect(
      log
        .block(1)
        .subarray(last + 8)
        .every((byte) => byte === 0),
    ).toBe(true);
    const wanted = Object.fromEntries(homes.map((home) => [home, 2]));
    await expectBlocks(await replayCrafted(log), wanted);
  });

  test.each(LAYOUTS)(
    "J28 %s tags that all lack SAME_UUID have 16 bytes behind each",
    async (_name, options) => {
      const copies = [25, 26, 27].map((home) => ({ home, without: FLAG_SAME_UUID }));
      const log = new JournalBuilder(options).D(2, ...copies).C(2);
      await expectBlocks(await replayCrafted(log), { 25: 2, 26: 2, 27: 2 });
    },
  );

  test("J29 a home block above 2^32 is one number, and the high word counts with 64BIT only", async () => {
    for (const checksum of [0, 2, 3] as const) {
      const block = new JournalBuilder({ checksum }).D(2, 0x1_0000_0007).block(1);
      const [tag] = decodeTags(block, formatOf({ checksum }));
      expect(tag?.blocknr).toBe(4_294_967_303);
    }
    const log = new JournalBuilder({ is64Bit: false }).D(2, { home: 25, highWord: 1 }).C(2);
    await expectBlocks(await replayCrafted(log), { 25: 2 });
    const tooHigh = new JournalBuilder({ is64Bit: true }).D(2, { home: 25, highWord: 1 }).C(2);
    await expect(replayCrafted(tooHigh)).rejects.toThrow(/EUCLEAN.*home block 4294967321/);
  });

  test.each(LAYOUTS)("J30 %s: tags are as long as on disk", async (_name, options, tagBytes) => {
    expect(tagBytesOf(formatOf(options))).toBe(tagBytes);
    const log = new JournalBuilder(options).D(2, 25, 26, 27).C(2);
    expect(be32(log.block(1), 12)).toBe(25);
    expect(be32(log.block(1), 12 + tagBytes + 16)).toBe(26);
    expect(be32(log.block(1), 12 + 2 * tagBytes + 16)).toBe(27);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: 2, 27: 2 });
  });

  test("J31 without LAST_TAG the tags end where no further one fits: 254 of v3 in 4096 bytes", async () => {
    const homes = Array.from({ length: 254 }, (_, index) => ({
      home: 10 + (index % 180),
      without: FLAG_LAST,
    }));
    const log = new JournalBuilder().D(2, ...homes).C(2);
    expect(decodeTags(log.block(1), formatOf({}))).toHaveLength(254);
    await expectBlocks(await replayCrafted(log), { 10: 2, 100: 2, 189: 2 });
  });

  test("J32 the DELETED flag is ignored", async () => {
    const log = new JournalBuilder().D(2, { home: 25, flags: FLAG_DELETED }, 26).C(2);
    await expectBlocks(await replayCrafted(log), { 25: 2, 26: 2 });
  });

  test.each(LAYOUTS)("J33 %s: an escaped copy gets its first word back", async (_name, options) => {
    const log = new JournalBuilder(options).D(2, 24, { home: 25, data: ESCAPED }, 26).C(2);
    expect(be32(log.block(3), 0)).toBe(0);
    const crafted = await replayCrafted(log);
    expect(await crafted.read(25)).toEqual(ESCAPED);
    await expectBlocks(crafted, { 24: 2, 26: 2 });
  });

  test("J34 (reading half) what a writer escaped comes back whole, in one read too", async () => {
    const log = new JournalBuilder().D(2, { home: 25, data: ESCAPED }, 26).C(2);
    const before = ESCAPED.slice();
    const { device } = await replayCrafted(log);
    const { readDevice } = await import("../../../src/block/block-device.ts");
    const all = await readDevice(device, 24 * 4096, 3 * 4096);
    expect(all.subarray(0, 4096)).toEqual(homeBlock(24));
    expect(all.subarray(4096, 8192)).toEqual(ESCAPED);
    expect(all.subarray(8192)).toEqual(copyBlock(2, 26));
    expect(ESCAPED).toEqual(before);
  });

  test.each([
    ["outside the file system", HOME_BLOCKS + 1024],
    ["inside the journal", HOME_BLOCKS + 77],
  ])("J35 a copy of a block %s is refused", async (_where, home) => {
    const log = new JournalBuilder().D(2, 25).C(2).D(3, home).C(3);
    await expect(replayCrafted(log)).rejects.toMatchObject({ code: "EUCLEAN" });
    const torn = new JournalBuilder().D(2, 25).C(2).D(3, home);
    await expectBlocks(await replayCrafted(torn), { 25: 2 });
  });

  test("J35 a block behind the file system is refused also where the device goes on", async () => {
    const log = new JournalBuilder().D(2, 25, HOME_BLOCKS + 1030).C(2);
    const blocksOnDevice = HOME_BLOCKS + 1100;
    const editSuperblock = (bytes: Uint8Array): void =>
      putLe32(bytes, SB.s_blocks_count_lo, HOME_BLOCKS + 1024);
    await expect(replayCrafted(log, { blocksOnDevice, editSuperblock })).rejects.toThrow(
      /EUCLEAN.*home block 1230/,
    );
  });

  test("J36 the last copy of a block in the order of the log counts", async () => {
    const log = new JournalBuilder().D(2, 25, 26).C(2).D(3, 25).C(3);
    await expectBlocks(await replayCrafted(log), { 25: 3, 26: 2 });
    const second = homeBlock(7);
    const twice = new JournalBuilder().D(2, 25).D(2, { home: 25, data: second }).C(2);
    expect(await (await replayCrafted(twice)).read(25)).toEqual(second);
  });

  describe("the superblock in the log", () => {
    /** Block 0 as a transaction logged it: another free count, RECOVER set, no error record. */
    function loggedBlock0(editSuperblock: (bytes: Uint8Array) => void): Uint8Array {
      const block = homeBlock(0).slice();
      const sb = block.subarray(1024, 2048).fill(0);
      putLe16(sb, SB.s_magic, 0xef53);
      putLe32(sb, SB.s_rev_level, 1);
      putLe32(sb, SB.s_log_block_size, 2);
      putLe32(sb, SB.s_blocks_count_lo, HOME_BLOCKS + 1024);
      putLe32(sb, SB.s_feature_compat, 0x4);
      putLe32(sb, SB.s_feature_incompat, 0x44);
      putLe32(sb, SB.s_free_blocks_count_lo, 77);
      putLe32(sb, SB.s_last_orphan, 13);
      editSuperblock(sb);
      return block;
    }

    test("J37 counts come from the replayed copy, the error record from home", async () => {
      const data = loggedBlock0((sb) => {
        putLe32(sb, SB.s_error_count, 1);
        putLe16(sb, SB.s_state, 1);
      });
      const log = new JournalBuilder().D(2, { home: 0, data }).C(2);
      const editSuperblock = (sb: Uint8Array): void => {
        putLe16(sb, SB.s_state, 3);
        putLe32(sb, SB.s_error_count, 5);
        putLe32(sb, SB.s_first_error_time, 1_700_000_000);
        sb[SB.s_last_error_time_hi + 1] = 4;
        putLe32(sb, SB.s_free_blocks_count_lo, 1);
      };
      const crafted = await replayCrafted(log, { editSuperblock });
      const seen = (await crafted.read(0)).subarray(1024, 2048);
      expect(le32(seen, SB.s_free_blocks_count_lo)).toBe(77);
      expect(le32(seen, SB.s_last_orphan)).toBe(13);
      expect(le32(seen, SB.s_error_count)).toBe(5);
      expect(le32(seen, SB.s_first_error_time)).toBe(1_700_000_000);
      expect(seen[SB.s_last_error_time_hi + 1]).toBe(4);
      expect(le16(seen, SB.s_state)).toBe(3);
      expect(le32(seen, SB.s_feature_incompat)).toBe(0x40);
    });

    test("J37 its checksum is made anew for what is seen, and stays wrong if it was", async () => {
      const withChecksum = (sb: Uint8Array): void => {
        putLe32(sb, SB.s_feature_ro_compat, 0x400);
        putLe32(sb, SB.s_checksum, superblockChecksum(sb));
      };
      for (const isGood of [true, false]) {
        const data = loggedBlock0((sb) => {
          withChecksum(sb);
          if (!isGood) putLe32(sb, SB.s_free_blocks_count_lo, 78);
        });
        const log = new JournalBuilder().D(2, { home: 0, data }).C(2);
        const crafted = await replayCrafted(log, { editSuperblock: withChecksum });
        const seen = (await crafted.read(0)).subarray(1024, 2048);
        expect(superblockChecksum(seen) === le32(seen, SB.s_checksum)).toBe(isGood);
      }
    });

    test("J37 a file system that grew in the log may have copies of its new blocks", async () => {
      const grown = HOME_BLOCKS + 1050;
      const data = loggedBlock0((sb) => putLe32(sb, SB.s_blocks_count_lo, grown));
      const log = new JournalBuilder().D(2, { home: 0, data }, grown - 1).C(2);
      const crafted = await replayCrafted(log, {
        blocksOnDevice: grown,
        editSuperblock: (sb) => putLe32(sb, SB.s_blocks_count_lo, HOME_BLOCKS + 1024),
      });
      await expectBlocks(crafted, { [grown - 1]: 2 });
    });
  });
});
