/**
 * Which features a new file system gets: those of its type, changed by name, and what then cannot
 * go together.
 *
 *     all     ext_attr resize_inode dir_index filetype sparse_super large_file
 *     ext3    and has_journal
 *     ext4    and has_journal extent 64bit flex_bg huge_file dir_nlink extra_isize metadata_csum
 */
import { FsError } from "../../../lib/errno.ts";
import {
  COMPAT_DIR_INDEX,
  COMPAT_EXT_ATTR,
  COMPAT_FAST_COMMIT,
  COMPAT_HAS_JOURNAL,
  COMPAT_ORPHAN_FILE,
  COMPAT_RESIZE_INODE,
  COMPAT_SPARSE_SUPER2,
  COMPAT_STABLE_INODES,
  type FeatureKind,
  type Features,
  featureBit,
  INCOMPAT_64BIT,
  INCOMPAT_CASEFOLD,
  INCOMPAT_CSUM_SEED,
  INCOMPAT_EA_INODE,
  INCOMPAT_ENCRYPT,
  INCOMPAT_EXTENTS,
  INCOMPAT_FILETYPE,
  INCOMPAT_FLEX_BG,
  INCOMPAT_INLINE_DATA,
  INCOMPAT_LARGE_DIR,
  INCOMPAT_META_BG,
  INCOMPAT_MMP,
  RO_COMPAT_BIGALLOC,
  RO_COMPAT_DIR_NLINK,
  RO_COMPAT_EXTRA_ISIZE,
  RO_COMPAT_GDT_CSUM,
  RO_COMPAT_HUGE_FILE,
  RO_COMPAT_LARGE_FILE,
  RO_COMPAT_METADATA_CSUM,
  RO_COMPAT_SPARSE_SUPER,
  RO_COMPAT_VERITY,
} from "../features.ts";

export type ExtType = "ext2" | "ext3" | "ext4";

type Words = { -readonly [word in keyof Features]: number };

const BASE: Features = {
  compat: COMPAT_EXT_ATTR | COMPAT_RESIZE_INODE | COMPAT_DIR_INDEX,
  incompat: INCOMPAT_FILETYPE,
  roCompat: RO_COMPAT_SPARSE_SUPER | RO_COMPAT_LARGE_FILE,
};

const OF_TYPE: Readonly<Record<ExtType, Features>> = {
  ext2: { compat: 0, incompat: 0, roCompat: 0 },
  ext3: { compat: COMPAT_HAS_JOURNAL, incompat: 0, roCompat: 0 },
  ext4: {
    compat: COMPAT_HAS_JOURNAL,
    incompat: INCOMPAT_EXTENTS | INCOMPAT_64BIT | INCOMPAT_FLEX_BG,
    roCompat:
      RO_COMPAT_HUGE_FILE | RO_COMPAT_DIR_NLINK | RO_COMPAT_EXTRA_ISIZE | RO_COMPAT_METADATA_CSUM,
  },
};

/** What can be asked for by name. */
const CAN_MAKE: Features = {
  compat:
    BASE.compat |
    COMPAT_HAS_JOURNAL |
    COMPAT_SPARSE_SUPER2 |
    COMPAT_FAST_COMMIT |
    COMPAT_STABLE_INODES |
    COMPAT_ORPHAN_FILE,
  incompat:
    BASE.incompat |
    OF_TYPE.ext4.incompat |
    INCOMPAT_META_BG |
    INCOMPAT_MMP |
    INCOMPAT_EA_INODE |
    INCOMPAT_CSUM_SEED |
    INCOMPAT_LARGE_DIR |
    INCOMPAT_INLINE_DATA |
    INCOMPAT_ENCRYPT |
    INCOMPAT_CASEFOLD,
  roCompat:
    BASE.roCompat |
    OF_TYPE.ext4.roCompat |
    RO_COMPAT_GDT_CSUM |
    RO_COMPAT_BIGALLOC |
    RO_COMPAT_VERITY,
};

