/**
 * The index of a directory: its root and nodes, that each leaf is named once, and that the names of
 * a leaf have the hashes that its entry says.
 */
import { le16, le32 } from "../../../lib/bytes.ts";
import { htreeChecksum } from "../checksum.ts";
import { DE, recLenFromDisk } from "../dir-block.ts";
import { DX_HASH_TEA, DX_HASH_UNSIGNED, hashName } from "../dir-hash.ts";
import { INCOMPAT_LARGE_DIR } from "../features.ts";
import { CASEFOLD_FL, ENCRYPT_FL } from "../layout.ts";
import type { CheckContext } from "./context.ts";
import type { CheckedInode } from "./inode-check.ts";

const ROOT_ENTRIES_AT = 0x20;
const NODE_ENTRIES_AT = 0x08;
const ENTRY_BYTES = 8;
const TAIL_BYTES = 8;
const BLOCK_MASK = 0x0fff_ffff;
const VERSION_AT = 0x1c;
const INFO_BYTES_AT = 0x1d;
const LEVELS_AT = 0x1e;
const FLAGS_AT = 0x1f;
const INFO_BYTES = 8;
const FLAG_UNSIGNED_HASH = 2;
const DOT_DOT_AT = 12;
const HASH_END = 0xffff_ffff;

/** An entry of a node. */
interface DxEntry {
  readonly hash: number;
  readonly block: number;
}

/** Hashes of the names of a leaf. */
interface LeafRange {
  least: number;
  most: number;
}

/** See the head of the file. Blocks are given in order, then `finish` judges the tree. */
export class HtreeCheck {
  readonly #ctx: CheckContext;
  readonly #dir: CheckedInode;
  readonly #blockCount: number;
  readonly #nodes = new Map<number, readonly DxEntry[]>();
  readonly #leaves = new Map<number, LeafRange>();
  #leaf: LeafRange | undefined;
  #version = 0;
  #levels = 0;
  #isUsable = true;

  constructor(ctx: CheckContext, dir: CheckedInode, blockCount: number) {
    this.#ctx = ctx;
    this.#dir = dir;
    this.#blockCount = blockCount;
  }

