import type { ExtContext } from "../../src/fs/ext/context.ts";
import {
  addToV1Sum,
  commitBlockChecksum,
  controlBlockChecksum,
  copyChecksum,
  journalSeed,
  journalSuperblockChecksum,
  V1_SUM_START,
} from "../../src/fs/ext/jbd2-checksum.ts";
import { JBD2_MAGIC, tagBytesOf, tailBytesOf } from "../../src/fs/ext/jbd2-format.ts";
import { JSB } from "../../src/fs/ext/jbd2-superblock.ts";
import { SB } from "../../src/fs/ext/layout.ts";
import type { ReplayOptions } from "../../src/fs/ext/recovery.ts";
import { Superblock } from "../../src/fs/ext/superblock.ts";
import { be32, putBe16, putBe32, putLe16, putLe32 } from "../../src/lib/bytes.ts";

/** Blocks of the crafted file system that are not the journal. */
export const HOME_BLOCKS = 200;
const FLAG_ESCAPE = 1;
export const FLAG_SAME_UUID = 2;
export const FLAG_DELETED = 4;
export const FLAG_LAST = 8;

/** Content of home block `blocknr` before any replay. */
export function homeBlock(blocknr: number, blockBytes = 4096): Uint8Array {
  return stamped(0x484f_4d45, blocknr, blockBytes);
}

/** Content of the copy of `blocknr` that transaction `tid` logged. */
export function copyBlock(tid: number, blocknr: number, blockBytes = 4096): Uint8Array {
  return stamped(0x4c4f_4700 ^ tid, blocknr, blockBytes);
}

function stamped(a: number, b: number, blockBytes: number): Uint8Array {
  const bytes = new Uint8Array(blockBytes);
  for (let at = 0; at < blockBytes; at += 8) {
    putBe32(bytes, at, a ^ at);
    putBe32(bytes, at + 4, b);
  }
  return bytes;
}

export interface LogOptions {
  readonly blockBytes?: number;
  readonly blockCount?: number;
  readonly first?: number;
  readonly sequence?: number;
  readonly start?: number;
  /** 0 none, 1 the old sum over transactions, 2, 3. */
  readonly checksum?: 0 | 1 | 2 | 3;
  readonly is64Bit?: boolean;
  readonly isAsync?: boolean;
  /** Undefined: without fast commits. */
  readonly fastCommitBlocks?: number;
  readonly version?: 1 | 2;
  readonly errno?: number;
}

/** A home block and what of its tag and copy is unusual. */
export interface CopySpec {
  readonly home: number;
  readonly data?: Uint8Array;
  /** Set in the tag beside what belongs there. */
  readonly flags?: number;
  /** Flags that are left out: LAST, SAME_UUID, ESCAPE. */
  readonly without?: number;
  readonly highWord?: number;
}

const UUID: Uint8Array = Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index);

export class JournalBuilder {
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly first: number;
  readonly last: number;
  readonly blocks: Map<number, Uint8Array> = new Map();
  readonly options: LogOptions;
  readonly seed: number = journalSeed(UUID);
  /** Where the next block goes. */
  position: number;
  #sum: number = V1_SUM_START;

  constructor(options: LogOptions = {}) {
    this.options = options;
    this.blockBytes = options.blockBytes ?? 4096;
    this.blockCount = options.blockCount ?? 1024;
    this.first = options.first ?? 1;
    const reserved = options.fastCommitBlocks;
    this.last = this.blockCount - (reserved === undefined ? 0 : reserved || 256);
    this.position = (options.start ?? 1) || this.first;
    this.blocks.set(0, this.superblock());
  }

