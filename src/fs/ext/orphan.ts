/**
 * Inodes that were deleted, or being truncated, while they were in use when the volume was last
 * written: "orphans", which no name leads to. A reader only reports them; a writer must finish
 * their deletion.
 *
 *     list    s_last_orphan -> inode -> its i_dtime -> inode -> .. -> 0
 *     file    each block: inode numbers, 0 for none | 0b10ca04 | checksum
 *
 * The file came later and is used instead of the list where the superblock names it; during
 * recovery both may have entries. After fs/ext4/orphan.c of Linux.
 */
import { le32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { orphanBlockChecksum } from "./checksum.ts";
import type { ExtContext } from "./context.ts";
import { COMPAT_ORPHAN_FILE, RO_COMPAT_ORPHAN_PRESENT } from "./features.ts";
import type { ExtInode } from "./inode.ts";
import { INODE } from "./layout.ts";
import type { BlockVerifier } from "./metadata.ts";

export const ORPHAN_MAGIC = 0x0b10_ca04;
/** Bytes behind the last number of a block. */
export const ORPHAN_TAIL_BYTES = 8;
export const INO_BYTES = 4;
/** Read together on a miss: the file has 32 blocks or some more, and all are wanted. */
const AHEAD_BLOCKS = 32;

interface OrphanCheck {
  readonly ino: number;
  readonly hasChecksum: boolean;
  readonly checksumSeed: number;
}

/** Throws `EUCLEAN` for a wrong magic number, `EBADMSG` for a wrong checksum. */
const verifyOrphanBlock: BlockVerifier<OrphanCheck> = (data, blocknr, check) => {
  const tailAt = data.length - ORPHAN_TAIL_BYTES;
  const magic = le32(data, tailAt);
  const where = `orphan file ${check.ino}: block ${blocknr}`;
  if (magic !== ORPHAN_MAGIC) {
    throw new FsError("EUCLEAN", { detail: `${where}: ob_magic is ${magic.toString(16)}` });
  }
  const isGood = le32(data, tailAt + 4) === orphanBlockChecksum(check.checksumSeed, blocknr, data);
  if (check.hasChecksum && !isGood) {
    throw new FsError("EBADMSG", { detail: `${where}: ob_checksum does not match` });
  }
};

/** How far the orphans have been read: one object for all attempts of one call. */
export interface OrphanProgress {
  readonly seen: Set<number>;
  /** The inode of the list that comes next, 0 behind its end. */
  next: number;
}

/**
 * Numbers of all orphans: those of the list in its order, then those of the file. A caller that
 * runs this again for each miss gives the same `progress` each time, so that a list of n inodes
 * costs n steps.
 *
 * @throws {FsError} `EUCLEAN` for a number that is no inode of the image, an inode met twice, or
 *   a block of the orphan file that is missing or no such block; `EBADMSG` for a wrong checksum
 * @throws {BlockMiss} for a block that is not cached: let it pass
 */
export function readOrphans(
  ctx: ExtContext,
  progress: OrphanProgress = { seen: new Set(), next: ctx.sb.lastOrphan },
): readonly number[] {
  walkList(ctx, progress);
  const seen = new Set(progress.seen);
  if (ctx.sb.hasCompat(COMPAT_ORPHAN_FILE) && ctx.sb.hasRoCompat(RO_COMPAT_ORPHAN_PRESENT)) {
    walkFile(ctx, seen);
  }
  return [...seen];
}

function check(ctx: ExtContext, seen: ReadonlySet<number>, ino: number, where: string): void {
  if (ino < ctx.sb.firstIno || ino > ctx.sb.inodeCount) {
    throw new FsError("EUCLEAN", { detail: `${where} has inode ${ino}, which cannot be one` });
  }
  if (seen.has(ino)) throw new FsError("EUCLEAN", { detail: `${where} has inode ${ino} twice` });
}

function walkList(ctx: ExtContext, progress: OrphanProgress): void {
  while (progress.next !== 0) {
    const ino = progress.next;
    check(ctx, progress.seen, ino, "the orphan list");
    const { raw } = ctx.inode(ino);
    progress.seen.add(ino);
    progress.next = le32(raw, INODE.i_dtime);
  }
}

function walkFile(ctx: ExtContext, seen: Set<number>): void {
  const file = ctx.inode(ctx.sb.orphanFileIno);
  const { blockBytes } = ctx.sb;
  const blockCount = orphanBlockCount(ctx, file);
  for (let fileBlock = 0; fileBlock < blockCount; fileBlock++) {
    const { data } = orphanBlock(ctx, file, fileBlock, blockCount);
    const where = `orphan file ${file.ino}: file block ${fileBlock}`;
    for (let at = 0; at + INO_BYTES <= blockBytes - ORPHAN_TAIL_BYTES; at += INO_BYTES) {
      const ino = le32(data, at);
      if (ino === 0) continue;
      check(ctx, seen, ino, where);
      seen.add(ino);
    }
  }
}

/** Blocks of the orphan file `file`. Throws `EUCLEAN` for a size that cannot be. */
export function orphanBlockCount(ctx: ExtContext, file: ExtInode): number {
  const blockCount = Math.floor(file.size / ctx.sb.blockBytes);
  if (blockCount > ctx.sb.blockCount) {
    throw new FsError("EUCLEAN", { detail: `orphan file ${file.ino}: i_size is ${file.size}` });
  }
  return blockCount;
}

/** A block of the orphan file, and where it lies. */
export interface OrphanBlock {
  readonly data: Uint8Array;
  readonly blocknr: number;
}

/**
 * Block `fileBlock` of the orphan file `file`, which has `blockCount`. Throws `EUCLEAN` if it is
 * missing or no such block, `EBADMSG` for a wrong checksum.
 */
export function orphanBlock(
  ctx: ExtContext,
  file: ExtInode,
  fileBlock: number,
  blockCount: number,
): OrphanBlock {
  const run = ctx.mapBlocks(file, fileBlock, Math.min(blockCount - fileBlock, AHEAD_BLOCKS));
  if (run.physical === 0 || run.isUnwritten) {
    throw new FsError("EUCLEAN", {
      detail: `orphan file ${file.ino}: file block ${fileBlock} is missing`,
    });
  }
  const arg: OrphanCheck = {
    ino: file.ino,
    hasChecksum: ctx.hasMetadataCsum,
    checksumSeed: file.checksumSeed,
  };
  const blocknr = run.physical;
  return { data: ctx.metadata.verified(blocknr, verifyOrphanBlock, arg, run.count), blocknr };
}