const KINDS: readonly FeatureKind[] = ["compat", "incompat", "roCompat"];
/** Other names of mke2fs. */
const ALIASES: ReadonlyMap<string, string> = new Map([
  ["extents", "extent"],
  ["gdt_csum", "uninit_bg"],
  ["gdt_checksum", "uninit_bg"],
  ["journal", "has_journal"],
]);

/** Applies one word of a list of features. */
function change(words: Words, text: string): void {
  if (text === "none") {
    for (const kind of KINDS) words[kind] = 0;
    return;
  }
  const isCleared = text.startsWith("^");
  const name = isCleared ? text.slice(1) : text;
  const found = featureBit(ALIASES.get(name) ?? name);
  if (found === undefined) {
    throw new FsError("EINVAL", { syscall: "mkfs", detail: `there is no feature ${name}` });
  }
  const { kind, bit } = found;
  if (!isCleared && (CAN_MAKE[kind] & bit) === 0) {
    const detail = `the feature ${name} is not made here`;
    throw new FsError("EOPNOTSUPP", { syscall: "mkfs", detail });
  }
  words[kind] = isCleared ? words[kind] & ~bit : words[kind] | bit;
}

function refuse(detail: string): never {
  throw new FsError("EINVAL", { syscall: "mkfs", detail });
}

/** Throws `EINVAL` for features that exclude or need each other. */
function checkTogether({ compat, incompat, roCompat }: Features): void {
  const needsJournal = (compat & (COMPAT_ORPHAN_FILE | COMPAT_FAST_COMMIT)) !== 0;
  if (needsJournal && (compat & COMPAT_HAS_JOURNAL) === 0) {
    refuse("orphan_file and fast_commit need has_journal");
  }
  const hasExtents = (incompat & INCOMPAT_EXTENTS) !== 0;
  if ((incompat & INCOMPAT_64BIT) !== 0 && !hasExtents) refuse("64bit needs extent");
  if ((roCompat & RO_COMPAT_BIGALLOC) !== 0 && !hasExtents) refuse("bigalloc needs extent");
  if ((compat & COMPAT_RESIZE_INODE) !== 0) {
    const isSparse =
      (roCompat & RO_COMPAT_SPARSE_SUPER) !== 0 || (compat & COMPAT_SPARSE_SUPER2) !== 0;
    if (!isSparse) refuse("resize_inode needs sparse_super");
    if ((incompat & INCOMPAT_META_BG) !== 0) refuse("resize_inode and meta_bg exclude each other");
  }
  if ((incompat & INCOMPAT_CSUM_SEED) !== 0 && (roCompat & RO_COMPAT_METADATA_CSUM) === 0) {
    refuse("metadata_csum_seed needs metadata_csum");
  }
}

/**
 * The feature words for `options`. `uninit_bg` is dropped beside `metadata_csum`, as mke2fs does.
 *
 * @throws {FsError} `EINVAL` for a name that is none, and for features that exclude each other;
 *   `EOPNOTSUPP` for those that are not made here
 */
export function featuresFor(options: {
  readonly type?: ExtType | undefined;
  readonly features?: readonly string[] | undefined;
  readonly revision?: 0 | 1 | undefined;
}): Features {
  const asked = options.features ?? [];
  if (options.revision === 0) {
    if (asked.some((name) => !name.startsWith("^"))) refuse("revision 0 has no features");
    return { compat: 0, incompat: 0, roCompat: 0 };
  }
  const type = options.type ?? "ext4";
  const own = OF_TYPE[type] ?? refuse(`there is no type ${String(type)}`);
  const words: Words = {
    compat: BASE.compat | own.compat,
    incompat: BASE.incompat | own.incompat,
    roCompat: BASE.roCompat | own.roCompat,
  };
  for (const text of asked) change(words, text);
  if ((words.roCompat & RO_COMPAT_METADATA_CSUM) !== 0) words.roCompat &= ~RO_COMPAT_GDT_CSUM;
  checkTogether(words);
  return words;
}
