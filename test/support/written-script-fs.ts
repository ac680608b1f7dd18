/**
 * WrittenScriptFs: a `ScriptFs` that may be written. Holes are reserved when they are written to,
 * become unwritten extents when write-out comes to them, and mapped ones when the data is down.
 *
 *     H --write--> D --write-out--> U --written--> M         disk size: raised after the last step
 *     M+S --write--> copy-on-write space, from which U is --written--> M in place of M+S
 *
 * It writes down what it is asked for: `punches`, `conversions`, `ioends`, `diskSizes`, and lets
 * hooks change, refuse or delay it. Space is where the file says it is: `SCRIPT_ADDR` + offset.
 */
import type { AddressSpaceOperations } from "../../src/cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import { filemapWriteAndWaitRange, fileWriteAndWaitRange } from "../../src/cache/filemap-flush.ts";
import type { Folio } from "../../src/cache/folio.ts";
import type { Inode } from "../../src/cache/inode.ts";
import {
  invalidateMappingPages,
  pagecacheIsizeExtended,
  truncateInodePagesRange,
} from "../../src/cache/truncate.ts";
import { assert } from "../../src/lib/assert.ts";
import { FsError } from "../../src/lib/errno.ts";
import { andThen, isPromise, type MaybeAsync } from "../../src/lib/maybe.ts";
import { FILE_BYTES_MAX, pageOfByte, roundDown, roundUp } from "../../src/lib/units.ts";
import { INDEX_MAX } from "../../src/lib/xarray.ts";
import { iomapFileBufferedWrite } from "../../src/mapping/iomap/buffered-write.ts";
import { iomapDirtyFolio } from "../../src/mapping/iomap/callbacks.ts";
import { iomapEndDelalloc } from "../../src/mapping/iomap/delalloc.ts";
import { IomapIoendQueue } from "../../src/mapping/iomap/finish-ioend.ts";
import {
  IOMAP_IOEND_SHARED,
  IOMAP_IOEND_UNWRITTEN,
  type IomapIoend,
} from "../../src/mapping/iomap/ioend.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
  type Iomap,
  iomapEndBytes,
} from "../../src/mapping/iomap/iomap.ts";
import { iomapAddToIoend, iomapIoendSubmit } from "../../src/mapping/iomap/submit-ioend.ts";
import type { IomapWriteOps, IomapWriteSource } from "../../src/mapping/iomap/write-ops.ts";
import { iomapWritepages } from "../../src/mapping/iomap/writeback.ts";
import type {
  IomapWritebackOps,
  IomapWritepageCtx,
} from "../../src/mapping/iomap/writeback-ops.ts";
import {
  iomapFillDirtyFolios,
  iomapTruncatePage,
  iomapZeroRange,
} from "../../src/mapping/iomap/zero-range.ts";
import {
  SCRIPT_ADDR,
  ScriptFs,
  type ScriptFsOptions,
  type ScriptMapping,
  scriptMapping,
} from "./script-fs.ts";

/** Where copies of shared blocks go. */
export const COW_ADDR: number = SCRIPT_ADDR + 2 ** 42;

/** A call of `range`, handed to `onRange` before it is answered. */
export interface RangeCall {
  readonly wpc: IomapWritepageCtx;
  readonly folio: Folio;
  readonly posBytes: number;
  readonly lengthBytes: number;
}

/** A range as the cases write it. */
export const bracket = (start: number, end: number): string => `[${start},${end})`;

