/**
 * MkfsPlan: everything about a new file system that is decided before the first byte is written.
 *
 *     options --> parameters --> geometry --> layout of tables --> files --> plan --> write.ts
 */
import { FsError } from "../../../lib/errno.ts";
import { roundDown } from "../../../lib/units.ts";
import { volumeSeed } from "../checksum.ts";
import {
  COMPAT_HAS_JOURNAL,
  COMPAT_ORPHAN_FILE,
  COMPAT_RESIZE_INODE,
  type Features,
  INCOMPAT_META_BG,
  INCOMPAT_MMP,
  RO_COMPAT_METADATA_CSUM,
} from "../features.ts";
import { EXT_BAD_INO, EXT_JOURNAL_INO, EXT_ROOT_INO, I_BLOCK_BYTES } from "../layout.ts";
import {
  isInlineFirst,
  LOST_FOUND_INO,
  lostFoundBlock,
  lostFoundBlocks,
  rootBlock,
} from "./directories.ts";
import { type Geometry, geometryFor } from "./geometry.ts";
import { type JournalSize, journalGoal, journalSizeFor, journalSuperblock } from "./journal.ts";
import {
  type FileMap,
  type NewBlock,
  type NewInode,
  placeFile,
  type Seed,
  takeBlocks,
} from "./new-files.ts";
import {
  invalid,
  type MkfsOptions,
  type MkfsParameters,
  type OnErrors,
  resolveOptions,
} from "./options.ts";
import { placeResizeFile, type ResizeFile } from "./resize-inode.ts";
import { mmpBlock, ORPHAN_FILE_INO, orphanFileBlock, orphanFileBlocks } from "./small-files.ts";
import type { SpaceRun } from "./space.ts";
import { Layout } from "./tables.ts";

const UUID_BYTES = 16;
const LABEL_BYTES = 16;
const MOUNT_POINT_BYTES = 64;
const MODE_ROOT = 0o40755;
const MODE_LOST_FOUND = 0o40700;
const MODE_PRIVATE = 0o100600;
const ID_MAX = 0xffff_ffff;

/** What tells this file system from others. */
export interface Identity {
  readonly uuid: Uint8Array;
  readonly hashSeed: Uint8Array;
  readonly label: Uint8Array;
  readonly lastMountedOn: Uint8Array;
  readonly nowSec: number;
  readonly onErrors: OnErrors;
  readonly isUnsignedHash: boolean;
}

/** See the head of the file. */
export interface MkfsPlan {
  readonly p: MkfsParameters;
  /** Those of `p`, as they have become: meta_bg may be added, a journal may not fit. */
  readonly features: Features;
  readonly geometry: Geometry;
  readonly layout: Layout;
  readonly identity: Identity;
  readonly seed: Seed;
  readonly inodes: readonly NewInode[];
  /** Blocks of files and of what leads to them. */
  readonly blocks: readonly NewBlock[];
  readonly resize: ResizeFile | undefined;
  /** Blocks of the journal file, which are to be zero but for the first. */
  readonly journalRuns: readonly SpaceRun[];
  readonly mmpBlock: number;
  readonly overheadClusters: number;
  readonly directoryCount: number;
  /** The last inode that is in use: 11, or 12. */
  readonly lastIno: number;
}

function textBytes(name: string, text: string | undefined, most: number): Uint8Array {
  const bytes = new TextEncoder().encode(text ?? "");
  if (bytes.length > most) throw invalid(`${name} has ${bytes.length} bytes, at most ${most}`);
  return bytes;
}

function bytes16(name: string, given: Uint8Array | undefined, options: MkfsOptions): Uint8Array {
  if (given !== undefined) {
    if (given.length !== UUID_BYTES) throw invalid(`${name} has ${given.length} bytes, not 16`);
    return given;
  }
  const drawn = options.random.bytes(UUID_BYTES);
  drawn[6] = (drawn[6]! & 0x0f) | 0x40; // Version 4, random, of RFC 4122.
  drawn[8] = (drawn[8]! & 0x3f) | 0x80;
  return drawn;
}

