/**
 * Images made to catch a reader out: cycles, bombs and structures that contradict each other.
 *
 * Each starts from a healthy image of `hostile-images.ts` without checksums, so that nothing but
 * the structure itself can give it away.
 */
import { EXTENTS_FL, INODE, S_IFDIR, SB } from "../../src/fs/ext/layout.ts";
import { le16, le32, putLe16, putLe32 } from "../../src/lib/bytes.ts";
import { KIB } from "../../src/lib/units.ts";
import { type Record as DirRecord, putDirBlock, putRecord } from "./ext-names.ts";
import type { ImagePatch } from "./hostile-patch.ts";

/** One crafted image. */
export interface CraftedCase {
  readonly name: string;
  readonly base: "ext2" | "ext2-4k" | "ext4-nosum";
  /** A code that must be among those of the verdict; "answer" where none must be. */
  readonly expect: "EUCLEAN" | "ELOOP" | "EFBIG" | "answer";
  readonly craft: (patch: ImagePatch) => void;
}

const IND = 12;
const DIND = 13;
const TIND = 14;
const FT_FILE = 1;
const FT_DIR = 2;
const SIZE_16_GIB_HIGH = 4;

/** Blocks of the file "large", which are free to be used for anything. */
function spareBlocks(patch: ImagePatch): number[] {
  return patch.placesOf("content", "large").map((place) => patch.blockOf(place));
}

/** Makes the inode of an empty file a directory in these blocks, all of one size. */
function makeDirectory(patch: ImagePatch, ino: number, blocks: readonly number[]): void {
  const raw = patch.inode(ino);
  putLe16(raw, INODE.i_mode, S_IFDIR | 0o755);
  putLe16(raw, INODE.i_links_count, 2);
  putLe32(raw, INODE.i_flags, 0);
  putLe32(raw, INODE.i_size_lo, blocks.length * KIB);
  raw.fill(0, INODE.i_block, INODE.i_block + 60);
  for (const [index, blocknr] of blocks.entries()) patch.putPointer(ino, index, blocknr);
}

/** Inodes of the 150 empty files in "indexed", by number. */
function emptyInodes(patch: ImagePatch): number[] {
  return [...patch.inos].filter(([path]) => path.startsWith("indexed/")).map(([, ino]) => ino);
}

/** Replaces the content of the directory behind `path`, which has one block. */
function setEntries(patch: ImagePatch, path: string, records: readonly DirRecord[]): void {
  const ino = patch.ino(path);
  const blocknr = spareBlocks(patch).at(-1)!;
  putDirBlock(patch.block(blocknr), [[ino, ".", FT_DIR], [2, "..", FT_DIR], ...records]);
  makeDirectory(patch, ino, [blocknr]);
}

/**
 * Gives `path` the size of `sizeHigh` times 4 GiB and a tree of pointers of one block in a
 * circle.
 */
function putPointerCircle(patch: ImagePatch, slot: number, word: (at: number) => number): void {
  const blocknr = spareBlocks(patch)[0]!;
  const raw = patch.inode("small");
  putLe32(raw, INODE.i_size_lo, 0);
  putLe32(raw, INODE.i_size_high, SIZE_16_GIB_HIGH);
  raw.fill(0, INODE.i_block, INODE.i_block + 60);
  patch.putPointer("small", slot, blocknr);
  fillPointers(patch, blocknr, word);
}

function fillPointers(patch: ImagePatch, blocknr: number, word: (at: number) => number): void {
  const block = patch.block(blocknr);
  for (let at = 0; 4 * at < block.length; at++) putLe32(block, 4 * at, word(at));
}

/** All pointers of a tree lead to the block that they are in. */
function selfPointing(slot: number): (patch: ImagePatch) => void {
  return (patch) => {
    const self = spareBlocks(patch)[0]!;
    putPointerCircle(patch, slot, () => self);
  };
}

/** A chain of directories, each with two names for the next one. */
function doublingChain(patch: ImagePatch): void {
  const inos = emptyInodes(patch).slice(0, 40);
  const blocks = spareBlocks(patch);
  for (const [index, ino] of inos.entries()) {
    const next = inos[index + 1];
    const names: DirRecord[] =
      next === undefined
        ? []
        : [
            [next, "x", FT_DIR],
            [next, "y", FT_DIR],
          ];
    putDirBlock(patch.block(blocks[index]!), [[ino, ".", FT_DIR], [2, "..", FT_DIR], ...names]);
    makeDirectory(patch, ino, [blocks[index]!]);
  }
  setEntries(patch, "a/b", [[inos[0]!, "start", FT_DIR]]);
}

