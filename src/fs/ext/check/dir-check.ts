/**
 * Directories: every record of every block, who names whom, and what has no name.
 *
 *     block 0   | . | .. | name | name | ..        each name leads to an inode in use, of its type
 *     others    | name | free | name | checksum |
 */
import { le16, le32 } from "../../../lib/bytes.ts";
import { directoryChecksum } from "../checksum.ts";
import { DE, DIR_TAIL_BYTES, recLenFromDisk } from "../dir-block.ts";
import { INCOMPAT_FILETYPE } from "../features.ts";
import {
  CASEFOLD_FL,
  ENCRYPT_FL,
  EXT_ROOT_INO,
  I_BLOCK_BYTES,
  INDEX_FL,
  INLINE_DATA_FL,
} from "../layout.ts";
import type { CheckContext } from "./context.ts";
import { HtreeCheck } from "./htree-check.ts";
import { CheckedInode, ownerOf, readSlot } from "./inode-check.ts";
import { KIND_BAD, KIND_DIRECTORY, KIND_UNUSED } from "./inode-facts.ts";
import { MapWalk } from "./map-walk.ts";
import { inlineTail } from "./xattr-check.ts";

const DOT = 0x2e;
const SLASH = 0x2f;
const REC_LEAST = 12;
const HASH_BYTES = 8;
const FT_TAIL = 0xde;

/** Checks all directories, in the order in which they were found. */
export async function checkDirectories(ctx: CheckContext): Promise<void> {
  let done = 0;
  const count = ctx.facts.directories.size;
  for (const ino of ctx.facts.directories.keys()) {
    ctx.onProgress?.("directories", done++, count);
    await ctx.step();
    const inode = new CheckedInode(ctx, ino, await readSlot(ctx, ino));
    await new DirectoryCheck(ctx, inode).run();
  }
}

/** The check of one directory. */
class DirectoryCheck {
  readonly #ctx: CheckContext;
  readonly #dir: CheckedInode;
  readonly #hasType: boolean;
  readonly #hasHash: boolean;
  readonly #isEncrypted: boolean;
  #fileBlock = 0;
  #blocknr = 0;

  constructor(ctx: CheckContext, dir: CheckedInode) {
    this.#ctx = ctx;
    this.#dir = dir;
    this.#hasType = ctx.sb.hasIncompat(INCOMPAT_FILETYPE);
    this.#isEncrypted = dir.has(ENCRYPT_FL);
    this.#hasHash = this.#isEncrypted && dir.has(CASEFOLD_FL);
  }

  #bad(code: string, text: string, at?: number): void {
    const { ino } = this.#dir;
    const where = { ino, blocknr: this.#blocknr, fileBlock: this.#fileBlock, at };
    this.#ctx.findings.damage(code, where, `directory ${ino}: ${text}`);
  }

