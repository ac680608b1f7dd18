/**
 * Writing a new file system, group by group: of each group no more than a few numbers are kept.
 *
 *     bitmaps, tables, files --> flush --> descriptors, copies --> flush --> superblock --> flush
 *
 * Until the last flush the device has no superblock, or the one of before.
 */
import type { BlockDevice } from "../../../block/block-device.ts";
import { putLe16 } from "../../../lib/bytes.ts";
import { FsError } from "../../../lib/errno.ts";
import { KIB, PAGE_BYTES, roundDown, SECTOR_BYTES } from "../../../lib/units.ts";
import { inodeChecksum, inodeSeed } from "../checksum.ts";
import { GOOD_OLD_INODE_BYTES, INODE, SUPERBLOCK_OFFSET_BYTES } from "../layout.ts";
import { DescriptorEncoder } from "./descriptors.ts";
import { DeviceWriter } from "./device-writer.ts";
import { encodeInode } from "./new-files.ts";
import { copyForGroup, encodeSuperblock } from "./new-superblock.ts";
import type { MkfsOptions } from "./options.ts";
import { type MkfsPlan, planExt } from "./plan.ts";
import { reservedBlocks } from "./resize-inode.ts";

/** Groups after which the event loop gets a turn. */
const GROUPS_PER_TURN = 64;
/** Bytes at the end of a device where other systems keep their marks. */
const MARKS_BYTES = 64 * KIB;

/** What was made, for those who told nothing but a device. */
export interface MkfsResult {
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly groupCount: number;
  readonly inodeCount: number;
  readonly freeBlockCount: number;
  readonly reservedBlockCount: number;
  /** 0 without a journal, also where the file system is too small for one. */
  readonly journalBlocks: number;
  readonly uuid: Uint8Array;
}

/** Writes one plan to one device. */
class ExtMaker {
  readonly #plan: MkfsPlan;
  readonly #writer: DeviceWriter;
  readonly #options: MkfsOptions;
  readonly #encoder: DescriptorEncoder;
  readonly #isZeroed: boolean;
  readonly #isLazy: boolean;

  constructor(plan: MkfsPlan, device: BlockDevice, options: MkfsOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#writer = new DeviceWriter(device, plan.p.blockBytes);
    this.#isZeroed = options.isZeroed ?? false;
    this.#encoder = new DescriptorEncoder(plan, options.isLazyTable, this.#isZeroed);
    this.#isLazy = this.#encoder.isLazy;
  }

