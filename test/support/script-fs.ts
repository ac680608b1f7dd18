/**
 * ScriptFs: a file system of one file whose mappings a test writes down; it stands above the real
 * page cache and below it has a `ScriptDevice`.
 *
 *     new ScriptFs([M(0, 4096), H(4096, 8192), U(8192, 12288)], { sizeBytes: 12288 })
 *
 * It records every `begin` and `end`, lets hooks change or refuse an answer, and translates
 * requests back to the file ranges that they are for, so that a test reads as its case does:
 * `R[0,4096)`. Gaps between the mappings are holes. What `expected` says is computed from the
 * script alone.
 */
import type {
  AddressSpace,
  AddressSpaceOperations,
  MappingOptions,
} from "../../src/cache/address-space.ts";
import { attachBlockState } from "../../src/cache/block-state.ts";
import type { Folio } from "../../src/cache/folio.ts";
import type { Inode } from "../../src/cache/inode.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { WbInode } from "../../src/cache/superblock.ts";
import { assert } from "../../src/lib/assert.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import { Errseq } from "../../src/lib/errseq.ts";
import { AsyncRwLock } from "../../src/lib/locks.ts";
import type { MaybeAsync } from "../../src/lib/maybe.ts";
import { FILE_BYTES_MAX, MIB, pageOfByte, roundUp } from "../../src/lib/units.ts";
import { iomapReadahead, iomapReadFolio } from "../../src/mapping/iomap/buffered-read.ts";
import {
  iomapInvalidateFolio,
  iomapIsPartiallyUptodate,
  iomapReleaseFolio,
} from "../../src/mapping/iomap/callbacks.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
  type Iomap,
  type IomapOps,
  type IomapType,
} from "../../src/mapping/iomap/iomap.ts";
import type { IomapReadOps } from "../../src/mapping/iomap/read-ops.ts";
import { ScriptDevice } from "./script-device.ts";

/** One line of the script. */
export interface ScriptMapping {
  readonly type: IomapType;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly addrBytes: number;
  readonly inlineData: Uint8Array | null;
}

/** Where the device holds the file's byte 0, unless a mapping says otherwise. */
export const SCRIPT_ADDR: number = MIB;

/** A mapping of `type` for the bytes `start..end`. */
export function scriptMapping(
  type: IomapType,
  start: number,
  end: number,
  options: Partial<Pick<ScriptMapping, "flags" | "addrBytes" | "inlineData">> = {},
): ScriptMapping {
  const hasAddr = type === IOMAP_MAPPED || type === IOMAP_UNWRITTEN;
  return {
    type,
    offsetBytes: start,
    lengthBytes: end - start,
    flags: options.flags ?? 0,
    addrBytes: options.addrBytes ?? (hasAddr ? SCRIPT_ADDR + start : IOMAP_NULL_ADDR),
    inlineData: options.inlineData ?? null,
  };
}

/** The specification's shorthands, with half-open ranges: mapped, hole, unwritten, reserved. */
export const M = (start: number, end: number, addrBytes?: number): ScriptMapping =>
  scriptMapping(IOMAP_MAPPED, start, end, addrBytes === undefined ? {} : { addrBytes });
export const H = (start: number, end: number): ScriptMapping =>
  scriptMapping(IOMAP_HOLE, start, end);
export const U = (start: number, end: number): ScriptMapping =>
  scriptMapping(IOMAP_UNWRITTEN, start, end);
export const D = (start: number, end: number): ScriptMapping =>
  scriptMapping(IOMAP_DELALLOC, start, end);

/** A call of `begin`, handed to `onBegin` after the script has been answered. */
export interface BeginCall {
  readonly posBytes: number;
  readonly lengthBytes: number;
  readonly flags: number;
  readonly iomap: Iomap;
  readonly srcmap: Iomap;
}

export interface ScriptFsOptions extends Pick<MappingOptions, "stableWrites" | "onWriteError"> {
  readonly sizeBytes: number;
  /** 1024 if left out. */
  readonly blockBytes?: number;
  /** Order of all folios; 2, which is 16384 bytes, if left out. */
  readonly order?: number;
  /** Folios may be as large as this order; `order` if left out. */
  readonly maxOrder?: number;
  /** Largest readahead window in pages; 0, none, if left out. */
  readonly raPages?: number;
  readonly arenaBytes?: number;
  /** Hooks for the reads, in place of bios. */
  readonly readOps?: IomapReadOps;
  /** Bytes of the device; 2^43 if left out. */
  readonly deviceBytes?: number;
}

