/**
 * Checking an image: does everything that quire relies on hold, and does e2fsck agree?
 *
 *     superblock, groups --> inodes and their maps --> directories --> names --> bitmaps, counts
 *
 *  1. Nothing is ever written.
 *  2. Time is linear in what the image has in use, memory in the inodes and partly used groups.
 *  3. The event loop gets its turn, and a signal ends a check within a few blocks.
 *
 * A journal that needs recovery is told and not replayed: what is checked is the image as it lies
 * there, as `e2fsck -n` does. After the passes of e2fsck(8). Left out: what is in quota files, the
 * content of the journal, values of attributes in inodes of their own beyond their number.
 */
import type { BlockDevice } from "../../../block/block-device.ts";
import { readDevice } from "../../../block/block-device.ts";
import type { PageCache } from "../../../cache/page-cache.ts";
import type { Clock } from "../../../lib/clock.ts";
import { FsError } from "../../../lib/errno.ts";
import { BufferCache } from "../../../mapping/buffer-cache.ts";
import { GroupTable, primarySuperblockBlock } from "../group.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "../layout.ts";
import { Metadata } from "../metadata.ts";
import { readSuperblock, type Superblock } from "../superblock.ts";
import { BlockUse } from "./block-use.ts";
import { CheckContext } from "./context.ts";
import { checkDirectories, checkNames } from "./dir-check.ts";
import { checkCounts, checkGroups } from "./groups-check.ts";
import { checkInodes } from "./inode-check.ts";
import { InodeFacts } from "./inode-facts.ts";
import { type CheckReport, Findings } from "./report.ts";
import { checkResizeInode } from "./resize-check.ts";
import {
  checkFeatures,
  checkJournal,
  checkState,
  checkStrayOrphanFile,
  checkSuperblockCopies,
  markMmp,
  readOrphanNumbers,
  specialInodes,
} from "./special-check.ts";
import { checkXattrRefs } from "./xattr-check.ts";

/** How a check is to be done. */
export interface CheckOptions {
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Told where the check is: the name of its part, and how far it is in that. */
  readonly onProgress?: ((part: string, done: number, of: number) => void) | undefined;
  /** Findings that are kept; the rest is counted. 1000 if left out. */
  readonly findingsMax?: number | undefined;
}

/**
 * Checks the ext2/3/4 image on `bdev`. What is wrong with the image is in the report, also where it
 * has no superblock at all.
 *
 * @throws {FsError} `EIO` if the superblock cannot be read
 * @throws the reason of the signal
 */
export async function checkExt(
  bdev: BlockDevice,
  cache: PageCache,
  options: CheckOptions,
): Promise<CheckReport> {
  const findings = new Findings(options.findingsMax);
  const sb = await superblockOf(bdev, findings, options.signal);
  if (sb === undefined) return reportOf(findings, undefined, false);
  const metadata = new Metadata(new BufferCache(cache, bdev, sb.blockBytes), sb.blockCount);
  const ctx = new CheckContext(
    {
      sb,
      metadata,
      table: new GroupTable(sb, metadata, primarySuperblockBlock(sb), true),
      findings,
      use: new BlockUse(sb.clustersPerGroup),
      facts: new InodeFacts(sb.inodesPerGroup),
    },
    options,
  );
  try {
    return reportOf(findings, ctx, await run(ctx));
  } finally {
    await metadata.buffers.close();
  }
}

async function superblockOf(
  bdev: BlockDevice,
  findings: Findings,
  signal: AbortSignal | undefined,
): Promise<Superblock | undefined> {
  try {
    const bytes = await readDevice(bdev, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
    return readSuperblock(bytes, bdev.sizeBytes, (doubt) => {
      findings.thrown("superblock", {}, doubt);
    });
  } catch (thrown) {
    if (!(thrown instanceof FsError) || thrown.code === "EIO") throw thrown;
    findings.thrown("superblock", {}, thrown);
    return undefined;
  }
}

/** All parts in their order. False if the check could not go on to its end. */
async function run(ctx: CheckContext): Promise<boolean> {
  try {
    if (!checkFeatures(ctx)) return false;
    checkState(ctx);
    if (!(await checkGroups(ctx))) return false;
    await checkSuperblockCopies(ctx);
    markMmp(ctx);
    const orphans = await readOrphanNumbers(ctx);
    await checkResizeInode(ctx);
    await checkInodes(ctx, orphans, specialInodes(ctx));
    checkXattrRefs(ctx);
    checkStrayOrphanFile(ctx);
    await checkJournal(ctx);
    await checkDirectories(ctx);
    await checkNames(ctx);
    await checkCounts(ctx);
    return true;
  } catch (thrown) {
    if (!(thrown instanceof FsError)) throw thrown;
    ctx.findings.thrown("check", {}, thrown);
    return false;
  }
}

function reportOf(
  findings: Findings,
  ctx: CheckContext | undefined,
  isComplete: boolean,
): CheckReport {
  return {
    isClean: findings.damageCount === 0,
    findings: findings.list,
    damageCount: findings.damageCount,
    noteCount: findings.noteCount,
    isComplete,
    usedInodes: ctx?.facts.usedInodes ?? 0,
    directories: ctx?.facts.directories.size ?? 0,
    usedClusters: ctx?.use.usedClusters ?? 0,
  };
}
