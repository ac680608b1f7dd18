/**
 * Group descriptors, and at the end of a check what they and the bitmaps say against what is used.
 */
import { le16, le32 } from "../../../lib/bytes.ts";
import { bitmapChecksum, descriptorChecksum, descriptorCrc16 } from "../checksum.ts";
import { INCOMPAT_META_BG } from "../features.ts";
import { hasSuperblockCopy, primarySuperblockBlock } from "../group.ts";
import { BG_BLOCK_UNINIT, BG_INODE_UNINIT, GD, SB } from "../layout.ts";
import type { CheckContext, RawGroup } from "./context.ts";

const FINDINGS_PER_BITMAP = 8;

/** Blocks at the start of `group` with copies of superblock and descriptors. */
function copiesOf(ctx: CheckContext, group: number): { first: number; count: number }[] {
  const { sb } = ctx;
  const runs: { first: number; count: number }[] = [];
  const groupFirst = sb.firstBlockOf(group);
  const isShifted = group === 0 && sb.firstDataBlock === 0 && primarySuperblockBlock(sb) === 1;
  const first = isShifted ? 1 : groupFirst;
  if (isShifted) runs.push({ first: 0, count: 1 });
  const hasSuper = hasSuperblockCopy(sb, group);
  if (hasSuper) runs.push({ first, count: 1 });
  const at = hasSuper ? first + 1 : groupFirst;
  const perBlock = sb.descriptorsPerBlock;
  const isMeta = sb.hasIncompat(INCOMPAT_META_BG) && group >= sb.firstMetaBg * perBlock;
  if (isMeta) {
    const index = group % perBlock;
    if (index <= 1 || index === perBlock - 1) runs.push({ first: at, count: 1 });
    return runs;
  }
  if (!hasSuper) return runs;
  const descriptors = sb.hasIncompat(INCOMPAT_META_BG) ? sb.firstMetaBg : sb.descriptorBlockCount;
  runs.push({ first: at, count: descriptors + le16(sb.raw, SB.s_reserved_gdt_blocks) });
  return runs;
}

function checkDescriptor(ctx: CheckContext, group: number, found: RawGroup): boolean {
  const { sb, findings } = ctx;
  const where = { group };
  const before = findings.damageCount;
  const tableBlocks = sb.inodeTableBlockCount;
  const isInside = (blocknr: number, count: number): boolean =>
    ctx.isBlock(blocknr) && blocknr + count <= sb.blockCount;
  for (const [name, blocknr, count] of [
    ["bg_block_bitmap", found.blockBitmap, 1],
    ["bg_inode_bitmap", found.inodeBitmap, 1],
    ["bg_inode_table", found.inodeTable, tableBlocks],
  ] as const) {
    if (!isInside(blocknr, count)) {
      findings.damage("group.outside", where, `group ${group}: ${name} is block ${blocknr}`);
    }
  }
  const isGood = findings.damageCount === before;
  if (sb.hasDescriptorCsum) {
    const computed = sb.hasMetadataCsum
      ? descriptorChecksum(sb.seed, group, found.raw)
      : descriptorCrc16(sb.uuid, group, found.raw);
    if (computed !== le16(found.raw, GD.bg_checksum)) {
      findings.damage("group.checksum", where, `group ${group}: bg_checksum does not match`);
    }
    if (found.itableUnused > sb.inodesPerGroup) {
      const text = `group ${group}: bg_itable_unused is ${found.itableUnused}`;
      findings.damage("group.unused", where, text);
    }
  }
  const stored = le16(found.raw, GD.bg_flags);
  if (!sb.hasDescriptorCsum && (stored & (BG_INODE_UNINIT | BG_BLOCK_UNINIT)) !== 0) {
    const text = `group ${group}: bg_flags is ${stored}, but no checksum guards it`;
    findings.damage("group.flags", where, text);
  }
  return isGood;
}

/** Checks all descriptors and marks what they name. False if the check cannot go on. */
export async function checkGroups(ctx: CheckContext): Promise<boolean> {
  const { sb } = ctx;
  let isGood = true;
  for (let group = 0; group < sb.groupCount; group++) {
    await ctx.step();
    for (const { first, count } of copiesOf(ctx, group)) {
      ctx.markStructure(first, count, { group }, `group ${group}: copies`);
    }
  }
  for (let group = 0; group < sb.groupCount; group++) {
    await ctx.step();
    ctx.onProgress?.("groups", group, sb.groupCount);
    const found = await ctx.group(group);
    if (!checkDescriptor(ctx, group, found)) {
      isGood = false;
      continue;
    }
    ctx.markStructure(found.blockBitmap, 1, { group }, `group ${group}: block bitmap`);
    ctx.markStructure(found.inodeBitmap, 1, { group }, `group ${group}: inode bitmap`);
    const tableBlocks = sb.inodeTableBlockCount;
    ctx.markStructure(found.inodeTable, tableBlocks, { group }, `group ${group}: inode table`);
  }
  return isGood;
}

