/**
 * BlockMappedFile: a file whose blocks lie where the test says, read and written through mpage with
 * the real cache over a real block device, whose content is random bytes.
 *
 *     const file = new BlockMappedFile({ blockBytes: 1024, blocks: [50, 51, HOLE, HOLE, 54] });
 *     await file.readahead(0, 2);
 *     file.device.bios            ["R[50-51]A", "R[54]A"]
 */
import { StoreBlockDevice } from "../../src/block/block-device.ts";
import type { AddressSpace, MappingOptions } from "../../src/cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../src/cache/cache-file.ts";
import { filemapRead } from "../../src/cache/filemap.ts";
import type { Folio } from "../../src/cache/folio.ts";
import type { Inode } from "../../src/cache/inode.ts";
import { PageCache } from "../../src/cache/page-cache.ts";
import { doWritepages } from "../../src/cache/page-writeback.ts";
import { forcePageCacheRa } from "../../src/cache/readahead.ts";
import {
  WB_SYNC_ALL,
  WritebackControl,
  type WritebackOptions,
} from "../../src/cache/writeback-control.ts";
import { assert } from "../../src/lib/assert.ts";
import { VirtualClock } from "../../src/lib/clock.ts";
import type { Errno } from "../../src/lib/errno.ts";
import { AsyncRwLock } from "../../src/lib/locks.ts";
import { andThen, type MaybeAsync } from "../../src/lib/maybe.ts";
import { Random } from "../../src/lib/random.ts";
import { MIB } from "../../src/lib/units.ts";
import {
  blockInvalidateFolio,
  blockIsPartiallyUptodate,
  tryToFreeBuffers,
} from "../../src/mapping/buffer.ts";
import { BufferCache } from "../../src/mapping/buffer-cache.ts";
import { blockWriteBegin, blockWriteEnd } from "../../src/mapping/buffer-write.ts";
import type { BlockMap, GetBlock } from "../../src/mapping/get-block.ts";
import { mpageReadahead, mpageReadFolio } from "../../src/mapping/mpage.ts";
import { mpageWritepages } from "../../src/mapping/mpage-write.ts";
import { FaultyStore } from "../../src/store/faulty-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { RecordingDevice } from "./recording-device.ts";

/** A block of the file that lies nowhere. */
export const HOLE = -1;

const SOIL_ORDER = 6;

export interface BlockMappedOptions extends MappingOptions {
  /** 4096 if left out. */
  readonly blockBytes?: number;
  /** Device block of each block of the file, or `HOLE`. */
  readonly blocks: readonly number[];
  /** Length of the file; all of `blocks` if left out. */
  readonly isize?: number;
  /** Blocks of the device; enough for all `blocks` if left out. */
  readonly deviceBlocks?: number;
  /** The last blocks of runs behind which a mapping costs I/O: marked as boundary, ends of runs. */
  readonly boundaries?: readonly number[];
  /** Before a block of the file from `from` on is mapped, the device block `block` is read. */
  readonly indirect?: { readonly from: number; readonly block: number };
  readonly seed?: number;
}

/** See the head of the file. */
export class BlockMappedFile {
  readonly clock: VirtualClock = new VirtualClock();
  readonly memory: MemoryStore;
  readonly store: FaultyStore;
  readonly inner: StoreBlockDevice;
  readonly device: RecordingDevice;
  readonly cache: PageCache;
  readonly buffers: BufferCache;
  readonly inode: Inode;
  readonly mapping: AddressSpace;
  readonly file: CacheFile;
  readonly blockBytes: number;
  readonly options: BlockMappedOptions;
  /** Called instead of `mapBlock`, if set. */
  getBlockHook: GetBlock | undefined;
  getBlockCalls: number[] = [];
  readFolioCount = 0;

  constructor(options: BlockMappedOptions) {
    const { blocks } = options;
    this.options = options;
    this.blockBytes = options.blockBytes ?? 4096;
    const deviceBlocks = options.deviceBlocks ?? Math.max(64, ...blocks.map((b) => b + 1));
    this.memory = new MemoryStore(
      new Random(options.seed ?? 1).bytes(deviceBlocks * this.blockBytes),
    );
    this.store = new FaultyStore(this.memory, { clock: this.clock });
    this.inner = new StoreBlockDevice(this.store, { clock: this.clock });
    this.device = new RecordingDevice(this.inner, this.blockBytes);
    this.cache = new PageCache({ clock: this.clock, arenaBytes: 4 * MIB, raPages: 32 });
    this.#soilMemory();
    this.buffers = new BufferCache(this.cache, this.device, this.blockBytes);
    this.inode = {
      ino: 12,
      size: options.isize ?? blocks.length * this.blockBytes,
      blockBytes: this.blockBytes,
      rwsem: new AsyncRwLock(),
    };
    this.mapping = this.cache.openMapping(
      this.inode,
      {
        readFolio: (_file, folio) => {
          this.readFolioCount++;
          return mpageReadFolio(folio, this.getBlock);
        },
        readahead: (rac) => mpageReadahead(rac, this.getBlock),
        isPartiallyUptodate: blockIsPartiallyUptodate,
        releaseFolio: tryToFreeBuffers,
        invalidateFolio: blockInvalidateFolio,
        writepages: (mapping, wbc) => mpageWritepages(mapping, wbc, this.getBlock, this.buffers),
        writeBegin: (iocb, mapping, posBytes, lengthBytes) =>
          blockWriteBegin(iocb, mapping, posBytes, lengthBytes, this.getBlock, this.buffers),
        writeEnd: (_iocb, mapping, posBytes, lengthBytes, copiedBytes, folio) =>
          blockWriteEnd(mapping, posBytes, lengthBytes, copiedBytes, folio),
      },
      { maxOrder: 0, ...options },
    );
    this.file = openCacheFile(this.mapping);
  }