function identityOf(options: MkfsOptions): Identity {
  return {
    uuid: bytes16("uuid", options.uuid, options),
    hashSeed: bytes16("hashSeed", options.hashSeed, options),
    label: textBytes("label", options.label, LABEL_BYTES),
    lastMountedOn: textBytes("lastMountedOn", options.lastMountedOn, MOUNT_POINT_BYTES),
    nowSec: Math.floor(options.clock.wallMs() / 1000),
    onErrors: options.onErrors ?? "continue",
    isUnsignedHash: options.isUnsignedHash ?? false,
  };
}

function ownerOf(options: MkfsOptions): { readonly uid: number; readonly gid: number } {
  const { rootUid: uid = 0, rootGid: gid = 0 } = options;
  for (const id of [uid, gid]) {
    if (!Number.isInteger(id) || id < 0 || id > ID_MAX) throw invalid(`${id} is no user or group`);
  }
  return { uid, gid };
}

/** Collects inodes and blocks while files are placed one after the other. */
class Files {
  readonly inodes: NewInode[] = [];
  readonly blocks: NewBlock[] = [];
  readonly #layout: Layout;
  readonly #seed: Seed;

  constructor(layout: Layout, seed: Seed) {
    this.#layout = layout;
    this.#seed = seed;
  }

