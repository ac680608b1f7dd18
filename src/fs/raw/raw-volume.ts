/**
 * A block device seen as one file: the cache without a file system.
 *
 * Byte n of the file is byte n of the device, so the whole mapping is one extent, and reading goes
 * through iomap as for any other extent file. For callers who read a large object by ranges and
 * want the page cache, its readahead and its merging, and nothing else.
 */
import type { BlockDevice } from "../../block/block-device.ts";
import type { AddressSpace, AddressSpaceOperations } from "../../cache/address-space.ts";
import { type CacheFile, openCacheFile } from "../../cache/cache-file.ts";
import type { Inode } from "../../cache/inode.ts";
import type { PageCache } from "../../cache/page-cache.ts";
import { FsError } from "../../lib/errno.ts";
import { AsyncRwLock } from "../../lib/locks.ts";
import { FILE_BYTES_MAX, PAGE_BYTES } from "../../lib/units.ts";
import {
  iomapInvalidateFolio,
  iomapIsPartiallyUptodate,
  iomapReadahead,
  iomapReadFolio,
  iomapReleaseFolio,
} from "../../mapping/iomap/index.ts";
import { IOMAP_MAPPED, type Iomap, type IomapOps } from "../../mapping/iomap/iomap.ts";

/** The one inode of a raw volume; its size is the device's. */
class RawInode implements Inode {
  readonly ino = 1;
  readonly size: number;
  readonly blockBytes = PAGE_BYTES;
  readonly rwsem: AsyncRwLock = new AsyncRwLock();

  constructor(sizeBytes: number) {
    this.size = sizeBytes;
  }
}

export class RawVolume {
  readonly sizeBytes: number;
  readonly mapping: AddressSpace;
  readonly #cache: PageCache;

  /** @throws {FsError} `EFBIG` for a device that is longer than a file in the cache can be */
  constructor(cache: PageCache, device: BlockDevice) {
    if (device.sizeBytes > FILE_BYTES_MAX) throw new FsError("EFBIG", { detail: device.name });
    this.sizeBytes = device.sizeBytes;
    this.#cache = cache;
    const ops = rawIomapOps(device);
    const operations: AddressSpaceOperations = {
      readFolio: (_file, folio) => iomapReadFolio(folio, ops),
      readahead: (rac) => iomapReadahead(rac, ops),
      isPartiallyUptodate: iomapIsPartiallyUptodate,
      releaseFolio: iomapReleaseFolio,
      invalidateFolio: iomapInvalidateFolio,
    };
    this.mapping = cache.openMapping(new RawInode(device.sizeBytes), operations, {
      ioPages: device.ioPages,
      stableWrites: device.stableWrites,
    });
  }

  /** An open file over the device, with a readahead state of its own. */
  open(): CacheFile {
    return openCacheFile(this.mapping);
  }

  /** Waits for reads in flight and drops what is cached. The device stays open. */
  async close(): Promise<void> {
    await this.#cache.closeMapping(this.mapping);
  }
}

/**
 * One mapping for the whole device, with the tail of the last block left to the end of the file.
 */
function rawIomapOps(device: BlockDevice): IomapOps {
  return {
    begin(inode, _posBytes, _lengthBytes, _flags, iomap: Iomap): void {
      iomap.type = IOMAP_MAPPED;
      iomap.offsetBytes = 0;
      iomap.lengthBytes = Math.ceil(inode.size / inode.blockBytes) * inode.blockBytes;
      iomap.addrBytes = 0;
      iomap.bdev = device;
    },
  };
}
