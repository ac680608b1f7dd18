/**
 * Finding the journal: a file of the file system, or a device of its own.
 *
 *     s_journal_inum 8     inode 8 --> its extents or indirect blocks --> JournalMap
 *                          unreadable: the copy of its map in the superblock (`s_jnl_blocks`)
 *     s_journal_inum 0     the device whose UUID is `s_journal_uuid`, block by block
 *
 * All of this is read from the image as it lies there, before replay: the journal's own map never
 * goes through the journal.
 *
 * After `ext4_get_journal_inode`, `ext4_open_inode_journal` and `ext4_open_dev_journal` in
 * `fs/ext4/super.c` of Linux, and `e2fsck/journal.c` for the copy.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import { readDevice } from "../../block/block-device.ts";
import { equalBytes, hexOf, isZero, le16, le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { KIB } from "../../lib/units.ts";
import type { ExtContext } from "./context.ts";
import { ExtInode } from "./inode.ts";
import { JournalMap, type JournalRun } from "./journal-log.ts";
import {
  EXTENT_MAGIC,
  EXTENTS_FL,
  I_BLOCK_BYTES,
  INODE,
  S_IFREG,
  SB,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "./layout.ts";
import { hasSuperblockMagic, Superblock } from "./superblock.ts";

/** Pieces that a journal may be looked up in; mke2fs makes one to four. */
const LOOKUPS_MAX = 0x10_0000;
/** File blocks are 32-bit numbers. */
const FILE_BLOCKS_MAX = 0x1_0000_0000;
/** `s_jnl_backup_type` of a filled `s_jnl_blocks` (`EXT3_JNL_BACKUP_BLOCKS`). */
const JNL_BACKUP_BLOCKS = 1;
const INCOMPAT_JOURNAL_DEV = 0x8;
const MODE_PRIVATE = 0o600;

/** A journal whose superblock is still to be read. */
export interface FoundJournal {
  /** The device that the blocks of `map` are on. */
  readonly device: BlockDevice;
  readonly map: JournalMap;
  /** Journal block that holds the journal superblock. */
  readonly superblockBlock: number;
  /** "inode 8", or the name of the device. */
  readonly place: string;
  readonly isExternal: boolean;
}

function damaged(ino: number, what: string): FsError {
  return new FsError("EUCLEAN", { detail: `journal inode ${ino}: ${what}` });
}

/** Where the blocks of the journal file lie, holes left out. */
async function mapJournal(
  ctx: ExtContext,
  inode: ExtInode,
  signal: AbortSignal | undefined,
): Promise<JournalMap> {
  if (inode.type !== "file") throw damaged(inode.ino, "i_mode is not that of a regular file");
  if (inode.linksCount === 0) throw damaged(inode.ino, "i_links_count is 0");
  const blockCount = Math.min(Math.floor(inode.size / ctx.sb.blockBytes), FILE_BLOCKS_MAX);
  const runs: JournalRun[] = [];
  let mappedCount = 0;
  let at = 0;
  for (let lookups = 0; at < blockCount; lookups++) {
    if (lookups === LOOKUPS_MAX) throw damaged(inode.ino, "it is in too many pieces");
    const first = at;
    const found = await ctx.metadata.run(
      () => ctx.mapBlocks(inode, first, blockCount - first),
      signal,
    );
    at += found.count;
    if (found.physical === 0) continue;
    mappedCount += found.count;
    if (mappedCount > ctx.sb.blockCount) {
      throw damaged(inode.ino, "its map has more blocks than the file system");
    }
    const last = runs.at(-1);
    const isNext =
      last !== undefined &&
      last.first + last.count === first &&
      last.physical + last.count === found.physical;
    if (isNext) runs[runs.length - 1] = { ...last, count: last.count + found.count };
    else runs.push({ first, physical: found.physical, count: found.count });
  }
  if (runs[0]?.first !== 0) throw damaged(inode.ino, "its first block is a hole");
  return new JournalMap(runs, blockCount);
}

