/**
 * Fast commits on a writable open: what they changed is there for good, all of it or nothing. Cases
 * J70 to J80 on real file systems.
 */
import { beforeAll, describe, expect, test } from "vitest";
import type { Volume } from "../../../src/front/volume.ts";
import { JSB } from "../../../src/fs/ext/jbd2-superblock.ts";
import { be32 } from "../../../src/lib/bytes.ts";
import { realClock } from "../../../src/lib/clock.ts";
import { Random } from "../../../src/lib/random.ts";
import { SimDisk } from "../../../src/store/sim-disk.ts";
import {
  addRange,
  creat,
  delRange,
  FastCommitBuilder,
  inode,
  link,
  record,
  unlink,
} from "../../support/fast-commit-builder.ts";
import {
  BLOCK_BYTES,
  expectClean,
  FAST_BLOCKS,
  FastImage,
  FREE_FROM,
  JOURNAL_BLOCKS,
  open,
} from "../../support/fast-image.ts";

const NEW = 40;
const DIRECTORY = { mode: 0o40755, links: 2, size: BLOCK_BYTES };
let image: FastImage;
beforeAll(async () => {
  image = await FastImage.make();
});

function builder(tid = 7): FastCommitBuilder {
  return new FastCommitBuilder(tid, { blockBytes: BLOCK_BYTES });
}

/** A file is made and written, another comes and goes, the first gets a name and is cut. */
function fiveCommits(): FastCommitBuilder {
  const { d } = image.inos;
  return builder()
    .add(inode(NEW), addRange(NEW, 0, 8, FREE_FROM), creat(d, NEW, "fcA"))
    .add(inode(NEW, { size: 8192 }))
    .commit()
    .add(inode(41), addRange(41, 0, 1, FREE_FROM + 20), creat(d, 41, "fcB"), inode(41, { size: 9 }))
    .commit()
    .add(link(d, NEW, "fcA2"), unlink(d, 41, "fcB"))
    .add(addRange(NEW, 8, 1, FREE_FROM + 8), delRange(NEW, 9, 0x7fff_ffff))
    .add(delRange(NEW, 0x8000_0008, 0x7fff_fff7), inode(NEW, { size: 8292, links: 2 }))
    .commit();
}

/** Names with sizes and link counts below `/d`, and what is in the files. */
async function treeOf({ fs }: Volume): Promise<Record<string, string>> {
  const tree: Record<string, string> = {};
  for (const path of (await fs.readdir("/d", { recursive: true })).sort()) {
    const { size, nlink, blocks, ino } = await fs.stat(`/d/${path}`);
    const what = (await fs.stat(`/d/${path}`)).isDirectory() ? "dir" : `${size} bytes`;
    tree[path as string] = `${ino}: ${what}, ${nlink} links, ${blocks} sectors`;
  }
  return tree;
}

const HOME: Record<string, string> = {
  f1: "13: 3000 bytes, 1 links, 6 sectors",
  f2: "14: 300 bytes, 1 links, 2 sectors",
};
const AFTER_FIVE: Record<string, string> = {
  ...HOME,
  fcA: "40: 8292 bytes, 2 links, 18 sectors",
  fcA2: "40: 8292 bytes, 2 links, 18 sectors",
};

/** Recovers `bytes`, whose tree is then as wanted and which is clean. */
async function expectTree(bytes: Uint8Array, wanted: Record<string, string>): Promise<void> {
  expect(await open(bytes, treeOf)).toEqual(wanted);
  await expectClean(bytes);
}

async function expectRefusal(area: FastCommitBuilder, code: string): Promise<void> {
  const bytes = image.craft(area);
  const before = bytes.slice();
  await expect(open(bytes, treeOf)).rejects.toMatchObject({ code });
  expect(Buffer.compare(bytes, before)).toBe(0);
}

/** The journal superblock. */
function journalOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(image.placeOf(0) * BLOCK_BYTES);
}

