/**
 * The journal of a new file system: how large it is, where it lies, and its first block. Empty, and
 * without features: Linux adds those at the first mount.
 */
import { putBe32 } from "../../../lib/bytes.ts";
import { MIB, roundDown } from "../../../lib/units.ts";
import { COMPAT_FAST_COMMIT, INCOMPAT_EXTENTS } from "../features.ts";
import { JBD2, JBD2_MAGIC, JBD2_SUPERBLOCK_V2 } from "../jbd2-format.ts";
import { JOURNAL_BLOCKS_MIN, JSB } from "../jbd2-superblock.ts";
import { invalid, type MkfsParameters, noSpace } from "./options.ts";
import type { Layout } from "./tables.ts";

/** Blocks of the journal for a file system of fewer than so many blocks. */
const SIZES: readonly (readonly [below: number, blocks: number])[] = [
  [2048, 0],
  [32_768, 1024],
  [262_144, 4 * JOURNAL_BLOCKS_MIN],
  [524_288, 8192],
  [4_194_304, 16_384],
  [8_388_608, 32_768],
  [16_777_216, 65_536],
  [33_554_432, 131_072],
];
const BLOCKS_LARGEST = 262_144;
const BLOCKS_MAX = 10_240_000;
const FAST_COMMIT_PART = 64;
const USERS = 0x40;

/** Blocks of the journal, and how many of them are for fast commits. */
export interface JournalSize {
  readonly blocks: number;
  readonly fastCommitBlocks: number;
}

/**
 * Size of the journal for a file system of `blockCount` blocks, 0 if that is too small for one.
 *
 * @throws {FsError} `EINVAL` for a size that no journal can have, `ENOSPC` if it does not fit
 */
export function journalSizeFor(p: MkfsParameters, blockCount: number): JournalSize {
  let blocks = SIZES.find(([below]) => blockCount < below)?.[1] ?? BLOCKS_LARGEST;
  if (p.journalBytes !== undefined) {
    if (p.journalBytes % MIB !== 0) throw invalid("journalBytes is no multiple of 1 MiB");
    blocks = p.journalBytes / p.blockBytes;
    if (blocks < JOURNAL_BLOCKS_MIN || blocks > BLOCKS_MAX) {
      throw invalid(`a journal has ${JOURNAL_BLOCKS_MIN} to ${BLOCKS_MAX} blocks, not ${blocks}`);
    }
    if (blocks > blockCount / 2) {
      throw noSpace(`a journal of ${blocks} blocks is more than half of the file system`);
    }
  }
  const isFast = (p.features.compat & COMPAT_FAST_COMMIT) !== 0;
  const fastCommitBlocks = isFast ? Math.floor(blocks / FAST_COMMIT_PART) : 0;
  return { blocks: blocks + fastCommitBlocks, fastCommitBlocks };
}

function freeIn(layout: Layout, group: number): number {
  const start = layout.firstBlockOf(group);
  const end = layout.endOf(group);
  return end - start - layout.space.countTaken(start, end);
}

/**
 * The block from which on the journal is placed: near the middle of the device, in the group that
 * has more room than its neighbour. Maps of pointers begin at the start, where they are short.
 */
export function journalGoal(layout: Layout): number {
  const { p, geometry, groupCount } = layout;
  if ((p.features.incompat & INCOMPAT_EXTENTS) === 0) return geometry.firstDataBlock;
  const middleBlock = Math.floor((geometry.blockCount - geometry.firstDataBlock) / 2);
  const middle = Math.floor((middleBlock - geometry.firstDataBlock) / geometry.blocksPerGroup);
  const flexGroups = 2 ** p.logGroupsPerFlex;
  let first = middle;
  let last = middle + 1;
  if (p.logGroupsPerFlex > 0 && middle > flexGroups) {
    first = roundDown(middle, flexGroups);
    while (first < groupCount && freeIn(layout, first) === 0) first++;
    if (first === groupCount) first = 0;
    last = first + 1;
  } else if (middle > 0) first = middle - 1;
  let best = first;
  for (let group = first + 1; group <= Math.min(last, groupCount - 1); group++) {
    if (freeIn(layout, group) > freeIn(layout, best)) best = group;
  }
  return layout.firstBlockOf(best);
}

/** Block 0 of the journal. */
export function journalSuperblock(
  blockBytes: number,
  size: JournalSize,
  uuid: Uint8Array,
): Uint8Array {
  const data = new Uint8Array(blockBytes);
  putBe32(data, JBD2.h_magic, JBD2_MAGIC);
  putBe32(data, JBD2.h_blocktype, JBD2_SUPERBLOCK_V2);
  putBe32(data, JSB.s_blocksize, blockBytes);
  putBe32(data, JSB.s_maxlen, size.blocks);
  putBe32(data, JSB.s_first, 1);
  putBe32(data, JSB.s_sequence, 1);
  putBe32(data, JSB.s_num_fc_blks, size.fastCommitBlocks);
  putBe32(data, USERS, 1);
  data.set(uuid, JSB.s_uuid);
  return data;
}
