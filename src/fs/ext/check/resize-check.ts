/**
 * Inode 7 and the blocks that it keeps for descriptors: its pointers are blocks of the file system,
 * and which they should be is known.
 *
 * As for e2fsck, a wrong pointer within the file system is no damage: only a resize uses it, which
 * looks itself.
 */
import { le16, le32 } from "../../../lib/bytes.ts";
import { SECTOR_BYTES } from "../../../lib/units.ts";
import { COMPAT_RESIZE_INODE } from "../features.ts";
import { hasSuperblockCopy } from "../group.ts";
import { DIRECT_BLOCKS, INODE, SB } from "../layout.ts";
import type { CheckContext } from "./context.ts";
import { CheckedInode, readSlot } from "./inode-check.ts";
import { KIND_FILE } from "./inode-facts.ts";

const RESIZE_INO = 7;
const POINTER_BYTES = 4;
const DOUBLE_INDIRECT_SLOT = DIRECT_BLOCKS + 1;

/** The walk over the map of inode 7. */
class ResizeCheck {
  readonly #ctx: CheckContext;
  readonly #reserved: number;
  readonly #descriptors: number;
  /** Blocks that it names, itself not counted. */
  blocks = 0;

  constructor(ctx: CheckContext) {
    this.#ctx = ctx;
    this.#reserved = le16(ctx.sb.raw, SB.s_reserved_gdt_blocks);
    this.#descriptors = ctx.sb.descriptorBlockCount;
  }

  bad(text: string): void {
    const where = { ino: RESIZE_INO };
    this.#ctx.findings.damage("resize", where, `inode 7, kept for descriptors: ${text}`);
  }

  #note(text: string): void {
    const where = { ino: RESIZE_INO };
    this.#ctx.findings.note("resize", where, `inode 7, kept for descriptors: ${text}`);
  }

  /** True for a block behind one of the copies of the descriptors. */
  #isReserved(blocknr: number): boolean {
    const { sb } = this.#ctx;
    const group = Math.floor((blocknr - sb.firstDataBlock) / sb.blocksPerGroup);
    if (!hasSuperblockCopy(sb, group)) return false;
    const first = this.#firstReserved(group);
    return blocknr >= first && blocknr < first + this.#reserved;
  }

  #firstReserved(group: number): number {
    const { sb, table } = this.#ctx;
    const first = group === 0 ? table.descriptorBlock(0) : sb.firstBlockOf(group) + 1;
    return first + this.#descriptors;
  }

  /** Counts a pointer; false if it leads outside. */
  #pointer(blocknr: number): boolean {
    this.blocks++;
    if (!this.#ctx.isBlock(blocknr)) {
      this.bad(`it has block ${blocknr}, which is outside`);
      return false;
    }
    return true;
  }

  async walk(double: Uint8Array): Promise<void> {
    const { sb } = this.#ctx;
    const perBlock = sb.blockBytes / POINTER_BYTES;
    const wanted = new Map<number, number>();
    for (let k = 0; k < this.#reserved; k++) {
      wanted.set((this.#descriptors + k) % perBlock, this.#firstReserved(0) + k);
    }
    for (let slot = 0; slot < perBlock; slot++) {
      await this.#ctx.step();
      const primary = le32(double, slot * POINTER_BYTES);
      const expected = wanted.get(slot) ?? 0;
      if (primary !== expected) this.#note(`pointer ${slot} is ${primary}, not ${expected}`);
      if (primary === 0 || !this.#pointer(primary)) continue;
      const data = await this.#ctx.copyOf(primary, { ino: RESIZE_INO });
      if (data !== undefined) this.#copies(data, primary);
    }
  }

  #copies(data: Uint8Array, primary: number): void {
    for (let at = 0; at < data.length; at += POINTER_BYTES) {
      const copy = le32(data, at);
      if (copy === 0 || !this.#pointer(copy) || this.#isReserved(copy)) continue;
      this.#note(`block ${primary} has block ${copy}, which is not kept for descriptors`);
    }
  }
}

/** See the head of the file. */
export async function checkResizeInode(ctx: CheckContext): Promise<void> {
  const { sb } = ctx;
  if (!sb.hasCompat(COMPAT_RESIZE_INODE)) return;
  const check = new ResizeCheck(ctx);
  const inode = new CheckedInode(ctx, RESIZE_INO, await readSlot(ctx, RESIZE_INO));
  const blocknr = le32(inode.iBlock, DOUBLE_INDIRECT_SLOT * POINTER_BYTES);
  if (inode.kind !== KIND_FILE || inode.linksCount === 0 || !ctx.isBlock(blocknr)) {
    check.bad("it is not what it should be");
    return;
  }
  ctx.markStructure(blocknr, 1, { ino: RESIZE_INO }, "inode 7");
  const double = await ctx.copyOf(blocknr, { ino: RESIZE_INO });
  if (double === undefined) return;
  await check.walk(double);
  const sectors = ((check.blocks + 1) * sb.clusterRatio * sb.blockBytes) / SECTOR_BYTES;
  const stored = le32(inode.raw, INODE.i_blocks_lo);
  if (stored !== sectors) check.bad(`i_blocks is ${stored}, counted are ${sectors}`);
}
