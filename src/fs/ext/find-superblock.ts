/**
 * Finding the superblock: at byte 1024, or one of its copies when the user asks for it.
 *
 *     group 1, 3, 5, 7, 9, 25, 27, 49 ..    first block, for each block size and usual group size
 *
 * Where the copies lie depends on numbers of the superblock that is damaged, so the places that
 * mke2fs uses are tried in turn. A copy is believed if its own numbers say that it belongs there.
 * Its counts and times are old, and it is never used unasked.
 */

import type { BlockDevice } from "../../block/block-device.ts";
import { readDevice } from "../../block/block-device.ts";
import { le16 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { KIB } from "../../lib/units.ts";
import { primarySuperblockBlock } from "./group.ts";
import { SB, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "./layout.ts";
import {
  type DoubtHandler,
  hasSuperblockMagic,
  readSuperblock,
  type Superblock,
} from "./superblock.ts";

/**
 * Which superblock to use: the one at byte 1024, the first copy that is found, or that in block
 * n.
 */
export type SuperblockChoice = "primary" | "backup" | number;

/** A superblock and the block it was read from, in blocks of its file system. */
export interface FoundSuperblock {
  readonly sb: Superblock;
  readonly blocknr: number;
  readonly isBackup: boolean;
}

const BLOCK_SIZES = [4 * KIB, KIB, 2 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB];
const BACKUP_GROUPS = [1, 3, 5, 7, 9, 25, 27, 49];
/** Blocks of a cluster: none, the default of mke2fs with bigalloc, then what else is likely. */
const CLUSTER_RATIOS = [1, 16, 2, 4, 8, 32, 64, 128, 256];
/** Blocks of a group that mke2fs never exceeds. */
const GROUP_BLOCKS_MAX = 65_528;

interface Place {
  readonly blocknr: number;
  readonly blockBytes: number;
}

function* backupPlaces(): Generator<Place> {
  for (const group of BACKUP_GROUPS) {
    for (const ratio of CLUSTER_RATIOS) {
      for (const blockBytes of BLOCK_SIZES) {
        const groupBlocks = Math.min(8 * blockBytes, GROUP_BLOCKS_MAX) * ratio;
        const first = blockBytes === KIB && ratio === 1 ? 1 : 0;
        yield { blocknr: first + group * groupBlocks, blockBytes };
      }
    }
  }
}

/** The copy at `place`, or the reason why it cannot be one; undefined if there is none at all. */
async function readCopy(
  bdev: BlockDevice,
  place: Place,
  onDoubt: DoubtHandler | undefined,
  signal?: AbortSignal,
): Promise<Superblock | FsError | undefined> {
  const offsetBytes = place.blocknr * place.blockBytes;
  if (offsetBytes + SUPERBLOCK_BYTES > bdev.sizeBytes) return undefined;
  const bytes = await readDevice(bdev, offsetBytes, SUPERBLOCK_BYTES, signal);
  if (!hasSuperblockMagic(bytes)) return undefined;
  try {
    const sb = readSuperblock(bytes, bdev.sizeBytes, onDoubt);
    const group = le16(bytes, SB.s_block_group_nr);
    const isHere = sb.blockBytes === place.blockBytes && sb.firstBlockOf(group) === place.blocknr;
    return isHere ? sb : undefined;
  } catch (thrown) {
    if (thrown instanceof FsError) return thrown;
    throw thrown;
  }
}

async function findBackup(
  bdev: BlockDevice,
  places: Iterable<Place>,
  onDoubt: DoubtHandler | undefined,
  signal?: AbortSignal,
): Promise<FoundSuperblock> {
  let cause: FsError | undefined;
  let count = 0;
  for (const place of places) {
    const copy = await readCopy(bdev, place, onDoubt, signal);
    if (copy !== undefined && !(copy instanceof FsError)) {
      return { sb: copy, blocknr: place.blocknr, isBackup: true };
    }
    if (copy?.code === "EOPNOTSUPP") throw copy;
    cause ??= copy;
    count++;
  }
  const detail = `no usable copy of the superblock in any of ${count} places`;
  throw new FsError("EINVAL", { detail, cause });
}

/**
 * Reads the superblock that `choice` names and checks it; `onDoubt` as for `readSuperblock`. A
 * number is a block of the file system, as `dumpe2fs` lists the copies; 0 and that at byte 1024
 * are the primary.
 *
 * @throws {FsError} `EINVAL` if there is none, `EUCLEAN`/`EBADMSG` if it is damaged, `EOPNOTSUPP`
 *   for features that quire cannot read, `EIO`
 */
export async function findSuperblock(
  bdev: BlockDevice,
  choice: SuperblockChoice,
  onDoubt?: DoubtHandler,
  signal?: AbortSignal,
): Promise<FoundSuperblock> {
  if (choice === "backup") return findBackup(bdev, backupPlaces(), onDoubt, signal);
  if (typeof choice === "number" && choice > 1) {
    const places = BLOCK_SIZES.map((blockBytes) => ({ blocknr: choice, blockBytes }));
    return findBackup(bdev, places, onDoubt, signal);
  }
  if (bdev.sizeBytes < SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES) {
    throw new FsError("EINVAL", {
      detail: `${bdev.sizeBytes} bytes are too few for a file system`,
    });
  }
  const bytes = await readDevice(bdev, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  const sb = readSuperblock(bytes, bdev.sizeBytes, onDoubt);
  return { sb, blocknr: primarySuperblockBlock(sb), isBackup: false };
}

/**
 * True if the device holds ext2/3/4, judged by the magic number at byte 1024. Throws `EIO` only.
 */
export async function probeExt(bdev: BlockDevice, signal?: AbortSignal): Promise<boolean> {
  if (bdev.sizeBytes < SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES) return false;
  const bytes = await readDevice(bdev, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal);
  return hasSuperblockMagic(bytes);
}
