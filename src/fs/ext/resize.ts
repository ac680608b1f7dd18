/**
 * Growing a file system that nobody has mounted (`resize2fs`).
 *
 *     journal recovered, marked as in use
 *     new groups written behind the end  --flush-->  one operation: the last group's bitmap,
 *         descriptors, inode 7, superblock  --flush-->  copies of these  --flush-->  clean
 *
 *  1. A power cut leaves the old size or the new one: with a journal the switch is one transaction.
 *  2. Without a journal, or where the switch does not fit into one, the image is not valid
 *     meanwhile, and the superblock is written after all else: e2fsck mends the rest. Then the
 *     switch may take several operations, each as large as the cache allows.
 *  3. No block that is in use is moved.
 *
 * After `fs/ext4/resize.c` (`ext4_resize_fs`, `ext4_flex_group_add`), and the manual of resize2fs.
 * Left out: shrinking, and growing while mounted.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { le32, putLe16, putLe32 } from "../../lib/bytes.ts";
import { FsError } from "../../lib/errno.ts";
import { clearBits } from "./bitmap.ts";
import { findSuperblock } from "./find-superblock.ts";
import { GroupTable, primarySuperblockBlock } from "./group.ts";
import type { Handle } from "./handle.ts";
import { SB } from "./layout.ts";
import { type ExtMount, mountWritable, type WritableOptions } from "./mount-writable.ts";
import {
  blocksInGroup,
  changedDescriptorBlocks,
  putNewDescriptors,
  writeNewGroups,
} from "./new-groups.ts";
import { growResizeInode, reservedToChange } from "./resize-inode.ts";
import {
  checkGrowable,
  type Growth,
  planGrowth,
  reservedGdtBlocks,
  structureBlocksIn,
} from "./resize-plan.ts";
import { writeSuperblockCopies } from "./superblock-copies.ts";
import type { ExtWriter } from "./writer.ts";

/** What growing needs beside the device. */
export interface GrowOptions extends WritableOptions {
  /** The size of the device if left out. */
  readonly sizeBytes?: number | undefined;
  /** Is told what the user must know. */
  readonly warn: (text: string) => void;
}

/** Sizes before and after; equal if there was nothing to do. */
export interface GrowResult {
  readonly blockBytes: number;
  readonly oldBlockCount: number;
  readonly blockCount: number;
  readonly oldGroupCount: number;
  readonly groupCount: number;
}

/** Fields of the superblock that growing changes, apart from free counts; 32 bits each. */
const CHANGED_FIELDS: readonly number[] = [
  SB.s_inodes_count,
  SB.s_blocks_count_lo,
  SB.s_r_blocks_count_lo,
  SB.s_blocks_count_hi,
  SB.s_r_blocks_count_hi,
  SB.s_overhead_clusters,
];
/**
 * The superblock, the last group's bitmap and descriptors, inode 7 and its slots, and what
 * summaries add.
 */
const ROOM_BLOCKS = 10;

/**
 * What `growExt` would do to `bdev`, or to a device of `sizeBytes` that begins like it. Nothing is
 * written; a journal is not looked at.
 *
 * @throws {FsError} as `planGrowth`, and as `findSuperblock`
 */
export async function previewGrowth(bdev: BlockDevice, sizeBytes: number): Promise<GrowResult> {
  const { sb } = await findSuperblock(bdev, "primary", undefined);
  checkGrowable(sb);
  return resultOf(sb, planGrowth(sb, sizeBytes));
}

function resultOf(sb: Growth["from"], growth: Growth | undefined): GrowResult {
  const to = growth?.to ?? sb;
  return {
    blockBytes: sb.blockBytes,
    oldBlockCount: sb.blockCount,
    blockCount: to.blockCount,
    oldGroupCount: sb.groupCount,
    groupCount: to.groupCount,
  };
}

/**
 * Grows the file system on `bdev`, which is durable when this returns.
 *
 * @throws {FsError} as `planGrowth`, before anything is written; `EINVAL` for a size that the
 *   device does not have; `EROFS`, `EBUSY`, `EBADMSG`, `EUCLEAN` as `mountWritable`; `EIO`
 * @throws the reason of the signal: then the size is the old one
 */
export async function growExt(
  bdev: BlockDevice,
  cache: PageCache,
  options: GrowOptions,
): Promise<GrowResult> {
  const sizeBytes = options.sizeBytes ?? bdev.sizeBytes;
  if (sizeBytes > bdev.sizeBytes) {
    const detail = `the device has ${bdev.sizeBytes} bytes, not ${sizeBytes}`;
    throw new FsError("EINVAL", { syscall: "resize", detail });
  }
  const found = await findSuperblock(bdev, "primary", undefined, options.signal);
  checkGrowable(found.sb);
  planGrowth(found.sb, sizeBytes);
  const first = await growOnce(bdev, cache, sizeBytes, options);
  if (first !== undefined) return first;
  const again = await growOnce(bdev, cache, sizeBytes, { ...options, isUnlogged: true });
  if (again !== undefined) return again;
  const detail = "the page cache is too small for so many descriptors";
  throw new FsError("ENOMEM", { syscall: "resize", detail });
}

