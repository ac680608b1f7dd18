/**
 * The superblock where that at home is torn: the newest whole copy of it that the log of the same
 * file system holds.
 *
 *     home   | first sector: new | second sector: old |    the checksum is wrong
 *     log    .. | 7: copies of 12, 0, 41 | 7 committed |    block 0 is whole here
 *
 * Linux writes both sectors of a superblock, and a power cut may leave one of them. What is needed
 * to find the log does not change while a volume is in use, so it is right in either; and a replay
 * would put the copy home anyway.
 *
 *  1. Home must say that recovery is needed, else what the log holds is old.
 *  2. A copy is believed if its checksum is right and it is of the same file system.
 *  3. Nothing is written.
 */
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { equalBytes } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { ExtCore } from "./core.ts";
import { COMPAT_HAS_JOURNAL, INCOMPAT_RECOVER } from "./features.ts";
import { primarySuperblockBlock } from "./group.ts";
import type { LogContents } from "./jbd2-scan.ts";
import { JournalOverlayDevice } from "./journal-device.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import {
  type OpenJournal,
  openJournal,
  type ReplayOptions,
  replayedBlocks,
  scanJournal,
} from "./recovery.ts";
import { readSuperblock, type Superblock } from "./superblock.ts";

const UUID_BYTES = 16;

/**
 * The superblock of `bdev` as its log has it, where that at home has a wrong checksum and no other
 * fault; undefined if the log does not have it either.
 *
 * @throws {FsError} `EIO`
 */
export async function superblockFromLog(
  bdev: BlockDevice,
  cache: PageCache,
  options: Pick<ReplayOptions, "clock" | "journalDevice" | "signal">,
): Promise<Superblock | undefined> {
  const { signal } = options;
  const home = await readDevice(bdev, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  const doubtful = readSuperblock(home, bdev.sizeBytes, () => undefined);
  const isNeeded = doubtful.hasIncompat(INCOMPAT_RECOVER);
  if (!isNeeded || !doubtful.hasCompat(COMPAT_HAS_JOURNAL)) return undefined;
  const blocknr = primarySuperblockBlock(doubtful);
  const core = new ExtCore(doubtful, blocknr, bdev, cache, () => undefined, true);
  try {
    const journal = await openJournal(core, bdev, options);
    const contents = await scanJournal(core, bdev, journal, false);
    return await copyIn(core, bdev, journal, contents, options);
  } catch (thrown) {
    if (thrown instanceof FsError && thrown.code !== "EIO") return undefined;
    throw thrown;
  } finally {
    await core.close();
  }
}

/** Invariant 2. */
async function copyIn(
  core: ExtCore,
  bdev: BlockDevice,
  journal: OpenJournal,
  contents: LogContents,
  { clock, signal }: Pick<ReplayOptions, "clock" | "signal">,
): Promise<Superblock | undefined> {
  const { sb } = core;
  if (!contents.copies.has(primarySuperblockBlock(sb))) return undefined;
  const over = new JournalOverlayDevice(bdev, replayedBlocks(journal, contents), {
    blockBytes: sb.blockBytes,
    journalDevice: journal.found.device,
    clock,
  });
  const bytes = await readDevice(over, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  const copy = readSuperblock(bytes, bdev.sizeBytes);
  const uuidOf = ({ raw }: Superblock): Uint8Array =>
    raw.subarray(SB.s_uuid, SB.s_uuid + UUID_BYTES);
  const isSame = equalBytes(uuidOf(copy), uuidOf(sb)) && copy.blockBytes === sb.blockBytes;
  return isSame ? copy : undefined;
}