/** The file, with a file system around it that keeps nothing. */
class ScriptInode implements Inode {
  readonly ino = 12;
  size: number;
  readonly blockBytes: number;
  readonly rwsem: AsyncRwLock = new AsyncRwLock();
  readonly wb: WbInode;

  constructor(size: number, blockBytes: number) {
    this.size = size;
    this.blockBytes = blockBytes;
    this.wb = new WbInode(this, { wbErr: new Errseq(), inodesUnderWriteback: new Set() });
  }
}

/** See the head of the file. */
export class ScriptFs implements IomapOps {
  readonly clock: VirtualClock = new VirtualClock();
  readonly device: ScriptDevice;
  readonly cache: PageCache;
  readonly inode: ScriptInode;
  readonly mapping: AddressSpace;
  readonly order: number;
  mappings: readonly ScriptMapping[];
  /** Given to every mapping as its cookie; a test raises it when it changes `mappings`. */
  cookie = 1;
  /** `begin(pos,length)` and `end(pos,length,written)`, in order. */
  readonly calls: string[] = [];
  /** May change the answer, throw instead of it, or make it wait. */
  onBegin: ((call: BeginCall) => MaybeAsync<void>) | null = null;
  /** May throw or wait; gets the written bytes. */
  onEnd: ((posBytes: number, writtenBytes: number) => MaybeAsync<void>) | null = null;

  constructor(mappings: readonly ScriptMapping[], options: ScriptFsOptions) {
    const { sizeBytes, blockBytes = 1024, order = 2, raPages = 0, readOps } = options;
    this.mappings = mappings;
    this.order = order;
    this.device = new ScriptDevice(this.clock, options.deviceBytes ?? 2 ** 43);
    this.inode = new ScriptInode(sizeBytes, blockBytes);
    const { arenaBytes = 16 * MIB, maxOrder = order } = options;
    this.cache = new PageCache({ clock: this.clock, arenaBytes, maxOrder });
    const ops: AddressSpaceOperations = {
      readFolio: (_file, folio) => iomapReadFolio(folio, this, readOps),
      readahead: (rac) => iomapReadahead(rac, this, readOps),
      isPartiallyUptodate: iomapIsPartiallyUptodate,
      releaseFolio: iomapReleaseFolio,
      invalidateFolio: iomapInvalidateFolio,
      ...this.writeOperations(),
    };
    const { stableWrites = false, onWriteError = "drop" } = options;
    this.mapping = this.cache.openMapping(this.inode, ops, {
      minOrder: order,
      maxOrder,
      raPages,
      stableWrites,
      onWriteError,
    });
  }

  /** What the mapping gets besides, to be written. Called before the constructor has ended. */
  protected writeOperations(): Partial<AddressSpaceOperations> {
    return {};
  }

  begin(
    _inode: Inode,
    posBytes: number,
    lengthBytes: number,
    flags: number,
    iomap: Iomap,
    srcmap: Iomap,
  ): MaybeAsync<void> {
    this.calls.push(`begin(${posBytes},${lengthBytes})`);
    const found = this.mappingAt(posBytes);
    iomap.type = found.type;
    iomap.flags = found.flags;
    iomap.offsetBytes = found.offsetBytes;
    iomap.lengthBytes = found.lengthBytes;
    iomap.addrBytes = found.addrBytes;
    iomap.inlineData = found.inlineData;
    iomap.bdev = found.addrBytes === IOMAP_NULL_ADDR ? null : this.device;
    iomap.validityCookie = this.cookie;
    return this.onBegin?.({ posBytes, lengthBytes, flags, iomap, srcmap });
  }

  end(
    _inode: Inode,
    posBytes: number,
    lengthBytes: number,
    writtenBytes: number,
  ): MaybeAsync<void> {
    this.calls.push(`end(${posBytes},${lengthBytes},${writtenBytes})`);
    return this.onEnd?.(posBytes, writtenBytes);
  }

  /** The mapping that the script has for `posBytes`, or the hole around it. */
  mappingAt(posBytes: number): ScriptMapping {
    let holeStart = 0;
    let holeEnd = FILE_BYTES_MAX;
    for (const mapping of this.mappings) {
      const end = mapping.offsetBytes + mapping.lengthBytes;
      if (mapping.offsetBytes <= posBytes && posBytes < end) return mapping;
      if (end <= posBytes) holeStart = Math.max(holeStart, roundUp(end, this.inode.blockBytes));
      else holeEnd = Math.min(holeEnd, mapping.offsetBytes);
    }
    return H(holeStart, holeEnd);
  }

