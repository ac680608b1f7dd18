/**
 * What only the file system itself uses: the journal, the blocks kept for descriptors, orphans, the
 * superblock's own state, and its copies.
 */
import { be32, isZero, le16, le32 } from "../../../lib/bytes.ts";
import { FsError } from "../../../lib/errno.ts";
import { orphanBlockChecksum } from "../checksum.ts";
import {
  COMPAT_HAS_JOURNAL,
  COMPAT_ORPHAN_FILE,
  featureNames,
  INCOMPAT_MMP,
  INCOMPAT_RECOVER,
  RO_COMPAT_ORPHAN_PRESENT,
  RO_COMPAT_PROJECT,
  RO_COMPAT_QUOTA,
  unknownFeatures,
} from "../features.ts";
import { hasSuperblockCopy } from "../group.ts";
import { decodeJournalSuperblock, JSB } from "../jbd2-superblock.ts";
import { EXT_JOURNAL_INO, INODE, SB } from "../layout.ts";
import { ORPHAN_MAGIC, ORPHAN_TAIL_BYTES } from "../orphan.ts";
import { hasSuperblockMagic, Superblock } from "../superblock.ts";
import type { CheckContext } from "./context.ts";
import { CheckedInode, ownerOf, readSlot } from "./inode-check.ts";
import { KIND_FILE } from "./inode-facts.ts";
import { type DataRun, MapWalk } from "./map-walk.ts";

const STATE_CLEAN = 1;
const STATE_ERRORS = 2;
const POINTER_BYTES = 4;
const COPIES_MAX = 64;

/** Numbers of the inodes that only the file system itself uses, beside the reserved ones. */
export function specialInodes(ctx: CheckContext): Set<number> {
  const { sb } = ctx;
  const special = new Set<number>();
  if (sb.journalIno !== 0) special.add(sb.journalIno);
  if (sb.hasCompat(COMPAT_ORPHAN_FILE)) special.add(sb.orphanFileIno);
  if (sb.hasRoCompat(RO_COMPAT_QUOTA)) {
    special.add(le32(sb.raw, SB.s_usr_quota_inum));
    special.add(le32(sb.raw, SB.s_grp_quota_inum));
    if (sb.hasRoCompat(RO_COMPAT_PROJECT)) special.add(le32(sb.raw, SB.s_prj_quota_inum));
  }
  special.delete(0);
  return special;
}

/** An orphan file of which the features know nothing. */
export function checkStrayOrphanFile(ctx: CheckContext): void {
  const { sb, facts, findings } = ctx;
  const ino = sb.orphanFileIno;
  if (sb.hasCompat(COMPAT_ORPHAN_FILE) || ino === 0 || !facts.isUsed(ino)) return;
  const text = `superblock: s_orphan_file_inum is ${ino} without the feature`;
  findings.damage("orphan.file", { ino }, text);
}

/** Features that a checker must know, or it may take for damage what is none. */
export function checkFeatures(ctx: CheckContext): boolean {
  const names = unknownFeatures(ctx.sb.features);
  if (names.length === 0) return true;
  const text = `superblock: unknown features: ${names.join(", ")}`;
  ctx.findings.damage("superblock.features", {}, text);
  return false;
}

/** The superblock's state. */
export function checkState(ctx: CheckContext): void {
  const { sb, findings } = ctx;
  const state = le16(sb.raw, SB.s_state);
  if ((state & STATE_ERRORS) !== 0) {
    findings.note("superblock.errors", {}, "superblock: errors were seen while it was in use");
  }
  if ((state & STATE_CLEAN) === 0) {
    findings.note("superblock.state", {}, "superblock: it was not closed cleanly");
  }
  if (sb.hasIncompat(INCOMPAT_RECOVER)) {
    findings.note("journal.recover", {}, "the journal has to be recovered first");
  }
  if (sb.reservedBlockCount > sb.blockCount / 2) {
    const text = `superblock: s_r_blocks_count is ${sb.reservedBlockCount}`;
    findings.damage("superblock.reserved", {}, text);
  }
}

/** Copies that name other features or another UUID are told, as they are not used. */
export async function checkSuperblockCopies(ctx: CheckContext): Promise<void> {
  const { sb, findings } = ctx;
  let copies = 0;
  for (let group = 1; group < sb.groupCount && copies < COPIES_MAX; group++) {
    if (!hasSuperblockCopy(sb, group)) continue;
    copies++;
    await ctx.step();
    const blocknr = sb.firstBlockOf(group);
    const data = await ctx.copyOf(blocknr, { group });
    if (data === undefined) continue;
    const where = { group, blocknr };
    if (!hasSuperblockMagic(data)) {
      findings.note(
        "superblock.copy",
        where,
        `block ${blocknr}: there is no copy of the superblock`,
      );
      continue;
    }
    const copy = new Superblock(data);
    const own = featureNames(sb.features);
    const theirs = featureNames(copy.features);
    const isSame =
      copy.blockCount === sb.blockCount &&
      copy.inodesPerGroup === sb.inodesPerGroup &&
      own.compat.join() === theirs.compat.join();
    if (!isSame) {
      findings.note("superblock.copy", where, `block ${blocknr}: the copy tells other numbers`);
    }
  }
}

