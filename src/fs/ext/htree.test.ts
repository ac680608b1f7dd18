import { describe, expect, it } from "vitest";
import { makeTestCore, superblockWith, type TestCore } from "../../../test/support/ext-core.ts";
import {
  ascii,
  type DxEntries,
  inodeWith,
  putDirBlock,
  putDxNode,
  putDxRoot,
  sealDxBlock,
  shapeWith,
} from "../../../test/support/ext-names.ts";
import { bytesOfDump } from "../../../test/support/ext-vectors.ts";
import { putLe16 } from "../../lib/bytes.ts";
import type { ExtCore } from "./core.ts";
import { dirShapeOf } from "./dir-block.ts";
import type { NameHash } from "./dir-hash.ts";
import { htreeFind, INDEX_UNUSABLE, verifyIndexBlock } from "./htree.ts";
import type { ExtInode } from "./inode.ts";
import { INDEX_FL, S_IFDIR, SB } from "./layout.ts";
import type { WantedName } from "./wanted-name.ts";

/**
 * Root of inode 13 of image K: 16 leaves, tail word left by the directory it was converted from.
 */
const ROOT_K = `
  000  0d000000 0c000102 2e000000 02000000 f40f0202 2e2e0000 00000000 01080000
  020  fb011000 01000000 04e0fa0e 0f000000 b27f381d 06000000 fa1b4d2e 0a000000
  040  7ebab940 04000000 2ef35e4f 10000000 f6a2875e 08000000 22ff7a6c 0d000000
  060  f000b87f 02000000 3e6ec98e 09000000 7438d6a1 05000000 76db6bb2 0c000000
  080  fe0a1bbf 03000000 c679d7cc 0e000000 04d1a0dc 07000000 9883c0ec 0b000000
  ff8  0c0000de 3e8e6c75
`;
/** File block 128 of a directory of 9,000 names in blocks of 1 KiB: an inner node. */
const NODE = `
  000  00000000 00040000 7e004000 33000000 240fcc7d fb000000 28b2997e 6a000000
  020  bcafde7f 14000000 76c2b280 d9000000 562b7281 65000000 54863982 d7000000
  040  56345583 27000000 9c953984 ce000000 d00f5485 67000000 64022286 c1000000
  060  286bfa86 02000000 86a5b687 a3000000 1884e888 56000000 a8f9f189 b5000000
  080  240d228b 20000000 0e717b8c a4000000 e65b7a8d 5b000000 74e5878e a8000000
  0a0  d69ae78f 11000000 eaf5d290 af000000 d063cd91 59000000 803b7d92 c0000000
  0c0  52547093 26000000 841fcd94 7e000000 f08fae95 dc000000 42437296 47000000
  0e0  147efc96 d1000000 f6c2c497 74000000 98170a99 07000000 ccb9109a 95000000
  100  68cd759b 40000000 dacf5e9c e0000000 c6b0459d 87000000 0e364f9e c4000000
  120  cc3a409f 18000000 2c06e69f f5000000 f0ead2a0 84000000 ceaa34a2 49000000
  140  94745ba3 8c000000 444f74a4 ef000000 b65126a5 28000000 eae245a6 b9000000
  160  586079a7 4b000000 80ff83a8 b3000000 3676bda9 0d000000 6e77f0aa a5000000
  180  64d212ac 55000000 52363aad ad000000 f62a0aae 29000000 a47e23af 91000000
  1a0  7466daaf de000000 369dffb0 43000000 8c8664b2 8e000000 7eaebbb3 1d000000
  1c0  3688a0b4 b1000000 e21ab3b5 61000000 9a14afb6 ca000000 9aec67b7 35000000
  1e0  fc4253b8 f1000000 92956eb9 76000000 ccc64cba cd000000 4e5d68bb 04000000
  200  068819bc c2000000
  3f8  00000000 08d93ca1
`;