  /** Fills all frames with rubbish: memory that a cache gets is seldom zero. */
  #soilMemory(): void {
    const { arena } = this.cache;
    const taken: number[] = [];
    for (let pfn = arena.alloc(SOIL_ORDER); pfn !== -1; pfn = arena.alloc(SOIL_ORDER)) {
      arena.bytes(pfn, SOIL_ORDER).fill(0xee);
      taken.push(pfn);
    }
    for (const pfn of taken) arena.free(pfn, SOIL_ORDER);
  }

  /** Counts the call and answers from the script. */
  readonly getBlock: GetBlock = (inode, fileBlock, map, create) => {
    this.getBlockCalls.push(fileBlock);
    this.device.events.push(`getBlock(${fileBlock})`);
    const { getBlockHook } = this;
    return getBlockHook === undefined
      ? this.mapBlock(fileBlock, map)
      : getBlockHook(inode, fileBlock, map, create);
  };

  /** What the script says of `fileBlock`, as ext2 answers: after the indirect block was read. */
  mapBlock(fileBlock: number, map: BlockMap): MaybeAsync<Errno> {
    const { indirect } = this.options;
    if (indirect === undefined || fileBlock < indirect.from) return this.#fill(fileBlock, map);
    return andThen(this.buffers.bread(indirect.block), (buffer) => {
      this.buffers.brelse(buffer);
      return this.#fill(fileBlock, map);
    });
  }

  #fill(fileBlock: number, map: BlockMap): Errno {
    const { blocks, boundaries, indirect } = this.options;
    const first = blocks[fileBlock] ?? HOLE;
    if (first === HOLE) return 0;
    const wantedCount = map.sizeBytes / this.blockBytes;
    // A run ends with its array of pointers: at the indirect block, and at each boundary.
    const isEnd = (block: number): boolean =>
      block + 1 === indirect?.from || boundaries?.includes(block) === true;
    let count = 1;
    while (
      count < wantedCount &&
      blocks[fileBlock + count] === first + count &&
      !isEnd(fileBlock + count - 1)
    ) {
      count++;
    }
    map.isMapped = true;
    map.blocknr = first;
    map.bdev = this.device;
    map.sizeBytes = count * this.blockBytes;
    map.isBoundary = boundaries?.includes(fileBlock + count - 1) === true;
    return 0;
  }

  /**
   * Caches the pages `first..last`, both included, uptodate and dirty, with bytes that differ from
   * the device's.
   */
  dirty(first: number, last: number): void {
    for (let index = first; index <= last; index++) {
      const folio = this.mapping.folioAt(index) ?? this.lockedFolio(index);
      folio.bytes.fill(0x40 + (index % 0x40));
      folio.markUptodate();
      folio.markDirty();
      if (folio.isLocked) folio.unlock();
    }
  }

  /** Writes what is dirty, by default all of it and for safety, and waits until it is written. */
  async writeOut(options: Partial<WritebackOptions> = {}): Promise<Errno> {
    const errno = await doWritepages(
      this.mapping,
      new WritebackControl({ syncMode: WB_SYNC_ALL, ...options }),
    );
    await this.settle();
    return errno;
  }

  /** What the device holds of `count` blocks from `block` on. */
  onDevice(block: number, count = 1): Uint8Array {
    return this.memory.bytes.slice(block * this.blockBytes, (block + count) * this.blockBytes);
  }

  /** Starts a readahead of `pageCount` pages from page `index` on, and waits for its end. */
  async readahead(index: number, pageCount: number): Promise<void> {
    await forcePageCacheRa(this.file, index, pageCount);
    await this.settle();
  }

  /** Reads through the cache: the bytes, or an errno. */
  async read(posBytes: number, lengthBytes: number): Promise<Uint8Array | Errno> {
    const into = new Uint8Array(lengthBytes);
    const count = await filemapRead({ file: this.file, posBytes, flags: 0 }, into);
    return count < 0 ? count : into.subarray(0, count);
  }

  /** What a reader of the file must see. */
  content(posBytes = 0, lengthBytes: number = this.inode.size - posBytes): Uint8Array {
    const bytes = new Uint8Array(Math.min(lengthBytes, this.inode.size - posBytes));
    for (let at = 0; at < bytes.length; at++) bytes[at] = this.#byteAt(posBytes + at);
    return bytes;
  }

  #byteAt(posBytes: number): number {
    const block = this.options.blocks[Math.floor(posBytes / this.blockBytes)] ?? HOLE;
    if (block === HOLE) return 0;
    return this.memory.bytes[block * this.blockBytes + (posBytes % this.blockBytes)]!;
  }

  /** A new folio at page `index`, locked as for a read. */
  lockedFolio(index: number, order = 0): Folio {
    const folio = this.cache.allocFolio(order);
    assert(folio !== null, "the test's arena is large enough");
    const status = this.mapping.addFolio(folio, index);
    assert(status === 0, "nothing is cached there");
    folio.put();
    return folio;
  }

  folioAt(index: number): Folio {
    const folio = this.mapping.folioAt(index);
    assert(folio !== undefined, `page ${index} is cached`);
    return folio;
  }

  /** Waits until nothing is in flight. */
  async settle(): Promise<void> {
    await this.clock.turn();
    await this.inner.drain();
    await this.clock.turn();
  }
}
