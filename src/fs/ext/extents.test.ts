import { beforeEach, describe, expect, it } from "vitest";
import {
  fileWith,
  makeTestCore,
  superblockWith,
  type TestCore,
} from "../../../test/support/ext-core.ts";
import {
  bytesOfDump,
  EXTENT_BLOCK_K,
  FALLOCATED_I_BLOCK,
  FRAGMENTED_INODE_K,
} from "../../../test/support/ext-vectors.ts";
import { putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { extentChecksum } from "./checksum.ts";
import { mapExtents } from "./extents.ts";
import { ExtInode } from "./inode.ts";
import { SB } from "./layout.ts";

/** Blocks of 4 KiB and no bitmaps that anybody looks at: image K, cut short. */
const SB_4K = superblockWith(
  [SB.s_log_block_size, 2],
  [SB.s_first_data_block, 0],
  [SB.s_blocks_count_lo, 3000],
);
const NO_CSUM: readonly [number, number] = [SB.s_feature_ro_compat, 0x6b];
const SMALL = superblockWith(NO_CSUM);

interface Entry {
  readonly block: number;
  readonly length?: number;
  readonly start: number;
}

/** Writes a node into `node`: extents in a leaf, index entries above. */
function putNode(node: Uint8Array, depth: number, entries: readonly Entry[], max = 4): void {
  putLe16(node, 0, 0xf30a);
  putLe16(node, 2, entries.length);
  putLe16(node, 4, max);
  putLe16(node, 6, depth);
  for (const [index, { block, length = 1, start }] of entries.entries()) {
    const at = 12 * (index + 1);
    putLe32(node, at, block);
    if (depth === 0) {
      putLe16(node, at + 4, length);
      putLe32(node, at + 8, start);
    } else {
      putLe32(node, at + 4, start);
    }
  }
}

function rootWith(depth: number, entries: readonly Entry[]): Uint8Array {
  const root = new Uint8Array(60);
  putNode(root, depth, entries);
  return root;
}

async function failure(attempt: () => unknown, core: TestCore): Promise<FsError> {
  try {
    await core.core.metadata.run(attempt);
  } catch (thrown) {
    if (thrown instanceof FsError) return thrown;
    throw thrown;
  }
  throw new Error("it did not fail");
}

describe("the tree of inode 1819 of image K", () => {
  const inode = new ExtInode(1819, bytesOfDump(FRAGMENTED_INODE_K, 256), SB_4K);
  let test: TestCore;
  beforeEach(() => {
    test = makeTestCore(SB_4K);
    test.block(0x862).set(bytesOfDump(EXTENT_BLOCK_K, 4096));
  });
  const map = (fileBlock: number, maxCount = 1000) =>
    test.core.metadata.run(() => mapExtents(test.core, inode, fileBlock, maxCount));

  it("has twelve blocks with a hole behind each", async () => {
    for (let index = 0; index < 12; index++) {
      const run = await map(2 * index);
      const physical = index === 11 ? 0x858 : 0x842 + 2 * index;
      expect(run).toMatchObject({ physical, count: 1, isUnwritten: false });
      const gap = await map(2 * index + 1, 7);
      expect(gap).toMatchObject({ physical: 0, count: index === 11 ? 7 : 1 });
    }
  });

  it("ignores the stale entries of its root", async () => {
    expect(await map(500)).toMatchObject({ physical: 0, count: 1000 });
  });

  it("is read with one request for the leaf, and then without a promise", async () => {
    await map(0);
    expect(test.store.reads).toBe(1);
    expect(map(22)).not.toBeInstanceOf(Promise);
  });

  it("is EBADMSG, naming block and field, when a byte of the leaf is wrong", async () => {
    test.block(0x862)[0x800] = 1;
    const error = await failure(() => mapExtents(test.core, inode, 0, 1), test);
    expect(error.code).toBe("EBADMSG");
    expect(error.message).toContain("block 2146");
    expect(error.message).toContain("et_checksum");
  });
});

it("300 blocks fallocated, one of them written", () => {
  const test = makeTestCore(SB_4K);
  const inode = fileWith(SB_4K, bytesOfDump(FALLOCATED_I_BLOCK, 60, 0x28), true);
  const map = (at: number) => mapExtents(test.core, inode, at, 1000);
  expect(map(0)).toEqual({ physical: 0x863, count: 10, isUnwritten: true, isBoundary: false });
  expect(map(10)).toEqual({ physical: 0x86d, count: 1, isUnwritten: false, isBoundary: false });
  expect(map(11)).toEqual({ physical: 0x86e, count: 289, isUnwritten: true, isBoundary: false });
  expect(map(100)).toMatchObject({ physical: 0x86e + 89, count: 200 });
  expect(map(300)).toMatchObject({ physical: 0, count: 1000 });
});

describe("lengths", () => {
  it("8000 hex is written, 8001 is one unwritten block", () => {
    const sb = superblockWith(NO_CSUM, [SB.s_blocks_count_lo, 0xffff_ffff]);
    const { core } = makeTestCore(SMALL);
    const ctx = { ...core, sb, metadata: core.metadata, mapBlocks: core.mapBlocks } as typeof core;
    const root = rootWith(0, [
      { block: 0, length: 0x8000, start: 100 },
      { block: 0x8000, length: 0x8001, start: 50_000 },
    ]);
    const inode = fileWith(sb, root, true);
    const run = mapExtents(ctx, inode, 0, 1e6);
    expect(run).toMatchObject({ physical: 100, count: 0x8000, isUnwritten: false });
    const last = mapExtents(ctx, inode, 0x8000, 1e6);
    expect(last).toMatchObject({ physical: 50_000, count: 1, isUnwritten: true });
  });

  it("an empty tree is one hole, also behind the last block that a file can have", () => {
    const { core } = makeTestCore(SMALL);
    const inode = fileWith(SMALL, rootWith(0, []), true);
    expect(mapExtents(core, inode, 5, 10)).toMatchObject({ physical: 0, count: 10 });
    expect(mapExtents(core, inode, 2 ** 32 - 1, 10)).toMatchObject({ physical: 0, count: 1 });
    expect(mapExtents(core, inode, 2 ** 33, 10)).toMatchObject({ physical: 0, count: 10 });
  });
});

describe("a damaged root is EUCLEAN", () => {
  const { core } = makeTestCore(SMALL);
  it.each<[string, number, readonly Entry[]]>([
    ["ee_len", 0, [{ block: 0, length: 0, start: 100 }]],
    ["ee_start", 0, [{ block: 0, start: 0 }]],
    ["ee_start", 0, [{ block: 0, length: 2, start: 16383 }]],
    [
      "ee_block",
      0,
      [
        { block: 8, start: 9 },
        { block: 3, start: 10 },
      ],
    ],
    [
      "ee_block",
      0,
      [
        { block: 0, length: 5, start: 9 },
        { block: 4, start: 20 },
      ],
    ],
    ["ee_block", 0, [{ block: 0xffff_ffff, length: 2, start: 9 }]],
    [
      "ei_block",
      1,
      [
        { block: 7, start: 9 },
        { block: 7, start: 10 },
      ],
    ],
    ["eh_depth", 6, [{ block: 0, start: 9 }]],
    ["eh_entries", 1, []],
    ["ei_leaf of entry 0 is block 20000", 1, [{ block: 0, start: 20_000 }]],
    ["ei_leaf of entry 0 is block 1", 1, [{ block: 0, start: 1 }]],
  ])("%s", (field, depth, entries) => {
    const inode = fileWith(SMALL, rootWith(depth, entries), true);
    expect(() => mapExtents(core, inode, 0, 1)).toThrow(FsError);
    expect(() => mapExtents(core, inode, 0, 1)).toThrow(/EUCLEAN/);
    expect(() => mapExtents(core, inode, 0, 1)).toThrow(field);
  });

  it("with a wrong magic number, too many entries or too much room", () => {
    const withField = (at: number, value: number): ExtInode => {
      const root = rootWith(0, [{ block: 0, start: 9 }]);
      putLe16(root, at, value);
      return fileWith(SMALL, root, true);
    };
    expect(() => mapExtents(core, withField(0, 0xf30b), 0, 1)).toThrow(/eh_magic/);
    expect(() => mapExtents(core, withField(2, 5), 0, 1)).toThrow(/eh_entries/);
    expect(() => mapExtents(core, withField(4, 5), 0, 1)).toThrow(/eh_max/);
    expect(() => mapExtents(core, withField(4, 0), 0, 1)).toThrow(/eh_max/);
  });
});

describe("deep trees", () => {
  it("are walked down to a depth of five", async () => {
    const test = makeTestCore(SMALL);
    for (let depth = 4; depth >= 1; depth--) {
      putNode(test.block(100 + depth), depth, [{ block: 0, start: 99 + depth }], 84);
    }
    putNode(test.block(100), 0, [{ block: 3, length: 4, start: 200 }], 84);
    const inode = fileWith(SMALL, rootWith(5, [{ block: 0, start: 104 }]), true);
    const run = await test.core.metadata.run(() => mapExtents(test.core, inode, 4, 10));
    expect(run).toMatchObject({ physical: 201, count: 3 });
  });

  it("that come back to a node above end with EUCLEAN", async () => {
    const test = makeTestCore(SMALL);
    putNode(test.block(100), 1, [{ block: 0, start: 100 }], 84);
    const inode = fileWith(SMALL, rootWith(2, [{ block: 0, start: 100 }]), true);
    const error = await failure(() => mapExtents(test.core, inode, 0, 1), test);
    expect(error.code).toBe("EUCLEAN");
    expect(error.message).toContain("eh_depth");
  });

  it("may not lead to one leaf in two ways", async () => {
    const test = makeTestCore(SMALL);
    putNode(test.block(100), 0, [{ block: 12, start: 300 }], 84);
    const root = rootWith(1, [
      { block: 0, start: 100 },
      { block: 10, start: 100 },
    ]);
    const inode = fileWith(SMALL, root, true);
    const error = await failure(() => mapExtents(test.core, inode, 0, 1), test);
    expect(error.code).toBe("EUCLEAN");
    const run = await test.core.metadata.run(() => mapExtents(test.core, inode, 12, 1));
    expect(run.physical).toBe(300);
  });

  it("may have an index key before the first key of the child: a hole between them", async () => {
    const test = makeTestCore(SMALL);
    putNode(test.block(100), 0, [{ block: 7, start: 300 }], 84);
    const root = rootWith(1, [
      { block: 2, start: 100 },
      { block: 10, start: 101 },
    ]);
    const inode = fileWith(SMALL, root, true);
    const map = (at: number) => test.core.metadata.run(() => mapExtents(test.core, inode, at, 99));
    expect(await map(0)).toMatchObject({ physical: 0, count: 2 });
    expect(await map(2)).toMatchObject({ physical: 0, count: 5 });
    expect(await map(8)).toMatchObject({ physical: 0, count: 2 });
  });

  it("have their tail behind the last slot, not at the end of the block", async () => {
    const sb = superblockWith([SB.s_log_block_size, 1], [SB.s_first_data_block, 0]);
    const test = makeTestCore(sb);
    const inode = fileWith(sb, rootWith(1, [{ block: 0, start: 100 }]), true);
    const leaf = test.block(100);
    putNode(leaf, 0, [{ block: 0, start: 300 }], 169);
    putLe32(leaf, 2040, extentChecksum(inode.checksumSeed, leaf, 2040));
    const run = await test.core.metadata.run(() => mapExtents(test.core, inode, 0, 1));
    expect(run.physical).toBe(300);
  });
});