/** Directories that all have the same block, which names all of them. */
function everyoneInEveryone(patch: ImagePatch): void {
  const inos = emptyInodes(patch).slice(0, 40);
  const block = spareBlocks(patch)[0]!;
  putDirBlock(
    patch.block(block),
    inos.map((ino, index): DirRecord => [ino, `d${index}`, FT_DIR]),
  );
  for (const ino of inos) makeDirectory(patch, ino, [block]);
  setEntries(patch, "a/b", [[inos[0]!, "start", FT_DIR]]);
}

/** Many directories over the same many blocks full of names of one file. */
function sharedCrowd(patch: ImagePatch): void {
  const inos = emptyInodes(patch).slice(0, 120);
  const blocks = spareBlocks(patch).slice(30, 130);
  const pointers = spareBlocks(patch)[140]!;
  const file = patch.ino("middle");
  for (const [index, blocknr] of blocks.entries()) {
    const names = Array.from(
      { length: 50 },
      (_, at): DirRecord => [file, `${index}-${at}`, FT_FILE],
    );
    putDirBlock(patch.block(blocknr), names);
  }
  for (const [at, blocknr] of blocks.entries()) putLe32(patch.block(pointers), 4 * at, blocknr);
  for (const ino of inos) {
    makeDirectory(patch, ino, blocks.slice(0, 12));
    putLe32(patch.inode(ino), INODE.i_size_lo, 112 * KIB);
    patch.putPointer(ino, IND, pointers);
  }
  const top = spareBlocks(patch).slice(20, 28);
  for (const [index, blocknr] of top.entries()) {
    const part = inos.slice(index * 15, (index + 1) * 15);
    putDirBlock(
      patch.block(blocknr),
      part.map((ino, at): DirRecord => [ino, `dir${index}-${at}`, FT_DIR]),
    );
  }
  makeDirectory(patch, patch.ino("a/b"), top);
}

/**
 * A directory of as many blocks as possible, each on its own: every lookup reads them one by one.
 */
function scatteredDirectory(patch: ImagePatch): void {
  const blocks = spareBlocks(patch);
  const odd = blocks.filter((_, index) => index % 2 === 1).slice(0, 100);
  const even = blocks.filter((_, index) => index % 2 === 0);
  for (const blocknr of odd) putDirBlock(patch.block(blocknr), []);
  const pointers = even[0]!;
  makeDirectory(patch, patch.ino("a/b"), []);
  putLe32(patch.inode("a/b"), INODE.i_size_lo, (12 + odd.length) * KIB);
  patch.putPointer("a/b", IND, pointers);
  patch.block(pointers).fill(0);
  for (const [at, blocknr] of odd.entries()) putLe32(patch.block(pointers), 4 * at, blocknr);
}

const ON_BLOCK_MAPS: readonly CraftedCase[] = [
  {
    name: "an indirect block that leads to itself",
    base: "ext2",
    expect: "answer",
    craft: selfPointing(IND),
  },
  {
    name: "a double indirect block that leads to itself",
    base: "ext2",
    expect: "EUCLEAN",
    craft: selfPointing(DIND),
  },
  {
    name: "a triple indirect block that leads to itself",
    base: "ext2",
    expect: "EUCLEAN",
    craft: selfPointing(TIND),
  },
  {
    name: "a triple indirect circle that maps every second block",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => {
      const self = spareBlocks(patch)[0]!;
      putPointerCircle(patch, TIND, (at) => (at % 2 === 0 ? self : 0));
    },
  },
  {
    name: "a triple indirect tree of a million holes, in three blocks",
    base: "ext2-4k",
    expect: "EUCLEAN",
    craft: (patch) => {
      const [, second, third] = spareBlocks(patch);
      putPointerCircle(patch, TIND, () => second!);
      putLe32(patch.inode("small"), INODE.i_size_high, 0x3ff);
      fillPointers(patch, second!, () => third!);
      patch.block(third!).fill(0);
    },
  },
  {
    name: "a triple indirect tree with one block in each of its holes",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => {
      const [, second, third, data] = spareBlocks(patch);
      putPointerCircle(patch, TIND, () => second!);
      fillPointers(patch, second!, () => third!);
      patch.block(third!).fill(0);
      putLe32(patch.block(third!), 4 * 100, data!);
    },
  },
  {
    name: "an indirect block that is the inode table",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => {
      putLe32(
        patch.inode("large"),
        INODE.i_block + 4 * IND,
        patch.blockOf(patch.placesOf("inode")[0]!),
      );
    },
  },
  {
    name: "a file whose size no pointer reaches",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.inode("small"), INODE.i_size_high, 0x10000),
  },
  {
    name: "a size of 2^63",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.inode("small"), INODE.i_size_high, 0x80000000),
  },
  {
    name: "an orphan list in a circle",
    base: "ext2",
    expect: "answer",
    craft: (patch) => {
      putLe32(patch.superblock, SB.s_last_orphan, patch.ino("small"));
      putLe32(patch.inode("small"), INODE.i_dtime, patch.ino("middle"));
      putLe32(patch.inode("middle"), INODE.i_dtime, patch.ino("small"));
    },
  },
];

