/**
 * What only some new file systems have: the file of orphans, and the block by which two machines
 * notice that they mount the same device.
 */
import { putLe16, putLe32, putLe64 } from "../../../lib/bytes.ts";
import { roundUp } from "../../../lib/units.ts";
import { inodeSeed, mmpChecksum, orphanBlockChecksum } from "../checksum.ts";
import { MMP, MMP_MAGIC, MMP_SEQ_CLEAN } from "../layout.ts";
import { ORPHAN_MAGIC, ORPHAN_TAIL_BYTES } from "../orphan.ts";
import type { NewBlock, Seed } from "./new-files.ts";
import type { Layout } from "./tables.ts";

export const ORPHAN_FILE_INO = 12;
/** Seconds between two looks at the block, as `EXT4_MMP_UPDATE_INTERVAL` has it. */
export const MMP_INTERVAL_SEC = 5;
const ORPHAN_BLOCKS_MIN = 32;
const ORPHAN_FILE_MAX = 512;
/** One block of the orphan file for so many of the file system. */
const ORPHAN_FILE_SHARE = 4096;

/** Blocks of the orphan file. */
export function orphanFileBlocks(layout: Layout): number {
  const wanted = Math.floor(layout.geometry.blockCount / ORPHAN_FILE_SHARE);
  const blocks = Math.min(Math.max(wanted, ORPHAN_BLOCKS_MIN), ORPHAN_FILE_MAX);
  return roundUp(blocks, layout.p.clusterRatio);
}

/** A block of the orphan file without entries. */
export function orphanFileBlock(blocknr: number, blockBytes: number, seed: Seed): NewBlock {
  const data = new Uint8Array(blockBytes);
  const tailAt = blockBytes - ORPHAN_TAIL_BYTES;
  putLe32(data, tailAt, ORPHAN_MAGIC);
  if (seed !== undefined) {
    const iseed = inodeSeed(seed, ORPHAN_FILE_INO, 0);
    putLe32(data, tailAt + 4, orphanBlockChecksum(iseed, blocknr, data));
  }
  return { blocknr, data };
}

/** The block of multi-mount protection: nobody has it mounted. */
export function mmpBlock(
  blocknr: number,
  blockBytes: number,
  nowSec: number,
  seed: Seed,
): NewBlock {
  const data = new Uint8Array(blockBytes);
  putLe32(data, MMP.mmp_magic, MMP_MAGIC);
  putLe32(data, MMP.mmp_seq, MMP_SEQ_CLEAN);
  putLe64(data, MMP.mmp_time, nowSec);
  putLe16(data, MMP.mmp_check_interval, MMP_INTERVAL_SEC);
  if (seed !== undefined) putLe32(data, MMP.mmp_checksum, mmpChecksum(seed, data));
  return { blocknr, data };
}