/** One try. Undefined, and the size is the old one, if it does not fit into one transaction. */
async function growOnce(
  bdev: BlockDevice,
  cache: PageCache,
  sizeBytes: number,
  options: GrowOptions,
): Promise<GrowResult | undefined> {
  const found = await findSuperblock(bdev, "primary", undefined, options.signal);
  const mount = await mountWritable(bdev, cache, found, options, options.warn);
  let result: GrowResult | undefined;
  try {
    result = await growMounted(mount, sizeBytes, options);
  } catch (thrown) {
    await mount.close().catch(() => undefined);
    throw thrown;
  }
  await mount.close();
  return result;
}

async function growMounted(
  mount: ExtMount,
  sizeBytes: number,
  { isUnlogged, signal }: WritableOptions,
): Promise<GrowResult | undefined> {
  const { core, writer } = mount;
  const before = writer.sb;
  const growth = planGrowth(before, sizeBytes);
  if (growth === undefined) return resultOf(before, undefined);
  const { transactions } = writer;
  await transactions.flush();
  const roomBlocks = (await transactions.run((handle) => handle.roomBlocks)) - ROOM_BLOCKS;
  const parts = partsOf(growth, roomBlocks);
  if (parts.length > 1 && (isUnlogged !== true || roomBlocks < 1)) return undefined;
  const table = new GroupTable(growth.to, core.metadata, primarySuperblockBlock(before), false);
  await writeNewGroups(core.bdev, growth, table, signal);
  signal?.throwIfAborted();
  for (const part of parts) {
    await transactions.run((handle) => switchSize(writer, handle, part, table));
    await transactions.flush();
  }
  growth.to.raw.set(writer.sb.raw); // With its new free counts.
  await writeSuperblockCopies(core.bdev, growth.to, table);
  return resultOf(growth.from, growth);
}

/** What one operation of the switch changes; the last one the superblock too. */
interface Part {
  readonly growth: Growth;
  readonly reserved: readonly [first: number, end: number];
  readonly descriptorBlocks: readonly number[];
  readonly isLast: boolean;
}

/** The switch in parts of at most `roomBlocks` reserved blocks and blocks of descriptors. */
function partsOf(growth: Growth, roomBlocks: number): Part[] {
  const reservedCount = reservedToChange(growth);
  const descriptorBlocks = changedDescriptorBlocks(growth);
  const count = reservedCount + descriptorBlocks.length;
  const step = Math.max(1, roomBlocks);
  const parts: Part[] = [];
  for (let at = 0; at === 0 || at < count; at += step) {
    const end = at + step;
    parts.push({
      growth,
      reserved: [Math.min(at, reservedCount), Math.min(end, reservedCount)],
      descriptorBlocks: descriptorBlocks.slice(
        Math.max(0, at - reservedCount),
        Math.max(0, end - reservedCount),
      ),
      isLast: end >= count,
    });
  }
  return parts;
}

/** The operation that makes the file system the larger one, or one of those before it. */
function switchSize(writer: ExtWriter, handle: Handle, part: Part, table: GroupTable): void {
  const { growth, reserved, descriptorBlocks, isLast } = part;
  const { from, to } = growth;
  const { superblock } = writer;
  const changed = handle.changedBy(() => {
    growResizeInode(writer, handle, growth, ...reserved);
    addDescriptors(handle, growth, table, descriptorBlocks);
    if (isLast) extendLastGroup(writer, handle, growth);
  });
  if (!isLast) return;
  const lastIndex = Math.floor((from.groupCount - 1) / from.descriptorsPerBlock);
  changed.add(table.descriptorBlock(lastIndex)); // With the next commit.
  const raw = superblock.edit(handle);
  for (const at of CHANGED_FIELDS) putLe32(raw, at, le32(to.raw, at));
  putLe16(raw, SB.s_reserved_gdt_blocks, reservedGdtBlocks(to));
  countNewGroups(writer, handle, growth);
  handle.order(changed, [superblock.blocknr]);
}

/** The last group gets the blocks that it lacks: they are free. */
function extendLastGroup(writer: ExtWriter, handle: Handle, { from, to }: Growth): void {
  const last = from.groupCount - 1;
  const oldCount = blocksInGroup(from, last);
  const more = blocksInGroup(to, last) - oldCount;
  if (more === 0) return;
  const words = writer.groups.editBitmap(handle, "blocks", last);
  clearBits(words, oldCount, more);
  writer.groups.addFreeBlocks(last, more);
}

/** Descriptors of new groups go into those blocks of the table that are there already. */
function addDescriptors(
  handle: Handle,
  growth: Growth,
  table: GroupTable,
  indexes: readonly number[],
): void {
  const { from } = growth;
  for (const index of indexes) {
    const blocknr = table.descriptorBlock(index);
    if (blocknr >= from.blockCount) continue; // It came with its group.
    const isOld = index < from.descriptorBlockCount;
    putNewDescriptors(growth, index, isOld ? handle.write(blocknr) : handle.create(blocknr));
  }
}

/** What is free in the new groups counts from the next commit on. */
function countNewGroups(writer: ExtWriter, handle: Handle, { from, to }: Growth): void {
  const { totals } = writer.groups;
  const before = { ...totals };
  handle.undo(() => Object.assign(totals, before));
  for (let group = from.groupCount; group < to.groupCount; group++) {
    totals.freeBlockCount += blocksInGroup(to, group) - structureBlocksIn(to, group);
    totals.freeInodeCount += to.inodesPerGroup;
  }
}
