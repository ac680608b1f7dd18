/**
 * The feature bits of ext2/3/4: their numbers, their names, and what a reader does about them.
 *
 *     incompat    unknown, or known and refused   the image is not opened, the bit is named
 *     ro_compat   unknown                         the image is read-only, which a reader reports
 *     compat      unknown                         no matter to a reader
 *
 * After section "Feature sets" of the kernel's ext4 documentation; names are those of mke2fs.
 */
import { FsError } from "../../lib/errno.ts";

export const COMPAT_HAS_JOURNAL = 0x4;
export const COMPAT_EXT_ATTR = 0x8;
export const COMPAT_RESIZE_INODE = 0x10;
export const COMPAT_DIR_INDEX = 0x20;
export const COMPAT_SPARSE_SUPER2 = 0x200;
export const COMPAT_FAST_COMMIT = 0x400;
export const COMPAT_STABLE_INODES = 0x800;
export const COMPAT_ORPHAN_FILE = 0x1000;

const INCOMPAT_COMPRESSION = 0x1;
export const INCOMPAT_FILETYPE = 0x2;
export const INCOMPAT_RECOVER = 0x4;
const INCOMPAT_JOURNAL_DEV = 0x8;
export const INCOMPAT_META_BG = 0x10;
export const INCOMPAT_EXTENTS = 0x40;
export const INCOMPAT_64BIT = 0x80;
export const INCOMPAT_MMP = 0x100;
export const INCOMPAT_FLEX_BG = 0x200;
export const INCOMPAT_EA_INODE = 0x400;
const INCOMPAT_DIRDATA = 0x1000;
export const INCOMPAT_CSUM_SEED = 0x2000;
export const INCOMPAT_LARGE_DIR = 0x4000;
export const INCOMPAT_INLINE_DATA = 0x8000;
export const INCOMPAT_ENCRYPT = 0x1_0000;
export const INCOMPAT_CASEFOLD = 0x2_0000;

export const RO_COMPAT_SPARSE_SUPER = 0x1;
export const RO_COMPAT_LARGE_FILE = 0x2;
export const RO_COMPAT_HUGE_FILE = 0x8;
export const RO_COMPAT_GDT_CSUM = 0x10;
export const RO_COMPAT_DIR_NLINK = 0x20;
export const RO_COMPAT_EXTRA_ISIZE = 0x40;
export const RO_COMPAT_QUOTA = 0x100;
export const RO_COMPAT_BIGALLOC = 0x200;
export const RO_COMPAT_METADATA_CSUM = 0x400;
export const RO_COMPAT_READONLY = 0x1000;
export const RO_COMPAT_PROJECT = 0x2000;
export const RO_COMPAT_SHARED_BLOCKS = 0x4000;
export const RO_COMPAT_VERITY = 0x8000;
export const RO_COMPAT_ORPHAN_PRESENT = 0x1_0000;

type NameTable = readonly (readonly [bit: number, name: string])[];

const COMPAT_NAMES: NameTable = [
  [0x1, "dir_prealloc"],
  [0x2, "imagic_inodes"],
  [0x4, "has_journal"],
  [0x8, "ext_attr"],
  [0x10, "resize_inode"],
  [0x20, "dir_index"],
  [0x40, "lazy_bg"],
  [0x100, "exclude_bitmap"],
  [0x200, "sparse_super2"],
  [0x400, "fast_commit"],
  [0x800, "stable_inodes"],
  [0x1000, "orphan_file"],
];

const INCOMPAT_NAMES: NameTable = [
  [0x1, "compression"],
  [0x2, "filetype"],
  [0x4, "needs_recovery"],
  [0x8, "journal_dev"],
  [0x10, "meta_bg"],
  [0x40, "extent"],
  [0x80, "64bit"],
  [0x100, "mmp"],
  [0x200, "flex_bg"],
  [0x400, "ea_inode"],
  [0x1000, "dirdata"],
  [0x2000, "metadata_csum_seed"],
  [0x4000, "large_dir"],
  [0x8000, "inline_data"],
  [0x1_0000, "encrypt"],
  [0x2_0000, "casefold"],
];