/** The block of the first index root, and a spare index node. */
function indexBlocks(patch: ImagePatch): { readonly root: Uint8Array; readonly count: number } {
  const place = patch.placesOf("index", "indexed")[0]!;
  const root = patch.view(place);
  return { root, count: le16(root, 0x22) };
}

const ON_DIRECTORIES: readonly CraftedCase[] = [
  {
    name: "a directory that contains itself",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => setEntries(patch, "a/b", [[patch.ino("a/b"), "me", FT_DIR]]),
  },
  {
    name: "a directory that contains its parent",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => setEntries(patch, "a/b", [[patch.ino("a"), "parent", FT_DIR]]),
  },
  {
    name: "a directory that contains the root",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => setEntries(patch, "a/b", [[2, "root", FT_DIR]]),
  },
  {
    name: "a directory with two names",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => {
      const child = patch.ino("a/b/c");
      setEntries(patch, "a/b", [
        [child, "one", FT_DIR],
        [child, "two", FT_DIR],
      ]);
    },
  },
  {
    name: "40 directories that each hold two names of the next",
    base: "ext2",
    expect: "EUCLEAN",
    craft: doublingChain,
  },
  {
    name: "40 directories that all hold all of them",
    base: "ext2",
    expect: "EUCLEAN",
    craft: everyoneInEveryone,
  },
  {
    name: "120 directories over the same blocks",
    base: "ext2",
    expect: "EUCLEAN",
    craft: sharedCrowd,
  },
  { name: "a scattered directory", base: "ext2", expect: "answer", craft: scatteredDirectory },
  {
    name: "a directory larger than the image",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.inode("a/b"), INODE.i_size_lo, 0x4000_0000),
  },
  {
    name: "a directory that is all hole",
    base: "ext2",
    expect: "answer",
    craft: (patch) => {
      makeDirectory(patch, patch.ino("a/b"), []);
      putLe32(patch.inode("a/b"), INODE.i_size_lo, 1000 * KIB);
    },
  },
  {
    name: "a directory whose blocks are all the same",
    base: "ext2",
    expect: "answer",
    craft: (patch) => {
      const [block] = spareBlocks(patch);
      putDirBlock(patch.block(block!), [[patch.ino("small"), "again", FT_FILE]]);
      makeDirectory(patch, patch.ino("a/b"), new Array<number>(12).fill(block!));
    },
  },
  {
    name: "a name with a slash",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => setEntries(patch, "a/b", [[patch.ino("small"), "../../evil", FT_FILE]]),
  },
  {
    name: "a name that leads to the journal's inode",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => setEntries(patch, "a/b", [[8, "journal", FT_FILE]]),
  },
  {
    name: "records that do not move on",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe16(patch.view(patch.placesOf("directory", "a")[0]!), 4, 0),
  },
  {
    name: "an index root that leads to itself",
    base: "ext2",
    expect: "answer",
    craft: (patch) => {
      const { root, count } = indexBlocks(patch);
      for (let at = 0; at < count; at++) putLe32(root, 0x20 + 8 * at + 4, 0);
    },
  },
  {
    name: "an index whose levels lead to its root",
    base: "ext2",
    expect: "answer",
    craft: (patch) => {
      const { root } = indexBlocks(patch);
      root[0x1e] = 1;
      putLe32(root, 0x24, 0);
    },
  },
  {
    name: "an index whose entries all have one hash and one leaf",
    base: "ext2",
    expect: "answer",
    craft: (patch) => {
      const { root } = indexBlocks(patch);
      const limit = le16(root, 0x20);
      putLe16(root, 0x22, limit);
      for (let at = 1; at < limit; at++) {
        putLe32(root, 0x20 + 8 * at, 1);
        putLe32(root, 0x20 + 8 * at + 4, 1);
      }
    },
  },
  {
    name: "symlinks that lead to one another",
    base: "ext2",
    expect: "ELOOP",
    craft: (patch) => {
      const raw = patch.inode("short-link");
      const target = new TextEncoder().encode("/short-link");
      raw.fill(0, INODE.i_block, INODE.i_block + 60);
      raw.set(target, INODE.i_block);
      putLe32(raw, INODE.i_size_lo, target.length);
    },
  },
];

