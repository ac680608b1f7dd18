/**
 * Writing the primary superblock: within transactions what belongs to operations, and past them
 * what says how the volume stands.
 *
 *     in transactions   free counts (each commit), s_last_orphan, features that a change needs
 *     past them         needs_recovery, s_state, mount count and times, the record of an error
 *
 *  1. What is written past the transactions is the last committed superblock, changed: nothing of
 *     an operation reaches the disk before its commit.
 *  2. Every write sets `s_wtime`, and is sealed: a power cut leaves the old or the new one.
 *  3. Copies in other groups are never touched.
 *
 * After `fs/ext4/super.c` (`ext4_commit_super`, `ext4_setup_super`, `save_error_info`).
 */

import { REQ_FUA, REQ_PREFLUSH } from "../../block/bio.ts";
import type { BlockDevice } from "../../block/block-device.ts";
import { writeDevice } from "../../block/write-device.ts";
import { equalBytes, le16, le32, putLe16, putLe32, putLe64 } from "../../lib/bytes.ts";
import { AsyncMutex } from "../../lib/locks.ts";
import { isPromise } from "../../lib/maybe.ts";
import { SECTOR_BYTES } from "../../lib/units.ts";
import type { Timespec } from "../vfs.ts";
import { sealSuperblock, superblockChecksum } from "./checksum.ts";
import { type Features, INCOMPAT_64BIT, INCOMPAT_RECOVER } from "./features.ts";
import { primarySuperblockBlock } from "./group.ts";
import type { GroupState } from "./group-state.ts";
import type { Handle, Seal } from "./handle.ts";
import {
  GOOD_OLD_FIRST_INO,
  GOOD_OLD_INODE_BYTES,
  SB,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "./layout.ts";
import type { Metadata } from "./metadata.ts";
import type { Superblock } from "./superblock.ts";

/** Bits of `s_state`. */
export const STATE_VALID = 0x1;
export const STATE_ERROR = 0x2;

const FEATURE_FIELDS: Readonly<Record<keyof Features, number>> = {
  compat: SB.s_feature_compat,
  incompat: SB.s_feature_incompat,
  roCompat: SB.s_feature_ro_compat,
};
const ERROR_FUNC_BYTES = 32;
/** From this one on there are features. */
const DYNAMIC_REVISION = 1;

function putTime(raw: Uint8Array, lo: number, hi: number, sec: number): void {
  putLe32(raw, lo, sec % 0x1_0000_0000);
  if (le32(raw, SB.s_rev_level) > 0) raw[hi] = Math.floor(sec / 0x1_0000_0000);
}

/**
 * The superblock of a volume that is open for writing (`ext4_setup_super`). With a journal it
 * needs recovery from now on, without one it is not valid until `patchClosed`.
 */
export function patchOpened(raw: Uint8Array, hasJournal: boolean, now: Timespec): void {
  if (hasJournal) {
    putLe32(
      raw,
      SB.s_feature_incompat,
      (le32(raw, SB.s_feature_incompat) | INCOMPAT_RECOVER) >>> 0,
    );
  } else putLe16(raw, SB.s_state, le16(raw, SB.s_state) & ~STATE_VALID);
  putLe16(raw, SB.s_mnt_count, le16(raw, SB.s_mnt_count) + 1);
  putTime(raw, SB.s_mtime, SB.s_mtime_hi, now.sec);
}

/**
 * The superblock of a volume whose log is empty and whose blocks are all home. `wasValid` is what
 * `s_state` said before it was opened: a volume that was in doubt stays so.
 */
export function patchClosed(raw: Uint8Array, wasValid: boolean): void {
  putLe32(raw, SB.s_feature_incompat, (le32(raw, SB.s_feature_incompat) & ~INCOMPAT_RECOVER) >>> 0);
  if (wasValid) putLe16(raw, SB.s_state, le16(raw, SB.s_state) | STATE_VALID);
}

/** An error that the volume is to remember. */
export interface ErrorRecord {
  /** `EXT4_ERR_*`: 1 unknown, 2 EIO, 4 bad checksum, 5 corrupted .. */
  readonly code: number;
  readonly ino: number;
  readonly block: number;
  /** Who found it; cut to 32 bytes of ASCII. */
  readonly where: string;
}

/** Notes an error in the superblock, and in its state (`save_error_info`). */
export function patchError(raw: Uint8Array, record: ErrorRecord, now: Timespec): void {
  putLe16(raw, SB.s_state, le16(raw, SB.s_state) | STATE_ERROR);
  const func = new TextEncoder().encode(record.where).subarray(0, ERROR_FUNC_BYTES);
  const count = le32(raw, SB.s_error_count);
  if (count === 0) {
    putTime(raw, SB.s_first_error_time, SB.s_first_error_time_hi, now.sec);
    putLe32(raw, SB.s_first_error_ino, record.ino);
    putLe64(raw, SB.s_first_error_block, record.block);
    raw.fill(0, SB.s_first_error_func, SB.s_first_error_func + ERROR_FUNC_BYTES);
    raw.set(func, SB.s_first_error_func);
    putLe32(raw, SB.s_first_error_line, 0);
    raw[SB.s_first_error_errcode] = record.code;
  }
  putLe32(raw, SB.s_error_count, count + 1);
  putTime(raw, SB.s_last_error_time, SB.s_last_error_time_hi, now.sec);
  putLe32(raw, SB.s_last_error_ino, record.ino);
  putLe64(raw, SB.s_last_error_block, record.block);
  raw.fill(0, SB.s_last_error_func, SB.s_last_error_func + ERROR_FUNC_BYTES);
  raw.set(func, SB.s_last_error_func);
  putLe32(raw, SB.s_last_error_line, 0);
  raw[SB.s_last_error_errcode] = record.code;
}

/** Has the superblock say itself what is fixed in revision 0. */
function raiseRevision(raw: Uint8Array): void {
  putLe32(raw, SB.s_rev_level, DYNAMIC_REVISION);
  putLe32(raw, SB.s_first_ino, GOOD_OLD_FIRST_INO);
  putLe16(raw, SB.s_inode_size, GOOD_OLD_INODE_BYTES);
  for (const at of Object.values(FEATURE_FIELDS)) putLe32(raw, at, 0);
}

/** Changes the bytes of a superblock; it may be asked to do so for several copies. */
type Change = (raw: Uint8Array) => void;

/** See the head of the file. */
export class SuperblockWriter {
  /** The block that holds the primary superblock. */
  readonly blocknr: number;
  readonly #sb: Superblock;
  readonly #metadata: Metadata;
  readonly #groups: GroupState;
  readonly #now: () => Timespec;
  /** Where the superblock begins in its block. */
  readonly #at: number;
  readonly #seal: Seal;
  /** As the last commit, or the last write past the transactions, has left it. */
  #committed: Uint8Array;
  /** Changed by the running transaction. */
  #isDirty = false;
  /** For each commit whose copy is made: what was changed past the transactions since. */
  readonly #underWay = new Set<Change[]>();
  readonly #nowLock = new AsyncMutex();

  constructor(sb: Superblock, metadata: Metadata, groups: GroupState, now: () => Timespec) {
    this.#sb = sb;
    this.#metadata = metadata;
    this.#groups = groups;
    this.#now = now;
    this.blocknr = primarySuperblockBlock(sb);
    this.#at = SUPERBLOCK_OFFSET_BYTES - this.blocknr * sb.blockBytes;
    this.#committed = sb.raw.slice();
    this.#seal = (block) => this.#complete(this.#viewOf(block));
  }

  #viewOf(block: Uint8Array): Uint8Array {
    return block.subarray(this.#at, this.#at + SUPERBLOCK_BYTES);
  }

  #complete(raw: Uint8Array): void {
    putTime(raw, SB.s_wtime, SB.s_wtime_hi, this.#now().sec);
    if (this.#sb.hasMetadataCsum) sealSuperblock(raw);
  }

  /** The decoded superblock follows the bytes. */
  #refresh(raw: Uint8Array): void {
    const sb = this.#sb;
    sb.raw.set(raw);
    sb.lastOrphan = le32(raw, SB.s_last_orphan);
    sb.revision = le32(raw, SB.s_rev_level);
    sb.features = { compat: 0, incompat: 0, roCompat: 0 };
    if (sb.revision === 0) return;
    sb.features = {
      compat: le32(raw, SB.s_feature_compat),
      incompat: le32(raw, SB.s_feature_incompat),
      roCompat: le32(raw, SB.s_feature_ro_compat),
    };
  }

  /**
   * The 1024 bytes, to be changed in this operation. What is decoded of them (`Superblock`) follows
   * at its end; `setLastOrphan` and `setFeature` change both at once.
   */
  edit(handle: Handle): Uint8Array {
    const view = this.#viewOf(handle.write(this.blocknr, this.#seal));
    const before = this.#sb.raw.slice();
    const wasDirty = this.#isDirty;
    handle.undo(() => {
      this.#refresh(before);
      this.#isDirty = wasDirty;
    });
    handle.atEnd(() => this.#refresh(view));
    this.#isDirty = true;
    return view;
  }

  /** Sets the head of the list of orphans; 0 for an empty one. */
  setLastOrphan(handle: Handle, ino: number): void {
    putLe32(this.edit(handle), SB.s_last_orphan, ino);
    this.#sb.lastOrphan = ino;
  }

  /**
   * Sets or clears a bit of the features, if it is not so already. With its first feature a file
   * system of revision 0 becomes one of revision 1.
   */
  setFeature(handle: Handle, word: keyof Features, bit: number, isSet = true): void {
    const { features } = this.#sb;
    if (((features[word] & bit) !== 0) === isSet) return;
    const value = (isSet ? features[word] | bit : features[word] & ~bit) >>> 0;
    const raw = this.edit(handle);
    if (this.#sb.revision === 0) raiseRevision(raw);
    putLe32(raw, FEATURE_FIELDS[word], value);
    this.#sb.revision = le32(raw, SB.s_rev_level);
    this.#sb.features = { ...features, [word]: value };
  }

  /** Brings the free counts up to date. Part of each commit, after the groups. */
  writeOut(handle: Handle): void {
    const { freeBlockCount, freeInodeCount } = this.#groups.totals;
    const { raw } = this.#sb;
    const isWide = this.#sb.hasIncompat(INCOMPAT_64BIT);
    const high = isWide ? le32(raw, SB.s_free_blocks_count_hi) : 0;
    const stored = high * 0x1_0000_0000 + le32(raw, SB.s_free_blocks_count_lo);
    const areCountsOld =
      stored !== freeBlockCount || le32(raw, SB.s_free_inodes_count) !== freeInodeCount;
    if (!areCountsOld && !this.#isDirty) return;
    const view = this.edit(handle);
    putLe32(view, SB.s_free_blocks_count_lo, freeBlockCount % 0x1_0000_0000);
    if (isWide) {
      putLe32(view, SB.s_free_blocks_count_hi, Math.floor(freeBlockCount / 0x1_0000_0000));
    }
    putLe32(view, SB.s_free_inodes_count, freeInodeCount);
    this.#isDirty = false;
    const copy = view.slice();
    const missed: Change[] = [];
    this.#underWay.add(missed);
    handle.undo(() => this.#underWay.delete(missed));
    handle.onCommit(() => {
      for (const change of missed) change(copy);
      this.#underWay.delete(missed);
      this.#committed = copy;
    });
  }

  /**
   * Writes the last committed superblock, changed by `change`, to the disk at once, after all that
   * was written before; it is durable when this returns. The cached block is changed the same way.
   * Calls are done one after the other.
   *
   * @throws {FsError} `EIO` if it cannot be written
   */
  async writeNow(bdev: BlockDevice, change: Change): Promise<void> {
    await this.#nowLock.lock();
    try {
      await this.#writeNow(bdev, change);
    } finally {
      this.#nowLock.unlock();
    }
  }

  async #writeNow(bdev: BlockDevice, change: Change): Promise<void> {
    const { buffers } = this.#metadata;
    const reading = buffers.bread(this.blocknr);
    const buffer = isPromise(reading) ? await reading : reading;
    try {
      const before = this.#committed;
      const bytes = before.slice();
      change(bytes);
      this.#complete(bytes);
      await this.#writeWhole(bdev, bytes);
      const view = this.#viewOf(buffer.data);
      change(view);
      putLe32(view, SB.s_checksum, le32(bytes, SB.s_checksum)); // The second sector as on disk.
      this.#complete(view);
      if (this.#committed === before) this.#committed = bytes;
      else change(this.#committed); // A commit has ended meanwhile.
      for (const missed of this.#underWay) missed.push(change);
      this.#isDirty = true; // A commit under way may write an older one home later.
      this.#refresh(view);
    } finally {
      buffers.brelse(buffer);
    }
  }

  /**
   * Writes `bytes`, sealed. Where the second sector changes too, as for the code of an error, it is
   * written behind the first one and has the checksum itself: each of the two writes is of one
   * sector, in effect.
   */
  async #writeWhole(bdev: BlockDevice, bytes: Uint8Array): Promise<void> {
    const flags = REQ_PREFLUSH | REQ_FUA;
    const second = this.#committed.subarray(SECTOR_BYTES);
    if (this.#sb.hasMetadataCsum && !equalBytes(bytes.subarray(SECTOR_BYTES), second)) {
      const first = bytes.slice();
      first.set(second, SECTOR_BYTES);
      sealSuperblock(first);
      await writeDevice(bdev, SUPERBLOCK_OFFSET_BYTES, first, flags);
      bytes.set(first.subarray(0, SECTOR_BYTES));
      putLe32(bytes, SB.s_checksum, superblockChecksum(bytes));
    }
    await writeDevice(bdev, SUPERBLOCK_OFFSET_BYTES, bytes, flags);
  }
}
