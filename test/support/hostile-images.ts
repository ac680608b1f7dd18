/**
 * Healthy little images to be damaged: each has much of what ext2/3/4 can hold in few blocks.
 *
 *     tiny       a file, a directory, a symlink, attributes, in less than 128 KiB
 *     rich       deep extent trees or indirect blocks, an index, xattr blocks, large values, inline data
 *
 * Made by mke2fs with fixed identities, so that a case can be repeated by its number.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/lib/units.ts";
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

/** A tree with something of every kind; pieces of `sparse` lie a block apart. */
function makeRichTree(path: string, blockBytes: number): string {
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
    writeFileSync(join(path, "indexed", `${"name".repeat(6)}-${index}`), "");
  }
  mkdirSync(join(path, "a/b/c"), { recursive: true });
  writeFileSync(join(path, "a/b/c/deep"), "deep");
  symlinkSync("a/b/c/deep", join(path, "short-link"));
  symlinkSync("far/".repeat(30), join(path, "long-link"));
  writeFileSync(join(path, "attributes"), "has xattrs");
  return path;
}

/** The image of `RICH_FORMATS` called `name`. */
export function makeRich(directory: string, name: string): BaseImage {
  const args = RICH_FORMATS.get(name)!;
  const blockBytes = Number(args[args.indexOf("-b") + 1]);
  const path = join(directory, `${name}.img`);
  const source = makeRichTree(join(directory, `${name}.tree`), blockBytes);
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