/** A node of an extent tree. */
function putNode(node: Uint8Array, depth: number, entries: readonly (readonly number[])[]): void {
  node.fill(0);
  putLe16(node, 0, 0xf30a);
  putLe16(node, 2, entries.length);
  putLe16(node, 4, Math.floor(node.length / 12) - 1);
  putLe16(node, 6, depth);
  for (const [index, [fileBlock = 0, blocknr = 0, count = 0]] of entries.entries()) {
    const at = 12 * (index + 1);
    putLe32(node, at, fileBlock);
    if (depth > 0) putLe32(node, at + 4, blocknr);
    else {
      putLe16(node, at + 4, count);
      putLe32(node, at + 8, blocknr);
    }
  }
}

/** The root of the extent tree of "small", which becomes a file of 16 GiB. */
function rootOf(patch: ImagePatch): Uint8Array {
  const raw = patch.inode("small");
  putLe32(raw, INODE.i_flags, EXTENTS_FL);
  putLe32(raw, INODE.i_size_lo, 0);
  putLe32(raw, INODE.i_size_high, SIZE_16_GIB_HIGH);
  return raw.subarray(INODE.i_block, INODE.i_block + 60);
}

function extentsCase(
  name: string,
  expect: CraftedCase["expect"],
  craft: (patch: ImagePatch, root: Uint8Array, spare: readonly number[]) => void,
): CraftedCase {
  return {
    name,
    base: "ext4-nosum",
    expect,
    craft: (patch) => craft(patch, rootOf(patch), spareBlocks(patch)),
  };
}

const ON_EXTENTS: readonly CraftedCase[] = [
  extentsCase("an extent node that leads to itself", "EUCLEAN", (patch, root, [block]) => {
    putNode(root, 2, [[0, block!]]);
    putNode(patch.block(block!), 1, [[0, block!]]);
  }),
  extentsCase("two extent nodes that lead to each other", "EUCLEAN", (patch, root, [a, b]) => {
    putNode(root, 5, [[0, a!]]);
    putNode(patch.block(a!), 4, [[0, b!]]);
    putNode(patch.block(b!), 3, [[0, a!]]);
  }),
  extentsCase("an extent tree deeper than any", "EUCLEAN", (_patch, root, [block]) => {
    putNode(root, 6, [[0, block!]]);
  }),
  extentsCase("extent indexes that share a leaf", "EUCLEAN", (patch, root, [leaf, data]) => {
    putNode(root, 1, [
      [0, leaf!],
      [100, leaf!],
      [200, leaf!],
    ]);
    putNode(patch.block(leaf!), 0, [[0, data!, 1]]);
  }),
  extentsCase("extent indexes that share an empty leaf", "answer", (patch, root, spare) => {
    const [node, leaf] = spare;
    putNode(root, 2, [[0, node!]]);
    const entries = Array.from({ length: 84 }, (_, at) => [at * 1000, leaf!]);
    putNode(patch.block(node!), 1, entries);
    putNode(patch.block(leaf!), 0, []);
  }),
  extentsCase("extents that overlap", "EUCLEAN", (_patch, root, [data]) => {
    putNode(root, 0, [
      [0, data!, 8],
      [4, data!, 8],
    ]);
  }),
  extentsCase("extents over one block, thousands of times", "EUCLEAN", (patch, root, spare) => {
    const leaves = spare.slice(1, 40);
    putNode(root, 2, [[0, spare[0]!]]);
    putNode(
      patch.block(spare[0]!),
      1,
      leaves.map((leaf, at) => [at * 1000, leaf]),
    );
    for (const [index, leaf] of leaves.entries()) {
      const entries = Array.from({ length: 84 }, (_, at) => [index * 1000 + 2 * at, spare[50]!, 1]);
      putNode(patch.block(leaf), 0, entries);
    }
  }),
  extentsCase("an extent of no blocks", "EUCLEAN", (_patch, root, [data]) => {
    putNode(root, 0, [[0, data!, 0]]);
  }),
  extentsCase("an extent behind the last file block", "EUCLEAN", (_patch, root, [data]) => {
    putNode(root, 0, [[0xffff_ffff, data!, 2]]);
  }),
  extentsCase("an extent over the superblock", "EUCLEAN", (_patch, root) => {
    putNode(root, 0, [[0, 1, 1]]);
  }),
  extentsCase("a file of 2^52 bytes", "EFBIG", (patch, root) => {
    putNode(root, 0, []);
    putLe32(patch.inode("small"), INODE.i_size_high, 0x10_0000);
  }),
  extentsCase("a file of 2^44 bytes without a block", "answer", (patch, root) => {
    putNode(root, 0, []);
    putLe32(patch.inode("small"), INODE.i_size_high, 0x1000);
  }),
  extentsCase(
    "a directory whose extents are nodes of themselves",
    "EUCLEAN",
    (patch, _root, [a]) => {
      const raw = patch.inode("a/b");
      putLe32(raw, INODE.i_flags, EXTENTS_FL);
      putLe32(raw, INODE.i_size_lo, KIB);
      putNode(raw.subarray(INODE.i_block, INODE.i_block + 60), 1, [[0, a!]]);
      putNode(patch.block(a!), 0, [[0, a!, 1]]);
    },
  ),
];

