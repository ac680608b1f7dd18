/**
 * Healthy little images to be damaged: each has much of what ext2/3/4 can hold in few blocks.
 *
 *     tiny       a file, a directory, a symlink, attributes, in less than 128 KiB
 *     rich       deep extent trees or indirect blocks, an index, xattr blocks, large values,
 *     inline data
 *
 * Made by mke2fs with fixed identities, so that a case can be repeated by its number.
 */
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { superblockChecksum } from "../../src/fs/ext/checksum.ts";
import { INCOMPAT_RECOVER as RECOVER } from "../../src/fs/ext/features.ts";
import { SB } from "../../src/fs/ext/layout.ts";
import { le32, putLe32 } from "../../src/lib/bytes.ts";
import { KIB, MIB } from "../../src/lib/units.ts";
import {
  addRange,
  creat,
  delRange,
  FastCommitBuilder,
  inode as fastInode,
  link,
  unlink,
} from "./fast-commit-builder.ts";
import { type CopySpec, JournalBuilder } from "./journal-builder.ts";
import { runTool } from "./tools.ts";

const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const HASH_SEED = "a0a1a2a3-b0b1-c2c3-d0d1-e0e1e2e3e4e5";
const ENVIRONMENT = { E2FSPROGS_FAKE_TIME: "1700000000" };
const SPARSE_PIECES = 400;
const INDEXED_NAMES = 150;