describe("verifyIndexBlock", () => {
  const vectors = [
    { dump: ROOT_K, bytes: 4096, seed: 0x43f11e8e, used: 0x20 + 8 * 16 },
    { dump: NODE, bytes: 1024, seed: 0x91232489, used: 8 + 8 * 64 },
  ];

  it("accepts blocks that the kernel wrote, whatever word lies before the checksum", () => {
    for (const { dump, bytes, seed } of vectors) {
      const shape = shapeWith(bytes, { hasChecksum: true, checksumSeed: seed, isIndexed: true });
      verifyIndexBlock(bytesOfDump(dump, bytes), 7, shape);
    }
  });

  it("refuses any bit turned in what is used, and in the tail", () => {
    for (const { dump, bytes, seed, used } of vectors) {
      const shape = shapeWith(bytes, { hasChecksum: true, checksumSeed: seed, isIndexed: true });
      for (let at = 0; at < bytes; at += at < used ? 1 : 8) {
        const block = bytesOfDump(dump, bytes);
        const entriesAt = used % 16 === 0 ? 0x20 : 8;
        if (at === entriesAt || at === entriesAt + 1) continue; // A limit says where the tail is.
        block[at]! ^= 0x10;
        const isCovered = at < used || at >= bytes - 8;
        const verify = (): void => verifyIndexBlock(block, 7, shape);
        if (isCovered) expect(verify, `byte ${at}`).toThrow(/EBADMSG.*index block 7/);
        else verify();
      }
    }
  });

  it("refuses more entries than the block has room for", () => {
    const shape = shapeWith(1024, { hasChecksum: true, checksumSeed: 0x91232489 });
    const block = bytesOfDump(NODE, 1024);
    putLe16(block, 10, 127);
    expect(() => verifyIndexBlock(block, 7, shape)).toThrow("count is above limit");
  });

  it("refuses a block that is no part of an index", () => {
    const shape = shapeWith(1024, { hasChecksum: true, isIndexed: true });
    expect(() => verifyIndexBlock(new Uint8Array(1024), 7, shape)).toThrow("there is no index");
  });
});

/** Number of the inode that the index of `dir` leads to. */
function htreeLookup(core: ExtCore, dir: ExtInode, blockCount: number, name: WantedName): number {
  const found = htreeFind(core, dir, dirShapeOf(core, dir), blockCount, name);
  return typeof found === "object" ? found.walk.ino : (found ?? 0);
}

/** A name whose hash the test decides. */
function wantedAt(major: number, name: string): WantedName {
  const bytes = ascii(name);
  const hash = (): NameHash => ({ major, minor: 0 });
  return { stored: bytes, hash, matches: (walk) => walk.hasName(bytes) };
}

const ROOT_BLOCK = 500;

/** A directory of 12 blocks in one run from block 500 on, in blocks of 1 KiB with checksums. */
function indexedDirectory(sb = superblockWith()): {
  readonly test: TestCore;
  readonly dir: ExtInode;
  root(levels: number, entries: DxEntries, version?: number): void;
  node(fileBlock: number, entries: DxEntries): void;
  leaf(fileBlock: number, ...names: string[]): void;
  find(major: number, name: string): Promise<number>;
} {
  const test = makeTestCore(sb);
  const iBlock = Array.from({ length: 12 }, (_, at) => ROOT_BLOCK + at);
  const dir = inodeWith(sb, { mode: S_IFDIR | 0o755, size: 12 * 1024, flags: INDEX_FL, iBlock });
  const seed = dir.checksumSeed;
  return {
    test,
    dir,
    root(levels, entries, version = 1) {
      putDxRoot(test.block(ROOT_BLOCK), { ino: 12, parent: 2 }, { version, levels, entries }, seed);
    },
    node(fileBlock, entries) {
      putDxNode(test.block(ROOT_BLOCK + fileBlock), entries, seed);
    },
    leaf(fileBlock, ...names) {
      const records = names.map((name, at) => [100 * fileBlock + at, name] as const);
      putDirBlock(test.block(ROOT_BLOCK + fileBlock), records, seed);
    },
    async find(major, name) {
      const { core } = test;
      return core.metadata.run(() => htreeLookup(core, dir, 12, wantedAt(major, name)));
    },
  };
}