  /** Adds an empty folio that holds byte `posBytes`, locked, as a read finds it. */
  addFolio(posBytes: number): Folio {
    const folio = this.cache.allocFolio(this.order);
    assert(folio !== null, "the arena has room for the test");
    const index = pageOfByte(posBytes);
    const failed = this.mapping.addFolio(folio, index - (index % folio.pageCount));
    assert(failed === 0, "the test adds a folio once");
    folio.put();
    return folio;
  }

  /** Fills `blocks` of the locked `folio` with `byte` and makes them uptodate. */
  fillBlocks(folio: Folio, blocks: readonly number[], byte: number): void {
    const { blockBytes } = this.inode;
    const state = attachBlockState(folio, blockBytes);
    for (const block of blocks) {
      folio.bytes.fill(byte, block * blockBytes, (block + 1) * blockBytes);
      state.setValid(block * blockBytes, blockBytes);
    }
  }

  /** The uptodate blocks of `folio`: the specification's `UP{..}`. */
  uptodateBlocks(folio: Folio): number[] {
    const { blockBytes } = this.inode;
    const blocks: number[] = [];
    for (let block = 0; block < folio.sizeBytes / blockBytes; block++) {
      const isValid = folio.blockState?.isValid(block * blockBytes, blockBytes) ?? folio.isUptodate;
      if (isValid) blocks.push(block);
    }
    return blocks;
  }

  /** The blocks of `folio` that the device does not have yet: the specification's `DI{..}`. */
  dirtyBlocks(folio: Folio): number[] {
    const { blockBytes } = this.inode;
    const blocks: number[] = [];
    for (let block = 0; block < folio.sizeBytes / blockBytes; block++) {
      const isDirty = folio.blockState?.isDirty(block * blockBytes, blockBytes) ?? folio.isDirty;
      if (isDirty) blocks.push(block);
    }
    return blocks;
  }

  /**
   * The requests so far as ranges of the file: `R[0,4096)`, `RA[..)` for readahead, `W[..)` for
   * writes.
   */
  get requests(): string[] {
    return this.device.requests.map(({ offsetBytes, lengthBytes, isReadahead, isWrite }) => {
      const start = this.fileOffsetOf(offsetBytes);
      const kind = isWrite ? "W" : isReadahead ? "RA" : "R";
      return `${kind}[${start},${start + lengthBytes})`;
    });
  }

  /** What reading `start..end` gives, by the script: also behind the end of the file, as cached. */
  expected(start: number, end: number): Uint8Array {
    const bytes = new Uint8Array(end - start);
    const eofBytes = roundUp(this.inode.size, this.inode.blockBytes);
    for (const { type, flags, offsetBytes, lengthBytes, addrBytes, inlineData } of this.mappings) {
      const isRead = (type === IOMAP_MAPPED && (flags & IOMAP_F_NEW) === 0) || inlineData !== null;
      if (!isRead) continue;
      const to = Math.min(offsetBytes + lengthBytes, end, inlineData ? this.inode.size : eofBytes);
      const from = Math.max(offsetBytes, start);
      if (from >= to) continue;
      const into = bytes.subarray(from - start, to - start);
      if (inlineData !== null) into.set(inlineData.subarray(from - offsetBytes, to - offsetBytes));
      else this.device.peek(addrBytes + from - offsetBytes, into);
    }
    return bytes;
  }

  /** Lets everything run that can run. */
  async settle(): Promise<void> {
    await this.clock.turn();
    await this.clock.turn();
  }

  /** The byte of the file that lies at byte `address` of the device. */
  protected fileOffsetOf(address: number): number {
    for (const { type, offsetBytes, lengthBytes, addrBytes } of this.mappings) {
      if (type !== IOMAP_MAPPED && type !== IOMAP_UNWRITTEN) continue;
      if (addrBytes <= address && address < addrBytes + lengthBytes) {
        return offsetBytes + address - addrBytes;
      }
    }
    throw new Error(`nothing of the script lies at byte ${address} of the device`);
  }
}

/** An inline mapping of `data` at the start of the file. */
export function inlineMapping(data: Uint8Array): ScriptMapping {
  return scriptMapping(IOMAP_INLINE, 0, data.length, { inlineData: data });
}

/** Numbers `first..last`, both included. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}
