/**
 * A journal that is open for writing: its superblock, and writes by number of journal block.
 *
 *     write(1022, 4 blocks)   journal  1022 1023 | 1 2          the ring wraps at `last`
 *                             device   [ 9022 9023 ] [ 8001 8002 ]      one write for each piece
 *
 *  1. The superblock is read once and then written from memory, by one write at a time. Fields
 *     that we do not know stay.
 *  2. A journal keeps the form it has. One that has none yet, as after mkfs, gets the form that the
 *     kernel would give it: checksums v3 if the file system has metadata checksums, 64-bit numbers
 *     if it has those.
 *  3. Fast commits and commits without a flush before them are switched off, on disk before the
 *     first transaction is: tools disagree about where such a log wraps, and we write neither.
 *
 * After `jbd2_journal_update_sb_log_tail`, `jbd2_mark_journal_empty`,
 * `jbd2_journal_update_sb_errno` and `set_journal_csum_feature_set` of Linux.
 */
import { REQ_FUA } from "../../block/bio.ts";
import { type BlockDevice, readDevice } from "../../block/block-device.ts";
import { writeDevice } from "../../block/write-device.ts";
import { assert } from "../../lib/assert.ts";
import { be32, putBe32 } from "../../lib/bytes.ts";
import { journalSuperblockChecksum } from "./jbd2-checksum.ts";
import {
  decodeJournalSuperblock,
  JBD2_COMPAT_CHECKSUM,
  JBD2_INCOMPAT_64BIT,
  JBD2_INCOMPAT_ASYNC_COMMIT,
  JBD2_INCOMPAT_CSUM_V2,
  JBD2_INCOMPAT_CSUM_V3,
  JBD2_INCOMPAT_FAST_COMMIT,
  JBD2_INCOMPAT_REVOKE,
  type JournalSuperblock,
  JSB,
  JSB_BYTES,
} from "./jbd2-superblock.ts";
import type { FoundJournal } from "./journal-inode.ts";

const CHECKSUM_TYPE_CRC32C = 4;

/** What a file system asks of its journal. */
export interface JournalNeeds {
  readonly hasMetadataCsum: boolean;
  readonly is64Bit: boolean;
}

/** The log as it is to be found by a recovery. */
export interface LogTail {
  /** 0: empty. */
  readonly start: number;
  readonly sequence: number;
}

/** The bytes `raw` of a superblock with features changed; its form is version 2. */
function withFeatures(raw: Uint8Array, needs: JournalNeeds): void {
  const compat = be32(raw, JSB.s_feature_compat);
  let incompat = be32(raw, JSB.s_feature_incompat);
  incompat &= ~(JBD2_INCOMPAT_FAST_COMMIT | JBD2_INCOMPAT_ASYNC_COMMIT);
  const hasSums =
    (incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3)) !== 0 ||
    (compat & JBD2_COMPAT_CHECKSUM) !== 0;
  if (needs.hasMetadataCsum && !hasSums) {
    incompat |= JBD2_INCOMPAT_CSUM_V3;
    raw[JSB.s_checksum_type] = CHECKSUM_TYPE_CRC32C;
  }
  if (needs.is64Bit) incompat |= JBD2_INCOMPAT_64BIT;
  putBe32(raw, JSB.s_feature_incompat, incompat);
}

/** Puts the checksum of a superblock right, if it has one. */
export function sealJournalSuperblock(raw: Uint8Array): void {
  const incompat = be32(raw, JSB.s_feature_incompat);
  if ((incompat & (JBD2_INCOMPAT_CSUM_V2 | JBD2_INCOMPAT_CSUM_V3)) === 0) return;
  putBe32(raw, JSB.s_checksum, journalSuperblockChecksum(raw));
}

function putTail(raw: Uint8Array, { start, sequence }: LogTail): void {
  putBe32(raw, JSB.s_sequence, sequence);
  putBe32(raw, JSB.s_start, start);
}

/** See the head of the file. */
export class JournalFile {
  readonly found: FoundJournal;
  readonly blockBytes: number;
  readonly #raw: Uint8Array;
  #sb: JournalSuperblock;
  #writes: Promise<void> = Promise.resolve();

  /** `raw` is the superblock as it lies there; it is copied. */
  constructor(found: FoundJournal, raw: Uint8Array, blockBytes: number) {
    this.found = found;
    this.blockBytes = blockBytes;
    this.#raw = raw.slice(0, JSB_BYTES);
    this.#sb = this.#decode();
  }

  /** The superblock as it was read or, after `adopt`, as it will be written. */
  get sb(): JournalSuperblock {
    return this.#sb;
  }