/** See the head of the file. */
export class WrittenScriptFs extends ScriptFs implements IomapWritebackOps {
  readonly file: CacheFile = openCacheFile(this.mapping);
  /** Bytes that may still be reserved. */
  freeBytes: number = FILE_BYTES_MAX;
  /** Size on the device, and all that it was set to. */
  diskSize: number;
  readonly diskSizes: number[] = [];
  readonly punches: string[] = [];
  readonly conversions: string[] = [];
  /** File ranges of the ioends as submitted, and, with an `!`, those that failed unsubmitted. */
  readonly ioends: string[] = [];
  /** Space for copies of what is shared, until it takes the place of that. */
  cow: readonly ScriptMapping[] = [];
  /** Zeroing looks for dirty folios itself. */
  usesFolioBatch = false;
  /** Asked when a folio is locked. */
  isValid: (iomap: Iomap) => boolean = (iomap) => iomap.validityCookie === this.cookie;
  /** Returns bytes instead of the usual answer, throws, or waits; undefined: as usual. */
  onRange: ((call: RangeCall) => MaybeAsync<number | undefined>) | null = null;
  /** May wait, after the dirty folios of a zeroing were looked for. */
  onBatch: (() => MaybeAsync<void>) | null = null;
  onConvert: ((ioend: IomapIoend) => MaybeAsync<void>) | null = null;
  /** Called between the conversion and the new size. */
  onConverted: (() => void) | null = null;
  onSubmit: ((wpc: IomapWritepageCtx, error: FsError | null) => boolean) | null = null;
  readonly writeOps: IomapWriteOps = {
    valid: (_inode: Inode, iomap: Iomap): boolean => this.isValid(iomap),
  };
  readonly #firstMappings: readonly ScriptMapping[];
  readonly #ioendQueue: IomapIoendQueue = new IomapIoendQueue(this.clock, (ioend) =>
    this.#finish(ioend),
  );

  constructor(mappings: readonly ScriptMapping[], options: ScriptFsOptions) {
    super(mappings, options);
    this.#firstMappings = mappings.filter(({ addrBytes }) => addrBytes !== IOMAP_NULL_ADDR);
    this.diskSize = options.sizeBytes;
  }

  protected override writeOperations(): Partial<AddressSpaceOperations> {
    return {
      writepages: (mapping, wbc) => iomapWritepages(mapping, wbc, this),
      dirtyFolio: iomapDirtyFolio,
    };
  }

  override begin(
    inode: Inode,
    posBytes: number,
    lengthBytes: number,
    flags: number,
    iomap: Iomap,
    srcmap: Iomap,
  ): MaybeAsync<void> {
    if ((flags & IOMAP_WRITE) !== 0) {
      const answered = this.#beginWrite(posBytes, lengthBytes, flags, iomap, srcmap);
      if (answered) return this.onBegin?.({ posBytes, lengthBytes, flags, iomap, srcmap });
    }
    return andThen(super.begin(inode, posBytes, lengthBytes, flags, iomap, srcmap), () => {
      const isZeroing = (flags & IOMAP_ZERO) !== 0 && iomap.type === IOMAP_UNWRITTEN;
      if (!isZeroing || !this.usesFolioBatch) return;
      const endBytes = Math.min(iomapEndBytes(iomap), posBytes + lengthBytes);
      const reachedBytes = iomapFillDirtyFolios(this.mapping, iomap, posBytes, endBytes);
      if (reachedBytes < endBytes) iomap.lengthBytes = reachedBytes - iomap.offsetBytes;
      return this.onBatch?.();
    });
  }

  override end(
    inode: Inode,
    posBytes: number,
    lengthBytes: number,
    writtenBytes: number,
    flags = 0,
    iomap?: Iomap,
  ): MaybeAsync<void> {
    const ended = super.end(inode, posBytes, lengthBytes, writtenBytes);
    if (iomap === undefined) return ended;
    const call = { posBytes, lengthBytes, writtenBytes, flags, iomap };
    return andThen(ended, () =>
      iomapEndDelalloc(this.mapping, call, (at, count) => this.punch(at, count)),
    );
  }

  /** Reserves space for a hole or for a copy of what is shared; false if there is space already. */
  #beginWrite(
    posBytes: number,
    lengthBytes: number,
    flags: number,
    iomap: Iomap,
    srcmap: Iomap,
  ): boolean {
    const found = this.mappingAt(posBytes);
    const isShared = (found.flags & IOMAP_F_SHARED) !== 0;
    if (found.type !== IOMAP_HOLE && !isShared) return false;
    this.calls.push(`begin(${posBytes},${lengthBytes})`);
    const { blockBytes } = this.inode;
    const start = roundDown(posBytes, blockBytes);
    const staged = this.cow.find((each) => covers(each, posBytes));
    const reserved =
      staged ?? this.#reserve(found, start, roundUp(posBytes + lengthBytes, blockBytes));
    fill(iomap, reserved, this);
    if (isShared) {
      iomap.flags |= IOMAP_F_SHARED;
      fill(srcmap, found, this);
    }
    if (staged === undefined) {
      iomap.flags |= IOMAP_F_NEW;
      if (isShared) this.cow = [...this.cow, reserved];
      else this.#replace(reserved);
    } else {
      assert((flags & IOMAP_UNSHARE) !== 0 || isShared, "only copies are staged");
    }
    iomap.validityCookie = this.cookie;
    return true;
  }

  #reserve(found: ScriptMapping, start: number, wantedEnd: number): ScriptMapping {
    const { blockBytes } = this.inode;
    const end = Math.min(wantedEnd, found.offsetBytes + found.lengthBytes);
    const bytes = Math.min(end - start, roundDown(this.freeBytes, blockBytes));
    if (bytes <= 0) throw new FsError("ENOSPC", { detail: "the script has no more space" });
    this.freeBytes -= bytes;
    return scriptMapping(IOMAP_DELALLOC, start, start + bytes);
  }

  /** Puts `mapping` in place of what the script has there; neighbours of one kind are joined. */
  #replace(mapping: ScriptMapping): void {
    this.clear(mapping.offsetBytes, mapping.offsetBytes + mapping.lengthBytes);
    const sorted = [...this.mappings, mapping].sort((a, b) => a.offsetBytes - b.offsetBytes);
    const joined: ScriptMapping[] = [];
    for (const each of sorted) {
      const last = joined.at(-1);
      if (last !== undefined && continues(last, each)) {
        joined[joined.length - 1] = { ...last, lengthBytes: last.lengthBytes + each.lengthBytes };
      } else {
        joined.push(each);
      }
    }
    this.mappings = joined;
    this.cookie++;
  }

  /** Makes a hole of the blocks `start..end`, whatever was there. */
  clear(start: number, end: number): void {
    this.mappings = this.mappings.flatMap((each) => without(each, start, end));
    this.cookie++;
  }

  /** Drops what is only reserved (`iomap_punch_t`). */
  punch(offsetBytes: number, lengthBytes: number): void {
    const end = offsetBytes + lengthBytes;
    this.punches.push(bracket(offsetBytes, end));
    const drop = (mappings: readonly ScriptMapping[]): ScriptMapping[] =>
      mappings.flatMap((each) => {
        if (each.type !== IOMAP_DELALLOC) return [each];
        const kept = without(each, offsetBytes, end);
        const keptBytes = kept.reduce((sum, { lengthBytes: bytes }) => sum + bytes, 0);
        this.freeBytes += each.lengthBytes - keptBytes;
        return kept;
      });
    this.mappings = drop(this.mappings);
    this.cow = drop(this.cow);
    this.cookie++;
  }

  range(
    wpc: IomapWritepageCtx,
    folio: Folio,
    posBytes: number,
    lengthBytes: number,
    endPosBytes: number,
  ): MaybeAsync<number> {
    const asUsual = (): number => {
      const { iomap } = wpc;
      const isFresh = iomap.validityCookie === this.cookie && iomap.lengthBytes > 0;
      const isInside = iomap.offsetBytes <= posBytes && posBytes < iomapEndBytes(iomap);
      if (!isFresh || !isInside) this.#mapForWriteback(posBytes, iomap);
      return iomapAddToIoend(wpc, folio, posBytes, endPosBytes, lengthBytes);
    };
    const answer = this.onRange?.({ wpc, folio, posBytes, lengthBytes });
    if (isPromise(answer)) return answer.then((bytes) => bytes ?? asUsual());
    return answer ?? asUsual();
  }

  /** Where write-out is to go: what was reserved becomes unwritten space. */
  #mapForWriteback(posBytes: number, iomap: Iomap): void {
    const staged = this.cow.find((each) => covers(each, posBytes));
    const found = staged ?? this.mappingAt(posBytes);
    let mapped = found;
    if (found.type === IOMAP_DELALLOC) {
      const { offsetBytes: start, lengthBytes: bytes } = found;
      const base = staged === undefined ? SCRIPT_ADDR : COW_ADDR;
      mapped = scriptMapping(IOMAP_UNWRITTEN, start, start + bytes, { addrBytes: base + start });
      if (staged === undefined) this.#replace(mapped);
      else this.cow = this.cow.map((each) => (each === staged ? mapped : each));
    }
    fill(iomap, mapped, this);
    if (staged !== undefined) iomap.flags |= IOMAP_F_SHARED;
  }

  submit(wpc: IomapWritepageCtx, error: FsError | null): void {
    const ioend = wpc.pending!;
    this.ioends.push((error === null ? "" : "!") + bracket(ioend.offsetBytes, ioend.endBytes));
    if (this.onSubmit?.(wpc, error) === true) return;
    ioend.endIo = (ended) => this.#ioendQueue.add(ended);
    iomapIoendSubmit(wpc, error);
  }

  /** The end of a range on the device: conversion, then the size. */
  async #finish(ioend: IomapIoend): Promise<void> {
    const { blockBytes } = this.inode;
    const start = roundDown(ioend.offsetBytes, blockBytes);
    const end = roundUp(ioend.endBytes, blockBytes);
    const isShared = (ioend.flags & IOMAP_IOEND_SHARED) !== 0;
    if (ioend.error !== null) {
      if (isShared) this.#dropCow(start, end);
      return;
    }
    await this.onConvert?.(ioend);
    if (isShared) {
      this.conversions.push(bracket(start, end));
      this.#dropCow(start, end);
      this.#replace(scriptMapping(IOMAP_MAPPED, start, end, { addrBytes: COW_ADDR + start }));
    } else if ((ioend.flags & IOMAP_IOEND_UNWRITTEN) !== 0) {
      this.conversions.push(bracket(start, end));
      this.#replace(scriptMapping(IOMAP_MAPPED, start, end));
    }
    this.onConverted?.();
    if (ioend.endBytes <= this.diskSize) return;
    this.diskSize = ioend.endBytes;
    this.diskSizes.push(this.diskSize);
  }

  #dropCow(start: number, end: number): void {
    this.cow = this.cow.flatMap((each) => without(each, start, end));
    this.cookie++;
  }

  protected override fileOffsetOf(address: number): number {
    if (address >= COW_ADDR) return address - COW_ADDR;
    const placed = this.mappings.filter(({ addrBytes }) => addrBytes !== IOMAP_NULL_ADDR);
    const holder = [...placed, ...this.#firstMappings].find(
      ({ addrBytes, lengthBytes }) => addrBytes <= address && address < addrBytes + lengthBytes,
    );
    return holder === undefined
      ? address - SCRIPT_ADDR
      : holder.offsetBytes + address - holder.addrBytes;
  }

  /** Writes at `posBytes`; the count, or what it throws. */
  write(
    posBytes: number,
    bytes: Uint8Array | IomapWriteSource,
    options: { flags?: number; signal?: AbortSignal } = {},
  ): MaybeAsync<number> {
    const { flags = 0, signal } = options;
    return iomapFileBufferedWrite(
      { file: this.file, posBytes, flags, signal },
      bytes,
      this,
      this.writeOps,
    );
  }

  /** Writes `lengthBytes` bytes of `value`. */
  fillFile(posBytes: number, lengthBytes: number, value = 0x77): MaybeAsync<number> {
    return this.write(posBytes, new Uint8Array(lengthBytes).fill(value));
  }

  zero(posBytes: number, lengthBytes: number): MaybeAsync<boolean> {
    return iomapZeroRange(this.mapping, posBytes, lengthBytes, this, this.writeOps);
  }

  /** Shorter or longer, as a file system does it. */
  async truncate(size: number): Promise<void> {
    const oldSize = this.inode.size;
    if (size > oldSize) {
      await this.zero(oldSize, size - oldSize);
      await pagecacheIsizeExtended(this.mapping, oldSize, size);
      this.inode.size = size;
      this.diskSize = size;
      return;
    }
    await iomapTruncatePage(this.mapping, size, this, this.writeOps);
    this.inode.size = size;
    await truncateInodePagesRange(this.mapping, size, Infinity);
    this.clear(roundUp(size, this.inode.blockBytes), FILE_BYTES_MAX);
    this.diskSize = size;
  }

  /** The data part of `fsync` of `file`; 0 or an errno. */
  async fsync(file: CacheFile = this.file): Promise<number> {
    return await fileWriteAndWaitRange(file, 0, Infinity);
  }

  /** Writes out what is dirty in a range, without anybody's hearing of errors. */
  async flush(start = 0, end: number = FILE_BYTES_MAX): Promise<void> {
    await filemapWriteAndWaitRange(this.mapping, start, end - 1);
  }

  async read(posBytes: number, lengthBytes: number): Promise<Uint8Array> {
    const into = new Uint8Array(lengthBytes);
    const count = await filemapRead({ file: this.file, posBytes, flags: 0 }, into);
    if (count < 0) throw FsError.of(count);
    return into.subarray(0, count);
  }

  /** Drops what is clean. */
  evict(): void {
    invalidateMappingPages(this.mapping, 0, INDEX_MAX);
  }

  /** True while anything is dirty or in flight. */
  get isDirty(): boolean {
    return this.cache.nrDirty > 0 || this.cache.nrWriteback > 0;
  }

  /** The cached folio of byte `posBytes`. */
  folio(posBytes = 0): Folio {
    const folio = this.mapping.folioAt(pageOfByte(posBytes));
    assert(folio !== undefined, `byte ${posBytes} is cached`);
    return folio;
  }

  /** The requests that `action` causes. */
  async requestsOf(action: () => unknown): Promise<string[]> {
    const before = this.requests.length;
    await action();
    await this.settle();
    return this.requests.slice(before);
  }
}