/** Inodes that wait for their deletion: the list, then the file. */
export async function readOrphanNumbers(ctx: CheckContext): Promise<Set<number>> {
  const { sb, findings } = ctx;
  const orphans = new Set<number>();
  let ino = sb.lastOrphan;
  while (ino !== 0) {
    await ctx.step();
    if (ino < sb.firstIno || ino > sb.inodeCount || orphans.has(ino)) {
      findings.damage("orphan.list", { ino }, `the orphan list leads to inode ${ino}`);
      break;
    }
    orphans.add(ino);
    const raw = await readSlot(ctx, ino);
    ino = le32(raw, INODE.i_dtime);
  }
  if (orphans.size > 0) {
    findings.note("orphan.list", {}, `${orphans.size} inodes wait for their deletion`);
  }
  if (sb.hasCompat(COMPAT_ORPHAN_FILE)) await readOrphanFile(ctx, orphans);
  return orphans;
}

async function readOrphanFile(ctx: CheckContext, orphans: Set<number>): Promise<void> {
  const { sb, findings } = ctx;
  const ino = sb.orphanFileIno;
  if (ino < sb.firstIno || ino > sb.inodeCount) {
    findings.damage("orphan.file", { ino }, `superblock: s_orphan_file_inum is ${ino}`);
    return;
  }
  const inode = new CheckedInode(ctx, ino, await readSlot(ctx, ino));
  if (inode.kind !== KIND_FILE || inode.linksCount === 0) {
    findings.damage("orphan.file", { ino }, `inode ${ino}: the orphan file is no file`);
    return;
  }
  const runs: DataRun[] = [];
  await new MapWalk(ctx, ownerOf(inode), (run) => runs.push(run), false).walk();
  const isPresent = sb.hasRoCompat(RO_COMPAT_ORPHAN_PRESENT);
  for (const run of runs) {
    for (let at = 0; at < run.count; at++) {
      await ctx.step();
      const blocknr = run.blocknr + at;
      const data = await ctx.copyOf(blocknr, { ino });
      if (data === undefined) continue;
      const tailAt = data.length - ORPHAN_TAIL_BYTES;
      const isGood =
        le32(data, tailAt) === ORPHAN_MAGIC &&
        (!sb.hasMetadataCsum ||
          le32(data, tailAt + 4) === orphanBlockChecksum(inode.seed, blocknr, data));
      if (!isGood) {
        findings.damage("orphan.block", { ino, blocknr }, `orphan file: block ${blocknr} is none`);
        continue;
      }
      for (let slot = 0; slot + POINTER_BYTES <= tailAt; slot += POINTER_BYTES) {
        const orphan = le32(data, slot);
        if (orphan !== 0 && isPresent) orphans.add(orphan);
        else if (orphan !== 0) {
          const text = `orphan file: inode ${orphan}, but the feature orphan_present is not set`;
          findings.damage("orphan.present", { ino, blocknr }, text);
        }
      }
    }
  }
}

/** The journal's inode and superblock. */
export async function checkJournal(ctx: CheckContext): Promise<void> {
  const { sb, findings } = ctx;
  if (!sb.hasCompat(COMPAT_HAS_JOURNAL)) {
    if (sb.journalIno !== 0) {
      const text = `superblock: s_journal_inum is ${sb.journalIno} without a journal`;
      findings.damage("journal.inode", {}, text);
    }
    if (sb.hasIncompat(INCOMPAT_RECOVER)) {
      findings.damage("journal.recover", {}, "superblock: needs_recovery without a journal");
    }
    if (ctx.facts.isUsed(EXT_JOURNAL_INO)) {
      findings.damage("journal.inode", { ino: EXT_JOURNAL_INO }, "inode 8 is in use without need");
    }
    return;
  }
  const ino = sb.journalIno;
  const bad = (text: string): void => findings.damage("journal", { ino }, `journal: ${text}`);
  if (ino === 0) {
    if (sb.journalDevice === 0 && isZero(sb.journalUuid)) bad("the superblock does not say where");
    return;
  }
  if (ino > sb.inodeCount || !ctx.facts.isUsed(ino)) {
    bad(`inode ${ino} is not in use`);
    return;
  }
  const inode = new CheckedInode(ctx, ino, await readSlot(ctx, ino));
  const runs: DataRun[] = [];
  const walk = new MapWalk(ctx, ownerOf(inode), (run) => runs.push(run), false);
  await walk.walk();
  const first = runs[0];
  if (first === undefined || first.fileBlock !== 0) {
    bad("it has no first block");
    return;
  }
  const data = await ctx.copyOf(first.blocknr, { ino });
  if (data === undefined) return;
  try {
    const fileBlockCount = Math.floor(inode.sizeBytes / sb.blockBytes);
    decodeJournalSuperblock(data, { blockBytes: sb.blockBytes, fileBlockCount });
  } catch (thrown) {
    if (!(thrown instanceof FsError)) throw thrown;
    bad(thrown.message);
    return;
  }
  const isLive = be32(data, JSB.s_start) !== 0;
  if (isLive && !sb.hasIncompat(INCOMPAT_RECOVER)) {
    bad("it has transactions, but the superblock does not say needs_recovery");
  }
}

/** The block of multi-mount protection belongs to nobody else. */
export function markMmp(ctx: CheckContext): void {
  const { sb, findings } = ctx;
  if (!sb.hasIncompat(INCOMPAT_MMP)) return;
  if (!ctx.isBlock(sb.mmpBlock)) {
    findings.damage("mmp", {}, `superblock: s_mmp_block is ${sb.mmpBlock}`);
    return;
  }
  ctx.markStructure(sb.mmpBlock, 1, {}, "multi-mount protection");
}