  /** Invariants 2 and 3, for a log that is empty. On disk with the next write of the superblock. */
  adopt(needs: JournalNeeds): void {
    assert(be32(this.#raw, JSB.s_start) === 0, "a log is recovered before it is written");
    if (this.#sb.version === 2) withFeatures(this.#raw, needs);
    sealJournalSuperblock(this.#raw);
    this.#sb = this.#decode();
  }

  get device(): BlockDevice {
    return this.found.device;
  }

  /**
   * Writes whole blocks from journal block `first` on, `first` below the end of the log; `flags` as
   * in `writeDevice`, for one block. The bytes are borrowed. Submitted when this returns.
   *
   * @throws {FsError} what `writeDevice` throws; `EUCLEAN` for a hole in the journal
   */
  async write(first: number, bytes: Uint8Array, flags = 0): Promise<void> {
    const { blockBytes, last } = this.sb;
    const writes: Promise<void>[] = [];
    let at = first;
    for (let from = 0; from < bytes.length; ) {
      const { physical, count } = this.found.map.locate(at);
      const blocks = Math.min(count, last - at);
      const part = bytes.subarray(from, from + blocks * blockBytes);
      writes.push(writeDevice(this.device, physical * blockBytes, part, flags));
      from += part.length;
      at += blocks;
      if (at === last) at = this.sb.first;
    }
    const results = await Promise.allSettled(writes);
    for (const result of results) if (result.status === "rejected") throw result.reason;
  }

  /** Makes `tail` what a recovery finds; durable when the promise resolves. */
  writeTail(tail: LogTail): Promise<void> {
    return this.#writeFields((raw) => putTail(raw, tail), REQ_FUA);
  }

  /** As `writeTail`, but durable only with the next flush of the device. */
  startLog(tail: LogTail): Promise<void> {
    return this.#writeFields((raw) => putTail(raw, tail), 0);
  }

  /** Says that there is nothing to recover, and where the next writer may go on. Durable. */
  writeEmpty(sequence: number, head: number): Promise<void> {
    return this.#writeFields((raw) => {
      putTail(raw, { start: 0, sequence });
      if (this.sb.version === 2) putBe32(raw, JSB.s_head, head);
    }, REQ_FUA);
  }

  /**
   * Makes the first block of the area of fast commits zeros, so that none is found there: once they
   * are old. Durable when the promise resolves.
   */
  async clearFastCommits(): Promise<void> {
    const { last, blockCount } = this.sb;
    if (last + 1 >= blockCount) return;
    const { physical } = this.found.map.locate(last + 1);
    const zeros = new Uint8Array(this.blockBytes);
    await writeDevice(this.device, physical * this.blockBytes, zeros, REQ_FUA);
  }

  /** Notes why the log was given up, a negative errno. Durable when the promise resolves. */
  writeErrno(errno: number): Promise<void> {
    return this.#writeFields((raw) => putBe32(raw, JSB.s_errno, errno >>> 0), REQ_FUA);
  }

  /** From the next write of the superblock on it says that there are revoke blocks. */
  noteRevokes(): void {
    if (this.sb.version === 1) return;
    const incompat = be32(this.#raw, JSB.s_feature_incompat);
    putBe32(this.#raw, JSB.s_feature_incompat, incompat | JBD2_INCOMPAT_REVOKE);
  }

  #decode(): JournalSuperblock {
    const fileBlockCount = this.found.map.blockCount;
    return decodeJournalSuperblock(this.#raw, { blockBytes: this.blockBytes, fileBlockCount });
  }

  #writeFields(edit: (raw: Uint8Array) => void, flags: number): Promise<void> {
    const write = async (): Promise<void> => {
      edit(this.#raw);
      sealJournalSuperblock(this.#raw);
      const { physical } = this.found.map.locate(this.found.superblockBlock);
      const offsetBytes = physical * this.blockBytes;
      await writeDevice(this.device, offsetBytes, this.#raw.slice(), flags);
    };
    // One after the other, whether the one before went well or not.
    const written = this.#writes.then(write, write);
    this.#writes = written.catch(() => undefined);
    return written;
  }
}

/**
 * Opens the journal that was `found`.
 *
 * @throws {FsError} what `decodeJournalSuperblock` throws; `EIO`
 */
export async function openJournalFile(
  found: FoundJournal,
  blockBytes: number,
): Promise<JournalFile> {
  const { physical } = found.map.locate(found.superblockBlock);
  const raw = await readDevice(found.device, physical * blockBytes, JSB_BYTES);
  return new JournalFile(found, raw, blockBytes);
}