function covers(mapping: ScriptMapping, posBytes: number): boolean {
  return mapping.offsetBytes <= posBytes && posBytes < mapping.offsetBytes + mapping.lengthBytes;
}

/** Whether `next` is more of the same, in the file and on the device. */
function continues(last: ScriptMapping, next: ScriptMapping): boolean {
  const isNext = last.offsetBytes + last.lengthBytes === next.offsetBytes;
  if (!isNext || last.type !== next.type || last.flags !== next.flags) return false;
  return last.addrBytes === IOMAP_NULL_ADDR
    ? next.addrBytes === IOMAP_NULL_ADDR
    : last.addrBytes + last.lengthBytes === next.addrBytes;
}

/** What is left of `mapping` without the bytes `start..end`. */
function without(mapping: ScriptMapping, start: number, end: number): ScriptMapping[] {
  const { offsetBytes, lengthBytes, addrBytes } = mapping;
  const endBytes = offsetBytes + lengthBytes;
  if (end <= offsetBytes || endBytes <= start) return [mapping];
  const rest: ScriptMapping[] = [];
  if (offsetBytes < start) rest.push({ ...mapping, lengthBytes: start - offsetBytes });
  if (end < endBytes) {
    const addr = addrBytes === IOMAP_NULL_ADDR ? addrBytes : addrBytes + end - offsetBytes;
    rest.push({ ...mapping, offsetBytes: end, lengthBytes: endBytes - end, addrBytes: addr });
  }
  return rest;
}

function fill(iomap: Iomap, from: ScriptMapping, fs: ScriptFs): void {
  iomap.type = from.type;
  iomap.flags = from.flags;
  iomap.offsetBytes = from.offsetBytes;
  iomap.lengthBytes = from.lengthBytes;
  iomap.addrBytes = from.addrBytes;
  iomap.inlineData = from.inlineData;
  iomap.bdev = from.addrBytes === IOMAP_NULL_ADDR ? null : fs.device;
  iomap.validityCookie = fs.cookie;
}