  #bad(text: string, fileBlock?: number): void {
    const { ino } = this.#dir;
    this.#isUsable = false;
    this.#ctx.findings.damage("htree", { ino, fileBlock }, `directory ${ino}: index: ${text}`);
  }

  /** True for block 0 and for blocks that only the index uses. */
  isIndexBlock(data: Uint8Array, fileBlock: number): boolean {
    if (fileBlock === 0) return true;
    const recLen = recLenFromDisk(le16(data, DE.rec_len), data.length);
    if (le32(data, DE.inode) !== 0 || recLen !== data.length) return false;
    return le16(data, NODE_ENTRIES_AT) === this.#limitOf(NODE_ENTRIES_AT, data.length);
  }

  #limitOf(entriesAt: number, blockBytes: number): number {
    const tail = this.#ctx.sb.hasMetadataCsum ? TAIL_BYTES : 0;
    return Math.floor((blockBytes - entriesAt - tail) / ENTRY_BYTES);
  }

  addNode(data: Uint8Array, fileBlock: number, blocknr: number): void {
    const entriesAt = fileBlock === 0 ? ROOT_ENTRIES_AT : NODE_ENTRIES_AT;
    if (fileBlock === 0) this.#root(data);
    const limit = le16(data, entriesAt);
    const count = le16(data, entriesAt + 2);
    if (limit !== this.#limitOf(entriesAt, data.length)) {
      this.#bad(`block ${fileBlock}: limit is ${limit}`, fileBlock);
      return;
    }
    if (count === 0 || count > limit) {
      this.#bad(`block ${fileBlock}: count is ${count} of ${limit}`, fileBlock);
      return;
    }
    this.#checkSum(data, entriesAt, limit, count, fileBlock, blocknr);
    const entries: DxEntry[] = [];
    for (let index = 0; index < count; index++) {
      const at = entriesAt + index * ENTRY_BYTES;
      const hash = index === 0 ? 0 : le32(data, at);
      entries.push({ hash, block: le32(data, at + 4) & BLOCK_MASK });
    }
    this.#nodes.set(fileBlock, entries);
  }

  #root(data: Uint8Array): void {
    this.#version = data[VERSION_AT]!;
    this.#levels = data[LEVELS_AT]!;
    const most = this.#ctx.sb.hasIncompat(INCOMPAT_LARGE_DIR) ? 2 : 1;
    const dotDot = recLenFromDisk(le16(data, DOT_DOT_AT + DE.rec_len), data.length);
    if (dotDot !== data.length - DOT_DOT_AT) this.#bad(`".." has rec_len ${dotDot}`, 0);
    if (le32(data, 0x18) !== 0) this.#bad("reserved_zero of the root is not 0", 0);
    if (data[INFO_BYTES_AT] !== INFO_BYTES) this.#bad(`info_length is ${data[INFO_BYTES_AT]}`, 0);
    const isKeyed = this.#dir.has(ENCRYPT_FL) && this.#dir.has(CASEFOLD_FL);
    if (this.#version > DX_HASH_TEA && !isKeyed) this.#bad(`hash_version is ${this.#version}`, 0);
    if ((data[FLAGS_AT]! & 1) !== 0) this.#bad("unused_flags is set", 0);
    if (this.#levels > most) this.#bad(`indirect_levels is ${this.#levels}`, 0);
  }

  #checkSum(
    data: Uint8Array,
    entriesAt: number,
    limit: number,
    count: number,
    fileBlock: number,
    blocknr: number,
  ): void {
    if (!this.#ctx.sb.hasMetadataCsum) return;
    const usedBytes = entriesAt + count * ENTRY_BYTES;
    const tailAt = entriesAt + limit * ENTRY_BYTES;
    const computed = htreeChecksum(this.#dir.seed, data, usedBytes, tailAt);
    if (computed === le32(data, tailAt + 4)) return;
    const { ino } = this.#dir;
    const text = `directory ${ino}: index block ${fileBlock} has a wrong checksum`;
    this.#ctx.findings.damage("htree.checksum", { ino, fileBlock, blocknr }, text);
  }

  beginLeaf(fileBlock: number): void {
    this.#leaf = { least: HASH_END, most: 0 };
    this.#leaves.set(fileBlock, this.#leaf);
  }

  addName(name: Uint8Array): void {
    const leaf = this.#leaf;
    if (leaf === undefined || !this.#isUsable || this.#isKeyedOrFolded) return;
    const isUnsigned = (this.#ctx.sb.flags & FLAG_UNSIGNED_HASH) !== 0;
    const version = this.#version + (isUnsigned ? DX_HASH_UNSIGNED : 0);
    const { major } = hashName(version, name, this.#ctx.sb.hashSeed);
    leaf.least = Math.min(leaf.least, major);
    leaf.most = Math.max(leaf.most, major);
  }

  get #isKeyedOrFolded(): boolean {
    return this.#dir.has(CASEFOLD_FL) || this.#version > DX_HASH_TEA;
  }

  /** Judges the tree, once all blocks were given. */
  finish(): void {
    if (!this.#nodes.has(0) || !this.#isUsable) {
      if (this.#isUsable) this.#bad("there is no root", 0);
      return;
    }
    const seen = new Set<number>([0]);
    this.#visit(0, 0, 0, HASH_END, seen);
    for (let block = 1; block < this.#blockCount && this.#isUsable; block++) {
      if (!seen.has(block)) this.#bad(`nothing leads to block ${block}`, block);
    }
  }

  #visit(node: number, level: number, from: number, to: number, seen: Set<number>): void {
    const entries = this.#nodes.get(node);
    if (entries === undefined) {
      this.#bad(`block ${node} is no node`, node);
      return;
    }
    let before = 0;
    for (const [index, { hash, block }] of entries.entries()) {
      const least = index === 0 ? from : hash;
      const next = entries[index + 1];
      const most = next === undefined ? to : (next.hash & ~1) >>> 0;
      if (hash < before || (index > 0 && hash < from)) {
        this.#bad(`block ${node}: hashes are out of order`, node);
      }
      before = hash;
      if (block >= this.#blockCount || block === 0 || seen.has(block)) {
        this.#bad(`block ${node} leads to block ${block}`, node);
        continue;
      }
      seen.add(block);
      if (level < this.#levels) this.#visit(block, level + 1, least, most, seen);
      else this.#judgeLeaf(block, (least & ~1) >>> 0, most);
    }
  }

  #judgeLeaf(block: number, least: number, most: number): void {
    const leaf = this.#leaves.get(block);
    if (leaf === undefined) {
      this.#bad(`block ${block} is no leaf`, block);
      return;
    }
    if (leaf.least > leaf.most) return;
    if (leaf.least < least || leaf.most > most) {
      this.#bad(`block ${block} has names with other hashes`, block);
    }
  }
}
