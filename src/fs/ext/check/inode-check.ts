/**
 * The inode table: every inode that is in use, its fields against one another, its block map and
 * attributes, and what of it must be remembered.
 */
import { isZero, le16, le32 } from "../../../lib/bytes.ts";
import { SECTOR_BYTES } from "../../../lib/units.ts";
import { inodeChecksum, inodeSeed } from "../checksum.ts";
import {
  COMPAT_DIR_INDEX,
  INCOMPAT_64BIT,
  INCOMPAT_CASEFOLD,
  INCOMPAT_EA_INODE,
  INCOMPAT_EXTENTS,
  INCOMPAT_INLINE_DATA,
  INCOMPAT_LARGE_DIR,
} from "../features.ts";
import { indirectReachBytes } from "../indirect.ts";
import {
  BG_INODE_UNINIT,
  CASEFOLD_FL,
  EA_INODE_FL,
  ENCRYPT_FL,
  EXT_BAD_INO,
  EXT_ROOT_INO,
  EXTENTS_FL,
  GOOD_OLD_INODE_BYTES,
  HUGE_FILE_FL,
  I_BLOCK_BYTES,
  INDEX_FL,
  INLINE_DATA_FL,
  INODE,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  SB,
  VERITY_FL,
} from "../layout.ts";
import type { CheckContext, RawGroup } from "./context.ts";
import {
  KIND_BAD,
  KIND_BLOCK,
  KIND_CHARACTER,
  KIND_DIRECTORY,
  KIND_FIFO,
  KIND_FILE,
  KIND_SOCKET,
  KIND_SYMLINK,
} from "./inode-facts.ts";
import { type DataRun, type MapSums, MapWalk } from "./map-walk.ts";
import { checkInodeXattrs, checkXattrBlock, inlineTail } from "./xattr-check.ts";

const KINDS: ReadonlyMap<number, number> = new Map([
  [S_IFREG, KIND_FILE],
  [S_IFDIR, KIND_DIRECTORY],
  [S_IFCHR, KIND_CHARACTER],
  [S_IFBLK, KIND_BLOCK],
  [S_IFIFO, KIND_FIFO],
  [S_IFSOCK, KIND_SOCKET],
  [S_IFLNK, KIND_SYMLINK],
]);
const FLAGS_IMMUTABLE_APPEND = 0x30;
const EXTRA_LEAST = 4;
/** Blocks of a file that extents can name. */
const FILE_BLOCKS_MAX = 0x1_0000_0000;
const INODE_FADDR = 0x70;
/** Bytes of `i_block` that a device number may take, as e2fsck sees it. */
const DEVICE_BYTES = 16;

/** An inode of the table, decoded as far as a check needs it. */
export class CheckedInode {
  readonly ino: number;
  readonly raw: Uint8Array;
  readonly mode: number;
  readonly kind: number;
  readonly flags: number;
  readonly linksCount: number;
  readonly sizeBytes: number;
  readonly dtime: number;
  readonly iBlock: Uint8Array;
  readonly fileAcl: number;
  readonly seed: number;

  constructor(ctx: CheckContext, ino: number, raw: Uint8Array) {
    const { sb } = ctx;
    this.ino = ino;
    this.raw = raw;
    this.mode = le16(raw, INODE.i_mode);
    this.kind = KINDS.get(this.mode & S_IFMT) ?? KIND_BAD;
    this.flags = le32(raw, INODE.i_flags);
    this.linksCount = le16(raw, INODE.i_links_count);
    const hasHigh = this.kind === KIND_FILE || sb.hasIncompat(INCOMPAT_LARGE_DIR);
    const high = hasHigh ? le32(raw, INODE.i_size_high) : 0;
    this.sizeBytes = high * 0x1_0000_0000 + le32(raw, INODE.i_size_lo);
    this.dtime = le32(raw, INODE.i_dtime);
    this.iBlock = raw.subarray(INODE.i_block, INODE.i_block + I_BLOCK_BYTES);
    const aclHigh = sb.hasIncompat(INCOMPAT_64BIT) ? le16(raw, INODE.i_file_acl_high) : 0;
    this.fileAcl = aclHigh * 0x1_0000_0000 + le32(raw, INODE.i_file_acl_lo);
    this.seed = inodeSeed(sb.seed, ino, le32(raw, INODE.i_generation));
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }

  get isFastSymlink(): boolean {
    return (
      this.kind === KIND_SYMLINK && !this.has(INLINE_DATA_FL) && this.sizeBytes < I_BLOCK_BYTES
    );
  }

  /** It has a map of blocks. */
  get hasMap(): boolean {
    if (this.has(INLINE_DATA_FL) || this.isFastSymlink) return false;
    return this.kind === KIND_FILE || this.kind === KIND_DIRECTORY || this.kind === KIND_SYMLINK;
  }
}

/** The raw slot of `ino`, a copy. */
export async function readSlot(ctx: CheckContext, ino: number): Promise<Uint8Array> {
  const { sb } = ctx;
  const group = Math.floor((ino - 1) / sb.inodesPerGroup);
  const index = (ino - 1) % sb.inodesPerGroup;
  const { inodeTable } = await ctx.group(group);
  const at = (index % sb.inodesPerBlock) * sb.inodeBytes;
  const blocknr = inodeTable + Math.floor(index / sb.inodesPerBlock);
  return ctx.block(blocknr, (data) => data.slice(at, at + sb.inodeBytes));
}

function isChecksumGood(ctx: CheckContext, ino: number, raw: Uint8Array): boolean {
  const { sb } = ctx;
  if (!sb.hasMetadataCsum || sb.creatorOs !== 0) return true;
  if (isZero(raw, 0, GOOD_OLD_INODE_BYTES)) return true;
  const hasHigh =
    raw.length > GOOD_OLD_INODE_BYTES && le16(raw, INODE.i_extra_isize) >= EXTRA_LEAST;
  const seed = inodeSeed(sb.seed, ino, le32(raw, INODE.i_generation));
  const computed = inodeChecksum(seed, raw, hasHigh);
  const low = le16(raw, INODE.i_checksum_lo);
  const stored = hasHigh ? low + le16(raw, INODE.i_checksum_hi) * 0x1_0000 : low;
  return stored === (hasHigh ? computed : computed & 0xffff);
}

/** Walks the tables of all groups and checks every inode in use. */
export async function checkInodes(
  ctx: CheckContext,
  orphans: ReadonlySet<number>,
  special: ReadonlySet<number>,
): Promise<void> {
  const { sb } = ctx;
  for (let group = 0; group < sb.groupCount; group++) {
    ctx.onProgress?.("inodes", group, sb.groupCount);
    await ctx.step();
    const found = await ctx.group(group);
    await checkTable(ctx, group, found, orphans, special);
  }
}

async function checkTable(
  ctx: CheckContext,
  group: number,
  found: RawGroup,
  orphans: ReadonlySet<number>,
  special: ReadonlySet<number>,
): Promise<void> {
  const { sb, metadata } = ctx;
  if ((found.flags & BG_INODE_UNINIT) !== 0) return;
  const used = sb.inodesPerGroup - Math.min(found.itableUnused, sb.inodesPerGroup);
  const blocks = Math.ceil(used / sb.inodesPerBlock);
  const window = Math.max(1, Math.floor(0x10_0000 / sb.blockBytes));
  for (let block = 0; block < blocks; block++) {
    await ctx.step();
    if (block % window === 0) {
      metadata.readahead(found.inodeTable + block, Math.min(window, blocks - block));
    }
    const data = await ctx.copyOf(found.inodeTable + block, { group });
    if (data === undefined) continue;
    const first = block * sb.inodesPerBlock;
    const count = Math.min(sb.inodesPerBlock, used - first);
    for (let slot = 0; slot < count; slot++) {
      const raw = data.subarray(slot * sb.inodeBytes, (slot + 1) * sb.inodeBytes);
      const ino = group * sb.inodesPerGroup + first + slot + 1;
      if (isZero(raw, 0, GOOD_OLD_INODE_BYTES)) continue;
      await new InodeCheck(ctx, new CheckedInode(ctx, ino, raw), orphans, special).run();
    }
  }
}

/** The check of one inode. */
class InodeCheck {
  readonly #ctx: CheckContext;
  readonly #inode: CheckedInode;
  readonly #isOrphan: boolean;
  readonly #isSpecial: boolean;

