/**
 * Extended attributes of one inode: the list in the inode, the block that may be shared, hashes,
 * and the inodes that hold large values.
 */
import { le16, le32 } from "../../../lib/bytes.ts";
import { roundUp, SECTOR_BYTES } from "../../../lib/units.ts";
import { xattrBlockChecksum } from "../checksum.ts";
import { COMPAT_EXT_ATTR, INCOMPAT_EA_INODE } from "../features.ts";
import { GOOD_OLD_INODE_BYTES } from "../layout.ts";
import { XATTR_BLOCK_HEADER_BYTES, XATTR_INODE_HEADER_BYTES, XATTR_MAGIC } from "../xattr-area.ts";
import type { CheckContext } from "./context.ts";

const ENTRY_BYTES = 16;
const XATTR_INDEX_SYSTEM = 7;
const REFS_MAX = 1024;

/** One place with entries, as `readXattrArea` knows it. */
interface Area {
  readonly data: Uint8Array;
  readonly entriesAt: number;
  readonly base: number;
  readonly end: number;
  readonly isBlock: boolean;
}

function rotl(value: number, by: number): number {
  return ((value << by) | (value >>> (32 - by))) >>> 0;
}

/** Hash of an entry, name bytes as signed numbers or not (`ext4_xattr_hash_entry`). */
function entryHash(name: Uint8Array, value: Uint8Array, isSigned: boolean): number {
  let hash = 0;
  for (const byte of name) {
    const letter = isSigned ? (byte << 24) >> 24 : byte;
    hash = (rotl(hash, 5) ^ letter) >>> 0;
  }
  const padded = new Uint8Array(roundUp(value.length, 4));
  padded.set(value);
  for (let at = 0; at < padded.length; at += 4) hash = (rotl(hash, 16) ^ le32(padded, at)) >>> 0;
  return hash;
}

/** Judges all entries of `area`; what is wrong, or undefined. Counts references to value inodes. */
function judge(ctx: CheckContext, area: Area, onValueIno: (ino: number, bytes: number) => void) {
  const { data, end, base } = area;
  const starts: number[] = [];
  let at = area.entriesAt;
  for (;;) {
    if (at + 4 > end) return "the list of names does not end";
    if (le32(data, at) === 0) break;
    const next = at + ENTRY_BYTES + roundUp(data[at]!, 4);
    if (next > end) return "a name reaches past the end";
    starts.push(at);
    at = next;
  }
  const namesEnd = at + 4;
  for (const start of starts) {
    const valueBytes = le32(data, start + 8);
    const valueIno = le32(data, start + 4);
    const hash = le32(data, start + 12);
    const name = data.subarray(start + ENTRY_BYTES, start + ENTRY_BYTES + data[start]!);
    if (data[start + 1] === 0) return "a name has index 0";
    if (valueIno !== 0) {
      if (!ctx.sb.hasIncompat(INCOMPAT_EA_INODE)) return "e_value_inum is set";
      if (valueIno < ctx.sb.firstIno || valueIno > ctx.sb.inodeCount) {
        return `e_value_inum is ${valueIno}`;
      }
      onValueIno(valueIno, valueBytes);
      continue;
    }
    const valueAt = base + le16(data, start + 2);
    if (valueBytes > 0 && (valueAt < namesEnd || valueAt + valueBytes > end)) {
      return `a value of ${valueBytes} bytes at ${valueAt} has no place`;
    }
    const value =
      valueBytes === 0 ? data.subarray(0, 0) : data.subarray(valueAt, valueAt + valueBytes);
    const isChecked = area.isBlock || hash !== 0;
    const isRight = hash === entryHash(name, value, false) || hash === entryHash(name, value, true);
    if (isChecked && !isRight) return "e_hash does not match";
  }
  return undefined;
}

/** Attributes in the inode. Returns 512-byte units that values in inodes of their own cost. */
export function checkInodeXattrs(ctx: CheckContext, ino: number, raw: Uint8Array): number {
  if (raw.length <= GOOD_OLD_INODE_BYTES) return 0;
  const at = GOOD_OLD_INODE_BYTES + le16(raw, GOOD_OLD_INODE_BYTES);
  if (at + XATTR_INODE_HEADER_BYTES > raw.length) return 0;
  if (le32(raw, at) !== XATTR_MAGIC) return 0;
  const entriesAt = at + XATTR_INODE_HEADER_BYTES;
  let sectors = 0;
  const area: Area = { data: raw, entriesAt, base: entriesAt, end: raw.length, isBlock: false };
  const wrong = judge(ctx, area, (valueIno, bytes) => {
    sectors += refer(ctx, valueIno, bytes);
  });
  if (wrong !== undefined) {
    ctx.findings.damage("xattr.inode", { ino }, `inode ${ino}: xattrs in the inode: ${wrong}`);
  }
  return sectors;
}