  /** Places a file of `count` blocks from `goal` on. */
  place(
    ino: number,
    goal: number,
    count: number,
    about: Pick<NewInode, "mode"> & Partial<NewInode>,
  ): FileMap {
    const map = placeFile(this.#layout, ino, goal, count, this.#seed);
    this.inodes.push({
      ino,
      mode: about.mode,
      uid: about.uid ?? 0,
      gid: about.gid ?? 0,
      linksCount: about.linksCount ?? 1,
      sizeBytes: count * this.#layout.p.blockBytes,
      blockCount: map.blockCount,
      flags: map.flags,
      iBlock: map.iBlock,
      hasExtra: true,
      hasXattrArea: about.hasXattrArea === true,
    });
    this.blocks.push(...map.mapBlocks);
    return map;
  }

  addBlocks(map: FileMap, make: (index: number, blocknr: number) => Uint8Array): void {
    let index = 0;
    for (const run of map.runs) {
      for (let blocknr = run.start; blocknr < run.end; blocknr++) {
        this.blocks.push({ blocknr, data: make(index++, blocknr) });
      }
    }
  }
}

/** Where the search for blocks of inode `ino` begins: its group, or the first of its flex group. */
function goalOf(layout: Layout, ino: number): number {
  const group = Math.floor((ino - 1) / layout.geometry.inodesPerGroup);
  return layout.firstBlockOf(roundDown(group, 2 ** layout.p.logGroupsPerFlex));
}

/** Inode 1, which is written although there are no bad blocks. */
const BAD_BLOCKS: NewInode = {
  ino: EXT_BAD_INO,
  mode: 0,
  uid: 0,
  gid: 0,
  linksCount: 0,
  sizeBytes: 0,
  blockCount: 0,
  flags: 0,
  iBlock: new Uint8Array(I_BLOCK_BYTES),
  hasExtra: false,
};

function placeDirectories(layout: Layout, files: Files, options: MkfsOptions, seed: Seed): void {
  const { p, geometry } = layout;
  const goal = geometry.firstDataBlock;
  const root = files.place(EXT_ROOT_INO, goal, 1, {
    mode: MODE_ROOT,
    linksCount: 3,
    ...ownerOf(options),
  });
  files.addBlocks(root, () => rootBlock(p, seed));
  const mode = { mode: MODE_LOST_FOUND, linksCount: 2, hasXattrArea: isInlineFirst(p) };
  const lostFoundGoal = goalOf(layout, LOST_FOUND_INO);
  const lostFound = files.place(LOST_FOUND_INO, lostFoundGoal, lostFoundBlocks(p), mode);
  files.addBlocks(lostFound, (index) => lostFoundBlock(p, index, seed));
}

/** Places the journal; undefined if there is none. */
function placeJournal(
  layout: Layout,
  files: Files,
  size: JournalSize,
  uuid: Uint8Array,
): readonly SpaceRun[] {
  if (size.blocks === 0) return [];
  const mode = { mode: MODE_PRIVATE };
  const map = files.place(EXT_JOURNAL_INO, journalGoal(layout), size.blocks, mode);
  const data = journalSuperblock(layout.p.blockBytes, size, uuid);
  files.blocks.push({ blocknr: map.runs[0]!.start, data });
  return map.runs;
}

/** The features as they have become: a journal that does not fit is none, and meta_bg may come. */
function finalFeatures(p: MkfsParameters, geometry: Geometry, journalBlocks: number): Features {
  const { compat, incompat, roCompat } = p.features;
  let lost = journalBlocks > 0 ? 0 : COMPAT_HAS_JOURNAL | COMPAT_ORPHAN_FILE;
  if (geometry.isMetaBg) lost |= COMPAT_RESIZE_INODE;
  return {
    compat: compat & ~lost,
    incompat: geometry.isMetaBg ? incompat | INCOMPAT_META_BG : incompat,
    roCompat,
  };
}

/**
 * Decides everything for a device of `deviceBytes`. Reads and writes nothing.
 *
 * @throws {FsError} `EINVAL`, `EOPNOTSUPP`, `EFBIG` for options that cannot be met, `ENOSPC` for
 *   too little room; the detail says which in a sentence
 */
export function planExt(options: MkfsOptions, deviceBytes: number): MkfsPlan {
  const p = resolveOptions(options, deviceBytes);
  const identity = identityOf(options);
  const geometry = geometryFor(p);
  const wantsJournal = (p.features.compat & COMPAT_HAS_JOURNAL) !== 0;
  if (!wantsJournal && p.journalBytes !== undefined) {
    throw invalid("journalBytes needs the feature has_journal");
  }
  const noJournal: JournalSize = { blocks: 0, fastCommitBlocks: 0 };
  const journalSize = wantsJournal ? journalSizeFor(p, geometry.blockCount) : noJournal;
  const features = finalFeatures(p, geometry, journalSize.blocks);
  const hasChecksums = (features.roCompat & RO_COMPAT_METADATA_CSUM) !== 0;
  const seed = hasChecksums ? volumeSeed(identity.uuid) : undefined;
  const layout = new Layout(p, geometry);
  layout.placeCopies();
  layout.placeTables();
  const { space } = layout;
  const structureBlocks = space.countTaken(0, geometry.blockCount);
  const files = new Files(layout, seed);
  placeDirectories(layout, files, options, seed);
  let resize: ResizeFile | undefined;
  if ((features.compat & COMPAT_RESIZE_INODE) !== 0) {
    resize = placeResizeFile(layout);
    files.inodes.push(resize.inode);
    files.blocks.push(resize.doubleIndirect);
  }
  files.inodes.push(BAD_BLOCKS);
  const journalRuns = placeJournal(layout, files, journalSize, identity.uuid);
  let mmpAt = 0;
  if ((features.incompat & INCOMPAT_MMP) !== 0) {
    mmpAt = takeBlocks(layout, geometry.firstDataBlock, 1)[0]!.start;
    files.blocks.push(mmpBlock(mmpAt, p.blockBytes, identity.nowSec, seed));
  }
  const hasOrphanFile = (features.compat & COMPAT_ORPHAN_FILE) !== 0;
  if (hasOrphanFile) {
    const count = orphanFileBlocks(layout);
    const mode = { mode: MODE_PRIVATE };
    const map = files.place(ORPHAN_FILE_INO, geometry.firstDataBlock, count, mode);
    files.addBlocks(map, (_, blocknr) => orphanFileBlock(blocknr, p.blockBytes, seed).data);
  }
  return {
    p,
    features,
    geometry,
    layout,
    identity,
    seed,
    inodes: files.inodes,
    blocks: files.blocks,
    resize,
    journalRuns,
    mmpBlock: mmpAt,
    overheadClusters: overheadOf(layout, structureBlocks, journalSize),
    directoryCount: 2,
    lastIno: hasOrphanFile ? ORPHAN_FILE_INO : LOST_FOUND_INO,
  };
}

/** Clusters of structure and journal, and the boot block: `s_overhead_clusters`. */
function overheadOf(layout: Layout, structureBlocks: number, journal: JournalSize): number {
  const { p, geometry } = layout;
  if (geometry.blockCount <= 0) throw new FsError("ENOSPC");
  const blocks = structureBlocks + journal.blocks + geometry.firstDataBlock;
  return Math.floor(blocks / p.clusterRatio);
}