  async run(): Promise<void> {
    if (this.#dir.has(INLINE_DATA_FL)) {
      this.#inline();
      return;
    }
    const blocks = await this.#blocks();
    const isIndexed = this.#dir.has(INDEX_FL);
    const index = isIndexed ? new HtreeCheck(this.#ctx, this.#dir, blocks.length) : undefined;
    for (const [fileBlock, blocknr] of blocks.entries()) {
      await this.#ctx.step();
      this.#fileBlock = fileBlock;
      this.#blocknr = blocknr;
      if (blocknr === 0) {
        this.#bad("dir.hole", `block ${fileBlock} is missing`);
        continue;
      }
      const data = await this.#ctx.copyOf(blocknr, { ino: this.#dir.ino, fileBlock });
      if (data !== undefined) this.#block(data, fileBlock, index);
    }
    index?.finish();
    if (blocks.length === 0) this.#bad("dir.empty", "it has no blocks");
  }

  async #blocks(): Promise<number[]> {
    const { sb } = this.#ctx;
    const count = Math.min(Math.ceil(this.#dir.sizeBytes / sb.blockBytes), sb.blockCount);
    const blocks: number[] = [];
    const walk = new MapWalk(
      this.#ctx,
      ownerOf(this.#dir),
      ({ fileBlock, blocknr, count: length, isUnwritten }) => {
        for (let at = 0; at < length && fileBlock + at < count; at++) {
          while (blocks.length <= fileBlock + at) blocks.push(0);
          blocks[fileBlock + at] = isUnwritten ? 0 : blocknr + at;
        }
      },
      false,
    );
    await walk.walk();
    return blocks;
  }

  #block(data: Uint8Array, fileBlock: number, index: HtreeCheck | undefined): void {
    const { sb } = this.#ctx;
    let end = data.length;
    if (index?.isIndexBlock(data, fileBlock) === true) {
      index.addNode(data, fileBlock, this.#blocknr);
      if (fileBlock === 0) this.#records(data, 0, REC_LEAST * 2, fileBlock, undefined);
      return;
    }
    if (sb.hasMetadataCsum) {
      end -= DIR_TAIL_BYTES;
      const hasTail =
        le32(data, end) === 0 &&
        le16(data, end + DE.rec_len) === DIR_TAIL_BYTES &&
        data[end + DE.name_len] === 0 &&
        data[end + DE.file_type] === FT_TAIL;
      if (!hasTail) {
        this.#bad("dir.checksum", `block ${fileBlock} has no checksum at its end`);
        end = data.length;
      } else if (directoryChecksum(this.#dir.seed, data) !== le32(data, end + DE.name)) {
        this.#bad("dir.checksum", `block ${fileBlock} has a wrong checksum`);
      }
    }
    this.#records(data, 0, end, fileBlock, index);
  }

  /**
   * The records of `data[from..end)`. Of the root of an index only the first two are looked at,
   * whose second reaches to the end of the block.
   */
  #records(
    data: Uint8Array,
    from: number,
    end: number,
    fileBlock: number,
    index: HtreeCheck | undefined,
  ): void {
    const isRoot = end === REC_LEAST * 2 && from === 0;
    const names = new Set<string>();
    index?.beginLeaf(fileBlock);
    let number = 0;
    for (let at = from; at < end; number++) {
      if (at + REC_LEAST > end) {
        this.#bad("dir.record", `block ${fileBlock}: ${end - at} bytes are left over`, at);
        return;
      }
      const stored = le16(data, at + DE.rec_len);
      let recLen = recLenFromDisk(stored, this.#ctx.sb.blockBytes);
      const nameBytes = data[at + DE.name_len]!;
      if (isRoot && number === 1) recLen = REC_LEAST;
      const least = Math.max(REC_LEAST, DE.name + nameBytes);
      if (recLen < REC_LEAST || recLen % 4 !== 0 || least > recLen || at + recLen > end) {
        this.#bad("dir.record", `block ${fileBlock}, record at ${at}: rec_len is ${stored}`, at);
        return;
      }
      const isDots = fileBlock === 0 && number < 2 && from === 0;
      if (isDots) this.#dots(data, at, number);
      else if (le32(data, at) !== 0) this.#entry(data, at, recLen, names, index);
      at += recLen;
    }
  }

  #dots(data: Uint8Array, at: number, number: number): void {
    const { ino } = this.#dir;
    const target = le32(data, at);
    const isNamed =
      data[at + DE.name_len] === number + 1 &&
      data[at + DE.name] === DOT &&
      (number === 0 || data[at + DE.name + 1] === DOT);
    const name = number === 0 ? "." : "..";
    if (!isNamed) {
      this.#bad("dir.dots", `record ${number} is not "${name}"`, at);
      return;
    }
    if (data[at + DE.name + number + 1] !== 0) {
      this.#bad("dir.dots", `"${name}" does not end with a NUL`, at);
    }
    if (number === 0 && (target !== ino || le16(data, at + DE.rec_len) !== REC_LEAST)) {
      this.#bad("dir.dots", `"." leads to inode ${target}`, at);
      return;
    }
    this.#type(data, at, KIND_DIRECTORY, name);
    if (target === 0 || target > this.#ctx.sb.inodeCount) {
      this.#bad("dir.dots", `"${name}" leads to inode ${target}`, at);
      return;
    }
    this.#ctx.facts.addLink(target);
    const facts = this.#ctx.facts.directories.get(ino);
    if (number === 1 && facts !== undefined) facts.dotDot = target;
  }

  #type(data: Uint8Array, at: number, kind: number, name: string): void {
    const stored = data[at + DE.file_type]!;
    const expected = this.#hasType ? kind : 0;
    if (stored !== expected && kind !== KIND_BAD) {
      this.#bad("dir.type", `"${name}" has file_type ${stored}, not ${expected}`, at);
    }
  }

  #entry(
    data: Uint8Array,
    at: number,
    recLen: number,
    names: Set<string>,
    index: HtreeCheck | undefined,
  ): void {
    const { facts, sb } = this.#ctx;
    const target = le32(data, at);
    const nameBytes = data[at + DE.name_len]!;
    const name = data.subarray(at + DE.name, at + DE.name + nameBytes);
    const text = new TextDecoder().decode(name);
    if (this.#hasHash && recLen < DE.name + ((nameBytes + 3) & ~3) + HASH_BYTES) {
      this.#bad("dir.record", `"${text}" has no room for its hash`, at);
    }
    if (nameBytes === 0) {
      this.#bad("dir.name", "there is a name of no bytes", at);
      return;
    }
    const isDots = name[0] === DOT && (nameBytes === 1 || (nameBytes === 2 && name[1] === DOT));
    if (isDots) {
      this.#bad("dir.name", `"${text}" is there twice`, at);
      return;
    }
    if (!this.#isEncrypted && (name.includes(0) || name.includes(SLASH))) {
      this.#bad("dir.name", `"${text}" has a byte that no name can have`, at);
    }
    const key = String.fromCharCode(...name);
    if (names.has(key)) this.#bad("dir.twice", `"${text}" is there twice`, at);
    names.add(key);
    index?.addName(name);
    const isReserved = target < sb.firstIno && target !== EXT_ROOT_INO;
    if (target > sb.inodeCount || isReserved) {
      this.#bad("dir.inode", `"${text}" leads to inode ${target}, which cannot be one`, at);
      return;
    }
    if (target === EXT_ROOT_INO) {
      this.#bad("dir.inode", `"${text}" leads to the root`, at);
      return;
    }
    const kind = facts.kindOf(target);
    if (kind === KIND_UNUSED || facts.isNameless(target)) {
      this.#bad("dir.inode", `"${text}" leads to inode ${target}, which is not in use`, at);
      return;
    }
    this.#type(data, at, kind, text);
    facts.addLink(target);
    const child = facts.directories.get(target);
    if (child === undefined) return;
    if (child.parent !== 0) {
      this.#bad("dir.linked", `"${text}" is a second name of directory ${target}`, at);
    } else child.parent = this.#dir.ino;
  }

  /** A directory that lies in its inode: its parent, records, and more of them in an attribute. */
  #inline(): void {
    const { facts } = this.#ctx;
    const { iBlock, ino, raw, sizeBytes } = this.#dir;
    const parent = le32(iBlock, 0);
    facts.addLink(ino);
    facts.addLink(parent);
    const own = facts.directories.get(ino);
    if (own !== undefined) own.dotDot = parent;
    this.#records(iBlock, 4, I_BLOCK_BYTES, 1, undefined);
    const tail = inlineTail(raw);
    if (tail === undefined || sizeBytes !== I_BLOCK_BYTES + tail.length) {
      this.#bad("dir.inline", `i_size is ${sizeBytes}, which is not what it has`);
      return;
    }
    if (tail.length > 0) this.#records(tail, 0, tail.length, 1, undefined);
  }
}