const RO_COMPAT_NAMES: NameTable = [
  [0x1, "sparse_super"],
  [0x2, "large_file"],
  [0x4, "btree_dir"],
  [0x8, "huge_file"],
  [0x10, "uninit_bg"],
  [0x20, "dir_nlink"],
  [0x40, "extra_isize"],
  [0x80, "has_snapshot"],
  [0x100, "quota"],
  [0x200, "bigalloc"],
  [0x400, "metadata_csum"],
  [0x800, "replica"],
  [0x1000, "read-only"],
  [0x2000, "project"],
  [0x4000, "shared_blocks"],
  [0x8000, "verity"],
  [0x1_0000, "orphan_present"],
];

const INCOMPAT_REFUSED = INCOMPAT_COMPRESSION | INCOMPAT_JOURNAL_DEV | INCOMPAT_DIRDATA;

/** The three feature words of a superblock; all 0 in revision 0. */
export interface Features {
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
}

/**
 * Names of the bits of `word`, lowest first; a bit without a name as `FEATURE_C23`, like
 * e2fsprogs.
 */
function namesOf(word: number, table: NameTable, letter: string): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 32; bit++) {
    const mask = 2 ** bit;
    if ((word & mask) === 0) continue;
    names.push(table.find((row) => row[0] === mask)?.[1] ?? `FEATURE_${letter}${bit}`);
  }
  return names;
}

function knownBits(table: NameTable): number {
  return table.reduce((bits, row) => bits | row[0], 0);
}

/** Names of all features that are set, by kind, lowest bit first. */
export function featureNames(features: Features): {
  readonly compat: readonly string[];
  readonly incompat: readonly string[];
  readonly roCompat: readonly string[];
} {
  return {
    compat: namesOf(features.compat, COMPAT_NAMES, "C"),
    incompat: namesOf(features.incompat, INCOMPAT_NAMES, "I"),
    roCompat: namesOf(features.roCompat, RO_COMPAT_NAMES, "R"),
  };
}

/** Which of the three words a feature is in. */
export type FeatureKind = keyof Features;

/** The word and the bit of the feature `name`, undefined if there is none of that name. */
export function featureBit(
  name: string,
): { readonly kind: FeatureKind; readonly bit: number } | undefined {
  const tables: readonly (readonly [FeatureKind, NameTable])[] = [
    ["compat", COMPAT_NAMES],
    ["incompat", INCOMPAT_NAMES],
    ["roCompat", RO_COMPAT_NAMES],
  ];
  for (const [kind, table] of tables) {
    const row = table.find((entry) => entry[1] === name);
    if (row !== undefined) return { kind, bit: row[0] };
  }
  return undefined;
}

/** Names of the ro_compat features that quire does not know: the image may only be read then. */
export function unknownRoCompat(features: Features): readonly string[] {
  return namesOf(features.roCompat & ~knownBits(RO_COMPAT_NAMES), RO_COMPAT_NAMES, "R");
}

/** Names of all features that quire does not know, of any kind: a checker must not go on then. */
export function unknownFeatures(features: Features): readonly string[] {
  return [
    ...namesOf(features.compat & ~knownBits(COMPAT_NAMES), COMPAT_NAMES, "C"),
    ...namesOf(features.incompat & ~knownBits(INCOMPAT_NAMES), INCOMPAT_NAMES, "I"),
    ...unknownRoCompat(features),
  ];
}

/**
 * Throws `EOPNOTSUPP`, naming them, when incompat features are set that quire does not know or
 * cannot read (`ext4_feature_set_ok`).
 */
export function checkReadable(features: Features): void {
  if ((features.incompat & INCOMPAT_JOURNAL_DEV) !== 0) {
    throw new FsError("EOPNOTSUPP", {
      detail: "this is the external journal of a file system (journal_dev), not a file system",
    });
  }
  const unreadable = features.incompat & (~knownBits(INCOMPAT_NAMES) | INCOMPAT_REFUSED);
  if (unreadable !== 0) {
    const names = namesOf(unreadable, INCOMPAT_NAMES, "I").join(", ");
    throw new FsError("EOPNOTSUPP", { detail: `the image needs features not supported: ${names}` });
  }
}