  async make(deviceBytes: number): Promise<MkfsResult> {
    const { geometry, p, journalRuns, identity, lastIno } = this.#plan;
    const { groupCount } = geometry;
    if (!this.#isZeroed) await this.#eraseOld(deviceBytes);
    for (let group = 0; group < groupCount; group++) {
      await this.#group(group);
      if (group % GROUPS_PER_TURN === 0) await this.#turn(group);
    }
    await this.#files();
    await this.#writer.flush();
    await this.#copies();
    await this.#writer.flush();
    const inodeCount = geometry.inodesPerGroup * groupCount;
    const freeBlockCount = this.#encoder.freeClusters * p.clusterRatio;
    const freeInodeCount = inodeCount - lastIno;
    const counts = { freeBlockCount, freeInodeCount, writtenKib: this.#writer.writtenKib };
    const superblock = encodeSuperblock(this.#plan, counts);
    await this.#writer.writeBytes(SUPERBLOCK_OFFSET_BYTES, superblock);
    await this.#writer.flush();
    return {
      blockBytes: p.blockBytes,
      blockCount: geometry.blockCount,
      groupCount,
      inodeCount,
      freeBlockCount,
      reservedBlockCount: geometry.reservedBlockCount,
      journalBlocks: journalRuns.reduce((sum, run) => sum + run.end - run.start, 0),
      uuid: identity.uuid,
    };
  }

  async #turn(group: number): Promise<void> {
    this.#options.signal?.throwIfAborted();
    this.#options.onProgress?.(group, this.#plan.geometry.groupCount);
    await this.#options.clock.turn();
  }

  /** Makes what was on the device before unrecognisable: superblock, table, marks at the end. */
  async #eraseOld(deviceBytes: number): Promise<void> {
    const headBytes = Math.min(Math.max(this.#plan.p.blockBytes, PAGE_BYTES), deviceBytes);
    await this.#writer.zeroBytes(0, roundDown(headBytes, SECTOR_BYTES));
    await this.#writer.settle();
    const end = roundDown(deviceBytes, SECTOR_BYTES);
    const from = Math.max(0, end - MARKS_BYTES);
    await this.#writer.zeroBytes(from, end - from);
    await this.#writer.flush();
  }

  /** Bitmaps and inode table of `group`. */
  async #group(group: number): Promise<void> {
    const { layout } = this.#plan;
    const bitmap = this.#encoder.blockBitmap(group);
    if (bitmap !== undefined) await this.#writer.write(layout.blockBitmaps[group]!, bitmap);
    const inodes = this.#encoder.inodeBitmap(group);
    if (inodes !== undefined) await this.#writer.write(layout.inodeBitmaps[group]!, inodes);
    await this.#inodeTable(group);
  }

  async #inodeTable(group: number): Promise<void> {
    const { p, geometry, layout } = this.#plan;
    const first = layout.inodeTables[group]!;
    const perBlock = p.blockBytes / p.inodeBytes;
    const usedBlocks = Math.ceil(this.#encoder.usedInodes(group) / perBlock);
    for (let index = 0; index < usedBlocks; index++) {
      await this.#writer.write(first + index, this.#tableBlock(group, index));
    }
    if (this.#isZeroed || this.#isLazy) return;
    await this.#writer.zero(first + usedBlocks, geometry.inodeTableBlocks - usedBlocks);
  }

  #tableBlock(group: number, index: number): Uint8Array {
    const { p, geometry, inodes, identity, seed } = this.#plan;
    const data = new Uint8Array(p.blockBytes);
    const perBlock = p.blockBytes / p.inodeBytes;
    const firstIno = 1 + group * geometry.inodesPerGroup + index * perBlock;
    const lastIno = Math.min(firstIno + perBlock - 1, this.#plan.lastIno);
    for (let ino = firstIno; ino <= lastIno; ino++) {
      const inode = inodes.find((one) => one.ino === ino);
      // Reserved inodes that nothing uses are zeros, but with a checksum.
      const raw =
        inode === undefined
          ? new Uint8Array(p.inodeBytes)
          : encodeInode(inode, p.blockBytes, p.inodeBytes, identity.nowSec);
      if (seed !== undefined) sealInode(raw, ino, inode?.hasExtra ?? false, seed);
      data.set(raw, (ino - firstIno) * p.inodeBytes);
    }
    return data;
  }

  /** The files, and zeros in the journal. */
  async #files(): Promise<void> {
    const { blocks, journalRuns, resize, layout } = this.#plan;
    const isLazy = this.#isZeroed || this.#options.isLazyJournal === true;
    for (const [index, run] of journalRuns.entries()) {
      if (isLazy) break;
      const start = index === 0 ? run.start + 1 : run.start;
      await this.#writer.zero(start, run.end - start);
    }
    for (const { blocknr, data } of blocks.toSorted((a, b) => a.blocknr - b.blocknr)) {
      await this.#writer.write(blocknr, data);
    }
    if (resize === undefined) return;
    for (const { blocknr, data } of reservedBlocks(layout, resize)) {
      await this.#writer.write(blocknr, data);
    }
  }

  /** Descriptors in all groups that hold some, and the copies of the superblock. */
  async #copies(): Promise<void> {
    const { layout, p } = this.#plan;
    const inodeCount = this.#plan.geometry.inodesPerGroup * layout.groupCount;
    const superblock = encodeSuperblock(this.#plan, {
      freeBlockCount: this.#encoder.freeClusters * p.clusterRatio,
      freeInodeCount: inodeCount - this.#plan.lastIno,
      writtenKib: 0,
    });
    for (let group = 0; group < layout.groupCount; group++) {
      if (group > 0 && layout.hasSuperblock(group)) {
        const data = new Uint8Array(p.blockBytes);
        data.set(copyForGroup(superblock, group, this.#plan));
        await this.#writer.write(layout.superblockBlock(group), data);
      }
      const { block, from, count } = layout.descriptorsIn(group);
      for (let index = 0; index < count; index++) {
        await this.#writer.write(block + index, this.#encoder.descriptorBlock(from + index));
      }
      if (count > 0) await this.#turn(group);
    }
  }
}

function sealInode(raw: Uint8Array, ino: number, hasExtra: boolean, seed: number): void {
  const hasHigh = hasExtra && raw.length > GOOD_OLD_INODE_BYTES;
  const checksum = inodeChecksum(inodeSeed(seed, ino, 0), raw, hasHigh);
  putLe16(raw, INODE.i_checksum_lo, checksum);
  if (hasHigh) putLe16(raw, INODE.i_checksum_hi, checksum >>> 16);
}

/**
 * Makes an ext2, ext3 or ext4 file system on `device`, as `options` say; what was there is lost.
 * Equal options, clock and random numbers give equal bytes, those of mke2fs 1.47.
 *
 * @throws {FsError} `EINVAL`, `EOPNOTSUPP`, `EFBIG` for options that cannot be met and `ENOSPC` for
 *   a device that is too small, before anything was written; `EIO` and what the device fails with
 * @throws the reason of the signal: the device then holds no file system
 */
export async function makeExt(device: BlockDevice, options: MkfsOptions): Promise<MkfsResult> {
  if (device.isReadOnly) {
    throw new FsError("EROFS", { syscall: "mkfs", detail: `${device.name} is read-only` });
  }
  const plan = planExt(options, device.sizeBytes);
  return new ExtMaker(plan, device, options).make(device.sizeBytes);
}