/** A healthy image, and what it is called. */
export interface BaseImage {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Options of mke2fs for `rich` images, by name. */
export const RICH_FORMATS: ReadonlyMap<string, readonly string[]> = new Map([
  ["ext2", ["-t", "ext2", "-b", "1024", "-I", "128", "-O", "ext_attr,dir_index"]],
  ["ext2-4k", ["-t", "ext2", "-b", "4096", "-I", "128", "-O", "ext_attr,dir_index"]],
  [
    "ext4-nosum",
    ["-t", "ext4", "-b", "1024", "-O", "^has_journal,^metadata_csum,ea_inode,inline_data,64bit"],
  ],
  [
    "ext4-sum",
    ["-t", "ext4", "-b", "1024", "-O", "^has_journal,metadata_csum,ea_inode,inline_data,^64bit"],
  ],
  [
    "ext4-plain",
    [
      "-t",
      "ext4",
      "-b",
      "1024",
      "-O",
      "^has_journal,metadata_csum,^inline_data,meta_bg,^resize_inode",
    ],
  ],
  ["ext4-4k", ["-t", "ext4", "-b", "4096", "-O", "^has_journal,metadata_csum,64bit"]],
  [
    "bigalloc",
    ["-t", "ext4", "-b", "1024", "-C", "4096", "-O", "^has_journal,bigalloc,metadata_csum"],
  ],
]);

function makeImage(
  path: string,
  sizeBytes: number,
  source: string | undefined,
  args: readonly string[],
): void {
  const fixed = ["-q", "-F", "-U", UUID, "-E", `hash_seed=${HASH_SEED},root_owner=0:0`];
  const from = source === undefined ? [] : ["-d", source];
  writeFileSync(path, new Uint8Array(sizeBytes)); // All of it: mke2fs leaves the end out.
  const size = `${sizeBytes / KIB}k`;
  runTool("mke2fs", [...fixed, ...args, ...from, path, size], { env: ENVIRONMENT });
}

/** A tree that fits into 20 blocks. */
function makeTinyTree(path: string): string {
  mkdirSync(path);
  writeFileSync(join(path, "file"), "content of a file\n".repeat(100));
  mkdirSync(join(path, "directory"));
  writeFileSync(join(path, "directory", "inner"), "x");
  symlinkSync("directory/inner", join(path, "link"));
  symlinkSync("long/".repeat(20), join(path, "slow"));
  return path;
}

/** The tiny image of 64 KiB `name`, made in `directory` with these options of mke2fs. */
export function makeTiny(directory: string, name: string, args: readonly string[]): BaseImage {
  const path = join(directory, `${name}.img`);
  const source = makeTinyTree(join(directory, `${name}.tree`));
  makeImage(path, 64 * KIB, source, ["-b", "1024", "-N", "24", ...args]);
  const commands = ["ea_set /file user.colour blue", "ea_set /directory user.note hello", "quit"];
  runTool("debugfs", ["-w", path], { input: `${commands.join("\n")}\n`, env: ENVIRONMENT });
  return { name, bytes: new Uint8Array(readFileSync(path)) };
}

/**
 * A tree with something of every kind; pieces of `sparse` lie a block apart. Names in `indexed` are
 * files, or those of one file if `isLean`.
 */
function makeRichTree(path: string, blockBytes: number, isLean: boolean): string {
  mkdirSync(path);
  writeFileSync(join(path, "small"), "inline or not");
  writeFileSync(join(path, "middle"), "m".repeat(150));
  writeFileSync(join(path, "large"), Buffer.alloc(300 * KIB, "large "));
  const pieces = blockBytes > KIB ? 40 : SPARSE_PIECES;
  const sparse = openSync(join(path, "sparse"), "w");
  for (let piece = 0; piece < pieces; piece++) writeSync(sparse, "p", piece * 2 * blockBytes);
  closeSync(sparse);
  mkdirSync(join(path, "indexed"));
  for (let index = 0; index < INDEXED_NAMES; index++) {
    const name = join(path, "indexed", `${"name".repeat(6)}-${index}`);
    if (isLean) linkSync(join(path, "small"), name);
    else writeFileSync(name, "");
  }
  mkdirSync(join(path, "a/b/c"), { recursive: true });
  writeFileSync(join(path, "a/b/c/deep"), "deep");
  symlinkSync("a/b/c/deep", join(path, "short-link"));
  symlinkSync("far/".repeat(30), join(path, "long-link"));
  writeFileSync(join(path, "attributes"), "has xattrs");
  return path;
}

/**
 * The image of `RICH_FORMATS` called `name`. A lean one has few inodes, so that it is judged
 * quickly.
 */
export function makeRich(directory: string, name: string, isLean = false): BaseImage {
  const args = RICH_FORMATS.get(name)!;
  const blockBytes = Number(args[args.indexOf("-b") + 1]);
  const path = join(directory, `${name}.img`);
  const source = makeRichTree(join(directory, `${name}.tree`), blockBytes, isLean);
  makeImage(path, (blockBytes > KIB ? 4 : 2) * MIB, source, ["-N", "256", ...args]);
  const long = "v".repeat(300);
  const commands = [
    `ea_set /attributes user.long ${long}`,
    "ea_set /attributes user.short value",
    "ea_set /attributes trusted.other value",
    "ea_set /a user.on-directory yes",
    "mknod null c 1 3",
    "mknod pipe p",
    "quit",
  ];
  if (args.join().includes("ea_inode")) {
    writeFileSync(join(directory, "value"), Buffer.alloc(5000, "w"));
    commands.unshift(`ea_set -f ${join(directory, "value")} /attributes user.huge`);
  }
  runTool("debugfs", ["-w", path], { input: `${commands.join("\n")}\n`, env: ENVIRONMENT });
  // 1: it rebuilt directories, as it was told to.
  runTool("e2fsck", ["-f", "-y", "-D", path], { env: ENVIRONMENT, okCodes: [1] });
  return { name, bytes: new Uint8Array(readFileSync(path)) };
}

/** Where the log of an image with a crafted journal lies. */
export interface JournalImage extends BaseImage {
  /** Device block of each journal block. */
  readonly blocks: readonly number[];
  readonly log: JournalBuilder;
}

/**
 * A little image whose journal has two transactions with copies of what is at home, a revoke block
 * and a fast commit: replayed, it is as before, with one file more.
 */
export function makeJournalImage(directory: string, hasSums: boolean): JournalImage {
  const name = hasSums ? "journal-sum" : "journal-nosum";
  const path = join(directory, `${name}.img`);
  const source = makeTinyTree(join(directory, `${name}.tree`));
  const sums = hasSums ? "metadata_csum" : "^metadata_csum";
  const args = [
    "-t",
    "ext4",
    "-b",
    "1024",
    "-N",
    "32",
    "-J",
    "size=2",
    "-O",
    `${sums},has_journal`,
  ];
  makeImage(path, 8 * MIB, source, args);
  const listed = runTool("debugfs", ["-R", "blocks <8>", path], { env: ENVIRONMENT });
  const blocks = listed.trim().split(/\s+/).map(Number);
  const file = Number(/Inode: (\d+)/.exec(runTool("debugfs", ["-R", "stat /file", path]))![1]);
  const bytes = new Uint8Array(readFileSync(path));
  const home = (blocknr: number): CopySpec => {
    return { home: blocknr, data: bytes.slice(blocknr * KIB, (blocknr + 1) * KIB) };
  };
  const log = new JournalBuilder({
    blockBytes: KIB,
    blockCount: blocks.length,
    checksum: hasSums ? 3 : 0,
    fastCommitBlocks: 64,
  });
  const first = blocks[0]!;
  log.D(2, home(1), home(2), home(first - 1)).C(2);
  log
    .D(3, home(2), home(first - 2))
    .R(3, 5, 6, 7)
    .C(3);
  const fast = new FastCommitBuilder(4, { blockBytes: KIB });
  fast.add(
    fastInode(30, { size: KIB, links: 1 }),
    addRange(30, 0, 1, first - 3),
    creat(2, 30, "new"),
  );
  fast.add(delRange(file, 1, 1), link(2, file, "linked"), unlink(2, file, "linked")).commit();
  fast.writeTo(log);
  for (const [journalBlock, block] of log.blocks) bytes.set(block, blocks[journalBlock]! * KIB);
  const superblock = bytes.subarray(KIB, 2 * KIB);
  putLe32(superblock, SB.s_feature_incompat, le32(superblock, SB.s_feature_incompat) | RECOVER);
  if (hasSums) putLe32(superblock, SB.s_checksum, superblockChecksum(superblock));
  return { name, bytes, blocks, log };
}