/** Counts a reference to a value inode. */
function refer(ctx: CheckContext, valueIno: number, bytes: number): number {
  const { valueRefs } = ctx.facts;
  valueRefs.set(valueIno, (valueRefs.get(valueIno) ?? 0) + 1);
  const { blockBytes, clusterRatio } = ctx.sb;
  return roundUp(bytes, blockBytes * clusterRatio) / SECTOR_BYTES;
}

function headerWrong(ctx: CheckContext, data: Uint8Array, blocknr: number): string | undefined {
  if (le32(data, 0) !== XATTR_MAGIC) return "h_magic is wrong";
  const refs = le32(data, 4);
  if (refs === 0 || refs > REFS_MAX) return `h_refcount is ${refs}`;
  if (le32(data, 8) !== 1) return `h_blocks is ${le32(data, 8)}`;
  const isSumDue = ctx.sb.hasMetadataCsum;
  if (isSumDue && le32(data, 0x10) !== xattrBlockChecksum(ctx.sb.seed, blocknr, data)) {
    return "h_checksum does not match";
  }
  return undefined;
}

/** What a block of attributes costs the inodes that share it, in 512-byte units, by block. */
const blockCosts = new WeakMap<CheckContext, Map<number, number>>();

function costsOf(ctx: CheckContext): Map<number, number> {
  let costs = blockCosts.get(ctx);
  if (costs === undefined) {
    costs = new Map();
    blockCosts.set(ctx, costs);
  }
  return costs;
}

/**
 * The block of attributes of inode `ino`; marks it the first time. Returns the 512-byte units that
 * its values in inodes cost, or undefined if the block cannot be one.
 */
export async function checkXattrBlock(
  ctx: CheckContext,
  ino: number,
  blocknr: number,
): Promise<number | undefined> {
  const { findings, sb } = ctx;
  const bad = (what: string): undefined => {
    const text = `inode ${ino}: xattr block ${blocknr}: ${what}`;
    findings.damage("xattr.block", { ino, blocknr }, text);
    return undefined;
  };
  if (!sb.hasCompat(COMPAT_EXT_ATTR)) return bad("the feature ext_attr is not set");
  if (!ctx.isBlock(blocknr)) return bad("it is outside");
  const known = ctx.xattrBlocks.get(blocknr);
  if (known !== undefined) {
    known.refs++;
    return costsOf(ctx).get(blocknr) ?? 0;
  }
  const cluster = ctx.clusterOf(blocknr);
  if (ctx.use.mark(cluster, cluster + 1) >= 0) return bad("it is used by others too");
  const data = await ctx.copyOf(blocknr, { ino });
  if (data === undefined) return undefined;
  ctx.xattrBlocks.set(blocknr, { stored: le32(data, 4), ino, refs: 1 });
  const wrongHead = headerWrong(ctx, data, blocknr);
  if (wrongHead !== undefined) return bad(wrongHead);
  let sectors = 0;
  const entriesAt = XATTR_BLOCK_HEADER_BYTES;
  const area: Area = { data, entriesAt, base: 0, end: data.length, isBlock: true };
  const wrong = judge(ctx, area, (valueIno, bytes) => {
    sectors += refer(ctx, valueIno, bytes);
  });
  if (wrong !== undefined) return bad(wrong);
  costsOf(ctx).set(blocknr, sectors);
  return sectors;
}

/** How often each shared block says that it is shared, and each value inode. */
export function checkXattrRefs(ctx: CheckContext): void {
  for (const [blocknr, { stored, refs, ino }] of ctx.xattrBlocks) {
    if (stored === refs) continue;
    const text = `xattr block ${blocknr}: h_refcount is ${stored}, counted are ${refs}`;
    ctx.findings.damage("xattr.refcount", { ino, blocknr }, text);
  }
}

/** The value of the attribute `system.data`, or undefined. */
export function inlineTail(raw: Uint8Array): Uint8Array | undefined {
  const header = GOOD_OLD_INODE_BYTES + le16(raw, GOOD_OLD_INODE_BYTES);
  if (header + 8 > raw.length || le32(raw, header) !== XATTR_MAGIC) return undefined;
  const base = header + 4;
  for (let at = base; at + ENTRY_BYTES < raw.length && le32(raw, at) !== 0; ) {
    const nameBytes = raw[at]!;
    const isData = raw[at + 1] === XATTR_INDEX_SYSTEM && nameBytes === 4;
    const valueAt = base + le16(raw, at + 2);
    const valueEnd = valueAt + le32(raw, at + 8);
    if (isData && valueEnd <= raw.length) {
      return raw.subarray(le32(raw, at + 8) === 0 ? valueEnd : valueAt, valueEnd);
    }
    at += ENTRY_BYTES + ((nameBytes + 3) & ~3);
  }
  return undefined;
}