/** Compares the block bitmap of `group` with what is in use. */
async function checkBlockBitmap(ctx: CheckContext, group: number, found: RawGroup): Promise<void> {
  const { sb, use, findings } = ctx;
  if ((found.flags & BG_BLOCK_UNINIT) !== 0) return;
  const bitmap = await ctx.copyOf(found.blockBitmap, { group });
  if (bitmap === undefined) return;
  const first = sb.firstBlockOf(group);
  const blocks = Math.min(sb.blocksPerGroup, sb.blockCount - first);
  const clusters = Math.ceil(blocks / sb.clusterRatio);
  const where = { group, blocknr: found.blockBitmap };
  if (sb.hasMetadataCsum) {
    const computed = bitmapChecksum(sb.seed, bitmap, sb.clustersPerGroup);
    if (found.blockBitmapSum !== (found.isWide ? computed : computed & 0xffff)) {
      findings.damage("bitmap.checksum", where, `group ${group}: block bitmap: wrong checksum`);
    }
  }
  let shown = 0;
  for (let at = 0; at < clusters; at += 8) {
    const used = use.byteOf(group, at / 8);
    const stored = bitmap[at / 8]!;
    if (used === stored) continue;
    for (let bit = at; bit < Math.min(at + 8, clusters) && shown < FINDINGS_PER_BITMAP; bit++) {
      const mask = 1 << (bit & 7);
      if ((used & mask) === (stored & mask)) continue;
      shown++;
      const is = (used & mask) !== 0 ? "in use, but marked free" : "free, but marked as in use";
      const blocknr = first + bit * sb.clusterRatio;
      findings.damage("bitmap.block", { group, blocknr }, `block ${blocknr} is ${is}`);
    }
  }
  checkPadding(ctx, group, bitmap, clusters, "block");
}

/** The bits behind the last one that means something have to be set. */
function checkPadding(
  ctx: CheckContext,
  group: number,
  bitmap: Uint8Array,
  from: number,
  name: string,
): void {
  for (let bit = from; bit < 8 * bitmap.length; bit++) {
    if ((bitmap[bit >>> 3]! & (1 << (bit & 7))) !== 0) continue;
    const text = `group ${group}: ${name} bitmap: padding is not set at bit ${bit}`;
    ctx.findings.damage("bitmap.padding", { group }, text);
    return;
  }
}

async function checkInodeBitmap(ctx: CheckContext, group: number, found: RawGroup): Promise<void> {
  const { sb, facts, findings } = ctx;
  if ((found.flags & BG_INODE_UNINIT) !== 0) return;
  const bitmap = await ctx.copyOf(found.inodeBitmap, { group });
  if (bitmap === undefined) return;
  const where = { group, blocknr: found.inodeBitmap };
  if (sb.hasMetadataCsum) {
    const computed = bitmapChecksum(sb.seed, bitmap, sb.inodesPerGroup);
    if (found.inodeBitmapSum !== (found.isWide ? computed : computed & 0xffff)) {
      findings.damage("bitmap.checksum", where, `group ${group}: inode bitmap: wrong checksum`);
    }
  }
  let shown = 0;
  for (let bit = 0; bit < sb.inodesPerGroup && shown < FINDINGS_PER_BITMAP; bit++) {
    const ino = group * sb.inodesPerGroup + bit + 1;
    const isUsed = facts.isUsed(ino) || ino < sb.firstIno;
    const isStored = (bitmap[bit >>> 3]! & (1 << (bit & 7))) !== 0;
    if (isUsed === isStored) continue;
    shown++;
    const is = isUsed ? "in use, but marked free" : "free, but marked as in use";
    findings.damage("bitmap.inode", { group, ino }, `inode ${ino} is ${is}`);
  }
  checkPadding(ctx, group, bitmap, sb.inodesPerGroup, "inode");
}

/** Inodes of `group` that are in use, the reserved ones among them. */
function usedInodesOf(ctx: CheckContext, group: number): number {
  const { sb, facts } = ctx;
  let used = facts.usedIn(group);
  const firstIno = group * sb.inodesPerGroup + 1;
  const reservedEnd = Math.min(firstIno + sb.inodesPerGroup, sb.firstIno);
  for (let ino = firstIno; ino < reservedEnd; ino++) if (!facts.isUsed(ino)) used++;
  return used;
}

/** Bitmaps and counts of all groups, and the sums in the superblock. */
export async function checkCounts(ctx: CheckContext): Promise<void> {
  const { sb, use, facts, findings } = ctx;
  let freeClusters = 0;
  let freeInodes = 0;
  for (let group = 0; group < sb.groupCount; group++) {
    await ctx.step();
    ctx.onProgress?.("bitmaps", group, sb.groupCount);
    const found = await ctx.group(group);
    await checkBlockBitmap(ctx, group, found);
    await checkInodeBitmap(ctx, group, found);
    const blocks = Math.min(sb.blocksPerGroup, sb.blockCount - sb.firstBlockOf(group));
    const free = Math.ceil(blocks / sb.clusterRatio) - use.countOf(group);
    const freeHere = sb.inodesPerGroup - usedInodesOf(ctx, group);
    freeClusters += free;
    freeInodes += freeHere;
    for (const [name, stored, counted] of [
      ["bg_free_blocks_count", found.freeClusters, free],
      ["bg_free_inodes_count", found.freeInodes, freeHere],
      ["bg_used_dirs_count", found.directories, facts.directoriesIn(group)],
    ] as const) {
      if (stored === counted) continue;
      const text = `group ${group}: ${name} is ${stored}, counted are ${counted}`;
      findings.damage("group.count", { group }, text);
    }
  }
  const high = sb.descriptorBytes > 32 ? le32(sb.raw, SB.s_free_blocks_count_hi) : 0;
  const storedFree = high * 0x1_0000_0000 + le32(sb.raw, SB.s_free_blocks_count_lo);
  const freeBlocks = freeClusters * sb.clusterRatio;
  if (storedFree !== freeBlocks) {
    const text = `superblock: s_free_blocks_count is ${storedFree}, counted are ${freeBlocks}`;
    findings.note("superblock.count", {}, text);
  }
  const storedInodes = le32(sb.raw, SB.s_free_inodes_count);
  if (storedInodes !== freeInodes) {
    const text = `superblock: s_free_inodes_count is ${storedInodes}, counted are ${freeInodes}`;
    findings.note("superblock.count", {}, text);
  }
}