  get #version(): 0 | 1 | 2 | 3 {
    return this.options.checksum ?? 3;
  }

  get #hasTails(): boolean {
    return this.#version >= 2;
  }

  get #format(): { blockBytes: number; is64Bit: boolean; checksumVersion: 0 | 2 | 3 } {
    const version = this.#version;
    const checksumVersion = version === 2 || version === 3 ? version : 0;
    return { blockBytes: this.blockBytes, is64Bit: this.options.is64Bit ?? true, checksumVersion };
  }

  superblock(): Uint8Array {
    const { options } = this;
    const block = new Uint8Array(this.blockBytes);
    putBe32(block, 0, JBD2_MAGIC);
    putBe32(block, 4, options.version === 1 ? 3 : 4);
    putBe32(block, JSB.s_blocksize, this.blockBytes);
    putBe32(block, JSB.s_maxlen, this.blockCount);
    putBe32(block, JSB.s_first, this.first);
    putBe32(block, JSB.s_sequence, options.sequence ?? 2);
    putBe32(block, JSB.s_start, options.start ?? 1);
    putBe32(block, JSB.s_errno, options.errno ?? 0);
    const version = this.#version;
    putBe32(block, JSB.s_feature_compat, version === 1 ? 1 : 0);
    let incompat = this.#format.is64Bit ? 0x2 : 0;
    if (options.isAsync === true) incompat |= 0x4;
    if (version === 2) incompat |= 0x8;
    if (version === 3) incompat |= 0x10;
    if (options.fastCommitBlocks !== undefined) incompat |= 0x20;
    putBe32(block, JSB.s_feature_incompat, incompat);
    block.set(UUID, JSB.s_uuid);
    block[JSB.s_checksum_type] = this.#hasTails ? 4 : 0;
    putBe32(block, JSB.s_num_fc_blks, options.fastCommitBlocks ?? 0);
    return this.resealed(block);
  }

  /** `block` with the checksum of a journal superblock put right. */
  resealed(block: Uint8Array): Uint8Array {
    if (this.#hasTails) putBe32(block, JSB.s_checksum, journalSuperblockChecksum(block));
    return block;
  }

  /** The block at `journalBlock`, to be damaged. */
  block(journalBlock: number): Uint8Array {
    const block = this.blocks.get(journalBlock);
    if (block === undefined) throw new Error(`journal block ${journalBlock} was not written`);
    return block;
  }

  at(journalBlock: number): this {
    this.position = journalBlock;
    return this;
  }

  /** Any bytes as the next block. */
  X(bytes: Uint8Array): this {
    const block = new Uint8Array(this.blockBytes);
    block.set(bytes);
    this.blocks.set(this.position, block);
    this.position = this.position + 1 === this.last ? this.first : this.position + 1;
    return this;
  }

  #header(type: number, tid: number): Uint8Array {
    const block = new Uint8Array(this.blockBytes);
    putBe32(block, 0, JBD2_MAGIC);
    putBe32(block, 4, type);
    putBe32(block, 8, tid);
    return block;
  }

  #seal(block: Uint8Array): Uint8Array {
    if (this.#hasTails) {
      putBe32(block, block.length - 4, controlBlockChecksum(this.seed, block));
    }
    return block;
  }

  /** A block of any type with the right magic and checksum. */
  T(type: number, tid: number): this {
    return this.X(this.#seal(this.#header(type, tid)));
  }

  /** Descriptor of `tid` and the copies of its home blocks. */
  D(tid: number, ...copies: readonly (number | CopySpec)[]): this {
    const specs = copies.map((copy) => (typeof copy === "number" ? { home: copy } : copy));
    const logged = specs.map((spec: CopySpec) => {
      const data = (spec.data ?? copyBlock(tid, spec.home, this.blockBytes)).slice();
      const without = spec.without ?? 0;
      const isEscaped = be32(data, 0) === JBD2_MAGIC && (without & FLAG_ESCAPE) === 0;
      if (isEscaped) putBe32(data, 0, 0);
      return { spec, data, isEscaped };
    });
    const block = this.#header(1, tid);
    const tagBytes = tagBytesOf(this.#format);
    let at = 12;
    for (const [index, { spec, data, isEscaped }] of logged.entries()) {
      let flags = index === 0 ? 0 : FLAG_SAME_UUID;
      if (index === logged.length - 1) flags |= FLAG_LAST;
      if (isEscaped) flags |= FLAG_ESCAPE;
      flags = (flags & ~(spec.without ?? 0)) | (spec.flags ?? 0);
      this.#tag(block, at, spec, flags, this.#hasTails ? copyChecksum(this.seed, tid, data) : 0);
      at += tagBytes + ((flags & FLAG_SAME_UUID) !== 0 ? 0 : 16);
    }
    if (at > this.blockBytes - tailBytesOf(this.#format) + 16) throw new Error("too many tags");
    this.#seal(block);
    this.#addToSum(block);
    this.X(block);
    for (const { data } of logged) {
      this.#addToSum(data);
      this.X(data);
    }
    return this;
  }

  #addToSum(block: Uint8Array): void {
    if (this.#version === 1) this.#sum = addToV1Sum(this.#sum, block);
  }

  #tag(block: Uint8Array, at: number, spec: CopySpec, flags: number, checksum: number): void {
    const low = spec.home % 0x1_0000_0000;
    const high = spec.highWord ?? Math.floor(spec.home / 0x1_0000_0000);
    putBe32(block, at, low);
    const version = this.#version;
    if (version === 3) {
      putBe32(block, at + 4, flags);
      putBe32(block, at + 8, high);
      putBe32(block, at + 12, checksum);
      return;
    }
    putBe16(block, at + 4, version === 2 ? checksum & 0xffff : 0);
    putBe16(block, at + 6, flags);
    if (this.#format.is64Bit) putBe32(block, at + 8, high);
  }

  /** Commit block of `tid`, `sec` seconds after 1970. */
  C(tid: number, sec: number = 1_800_000_000 + tid): this {
    const block = this.#header(2, tid);
    putBe32(block, 52, sec);
    if (this.#version === 1) {
      block[12] = 1;
      block[13] = 4;
      putBe32(block, 16, this.#sum);
      this.#sum = V1_SUM_START;
    } else if (this.#hasTails) {
      putBe32(block, 16, commitBlockChecksum(this.seed, block));
    }
    return this.X(block);
  }

  /** Revoke block of `tid`. */
  R(tid: number, ...homes: readonly number[]): this {
    const block = this.#header(5, tid);
    const entryBytes = this.#format.is64Bit ? 8 : 4;
    putBe32(block, 12, 16 + entryBytes * homes.length);
    for (const [index, home] of homes.entries()) {
      putBe32(block, 16 + entryBytes * index + entryBytes - 4, home);
    }
    return this.X(this.#seal(block));
  }

  /** Puts right the checksum of the control block at `journalBlock` after a change. */
  reseal(journalBlock: number): this {
    this.#seal(this.block(journalBlock));
    return this;
  }
}

/** How the file system around a crafted log is to be. */
export interface CraftOptions extends Partial<ReplayOptions> {
  /** RECOVER in the superblock; true if left out. */
  readonly needsRecovery?: boolean;
  /** Pieces of the journal, in home numbering; one piece behind the home blocks if left out. */
  readonly runs?: readonly { first: number; physical: number; count: number }[];
  /** Blocks of the journal file, if not those of the log. */
  readonly fileBlocks?: number;
  readonly blocksOnDevice?: number;
  /** Home blocks that already hold something else. */
  readonly homeBlocks?: ReadonlyMap<number, Uint8Array>;
  /** Last changes to the superblock of the file system. */
  readonly editSuperblock?: (bytes: Uint8Array) => void;
  /** The log is on a device of its own. */
  readonly isExternal?: boolean;
}

function fsSuperblock(log: JournalBuilder, blockCount: number, options: CraftOptions): Uint8Array {
  const bytes = new Uint8Array(1024);
  putLe16(bytes, SB.s_magic, 0xef53);
  putLe32(bytes, SB.s_rev_level, 1);
  putLe32(bytes, SB.s_blocks_count_lo, blockCount);
  putLe32(bytes, SB.s_log_block_size, Math.log2(log.blockBytes / 1024));
  putLe32(bytes, SB.s_first_data_block, log.blockBytes === 1024 ? 1 : 0);
  putLe32(bytes, SB.s_blocks_per_group, 8 * log.blockBytes);
  putLe32(bytes, SB.s_inodes_per_group, 64);
  putLe32(bytes, SB.s_inodes_count, 64);
  putLe16(bytes, SB.s_inode_size, 256);
  putLe32(bytes, SB.s_feature_compat, 0x4);
  putLe32(bytes, SB.s_feature_incompat, options.needsRecovery === false ? 0x40 : 0x44);
  putLe32(bytes, SB.s_journal_inum, options.isExternal === true ? 0 : 8);
  if (options.isExternal === true) bytes.fill(0xee, SB.s_journal_uuid, SB.s_journal_uuid + 16);
  options.editSuperblock?.(bytes);
  return bytes;
}

/** Lays out the image: home blocks, superblock, and the blocks of the log where `runs` say. */
export function craftImage(
  log: JournalBuilder,
  options: CraftOptions,
  runs: readonly { first: number; physical: number; count: number }[],
): Uint8Array {
  const { blockBytes } = log;
  const end = Math.max(HOME_BLOCKS, ...runs.map(({ physical, count }) => physical + count));
  const blockCount = options.blocksOnDevice ?? (options.isExternal === true ? HOME_BLOCKS : end);
  const image = new Uint8Array(blockCount * blockBytes);
  for (let block = 0; block < HOME_BLOCKS; block++) {
    const content = options.homeBlocks?.get(block) ?? homeBlock(block, blockBytes);
    image.set(content, block * blockBytes);
  }
  image.set(fsSuperblock(log, blockCount, options), 1024);
  if (options.isExternal === true) return image;
  for (const [journalBlock, bytes] of log.blocks) {
    const run = runs.find((r) => journalBlock >= r.first && journalBlock < r.first + r.count);
    if (run !== undefined) image.set(bytes, (run.physical + journalBlock - run.first) * blockBytes);
  }
  return image;
}

/** Where the pieces of the journal lie. */
export function runsOf(
  log: JournalBuilder,
  options: CraftOptions,
): readonly { first: number; physical: number; count: number }[] {
  return options.runs ?? [{ first: 0, physical: HOME_BLOCKS, count: log.blockCount }];
}

/** What recovery asks of a core, for the crafted image in `bytes`. */
export function craftContext(
  bytes: Uint8Array,
  log: JournalBuilder,
  options: CraftOptions,
  warn: (text: string) => void = () => undefined,
): ExtContext {
  const runs = runsOf(log, options);
  const fileBlocks = options.fileBlocks ?? log.blockCount;
  const inode = { ino: 8, type: "file", linksCount: 1, size: fileBlocks * log.blockBytes };
  const mapBlocks = (_inode: unknown, at: number, max: number): unknown => {
    const run = runs.find((r) => at >= r.first && at < r.first + r.count);
    const next = runs.find((r) => r.first > at);
    if (run === undefined)
      return { physical: 0, count: Math.min(max, (next?.first ?? at + max) - at) };
    const offset = at - run.first;
    return { physical: run.physical + offset, count: Math.min(max, run.count - offset) };
  };
  return {
    sb: new Superblock(bytes.slice(1024, 2048)),
    metadata: { run: (attempt: () => unknown) => attempt() },
    inode: () => inode,
    mapBlocks,
    warn,
  } as unknown as ExtContext;
}