/** Every directory leads up to the root, every inode in use has as many names as it says. */
export async function checkNames(ctx: CheckContext): Promise<void> {
  const { facts, findings, sb } = ctx;
  await checkTree(ctx);
  for (const ino of facts.used()) {
    await ctx.step();
    if (facts.isNameless(ino) || ino < sb.firstIno) {
      if (ino !== EXT_ROOT_INO) continue;
    }
    const found = facts.foundLinks(ino);
    const stored = facts.storedLinks(ino);
    const isDirectory = facts.kindOf(ino) === KIND_DIRECTORY;
    const hasName = isDirectory ? true : found > 0;
    if (!hasName && !facts.isOrphan(ino)) {
      findings.damage("inode.lost", { ino }, `inode ${ino} is in use, but has no name`);
    }
    const LINKS_OVERFLOW = 65_000;
    const expected = isDirectory && found >= LINKS_OVERFLOW ? 1 : found;
    if (stored !== expected && !facts.isOrphan(ino)) {
      const text = `inode ${ino}: i_links_count is ${stored}, counted are ${found}`;
      findings.damage("inode.links", { ino }, text);
    }
  }
}

/** `..` of each directory is the one that names it; no circle. */
async function checkTree(ctx: CheckContext): Promise<void> {
  const { facts, findings } = ctx;
  if (!facts.directories.has(EXT_ROOT_INO)) {
    findings.damage("root.missing", { ino: EXT_ROOT_INO }, "there is no root directory");
    return;
  }
  const reached = new Set<number>([EXT_ROOT_INO]);
  const root = facts.directories.get(EXT_ROOT_INO)!;
  if (root.dotDot !== EXT_ROOT_INO) {
    findings.damage("dir.parent", { ino: EXT_ROOT_INO }, `".." of the root is ${root.dotDot}`);
  }
  for (const [start, { parent, dotDot }] of facts.directories) {
    await ctx.step();
    if (start === EXT_ROOT_INO) continue;
    if (parent === 0) {
      if (facts.isOrphan(start)) continue;
      findings.damage("dir.lost", { ino: start }, `directory ${start} has no name`);
    } else if (dotDot !== parent) {
      const text = `directory ${start}: ".." is ${dotDot}, but ${parent} has it`;
      findings.damage("dir.parent", { ino: start }, text);
    }
    const way: number[] = [];
    const onWay = new Set<number>();
    let at = start;
    while (at !== 0 && !reached.has(at) && !onWay.has(at)) {
      way.push(at);
      onWay.add(at);
      at = facts.directories.get(at)?.parent ?? 0;
    }
    if (onWay.has(at)) {
      findings.damage("dir.circle", { ino: start }, `directory ${start} is inside itself`);
    }
    for (const ino of way) reached.add(ino);
  }
}