/** The journal inode as the superblock remembers it, or undefined if it does not. */
function inodeOfBackup(sb: Superblock): ExtInode | undefined {
  const { raw } = sb;
  const map = raw.subarray(SB.s_jnl_blocks, SB.s_jnl_blocks + I_BLOCK_BYTES);
  if (raw[SB.s_jnl_backup_type] !== JNL_BACKUP_BLOCKS || isZero(map)) return undefined;
  const slot = new Uint8Array(sb.inodeBytes);
  putLe16(slot, INODE.i_mode, S_IFREG | MODE_PRIVATE);
  putLe16(slot, INODE.i_links_count, 1);
  putLe32(slot, INODE.i_size_high, le32(raw, SB.s_jnl_blocks + I_BLOCK_BYTES));
  putLe32(slot, INODE.i_size_lo, le32(raw, SB.s_jnl_blocks + I_BLOCK_BYTES + 4));
  if (le16(map, 0) === EXTENT_MAGIC) putLe32(slot, INODE.i_flags, EXTENTS_FL);
  slot.set(map, INODE.i_block);
  return new ExtInode(sb.journalIno, slot, sb);
}

/**
 * Finds the journal in the file system of `ctx`, which reads the image as it lies there (on
 * `device`). Where inode `s_journal_inum` cannot be used, its copy in the superblock is, with a
 * warning.
 *
 * @throws {FsError} `EUCLEAN`/`EBADMSG` for a journal inode that cannot be used and has no copy,
 *   `EIO`
 */
export async function findInternalJournal(
  ctx: ExtContext,
  device: BlockDevice,
  signal?: AbortSignal,
): Promise<FoundJournal> {
  const { sb } = ctx;
  const found = (map: JournalMap): FoundJournal => {
    const place = `inode ${sb.journalIno}`;
    return { device, map, superblockBlock: 0, place, isExternal: false };
  };
  try {
    const inode = await ctx.metadata.run(() => ctx.inode(sb.journalIno), signal);
    return found(await mapJournal(ctx, inode, signal));
  } catch (thrown) {
    const copy = thrown instanceof FsError ? inodeOfBackup(sb) : undefined;
    if (copy === undefined) throw thrown;
    const map = await mapJournal(ctx, copy, signal).catch(() => undefined);
    if (map === undefined) throw thrown;
    ctx.warn(`the journal was found by the superblock's copy of its map: ${String(thrown)}`);
    return found(map);
  }
}

/**
 * Checks that `device` is the external journal of the file system `sb`.
 *
 * @throws {FsError} `EINVAL` if it is no journal device or another file system's, `EUCLEAN` if its
 *   numbers do not fit, `EIO`
 */
export async function openExternalJournal(
  sb: Superblock,
  device: BlockDevice,
  signal?: AbortSignal,
): Promise<FoundJournal> {
  const refuse = (what: string): FsError =>
    new FsError("EINVAL", { detail: `external journal ${device.name}: ${what}` });
  if (device.sizeBytes < SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES)
    throw refuse("it is too small");
  const bytes = await readDevice(device, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  if (!hasSuperblockMagic(bytes)) throw refuse("there is no superblock");
  const own = new Superblock(bytes);
  if (!own.hasIncompat(INCOMPAT_JOURNAL_DEV)) throw refuse("it is no journal device");
  if (!equalBytes(own.uuid, sb.journalUuid)) {
    throw refuse(`its UUID is ${hexOf(own.uuid)}, wanted is ${hexOf(sb.journalUuid)}`);
  }
  if (own.blockBytes !== sb.blockBytes) throw refuse(`its blocks have ${own.blockBytes} bytes`);
  if (own.blockCount * own.blockBytes > device.sizeBytes) throw refuse("the device is too short");
  return {
    device,
    map: new JournalMap([{ first: 0, physical: 0, count: own.blockCount }], own.blockCount),
    superblockBlock: sb.blockBytes === KIB ? 2 : 1,
    place: device.name,
    isExternal: true,
  };
}
