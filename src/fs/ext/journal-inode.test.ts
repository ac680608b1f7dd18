import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import { type FoundJournal, findInternalJournal } from "./journal-inode.ts";
import { SB } from "./layout.ts";
import type { Superblock } from "./superblock.ts";

/** Words of `s_jnl_blocks` of image K: the map of inode 8 in three pieces, size high, size low. */
const BACKUP_K = [
  0x0003_f30a, 4, 0, 0, 0x0a, 0x0f, 0x0a, 0x0f, 0x1a, 0x19, 0x3e7, 0x42a, 0, 0, 0, 0, 0x40_0000,
];

/** An image of nothing but this superblock: no inode can be read. */
async function find(sb: Superblock): Promise<{ found: FoundJournal; test: TestCore }> {
  const test = makeTestCore(sb);
  return { found: await findInternalJournal(test.core, test.core.bdev), test };
}

describe("a journal whose inode cannot be read", () => {
  it("is found by the copy that mke2fs put into the superblock", async () => {
    const { found, test } = await find(superblockWith());
    expect(found).toMatchObject({ place: "inode 8", isExternal: false, superblockBlock: 0 });
    expect(found.map.blockCount).toBe(1024);
    expect(found.map.locate(0)).toEqual({ physical: 0x2082, count: 1024 });
    expect(test.warnings.join()).toContain("copy of its map");
  });

  it("may lie in pieces", async () => {
    const words = BACKUP_K.map((word, at) => [SB.s_jnl_blocks + 4 * at, word] as const);
    const { found } = await find(superblockWith([SB.s_log_block_size, 2], ...words));
    expect(found.map.runCount).toBe(3);
    expect(found.map.locate(9)).toEqual({ physical: 24, count: 1 });
    expect(found.map.locate(10)).toEqual({ physical: 26, count: 15 });
    expect(found.map.locate(25)).toEqual({ physical: 1066, count: 999 });
    expect(found.map.blockCount).toBe(1024);
    expect([14, 15, 24, 25, 2064, 2065].map((at) => found.map.contains(at))).toEqual([
      false,
      true,
      true,
      false,
      true,
      false,
    ]);
  });

  it("is not found where the superblock has no copy", async () => {
    const none = superblockWith([SB.s_hash_seed + 16, 0x0040_0001]);
    await expect(find(none)).rejects.toMatchObject({ code: "EBADMSG" });
  });
});