/** The xattr block of "attributes" and where its entries begin. */
function xattrBlock(patch: ImagePatch): Uint8Array {
  const place = patch.placesOf("xattrs", "attributes")[0];
  if (place === undefined) throw new Error("the image has no xattr block");
  return patch.view(place);
}

const ON_XATTRS: readonly CraftedCase[] = [
  {
    name: "an xattr block that is a directory",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => {
      const place = patch.placesOf("directory", "a")[0]!;
      putLe32(patch.inode("attributes"), INODE.i_file_acl_lo, patch.blockOf(place));
    },
  },
  {
    name: "an xattr list that does not end",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => xattrBlock(patch).fill(1, 0x20),
  },
  {
    name: "xattr values that lie over their own names",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe16(xattrBlock(patch), 0x22, 0x20),
  },
  {
    name: "an xattr value in the inode that it belongs to",
    base: "ext4-nosum",
    expect: "EUCLEAN",
    craft: (patch) => {
      const block = xattrBlock(patch);
      putLe32(block, 0x24, patch.ino("attributes"));
    },
  },
  {
    name: "an xattr value in an inode whose attributes lead back",
    base: "ext4-nosum",
    expect: "EUCLEAN",
    craft: (patch) => {
      const block = patch.blockOf(patch.placesOf("xattrs", "attributes")[0]!);
      putLe32(patch.inode("middle"), INODE.i_file_acl_lo, block);
      putLe32(patch.block(block), 0x24, patch.ino("middle"));
    },
  },
];

const ON_THE_WHOLE: readonly CraftedCase[] = [
  {
    name: "an inode table over the superblock",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.view(patch.placesOf("descriptors")[0]!), 8, 1),
  },
  {
    name: "an inode table over the directories",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => {
      const root = patch.blockOf(patch.placesOf("directory", ".")[0]!);
      putLe32(patch.view(patch.placesOf("descriptors")[0]!), 8, root);
    },
  },
  {
    name: "groups of eight blocks",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.superblock, SB.s_blocks_per_group, 8),
  },
  {
    name: "2^32 inodes",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.superblock, SB.s_inodes_count, 0xffff_ffff),
  },
  {
    name: "2^32 blocks",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.superblock, SB.s_blocks_count_lo, 0xffff_ffff),
  },
  {
    name: "2^62 blocks of 64 bits",
    base: "ext4-nosum",
    expect: "EUCLEAN",
    craft: (patch) => putLe32(patch.superblock, SB.s_blocks_count_hi, 0x4000_0000),
  },
  {
    name: "a root that is a file",
    base: "ext2",
    expect: "EUCLEAN",
    craft: (patch) => putLe16(patch.inode(2), INODE.i_mode, 0o100644),
  },
  {
    name: "inline data that says it is longer than the inode",
    base: "ext4-nosum",
    expect: "answer",
    craft: (patch) => putLe32(patch.inode("middle"), INODE.i_size_high, 0xfff),
  },
  {
    name: "a record longer than its block",
    base: "ext4-nosum",
    expect: "EUCLEAN",
    craft: (patch) => {
      const view = patch.view(patch.placesOf("directory", "indexed")[0]!);
      const name = new TextDecoder().decode(view.subarray(8, 8 + view[6]!));
      putRecord(view, 0, 0xfffc, [le32(view, 0), name]);
    },
  },
];

export const CRAFTED: readonly CraftedCase[] = [
  ...ON_BLOCK_MAPS,
  ...ON_DIRECTORIES,
  ...ON_EXTENTS,
  ...ON_XATTRS,
  ...ON_THE_WHOLE,
];