describe("fast commits on a writable open", () => {
  test("J70 are there for good: names, links, sizes, data, counts of what is free", async () => {
    const bytes = image.craft(fiveCommits());
    bytes.fill(0x41, FREE_FROM * BLOCK_BYTES, (FREE_FROM + 9) * BLOCK_BYTES);
    await expectTree(bytes, AFTER_FIVE);
    const content = await open(bytes, ({ fs }) => fs.readFile("/d/fcA2", "latin1"));
    expect(content).toBe("A".repeat(8292));
    expect(be32(journalOf(bytes), JSB.s_start)).toBe(0);
    // Transaction 7 was written to hold them, 8 is never used, and no fast commit is left.
    expect(be32(journalOf(bytes), JSB.s_sequence)).toBeGreaterThan(8);
    const first = image.placeOf(JOURNAL_BLOCKS - FAST_BLOCKS + 1) * BLOCK_BYTES;
    expect(bytes.subarray(first, first + BLOCK_BYTES).every((byte) => byte === 0)).toBe(true);
  });

  test("J71 those of a transaction that was committed since are old", async () => {
    await expectTree(image.craft(fiveCommits(), 7), HOME);
    await expectTree(image.craft(undefined), HOME);
  });

  test.each([
    [1, ["f1", "f2", "fcA"]],
    [2, ["f1", "f2", "fcA", "fcB"]],
  ])("J72 a wrong checksum in fast commit %s (from 0) ends them before it", async (bad, names) => {
    const area = fiveCommits();
    area.blocks[bad]![30]! ^= 1;
    const bytes = image.craft(area);
    expect(Object.keys(await open(bytes, treeOf))).toEqual(names);
    await expectClean(bytes);
  });

  test("J73 a wrong checksum in the first refuses before anything is written", async () => {
    const area = fiveCommits();
    area.blocks[0]![30]! ^= 1;
    await expectRefusal(area, "EBADMSG");
  });

  test("J74 features in HEAD are refused before anything is written", async () => {
    const area = new FastCommitBuilder(7, { blockBytes: BLOCK_BYTES, features: 1 });
    await expectRefusal(area.add(inode(NEW)).commit(), "EOPNOTSUPP");
  });

  test("J75 an unknown tag in the second ends them before it", async () => {
    const area = fiveCommits();
    area.blocks[1]!.set(record(77, new Uint8Array(8)));
    const bytes = image.craft(area);
    expect(Object.keys(await open(bytes, treeOf))).toEqual(["f1", "f2", "fcA"]);
    await expectClean(bytes);
  });

  test("J76 many names over several blocks, one of 255 bytes, in a directory that grows", async () => {
    const { d } = image.inos;
    const area = builder();
    for (let ino = 100; ino < 130; ino++) {
      area.add(inode(ino, { size: 0 }), creat(d, ino, `${"n".repeat(40)}${ino}`));
    }
    area.add(inode(130), creat(d, 130, "x".repeat(255))).commit();
    expect(area.blocks.length).toBeGreaterThan(4);
    const bytes = image.craft(area);
    const tree = await open(bytes, treeOf);
    expect(Object.keys(tree)).toHaveLength(33);
    expect(tree["x".repeat(255)]).toBe("130: 0 bytes, 1 links, 0 sectors");
    await expectClean(bytes);
  });

  test("J77 ranges up to 2^32 - 1 are cut, unwritten ones read as zeros", async () => {
    const { f1, f2 } = image.inos;
    const area = builder()
      .add(delRange(f1, 1, 0x7fff_ffff), delRange(f1, 0x8000_0000, 0x7fff_ffff))
      .add(inode(f1, { size: 900 }))
      .add(addRange(f2, 0, 0x8002, FREE_FROM), inode(f2, { size: 2000 }))
      .commit();
    const bytes = image.craft(area);
    await expectTree(bytes, {
      f1: "13: 900 bytes, 1 links, 2 sectors",
      f2: "14: 2000 bytes, 1 links, 4 sectors",
    });
    const content = await open(bytes, ({ fs }) => fs.readFile("/d/f2"));
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  test("J77 a part of a file that moves gives its old blocks back", async () => {
    const { f1 } = image.inos;
    const area = builder()
      .add(addRange(f1, 1, 1, FREE_FROM), inode(f1, { size: 3000 }))
      .commit();
    const bytes = image.craft(area);
    bytes.fill(0x4d, FREE_FROM * BLOCK_BYTES, (FREE_FROM + 1) * BLOCK_BYTES);
    await expectTree(bytes, HOME);
    const content = await open(bytes, ({ fs }) => fs.readFile("/d/f1", "latin1"));
    expect(content).toBe(`${"1".repeat(1024)}${"M".repeat(1024)}${"1".repeat(952)}`);
  });

  test("J77 what is outside the file system is refused before anything is written", async () => {
    const { f1 } = image.inos;
    await expectRefusal(
      builder()
        .add(addRange(f1, 0, 1, 9000))
        .commit(),
      "EUCLEAN",
    );
    await expectRefusal(builder().add(inode(0x7fff_ffff)).commit(), "EUCLEAN");
  });

  test("J78 what is already so changes nothing", async () => {
    const once = image.craft(fiveCommits());
    expect(await open(once, treeOf)).toEqual(AFTER_FIVE);
    await expectTree(image.craft(fiveCommits(), 6, once), AFTER_FIVE);
  });

  test("J78 a number that was another file's before leaves nothing of that", async () => {
    const { d, f1 } = image.inos;
    const area = builder()
      .add(unlink(d, f1, "f1"))
      .commit()
      .add(inode(f1), addRange(f1, 0, 1, FREE_FROM), creat(d, f1, "new"), inode(f1, { size: 7 }))
      .commit();
    const tree = { new: "13: 7 bytes, 1 links, 2 sectors", f2: HOME["f2"]! };
    await expectTree(image.craft(area), tree);
  });

  test("J79 nodes and directory blocks are never put on blocks that records name", async () => {
    const { d } = image.inos;
    const area = builder().add(inode(NEW), creat(d, NEW, "many"));
    // All that is free where the allocator looks first, every other block.
    for (let block = 0; block < 300; block++) area.add(addRange(NEW, 2 * block, 1, 1700 + block));
    const bytes = image.craft(area.add(inode(NEW, { size: 600 * BLOCK_BYTES })).commit());
    await expectTree(bytes, {
      ...HOME,
      many: "40: 614400 bytes, 1 links, 608 sectors",
    });
  });

  test("directories that were made are counted, with their names and their parents", async () => {
    const { d } = image.inos;
    const area = builder()
      .add(inode(NEW, DIRECTORY), creat(d, NEW, "sub"))
      .add(inode(41, DIRECTORY), creat(NEW, 41, "subsub"))
      .add(inode(42), creat(41, 42, "in"), inode(42, { size: 0 }))
      .commit();
    const bytes = image.craft(area);
    await expectTree(bytes, {
      ...HOME,
      sub: "40: dir, 3 links, 2 sectors",
      "sub/subsub": "41: dir, 2 links, 2 sectors",
      "sub/subsub/in": "42: 0 bytes, 1 links, 0 sectors",
    });
    const gone = builder(6)
      .add(unlink(41, 42, "in"), unlink(NEW, 41, "subsub"))
      .commit();
    const again = image.craft(gone, 5, bytes);
    await expectTree(again, { ...HOME, sub: "40: dir, 2 links, 2 sectors" });
  });

  test("a name that a rename gave to another file leads to that", async () => {
    const { d, f1, f2 } = image.inos;
    const area = builder()
      .add(unlink(d, f2, "f2"), link(d, f1, "f2"), unlink(d, f1, "f1"))
      .add(inode(f1, { size: 3000 }))
      .commit();
    await expectTree(image.craft(area), { f2: HOME["f1"]! });
  });

  test("J80 are no feature of the log any more once we write it, to its last block", async () => {
    const bytes = image.craft(fiveCommits());
    const names = await open(bytes, async (volume) => {
      const { fs } = volume;
      for (let round = 0; round < 12; round++) {
        for (let at = 0; at < 120; at++) await fs.writeFile(`/r${round}-${at}`, "x");
        await volume.sync();
      }
      const incompat = be32(journalOf(bytes), JSB.s_feature_incompat);
      expect(incompat & 0x20).toBe(0);
      return fs.readdir("/");
    });
    expect(names.length).toBeGreaterThan(12 * 120);
    await expectClean(bytes);
    const last = image.placeOf(JOURNAL_BLOCKS - 1) * BLOCK_BYTES;
    const area = image.placeOf(JOURNAL_BLOCKS - FAST_BLOCKS) * BLOCK_BYTES;
    const isUsed = bytes.subarray(area, last + BLOCK_BYTES).some((byte) => byte !== 0);
    expect(isUsed).toBe(true);
  });

  test("a recovery that is cut anywhere is repeated, and comes to the same", async () => {
    const before = image.craft(fiveCommits());
    const random = new Random(20);
    const disk = new SimDisk(before, { clock: realClock, random, latencyMs: () => 0 });
    const cuts: SimDisk[] = [];
    const { write, flush } = disk;
    const cut = (): void => void (cuts.length < 60 && cuts.push(disk.crash()));
    disk.write = (...args) => write.apply(disk, args).finally(cut);
    disk.flush = (...args) => flush.apply(disk, args).finally(cut);
    expect(await open(disk, treeOf)).toEqual(AFTER_FIVE);
    expect(cuts.length).toBeGreaterThan(10);
    for (const [index, disk] of cuts.entries()) {
      const bytes = disk.durableImage();
      expect(await open(bytes, treeOf), `cut ${index}`).toEqual(AFTER_FIVE);
      await expectClean(bytes);
    }
  });
});