  constructor(
    ctx: CheckContext,
    inode: CheckedInode,
    orphans: ReadonlySet<number>,
    special: ReadonlySet<number>,
  ) {
    this.#ctx = ctx;
    this.#inode = inode;
    this.#isOrphan = orphans.has(inode.ino);
    this.#isSpecial = special.has(inode.ino) || inode.ino < ctx.sb.firstIno;
  }

  #bad(code: string, text: string): void {
    const { ino } = this.#inode;
    this.#ctx.findings.damage(code, { ino }, `inode ${ino}: ${text}`);
  }

  async run(): Promise<void> {
    const { ino, linksCount, raw, kind } = this.#inode;
    if (!isChecksumGood(this.#ctx, ino, raw)) this.#bad("inode.checksum", "wrong checksum");
    if (ino === EXT_BAD_INO) {
      await this.#map();
      return;
    }
    const isFree = linksCount === 0 && !this.#isOrphan;
    if (isFree && ino >= this.#ctx.sb.firstIno) {
      this.#unused();
      return;
    }
    const isRoot = ino === EXT_ROOT_INO;
    const isValue = this.#inode.has(EA_INODE_FL) && this.#ctx.sb.hasIncompat(INCOMPAT_EA_INODE);
    const nameless = (this.#isSpecial && !isRoot) || isValue;
    const isReserved = ino < this.#ctx.sb.firstIno && !isRoot;
    if (isReserved && this.#inode.mode === 0) return;
    if (isReserved && kind !== KIND_FILE) {
      this.#bad("inode.mode", `a reserved inode has i_mode 0${this.#inode.mode.toString(8)}`);
      if (linksCount === 0) return;
    }
    this.#ctx.facts.add(ino, kind, linksCount, { nameless });
    if (this.#isOrphan) this.#ctx.facts.setOrphan(ino);
    if (kind === KIND_BAD) this.#bad("inode.mode", `i_mode is 0${this.#inode.mode.toString(8)}`);
    if (isRoot && kind !== KIND_DIRECTORY) this.#bad("root.type", "the root is no directory");
    this.#fields();
    const extraSectors = await this.#attributes();
    const sums = await this.#map();
    this.#sizes(sums, extraSectors);
  }

  /** An inode that is free has a time of deletion, unless it was never used. */
  #unused(): void {
    const { dtime, mode, ino } = this.#inode;
    if (dtime === 0 && mode !== 0 && ino >= this.#ctx.sb.firstIno) {
      this.#bad("inode.dtime", "it is deleted, but i_dtime is 0");
    }
  }

  #fields(): void {
    const { ino, raw, flags, kind, dtime } = this.#inode;
    const { sb } = this.#ctx;
    const faddr = le32(raw, INODE_FADDR);
    if (faddr !== 0) this.#bad("inode.faddr", `i_obso_faddr is ${faddr}`);
    const aclHigh = le16(raw, INODE.i_file_acl_high);
    if (aclHigh !== 0 && !sb.hasIncompat(INCOMPAT_64BIT)) {
      this.#bad("inode.xattr-block", `i_file_acl_high is ${aclHigh} without the feature 64bit`);
    }
    const blocksHigh = le16(raw, INODE.i_blocks_high);
    if (blocksHigh !== 0 && !sb.hasHugeFile) {
      this.#bad("inode.blocks", `l_i_blocks_high is ${blocksHigh} without the feature huge_file`);
    }
    const sizeHigh = le32(raw, INODE.i_size_high);
    if (sizeHigh !== 0 && kind === KIND_DIRECTORY && !sb.hasIncompat(INCOMPAT_LARGE_DIR)) {
      this.#bad("inode.size", `i_size_high is ${sizeHigh} without the feature large_dir`);
    }
    const hasDtime = ino >= sb.firstIno || ino === EXT_ROOT_INO;
    if (dtime !== 0 && hasDtime && !this.#isOrphan)
      this.#bad("inode.dtime", `in use, but i_dtime is ${dtime}`);
    if (raw.length > GOOD_OLD_INODE_BYTES) {
      const extra = le16(raw, INODE.i_extra_isize);
      const isBad = extra % 4 !== 0 || GOOD_OLD_INODE_BYTES + extra > raw.length;
      if (isBad || (extra !== 0 && extra < EXTRA_LEAST)) {
        this.#bad("inode.extra", `i_extra_isize is ${extra}`);
      }
    }
    const needs: readonly (readonly [number, number, string])[] = [
      [EXTENTS_FL, INCOMPAT_EXTENTS, "extents"],
      [INLINE_DATA_FL, INCOMPAT_INLINE_DATA, "inline data"],
      [CASEFOLD_FL, INCOMPAT_CASEFOLD, "casefold"],
    ];
    for (const [flag, feature, name] of needs) {
      if ((flags & flag) !== 0 && !sb.hasIncompat(feature)) {
        this.#bad("inode.flags", `i_flags has ${name}, which the superblock does not`);
      }
    }
    if (this.#inode.has(INDEX_FL)) {
      const isGood = kind === KIND_DIRECTORY && sb.hasCompat(COMPAT_DIR_INDEX);
      if (!isGood) this.#bad("inode.flags", "i_flags has index, but there can be none");
    }
    if (this.#inode.has(CASEFOLD_FL) && kind !== KIND_DIRECTORY) {
      this.#bad("inode.flags", "i_flags has casefold, but it is no directory");
    }
    if (this.#inode.has(INLINE_DATA_FL) && this.#inode.has(EXTENTS_FL)) {
      this.#bad("inode.flags", "i_flags has inline data and extents");
    }
    this.#device();
  }

  /** Devices, fifos and sockets have a number in `i_block` at most. */
  #device(): void {
    const { ino, kind, flags, iBlock, sizeBytes } = this.#inode;
    if (kind < KIND_CHARACTER || kind > KIND_SOCKET) return;
    if ((flags & (EXTENTS_FL | INDEX_FL | INLINE_DATA_FL)) !== 0) {
      this.#bad("inode.flags", "a special file has flags of one with content");
    }
    if ((flags & FLAGS_IMMUTABLE_APPEND) !== 0) {
      const text = `inode ${ino}: a special file is immutable or append-only`;
      this.#ctx.findings.note("inode.flags", { ino }, text);
    }
    if (sizeBytes !== 0) this.#bad("inode.size", `a special file has i_size ${sizeBytes}`);
    if (!isZero(iBlock, DEVICE_BYTES)) {
      this.#bad("inode.device", "i_block of a special file is not zero");
    }
  }

  async #attributes(): Promise<number> {
    const { ino, raw, fileAcl } = this.#inode;
    const inInode = checkInodeXattrs(this.#ctx, ino, raw);
    if (fileAcl === 0) return inInode;
    const inBlock = await checkXattrBlock(this.#ctx, ino, fileAcl);
    if (inBlock === undefined) return inInode;
    const { blockBytes, clusterRatio } = this.#ctx.sb;
    return inInode + inBlock + (blockBytes * clusterRatio) / SECTOR_BYTES;
  }

  async #map(): Promise<MapSums | undefined> {
    const inode = this.#inode;
    if (!inode.hasMap && inode.ino !== EXT_BAD_INO) {
      if (inode.isFastSymlink) this.#fastSymlink();
      if (inode.kind === KIND_SYMLINK && inode.has(INLINE_DATA_FL)) this.#inlineSymlink();
      return { blocks: 0, lastBlock: -1, lastWritten: -1 };
    }
    if (isResize(this.#ctx, inode.ino)) return undefined;
    const owner = { ...ownerOf(inode) };
    let first: DataRun | undefined;
    const walk = new MapWalk(this.#ctx, owner, (run) => {
      first ??= run;
    });
    await walk.walk();
    if (inode.kind === KIND_SYMLINK) await this.#slowSymlink(first, walk.sums);
    return walk.isGood ? walk.sums : undefined;
  }

  #inlineSymlink(): void {
    const { iBlock, raw, sizeBytes } = this.#inode;
    if (this.#inode.has(ENCRYPT_FL)) return;
    const text = [...iBlock, ...(inlineTail(raw) ?? [])];
    const end = text.indexOf(0);
    const length = end < 0 ? text.length : end;
    if (length === sizeBytes) return;
    this.#bad("inode.symlink", `a symlink of ${sizeBytes} bytes has ${length} in the inode`);
  }

  #fastSymlink(): void {
    const { iBlock, sizeBytes } = this.#inode;
    const end = iBlock.indexOf(0);
    const length = end < 0 ? iBlock.length : end;
    if (this.#inode.has(ENCRYPT_FL)) return;
    if (length !== sizeBytes || sizeBytes === 0 || this.#inode.has(EXTENTS_FL)) {
      this.#bad("inode.symlink", `a symlink of ${sizeBytes} bytes has ${length} in i_block`);
    }
  }

  async #slowSymlink(first: DataRun | undefined, sums: MapSums): Promise<void> {
    const { sizeBytes } = this.#inode;
    const isOne = first?.fileBlock === 0 && sums.lastBlock === 0;
    if (!isOne || sizeBytes >= this.#ctx.sb.blockBytes) {
      this.#bad("inode.symlink", `a symlink of ${sizeBytes} bytes is not in one block`);
      return;
    }
    const data = await this.#ctx.copyOf(first.blocknr, { ino: this.#inode.ino });
    if (data === undefined || this.#inode.has(ENCRYPT_FL)) return;
    const end = data.indexOf(0);
    if (end !== sizeBytes) {
      this.#bad("inode.symlink", `a symlink of ${sizeBytes} bytes has ${end} in its block`);
    }
  }

  /** The length of a file must be one that its map can have. */
  #reach(): void {
    const { kind, sizeBytes } = this.#inode;
    if (kind !== KIND_FILE || this.#inode.has(INLINE_DATA_FL)) return;
    const { blockBytes } = this.#ctx.sb;
    const most = this.#inode.has(EXTENTS_FL)
      ? FILE_BLOCKS_MAX * blockBytes - 1
      : indirectReachBytes(blockBytes);
    if (sizeBytes > most) this.#bad("inode.size", `i_size is ${sizeBytes}, beyond its map`);
  }

  #sizes(sums: MapSums | undefined, extraSectors: number): void {
    const { kind, sizeBytes, raw, ino } = this.#inode;
    const { sb } = this.#ctx;
    if (sums === undefined) return;
    const isInline = this.#inode.has(INLINE_DATA_FL);
    if (kind === KIND_DIRECTORY && !isInline) {
      const isWhole = sizeBytes % sb.blockBytes === 0;
      const blocks = Math.ceil(sizeBytes / sb.blockBytes);
      if (!isWhole || blocks !== sums.lastBlock + 1) {
        this.#bad("inode.size", `i_size is ${sizeBytes}, its last block is ${sums.lastBlock}`);
      }
    } else if (kind === KIND_FILE && !isInline && !this.#inode.has(VERITY_FL)) {
      if (sums.lastWritten >= 0 && sizeBytes < sums.lastWritten * sb.blockBytes) {
        this.#bad("inode.size", `i_size is ${sizeBytes}, block ${sums.lastWritten} is behind it`);
      }
    }
    this.#reach();
    const low = le32(raw, INODE.i_blocks_lo);
    const high = sb.hasHugeFile ? le16(raw, INODE.i_blocks_high) : 0;
    const stored = high * 0x1_0000_0000 + low;
    const isInBlocks = sb.hasHugeFile && this.#inode.has(HUGE_FILE_FL);
    const unit = isInBlocks ? sb.blockBytes : SECTOR_BYTES;
    const counted = (sums.blocks * sb.blockBytes + extraSectors * SECTOR_BYTES) / unit;
    if (stored !== counted) {
      this.#bad("inode.blocks", `i_blocks is ${stored}, counted are ${counted}`);
    }
    if (ino === le32(sb.raw, SB.s_journal_inum) && kind !== KIND_FILE) {
      this.#bad("journal.inode", "the journal is no regular file");
    }
  }
}

/** What a walk over the map of `inode` needs to know. */
export function ownerOf(inode: CheckedInode): {
  readonly ino: number;
  readonly iBlock: Uint8Array;
  readonly hasExtents: boolean;
  readonly seed: number;
} {
  const hasExtents = inode.has(EXTENTS_FL);
  return { ino: inode.ino, iBlock: inode.iBlock, hasExtents, seed: inode.seed };
}

/** Inode 7, whose map leads to blocks that are copies. */
export function isResize(ctx: CheckContext, ino: number): boolean {
  return ino === 7 && ctx.sb.hasCompat(0x10);
}