describe("htreeFind", () => {
  it("takes the last entry whose hash is not above the wanted one", async () => {
    const { root, leaf, find, test } = indexedDirectory();
    root(0, [
      [0, 1],
      [0x1000, 2],
      [0x8000_0000, 3],
    ]);
    for (const at of [1, 2, 3]) leaf(at, "x");
    expect(await find(0, "x")).toBe(100);
    expect(await find(0xffe, "x")).toBe(100);
    expect(await find(0x1000, "x")).toBe(200);
    expect(await find(0x7fff_fffe, "x")).toBe(200);
    expect(await find(0x8000_0000, "x")).toBe(300);
    expect(await find(0xffff_fffc, "x")).toBe(300);
    expect(await find(0x1000, "y")).toBe(0);
    expect(test.warnings).toEqual([]);
  });

  it("goes on into leaves in which the same hash continues, and no further", async () => {
    const { root, leaf, find } = indexedDirectory();
    root(0, [
      [0, 1],
      [0x1001, 2],
      [0x1001, 3],
      [0x2000, 4],
    ]);
    leaf(1, "a");
    leaf(2, "b");
    leaf(3, "c");
    leaf(4, "d");
    expect(await find(0x1000, "a")).toBe(100);
    expect(await find(0x1000, "b")).toBe(200);
    expect(await find(0x1000, "c")).toBe(300);
    expect(await find(0x1000, "d")).toBe(0);
    expect(await find(0xffe, "b")).toBe(0);
  });

  it("goes on from the last entry of one node to the first of the next", async () => {
    const { root, node, leaf, find } = indexedDirectory();
    root(1, [
      [0, 1],
      [0x1001, 2],
      [0x5000, 3],
    ]);
    node(1, [
      [0, 4],
      [0x800, 5],
    ]);
    node(2, [
      [0x1001, 6],
      [0x1001, 7],
      [0x2000, 8],
    ]);
    node(3, [[0x5000, 9]]);
    leaf(4, "w");
    leaf(5, "x");
    leaf(6, "y");
    leaf(7, "z");
    leaf(8, "later");
    leaf(9, "last");
    expect(await find(0x1000, "x")).toBe(500);
    expect(await find(0x1000, "y")).toBe(600);
    expect(await find(0x1000, "z")).toBe(700);
    expect(await find(0x1000, "later")).toBe(0);
    expect(await find(0x2002, "later")).toBe(800);
    expect(await find(0x5000, "last")).toBe(900);
    expect(await find(0x10, "w")).toBe(400);
  });

  it("reads three levels where the volume has large directories", async () => {
    const large = superblockWith([SB.s_feature_incompat, 0x46c2]);
    const { root, node, leaf, find, test } = indexedDirectory(large);
    root(2, [[0, 1]]);
    node(1, [[0, 2]]);
    node(2, [[0, 3]]);
    leaf(3, "x");
    expect(await find(0x10, "x")).toBe(300);
    expect(test.warnings).toEqual([]);
  });

  it("reads a cached name without waiting", async () => {
    const { root, leaf, find, test, dir } = indexedDirectory();
    root(0, [[0, 1]]);
    leaf(1, "x");
    await find(0, "x");
    const { core } = test;
    const attempt = (): number => htreeLookup(core, dir, 12, wantedAt(0, "x"));
    expect(core.metadata.trySync(attempt)).toBe(100);
  });

  type Directory = ReturnType<typeof indexedDirectory>;
  const damages: readonly (readonly [string, (directory: Directory) => unknown])[] = [
    ["more levels than the volume allows", ({ root }) => root(2, [[0, 1]])],
    ["an unknown hash", ({ root }) => root(0, [[0, 1]], 3)],
    ["the keyed hash in a directory without keys", ({ root }) => root(0, [[0, 1]], 6)],
    ["a leaf past the end", ({ root }) => root(0, [[0, 12]])],
    ["a way back to the root", ({ root }) => root(1, [[0, 0]])],
    [
      "a node that leads to itself",
      ({ root, node, test }) => {
        root(1, [[0, 1]]);
        node(1, [[0, 1]]);
        test.block(ROOT_BLOCK)[0x1e] = 2;
      },
    ],
    [
      "a set flag that nobody knows",
      ({ root, test, dir }) => {
        root(0, [[0, 1]]);
        test.block(ROOT_BLOCK)[0x1f] = 1;
        sealDxBlock(test.block(ROOT_BLOCK), 0x20, dir.checksumSeed);
      },
    ],
    [
      "no entries",
      ({ root, test, dir }) => {
        root(0, [[0, 1]]);
        putLe16(test.block(ROOT_BLOCK), 0x22, 0);
        sealDxBlock(test.block(ROOT_BLOCK), 0x20, dir.checksumSeed);
      },
    ],
    [
      "another limit than its size gives",
      ({ root, test, dir }) => {
        root(0, [[0, 1]]);
        putLe16(test.block(ROOT_BLOCK), 0x20, 100);
        sealDxBlock(test.block(ROOT_BLOCK), 0x20, dir.checksumSeed);
      },
    ],
    [
      "no room for its checksum",
      ({ root, test }) => {
        root(0, [[0, 1]]);
        putLe16(test.block(ROOT_BLOCK), 0x20, 124);
      },
    ],
    [
      "equal hashes without end",
      ({ root, leaf }) => {
        root(
          0,
          Array.from({ length: 100 }, () => [1, 1] as const),
        );
        leaf(1, "other");
      },
    ],
  ];
  for (const [what, damage] of damages) {
    it(`gives up an index with ${what}, with a warning`, async () => {
      // Large directories for the loop of nodes only; "more levels" must be refused without.
      const isLoop = what.includes("itself");
      const sb = isLoop ? superblockWith([SB.s_feature_incompat, 0x46c2]) : superblockWith();
      const directory = indexedDirectory(sb);
      damage(directory);
      if (isLoop) {
        sealDxBlock(directory.test.block(ROOT_BLOCK), 0x20, directory.dir.checksumSeed);
      }
      expect(await directory.find(0, "x")).toBe(INDEX_UNUSABLE);
      expect(directory.test.warnings[0]).toMatch(/^directory 12: its index is damaged/);
    });
  }

  it("gives up on a hole", async () => {
    const { root, test } = indexedDirectory();
    root(0, [[0, 3]]);
    const sb = test.core.sb;
    const dir = inodeWith(sb, { mode: S_IFDIR, size: 12 * 1024, flags: INDEX_FL, iBlock: [500] });
    const find = (): number => htreeLookup(test.core, dir, 12, wantedAt(0, "x"));
    expect(await test.core.metadata.run(find)).toBe(INDEX_UNUSABLE);
    expect(test.warnings[0]).toContain("block 3 is a hole");
  });

  it("says where the index leads out of the directory", async () => {
    const { root, find, test } = indexedDirectory();
    root(0, [[0, 12]]);
    await find(0, "x");
    expect(test.warnings[0]).toMatch(/block 12 is past the end$/);
  });

  it("passes a wrong checksum on, of root, node and leaf", async () => {
    for (const [fileBlock, at] of [
      [0, 0x24],
      [1, 0x0c],
      [2, 0x10],
    ] as const) {
      const { root, node, leaf, find, test } = indexedDirectory();
      root(1, [[0, 1]]);
      node(1, [[0, 2]]);
      leaf(2, "x");
      test.block(ROOT_BLOCK + fileBlock)[at]! ^= 1;
      await expect(find(0, "x")).rejects.toMatchObject({ code: "EBADMSG" });
    }
  });

  it("passes damage of a leaf on", async () => {
    const sb = superblockWith([SB.s_feature_ro_compat, 0x6b]); // no checksums
    const test = makeTestCore(sb);
    const dir = inodeWith(sb, { mode: S_IFDIR, size: 2048, flags: INDEX_FL, iBlock: [500, 501] });
    const root = { version: 1, levels: 0, entries: [[0, 1]] } as const;
    putDxRoot(test.block(500), { ino: 12, parent: 2 }, root);
    const find = (): number => htreeLookup(test.core, dir, 2, wantedAt(0, "x"));
    const finding = async (): Promise<number> => test.core.metadata.run(find);
    await expect(finding()).rejects.toMatchObject({ code: "EUCLEAN" });
  });
});
